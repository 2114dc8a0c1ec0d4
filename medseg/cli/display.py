"""What a run shows on stderr while it goes, and how it answers to a cancel."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

import typer

from medseg.errors import ExitCode, printable

if TYPE_CHECKING:
    from medseg.batch.session import Progress

# A cancelled run may end the files in hand; after this many seconds it just stops,
# which a resume stands as well as it stands a kill.
_GRACE = 1.2
_PLAIN_SECONDS = 5.0


def say(text: str) -> None:
    """Write one line to stderr."""
    print(printable(text), file=sys.stderr, flush=True)


class Display:
    """Progress with the time left: a bar on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self.latest: Progress | None = None
        self._start = self._spoken = 0.0
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        self._start = self._spoken = time.monotonic()
        if sys.stderr.isatty():
            self._bar = _make_bar()
            self._bar.start()
            self._task = self._bar.add_task("", total=None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Show where the run is; failures and warnings are a line each."""
        self.latest = progress
        entry = progress.entry
        if entry is not None:
            for text in entry.warnings:
                self._line(f"warning: {entry.name}: {text}")
            if entry.error:
                path = f"{progress.source}: " if progress.source else ""
                self._line(f"{path}{entry.error}")
        seen = progress.done + progress.failed + progress.skipped
        if self._bar is not None:
            self._bar.update(
                self._task,
                total=progress.total,
                completed=seen,
                description=f"{progress.failed} failed" if progress.failed else "",
            )
        elif entry is None:
            if progress.skipped:
                self._line(f"{progress.skipped} of {progress.total} are done already")
        elif time.monotonic() - self._spoken > _PLAIN_SECONDS:
            self._spoken = time.monotonic()
            self._line(f"{seen} of {progress.total}, {self._left(progress)} left")

    def counts(self) -> str:
        """Return the last line of a run that is stopped now."""
        if self.latest is None:
            return "0 done, 0 failed, 0 skipped; cancelled before the first"
        return self.latest.cancelled()

    def _left(self, progress: Progress) -> str:
        worked = progress.done + progress.failed
        rest = progress.total - worked - progress.skipped
        seconds = (time.monotonic() - self._start) / max(worked, 1) * rest
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"

    def _line(self, text: str) -> None:
        if self._bar is not None:
            # Given as plain text: brackets in a file name are no markup.
            from rich.text import Text

            self._bar.console.print(Text(printable(text)), soft_wrap=True)
        else:
            say(text)


def _make_bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
    )


def run_cancellable(work: Callable[[Display], ExitCode]) -> NoReturn:
    """Do ``work`` with a display, and leave with its exit code; see `cancellable`."""
    display = Display()
    try:
        with cancellable(display):
            code = work(display)
    except KeyboardInterrupt:  # before the first file
        say(display.counts())
        code = ExitCode.CANCELLED
    raise typer.Exit(code)


@contextmanager
def cancellable(display: Display) -> Iterator[None]:
    """Within the block SIGINT and SIGTERM raise KeyboardInterrupt, once.

    If the block has not ended soon after, or on a second signal, the process ends
    with the exit code of a cancelled run.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave() -> None:
        # The bar's cursor is shown again, and the text stands below the bar.
        below_bar = "\x1b[?25h\n" if sys.stderr.isatty() else ""
        os.write(2, f"{below_bar}{display.counts()}\n".encode())
        os._exit(ExitCode.CANCELLED)

    timer = threading.Timer(_GRACE, leave)
    timer.daemon = True

    def cancel(number: int, frame: FrameType | None) -> None:
        if timer.is_alive():
            leave()
        timer.start()
        raise KeyboardInterrupt

    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, cancel) for number in signals]
    try:
        yield
    finally:
        timer.cancel()
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)

"""The worker as seen from napari: a process with a pipe on either side."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress

from medseg.errors import printable
from medseg.napari_plugin.worker.protocol import Message, receive, send

# -P: a file called numpy.py in the folder that napari was started in is not ours.
COMMAND = (sys.executable, "-P", "-m", "medseg.napari_plugin.worker.process")
_TAIL_BYTES, _TAIL_LINES, _TAIL_WIDTH = 4096, 2, 200


class Child:
    """A running worker process. It ends when this one does.

    Raises:
        OSError: If it cannot be started.
    """

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,  # Ctrl-C in the terminal is for napari
            )
        except OSError:
            self._errors.close()
            raise
        self._writing = threading.Lock()
        self.killed = False

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def say(self, **message: object) -> None:
        """Send a message; to a process that has ended, nothing happens."""
        assert self._process.stdin is not None
        # ValueError: the pipe is closed, because the end was noticed just now.
        with self._writing, suppress(OSError, ValueError):
            send(self._process.stdin, message)

    def messages(self) -> Iterator[Message]:
        """Yield what it says, until it ends."""
        assert self._process.stdout is not None
        while (message := receive(self._process.stdout)) is not None:
            yield message

    def kill(self) -> None:
        """End it at once."""
        self.killed = True
        self._process.kill()

    def bury(self) -> str:
        """Wait for its end, close everything, and return what ended it in one line."""
        code = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        with self._errors:
            size = self._errors.seek(0, 2)
            self._errors.seek(max(0, size - _TAIL_BYTES))
            tail = self._errors.read().decode(errors="replace")
        return describe_end(code, tail)


def describe_end(code: int, tail: str) -> str:
    """Return one line on why a process ended.

    Args:
        code: Its exit code; below 0 the signal that killed it.
        tail: The end of what it wrote to its standard error.
    """
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    last = " | ".join(printable(x)[:_TAIL_WIDTH] for x in lines[-_TAIL_LINES:])
    if code >= 0:
        return f"exit code {code}" + (f": {last}" if last else "")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ", most often for lack of memory" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}" + (f": {last}" if last else "")

"""Work that must not stop the window: in a thread, with its end told to the widget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from napari.qt.threading import create_worker
from psygnal import Signal
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from medseg.errors import MedsegError
from medseg.napari_plugin.movie_job import Job, JobCancelledError
from medseg.napari_plugin.widgets.controls import Message

T = TypeVar("T")
_POLL_MS = 50


def in_thread(
    work: Callable[[], T],
    then: Callable[[T], None],
    failed: Callable[[MedsegError], None],
) -> None:
    """Do ``work`` in a thread; in the GUI thread go on with what it gave.

    An error that nobody foresaw counts as a failure too; napari shows its traceback.
    """

    # In a list: napari takes an error that is returned for one that was raised.
    def guarded() -> list[Any]:
        try:
            return [work(), None]
        except MedsegError as error:
            return [None, error]

    def ended(outcome: list[Any]) -> None:
        found, error = outcome
        if error is not None:
            failed(error)
        else:
            then(found)

    worker = create_worker(guarded, _start_thread=False)

    def broke(error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        failed(MedsegError("unexpected", text, "Please report it"))

    worker.returned.connect(ended)
    worker.errored.connect(broke)
    worker.start()


class BusyForm(Protocol):
    """What shows how a run goes on."""

    message: Message

    def set_busy(self, busy: bool) -> None:
        """Show whether there is a run."""

    def show_progress(self, done: int, total: int) -> None:
        """Show how far it is."""


class Runner:
    """One job at a time in a thread, shown in a form.

    Args:
        parent: Owner of the timer.
        form: Shows how far the job is and what went wrong.

    Attributes:
        finished: Emitted when a job has ended, before anything else is done.
    """

    finished = Signal()

    def __init__(self, parent: QWidget, form: BusyForm) -> None:
        self._form = form
        self._job: Job[Any] | None = None
        self._timer = QTimer(parent, interval=_POLL_MS)
        self._timer.timeout.connect(self._poll)

    @property
    def running(self) -> bool:
        """Whether there is a job."""
        return self._job is not None

    def start(self, job: Job[T], finish: Callable[[T], None]) -> None:
        """Run a job; its result is thrown away if it is cancelled meanwhile."""
        self._job = job
        self._form.set_busy(True)

        def then(found: T) -> None:
            if self._job is job:
                self._rest()
                finish(found)

        def failed(error: MedsegError) -> None:
            if self._job is job:
                self._rest()
                if not isinstance(error, JobCancelledError):
                    self._form.message.say(str(error), bad=True)

        in_thread(job.run, then, failed)
        self._timer.start()

    def cancel(self) -> None:
        """End the job."""
        if self._job is not None:
            self._job.cancel()
            self._rest()
            self._form.message.say("Cancelled")

    def close(self) -> None:
        """End the job of a widget that is gone."""
        if self._job is not None:
            self._job.cancel()
            self._job = None

    def _rest(self) -> None:
        self._job = None
        self._timer.stop()
        self._form.set_busy(False)
        self.finished.emit()

    def _poll(self) -> None:
        if self._job is not None:
            self._form.show_progress(self._job.done, self._job.total)

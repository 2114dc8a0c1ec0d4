"""A run of a model that the window lives through: its layers, results and end."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from medseg.errors import MedsegError
from medseg.napari_plugin.results import Results
from medseg.napari_plugin.worker.job import (
    Cancelled,
    Done,
    Event,
    Failed,
    Item,
    Job,
    Opened,
    Progress,
)

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from medseg.napari_plugin.widgets.segment_form import SegmentForm
    from medseg.napari_plugin.worker.client import WorkerClient
    from medseg.napari_plugin.worker.job import Stack
    from medseg.napari_plugin.worker.protocol import Options

_POLL_MS = 15
# What one turn of the event loop may spend on showing results.
_BUDGET_S = 0.005


@dataclass(frozen=True, eq=False)
class Order:
    """What is to be run.

    Args:
        stack: The images.
        model: A shipped name or a folder.
        options: How to run it.
        remark: What to say of the result besides.
    """

    stack: Stack
    model: str
    options: Options
    remark: str = ""


class SegmentRun:
    """Runs one order at a time and shows its results in small steps.

    Args:
        parent: Owns the timer; with it the run ends.
        form: Shows how far it is.
        client: Runs the models.
        changed: Called when a run begins and ends.
        select: Called with the mask to work on.
    """

    def __init__(
        self,
        parent: QWidget,
        form: SegmentForm,
        client: WorkerClient,
        changed: Callable[[], None],
        select: Callable[[Any], None],
    ) -> None:
        self._form, self._client = form, client
        self._changed, self._select = changed, select
        self._order: Order | None = None
        self._results: Results | None = None
        self._job: Job | None = None
        self._settings: Mapping[str, Any] = {}
        self._events: deque[Event] = deque()
        self._steps: Iterator[None] = iter(())
        self._timer = QTimer(parent, interval=_POLL_MS)
        self._timer.timeout.connect(self.poll)
        holder = self.__dict__
        parent.destroyed.connect(lambda: _abandon(holder))

    @property
    def going(self) -> bool:
        """Whether a run is being prepared, goes on, or shows its last results."""
        return self._results is not None

    def begin(self, order: Order, results: Results) -> None:
        """Start what was ordered; ``results`` has the layers that it fills."""
        self._order, self._results, self._settings = order, results, {}
        self._steps = self._start(order, results)
        loading = "Starting the model" if self._client.devices else "Starting torch"
        self._form.begin(f"{loading} (the first time takes some seconds) ...")
        self._changed()
        self._timer.start()

    def _start(self, order: Order, results: Results) -> Iterator[None]:
        """Make the layers one by one, then start the model."""
        yield from results.prepare()
        if order.stack.count > 1:
            yield from self._choose_mask(results)
            # A full collection takes napari a quarter of a second. After one here,
            # Python sees no need for another in the midst of the run.
            gc.collect()
            yield
        self._job = self._client.predict(order.stack, order.model, order.options)

    def _choose_mask(self, results: Results) -> Iterator[None]:
        """Select a mask, which will be worked on, not the map that was added last."""
        if results.masks:
            self._select(results.masks[0])
            yield

    def cancel(self) -> None:
        """End the run now; the slices that have been shown stay."""
        if not self.going:
            return
        if self._job is None:
            self._steps = iter(())  # no more layers, and no model
        else:
            self._job.cancel()
            self._job.poll()  # what waits to be shown is let go
        self._events = deque([Cancelled()])

    def poll(self) -> None:
        """Show what has arrived, for a few milliseconds."""
        if not self.going:
            self._timer.stop()
            return
        if self._job is not None:
            self._events.extend(self._job.poll())
        end = time.perf_counter() + _BUDGET_S
        try:
            while time.perf_counter() < end and self._advance():
                pass
        except MedsegError as error:
            if self._job is not None:
                self._job.cancel()
            for _ in self._end(self._settings, str(error), bad=True):
                pass

    def _advance(self) -> bool:
        """Do one small thing; return whether there may be more to do."""
        if next(self._steps, self) is not self:
            return True
        if not self._events:
            return False
        event = self._events.popleft()
        assert self._results is not None  # made before the job
        match event:
            case Opened():
                self._settings = event.settings
                self._form.opened(event)
            case Progress():
                self._form.show_progress(event)
            case Item():
                self._steps = self._results.add(event)
            case Done():
                self._steps = self._end(event.provenance, self._summary())
            case Failed():
                self._steps = self._end(self._settings, event.message, bad=True)
            case Cancelled():
                stays = " What has arrived stays." if self._results.arrived else ""
                text = f"Cancelled.{stays}"
                self._steps = self._end(self._settings, text)
        return self.going

    def _summary(self) -> str:
        assert self._results is not None  # the run is being ended
        assert self._order is not None
        count, kept = self._order.stack.count, self._results.kept
        text = f"Done: {count} slices" if count > 1 else "Done"
        if kept:
            text += f". {kept} slices left alone: something was drawn there meanwhile"
        return f"{text}. {self._order.remark}".rstrip()

    def _end(
        self, provenance: Mapping[str, Any], text: str, bad: bool = False
    ) -> Iterator[None]:
        """End the run, in steps that napari can draw between."""
        assert self._results is not None  # the run is being ended
        yield from self._results.finish(provenance)
        if self._order is not None and self._order.stack.count == 1:
            yield from self._choose_mask(self._results)
        self._timer.stop()
        self._events.clear()
        self._job = self._results = self._order = None
        self._form.end(text, bad=bad)
        self._changed()


def _abandon(state: dict[str, Any]) -> None:
    """End the run of a widget that is gone."""
    job = state["_job"]
    if job is not None:
        job.cancel()

"""Jobs for a thread: read a movie of masks, and link it. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from medseg.errors import MedsegError
from medseg.lineage import TrackGraph
from medseg.napari_plugin.mask_frames import MaskFrames
from medseg.track import (
    Cells,
    LinkParameters,
    estimate_parameters,
    link_cells,
    observe,
)

T = TypeVar("T")


class JobCancelledError(MedsegError):
    """A person has cancelled the job."""


class Job(Generic[T]):
    """Work that is counted and can be ended.

    Attributes:
        done: Frames done so far.
        total: Frames to do.
    """

    def __init__(self, total: int) -> None:
        self.done, self.total = 0, total
        self._cancelled = False

    def cancel(self) -> None:
        """End the job at the next frame; its result is thrown away."""
        self._cancelled = True

    def run(self) -> T:
        """Return the result; called in a thread.

        Raises:
            JobCancelledError: If it was cancelled.
            MedsegError: Whatever else is wrong.
        """
        raise NotImplementedError

    def progress(self, done: int, total: int | None = None) -> None:
        """Note what is done.

        Raises:
            JobCancelledError: If the job was cancelled.
        """
        self.done = done
        if self._cancelled:
            raise JobCancelledError("job", "cancelled")


@dataclass(frozen=True, eq=False)
class Linked:
    """What a job found.

    Args:
        cells: Of the movie.
        parameters: None if there was nothing to estimate.
        graph: None if only the cells were asked for.
    """

    cells: Cells
    parameters: LinkParameters | None = None
    graph: TrackGraph | None = None


Then = Callable[[Cells], Linked]


class MovieJob(Job[T]):
    """Look at all masks of a movie, then do one thing with the cells.

    Args:
        masks: Of the movie.
        then: What to do.
        cells: Of an earlier look, if the masks are still the same.
    """

    def __init__(
        self, masks: MaskFrames, then: Callable[[Cells], T], cells: Cells | None = None
    ) -> None:
        super().__init__(len(masks))
        self._masks, self._then, self._cells = masks, then, cells

    def run(self) -> T:
        """Return what ``then`` makes of the cells."""
        cells = self._cells or observe(self._masks, self.progress)
        self.progress(self.total)
        return self._then(cells)


def linking(masks: MaskFrames, chosen: Mapping[str, Any]) -> Then:
    """Return what estimates the parameters that are not chosen, and links."""
    spacing = masks.spacing()

    def then(cells: Cells) -> Linked:
        parameters = estimate_parameters(cells, spacing, **chosen)
        return Linked(cells, parameters, link_cells(cells, parameters, spacing))

    return then


def estimating(masks: MaskFrames) -> Then:
    """Return what only estimates the parameters."""
    spacing = masks.spacing()
    return lambda cells: Linked(cells, estimate_parameters(cells, spacing))

"""Read a movie of masks and link it off the GUI thread. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from medseg.errors import MedsegError
from medseg.lineage import TrackGraph
from medseg.napari_plugin.lineage_layers import MaskFrames
from medseg.track import (
    Cells,
    LinkParameters,
    estimate_parameters,
    link_cells,
    observe,
)


class JobCancelledError(MedsegError):
    """A person has cancelled the job."""


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


class MovieJob:
    """Look at all masks of a movie, then do one thing with the cells.

    Args:
        masks: Of the movie.
        then: What to do.
        cells: Of an earlier look, if the masks are still the same.

    Attributes:
        done: Frames looked at.
        cancelled: Whether `cancel` was called.
    """

    def __init__(
        self, masks: MaskFrames, then: Then, cells: Cells | None = None
    ) -> None:
        self._masks, self._then, self._cells = masks, then, cells
        self.done, self.total = 0, len(masks)
        self.cancelled = False

    def cancel(self) -> None:
        """End the job at the next frame; its result is thrown away."""
        self.cancelled = True

    def run(self) -> Linked | MedsegError:
        """Return the result, or what went wrong; for a thread."""
        try:
            cells = self._cells or observe(self._masks, self._progress)
            self._progress(self.total)
            return self._then(cells)
        except MedsegError as error:
            return error

    def _progress(self, done: int, total: int | None = None) -> None:
        self.done = done
        if self.cancelled:
            raise JobCancelledError("tracks", "cancelled")


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

"""What the buttons of the Refine widget do to a label map. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from medseg.errors import ConfigError
from medseg.napari_plugin.part import Work
from medseg.refine import tools
from medseg.refine.edit import Edit
from medseg.refine.prompts import Position, Scribble


@dataclass(frozen=True)
class Numbers:
    """What the widget said when a button was pressed: tools may run in a thread.

    Args:
        length: For grow, shrink and smooth, in units of the mask.
        least: Pieces of fewer pixels are removed.
        other: The other label of merge and relabel.
        low: Lowest intensity that the range brush paints on.
        high: Highest one.
    """

    length: float
    least: int
    other: int
    low: float
    high: float


Call: TypeAlias = Callable[[Work, Numbers], Edit]


def grow(work: Work, numbers: Numbers) -> Edit:
    """Widen the label by the length."""
    return _margin(tools.grow, work, numbers)


def smooth(work: Work, numbers: Numbers) -> Edit:
    """Round off what is smaller than the length."""
    return _margin(tools.smooth, work, numbers)


def _margin(tool: Callable[..., Edit], work: Work, numbers: Numbers) -> Edit:
    return tool(
        work.labels,
        work.value,
        numbers.length,
        work.spacing,
        protect_other_labels=work.protect,
    )


def shrink(work: Work, numbers: Numbers) -> Edit:
    """Narrow the label by the length."""
    return tools.shrink(work.labels, work.value, numbers.length, work.spacing)


def keep_largest(work: Work, numbers: Numbers) -> Edit:
    """Remove all pieces but the largest."""
    return tools.keep_largest(work.labels, work.value)


def fill_holes(work: Work, numbers: Numbers) -> Edit:
    """Fill what the label encloses."""
    return tools.fill_holes(work.labels, work.value, protect_other_labels=work.protect)


def remove_small(work: Work, numbers: Numbers) -> Edit:
    """Remove small pieces."""
    return tools.remove_small(work.labels, work.value, numbers.least)


def fill_between(work: Work, numbers: Numbers) -> Edit:
    """Fill the slices between those on which the label is drawn.

    Raises:
        ConfigError: If there is one slice only.
    """
    if work.labels.ndim != 3:
        raise ConfigError("Fill between slices", "needs a volume")
    return tools.fill_between_slices(
        work.labels,
        work.value,
        axis=work.plane_axis or 0,
        protect_other_labels=work.protect,
    )


def merge(work: Work, numbers: Numbers) -> Edit:
    """Join the other label into the one edited."""
    return tools.merge(work.labels, (work.value, numbers.other))


def relabel(work: Work, numbers: Numbers) -> Edit:
    """Give the label edited the other number."""
    return tools.relabel(
        work.labels, work.value, numbers.other, protect_other_labels=work.protect
    )


def split(work: Work, path: Sequence[Position]) -> Edit:
    """Split what a line crosses."""
    return tools.split(work.labels, Scribble(work.inside(path)), work.value)


def range_brush(
    work: Work, numbers: Numbers, path: Sequence[Position], width: float, positive: bool
) -> Edit:
    """Paint, or erase, along a path where the image is within the range."""
    return tools.threshold_paint(
        work.labels,
        work.image,
        Scribble(work.inside(path), positive, width),
        work.value,
        low=numbers.low,
        high=numbers.high,
        protect_other_labels=work.protect,
    )

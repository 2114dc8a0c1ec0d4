"""How the tools write: one label, the others untouched."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.postprocess import box
from medseg.refine.edit import Array, Edit, edit_between

Mask = NDArray[np.bool_]


def put(labels: Array, value: int, wanted: Mask, *, protect: bool) -> Edit:
    """Return the edit after which ``value`` covers exactly ``wanted``.

    Args:
        labels: Label map ``([Z,] Y, X)``.
        value: The label written; what it covers besides becomes 0.
        wanted: Where it should be.
        protect: Leave pixels of other labels as they are.

    Raises:
        ConfigError: If the labels are no integers or cannot hold the value.
    """
    check(labels, value)
    return put_at((slice(None),) * labels.ndim, labels, value, wanted, protect=protect)


def put_at(
    window: Sequence[slice], labels: Array, value: int, wanted: Mask, *, protect: bool
) -> Edit:
    """Do what `put` does within a window of the labels."""
    block = labels[tuple(window)]
    free = (block == 0) | (block == value) if protect else np.True_
    new = np.where(block == value, 0, block).astype(labels.dtype)
    new[wanted & free] = value
    return edit_between(block, new, [s.start or 0 for s in window])


def reshape(
    labels: Array,
    value: int,
    rule: Callable[[Mask], Mask],
    *,
    margin: Sequence[int] | int = 0,
    protect: bool,
) -> Edit:
    """Return the edit by which a rule changes the shape of one label.

    The rule sees the box around the label, widened by ``margin`` pixels a side.

    Raises:
        ConfigError: If the labels are no integers or cannot hold the value.
    """
    check(labels, value)
    mask = labels == value
    around = box(mask)
    if around is None:
        return nothing(labels)
    margins = [margin] * labels.ndim if isinstance(margin, int) else margin
    window = tuple(
        slice(max(0, s.start - m), min(n, s.stop + m))
        for s, m, n in zip(around, margins, labels.shape, strict=True)
    )
    return put_at(window, labels, value, rule(mask[window]), protect=protect)


def nothing(labels: Array) -> Edit:
    """Return an edit that changes nothing."""
    block = labels[(slice(0, 0),) * labels.ndim]
    return edit_between(block, block)


def check(labels: Array, *values: int) -> None:
    """Raise where labels are no integers or values are no label they can hold.

    Raises:
        ConfigError: Says which.
    """
    if labels.dtype.kind not in "biu":
        raise ConfigError("labels", f"are {labels.dtype}", "Labels are integers")
    most = 1 if labels.dtype == bool else int(np.iinfo(labels.dtype).max)
    for value in values:
        if not 1 <= value <= most:
            raise ConfigError(
                "label", f"is {value}", f"Use 1 to {most} in {labels.dtype}"
            )


def lengths(spacing: Sequence[float] | None, ndim: int) -> tuple[float, ...]:
    """Return the spacing, 1 for each axis by default.

    Raises:
        ConfigError: If it does not fit the axes or is not positive.
    """
    found = (1.0,) * ndim if spacing is None else tuple(float(s) for s in spacing)
    if len(found) != ndim or not all(np.isfinite(s) and s > 0 for s in found):
        raise ConfigError(
            "spacing", f"is {spacing} for {ndim} axes", "Give positive lengths"
        )
    return found

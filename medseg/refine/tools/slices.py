"""Fill the slices between those that are drawn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.errors import ConfigError
from medseg.refine.edit import Array, Edit
from medseg.refine.tools.common import Mask, check, put_at


def fill_between_slices(
    labels: Array,
    value: int,
    *,
    axis: int = 0,
    first: int | None = None,
    last: int | None = None,
    protect_other_labels: bool = True,
) -> Edit:
    """Fill the empty slices between drawn ones by interpolating the outline.

    Between two drawn slices the signed distance to the outline is interpolated
    linearly and cut at 0 (Raya and Udupa, IEEE TMI 9 (1990) 32-42): between discs of
    radius r and R lies the cone. Parts that do not overlap from slice to slice fade
    out. Drawn slices stay as they are.

    Args:
        labels: Label map ``(Z, Y, X)``.
        value: The label.
        axis: Across the slices.
        first: Slice to begin with, default the first one drawn.
        last: Slice to end with, default the last one drawn.
        protect_other_labels: Fill the background only.

    Raises:
        ConfigError: If this is no volume, there is no such axis, or the value is no
            label of such a map.
    """
    if labels.ndim != 3:
        raise ConfigError("labels", f"have {labels.ndim} axes", "Give a volume")
    if axis not in (0, 1, 2):
        raise ConfigError("axis", f"is {axis}", "Use 0, 1 or 2")
    check(labels, value)
    mask = np.moveaxis(labels == value, axis, 0)
    drawn = np.flatnonzero(mask.any(axis=(1, 2)))
    drawn = drawn[
        (drawn >= (first or 0)) & (drawn <= (mask.shape[0] if last is None else last))
    ]
    window: list[slice] = [slice(0, n) for n in labels.shape]
    if drawn.size == 0:
        window[axis] = slice(0, 0)
        wanted = mask[:0]
    else:
        window[axis] = slice(int(drawn[0]), int(drawn[-1]) + 1)
        wanted = mask[window[axis]].copy()
        _fill(wanted, drawn - drawn[0])
    filled = np.moveaxis(wanted, 0, axis)
    return put_at(window, labels, value, filled, protect=protect_other_labels)


def _fill(mask: Mask, drawn: NDArray[np.intp]) -> None:
    """Fill a stack, whose ``drawn`` slices are given, in place."""
    for low, high in pairwise(drawn):
        if high - low < 2:
            continue
        both = mask[low] | mask[high]
        rows, columns = both.any(axis=1), both.any(axis=0)
        # What lies outside of both boxes is outside in between as well.
        part = (_span(rows), _span(columns))
        near, far = (signed_distance(mask[z][part]) for z in (low, high))
        for z in range(low + 1, high):
            share = (z - low) / (high - low)
            mask[z][part] = (1 - share) * near + share * far > 0


def signed_distance(mask: Mask) -> NDArray[np.float64]:
    """Return the distance to the outline between pixels, positive inside.

    The outline lies half way between neighbours, so the values beside it are one half.
    """
    padded = np.pad(mask, 1)
    inside = ndimage.distance_transform_edt(padded)
    outside = ndimage.distance_transform_edt(~padded)
    field = np.where(padded, inside - 0.5, 0.5 - outside)
    return field[(slice(1, -1),) * mask.ndim]


def _span(hits: NDArray[np.bool_]) -> slice:
    found = np.flatnonzero(hits)
    return slice(int(found[0]), int(found[-1]) + 1)

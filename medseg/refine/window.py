"""How large an error is around a prompt, and the window to mend it in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.refine.edit import Slices
from medseg.refine.prompts import Index

Array = NDArray[Any]
Mask = NDArray[np.bool_]


def around(
    pixels: Index, shape: Sequence[int], radius: float, spacing: Sequence[float]
) -> Slices:
    """Return the box around ``pixels``, widened by ``radius`` (a length)."""
    edges = []
    for axis, length, step in zip(pixels, shape, spacing, strict=True):
        margin = int(np.ceil(radius / step))
        low, high = int(axis.min()) - margin, int(axis.max()) + 1 + margin
        edges.append(slice(max(0, low), min(length, high)))
    return tuple(edges)


def shifted(pixels: Index, box: Slices) -> Index:
    """Return the pixels that lie in the box, counted from its corner."""
    inside = np.ones(pixels[0].shape, bool)
    for axis, side in zip(pixels, box, strict=True):
        inside &= (axis >= side.start) & (axis < side.stop)
    return tuple(a[inside] - s.start for a, s in zip(pixels, box, strict=True))


def as_mask(pixels: Index, box: Slices) -> Mask:
    """Return the pixels as a boolean block of the box."""
    mask = np.zeros(tuple(s.stop - s.start for s in box), bool)
    mask[shifted(pixels, box)] = True
    return mask


def clearance(
    target: Array,
    value: int,
    positive: bool,
    pixels: Index,
    *,
    limit: float,
    spacing: Sequence[float],
) -> float:
    """Return how far the prompt lies from where the mask already agrees with it.

    A click at the centre of an error lies as far from the mask's outline on one side
    as from the true one on the other: this is half the error's thickness.

    Args:
        target: Label map ``([Z,] Y, X)``.
        value: The target's.
        positive: Whether the prompt adds to the target.
        pixels: Of the prompt.
        limit: Farthest distance looked at, returned where there is nothing nearer.
        spacing: Distance between neighbours along each axis.

    Returns:
        The median over the prompt's pixels that disagree with the mask; 0 if all
        agree already.
    """
    box = around(pixels, target.shape, limit, spacing)
    agree = (target[box] == value) == positive
    inner = shifted(pixels, box)
    wrong = ~agree[inner]
    if not wrong.any():
        return 0.0
    seeds = np.stack(inner, axis=1)[wrong]
    if not agree.any():
        return limit
    if len(seeds) == 1:
        steps = (np.argwhere(agree) - seeds[0]) * np.asarray(spacing)
        distance = np.sqrt((steps**2).sum(axis=1).min())
    else:
        field = ndimage.distance_transform_edt(~agree, sampling=spacing)
        distance = np.median(field[tuple(seeds.T)])
    return float(min(distance, limit))


def core(region: Mask, spacing: Sequence[float]) -> tuple[Mask, float]:
    """Return the middle of a drawn region and its half-width.

    The middle is where the distance to the outside is at least half the largest.
    """
    padded = np.pad(region, 1)
    depth = ndimage.distance_transform_edt(padded, sampling=spacing)
    inner = depth[(slice(1, -1),) * region.ndim]
    return inner >= 0.5 * inner.max(), float(inner.max())


def reachable(change: Mask, seeds: Mask) -> Mask:
    """Return the connected pieces of ``change`` that hold a seed."""
    labelled, found = ndimage.label(change, np.ones((3,) * change.ndim))
    keep = np.zeros(found + 1, bool)
    keep[labelled[seeds]] = True
    keep[0] = False
    return keep[labelled]


def at_border(change: Mask, box: Slices, shape: Sequence[int]) -> bool:
    """Return whether the change touches a side of the box inside the image."""
    for axis, (side, length) in enumerate(zip(box, shape, strict=True)):
        if side.start > 0 and change.take(0, axis).any():
            return True
        if side.stop < length and change.take(-1, axis).any():
            return True
    return False

"""Part what touches, and join what belongs together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from medseg.errors import ConfigError
from medseg.postprocess import box
from medseg.refine.edit import Array, Edit, edit_between
from medseg.refine.prompts import Scribble
from medseg.refine.tools.common import check, nothing
from medseg.refine.window import shifted


def next_label(labels: Array) -> int:
    """Return the first number above all those in use."""
    return int(labels.max(initial=0)) + 1


def split(labels: Array, line: Scribble, value: int, *, new: int | None = None) -> Edit:
    """Part one label along a drawn line; the smaller parts get numbers of their own.

    The line parts the object where it lies in it; the pixels under the line go to
    the part that is nearest. In a volume the slice of the line is parted. Where the
    line does not part the object nothing changes.

    Args:
        labels: Label map ``([Z,] Y, X)``.
        line: From one side of the object to the other.
        value: The object's number.
        new: Number of all smaller parts; by default the next free ones, one each.

    Raises:
        ConfigError: If the numbers are no labels of such a map, the new one is in
            use, or the line has other axes or lies in several slices.
    """
    number = next_label(labels) if new is None else new
    check(labels, value, number)
    if (labels == number).any():
        raise ConfigError("label", f"{number} is in use", "Choose a free number")
    window = _slice_of(labels, line)
    mask = labels[window] == value
    inner = box(mask)
    if inner is None:
        return nothing(labels)
    cut = np.zeros(mask.shape, bool)
    cut[shifted(line.pixels(labels.shape), window)] = True
    mask, cut = mask[inner], cut[inner]
    parts, touched = _parts(mask, cut)
    if len(touched) < 2:
        return nothing(labels)
    corner = [w.start + s.start for w, s in zip(window, inner, strict=True)]
    whole = tuple(slice(c, c + n) for c, n in zip(corner, mask.shape, strict=True))
    after = labels[whole].copy()
    sizes = np.bincount(parts.ravel())
    # The largest keeps its number; of equal ones that which comes first.
    largest = touched[int(np.argmax(sizes[touched]))]
    smaller = [part for part in touched.tolist() if part != largest]
    numbers = range(number, number + len(smaller)) if new is None else [number]
    check(labels, *numbers)
    for i, part in enumerate(smaller):
        after[(parts == part) & mask] = numbers[min(i, len(numbers) - 1)]
    return edit_between(labels[whole], after, corner)


def _slice_of(labels: Array, line: Scribble) -> tuple[slice, ...]:
    window = [slice(0, n) for n in labels.shape]
    if labels.ndim == 3 and line.ndim == 3:
        flat = [
            a for a, v in enumerate(zip(*line.points, strict=True)) if len(set(v)) == 1
        ]
        if not flat:
            raise ConfigError(
                "line", "lies in several slices", "Draw it within one slice"
            )
        at = int(np.floor(line.points[0][flat[0]] + 0.5))
        window[flat[0]] = slice(max(at, 0), max(at, 0) + 1)
    return tuple(window)


def _parts(mask: np.ndarray, cut: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the parts beside the cut, its pixels given to them, and their numbers."""
    # Neighbours share an edge: a thin slanted line does not leak at its corners.
    parts, _ = ndimage.label(mask & ~cut)
    near = ndimage.binary_dilation(cut & mask) & mask
    touched = np.unique(parts[near & (parts > 0)])
    if len(touched) > 1:
        index = ndimage.distance_transform_edt(
            ~np.isin(parts, touched), return_distances=False, return_indices=True
        )
        parts = np.where(cut & mask, parts[tuple(index)], parts)
    return parts, touched


def merge(labels: Array, values: Sequence[int]) -> Edit:
    """Give all ``values`` the number of the first.

    Raises:
        ConfigError: If there are fewer than two, or one is no label of such a map.
    """
    if len(set(values)) < 2:
        raise ConfigError("merge", f"of {list(values)}", "Name at least two labels")
    check(labels, *values)
    return _replace(labels, values[1:], values[0])


def relabel(
    labels: Array, value: int, new: int, *, protect_other_labels: bool = True
) -> Edit:
    """Give a label another number; 0 deletes it.

    Raises:
        ConfigError: If a number is no label of such a map, or the new one is in use
            and protected (`merge` joins two labels).
    """
    check(labels, value, *([new] if new else []))
    if protect_other_labels and new not in (0, value) and (labels == new).any():
        raise ConfigError(
            "label", f"{new} is in use", "Choose a free number, or merge the two"
        )
    return _replace(labels, [value], new)


def _replace(labels: Array, values: Sequence[int], new: int) -> Edit:
    mask = np.isin(labels, list(values))
    window = box(mask)
    if window is None:
        return nothing(labels)
    after = labels[window].copy()
    after[mask[window]] = new
    return edit_between(labels[window], after, [s.start for s in window])

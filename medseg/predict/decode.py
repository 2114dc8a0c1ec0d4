"""From probabilities on one grid to labels on another."""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.labels import LabelSet
from medseg.model_spec import Cleaning, Decoding
from medseg.postprocess import box, fill_holes, keep_largest, remove_small

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
# Numbers in a slab of resampled probabilities: 4 MB.
_SLAB = 2**20
# Masks of more pixels than this take memory page by page.
_SPARSE = 2**26
# The rules about shape run again on the image's own grid up to this many pixels.
_LARGE = 2**26


def resample(
    values: Array, size: Sequence[int], window: Sequence[slice] | None = None
) -> Array:
    """Interpolate ``values`` ``([Z,] Y, X)`` linearly to a grid of ``size``.

    Pixels are cells: the corners of both grids coincide, their first centres do not.

    Args:
        values: On the coarse grid.
        size: Of the fine grid.
        window: The part of the fine grid that is wanted; default: all of it.

    Returns:
        float32, of the window's shape.
    """
    window = window or [slice(0, n) for n in size]
    plans = [
        _neighbours(*lengths)
        for lengths in zip(values.shape, size, window, strict=True)
    ]
    # Only the coarse pixels that are needed; and the first axis last, as whole rows.
    values = values[tuple(slice(low[0], high[-1] + 1) for low, high, _ in plans)]
    for axis in reversed(range(values.ndim)):
        lower, upper, share = plans[axis]
        if not share.any():
            values = values.take(lower - lower[0], axis)
            continue
        shape = [1] * values.ndim
        shape[axis] = -1
        low = values.take(lower - lower[0], axis)
        high = values.take(upper - lower[0], axis)
        high -= low
        high *= share.reshape(shape)
        values = np.add(low, high, out=high)
    return values


def _neighbours(length: int, size: int, part: slice) -> tuple[Index, Index, Array]:
    """Return for each fine pixel the coarse ones around it, and where between."""
    centres = (np.arange(part.start, part.stop) + 0.5) * (length / size) - 0.5
    centres = centres.clip(0, length - 1)
    lower = centres.astype(np.intp)
    share = (centres - lower).astype(np.float32)
    return lower, np.minimum(lower + 1, length - 1), share


def slabs(size: Sequence[int], channels: int) -> Iterator[slice]:
    """Cut the first axis so that ``channels`` maps of a slab stay small."""
    rows = max(1, _SLAB // (channels * int(np.prod(size[1:]))))
    for start in range(0, size[0], rows):
        yield slice(start, min(start + rows, size[0]))


def new_mask(labels: LabelSet, size: Sequence[int]) -> NDArray[np.integer]:
    """Return an empty mask: a channel a label if they overlap, else one map."""
    channels = (len(labels),) if labels.kind == "overlapping" else ()
    return _zeros((*channels, *size), labels.dtype)


def _zeros(shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return zeros that take memory only where something is written to them.

    So do those of `np.zeros`, but it asks Linux for pages of 2 MB, which are whole
    rows of a very large film: most of each is background.
    """
    count = math.prod(shape)
    if count <= _SPARSE or sys.platform != "linux":
        return np.zeros(tuple(shape), dtype)
    memory = mmap.mmap(-1, count * dtype.itemsize, mmap.MAP_PRIVATE)
    with suppress(OSError):  # a kernel that has small pages alone
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype).reshape(shape)


def label_values(labels: LabelSet) -> NDArray[np.integer]:
    """Return the mask value of each channel of exclusive labels, 0 first."""
    return np.array([0, *(x.value for x in labels)], labels.dtype)


def thresholds(labels: LabelSet, decoding: Decoding) -> tuple[float, ...]:
    """Return the threshold of each structure."""
    one = len(decoding.thresholds) == 1
    return decoding.thresholds * len(labels) if one else decoding.thresholds


def decode(values: Array, labels: LabelSet, decoding: Decoding) -> NDArray[np.integer]:
    """Return the mask for probabilities ``(K, [Z,] Y, X)`` of the same grid."""
    if decoding.name == "argmax":
        return label_values(labels)[values.argmax(axis=0)]
    limits = np.array(thresholds(labels, decoding), np.float32)
    above = values > limits.reshape(-1, *[1] * (values.ndim - 1))
    return above.view(np.uint8)


def decode_resampled(
    values: Array, size: Sequence[int], labels: LabelSet, decoding: Decoding
) -> NDArray[np.integer]:
    """Return the mask on a grid of ``size`` for probabilities of a coarser grid.

    The same as decoding the resampled probabilities, in less memory and time.
    """
    mask = new_mask(labels, size)
    if decoding.name == "argmax":
        for part in slabs(size, len(values)):
            window = [part, *(slice(0, n) for n in size[1:])]
            fine = np.stack([resample(one, size, window) for one in values])
            mask[part] = decode(fine, labels, decoding)
        return mask
    for one, limit, channel in zip(
        values, thresholds(labels, decoding), mask, strict=True
    ):
        limit32 = np.float32(limit)
        # Interpolation never exceeds its neighbours: nothing is on far from here.
        around = box(one > limit32, margin=1)
        if around is None:
            continue
        window = [
            slice(a.start * n // w, -(-a.stop * n // w))
            for a, n, w in zip(around, size, one.shape, strict=True)
        ]
        extent = [w.stop - w.start for w in window]
        for part in slabs(extent, 1):
            rows = slice(window[0].start + part.start, window[0].start + part.stop)
            on = resample(one, size, [rows, *window[1:]]) > limit32
            inside = box(on)
            if inside is not None:  # what is not written to takes no memory
                channel[(rows, *window[1:])][inside] = on[inside]
    return mask


def entropy(values: Array, exclusive: bool) -> Array:
    """Return the uncertainty ``([Z,] Y, X)`` in [0, 1] of probabilities ``(K, ...)``.

    Exclusive labels: the entropy over the channels divided by its largest value.
    Overlapping ones: that of the most doubtful structure, 1 where it has 0.5.
    """
    if exclusive:
        total = -_x_log_x(values).sum(axis=0) / np.log(len(values))
    else:
        each = -_x_log_x(values) - _x_log_x(1 - values)
        total = each.max(axis=0) / np.log(2)
    return np.asarray(total.clip(0, 1), np.float32)


def _x_log_x(values: Array) -> Array:
    return np.asarray(values * np.log(np.maximum(values, np.float32(1e-12))))


def _rule(step: Cleaning) -> Callable[[Mask], Mask]:
    return {
        "keep_largest": lambda mask: keep_largest(mask, step.n),
        "fill_holes": fill_holes,
        "remove_small": lambda mask: remove_small(mask, step.min_size),
    }[step.name]


def _changes(mask: Mask, step: Cleaning) -> tuple[tuple[slice, ...], Mask, Mask] | None:
    """Return where a rule removes and where it adds pixels, inside a box."""
    around = box(mask)
    if around is None:
        return None
    old = mask[around]
    new = _rule(step)(old)
    return around, old & ~new, new & ~old


def clean_mask(
    mask: NDArray[np.integer],
    labels: LabelSet,
    steps: Sequence[Cleaning],
    *,
    again: bool = False,
) -> None:
    """Apply the rules about shape to ``mask``, in place.

    Args:
        mask: As :func:`decode` makes it.
        labels: Its labels.
        steps: The rules, in order.
        again: The rules have run on a coarser grid before; a very large mask and
            sizes in pixels of that grid are left alone then.
    """
    if again and mask.size > _LARGE:
        return
    for step in steps:
        if again and step.name == "remove_small":
            continue
        for name in step.structures:
            channel = labels.index(name)
            overlapping = labels.kind == "overlapping"
            value = 1 if overlapping else labels.labels[channel].value
            target = mask[channel] if overlapping else mask
            changes = _changes(target == value, step)
            if changes is not None:
                around, removed, added = changes
                target[around][removed] = 0
                target[around][added] = value


def clean_probabilities(values: Array, labels: LabelSet, decoding: Decoding) -> Array:
    """Return probabilities whose decoded mask obeys the rules about shape.

    A removed pixel gets the probability 0 (exclusive labels: background 1), an added
    one 1; the others stay, so that outlines keep their place between pixels.
    """
    values = values.copy()
    for step in decoding.steps:
        for name in step.structures:
            channel = labels.index(name)
            mask = _structure(values, channel, labels, decoding)
            changes = _changes(mask, step)
            if changes is None:
                continue
            around, removed, added = changes
            if labels.kind == "overlapping":
                values[channel][around][removed] = 0
                values[channel][around][added] = 1
                continue
            for target, where in ((0, removed), (channel + 1, added)):
                inside = values[(slice(None), *around)]
                inside[:, where] = 0
                inside[target, where] = 1
    return values


def _structure(
    values: Array, channel: int, labels: LabelSet, decoding: Decoding
) -> Mask:
    if labels.kind == "overlapping":
        limit = np.float32(thresholds(labels, decoding)[channel])
        return np.asarray(values[channel] > limit)
    return np.asarray(values.argmax(axis=0) == channel + 1)

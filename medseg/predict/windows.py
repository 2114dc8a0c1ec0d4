"""Sliding windows with blending, slab by slab along the first axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product
from typing import Literal

import numpy as np
from monai.data.utils import compute_importance_map
from numpy.typing import NDArray

Array = NDArray[np.float32]
Blending = Literal["gaussian", "constant"]

# Numbers in a slab that is handed on: 16 MB.
PIECE = 2**22


def window_starts(length: int, window: int, overlap: float) -> list[int]:
    """Return where windows begin along an axis; the last one ends at its end.

    The same as MONAI's ``sliding_window_inference``.
    """
    if length <= window:
        return [0]
    interval = max(1, int(window * (1 - overlap)))
    regular = range(0, length - window, interval)
    return [*regular, length - window]


def count_windows(size: Sequence[int], window: Sequence[int], overlap: float) -> int:
    """Return how many windows cover an image of ``size``."""
    axes = zip(size, window, strict=True)
    return math.prod(len(window_starts(n, w, overlap)) for n, w in axes)


def importance(window: Sequence[int], blending: Blending) -> Array:
    """Return the weight of each pixel of a window, all above 0 (MONAI's map)."""
    return np.asarray(compute_importance_map(tuple(window), mode=blending).numpy())


def blended_slabs(
    read: Callable[[tuple[slice, ...]], Array],
    run: Callable[[Array], Array],
    size: Sequence[int],
    window: Sequence[int],
    *,
    overlap: float = 0.25,
    batch: int = 1,
    blending: Blending = "gaussian",
) -> Iterator[tuple[int, Array]]:
    """Yield the weighted mean of overlapping windows, as soon as rows are finished.

    Memory depends on the window and on the other axes, not on the first axis.

    Args:
        read: Returns the image ``(C, *window)`` at these spatial slices.
        run: Returns maps ``(N, K, *window)`` for windows ``(N, C, *window)``.
        size: Of the image ``([Z,] Y, X)``; along each axis at least the window's.
        window: Its size.
        overlap: Of neighbouring windows, as a share of their length.
        batch: Windows per call of ``run``.
        blending: Weights of the windows' pixels.

    Yields:
        Row at which a slab begins along the first axis, and its maps
        ``(K, rows, ...)``. The slabs cover the image without overlap, in order.
    """
    weights = importance(window, blending)
    starts = [window_starts(n, w, overlap) for n, w in zip(size, window, strict=True)]
    total: Array | None = None
    count = np.zeros((window[0], *size[1:]), np.float32)
    for row, after in zip(starts[0], [*starts[0][1:], size[0]], strict=True):
        corners = product([row], *starts[1:])
        while chunk := list(islice(corners, batch)):
            places = [_place(corner, window) for corner in chunk]
            maps = run(np.stack([read(place) for place in places]))
            if total is None:
                total = np.zeros((maps.shape[1], *count.shape), np.float32)
            for place, one in zip(places, maps, strict=True):
                total[(slice(None), slice(None), *place[1:])] += one * weights
                count[(slice(None), *place[1:])] += weights
        assert total is not None  # there is at least one window
        done = after - row
        # In pieces: on a wide image the quotient is as large as the buffer.
        for part in _pieces(done, total[:, 0].size):
            yield row + part.start, total[:, part] / count[part]
        _shift(total, done, axis=1)
        _shift(count, done, axis=0)


def _pieces(rows: int, row_size: int) -> Iterator[slice]:
    step = max(1, PIECE // row_size)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _place(corner: Sequence[int], window: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(c, c + w) for c, w in zip(corner, window, strict=True))


def _shift(array: Array, rows: int, axis: int) -> None:
    """Move the rows from ``rows`` on to the front, in place, and clear the rest."""
    moved = np.moveaxis(array, axis, 0)
    kept = len(moved) - rows
    for row in range(kept):  # front to back: source and target overlap
        moved[row] = moved[row + rows]
    moved[kept:] = 0

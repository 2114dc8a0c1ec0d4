"""What linking needs to know of every cell; the pixels are not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from medseg.errors import ConfigError
from medseg.regions import compact, regions

Mask = NDArray[np.integer]
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, eq=False)
class Cells:
    """All cells of a movie, frame by frame, in each frame in order of place.

    Sorted by centroid and not by label, so that nothing that follows depends on
    how the cells of a frame are numbered.

    Args:
        frames: ``(T,)`` numbers of all frames, also of those without a cell.
        frame: ``(N,)`` index into ``frames`` of each cell.
        label: ``(N,)`` its value in the mask.
        size: ``(N,)`` pixels.
        centroid: ``(N, D)`` array index coordinates ``([z,] y, x)``.
        shared: ``(M, 3)`` cell, cell of the next frame, common pixels.
        shape: Of one frame ``([Z,] Y, X)``.
    """

    frames: NDArray[np.int64]
    frame: NDArray[np.int64]
    label: NDArray[np.int64]
    size: NDArray[np.int64]
    centroid: NDArray[np.float64]
    shared: NDArray[np.int64]
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.frame)

    def starts(self) -> NDArray[np.int64]:
        """Return ``(T + 1,)`` the first cell of each frame, and the number of all."""
        return np.searchsorted(self.frame, np.arange(len(self.frames) + 1))


def observe(
    frames: Iterable[tuple[int, Mask]], progress: Progress | None = None
) -> Cells:
    """Look at every frame once; two masks are held at a time.

    Args:
        frames: Frame number and instance mask ``([Z,] Y, X)``, in order of time.
        progress: Called with the number of frames seen, and None.

    Raises:
        ConfigError: If the frame numbers do not rise or the shapes differ.
    """
    numbers: list[int] = []
    parts: list[tuple[NDArray[np.int64], ...]] = []
    places: list[NDArray[np.float64]] = []
    shared: list[NDArray[np.int64]] = []
    before: Mask | None = None
    rank_before = np.zeros(0, np.int64)
    total = 0
    for number, mask in frames:
        _check(number, mask, numbers, before)
        found = regions(mask)
        order = np.lexsort((found.sizes, *found.centroids.T[::-1]))
        rank = np.empty(len(found), np.int64)
        rank[order] = total + np.arange(len(found))
        if before is not None:
            shared.append(_common(before, mask, rank_before, rank))
        at = np.full(len(found), len(numbers))
        parts.append((at, found.labels[order], found.sizes[order]))
        places.append(found.centroids[order])
        numbers.append(number)
        before, rank_before = mask, rank
        total += len(found)
        if progress is not None:
            progress(len(numbers), None)
    if before is None:
        raise ConfigError("frames", "there are none", "Give at least one mask")
    frame, label, size = map(np.concatenate, zip(*parts, strict=True))
    none = np.zeros((0, 3), np.int64)
    return Cells(
        np.array(numbers),
        frame,
        label,
        size,
        np.concatenate(places),
        np.concatenate([none, *shared]),
        before.shape,
    )


def _check(number: int, mask: Mask, numbers: list[int], before: Mask | None) -> None:
    if numbers and number <= numbers[-1]:
        raise ConfigError(
            "frames", f"frame {number} follows frame {numbers[-1]}", "Sort them"
        )
    if before is not None and mask.shape != before.shape:
        raise ConfigError(
            "frames",
            f"the mask of frame {number} has shape {mask.shape}, that of frame "
            f"{numbers[-1]} {before.shape}",
            "Give masks of one size",
        )


def _common(
    a: Mask, b: Mask, a_rank: NDArray[np.int64], b_rank: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return ``(M, 3)`` the pairs of cells of two frames that share pixels, sorted."""
    i, j = compact(a)[1], compact(b)[1]
    both = (i > 0) & (j > 0)
    ends = (i[both] - 1, j[both] - 1)
    # Sparse: a table of all pairs of 10,000 cells would take 800 MB.
    shape = (len(a_rank), len(b_rank))
    table = coo_array((np.ones(len(ends[0]), np.int64), ends), shape).tocsr().tocoo()
    pairs = np.stack([a_rank[table.row], b_rank[table.col], table.data], axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]

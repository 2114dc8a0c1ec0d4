"""Cells of an image too large to be decoded at once: tiles, and who is who in two.

The image comes slab by slab. Each tile is decoded with a halo around it; of what
is found only the tile itself is written. A cell that crosses into a tile written
before is found in the halo again, and gets one number where each of the two finds
covers more than half of the other in the halo above or beside.

The result is that of decoding the image whole wherever a cell and those that touch
it fit into the halo. A larger cell may have another outline near a tile's edge; its
pieces still meet in the halo and get one number, unless decoding disagrees there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.regions import overlaps

Maps = NDArray[np.float32]
Labels = NDArray[np.int32]
Decode = Callable[[Maps], Labels]
# Pixels that a step over the finished mask takes at a time.
_SLAB = 2**22


class Stitcher:
    """Decodes maps that arrive from top to bottom, in memory of a few tiles.

    Beside the mask itself, which is all of the image, one strip of maps is kept:
    as wide as the image, as high as a tile and two halos.

    Args:
        shape: Of the image ``([Z,] Y, X)``.
        decode: Returns the cells, numbered from 1, of maps ``(K, *block)``.
        tile: Size of a tile along each axis.
        halo: What is decoded around it and not written, along each axis.

    Raises:
        ConfigError: If a length is below 1 or their number is not that of the axes.
    """

    def __init__(
        self,
        shape: Sequence[int],
        decode: Decode,
        tile: Sequence[int],
        halo: Sequence[int],
    ) -> None:
        good = len(tile) == len(halo) == len(shape) and min(*tile, *halo) >= 1
        if not good:
            problem = f"are {tuple(tile)} with halo {tuple(halo)} for {tuple(shape)}"
            raise ConfigError("tiles", problem, "Give 1 pixel or more for each axis")
        self.mask: Labels = np.zeros(tuple(shape), np.int32)
        self._decode = decode
        self._tile, self._halo = tuple(tile), tuple(halo)
        self._parts: list[Maps] = []
        self._first = self._seen = self._row = 0
        self._owner = [0]

    def add(self, maps: Maps) -> None:
        """Take the next rows (slices) ``(K, rows, ...)`` of the maps."""
        self._parts.append(maps)
        self._seen += maps.shape[1]
        height = len(self.mask)
        while self._row < height:
            needed = min(self._row + self._tile[0] + self._halo[0], height)
            if self._seen < needed:
                return
            self._strip(min(self._row + self._tile[0], height))

    def _strip(self, stop: int) -> None:
        """Decode the tiles of the rows from the first undone one to ``stop``."""
        kept = np.concatenate(self._parts, axis=1)
        starts = [
            range(0, n, t) for n, t in zip(self.mask.shape, self._tile, strict=True)
        ]
        for corner in product([self._row], *starts[1:]):
            ends = zip(corner, self._tile, self.mask.shape, strict=True)
            core = [slice(c, min(c + t, n)) for c, t, n in ends]
            sides = zip(core, self._halo, self.mask.shape, strict=True)
            block = [
                slice(max(0, s.start - h), min(n, s.stop + h)) for s, h, n in sides
            ]
            rows = slice(block[0].start - self._first, block[0].stop - self._first)
            found = self._decode(kept[(slice(None), rows, *block[1:])])
            self._write(found, core, block)
        self._row = stop
        first = max(0, stop - self._halo[0])
        self._parts = [kept[:, first - self._first :].copy()]
        self._first = first

    def _write(
        self, found: Labels, core: Sequence[slice], block: Sequence[slice]
    ) -> None:
        count = int(found.max(initial=0))
        base = len(self._owner)
        self._owner += range(base, base + count)
        inner = tuple(
            slice(c.start - b.start, c.stop - b.start)
            for c, b in zip(core, block, strict=True)
        )
        for zone in _zones(inner):
            old = self.mask[tuple(block)][zone]
            for one, other in self._matches(old, found[zone]):
                self._owner[self._root(base + one - 1)] = self._root(other)
        cells = found[inner]
        self.mask[tuple(core)] = np.where(cells > 0, cells + (base - 1), 0)

    def _matches(self, written: Labels, found: Labels) -> list[tuple[int, int]]:
        """Return each new cell that is an older one, and that one."""
        values, place = np.unique(written, return_inverse=True)
        roots = np.array([self._root(int(v)) for v in values], np.int64)
        old = roots[place]
        olds, news, table = overlaps(old, found)
        larger = np.maximum(table.sum(axis=1)[:, None], table.sum(axis=0)[None, :])
        good = (2 * table > larger) & (olds[:, None] > 0) & (news[None, :] > 0)
        return [(int(news[j]), int(olds[i])) for i, j in np.argwhere(good)]

    def _root(self, k: int) -> int:
        while self._owner[k] != k:
            self._owner[k] = self._owner[self._owner[k]]
            k = self._owner[k]
        return k

    def result(self, min_size: int = 0) -> Labels:
        """Return the mask, numbered from 1 by first pixels; the maps must be in.

        Args:
            min_size: Cells of fewer pixels go: pieces that found no other half.
        """
        roots = np.array([self._root(k) for k in range(len(self._owner))])
        sizes = np.zeros(len(roots), np.int64)
        order: list[NDArray[np.int64]] = []
        slabs = _slabs(self.mask)
        for rows in slabs:
            cells = roots[self.mask[rows]]
            sizes += np.bincount(cells.ravel(), minlength=len(roots))
            values, first = np.unique(cells, return_index=True)
            order.append(values[np.argsort(first)])
        ranked = np.concatenate(order)
        # Of the places at which a cell begins in a slab, the first one.
        ranked = ranked[np.sort(np.unique(ranked, return_index=True)[1])]
        ranked = ranked[(ranked > 0) & (sizes[ranked] >= min_size)]
        table = np.zeros(len(roots), np.int32)
        table[ranked] = np.arange(1, len(ranked) + 1)
        table = table[roots]
        for rows in slabs:
            self.mask[rows] = table[self.mask[rows]]
        return self.mask


def _zones(inner: Sequence[slice]) -> Iterator[tuple[slice, ...]]:
    """Yield the parts of a block where older tiles had their say: above, beside."""
    for axis, part in enumerate(inner):
        if part.start:
            yield (*inner[:axis], slice(0, part.start))


def _slabs(mask: Labels) -> list[slice]:
    rows = max(1, _SLAB // max(1, mask[:1].size))
    return [slice(k, k + rows) for k in range(0, len(mask), rows)]

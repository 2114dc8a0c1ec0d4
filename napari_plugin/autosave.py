"""Keep a journal of what changes in a mask, a few tiles at a time.

No Qt here: `MaskWatch` follows one Labels layer through its public events, and
`MaskWatch.save` writes what changed within a time budget, so that it can run in the
GUI thread between two strokes. `medseg.napari_plugin.unsaved` drives it by a timer.

napari tells about painting and about edits by the ``paint`` event, with the place.
About undo and redo it only tells that something was refreshed; the tiles that recent
steps touched are then compared by checksum, so that undo is kept as well.
"""

from __future__ import annotations

import itertools
import math
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.napari_plugin.mask_journal import Box, JournalWriter

if TYPE_CHECKING:
    from napari.layers import Labels

TILE = 128
"""Side of a tile in the last two axes; it is one pixel thick in the others."""

BUDGET_S = 0.02
"""Longest time that one call of `MaskWatch.save` works, to within one tile."""

_STEPS = 200  # napari takes back 100 steps, and does 100 again

Tile = tuple[int, ...]
Range = tuple[range, ...]


class MaskWatch:
    """Follow one Labels layer and journal its changes.

    Args:
        layer: The layer to follow; its data is only read.
        open_journal: Called at the first change; returns the file to write to.
        clean: Whether the layer as it is needs no keeping, as a file holds it. The
            journal then begins with the first change, and the rest of the mask
            follows, so that in the end it does not depend on that file.
        on_change: Called after each change that is not saved yet.
    """

    def __init__(
        self,
        layer: Labels,
        open_journal: Callable[[], JournalWriter],
        *,
        clean: bool = False,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        self.layer = layer
        self._open_journal = open_journal
        self._on_change = on_change
        self.edits = 0
        self.journal: JournalWriter | None = None
        self._start(clean)
        self._connections = (
            (layer.events.paint, self._on_paint),
            (layer.events.set_data, self._on_refresh),
            (layer.events.data, self._on_data),
        )
        for event, callback in self._connections:
            event.connect(callback)
        if not (clean or self._empty):
            self._note_change()

    def _start(self, clean: bool) -> None:
        data = self.layer.data
        self._shape, self._dtype = tuple(data.shape), data.dtype
        self._lazy = not isinstance(data, np.ndarray)
        self._empty = not (clean or self._lazy or data.any())
        self._sums: dict[Tile, int] = {}  # of what the journal holds
        # Tiles to write, True if also where they look empty; what was there before
        # the first change can wait.
        self._urgent: dict[Tile, bool] = {}
        self._rest: dict[Tile, bool] = {}
        self._recent: deque[Range] = deque(maxlen=_STEPS)
        self._refreshed = self._marked = False
        self._clean_start = clean
        self.changed = self.lineage = False

    @property
    def behind(self) -> bool:
        """Whether there may be changes that the journal does not have yet."""
        return self._pending or (self._refreshed and self.changed)

    @property
    def _pending(self) -> bool:
        waiting = self.journal is not None and self.journal.waiting
        return bool(self._urgent or self._rest or waiting)

    def save(self, budget: float = BUDGET_S) -> bool:
        """Journal pending changes for ``budget`` seconds, the newest strokes first.

        Returns:
            Whether everything is in the journal now.

        Raises:
            DiskError: If the disk is full or not writable.
            FileError: On any other failure to write.
        """
        end = time.perf_counter() + budget
        if self._refreshed:
            self._refreshed = False
            for box in self._recent:
                self._add(_tiles(box), forced=False)
        if not self._pending:
            return True
        if self.journal is None:
            self.journal = self._open_journal()
        while pending := self._urgent or self._rest:
            tile, forced = next(iter(pending.items()))
            self._keep(tile, forced)
            del pending[tile]
            if time.perf_counter() >= end:
                break
        if not (self._rest or self._marked or self._lazy):
            self._marked = True
            self.journal.mark_whole()
        done = not (self._urgent or self._rest)
        self.journal.flush(sync=done)
        return done

    def save_all(self) -> None:
        """Journal everything pending, however long it takes."""
        while not self.save(math.inf):
            pass

    def saved(self) -> None:
        """Note that a file holds the mask now: the journal is no longer needed."""
        if self.journal is not None:
            self.journal.remove()
        self.journal = None
        self._start(clean=True)

    def look(self) -> None:
        """Look at all of the mask: something has changed it without a word."""
        self._on_data()

    def wrote(self, index: Sequence[int]) -> None:
        """Note that ``data[index]`` was written without napari's events."""
        box = tuple(
            range(i // k, i // k + 1)
            for i, k in zip(index, _sides(len(self._shape)), strict=False)
        )
        rest = map(range, _grid(self._shape)[len(box) :])
        self._add(_tiles((*box, *rest)), forced=self._clean_start)
        self._note_change()

    def stop(self, *, keep: bool) -> None:
        """Follow the layer no longer; keep its journal or delete it."""
        for event, callback in self._connections:
            event.disconnect(callback)
        if self.journal is not None and not keep:
            self.journal.remove()
        elif self.journal is not None:
            self.journal.close()
        self.journal = None

    def _on_paint(self, event: Any) -> None:
        box = _touched(event.value, self._shape)
        if box is None:  # some other kind of history item: look everywhere
            self._on_data()
            return
        self._recent.append(box)
        self._add(_tiles(box), forced=True)
        self._note_change()

    def _on_refresh(self, event: Any = None) -> None:
        # It comes with undo and redo, and with each change of slice too.
        if self.changed and not self._refreshed:
            self._refreshed = True
            self._tell()

    def _on_data(self, event: Any = None) -> None:
        data = self.layer.data
        if tuple(data.shape) != self._shape or data.dtype != self._dtype:
            # Tiles of the old shape mean nothing now; begin a new journal.
            if self.journal is not None:
                self.journal.remove()
            self.journal = None
            self._start(clean=False)
        self._add(self._all(), forced=self._clean_start)
        self._note_change()

    def _note_change(self) -> None:
        if not self.changed and not self._empty:
            self._rest = dict.fromkeys(self._all(), False)
        self.changed = True
        self.edits += 1
        self._tell()

    def _tell(self) -> None:
        if self._on_change is not None:
            self._on_change()

    def _add(self, tiles: Iterable[Tile], *, forced: bool) -> None:
        for tile in tiles:
            self._urgent[tile] = self._urgent.get(tile, False) or forced

    def _all(self) -> Iterator[Tile]:
        if self._lazy:
            return iter(())  # lazy masks may not fit into memory; their file stays
        return _tiles(tuple(map(range, _grid(self._shape))))

    def _keep(self, tile: Tile, forced: bool) -> None:
        """Write a tile if it is not what the journal has."""
        assert self.journal is not None
        box = _box(tile, self._shape)
        values = np.ascontiguousarray(self.layer.data[box])
        known = self._sums.get(tile)
        if known is None and not forced and not values.any():
            return  # the journal begins empty
        checksum = zlib.crc32(values.data)
        if checksum != known:
            self.journal.add(box, values)
            self._sums[tile] = checksum


def _sides(ndim: int) -> tuple[int, ...]:
    return (1,) * (ndim - 2) + (TILE,) * min(2, ndim)


def _grid(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-(-n // k) for n, k in zip(shape, _sides(len(shape)), strict=True))


def _box(tile: Tile, shape: tuple[int, ...]) -> Box:
    sides = _sides(len(shape))
    return tuple(
        slice(i * k, min(n, (i + 1) * k))
        for i, k, n in zip(tile, sides, shape, strict=True)
    )


def _tiles(box: Range) -> Iterator[Tile]:
    return itertools.product(*box)


def _touched(item: Any, shape: tuple[int, ...]) -> Range | None:
    """Return the tiles that a history item touches; None if it says nothing of it.

    An item is a list of changes. The first entry of each says where: index arrays,
    or slices since napari 0.9.
    """
    found: list[list[tuple[int, int]]] = []
    for change in item or ():
        where = change[0] if isinstance(change, tuple) and change else None
        if not isinstance(where, tuple) or len(where) != len(shape):
            return None
        sides = [_ends(w, n) for w, n in zip(where, shape, strict=True)]
        if any(s is None for s in sides):
            return None
        found.append([s for s in sides if s is not None])
    if not found:
        return None
    return tuple(
        range(min(s[0] for s in axis) // k, max(s[1] for s in axis) // k + 1)
        for axis, k in zip(zip(*found, strict=True), _sides(len(shape)), strict=True)
    )


def _ends(where: Any, size: int) -> tuple[int, int] | None:
    """Return the first and last index along one axis."""
    if isinstance(where, slice):
        start, stop, _ = where.indices(size)
        return start, max(start, stop - 1)
    indices = np.asarray(where)
    if indices.dtype.kind not in "iu" or not indices.size:
        return None
    return int(indices.min()), int(indices.max())

"""A lineage that changes, with undo. No Qt, no napari."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from medseg.lineage import TrackGraph

_STEPS = 200
# Its name, and the edges on the other side of it: the nodes are always the same.
_Step: TypeAlias = tuple[str, NDArray[np.int64]]


class LineageEditor:
    """A lineage that changes, and what it was before.

    Attributes:
        changed: Emitted after every change.
        edited: Emitted after a change of a lineage that was there, by a person.
    """

    changed = Signal()
    edited = Signal()

    def __init__(self) -> None:
        self._graph: TrackGraph | None = None
        self._before: list[_Step] = []
        self._after: list[_Step] = []

    @property
    def graph(self) -> TrackGraph | None:
        """The lineage as it is now."""
        return self._graph

    @property
    def undo_name(self) -> str:
        """What `undo` takes back; empty if there is nothing."""
        return self._before[-1][0] if self._before else ""

    @property
    def redo_name(self) -> str:
        """What `redo` does again; empty if there is nothing."""
        return self._after[-1][0] if self._after else ""

    def set(self, graph: TrackGraph | None) -> None:
        """Begin with another lineage; nothing can be undone."""
        self._graph = graph
        self._before.clear()
        self._after.clear()
        self.changed.emit()

    def put(self, graph: TrackGraph, name: str) -> None:
        """Change the lineage, as a step that can be undone."""
        before = self._graph
        if before is not None:
            self._before.append((name, before.edges))
            del self._before[:-_STEPS]
        self._after.clear()
        self._graph = graph
        self.changed.emit()
        if before is not None:
            self.edited.emit()

    def carry(self, now: TrackGraph, new_of: NDArray[np.int64]) -> None:
        """Take the lineage and all its steps over to other masks.

        Links of cells that are gone go; new cells have none.

        Args:
            now: The cells of the masks now.
            new_of: ``(N,)`` which of them each node is, -1 if it is gone.
        """
        if self._graph is None:
            return

        def move(edges: NDArray[np.int64]) -> NDArray[np.int64]:
            moved = new_of[edges]
            return moved[(moved >= 0).all(axis=1)]

        self._before = [(name, move(edges)) for name, edges in self._before]
        self._after = [(name, move(edges)) for name, edges in self._after]
        self._graph = replace(now, edges=move(self._graph.edges))
        self.changed.emit()

    def undo(self) -> str:
        """Take the last step back; return what it was."""
        return self._step(self._before, self._after)

    def redo(self) -> str:
        """Do the last step taken back again; return what it was."""
        return self._step(self._after, self._before)

    def _step(self, source: list[_Step], target: list[_Step]) -> str:
        if not source or self._graph is None:
            return ""
        name, edges = source.pop()
        target.append((name, self._graph.edges))
        self._graph = replace(self._graph, edges=edges)
        self.changed.emit()
        self.edited.emit()
        return name

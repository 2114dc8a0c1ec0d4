"""Cells through time: the rows of a track table, and the lineage as a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.errors import ConfigError


@dataclass(frozen=True)
class TrackRow:
    """One line ``L B E P`` of a Cell Tracking Challenge track table.

    Args:
        label: Number of the track in the masks, from 1.
        begin: First frame of the track.
        end: Last frame, included.
        parent: Label of the track that it divided from; 0 for none.
    """

    label: int
    begin: int
    end: int
    parent: int = 0


@dataclass(frozen=True, eq=False)
class TrackGraph:
    """Cells of a movie (nodes) and which is which later on (edges).

    A track is a longest chain of nodes without a division and without a missing
    frame: two edges out of one node are a division, an edge that skips frames is a
    gap that was closed. Both end a track and make what follows its children, which
    is also how the challenge's tables express them.

    Args:
        frame: ``(N,)`` frame number of each node.
        label: ``(N,)`` value of the cell in the mask of that frame.
        centroid: ``(N, D)`` array index coordinates ``([z,] y, x)``.
        edges: ``(E, 2)`` rows of the nodes, the earlier one first.

    Raises:
        ConfigError: If shapes disagree, a cell is in a frame twice, an edge names
            no node or goes back in time, or a node has two edges into it.
    """

    frame: NDArray[np.int64]
    label: NDArray[np.int64]
    centroid: NDArray[np.float64]
    edges: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name, kind in (("frame", np.int64), ("label", np.int64)):
            object.__setattr__(self, name, _array(getattr(self, name), kind, (-1,)))
        n = len(self.frame)
        points = np.asarray(self.centroid, np.float64)
        points = points.reshape(n, points.shape[-1] if points.ndim == 2 else 2)
        object.__setattr__(self, "centroid", points)
        object.__setattr__(self, "edges", _array(self.edges, np.int64, (-1, 2)))
        if len(self.label) != n:
            raise ConfigError("tracks", f"{n} frames for {len(self.label)} labels")
        self._check_nodes()
        self._check_edges()

    def _check_nodes(self) -> None:
        order = np.lexsort((self.label, self.frame))
        f, v = self.frame[order], self.label[order]
        twice = np.flatnonzero((np.diff(f) == 0) & (np.diff(v) == 0))
        if len(twice):
            raise ConfigError(
                "tracks", f"label {v[twice[0]]} is in frame {f[twice[0]]} twice"
            )

    def _check_edges(self) -> None:
        if not len(self.edges):
            return
        if self.edges.min() < 0 or self.edges.max() >= len(self.frame):
            raise ConfigError(
                "tracks.edges",
                f"name nodes {self.edges.min()} to {self.edges.max()} "
                f"of {len(self.frame)}",
            )
        early, late = self.frame[self.edges].T
        bad = np.flatnonzero(late <= early)
        if len(bad):
            a, b = early[bad[0]], late[bad[0]]
            raise ConfigError("tracks.edges", f"one goes from frame {a} to frame {b}")
        nodes, count = np.unique(self.edges[:, 1], return_counts=True)
        if count.max() > 1:
            node = nodes[count.argmax()]
            raise ConfigError(
                "tracks.edges",
                f"label {self.label[node]} of frame {self.frame[node]} has "
                f"{count.max()} edges into it",
                "Cells divide, they do not merge",
            )

    def __len__(self) -> int:
        return len(self.frame)

    @classmethod
    def from_rows(
        cls,
        rows: Sequence[TrackRow],
        frame: ArrayLike,
        label: ArrayLike,
        centroid: ArrayLike,
    ) -> Self:
        """Return the graph of masks whose values are already track numbers.

        Args:
            rows: The track table.
            frame: ``(N,)`` frame of each node.
            label: ``(N,)`` its value in the mask.
            centroid: ``(N, D)``.

        Raises:
            ConfigError: If a mask label has no row, or a parent no node before
                its child.
        """
        frames, labels = np.asarray(frame, np.int64), np.asarray(label, np.int64)
        known = {row.label for row in rows}
        unknown = np.flatnonzero(~np.isin(labels, list(known)))
        if len(unknown):
            at = unknown[0]
            raise ConfigError(
                "tracks", f"label {labels[at]} of frame {frames[at]} is in no row"
            )
        order = np.lexsort((frames, labels))
        same = np.diff(labels[order]) == 0
        chain = np.stack([order[:-1][same], order[1:][same]], axis=1)
        begins = np.concatenate([[True], ~same]) if len(order) else np.zeros(0, bool)
        first = {int(labels[i]): int(i) for i in order[begins]}
        last = {int(labels[i]): int(i) for i in order}
        births = []
        for row in rows:
            if not row.parent or row.label not in first:
                continue
            mother = last.get(row.parent)
            child = first[row.label]
            if mother is None or frames[mother] >= frames[child]:
                raise ConfigError(
                    "tracks",
                    f"track {row.label} begins in frame {frames[child]}, its parent "
                    f"{row.parent} is not there before",
                )
            births.append((mother, child))
        edges = np.concatenate([chain, np.array(births, np.int64).reshape(-1, 2)])
        return cls(frames, labels, np.asarray(centroid, np.float64), edges)

    def predecessors(self) -> NDArray[np.int64]:
        """Return ``(N,)`` the node before each node, -1 where there is none."""
        before = np.full(len(self), -1, np.int64)
        before[self.edges[:, 1]] = self.edges[:, 0]
        return before

    def divisions(self) -> NDArray[np.int64]:
        """Return the nodes with two or more edges out of them, in order of time."""
        nodes, count = np.unique(self.edges[:, 0], return_counts=True)
        nodes = nodes[count > 1]
        return nodes[np.lexsort((self.label[nodes], self.frame[nodes]))]

    def unbranched(self) -> NDArray[np.bool_]:
        """Return ``(E,)`` which edges are no part of a division."""
        out = np.bincount(self.edges[:, 0], minlength=len(self))
        return out[self.edges[:, 0]] == 1

    def gaps(self) -> NDArray[np.int64]:
        """Return ``(G, 2)`` the edges that skip frames."""
        early, late = self.frame[self.edges].T
        return self.edges[late - early > 1]

    def track_ids(self) -> NDArray[np.int64]:
        """Return ``(N,)`` the track of each node, from 1.

        Tracks are numbered by their first frame, then by the label there.
        """
        head = np.arange(len(self))
        inner = self.edges[self._inner_edges()]
        head[inner[:, 1]] = inner[:, 0]
        while (head != head[head]).any():  # each round doubles the steps taken
            head = head[head]
        order = np.lexsort((self.label, self.frame))
        begins = order[head[order] == order]
        ids = np.zeros(len(self), np.int64)
        ids[begins] = np.arange(1, len(begins) + 1)
        return ids[head]

    def _inner_edges(self) -> NDArray[np.bool_]:
        """Return ``(E,)`` which edges run inside one track."""
        early, late = self.frame[self.edges].T
        return self.unbranched() & (late - early == 1)

    def rows(self) -> tuple[TrackRow, ...]:
        """Return the track table, in the order of the track numbers."""
        if not len(self):
            return ()
        ids, parents = self.track_ids(), self.parents()
        begin = np.full(ids.max() + 1, np.iinfo(np.int64).max)
        end = np.full(ids.max() + 1, -1)
        np.minimum.at(begin, ids, self.frame)
        np.maximum.at(end, ids, self.frame)
        return tuple(
            TrackRow(i, int(begin[i]), int(end[i]), parents.get(i, 0))
            for i in range(1, len(begin))
        )

    def parents(self) -> dict[int, int]:
        """Return the parent of each track that has one."""
        ids = self.track_ids()
        between = self.edges[~self._inner_edges()]
        return {int(ids[b]): int(ids[a]) for a, b in between}


def _array(values: ArrayLike, kind: type, shape: tuple[int, ...]) -> NDArray[np.int64]:
    return np.asarray(values, kind).reshape(shape)

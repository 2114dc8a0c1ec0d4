"""Edit a lineage by hand: links, divisions, swaps. No Qt, no napari.

Every function returns a new `TrackGraph`; nodes are rows of the graph, and the order
of the nodes never changes, so that a selection stays good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.lineage import TrackGraph

_FIELD = "tracks"


def link(graph: TrackGraph, one: int, other: int) -> TrackGraph:
    """Make the later of two cells the same cell as the earlier one.

    Other links out of the earlier and into the later cell are cut.

    Raises:
        ConfigError: If both are in one frame.
    """
    a, b = in_time(graph, one, other)
    kept = graph.edges[(graph.edges[:, 0] != a) & (graph.edges[:, 1] != b)]
    return _with_edges(graph, kept, [(a, b)])


def cut_before(graph: TrackGraph, node: int) -> TrackGraph:
    """Cut the link into a cell: a new track begins with it.

    Raises:
        ConfigError: If none leads to it.
    """
    kept = graph.edges[graph.edges[:, 1] != node]
    if len(kept) == len(graph.edges):
        raise ConfigError(_FIELD, f"no link leads to {name_of(graph, node)}")
    return _with_edges(graph, kept)


def cut_between(graph: TrackGraph, one: int, other: int) -> TrackGraph:
    """Cut the link between two cells.

    Raises:
        ConfigError: If there is none.
    """
    pair = in_time(graph, one, other)
    kept = graph.edges[(graph.edges != pair).any(axis=1)]
    if len(kept) == len(graph.edges):
        names = " and ".join(name_of(graph, n) for n in pair)
        raise ConfigError(_FIELD, f"{names} are not linked")
    return _with_edges(graph, kept)


def divide(graph: TrackGraph, one: int, other: int) -> TrackGraph:
    """Make the later of two cells one more daughter of the earlier one.

    Raises:
        ConfigError: If both are in one frame, the mother has no link yet, already
            leads to this cell, or has two daughters.
    """
    a, b = in_time(graph, one, other)
    daughters = graph.edges[graph.edges[:, 0] == a, 1]
    mother = name_of(graph, a)
    if b in daughters:
        raise ConfigError(
            _FIELD, f"{mother} leads to {name_of(graph, b)} already", "Choose the other"
        )
    if len(daughters) != 1:
        remedy = "Link the first daughter" if not len(daughters) else "Undivide first"
        raise ConfigError(_FIELD, f"{mother} has {len(daughters)} daughters", remedy)
    kept = graph.edges[graph.edges[:, 1] != b]
    return _with_edges(graph, kept, [(a, b)])


def undivide(graph: TrackGraph, mother: int, daughter: int | None = None) -> TrackGraph:
    """Take a division back: one daughter becomes a track of its own.

    Args:
        graph: The lineage.
        mother: The cell that divides.
        daughter: The one to part; by default the one farther from the mother.

    Raises:
        ConfigError: If the cell does not divide, or the other is no daughter of it.
    """
    daughters = graph.edges[graph.edges[:, 0] == mother, 1]
    if len(daughters) < 2:
        remedy = "Choose the last cell before the division"
        raise ConfigError(_FIELD, f"{name_of(graph, mother)} does not divide", remedy)
    if daughter is None:
        steps = graph.centroid[daughters] - graph.centroid[mother]
        daughter = int(daughters[np.linalg.norm(steps, axis=1).argmax()])
    elif daughter not in daughters:
        names = f"{name_of(graph, daughter)} is no daughter of {name_of(graph, mother)}"
        raise ConfigError(_FIELD, names)
    return cut_before(graph, daughter)


def swap(graph: TrackGraph, one: int, other: int) -> TrackGraph:
    """Exchange two cells of one frame: what came before each, from this frame on.

    Raises:
        ConfigError: If they are of different frames, one cell, or both begin here.
    """
    if one == other or graph.frame[one] != graph.frame[other]:
        raise ConfigError(_FIELD, "a swap needs two cells of one frame", "Pick two")
    edges = graph.edges.copy()
    into_one, into_other = edges[:, 1] == one, edges[:, 1] == other
    if not (into_one | into_other).any():
        names = f"{name_of(graph, one)} and {name_of(graph, other)}"
        raise ConfigError(_FIELD, f"{names} have nothing before them to swap")
    edges[into_one, 1], edges[into_other, 1] = other, one
    return replace(graph, edges=edges)


def merge(graph: TrackGraph, one: int, other: int) -> TrackGraph:
    """Make the tracks of two cells one: the end of one leads to the other's begin.

    Raises:
        ConfigError: If they are one track or there at the same time.
    """
    ids = graph.track_ids()
    first, second = (np.flatnonzero(ids == ids[n]) for n in (one, other))
    if ids[one] == ids[other]:
        raise ConfigError(_FIELD, f"both cells are of track {ids[one]}", "Pick another")
    if graph.frame[first].min() > graph.frame[second].min():
        first, second = second, first
    last = first[graph.frame[first].argmax()]
    begin = second[graph.frame[second].argmin()]
    if graph.frame[last] >= graph.frame[begin]:
        raise ConfigError(
            _FIELD,
            f"track {ids[last]} ends in frame {graph.frame[last]}, track {ids[begin]} "
            f"begins in frame {graph.frame[begin]}",
            "Only tracks that follow each other are merged",
        )
    return link(graph, int(last), int(begin))


def match_cells(graph: TrackGraph, now: TrackGraph) -> NDArray[np.int64]:
    """Return ``(N,)`` which cell of other masks each node is now, -1 if it is gone.

    A cell is the one that it was where its centre has not moved (it may have got
    another number), else where its number is the same.

    Args:
        graph: The lineage of the masks before they were painted or renumbered.
        now: The cells of the masks now.
    """
    new_of = np.full(len(graph), -1, np.int64)
    taken = np.zeros(len(now), bool)
    for keys in (_places, _numbers):
        rows = {key: i for i, key in enumerate(keys(now)) if not taken[i]}
        for node, key in enumerate(keys(graph)):
            if new_of[node] < 0 and key in rows:
                new_of[node] = rows.pop(key)
                taken[new_of[node]] = True
    return new_of


def _places(graph: TrackGraph) -> list[tuple[float, ...]]:
    rounded = np.round(graph.centroid, 6).tolist()
    return [(f, *c) for f, c in zip(graph.frame.tolist(), rounded, strict=True)]


def _numbers(graph: TrackGraph) -> list[tuple[float, ...]]:
    return list(zip(graph.frame.tolist(), graph.label.tolist(), strict=True))


def in_time(graph: TrackGraph, one: int, other: int) -> tuple[int, int]:
    """Return two nodes, the earlier one first.

    Raises:
        ConfigError: If both are in one frame.
    """
    if graph.frame[one] == graph.frame[other]:
        raise ConfigError(
            _FIELD,
            f"both cells are in frame {graph.frame[one]}",
            "Pick cells of two frames",
        )
    return (one, other) if graph.frame[one] < graph.frame[other] else (other, one)


def name_of(graph: TrackGraph, node: int) -> str:
    """Return a cell in words."""
    return f"cell {graph.label[node]} of frame {graph.frame[node]}"


def _with_edges(
    graph: TrackGraph,
    kept: NDArray[np.int64],
    more: Sequence[tuple[int, int]] = (),
) -> TrackGraph:
    added = np.array(more, np.int64).reshape(-1, 2)
    return replace(graph, edges=np.concatenate([kept, added]))

"""What in a lineage a person should look at first. No Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medseg.lineage import TrackGraph

EventKind = Literal["jump", "size", "short", "appears", "disappears", "division", "gap"]
MEANING: dict[EventKind, str] = {
    "jump": "moves much farther than cells of this movie do",
    "size": "changes its size at once: two cells in one, or half a cell",
    "short": "a track of very few frames: often a wrong mask",
    "appears": "begins away from the border and from no division",
    "disappears": "ends away from the border",
    "division": "daughters of very unequal size, or not of the mother's size",
    "gap": "the cell was missing for some frames in between",
}
SHORT = 3
# In robust deviations above the median; sizes by their ratio.
_FAR = 4.0
_RATIO = 1.6
_BORDER = 1.0  # diameters
_CUT = 0.6
_WHOLE = 1.8  # of both daughters to the mother, or the reverse
# How bad an event of a kind is at its threshold; how far it is beyond adds to it.
_BASE: dict[EventKind, float] = {
    "division": 3.0,
    "jump": 2.5,
    "size": 2.0,
    "appears": 1.8,
    "disappears": 1.6,
    "short": 1.5,
    "gap": 1.0,
}


@dataclass(frozen=True)
class Event:
    """One suspicious place of a lineage.

    Args:
        kind: See `MEANING`.
        node: Row of the graph.
        frame: Of the node.
        label: Of the node in the mask.
        track: Its track.
        score: The worse the higher.
        text: What is odd, with numbers.
    """

    kind: EventKind
    node: int
    frame: int
    label: int
    track: int
    score: float
    text: str


def find_events(
    graph: TrackGraph,
    size: NDArray[np.int64],
    shape: tuple[int, ...],
    span: tuple[int, int] | None = None,
) -> list[Event]:
    """Return the suspicious places of a lineage, the worst first.

    Args:
        graph: The lineage.
        size: ``(N,)`` pixels of each cell.
        shape: Of a frame ``([Z,] Y, X)``; a track may begin and end at its border.
        span: First and last frame of the movie; by default those with cells.
    """
    if not len(graph):
        return []
    ids = graph.track_ids()
    found: list[tuple[EventKind, int, float, str]] = [
        *_jumps(graph),
        *_sizes(graph, size, _from_border(graph, size, shape)),
        *_divisions(graph, size, _from_border(graph, size, shape)),
        *_gaps(graph),
        *_ends(graph, ids, size, shape, span),
    ]
    events = [
        Event(
            kind,
            node,
            int(graph.frame[node]),
            int(graph.label[node]),
            int(ids[node]),
            round(_BASE[kind] + float(excess), 3),
            text,
        )
        for kind, node, excess, text in found
    ]
    return sorted(events, key=lambda e: (-e.score, e.frame, e.label, e.kind))


Found = list[tuple[EventKind, int, float, str]]


def _jumps(graph: TrackGraph) -> Found:
    edges = graph.edges[graph.unbranched()]
    if len(edges) < 2:
        return []
    lags = graph.frame[edges[:, 1]] - graph.frame[edges[:, 0]]
    steps = graph.centroid[edges[:, 1]] - graph.centroid[edges[:, 0]]
    far = np.linalg.norm(steps, axis=1) / np.sqrt(lags)
    typical = float(np.median(far))
    # Half a pixel at least: the masks of still cells wobble by that.
    spread = max(1.4826 * float(np.median(np.abs(far - typical))), 0.5)
    over = (far - typical) / spread
    return [
        (
            "jump",
            int(edges[i, 1]),
            float(np.log2(over[i] / _FAR)),
            f"{far[i]:.1f} px, median {typical:.1f}",
        )
        for i in np.flatnonzero(over > _FAR).tolist()
    ]


def _sizes(
    graph: TrackGraph, size: NDArray[np.int64], inside: NDArray[np.float64]
) -> Found:
    """Return sudden changes of size; cells that the border cuts may change."""
    edges = graph.edges[graph.unbranched()]
    edges = edges[inside[edges].min(axis=1) > _CUT]
    before, after = size[edges[:, 0]], size[edges[:, 1]]
    change = np.maximum(before, after) / np.maximum(np.minimum(before, after), 1)
    return [
        (
            "size",
            int(edges[i, 1]),
            float(np.log2(change[i] / _RATIO)),
            f"{before[i]} to {after[i]} px",
        )
        for i in np.flatnonzero(change > _RATIO).tolist()
    ]


def _divisions(
    graph: TrackGraph, size: NDArray[np.int64], inside: NDArray[np.float64]
) -> Found:
    found: Found = []
    for mother in graph.divisions().tolist():
        daughters = graph.edges[graph.edges[:, 0] == mother, 1]
        sizes = size[daughters]
        unequal = sizes.max() / max(int(sizes.min()), 1)
        whole = sizes.sum() / size[mother]
        off = max(unequal / _RATIO, whole / _WHOLE, 1 / whole / _WHOLE)
        cut = min(inside[mother], inside[daughters].min()) <= _CUT
        if len(daughters) > 2 or (off > 1 and not cut):
            parts = " + ".join(map(str, sizes.tolist()))
            extra = float(np.log2(max(off, 1))) + len(daughters) - 2
            found.append(
                ("division", mother, extra, f"{size[mother]} px to {parts} px")
            )
    return found


def _gaps(graph: TrackGraph) -> Found:
    found: Found = []
    for a, b in graph.gaps().tolist():
        missing = int(graph.frame[b] - graph.frame[a]) - 1
        text = f"missing for {missing} frame{'s' * (missing > 1)}"
        found.append(("gap", b, 0.2 * (missing - 1), text))
    return found


def _ends(
    graph: TrackGraph,
    ids: NDArray[np.int64],
    size: NDArray[np.int64],
    shape: tuple[int, ...],
    span: tuple[int, int] | None,
) -> Found:
    first, last = span or (int(graph.frame.min()), int(graph.frame.max()))
    inside = _from_border(graph, size, shape)
    has_parent = np.zeros(len(graph), bool)
    has_parent[graph.edges[:, 1]] = True
    has_child = np.zeros(len(graph), bool)
    has_child[graph.edges[:, 0]] = True
    found: Found = []
    for node in np.flatnonzero(~has_parent & (graph.frame > first)).tolist():
        if inside[node] > _BORDER:
            text = f"begins {inside[node]:.1f} diameters from the border"
            found.append(("appears", node, 0.1 * min(inside[node], 5), text))
    for node in np.flatnonzero(~has_child & (graph.frame < last)).tolist():
        if inside[node] > _BORDER:
            text = f"ends {inside[node]:.1f} diameters from the border"
            found.append(("disappears", node, 0.1 * min(inside[node], 5), text))
    return found + _short(graph, ids, has_parent, has_child, (first, last))


def _short(
    graph: TrackGraph,
    ids: NDArray[np.int64],
    has_parent: NDArray[np.bool_],
    has_child: NDArray[np.bool_],
    span: tuple[int, int],
) -> Found:
    """Return tracks of a few frames that neither the movie nor a lineage cuts."""
    found: Found = []
    for row in graph.rows():
        length = row.end - row.begin + 1
        if length >= SHORT or row.begin == span[0] or row.end == span[1]:
            continue
        nodes = np.flatnonzero(ids == row.label)
        head = int(nodes[graph.frame[nodes].argmin()])
        tail = int(nodes[graph.frame[nodes].argmax()])
        if has_parent[head] and has_child[tail]:
            continue
        text = f"{length} frame{'s' * (length > 1)}"
        found.append(("short", head, 0.3 * (SHORT - length), text))
    return found


def _from_border(
    graph: TrackGraph, size: NDArray[np.int64], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return ``(N,)`` distances of the centres from the border, in diameters.

    The ends of a stack in z are a border too.
    """
    high = np.array(shape, float) - 1
    away = np.minimum(graph.centroid, high - graph.centroid).min(axis=1)
    dims = len(shape)
    radius = size / np.pi if dims == 2 else 3 * size / (4 * np.pi)
    return away / np.maximum(2 * radius ** (1 / dims), 1)

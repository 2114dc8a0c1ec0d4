"""The measures of the Cell Tracking Challenge: SEG, DET, TRA, OP_CSB, OP_CTB.

A reference cell R is matched by the result cell S that covers more than half of
it. SEG is the mean IoU of all reference cells with their match. DET and TRA count
what it takes to turn the result's graph into the reference's (acyclic oriented
graph matching, Matula et al. 2015, doi:10.1371/journal.pone.0144959).

The counting is our own and not a call of py-ctcmetrics: it takes one frame at a
time, names every single error with its place, and gives an empty result 0 where
that package raises IndexError. The tests compare the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.lineage import TrackRow
from medseg.metrics.ctc_errors import CtcError, ErrorKind
from medseg.metrics.ctc_match import Match, match

Mask = NDArray[np.integer]
Frame = tuple[int, Mask, Mask]

# Matula et al. 2015: what a person's correction costs.
WEIGHTS: dict[ErrorKind, float] = {
    "split": 5.0,
    "missed": 10.0,
    "extra": 1.0,
    "edge_extra": 1.0,
    "edge_missed": 1.5,
    "edge_changed": 1.0,
}
_NODES: tuple[ErrorKind, ...] = ("split", "missed", "extra")
_EDGES: tuple[ErrorKind, ...] = ("edge_extra", "edge_missed", "edge_changed")
NAN = float("nan")


@dataclass(frozen=True)
class CtcScore:
    """The measures of one sequence.

    Args:
        name: Of the sequence.
        overlaps: Sum of the IoU of all matched cells of the gold segmentation.
        segmented: Its cells; 0 where there is none, and SEG is NaN.
        nodes: Cells of the reference, over all frames.
        edges: Links of the reference.
        errors: Every single error.
        failed: No result at all; all measures are 0.
    """

    name: str
    overlaps: float = 0.0
    segmented: int = 0
    nodes: int = 0
    edges: int = 0
    errors: tuple[CtcError, ...] = field(default=(), repr=False)
    failed: bool = False

    def count(self, kind: ErrorKind) -> int:
        """Return the number of errors of one kind."""
        return sum(error.kind == kind for error in self.errors)

    def cost(self, kinds: Iterable[ErrorKind] = (*_NODES, *_EDGES)) -> float:
        """Return the weighted number of errors; of all kinds it is the AOGM."""
        return float(sum(WEIGHTS[kind] * self.count(kind) for kind in kinds))

    @property
    def seg(self) -> float:
        """Mean IoU over the cells of the gold segmentation."""
        return self.overlaps / self.segmented if self.segmented else NAN

    @property
    def det(self) -> float:
        """Share of the reference's nodes that need no making."""
        return _share(self.cost(_NODES), WEIGHTS["missed"] * self.nodes)

    @property
    def lnk(self) -> float:
        """As `det`, for the edges between nodes that were found."""
        return _share(self.cost(_EDGES), WEIGHTS["edge_missed"] * self.edges)

    @property
    def aogm0(self) -> float:
        """Cost of making the reference from nothing."""
        return WEIGHTS["missed"] * self.nodes + WEIGHTS["edge_missed"] * self.edges

    @property
    def tra(self) -> float:
        """As `det`, for nodes and edges together."""
        return _share(self.cost(), self.aogm0)

    @property
    def op_csb(self) -> float:
        """Mean of SEG and DET."""
        return (self.seg + self.det) / 2

    @property
    def op_ctb(self) -> float:
        """Mean of SEG and TRA."""
        return (self.seg + self.tra) / 2

    def to_row(self) -> dict[str, float | int | str]:
        """Return the measures and the counts by the challenge's names."""
        return {
            "sequence": self.name,
            "SEG": self.seg,
            "DET": self.det,
            "TRA": self.tra,
            "LNK": self.lnk,
            "OP_CSB": self.op_csb,
            "OP_CTB": self.op_ctb,
            "AOGM": self.cost(),
            "AOGM0": self.aogm0,
            **{kind: self.count(kind) for kind in (*_NODES, *_EDGES)},
            "nodes": self.nodes,
            "edges": self.edges,
            "segmented": self.segmented,
            "failed": int(self.failed),
        }


def _share(cost: float, whole: float) -> float:
    return 1 - min(cost, whole) / whole if whole else NAN


def score_tracking(
    frames: Iterable[Frame],
    truth_rows: Sequence[TrackRow],
    result_rows: Sequence[TrackRow],
) -> tuple[int, int, tuple[CtcError, ...]]:
    """Compare a result with the tracking reference, one frame at a time.

    Args:
        frames: Frame number, reference mask and result mask ``([Z,] Y, X)`` of
            every frame, in order of time.
        truth_rows: Track table of the reference.
        result_rows: Track table of the result.

    Returns:
        Number of reference nodes and edges, and all errors.

    Raises:
        ConfigError: If the masks of a frame differ in shape, or a table names a
            parent that its masks do not have at that time.
    """
    matches: list[tuple[int, Match]] = []
    for number, truth, result in frames:
        matches.append((number, match(truth, result)))
    theirs = _Graph.of(truth_rows, [(t, m.truth_labels) for t, m in matches], "truth")
    ours = _Graph.of(result_rows, [(t, m.result_labels) for t, m in matches], "result")
    errors, twin = _node_errors(matches)
    errors += _edge_errors(theirs, ours, twin, _places(matches))
    nodes = sum(len(m.truth_labels) for _, m in matches)
    return nodes, len(theirs.edges), tuple(errors)


def score_segmentation(pairs: Iterable[tuple[Mask, Mask]]) -> tuple[float, int]:
    """Return the sum of the IoU of matched cells, and the number of reference cells.

    Args:
        pairs: Gold segmentation and result ``([Z,] Y, X)`` of each gold frame.
    """
    total, cells = 0.0, 0
    for truth, result in pairs:
        found = match(truth, result)
        total += float(found.iou.sum())
        cells += len(found.truth_labels)
    return total, cells


Node = tuple[int, int]  # frame, label
Edge = tuple[Node, Node]


@dataclass(frozen=True)
class _Graph:
    """Edges with their meaning: True for a parent link, False inside a track."""

    edges: dict[Edge, bool]

    @classmethod
    def of(
        cls,
        rows: Sequence[TrackRow],
        labels: Sequence[tuple[int, NDArray[np.int64]]],
        name: str,
    ) -> _Graph:
        present = {t: set(found.tolist()) for t, found in labels}
        edges: dict[Edge, bool] = {}
        times = list(present)
        for early, late in pairwise(times):
            for label in sorted(present[early] & present[late]):
                edges[(early, label), (late, label)] = False
        ends = {row.label: row.end for row in rows}
        for row in rows:
            if not row.parent:
                continue
            mother = (ends.get(row.parent, -1), row.parent)
            child = (row.begin, row.label)
            for frame, label in (mother, child):
                if label not in present.get(frame, ()):
                    raise _unknown_node(name, row, frame, label, times)
            edges[mother, child] = True
        return cls(edges)


def _unknown_node(
    name: str, row: TrackRow, frame: int, label: int, times: Sequence[int]
) -> ConfigError:
    """Return the error of a division whose mother or daughter no mask holds."""
    problem = f"track {row.label} has the parent {row.parent}, and"
    first, last = min(times), max(times)
    if frame < 0 or first <= frame <= last:
        problem += f" label {label} is not in the mask of frame {frame}"
        return ConfigError(name, problem, "Validate the track table")
    problem += f" frame {frame} is not compared, only {first} to {last}"
    return ConfigError(name, problem, f"Add --frames {first}-{last}")


def _node_errors(
    matches: Sequence[tuple[int, Match]],
) -> tuple[list[CtcError], dict[Node, Node]]:
    """Return the errors of nodes, and the reference node of each single match."""
    splits, missed, extra = [], [], []
    twin: dict[Node, Node] = {}
    for t, m in matches:
        partners: dict[int, list[int]] = {int(s): [] for s in m.result_labels}
        for truth, result in m.pairs.tolist():
            partners[result].append(truth)
        found = set(m.pairs[:, 0].tolist())
        for label, place in zip(m.truth_labels.tolist(), m.truth_places, strict=True):
            if label not in found:
                missed.append(CtcError("missed", t, label, tuple(place.tolist())))
        for label, place in zip(m.result_labels.tolist(), m.result_places, strict=True):
            cells = partners[label]
            if not cells:
                extra.append(CtcError("extra", t, label, tuple(place.tolist())))
            elif len(cells) == 1:
                twin[t, label] = (t, cells[0])
            else:  # one operation less than the cells that it covers
                split = CtcError("split", t, label, tuple(place.tolist()))
                splits += [split] * (len(cells) - 1)
    return splits + missed + extra, twin


def _places(
    matches: Sequence[tuple[int, Match]],
) -> dict[str, dict[Node, tuple[float, ...]]]:
    truth = {
        (t, int(label)): tuple(place.tolist())
        for t, m in matches
        for label, place in zip(m.truth_labels, m.truth_places, strict=True)
    }
    result = {
        (t, int(label)): tuple(place.tolist())
        for t, m in matches
        for label, place in zip(m.result_labels, m.result_places, strict=True)
    }
    return {"truth": truth, "result": result}


def _edge_errors(
    theirs: _Graph,
    ours: _Graph,
    twin: dict[Node, Node],
    places: dict[str, dict[Node, tuple[float, ...]]],
) -> list[CtcError]:
    """Return the errors of edges; ours between nodes without a twin do not count."""

    def error(kind: ErrorKind, edge: Edge, side: str) -> CtcError:
        (early, label), (late, after) = edge
        place = places[side][late, after]
        return CtcError(kind, late, after, place, early, label)

    extra, changed = [], []
    seen: set[Edge] = set()
    for edge, parent in ours.edges.items():
        early, late = edge
        if early not in twin or late not in twin:
            continue
        image = (twin[early], twin[late])
        seen.add(image)
        if image not in theirs.edges:
            extra.append(error("edge_extra", edge, "result"))
        elif theirs.edges[image] != parent:
            changed.append(error("edge_changed", edge, "result"))
    missed = [
        error("edge_missed", edge, "truth")
        for edge in sorted(theirs.edges.keys() - seen)
    ]
    return extra + missed + changed

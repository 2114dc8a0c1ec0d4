"""Masks for the frames in which a cell was missing.

The challenge's format has no gaps: a track needs a mask in each of its frames. A
closed gap can be written as a parent with one child, but the measure then finds a
link that the reference lacks, and the missing nodes: 10 a node and 1.5 a link. A
mask that is filled in saves both where it covers more than half of the true cell,
and costs 1 where it does not. So a gap is filled with the last mask of the cell,
moved in a straight line to its next place, and stays a parent and child only where
other cells lie on half of that mask or more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from medseg.lineage import TrackGraph

Mask = NDArray[np.integer]
# A filled mask less than half free cannot cover more than half of the true cell.
_FREE = 0.5


@dataclass(frozen=True, eq=False)
class Fill:
    """A mask made up for a frame in which its cell was not found.

    Args:
        frame: Number of the frame.
        label: Value for it, used by no cell of that frame.
        corner: First index of the block along each axis.
        mask: Boolean block.
    """

    frame: int
    label: int
    corner: tuple[int, ...]
    mask: NDArray[np.bool_]

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where the block lies in its frame."""
        ends = zip(self.corner, self.mask.shape, strict=True)
        return tuple(slice(a, a + n) for a, n in ends)

    @property
    def centroid(self) -> NDArray[np.float64]:
        """Array index coordinates ``([z,] y, x)``."""
        return np.argwhere(self.mask).mean(axis=0) + self.corner


def fill_gaps(
    graph: TrackGraph, frames: Iterable[tuple[int, Mask]]
) -> tuple[TrackGraph, tuple[Fill, ...]]:
    """Fill the gaps of a lineage with masks; see the module.

    Args:
        graph: From `link`.
        frames: The masks that it was made of, once more.

    Returns:
        The graph with a node for every mask filled in, and these masks.
    """
    gaps = [tuple(edge) for edge in graph.gaps().tolist()]
    if not gaps:
        return graph, ()
    blocks: dict[tuple[int, int], tuple[tuple[int, ...], NDArray[np.bool_]]] = {}
    made: dict[tuple[int, int], list[Fill]] = {gap: [] for gap in gaps}
    for number, mask in frames:
        taken = mask != 0
        top = int(mask.max(initial=0))
        for gap in gaps:
            early, late = graph.frame[list(gap)]
            if early == number:
                blocks[gap] = _block(mask, int(graph.label[gap[0]]))
            elif early < number < late and gap in blocks:
                fill = _moved(graph, gap, blocks[gap], taken, number, top + 1)
                if fill is None:
                    del blocks[gap]  # and with it the frames filled so far
                    made[gap] = []
                    continue
                taken[fill.slices] |= fill.mask
                top += 1
                made[gap].append(fill)
            elif late == number:
                blocks.pop(gap, None)
    return _with_nodes(graph, {gap: fills for gap, fills in made.items() if fills})


def _block(mask: Mask, label: int) -> tuple[tuple[int, ...], NDArray[np.bool_]]:
    where = np.nonzero(mask == label)
    low, high = [int(x.min()) for x in where], [int(x.max()) + 1 for x in where]
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return tuple(low), mask[part] == label


def _moved(
    graph: TrackGraph,
    gap: tuple[int, int],
    block: tuple[tuple[int, ...], NDArray[np.bool_]],
    taken: NDArray[np.bool_],
    number: int,
    label: int,
) -> Fill | None:
    """Return the mask of a gap in one frame; None where too little of it is free."""
    early, late = graph.frame[list(gap)]
    a, b = graph.centroid[list(gap)]
    step = np.rint((b - a) * (number - early) / (late - early)).astype(int)
    corner, mask = np.asarray(block[0]) + step, block[1]
    start = np.clip(corner, 0, taken.shape)
    end = np.clip(corner + mask.shape, 0, taken.shape)
    inner = mask[
        tuple(slice(*x) for x in zip(start - corner, end - corner, strict=True))
    ]
    there = tuple(slice(*x) for x in zip(start, end, strict=True))
    free = inner & ~taken[there]
    if not free.any() or free.sum() <= _FREE * mask.sum():
        return None
    return Fill(number, label, tuple(start.tolist()), free)


def _with_nodes(
    graph: TrackGraph, made: dict[tuple[int, int], list[Fill]]
) -> tuple[TrackGraph, tuple[Fill, ...]]:
    fills = [fill for some in made.values() for fill in some]
    if not fills:
        return graph, ()
    edges = {tuple(edge) for edge in graph.edges.tolist()} - made.keys()
    node = len(graph)
    for (a, b), some in made.items():
        chain = [a, *range(node, node + len(some)), b]
        edges |= set(pairwise(chain))
        node += len(some)
    filled = TrackGraph(
        np.concatenate([graph.frame, [fill.frame for fill in fills]]),
        np.concatenate([graph.label, [fill.label for fill in fills]]),
        np.concatenate([graph.centroid, [fill.centroid for fill in fills]]),
        np.array(sorted(edges)),
    )
    return filled, tuple(fills)

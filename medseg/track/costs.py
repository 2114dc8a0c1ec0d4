"""What it costs to take one cell for another, or for the mother of two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from medseg.track.assign import Hypotheses
from medseg.track.cells import Cells
from medseg.track.parameters import LinkParameters

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
# Ending a track and starting one cost this much each: the unit of all costs.
_ALONE = 1.0


@dataclass(frozen=True, eq=False)
class Scene:
    """The cells of one frame and those that they may come from.

    Args:
        cells: Of the movie.
        points: ``(N, D)`` their centroids in units of the spacing.
        speed: ``(N, D)`` their velocities a frame.
        time: Index of the frame.
        old: ``(n,)`` cells of the frame before, then those lost earlier.
        new: ``(m,)`` cells of the frame.
    """

    cells: Cells
    points: Floats
    speed: Floats
    time: int
    old: Ints
    new: Ints

    def lags(self) -> Ints:
        """Return ``(n,)`` frames from each old cell to now."""
        numbers = self.cells.frames
        return numbers[self.time] - numbers[self.cells.frame[self.old]]

    def adjacent(self) -> NDArray[np.bool_]:
        """Return ``(n,)`` which old cells are of the frame before."""
        return self.cells.frame[self.old] == self.time - 1


def links(scene: Scene, shared: Ints, p: LinkParameters) -> Hypotheses:
    """Return all links within reach, and of cells that share pixels."""
    lags = scene.lags()
    expected = scene.points[scene.old]
    expected = expected + p.persistence * lags[:, None] * scene.speed[scene.old]
    reach = p.max_distance * np.sqrt(lags)
    i, j = _near(scene, expected, shared, reach)
    far = np.linalg.norm(expected[i] - scene.points[scene.new[j]], axis=1) / reach[i]
    a, b = scene.old[i], scene.new[j]
    iou = _iou(scene, shared, a, b)
    fresh = scene.adjacent()[i]
    size = scene.cells.size
    cost = far**2 + p.size_weight * np.abs(np.log(size[b] / size[a]))
    # The pixels of a cell that was lost are not kept: a fixed charge stands for them.
    cost += np.where(fresh, p.overlap_weight * (1 - iou), p.gap_penalty * (lags[i] - 1))
    # A lost cell has paid for its end already.
    gains = cost - np.where(fresh, 2 * _ALONE, _ALONE)
    return Hypotheses(i, np.stack([j, np.full_like(j, -1)], axis=1), gains)


def _near(
    scene: Scene, expected: Floats, shared: Ints, reach: Floats
) -> tuple[Ints, Ints]:
    """Return the old and the new cell of every pair worth a thought."""
    tree = KDTree(scene.points[scene.new]) if len(scene.new) else None
    near = tree.query_ball_point(expected, reach) if tree and len(expected) else []
    i = np.repeat(np.arange(len(near)), [len(x) for x in near]).astype(np.int64)
    j = np.array([k for x in near for k in sorted(x)], np.int64)
    touching = np.stack(
        [
            np.searchsorted(scene.old[: scene.adjacent().sum()], shared[:, 0]),
            shared[:, 1] - (scene.new[0] if len(scene.new) else 0),
        ]
    )
    both = np.unique(np.concatenate([np.stack([i, j]), touching], axis=1), axis=1)
    return both[0], both[1]


def _iou(scene: Scene, shared: Ints, a: Ints, b: Ints) -> Floats:
    """Return intersection over union of pairs of cells; 0 for those not adjacent."""
    common = _common(scene, shared, a, b)
    return common / (scene.cells.size[a] + scene.cells.size[b] - common)


def _common(scene: Scene, shared: Ints, a: Ints, b: Ints) -> Floats:
    count = len(scene.cells)
    keys = shared[:, 0] * count + shared[:, 1]  # ascending
    wanted = a * count + b
    if not len(keys):
        return np.zeros(len(a))
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, shared[at, 2], 0).astype(np.float64)


def divisions(
    scene: Scene, single: Hypotheses, shared: Ints, p: LinkParameters
) -> Hypotheses:
    """Return the divisions that are cheaper than a link and a new track."""
    triples = _triples(scene, p)
    if not p.divisions or not len(triples):
        return Hypotheses(
            np.zeros(0, np.int64), np.zeros((0, 2), np.int64), np.zeros(0)
        )
    i, j, k = triples.T
    a, b, c = scene.old[i], scene.new[j], scene.new[k]
    size, points = scene.cells.size.astype(np.float64), scene.points
    both = size[b] + size[c]
    middle = (points[b] * size[b, None] + points[c] * size[c, None]) / both[:, None]
    far = np.linalg.norm(middle - points[a], axis=1) / p.max_distance
    common = _common(scene, shared, a, b) + _common(scene, shared, a, c)
    iou = common / (size[a] + both - common)
    sizes = np.abs(np.log(both / size[a])) + np.abs(np.log(size[b] / size[c]))
    cost = far**2 + p.overlap_weight * (1 - iou) + p.size_weight * sizes
    gains = cost + p.division_penalty - 3 * _ALONE
    # Dominated where a link of the mother to one of the two alone gains as much.
    best = np.minimum(_gain(single, i, j, scene), _gain(single, i, k, scene))
    keep = np.flatnonzero((gains < 0) & (gains < best))
    return Hypotheses(i[keep], np.stack([j, k], axis=1)[keep], gains[keep])


def _triples(scene: Scene, p: LinkParameters) -> Ints:
    """Return ``(K, 3)`` mothers with every two cells that may be their daughters."""
    fresh = np.flatnonzero(scene.adjacent())
    if not len(scene.new) or not len(fresh):
        return np.zeros((0, 3), np.int64)
    tree = KDTree(scene.points[scene.new])
    near = tree.query_ball_point(scene.points[scene.old[fresh]], p.division_distance)
    found = [np.zeros((0, 3), np.int64)]
    for i, cells in zip(fresh, near, strict=True):
        pairs = np.stack(np.triu_indices(len(cells), 1))
        j, k = np.array(sorted(cells), np.int64)[pairs]
        found.append(np.stack([np.full_like(j, i), j, k], axis=1))
    return np.concatenate(found)


def _gain(single: Hypotheses, i: Ints, j: Ints, scene: Scene) -> Floats:
    """Return the gain of the link of each pair, 0 where it is none."""
    keys = single.sources * len(scene.new) + single.targets[:, 0]  # ascending
    wanted = i * len(scene.new) + j
    if not len(keys):
        return np.zeros(len(i))
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, np.minimum(single.gains[at], 0), 0)

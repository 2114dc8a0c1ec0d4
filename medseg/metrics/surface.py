"""Metrics that measure distances between the borders of two masks.

The border of a mask is the mask minus its erosion with the cross of direct
neighbours (4 in a film, 6 in a volume); the image edge counts as border. This
is the border of MONAI, MedPy and MetricsReloaded; surface-distance weights its
border points by area and differs in HD95 and NSD.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from medseg.errors import ConfigError
from medseg.metrics.conventions import Mask, check_masks, diagonal, outcome

Directions = Literal["max", "pooled"]

# A distance that equals the tolerance on paper (5 x 0.2 = 1.0) counts as within it.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances from each border pixel to the nearest one of the other border.

    Args:
        pred_to_truth: One distance a border pixel of the prediction.
        truth_to_pred: One distance a border pixel of the truth.
        failure: The distance that stands for a failure (one mask is empty).
    """

    pred_to_truth: NDArray[np.float64]
    truth_to_pred: NDArray[np.float64]
    failure: float

    @property
    def both(self) -> NDArray[np.float64]:
        """All distances of both directions put together."""
        return np.concatenate([self.pred_to_truth, self.truth_to_pred])

    def _undefined(self) -> float | None:
        """Return the distance by convention, or None where it is defined."""
        if len(self.pred_to_truth) and len(self.truth_to_pred):
            return None
        return self.failure if len(self.both) else 0.0

    def hausdorff(
        self, percentile: float = 100.0, directions: Directions = "max"
    ) -> float:
        """Return a percentile (linear interpolation) of the border distances.

        ``directions="max"`` takes it of each direction and returns the larger;
        ``"pooled"`` takes it of both directions put together, as MedPy does.

        Raises:
            ConfigError: If ``percentile`` is outside 0..100 or ``directions``
                unknown.
        """
        if not 0 <= percentile <= 100:
            raise ConfigError("percentile", f"is {percentile}", "Use 0 to 100")
        if directions not in ("max", "pooled"):
            raise ConfigError("directions", f"is {directions!r}", "Use max or pooled")
        undefined = self._undefined()
        if undefined is not None:
            return undefined
        if directions == "pooled":
            return float(np.percentile(self.both, percentile))
        return max(
            float(np.percentile(self.pred_to_truth, percentile)),
            float(np.percentile(self.truth_to_pred, percentile)),
        )

    def assd(self) -> float:
        """Return the mean distance of both directions put together."""
        undefined = self._undefined()
        return float(self.both.mean()) if undefined is None else undefined

    def nsd(self, tolerance: float) -> float:
        """Return the share of border pixels, of both borders, within ``tolerance``.

        Raises:
            ConfigError: If ``tolerance`` is not positive.
        """
        if not tolerance > 0:
            raise ConfigError("tolerance", f"is {tolerance}", "Use a positive distance")
        if self._undefined() is not None:
            return float(len(self.both) == 0)
        return float((self.both <= tolerance * (1 + _ROUNDING)).mean())


def border(mask: Mask) -> Mask:
    """Return the border pixels of a boolean mask, in any number of dimensions."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        moved = np.moveaxis(mask, axis, 0)
        kept = np.moveaxis(inside, axis, 0)
        kept[1:] &= moved[:-1]
        kept[:-1] &= moved[1:]
        kept[[0, -1]] = False
    return mask & ~inside


def border_indices(mask: Mask) -> NDArray[np.int64]:
    """Return the indices ``(n, ndim)`` of the border pixels of a boolean mask."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(i for i in range(mask.ndim) if i != axis)
        on = np.flatnonzero(mask.any(axis=others))
        if not len(on):
            return np.empty((0, mask.ndim), np.int64)
        box.append(slice(on[0], on[-1] + 1))
    # Beyond its bounding box a mask is off, which is what the image edge means too.
    offset = [s.start for s in box]
    return np.argwhere(border(mask[tuple(box)])) + offset


def surface_distances(
    pred: Mask, truth: Mask, spacing: tuple[float, ...]
) -> SurfaceDistances:
    """Measure the border distances of two boolean masks, in units of ``spacing``.

    Raises:
        ConfigError: If the shapes differ, a mask is not boolean, or ``spacing``
            has another number of axes.
    """
    check_masks(pred, truth)
    if len(spacing) != pred.ndim:
        raise ConfigError("spacing", f"has {len(spacing)} entries for {pred.ndim} axes")
    failure = diagonal(pred.shape, spacing)
    ours, theirs = border_indices(pred), border_indices(truth)
    if outcome(pred, truth) != "filled":
        zeros = np.zeros(len(ours)), np.zeros(len(theirs))
        return SurfaceDistances(*zeros, failure)
    return SurfaceDistances(
        _nearest(ours, theirs, spacing), _nearest(theirs, ours, spacing), failure
    )


def _nearest(
    start: NDArray[np.int64], goal: NDArray[np.int64], spacing: tuple[float, ...]
) -> NDArray[np.float64]:
    """Return the distance of each ``start`` index to the nearest ``goal`` index.

    The trees hold border pixels only, which is many times faster than distance
    transforms of the image and flat in memory.
    """
    # Sliding midpoints: balanced trees are slow where many points share a line.
    tree = cKDTree(goal * spacing, balanced_tree=False, compact_nodes=False)
    nearest = tree.query(start * spacing)[1]
    # From index differences, so that equal offsets give equal distances anywhere.
    return np.linalg.norm((start - goal[nearest]) * spacing, axis=1)

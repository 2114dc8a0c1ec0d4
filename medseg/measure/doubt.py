"""How doubtful a mask is, so that a person looks at the worst ones first.

Each ground for doubt is a number ``d`` in [0, 1], and each kind of ground counts
by its heaviest: the score is ``1 - product(1 - max d)`` over the kinds, so that
one certain ground is enough and grounds of different kinds add up. The kinds:

* **margin**, a structure: the model's own expected Dice is
  ``2 sum(p m) / (sum(p) + sum(m))`` with probabilities ``p`` and the mask
  ``m``. Probabilities near 0.5 lower it. ``d`` rises from 0 where the loss, 1 - the
  expected Dice, is `USUAL_LOSS` to 1 where it is `EXPECTED_LOSS`.
* **parts**, a structure: a lung or the heart is empty (1), a clavicle (0.5), any
  other (0.7); or the share of it outside its largest piece (1 at 20 %).
* **shape** (chest films with both lungs and heart only): a quantity outside the
  range `RANGES`. ``d`` rises from 0 at the edge of the range, which holds 99 % of
  the manual masks that it was read off, to 1 at the limit.

The score orders files. It is not a probability of error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.measure.chest import STRUCTURES, measure
from medseg.postprocess import piece_sizes
from medseg.segmentation import Segmentation

# 1 - expected Dice that a right mask does not reach. Read off 120 drawn films, 60
# through each shipped chest model, where the mask agrees with the drawn truth (Dice
# from 0.96 for a lung, 0.93 for the heart, 0.88 for a clavicle): the largest losses
# were 0.060, 0.101 and 0.215. The levels lie a little above them.
USUAL_LOSS: Mapping[str, float] = MappingProxyType(
    {
        "right_lung": 0.065,
        "left_lung": 0.065,
        "heart": 0.11,
        "right_clavicle": 0.22,
        "left_clavicle": 0.22,
    }
)
_OTHER_USUAL = 0.1

# 1 - expected Dice at which a structure is fully doubtful. Thin ones lose more:
# most of a clavicle is border.
EXPECTED_LOSS: Mapping[str, float] = MappingProxyType(
    {
        "right_lung": 0.15,
        "left_lung": 0.15,
        "heart": 0.25,
        "right_clavicle": 0.5,
        "left_clavicle": 0.5,
    }
)
_OTHER_LOSS = 0.3

MISSING: Mapping[str, float] = MappingProxyType(
    {
        "right_lung": 1.0,
        "left_lung": 1.0,
        "heart": 1.0,
        "right_clavicle": 0.5,
        "left_clavicle": 0.5,
    }
)
_OTHER_MISSING = 0.7

# (limit, lowest, highest, limit); the two in the middle span the manual masks
# of JSRT and Wingspan, where 99 % of 356 films lie inside each.
RANGES: Mapping[str, tuple[float, float, float, float]] = MappingProxyType(
    {
        "cardiothoracic ratio": (0.2, 0.36, 0.75, 0.95),
        "left to right lung area": (0.25, 0.52, 1.3, 2.0),
        "lung share of the film": (0.04, 0.13, 0.46, 0.7),
        "heart to lung area": (0.05, 0.19, 0.85, 1.6),
        "heart width to height": (0.4, 0.75, 2.0, 3.5),
        "heart between the lungs, left to right": (0.3, 0.48, 0.74, 0.95),
        "heart level in the lungs, top to bottom": (0.4, 0.59, 0.88, 1.05),
    }
)
_SHOWN = 0.1


@dataclass(frozen=True)
class Doubt:
    """A score in [0, 1], 1 being the most doubtful, and what it rests on."""

    score: float
    grounds: Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "grounds", MappingProxyType(dict(self.grounds)))

    @property
    def reasons(self) -> tuple[str, ...]:
        """The grounds that weigh at least 0.1, the heaviest first."""
        heavy = sorted(self.grounds.items(), key=lambda item: -item[1])
        return tuple(name for name, weight in heavy if weight >= _SHOWN)


def doubt(
    seg: Segmentation, probabilities: NDArray[np.floating] | None = None
) -> float:
    """Return the score of `assess`."""
    return assess(seg, probabilities).score


def assess(
    seg: Segmentation, probabilities: NDArray[np.floating] | None = None
) -> Doubt:
    """Judge how doubtful a mask is, by the formula at the top of this module.

    Args:
        seg: The mask.
        probabilities: ``(K, [Z,] Y, X)``, by default those of ``seg``. Without any
            the margins are left out.

    Raises:
        ConfigError: If the probabilities have another shape than the mask.
    """
    p = seg.probabilities if probabilities is None else probabilities
    kinds = [
        dict(_part_grounds(seg)),
        dict(_shape_grounds(seg)),
        {} if p is None else dict(_margin_grounds(seg, p)),
    ]
    certain = math.prod(1 - max(kind.values(), default=0.0) for kind in kinds)
    grounds = {k: d for kind in kinds for k, d in kind.items() if d > 0}
    return Doubt(1 - certain, grounds)


def ramp(value: float, low: float, high: float) -> float:
    """Return 0 up to ``low``, 1 from ``high`` on, and linear between."""
    return float(np.clip((value - low) / (high - low), 0, 1))


def outside(value: float, limits: tuple[float, float, float, float]) -> float:
    """Return 0 within the two middle limits, rising to 1 at the outer ones."""
    lowest, low, high, highest = limits
    return max(ramp(-value, -low, -lowest), ramp(value, high, highest))


def _part_grounds(seg: Segmentation) -> Iterator[tuple[str, float]]:
    for name in seg.labels.names:
        mask, shown = seg.structure(name), name.replace("_", " ")
        if not mask.any():
            yield f"{shown} is missing", MISSING.get(name, _OTHER_MISSING)
        elif seg.labels.kind != "instances":
            sizes = piece_sizes(mask)
            yield (
                f"{shown} is in {len(sizes)} pieces",
                ramp(1 - sizes.max() / sizes.sum(), 0.0, 0.2),
            )


def _margin_grounds(
    seg: Segmentation, probabilities: NDArray[np.floating]
) -> Iterator[tuple[str, float]]:
    names = seg.labels.names
    background = seg.labels.kind == "exclusive"
    wanted = (len(names) + background, *seg.spatial_shape)
    if seg.labels.kind == "instances":
        return
    if probabilities.shape != wanted:
        raise ConfigError(
            "probabilities", f"have shape {probabilities.shape}", f"Needed is {wanted}"
        )
    for channel, name in enumerate(names, start=int(background)):
        loss = 1 - expected_dice(probabilities[channel], seg.structure(name))
        usual = USUAL_LOSS.get(name, _OTHER_USUAL)
        limit = EXPECTED_LOSS.get(name, _OTHER_LOSS)
        shown = name.replace("_", " ")
        yield f"{shown} has unsure borders", ramp(loss, usual, limit)


def expected_dice(probability: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """Return ``2 sum(p m) / (sum(p) + sum(m))``; 1 for an empty mask.

    An empty mask is judged as a missing structure: sums over a whole film of
    probabilities near 0 say nothing.
    """
    size = np.count_nonzero(mask)
    if not size:
        return 1.0
    inside = probability.sum(where=mask, dtype=np.float64)
    return float(2 * inside / (probability.sum(dtype=np.float64) + size))


def _shape_grounds(seg: Segmentation) -> Iterator[tuple[str, float]]:
    seg = seg.as_film()
    if seg.geometry.ndim != 2 or not set(STRUCTURES) <= set(seg.labels.names):
        return
    right, left, heart = (seg.structure(name) for name in STRUCTURES)
    if not (right.any() and left.any() and heart.any()):
        return
    for name, value in _quantities(seg, right, left, heart).items():
        yield f"{name} is {value:.2f}", outside(value, RANGES[name])


def _quantities(
    seg: Segmentation,
    right: NDArray[np.bool_],
    left: NDArray[np.bool_],
    heart: NDArray[np.bool_],
) -> dict[str, float]:
    m = measure(seg)
    lungs = right | left
    lung_pixels = np.count_nonzero(lungs)
    rows = np.flatnonzero(lungs.any(axis=1))
    columns, levels = (np.count_nonzero(heart.any(axis=axis)) for axis in (0, 1))
    height, width = seg.geometry.spacing
    (_, right_x), (_, left_x), (heart_y, heart_x) = map(_centre, (right, left, heart))
    # Mirrored or coinciding lungs have no "between": as far off as can be.
    across = (heart_x - right_x) / (left_x - right_x) if left_x > right_x else -1.0
    return {
        "cardiothoracic ratio": m.ctr,
        "left to right lung area": m.lung_ratio,
        "lung share of the film": lung_pixels / lungs.size,
        "heart to lung area": np.count_nonzero(heart) / lung_pixels,
        "heart width to height": columns * width / (levels * height),
        "heart between the lungs, left to right": across,
        "heart level in the lungs, top to bottom": (heart_y - rows[0])
        / (rows[-1] + 1 - rows[0]),
    }


def _centre(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the centroid ``(y, x)`` from the row and column sums."""
    total = np.count_nonzero(mask)
    per_row, per_column = mask.sum(axis=1), mask.sum(axis=0)
    y = per_row @ np.arange(len(per_row)) / total
    return float(y), float(per_column @ np.arange(len(per_column)) / total)

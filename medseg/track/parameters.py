"""What the linker takes for likely: by default read off the movie itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from medseg.errors import ConfigError
from medseg.track.cells import Cells

# The reach of a link, in diameters and in 95th percentiles of the sure moves. Half of
# it cuts tracks: on the true masks of two challenge movies (SIM+ 01, GOWT1 01, at half
# size) the AOGM is then 37.5 instead of 27.
_DIAMETERS = 1.0
_TIMES = 6.0
_MOST_DIAMETERS = 3.0
# Daughters part by about a diameter of their mother in one frame.
_APART = 1.2


@dataclass(frozen=True)
class LinkParameters:
    """What a link, a division and a gap cost; ending and starting a track cost 1 each.

    A link costs ``(d / max_distance)^2 + overlap_weight (1 - IoU) +
    size_weight |ln(size ratio)|``, where ``d`` is the distance from where the cell
    is expected. A division costs the same for the two daughters taken as one,
    and ``size_weight |ln(ratio of the daughters)| + division_penalty``. A gap has
    no IoU; each missing frame costs ``gap_penalty`` instead.

    Args:
        max_distance: Of a link, in units of the spacing (pixels where there is none).
        division_distance: Largest distance of a daughter from its mother.
        persistence: Share of its last velocity that a cell is expected to keep:
            0 for random, 1 for steady motion.
        overlap_weight: See above.
        size_weight: See above.
        division_penalty: See above.
        gap_penalty: See above.
        max_gap: Frames that a cell may be missing; 0 closes no gaps.
        divisions: Whether cells divide.

    Raises:
        ConfigError: If a number is out of range.
    """

    max_distance: float
    division_distance: float
    persistence: float = 0.0
    overlap_weight: float = 1.0
    size_weight: float = 0.5
    division_penalty: float = 0.5
    gap_penalty: float = 0.25
    max_gap: int = 2
    divisions: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            positive = field.name in ("max_distance", "division_distance")
            if not np.isfinite(value) or value < 0 or (positive and value == 0):
                remedy = "Give a number above 0" if positive else "Give 0 or more"
                raise ConfigError(f"link.{field.name}", f"is {value}", remedy)
        if self.persistence > 1:
            raise ConfigError(
                "link.persistence", f"is {self.persistence}", "Give 0 to 1"
            )


def estimate_parameters(
    cells: Cells, spacing: Sequence[float] | None = None, **chosen: Any
) -> LinkParameters:
    """Read the parameters off the cells of a movie.

    Distances come from the median diameter and from the moves of cells that are each
    other's nearest in two frames; persistence is the regression of a move on the
    one before it.

    Args:
        cells: From `medseg.track.cells.observe`.
        spacing: Along each axis; only its proportions matter where distances are
            not overridden.
        chosen: Values of `LinkParameters` that are not to be estimated.

    Raises:
        ConfigError: If ``chosen`` names no parameter or has a value out of range.
    """
    check_parameters(chosen)
    points = scaled(cells, spacing)
    size = typical_diameter(cells, spacing)
    pairs = sure_pairs(cells, points)
    moves = np.linalg.norm(points[pairs[:, 1]] - points[pairs[:, 0]], axis=1)
    far = _TIMES * float(np.percentile(moves, 95)) if len(moves) else size
    far = min(far, _MOST_DIAMETERS * size)
    found = LinkParameters(
        max_distance=max(_DIAMETERS * size, far),
        division_distance=max(_APART * size, far),
        persistence=_persistence(points, pairs),
    )
    return replace(found, **chosen)


def check_parameters(chosen: Mapping[str, Any]) -> None:
    """Check parameters by name and value before there are cells to link.

    Raises:
        ConfigError: If one is unknown or out of range.
    """
    known = [field.name for field in fields(LinkParameters)]
    for name in chosen:
        if name not in known:
            raise ConfigError(
                f"link.{name}", "is no parameter", f"Choose from {', '.join(known)}"
            )
    LinkParameters(**{"max_distance": 1.0, "division_distance": 1.0, **chosen})


def scaled(cells: Cells, spacing: Sequence[float] | None) -> NDArray[np.float64]:
    """Return ``(N, D)`` centroids in units of the spacing.

    Raises:
        ConfigError: If the spacing has another number of axes, or is not above 0.
    """
    if spacing is None:
        return cells.centroid
    steps = np.asarray(spacing, np.float64)
    if steps.shape != (len(cells.shape),) or not (steps > 0).all():
        raise ConfigError(
            "spacing",
            f"is {tuple(spacing)} for frames of {len(cells.shape)} axes",
            "Give one number above 0 an axis",
        )
    return cells.centroid * steps


def typical_diameter(cells: Cells, spacing: Sequence[float] | None = None) -> float:
    """Return the diameter of a disc or ball of the median size; 1 without cells."""
    if not len(cells):
        return 1.0
    unit = 1.0 if spacing is None else float(np.prod(spacing))
    size = float(np.median(cells.size)) * unit
    if len(cells.shape) == 3:
        return float(2 * (3 * size / (4 * np.pi)) ** (1 / 3))
    return float(2 * np.sqrt(size / np.pi))


def sure_pairs(cells: Cells, points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return ``(P, 2)`` cells of neighbouring frames that are each other's nearest."""
    starts = cells.starts()
    found = [np.zeros((0, 2), np.int64)]
    for t in range(len(cells.frames) - 1):
        a, b = points[starts[t] : starts[t + 1]], points[starts[t + 1] : starts[t + 2]]
        if not len(a) or not len(b):
            continue
        there = KDTree(b).query(a)[1]
        back = KDTree(a).query(b)[1]
        mutual = np.flatnonzero(back[there] == np.arange(len(a)))
        pair = np.stack([starts[t] + mutual, starts[t + 1] + there[mutual]], axis=1)
        found.append(pair)
    return np.concatenate(found)


def _persistence(points: NDArray[np.float64], pairs: NDArray[np.int64]) -> float:
    """Return the regression coefficient of a move on the one before, 0 to 1."""
    before = np.full(len(points), -1, np.int64)
    before[pairs[:, 1]] = pairs[:, 0]
    both = pairs[before[pairs[:, 0]] >= 0]
    last = points[both[:, 0]] - points[before[both[:, 0]]]
    move = points[both[:, 1]] - points[both[:, 0]]
    power = float((last**2).sum())
    if power == 0:
        return 0.0
    return float(np.clip((last * move).sum() / power, 0, 1))

"""All metrics of one case, structure by structure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np

from medseg.errors import ConfigError
from medseg.geometry import Geometry, Unit
from medseg.labels import UNIONS
from medseg.metrics import overlap
from medseg.metrics.cells import MEASURES, CellCounts, count_cells
from medseg.metrics.conventions import Mask, diagonal, is_failure, outcome
from medseg.metrics.surface import SurfaceDistances, surface_distances
from medseg.segmentation import Segmentation

TOLERANCES = (1.0, 2.0, 3.0)


@dataclass(frozen=True)
class Score:
    """The metrics of one structure in one case.

    Args:
        case: Name of the case.
        structure: Name of the structure, or of a union (``"lungs"``).
        values: ``dice``, ``iou``, ``sensitivity``, ``precision``, ``nsd_1`` (a
            key a tolerance), ``hd``, ``hd95``, ``assd``; distances and
            tolerances in ``unit``. Of single cells also ``seg``, ``ap_50``, ``pq``.
        unit: ``"mm"``, or ``"px"`` where no spacing is known.
        counts: Pixels, for pooled metrics; a missing result has all of them 0
            but for false negatives.
        outcome: Which masks were filled; ``"absent"`` for a result that is not
            there at all.
        cells: For pooled metrics of single cells; None where a mask has none.
    """

    case: str
    structure: str
    values: Mapping[str, float]
    unit: Unit
    counts: overlap.Counts
    outcome: Literal["both_empty", "missed", "invented", "filled", "absent"]
    cells: CellCounts | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", MappingProxyType(dict(self.values)))

    @property
    def failed(self) -> bool:
        """Whether the case is counted in ``n_failed`` of this structure."""
        return self.outcome == "absent" or is_failure(self.outcome)


def available(names: Collection[str], structures: Iterable[str]) -> tuple[str, ...]:
    """Return those ``structures`` that are in ``names``, themselves or as a union."""
    return tuple(
        wanted
        for wanted in structures
        if wanted in names or (wanted in UNIONS and set(UNIONS[wanted]) <= set(names))
    )


def structure_mask(seg: Segmentation, name: str) -> Mask:
    """Return the boolean mask ``([Z,] Y, X)`` of a structure or a union.

    Raises:
        ConfigError: If the segmentation has neither.
    """
    if name in seg.labels.names or name not in UNIONS:
        return seg.structure(name)
    parts = [seg.structure(part) for part in UNIONS[name]]
    return np.logical_or.reduce(parts)


def common_geometry(
    pred: Segmentation, truth: Segmentation, spacing: Sequence[float] | None = None
) -> Geometry:
    """Return the geometry in which two segmentations are compared.

    A mask without spacing (unit px, a PNG) takes that of the other one;
    ``spacing`` in mm stands in where neither has any.

    Raises:
        ConfigError: If the grids differ (names both), or ``spacing`` does not fit.
    """
    pred, truth = _alike(pred, truth)
    ours, theirs = pred.geometry, truth.geometry
    one_unplaced = ours.unit != theirs.unit and ours.ndim == theirs.ndim
    if pred.spatial_shape != truth.spatial_shape or not (
        one_unplaced or ours.matches(theirs)
    ):
        raise ConfigError(
            "grid",
            f"the prediction has {_describe(pred)}, the truth {_describe(truth)}",
            "Compare masks on the grid of the same image",
        )
    stated = ours if ours.unit == "mm" else theirs
    if stated.unit == "mm" or spacing is None:
        return stated
    if len(spacing) != stated.ndim:
        raise ConfigError(
            "spacing",
            f"has {len(spacing)} numbers, the masks {stated.ndim} axes",
            "Give one number an axis",
        )
    return Geometry.upright(tuple(spacing))


def _alike(
    pred: Segmentation, truth: Segmentation
) -> tuple[Segmentation, Segmentation]:
    """Return both as films, placed nowhere, where one is and the other one slice."""
    if pred.geometry.ndim == truth.geometry.ndim:
        return pred, truth
    ours, theirs = pred.as_film(), truth.as_film()
    if ours.geometry.ndim != theirs.geometry.ndim:
        return pred, truth
    return (
        replace(ours, geometry=ours.geometry.plane()),
        replace(theirs, geometry=theirs.geometry.plane()),
    )


def _describe(seg: Segmentation) -> str:
    g = seg.geometry
    place = f"spacing {g.spacing} {g.unit}, origin {g.origin}"
    return f"shape {seg.spatial_shape}, {place}, direction {g.direction}"


def evaluate_pair(
    pred: Segmentation,
    truth: Segmentation,
    *,
    structures: Sequence[str] | None = None,
    tolerances: Sequence[float] = TOLERANCES,
    spacing: Sequence[float] | None = None,
    case: str = "",
) -> list[Score]:
    """Score one prediction, structure by structure; instances also cell by cell.

    Args:
        pred: The prediction.
        truth: The truth, on the same grid. A structure that its label set lacks
            was not annotated and is skipped.
        structures: Names of structures or unions (``"lungs"``); by default those
            that both label sets have.
        tolerances: For NSD, in mm (in px where there is no spacing).
        spacing: Stands in, in mm, where neither mask has a spacing.
        case: Name of the case, for tables.

    Raises:
        ConfigError: If the grids differ, a structure is unknown to the
            prediction, or nothing is left to compare.
    """
    geometry = common_geometry(pred, truth, spacing)
    pred, truth = _alike(pred, truth)
    wanted = truth.labels.names if structures is None else tuple(structures)
    annotated = available(truth.labels.names, wanted)
    chosen = available(pred.labels.names, annotated)
    if not chosen or (structures is not None and chosen != annotated):
        raise ConfigError(
            "structures",
            f"the truth has {', '.join(truth.labels.names)}, "
            f"the prediction {', '.join(pred.labels.names)}",
            f"Asked for were {', '.join(wanted)}",
        )
    scores = [
        score_masks(
            structure_mask(pred, name),
            structure_mask(truth, name),
            geometry,
            structure=name,
            tolerances=tolerances,
            case=case,
        )
        for name in chosen
    ]
    if pred.labels.kind != "instances" or truth.labels.kind != "instances":
        return scores
    cells = count_cells(pred.mask, truth.mask)
    return [
        replace(score, values={**score.values, **cells.values()}, cells=cells)
        for score in scores
    ]


def score_masks(
    pred: Mask,
    truth: Mask,
    geometry: Geometry,
    *,
    structure: str,
    tolerances: Sequence[float] = TOLERANCES,
    case: str = "",
) -> Score:
    """Score two boolean masks ``([Z,] Y, X)`` of one structure."""
    counts = overlap.count(pred, truth)
    distances = surface_distances(pred, truth, geometry.spacing)
    return Score(
        case,
        structure,
        _values(counts, distances, tolerances),
        geometry.unit,
        counts,
        outcome(pred, truth),
    )


def missing_score(
    truth: Mask,
    geometry: Geometry,
    *,
    structure: str,
    tolerances: Sequence[float] = TOLERANCES,
    case: str = "",
    cells: CellCounts | None = None,
) -> Score:
    """Score a prediction that is not there: the failure values, also if truth is empty.

    Args:
        truth: Boolean mask ``([Z,] Y, X)`` of the structure.
        geometry: Of the truth.
        structure: Its name.
        tolerances: For NSD.
        case: Name of the case.
        cells: What it has found of single cells, where they are scored.
    """
    size = int(np.count_nonzero(truth))
    counts = overlap.Counts(fn=size, tn=truth.size - size)
    shares = ["dice", "iou", "sensitivity", "precision", *map(nsd_key, tolerances)]
    far = diagonal(truth.shape, geometry.spacing)
    values = dict.fromkeys(shares, 0.0) | dict.fromkeys(("hd", "hd95", "assd"), far)
    if cells is not None:
        values |= dict.fromkeys(MEASURES, 0.0)
    return Score(case, structure, values, geometry.unit, counts, "absent", cells)


def nsd_key(tolerance: float) -> str:
    """Return the key of NSD at a tolerance in `Score.values`."""
    return f"nsd_{tolerance:g}"


def _values(
    counts: overlap.Counts, distances: SurfaceDistances, tolerances: Sequence[float]
) -> dict[str, float]:
    return {
        "dice": overlap.dice(counts),
        "iou": overlap.iou(counts),
        "sensitivity": overlap.sensitivity(counts),
        "precision": overlap.precision(counts),
        **{nsd_key(t): distances.nsd(t) for t in tolerances},
        "hd": distances.hausdorff(),
        "hd95": distances.hausdorff(95),
        "assd": distances.assd(),
    }

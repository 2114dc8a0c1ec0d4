"""How well a mask agrees with the truth: per case, then over cases."""

from __future__ import annotations

from medseg.metrics.aggregate import (
    Agreement,
    Interval,
    Summary,
    agreement,
    bootstrap_interval,
    summarise,
)
from medseg.metrics.cases import Score, evaluate_pair, missing_score
from medseg.metrics.depth import DepthScores, depth_scores
from medseg.metrics.overlap import Counts, count, dice, iou, precision, sensitivity
from medseg.metrics.surface import SurfaceDistances, surface_distances

__all__ = [
    "Agreement",
    "Counts",
    "DepthScores",
    "Interval",
    "Score",
    "Summary",
    "SurfaceDistances",
    "agreement",
    "bootstrap_interval",
    "count",
    "depth_scores",
    "dice",
    "evaluate_pair",
    "iou",
    "missing_score",
    "precision",
    "sensitivity",
    "summarise",
    "surface_distances",
]

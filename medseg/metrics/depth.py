"""How well depths agree with the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError


@dataclass(frozen=True)
class DepthScores:
    """Scores over the pixels whose depth is known; NaN where there is none.

    Args:
        delta1: Share of pixels less than a factor 1.25 from the truth.
        silog: Variance of the log of prediction by truth: a common factor is free
            (Eigen 2014).
        absrel: Mean of the distance from the truth as a share of the truth.
    """

    delta1: float
    silog: float
    absrel: float


def depth_scores(
    pred: NDArray[np.floating], truth: NDArray[np.floating]
) -> DepthScores:
    """Compare depths of one unit, where the truth is known.

    Args:
        pred: Depths, any shape.
        truth: Of the same shape; NaN where it is unknown.

    Raises:
        ConfigError: If the shapes differ, or a depth is not finite and above 0.
    """
    if pred.shape != truth.shape:
        raise ConfigError(
            "depth",
            f"the prediction has shape {pred.shape}, the truth {truth.shape}",
            "Compare depths on the same grid",
        )
    known = ~np.isnan(truth)
    p, t = pred[known].astype(np.float64), truth[known].astype(np.float64)
    if not p.size:
        return DepthScores(np.nan, np.nan, np.nan)
    for name, values in (("prediction", p), ("truth", t)):
        bad = int(np.sum(~(np.isfinite(values) & (values > 0))))
        if bad:
            raise ConfigError(
                "depth",
                f"the {name} has {bad} of {values.size} depths not above 0 and finite",
                "Set unknown depths of the truth to NaN",
            )
    ratio = np.log(p / t)
    return DepthScores(
        delta1=float(np.mean(np.maximum(p / t, t / p) < 1.25)),
        silog=float(ratio.var()),
        absrel=float(np.mean(np.abs(p - t) / t)),
    )

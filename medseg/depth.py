"""Depth of a pixel: from bins, and from how far it moves between two views."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError


def expected_depth(
    weights: NDArray[np.floating], centres: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the mean of the bin centres by the weights of each pixel (Bhat 2021).

    Args:
        weights: ``(K, ...)`` shares of the bins, 1 in sum at each pixel.
        centres: ``(K,)`` depths of the bins, in the unit of the result.

    Raises:
        ConfigError: If there are not as many weights as centres, or they do not
            sum to 1.
    """
    if centres.ndim != 1 or weights.shape[:1] != centres.shape:
        raise ConfigError(
            "weights",
            f"have shape {weights.shape} for centres of shape {centres.shape}",
            "Give (K, ...) and (K,)",
        )
    sums = weights.sum(axis=0, dtype=np.float64)
    if not np.allclose(sums, 1, atol=1e-3):
        raise ConfigError(
            "weights",
            f"sum to {sums.min():.4g}..{sums.max():.4g} over the bins",
            "Give the softmax of the network's scores",
        )
    return np.tensordot(centres.astype(np.float64), weights, axes=(0, 0))


def stereo_depth(
    disparity: NDArray[Any], focal: float, baseline: float
) -> NDArray[np.float64]:
    """Return ``focal * baseline / disparity``, for a camera moved sideways.

    Args:
        disparity: Pixels that each point moved, any shape; 0 is infinitely far.
        focal: Focal length in pixels.
        baseline: How far the camera moved, in the unit of the result.

    Raises:
        ConfigError: If a disparity is below 0, or the focal length or the baseline
            not above 0.
    """
    for name, value in (("focal", focal), ("baseline", baseline)):
        if not value > 0:
            raise ConfigError(name, f"is {value}", "Use a length above 0")
    if (disparity < 0).any():
        raise ConfigError(
            "disparity",
            f"is {np.nanmin(disparity)} at the least",
            "Give pixels from 0 on; exchange the two views",
        )
    with np.errstate(divide="ignore"):
        return focal * baseline / disparity.astype(np.float64)

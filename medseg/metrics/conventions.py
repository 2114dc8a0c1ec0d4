"""What the metrics say where a mask is empty.

==========  ============  ==================  ====================  ==========
truth       prediction    shares (Dice, ...)  distances (HD, ...)   failed
==========  ============  ==================  ====================  ==========
empty       empty         1                   0                     no
filled      empty         0                   image diagonal        yes
empty       filled        0                   image diagonal        yes
filled      filled        as defined          as defined            no
==========  ============  ==================  ====================  ==========

A result that is absent altogether counts as failed too, so that no case drops
out of a mean (MONAI and MedPy return NaN, infinity or an error in these rows).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError

Mask = NDArray[np.bool_]
Outcome = Literal["both_empty", "missed", "invented", "filled"]


def check_masks(pred: Mask, truth: Mask) -> None:
    """Check that two masks can be compared.

    Raises:
        ConfigError: If the shapes differ or a mask is not boolean.
    """
    if pred.shape != truth.shape:
        raise ConfigError(
            "mask",
            f"the prediction has shape {pred.shape}, the truth {truth.shape}",
            "Compare masks on the same grid",
        )
    for name, mask in (("prediction", pred), ("truth", truth)):
        if mask.dtype != np.bool_:
            raise ConfigError(
                "mask", f"the {name} is {mask.dtype}", "Give boolean masks"
            )


def outcome(pred: Mask, truth: Mask) -> Outcome:
    """Return which row of the table above a pair of masks falls in."""
    if truth.any():
        return "filled" if pred.any() else "missed"
    return "invented" if pred.any() else "both_empty"


def is_failure(result: Outcome) -> bool:
    """Return whether an outcome is counted in ``n_failed``."""
    return result in ("missed", "invented")


def diagonal(shape: tuple[int, ...], spacing: tuple[float, ...]) -> float:
    """Return the image diagonal in units of ``spacing``: the failure distance."""
    return float(np.linalg.norm(np.multiply(shape, spacing)))

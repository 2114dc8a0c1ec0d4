"""Logical operations of one label with a mask or another label."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.refine.edit import Array, Edit
from medseg.refine.tools.common import put

Operation = Literal["copy", "add", "subtract", "intersect", "exclusive_or", "invert"]


def combine(
    labels: Array,
    value: int,
    operation: Operation,
    other: NDArray[np.bool_] | None = None,
    *,
    protect_other_labels: bool = True,
) -> Edit:
    """Combine a label with a mask.

    Args:
        labels: Label map ``([Z,] Y, X)``.
        value: The label that changes.
        operation: ``copy`` (becomes the mask), ``add``, ``subtract``, ``intersect``,
            ``exclusive_or``; ``invert`` takes no mask.
        other: Boolean mask of the same shape, such as ``labels == 3`` or a channel.
        protect_other_labels: Leave pixels of other labels as they are.

    Raises:
        ConfigError: If there is no such operation, a mask is missing, needless, no
            boolean or of another shape, or the value is no label of such a map.
    """
    own = labels == value
    if operation == "invert":
        if other is not None:
            raise ConfigError("invert", "takes no mask", "Leave it out")
        return put(labels, value, ~own, protect=protect_other_labels)
    if other is None or other.shape != labels.shape or other.dtype != np.bool_:
        found = "none" if other is None else f"{other.dtype} {other.shape}"
        raise ConfigError(
            str(operation), f"the mask is {found}", f"Give booleans of {labels.shape}"
        )
    results = {
        "copy": other,
        "add": own | other,
        "subtract": own & ~other,
        "intersect": own & other,
        "exclusive_or": own ^ other,
    }
    if operation not in results:
        raise ConfigError(
            "operation",
            f"no {operation!r}",
            f"Choose from {', '.join([*results, 'invert'])}",
        )
    return put(labels, value, results[operation], protect=protect_other_labels)

"""Tools about the pieces of a label; pieces and holes as in `medseg.postprocess`."""

from __future__ import annotations

from medseg import postprocess
from medseg.refine.edit import Array, Edit
from medseg.refine.tools.common import reshape


def keep_largest(labels: Array, value: int, n: int = 1) -> Edit:
    """Keep the ``n`` largest pieces of a label.

    Args:
        labels: Label map ``([Z,] Y, X)``.
        value: The label.
        n: Pieces to keep.

    Raises:
        ConfigError: If ``n`` is below 1, or the value is no label of such a map.
    """
    return reshape(
        labels, value, lambda mask: postprocess.keep_largest(mask, n), protect=True
    )


def remove_small(labels: Array, value: int, min_size: float) -> Edit:
    """Remove the pieces of a label that have fewer than ``min_size`` pixels.

    Raises:
        ConfigError: If the size is negative, or the value is no label of such a map.
    """
    return reshape(
        labels, value, lambda m: postprocess.remove_small(m, min_size), protect=True
    )


def fill_holes(labels: Array, value: int, *, protect_other_labels: bool = True) -> Edit:
    """Fill the holes of a label; other labels in a hole stay if protected.

    Raises:
        ConfigError: If the value is no label of such a map.
    """
    return reshape(labels, value, postprocess.fill_holes, protect=protect_other_labels)

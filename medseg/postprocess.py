"""Mend a boolean mask by rules about its shape.

Neighbours are those that share an edge (4 in a film, 6 in a volume); holes are
background that does not reach the image edge that way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.errors import ConfigError

Mask = NDArray[np.bool_]


def pieces(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the connected pieces as a label map and the size of each, from 1.

    Args:
        mask: Boolean, ``([Z,] Y, X)``.

    Raises:
        ConfigError: If the mask is not boolean.
    """
    if mask.dtype != np.bool_:
        raise ConfigError("mask", f"is {mask.dtype}", "Give a boolean mask")
    labelled, n = ndimage.label(mask)
    return labelled, np.bincount(labelled.ravel(), minlength=n + 1)[1:]


def keep_largest(mask: Mask, n: int = 1) -> Mask:
    """Return the mask with its ``n`` largest pieces only.

    Of pieces of the same size the one that comes first in the array stays.

    Raises:
        ConfigError: If ``n`` is below 1 or the mask not boolean.
    """
    if n < 1:
        raise ConfigError("keep_largest", f"n is {n}", "Keep at least one piece")
    labelled, sizes = pieces(mask)
    if len(sizes) <= n:
        return mask.copy()
    kept = np.zeros(len(sizes) + 1, bool)
    kept[1 + np.argsort(-sizes, kind="stable")[:n]] = True
    return kept[labelled]


def remove_small(mask: Mask, min_size: float) -> Mask:
    """Return the mask without its pieces of fewer than ``min_size`` pixels.

    Raises:
        ConfigError: If ``min_size`` is negative or the mask not boolean.
    """
    if not min_size >= 0:
        raise ConfigError("remove_small", f"min_size is {min_size}", "Use 0 or more")
    labelled, sizes = pieces(mask)
    return np.concatenate([[False], sizes >= min_size])[labelled]


def fill_holes(mask: Mask) -> Mask:
    """Return the mask with its holes filled, in a volume those closed in 3-D.

    Raises:
        ConfigError: If the mask is not boolean.
    """
    labelled, sizes = pieces(~mask if mask.dtype == np.bool_ else mask)
    outside = np.zeros(len(sizes) + 1, bool)
    for axis in range(mask.ndim):
        outside[labelled.take([0, -1], axis).ravel()] = True
    outside[0] = False
    return ~outside[labelled]

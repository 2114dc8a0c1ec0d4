"""Mend a boolean mask by rules about its shape.

Neighbours are those that share an edge (4 in a film, 6 in a volume); holes are
background that does not reach the image edge that way.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medseg.errors import ConfigError

Mask = NDArray[np.bool_]

# Pixels whose pieces are labelled at once; each takes 12 bytes meanwhile.
_SLAB = 2**20


def box(mask: Mask, margin: int = 0) -> tuple[slice, ...] | None:
    """Return the slices around what is True, widened, or None if nothing is."""
    edges = []
    for axis, length in enumerate(mask.shape):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        hits = np.flatnonzero(mask.any(axis=others))
        if not hits.size:
            return None
        low, high = hits[0] - margin, hits[-1] + 1 + margin
        edges.append(slice(max(0, int(low)), min(length, int(high))))
    return tuple(edges)


def pieces(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the connected pieces as a label map and the size of each, from 1.

    Args:
        mask: Boolean, ``([Z,] Y, X)``.

    Raises:
        ConfigError: If the mask is not boolean.
    """
    labelled, n = ndimage.label(_boolean(mask))
    return labelled, _sizes(labelled, n)


def _sizes(labelled: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    return np.bincount(labelled.ravel(), minlength=n + 1)[1:]


def piece_sizes(mask: Mask) -> NDArray[np.int64]:
    """Return the sizes of the connected pieces, in the order of :func:`pieces`.

    Labelled slab by slab and joined: memory does not grow with the image.

    Raises:
        ConfigError: If the mask is not boolean.
    """
    mask = _boolean(mask)[box(mask) or ()]
    if mask.size <= _SLAB:
        return _sizes(*ndimage.label(mask))
    rows = max(1, _SLAB // max(1, mask[:1].size))
    sizes, pairs, found = [np.zeros(0, np.int64)], [np.zeros((2, 0), np.int64)], 0
    above = np.zeros(mask.shape[1:], np.int64)
    for start in range(0, len(mask), rows):
        labelled, n = ndimage.label(mask[start : start + rows])
        sizes.append(_sizes(labelled, n))
        touch = (above > 0) & (labelled[0] > 0)
        both = np.stack([above[touch], labelled[0][touch] + found]) - 1
        pairs.append(np.unique(both, axis=1))
        above = np.where(labelled[-1] > 0, labelled[-1] + np.int64(found), 0)
        found += n
    if not found:
        return sizes[0]
    joins = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(joins.shape[1], bool), tuple(joins)), (found, found))
    n, piece = connected_components(graph, directed=False)
    return np.bincount(piece, np.concatenate(sizes), n).astype(np.int64)


def _inside(mask: Mask, rule: Callable[[Mask], Mask]) -> Mask:
    """Apply ``rule`` to the box around the mask: most of a film is background."""
    around = box(mask)
    if around is None:
        return mask.copy()
    result = np.zeros_like(mask)
    result[around] = rule(mask[around])
    return result


def keep_largest(mask: Mask, n: int = 1) -> Mask:
    """Return the mask with its ``n`` largest pieces only.

    Of pieces of the same size the one that comes first in the array stays.

    Raises:
        ConfigError: If ``n`` is below 1 or the mask not boolean.
    """
    if n < 1:
        raise ConfigError("keep_largest", f"n is {n}", "Keep at least one piece")

    def largest(mask: Mask) -> Mask:
        labelled, found = ndimage.label(mask)
        if found <= n:
            return mask
        sizes = _sizes(labelled, found)
        kept = np.zeros(found + 1, bool)
        kept[1 + np.argsort(-sizes, kind="stable")[:n]] = True
        return kept[labelled]

    return _inside(_boolean(mask), largest)


def remove_small(mask: Mask, min_size: float) -> Mask:
    """Return the mask without its pieces of fewer than ``min_size`` pixels.

    Raises:
        ConfigError: If ``min_size`` is negative or the mask not boolean.
    """
    if not min_size >= 0:
        raise ConfigError("remove_small", f"min_size is {min_size}", "Use 0 or more")

    def large(mask: Mask) -> Mask:
        labelled, sizes = pieces(mask)
        kept = np.concatenate([[False], sizes >= min_size])
        return mask if kept[1:].all() else kept[labelled]

    return _inside(_boolean(mask), large)


def fill_holes(mask: Mask) -> Mask:
    """Return the mask with its holes filled, in a volume those closed in 3-D.

    Raises:
        ConfigError: If the mask is not boolean.
    """
    # Background that reaches the edge of the box goes on to the edge of the image.
    return _inside(_boolean(mask), _filled)


def _filled(mask: Mask) -> Mask:
    labelled, n = ndimage.label(~mask)
    outside = np.zeros(n + 1, bool)
    for axis in range(mask.ndim):
        outside[labelled.take([0, -1], axis).ravel()] = True
    outside[0] = False
    return ~outside[labelled]


def _boolean(mask: Mask) -> Mask:
    if mask.dtype != np.bool_:
        raise ConfigError("mask", f"is {mask.dtype}", "Give a boolean mask")
    return mask

"""Cells of a label mask, counted: values, sizes, places, and what two masks share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError

Mask = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Regions:
    """The cells of one mask, ascending by label; 0 is background and no cell.

    Args:
        labels: ``(N,)`` values in the mask.
        sizes: ``(N,)`` pixels.
        centroids: ``(N, D)`` mean array index coordinates ``([z,] y, x)``.
    """

    labels: NDArray[np.int64]
    sizes: NDArray[np.int64]
    centroids: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.labels)


def regions(mask: Mask) -> Regions:
    """Return the cells of a mask ``([Z,] Y, X)``.

    Raises:
        ConfigError: If a label is below 0.
    """
    where = np.nonzero(mask)
    labels, index = compact(mask[where])
    sizes = np.bincount(index, minlength=len(labels))
    sums = [np.bincount(index, weights=x, minlength=len(labels)) for x in where]
    places = np.stack(sums, axis=1) / np.maximum(sizes, 1)[:, None]
    return Regions(labels[1:], sizes[1:].astype(np.int64), places[1:])


def overlaps(
    a: Mask, b: Mask
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the values of two masks and how many pixels each two share.

    Args:
        a: ``([Z,] Y, X)`` labels, 0 is background.
        b: Of the same shape.

    Returns:
        Values of ``a`` ``(R,)``, of ``b`` ``(S,)``, both ascending and with the
        background first, and the table ``(R, S)`` of common pixels.

    Raises:
        ConfigError: If the shapes differ or a label is below 0.
    """
    if a.shape != b.shape:
        raise ConfigError(
            "masks",
            f"one is {_size(a)}, the other {_size(b)} pixels",
            "Compare masks on the same grid",
        )
    a_values, a_index = compact(a)
    b_values, b_index = compact(b)
    size = len(a_values) * len(b_values)
    table = np.bincount(a_index * len(b_values) + b_index, minlength=size)
    return a_values, b_values, table.reshape(len(a_values), len(b_values))


def superpixel_vote(labels: Mask, superpixels: Mask) -> Mask:
    """Return labels in which every superpixel has the one most of its pixels had.

    Of labels with as many pixels the lowest wins. A second vote changes nothing.

    Args:
        labels: ``([Z,] Y, X)`` class of each pixel, 0 counts like any other.
        superpixels: Of the same shape, the superpixel of each pixel.

    Raises:
        ConfigError: If the shapes differ or a label is below 0.
    """
    values, classes, table = overlaps(superpixels, labels)
    winners = classes[table.argmax(axis=1)].astype(labels.dtype)
    return winners[np.searchsorted(values, superpixels)]


def compact(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the values of a mask, 0 always first, and each pixel's place among them.

    Raises:
        ConfigError: If a value is below 0.
    """
    flat = np.ravel(mask)
    if flat.dtype in (np.uint64, np.bool_):  # bincount and differences want numbers
        flat = flat.astype(np.int64)
    if flat.size and flat.min() < 0:
        raise ConfigError("masks", f"label {flat.min()} is below 0")
    top = int(flat.max()) if flat.size else 0
    if top > 4 * max(flat.size, 65536):  # a table of all values would be the larger
        values = np.union1d([0], flat)
        return values.astype(np.int64), np.searchsorted(values, flat)
    count = np.bincount(flat, minlength=1)
    count[0] = max(count[0], 1)
    values = np.flatnonzero(count)
    table = np.zeros(len(count), np.int64)
    table[values] = np.arange(len(values))
    return values, table[flat]


def _size(mask: Mask) -> str:
    return " x ".join(map(str, mask.shape))

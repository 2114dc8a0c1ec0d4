"""Which result cell is which reference cell in one frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.regions import overlaps, regions

Mask = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Match:
    """The cells of one frame and which cover which.

    Args:
        truth_labels: ``(R,)`` values of the reference mask, ascending.
        result_labels: ``(S,)`` values of the result mask, ascending.
        truth_places: ``(R, D)`` centroids in array index coordinates.
        result_places: ``(S, D)``.
        pairs: ``(M, 2)`` reference and result label of each match; a reference
            cell has at most one.
        iou: ``(M,)`` intersection over union of each match.
    """

    truth_labels: NDArray[np.int64]
    result_labels: NDArray[np.int64]
    truth_places: NDArray[np.float64]
    result_places: NDArray[np.float64]
    pairs: NDArray[np.int64]
    iou: NDArray[np.float64]


def match(truth: Mask, result: Mask) -> Match:
    """Match the cells of one frame: more than half of a reference cell is covered.

    Args:
        truth: ``([Z,] Y, X)`` reference labels, 0 is background.
        result: Of the same shape.

    Raises:
        ConfigError: If the shapes differ or a label is below 0.
    """
    t_values, r_values, table = overlaps(truth, result)
    size_t = table.sum(axis=1, keepdims=True)
    size_r = table.sum(axis=0, keepdims=True)
    inner, of_t, of_r = table[1:, 1:], size_t[1:], size_r[:, 1:]
    row, column = np.nonzero(2 * inner > of_t)
    shared = inner[row, column]
    union = of_t[row, 0] + of_r[0, column] - shared
    pairs = np.stack([t_values[1:][row], r_values[1:][column]], axis=1)
    return Match(
        t_values[1:],
        r_values[1:],
        regions(truth).centroids,
        regions(result).centroids,
        pairs,
        shared / union,
    )

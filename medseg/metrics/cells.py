"""How well single cells are found in an image: SEG, AP at an IoU of 0.5, PQ.

As everywhere (`medseg.metrics.conventions`), each is 1 where both masks are empty
and 0 where one of them is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.ctc import score_segmentation
from medseg.metrics.objects import ObjectScore, match_objects

MEASURES = ("seg", "ap_50", "pq")


@dataclass(frozen=True)
class CellCounts:
    """Cells of a prediction against the truth; may be added over images.

    Args:
        overlap: Sum over the true cells of the IoU with the predicted cell that covers
            more than half of them, 0 where there is none.
        objects: Cells found, missed and made up at an IoU above 0.5.
    """

    overlap: float = 0.0
    objects: ObjectScore = field(default_factory=ObjectScore)

    def __add__(self, other: CellCounts) -> CellCounts:
        return CellCounts(self.overlap + other.overlap, self.objects + other.objects)

    @property
    def seg(self) -> float:
        """Mean IoU over the true cells, as in the Cell Tracking Challenge.

        Cells that were made up do not lower it, unless there are no true ones.
        """
        cells = self.objects.tp + self.objects.fn
        return self.overlap / cells if cells else float(self.objects.fp == 0)

    def values(self) -> dict[str, float]:
        """Return each of `MEASURES`."""
        figures = self.seg, self.objects.ap, self.objects.pq
        return dict(zip(MEASURES, figures, strict=True))


def count_cells(pred: NDArray[np.integer], truth: NDArray[np.integer]) -> CellCounts:
    """Count the cells of two masks ``([Z,] Y, X)`` with a number a cell, 0 for none.

    Raises:
        ConfigError: If the shapes differ or a number is below 0.
    """
    overlap, _ = score_segmentation([(truth, pred)])
    return CellCounts(overlap, match_objects(pred, truth))


def missed_cells(truth: NDArray[np.integer]) -> CellCounts:
    """Return what a prediction that is not there has found of the cells of a mask.

    Raises:
        ConfigError: If a number is below 0.
    """
    return count_cells(np.zeros_like(truth), truth)

"""Single objects of one image: average precision at a threshold, panoptic quality."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from medseg.errors import ConfigError
from medseg.regions import overlaps

PQ_THRESHOLD = 0.5


@dataclass(frozen=True)
class ObjectScore:
    """Objects found, missed and made up; may be added over images.

    Args:
        tp: Matched objects.
        fp: Predicted objects without a match.
        fn: True objects without a match.
        overlap: Sum of the IoU of the matches.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    overlap: float = 0.0

    def __add__(self, other: ObjectScore) -> ObjectScore:
        return ObjectScore(
            self.tp + other.tp,
            self.fp + other.fp,
            self.fn + other.fn,
            self.overlap + other.overlap,
        )

    @property
    def ap(self) -> float:
        """``TP / (TP + FP + FN)``; 1 where both masks are empty. Not COCO's AP."""
        total = self.tp + self.fp + self.fn
        return self.tp / total if total else 1.0

    @property
    def sq(self) -> float:
        """Segmentation quality: mean IoU of the matches; NaN without any."""
        return self.overlap / self.tp if self.tp else math.nan

    @property
    def rq(self) -> float:
        """Recognition quality: the F1 score; 1 where both masks are empty."""
        total = self.tp + self.fp / 2 + self.fn / 2
        return self.tp / total if total else 1.0

    @property
    def pq(self) -> float:
        """Panoptic quality, ``SQ x RQ``; 0 without a match, 1 if both are empty."""
        total = self.tp + self.fp / 2 + self.fn / 2
        return self.overlap / total if total else 1.0


def match_objects(
    pred: NDArray[np.integer],
    truth: NDArray[np.integer],
    threshold: float = PQ_THRESHOLD,
) -> ObjectScore:
    """Match the objects of two instance masks one to one.

    Args:
        pred: ``([Z,] Y, X)`` labels, 0 is background.
        truth: Of the same shape.
        threshold: IoU of a match: above it up to 0.5, where the match is the
            largest possible set; from 0.5 on no object has two candidates.

    Raises:
        ConfigError: If the shapes differ or the threshold is not in [0, 1).
    """
    if not 0 <= threshold < 1:
        raise ConfigError("threshold", f"is {threshold}", "Give 0 to below 1")
    table = overlaps(pred, truth)[2]
    inner = table[1:, 1:]
    union = table.sum(axis=1)[1:, None] + table.sum(axis=0)[None, 1:] - inner
    return match_ious(inner / np.maximum(union, 1), threshold)


def match_ious(ious: ArrayLike, threshold: float = PQ_THRESHOLD) -> ObjectScore:
    """Return the score of a table of IoU ``(predicted, true)``."""
    table = np.asarray(ious, np.float64)
    # Most matches first, the largest overlap second.
    gain = np.where(table > threshold, 1 + table / (2 * max(1, min(table.shape))), 0)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    chosen = table[rows, columns]
    chosen = chosen[chosen > threshold]
    tp = len(chosen)
    predicted, true = table.shape
    return ObjectScore(tp, predicted - tp, true - tp, float(chosen.sum()))

"""Metrics that count pixels.

Every share follows `medseg.metrics.conventions`: 1 where both masks are empty,
0 where one of them is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.metrics.conventions import Mask, check_masks


@dataclass(frozen=True)
class Counts:
    """Pixels of a prediction against the truth; sums of counts are pooled counts."""

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.tp + other.tp,
            self.fp + other.fp,
            self.fn + other.fn,
            self.tn + other.tn,
        )


@dataclass(frozen=True)
class ConfusionScores:
    """Scores of one confusion matrix over all classes, background included."""

    pixel_accuracy: float
    mean_class_accuracy: float
    mean_iou: float
    fw_iou: float


def count(pred: Mask, truth: Mask) -> Counts:
    """Count the pixels of two boolean masks of the same shape.

    Raises:
        ConfigError: If the shapes differ or a mask is not boolean.
    """
    check_masks(pred, truth)
    tp = int(np.count_nonzero(pred & truth))
    fp = int(np.count_nonzero(pred)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return Counts(tp, fp, fn, pred.size - tp - fp - fn)


def _share(part: int, whole: int, counts: Counts) -> float:
    if whole:
        return part / whole
    return float(counts.tp + counts.fp + counts.fn == 0)


def dice(counts: Counts) -> float:
    """Return 2 TP / (2 TP + FP + FN)."""
    return _share(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn, counts)


def iou(counts: Counts) -> float:
    """Return TP / (TP + FP + FN), the Jaccard index."""
    return _share(counts.tp, counts.tp + counts.fp + counts.fn, counts)


def sensitivity(counts: Counts) -> float:
    """Return TP / (TP + FN), the share of the truth that was found."""
    return _share(counts.tp, counts.tp + counts.fn, counts)


def precision(counts: Counts) -> float:
    """Return TP / (TP + FP), the share of the prediction that is true."""
    return _share(counts.tp, counts.tp + counts.fp, counts)


def dice_from_iou(jaccard: float) -> float:
    """Return 2 J / (1 + J). Holds for one case, not for means over cases."""
    return 2 * jaccard / (1 + jaccard)


def confusion_matrix(
    pred: NDArray[np.integer], truth: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """Count label maps into ``(classes, classes)``: rows truth, columns prediction.

    Raises:
        ConfigError: If the shapes differ or a label is not in ``0..classes-1``.
    """
    if pred.shape != truth.shape:
        raise ConfigError(
            "mask", f"the prediction has shape {pred.shape}, the truth {truth.shape}"
        )
    for name, labels in (("prediction", pred), ("truth", truth)):
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise ConfigError(
                "mask",
                f"the {name} has labels {labels.min()}..{labels.max()}",
                f"Labels of {classes} classes are 0..{classes - 1}",
            )
    flat = truth.ravel().astype(np.int64) * classes + pred.ravel().astype(np.int64)
    return np.bincount(flat, minlength=classes**2).reshape(classes, classes)


def confusion_scores(matrix: NDArray[np.integer]) -> ConfusionScores:
    """Return the scores of a confusion matrix (rows truth, columns prediction).

    A class that neither truth nor prediction has is left out of the means; one
    that only the truth lacks has no accuracy and IoU 0.
    """
    hit = np.diag(matrix).astype(float)
    truth, pred = matrix.sum(1).astype(float), matrix.sum(0).astype(float)
    union = truth + pred - hit
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy, overlap = hit / truth, hit / union
    total = float(truth.sum())
    if total == 0:
        return ConfusionScores(np.nan, np.nan, np.nan, np.nan)
    return ConfusionScores(
        float(hit.sum() / total),
        float(accuracy[truth > 0].mean()),
        float(overlap[union > 0].mean()),
        float((truth * overlap)[truth > 0].sum() / total),
    )

"""How well cells are found, image by image: SEG, AP at 0.5 and the IoU of pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medseg.datasets.case import Case
from medseg.datasets.pairs import image_and_cells
from medseg.metrics.ctc import score_segmentation
from medseg.metrics.objects import ObjectScore, match_objects
from medseg.predict import Predictor

Labels = NDArray[np.integer]


@dataclass(frozen=True)
class CellScore:
    """Counts that add up over images.

    Args:
        overlap: Sum over the true cells of the IoU with the found cell that covers
            more than half of them (that of SEG).
        cells: True cells.
        objects: Found, missed and made up at an IoU above 0.5.
        both: Pixels that are cell in truth and result.
        either: Pixels that are cell in one of them at least.
        images: Added up.
    """

    overlap: float = 0.0
    cells: int = 0
    objects: ObjectScore = field(default_factory=ObjectScore)
    both: int = 0
    either: int = 0
    images: int = 0

    def __add__(self, other: CellScore) -> CellScore:
        return CellScore(
            self.overlap + other.overlap,
            self.cells + other.cells,
            self.objects + other.objects,
            self.both + other.both,
            self.either + other.either,
            self.images + other.images,
        )

    @property
    def seg(self) -> float:
        """The challenge's SEG; NaN without true cells."""
        return self.overlap / self.cells if self.cells else math.nan

    @property
    def ap50(self) -> float:
        """TP / (TP + FP + FN) at an IoU above 0.5."""
        return self.objects.ap

    @property
    def iou(self) -> float:
        """Of all cell pixels; NaN where there are none."""
        return self.both / self.either if self.either else math.nan

    def to_table(self) -> dict[str, float | int]:
        """Return the figures under their names."""
        table = {"SEG": self.seg, "AP50": self.ap50, "IoU": self.iou}
        rounded = {k: round(v, 5) for k, v in table.items() if math.isfinite(v)}
        return {**rounded, "cells": self.cells, "images": self.images}


def score_cells(found: Labels, cells: Labels, known: NDArray[np.bool_]) -> CellScore:
    """Score one image.

    A found cell of which more than half lies where nobody looked is neither right
    nor wrong, and is left out; so are pixels there.

    Args:
        found: ``(Y, X)`` numbers, 0 for background.
        cells: The truth.
        known: Where somebody looked.
    """
    overlap, count = score_segmentation([(cells, found)])
    n = int(found.max(initial=0)) + 1
    sizes = np.bincount(found.ravel(), minlength=n)
    seen = np.bincount(found[known], minlength=n)
    judged = np.where((2 * seen >= sizes)[found], found, 0)
    a, b = found[known] > 0, cells[known] > 0
    return CellScore(
        overlap,
        count,
        match_objects(judged, cells),
        int((a & b).sum()),
        int((a | b).sum()),
        1,
    )


def add_scores(scores: Iterable[CellScore]) -> CellScore:
    """Return all of them as one."""
    return sum(scores, CellScore())


def score_cases(
    predictor: Predictor,
    cases: Sequence[Case],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[CellScore]:
    """Predict and score every case on its own grid."""
    scores = []
    for done, case in enumerate(cases, start=1):
        image, truth, known = image_and_cells(case)
        mask = predictor.predict(image).mask
        scores.append(score_cells(mask, truth, known))
        progress(done, len(cases))
    return scores

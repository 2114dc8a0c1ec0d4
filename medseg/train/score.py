"""Scores of a finished model on cases that it has not seen, on their own grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from medseg.datasets.case import Case
from medseg.datasets.pairs import film_and_truth
from medseg.datasets.pixels import read_film
from medseg.image import Image
from medseg.labels import UNIONS, Label, LabelSet
from medseg.metrics.aggregate import summarise
from medseg.metrics.cases import Score, available, evaluate_pair
from medseg.predict import Predictor
from medseg.regions import overlaps
from medseg.segmentation import Segmentation

METRICS = ("dice", "iou", "hd95", "assd")


def read_case(case: Case, names: Sequence[str]) -> tuple[Image, Segmentation]:
    """Return the image of a case and the truth of what is annotated in it."""
    image, masks, annotated = film_and_truth(case, names)
    if masks.shape[1:] != image.spatial_shape:
        # The SCR masks are 1024 x 1024, the original JSRT films 2048 x 2048.
        stack = torch.from_numpy(masks)[None]
        masks = F.interpolate(stack, image.spatial_shape, mode="nearest-exact")[
            0
        ].numpy()
    drawn = [(n, m) for n, m, a in zip(names, masks, annotated, strict=True) if a]
    labels = tuple(Label(k, n, "#888888") for k, (n, _) in enumerate(drawn, start=1))
    truth = np.stack([m for _, m in drawn])
    return image, Segmentation(truth, LabelSet(labels, "overlapping"), image.geometry)


def score_cases(
    predictor: Predictor,
    cases: Sequence[Case],
    names: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Score]:
    """Predict and score every case; structures nobody drew are skipped.

    Args:
        predictor: Of the model.
        cases: With truth.
        names: Structures to score; unions of them are scored too.
        progress: Called with the cases done and their number.
    """
    scores: list[Score] = []
    for done, case in enumerate(cases):
        image, truth = read_case(case, names)
        wanted = available(
            truth.labels.names, dict.fromkeys([*truth.labels.names, *UNIONS])
        )
        found = predictor.predict(image)
        scores += evaluate_pair(found, truth, structures=wanted, case=case.id)
        progress(done + 1, len(cases))
    return scores


def label_agreement(one: Predictor, other: Predictor, cases: Sequence[Case]) -> float:
    """Return the share of labels that two predictors have in common.

    A pixel counts once; with overlapping structures once for each of them. Cells
    of the two that overlap most are the same, whatever their numbers.
    """
    same = total = 0
    for case in cases:
        image = read_film(case)
        first, second = one.predict(image).mask, other.predict(image).mask
        if one.labels.kind == "instances":
            table = overlaps(first, second)[2]
            same += int(table[0, 0]) + int(table[1:, 1:].max(axis=1, initial=0).sum())
        else:
            same += int(np.count_nonzero(first == second))
        total += first.size
    return same / total if total else 0.0


def score_table(
    scores: Mapping[str, Sequence[Score]], groups: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return ``{set: {structure: {metric: mean, ...}}}`` for the model's spec.

    Args:
        scores: By set.
        groups: Patient of each case; by default each case is a patient.
    """
    table: dict[str, Any] = {}
    for name, rows in scores.items():
        table[name] = {}
        for row in summarise(rows, groups=groups):
            if row.metric in METRICS:
                entry = table[name].setdefault(row.structure, {})
                key = f"{row.metric}_{row.unit}" if row.unit else row.metric
                entry[key] = round(row.mean, 5)
                if row.metric == "dice":
                    entry["dice_low"] = round(row.interval.low, 5)
                    entry["dice_high"] = round(row.interval.high, 5)
                    entry["dice_worst"] = round(row.worst, 5)
                    entry["n"], entry["n_failed"] = row.n, row.n_failed
    return table

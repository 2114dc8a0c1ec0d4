"""Scores of models on films they have not seen, also on films made hard.

    python benchmarks/score_models.py --jsrt FOLDER --wingspan FOLDER --docs docs \\
        [--model NAME_OR_DIR ...] [--one-source NAME_OR_DIR:SET ...]

writes ``scores.md``: per model and data set the table of its structures, the
cardiothoracic ratio against the reference, the same films with their exposure,
contrast, polarity, borders and rotation changed, and (``--one-source``) what a model
trained on one source does on the other one. Held-back films that guided a choice
are no test set any more: docs/models.md says which did.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.datasets import jsrt, wingspan
from medseg.datasets.case import Case
from medseg.image import Image
from medseg.measure import measure
from medseg.metrics import Score, agreement, evaluate_pair, summarise
from medseg.metrics.cases import available
from medseg.model import load_model
from medseg.predict import Predictor
from medseg.segmentation import Segmentation
from medseg.train.score import read_case
from medseg.train.split import divide

SHOWN = ("lungs", "right_lung", "left_lung", "heart", "clavicles")
Pixels = NDArray[np.float32]


def _black_border(pixels: Pixels) -> Pixels:
    """The film small on a black page, as scanned or collimated films come."""
    framed = np.zeros_like(pixels)
    height, width = pixels.shape[1:]
    y, x = height // 12, width // 12
    framed[:, y : height - y, x : width - x] = pixels[:, y : height - y, x : width - x]
    return framed


def _turned(pixels: Pixels) -> Pixels:
    return ndimage.rotate(pixels, 8, axes=(2, 1), reshape=False, order=1)


# Films in [0, 1]; those that move the film move the truth as well.
CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "as they are": lambda x: x,
    "under-exposed (gamma 2.2)": lambda x: x**2.2,
    "over-exposed (gamma 0.45)": lambda x: x**0.45,
    "low contrast": lambda x: 0.4 + 0.2 * x,
    "negative": lambda x: 1 - x,
    "12 bit": lambda x: np.round(x * 4095),
    "4 bit": lambda x: np.round(x * 15),
    "noisy": lambda x: x + np.random.default_rng(0).normal(0, 0.05, x.shape),
    "blurred": lambda x: ndimage.gaussian_filter(x, (0, 2.5, 2.5)),
    "black border": _black_border,
    "rotated by 8 degrees": _turned,
}
MOVES = {"black border", "rotated by 8 degrees"}


def changed(image: Image, truth: Segmentation, name: str) -> tuple[Image, Segmentation]:
    pixels = image.pixels.astype(np.float32)
    pixels = (pixels - pixels.min()) / max(np.ptp(pixels), 1e-6)
    after = CHANGES[name](pixels).astype(np.float32)
    if name in MOVES:
        moved = CHANGES[name](truth.mask.astype(np.float32))
        truth = replace(truth, mask=(moved > 0.5).astype(np.uint8))
    return Image(after, image.geometry), truth


def score(predictor: Predictor, cases: Sequence[Case], change: str) -> list[Score]:
    names = predictor.labels.names
    scores = []
    for case in cases:
        image, truth = changed(*read_case(case, names), change)
        wanted = available(truth.labels.names, SHOWN)
        found = predictor.predict(image)
        scores += evaluate_pair(found, truth, structures=wanted, case=case.id)
    return scores


def full_table(scores: Sequence[Score]) -> str:
    rows: dict[str, dict[str, str]] = {}
    for row in summarise(scores):
        cells = rows.setdefault(
            row.structure, {"n": str(row.n), "failed": str(row.n_failed)}
        )
        unit = f" {row.unit}" if row.unit else ""
        digits = 2 if unit else 4
        cells[row.metric] = f"{row.mean:.{digits}f}{unit}"
        if row.metric == "dice":
            cells["interval"] = f"{row.interval.low:.4f} to {row.interval.high:.4f}"
            cells["worst"] = f"{row.worst:.4f} ({row.worst_case})"
    columns = ["dice", "interval", "worst", "iou", "hd95", "assd", "n", "failed"]
    head = [
        "structure",
        "Dice",
        "95 % interval",
        "worst Dice",
        "IoU",
        "HD95",
        "ASSD",
        "n",
        "failed",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, cells in rows.items():
        lines.append(
            f"| {name.replace('_', ' ')} | "
            + " | ".join(cells[c] for c in columns)
            + " |"
        )
    return "\n".join(lines)


def means(scores: Sequence[Score]) -> dict[str, float]:
    return {
        r.structure: r.mean for r in summarise(scores, draws=1) if r.metric == "dice"
    }


def robustness_table(predictor: Predictor, cases: Sequence[Case]) -> str:
    rows = {name: means(score(predictor, cases, name)) for name in CHANGES}
    structures = list(next(iter(rows.values())))
    head = ["films", *(s.replace("_", " ") for s in structures)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, row in rows.items():
        lines.append(
            f"| {name} | " + " | ".join(f"{row[s]:.4f}" for s in structures) + " |"
        )
    return "\n".join(lines)


def ratio_line(predictor: Predictor, cases: Sequence[Case], folder: Path) -> str:
    reference = wingspan.reference_ratios(folder)
    cases = [case for case in cases if case.id in reference]
    found = [
        measure(predictor.predict(read_case(c, predictor.labels.names)[0])).ctr
        for c in cases
    ]
    failed = int(np.isnan(found).sum())
    # A ratio that could not be measured is off by all of it.
    values = np.nan_to_num(np.array(found), nan=0.0)
    truth = np.array([reference[c.id] for c in cases])
    result = agreement(values, truth)
    return (
        f"Cardiothoracic ratio against the reference on {len(cases)} films: mean "
        f"absolute error {np.abs(values - truth).mean():.4f}, bias {result.bias:+.4f}, "
        f"limits of agreement {result.low:+.4f} to {result.high:+.4f}, "
        f"{failed} failed."
    )


def model_section(name: str, films: dict[str, list[Case]], folder: Path) -> str:
    predictor = Predictor(load_model(name))
    parts = [f"## {predictor.models[0].spec.name}"]
    for title, cases in films.items():
        parts += [
            f"### {title}, {len(cases)} films",
            full_table(score(predictor, cases, "as they are")),
        ]
        if title.startswith("wingspan"):
            parts.append(ratio_line(predictor, cases, folder))
        parts += [
            "Mean Dice on the same films, changed:",
            robustness_table(predictor, cases),
        ]
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jsrt", type=Path, required=True)
    parser.add_argument("--wingspan", type=Path, required=True)
    parser.add_argument("--docs", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--one-source", action="append", default=[])
    arguments = parser.parse_args()
    sources = {
        "jsrt": jsrt.cases(arguments.jsrt),
        "wingspan": wingspan.cases(arguments.wingspan),
    }
    held = {
        f"{name} held back": divide(cases, "split")[1]
        for name, cases in sources.items()
    }
    parts = [
        "# Scores on films not seen in training",
        "Some choices were made with these films in view: see [models.md](models.md).",
    ]
    for name in arguments.model or ["chest-xray", "chest-xray-open"]:
        parts.append(model_section(name, held, arguments.wingspan))
    for pair in arguments.one_source:
        name, target = pair.rsplit(":", 1)
        predictor = Predictor(load_model(name))
        cases = sources[target]
        name = predictor.models[0].spec.name
        parts.append(
            f"## {name}, not trained on {target}: all {len(cases)} films of it"
        )
        parts.append(full_table(score(predictor, cases, "as they are")))
    arguments.docs.mkdir(exist_ok=True)
    (arguments.docs / "scores.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()

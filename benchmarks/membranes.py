"""The membranes of ISBI 2012 with a U-Net: errors of pixels, pairs and topology.

    python benchmarks/membranes.py docs/configs/isbi2012.toml --docs docs

trains the configuration (a finished run in its output is used again, one that was
stopped goes on), predicts the slices held back as they are and as the mean over the
eight poses of a square, and prints for both

- pixel error: share of pixels whose class (membrane or not) is wrong at 0.5;
- Rand error: 1 - F-score of the adapted Rand index (scikit-image), the smallest over
  thresholds of the probability, as the challenge takes it;
- information: the two parts of the variation of information in bits, split and
  merge, at that threshold;
- topology: splits and merges a true neurite, counted by components: a true neurite of
  which k > 1 found pieces have their main part in it is k - 1 splits, a found piece
  in which k > 1 true neurites have their main part is k - 1 merges.

The last two stand in for the challenge's warping error, whose tool is not used here.
These slices are of the challenge's training stack, so that no figure is comparable
with its leader board. Pixels of true membranes count for the pixel error alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.metrics import adapted_rand_error, variation_of_information

from medseg.datasets.case import Case
from medseg.datasets.instances import read_instances
from medseg.datasets.pixels import read_film
from medseg.model import load_model
from medseg.predict import Predictor
from medseg.regions import overlaps
from medseg.train.config import load_config
from medseg.train.run import train_config
from medseg.train.split import find_cases

THRESHOLDS = np.arange(0.3, 0.96, 0.05)
Labels = NDArray[np.integer]


def topology(found: Labels, truth: Labels) -> tuple[int, int]:
    """Return the splits and merges among components.

    Args:
        found: ``(Y, X)`` components, 0 for membranes.
        truth: The same of the truth.
    """
    table = overlaps(found, truth)[2][1:, 1:]
    if 0 in table.shape:
        return 0, 0
    home = table.argmax(axis=1)[table.max(axis=1) > 0]
    splits = np.maximum(np.bincount(home, minlength=table.shape[1]) - 1, 0).sum()
    home = table.argmax(axis=0)[table.max(axis=0) > 0]
    merges = np.maximum(np.bincount(home, minlength=table.shape[0]) - 1, 0).sum()
    return int(splits), int(merges)


def errors(maps: Sequence[NDArray[np.float32]], truths: Sequence[Labels]) -> Any:
    """Return all errors of slices, each ``(Y, X)``, at the best threshold for Rand."""
    pixel = np.mean(
        [((m > 0.5) != (t > 0)).mean() for m, t in zip(maps, truths, strict=True)]
    )
    best: dict[str, float] = {}
    for threshold in THRESHOLDS:
        found = [ndimage.label(m > threshold)[0] for m in maps]
        rand = np.mean(
            [adapted_rand_error(t, f)[0] for t, f in zip(truths, found, strict=True)]
        )
        if not best or rand < best["rand_error"]:
            best = {"rand_error": float(rand), "threshold": round(float(threshold), 2)}
            chosen = found
    pairs = list(zip(chosen, truths, strict=True))
    bits = np.mean(
        [variation_of_information(t, f, ignore_labels=[0]) for f, t in pairs], axis=0
    )
    counts = np.sum([topology(f, t) for f, t in pairs], axis=0)
    neurites = sum(len(np.unique(t)) - 1 for t in truths)
    return {
        "pixel_error": float(pixel),
        **best,
        "split_bits": float(bits[0]),
        "merge_bits": float(bits[1]),
        "splits_per_neurite": float(counts[0] / neurites),
        "merges_per_neurite": float(counts[1] / neurites),
        "slices": len(truths),
    }


def measure(folder: Path, cases: Sequence[Case]) -> dict[str, Any]:
    """Return the errors of a model, with one pose and with eight."""
    model = load_model(folder)
    truths = [read_instances(case)[0] for case in cases]
    result = {}
    for name, poses in (("one pose", False), ("eight poses", True)):
        predictor = Predictor(model, test_time_augmentation=poses)
        maps = [
            predictor.predict(read_film(case), probabilities=True).probabilities
            for case in cases
        ]
        result[name] = errors([m[1] for m in maps if m is not None], truths)
    return result


def page(found: dict[str, Any], slices: int, epochs: int) -> str:
    """Return ``membranes.md``."""
    head = ("pixel error", "Rand error", "threshold", "split bits", "merge bits")
    head += ("splits a neurite", "merges a neurite")
    keys = ("pixel_error", "rand_error", "threshold", "split_bits", "merge_bits")
    keys += ("splits_per_neurite", "merges_per_neurite")
    rows = [
        "| " + " | ".join([poses, *(f"{values[k]:.4g}" for k in keys)]) + " |"
        for poses, values in found.items()
    ]
    return f"""# Membranes of ISBI 2012

A U-Net trained as in its paper: crops of the slices, elastic deformation, border
weights, and overlapping tiles when predicting
([isbi2012.toml](configs/isbi2012.toml), {epochs} epochs). Errors on the {slices}
slices held back, at the end of the stack; the threshold is the one with the smallest
Rand error on these slices, as the challenge chose it.

| | {" | ".join(head)} |
|{"---|" * (len(head) + 1)}
{chr(10).join(rows)}

Pixel error is the share of wrong pixels at 0.5. Rand error is 1 less the F-score of
the adapted Rand index. Split and merge bits are the two parts of the variation of
information; the last two columns count components and stand in for the challenge's
warping error, whose tool is not used here. The slices are of the challenge's training
stack, and the truth of its test stack is not public: no figure is comparable with the
leader board.

Again: `python benchmarks/membranes.py docs/configs/isbi2012.toml --docs docs`.
"""


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--docs", type=Path, help="Write membranes.md here.")
    options = parser.parse_args()
    config = load_config(options.config)
    output = Path(config.output)
    if not (output / "model" / "README.md").exists():
        resume = (output / "checkpoint.ckpt").exists()
        train_config(config, resume=resume, say=print)
    held = find_cases(config.data, config.labels).held_cases
    found = measure(output / "model", held)
    print(json.dumps(found))
    if options.docs:
        text = page(found, len(held), sum(stage.epochs for stage in config.stage))
        (options.docs / "membranes.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

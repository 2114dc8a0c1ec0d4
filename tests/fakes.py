"""A predictor without a network, and folders of tiny images, for batch tests."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from medseg.batch import BatchOptions, Summary, run_batch
from medseg.image import Image
from medseg.labels import Label, LabelSet
from medseg.segmentation import Segmentation, stamped

NUMBERED = LabelSet((Label(1, "object", "#ffffff"),), "instances")
SIDE = 8
# The counts of the reliability goals; a plain run of the tests has fewer.
NIGHTLY = os.environ.get("MEDSEG_NIGHTLY") == "1"


class NumberPredictor:
    """Each pixel above 0 is its own grey value: the mask tells its image's number."""

    def __init__(self, pause: float = 0.0, engine: str = "fake") -> None:
        self.labels = NUMBERED
        self.pause = pause
        self.engine = engine
        self.seen = 0

    models = ()
    streams = 1
    looks_for_size = False

    def describe(self) -> Mapping[str, Any]:
        return {
            "model": "numbers",
            "model_hash": "0" * 64,
            "engine": self.engine,
            "device": "cpu",
        }

    def prepare(self, image: Image) -> Image:
        return image

    def infer(self, prepared: Image) -> np.ndarray:
        time.sleep(self.pause)
        self.seen += 1
        return prepared.pixels[0]

    def finish(
        self,
        prepared: Image,
        inferred: np.ndarray,
        *,
        probabilities: bool = False,
        uncertainty: bool = False,
    ) -> Segmentation:
        shape, mask = prepared.spatial_shape, inferred.astype(np.uint16)
        return Segmentation(
            mask,
            self.labels,
            prepared.geometry,
            stamped({"device": "cpu", "fallbacks": []}, mask),
            np.zeros((1, *shape), np.float32) if probabilities else None,
            np.zeros(shape, np.float32) if uncertainty else None,
        )


class ChestPredictor(NumberPredictor):
    """Three overlapping structures, thirds of the film."""

    def __init__(self) -> None:
        super().__init__()
        names = ("right_lung", "left_lung", "heart")
        self.labels = LabelSet(
            tuple(Label(i, n, "#102030") for i, n in enumerate(names, 1)), "overlapping"
        )

    def finish(
        self, prepared: Image, inferred: np.ndarray, **maps: bool
    ) -> Segmentation:
        mask = np.zeros((3, *inferred.shape), np.uint8)
        mask[0, 1:-1, :2] = mask[1, 1:-1, -2:] = mask[2, 4:-1, 2:-2] = 1
        return Segmentation(mask, self.labels, prepared.geometry)


def write_number(path: Path, number: int) -> Path:
    """Write an 8 x 8 film with ``number`` in its middle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[2:6, 2:6] = number
    PillowImage.fromarray(pixels).save(path)
    return path


def write_folder(folder: Path, count: int, suffix: str = ".png") -> list[Path]:
    """Write films 1..count in two levels."""
    return [
        write_number(folder / f"ward{i % 3}" / f"film{i:03d}{suffix}", i % 255 + 1)
        for i in range(count)
    ]


def run(folder: Path, out: Path, **options: object) -> Summary:
    """Run quietly with a fresh fake predictor."""
    return run_batch([folder], out, NumberPredictor(), BatchOptions(**options))


def tree(folder: Path, journal: bool = False) -> dict[str, str]:
    """Return the hash of every file below ``folder``."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (journal or path.name != "medseg-run.jsonl")
    }


def main() -> None:
    """``python fakes.py PAUSE ARGUMENTS...``: the command line with the fake model."""
    from medseg import cli
    from medseg.batch import load

    pause = float(sys.argv.pop(1))
    load.load_labels = lambda models: NUMBERED
    load.load_predictor = lambda models, **options: NumberPredictor(pause)
    cli.main()


if __name__ == "__main__":
    main()

"""Three ways to tell cells apart, under the same small budget.

    python benchmarks/compare_instances.py DATA --runs RUNS --docs docs

trains plain cross-entropy with components, border-weighted cross-entropy with
components, and distance and border maps with a watershed on DATA/dic-hela (the last
third of the movie held back) and DATA/dsb2018, scores each on the images held back
on their own grid, and writes ``instances.md`` with a picture of drawn cells. A run
that is finished in RUNS is not trained again, one that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from skimage.segmentation import find_boundaries

from medseg.image import Image
from medseg.instances import InstanceRule
from medseg.model import load_model
from medseg.predict import Predictor
from medseg.train.config import TrainConfig
from medseg.train.config_cells import CellsConfig
from medseg.train.config_tables import (
    AugmentConfig,
    DataConfig,
    LabelsConfig,
    LossConfig,
    NetworkConfig,
    StageConfig,
)
from medseg.train.run import train_config

RATE = 2e-3
COMPONENTS = InstanceRule("components", min_size=20)
WATERSHED = InstanceRule("watershed", smoothing=1.5, height=0.12, min_size=20)
CROSS_ENTROPY = LossConfig(cross_entropy=1, dice=0)
WAYS: dict[str, tuple[CellsConfig, LossConfig]] = {
    "plain cross-entropy, components": (CellsConfig(COMPONENTS), CROSS_ENTROPY),
    "border-weighted cross-entropy, components": (
        CellsConfig(COMPONENTS, border_weight=10),
        CROSS_ENTROPY,
    ),
    "distance and border maps, watershed": (CellsConfig(WATERSHED), LossConfig()),
}
# Folder and what suits the size of the cells.
SETS: dict[str, dict[str, Any]] = {
    "dic_hela": {
        "folder": "dic-hela",
        "cells": {"diameter": 110.0, "border_sigma": 8.0, "crops": 6},
        "rule": {"min_size": 500},
        "smoothing": 3.0,
        "network": {"widths": [16, 32, 64, 96, 128, 128], "patch": 2},
    },
    "dsb2018": {
        "folder": "dsb2018",
        "rescale": True,
        "cells": {"diameter": 32.0, "border_sigma": 4.0, "crops": 3},
        "rule": {"min_size": 15},
        "smoothing": 1.5,
        "network": {"widths": [16, 32, 64, 96, 128], "patch": 1},
    },
}


def configuration(name: str, way: str, options: argparse.Namespace) -> TrainConfig:
    """Return the configuration of one run."""
    facts = SETS[name]
    cells, loss = WAYS[way]
    rule = replace(cells.rule, smoothing=facts["smoothing"], **facts["rule"])
    number = list(WAYS).index(way)
    return TrainConfig(
        name=f"{name}-{number}".replace("_", "-"),
        output=str(options.runs / f"{name}-{number}"),
        labels=LabelsConfig(("cell",), "instances"),
        data=(
            DataConfig(
                name,  # type: ignore[arg-type]
                str(options.data / facts["folder"]),
                rescale=facts.get("rescale", False),
            ),
        ),
        stage=(StageConfig((options.size,) * 2, options.epochs, 8, RATE),),
        network=NetworkConfig("unet", {**facts["network"], "norm": "batch"}),
        loss=loss,
        augmentation=AugmentConfig(rotate=15, scale=0.2, contrast=0.5, noise=0.3),
        cells=replace(cells, rule=rule, **facts["cells"]),
        precision=options.precision,
        # A short run: an average over more steps would still hold the start.
        average=0.98,
        validate_every=max(1, options.epochs // 3),
        licence="Research only",
    )


def results(options: argparse.Namespace) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield set, way and scores of every run, trained where it is not there yet."""
    for name in SETS:
        for way in WAYS:
            config = configuration(name, way, options)
            folder = Path(config.output) / "model"
            if not (folder / "README.md").exists():
                train_config(
                    config,
                    resume=(Path(config.output) / "checkpoint.ckpt").exists(),
                    say=print,
                )
            yield name, way, dict(load_model(folder).spec.scores[name]["cell"])


def drawn_cells(size: int = 256) -> NDArray[np.uint8]:
    """Return a drawn image of round cells, in pairs that touch."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:size, :size]
    image = rng.normal(20, 4, (size, size))
    for cy, cx in rng.uniform(30, size - 30, (9, 2)):
        angle = rng.uniform(0, np.pi)
        for side in (-1, 1):
            oy, ox = cy + side * 15 * np.sin(angle), cx + side * 15 * np.cos(angle)
            away = np.hypot(y - oy, x - ox)
            image = np.maximum(image, rng.uniform(90, 160) * (away < 16))
    return (image + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)


def picture(options: argparse.Namespace, path: Path) -> None:
    """Draw what each way makes of the drawn cells."""
    image = drawn_cells()
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    panels = figure.subplots(1, 1 + len(WAYS))
    panels[0].imshow(image, cmap="gray")
    panels[0].set_title("drawn cells")
    for axes, way in zip(panels[1:], WAYS, strict=True):
        folder = Path(configuration("dsb2018", way, options).output) / "model"
        mask = Predictor(load_model(folder)).predict(Image.from_array(image[None])).mask
        shown = np.repeat(image[..., None], 3, axis=2)
        shown[find_boundaries(mask, mode="inner")] = (242, 177, 52)
        axes.imshow(shown)
        axes.set_title(f"{way}\n{mask.max()} cells", fontsize=8)
    for axes in panels:
        axes.set_axis_off()
    figure.savefig(path, dpi=110)


def page(rows: list[tuple[str, str, dict[str, Any]]], options: Any) -> str:
    """Return ``instances.md``."""
    lines = [
        "# Telling cells apart",
        "",
        "Three ways from a network to cells, the same U-Net and budget for each: "
        f"{options.epochs} epochs of {options.size} x {options.size} crops, batch 8, "
        f"learning rate {RATE:g}, seed 1. Scores on the images held back (the last "
        "third of the DIC-HeLa movie by time; every fifth image of "
        "DSB 2018), over all their cells, on the images' own grid. SEG "
        "looks at single cells; the IoU of pixels hardly sees the difference.",
        "",
        "| set | way | SEG | AP50 | pixel IoU | cells | images |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, way, score in rows:
        lines.append(
            f"| {name} | {way} | {score['SEG']:.4f} | {score['AP50']:.4f} "
            f"| {score['IoU']:.4f} | {score['cells']} | {score['images']} |"
        )
    lines += [
        "",
        "![The three ways on drawn cells](instances.png)",
        "",
        "Again: `python benchmarks/compare_instances.py DATA --runs RUNS --docs docs "
        f"--epochs {options.epochs} --size {options.size}`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train, score, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/instances"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument(
        "--precision", choices=["32-true", "bf16-mixed"], default="bf16-mixed"
    )
    options = parser.parse_args()
    rows = list(results(options))
    picture(options, options.docs / "instances.png")
    (options.docs / "instances.md").write_text(page(rows, options), encoding="utf-8")
    print(json.dumps([{"set": s, "way": w, **score} for s, w, score in rows]))


if __name__ == "__main__":
    main()

"""U-Net, DeconvNet and SegNet x cross-entropy, Dice and both, on JSRT.

    python benchmarks/compare_networks.py JSRT_FOLDER --runs RUNS --docs docs

trains each pair on the training films, scores it on the validation films on their
own grid, and writes ``comparison.md`` with its pictures. A pair that is finished in
RUNS is not trained again, one that was stopped goes on. The films may not be shown,
so the pictures are of a drawn film.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import nn

from medseg.datasets.synthetic import chest_film
from medseg.image import Image
from medseg.model import load_model
from medseg.overlay import overlay
from medseg.predict import Predictor
from medseg.train.config import TrainConfig
from medseg.train.config_tables import (
    DataConfig,
    LabelsConfig,
    LossConfig,
    NetworkConfig,
    StageConfig,
)
from medseg.train.run import train_config

NAMES = ("right_lung", "left_lung", "heart", "right_clavicle", "left_clavicle")
COLOURS = ("#4c9be8", "#2f6fb5", "#e0524d", "#f2b134", "#c98a12")
SHOWN = ("lungs", "heart", "clavicles")
BATCH, RATE = 2, 2e-3
# Widths are scaled so that a comparison of nine runs fits a desktop computer.
NETWORKS = {
    "U-Net": NetworkConfig("unet", {"widths": [16, 32, 64, 128, 256]}),
    "DeconvNet": NetworkConfig("deconvnet", {"width": 0.125}),
    "SegNet": NetworkConfig("segnet", {"width": 0.25}),
}
LOSSES = {
    "cross-entropy": LossConfig(cross_entropy=1, dice=0),
    "Dice": LossConfig(cross_entropy=0, dice=1),
    "both": LossConfig(cross_entropy=1, dice=1),
}


def configuration(
    network: str, loss: str, arguments: argparse.Namespace
) -> TrainConfig:
    name = f"{network}-{loss}".lower()
    return TrainConfig(
        name=name,
        output=str(arguments.runs / name),
        labels=LabelsConfig(NAMES, "overlapping", COLOURS),
        data=(DataConfig("jsrt", str(arguments.folder)),),
        stage=(StageConfig((arguments.size,) * 2, arguments.epochs, BATCH, RATE, 0.3),),
        network=NETWORKS[network],
        loss=LOSSES[loss],
        precision=arguments.precision,
        # A short run: an average over more steps would still hold the start.
        average=0.98,
        keep_largest=NAMES,
        licence="Research and education only",
    )


def seconds_per_image(predictor: Predictor, repeats: int = 5) -> float:
    film = chest_film(np.random.default_rng(1), 1024)
    image = Image.from_array(film.image[None])
    predictor.predict(image)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        predictor.predict(image)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def table(rows: list[dict[str, Any]]) -> str:
    head = ["network", "loss", *(f"{s} Dice | {s} IoU" for s in SHOWN)]
    head += ["failed", "parameters", "s / film"]
    lines = ["| " + " | ".join(head) + " |"]
    lines.append("|" + "---|" * (len(SHOWN) * 2 + 5))
    for row in rows:
        scores = row["scores"]
        cells = [row["network"], row["loss"]]
        for name in SHOWN:
            cells += [f"{scores[name]['dice']:.4f}", f"{scores[name]['iou']:.4f}"]
        cells += [str(sum(scores[name]["n_failed"] for name in SHOWN))]
        cells += [f"{row['parameters'] / 1e6:.2f} M", f"{row['seconds']:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw_grid(folders: dict[tuple[str, str], Path], path: Path) -> None:
    film = chest_film(np.random.default_rng(11), 512)
    image = Image.from_array(film.image[None])
    figure = Figure(figsize=(9, 9.4), layout="constrained")
    axes = figure.subplots(len(NETWORKS), len(LOSSES), squeeze=False)
    for i, network in enumerate(NETWORKS):
        for k, loss in enumerate(LOSSES):
            seg = Predictor(load_model(folders[network, loss])).predict(image)
            axes[i, k].imshow(overlay(image, seg))
            axes[i, k].set_title(f"{network}, {loss}", fontsize=10)
            axes[i, k].axis("off")
    figure.savefig(path, dpi=90)


def draw_curves(rows: list[dict[str, Any]], path: Path) -> None:
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, len(NETWORKS), sharey=True)
    for axis, network in zip(axes, NETWORKS, strict=True):
        for row in rows:
            if row["network"] == network:
                seen = [(e, v) for e, v in row["curve"] if v == v]
                axis.plot(*zip(*seen, strict=True), marker=".", label=row["loss"])
        axis.set(title=network, xlabel="epoch", ylim=(0, 1))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("validation Dice, mean of five")
    axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=110)


def page(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> str:
    films = rows[0]["scores"]["heart"]["n"]
    return f"""# U-Net, DeconvNet and SegNet with three losses

JSRT with the SCR masks: trained on the training films, scored on the {films}
validation films on their own grid of 1024 x 1024 (macro mean over films; "lungs" and
"clavicles" are both sides together; failures are counted in). All runs have the same
films, augmentation, seed, {arguments.epochs} epochs at {arguments.size} x
{arguments.size}, batch {BATCH}, a peak learning rate of {RATE:g} and
{arguments.precision}. Widths are scaled to the machine:
DeconvNet has 1/8 and SegNet 1/4 of the published widths, the U-Net starts with 16
channels. Times are for `Predictor.predict` on a film of 1024 x 1024, median of five,
on one machine: compare them with each other only.

{table(rows)}

![Validation Dice against the epoch](comparison-curves.png)

The same nine models on a drawn film (JSRT films may not be redistributed):

![Nine segmentations of one drawn film](comparison-films.png)

Made by

```
python benchmarks/compare_networks.py JSRT_FOLDER --runs RUNS --docs docs \\
    --epochs {arguments.epochs} --size {arguments.size} \\
    --precision {arguments.precision}
```
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--docs", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--precision", default="bf16-mixed")
    arguments = parser.parse_args()
    rows, folders = [], {}
    for network in NETWORKS:
        for loss in LOSSES:
            config = configuration(network, loss, arguments)
            done = Path(config.output) / "row.json"
            if not done.exists():
                folder = train_config(config, resume=True, say=print)
                model = load_model(folder)
                row = {
                    "network": network,
                    "loss": loss,
                    "config": asdict(config.stage[0]),
                    "scores": model.spec.scores["jsrt"],
                    "parameters": parameters(model.network),
                    "curve": read_curve(Path(config.output) / "log.csv"),
                }
                done.write_text(json.dumps(row, indent=1))
            rows.append(json.loads(done.read_text()))
            folders[network, loss] = Path(config.output) / "model"
    # All at once, so that the times can be compared with each other.
    for row in rows:
        model = load_model(folders[row["network"], row["loss"]])
        row["seconds"] = seconds_per_image(Predictor(model))
    arguments.docs.mkdir(exist_ok=True)
    draw_curves(rows, arguments.docs / "comparison-curves.png")
    draw_grid(folders, arguments.docs / "comparison-films.png")
    (arguments.docs / "comparison.md").write_text(page(rows, arguments))


def read_curve(path: Path) -> list[tuple[int, float]]:
    log = np.genfromtxt(path, delimiter=",", names=True)
    dice = [name for name in log.dtype.names or () if name.startswith("score_")]
    means = np.mean([log[name] for name in dice], axis=0)
    return list(zip(log["epoch"].astype(int).tolist(), means.tolist(), strict=True))


if __name__ == "__main__":
    main()

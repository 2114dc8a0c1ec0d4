"""What a training configuration says about the model that comes out of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medseg.errors import ConfigError
from medseg.instances import MAPS
from medseg.labels import Label, LabelSet
from medseg.model import load_model
from medseg.model_spec import (
    Cleaning,
    Decoding,
    Flip,
    Inference,
    ModelSpec,
    Network,
    Training,
)
from medseg.networks import build
from medseg.networks.pretrained import load_pretrained
from medseg.train.cell_data import STEPS
from medseg.train.config import TrainConfig
from medseg.train.split import Split
from medseg.train.start import describe_start, start_from, start_spec
from medseg.transforms import Step

COLOUR = "#4c9be8"
WINDOW = 512
"""Images with cells go through the network in windows of this size; volumes, which
need more memory, in windows as large as the crops of the last stage."""


def label_set(config: TrainConfig) -> LabelSet:
    """Return the label set of a configuration, numbered from 1."""
    colours = config.labels.colours or (COLOUR,) * len(config.labels.names)
    pairs = zip(config.labels.names, colours, strict=True)
    labels = tuple(Label(k, n, c) for k, (n, c) in enumerate(pairs, start=1))
    return LabelSet(labels, config.labels.kind)


def network_arguments(config: TrainConfig) -> dict[str, Any]:
    """Return the network's arguments with the channels that the labels need."""
    return {
        **config.network.arguments,
        "in_channels": 1,
        "out_channels": config.channels,
    }


def build_network(config: TrainConfig) -> nn.Module:
    """Return the network of a configuration with the weights it starts from.

    Raises:
        ConfigError: If its name or an argument is unknown, or a stage freezes a
            part that it has not, or the model to start from is of another kind.
        FileError: If the weights cannot be used.
        ModelError: If the model to start from cannot be.
    """
    network = build(config.network.name, network_arguments(config))
    parts = {name for name, _ in network.named_modules() if name}
    for name in (name for stage in config.stage for name in stage.frozen):
        if name not in parts:
            top = ", ".join(part for part, _ in network.named_children())
            problem = f"{config.network.name} has no part {name!r}"
            raise ConfigError("stage.frozen", problem, f"Choose from {top}")
    if config.network.pretrained:
        load_pretrained(network, Path(config.network.pretrained))
    if config.network.start:
        start_from(network, load_model(config.network.start), config)
    return network


def check_sizes(config: TrainConfig, cases: int) -> None:
    """Check that a batch of each stage goes through the network and keeps its size.

    Only shapes are worked out: that takes no memory and hardly time.

    Raises:
        ConfigError: If one does not.
    """
    with torch.device("meta"):
        network = build(config.network.name, network_arguments(config)).train()
    images = cases * (config.cells.crops if config.labels.kind == "instances" else 1)
    for stage in config.stage:
        batch = torch.zeros(min(stage.batch, images), 1, *stage.size, device="meta")
        try:
            found = list(network(batch).shape[2:])
        except (RuntimeError, ValueError) as error:
            problem = f"is {list(stage.size)}, too small for {config.network.name}"
            problem += f" in batches of {len(batch)} ({str(error).splitlines()[0]})"
            remedy = "Use larger images or batches, or a network of fewer levels"
            raise ConfigError("stage.size", problem, remedy) from error
        if found != list(stage.size):
            problem = f"make {config.network.name} turn {list(stage.size)} into {found}"
            remedy = "Use those that keep the size, as mirror = true"
            raise ConfigError("network.arguments", problem, remedy)


def make_spec(config: TrainConfig, split: Split, epochs: int) -> ModelSpec:
    """Return the spec of the model that ``config`` trained for ``epochs``."""
    cells = config.labels.kind == "instances"
    inherited = start_spec(config).licence if config.network.start else ""
    return ModelSpec(
        name=config.name,
        description=config.description,
        licence=config.licence or inherited,
        citation=config.citation,
        network=Network(config.network.name, network_arguments(config)),
        labels=label_set(config),
        **(_cell_grid(config) if cells else _film_grid(config)),
        training=Training(
            tuple(split.counts),
            sum(split.counts.values()),
            _facts(config, split, epochs),
        ),
    )


def _film_grid(config: TrainConfig) -> dict[str, Any]:
    """Return how a film meets the network, and how labels are made."""
    size = config.stage[-1].size
    exclusive = config.labels.kind == "exclusive"
    steps = [
        Cleaning("keep_largest", config.keep_largest) if config.keep_largest else None,
        Cleaning("fill_holes", config.fill_holes) if config.fill_holes else None,
    ]
    return {
        # What load_sample and SampleDataset do to a training film.
        "preprocessing": (
            Step("Resize", {"spatial_size": list(size), "mode": "area"}),
            Step("NormalizeIntensity"),
        ),
        "inference": Inference("resize", size),
        "decoding": Decoding(
            "argmax" if exclusive else "threshold",
            steps=tuple(step for step in steps if step is not None),
        ),
    }


def _cell_grid(config: TrainConfig) -> dict[str, Any]:
    """Return how an image with cells meets the network, and how they are found."""
    cells, size = config.cells, config.stage[-1].size
    return {
        "preprocessing": STEPS,
        "inference": Inference(
            "sliding_window",
            size if len(size) == 3 else (WINDOW, WINDOW),
            batch=1,
            diameter=cells.diameter or None,
        ),
        "decoding": Decoding("instances", instances=cells.rule),
        "flips": _poses(size),
    }


def _poses(size: tuple[int, ...]) -> tuple[Flip, ...]:
    """Return the poses, but the first, in which crops of a size were shown.

    All eight of a square; the slices of a volume in both orders.
    """
    square = size[-2] == size[-1]
    axes = range(len(size) if square else len(size) - 2)
    mirrored = [c for n in range(len(axes) + 1) for c in combinations(axes, n)]
    return tuple(
        Flip(some, transpose=turned or None)
        for turned in ((False, True) if square else (False,))
        for some in mirrored
        if turned or some
    )


def _facts(config: TrainConfig, split: Split, epochs: int) -> Mapping[str, Any]:
    stages = [
        f"{s.epochs} epochs at {' x '.join(map(str, s.size))}, batch {s.batch}, "
        f"learning rate {s.learning_rate:g}"
        + (f", gas drawn into {s.gas:.0%} of the films" if s.gas else "")
        for s in config.stage
    ]
    cells: dict[str, Any] = {}
    if config.labels.kind == "instances":
        table = config.cells
        cells["targets"] = ", ".join(MAPS[table.rule.method])
        cells["crops"] = f"{table.crops} an image and epoch"
        weights = f"w0 {table.border_weight:g}, sigma {table.border_sigma:g} pixels"
        cells["border weights"] = weights if table.border_weight else "none"
        timed = [d.set for d in config.data if d.split == "time"]
        if timed:
            cells["split"] = f"by time within each movie of {', '.join(timed)}"
    start: dict[str, Any] = {}
    if config.network.pretrained:
        file = Path(config.network.pretrained)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        start["encoder starts from"] = f"{file.name}, SHA-256 {digest}"
    if config.network.start:
        start["starts from"] = _past(start_spec(config), config)
        if config.network.keep:
            start["weights"] = (
                f"{config.network.keep:.0%} those that it starts from, "
                f"{1 - config.network.keep:.0%} those learnt"
            )
    return {
        **cells,
        **start,
        "training cases": dict(split.counts),
        "held back": {name: len(cases) for name, cases in split.held.items()},
        "stages": "; ".join(stages),
        "epochs": epochs,
        "loss": f"{config.loss.cross_entropy:g} cross-entropy + {config.loss.dice:g} "
        f"{'squared' if config.loss.squared else 'plain'} Dice",
        "optimiser": f"AdamW, weight decay {config.weight_decay:g}, running average "
        f"of the weights with decay {config.average:g}",
        "precision": config.precision,
        "seed": config.seed,
    }


def _past(donor: ModelSpec, config: TrainConfig) -> Mapping[str, Any]:
    """Return what a model that a run goes on from brings with it."""
    digest = donor.weights.sha256 if donor.weights else ""
    facts = donor.training.facts
    kept = ("encoder starts from", "weights", "stages", "training cases")
    # One line a generation: nested, the fifth would be too deep for a spec.
    before = facts.get("starts from", {})
    line = [before[k] for k in ("model", "before") if k in before]
    return {
        "model": f"{donor.name} {donor.version}, SHA-256 {digest}",
        **({"before": "; ".join(line)} if line else {}),
        "licence": donor.licence or "not stated",
        "last layer": describe_start(donor, config),
        **{name: facts[name] for name in kept if name in facts},
    }

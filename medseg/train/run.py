"""From a configuration file to a model folder with scores and a card."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch import nn

from medseg.datasets.case import Case
from medseg.engines.openvino import has_bfloat16
from medseg.errors import ConfigError, FileError
from medseg.io.atomic import make_folder, replace_file
from medseg.io.lock import hold
from medseg.model import ModelSpec, load_model, save_model
from medseg.predict import Predictor
from medseg.schema import parse
from medseg.train import cell_scores
from medseg.train.card import write_card
from medseg.train.config import TrainConfig, load_config
from medseg.train.curves import clock, time_left, write_logs
from medseg.train.loop import EpochLog, fit, make_fabric
from medseg.train.score import label_agreement, score_cases, score_table
from medseg.train.spec import build_network, check_sizes, make_spec
from medseg.train.split import Split, find_cases
from medseg.train.start import describe_start, keep_share, start_spec

CHECKPOINT = "checkpoint.ckpt"
CONFIG = "config.json"
CASES = "cases"
AGREEMENT = 0.9999
EXACT_LAYERS = (0, 3, 6)
AGREEMENT_CASES = 32
Say = Callable[[str], None]


def train(
    path: str | Path, *, resume: bool = False, say: Say = lambda line: None
) -> Path:
    """Train the model that the configuration file ``path`` describes.

    Writes into the configuration's ``output``: a checkpoint after every epoch, and
    at the end ``log.csv``, ``curves.png``, TensorBoard events and the model folder
    ``model/`` with its card. A run that is resumed goes on exactly.

    Args:
        path: TOML file, see `medseg.train.config.TrainConfig`.
        resume: Go on from the checkpoint in ``output``.
        say: Called with a line of progress after every epoch.

    Returns:
        The model folder.

    Raises:
        ConfigError: If the configuration cannot be used, or ``output`` holds
            another run; before anything is loaded.
        FileError: If a data set is not where or what it should be.
    """
    return train_config(load_config(Path(path)), resume=resume, say=say)


def train_config(
    config: TrainConfig, *, resume: bool = False, say: Say = lambda line: None
) -> Path:
    """Train a configuration that is already in hand; see :func:`train`."""
    output = Path(config.output)
    build_network(config)
    split = find_cases(config.data, config.labels)
    make_spec(config, split, config.epochs)  # what no model may say is said now
    check_names(config, split)
    check_sizes(config, len(split.train))
    fabric = make_fabric(config)
    make_folder(output)
    # Of several devices' processes the first has the folder for all.
    alone = nullcontext() if os.environ.get("LOCAL_RANK") else hold(output)
    with alone:
        claim(config, split, output, resume)
        try:
            return _train(config, split, fabric, output, say)
        except KeyboardInterrupt:
            say(f"{output}: stopped. With --resume it goes on after the last epoch.")
            raise


def _train(
    config: TrainConfig, split: Split, fabric: Fabric, output: Path, say: Say
) -> Path:
    held = sum(map(len, split.held.values()))
    say(f"{len(split.train)} cases to train on, {held} held back")
    if config.network.start:
        donor = start_spec(config)
        taken = describe_start(donor, config)
        say(f"going on from {donor.name} {donor.version}; last layer: {taken}")

    logs: list[EpochLog] = []

    def report(log: EpochLog, total: int) -> None:
        logs.append(log)
        say(_line(log, total, config, logs))

    network, history = fit(
        config,
        list(split.train),
        split.held_cases,
        output / CHECKPOINT,
        report,
        fabric,
    )
    write_logs(history, output)
    if config.network.keep:
        keep_share(network, load_model(config.network.start), config.network.keep)
    return finish(config, split, network, history, output / "model", say)


def check_names(config: TrainConfig, split: Split) -> None:
    """Check that somebody drew every structure, or cell, that is to be learnt.

    Raises:
        ConfigError: If there is no mask of a structure; lists those that there are. If
            a set has no cells.
    """
    if config.labels.kind == "instances":
        bare = sum(case.instances is None for case in split.train)
        if bare:
            problem = f"is 'instances' and {bare} training cases have no cells drawn"
            raise ConfigError("labels.kind", problem, "Use sets of cells")
        return
    drawn = {name for case in split.train for name in case.truth}
    unknown = [name for name in config.labels.names if name not in drawn]
    if unknown:
        folders = ", ".join(entry.folder for entry in config.data)
        raise ConfigError(
            "labels.names",
            f"{', '.join(unknown)} is drawn in no training case of {folders}",
            f"Put masks there, or choose from {', '.join(sorted(drawn)) or 'none'}",
        )


def claim(config: TrainConfig, split: Split, output: Path, resume: bool) -> None:
    """Make ``output`` this run's folder.

    Raises:
        ConfigError: If it holds another run, a run with other cases, or the same one
            without ``resume``.
        FileError: If the record of the run that it holds cannot be read.
        DiskError: If it cannot be written to.
    """
    mine, cases = _plain(config), _ids(split)
    record = output / CONFIG
    if (output / CHECKPOINT).exists():
        if not resume:
            raise ConfigError(
                "output", f"{output} holds a run", "Add --resume or choose another"
            )
        theirs, seen = _recorded(record)
        changed = sorted(k for k in mine if mine[k] != theirs.get(k))
        if changed:
            raise ConfigError(
                changed[0],
                f"differs from the run that {output} holds",
                "Undo the change or choose another output",
            )
        _check_cases(cases, seen or cases, output)
    with replace_file(record) as part:
        text = json.dumps({**mine, CASES: cases}, indent=1)
        part.write_text(text, encoding="utf-8")


def _ids(split: Split) -> dict[str, list[str]]:
    parts = {"train": split.train, "held": split.held_cases}
    return {part: sorted({case.id for case in cases}) for part, cases in parts.items()}


def _check_cases(
    mine: Mapping[str, list[str]], theirs: Mapping[str, list[str]], output: Path
) -> None:
    """Refuse cases of another part: a film that was learnt would be scored as unseen.

    Raises:
        ConfigError: If the cases differ; names some that do.
    """
    moved = sorted({x for part in mine for x in {*mine[part]} ^ {*theirs[part]}})
    if moved:
        raise ConfigError(
            "data",
            f"the films differ from those of the run that {output} holds: "
            f"{len(moved)} are new, gone or of another part, as {moved[0]}",
            "Undo the change or choose another output",
        )


def _plain(config: TrainConfig) -> dict[str, Any]:
    """Return what decides the outcome, as JSON holds it; not where files lie.

    A model to go on from is its weights, whatever it is called. The share of it that is
    kept is mixed in at the end, and may be changed when a run is resumed.
    """
    table = _without_places(config)
    if config.network.start:
        weights = start_spec(config).weights
        table["network"]["start"] = weights.sha256 if weights else ""
    return table


def _without_places(config: TrainConfig) -> dict[str, Any]:
    table = json.loads(json.dumps(dataclasses.asdict(config)))
    for entry in table["data"]:
        del entry["folder"]
    for name in ("output", "workers", "devices", "accelerator"):
        del table[name]
    del table["network"]["keep"]
    return dict(table)


def _recorded(path: Path) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return the record of a run, with what newer versions add at its defaults.

    And the ids of its cases by part; none of a run of a version that kept none.

    Raises:
        FileError: If it cannot be read.
    """
    try:
        table = dict(json.loads(path.read_text("utf-8")))
        table["data"] = [{**entry, "folder": ""} for entry in table["data"]]
        seen = {part: list(ids) for part, ids in table.pop(CASES, {}).items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FileError(
            path,
            f"is not the record of a run ({error})",
            "Put it back, or choose another output",
        ) from error
    return _without_places(parse(TrainConfig, {**table, "output": ""}, "")), seen


def _line(log: EpochLog, total: int, config: TrainConfig, logs: list[EpochLog]) -> str:
    costs = [(s.epochs, math.prod(s.size)) for s in config.stage]
    line = f"epoch {log.epoch + 1}/{total}  loss {log.loss:.4f}  {log.seconds:.0f} s"
    if log.scores:
        parts = ", ".join(f"{n} {v:.4f}" for n, v in log.scores.items())
        line += f"  score {log.mean_score:.4f} ({parts})"
    return f"{line}  {clock(time_left(logs, costs))} left"


def finish(
    config: TrainConfig,
    split: Split,
    network: nn.Module,
    logs: list[EpochLog],
    folder: Path,
    say: Say,
) -> Path:
    """Save the model, score it on the cases held back, and write its card."""
    spec = make_spec(config, split, len(logs))
    save_model(folder, spec, network, dtype="float16")
    spec = allow_bfloat16(spec, folder, split)
    save_model(folder, spec, network, dtype="float16")
    predictor = Predictor(load_model(folder))
    scores: dict[str, Any] = {}
    for name, cases in split.held.items():
        say(f"scoring {len(cases)} cases of {name}")
        scores[name] = score_set(predictor, cases, config)
    spec = dataclasses.replace(spec, scores=scores)
    save_model(folder, spec, network, dtype="float16")
    write_card(load_model(folder).spec, folder)
    return folder


def score_set(
    predictor: Predictor, cases: Sequence[Case], config: TrainConfig
) -> dict[str, Any]:
    """Return what the card says of a set: scores a structure, or of the cells."""
    if config.labels.kind == "instances":
        total = cell_scores.add_scores(cell_scores.score_cases(predictor, cases))
        return {config.labels.names[0]: total.to_table()}
    found = score_cases(predictor, cases, config.labels.names)
    return dict(score_table({"": found}, {c.id: c.group for c in cases})[""])


def allow_bfloat16(spec: ModelSpec, folder: Path, split: Split) -> ModelSpec:
    """Return the spec with bfloat16 inference allowed if it changes no label.

    That is: at most 1 of 10,000 on cases held back, with as few layers in float32 as
    that takes. Where the processor has no bfloat16 units, nothing is held back or
    more layers would be needed, or than there are, float32 stays.
    """
    cases = split.held_cases[:AGREEMENT_CASES]
    if not cases or not has_bfloat16():
        return spec
    model = load_model(folder)
    exact = Predictor(model, engine="openvino", precision="float32")
    for layers in EXACT_LAYERS:
        inference = dataclasses.replace(
            spec.inference, precision="bfloat16", exact_layers=layers
        )
        faster = dataclasses.replace(spec, inference=inference)
        try:
            fast = Predictor(dataclasses.replace(model, spec=faster), engine="openvino")
        except ConfigError:  # the network has no more layers
            return spec
        if label_agreement(exact, fast, cases) >= AGREEMENT:
            return faster
    return spec

"""The training configuration: a TOML file as frozen values, checked on loading."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medseg.errors import ConfigError
from medseg.model_files import shipped_models
from medseg.schema import parse
from medseg.train.config_cells import CellsConfig
from medseg.train.config_tables import (
    AugmentConfig,
    DataConfig,
    LabelsConfig,
    LossConfig,
    NetworkConfig,
    StageConfig,
    require,
)

LUNGS = ("right_lung", "left_lung")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run, apart from the machine."""

    name: str
    output: str
    labels: LabelsConfig
    data: tuple[DataConfig, ...]
    stage: tuple[StageConfig, ...]
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augmentation: AugmentConfig = field(default_factory=AugmentConfig)
    cells: CellsConfig = field(default_factory=CellsConfig)
    description: str = ""
    licence: str = ""
    citation: str = ""
    seed: int = 1
    weight_decay: float = 0.01
    average: float = 0.995
    """Decay of the running average of the weights, which is what is saved."""
    validate_every: int = 5
    patience: int = 0
    """Validations without a better score before a stage stops early; 0: never."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    workers: int = 1
    keep_largest: tuple[str, ...] = ()
    """Structures of which only the largest component is kept."""
    fill_holes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.name), "name", "is empty", "Name the model")
        require(bool(self.data), "data", "is empty", "Add a [[data]] table")
        require(bool(self.stage), "stage", "is empty", "Add a [[stage]] table")
        require(0 <= self.average < 1, "average", f"is {self.average}", "Use 0 to 1")
        require(
            0 <= self.weight_decay < 1,
            "weight_decay",
            f"is {self.weight_decay}",
            "Use 0 to 1",
        )
        require(0 <= self.seed < 2**32, "seed", f"is {self.seed}", "Use 0 to 2^32 - 1")
        require(self.patience >= 0, "patience", f"is {self.patience}", "Use 0 or more")
        require(self.devices >= 1, "devices", f"is {self.devices}", "Use 1 or more")
        require(self.workers >= 0, "workers", f"is {self.workers}", "Use 0 or more")
        require(
            self.validate_every >= 1,
            "validate_every",
            f"is {self.validate_every}",
            "Use 1 or more",
        )
        weights = len(self.loss.class_weights)
        channels = self.channels
        require(
            weights in (0, channels),
            "loss.class_weights",
            f"has {weights} entries for {channels} channels",
            "Give one a channel (exclusive: background first), or none",
        )
        for name in ("keep_largest", "fill_holes"):
            unknown = set(getattr(self, name)) - set(self.labels.names)
            require(
                not unknown,
                name,
                f"names {sorted(unknown)}",
                f"Choose from {', '.join(self.labels.names)}",
            )
        self._check_stages()
        rescaled = any(entry.rescale for entry in self.data)
        require(
            not rescaled or self.cells.diameter > 0,
            "cells.diameter",
            "is 0 and a set is to be rescaled to it",
            "Give the diameter in pixels",
        )

    def _check_stages(self) -> None:
        dims = self.network.arguments.get("spatial_dims", 2)
        for stage in self.stage:
            require(
                len(stage.size) == dims,
                "stage.size",
                f"is {list(stage.size)} and network.arguments.spatial_dims is {dims}",
                "Give as many numbers as the network has axes",
            )
            require(
                stage.gas == 0 or bool(self.lungs),
                "stage.gas",
                f"is {stage.gas} and no lung is learnt",
                f"Use 0, or add {' or '.join(LUNGS)} to labels.names",
            )
        require(
            self.augmentation.elastic == 0 or self.labels.kind != "instances",
            "augmentation.elastic",
            f"is {self.augmentation.elastic} and cells are learnt",
            "Give cells.elastic, in pixels",
        )
        require(
            dims == 2 or self.labels.kind == "instances",
            "network.arguments.spatial_dims",
            f"is {dims} for labels of the kind {self.labels.kind}",
            "Films have 2 axes; volumes are learnt with the kind instances",
        )

    @property
    def lungs(self) -> tuple[int, ...]:
        """Positions of the lungs among the labels; of cells none, whatever their name."""
        if self.labels.kind == "instances":
            return ()
        return tuple(i for i, name in enumerate(self.labels.names) if name in LUNGS)

    @property
    def channels(self) -> int:
        """Maps that the network draws."""
        if self.labels.kind == "instances":
            return self.cells.rule.channels
        return len(self.labels.names) + (self.labels.kind == "exclusive")

    @property
    def epochs(self) -> int:
        """Epochs of all stages together."""
        return sum(stage.epochs for stage in self.stage)


def load_config(path: Path) -> TrainConfig:
    """Read a training configuration.

    Relative ``output`` and data folders are taken from the file's own folder.

    Raises:
        ConfigError: If the file is no TOML, a key is unknown (suggests the near
            one), a value has the wrong type or range, or a folder is missing;
            names the field.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(path, f"cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"is no TOML ({error})", "Correct that line") from error
    return parse_config(table, path.parent)


def parse_config(table: Mapping[str, Any], base: Path) -> TrainConfig:
    """Return the configuration in ``table``, with folders taken from ``base``.

    Raises:
        ConfigError: As :func:`load_config`.
    """
    return _resolve(parse(TrainConfig, dict(table), ""), base)


def _resolve(config: TrainConfig, base: Path) -> TrainConfig:
    data = tuple(
        dataclasses.replace(d, folder=str((base / d.folder).resolve()))
        for d in config.data
    )
    for number, entry in enumerate(data):
        if not Path(entry.folder).is_dir():
            raise ConfigError(
                f"data[{number}].folder",
                f"no folder {entry.folder}",
                f"Put the data set {entry.set} there, or correct the path",
            )
    output = str((base / config.output).resolve())
    network = config.network
    if network.pretrained:
        file = (base / network.pretrained).resolve()
        if not file.is_file():
            raise ConfigError("network.pretrained", f"no file {file}", "Put it there")
        network = dataclasses.replace(network, pretrained=str(file))
    if network.start and network.start not in shipped_models():
        folder = (base / network.start).resolve()
        if not folder.is_dir():
            problem = f"{network.start} is no shipped model and there is no {folder}"
            remedy = f"Shipped: {', '.join(shipped_models())}; or give a model folder"
            raise ConfigError("network.start", problem, remedy)
        network = dataclasses.replace(network, start=str(folder))
    return dataclasses.replace(config, data=data, output=output, network=network)

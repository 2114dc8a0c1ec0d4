"""The training configuration: a TOML file as frozen values, checked on loading."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medseg.errors import ConfigError
from medseg.labels import Kind
from medseg.schema import parse
from medseg.train.config_cells import CellsConfig

DataSet = Literal[
    "jsrt",
    "montgomery",
    "shenzhen",
    "wingspan",
    "synthetic",
    "ctc",
    "dic_hela",
    "dsb2018",
    "isbi2012",
    "synthetic_movie",
]


def _require(condition: bool, name: str, problem: str, remedy: str = "") -> None:
    if not condition:
        raise ConfigError(name, problem, remedy)


@dataclass(frozen=True)
class LabelsConfig:
    """The structures that the model learns, in channel order."""

    names: tuple[str, ...]
    kind: Kind = "overlapping"
    colours: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(bool(self.names), "labels.names", "is empty", "Name a structure")
        _require(
            not self.colours or len(self.colours) == len(self.names),
            "labels.colours",
            f"has {len(self.colours)} entries for {len(self.names)} names",
            "Give one colour a name, or none",
        )
        _require(
            self.kind != "instances" or len(self.names) == 1,
            "labels.names",
            f"has {len(self.names)} names for cells",
            "Name the one kind of cells",
        )


@dataclass(frozen=True)
class DataConfig:
    """One data set: where it lies, and which part of it is used for what.

    ``part`` is ``"split"`` (train on its training part, validate on the other),
    ``"train"`` (all cases are for training) or ``"val"`` (all for validation).
    ``split`` says how a set without a split of its own is parted: by ``"group"``, so
    that no patient or movie is cut, or by ``"time"``: the first ``share`` of the
    frames of every movie are for training, which is all that one movie allows.
    """

    set: DataSet
    folder: str
    part: Literal["split", "train", "val"] = "split"
    repeat: int = 1
    split: Literal["group", "time"] = "group"
    share: float = 2 / 3
    rescale: bool = False
    """Images are scaled so that their median cell has ``cells.diameter``."""
    truth: Literal["gold", "silver"] = "gold"
    """Which segmentation of a set of the Cell Tracking Challenge is learnt."""
    spacing: tuple[float, ...] = ()
    """``([z,] y, x)`` in mm, of images whose files state none."""

    def __post_init__(self) -> None:
        _require(self.repeat >= 1, "data.repeat", f"is {self.repeat}", "Use 1 or more")
        _require(
            0 < self.share < 1,
            "data.share",
            f"is {self.share}",
            "Use a share between 0 and 1",
        )
        _require(
            self.truth == "gold" or self.set == "ctc",
            "data.truth",
            f"is {self.truth} for {self.set}",
            "Only sets of the Cell Tracking Challenge (ctc) have silver truth",
        )
        _require(
            len(self.spacing) in (0, 2, 3) and all(s > 0 for s in self.spacing),
            "data.spacing",
            f"is {list(self.spacing)}",
            "Give ([z,] y, x) in mm, each above 0",
        )


@dataclass(frozen=True)
class NetworkConfig:
    """A network of :data:`medseg.networks.NETWORKS` and its arguments."""

    name: str = "unet"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    pretrained: str = ""
    """A safetensors file of weights to start the encoder from: see load_pretrained."""


@dataclass(frozen=True)
class LossConfig:
    """Weights of cross-entropy and soft Dice; squared Dice denominators or plain."""

    cross_entropy: float = 1.0
    dice: float = 1.0
    squared: bool = True
    class_weights: tuple[float, ...] = ()
    """One factor a channel on the cross-entropy (exclusive: background first)."""

    def __post_init__(self) -> None:
        _require(
            self.cross_entropy >= 0 and self.dice >= 0,
            "loss",
            f"has weights {self.cross_entropy} and {self.dice}",
            "Use weights of at least 0",
        )
        _require(
            self.cross_entropy + self.dice > 0,
            "loss",
            "has no term",
            "Give cross_entropy or dice a weight above 0",
        )


@dataclass(frozen=True)
class StageConfig:
    """A stretch of training at one image size; the rate follows a half cosine."""

    size: tuple[int, ...]
    epochs: int
    batch: int = 8
    learning_rate: float = 2e-3
    augmentation: float = 1.0
    """Factor on all of the configuration's augmentation, from 0 to 1."""

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "stage.epochs", f"is {self.epochs}", "Use 1 or more")
        _require(self.batch >= 1, "stage.batch", f"is {self.batch}", "Use 1 or more")
        _require(
            len(self.size) in (2, 3)
            and min(self.size[-2:]) >= 16
            and self.size[0] >= 4,
            "stage.size",
            f"is {list(self.size)}",
            "Give height and width, each 16 or more; before them, for volumes, a depth "
            "of 4 or more",
        )
        _require(
            0 < self.learning_rate < 1,
            "stage.learning_rate",
            f"is {self.learning_rate}",
            "Use a value between 0 and 1",
        )
        _require(
            0 <= self.augmentation <= 1,
            "stage.augmentation",
            f"is {self.augmentation}",
            "Use a value from 0 to 1",
        )


@dataclass(frozen=True)
class AugmentConfig:
    """How far and how often training films are changed; 0 switches a change off."""

    rotate: float = 12.0
    """Largest rotation in degrees."""
    scale: float = 0.2
    """Largest relative change of size and, apart, of aspect."""
    translate: float = 0.08
    """Largest shift as a share of the image."""
    shear: float = 0.06
    contrast: float = 0.7
    """Probability of a gamma or of a random monotone contrast curve."""
    invert: float = 0.1
    noise: float = 0.3
    blur: float = 0.2
    sharpen: float = 0.2
    resolution: float = 0.15
    shading: float = 0.2
    borders: float = 0.2
    text: float = 0.2
    devices: float = 0.2

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            top = 180.0 if item.name == "rotate" else 1.0
            _require(
                0 <= value <= top,
                f"augmentation.{item.name}",
                f"is {value}",
                f"Use a value from 0 to {top:g}",
            )

    def scaled(self, factor: float) -> AugmentConfig:
        """Return all ranges and probabilities times ``factor``."""
        values = dataclasses.asdict(self)
        return AugmentConfig(**{name: v * factor for name, v in values.items()})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run, apart from the machine."""

    name: str
    output: str
    labels: LabelsConfig
    data: tuple[DataConfig, ...]
    stage: tuple[StageConfig, ...]
    network: NetworkConfig = NetworkConfig()
    loss: LossConfig = LossConfig()
    augmentation: AugmentConfig = AugmentConfig()
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
        _require(bool(self.name), "name", "is empty", "Name the model")
        _require(bool(self.data), "data", "is empty", "Add a [[data]] table")
        _require(bool(self.stage), "stage", "is empty", "Add a [[stage]] table")
        _require(0 <= self.average < 1, "average", f"is {self.average}", "Use 0 to 1")
        _require(
            0 <= self.weight_decay < 1,
            "weight_decay",
            f"is {self.weight_decay}",
            "Use 0 to 1",
        )
        _require(self.patience >= 0, "patience", f"is {self.patience}", "Use 0 or more")
        _require(self.devices >= 1, "devices", f"is {self.devices}", "Use 1 or more")
        _require(self.workers >= 0, "workers", f"is {self.workers}", "Use 0 or more")
        _require(
            self.validate_every >= 1,
            "validate_every",
            f"is {self.validate_every}",
            "Use 1 or more",
        )
        weights = len(self.loss.class_weights)
        channels = self.channels
        _require(
            weights in (0, channels),
            "loss.class_weights",
            f"has {weights} entries for {channels} channels",
            "Give one a channel (exclusive: background first), or none",
        )
        for name in ("keep_largest", "fill_holes"):
            unknown = set(getattr(self, name)) - set(self.labels.names)
            _require(
                not unknown,
                name,
                f"names {sorted(unknown)}",
                f"Choose from {', '.join(self.labels.names)}",
            )

        dims = self.network.arguments.get("spatial_dims", 2)
        for stage in self.stage:
            _require(
                len(stage.size) == dims,
                "stage.size",
                f"is {list(stage.size)} and network.arguments.spatial_dims is {dims}",
                "Give as many numbers as the network has axes",
            )
        _require(
            dims == 2 or self.labels.kind == "instances",
            "network.arguments.spatial_dims",
            f"is {dims} for labels of the kind {self.labels.kind}",
            "Films have 2 axes; volumes are learnt with the kind instances",
        )
        rescaled = any(entry.rescale for entry in self.data)
        _require(
            not rescaled or self.cells.diameter > 0,
            "cells.diameter",
            "is 0 and a set is to be rescaled to it",
            "Give the diameter in pixels",
        )

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
    return dataclasses.replace(config, data=data, output=output, network=network)

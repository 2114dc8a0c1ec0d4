"""The tables of a training configuration, each checked for itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from medseg.errors import ConfigError
from medseg.labels import Kind

DataSet = Literal[
    "own",
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


def require(condition: bool, name: str, problem: str, remedy: str = "") -> None:
    """Raise a ConfigError about the field ``name`` unless ``condition`` holds."""
    if not condition:
        raise ConfigError(name, problem, remedy)


@dataclass(frozen=True)
class LabelsConfig:
    """The structures that the model learns, in channel order."""

    names: tuple[str, ...]
    kind: Kind = "overlapping"
    colours: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.names), "labels.names", "is empty", "Name a structure")
        require(
            not self.colours or len(self.colours) == len(self.names),
            "labels.colours",
            f"has {len(self.colours)} entries for {len(self.names)} names",
            "Give one colour a name, or none",
        )
        require(
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
        require(self.repeat >= 1, "data.repeat", f"is {self.repeat}", "Use 1 or more")
        require(
            0 < self.share < 1,
            "data.share",
            f"is {self.share}",
            "Use a share between 0 and 1",
        )
        require(
            self.truth == "gold" or self.set == "ctc",
            "data.truth",
            f"is {self.truth} for {self.set}",
            "Only sets of the Cell Tracking Challenge (ctc) have silver truth",
        )
        require(
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
    start: str = ""
    """A model to go on from, shipped or a folder: see `medseg.train.start`."""
    keep: float = 0.0
    """Share of that model's weights in those that are saved."""

    def __post_init__(self) -> None:
        given = {"in_channels", "out_channels"} & set(self.arguments)
        require(
            not given,
            "network.arguments",
            f"states {', '.join(sorted(given))}, which data and labels decide",
            "Leave it out",
        )
        require(
            0 <= self.keep < 1,
            "network.keep",
            f"is {self.keep}",
            "Use 0 or more, and less than 1",
        )
        require(
            not self.keep or bool(self.start),
            "network.keep",
            f"is {self.keep} and there is no network.start",
            "Name the model, or leave it out",
        )
        require(
            not (self.pretrained and self.start),
            "network.start",
            f"is {self.start} and network.pretrained is {self.pretrained}",
            "Give one of them: a model brings the weights of its encoder",
        )


@dataclass(frozen=True)
class LossConfig:
    """Weights of cross-entropy and soft Dice; squared Dice denominators or plain."""

    cross_entropy: float = 1.0
    dice: float = 1.0
    squared: bool = True
    class_weights: tuple[float, ...] = ()
    """One factor a channel on the cross-entropy (exclusive: background first)."""

    def __post_init__(self) -> None:
        require(
            0 <= self.cross_entropy < math.inf and 0 <= self.dice < math.inf,
            "loss",
            f"has weights {self.cross_entropy} and {self.dice}",
            "Use finite weights of at least 0",
        )
        require(
            all(0 <= weight < math.inf for weight in self.class_weights),
            "loss.class_weights",
            f"is {list(self.class_weights)}",
            "Use finite weights of at least 0",
        )
        require(
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
    frozen: tuple[str, ...] = ()
    """Parts of the network, as ``encoder``, that stay as they are in this stage."""
    gas: float = 0.0
    """Probability of bowel gas under a raised diaphragm; lungs must be learnt."""

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "stage.epochs", f"is {self.epochs}", "Use 1 or more")
        require(self.batch >= 1, "stage.batch", f"is {self.batch}", "Use 1 or more")
        require(
            len(self.size) in (2, 3)
            and min(self.size[-2:]) >= 16
            and self.size[0] >= 4,
            "stage.size",
            f"is {list(self.size)}",
            "Give height and width, each 16 or more; before them, for volumes, a depth "
            "of 4 or more",
        )
        require(
            0 < self.learning_rate < 1,
            "stage.learning_rate",
            f"is {self.learning_rate}",
            "Use a value between 0 and 1",
        )
        require(
            0 <= self.augmentation <= 1,
            "stage.augmentation",
            f"is {self.augmentation}",
            "Use a value from 0 to 1",
        )
        require(0 <= self.gas <= 1, "stage.gas", f"is {self.gas}", "Use 0 to 1")


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
    elastic: float = 0.0
    """Largest displacement, as a share of the image, of the six knots a side between
    which a smooth field bends it; the edges hardly move."""
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
            require(
                0 <= value <= top,
                f"augmentation.{item.name}",
                f"is {value}",
                f"Use a value from 0 to {top:g}",
            )

    def scaled(self, factor: float) -> AugmentConfig:
        """Return all ranges and probabilities times ``factor``."""
        values = dataclasses.asdict(self)
        return AugmentConfig(**{name: v * factor for name, v in values.items()})

"""What the values of a mask mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from medseg.errors import ConfigError

Kind = Literal["exclusive", "overlapping", "instances"]
GREY = "#9aa0a6"
"""Of labels for which nobody chose a colour."""
UNIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "lungs": ("right_lung", "left_lung"),
        "clavicles": ("right_clavicle", "left_clavicle"),
    }
)
"""Structures that papers score together; either may be asked for by this name."""
_COLOUR = re.compile("#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class Label:
    """One structure: mask value (from 1), name, and colour as ``#rrggbb``."""

    value: int
    name: str
    colour: str


@dataclass(frozen=True)
class LabelSet:
    """The structures of a mask, in channel order.

    ``kind`` decides how a mask holds them: ``exclusive`` (one label a pixel,
    0 is background), ``overlapping`` (one channel a label: clavicle lies over
    lung) or ``instances`` (a number an object; the one label names the class).

    Raises:
        ConfigError: If values or names repeat, a value is below 1, or a colour is
            not ``#rrggbb``.
    """

    labels: tuple[Label, ...]
    kind: Kind = "exclusive"

    def __post_init__(self) -> None:
        if self.kind not in ("exclusive", "overlapping", "instances"):
            raise ConfigError(
                "labels.kind",
                f"is {self.kind!r}",
                "Use exclusive, overlapping or instances",
            )
        for field, entries in (
            ("value", [x.value for x in self.labels]),
            ("name", [x.name for x in self.labels]),
        ):
            if len(set(entries)) != len(entries):
                raise ConfigError(
                    f"labels.{field}", f"repeats in {entries}", "Make it unique"
                )
        if any(x.value < 1 for x in self.labels):
            raise ConfigError(
                "labels.value", "0 is the background", "Number labels from 1"
            )
        for label in self.labels:
            if not _COLOUR.fullmatch(label.colour):
                raise ConfigError(
                    "labels.colour", f"is {label.colour[:20]!r}", "Write it as #rrggbb"
                )

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """Structure names in channel order."""
        return tuple(x.name for x in self.labels)

    def index(self, name: str) -> int:
        """Return the channel of structure ``name``.

        Raises:
            ConfigError: If there is no such structure; lists those there are.
        """
        if name not in self.names:
            raise ConfigError(
                "label",
                f"no structure {name!r}",
                f"Choose from {', '.join(self.names)}",
            )
        return self.names.index(name)

    @property
    def dtype(self) -> np.dtype[np.integer]:
        """Integers that hold every value of a mask; numbers of cells are int32."""
        if self.kind == "instances":
            return np.dtype(np.int32)
        if self.kind == "overlapping":
            return np.dtype(np.uint8)
        return np.min_scalar_type(max(x.value for x in self))

    @property
    def output_channels(self) -> int:
        """Channels of a network that predicts this set (background included)."""
        return len(self) + (self.kind == "exclusive")


def cell_labels() -> LabelSet:
    """Return the labels of a mask with a number for each cell."""
    return LabelSet((Label(1, "cell", "#4c9be8"),), "instances")


def chest_labels() -> LabelSet:
    """Return the five structures of a frontal chest film (overlapping channels).

    "Right" is the patient's right, on the left of the image.
    """
    return LabelSet(
        (
            Label(1, "right_lung", "#4c9be8"),
            Label(2, "left_lung", "#2f6fb5"),
            Label(3, "heart", "#e0524d"),
            Label(4, "right_clavicle", "#f2b134"),
            Label(5, "left_clavicle", "#c98a12"),
        ),
        "overlapping",
    )

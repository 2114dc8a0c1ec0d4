"""The label that prompts are about, and where it lies in a mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medseg.errors import ConfigError
from medseg.labels import LabelSet
from medseg.refine.edit import Array, Edit


@dataclass(frozen=True)
class Target:
    """One label of a label set.

    Args:
        labels: What the mask means.
        number: Value (of instances the number) of the label.

    Raises:
        ConfigError: If there is no such label.
    """

    labels: LabelSet
    number: int

    def __post_init__(self) -> None:
        values = [label.value for label in self.labels]
        instances = self.labels.kind == "instances"
        if self.number < 1 or (not instances and self.number not in values):
            choice = "a number from 1" if instances else str(values)
            raise ConfigError("target", f"is {self.number}", f"Use {choice}")

    @property
    def channel(self) -> int | None:
        """Channel of overlapping labels, None where all labels are in one map."""
        if self.labels.kind != "overlapping":
            return None
        return [label.value for label in self.labels].index(self.number)

    @property
    def value(self) -> int:
        """Value in `map_of`: 1 for overlapping labels."""
        return self.number if self.channel is None else 1

    def check(self, mask: Array) -> None:
        """Raise ConfigError if the mask's type cannot hold the value."""
        most = 1 if mask.dtype == bool else np.iinfo(mask.dtype).max
        if self.value > most:
            raise ConfigError("target", f"{self.number} does not fit into {mask.dtype}")

    def map_of(self, mask: Array) -> Array:
        """Return the label map ``([Z,] Y, X)`` of a mask, not copied."""
        return mask if self.channel is None else mask[self.channel]

    def lift(self, edit: Edit) -> Edit:
        """Return an edit of `map_of` as one of the mask."""
        return edit if self.channel is None else edit.at(0, self.channel)

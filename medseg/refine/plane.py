"""A slice of a volume, or all of it, as the array that a prompt works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.refine.edit import Edit
from medseg.refine.prompts import Index


@dataclass(frozen=True)
class Plane:
    """The slice at ``index`` of ``axis``; the whole array where the axis is None."""

    axis: int | None = None
    index: int = 0

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the slice of an array ``([z,] y, x)``, not copied."""
        if self.axis is None:
            return array
        return array[(slice(None),) * self.axis + (self.index,)]

    def drop(self, pixels: Index) -> Index:
        """Return those of the pixels that lie in the slice, without its axis."""
        if self.axis is None:
            return pixels
        here = pixels[self.axis] == self.index
        return tuple(p[here] for a, p in enumerate(pixels) if a != self.axis)

    def without(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """Return one value for each axis but that of the slice."""
        return tuple(v for a, v in enumerate(values) if a != self.axis)

    def lift(self, edit: Edit) -> Edit:
        """Return an edit of the slice as one of the whole array."""
        return edit if self.axis is None else edit.at(self.axis, self.index)


def plane_of(pixels: Index, ndim: int, *, volume: bool, axis: int) -> Plane:
    """Return what a prompt works on: all of a film or volume, or the prompt's slice.

    Raises:
        ConfigError: If the prompt reaches over several slices.
    """
    if ndim == 2 or volume:
        return Plane()
    indices = np.unique(pixels[axis])
    if len(indices) > 1:
        raise ConfigError(
            "prompt",
            f"lies in {len(indices)} slices of axis {axis}",
            "Keep to one slice, or work on the volume",
        )
    return Plane(axis, int(indices[0]))

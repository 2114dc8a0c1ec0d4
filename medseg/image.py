"""An image as it came from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.geometry import Geometry

COLOURS = ("RGB", "RGBA", "YCbCr", "palette")
"""What ``meta["photometric"]`` says where three channels are red, green and blue."""


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels with their geometry.

    Args:
        pixels: ``(C, [Z,] Y, X)``, any real dtype, read-only by convention.
        geometry: Of the spatial axes.
        meta: Facts about the file (``format``, ``modality``, ...); never a
            patient's data.

    Raises:
        ConfigError: If the geometry has another number of axes than the pixels.
    """

    pixels: NDArray[Any]
    geometry: Geometry
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pixels.ndim != self.geometry.ndim + 1:
            raise ConfigError(
                "image",
                f"pixels {self.pixels.shape} need {self.pixels.ndim - 1} spatial axes, "
                f"the geometry has {self.geometry.ndim}",
                "Give pixels as (channel, [z,] y, x)",
            )
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Size of the spatial axes ``([Z,] Y, X)``."""
        return tuple(self.pixels.shape[1:])

    @property
    def has_colours(self) -> bool:
        """Whether there are red, green and blue: as the file says, if it is of one."""
        stated = self.meta.get("photometric")
        return len(self.pixels) == 3 and (stated is None or stated in COLOURS)

    def as_film(self) -> Image:
        """Return a volume of one slice as that slice, and anything else as it is."""
        if self.geometry.ndim == 2 or self.spatial_shape[0] > 1:
            return self
        return replace(self, pixels=self.pixels[:, 0], geometry=self.geometry.plane())

    @classmethod
    def from_array(
        cls, pixels: NDArray[Any], geometry: Geometry | None = None
    ) -> Image:
        """Wrap ``(C, [Z,] Y, X)`` pixels, by default without spacing (unit px)."""
        pixels = np.asarray(pixels)
        return cls(pixels, geometry or Geometry.pixels(pixels.ndim - 1))

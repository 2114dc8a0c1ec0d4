"""The masks of a movie, frame by frame, from a napari layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.geometry import Geometry
from medseg.napari_plugin.layers import facts_of, geometry_of, is_mask
from medseg.regions import regions
from medseg.track import Cells

if TYPE_CHECKING:
    from napari.layers import Labels, Layer


@dataclass(frozen=True, eq=False)
class MaskFrames:
    """The masks of a movie, frame by frame.

    Args:
        data: ``(T, [Z,] Y, X)``; it may be read lazily.
        first: Number of the first frame.
        geometry: Of one frame.
    """

    data: Any
    first: int
    geometry: Geometry

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[tuple[int, NDArray[np.integer]]]:
        for i in range(len(self.data)):
            yield self.first + i, np.asarray(self.data[i])

    @property
    def numbers(self) -> range:
        """The frame numbers."""
        return range(self.first, self.first + len(self.data))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one frame."""
        return tuple(self.data.shape[1:])

    def spacing(self) -> tuple[float, ...]:
        """Return the spacing in units of its finest axis: distances are in pixels."""
        finest = min(self.geometry.spacing)
        return tuple(step / finest for step in self.geometry.spacing)


def is_movie_mask(layer: Layer) -> bool:
    """Return whether a layer may hold the masks of a movie.

    A stack without a spacing may be one: a TIFF seldom says what its pages are.
    """
    if not is_mask(layer) or layer.ndim not in (3, 4):
        return False
    known = facts_of(layer)
    geometry = known.get("geometry")
    volume = (
        geometry is not None and geometry.ndim == layer.ndim and geometry.unit == "mm"
    )
    return not volume or known.get("frames") is not None


def frames_of(layer: Labels) -> MaskFrames:
    """Return the masks of a layer ``(T, [Z,] Y, X)``.

    Raises:
        ConfigError: If the layer is sheared.
    """
    frames = facts_of(layer).get("frames")
    if frames is not None:
        return MaskFrames(layer.data, frames[0], geometry_of(layer))
    scale = tuple(abs(float(s)) for s in layer.scale[1:])
    unit = str(layer.units[-1])
    if unit in ("pixel", "px", ""):
        geometry = Geometry.upright(scale, unit="px")
    else:
        known = geometry_of(_one_frame(layer))
        geometry = Geometry.upright(known.spacing, unit=known.unit)
    return MaskFrames(layer.data, 0, geometry)


def _one_frame(layer: Labels) -> Any:
    """Return layer data of the first frame, for its spacing."""
    meta = {"scale": layer.scale[1:], "units": layer.units[1:], "name": layer.name}
    return (np.empty(layer.data.shape[1:], np.uint8), meta, "labels")


def same_cells(masks: MaskFrames, cells: Cells, index: int) -> bool:
    """Return whether a frame, by its index, still has the cells that it had."""
    found = regions(np.asarray(masks.data[index]))
    here = np.flatnonzero(cells.frame == index)
    order = here[np.argsort(cells.label[here])]
    same = np.array_equal(cells.label[order], found.labels)
    return same and np.array_equal(cells.size[order], found.sizes)


def check_same(masks: MaskFrames, cells: Cells) -> None:
    """Refuse masks that are no longer those of a lineage.

    Raises:
        ConfigError: Says which frame has changed.
    """
    for index in range(len(masks)):
        if not same_cells(masks, cells, index):
            raise ConfigError(
                "tracks",
                f"the masks of frame {masks.first + index} have changed",
                "Press Take over changes (Edit), then save",
            )

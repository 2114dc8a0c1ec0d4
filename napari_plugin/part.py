"""Which part of a napari layer is worked on, and what a tool is given of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import ConfigError
from medseg.refine.prompts import Position

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Place:
    """The part of a layer that is worked on.

    Args:
        within: Index of the part in the layer: integers for leading axes such as
            time, full slices for the last two or three.
        plane_axis: Axis of the part across which slices lie; None for a film.
        index: The slice shown.
    """

    within: tuple[int | slice, ...]
    plane_axis: int | None
    index: int

    @property
    def plane(self) -> tuple[int | slice, ...]:
        """Index of the slice shown within the part."""
        if self.plane_axis is None:
            return (slice(None),) * 2
        free = [slice(None)] * 3
        return tuple(
            self.index if axis == self.plane_axis else s for axis, s in enumerate(free)
        )


@dataclass(frozen=True, eq=False)
class Work:
    """What a tool is given: a label map and what belongs to it.

    Args:
        labels: The mask, one slice ``(Y, X)`` or the volume ``(Z, Y, X)``; a view.
        image: The image of the same shape.
        spacing: Distance between neighbours along each axis.
        value: The label to edit.
        protect: Whether other labels stay as they are.
        plane_axis: Axis across which slices lie; None for one slice or a film.
        dropped: Axis of the volume that the slice has lost, else None.
    """

    labels: NDArray[Any]
    image: NDArray[Any]
    spacing: tuple[float, ...]
    value: int
    protect: bool
    plane_axis: int | None
    dropped: int | None = None

    def inside(self, path: Sequence[Position]) -> tuple[Position, ...]:
        """Return positions of the part as positions in ``labels``."""
        return tuple(
            tuple(v for axis, v in enumerate(p) if axis != self.dropped) for p in path
        )


def shown_place(viewer: ViewerModel, layer: Labels) -> Place:
    """Return the part of a layer that the viewer shows.

    Raises:
        ConfigError: If the view is 3-D, or shows axes that are not spatial.
    """
    dims, ndim = viewer.dims, layer.ndim
    if dims.ndisplay != 2:
        raise ConfigError("view", "is 3-D", "Switch to 2-D (Ctrl-Y) to mend")
    shift = dims.ndim - ndim
    shown = sorted(d - shift for d in dims.displayed)
    if shown[0] < 0:
        raise ConfigError("view", f"axes {shown} are not all the mask's")
    point = layer.world_to_data(dims.point)
    step = np.floor(np.asarray(point) + 0.5).astype(int)
    spatial = min(ndim, 3)
    lead = ndim - spatial
    if any(axis < lead for axis in shown):
        raise ConfigError("view", "shows time as space", "Reset the axis order")
    within = tuple(int(s) for s in step[:lead]) + (slice(None),) * spatial
    off = [a for a in range(ndim) if a not in shown]
    if any(not 0 <= step[a] < layer.data.shape[a] for a in off):
        place = ", ".join(str(step[a]) for a in off)
        raise ConfigError("view", f"shows slice {place}, which the mask has not")
    hidden = [a - lead for a in range(lead, ndim) if a not in shown]
    if not hidden:
        return Place(within, None, 0)
    return Place(within, hidden[0], int(step[lead + hidden[0]]))


def part_of(image: Image, place: Place) -> NDArray[Any]:
    """Return the pixels of the part, colours averaged; lazy ones stay lazy."""
    part = image.data[place.within]
    if getattr(image, "rgb", False):
        part = np.asarray(part)[..., :3].mean(axis=-1, dtype=np.float32)
    return part


def check_fits(layer: Labels, image: Image) -> None:
    """Refuse an image that has not the mask's shape.

    Raises:
        ConfigError: If it has another shape.
    """
    shape = tuple(layer.data.shape)
    found = tuple(image.data.shape)[: len(shape)]
    if found != shape or len(image.data.shape) - bool(image.rgb) != len(shape):
        raise ConfigError(
            f"layer {image.name}",
            f"has shape {tuple(image.data.shape)}, the mask has {shape}",
            "Choose the image that the mask belongs to",
        )

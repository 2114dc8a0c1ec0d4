"""Which slices of a layer a model is to see, and how they are read. No Qt, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.napari_plugin.layers import facts_of
from medseg.napari_plugin.worker.job import Stack

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

Scope = Literal["slice", "range", "all"]
Index = tuple[int, ...]


@dataclass(frozen=True)
class Planes:
    """The images of a layer that a model sees one by one.

    Args:
        stack: Reads them.
        indices: For each one its place along the layer's leading axes; ``((),)`` where
            the whole layer is one image.
        shape: Of the whole layer, without the colours of an RGB image.
    """

    stack: Stack
    indices: tuple[Index, ...]
    shape: tuple[int, ...]

    @property
    def whole(self) -> bool:
        """Whether all of the layer is in it."""
        lead = self.shape[: len(self.indices[0])]
        return len(self.indices) == int(np.prod(lead, dtype=int))


def pixels_of(layer: Image) -> Any:
    """Return the layer's array, in full resolution; it may be read lazily."""
    return layer.data[0] if layer.multiscale else layer.data


def shape_of(layer: Image) -> tuple[int, ...]:
    """Return the shape of the layer's axes, without the colours of an RGB image."""
    shape = tuple(pixels_of(layer).shape)
    return shape[:-1] if layer.rgb else shape


def leading_axes(layer: Image, dims: int) -> int:
    """Return how many axes a model that sees ``dims`` axes goes along.

    Raises:
        ConfigError: If the model needs more axes than the layer has.
    """
    lead = len(shape_of(layer)) - dims
    if lead < 0:
        problem = f"has {len(shape_of(layer))} axes, the model needs {dims}"
        raise ConfigError(layer.name, problem, "Choose another model or image")
    return lead


def position(layer: Image, viewer: ViewerModel) -> Index:
    """Return the layer's array index at the viewer's sliders, inside the array."""
    shape = shape_of(layer)
    point = layer.world_to_data(viewer.dims.point[-len(shape) :])
    rounded = np.round(np.asarray(point, float)).astype(int)
    return tuple(np.clip(rounded, 0, np.array(shape) - 1).tolist())


def select(
    layer: Image,
    dims: int,
    scope: Scope,
    *,
    at: Index = (),
    span: tuple[int, int] = (0, 0),
) -> Planes:
    """Return the images of ``layer`` that a model with ``dims`` axes is to see.

    Args:
        layer: The image.
        dims: Axes that the model sees at a time, the last ones of the layer.
        scope: The slice ``at``, the ``span`` along the first axis, or all.
        at: An index of the layer, as :func:`position` returns it.
        span: First and last slice of the range.

    Raises:
        ConfigError: If the model needs more axes than the layer has, or the range is
            empty or outside the layer.
    """
    shape, lead = shape_of(layer), leading_axes(layer, dims)
    axes = [range(n) for n in shape[:lead]]
    if lead and scope == "slice":
        axes = [range(i, i + 1) for i in at[:lead]]
    elif lead and scope == "range":
        first, last = span
        if not 0 <= first <= last < shape[0]:
            problem = f"the range {first} to {last} is not in 0 to {shape[0] - 1}"
            raise ConfigError(layer.name, problem, "Choose another range")
        axes[0] = range(first, last + 1)
    indices = tuple(product(*axes))
    data, rgb = pixels_of(layer), layer.rgb
    channels = int(data.shape[-1]) if rgb else 1
    # A fourth channel is opacity; readers of files leave it out as well.
    kept = min(channels, 3)

    def read(number: int) -> NDArray[Any]:
        pixels = np.asarray(data[indices[number]])
        return np.moveaxis(pixels[..., :kept], -1, 0) if rgb else pixels[None]

    dtype = np.dtype(data.dtype)
    movie = facts_of(layer).get("frames") is not None
    stack = Stack(
        len(indices),
        (kept, *shape[lead:]),
        dtype,
        read,
        layer.name,
        tuple(abs(float(s)) for s in layer.scale[lead:]),
        # The slices of a volume; frames of a movie are numbered each by itself.
        number_on=lead == 1 and not movie,
        movie=lead == 1 and movie,
    )
    return Planes(stack, indices, shape)

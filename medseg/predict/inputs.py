"""What a network sees of an image: all of it, or windows read when they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.channels import to_channels
from medseg.model_spec import ModelSpec
from medseg.transforms import resize, sample

Array = NDArray[np.float32]
Read = Callable[[tuple[slice, ...]], Array]


def model_input(spec: ModelSpec, pixels: NDArray[Any]) -> Array | Read:
    """Return the whole input of one model, or the reader of its windows.

    Args:
        spec: Of the model.
        pixels: ``(C, [Z,] Y, X)``.
    """
    preprocessing = spec.build_preprocessing()
    if spec.inference.mode == "resize":
        return preprocessing(to_channels(pixels, spec.channels)).numpy()
    if preprocessing.pointwise:
        apply = preprocessing.fit(to_channels(sample(pixels), spec.channels))

        def read(window: tuple[slice, ...]) -> Array:
            part = pixels[(slice(None), *window)]
            return apply(to_channels(part, spec.channels)).numpy()

        return read
    whole = preprocessing(to_channels(pixels, spec.channels)).numpy()
    return lambda window: whole[(slice(None), *window)]


def scaled(pixels: NDArray[Any], scale: float) -> NDArray[Any]:
    """Return pixels ``(C, [Z,] Y, X)`` on a grid that is ``scale`` times as fine."""
    if scale == 1:
        return pixels
    size = [max(1, round(n * scale)) for n in pixels.shape[1:]]
    linear = "bilinear" if len(size) == 2 else "trilinear"
    return resize(pixels, size, "area" if scale < 1 else linear)


def padded(read: Read, size: Sequence[int], padding: Sequence[int]) -> Read:
    """Return a reader of the image widened by its own edge to the window's size.

    An axis that is widened has one window, as long as it is then.
    """
    axes = list(zip(size, padding, strict=True))
    sides = [(0, 0), *((p // 2, p - p // 2) for _, p in axes)]

    def read_padded(window: tuple[slice, ...]) -> Array:
        # A window at a time: widened, a thin image would be mostly its edge.
        inside = (
            slice(0, n) if p else w for w, (n, p) in zip(window, axes, strict=True)
        )
        return np.pad(read(tuple(inside)), sides, mode="edge")

    return read_padded

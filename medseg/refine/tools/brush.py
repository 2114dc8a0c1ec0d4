"""A brush that paints only where the image lies in a range of intensities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.refine.edit import Array, Edit, edit_between
from medseg.refine.prompts import Prompt
from medseg.refine.tools.common import check, nothing


def threshold_paint(
    labels: Array,
    image: NDArray[Any],
    stroke: Prompt,
    value: int,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    protect_other_labels: bool = True,
) -> Edit:
    """Paint the pixels of a stroke whose intensity lies in a range; negative erases.

    Args:
        labels: Label map ``([Z,] Y, X)``.
        image: Intensities of the same shape.
        stroke: Usually a `Scribble` with the brush's width.
        value: The label painted, or erased.
        low: Lowest intensity painted on.
        high: Highest intensity painted on.
        protect_other_labels: Paint on the background only.

    Raises:
        ConfigError: If the image has another shape, the range is empty, the stroke
            has other axes, or the value is no label of such a map.
    """
    check(labels, value)
    if tuple(image.shape) != labels.shape:
        raise ConfigError(
            "image", f"has shape {tuple(image.shape)}, the labels {labels.shape}"
        )
    if not low <= high:
        raise ConfigError("range", f"{low} to {high} is empty", "Give low <= high")
    pixels = stroke.pixels(labels.shape)
    if not pixels[0].size:
        return nothing(labels)
    window = tuple(slice(int(p.min()), int(p.max()) + 1) for p in pixels)
    drawn = np.zeros([s.stop - s.start for s in window], bool)
    drawn[tuple(p - s.start for p, s in zip(pixels, window, strict=True))] = True
    block, tones = labels[window], np.asarray(image[window])
    drawn &= (tones >= low) & (tones <= high)
    if not stroke.positive:
        drawn &= block == value
    elif protect_other_labels:
        drawn &= block == 0
    after = np.where(drawn, value if stroke.positive else 0, block)
    return edit_between(block, after, [s.start for s in window])

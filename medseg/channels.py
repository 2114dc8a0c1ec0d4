"""From the channels of a file to those that a network wants."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.image import Image

Pixels = NDArray[Any]
Channels = Literal["grey", "rgb", "same"]

# ITU-R BT.601, as in Pillow's conversion to "L".
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


def check_channels(image: Image, rule: Channels) -> None:
    """Refuse three channels of a file that are no colours, where grey is wanted.

    Raises:
        ConfigError: If they are stains, echoes, times or the like.
    """
    if rule == "grey" and len(image.pixels) == 3 and not image.has_colours:
        problem = "has 3 channels that are no colours"
        raise ConfigError("image", problem, "Give one of them")


def to_channels(pixels: Pixels, rule: Channels) -> Pixels:
    """Return pixels ``(C, [Z,] Y, X)`` with the channels that a network wants.

    ``grey``: one channel; RGB becomes its luminance (ITU-R BT.601). ``rgb``: three;
    grey is repeated. ``same``: as they are.

    Raises:
        ConfigError: If the image has neither one nor three channels.
    """
    wanted = {"grey": 1, "rgb": 3}.get(rule, len(pixels))
    if len(pixels) == wanted:
        return pixels
    if len(pixels) not in (1, 3):
        raise ConfigError(
            "image", f"has {len(pixels)} channels", "Give a grey or an RGB image"
        )
    if wanted == 3:
        return np.repeat(pixels, 3, axis=0)
    return np.tensordot(_LUMINANCE, pixels.astype(np.float32), 1)[None]

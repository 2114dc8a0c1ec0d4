"""Where a vision transformer looks: a preview of the foreground, and no mask.

The last layer's attention of the class token to each patch (DINO, Caron 2021) is
coarse, knows no structure and was never compared with a drawn one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from medseg.errors import ConfigError, counted

# Sums of float32 attention that should be equal differ by less.
_ROUNDING = 1e-6


def attention_mass(attention: NDArray[np.floating], mass: float) -> NDArray[np.bool_]:
    """Return the fewest patches, largest first, whose attention reaches ``mass``.

    Of equal patches the one that comes first is taken first.

    Args:
        attention: ``(..., h, w)`` attention of each patch, one map a head.
        mass: Share of a map's sum, 0 to 1; 1 keeps every patch that is not 0.

    Returns:
        ``(..., h, w)`` whether a patch is kept.

    Raises:
        ConfigError: If the attention is negative, not finite or no map, or the mass
            no share.
    """
    if not 0 <= mass <= 1:
        raise ConfigError("mass", f"is {mass}", "Give a share from 0 to 1")
    bad = int(np.sum(~(np.isfinite(attention) & (attention >= 0))))
    if attention.ndim < 2 or bad:
        raise ConfigError(
            "attention",
            f"has shape {attention.shape} and {counted(bad, 'value')} below 0 or not "
            "finite",
            "Give a softmax (..., h, w)",
        )
    flat = attention.reshape(*attention.shape[:-2], -1).astype(np.float64)
    order = np.argsort(-flat, axis=-1, kind="stable")
    ranked = np.take_along_axis(flat, order, axis=-1)
    ahead = np.cumsum(ranked, axis=-1) - ranked
    wanted = (mass - _ROUNDING) * flat.sum(axis=-1, keepdims=True)
    kept = np.zeros(flat.shape, bool)
    np.put_along_axis(kept, order, (ahead < wanted) | (mass == 1), axis=-1)
    return (kept & (flat > 0)).reshape(attention.shape)


def attention_preview(
    attention: NDArray[np.floating], shape: tuple[int, int], *, mass: float = 1.0
) -> NDArray[np.float64]:
    """Return the attention of the patches kept, each as a block of pixels.

    A preview of what may be foreground, found without labels: show it as an image,
    do not save or measure it as a mask.

    Args:
        attention: ``(h, w)`` attention of each patch, of one head.
        shape: ``(Y, X)`` pixels of the image.
        mass: Share of the attention to keep, see :func:`attention_mass`.

    Returns:
        ``(Y, X)``, 0 outside the patches kept.

    Raises:
        ConfigError: If an argument cannot be.
    """
    if attention.ndim != 2 or len(shape) != 2 or min(shape) < 1:
        raise ConfigError(
            "attention",
            f"has shape {attention.shape} for an image of shape {tuple(shape)}",
            "Give one map (h, w) and the image's (Y, X)",
        )
    kept = np.where(attention_mass(attention, mass), attention, 0).astype(np.float64)
    return resize(kept, shape, order=0, anti_aliasing=False)

"""Pixel weights that make a network learn the gaps between touching cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.errors import ConfigError


def border_weights(
    instances: NDArray[Any],
    *,
    w0: float = 10.0,
    sigma: float = 5.0,
    spacing: Sequence[float] | None = None,
) -> NDArray[np.float64]:
    """Return the border term of the U-Net's weight map (Ronneberger 2015).

    ``w0 exp(-(d1 + d2)^2 / (2 sigma^2))`` with the distances in pixels to the
    nearest and the second nearest cell; 0 where there are fewer than two cells
    (their distance is infinite). Add :func:`balance_weights` for the whole map.

    Args:
        instances: ``([Z,] Y, X)`` of cell numbers, 0 for background.
        w0: Weight of a pixel where two cells touch.
        sigma: Width of the border in pixels of the finest axis.
        spacing: Of the pixels, in units of the finest axis; default: 1.

    Returns:
        ``([Z,] Y, X)``, at least 0 and at most ``w0``. Weights below 1e-10 times
        ``w0`` may be 0: distances are computed in the neighbourhood of each cell.

    Raises:
        ConfigError: If the map holds no integers, or ``sigma`` is not above 0.
    """
    if instances.dtype.kind not in "biu":
        raise ConfigError("instances", f"are {instances.dtype}", "Use integers")
    if not sigma > 0:
        raise ConfigError("sigma", f"is {sigma}", "Use a width above 0")
    cells = instances.astype(np.int64)
    # Beyond this d1 + d2 the weight is below 1e-10 of w0.
    reach = sigma * math.sqrt(2 * math.log(1e10))
    sizes = (1.0,) * cells.ndim if spacing is None else spacing
    margins = [math.ceil(reach / s) + 1 for s in sizes]
    nearest = np.full(cells.shape, np.inf)
    second = np.full(cells.shape, np.inf)
    for number, box in enumerate(ndimage.find_objects(cells), start=1):
        if box is None:
            continue
        around = tuple(
            slice(max(0, s.start - m), s.stop + m)
            for s, m in zip(box, margins, strict=True)
        )
        distance = ndimage.distance_transform_edt(cells[around] != number, spacing)
        d1, d2 = nearest[around], second[around]
        # Views: the smaller two of the three distances stay.
        np.minimum(d2, np.maximum(d1, distance), out=d2)
        np.minimum(d1, distance, out=d1)
    return w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))


def balance_weights(mask: NDArray[Any]) -> NDArray[np.float64]:
    """Return the class-balance term: both classes weigh the same in total.

    Args:
        mask: ``([Z,] Y, X)``, 0 for background.

    Returns:
        ``([Z,] Y, X)`` with mean 1: half the pixels over those of the own class.
        All 1 where one class is absent.
    """
    foreground = mask != 0
    count = int(foreground.sum())
    if count in (0, mask.size):
        return np.ones(mask.shape)
    weights = (mask.size / (2 * (mask.size - count)), mask.size / (2 * count))
    return np.where(foreground, weights[1], weights[0])

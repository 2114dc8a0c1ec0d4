"""Links between neighbouring pixels, weaker across edges of the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medseg.refine.methods.base import Field

Nodes = NDArray[np.int32]


def links(
    image: Field, spacing: tuple[float, ...], beta: float
) -> tuple[Nodes, Nodes, NDArray[np.float64]]:
    """Return both ends and the weight in (0, 1] of each link.

    The weight is ``exp(-beta d^2 / mean(d^2))`` for a difference ``d`` of intensities,
    divided by the distance; 1 over distance in a constant image.
    """
    index = np.arange(image.size, dtype=np.int32).reshape(image.shape)
    ones, others, squares, lengths = [], [], [], []
    for axis, step in enumerate(spacing):
        ones.append(np.delete(index, -1, axis).ravel())
        others.append(np.delete(index, 0, axis).ravel())
        squares.append(np.diff(image.astype(np.float64), axis=axis).ravel() ** 2)
        lengths.append(np.full(ones[-1].size, float(step)))
    square = np.concatenate(squares)
    mean = square.mean() if square.size else 0.0
    weight = np.exp(-beta * square / mean) if mean > 0 else np.ones_like(square)
    length = np.concatenate(lengths)
    return (
        np.concatenate(ones),
        np.concatenate(others),
        np.maximum(weight, 1e-6) * length.min(initial=np.inf) / length,
    )

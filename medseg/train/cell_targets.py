"""What a network is to draw of cells, from a map that gives each one a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.border_weights import border_weights
from medseg.train.config_cells import CellsConfig

Array = NDArray[np.float32]
Labels = NDArray[np.integer]


def part_touching(cells: Labels) -> NDArray[Any]:
    """Return the cells with a gap of one pixel between those that touch.

    Of two pixels that meet, by an edge or a corner, that of the cell with the
    smaller number becomes background, as the U-Net paper draws its truth.
    """
    highest = ndimage.grey_dilation(cells, size=(3,) * cells.ndim)
    return np.where(highest > cells, 0, cells)


def distance_map(cells: Labels, spacing: Sequence[float] | None = None) -> Array:
    """Return the distance to the edge of the own cell, 1 at its deepest pixel.

    Args:
        cells: ``([Z,] Y, X)`` numbers, 0 for background, which gets 0.
        spacing: Of the pixels; only its proportions count.
    """
    result = np.zeros(cells.shape, np.float32)
    for number, around in enumerate(ndimage.find_objects(cells), start=1):
        if around is None:
            continue
        # One pixel more: what lies outside of the box is another cell or none.
        wide = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in around)
        own = cells[wide] == number
        # A cell as large as the image has no edge: all of it is deep.
        distance = (
            ndimage.distance_transform_edt(own, spacing)
            if not own.all()
            else np.ones(own.shape)
        )
        result[wide][own] = (distance / distance.max())[own]
    return result


def make_targets(
    cells: Labels, config: CellsConfig, spacing: Sequence[float] | None = None
) -> tuple[Array, Array]:
    """Return what the network is to draw, and how much each pixel weighs.

    Args:
        cells: ``([Z,] Y, X)`` numbers, 0 for background.
        config: ``rule.method`` names the maps: `medseg.instances.MAPS`.
        spacing: Of the pixels, in units of the finest axis; default: 1.

    Returns:
        Maps ``(K, [Z,] Y, X)`` in [0, 1] and weights ``([Z,] Y, X)`` of at least 1.
    """
    parted = part_touching(cells)
    if config.rule.method == "components":
        inside = (parted > 0).astype(np.float32)
        target = np.stack([1 - inside, inside])
        border = (
            _border(parted, config, spacing) if config.border_weight else 0 * inside
        )
    else:
        border = _border(parted, config, spacing)
        inside = (cells > 0).astype(np.float32)
        target = np.stack([inside, distance_map(cells, spacing), border])
    return target, 1 + np.float32(config.border_weight) * border


def _border(
    cells: Labels, config: CellsConfig, spacing: Sequence[float] | None
) -> Array:
    sigma = config.border_sigma
    weights = border_weights(cells, w0=1.0, sigma=sigma, spacing=spacing)
    return weights.astype(np.float32)

"""Sample data, drawn on the spot: a film, a volume and a movie with their truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.geometry import Geometry
from medseg.image import Image
from medseg.labels import LabelSet, chest_labels
from medseg.napari_plugin.layers import (
    LayerData,
    facts,
    image_layers,
    segmentation_layers,
)
from medseg.segmentation import Segmentation

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED = 7
VOLUME_LABELS = LabelSet(chest_labels().labels[:3])
_SHAPE = (40, 128, 128)
# Centre (z, y, x) and half axes in mm from the middle, grey value; right is on the
# image's left.
_BODY = ((0, 0, 0), (200, 58, 61), 0.55)
_ORGANS = (
    ((0, -4, -28), (52, 36, 20), 0.12),
    ((0, -4, 28), (50, 36, 18), 0.12),
    ((18, 6, 8), (24, 20, 17), 0.68),
)


def film() -> list[LayerData]:
    """Return a chest film and its five structures, most of them hidden at first."""
    from medseg.datasets.synthetic import chest_film

    drawn = chest_film(np.random.default_rng(SEED), 512)
    image = Image(drawn.image[None], Geometry.pixels(2))
    truth = Segmentation(drawn.masks, chest_labels(), image.geometry)
    return [
        *image_layers(image, "film"),
        *_hidden(segmentation_layers(truth, "film truth")),
    ]


def volume() -> list[LayerData]:
    """Return a volume with slices of 3 mm, and two lungs and a heart in it."""
    pixels, mask = _draw_volume(np.random.default_rng(SEED))
    geometry = Geometry(
        (3.0, 1.0, 1.0), (-60.0, -64.0, -64.0), ((1, 0, 0), (0, 1, 0), (0, 0, 1)), "mm"
    )
    truth = Segmentation(mask, VOLUME_LABELS, geometry)
    return [
        *image_layers(Image(pixels[None], geometry), "volume"),
        *_hidden(segmentation_layers(truth, "volume truth")),
    ]


def movie() -> list[LayerData]:
    """Return a movie of dividing cells, its masks and its tracks."""
    from medseg.datasets.synthetic_movie import draw_movie
    from medseg.napari_plugin.movies import movie_mask_layer, nodes_of, tracks_layer
    from medseg.napari_plugin.placement import placement

    drawn = draw_movie(SEED, 24, (192, 192), 10)
    frames, place = range(len(drawn.frames)), Geometry.pixels(2)
    pixels, masks = np.stack(drawn.frames), np.stack(drawn.masks)
    image = {
        **placement(place, pixels.shape[1:], first_frame=0),
        "name": "cells",
        "metadata": facts(place, frames=frames),
        "contrast_limits": (float(pixels.min()), float(pixels.max())),
    }
    nodes = [node for i, mask in enumerate(masks) for node in nodes_of(i, mask)]
    truth = movie_mask_layer(masks, "cells truth", place, frames)
    tracks = tracks_layer(
        drawn.rows, nodes, "cells truth tracks", place, pixels.shape[1:]
    )
    return [(pixels, image, "image"), *_hidden([truth, tracks])]


def _hidden(layers: list[LayerData]) -> list[LayerData]:
    """Return truth that does not lie over the image before it is asked for."""
    return [(data, {**meta, "visible": False}, kind) for data, meta, kind in layers]


def _draw_volume(
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Return grey values ``(Z, Y, X)`` and labels of ellipsoids in a body."""
    z, y, x = (
        (np.arange(n) - (n - 1) / 2) * step
        for n, step in zip(_SHAPE, (3.0, 1.0, 1.0), strict=True)
    )
    grid = np.meshgrid(z, y, x, indexing="ij", sparse=True)

    def inside(centre: tuple[int, ...], radii: tuple[int, ...]) -> NDArray[np.bool_]:
        return (
            sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True))
            < 1
        )

    grey = np.where(inside(*_BODY[:2]), _BODY[2], 0.02)
    mask = np.zeros(_SHAPE, np.uint8)
    for value, (centre, radii, level) in enumerate(_ORGANS, 1):
        here = inside(centre, radii)
        grey[here], mask[here] = level, value
    grey += rng.normal(0, 0.03, _SHAPE)
    return (np.clip(grey, 0, 1) * 4095).astype(np.uint16), mask

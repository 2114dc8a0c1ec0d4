"""Changes that make one drawn image into many: poses, elastic deformation, light.

Images are planes ``(P, Y, X)``, about 0 to 1: one, or the slices of a volume, which
all change alike, so that nothing is interpolated between slices. Cells and known
pixels move with them by nearest neighbour, and what lies beyond the crop is its
mirror image.
"""

from __future__ import annotations

import numpy as np
from monai.transforms import (
    Compose,
    Rand2DElasticd,
    RandAdjustContrastd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
)
from numpy.typing import NDArray

from medseg.train.augment import RandShadingd
from medseg.train.config_tables import AugmentConfig

KEYS = ["image", "cells", "known"]


def build_cell_augmentation(
    config: AugmentConfig, elastic: float, size: tuple[int, ...]
) -> Compose:
    """Return the chain for dictionaries of `KEYS`, each planes ``(P, Y, X)``.

    Of ``config`` it takes rotate, scale, contrast, shading, blur and noise.

    Args:
        config: How far and how often.
        elastic: Largest displacement of the grid's corners, in pixels.
        size: Of the crops, ``([Z,] Y, X)``.
    """
    image = ["image"]
    height, width = size[-2:]
    return Compose(
        [
            # The paper's: a smooth field from a coarse grid of random vectors. MONAI
            # stretches that grid a little, so that still images are zoomed by 3 %.
            Rand2DElasticd(
                KEYS,
                spatial_size=(height, width),
                spacing=(max(8, height // 3), max(8, width // 3)),
                magnitude_range=(0, elastic),
                prob=1.0,
                rotate_range=np.deg2rad(config.rotate),
                scale_range=[config.scale] * 2,
                mode=["bilinear", "nearest", "nearest"],
                padding_mode="reflection",
            ),
            RandAdjustContrastd(image, prob=config.contrast, gamma=(0.6, 1.7)),
            RandShadingd("image", config.shading),
            RandScaleIntensityd(image, factors=(-0.3, 0.5), prob=config.contrast),
            RandGaussianSmoothd(
                image, sigma_x=(0.3, 1.5), sigma_y=(0.3, 1.5), prob=config.blur
            ),
            RandGaussianNoised(image, prob=config.noise, std=0.05),
        ]
    )


def pose(array: NDArray[np.float32], number: int) -> NDArray[np.float32]:
    """Return planes ``(P, Y, X)`` in one of the eight poses of a square, 0 to 7.

    From 8 to 15 in those with the planes in reverse order.
    """
    turned = np.rot90(array, number % 4, axes=(1, 2))
    turned = np.flip(turned, axis=2) if number % 8 >= 4 else turned
    return np.flip(turned, axis=0) if number >= 8 else turned

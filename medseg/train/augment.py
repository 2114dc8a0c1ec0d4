"""Changes that make a film look as if another hospital had taken it.

MONAI supplies the geometry, noise, blur and contrast; the pieces below draw what
it lacks: negatives, collimation borders, burnt-in text, tubes and wires. Images
are ``(1, Y, X)`` in [0, 1], truths ``(K, Y, X)`` in [0, 1].
"""

from __future__ import annotations

import string
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    Compose,
    MapTransform,
    OneOf,
    RandAdjustContrastd,
    RandAffined,
    RandGaussianNoised,
    RandGaussianSharpend,
    RandGaussianSmoothd,
    RandHistogramShiftd,
    RandomizableTransform,
    RandSimulateLowResolutiond,
    RandSmoothDeformd,
    Transform,
)
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont
from torch import Tensor

from medseg.train.config_tables import AugmentConfig
from medseg.train.gas_augment import SMOOTHING, RandBowelGasd

Array = NDArray[np.float32]


class RandPaintd(RandomizableTransform, MapTransform):
    """Change ``data[key]``, planes ``(P, Y, X)`` in [0, 1], with probability.

    All planes are changed alike.
    """

    def __init__(self, key: Hashable, prob: float) -> None:
        MapTransform.__init__(self, [key])
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the changed image."""
        self.randomize(None)
        result = dict(data)
        if self._do_transform:
            for key in self.keys:
                pixels = np.array(result[key], dtype=np.float32)
                lot = self.R.get_state()
                for plane in pixels:
                    self.R.set_state(lot)
                    plane[...] = self.paint(plane, self.R).clip(0, 1)
                result[key] = torch.from_numpy(pixels)
        return result

    def paint(self, pixels: Array, rng: np.random.RandomState) -> Array:
        """Return the changed ``(Y, X)`` pixels."""
        raise NotImplementedError


class RandInvertd(RandPaintd):
    """A negative."""

    def paint(self, pixels: Array, rng: np.random.RandomState) -> Array:
        """Return ``1 - pixels``."""
        return 1 - pixels


class RandShadingd(RandPaintd):
    """A smooth brightness ramp over the film (grid cut-off, tilted detector)."""

    def paint(self, pixels: Array, rng: np.random.RandomState) -> Array:
        """Return the pixels times a plane and a bowl around 1."""
        y, x = np.ogrid[-1 : 1 : pixels.shape[0] * 1j, -1 : 1 : pixels.shape[1] * 1j]
        a, b, c = rng.uniform(-0.3, 0.3, 3)
        return pixels * (1 + a * y + b * x + c * (x * x + y * y - 0.7))


class RandBordersd(RandPaintd):
    """A collimated film: black, white or grey beyond a rectangle."""

    def paint(self, pixels: Array, rng: np.random.RandomState) -> Array:
        """Return the pixels with up to 8 % of each side painted over."""
        height, width = pixels.shape
        share = rng.uniform(0, 0.08, 4) * (rng.uniform(size=4) < 0.7)
        top, bottom = int(share[0] * height), height - int(share[1] * height)
        left, right = int(share[2] * width), width - int(share[3] * width)
        painted = np.full_like(pixels, rng.choice([0.0, 0.0, 0.0, 1.0, rng.uniform()]))
        painted[top:bottom, left:right] = pixels[top:bottom, left:right]
        return painted


class RandTextd(RandPaintd):
    """Side markers and annotations burnt in near the edges."""

    def paint(self, pixels: Array, rng: np.random.RandomState) -> Array:
        """Return the pixels with one to four strings drawn on them."""
        height, width = pixels.shape
        canvas = PillowImage.fromarray(pixels)
        draw = ImageDraw.Draw(canvas)
        letters = list(string.ascii_uppercase + string.digits + " :/-.")
        for _ in range(rng.randint(1, 5)):
            words = "".join(rng.choice(letters, rng.randint(1, 12)))
            size = int(height * rng.uniform(0.02, 0.07))
            y = rng.choice([rng.uniform(0, 0.15), rng.uniform(0.8, 0.95)]) * height
            x = rng.uniform(0, 0.85) * width
            font = ImageFont.load_default(max(size, 6))
            draw.text((x, y), words, fill=float(rng.uniform(0.8, 1)), font=font)
        return np.asarray(canvas)


class RandDevicesd(RandPaintd):
    """Tubes, wires, electrodes and a pacemaker, brighter than what lies below."""

    def paint(self, pixels: Array, rng: np.random.RandomState) -> Array:
        """Return the pixels with one to four devices added."""
        height, width = pixels.shape
        canvas = PillowImage.new("F", (width, height))
        draw = ImageDraw.Draw(canvas)
        for _ in range(rng.randint(1, 5)):
            if rng.uniform() < 0.7:
                self._tube(draw, height, width, rng)
            else:
                self._disc(draw, height, width, rng)
        painted = pixels + np.asarray(canvas) * rng.uniform(0.15, 0.6)
        return painted.astype(np.float32, copy=False)

    @staticmethod
    def _tube(
        draw: ImageDraw.ImageDraw, height: int, width: int, rng: np.random.RandomState
    ) -> None:
        knots = np.cumsum(rng.normal(0, 0.15, (4, 2)), axis=0) + rng.uniform(0, 1, 2)
        t = np.linspace(0, 1, 40)[:, None]
        weights = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3]
        curve = sum(w * k for w, k in zip(weights, knots, strict=True))
        points = [(float(x) * width, float(y) * height) for y, x in curve]
        draw.line(points, fill=1.0, width=int(rng.randint(1, 1 + max(2, height // 70))))

    @staticmethod
    def _disc(
        draw: ImageDraw.ImageDraw, height: int, width: int, rng: np.random.RandomState
    ) -> None:
        y, x = rng.uniform(0.1, 0.9, 2) * (height, width)
        a, b = rng.uniform(0.008, 0.05, 2) * height
        draw.ellipse([x - a, y - b, x + a, y + b], fill=1.0)


def build_augmentation(
    config: AugmentConfig,
    size: tuple[int, ...],
    *,
    lungs: Sequence[int] = (),
    gas: float = 0.0,
) -> Compose:
    """Return the chain for dictionaries with ``image`` and ``truth`` of ``size``.

    Args:
        config: How far and how often films are changed.
        size: Of the films, ``(Y, X)``.
        lungs: Channels of ``truth`` below which gas may be drawn.
        gas: How often it is.
    """
    shift = [config.translate * n for n in size]
    geometry = RandAffined(
        keys=["image", "truth"],
        prob=1.0,
        rotate_range=np.deg2rad(config.rotate),
        scale_range=[config.scale] * len(size),
        shear_range=[config.shear] * len(size),
        translate_range=shift,
        mode="bilinear",
        padding_mode="zeros",
        cache_grid=True,
        spatial_size=size,
    )
    image = ["image"]
    contrast = OneOf(
        [
            RandAdjustContrastd(image, prob=config.contrast, gamma=(0.5, 2.2)),
            RandHistogramShiftd(image, num_control_points=(4, 8), prob=config.contrast),
        ]
    )
    return Compose(
        [
            # Only where it is asked for: each transform takes part in the seeding.
            *(_gas(lungs, gas, size) if gas else []),
            *([_bend(config.elastic, size)] if config.elastic else []),
            geometry,
            RandDevicesd("image", config.devices),
            contrast,
            RandShadingd("image", config.shading),
            RandGaussianSmoothd(
                image, sigma_x=(0.3, 1.5), sigma_y=(0.3, 1.5), prob=config.blur
            ),
            RandGaussianSharpend(image, prob=config.sharpen),
            RandSimulateLowResolutiond(
                image,
                prob=config.resolution,
                zoom_range=(0.4, 0.9),
                upsample_mode="bilinear",
            ),
            RandGaussianNoised(image, prob=config.noise, std=0.06),
            RandInvertd("image", config.invert),
            RandBordersd("image", config.borders),
            RandTextd("image", config.text),
        ]
    )


def _bend(share: float, size: tuple[int, ...]) -> Transform:
    """Return a smooth random deformation whose edges hardly move."""
    return RandSmoothDeformd(
        ["image", "truth"],
        spatial_size=size,
        rand_size=[6] * len(size),
        pad=1,
        field_mode="bicubic",
        prob=1.0,
        def_range=2 * share,  # MONAI's image is 2 wide
        grid_mode="bilinear",
        grid_padding_mode="zeros",
        grid_align_corners=True,
    )


def _gas(lungs: Sequence[int], prob: float, size: tuple[int, ...]) -> list[Transform]:
    """Return gas without vessels in it, and whole films smoothed as it is, as often.

    Each is drawn for itself: that a film is smooth everywhere says nothing about gas. A
    network that learnt gas alone took all of a blurred lung for it.
    """
    low, high = (sigma * size[0] / 512 for sigma in SMOOTHING)
    smooth = RandGaussianSmoothd(
        "image", sigma_x=(low, high), sigma_y=(low, high), prob=prob
    )
    return [RandBowelGasd(lungs, prob), smooth]


def augment(
    chain: Compose, image: Tensor, truth: Tensor, seed: int
) -> tuple[Tensor, Tensor]:
    """Apply ``chain`` with the randomness of ``seed``: the same seed, the same film."""
    chain.set_random_state(seed=seed)
    result = chain({"image": image, "truth": truth})
    return torch.as_tensor(result["image"]), torch.as_tensor(result["truth"])

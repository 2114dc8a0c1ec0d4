"""The camera of a drawn movie: blur, uneven light, debris and noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

DARK, BRIGHT = 82.0, 40.0  # grey values of the camera, and of a mean nucleus


class Camera:
    """Turns light into grey values.

    Args:
        rng: Of debris, light and grain.
        shape: ``([Z,] Y, X)`` of a frame.
        extent: The same in pixels of ``x``.
        radius: Of a grown nucleus in pixels; the blur follows it.
        debris: How many specks.
        noise: 0 for none.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        shape: tuple[int, ...],
        extent: NDArray[np.float64],
        radius: float,
        debris: int,
        noise: float,
    ) -> None:
        self.rng, self.noise = rng, noise
        self.blur = [max(0.7, 0.06 * radius) / s for s in extent / np.array(shape)]
        self.haze = [0.5 * radius / s for s in extent / np.array(shape)]
        self.specks = self._debris(shape, debris)
        axes = [np.linspace(-1, 1, n) for n in shape]
        uneven = np.zeros(shape)
        for axis, ramp in enumerate(axes):
            bend = rng.normal(0, 0.08) * ramp - abs(rng.normal(0, 0.06)) * ramp**2
            uneven += bend.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        self.uneven = (1 + uneven).astype(np.float32)

    def _debris(self, shape: tuple[int, ...], count: int) -> NDArray[np.float32]:
        specks = np.zeros(shape, np.float32)
        for _ in range(count):
            at = tuple(int(self.rng.integers(n)) for n in shape)
            specks[at] = self.rng.uniform(4, 12)
        return specks

    def expose(self, light: NDArray[np.float32]) -> NDArray[np.uint16]:
        """Return the picture ``([Z,] Y, X)`` of the light."""
        light = light + self.specks
        sharp = ndimage.gaussian_filter(light, self.blur)
        sharp = sharp + 0.06 * ndimage.gaussian_filter(light, self.haze)
        signal = (DARK + 8 + BRIGHT * sharp) * self.uneven
        grain = self.rng.standard_normal(light.shape, np.float32)
        # Shot noise grows with the root of the light; the chip reads with its own.
        spread = np.sqrt(np.maximum(0.25 * (signal - DARK), 0) + 9.0)
        noisy = signal + np.float32(self.noise) * spread * grain
        return np.clip(np.round(noisy), 0, 65535).astype(np.uint16)

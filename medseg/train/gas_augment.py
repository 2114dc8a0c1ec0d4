"""Bowel gas under a raised diaphragm, drawn into films whose lungs are known.

Gas under a high dome is as dark as the lung above it: what tells them apart is the
thin line of the dome, the folds of the bowel, the level of brightness and, where no
lung lies behind it, that there are no vessels. Films like it are rare, so that a network
meets too few of them by chance.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform, RandomizableTransform
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Array = NDArray[np.float32]
Dome = NDArray[np.float64]
"""The row of the raised diaphragm for every column ``(X,)``."""

LEAST_ROWS = 16
"""A lung of fewer rows or columns has no room for a dome."""

SMOOTHING = (1.5, 4.0)
"""Deviations, in pixels of a film of 512 rows, that take the vessels out of a lung."""


class RandBowelGasd(RandomizableTransform, MapTransform):
    """Raise one diaphragm and fill what was lung below it with gas, with probability.

    Args:
        lungs: Channels of ``data["truth"]`` that are lungs.
        prob: Of a change; none is made where that lung is not drawn.
    """

    def __init__(self, lungs: Sequence[int], prob: float) -> None:
        MapTransform.__init__(self, ["image", "truth"])
        RandomizableTransform.__init__(self, prob)
        self.lungs = tuple(lungs)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with another image and less lung."""
        self.randomize(None)
        result = dict(data)
        if not self._do_transform:
            return result
        channel = self.R.choice(self.lungs)
        truth = np.array(result["truth"], dtype=np.float32)
        dome = raised_dome(truth[channel] > 0.5, self.R)
        if dome is None:
            return result
        below = np.arange(truth.shape[1])[:, None] > dome
        lost = truth[channel] * below
        if not lost.any():
            return result
        truth[channel] -= lost
        image = np.array(result["image"], dtype=np.float32)
        plain = self.R.uniform() < 0.5
        image[0] = draw_gas(image[0], truth[channel], lost, dome, self.R, plain=plain)
        return {
            **result,
            "image": torch.from_numpy(image),
            "truth": torch.from_numpy(truth),
        }


def raised_dome(lung: NDArray[np.bool_], rng: np.random.RandomState) -> Dome | None:
    """Return an arch through the lower part of a lung; None where it has no room."""
    rows, columns = np.flatnonzero(lung.any(1)), np.flatnonzero(lung.any(0))
    if min(rows.size, columns.size) < LEAST_ROWS:
        return None
    top, height, width = rows[0], rows.size, columns.size
    crest = top + height * rng.uniform(0.4, 0.8)
    middle = columns[0] + width * rng.uniform(0.35, 0.65)
    bend = height * rng.uniform(0.1, 0.4)
    x = (np.arange(lung.shape[1]) - middle) / (width / 2)
    return crest + bend * x * x


def draw_gas(
    film: Array,
    lung: Array,
    lost: Array,
    dome: Dome,
    rng: np.random.RandomState,
    *,
    plain: bool,
) -> Array:
    """Return the film with gas where lung was ``lost``, folds in it and the dome.

    Args:
        film: ``(Y, X)`` in [0, 1], dense is bright.
        lung: ``(Y, X)`` in [0, 1], what is left of it.
        lost: ``(Y, X)`` in [0, 1].
        dome: ``(X,)``.
        rng: Decides the rest.
        plain: No vessels are seen in the gas; else lung behind the dome shows through.
    """
    scale = len(film) / 512
    gas = _reach_down(lost, dome, rng)
    level = np.quantile(film[lung > 0.5], rng.uniform(0.2, 0.9))
    brighter, pale, share = rng.uniform((-0.08, 0, 0.3), (0.08, 0.5, 0.9))
    behind = gaussian_filter(film, rng.uniform(*SMOOTHING) * scale) if plain else film
    # Where lung was, the ribs stay; below it, dense tissue gives way to gas.
    share = np.where(lost > 0.5, pale if plain else 0, share)
    filled = behind + share * (level - behind) + brighter * (lost > 0.5)
    result = film + gaussian_filter(gas, 2 * scale) * (filled - film)
    contrast = rng.uniform(0.03, 0.12)
    near = gaussian_filter(gas, 4 * scale).clip(0, 0.25) * 4
    lines = np.maximum(_folds(gas, scale, rng), near * _wall(dome, len(film), rng))
    return (result + contrast * lines).clip(0, 1).astype(np.float32)


def _reach_down(lost: Array, dome: Dome, rng: np.random.RandomState) -> Array:
    """Return where gas is: loops under the dome, as far down as chance has it."""
    y, x = np.mgrid[: lost.shape[0], : lost.shape[1]]
    columns = np.flatnonzero(lost.any(0))
    gas = np.zeros(lost.shape, np.float32)
    for _ in range(rng.randint(1, 4)):
        row = dome.min() + columns.size * rng.uniform(0.2, 0.8)
        a, b = columns.size * rng.uniform(0.2, 0.5, 2)
        gas[((y - row) / a) ** 2 + ((x - rng.choice(columns)) / b) ** 2 < 1] = 1
    gas[y < dome] = 0
    return np.maximum(gas, lost)


def _folds(gas: Array, scale: float, rng: np.random.RandomState) -> Array:
    """Return bright arcs (haustra) within the gas, and its outline."""
    y, x = np.mgrid[: gas.shape[0], : gas.shape[1]]
    rows, columns = np.nonzero(gas > 0.5)
    lines = np.zeros(gas.shape, np.float32)
    for _ in range(rng.randint(0, 6) if rows.size else 0):
        k = rng.randint(rows.size)
        a, b = rng.uniform(20, 60, 2) * scale
        radius = np.hypot((y - rows[k]) / a, (x - columns[k]) / b)
        line = np.exp(-(((radius - 1) * min(a, b) / (1.5 * scale)) ** 2))
        angle = np.arctan2(y - rows[k], x - columns[k])
        open_to, half = rng.uniform(-np.pi, np.pi), rng.uniform(0.7, 2.2)
        line[np.abs(np.angle(np.exp(1j * (angle - open_to)))) > half] = 0
        lines = np.maximum(lines, rng.uniform(0.3, 1) * line)
    edge = np.hypot(*np.gradient(gaussian_filter(gas, 1.5 * scale)))
    edge *= rng.uniform(0, 1) / max(float(edge.max()), 1e-6)
    return np.maximum(lines * (gas > 0.5), edge)


def _wall(dome: Dome, height: int, rng: np.random.RandomState) -> Array:
    """Return the dome as a bright line ``(Y, X)``."""
    away = (np.arange(height)[:, None] - dome) / np.hypot(1, np.gradient(dome))
    width = rng.uniform(1, 3) * height / 512
    line = np.exp(-((away / width) ** 2)) * rng.uniform(0.6, 1.5)
    return line.astype(np.float32)

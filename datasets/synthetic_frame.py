"""Where a drawn chest lies on its film, and how shapes get onto the grid.

Chest coordinates ``(p, q)``: ``p`` runs from the midline to the patient's left, 1 at
the inner chest wall; ``q`` runs down, 0 at the apex of the lungs and 1 at the
costophrenic angles. The patient's right has ``p < 0`` and lies left in the picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import CubicSpline

Field = NDArray[np.float32]  # (Y, X)
Mask = NDArray[np.bool_]  # (Y, X)
Points = NDArray[np.float64]  # (N, 2): p and q, or row and column


@dataclass(frozen=True)
class Frame:
    """Chest coordinates on a square film of ``size`` pixels; lengths in film sides.

    Args:
        size: Side of the film in pixels.
        x: Column of the chest's midline.
        y: Row half-way between apex and costophrenic angle.
        half_width: Length of ``p`` from 0 to 1.
        height: Length of ``q`` from 0 to 1.
        angle: Rotation, radians.
        bend: Sideways bow of the spine, in ``p``.
    """

    size: int
    x: float
    y: float
    half_width: float
    height: float
    angle: float
    bend: float

    @classmethod
    def of(cls, parameters: Mapping[str, float], size: int) -> Frame:
        """Return the frame that the sampled ``parameters`` describe."""
        return cls(size=size, **parameters)

    def pixels(self, points: Points) -> Points:
        """Return row and column ``(N, 2)`` of chest coordinates ``(N, 2)``."""
        p, q = np.asarray(points, float).T
        across = self.half_width * (p + self.bend * np.sin(np.pi * q))
        down = self.height * (q - 0.5)
        c, s = np.cos(self.angle), np.sin(self.angle)
        rows = self.y + s * across + c * down
        columns = self.x + c * across - s * down
        return np.stack([rows, columns], axis=1) * self.size - 0.5

    def grid(self) -> tuple[Field, Field]:
        """Return ``p`` and ``q`` at each pixel, the inverse of `pixels`."""
        t = (np.arange(self.size, dtype=np.float32) + 0.5) / self.size
        c, s = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        dx, dy = t[None] - np.float32(self.x), t[:, None] - np.float32(self.y)
        q = (c * dy - s * dx) / np.float32(self.height) + np.float32(0.5)
        across = (c * dx + s * dy) / np.float32(self.half_width)
        p = across - np.float32(self.bend) * np.sin(np.float32(np.pi) * q)
        # Both are float32 already; the stubs of numpy do not say so.
        return p.astype(np.float32, copy=False), q.astype(np.float32, copy=False)

    def fill(self, points: Points) -> Mask:
        """Return the pixels whose centre lies in the closed outline ``(N, 2)``."""
        mask = np.zeros((self.size, self.size), bool)
        paint(mask, self.pixels(points), True)
        return mask

    def add(self, layer: Field, points: Points, amount: float) -> None:
        """Add ``amount`` to ``layer`` within the closed outline ``(N, 2)``."""
        paint(layer, self.pixels(points), amount)

    def add_tube(
        self,
        layer: Field,
        points: Points,
        radius: float | NDArray[np.float64],
        amount: float,
        marrow: float,
    ) -> None:
        """Add a tube of ``radius`` (film sides) along ``points``, dense at its rim.

        ``amount`` at the rim and ``(1 - marrow) * amount`` inside: the cortex of a
        bone is hit lengthwise at the two edges and crosswise in between.
        """
        for part, value in ((1.0, amount), (0.72, -marrow * amount)):
            paint(layer, self.tube(points, radius * part), value)

    def tube(self, points: Points, radius: float | NDArray[np.float64]) -> Points:
        """Return the outline (rows, columns) of a band along ``points``."""
        line = self.pixels(points)
        along = np.gradient(line, axis=0)
        along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
        aside = np.stack([-along[:, 1], along[:, 0]], axis=1)
        aside = aside * np.reshape(radius, (-1, 1)) * self.size
        return np.concatenate([line + aside, (line - aside)[::-1]])


def paint(layer: NDArray[Any], outline: Points, amount: float) -> None:
    """Add ``amount`` to the pixels whose centre lies in ``outline``, in place.

    The outline (rows, columns) closes itself; inside is where its winding number
    is not 0, so a band that crosses itself is painted once.
    """
    start, end = outline, np.roll(outline, -1, axis=0)
    top = np.clip(np.ceil(np.minimum(start, end)[:, 0]), 0, len(layer)).astype(int)
    stop = np.clip(np.ceil(np.maximum(start, end)[:, 0]), 0, len(layer)).astype(int)
    count = stop - top
    if not count.any():
        return
    edge = np.repeat(np.arange(len(outline)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + top[edge]
    step = end - start
    across = (row - start[edge, 0]) / step[edge, 0]
    column = np.ceil(start[edge, 1] + across * step[edge, 1])
    width = layer.shape[1]
    low = int(np.clip(column.min(), 0, width))
    high = int(np.clip(column.max(), 0, width))
    column = np.clip(column, low, high).astype(int) - low
    first, span = int(top[count > 0].min()), high - low + 1
    rows = int(stop[count > 0].max()) - first
    turns = np.bincount(
        (row - first) * span + column, np.sign(step[edge, 0]), rows * span
    )
    inside = np.rint(np.cumsum(turns.reshape(rows, span), axis=1)[:, :-1]) != 0
    block = layer[first : first + rows, low:high]
    block += np.asarray(amount * inside, layer.dtype)


def spline(points: Points, n: int = 80, closed: bool = False) -> Points:
    """Return ``n`` points of the smooth curve through ``points``."""
    points = np.asarray(points, float)
    if closed:
        points = np.concatenate([points, points[:1]])
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    t = np.concatenate([[0.0], np.cumsum(steps)])
    curve = CubicSpline(t, points, bc_type="periodic" if closed else "natural")
    return np.asarray(curve(np.linspace(0.0, t[-1], n, endpoint=not closed)))


def ellipse(centre: tuple[float, float], radii: tuple[float, float]) -> Points:
    """Return the outline of an upright ellipse in the coordinates of ``centre``."""
    t = np.linspace(0.0, 2 * np.pi, 48, endpoint=False)
    return np.stack(
        [centre[0] + radii[0] * np.cos(t), centre[1] + radii[1] * np.sin(t)], axis=1
    )


def splat(
    shape: tuple[int, int], points: Points, amounts: NDArray[np.float64]
) -> Field:
    """Spread ``amounts`` at ``points`` (rows, columns) over the nearest four pixels."""
    base = np.floor(points).astype(int)
    part = points - base
    layer = np.zeros(shape[0] * shape[1])
    for dr in (0, 1):
        for dc in (0, 1):
            r, c = base[:, 0] + dr, base[:, 1] + dc
            on = (r >= 0) & (r < shape[0]) & (c >= 0) & (c < shape[1])
            weight = np.abs(1 - dr - part[:, 0]) * np.abs(1 - dc - part[:, 1])
            layer += np.bincount(
                r[on] * shape[1] + c[on], (amounts * weight)[on], layer.size
            )
    return layer.reshape(shape).astype(np.float32)


def smooth(field: Field, sigma: float) -> Field:
    """Blur by ``sigma`` pixels; a wide blur is done on a coarse grid (fast)."""
    step = int(sigma // 4)
    if step < 2:
        return ndimage.gaussian_filter(field, sigma, mode="nearest", truncate=3.0)
    rows, columns = field.shape
    pad = [(0, -n % step) for n in field.shape]
    padded = np.pad(field, pad, mode="edge")
    coarse = padded.reshape(
        padded.shape[0] // step, step, padded.shape[1] // step, step
    ).mean((1, 3))
    coarse = ndimage.gaussian_filter(coarse, sigma / step, mode="nearest", truncate=3.0)
    return enlarge(coarse, step)[:rows, :columns]


def enlarge(coarse: Field, step: int) -> Field:
    """Enlarge ``coarse`` by the whole number ``step``, linearly between its cells."""
    for axis in (0, 1):
        n = coarse.shape[axis]
        at = (np.arange(n * step, dtype=np.float32) + 0.5) / step - 0.5
        low = np.clip(np.floor(at).astype(int), 0, n - 1)
        high = np.minimum(low + 1, n - 1)
        part = np.clip(at - low, 0, 1).astype(np.float32)
        shape = (-1, 1) if axis == 0 else (1, -1)
        part = part.reshape(shape)
        coarse = coarse.take(low, axis) * (1 - part) + coarse.take(high, axis) * part
    return coarse.astype(np.float32)


def noise(
    rng: np.random.Generator, size: int, octaves: tuple[tuple[int, float], ...]
) -> Field:
    """Return cloudy noise: for each ``(cells, weight)`` a random coarse grid."""
    field = np.zeros((size, size), np.float32)
    for cells, weight in octaves:
        step = -(-size // cells)
        n = -(-size // step)
        coarse = rng.standard_normal((n, n), dtype=np.float32)
        field += np.float32(weight) * enlarge(coarse, step)[:size, :size]
    return field

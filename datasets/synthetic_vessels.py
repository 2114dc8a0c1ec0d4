"""Vessels, hila and haze of the lungs: tissue thickness along the beam, in cm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medseg.datasets.synthetic_frame import Field, Frame, noise, smooth, splat

BRANCH_ANGLES = np.radians([-75, -52, -30, -8, 14, 33, 50, 66, 80])  # 0 is lateral
STEP = 0.012  # film sides
CLASSES = (0.0008, 0.0022, 0.005, 0.011)  # radii, film sides


def lung_tissue(
    texture: Mapping[str, Any], frame: Frame, masks: np.ndarray[Any, Any]
) -> Field:
    """Return vessels, hila, haze and now and then an opacity, ``(Y, X)`` in cm."""
    rng = np.random.default_rng(texture["seed"])
    inside = smooth(((masks[0] | masks[1]) > 0).astype(np.float32), frame.size / 200)
    layer = np.float32(texture["vessels"]) * _vessels(rng, frame)
    cloud = noise(rng, frame.size, ((8, 0.5), (24, 0.35), (70, 0.2), (160, 0.13)))
    layer = layer + np.float32(0.25 + texture["haze"]) * (1 + cloud)
    # Vessels run on behind the heart and the diaphragm, where less lung is.
    layer = layer * (0.25 + 0.75 * inside)
    if texture["opacity"]:
        layer = layer + inside * _opacity(rng, frame, texture["opacity"])
    return layer.astype(np.float32)


def _vessels(rng: np.random.Generator, frame: Frame) -> Field:
    points, radii = [], []
    for side in (-1, 1):
        hilum = (side * 0.24, 0.44 if side < 0 else 0.41)
        for angle in BRANCH_ANGLES:
            for _ in range(2):
                tree = _branch(rng, frame, side, hilum, angle)
                points.append(tree[0])
                radii.append(tree[1])
    where, size = np.concatenate(points), np.concatenate(radii)
    rows_columns = _place(frame, where)
    bounds = [0.0, *np.sqrt(np.array(CLASSES[1:]) * np.array(CLASSES[:-1])), np.inf]
    total = np.zeros((frame.size, frame.size), np.float32)
    for k, radius in enumerate(CLASSES):
        on = (size >= bounds[k]) & (size < bounds[k + 1])
        # Volume a unit of length; the fine ones count more than their pi r^2, for
        # they stand for many finer ones beside them.
        amount = np.pi * size[on] ** 1.5 * 0.1 * (STEP / 4) * 33.0 * frame.size**2
        drops = splat(total.shape, rows_columns[on], amount)
        total += smooth(drops, max(0.75 * radius * frame.size, 0.6))
    return total


def _branch(
    rng: np.random.Generator,
    frame: Frame,
    side: int,
    start: tuple[float, float],
    angle: float,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return points (film sides from the frame's centre) and radii of one tree."""
    x = start[0] * frame.half_width + side * rng.normal(0, 0.015)
    y = (start[1] - 0.5) * frame.height + rng.normal(0, 0.05)
    stack = [(x, y, angle + rng.normal(0, 0.15), float(rng.uniform(0.006, 0.011)))]
    points, radii = [], []
    while stack:
        x, y, way, radius = stack.pop()
        bow = rng.normal(0, 0.03)
        while radius > 0.0009:
            way += bow + rng.normal(0, 0.05)
            dx, dy = side * np.cos(way) * STEP, np.sin(way) * STEP
            for part in (0.0, 0.25, 0.5, 0.75):
                points.append((x + part * dx, y + part * dy))
                radii.append(radius)
            x, y, radius = x + dx, y + dy, radius * 0.955
            if rng.random() < 0.2:
                turn = rng.choice((-1, 1)) * rng.uniform(0.35, 0.8)
                stack.append((x, y, way + turn, radius * rng.uniform(0.5, 0.8)))
                radius *= 0.85
    return np.array(points), np.array(radii)


def _place(frame: Frame, points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    p = points[:, 0] / frame.half_width
    q = points[:, 1] / frame.height + 0.5
    return frame.pixels(np.stack([p, q], axis=1))


def _opacity(rng: np.random.Generator, frame: Frame, amount: float) -> Field:
    """Return one round or cloudy opacity somewhere in a lung."""
    p = float(rng.choice((-1, 1)) * rng.uniform(0.3, 0.85))
    q = float(rng.uniform(0.15, 0.85))
    width = float(np.exp(rng.uniform(np.log(0.01), np.log(0.07)))) * frame.size
    spot = splat(
        (frame.size, frame.size),
        frame.pixels(np.array([(p, q)])),
        np.array([2 * np.pi * width**2 * amount]),
    )
    return smooth(spot, width) * (1 + 0.4 * noise(rng, frame.size, ((40, 1.0),)))

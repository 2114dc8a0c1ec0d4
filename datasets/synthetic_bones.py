"""Bones of a synthetic chest: thickness along the beam, in cm of bone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medseg.datasets.synthetic_anatomy import (
    LEFT,
    RIGHT,
    chest_wall,
    clavicle_line,
    clavicle_radius,
)
from medseg.datasets.synthetic_frame import (
    Field,
    Frame,
    Points,
    ellipse,
    smooth,
    spline,
)

RIBS = 11


def bones(parameters: Mapping[str, Any], frame: Frame) -> Field:
    """Return ribs, clavicles, scapulae, upper arms and spine, ``(Y, X)`` in cm."""
    sample, lungs = parameters["bones"], parameters["lungs"]
    layer = np.zeros((frame.size, frame.size), np.float32)
    _ribs(layer, sample, lungs, frame)
    for k, side in enumerate((RIGHT, LEFT)):
        _scapula(layer, sample["scapula"][k], frame, side)
        _clavicle(layer, sample, frame, side)
    _spine(layer, sample, frame)
    return smooth(np.float32(sample["density"]) * layer, 0.9 * frame.size / 512)


def rib_lines(
    sample: Mapping[str, Any], lungs: Mapping[str, Any], side: int
) -> list[tuple[Points, Points]]:
    """Return the back and the front middle line of each rib of one side."""
    wall = spline(chest_wall(lungs, side), 90)
    lines = []
    for i in range(RIBS):
        start = -0.05 + sample["rib_first"] + i * sample["rib_step"]
        start += sample["rib_wobble"][(side + 1) // 2][i]
        fall = sample["rib_fall"] * (0.75 + 0.06 * i)
        turn = start + fall  # where the rib turns forward at the chest wall
        below = wall[wall[:, 0] > 0.36]
        edge = float(np.interp(turn, below[:, 1], below[:, 0])) + 0.015
        back = [
            (0.10, start + 0.008),
            (0.22, start - 0.012),
            (0.42 * edge, start - 0.01 + 0.06 * fall),
            (0.68 * edge, start + 0.24 * fall),
            (0.89 * edge, start + 0.58 * fall),
            (0.985 * edge, turn),
            (0.985 * edge, turn + 0.055),
        ]
        reach = 0.30 + 0.035 * i
        front = [
            (0.985 * edge, turn + 0.02),
            (0.95 * edge, turn + 0.085),
            (0.80 * edge, turn + 0.085 + 0.45 * fall),
            (0.62 * edge, turn + 0.085 + 0.72 * fall),
            (reach * edge + 0.08, turn + 0.08 + 0.85 * fall),
        ]
        lines.append((spline(np.array(back), 44), spline(np.array(front), 34)))
    return lines


def _ribs(
    layer: Field, sample: Mapping[str, Any], lungs: Mapping[str, Any], frame: Frame
) -> None:
    radius = sample["rib_radius"]
    for side in (RIGHT, LEFT):
        for i, (back, front) in enumerate(rib_lines(sample, lungs, side)):
            small = 0.8 if i == 0 else 1.0
            frame.add_tube(layer, back * (side, 1), radius * small, 0.55, 0.45)
            if i < 8:
                strength = 0.55 * sample["rib_front"]
                wide = np.linspace(1.0, 1.35, len(front)) * radius * small
                rows_columns = front * (side, 1)
                frame.add_tube(layer, rows_columns, wide, strength, 0.45)


def _clavicle(layer: Field, sample: Mapping[str, Any], frame: Frame, side: int) -> None:
    line, radius = clavicle_line(sample, side), clavicle_radius(sample)
    frame.add_tube(layer, line, radius, 0.95, 0.35)


def _scapula(layer: Field, turn: float, frame: Frame, side: int) -> None:
    blade = [
        (1.12, 0.02),
        (1.2, 0.12),
        (1.08 - turn, 0.3),
        (0.98 - 1.6 * turn, 0.5),
        (0.9 - 1.6 * turn, 0.5),
        (0.84 - turn, 0.3),
        (0.9 - turn, 0.08),
    ]
    outline = spline(np.array(blade), 60, closed=True) * (side, 1)
    frame.add(layer, outline, 0.22)
    border = spline(np.array(blade[1:5]), 30) * (side, 1)
    frame.add_tube(layer, border, 0.006, 0.45, 0.3)
    ridge = np.array([(0.85, 0.06), (1.05, -0.02), (1.25, -0.06), (1.4, -0.03)])
    frame.add_tube(layer, spline(ridge, 30) * (side, 1), 0.011, 0.5, 0.3)
    head = np.array([(1.36, 0.02), (1.42, 0.08), (1.5, 0.2), (1.56, 0.7)])
    radius = np.interp(
        np.linspace(0, 1, 40), [0, 0.08, 0.25, 1], [0.05, 0.075, 0.04, 0.033]
    )
    frame.add_tube(layer, spline(head, 40) * (side, 1), radius, 1.0, 0.35)


def _spine(layer: Field, sample: Mapping[str, Any], frame: Frame) -> None:
    half, step = sample["spine"], sample["vertebra"]
    for i in range(-7, 17):
        middle = i * step
        wide = half * (0.72 + 0.03 * np.clip(i + 4, 0, 12))
        waist = 0.9 * wide
        top, bottom = middle - 0.43 * step, middle + 0.43 * step
        body = [
            (-wide, top),
            (0, top + 0.01),
            (wide, top),
            (waist, middle),
            (wide, bottom),
            (0, bottom - 0.01),
            (-wide, bottom),
            (-waist, middle),
        ]
        frame.add(layer, np.array(body), 0.45)
        for edge in (top, bottom):
            line = np.array([(-wide, edge), (0, edge + 0.004), (wide, edge)])
            frame.add_tube(layer, line, 0.0025, 0.25, 0.0)
        for side in (RIGHT, LEFT):
            ring = ellipse((side * 0.6 * wide, middle - 0.1 * step), (0.022, 0.018))
            frame.add(layer, ring, 0.2)
            process = [
                (side * 0.8 * wide, middle),
                (side * 1.55 * wide, middle - 0.012),
            ]
            frame.add_tube(layer, np.array(process), 0.007, 0.2, 0.3)
        spine = np.array([(0.0, middle), (0.0, middle + 0.55 * step)])
        frame.add_tube(layer, spine, 0.006, 0.25, 0.2)

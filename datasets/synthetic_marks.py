"""What lies on a film beside the patient: devices, borders, burnt-in text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medseg.datasets.synthetic_frame import (
    Field,
    Frame,
    Points,
    ellipse,
    smooth,
    spline,
)

# Rows of 5 pixels from the top, the highest bit on the left.
GLYPHS = {
    "R": (30, 17, 17, 30, 20, 18, 17),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "P": (30, 17, 17, 30, 16, 16, 16),
    "A": (14, 17, 17, 31, 17, 17, 17),
    "O": (14, 17, 17, 17, 17, 17, 14),
    "T": (31, 4, 4, 4, 4, 4, 4),
    "B": (30, 17, 17, 30, 17, 17, 30),
    "E": (31, 16, 16, 30, 16, 16, 31),
    "0": (14, 17, 19, 21, 25, 17, 14),
    "3": (30, 1, 1, 14, 1, 1, 30),
    "4": (2, 6, 10, 18, 31, 2, 2),
    "7": (31, 1, 2, 4, 8, 8, 8),
    " ": (0, 0, 0, 0, 0, 0, 0),
}


def devices(found: Sequence[Mapping[str, Any]], frame: Frame) -> Field:
    """Return the optical thickness ``(Y, X)`` of tubes, wires and pacemakers."""
    layer = np.zeros((frame.size, frame.size), np.float32)
    for device in found:
        jitter = np.array(device["jitter"])
        if device["kind"] == "pacemaker":
            _pacemaker(layer, frame, jitter)
        elif device["kind"] == "button":
            centre = (float(np.clip(0.5 * jitter[0], -1, 1)), 0.4 + 0.25 * jitter[1])
            frame.add(layer, ellipse(centre, (0.035, 0.022)), 0.7)
        else:
            line, radius, amount, hollow = _course(device["kind"], jitter)
            frame.add_tube(layer, spline(line, 120), radius, amount, hollow)
    return smooth(layer, 0.7 * frame.size / 512) if found else layer


def _course(kind: str, j: Points) -> tuple[Points, float, float, float]:
    """Return line, radius (film sides), optical thickness and hollowness."""
    if kind == "tube":  # in the trachea
        line = [(0.0, -0.6), (0.01 * j[0], -0.1), (-0.01, 0.22 + 0.03 * j[1])]
        return np.array(line), 0.0085, 0.35, 0.7
    if kind == "feeding":
        end = 1.0 + 0.05 * j[1]
        line = [(0.02, -0.6), (0.03, 0.2), (0.06, 0.6), (0.12, 0.85), (0.4, end)]
        return np.array(line), 0.004, 0.4, 0.4
    if kind == "line":  # a central venous catheter from the right
        line = [(-0.9, -0.1), (-0.5, 0.02), (-0.2, 0.1), (-0.14, 0.25), (-0.13, 0.42)]
        return np.array(line) + 0.02 * j[0], 0.0025, 0.4, 0.0
    side = 1 if j[0] > 0 else -1
    lead = np.array(
        [(0.3, 0.2), (0.5, 0.35), (0.4, 0.6), (0.8, 0.8), (1.3, 0.9)]
    ) + 0.15 * np.reshape(np.concatenate([j, j[:2]]), (5, 2))
    return lead * (side, 1), 0.0018, 0.6, 0.0


def _pacemaker(layer: Field, frame: Frame, j: Points) -> None:
    centre = np.array((0.62 + 0.05 * j[0], 0.18 + 0.04 * j[1]))
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    box = np.stack([np.sign(c) * np.abs(c) ** 0.5, np.sign(s) * np.abs(s) ** 0.5], 1)
    frame.add(layer, centre + box * (0.15, 0.085), 2.2)
    frame.add(layer, centre + box * (0.12, 0.065), 0.5)
    lead = [centre, (0.3, 0.06), (-0.1, 0.14), (-0.15, 0.45), (0.0, 0.78), (0.3, 0.82)]
    frame.add_tube(layer, spline(np.array(lead), 160), 0.0022, 1.3, 0.0)


def burn_in(marks: Mapping[str, Any], film: Field) -> Field:
    """Return the film with its black borders and texts."""
    film = film.copy()
    size = len(film)
    top, bottom, left, right = (round(b * size) for b in marks["border"])
    film[:top] = 0
    film[size - bottom :] = 0
    film[:, :left] = 0
    film[:, size - right :] = 0
    for text in marks["texts"]:
        _write(film, text)
    return film


def _write(film: Field, text: Mapping[str, Any]) -> None:
    size = len(film)
    zoom = max(1, round(text["scale"] * size / 512))
    rows = [
        [bit for c in text["text"] for bit in (*_bits(GLYPHS[c][r]), 0)]
        for r in range(7)
    ]
    picture = np.array(rows, float).reshape(7, -1)
    if picture.shape[1] == 0:  # an empty label: a name that was blacked out
        picture = np.zeros((9, 22))
    picture = np.kron(np.pad(picture, 1), np.ones((zoom, zoom))) > 0
    at = [int((text["at"][k] + text["shift"][k]) * size) for k in (0, 1)]
    r = int(np.clip(at[0], 0, size - min(size, picture.shape[0])))
    c = int(np.clip(at[1], 0, size - min(size, picture.shape[1])))
    part = film[r : r + picture.shape[0], c : c + picture.shape[1]]
    picture = picture[: part.shape[0], : part.shape[1]]
    if text["box"] or not picture.any():
        part[:] = 0 if text["grey"] > 0.5 else 1
    part[picture] = text["grey"]


def _bits(row: int) -> tuple[int, ...]:
    return tuple(row >> k & 1 for k in (4, 3, 2, 1, 0))

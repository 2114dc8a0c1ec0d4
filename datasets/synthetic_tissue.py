"""Soft tissue and air of a synthetic chest: thickness along the beam, in cm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medseg.datasets.synthetic_anatomy import (
    LEFT,
    RIGHT,
    chest_wall,
    dome_height,
)
from medseg.datasets.synthetic_frame import (
    Field,
    Frame,
    ellipse,
    noise,
    paint,
    smooth,
    spline,
)


def soft_tissue(body: Mapping[str, Any], frame: Frame, p: Field, q: Field) -> Field:
    """Return the thickness of the body ``(Y, X)`` in cm, as if it held no air."""
    half = 1.0 + body["wall"]
    torso = _torso(body, half, p, q)
    parts = [torso]
    for k, side in enumerate((RIGHT, LEFT)):
        parts.append(_shoulder(body, body["shoulder"][k], half, side * p, q))
    # A smooth maximum: shoulder and torso share their tissue where they meet.
    total = np.sqrt(np.sqrt(sum(part**4 for part in parts)))
    pixel = frame.size / 512
    total += _breasts(body, frame) + _pectorals(body, frame)
    total *= 1 + 0.03 * noise(
        np.random.default_rng(body["texture"]), frame.size, ((6, 1.0), (20, 0.4))
    )
    return smooth(total.astype(np.float32), 1.2 * pixel)


def _torso(body: Mapping[str, Any], half: float, p: Field, q: Field) -> Field:
    neck, thick = body["neck"], body["thickness"]
    at = [-0.6, -0.4, -0.26, -0.2, -0.13, -0.03, 0.1, 0.25, 0.6, 1.0, 1.6]
    wide = [neck, 0.95 * neck, neck + 0.06, neck + 0.18, 0.85, 0.97, 1.0, 1.0]
    wide = [*wide, half, 1.02 * half, half]
    deep = [0.66, 0.6, 0.6, 0.62, 0.66, 0.72, 0.8, 0.88, 1.0, 1.04, 1.04]
    # Flatter than an ellipse: a chest is about a rectangle with round sides.
    inside = np.clip(1 - np.abs(p / _table(q, at, wide)) ** 2.6, 0, 1)
    return _table(q, at, deep) * np.float32(thick) * np.sqrt(inside)


def _shoulder(
    body: Mapping[str, Any], raised: float, half: float, p: Field, q: Field
) -> Field:
    """Return shoulder and upper arm on the side where ``p > 0``."""
    top = np.interp(p, [0.4, 0.7, 1.1, 1.5, 2.0], [-0.3, -0.17, -0.11, -0.05, 0.2])
    under = np.interp(
        p,
        [0.5, half - 0.05, half + 0.08, body["arm"], body["arm"] + 0.02],
        [0.3, body["axilla"] + 0.25, body["axilla"], body["axilla"] + 0.3, 3.0],
    )
    shifted = (q + np.float32(raised)).astype(np.float32)
    rise = np.clip((shifted - top) / 0.16, 0, 1) * np.clip(
        (under - shifted) / 0.14, 0, 1
    )
    fade = np.clip((p - 0.3) / 0.35, 0, 1)
    return (np.float32(body["shoulder_thickness"]) * np.sqrt(rise) * fade).astype(
        np.float32
    )


def _breasts(body: Mapping[str, Any], frame: Frame) -> Field:
    layer = np.zeros((frame.size, frame.size), np.float32)
    p, q = body["breast_at"]
    for side in (RIGHT, LEFT):
        for share in (1.0, 0.8, 0.6):
            shape = ellipse((side * p, q), (0.46 * share, 0.25 * share))
            # Flat above, round below: the breast hangs.
            shape[:, 1] = np.where(
                shape[:, 1] < q, q + 1.6 * (shape[:, 1] - q), shape[:, 1]
            )
            frame.add(layer, shape, body["breast"] / 3)
    return _graded(layer, frame)


def _pectorals(body: Mapping[str, Any], frame: Frame) -> Field:
    layer = np.zeros((frame.size, frame.size), np.float32)
    for side in (RIGHT, LEFT):
        shape = [(0.35, 0.1), (0.6, 0.3), (0.95, 0.42), (1.2, 0.35), (1.2, 0.05)]
        frame.add(layer, np.array(shape) * (side, 1), body["pectoral"])
    return smooth(layer, frame.size * 0.012)


def _graded(layer: Field, frame: Frame) -> Field:
    """Blur widely, but keep some of the sharp rim: soft tissue seen in profile."""
    wide, fine = smooth(layer, frame.size * 0.03), smooth(layer, frame.size * 0.008)
    return np.float32(0.65) * wide + np.float32(0.35) * fine


def air(
    parameters: Mapping[str, Any],
    frame: Frame,
    masks: np.ndarray[Any, Any],
    p: Field,
    q: Field,
) -> Field:
    """Return the thickness of air ``(Y, X)`` in cm: lungs, airways, stomach."""
    lungs = parameters["lungs"]
    chest = _chest_depth(lungs, p, q)
    inside = ((masks[0] | masks[1]) > 0).astype(np.float32)
    below = np.maximum(_below_dome(lungs, p, q), 0)
    # Heart and mediastinum are round: there is lung before and behind their edge.
    deep = smooth(1 - inside, 0.03 * frame.size)
    lung = chest * _basal(lungs, p, q) * (1 - 0.3 * deep)
    middle = chest * (0.86 - parameters["heart"]["fill"] * deep)
    middle *= np.exp(-below / 0.05)  # the recess of the lung behind the dome
    filled = np.where(inside > 0, lung, middle).astype(np.float32)
    filled = smooth(filled, 0.9 * frame.size / 512)
    filled *= np.float32(0.74)  # a lung is a quarter tissue and blood
    return filled + _airways(parameters["body"], frame) + _gas(parameters, frame)


def _chest_depth(lungs: Mapping[str, Any], p: Field, q: Field) -> Field:
    """Return the depth of the thorax as an elliptic section at each height."""
    depth = np.zeros_like(p)
    for side in (RIGHT, LEFT):
        wall = spline(chest_wall(lungs, side), 90)
        wall = wall[np.argmin(wall[:, 1]) :]
        half = _table(q, np.maximum.accumulate(wall[:, 1]), wall[:, 0] * 1.03 + 0.02)
        inside = np.sqrt(np.clip(1 - (p / half) ** 2, 0, 1))
        depth = np.where(side * p > 0, inside, depth)
    share = _table(
        q,
        [-0.05, 0.0, 0.06, 0.15, 0.3, 0.5, 0.75, 1.1],
        [0.2, 0.35, 0.5, 0.68, 0.88, 1.0, 1.0, 0.9],
    )
    return (np.float32(lungs["depth"]) * share * depth).astype(np.float32)


def _below_dome(lungs: Mapping[str, Any], p: Field, q: Field) -> Field:
    """Return how far below the diaphragm a pixel lies, negative above it."""
    at = np.linspace(0.12, 1.05, 60)  # in between, one dome runs into the other
    right, left = (dome_height(lungs, side, at) for side in (RIGHT, LEFT))
    height = np.interp(
        p, np.concatenate([-at[::-1], at]), np.concatenate([right[::-1], left])
    )
    return (q - height).astype(np.float32)


def _basal(lungs: Mapping[str, Any], p: Field, q: Field) -> Field:
    """Return how much of the depth is lung: less where the dome bulges into it."""
    above = np.clip(-_below_dome(lungs, p, q) / 0.22, 0, 1)
    return (0.62 + 0.38 * np.sqrt(above)).astype(np.float32)


def _airways(body: Mapping[str, Any], frame: Frame) -> Field:
    layer = np.zeros((frame.size, frame.size), np.float32)
    p, radius = body["trachea"]
    radius *= frame.half_width
    trachea = [(0.0, -0.5), (0.0, -0.2), (p / 2, 0.05), (p, 0.2), (p, 0.34)]
    bronchi = (
        [(p, 0.31), (p - 0.08, 0.37), (p - 0.18, 0.44)],
        [(p, 0.31), (p + 0.10, 0.37), (p + 0.24, 0.42)],
    )
    for line, share, amount in (
        (trachea, 1.0, 0.8),
        (trachea, 0.65, 0.8),
        *((b, 0.75, 0.8) for b in bronchi),
    ):
        # Each airway thins out where the next ones leave it.
        thin = np.interp(np.linspace(0, 1, 40), [0, 0.88, 1], [1, 1, 0.3])
        tube = frame.tube(spline(np.array(line), 40), radius * share * thin)
        paint(layer, tube, amount)
    return smooth(layer, frame.size * 0.004)


def _gas(parameters: Mapping[str, Any], frame: Frame) -> Field:
    """Return gas in the stomach (flat below: a fluid level) and in the bowel."""
    body, lungs = parameters["body"], parameters["lungs"]
    layer = np.zeros((frame.size, frame.size), np.float32)
    if body["stomach"]:
        p, drop = body["stomach_at"]
        q = lungs["dome"][1] + drop + body["stomach_radii"][1]
        shape = ellipse((p, q), tuple(body["stomach_radii"]))
        shape[:, 1] = np.minimum(shape[:, 1], q + 0.6 * body["stomach_radii"][1])
        frame.add(layer, shape, body["stomach"])
    if body["bowel"]:
        rng = np.random.default_rng(body["texture"] + 1)
        for _ in range(int(rng.integers(2, 6))):
            centre = (float(rng.uniform(-0.7, 0.9)), float(rng.uniform(1.1, 1.5)))
            radii = rng.uniform(0.03, 0.14, 2)
            frame.add(layer, ellipse(centre, tuple(radii)), body["bowel"])
    return smooth(layer, frame.size * 0.008)


def _table(x: Field, at: Any, values: Any) -> Field:
    return np.interp(x, at, values).astype(np.float32)

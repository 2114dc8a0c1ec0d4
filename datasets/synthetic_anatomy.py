"""Outlines of lungs, heart and clavicles in chest coordinates, and their masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from medseg.datasets.synthetic_frame import Frame, Mask, Points, paint, spline

RIGHT, LEFT = -1, 1

# Inner chest wall from the apex's medial end to the costophrenic angle.
LATERAL = np.array(
    [
        (0.12, 0.12),
        (0.16, 0.065),
        (0.24, 0.02),
        (0.36, 0.0),
        (0.49, 0.025),
        (0.61, 0.075),
        (0.72, 0.145),
        (0.81, 0.24),
        (0.87, 0.36),
        (0.91, 0.50),
        (0.94, 0.65),
        (0.96, 0.77),
        (0.98, 0.87),
        (0.995, 0.94),
        (0.99, 0.99),
    ]
)
# Border of the mediastinum, from below the dome up to the apex.
MEDIAL_RIGHT = np.array(
    [
        (0.15, 0.95),
        (0.19, 0.74),
        (0.20, 0.60),
        (0.19, 0.50),
        (0.165, 0.40),
        (0.145, 0.30),
        (0.135, 0.20),
        (0.12, 0.12),
    ]
)
MEDIAL_LEFT = np.array(
    [
        (0.17, 0.95),
        (0.21, 0.74),
        (0.24, 0.58),
        (0.235, 0.48),
        (0.20, 0.40),
        (0.19, 0.30),
        (0.16, 0.20),
        (0.12, 0.12),
    ]
)


def lung_outline(lungs: Mapping[str, Any], side: int) -> Points:
    """Return the closed outline of the right (-1) or left (1) hemithorax.

    It runs along the chest wall, the dome of the diaphragm and the mediastinum;
    the heart is not cut out of it.
    """
    wall = spline(chest_wall(lungs, side), 90)
    edge = _medial(lungs, side)
    dome = _dome(lungs, side, wall[-1], edge)
    above = edge[edge[:, 1] < dome[-1, 1]]
    outline = np.concatenate([wall, dome, above])
    return outline * (side, 1)


def chest_wall(lungs: Mapping[str, Any], side: int) -> Points:
    """Return the control points of one inner chest wall, with ``p > 0``."""
    k = (side + 1) // 2
    p, q = LATERAL.T.copy()
    upper = np.clip(1 - q / 0.35, 0, 1)
    p = p + lungs["apex"] * upper * np.clip(p / 0.3, 0, 1)
    p = p + lungs["barrel"] * np.sin(np.pi * q) * (p > 0.5)
    p[1:-1] += np.array(lungs["wobble"][k])[1:-1]
    low = np.clip((q - 0.6) / 0.39, 0, 1)
    q = q + low * (lungs["angle_depth"][k] - 0.99)
    return np.stack([p, q], axis=1)


def _medial(lungs: Mapping[str, Any], side: int) -> Points:
    k = (side + 1) // 2
    p, q = (MEDIAL_LEFT if side == LEFT else MEDIAL_RIGHT).T.copy()
    inner = np.clip((q - 0.12) / 0.1, 0, 1)
    p = p + lungs["medial"][k] * inner
    line = spline(np.stack([p, q], axis=1), 90)
    if side == LEFT:
        # The aortic knob above, the pulmonary trunk below it.
        for (at, size), width in (
            (lungs["knob"], 0.045),
            ((lungs["knob"][0] + 0.14, lungs["trunk"]), 0.05),
        ):
            line[:, 0] += size * np.exp(-(((line[:, 1] - at) / width) ** 2))
    return line


def dome_height(
    lungs: Mapping[str, Any], side: int, p: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Return ``q`` of the diaphragm at ``p > 0``, down to the costophrenic angle."""
    k = (side + 1) // 2
    top, peak = lungs["dome"][k], lungs["peak"][k]
    tip_p, tip_q = chest_wall(lungs, side)[-1]
    t = np.clip((p - peak) / (tip_p - peak), 0, 1)
    share = lungs["sharpness"][k]
    fall = (1 - share) * t**2.3 + share * t**5.5
    inner = 0.05 * np.clip((peak - p) / peak, 0, 1.5) ** 2
    return np.asarray(top + (tip_q - top) * fall + inner)


def _dome(lungs: Mapping[str, Any], side: int, tip: Points, edge: Points) -> Points:
    p = np.linspace(tip[0], 0.1, 80)
    dome = np.stack([p, dome_height(lungs, side, p)], axis=1)
    # The dome ends where it meets the mediastinum.
    meets = np.interp(dome[:, 1], edge[::-1, 1], edge[::-1, 0])
    return dome[dome[:, 0] >= meets]


def heart_outline(heart: Mapping[str, Any], lungs: Mapping[str, Any]) -> Points:
    """Return the closed outline of the heart; its width gives the ratio."""
    widest = sum(chest_wall(lungs, side)[:, 0].max() for side in (RIGHT, LEFT))
    width = heart["ratio"] * widest
    left, right = heart["left_part"] * width, (1 - heart["left_part"]) * width
    top = heart["top"]
    height = lungs["dome"][0] + heart["bottom"] - top
    boot = heart["boot"]
    apex = 1 - heart["apex"] * 0.75
    shape = [
        (0.10 * left, 0.0),
        (0.36 * left, 0.05),
        ((0.60 + boot) * left, 0.5 * apex - 0.12 + boot),
        ((0.82 + boot / 2) * left, 0.75 * apex - 0.02),
        (left, apex),
        (0.93 * left, apex + 0.6 * (1 - apex)),
        (0.70 * left, 0.985),
        (0.30 * left, 1.0),
        (-0.25 * right, 0.99),
        (-0.78 * right, 0.93),
        (-right, 0.70),
        (-0.92 * right, 0.45),
        (-0.65 * right, 0.2),
        (-0.35 * right, 0.04),
    ]
    outline = spline(np.array(shape), 140, closed=True)
    # Narrower or broader above, where the great vessels leave.
    above = np.clip((0.7 - outline[:, 1]) / 0.7, 0, 1)
    outline[:, 0] = outline[:, 0] * (1 - heart["taper"] * above)
    # The spline overshoots a little: give it back its exact width.
    low, high = outline[:, 0].min(), outline[:, 0].max()
    outline[:, 0] = -right + (outline[:, 0] - low) * width / (high - low)
    return outline * (1, height) + (0, top)


def clavicle_line(bones: Mapping[str, Any], side: int) -> Points:
    """Return the middle line of a clavicle from the sternum to the shoulder."""
    k = (side + 1) // 2
    p0, q0 = bones["clavicle_medial"]
    rise, bow = bones["clavicle_rise"][k], bones["clavicle_bow"]
    shape = [
        (p0, q0),
        (p0 + 0.12, q0 - 0.18 * rise + bow * 0.7),
        (p0 + 0.30, q0 - 0.47 * rise + bow),
        (p0 + 0.50, q0 - 0.78 * rise),
        (p0 + 0.72, q0 - 0.98 * rise - bow),
        (p0 + 0.92, q0 - 1.04 * rise - bow * 0.6),
        (p0 + 1.10, q0 - 1.02 * rise),
    ]
    return spline(np.array(shape), 90) * (side, 1)


def clavicle_radius(bones: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Return the half-thickness along `clavicle_line`, in film sides."""
    t = np.linspace(0, 1, 90)
    bulb = 0.45 * np.exp(-((t / 0.1) ** 2)) + 0.15 * np.exp(-(((t - 1) / 0.2) ** 2))
    rounded = np.sqrt(np.clip(t / 0.025, 0.05, 1))
    return np.asarray(bones["clavicle_radius"] * (1 + bulb - 0.12) * rounded)


def rib_cage(lungs: Mapping[str, Any]) -> Points:
    """Return the closed outer outline of the rib cage, a rib beyond the lungs."""
    sides = []
    for side in (RIGHT, LEFT):
        wall = spline(chest_wall(lungs, side), 60)
        out = np.clip(wall[:, :1] / 0.5, 0, 1) * (0.06, 0.0)
        up = np.clip(1 - wall[:, 1:] / 0.3, 0, 1) * (0.0, -0.045)
        sides.append((wall + out + up) * (side, 1))
    return np.concatenate([sides[0][::-1], sides[1]])


def draw_masks(parameters: Mapping[str, Any], frame: Frame) -> np.ndarray[Any, Any]:
    """Return the truth ``(5, Y, X)`` of 0 and 1, in the order of the chest labels.

    The lungs end at the heart, the mediastinum and the diaphragm; the clavicles are
    drawn where they lie over the rib cage (van Ginneken et al. 2006).
    """
    lungs, bones = parameters["lungs"], parameters["bones"]
    heart = frame.fill(heart_outline(parameters["heart"], lungs))
    cage = frame.fill(rib_cage(lungs))
    masks = np.zeros((5, frame.size, frame.size), np.uint8)
    for k, side in enumerate((RIGHT, LEFT)):
        masks[k] = _largest(frame.fill(lung_outline(lungs, side)) & ~heart)
        masks[3 + k] = clavicle(bones, frame, side) & cage
    masks[2] = heart
    return masks


def clavicle(bones: Mapping[str, Any], frame: Frame, side: int) -> Mask:
    """Return the whole clavicle ``(Y, X)``, shoulder included."""
    outline = frame.tube(clavicle_line(bones, side), clavicle_radius(bones))
    mask = np.zeros((frame.size, frame.size), bool)
    paint(mask, outline, True)
    return mask


def _largest(mask: Mask) -> Mask:
    parts, n = ndimage.label(mask)
    if n < 2:
        return mask
    return np.asarray(parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]))

"""Sampling the parameters of a synthetic chest film, as plain data.

Ranges were set by hand after looking at Wingspan and JSRT films and at summary
statistics of both sets: mean outlines, areas, cardiothoracic ratios and grey levels,
for the clavicles those of JSRT alone. Nothing was fitted or copied. Lengths are in
chest coordinates (see `synthetic_frame`), thicknesses in cm, unless a comment says
otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LATERAL_POINTS = 15  # as many as synthetic_anatomy.LATERAL has


def sample_parameters(
    rng: np.random.Generator,
    *,
    devices: bool = True,
    marks: bool = True,
    inverted: bool = False,
) -> dict[str, Any]:
    """Return everything that decides a film, as JSON-able plain data.

    Args:
        rng: Source of randomness; nothing else is random.
        devices: Now and then add tubes, wires or a pacemaker.
        marks: Now and then add borders, side markers and burnt-in text.
        inverted: Dense structures dark, as a film shown as a negative.
    """
    female = bool(rng.random() < 0.45)
    bones = _bones(rng)
    parameters: dict[str, Any] = {
        "frame": _frame(rng),
        "lungs": _lungs(rng),
        "heart": _heart(rng),
        "body": _body(rng, female, bones["clavicle_rise"]),
        "bones": bones,
        "lung_texture": {
            "seed": _seed(rng),
            "vessels": _uniform(rng, 0.5, 2.0),
            "haze": _uniform(rng, 0.0, 0.5),
            "opacity": _uniform(rng, 0.8, 3.0) if rng.random() < 0.15 else 0.0,
        },
        "exposure": _exposure(rng),
        "devices": _devices(rng) if devices else [],
        "marks": _marks(rng) if marks else {"border": [0.0] * 4, "texts": []},
    }
    parameters["exposure"]["inverted"] = bool(inverted)
    return parameters


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _normal(
    rng: np.random.Generator, mean: float, sd: float, low: float, high: float
) -> float:
    return float(np.clip(rng.normal(mean, sd), low, high))


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _frame(rng: np.random.Generator) -> dict[str, float]:
    half_width = _normal(rng, 0.40, 0.035, 0.30, 0.46)
    height = _normal(rng, 0.69, 0.10, 0.46, 0.88)
    room = 0.99 - height
    top = float(np.clip(rng.normal(0.42, 0.17), 0.08, 0.92)) * room
    return {
        "x": _normal(rng, 0.505, 0.02, 0.44, 0.56),
        "y": top + height / 2,
        "half_width": half_width,
        "height": height,
        "angle": float(np.radians(_normal(rng, 0.0, 2.5, -8.0, 8.0))),
        "bend": _normal(rng, 0.0, 0.012, -0.04, 0.04),
    }


def _lungs(rng: np.random.Generator) -> dict[str, Any]:
    right_dome = _normal(rng, 0.80, 0.035, 0.70, 0.88)
    return {
        "dome": [right_dome, right_dome + _normal(rng, 0.025, 0.02, -0.03, 0.08)],
        "peak": [_uniform(rng, 0.33, 0.5), _uniform(rng, 0.35, 0.52)],
        # Now and then fluid blunts a costophrenic angle; the lung ends above it.
        "angle_depth": [
            _uniform(rng, 0.84, 0.95)
            if rng.random() < 0.06
            else _normal(rng, 0.99, 0.02, 0.94, 1.03)
            for _ in range(2)
        ],
        "sharpness": [_uniform(rng, 0.25, 0.75) for _ in range(2)],
        "barrel": _normal(rng, 0.0, 0.02, -0.05, 0.05),
        "apex": _normal(rng, 0.0, 0.03, -0.07, 0.07),
        "medial": [_normal(rng, 0.0, 0.02, -0.04, 0.06) for _ in range(2)],
        "knob": [_uniform(rng, 0.24, 0.33), _uniform(rng, 0.02, 0.13)],
        "trunk": _uniform(rng, 0.0, 0.06),
        "wobble": (0.006 * rng.standard_normal((2, LATERAL_POINTS))).tolist(),
        "depth": _uniform(rng, 12.0, 16.0),
    }


def _heart(rng: np.random.Generator) -> dict[str, Any]:
    ratio = _normal(rng, 0.50, 0.06, 0.38, 0.62)
    return {
        "ratio": ratio,
        "left_part": _normal(rng, 0.675, 0.05, 0.55, 0.79),
        "top": _normal(rng, 0.45, 0.03, 0.38, 0.52),
        "bottom": _normal(rng, 0.095, 0.02, 0.05, 0.15),  # below the right dome
        "apex": _normal(rng, 0.40, 0.08, 0.2, 0.6),  # of the height, from below
        "boot": _normal(rng, 0.0, 0.03, -0.06, 0.07),
        "taper": _uniform(rng, -0.1, 0.4),
        "fill": _uniform(rng, 0.6, 0.8),  # of the chest's depth, at the midline
    }


def _body(rng: np.random.Generator, female: bool, rise: list[float]) -> dict[str, Any]:
    # Half of the films are taken so close that the body fills them.
    wall = _uniform(rng, 0.08, 0.2) if rng.random() < 0.4 else _uniform(rng, 0.2, 0.42)
    fat = _normal(rng, 1.0, 0.6, 0.0, 3.0)
    return {
        "female": female,
        "thickness": _normal(rng, 19.5, 1.5, 16.0, 24.0) + fat,
        "wall": wall + 0.05 * fat,
        "neck": _uniform(rng, 0.40, 0.62),
        # Shoulders go up with the lateral end of the clavicles.
        "shoulder": [
            0.9 * (r - 0.14) + _normal(rng, 0, 0.03, -0.06, 0.06) for r in rise
        ],
        "shoulder_thickness": _uniform(rng, 9.0, 15.0),
        "axilla": _uniform(rng, 0.28, 0.5),
        "arm": _uniform(rng, 1.35, 1.9),
        "breast": _uniform(rng, 0.8, 3.6) if female else _uniform(rng, 0.0, 0.5),
        "breast_at": [_uniform(rng, 0.45, 0.62), _uniform(rng, 0.72, 0.95)],
        "pectoral": _uniform(rng, 0.2, 1.2),
        "stomach": _uniform(rng, 1.0, 6.0) if rng.random() < 0.7 else 0.0,
        "stomach_at": [_uniform(rng, 0.38, 0.62), _uniform(rng, 0.05, 0.12)],
        "stomach_radii": [_uniform(rng, 0.08, 0.2), _uniform(rng, 0.03, 0.08)],
        "bowel": _uniform(rng, 0.5, 2.5) if rng.random() < 0.4 else 0.0,
        "trachea": [_normal(rng, -0.01, 0.02, -0.06, 0.04), _uniform(rng, 0.03, 0.05)],
        "texture": _seed(rng),
    }


def _bones(rng: np.random.Generator) -> dict[str, Any]:
    rise = _normal(rng, 0.19, 0.06, 0.02, 0.34)
    return {
        "density": _uniform(rng, 0.4, 1.25),
        "rib_step": _uniform(rng, 0.082, 0.098),
        "rib_first": _uniform(rng, 0.0, 0.05),
        "rib_fall": _uniform(rng, 0.10, 0.22),
        "rib_radius": _uniform(rng, 0.012, 0.018),  # film sides
        "rib_front": _uniform(rng, 0.2, 0.6),
        "rib_wobble": (0.006 * rng.standard_normal((2, 12))).tolist(),
        "clavicle_medial": [_uniform(rng, 0.13, 0.22), _uniform(rng, 0.09, 0.2)],
        "clavicle_rise": [rise + _normal(rng, 0, 0.025, -0.06, 0.06) for _ in range(2)],
        "clavicle_bow": _uniform(rng, 0.0, 0.035),
        "clavicle_radius": _uniform(rng, 0.018, 0.027),  # film sides
        "scapula": [_normal(rng, 0.0, 0.07, -0.15, 0.15) for _ in range(2)],
        "spine": _uniform(rng, 0.09, 0.13),
        "vertebra": _uniform(rng, 0.085, 0.1),
    }


def _exposure(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "attenuation": _uniform(rng, 0.16, 0.22),  # of soft tissue, 1/cm
        "scatter": _uniform(rng, 0.15, 0.7),  # of the primary beam, mean
        "photons": float(np.exp(rng.uniform(np.log(6e3), np.log(3e5)))),
        "blur": _uniform(rng, 0.5, 1.1),  # pixels at 512
        "gamma": float(np.exp(rng.normal(0.1, 0.22))),
        "shoulder": _uniform(rng, 0.2, 2.0),
        "local": _uniform(rng, 0.3, 2.0) if rng.random() < 0.65 else 0.0,
        "local_width": _uniform(rng, 0.02, 0.06),  # film sides
        "white": _uniform(rng, 86.0, 99.0),  # percentile of the body that is white
        "air": _uniform(rng, 0.2, 0.9),  # how far open beam is clipped
        "level": [_uniform(rng, 0.0, 0.15), _uniform(rng, 0.8, 1.0)],
        "ramp": [_normal(rng, 0.0, 0.04, -0.1, 0.1) for _ in range(2)],
        "seed": _seed(rng),
    }


def _devices(rng: np.random.Generator) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for kind, chance in (
        ("wire", 0.12),
        ("line", 0.08),
        ("tube", 0.06),
        ("feeding", 0.05),
        ("pacemaker", 0.04),
        ("button", 0.1),
    ):
        if rng.random() < chance:
            number = int(rng.integers(1, 4)) if kind in ("wire", "button") else 1
            found += [
                {"kind": kind, "jitter": rng.standard_normal(8).tolist()}
                for _ in range(number)
            ]
    return found


def _marks(rng: np.random.Generator) -> dict[str, Any]:
    border = np.where(rng.random(4) < 0.16, rng.uniform(0.005, 0.07, 4), 0.0)
    texts = []
    for _ in range(int(rng.choice(4, p=[0.3, 0.4, 0.2, 0.1]))):
        text = str(rng.choice(_TEXTS))
        y, x = rng.choice(_PLACES)
        texts.append(
            {
                "text": text,
                "at": [float(y), _on_its_side(text, float(x))],
                "shift": rng.uniform(-0.03, 0.03, 2).tolist(),
                "scale": int(rng.integers(1, 4)),
                "grey": float(rng.choice([1.0, 1.0, 0.9, 0.0])),
                "box": bool(rng.random() < 0.35),
            }
        )
    return {"border": border.tolist(), "texts": texts}


def _on_its_side(text: str, x: float) -> float:
    """Return where a text goes: the patient's right, R, is on the film's left."""
    side = {"R": -1, "L": 1}.get(text[:1])
    return x if side is None else 0.5 + side * max(abs(x - 0.5), 0.25)


_TEXTS = ("R", "R", "R", "L", "L", "PA", "R PA", "L PA", "3047", "AP", "PORTABLE", "")
_PLACES = (
    (0.06, 0.12),
    (0.06, 0.85),
    (0.1, 0.25),
    (0.9, 0.1),
    (0.93, 0.82),
    (0.05, 0.5),
)

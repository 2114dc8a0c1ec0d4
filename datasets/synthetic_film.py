"""From thicknesses to grey values: beam, scatter, noise, contrast curve, borders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medseg.datasets.synthetic_frame import Field, smooth

BONE = 2.1  # attenuation of bone against soft tissue, by length


def expose(
    exposure: Mapping[str, Any], soft: Field, bone: Field, metal: Field
) -> Field:
    """Return the film ``(Y, X)``, 0 (open beam) to about 1 (dense).

    Args:
        exposure: The sampled parameters.
        soft: Water-like thickness along the beam in cm, air taken off.
        bone: Thickness of bone in cm.
        metal: Optical thickness of tubes, wires and markers.
    """
    rng = np.random.default_rng(exposure["seed"])
    size = len(soft)
    mu = np.float32(exposure["attenuation"])
    beam = np.exp(-mu * (np.maximum(soft, 0) + np.float32(BONE) * bone) - metal)
    beam = smooth(beam, exposure["blur"] * size / 512)
    # Scatter is about flat: it veils what is dense more than what is not.
    beam = beam + exposure["scatter"] * 0.35 * smooth(
        np.minimum(beam, 0.6), size * 0.06
    )
    beam = beam + np.float32(0.004)
    # Grain is what it is in a pixel of 512: a larger film has as much in a pixel.
    grain = rng.standard_normal(beam.shape, dtype=np.float32)
    grain = 0.6 * grain + 0.9 * smooth(grain, 0.8)
    beam = beam + np.sqrt(beam / np.float32(exposure["photons"])) * grain
    return _develop(exposure, -np.log(np.maximum(beam, 1e-4)), soft)


def _develop(exposure: Mapping[str, Any], density: Field, soft: Field) -> Field:
    """Return the log signal through window, local contrast and film curve."""
    size = len(density)
    if exposure["local"]:
        wide = smooth(density, size * exposure["local_width"])
        density = density + np.float32(exposure["local"]) * (density - wide)
    body = density[soft > 2]
    low, high = np.percentile(
        body[:: max(1, body.size // 20000)], [2, exposure["white"]]
    )
    low -= (1 - exposure["air"]) * max(low, 0.0)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    grey = (density - low) / (high - low)
    grey = grey + exposure["ramp"][0] * ramp[:, None] + exposure["ramp"][1] * ramp[None]
    grey = np.clip(grey, 0, 1.05)
    bent = exposure["shoulder"]
    if bent > 0.05:
        grey = (1 - np.exp(-bent * grey)) / (1 - np.exp(-bent))
    grey = np.clip(grey, 0, None) ** np.float32(exposure["gamma"])
    dark, bright = exposure["level"]
    return (dark + (bright - dark) * grey).astype(np.float32)

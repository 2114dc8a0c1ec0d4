"""Grow from seeds: each pixel goes to the seed that is nearest along the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medseg.refine.methods.base import Field, Mask, View, coarse, fine
from medseg.refine.methods.potential import travel


@dataclass(frozen=True)
class Grow:
    """Geodesic competition between the prompt and what surely lies elsewhere.

    The prompt and the part of the mask that agrees with it compete with earlier
    prompts to the contrary and with what lies far from both (Criminisi, Sharp and
    Blake, "GeoS", ECCV 2008). It looks at the image alone, not at a model.

    Args:
        edge: Cost of going through a step of the image of its usual size.
        distance: From here on, in scales, pixels compete for the other side.
        nodes: Grid points of the window; a larger window is seen coarser.
    """

    edge: float = 3.0
    distance: float = 2.5
    nodes: int = 14_000
    needs_probability: bool = False
    exact: bool = False

    @property
    def reach(self) -> float:
        """Half-width of the first window, in means of scale and radius."""
        return 1.5 * self.distance

    def potential(self, view: View) -> Field:
        """Return the difference of both ways over their sum."""
        small = coarse(view, self.nodes)
        own = small.seeds | small.mask
        other = small.against | (_far(small, self.distance) & ~own)
        if not other.any():
            other = _rim(own.shape) & ~own
        if not other.any():
            return np.ones(view.mask.shape, np.float32)
        to_own = travel(small, own, self.edge)
        to_other = travel(small, other, self.edge)
        both = to_own + to_other
        with np.errstate(invalid="ignore"):
            field = (to_other - to_own) / np.maximum(both, 1e-6)
        field[~np.isfinite(both)] = -1
        return fine(field.astype(np.float32), view.mask.shape)


def _far(view: View, distance: float) -> Mask:
    d = ndimage.distance_transform_edt(~view.seeds, sampling=view.spacing)
    return d > distance * view.scale


def _rim(shape: tuple[int, ...]) -> Mask:
    rim = np.ones(shape, bool)
    rim[tuple(slice(1, -1) if n > 2 else slice(None) for n in shape)] = False
    return rim

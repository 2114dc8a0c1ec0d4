"""A plain brush: what every tool is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medseg.refine.methods.base import Field, View


@dataclass(frozen=True)
class Paint:
    """Paint a disc (in a volume a ball) around each pixel of the prompt.

    Args:
        radius: Of the disc, a length; None takes the distance to where the mask
            agrees: the disc that just touches the outline.
    """

    radius: float | None = None
    needs_probability: bool = False
    exact: bool = True

    @property
    def reach(self) -> float:
        """Half-width of the first window, in means of scale and radius."""
        return 1.5

    def potential(self, view: View) -> Field:
        """Return the radius minus the distance to the prompt."""
        radius = view.scale if self.radius is None else self.radius
        d = ndimage.distance_transform_edt(~view.seeds, sampling=view.spacing)
        return (radius + 1e-6 - d).astype(np.float32)

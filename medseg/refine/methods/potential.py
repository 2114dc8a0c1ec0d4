"""The model's opinion, the mask as it is and the prompt, brought to one scale.

At a click both the log-odds of the model and the distance to the mask say "no", and
the click says "yes". Divided by their size at the click, both are -1 there and 0 at
the mask's outline; where the error goes on as it began they are -2 at its far side.
A correction of 2 at the click, falling with the distance along the picture, moves
the outline there, and moves it by less the further away.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.graph import MCP_Geometric

from medseg.refine.methods.base import Field, Mask, View, coarse, fine

LIMIT = 3.0
"""Both terms are cut off here: beyond, a correction has no say."""

ALONE = 0.85
"""Length of the correction, in scales, where the mask is far: the correction of 2
then ends at one scale, and a click alone makes a disc of the assumed radius."""

FARTHEST = 3.0
"""Lengths of the correction after which it is 0."""


@dataclass(frozen=True)
class Weights:
    """How the terms are weighed; chosen on Wingspan films held back from training.

    Args:
        gain: Correction at the click, in sizes of the disagreement there.
        length: Distance over which the correction falls, in geometric means of the
            scale and the radius.
        model: Share of the log-odds; the rest is distance to the mask.
        edge: Cost of going through a step of the image of its usual size there.
    """

    gain: float = 2.0
    length: float = 1.5
    model: float = 0.5
    edge: float = 0.0


@dataclass(frozen=True)
class Corrected:
    """A method that corrects the opinion of model and mask around the prompt.

    Args:
        weights: Of the terms.
        nodes: Grid points of the window; a larger window is seen coarser.
    """

    weights: Weights = field(default_factory=Weights)
    nodes: int = 20_000
    needs_probability: bool = False
    exact: bool = False

    @property
    def reach(self) -> float:
        """Half-width of the first window, in means of scale and radius."""
        return 2 * self.weights.length

    def potential(self, view: View) -> Field:
        """Return what the method makes of the corrected opinion."""
        small = coarse(view, self.nodes)
        found = self.decide(small, corrected(small, self.weights))
        return fine(found.astype(np.float32), view.mask.shape)

    def decide(self, view: View, opinion: Field) -> NDArray[np.floating]:
        """Return a field that is positive where pixels go with the prompt."""
        return opinion


def corrected(view: View, weights: Weights) -> Field:
    """Return the terms with the correction; positive goes with the prompt."""
    d = travel(view, view.seeds, weights.edge)
    # Two outlines that bend with this radius part by t at sqrt(radius * t) from where
    # they meet: thin errors are long, thick ones are not.
    along = weights.length * np.sqrt(view.scale * view.radius)
    reach = along if view.touching else ALONE * view.scale
    lift = weights.gain * np.exp(-0.5 * (d / reach) ** 2)
    field = opinion(view, weights.model) + lift
    field[d > FARTHEST * reach] = -LIMIT
    if view.against.any():
        # An earlier prompt to the contrary keeps what lies nearer to it.
        field[travel(view, view.against, weights.edge) <= d] = -LIMIT
    return field.astype(np.float32)


def opinion(view: View, share: float) -> Field:
    """Return what model and mask say, -1 at a prompt that contradicts them."""
    signed = np.full(view.mask.shape, -1.0)
    if view.touching:
        signed = _signed_distance(view.mask, view.spacing) / view.scale
        signed = np.clip(signed, -LIMIT, LIMIT)
    if view.probability is None:
        return signed.astype(np.float32)
    odds = log_odds(view.probability)
    contradicted = view.seeds & ~view.mask
    marked = contradicted if contradicted.any() else view.seeds
    at_click = float(np.median(odds[marked]))
    # A model that agrees with the prompt is taken at its word.
    odds /= max(-at_click, 0.5)
    odds = np.clip(odds, -LIMIT, LIMIT)
    return (share * odds + (1 - share) * signed).astype(np.float32)


def log_odds(probability: Field) -> NDArray[np.float32]:
    """Return ``log(p / (1 - p))``, finite."""
    p = np.clip(probability.astype(np.float32), 1e-4, 1 - 1e-4)
    return np.log(p / (1 - p))


def travel(view: View, seeds: Mask, edge: float) -> NDArray[np.float64]:
    """Return the shortest way from the seeds, longer across edges of the image.

    Blocked pixels are passed round; what cannot be reached is infinitely far.
    """
    cost = 1 + edge * steepness(view.image, view.spacing)
    cost[view.blocked] = -1
    # Only the rim of the seeds has neighbours to go to.
    rim = seeds & ndimage.binary_dilation(~seeds, np.ones((3,) * seeds.ndim))
    cost[seeds] = -1
    cost[rim] = 1
    paths = MCP_Geometric(cost, fully_connected=True, sampling=view.spacing)
    d = paths.find_costs(np.argwhere(rim))[0] if rim.any() else np.zeros(seeds.shape)
    d[seeds] = 0
    return d


def steepness(image: Field, spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the gradient's size in units of its mean; 0 for a constant image."""
    slopes = [
        ndimage.gaussian_filter1d(image, 1.0, axis=a, order=1, mode="nearest") / step
        for a, step in enumerate(spacing)
    ]
    size = np.sqrt(sum(s.astype(np.float64) ** 2 for s in slopes))
    mean = size.mean()
    # Rounding leaves slopes of 1e-8 in a constant image of large values.
    floor = 1e-6 * max(1.0, float(np.abs(image).max()))
    return size / mean if mean > floor else np.zeros_like(size)


def _signed_distance(mask: Mask, spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the distance to the outline, negative off the mask."""
    far = float(np.hypot.reduce(np.multiply(mask.shape, spacing)))
    if mask.all() or not mask.any():
        return np.full(mask.shape, far if mask.all() else -far)
    inside = ndimage.distance_transform_edt(mask, sampling=spacing)
    return inside - ndimage.distance_transform_edt(~mask, sampling=spacing)

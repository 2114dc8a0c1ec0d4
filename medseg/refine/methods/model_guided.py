"""The model's probabilities with the decision moved locally by the prompts."""

from __future__ import annotations

from dataclasses import dataclass, field

from medseg.refine.methods.base import Field, View, coarse, fine
from medseg.refine.methods.potential import Weights, corrected


@dataclass(frozen=True)
class ModelGuided:
    """A click at the centre of an error mends the error, not a disc.

    See `medseg.refine.methods.potential`: the log-odds of the model and the distance
    to the mask, corrected around the click over a geodesic distance.

    Args:
        weights: Of the terms.
        nodes: Grid points of the window; a larger window is seen coarser.
    """

    weights: Weights = field(default_factory=Weights)
    nodes: int = 20_000
    needs_probability: bool = True
    exact: bool = False

    @property
    def reach(self) -> float:
        """Half-width of the first window, in means of scale and radius."""
        return 2 * self.weights.length

    def potential(self, view: View) -> Field:
        """Return model, mask and prompt added up."""
        return fine(corrected(coarse(view, self.nodes), self.weights), view.mask.shape)

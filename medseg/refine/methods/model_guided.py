"""The model's probabilities with the decision moved locally by the prompts."""

from __future__ import annotations

from dataclasses import dataclass

from medseg.refine.methods.potential import Corrected


@dataclass(frozen=True)
class ModelGuided(Corrected):
    """A click at the centre of an error mends the error, not a disc.

    See `medseg.refine.methods.potential`: the log-odds of the model and the distance
    to the mask, corrected around the click over a geodesic distance.
    """

    needs_probability: bool = True

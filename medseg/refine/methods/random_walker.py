"""Random walker on the image with the model and the mask as prior.

Grady, "Random walks for image segmentation", IEEE TPAMI 28 (2006) 1768-1783, and
"Multilabel random walker image segmentation using prior models", CVPR 2005: the
probability x of a pixel minimises ``sum w_ij (x_i - x_j)^2 + prior sum (x_i - q_i)^2``
with ``w_ij = exp(-beta (difference of intensities)^2)`` and x = 1 at the seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import cg

from medseg.refine.methods.base import Field, View
from medseg.refine.methods.links import links
from medseg.refine.methods.potential import Corrected

SEED = 100.0
"""Weight of a prompt's pixel against that of a link of 1."""


@dataclass(frozen=True)
class RandomWalker(Corrected):
    """Diffuse the corrected opinion along the image.

    Args:
        beta: How strongly edges of the image part pixels.
        prior: Weight of the prior against the links.
        slope: Steepness with which the opinion becomes a probability.
    """

    nodes: int = 14_000
    beta: float = 1.0
    prior: float = 0.05
    slope: float = 3.0

    def decide(self, view: View, opinion: Field) -> NDArray[np.float64]:
        """Return the walker's probability less one half."""
        start = 1 / (1 + np.exp(-self.slope * opinion.astype(np.float64)))
        return self._solve(view, start) - 0.5

    def _solve(self, view: View, start: NDArray[np.float64]) -> NDArray[np.float64]:
        one, other, weight = links(view.image, view.spacing, self.beta)
        n = start.size
        pull = np.full(n, self.prior)
        goal = start.ravel().copy()
        for marked, value in ((view.against, 0.0), (view.seeds, 1.0)):
            pull[marked.ravel()], goal[marked.ravel()] = SEED, value
        ends = (np.concatenate([one, other]), np.concatenate([other, one]))
        graph = csr_array((np.tile(weight, 2), ends), shape=(n, n))
        diagonal = graph.sum(axis=1) + pull
        # The prior makes it diagonally dominant: a few dozen steps always suffice.
        x, _ = cg(
            diags_array(diagonal).tocsr() - graph,
            pull * goal,
            x0=goal,
            rtol=1e-3,
            maxiter=200,
            M=diags_array(1 / diagonal),
        )
        return x.reshape(start.shape)

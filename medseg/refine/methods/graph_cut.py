"""Minimal cut on the image with the model and the mask as costs.

Boykov and Jolly, "Interactive graph cuts", ICCV 2001: the outline that costs least,
counting how much each pixel would rather be elsewhere and how many strong links are
cut. Solved as a maximal flow in whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from medseg.refine.methods.base import Field, Mask, View, coarse, fine
from medseg.refine.methods.links import links
from medseg.refine.methods.potential import LIMIT, Weights, corrected

UNIT = 1000
"""Flow that stands for a cost of 1."""


@dataclass(frozen=True)
class GraphCut:
    """Cut along edges of the image, near where the corrected opinion changes.

    Args:
        beta: How strongly edges of the image part pixels.
        smooth: Cost of cutting a link of full weight.
        weights: Of the opinion.
        nodes: Grid points of the window; a larger window is seen coarser.
    """

    beta: float = 1.0
    smooth: float = 1.0
    weights: Weights = field(default_factory=Weights)
    nodes: int = 20_000
    needs_probability: bool = False
    exact: bool = False

    @property
    def reach(self) -> float:
        """Half-width of the first window, in means of scale and radius."""
        return 2 * self.weights.length

    def potential(self, view: View) -> Field:
        """Return the opinion with its sign set by the cut."""
        small = coarse(view, self.nodes)
        opinion = corrected(small, self.weights)
        inside = self._cut(small, opinion)
        low = np.minimum(opinion, -0.05)
        signed = np.where(inside, np.maximum(opinion, 0.05), low)
        return fine(signed.astype(np.float32), view.mask.shape)

    def _cut(self, view: View, opinion: Field) -> Mask:
        one, other, weight = links(view.image, view.spacing, self.beta)
        flow = np.rint(self.smooth * UNIT * weight).astype(np.int32)
        cost = np.rint(UNIT * np.clip(opinion, -LIMIT, LIMIT)).astype(np.int32)
        cost[view.against] = -100 * UNIT
        cost[view.seeds] = 100 * UNIT
        cost = cost.ravel()
        n = cost.size
        source, sink = n, n + 1
        (wants,), (rejects,) = np.nonzero(cost > 0), np.nonzero(cost < 0)
        tails = [one, other, np.full(wants.size, source), rejects]
        heads = [other, one, wants, np.full(rejects.size, sink)]
        capacity = np.concatenate([flow, flow, cost[wants], -cost[rejects]])
        ends = (np.concatenate(tails), np.concatenate(heads))
        graph = csr_array((capacity, ends), shape=(n + 2, n + 2), dtype=np.int32)
        rest = graph - maximum_flow(graph, source, sink).flow
        rest.eliminate_zeros()
        reached = breadth_first_order(rest, source, return_predecessors=False)
        inside = np.zeros(n + 2, bool)
        inside[reached] = True
        return inside[:n].reshape(opinion.shape)

"""Minimal cut on the image with the model and the mask as costs.

Boykov and Jolly, "Interactive graph cuts", ICCV 2001: the outline that costs least,
counting how much each pixel would rather be elsewhere and how many strong links are
cut. Solved as a maximal flow in whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from medseg.refine.methods.base import Field, Mask, View
from medseg.refine.methods.links import links
from medseg.refine.methods.potential import LIMIT, Corrected

UNIT = 1000
"""Flow that stands for a cost of 1."""


@dataclass(frozen=True)
class GraphCut(Corrected):
    """Cut along edges of the image, near where the corrected opinion changes.

    Args:
        beta: How strongly edges of the image part pixels.
        smooth: Cost of cutting a link of full weight.
    """

    beta: float = 1.0
    smooth: float = 1.0

    def decide(self, view: View, opinion: Field) -> Field:
        """Return the opinion with its sign set by the cut."""
        inside = self._cut(view, opinion)
        low = np.minimum(opinion, -0.05)
        return np.where(inside, np.maximum(opinion, 0.05), low)

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
        tails = np.concatenate([one, other, np.full(wants.size, source), rejects])
        heads = np.concatenate([other, one, wants, np.full(rejects.size, sink)])
        capacity = np.concatenate([flow, flow, cost[wants], -cost[rejects]])
        graph = csr_array(
            (capacity, (tails, heads)), shape=(n + 2, n + 2), dtype=np.int32
        )
        rest = graph - maximum_flow(graph, source, sink).flow
        rest.eliminate_zeros()
        reached = breadth_first_order(rest, source, return_predecessors=False)
        inside = np.zeros(n + 2, bool)
        inside[reached] = True
        return inside[:n].reshape(opinion.shape)

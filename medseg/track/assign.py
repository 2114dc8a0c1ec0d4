"""The cheapest way to explain a frame by the one before: links and divisions.

Which cells go together is an integer programme: each hypothesis is taken or not, and
no cell is used twice. Crowds couple thousands of hypotheses, so it is solved by its
linear relaxation, which begins with few of them; those that its prices find worth
while join until there is none. With links alone it ends in whole numbers, with
divisions nearly always, and then it is the optimum.

Where it ends in fractions, the surest are settled and the rest relaxed again, which
gives a good set. A hypothesis whose reduced cost exceeds what this set lacks to the
relaxation is in no better one; without those, the cells fall into small groups, for
each of which the same holds again, and at last an integer programme is solved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
# Hypotheses of a cell that the relaxation begins with.
_FEW = 6
# Those that are nearly worth while join as well: half the time, as prices still move.
_NEARLY = 0.3
# Gains that differ by less are equal.
_EQUAL = 1e-7
# Of hypotheses that share a cell only one can have so large a share.
_SURE = 0.6
# A group of more hypotheses, or nodes of the search, keeps the good set instead of the
# best: a clock would make results differ. Cells that divide for nothing come to this,
# movies do not.
_LARGEST = 1000
_NODES = 100


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """What may have happened, and what each saves against doing nothing.

    Args:
        sources: ``(H,)`` earlier cell of each hypothesis.
        targets: ``(H, 2)`` later cells; the second is -1 for a link.
        gains: ``(H,)`` negative: cost of the hypothesis less that of leaving its
            cells unlinked.
    """

    sources: Ints
    targets: Ints
    gains: Floats

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, rows: Ints) -> Hypotheses:
        """Return some of them."""
        return Hypotheses(self.sources[rows], self.targets[rows], self.gains[rows])

    def uses(self, n: int, m: int) -> csr_array:
        """Return ``(H, n + m)`` which cells each uses, the earlier ones first."""
        cells = np.column_stack([self.sources, n + self.targets])
        real = np.column_stack([np.ones_like(self.sources), self.targets + 1]) > 0
        ends = np.concatenate([[0], np.cumsum(real.sum(axis=1))])
        return csr_array(
            (np.ones(ends[-1]), cells[real], ends), shape=(len(self), n + m)
        )


def choose(hypotheses: Hypotheses, n: int, m: int) -> Ints:
    """Return the rows of the cheapest set that uses every cell at most once.

    Args:
        hypotheses: All of them.
        n: Number of earlier cells.
        m: Number of later cells.
    """
    if not len(hypotheses):
        return np.zeros(0, np.int64)
    gains, uses = hypotheses.gains, hypotheses.uses(n, m)
    share, left = _relax(gains, uses)
    chosen = _round(gains, uses, share)
    return np.flatnonzero(_improve(gains, uses, share, left, chosen))


def _relax(gains: Floats, uses: csr_array) -> tuple[Floats, Floats]:
    """Return ``(H,)`` the share of each in the relaxed optimum, its reduced cost."""
    share = np.zeros(len(gains))
    some = _promising(gains, uses)
    while True:
        rows = np.flatnonzero(some)
        used = np.unique(uses[rows].indices)
        table = uses[rows][:, used].T
        found = linprog(gains[rows], table, np.ones(len(used)), method="highs-ds")
        price = np.zeros(uses.shape[1])
        price[used] = found.ineqlin.marginals
        left = gains - uses @ price
        if not (left[~some] < -_EQUAL).any():
            share[rows] = found.x
            return share, left
        some |= left < _NEARLY


def _promising(gains: Floats, uses: csr_array) -> Flags:
    """Return ``(H,)`` the best few links and the best few divisions of each cell."""
    count = np.diff(uses.indptr)
    row = np.repeat(np.arange(len(gains)), count)
    kind = 2 * uses.indices + (count[row] > 2)
    order = np.lexsort((gains[row], kind))
    rank = np.arange(len(row)) - np.searchsorted(kind[order], kind[order])
    few = np.zeros(len(gains), bool)
    few[row[order[rank < _FEW]]] = True
    return few


def _round(gains: Floats, uses: csr_array, share: Floats) -> Flags:
    """Return ``(H,)`` a good set: the surest are settled, the rest is relaxed again."""
    chosen, free = np.zeros(len(gains), bool), np.ones(len(gains), bool)
    while share.any():
        sure = share > _SURE
        sure[np.argmax(share)] = True
        chosen |= sure
        free &= uses @ uses[sure].sum(axis=0) == 0
        share = np.zeros(len(gains))
        if free.any():
            share[free] = _relax(gains[free], uses[free])[0]
    return chosen


def _improve(
    gains: Floats, uses: csr_array, share: Floats, left: Floats, chosen: Flags
) -> Flags:
    """Return ``(H,)`` the best set, by a good one and the relaxation that bounds it."""
    apart = gains[chosen].sum() - gains @ share
    if apart < _EQUAL:
        return chosen
    rows = np.flatnonzero(left < apart + _EQUAL)
    groups = _groups(uses[rows])
    if len(groups) == 1 and len(rows) == len(gains):
        return _programme(gains, uses, chosen)
    best = np.zeros(len(gains), bool)
    for group in groups:
        some = rows[group]
        best[some] = _improve(
            gains[some], uses[some], share[some], left[some], chosen[some]
        )
    return best


def _groups(uses: csr_array) -> list[Ints]:
    """Return the rows that cells couple, directly or by others."""
    count, cells = uses.shape
    pairs = uses.tocoo()
    ends = (pairs.row, count + pairs.col)
    graph = coo_array((pairs.data, ends), (count + cells, count + cells))
    group = connected_components(graph, directed=False)[1][:count]
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)


def _programme(gains: Floats, uses: csr_array, chosen: Flags) -> Flags:
    """Return ``(H,)`` the best set by branch and bound, or the good one."""
    if len(gains) > _LARGEST:
        return chosen
    used = np.unique(uses.indices)
    found = milp(
        gains,
        integrality=np.ones(len(gains)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(uses[:, used].T, -np.inf, 1),
        options={"node_limit": _NODES},
    )
    if found.x is None or gains @ found.x > gains[chosen].sum() - _EQUAL:
        return chosen
    return found.x > 0.5

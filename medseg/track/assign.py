"""The cheapest way to explain a frame by the one before: links and divisions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linear_sum_assignment, milp
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ints = NDArray[np.int64]


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
    gains: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, rows: Ints) -> Hypotheses:
        """Return some of them."""
        return Hypotheses(self.sources[rows], self.targets[rows], self.gains[rows])


def choose(hypotheses: Hypotheses, n: int, m: int) -> Ints:
    """Return the rows of the cheapest set that uses every cell at most once.

    Exact. Groups of cells that share no hypothesis are solved one by one: as a
    linear assignment, or as an integer programme where a division is possible.

    Args:
        hypotheses: All of them.
        n: Number of earlier cells.
        m: Number of later cells.
    """
    if not len(hypotheses):
        return np.zeros(0, np.int64)
    group = _groups(hypotheses, n, m)
    order = np.argsort(group, kind="stable")
    cuts = np.flatnonzero(np.diff(group[order])) + 1
    chosen = []
    for rows in np.split(order, cuts):
        some = hypotheses.take(rows)
        if len(rows) == 1:
            chosen.append(rows)
        elif (some.targets[:, 1] < 0).all():
            chosen.append(rows[_assign(some)])
        else:
            chosen.append(rows[_programme(some)])
    return np.sort(np.concatenate(chosen))


def _groups(h: Hypotheses, n: int, m: int) -> Ints:
    """Return ``(H,)`` the connected part that each hypothesis belongs to."""
    two = h.targets[:, 1] >= 0
    a = np.concatenate([h.sources, h.sources[two]])
    b = n + np.concatenate([h.targets[:, 0], h.targets[two, 1]])
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(n + m, n + m))
    part = connected_components(graph, directed=False)[1]
    return part[h.sources].astype(np.int64)


def _assign(h: Hypotheses) -> Ints:
    """Return the rows of the best assignment; whoever gains nothing stays alone."""
    sources, i = np.unique(h.sources, return_inverse=True)
    targets, j = np.unique(h.targets[:, 0], return_inverse=True)
    table = np.zeros((len(sources), len(targets)))
    table[i, j] = h.gains
    where = np.full(table.shape, -1, np.int64)
    where[i, j] = np.arange(len(h))
    rows = where[linear_sum_assignment(table)]
    return rows[rows >= 0]


def _programme(h: Hypotheses) -> Ints:
    """Return the rows of the best set with divisions."""
    count = np.arange(len(h))
    two = h.targets[:, 1] >= 0
    cells, used = np.unique(
        np.concatenate([2 * h.sources, *(2 * h.targets.T + 1)]), return_inverse=True
    )
    columns = np.concatenate([count, count, count])
    real = np.concatenate([np.ones(2 * len(h), bool), two])
    once = coo_array(
        (np.ones(real.sum()), (used[real], columns[real])), shape=(len(cells), len(h))
    )
    found = milp(
        h.gains,
        integrality=np.ones(len(h)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(once.tocsr(), -np.inf, 1),
    )
    return np.flatnonzero(found.x > 0.5)

"""From the scores of cases to the numbers of a table.

Per case first: the macro mean over cases with its spread, then the pooled value
(pixels, or cells, added over cases first). Failed cases enter with their failure values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.errors import ConfigError
from medseg.metrics import overlap
from medseg.metrics.cases import Score
from medseg.metrics.cells import MEASURES, CellCounts

DRAWS = 1000
SEED = 0

_POOLED = {
    "dice": overlap.dice,
    "iou": overlap.iou,
    "sensitivity": overlap.sensitivity,
    "precision": overlap.precision,
}
_DISTANCES = ("hd", "hd95", "assd")
# Resampled at once: bounds the memory at a few MB for thousands of groups.
_CHUNK = 50


@dataclass(frozen=True)
class Interval:
    """A 95 % percentile bootstrap interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """One metric of one structure over all cases.

    Args:
        structure: Name of the structure.
        metric: Key in `Score.values`.
        unit: ``"mm"`` or ``"px"`` for distances and NSD, ``""`` for other shares.
            Cases of both units are never averaged together.
        n: Number of cases.
        n_failed: Cases with one mask empty or no prediction; they are in ``n``.
        n_both_empty: Cases in which both masks are empty; they raise the mean.
        mean: Macro mean, over cases.
        sd: Standard deviation over cases (n - 1); NaN for one case.
        median: Over cases.
        worst: The worst value.
        worst_case: Name of the case that has it.
        pooled: Of the counts of all cases added up; NaN where none is defined.
        interval: Of the mean, resampling groups.
    """

    structure: str
    metric: str
    unit: str
    n: int
    n_failed: int
    n_both_empty: int
    mean: float
    sd: float
    median: float
    worst: float
    worst_case: str
    pooled: float
    interval: Interval


@dataclass(frozen=True)
class Agreement:
    """How far a measurement of the prediction is from that of the truth.

    ``bias`` is the mean of prediction - truth, ``low`` and ``high`` the limits of
    agreement (bias +- 1.96 standard deviations), ``mae`` the mean absolute
    error. ``n_failed`` cases have a true value and no predicted one: they cannot
    enter the others, so it is always named beside them.
    """

    n: int
    n_failed: int
    bias: float
    mae: float
    low: float
    high: float


def bootstrap_interval(
    values: ArrayLike,
    groups: Sequence[str] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = SEED,
) -> Interval:
    """Return the 95 % bootstrap interval of the mean of ``values``.

    Args:
        values: One value a case. The difference of two methods on the same cases
            gives the paired interval of that difference.
        groups: Patient (or movie) of each case; groups are drawn whole. By
            default each case is its own.
        draws: Number of resamples.
        seed: Of the generator.

    Raises:
        ConfigError: If there are no values, the lengths differ, or ``draws`` is
            below 1.
    """
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not len(x):
        raise ConfigError("values", f"have shape {x.shape}", "Give one value a case")
    if groups is not None and len(groups) != len(x):
        raise ConfigError("groups", f"{len(groups)} for {len(x)} values")
    if draws < 1:
        raise ConfigError("draws", f"is {draws}", "Use at least 1,000")
    names = np.arange(len(x)) if groups is None else np.asarray(groups)
    member = np.unique(names, return_inverse=True)[1]
    sums: NDArray[np.float64] = np.bincount(member, weights=x).astype(np.float64)
    sizes: NDArray[np.int64] = np.bincount(member).astype(np.int64)
    means = np.concatenate(list(_resampled(sums, sizes, draws, seed)))
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(low), float(high))


def _resampled(
    sums: NDArray[np.float64], sizes: NDArray[np.int64], draws: int, seed: int
) -> Iterator[NDArray[np.float64]]:
    """Yield the means over cases of resampled groups, ``draws`` in all."""
    random = np.random.default_rng(seed)
    for start in range(0, draws, _CHUNK):
        shape = (min(_CHUNK, draws - start), len(sums))
        drawn = random.integers(len(sums), size=shape)
        yield sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)


def summarise(
    scores: Sequence[Score],
    *,
    groups: Mapping[str, str] | None = None,
    draws: int = DRAWS,
    seed: int = SEED,
) -> list[Summary]:
    """Summarise scores by structure and metric, in the order they come in.

    Args:
        scores: Of all cases.
        groups: Patient of each case name; by default each case is a patient.
        draws: Bootstrap resamples.
        seed: Of the bootstrap, the same for every row.

    Raises:
        ConfigError: If ``groups`` lacks a case.
    """
    table: dict[tuple[str, str, str], list[Score]] = {}
    for score in scores:
        for metric in score.values:
            key = score.structure, metric, _unit(metric, score)
            table.setdefault(key, []).append(score)
    return [_summary(key, rows, groups, draws, seed) for key, rows in table.items()]


def _unit(metric: str, score: Score) -> str:
    measured = metric in _DISTANCES or metric.startswith("nsd_")
    return score.unit if measured else ""


def _summary(
    key: tuple[str, str, str],
    rows: list[Score],
    groups: Mapping[str, str] | None,
    draws: int,
    seed: int,
) -> Summary:
    structure, metric, unit = key
    values = np.array([s.values[metric] for s in rows])
    worst = int(values.argmax() if metric in _DISTANCES else values.argmin())
    return Summary(
        structure,
        metric,
        unit,
        n=len(rows),
        n_failed=sum(s.failed for s in rows),
        n_both_empty=sum(s.outcome == "both_empty" for s in rows),
        mean=float(values.mean()),
        sd=_sd(values),
        median=float(np.median(values)),
        worst=float(values[worst]),
        worst_case=rows[worst].case,
        pooled=_pooled(metric, rows),
        interval=bootstrap_interval(
            values, _groups(rows, groups), draws=draws, seed=seed
        ),
    )


def _pooled(metric: str, rows: list[Score]) -> float:
    if metric in _POOLED:
        return _POOLED[metric](sum((s.counts for s in rows), overlap.Counts()))
    if metric in MEASURES:
        counts = (s.cells for s in rows if s.cells is not None)
        return sum(counts, CellCounts()).values()[metric]
    return np.nan


def _groups(rows: list[Score], groups: Mapping[str, str] | None) -> list[str]:
    if groups is None:
        return [s.case for s in rows]
    lacking = [s.case for s in rows if s.case not in groups]
    if lacking:
        raise ConfigError("groups", f"has no group for case {lacking[0]}")
    return [groups[s.case] for s in rows]


def _sd(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def agreement(pred: ArrayLike, truth: ArrayLike) -> Agreement:
    """Compare a measurement (a ratio, an area) case by case.

    Args:
        pred: Predicted values ``(n,)``; NaN where there is none.
        truth: True values ``(n,)``; cases with NaN are not annotated and skipped.

    Raises:
        ConfigError: If the lengths differ.
    """
    p, t = np.asarray(pred, np.float64), np.asarray(truth, np.float64)
    if p.shape != t.shape or p.ndim != 1:
        raise ConfigError("values", f"{p.shape} predicted for {t.shape} true values")
    difference = (p - t)[~np.isnan(t)]
    known = difference[~np.isnan(difference)]
    failed = len(difference) - len(known)
    if not len(known):
        return Agreement(0, failed, np.nan, np.nan, np.nan, np.nan)
    bias, sd = float(known.mean()), _sd(known)
    return Agreement(
        len(known),
        failed,
        bias,
        float(np.abs(known).mean()),
        bias - 1.96 * sd,
        bias + 1.96 * sd,
    )

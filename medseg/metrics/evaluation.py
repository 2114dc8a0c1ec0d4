"""The outcome of an evaluation as rows, text and JSON; nothing is computed here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from medseg.metrics.aggregate import Agreement, Summary
from medseg.metrics.cases import Score

_HEADER = (
    f"{'structure':<16}{'metric':<12}{'n':>5}{'failed':>7}{'mean':>9}"
    f"{'95 % interval':>19}{'sd':>9}{'median':>9}{'pooled':>9}{'worst':>9}  worst case"
)


@dataclass(frozen=True)
class Problem:
    """A prediction that could not be scored, or is not there: its case and why."""

    case: str
    message: str


@dataclass(frozen=True)
class Evaluation:
    """Scores of every case, and what they come to.

    Args:
        scores: One a case and structure, cases in order of their names.
        summaries: One a structure and metric.
        ctr: Cardiothoracic ratio against that of the truth's own masks; None
            where no truth has both lungs and the heart.
        problems: Missing, unreadable and misplaced predictions; they are in the
            scores with the failure values.
        unmatched: Predictions without a truth; they are not scored.
        draws: Of the bootstrap.
        seed: Of the bootstrap.
    """

    scores: tuple[Score, ...]
    summaries: tuple[Summary, ...]
    ctr: Agreement | None
    problems: tuple[Problem, ...]
    unmatched: tuple[str, ...]
    draws: int
    seed: int

    def case_rows(self) -> list[dict[str, Any]]:
        """Return one row a case and structure, units in the names of the columns."""
        return [
            {
                "case": s.case,
                "structure": s.structure,
                "outcome": s.outcome,
                "failed": int(s.failed),
                **{column(k, s.unit): v for k, v in s.values.items()},
            }
            for s in self.scores
        ]

    def summary_rows(self) -> list[dict[str, Any]]:
        """Return one row a structure and metric."""
        return [
            {
                "structure": s.structure,
                "metric": column(s.metric, s.unit),
                "n": s.n,
                "n_failed": s.n_failed,
                "n_both_empty": s.n_both_empty,
                "mean": s.mean,
                "low_95": s.interval.low,
                "high_95": s.interval.high,
                "sd": s.sd,
                "median": s.median,
                "pooled": s.pooled,
                "worst": s.worst,
                "worst_case": s.worst_case,
            }
            for s in self.summaries
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON; undefined ones are None."""
        return _plain(
            {
                "cases": self.case_rows(),
                "summary": self.summary_rows(),
                "ctr": None if self.ctr is None else asdict(self.ctr),
                "problems": [asdict(p) for p in self.problems],
                "unmatched": list(self.unmatched),
                "bootstrap": {"draws": self.draws, "seed": self.seed},
            }
        )

    def table(self) -> str:
        """Return the summary as lines of text of equal width."""
        return "\n".join([_HEADER, *map(_line, self.summaries), *self._notes()])

    def _notes(self) -> Iterator[str]:
        if self.ctr is not None:
            c = self.ctr
            yield (
                f"cardiothoracic ratio, prediction - truth: n {c.n}, failed "
                f"{c.n_failed}, mean absolute error {c.mae:.4f}, bias {c.bias:+.4f}, "
                f"limits of agreement {c.low:+.4f} to {c.high:+.4f}"
            )
        empty = sum(s.n_both_empty for s in self.summaries if s.metric == "dice")
        if empty:
            yield f"{empty} masks empty in truth and prediction, scored as perfect"
        if self.unmatched:
            yield f"{len(self.unmatched)} predictions without a truth, not scored"
        yield (
            "Mean over cases, failed ones included; interval: bootstrap, "
            f"{self.draws} draws, seed {self.seed}; pooled: pixels added up first."
        )


def column(metric: str, unit: str) -> str:
    """Return a metric's name with its unit: ``hd95_mm``, ``nsd_2mm``, ``dice``."""
    if metric.startswith("nsd_"):
        return metric + unit
    return f"{metric}_{unit}" if unit and metric in ("hd", "hd95", "assd") else metric


def _line(s: Summary) -> str:
    interval = f"{s.interval.low:.4f}..{s.interval.high:.4f}"
    pooled = "-" if math.isnan(s.pooled) else f"{s.pooled:.4f}"
    sd = "-" if math.isnan(s.sd) else f"{s.sd:.4f}"
    return (
        f"{s.structure:<16}{column(s.metric, s.unit):<12}{s.n:>5}{s.n_failed:>7}"
        f"{s.mean:>9.4f}{interval:>19}{sd:>9}{s.median:>9.4f}{pooled:>9}"
        f"{s.worst:>9.4f}  {s.worst_case}"
    )


def _plain(value: Any) -> Any:
    """Return nested values with NaN and infinity as None, which JSON has not."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

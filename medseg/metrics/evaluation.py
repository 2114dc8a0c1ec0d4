"""The outcome of an evaluation as rows, text and JSON; nothing is computed here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from medseg.errors import counted
from medseg.metrics.aggregate import Agreement, Summary
from medseg.metrics.cases import Score
from medseg.metrics.columns import aligned

_HEADER = (
    *("structure", "metric", "n", "failed", "mean", "95 % interval"),
    *("sd", "median", "pooled", "worst", "worst case"),
)
_LEFT = (0, 1, 10)
_NAMED = 3


@dataclass(frozen=True)
class Problem:
    """A prediction that could not be scored: its case, why, and if it is not there."""

    case: str
    message: str
    missing: bool = False


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
        left_out: Truths without a prediction that were not to be scored.
        assumed: Name and value of each label, where files that state none were read
            by those of another file.
    """

    scores: tuple[Score, ...]
    summaries: tuple[Summary, ...]
    ctr: Agreement | None
    problems: tuple[Problem, ...]
    unmatched: tuple[str, ...]
    draws: int
    seed: int
    left_out: tuple[str, ...] = ()
    assumed: Mapping[str, int] = field(default_factory=dict)

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
                "left_out": list(self.left_out),
                "assumed_labels": dict(self.assumed),
                "bootstrap": {"draws": self.draws, "seed": self.seed},
            }
        )

    def table(self) -> str:
        """Return the summary as text in columns, and below it what it rests on."""
        rows = [_HEADER, *map(_cells, self.summaries)]
        return "\n".join([*aligned(rows, _LEFT), *self._notes()])

    def complaints(self) -> list[str]:
        """Return one line a problem, and one for all missing predictions together."""
        missing = [p.case for p in self.problems if p.missing]
        lines = [p.message for p in self.problems if not p.missing]
        if missing:
            cases = len({s.case for s in self.scores})
            some = ", ".join([*missing[:_NAMED], "..."][: len(missing)])
            lines.append(
                f"no prediction for {len(missing)} of {cases} cases ({some}): counted "
                "as failed. Predict them, or add --only-predicted."
            )
        return lines

    def _notes(self) -> Iterator[str]:
        if self.assumed:
            names = ", ".join(f"{v} = {name}" for name, v in self.assumed.items())
            yield f"masks that state no label names are read as {names}"
        if self.left_out:
            cases = len({s.case for s in self.scores})
            yield (
                f"{cases} of {cases + len(self.left_out)} cases scored: the others "
                "have no prediction and are left out"
            )
        if self.ctr is not None:
            c = self.ctr
            yield (
                f"cardiothoracic ratio, prediction - truth: n {c.n}, failed "
                f"{c.n_failed}, mean absolute error {_number(c.mae)}, bias "
                f"{_number(c.bias, '+')}, limits of agreement "
                + ("-" if math.isnan(c.low) else f"{c.low:+.4f} to {c.high:+.4f}")
            )
        empty = sum(s.n_both_empty for s in self.summaries if s.metric == "dice")
        if empty:
            masks = counted(empty, "mask")
            yield f"{masks} empty in truth and prediction, scored as perfect"
        if self.unmatched:
            extra = counted(len(self.unmatched), "prediction")
            yield f"{extra} without a truth, not scored"
        yield (
            "Mean over cases, failed ones included; interval: bootstrap, "
            f"{self.draws} draws, seed {self.seed}; pooled: pixels added up first."
        )
        if any(score.cells is not None for score in self.scores):
            yield (
                "Single cells: seg is the mean IoU of the true cells with the cell that "
                "covers more than half of each; ap_50, TP / (TP + FP + FN), and pq "
                "match cells at an IoU above 0.5; pooled: cells added up first."
            )


def column(metric: str, unit: str) -> str:
    """Return a metric's name with its unit: ``hd95_mm``, ``nsd_2mm``, ``dice``."""
    if metric.startswith("nsd_"):
        return metric + unit
    return f"{metric}_{unit}" if unit and metric in ("hd", "hd95", "assd") else metric


def _cells(s: Summary) -> tuple[str, ...]:
    interval = f"{s.interval.low:.4f}..{s.interval.high:.4f}"
    sd, median, pooled, worst = map(_number, (s.sd, s.median, s.pooled, s.worst))
    return (
        *(s.structure, column(s.metric, s.unit), str(s.n), str(s.n_failed)),
        *(_number(s.mean), interval, sd, median, pooled, worst, s.worst_case),
    )


def _number(value: float, sign: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{sign}.4f}"


def _plain(value: Any) -> Any:
    """Return nested values with NaN and infinity as None, which JSON has not."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

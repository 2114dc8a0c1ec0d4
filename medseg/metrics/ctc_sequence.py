"""Score result folders of the Cell Tracking Challenge against their reference."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.errors import ConfigError, FileError
from medseg.io.ctc import MaskMovie, open_masks, read_track_table, validate_result
from medseg.io.ctc_validate import TABLE
from medseg.metrics.ctc import CtcScore, Mask, score_segmentation, score_tracking
from medseg.metrics.ctc_errors import CtcError

MEASURES = ("SEG", "DET", "TRA", "LNK", "OP_CSB", "OP_CTB")
TRUTH_TABLE = "man_track.txt"


@dataclass(frozen=True)
class CtcEvaluation:
    """The scores of one or more sequences, and their mean as on the leaderboard."""

    scores: tuple[CtcScore, ...]

    @property
    def n_failed(self) -> int:
        """Sequences without any result; they are in the mean with 0."""
        return sum(score.failed for score in self.scores)

    def mean(self) -> dict[str, float]:
        """Return the mean of each measure over the sequences that have it."""
        rows = [score.to_row() for score in self.scores]
        found = {}
        for name in MEASURES:
            values = [v for row in rows if not math.isnan(v := float(row[name]))]
            found[name] = float(np.mean(values)) if values else math.nan
        return found

    def errors(self) -> list[tuple[str, CtcError]]:
        """Return every single error with the name of its sequence."""
        return [(score.name, error) for score in self.scores for error in score.errors]

    def error_rows(self) -> list[dict[str, str | float | None]]:
        """Return the errors as rows of `medseg.metrics.ctc_errors.COLUMNS`."""
        return [error.to_row(name) for name, error in self.errors()]

    def to_json(self) -> dict[str, object]:
        """Return everything as plain data; undefined numbers are None."""

        def clean(row: dict[str, float | int | str]) -> dict[str, object]:
            return {
                k: None if isinstance(v, float) and math.isnan(v) else v
                for k, v in row.items()
            }

        return {
            "sequences": [clean(score.to_row()) for score in self.scores],
            "mean": clean(dict(self.mean())),
            "n": len(self.scores),
            "n_failed": self.n_failed,
            "errors": self.error_rows(),
        }

    def table(self) -> str:
        """Return the measures as text, a line a sequence."""
        head = ("sequence", *MEASURES, "AOGM", "errors")
        lines: list[tuple[str, ...]] = [head]
        for score in self.scores:
            row = score.to_row()
            numbers = [_number(float(row[name])) for name in MEASURES]
            name = f"{score.name} (no result)" if score.failed else score.name
            aogm = f"{score.cost():.1f}"
            lines.append((name, *numbers, aogm, str(len(score.errors))))
        mean = self.mean()
        lines.append(("mean", *(_number(mean[name]) for name in MEASURES), "", ""))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join(
                cell.ljust(n) if i == 0 else cell.rjust(n)
                for i, (cell, n) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        text.append(f"{len(self.scores)} sequences, n_failed {self.n_failed}")
        return "\n".join(text)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.6f}"


def evaluate_ctc(result: Path | str, truth: Path | str) -> CtcEvaluation:
    """Score every sequence of a result.

    Args:
        result: A folder ``01_RES``, or a data set folder that holds some.
        truth: A folder ``01_GT``, or the data set folder that holds it. Of a data
            set every sequence with a reference is scored; one without a result
            has 0 and counts as failed.

    Raises:
        ConfigError: If there is no reference for the result.
        FileError: If the result is not valid, or a file cannot be read.
    """
    pairs = find_sequences(Path(result), Path(truth))
    return CtcEvaluation(tuple(evaluate_sequence(*pair) for pair in pairs))


def find_sequences(result: Path, truth: Path) -> list[tuple[Path, Path]]:
    """Return the result and the reference folder of every sequence.

    Raises:
        ConfigError: If there is no reference, or it does not belong to the result.
    """
    if not result.is_dir():
        raise ConfigError(result, "is no folder", "Give a folder such as 01_RES")
    single = result.name.endswith("_RES") or (result / TABLE).exists()
    if (truth / "TRA").is_dir() or (truth / "SEG").is_dir():
        name = truth.name.removesuffix("_GT").removesuffix("_ST")
        return [(result if single else result / f"{name}_RES", truth)]
    if single:
        name = result.name.removesuffix("_RES")
        truths = [truth / f"{name}_GT"]
    else:
        truths = sorted(truth.glob("[0-9][0-9]_GT")) if truth.is_dir() else []
    known = [t for t in truths if (t / "TRA").is_dir()]
    if not known:
        wanted = truths[0] if truths else truth / "01_GT"
        raise ConfigError(
            truth,
            f"holds no reference (no folder {wanted / 'TRA'})",
            "Give a folder such as 01_GT, or the data set folder that holds it",
        )
    if single:
        return [(result, known[0])]
    return [(result / t.name.replace("_GT", "_RES"), t) for t in known]


def evaluate_sequence(result: Path | str, truth: Path | str) -> CtcScore:
    """Score one result folder; memory does not grow with the number of frames.

    Args:
        result: With ``maskNNN.tif`` and ``res_track.txt``; if it is missing or has
            no mask, all measures are 0.
        truth: With ``TRA``, and ``SEG`` where there is a gold segmentation.

    Raises:
        FileError: If the result is not valid, or a file cannot be read.
    """
    result, truth = Path(result), Path(truth)
    name = result.name.removesuffix("_RES")
    markers = open_masks(truth / "TRA", "track")
    ours = _result(result)
    if ours is not None:
        _check_frames(result, ours, markers)
        validate_result(result)
    rows = read_track_table(result / TABLE) if ours is not None else ()
    nodes, edges, errors = score_tracking(
        ((t, theirs, _read(ours, t, theirs)) for t, theirs in markers),
        read_track_table(truth / "TRA" / TRUTH_TABLE),
        rows,
    )
    overlaps, cells = 0.0, 0
    if (truth / "SEG").is_dir():
        overlaps, cells = score_segmentation(_gold(truth / "SEG", ours))
    return CtcScore(name, overlaps, cells, nodes, edges, errors, failed=not rows)


def _result(folder: Path) -> MaskMovie | None:
    """Open a result; None where there is none at all."""
    if not folder.is_dir() or not any(folder.glob("mask*.tif")):
        return None
    return open_masks(folder, "result")


def _check_frames(folder: Path, ours: MaskMovie, markers: MaskMovie) -> None:
    missing = sorted(set(markers.frames) - set(ours.frames))
    if missing:
        raise FileError(
            folder,
            f"has {len(ours)} masks, the reference {len(markers)}; frame {missing[0]} "
            "is missing",
            "Write a mask for every frame, also for one without cells",
        )


def _read(
    ours: MaskMovie | None, number: int, like: Mask, z: int | None = None
) -> Mask:
    """Return our mask of a frame, or of one slice of it; empty if there is none."""
    if ours is None:
        return np.zeros_like(like)
    at = ours.index(number)
    mask = ours.read(at)
    if z is not None and mask.ndim == 3 and z < len(mask):
        mask = mask[z]
    if mask.shape != like.shape:
        here, there = (" x ".join(map(str, m.shape)) for m in (mask, like))
        raise FileError(
            ours.files[at],
            f"a mask of {here} for a reference of {there}",
            "Write it on the grid of its frame",
        )
    return mask


def _gold(folder: Path, ours: MaskMovie | None) -> Iterator[tuple[Mask, Mask]]:
    gold = open_masks(folder, "seg")
    for i, (number, theirs) in enumerate(gold):
        yield theirs, _read(ours, number, theirs, gold.slices[i])

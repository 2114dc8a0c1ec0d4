"""Score result folders of the Cell Tracking Challenge against their reference."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medseg.errors import ConfigError, FileError, counted
from medseg.io.ctc import MaskMovie, open_masks, read_track_table, validate_result
from medseg.io.ctc_validate import TABLE
from medseg.lineage import TrackRow
from medseg.metrics.columns import aligned
from medseg.metrics.ctc import CtcScore, Mask, score_segmentation, score_tracking
from medseg.metrics.ctc_errors import CtcError

MEASURES = ("SEG", "DET", "TRA", "LNK", "OP_CSB", "OP_CTB")
TRUTH_TABLE = "man_track.txt"
Frames = tuple[int, int]
"""First and last frame of a section of a movie."""


@dataclass(frozen=True)
class CtcEvaluation:
    """The scores of one or more sequences, and their mean as on the leaderboard.

    Args:
        scores: Of each sequence.
        frames: First and last frame that count; None for all.
    """

    scores: tuple[CtcScore, ...]
    frames: Frames | None = None

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
            "frames": self.frames,
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
        last = f"{counted(len(self.scores), 'sequence')}, n_failed {self.n_failed}"
        if self.frames is not None:
            last += f"; frames {_span(self.frames)} alone"
        return "\n".join([*aligned(lines), last])


def _span(frames: Frames | None) -> str:
    return "{} to {}".format(*frames) if frames else "all"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.6f}"


def evaluate_ctc(
    result: Path | str, truth: Path | str, frames: Frames | None = None
) -> CtcEvaluation:
    """Score every sequence of a result.

    Args:
        result: A folder ``01_RES``, or a data set folder that holds some.
        truth: A folder ``01_GT``, or the data set folder that holds it. Of a data
            set every sequence with a reference is scored; one without a result
            has 0 and counts as failed.
        frames: First and last frame that count; by default all.

    Raises:
        ConfigError: If there is no reference for the result, or for these frames.
        FileError: If the result is not valid, or a file cannot be read.
    """
    pairs = find_sequences(Path(result), Path(truth))
    scores = tuple(evaluate_sequence(*pair, frames) for pair in pairs)
    return CtcEvaluation(scores, frames)


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


def evaluate_sequence(
    result: Path | str, truth: Path | str, frames: Frames | None = None
) -> CtcScore:
    """Score one result folder; memory does not grow with the number of frames.

    Args:
        result: With ``maskNNN.tif`` and ``res_track.txt``; if it is missing or has
            no mask, all measures are 0.
        truth: With ``TRA``, and ``SEG`` where there is a gold segmentation.
        frames: First and last frame that count; by default all. The reference may
            lack the masks of others, and divisions before the first are none.

    Raises:
        ConfigError: If the reference has none of the frames.
        FileError: If the result is not valid, or a file cannot be read.
    """
    result, truth = Path(result), Path(truth)
    name = result.name.removesuffix("_RES")
    markers = _within(open_masks(truth / "TRA", "track"), frames)
    if not markers.frames:
        raise ConfigError(
            truth / "TRA", f"has none of the frames {_span(frames)}", "Give others"
        )
    ours = _result(result)
    if ours is not None:
        _check_frames(result, ours, markers)
        validate_result(result)
    rows = read_track_table(result / TABLE) if ours is not None else ()
    failed, true_rows = not rows, read_track_table(truth / "TRA" / TRUTH_TABLE)
    if frames is not None:
        rows, true_rows = clipped(rows, *frames), clipped(true_rows, *frames)
    nodes, edges, errors = score_tracking(
        ((t, theirs, _read(ours, t, theirs)) for t, theirs in markers),
        true_rows,
        rows,
    )
    overlaps, cells = 0.0, 0
    if (truth / "SEG").is_dir():
        gold = _within(open_masks(truth / "SEG", "seg"), frames)
        overlaps, cells = score_segmentation(_gold(gold, ours))
    return CtcScore(name, overlaps, cells, nodes, edges, errors, failed)


def _within(masks: MaskMovie, frames: Frames | None) -> MaskMovie:
    """Return the masks of a section."""
    if frames is None:
        return masks
    first, last = frames
    kept = [i for i, t in enumerate(masks.frames) if first <= t <= last]
    return replace(
        masks,
        frames=tuple(masks.frames[i] for i in kept),
        slices=tuple(masks.slices[i] for i in kept),
        files=tuple(masks.files[i] for i in kept),
    )


def clipped(rows: Iterable[TrackRow], first: int, last: int) -> tuple[TrackRow, ...]:
    """Return the tracks as they are in the frames from ``first`` to ``last``.

    A parent that has ended before is forgotten: that division is not in these frames.
    """
    kept = {r.label: r for r in rows if r.begin <= last and r.end >= first}
    return tuple(
        replace(
            row,
            begin=max(row.begin, first),
            end=min(row.end, last),
            parent=row.parent if row.parent in kept and row.begin > first else 0,
        )
        for row in kept.values()
    )


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
            f"has {counted(len(ours), 'mask')}, the reference {len(markers)}; frame "
            f"{missing[0]} is missing",
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


def _gold(gold: MaskMovie, ours: MaskMovie | None) -> Iterator[tuple[Mask, Mask]]:
    for i, (number, theirs) in enumerate(gold):
        yield theirs, _read(ours, number, theirs, gold.slices[i])

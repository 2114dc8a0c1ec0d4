"""Measure every mask of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.batch.masks import MaskFiles, find_masks, read_masks, stem
from medseg.errors import ConfigError, FileError
from medseg.io import atomic
from medseg.labels import LabelSet
from medseg.measure import assess, measure, table_row, to_csv
from medseg.measure.table import Cell


@dataclass(frozen=True)
class MeasuredFolder:
    """The table of a folder, one row a mask, and how many failed.

    Args:
        rows: Values of `medseg.measure.COLUMNS`.
        failed: Number of rows with an error.
    """

    rows: tuple[dict[str, Cell], ...]
    failed: int


def measure_folder(
    masks: Path | Sequence[Path],
    out: Path | None = None,
    *,
    labels: LabelSet | None = None,
) -> MeasuredFolder:
    """Measure chest masks: cardiothoracic ratio, its lines, areas, what looks wrong.

    Args:
        masks: Folders in any layout of `medseg.batch.masks`, or single files.
        out: Where the table goes, a ``.csv`` file, atomically.
        labels: Of files that do not say what their values mean.

    Raises:
        ConfigError: If a folder holds no mask, a path is not there, or the table
            would be no ``.csv`` file or one of the masks.
        DiskError: If the table cannot be written.
    """
    paths = [masks] if isinstance(masks, Path) else list(masks)
    if out is not None:
        _check_table(out, paths)
    rows = [_row(files, labels) for path in paths for files in _cases(path, labels)]
    if out is not None:
        with atomic.replace_file(out) as part:
            part.write_bytes(to_csv(rows).encode("utf-8", "surrogateescape"))
    return MeasuredFolder(tuple(rows), sum(r["status"] == "failed" for r in rows))


def _check_table(out: Path, masks: Sequence[Path]) -> None:
    """Refuse to write the table over something else, before any work."""
    if out.suffix.lower() != ".csv":
        raise ConfigError(out, "is no .csv file", "End the table's name in .csv")
    if out.resolve() in {path.resolve() for path in masks}:
        raise ConfigError(out, "is also one of the masks", "Name another table")


def _cases(path: Path, labels: LabelSet | None) -> list[MaskFiles]:
    if path.is_file():
        return [MaskFiles(stem(path.name), whole=path)]
    return list(find_masks(path, labels).values())


def _row(files: MaskFiles, labels: LabelSet | None) -> dict[str, Cell]:
    try:
        seg = read_masks(files, labels)
        found, doubt = measure(seg), assess(seg)
    except (FileError, ConfigError) as error:
        return table_row(files.name, error=str(error))
    # Without probabilities nobody knows how sure the model was: no score of doubt.
    score = None if seg.probabilities is None else doubt.score
    message = "; ".join(doubt.reasons)
    return table_row(files.name, found, doubt=score, message=message)

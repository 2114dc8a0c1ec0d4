"""Measure every mask of a folder: films a row each, cells a row each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.batch.tables import check_csv, write_text
from medseg.errors import ConfigError, FileError
from medseg.io.ctc_validate import TABLE
from medseg.io.mask_folder import MaskFiles, find_masks, read_masks, stem
from medseg.labels import LabelSet
from medseg.measure import COLUMNS, MEASURES, assess, measure, table_row, to_csv
from medseg.measure.cells import CELL_COLUMNS, measure_frame
from medseg.measure.table import Cell
from medseg.segmentation import Segmentation

CELLS = CELL_COLUMNS[1:]
"""Columns of a cell of a single image."""


@dataclass(frozen=True)
class MeasuredFolder:
    """The table of a folder, and how many masks failed.

    Args:
        rows: A mask of a film or one that failed has one, with the values of
            `medseg.measure.COLUMNS`; a mask of cells one a cell, with its name, its
            status and the values of `CELLS`. Names are relative to the folder given;
            where two would be equal, more of the path is in front.
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
    """Measure masks of chests (ratio, lines, areas, what looks wrong) and of cells.

    Args:
        masks: Folders in any layout of `medseg.io.mask_folder`, or single files.
        out: Where the table goes, a ``.csv`` file, atomically.
        labels: Of files that do not say what their values mean.

    Raises:
        ConfigError: If a folder holds no mask or a tracking result, a path is not
            there, or the table would be no ``.csv`` file or one of the masks.
        DiskError: If the table cannot be written.
    """
    paths = [masks] if isinstance(masks, Path) else list(masks)
    if out is not None:
        _check_table(out, paths)
    cases = _distinct((path, files) for path in paths for files in _cases(path, labels))
    rows = [row for files in cases for row in _rows(files, labels)]
    if out is not None:
        write_text(out, _table(rows))
    return MeasuredFolder(tuple(rows), sum(r["status"] == "failed" for r in rows))


def _check_table(out: Path, masks: Sequence[Path]) -> None:
    """Refuse to write the table over something else, before any work."""
    check_csv(out)
    if out.resolve() in {path.resolve() for path in masks}:
        raise ConfigError(out, "is also one of the masks", "Name another table")


def _cases(path: Path, labels: LabelSet | None) -> list[MaskFiles]:
    if path.is_file():
        return [MaskFiles(stem(path.name), whole=path)]
    if (path / TABLE).is_file():
        problem = "is a tracking result, which is measured alone"
        raise ConfigError(path, problem, "Give it without other paths")
    return list(find_masks(path, labels).values())


def _distinct(cases: Iterable[tuple[Path, MaskFiles]]) -> list[MaskFiles]:
    """Return every mask once and under a name of its own.

    Where names are equal, as much of the path is in front as tells them apart.

    Args:
        cases: Each with the path that was given.
    """
    found: dict[Path, MaskFiles] = {}
    for path, files in cases:
        found.setdefault(Path(os.path.abspath(files.whole or path / files.name)), files)
    places = [path.with_name(stem(path.name)) for path in found]
    if len(set(places)) < len(places):  # a.png beside a.tif
        places = list(found)
    names = [files.name for files in found.values()]
    own = [name.count("/") + 1 for name in names]
    depth = 0
    while len(taken := Counter(names)) < len(names):
        depth += 1
        names = [
            name if taken[name] == 1 else "/".join(place.parts[-parts - depth :])
            for name, place, parts in zip(names, places, own, strict=True)
        ]
    pairs = zip(found.values(), names, strict=True)
    return [replace(files, name=name) for files, name in pairs]


def _rows(files: MaskFiles, labels: LabelSet | None) -> list[dict[str, Cell]]:
    try:
        seg = read_masks(files, labels)
        if seg.labels.kind == "instances":
            return _cells(files.name, seg)
        if not {"right_lung", "left_lung", "heart"} & set(seg.labels.names):
            problem = f"has no lung and no heart, but {', '.join(seg.labels.names)}"
            raise FileError(files.name, problem, "Give masks of chests or of cells")
        found, doubt = measure(seg), assess(seg)
    except (FileError, ConfigError) as error:
        return [table_row(files.name, error=str(error))]
    # Without probabilities nobody knows how sure the model was: no score of doubt.
    score = None if seg.probabilities is None else doubt.score
    message = "; ".join(doubt.reasons)
    return [table_row(files.name, found, doubt=score, message=message)]


def _cells(name: str, seg: Segmentation) -> list[dict[str, Cell]]:
    """Return a row a cell; one that says so where there is none."""
    known: dict[str, Cell] = {"name": name, "status": "done"}
    found = measure_frame(seg.mask, None, seg.geometry)
    rows = [known | {column: cell[column] for column in CELLS} for cell in found]
    return rows or [known | {"cell": None, "message": "no cell"}]


def _table(rows: Sequence[Mapping[str, Cell]]) -> str:
    """Return the table with the columns of films, of cells, or of both."""
    cells = any("cell" in row for row in rows)
    films = any("cell" not in row and row["status"] == "done" for row in rows)
    measured = (*(MEASURES if films or not cells else ()), *(CELLS if cells else ()))
    columns = (*COLUMNS[:2], *measured, *COLUMNS[-2:])
    return to_csv([{c: row.get(c) for c in columns} for row in rows], columns)

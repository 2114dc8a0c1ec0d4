"""Measure the cells of a tracking result: tables, and curves over time."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.batch.tables import check_csv
from medseg.batch.track_extras import Result
from medseg.errors import FileError, counted
from medseg.io.ctc import open_masks, read_track_table, validate_result
from medseg.io.ctc_validate import TABLE
from medseg.io.ctc_write import FILLED
from medseg.io.movie import open_movie
from medseg.lineage import TrackGraph
from medseg.measure.tracks import Scale
from medseg.regions import regions


@dataclass(frozen=True)
class MeasuredMovie:
    """How many rows the tables have, and where they are."""

    cells: int
    tracks: int
    frames: int
    files: tuple[Path, ...]

    def __str__(self) -> str:
        return (
            f"{counted(self.cells, 'cell')} in {counted(self.frames, 'frame')}, "
            f"{counted(self.tracks, 'track')}: "
            + ", ".join(path.name for path in self.files)
        )


def is_result(path: Path) -> bool:
    """Return whether a path is a tracking result of the challenge's layout."""
    return path.is_dir() and (path / TABLE).is_file()


def measure_result(
    folder: Path,
    out: Path,
    *,
    images: Path | None = None,
    scale: Scale | None = None,
    curves: bool = True,
) -> MeasuredMovie:
    """Measure a result folder.

    Args:
        folder: ``maskNNN.tif`` and ``res_track.txt``.
        out: The table of cells, ``TABLE.csv``; beside it go ``TABLE_tracks.csv``,
            ``TABLE_counts.csv``, ``TABLE_curves.png`` and ``TABLE_lineage.png``.
        images: The movie, for intensities.
        scale: Micrometres and seconds; by default the movie's spacing.
        curves: Whether the pictures are drawn.

    Raises:
        ConfigError: If ``out`` is no ``.csv`` file, or the spacing does not fit.
        FileError: If the result is not valid, or does not belong to the movie.
        DiskError: If a table cannot be written.
    """
    check_csv(out)
    movie = open_movie(images) if images is not None else None
    validate_result(folder, movie)
    scale = scale or Scale()
    if movie is not None:
        scale = scale.completed(movie.geometry)
    result = Result(folder, read_graph(folder), read_filled(folder), scale, movie)
    found = result.measure()
    files = [out, *_beside(out, "tracks.csv", "counts.csv")]
    found.write_tables(*files)
    if curves:
        pictures = _beside(out, "curves.png", "lineage.png")
        found.draw(*pictures)
        files += pictures
    cells, tracks, frames = map(len, (found.cells, found.tracks, found.counts))
    return MeasuredMovie(cells, tracks, frames, tuple(files))


def _beside(out: Path, *names: str) -> list[Path]:
    return [out.with_name(f"{out.stem}_{name}") for name in names]


def read_graph(folder: Path, table: str = TABLE) -> TrackGraph:
    """Return the lineage of a result; its labels are the values in the masks.

    Raises:
        FileError: If a file cannot be read.
        ConfigError: If table and masks disagree.
    """
    rows = read_track_table(folder / table)
    masks = open_masks(folder, "result")
    frames, labels, places = [], [], []
    for i, number in enumerate(masks.frames):
        found = regions(masks.read(i))
        frames.append(np.full(len(found), number))
        labels.append(found.labels)
        places.append(found.centroids)
    return TrackGraph.from_rows(
        rows, np.concatenate(frames), np.concatenate(labels), np.concatenate(places)
    )


def read_filled(folder: Path) -> frozenset[tuple[int, int]]:
    """Return frame and cell of the masks that were made up to close gaps.

    Raises:
        FileError: If the list is broken; names the line.
    """
    path = folder / FILLED
    if not path.is_file():
        return frozenset()
    found = set()
    with path.open(newline="", encoding="utf-8") as file:
        for line, row in enumerate(csv.DictReader(file), 2):
            try:
                found.add((int(row["frame"]), int(row["cell"])))
            except (KeyError, TypeError, ValueError) as error:
                raise FileError(
                    path, f"line {line} is no frame and cell", "Remove the file"
                ) from error
    return frozenset(found)

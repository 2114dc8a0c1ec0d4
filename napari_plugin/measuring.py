"""Tables of cells, tracks and counts, from napari's layers. No Qt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.geometry import Geometry
from medseg.image import Image as Picture
from medseg.lineage import TrackGraph
from medseg.measure.cells import (
    CELL_COLUMNS,
    Row,
    measure_frame,
    micrometres,
)
from medseg.measure.tracks import (
    COUNT_COLUMNS,
    MOVIE_COLUMNS,
    TRACK_COLUMNS,
    Scale,
    count_cells,
    measure_movie,
    measure_tracks,
)
from medseg.napari_plugin.layers import facts_of, geometry_of
from medseg.napari_plugin.lineage_layers import graph_of_numbers, graph_of_tracks
from medseg.napari_plugin.mask_frames import MaskFrames, frames_of, is_movie_mask
from medseg.napari_plugin.movie_job import Job
from medseg.track import observe

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer, Tracks

TableName = Literal["cells", "tracks", "counts"]
CHEST = ("right_lung", "left_lung", "heart")
COLUMNS: Mapping[TableName, Sequence[str]] = {
    "cells": MOVIE_COLUMNS,
    "tracks": TRACK_COLUMNS,
    "counts": COUNT_COLUMNS,
}


@dataclass(frozen=True)
class Tables:
    """What was measured.

    Args:
        cells: A row a cell and frame.
        tracks: A row a track; empty where there is one frame only.
        counts: A row a frame; empty likewise.
        graph: The lineage that was used; None for one frame.
        note: What to mind.
    """

    cells: tuple[Row, ...]
    tracks: tuple[Row, ...] = ()
    counts: tuple[Row, ...] = ()
    graph: TrackGraph | None = None
    note: str = ""

    def rows(self, name: TableName) -> tuple[Row, ...]:
        """Return one table."""
        return {"cells": self.cells, "tracks": self.tracks, "counts": self.counts}[name]

    def columns(self, name: TableName) -> list[str]:
        """Return the columns of a table in which there is a value."""
        rows = self.rows(name)
        known = COLUMNS[name] if self.graph is not None else CELL_COLUMNS
        return [c for c in known if any(r.get(c) is not None for r in rows)]


def is_movie(layer: Labels) -> bool:
    """Return whether a mask is measured frame by frame; where unknown, a guess."""
    known = facts_of(layer).get("frames") is not None
    return is_movie_mask(layer) and (known or is_open(layer))


def is_open(layer: Labels) -> bool:
    """Return whether it is open what the first axis is: time or space."""
    known = facts_of(layer)
    geometry = known.get("geometry")
    placed = geometry is not None and (geometry.unit == "mm" or geometry.ndim == 2)
    return known.get("frames") is None and not placed


def is_chest(layer: Layer) -> bool:
    """Return whether a layer is of a mask with lungs and a heart, of one film."""
    labels, geometry = facts_of(layer).get("labels"), facts_of(layer).get("geometry")
    if labels is None or geometry is None or geometry.ndim != 2:
        return False
    return labels.kind != "instances" and any(n in labels.names for n in CHEST)


class MeasureJob(Job[Tables]):
    """Measure the cells of a mask; for a thread.

    Args:
        layer: The mask; taken as a movie if ``movie``.
        image: For intensities; of the mask's shape.
        tracks: The lineage; by default equal numbers are one cell.
        movie: Whether the first axis is time.
        frame_interval: Seconds between frames, None where unknown.
    """

    def __init__(
        self,
        layer: Labels,
        image: Image | None = None,
        tracks: Tracks | None = None,
        *,
        movie: bool = False,
        frame_interval: float | None = None,
    ) -> None:
        self._tracks, self._movie = tracks, movie
        self._interval = frame_interval
        self._pixels = image.data if image is not None else None
        if movie:
            self._masks = frames_of(layer)
        else:
            self._masks = MaskFrames(layer.data[None], 0, geometry_of(layer))
        super().__init__(len(self._masks) * (1 + movie))

    def run(self) -> Tables:
        """Return the tables."""
        return self._movie_tables() if self._movie else self._one()

    def _one(self) -> Tables:
        [(_, mask)] = self._masks
        image = self._image(0)
        return Tables(tuple(measure_frame(mask, image, self._masks.geometry)))

    def _movie_tables(self) -> Tables:
        masks = self._masks
        cells = observe(masks, self.progress)
        graph = graph_of_numbers(cells)
        if self._tracks is not None:
            graph = graph_of_tracks(self._tracks, masks, cells)
        spacing = micrometres(masks.geometry, masks.geometry.ndim)
        scale = Scale(spacing, self._interval)
        rows = measure_movie(self._frames(), graph, scale)
        note = "" if self._tracks is not None else _doubt(graph, cells.size)
        return Tables(
            tuple(rows),
            tuple(measure_tracks(graph, scale, masks.numbers[-1], masks.numbers[0])),
            tuple(count_cells(graph, masks.numbers, scale)),
            graph,
            note,
        )

    def _frames(self) -> Iterator[tuple[int, NDArray[np.integer], Picture | None]]:
        for i, (number, mask) in enumerate(self._masks):
            self.progress(len(self._masks) + i)
            yield number, mask, self._image(i)

    def _image(self, index: int) -> Picture | None:
        if self._pixels is None:
            return None
        pixels = np.asarray(self._pixels[index] if self._movie else self._pixels)
        return Picture(pixels[None], Geometry.pixels(pixels.ndim))


def _doubt(graph: TrackGraph, size: NDArray[np.int64]) -> str:
    """Say so where equal numbers are hardly the same cells."""
    if not len(graph.edges):
        return ""
    a, b = graph.edges.T
    near = graph.frame[b] - graph.frame[a] == 1
    steps = np.linalg.norm(graph.centroid[b] - graph.centroid[a], axis=1)[near]
    side = float(np.median(size)) ** (1 / graph.centroid.shape[1])
    if not len(steps) or np.median(steps) < side:
        return ""
    return (
        "Equal numbers of two frames do not seem to be one cell: link the movie in "
        "Track first, and choose its tracks here"
    )


def features_of(tables: Tables) -> dict[str, Any]:
    """Return the features of a labels layer: a row a label.

    One frame gives its measurements; of a movie the mean over a label's frames, with
    ``_mean`` in the name, and the number of frames.
    """
    by_label: dict[int, list[Row]] = {}
    for row in tables.cells:
        by_label.setdefault(int(row["cell"] or 0), []).append(row)
    numeric = [
        c
        for c in tables.columns("cells")
        if c not in ("cell", "frame", "touches_edge", "filled", "track", "parent")
    ]
    found: dict[str, Any] = {"index": list(by_label)}
    if tables.graph is None:
        rows = [r[0] for r in by_label.values()]
        return found | {c: [r.get(c) for r in rows] for c in [*numeric, "touches_edge"]}
    found["frames"] = [len(rows) for rows in by_label.values()]
    for column in numeric:
        if not column.endswith("_px") or "area" in column or "volume" in column:
            found[f"{column}_mean"] = [
                _mean(rows, column) for rows in by_label.values()
            ]
    return found


def _mean(rows: Sequence[Row], column: str) -> float:
    values = [float(v) for r in rows if (v := r.get(column)) is not None]
    return round(float(np.mean(values)), 4) if values else float("nan")


def locate(tables: Tables, name: TableName, row: Row) -> tuple[int, int] | None:
    """Return frame and label that a row is about; None for a frame without cells."""
    if name == "cells":
        return int(row.get("frame") or 0), int(row["cell"] or 0)
    graph = tables.graph
    if graph is None:
        return None
    if name == "counts":
        here = np.flatnonzero(graph.frame == row["frame"])
        return (int(row["frame"] or 0), 0) if not len(here) else _node(graph, here[0])
    nodes = np.flatnonzero(graph.track_ids() == row["track"])
    return _node(graph, nodes[graph.frame[nodes].argmin()])


def _node(graph: TrackGraph, node: Any) -> tuple[int, int]:
    return int(graph.frame[node]), int(graph.label[node])

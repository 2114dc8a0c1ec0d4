"""Motion and lineage in numbers: cells of a movie, its tracks, counts over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.lineage import TrackGraph
from medseg.measure.cells import (
    CELL_COLUMNS,
    UM_PER_MM,
    Row,
    measure_frame,
    micrometres,
)

SECONDS_PER_MINUTE = 60.0
SPEED_COLUMNS = ("speed_px_per_frame", "speed_um_per_min")
MOVIE_COLUMNS = (
    *CELL_COLUMNS[:2],
    "track",
    "parent",
    *CELL_COLUMNS[2:],
    *SPEED_COLUMNS,
    "filled",
)
TRACK_COLUMNS = (
    "track",
    "parent",
    "generation",
    "first_frame",
    "last_frame",
    "frames",
    "duration_min",
    "begins_by",
    "ends_by",
    "daughters",
    "division_frame",
    "path_px",
    "net_displacement_px",
    "mean_speed_px_per_frame",
    "path_um",
    "net_displacement_um",
    "mean_speed_um_per_min",
)
COUNT_COLUMNS = ("frame", "minutes", "cells", "divisions", "new", "ended")


@dataclass(frozen=True)
class Scale:
    """What turns pixels and frames into micrometres and minutes.

    Args:
        spacing: Micrometres along each axis; None where unknown.
        frame_interval: Seconds between two frames; None where unknown.

    Raises:
        ConfigError: If a number is not above 0.
    """

    spacing: tuple[float, ...] | None = None
    frame_interval: float | None = None

    def __post_init__(self) -> None:
        interval = self.frame_interval
        for name, values in (
            ("spacing", self.spacing or ()),
            ("frame interval", () if interval is None else (interval,)),
        ):
            if not all(np.isfinite(v) and v > 0 for v in values):
                raise ConfigError(name, f"is {values}", "Give numbers above 0")

    def completed(self, geometry: Geometry) -> Scale:
        """Return the scale with a movie's own spacing where none was given."""
        if self.spacing is not None:
            return self
        return replace(self, spacing=micrometres(geometry, geometry.ndim))

    def minutes(self, frames: float) -> float | None:
        """Return the time of so many frames, None where unknown."""
        if self.frame_interval is None:
            return None
        return frames * self.frame_interval / SECONDS_PER_MINUTE

    def lengths(self, steps: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Return ``(N,)`` lengths in micrometres of ``(N, D)`` steps in pixels."""
        if self.spacing is None:
            return None
        if len(self.spacing) != steps.shape[1]:
            raise ConfigError(
                "spacing",
                f"has {len(self.spacing)} axes, the movie {steps.shape[1]}",
                "Give one number an axis",
            )
        return np.linalg.norm(steps * np.array(self.spacing), axis=1)


def speeds(graph: TrackGraph, scale: Scale) -> list[Row]:
    """Return `SPEED_COLUMNS` of each node: from the cell before to it.

    A track's first cell, also a daughter's, has none: between a mother and a
    daughter lies no path that the cell took. Across a closed gap it is the mean.
    """
    before = graph.predecessors()
    dividing = np.zeros(len(graph), bool)
    dividing[graph.divisions()] = True
    rows: list[Row] = [dict.fromkeys(SPEED_COLUMNS) for _ in range(len(graph))]
    nodes = np.flatnonzero((before >= 0) & ~dividing[before])
    steps = graph.centroid[nodes] - graph.centroid[before[nodes]]
    frames = graph.frame[nodes] - graph.frame[before[nodes]]
    px = np.linalg.norm(steps, axis=1) / frames
    um = scale.lengths(steps)
    for i, node in enumerate(nodes.tolist()):
        rows[node]["speed_px_per_frame"] = round(float(px[i]), 4)
        minutes = scale.minutes(float(frames[i]))
        if um is not None and minutes is not None:
            rows[node]["speed_um_per_min"] = round(float(um[i]) / minutes, 5)
    return rows


def measure_movie(
    frames: Iterable[tuple[int, NDArray[np.integer], Image | None]],
    graph: TrackGraph,
    scale: Scale | None = None,
    filled: Collection[tuple[int, int]] = (),
) -> list[Row]:
    """Return a row of `MOVIE_COLUMNS` a cell and frame; one frame is held at a time.

    Args:
        frames: Frame number, mask ``([Z,] Y, X)`` and image of each frame.
        graph: With a node for every cell, its label the value in the mask.
        scale: For micrometres and minutes.
        filled: Frame and label of masks that were made up to close a gap.

    Raises:
        ConfigError: If a mask has a cell that the graph lacks, or the spacing does
            not fit.
    """
    scale = scale or Scale()
    ids, parents = graph.track_ids(), graph.parents()
    moving = speeds(graph, scale)
    keys = zip(graph.frame.tolist(), graph.label.tolist(), strict=True)
    node_of = {key: node for node, key in enumerate(keys)}
    geometry = None
    if scale.spacing is not None:
        geometry = Geometry.upright(tuple(s / UM_PER_MM for s in scale.spacing))
    found: list[Row] = []
    for number, mask, image in frames:
        for row in measure_frame(mask, image, geometry, frame=number):
            key = (number, int(row["cell"] or 0))
            if key not in node_of:
                raise ConfigError(
                    "tracks", f"label {key[1]} of frame {number} is in no track"
                )
            node = node_of[key]
            track = int(ids[node])
            row |= {"track": track, "parent": parents.get(track), **moving[node]}
            found.append(row | {"filled": "yes" if key in filled else "no"})
    return found


def measure_tracks(
    graph: TrackGraph,
    scale: Scale | None = None,
    last_frame: int | None = None,
    first_frame: int | None = None,
) -> list[Row]:
    """Return a row of `TRACK_COLUMNS` a track.

    Args:
        graph: The lineage.
        scale: For micrometres and minutes.
        last_frame: Of the movie; a track that reaches it has not ended. By default
            the last frame with a cell.
        first_frame: Of the movie; a track that is in it has not appeared. By default
            the first frame with a cell.
    """
    scale = scale or Scale()
    ids, table, parents = graph.track_ids(), graph.rows(), graph.parents()
    if not table:
        return []
    first, last = int(graph.frame.min()), int(graph.frame.max())
    first = first if first_frame is None else first_frame
    last = last if last_frame is None else last_frame
    children: dict[int, list[int]] = {}
    for child, parent in sorted(parents.items()):
        children.setdefault(parent, []).append(child)
    order = np.lexsort((graph.frame, ids))
    cuts = np.searchsorted(ids[order], np.arange(1, len(table) + 2))
    begun = {row.label: row.begin for row in table}
    generation: dict[int, int] = {}
    rows = []
    for row in table:
        nodes = order[cuts[row.label - 1] : cuts[row.label]]
        parent, young = row.parent, children.get(row.label, [])
        born = bool(parent) and len(children[parent]) > 1
        generation[row.label] = generation[parent] + born if parent else 0
        divided = len(young) > 1
        rows.append(
            {
                "track": row.label,
                "parent": parent or None,
                "generation": generation[row.label],
                "first_frame": row.begin,
                "last_frame": row.end,
                "frames": row.end - row.begin + 1,
                "duration_min": _rounded(scale.minutes(row.end - row.begin + 1)),
                "begins_by": _begin(row.begin == first, bool(parent), born),
                "ends_by": _end(row.end == last, bool(young), divided),
                "daughters": " ".join(map(str, young)) if divided else None,
                "division_frame": min(begun[y] for y in young) if divided else None,
                **_path(graph.centroid[nodes], scale),
            }
        )
    return rows


def _begin(at_start: bool, has_parent: bool, born: bool) -> str:
    if has_parent:
        return "division" if born else "gap"
    return "start of movie" if at_start else "appears"


def _end(at_end: bool, has_child: bool, divided: bool) -> str:
    if has_child:
        return "division" if divided else "gap"
    return "end of movie" if at_end else "disappears"


def _path(points: NDArray[np.float64], scale: Scale) -> Row:
    """Return the columns of a track's motion; its points are of successive frames."""
    steps, whole = np.diff(points, axis=0), points[-1:] - points[:1]
    px = float(np.linalg.norm(steps, axis=1).sum())
    row: Row = {
        "path_px": round(px, 3),
        "net_displacement_px": round(float(np.linalg.norm(whole)), 3),
        "mean_speed_px_per_frame": round(px / len(steps), 4) if len(steps) else None,
    }
    um, net = scale.lengths(steps), scale.lengths(whole)
    if um is None or net is None:
        return row
    row["path_um"] = round(float(um.sum()), 4)
    row["net_displacement_um"] = round(float(net[0]), 4)
    minutes = scale.minutes(len(steps))
    if minutes:
        row["mean_speed_um_per_min"] = round(float(um.sum()) / minutes, 5)
    return row


def count_cells(
    graph: TrackGraph, frames: Sequence[int], scale: Scale | None = None
) -> list[Row]:
    """Return a row of `COUNT_COLUMNS` a frame.

    ``divisions`` counts mothers whose daughters are first seen in the frame, ``new``
    tracks without a parent that begin in it, ``ended`` tracks without a child that
    end in it, the first and the last frame of the movie apart.
    """
    scale = scale or Scale()
    table, parents = graph.rows(), graph.parents()
    begun = {row.label: row.begin for row in table}
    children = Counter(parents.values())
    born: dict[int, int] = {}
    for child, parent in parents.items():
        if children[parent] > 1:
            born[parent] = min(born.get(parent, begun[child]), begun[child])
    first, last = min(frames, default=0), max(frames, default=0)
    cells, divisions = Counter(graph.frame.tolist()), Counter(born.values())
    new = Counter(row.begin for row in table if not row.parent)
    ended = Counter(row.end for row in table if not children[row.label])
    return [
        {
            "frame": t,
            "minutes": _rounded(scale.minutes(t - first)),
            "cells": cells[t],
            "divisions": divisions[t],
            "new": new[t] if t != first else 0,
            "ended": ended[t] if t != last else 0,
        }
        for t in frames
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

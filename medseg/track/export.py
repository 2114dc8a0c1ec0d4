"""A lineage for other programs: napari's tracks layer, and tables."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.lineage import TrackGraph

COLUMNS = ("track", "frame", "label", "parent_track", "z", "y", "x")


def to_napari(
    graph: TrackGraph,
) -> tuple[NDArray[np.float64], dict[str, NDArray[Any]], dict[int, list[int]]]:
    """Return data, properties and graph of a napari tracks layer.

    Returns:
        data ``(N, 2 + D)`` of track number, frame, ``[z,] y, x``, sorted by track and
        frame; properties a node (``frame``, ``label``, ``generation``, ``divides``);
        and the parents of each track that has one.
    """
    ids = graph.track_ids()
    order = np.lexsort((graph.frame, ids))
    data = np.column_stack([ids, graph.frame, graph.centroid])[order]
    divides = np.zeros(len(graph), bool)
    divides[graph.divisions()] = True
    generation = generations(graph)
    properties = {
        "frame": graph.frame[order],
        "label": graph.label[order],
        "generation": np.array([generation[i] for i in ids[order].tolist()], np.int64),
        "divides": divides[order],
    }
    return data, properties, {c: [p] for c, p in sorted(graph.parents().items())}


def generations(graph: TrackGraph) -> dict[int, int]:
    """Return the number of divisions before each track; a closed gap is none."""
    dividing = set(graph.divisions().tolist())
    ids, before = graph.track_ids(), graph.predecessors()
    found: dict[int, int] = {}
    for node in np.lexsort((graph.label, graph.frame)).tolist():
        track = int(ids[node])
        if track not in found:
            mother = int(before[node])
            found[track] = (
                found[int(ids[mother])] + (mother in dividing) if mother >= 0 else 0
            )
    return found


def to_csv(graph: TrackGraph) -> str:
    """Return a table of `COLUMNS`, a line a cell and frame, sorted by both.

    Positions are array index coordinates; ``z`` is empty in 2-D and
    ``parent_track`` in tracks without a parent.
    """
    ids, parents = graph.track_ids(), graph.parents()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for node in np.lexsort((graph.frame, ids)).tolist():
        track = int(ids[node])
        place = [f"{x:.3f}" for x in graph.centroid[node]]
        writer.writerow(
            [
                track,
                int(graph.frame[node]),
                int(graph.label[node]),
                parents.get(track, ""),
                *[""] * (3 - len(place)),
                *place,
            ]
        )
    return text.getvalue()


def from_csv(text: str) -> TrackGraph:
    """Return the lineage of a table that `to_csv` made.

    Raises:
        ConfigError: If a column is missing or a line holds no numbers; names it.
    """
    reader = csv.DictReader(io.StringIO(text))
    missing = set(COLUMNS) - set(reader.fieldnames or ())
    if missing:
        raise ConfigError("tracks", f"the table has no column {sorted(missing)[0]}")
    rows: list[tuple[int, int, int, int]] = []
    places: list[list[float]] = []
    for line, row in enumerate(reader, 2):
        try:
            track, frame, label = (int(row[k]) for k in ("track", "frame", "label"))
            parent = int(row["parent_track"] or 0)
            places.append(_place(row))
            if len(places[-1]) != len(places[0]):
                raise ValueError(f"has {len(places[-1])} coordinates")
        except (TypeError, ValueError) as error:
            raise ConfigError(
                "tracks", f"line {line} is broken ({error})", "Write the table anew"
            ) from error
        rows.append((track, frame, label, parent))
    return _from_lines(rows, places)


def _place(row: dict[str, str]) -> list[float]:
    """Return ``[z,] y, x``; z alone may be empty."""
    return [float(row[k]) for k in "zyx" if row[k] or k != "z"]


def _from_lines(
    rows: list[tuple[int, int, int, int]], places: list[list[float]]
) -> TrackGraph:
    table = np.array(rows, np.int64).reshape(-1, 4)
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    edges = []
    order = np.lexsort((table[:, 1], table[:, 0])).tolist()
    for node in order:
        track = rows[node][0]
        first.setdefault(track, node)
        if track in last:
            edges.append((last[track], node))
        last[track] = node
    for track, node in first.items():
        parent = rows[node][3]
        if parent and parent not in last:
            raise ConfigError("tracks", f"track {track} has no parent {parent}")
        if parent:
            edges.append((last[parent], node))
    centroid = np.array(places) if places else np.zeros((0, 2))
    links = np.array(edges, np.int64).reshape(-1, 2)
    return TrackGraph(table[:, 1], table[:, 2], centroid, links)

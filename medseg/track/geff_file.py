"""A lineage as GEFF, the Graph Exchange File Format of the tracking community.

https://liveimagetrackingtools.org/geff. A folder in zarr format 2, read by traccuracy,
motile, TrackMate and others. Needs the extra ``medseg[geff]``.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medseg.errors import ConfigError, FileError
from medseg.io.atomic import write_error
from medseg.lineage import TrackGraph


def _geff() -> ModuleType:
    try:
        import geff
        import geff.core_io
    except ImportError as error:
        raise ConfigError(
            "geff", "the package is not installed", "Run pip install medseg[geff]"
        ) from error
    return geff


def check_geff() -> None:
    """Raise ConfigError if the package geff is missing."""
    _geff()


def write_geff(
    graph: TrackGraph,
    path: Path | str,
    *,
    spacing: Sequence[float] | None = None,
    unit: str | None = None,
    frame_interval: float | None = None,
) -> Path:
    """Write a lineage; whatever stood under ``path`` is replaced at the end.

    Positions are written in pixels and frames, with the scale beside them.

    Args:
        graph: Its nodes keep their order. Stored too are ``label``, ``track`` (as in
            the challenge's table), ``tracklet`` (from one division to the next) and
            ``lineage``.
        path: A folder, by custom ``NAME.geff``.
        spacing: Along each axis, where it is known.
        unit: Of the spacing, ``"micrometer"`` or another of the format's.
        frame_interval: Seconds.

    Raises:
        ConfigError: If the package geff is missing.
        DiskError: If the disk is full or not writable.
        FileError: If ``path`` is something else than such a folder.
    """
    geff, path = _geff(), Path(path)
    _check_free(path)
    part = path.with_name(f".{path.name}.part")
    names = ("z", "y", "x")[3 - graph.centroid.shape[1] :]
    columns = {"t": graph.frame, **dict(zip(names, graph.centroid.T, strict=True))}
    columns |= {"label": graph.label, "track": graph.track_ids()}
    # A tracklet of the format goes on over a gap, where a track of the challenge ends.
    columns["tracklet"] = _pieces(len(graph), graph.edges[graph.unbranched()])
    columns["lineage"] = _pieces(len(graph), graph.edges)
    properties = {
        name: {"values": np.ascontiguousarray(values), "missing": None}
        for name, values in columns.items()
    }
    try:
        shutil.rmtree(part, ignore_errors=True)
        geff.core_io.write_arrays(
            part,
            np.arange(len(graph), dtype=np.uint64),
            properties,
            graph.edges.astype(np.uint64),
            {},
            _metadata(geff, names, spacing, unit, frame_interval),
        )
        if path.exists():
            shutil.rmtree(path)
        part.rename(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with suppress(OSError):
            shutil.rmtree(part)
    return path


def _check_free(path: Path) -> None:
    if path.exists() and not (path / ".zattrs").is_file():
        raise FileError(path, "is there and is no GEFF folder", "Choose another name")


def _metadata(
    geff: ModuleType,
    names: Sequence[str],
    spacing: Sequence[float] | None,
    unit: str | None,
    frame_interval: float | None,
) -> object:
    from geff_spec import Axis

    time = {"scale": frame_interval, "scaled_unit": "second"} if frame_interval else {}
    axes = [Axis(name="t", type="time", unit="frame", **time)]
    for i, name in enumerate(names):
        scale = {"scale": spacing[i], "scaled_unit": unit} if spacing else {}
        axes.append(Axis(name=name, type="space", unit="pixel", **scale))
    return geff.GeffMetadata(
        directed=True,
        axes=axes,
        node_props_metadata={},
        edge_props_metadata={},
        track_node_props={"tracklet": "tracklet", "lineage": "lineage"},
    )


def _pieces(count: int, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each of ``count`` nodes the number of its connected piece, from 1."""
    links = coo_array((np.ones(len(edges)), edges.T), (count, count))
    return connected_components(links, directed=False)[1].astype(np.int64) + 1


def read_geff(path: Path | str) -> TrackGraph:
    """Read a lineage that medseg or another program wrote.

    A graph without labels gets those of its order in each frame. Places are taken as
    they stand, in the order z, y, x where the names of the axes end so.

    Raises:
        ConfigError: If the package geff is missing, or cells merge.
        FileError: If there is no such graph, it names no time and place, or an edge
            names no node.
    """
    geff, path = _geff(), Path(path)
    if not path.is_dir():
        raise FileError(path, "is no folder", "Give a GEFF folder")
    try:
        found = geff.core_io.read_to_memory(path)
    except (ValueError, KeyError, OSError, FileNotFoundError) as error:
        cause = " ".join(str(error).split())[:200]
        raise FileError(path, f"is no GEFF ({cause})", "Write it again") from error
    axes = found["metadata"].axes or []
    time = [axis.name for axis in axes if axis.type == "time"]
    space = [axis.name for axis in axes if axis.type == "space"]
    if len(time) != 1 or len(space) not in (2, 3):
        raise FileError(
            path,
            f"has {len(time)} axes of time and {len(space)} of space",
            "Give one of time and two or three of space",
        )
    values = {name: p["values"] for name, p in found["node_props"].items()}
    frame = np.asarray(values[time[0]]).astype(np.int64)
    ids, ends = np.asarray(found["node_ids"]), np.asarray(found["edge_ids"])
    lost = int((~np.isin(ends, ids)).any(axis=1).sum())
    if lost:
        problem = f"has {lost} of {len(ends)} edges to nodes that are not there"
        raise FileError(path, problem, "Write it again")
    order = np.argsort(ids)
    edges = order[np.searchsorted(ids[order], ends)]
    label = np.asarray(values["label"]) if "label" in values else _counted(frame)
    places = np.stack([values[s] for s in _array_order(space)], axis=1)
    return TrackGraph(frame, label, places, edges)


def _array_order(names: list[str]) -> list[str]:
    """Return the axes as an array has them; other programs begin with x."""
    ends = ["zyx".find(name[-1:].lower()) for name in names]
    known = -1 not in ends and len(set(ends)) == len(ends)
    return [names[i] for i in np.argsort(ends)] if known else names


def _counted(frame: np.ndarray) -> np.ndarray:
    order = np.argsort(frame, kind="stable")
    starts = np.searchsorted(frame[order], frame[order])
    label = np.empty(len(frame), np.int64)
    label[order] = np.arange(len(frame)) - starts + 1
    return label

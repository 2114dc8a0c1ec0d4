"""A lineage as a tracks layer, and the way to a cell in the view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.lineage import TrackGraph, TrackRow
from medseg.napari_plugin._writer import relabelling, rows_of_tracks
from medseg.napari_plugin.display import camera_of
from medseg.napari_plugin.layers import KEY, PLACE, facts_of
from medseg.napari_plugin.mask_frames import MaskFrames, frames_of
from medseg.track import Cells, to_napari

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Tracks


def tracks_keywords(layer: Labels, graph: TrackGraph) -> dict[str, Any]:
    """Return what napari's tracks layer of a lineage needs, over its masks.

    The time of the points is the frame number, as in the table of tracks.
    """
    data, properties, parents = to_napari(graph)
    affine = np.array(layer.affine.affine_matrix)
    step = float(layer.scale[0])
    affine[0, -1] -= step * frames_of(layer).first
    return {
        "data": data,
        "features": properties,
        "graph": parents,
        **{key: getattr(layer, key) for key in PLACE},
        "affine": affine,
    }


def show_tracks(
    viewer: ViewerModel, layer: Labels, graph: TrackGraph, shown: Tracks | None
) -> Tracks | None:
    """Show a lineage; change the layer that shows it already.

    Returns:
        The layer; None if there is no cell, as napari has no tracks without a point.
    """
    if not len(graph):
        if shown is not None and shown in viewer.layers:
            viewer.layers.remove(shown)
        return None
    keywords = tracks_keywords(layer, graph)
    if shown is not None and shown in viewer.layers:
        same = np.array_equal(shown.data, keywords["data"])
        if not same:
            shown.data = keywords["data"]  # takes the old features and graph away
        shown.features = keywords["features"]
        if not (same and shown.graph == keywords["graph"]):  # slow in napari
            shown.graph = keywords["graph"]
        return shown
    known = facts_of(layer)
    facts: dict[str, Any] = {"geometry": frames_of(layer).geometry}
    facts |= {key: known.get(key) for key in ("path", "group")}
    made = viewer.add_tracks(
        **keywords,
        name=f"{layer.name} tracks",
        metadata={KEY: {**facts, "tracks_of": str(layer.unique_id)}},
        tail_length=15,
        head_length=0,
    )
    return cast("Tracks", made)


def graph_of_tracks(tracks: Tracks, masks: MaskFrames, cells: Cells) -> TrackGraph:
    """Return the lineage of a tracks layer, on the cells of the masks.

    The layer tells the label of each point, or its tracks are the numbers in the
    masks (as in a result that was opened).

    Raises:
        ConfigError: If a mask has a cell that is in no track, or a parent is wrong.
    """
    layer = tracks.as_layer_data_tuple()
    track_of = relabelling(layer)
    frame = cells.frames[cells.frame]
    if not track_of:
        return TrackGraph.from_rows(
            rows_of_tracks(layer), frame, cells.label, cells.centroid
        )
    known = {
        (number, int(label)): int(track)
        for number, pairs in track_of.items()
        for label, track in pairs.tolist()
    }
    ids = []
    for number, label in zip(frame.tolist(), cells.label.tolist(), strict=True):
        if (number, label) not in known:
            raise ConfigError(
                "tracks",
                f"label {label} of frame {number} is in no track of {tracks.name}",
                "Link again",
            )
        ids.append(known[number, label])
    rows = rows_of_tracks(layer)
    by_track = TrackGraph.from_rows(rows, frame, np.array(ids), cells.centroid)
    return TrackGraph(frame, cells.label, cells.centroid, by_track.edges)


def unlinked(cells: Cells) -> TrackGraph:
    """Return cells as a lineage without links."""
    frame = cells.frames[cells.frame]
    return TrackGraph(frame, cells.label, cells.centroid, np.zeros((0, 2), np.int64))


def graph_of_numbers(cells: Cells) -> TrackGraph:
    """Return the lineage of masks where equal numbers are one cell; no divisions."""
    frame = cells.frames[cells.frame]
    rows = [
        TrackRow(
            label,
            int(frame[cells.label == label].min()),
            int(frame[cells.label == label].max()),
        )
        for label in np.unique(cells.label).tolist()
    ]
    return TrackGraph.from_rows(rows, frame, cells.label, cells.centroid)


def go_to(
    viewer: ViewerModel, layer: Labels, frame: int, centre: Sequence[float]
) -> None:
    """Show a frame, and move the view to a cell that is out of sight."""
    index = (frame - frames_of(layer).first, *centre)
    show_world(viewer, layer, np.asarray(layer.data_to_world(index), float))


def show_world(viewer: ViewerModel, layer: Labels, point: NDArray[np.float64]) -> None:
    """Set the sliders to a point of the world, and the view if it is out of sight."""
    lead = viewer.dims.ndim - len(point)
    displayed = viewer.dims.displayed
    for axis, value in enumerate(point):
        if axis + lead not in displayed:
            viewer.dims.set_point(axis + lead, float(value))
    if _in_sight(layer, point, [a - lead for a in displayed if a >= lead]):
        return
    camera = camera_of(viewer)
    middle = np.array(camera.center, float)
    shown = [point[a - lead] if a >= lead else 0.0 for a in displayed]
    middle[-len(shown) :] = shown
    camera.center = tuple(middle)


def _in_sight(layer: Labels, point: NDArray[np.float64], axes: list[int]) -> bool:
    low, high = np.asarray(layer.corner_pixels)[:, axes]
    index = np.asarray(layer.world_to_data(point), float)[axes]
    return bool(((index >= low) & (index <= high)).all() and (high > low).all())

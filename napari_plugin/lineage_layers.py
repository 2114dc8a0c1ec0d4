"""A lineage and napari's layers: masks of a movie in, tracks and numbered masks out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.geometry import Geometry
from medseg.lineage import TrackGraph, TrackRow
from medseg.napari_plugin._writer import relabelling, rows_of_tracks
from medseg.napari_plugin.layers import KEY, facts_of, geometry_of
from medseg.track import Cells, to_napari

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer, Tracks


@dataclass(frozen=True, eq=False)
class MaskFrames:
    """The masks of a movie, frame by frame.

    Args:
        data: ``(T, [Z,] Y, X)``; it may be read lazily.
        first: Number of the first frame.
        geometry: Of one frame.
    """

    data: Any
    first: int
    geometry: Geometry

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[tuple[int, NDArray[np.integer]]]:
        for i in range(len(self.data)):
            yield self.first + i, np.asarray(self.data[i])

    @property
    def numbers(self) -> range:
        """The frame numbers."""
        return range(self.first, self.first + len(self.data))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one frame."""
        return tuple(self.data.shape[1:])

    def spacing(self) -> tuple[float, ...]:
        """Return the spacing in units of its finest axis: distances are in pixels."""
        finest = min(self.geometry.spacing)
        return tuple(step / finest for step in self.geometry.spacing)


def is_movie_mask(layer: Layer) -> bool:
    """Return whether a layer may hold the masks of a movie."""
    from napari.layers import Labels

    if not isinstance(layer, Labels) or layer.multiscale or layer.ndim not in (3, 4):
        return False
    known = facts_of(layer)
    if known.get("role") == "view":
        return False
    geometry = known.get("geometry")
    volume = geometry is not None and geometry.ndim == layer.ndim
    return not volume or known.get("frames") is not None


def frames_of(layer: Labels) -> MaskFrames:
    """Return the masks of a layer ``(T, [Z,] Y, X)``.

    Raises:
        ConfigError: If the layer is sheared.
    """
    frames = facts_of(layer).get("frames")
    if frames is not None:
        return MaskFrames(layer.data, frames[0], geometry_of(layer))
    scale = tuple(abs(float(s)) for s in layer.scale[1:])
    unit = str(layer.units[-1])
    if unit in ("pixel", "px", ""):
        geometry = Geometry.upright(scale, unit="px")
    else:
        known = geometry_of(_one_frame(layer))
        geometry = Geometry.upright(known.spacing, unit=known.unit)
    return MaskFrames(layer.data, 0, geometry)


def _one_frame(layer: Labels) -> Any:
    """Return layer data of the first frame, for its spacing."""
    meta = {"scale": layer.scale[1:], "units": layer.units[1:], "name": layer.name}
    return (np.empty(layer.data.shape[1:], np.uint8), meta, "labels")


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
        "scale": layer.scale,
        "translate": layer.translate,
        "affine": affine,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
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
        shown.data = keywords["data"]  # takes the old features and graph away
        shown.features = keywords["features"]
        shown.graph = keywords["graph"]
        return shown
    known = facts_of(layer)
    facts = {"geometry": frames_of(layer).geometry, "path": known.get("path")}
    made = viewer.add_tracks(
        **keywords,
        name=f"{layer.name} tracks",
        metadata={KEY: {**facts, "tracks_of": layer.name}},
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


class NumberedView:
    """Masks with track numbers for values, worked out when a frame is shown.

    It follows both the masks and the lineage, and needs no memory. A cell that is in
    no track has the value 0.
    """

    def __init__(self, masks: MaskFrames, graph: TrackGraph) -> None:
        self._masks = masks
        self._tables: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        self.follow(graph)

    def follow(self, graph: TrackGraph) -> None:
        """Show another lineage of the same masks."""
        ids = graph.track_ids()
        order = np.lexsort((graph.label, graph.frame))
        frames, starts = np.unique(graph.frame[order], return_index=True)
        parts = np.split(order, starts[1:]) if len(order) else []
        self._tables = {
            int(f): (graph.label[rows], ids[rows])
            for f, rows in zip(frames.tolist(), parts, strict=True)
        }

    def frame(self, index: int) -> NDArray[np.int32]:
        """Return one frame ``([Z,] Y, X)``."""
        mask = np.asarray(self._masks.data[index])
        labels, ids = self._tables.get(self._masks.first + index, (_NONE, _NONE))
        top = int(max(mask.max(initial=0), labels.max(initial=0)))
        if top < 4 * mask.size:
            table = np.zeros(top + 1, np.int32)
            table[labels] = ids
            return table[mask]
        values, inverse = np.unique(mask, return_inverse=True)
        of = dict(zip(labels.tolist(), ids.tolist(), strict=True))
        short = np.array([of.get(v, 0) for v in values.tolist()], np.int32)
        return short[inverse].reshape(mask.shape)

    def lazy(self) -> Any:
        """Return a dask array ``(T, [Z,] Y, X)`` that asks for frames one by one."""
        import dask.array as da

        def block(block_info: Any) -> NDArray[np.int32]:
            return self.frame(block_info[None]["chunk-location"][0])[None]

        shape = self._masks.shape
        chunks = ((1,) * len(self._masks), *((n,) for n in shape))
        meta = np.empty((0,) * (len(shape) + 1), np.int32)
        return da.map_blocks(block, chunks=chunks, dtype=np.int32, meta=meta)

    def whole(self) -> NDArray[np.int32]:
        """Return all frames."""
        return np.stack([self.frame(i) for i in range(len(self._masks))])


_NONE = np.zeros(0, np.int64)


def add_view(viewer: ViewerModel, layer: Labels, view: NumberedView) -> Labels:
    """Add a layer that shows masks by track number; the masks stay as they are."""
    known = dict(facts_of(layer))
    made = viewer.add_labels(
        view.lazy(),
        name=f"{layer.name} by track",
        metadata={KEY: {**known, "path": None, "role": "view"}},
        scale=layer.scale,
        translate=layer.translate,
        affine=layer.affine,
        units=layer.units,
        axis_labels=layer.axis_labels,
        opacity=layer.opacity,
        cache=False,  # a frame changes with the lineage
    )
    made.editable = False
    return cast("Labels", made)


def world_of(layer: Labels, frame: int, centre: Sequence[float]) -> NDArray[np.float64]:
    """Return where a cell lies in napari's world."""
    index = (frame - frames_of(layer).first, *centre)
    return np.asarray(layer.data_to_world(index), float)


def go_to(
    viewer: ViewerModel, layer: Labels, frame: int, centre: Sequence[float]
) -> None:
    """Show a frame, and move the view to a cell that is out of sight."""
    show_world(viewer, layer, world_of(layer, frame, centre))


def show_world(viewer: ViewerModel, layer: Labels, point: NDArray[np.float64]) -> None:
    """Set the sliders to a point of the world, and the view if it is out of sight."""
    lead = viewer.dims.ndim - len(point)
    displayed = viewer.dims.displayed
    for axis, value in enumerate(point):
        if axis + lead not in displayed:
            viewer.dims.set_point(axis + lead, float(value))
    if _in_sight(layer, point, [a - lead for a in displayed if a >= lead]):
        return
    middle = np.array(viewer.camera.center, float)
    shown = [point[a - lead] if a >= lead else 0.0 for a in displayed]
    middle[-len(shown) :] = shown
    viewer.camera.center = tuple(middle)


def _in_sight(layer: Labels, point: NDArray[np.float64], axes: list[int]) -> bool:
    low, high = np.asarray(layer.corner_pixels)[:, axes]
    index = np.asarray(layer.world_to_data(point), float)[axes]
    return bool(((index >= low) & (index <= high)).all() and (high > low).all())

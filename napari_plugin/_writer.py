"""Save masks, images and tracking results from napari, geometry included.

Every file is read back before it counts (`medseg.io`), and only what was written is
returned. Where it went is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import FileError
from medseg.napari_plugin.layers import (
    KEY,
    LayerData,
    facts_of,
    geometry_of,
    parts,
)
from medseg.napari_plugin.layers_to_mask import segmentation_from_layers
from medseg.napari_plugin.originals import refuse_image
from medseg.napari_plugin.placement import transform_of

if TYPE_CHECKING:
    from napari.layers import Layer

    from medseg.lineage import TrackRow

_NO_CELLS = np.zeros((0, 2), np.int64)


def write_mask(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write one labels layer in the format of the suffix.

    Raises:
        FileError: If the format cannot hold it, reading back differs, or an image
            would be written over.
        ConfigError: If the layer is no mask.
        DiskError: If the disk is full or not writable.
    """
    return write_structures(path, [(data, meta, "labels")])


def write_structures(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write labels layers into one mask; a PNG becomes a folder of one a structure.

    Raises:
        FileError: If the format cannot hold it, reading back differs, or an image
            would be written over.
        ConfigError: If the layers do not lie on one grid.
        DiskError: If the disk is full or not writable.
    """
    written = save_mask(Path(path), layers)
    show_written(written, layers, place_of(Path(path), layers))
    return [str(p) for p in written]


def save_mask(
    path: Path, layers: Sequence[LayerData], viewer: Any = None
) -> tuple[Path, ...]:
    """Write labels layers (layer data) into one verified mask; return the files.

    A layer made in napari has the geometry of the image of ours on the same grid.

    Args:
        path: Where to; of several structures a PNG becomes a folder.
        layers: Of the mask.
        viewer: Holds the images, which are not written over; by default the current.

    Raises:
        FileError, ConfigError, DiskError: As `write_structures`.
    """
    from medseg.io import write_segmentation

    known = [with_facts(layer, viewer) for layer in layers]
    place = place_of(path, known)
    refuse_image(place, known, viewer)
    seg = segmentation_from_layers(known)
    split = place != path
    source = next((s for x in known if (s := facts_of(x).get("source"))), None)
    return write_segmentation(seg, path, split_labels=split, source=source)


def place_of(path: Path, layers: Sequence[Layer | LayerData]) -> Path:
    """Return what a save to ``path`` writes: a folder if structures go to PNG."""
    whole = len(layers) == 1 and facts_of(layers[0]).get("structure") is None
    return path if whole or path.suffix.lower() != ".png" else path.with_suffix("")


def with_facts(layer: LayerData, viewer: Any = None) -> LayerData:
    """Return a layer of napari's own with the facts of the image that it lies on.

    napari gives a new labels layer the place of its image and not its metadata, and
    in the place a tilt and the order of the patient axes are not to be seen. Where
    images of several files would do, it is not said which file the mask belongs to.

    Args:
        layer: Layer data; facts of its own stay.
        viewer: Holds the images; by default the current one.
    """
    from napari import current_viewer

    (data, meta), kind = parts(layer), layer[2]
    viewer = viewer or current_viewer()
    if facts_of(layer) or viewer is None:
        return layer
    lending = [x for x in viewer.layers if facts_of(x).get("role") != "view"]
    ours = [x.as_layer_data_tuple() for x in lending if facts_of(x)]
    fitting = [x for x in ours if x[2] != "tracks" and _same_shape(layer, x)]
    fitting = [x for x in fitting if _same_place(layer, x)] or fitting
    if not fitting:
        return layer
    known = [facts_of(x) for x in fitting]
    lent = {k: known[0].get(k) for k in ("geometry", "source", "frames")}
    sources = {k.get("source") for k in known} - {None}
    lent["source"] = sources.pop() if len(sources) == 1 else None
    return (
        data,
        {**meta, "metadata": {**(meta.get("metadata") or {}), KEY: lent}},
        kind,
    )


def _same_shape(one: Sequence[Any], other: Sequence[Any]) -> bool:
    (mine, _), (theirs, _) = parts(one), parts(other)
    shape, ndim = getattr(theirs, "shape", ()), mine.ndim
    return shape[:ndim] == mine.shape and len(shape) == ndim + bool(other[1].get("rgb"))


def _same_place(one: Sequence[Any], other: Sequence[Any]) -> bool:
    ndim = parts(one)[0].ndim
    return np.allclose(transform_of(one[1], ndim), transform_of(other[1], ndim))


def write_image(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write an image layer, pixels and geometry exact.

    Raises:
        FileError: If the format cannot hold it, reading back differs, or an image
            would be written over: what a format of others said of it would be lost.
        DiskError: If the disk is full or not writable.
    """
    from medseg.image import Image
    from medseg.io import write_image as write

    layer: LayerData = (data, meta, "image")
    if facts_of(layer).get("frames") is not None:
        raise FileError(
            path, "a movie is not written as one image", "Its frames are files already"
        )
    refuse_image(Path(path), [layer])
    pixels = np.asarray(parts(layer)[0])
    pixels = np.moveaxis(pixels, -1, 0) if meta.get("rgb") else pixels[None]
    written = write(Image(pixels, geometry_of(layer)), path)
    show_written([written], [layer], written)
    return [str(written)]


def write_result(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write the masks of a movie, and its tracks, as a Cell Tracking Challenge folder.

    Args:
        path: The folder, such as ``01_RES``.
        layers: One labels layer ``(T, [Z,] Y, X)`` whose values are track numbers (or
            tracks that tell the label of each cell), and its tracks if there are.

    Raises:
        FileError: If the path is no folder, the layer no movie, masks and tracks
            disagree, or it is the folder of the images.
        DiskError: If the disk is full or not writable.
    """
    written = save_result(Path(path), layers)
    show_written([written], layers, written)
    return [str(written)]


def save_result(
    folder: Path, layers: Sequence[LayerData], *, follow_masks: bool = False
) -> Path:
    """Write a movie's masks and tracks into ``folder``, checked; return it.

    Tables and pictures that `medseg.batch.track` made of the former result go.

    Args:
        folder: Where to.
        layers: One labels layer, and its tracks if there are.
        follow_masks: Where masks carry track numbers and have been mended since:
            tracks begin and end as the masks do, and keep their parents.

    Raises:
        FileError: As `write_result`.
        DiskError: If the disk is full or not writable.
        LockedError: If a run or another save writes into the folder now.
    """
    from medseg.batch.track_record import remove_extras
    from medseg.io.atomic import make_folder
    from medseg.io.ctc_write import ResultWriter
    from medseg.io.lock import hold
    from medseg.io.sniff import suffix_of

    labels = next(x for x in layers if x[2] == "labels")
    tracks = next((x for x in layers if x[2] == "tracks"), None)
    data, meta = parts(with_facts(labels))
    frames = facts_of((data, meta)).get("frames")
    if suffix_of(folder.name) or folder.is_file():
        raise FileError(
            folder, "a tracking result is a folder", "Give a name such as 01_RES"
        )
    if frames is None:
        if data.ndim < 3:
            raise FileError(folder, f"a mask of {data.shape} is no movie", "Save .tif")
        frames = range(len(data))
    start = frames[0]
    numbers = range(start, start + len(data))
    numbered = relabelling(tracks) if tracks is not None else {}
    refuse_image(folder, [labels])
    digits = 3 if numbers[-1] < 1000 else 4
    rows = rows_of_tracks(tracks) if tracks else rows_of_masks(data, numbers)
    if tracks and follow_masks and not numbered:
        rows = with_parents(rows_of_masks(data, numbers), rows)
    make_folder(folder)
    with hold(folder), ResultWriter(folder, data.shape[1:], digits) as result:
        for frame, mask in zip(numbers, data, strict=True):
            pairs = numbered.get(frame, _NO_CELLS) if numbered else None
            result.write(frame, relabelled(folder, frame, np.asarray(mask), pairs))
        result.finish(numbers, rows)
        remove_extras(folder)
    return folder


def rows_of_tracks(tracks: LayerData) -> list[TrackRow]:
    """Return the track table of a tracks layer."""
    from medseg.lineage import TrackRow

    table = np.asarray(tracks[0])
    ids = table[:, 0].astype(int)
    graph: Mapping[int, Any] = tracks[1].get("graph") or {}
    rows = []
    for number in np.unique(ids).tolist():
        frames = table[ids == number, 1]
        parents = np.atleast_1d(graph.get(number, 0)).tolist()
        begin, end = int(frames.min()), int(frames.max())
        rows.append(TrackRow(number, begin, end, int(parents[0]) if parents else 0))
    return rows


def rows_of_masks(data: Any, frames: Sequence[int]) -> list[TrackRow]:
    """Return the track table of masks alone: equal values are one cell."""
    from medseg.lineage import TrackRow

    seen: dict[int, tuple[int, int]] = {}
    for frame, mask in zip(frames, data, strict=True):
        for label in np.unique(np.asarray(mask)).tolist():
            if label:
                seen[label] = (seen.get(label, (frame, frame))[0], frame)
    return [TrackRow(label, *ends) for label, ends in sorted(seen.items())]


def with_parents(rows: Sequence[TrackRow], known: Sequence[TrackRow]) -> list[TrackRow]:
    """Return ``rows`` with the parents in ``known``, where those still come before."""
    from dataclasses import replace

    parent = {row.label: row.parent for row in known}
    end = {row.label: row.end for row in rows}
    found = []
    for row in rows:
        mother = parent.get(row.label, 0)
        fits = mother in end and end[mother] < row.begin
        found.append(replace(row, parent=mother if fits else 0))
    return found


def relabelling(tracks: LayerData) -> dict[int, NDArray[np.int64]]:
    """Return ``(N, 2)`` label and track of the cells of each frame.

    Empty where the tracks do not tell labels: the masks have track numbers then.
    """
    found = tracks[1].get("features")
    if found is None:
        found = tracks[1].get("properties")
    if found is None or "label" not in found:
        return {}
    table = np.asarray(tracks[0])
    pairs = np.stack([np.asarray(found["label"]), table[:, 0]], axis=1).astype(np.int64)
    frames = table[:, 1].astype(int)
    return {int(f): pairs[frames == f] for f in np.unique(frames)}


def relabelled(
    path: Path, frame: int, mask: NDArray[Any], pairs: NDArray[np.int64] | None
) -> NDArray[Any]:
    """Return ``mask`` with track numbers in place of labels, ``(N, 2)`` pairs of them.

    Raises:
        FileError: If a cell of the mask has no track.
    """
    if pairs is None:
        return mask
    from medseg.regions import compact

    values, places = compact(mask)
    track_of = dict(pairs.tolist())
    lost = [v for v in values.tolist() if v and not track_of.get(v)]
    if lost:
        raise FileError(
            path,
            f"{len(lost)} cells of frame {frame} have no track ({str(lost[:5])[1:-1]})",
            "Track again, or erase them",
        )
    new = np.array([track_of.get(v, 0) for v in values.tolist()], np.int64)
    return new[places].reshape(mask.shape)


def saved_text(path: str | Path) -> str:
    """Return what to say of a file; its name first, since napari cuts long texts."""
    path = Path(path).resolve()
    return f"Saved and checked: {path.name} in {path.parent}"


def show_written(
    paths: Sequence[Path], layers: Sequence[LayerData], place: Path
) -> None:
    """Tell the user where a result lies, and the autosave that ``place`` holds it."""
    from napari.utils.notifications import show_info

    from medseg.napari_plugin.unsaved import mark_saved

    for data, _, kind in layers:
        if kind == "labels" and paths:
            mark_saved(data, place)
    if paths:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        show_info(f"{saved_text(paths[0])}{more}")

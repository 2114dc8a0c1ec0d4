"""Movies, their masks and their tracks as napari layers; frames load when shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medseg.errors import FileError
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.labels import Label, LabelSet
from medseg.lineage import TrackRow
from medseg.napari_plugin.layers import LayerData, facts, is_colour
from medseg.napari_plugin.placement import placement
from medseg.regions import regions

if TYPE_CHECKING:
    from medseg.io.ctc import MaskMovie
    from medseg.io.movie import Movie

CELLS = LabelSet((Label(1, "cell", "#4cc38a"),), "instances")
Node: TypeAlias = tuple[int, int, NDArray[np.float64]]
"""Frame number, track number and centre of a cell."""

IN_MEMORY = 2**30
"""Masks up to this many bytes are held in memory, where they can be painted."""


def movie_layers(
    movie: Movie, name: str, *, source: str | Path | None = None
) -> list[LayerData]:
    """Return a lazy image layer ``(T, [Z,] Y, X)`` for each channel.

    A frame is read when it is shown. The contrast is that of the first frame.
    """
    first = movie.read(0)
    source = source or movie.path
    common = {
        **placement(movie.geometry, movie.shape, first_frame=movie.frames[0]),
        "metadata": facts(
            movie.geometry,
            source=source,
            path=source,
            meta=first.meta,
            frames=movie.frames,
        ),
    }
    if is_colour(first):
        shape = (*movie.shape, 3)
        frames = lazy_frames(
            lambda i: np.moveaxis(movie.read(i).pixels, 0, -1),
            len(movie),
            shape,
            movie.dtype,
        )
        return [(frames, {**common, "name": name, "rgb": True}, "image")]
    layers: list[LayerData] = []
    for channel in range(movie.channels):
        title = name if movie.channels == 1 else f"{name} channel {channel}"
        frames = lazy_frames(
            _channel_reader(movie, channel), len(movie), movie.shape, movie.dtype
        )
        keywords = {
            **common,
            "name": title,
            "rgb": False,
            "contrast_limits": _contrast(first, channel),
        }
        layers.append((frames, keywords, "image"))
    return layers


def _channel_reader(movie: Movie, channel: int) -> Callable[[int], NDArray[Any]]:
    return lambda index: movie.read(index).pixels[channel]


def _contrast(image: Image, channel: int) -> tuple[float, float]:
    pixels = image.pixels[channel]
    low, high = float(np.nanmin(pixels)), float(np.nanmax(pixels))
    return (low, high) if high > low else (low, low + 1)


def lazy_frames(
    read: Callable[[int], NDArray[Any]],
    count: int,
    shape: Sequence[int],
    dtype: np.dtype[Any],
) -> Any:
    """Return a dask array ``(T, ...)`` that reads one frame a chunk."""
    import dask.array as da

    def block(block_info: Mapping[Any, Any]) -> NDArray[Any]:
        index = block_info[None]["chunk-location"][0]
        return read(index)[None].astype(dtype, copy=False)

    chunks = ((1,) * count, *((n,) for n in shape))
    return da.map_blocks(
        block, chunks=chunks, dtype=dtype, meta=np.empty((0,) * (len(shape) + 1), dtype)
    )


def mask_movie_layers(
    masks: MaskMovie,
    name: str,
    *,
    rows: Sequence[TrackRow] | None = None,
    movie: Movie | None = None,
) -> list[LayerData]:
    """Return the labels layer of a challenge folder and, with rows, its tracks.

    Every mask is read once, for its shape and its cells' centres. Frames without a
    mask are empty.

    Args:
        masks: Of the folder.
        name: Of the layers.
        rows: The track table.
        movie: The images of the sequence, for geometry and the shape of volumes.

    Raises:
        FileError: If a mask cannot be read or has another shape than the first.
    """
    shape = _frame_shape(masks, movie)
    geometry = Geometry.pixels(len(shape))
    if movie is not None and movie.shape == shape:
        geometry = movie.geometry
    frames = range(masks.frames[0], masks.frames[-1] + 1)
    size = len(frames) * int(np.prod(shape)) * 2
    kept = np.zeros((len(frames), *shape), np.uint16) if size <= IN_MEMORY else None
    nodes: list[Node] = []
    for frame in frames if kept is not None or rows is not None else ():
        mask = _frame(masks, frame, shape)
        if kept is not None:
            kept[frame - frames[0]] = mask
        if rows is not None:
            nodes += nodes_of(frame, mask)
    data = kept
    if data is None:
        data = lazy_frames(
            lambda i: _frame(masks, frames[i], shape),
            len(frames),
            shape,
            np.dtype(np.uint16),
        )
    layers = [
        movie_mask_layer(
            data,
            name,
            geometry,
            frames,
            source=movie.path if movie else None,
            path=masks.folder,
        )
    ]
    if rows is not None and nodes:
        layers.append(
            tracks_layer(rows, nodes, f"{name} tracks", geometry, shape, masks.folder)
        )
    return layers


def nodes_of(frame: int, mask: NDArray[Any]) -> list[Node]:
    """Return the cells of one mask ``([Z,] Y, X)``."""
    found = regions(mask)
    cells = zip(found.labels.tolist(), found.centroids, strict=True)
    return [(frame, label, centre) for label, centre in cells]


def movie_mask_layer(
    data: Any,
    name: str,
    geometry: Geometry,
    frames: Sequence[int],
    *,
    labels: LabelSet = CELLS,
    source: str | Path | None = None,
    path: str | Path | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> LayerData:
    """Return the labels layer of a movie's masks ``(T, [Z,] Y, X)``."""
    known = facts(
        geometry,
        labels=labels,
        source=source,
        path=path,
        provenance=provenance,
        frames=frames,
    )
    where = placement(geometry, data.shape[1:], first_frame=frames[0])
    return (data, {**where, "name": name, "metadata": known}, "labels")


def _frame_shape(masks: MaskMovie, movie: Movie | None) -> tuple[int, ...]:
    if masks.slices[0] is None:
        return tuple(masks.read(0).shape)
    if movie is None:
        raise FileError(
            masks.folder,
            "masks of single slices, and the sequence that they belong to is not there",
            "Keep the folder beside its sequence, as 01_GT beside 01",
        )
    return movie.shape


def _frame(masks: MaskMovie, frame: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the mask of one frame; empty where it has none."""
    whole = np.zeros(shape, np.uint16)
    for index, number in enumerate(masks.frames):
        if number != frame:
            continue
        mask, z = masks.read(index), masks.slices[index]
        place = shape if z is None else shape[1:]
        if mask.shape != place or (z is not None and z >= shape[0]):
            raise FileError(
                masks.files[index],
                f"a mask of {mask.shape}{'' if z is None else f' at slice {z}'} for "
                f"frames of {shape}",
                "Masks of one sequence are of one size",
            )
        whole[() if z is None else z] = mask
    return whole


def tracks_layer(
    rows: Sequence[TrackRow],
    nodes: Sequence[Node],
    name: str,
    geometry: Geometry,
    shape: Sequence[int],
    path: str | Path | None = None,
) -> LayerData:
    """Return the tracks layer of masks that carry track numbers.

    Args:
        rows: The track table.
        nodes: Frame number, track number and centre of each cell.
        name: Of the layer.
        geometry: Of the masks.
        shape: Of one frame.
        path: Of the folder.
    """
    table = sorted((label, frame, *centre.tolist()) for frame, label, centre in nodes)
    known = {label for label, *_ in table}
    graph = {
        row.label: [row.parent]
        for row in rows
        if row.parent in known and row.label in known
    }
    keywords = {
        **placement(geometry, shape, first_frame=0),
        "name": name,
        "graph": graph,
        "metadata": facts(geometry, path=path),
    }
    return (np.array(table, float), keywords, "tracks")

"""A movie of masks that are files of their own: what a run over frames leaves."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import FileError
from medseg.io import read_segmentation
from medseg.napari_plugin import movies
from medseg.napari_plugin.layers import (
    LayerData,
    colours,
    facts,
    structure_layer_name,
)
from medseg.napari_plugin.placement import placement

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.segmentation import Segmentation


def mask_file_layers(folder: Path, files: Mapping[int, Path]) -> list[LayerData]:
    """Return the labels layer ``(T, [Z,] Y, X)`` of numbered masks.

    Overlapping structures are a layer each. Movies too large for the memory are read
    when they are shown.

    Args:
        folder: Of the masks; gives the name.
        files: Of each frame number, ascending; each states its labels.

    Raises:
        FileError: If a mask cannot be read, or has another size or other labels than
            the first.
    """
    paths, frames = tuple(files.values()), tuple(files)
    first = read_segmentation(paths[0])
    large = len(paths) * first.mask.nbytes > movies.IN_MEMORY
    parts = _read_lazily(paths, first) if large else _read_all(paths, first)
    labels, group = first.labels, uuid.uuid4().hex
    structures = labels.names if labels.kind == "overlapping" else (None,)
    layers: list[LayerData] = []
    for part, structure in zip(parts, structures, strict=True):
        # No path: a movie is not saved into the files of its frames.
        known = facts(
            first.geometry,
            labels=labels,
            structure=structure,
            group=group,
            files=folder,
            frames=frames,
        )
        where = placement(first.geometry, first.spatial_shape, first_frame=frames[0])
        name = (
            structure_layer_name(structure, folder.name) if structure else folder.name
        )
        keywords: dict[str, Any] = {**where, "name": name, "metadata": known}
        if labels.kind != "instances":
            keywords["colormap"] = colours(labels, structure=structure)
        layers.append((part, keywords, "labels"))
    return layers


def _read_all(paths: tuple[Path, ...], first: Segmentation) -> list[NDArray[Any]]:
    """Return the frames ``(T, [Z,] Y, X)`` of each layer."""
    masks = [first.mask, *(_read(path, first, paths[0]) for path in paths[1:])]
    if first.labels.kind != "overlapping":
        return [np.stack(masks)]  # of the widest type: each file has the smallest
    return [np.stack([m[k] for m in masks]) for k in range(len(first.labels))]


def _read_lazily(paths: tuple[Path, ...], first: Segmentation) -> list[Any]:
    cells = first.labels.kind == "instances"
    dtype = np.dtype(np.int64) if cells else first.labels.dtype
    parts = range(len(first.labels)) if first.labels.kind == "overlapping" else [...]

    def frames(part: Any) -> Any:
        def read(index: int) -> NDArray[Any]:
            return _read(paths[index], first, paths[0])[part]

        return movies.lazy_frames(read, len(paths), first.spatial_shape, dtype)

    return [frames(part) for part in parts]


def _read(path: Path, first: Segmentation, like: Path) -> NDArray[Any]:
    """Return the mask of one frame, which is like that of the first."""
    seg = read_segmentation(path)
    for what, here, there in (
        ("labels", seg.labels, first.labels),
        ("size", seg.spatial_shape, first.spatial_shape),
    ):
        if here != there:
            raise FileError(
                path,
                f"{what} {_text(here)}, and {like.name} {_text(there)}",
                "Masks of one movie are alike: open it by itself",
            )
    return seg.mask


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return " x ".join(map(str, value))
    named = ", ".join(f"{x.name} = {x.value} ({x.colour})" for x in value)
    return f"{named} ({value.kind})"

"""Images and masks as napari layers.

What napari has no room for travels in ``layer.metadata["medseg"]``, a dictionary:

==============  ====================================================================
``geometry``    :class:`~medseg.geometry.Geometry` of the spatial axes; None where
                nobody knows which axes those are
``labels``      :class:`~medseg.labels.LabelSet` of the whole mask; None for an image
``structure``   which of overlapping labels the layer holds, else None
``group``       the same text for all layers of one mask
``source``      path of the image that was segmented (of an image: its own), or None
``path``        path of the file that the layer came from, or None
``files``       folder of the files that a movie of masks came from, or None: they are
                read, and no save writes into them
``provenance``  as in :class:`~medseg.segmentation.Segmentation`
``meta``        as in :class:`~medseg.image.Image`
``frames``      frame numbers of a movie ``(T, [Z,] Y, X)``, else None
==============  ====================================================================

Masks with exclusive labels and instances are one layer of label values. Overlapping
structures are a layer each, of 0 and 1.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.labels import LabelSet
from medseg.napari_plugin.placement import (
    geometry_of_transform,
    nearest_axes,
    placement,
    transform_of,
)
from medseg.segmentation import Segmentation

if TYPE_CHECKING:
    from napari.layers import Labels, Layer

KEY = "medseg"
GREY = "#808080"
PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
"""All that says where a layer lies; a layer on the grid of another shares it."""

LayerData: TypeAlias = tuple[Any, dict[str, Any], str]
"""What napari takes from readers and gives to writers: data, keywords, kind."""


def facts(
    geometry: Geometry | None,
    *,
    labels: LabelSet | None = None,
    structure: str | None = None,
    group: str | None = None,
    source: str | Path | None = None,
    path: str | Path | None = None,
    files: str | Path | None = None,
    provenance: Mapping[str, Any] | None = None,
    meta: Mapping[str, Any] | None = None,
    frames: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Return ``layer.metadata`` of a layer of ours; see the table above."""
    return {
        KEY: {
            "geometry": geometry,
            "labels": labels,
            "structure": structure,
            "group": group,
            "source": None if source is None else str(source),
            "path": None if path is None else str(path),
            "files": None if files is None else str(files),
            "provenance": dict(provenance or {}),
            "meta": dict(meta or {}),
            "frames": None if frames is None else tuple(frames),
        }
    }


def facts_of(layer: Layer | Sequence[Any]) -> dict[str, Any]:
    """Return ``metadata["medseg"]`` of a layer or layer data; ``{}`` of others."""
    given = layer[1] if isinstance(layer, Sequence) else {"metadata": layer.metadata}
    found = (given.get("metadata") or {}).get(KEY)
    return dict(found) if isinstance(found, Mapping) else {}


def mask_file(layer: Layer | Sequence[Any]) -> str:
    """Return the file that a labels layer came from as a mask, empty if none.

    Labels that napari makes of an image have the image's metadata: there the path is
    that of the image, which is its source too.
    """
    known = facts_of(layer)
    if known:
        path = known.get("path")
        return "" if path is None or path == known.get("source") else str(path)
    return "" if isinstance(layer, Sequence) else str(layer.source.path or "")


def read_from(layer: Layer | Sequence[Any]) -> str:
    """Return the file or folder that holds a mask as it was opened, empty if none.

    More than `mask_file`: not all that is read is written again.
    """
    return mask_file(layer) or str(facts_of(layer).get("files") or "")


def colours(labels: LabelSet, *, structure: str | None = None) -> dict[int | None, str]:
    """Return the colour of each value of a labels layer, for ``Labels(colormap=)``.

    Args:
        labels: Exclusive labels, or overlapping ones with a structure.
        structure: Whose layer of 0 and 1 it is.
    """
    if structure is not None:
        colour = labels.labels[labels.index(structure)].colour
        return {None: colour, 0: "transparent", 1: colour}
    known: dict[int | None, str] = {x.value: x.colour for x in labels}
    return {None: GREY, 0: "transparent", **known}


def image_layers(
    image: Image, name: str, *, source: str | Path | None = None
) -> list[LayerData]:
    """Return the layers of an image: one, or one a channel unless they are colours.

    Args:
        image: ``(C, [Z,] Y, X)``; colour images become ``([Z,] Y, X, 3)``.
        name: Of the layer.
        source: The file or folder.
    """
    common = {
        **placement(image.geometry, image.spatial_shape),
        "metadata": facts(image.geometry, source=source, path=source, meta=image.meta),
    }
    if is_colour(image):
        pixels = np.moveaxis(image.pixels, 0, -1)
        return [(pixels, {**common, "name": name, "rgb": True}, "image")]
    names = [name]
    if len(image.pixels) > 1:
        names = [f"{name} channel {i}" for i in range(len(image.pixels))]
    return [
        (plane, {**common, "name": title, "rgb": False}, "image")
        for plane, title in zip(image.pixels, names, strict=True)
    ]


def is_colour(image: Image) -> bool:
    """Return whether the channels are red, green and blue."""
    return "photometric" in image.meta and image.has_colours


def segmentation_layers(
    seg: Segmentation,
    name: str,
    *,
    source: str | Path | None = None,
    path: str | Path | None = None,
) -> list[LayerData]:
    """Return the labels layers of a mask, named and coloured by its label set.

    The layers hold copies: what is painted does not change ``seg``.

    Args:
        seg: The mask.
        name: Of the mask; overlapping structures put theirs in front.
        source: The image that was segmented.
        path: The file of the mask, if there is one.
    """
    group = uuid.uuid4().hex
    where = placement(seg.geometry, seg.spatial_shape)
    common: dict[str, Any] = {
        "labels": seg.labels,
        "group": group,
        "source": source,
        "path": path,
        "provenance": seg.provenance,
    }
    if seg.labels.kind != "overlapping":
        keywords = {**where, "name": name, "metadata": facts(seg.geometry, **common)}
        if seg.labels.kind == "exclusive":
            keywords["colormap"] = colours(seg.labels)
        return [(_paintable(seg.mask), keywords, "labels")]
    return [
        (
            (channel > 0).astype(np.uint8),
            {
                **where,
                "name": structure_layer_name(label.name, name),
                "metadata": facts(seg.geometry, structure=label.name, **common),
                "colormap": colours(seg.labels, structure=label.name),
            },
            "labels",
        )
        for channel, label in zip(seg.mask, seg.labels, strict=True)
    ]


def structure_layer_name(structure: str, name: str) -> str:
    """Return the name of one structure's layer; its own part is not cut off."""
    return f"{structure} ({name})" if name else structure


def _paintable(mask: NDArray[Any]) -> NDArray[Any]:
    return mask.astype(np.uint8) if mask.dtype == bool else mask.copy()


def geometry_of(layer: Layer | Sequence[Any]) -> Geometry:
    """Return where a layer's spatial axes lie.

    The exact geometry that came with the layer counts as long as its scale, position
    and units are still those that it was shown with; else what napari has now.

    Args:
        layer: A napari layer, or layer data.

    Raises:
        ConfigError: If the layer is sheared, or has not 2 or 3 spatial axes.
    """
    data, meta = parts(layer)
    known = facts_of(layer)
    ndim = data.ndim - bool(meta.get("rgb"))
    frames = known.get("frames")
    spatial = ndim - (frames is not None)
    if spatial not in (2, 3):
        raise ConfigError(
            str(meta.get("name", "layer")),
            f"has {spatial} spatial axes",
            "medseg works on planes and volumes",
        )
    matrix = transform_of(meta, ndim)
    stored = known.get("geometry")
    if stored is None or stored.ndim != spatial:
        return geometry_of_transform(matrix, meta.get("units"), spatial)
    shape = data.shape[ndim - spatial : ndim]
    shown = placement(stored, shape, first_frame=frames[0] if frames else None)
    moved = not np.allclose(matrix, transform_of(shown, ndim), rtol=1e-6, atol=1e-6)
    if not moved and _in_mm(meta.get("units")) in (None, stored.unit == "mm"):
        return stored
    axes, _ = nearest_axes(stored)
    return geometry_of_transform(matrix, meta.get("units"), spatial, axes)


def geometry_if_known(image: Layer) -> Geometry | None:
    """Return the geometry of an image; None for a stack that is not of our readers.

    Its first axis may be time as well as space: what is made of it leaves that open.

    Raises:
        ConfigError: If the layer is sheared.
    """
    return geometry_of(image) if image.ndim == 2 or facts_of(image) else None


def hands_off(layer: Layer | None) -> bool:
    """Return whether napari leaves the mouse to others: no brush or line is drawn."""
    return str(getattr(layer, "mode", "pan_zoom")) in ("pan_zoom", "Mode.PAN_ZOOM")


def is_mask(layer: Layer) -> bool:
    """Return whether a layer is a mask that can be changed and saved."""
    from napari.layers import Labels

    plain = isinstance(layer, Labels) and not layer.multiscale
    return plain and facts_of(layer).get("role") != "view"


def belongs(tracks: Layer, mask: Labels) -> bool:
    """Return whether a tracks layer was made of a mask, or came from its folder."""
    from napari.layers import Tracks

    if not isinstance(tracks, Tracks):
        return False
    known, own = facts_of(mask), facts_of(tracks)
    same = any(own.get(k) and own[k] == known.get(k) for k in ("path", "group"))
    return same or own.get("tracks_of") == str(mask.unique_id)


def _in_mm(units: Sequence[object] | None) -> bool | None:
    """Return whether the last unit is a length; None where napari has none."""
    return None if units is None else str(units[-1]) not in ("pixel", "px", "")


def parts(layer: Layer | Sequence[Any]) -> tuple[Any, dict[str, Any]]:
    """Return data and keywords of a napari layer or of layer data.

    Of a pyramid the finest level, which is what its scale is given for.
    """
    whole = layer if isinstance(layer, Sequence) else layer.as_layer_data_tuple()
    data, meta = whole[0], dict(whole[1])
    return (data[0] if meta.pop("multiscale", False) else data), meta

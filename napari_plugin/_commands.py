"""Commands of the menus and of the command palette."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import ConfigError
from medseg.napari_plugin._writer import save_mask, save_result, show_written
from medseg.napari_plugin.layers import (
    LayerData,
    facts,
    facts_of,
    geometry_of,
    parts,
)

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

# What a mask beside an image of this suffix is called, as `medseg predict` does.
_KEPT = (".nii.gz", ".nii", ".nrrd", ".mha", ".tif")
_ALIKE = {".tiff": ".tif", ".nhdr": ".nrrd", ".mhd": ".mha"}


def new_mask(viewer: napari.viewer.Viewer) -> None:
    """Add an empty mask on the grid of the selected image.

    Raises:
        ConfigError: If no image is selected.
    """
    image = _image(viewer)
    data, meta = parts(image)
    ndim = data.ndim - bool(meta.get("rgb"))
    known = facts_of(image)
    metadata = facts(
        geometry_of(image), source=known.get("source"), frames=known.get("frames")
    )
    viewer.add_labels(
        np.zeros(data.shape[:ndim], np.uint16),
        name=f"{image.name} mask",
        metadata=metadata,
        **{k: meta[k] for k in ("scale", "translate", "rotate", "shear", "affine")},
        units=image.units,
        axis_labels=image.axis_labels,
    )


def _image(viewer: napari.viewer.Viewer) -> Layer:
    active = viewer.layers.selection.active
    kinds = [x for x in viewer.layers if _kind(x) == "image"]
    if active in kinds:
        return active
    if len(kinds) == 1:
        return kinds[0]
    raise ConfigError(
        "new mask",
        f"{len(kinds)} images are open and none is selected",
        "Click on one in the layer list",
    )


def save_beside(viewer: napari.viewer.Viewer) -> None:
    """Save the selected masks, each whole, beside the image that it was made of.

    A mask that came from a file goes back there. All masks are saved if none is
    selected; a mask of several structures is saved with all of them.

    Raises:
        ConfigError: If there is no mask, or it is not known of which file it is.
        FileError: If one cannot be written.
    """
    masks = [x for x in viewer.layers if _kind(x) == "labels"]
    chosen = [x for x in masks if x in viewer.layers.selection]
    if not masks:
        raise ConfigError("save", "there is no mask", "Make or open one")
    groups = {_group(x): _members(viewer, x) for x in chosen or masks}
    targets = [place_beside(layers) for layers in groups.values()]
    double = next((p for p in targets if targets.count(p) > 1), None)
    if double is not None:
        raise ConfigError(
            "save", f"two masks would go to {double.name}", "Select one of them"
        )
    for target, layers in zip(targets, groups.values(), strict=True):
        _save(viewer, target, layers)


def save_mask_beside(viewer: napari.viewer.Viewer, layer: Layer) -> str:
    """Save the mask that ``layer`` belongs to as :func:`save_beside`; return the file.

    Raises:
        ConfigError: If it is not known of which file it is.
        FileError: If it cannot be written.
    """
    layers = _members(viewer, layer)
    return str(_save(viewer, place_beside(layers), layers))


def _members(viewer: napari.viewer.Viewer, layer: Layer) -> list[LayerData]:
    """Return the layers of the mask that ``layer`` is a part of."""
    group = _group(layer)
    return [
        x.as_layer_data_tuple()
        for x in viewer.layers
        if _kind(x) == "labels" and _group(x) == group
    ]


def _save(viewer: napari.viewer.Viewer, target: Path, layers: list[LayerData]) -> Path:
    if facts_of(layers[0]).get("frames") is None:
        written = save_mask(target, layers)
    else:
        tracks = _tracks_of(viewer, layers[0])
        written = (save_result(target, [layers[0], *tracks]),)
    show_written(written, layers)
    return written[0]


def _kind(layer: Layer) -> str:
    return str(layer.as_layer_data_tuple()[2])


def _group(layer: Layer) -> object:
    return facts_of(layer).get("group") or f"layer {layer.name}"


def _tracks_of(viewer: napari.viewer.Viewer, mask: LayerData) -> list[LayerData]:
    """Return the tracks layer that came with a movie's mask, if there is one.

    Raises:
        ConfigError: If there are several.
    """
    known = facts_of(mask)
    found = []
    for layer in viewer.layers:
        own = facts_of(layer)
        same = any(known.get(k) and known[k] == own.get(k) for k in ("path", "source"))
        if _kind(layer) == "tracks" and same:
            found.append(layer.as_layer_data_tuple())
    if len(found) > 1:
        raise ConfigError(
            "save",
            f"{len(found)} tracks layers belong to {mask[1].get('name')!r}",
            "Select mask and tracks, and use File > Save Selected Layers",
        )
    return found


def place_beside(layers: list[LayerData]) -> Path:
    """Return the file of a mask: its own, or ``<image>_mask`` beside the image.

    Raises:
        ConfigError: If the layers came from no file.
    """
    from medseg.io.sniff import suffix_of

    known = facts_of(layers[0])
    movie = known.get("frames") is not None
    path = Path(known["path"]) if known.get("path") else None
    if path is not None and (not movie or path.name.endswith("_RES")):
        return path
    if not known.get("source"):
        raise ConfigError(
            str(layers[0][1].get("name", "mask")),
            "it is not known which file it belongs to",
            "Use File > Save Selected Layers",
        )
    image = Path(known["source"])
    if movie:
        return image.with_name(f"{image.name}_RES")
    suffix = suffix_of(image.name)
    stem = image.name[: -len(suffix)] if suffix else image.name
    kept = _ALIKE.get(suffix, suffix)
    if kept not in _KEPT:
        flat = suffix in (".png", ".jpg", ".jpeg")
        kept = ".png" if flat and len(layers) == 1 else ".tif" if flat else ".nii.gz"
    return image.with_name(f"{stem}_mask{kept}")

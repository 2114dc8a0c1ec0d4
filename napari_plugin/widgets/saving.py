"""Save a mask to its file or beside its image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QFileDialog

from medseg.errors import ConfigError
from medseg.napari_plugin.layers import KEY, facts_of
from medseg.napari_plugin.unsaved import image_of, keeper_of, unwrap

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels


def save_mask_of(viewer: ViewerModel, layer: Labels) -> str:
    """Save the mask that a layer is part of, all its structures, and return the path.

    A mask of a file goes back there, another beside its image; where neither is
    known the person is asked.

    Raises:
        ConfigError: If no file is chosen.
        FileError: If it cannot be written, or differs when it is read back.
        DiskError: If the disk is full or not writable.
    """
    from medseg.napari_plugin._commands import place_beside
    from medseg.napari_plugin._writer import save_mask, save_result

    layer = unwrap(layer)
    group = facts_of(layer).get("group")
    parts = [
        x
        for x in viewer.layers
        if x is layer or (group and facts_of(x).get("group") == group)
    ]
    parts = [x for x in parts if x.as_layer_data_tuple()[2] == "labels"]
    data = [_with_source(viewer, x) for x in parts]
    try:
        path = place_beside(data)
    except ConfigError:
        path = _ask_path(layer.name)
    if facts_of(layer).get("frames") is not None:
        written = str(save_result(path, data[:1]))
    else:
        written = str(save_mask(path, data)[0])
    keeper = keeper_of(viewer)
    for part in parts:
        keeper.mark_saved(part, written)
    return written


def _with_source(viewer: ViewerModel, layer: Labels) -> Any:
    """Return layer data; of a mask made in napari with the facts of its image."""
    data, meta, kind = layer.as_layer_data_tuple()
    image = image_of(viewer, layer)
    if not facts_of(layer) and image is not None and facts_of(image):
        known = facts_of(image)
        lent = {k: known.get(k) for k in ("geometry", "source", "frames")}
        meta = {**meta, "metadata": {**meta.get("metadata", {}), KEY: lent}}
    return data, meta, kind


def _ask_path(name: str) -> Path:
    kinds = "Masks (*.nii.gz *.nii *.nrrd *.mha *.tif *.png *.dcm)"
    chosen, _ = QFileDialog.getSaveFileName(None, f"Save {name}", "", kinds)
    if not chosen:
        raise ConfigError(name, "no file was chosen", "Save again")
    return Path(chosen)

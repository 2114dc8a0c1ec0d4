"""Save a mask to its file or beside its image; ask where that is not clear."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog

from medseg.errors import ConfigError, DiskError
from medseg.napari_plugin.unsaved import unwrap

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels


def save_mask_of(viewer: ViewerModel, layer: Labels) -> str:
    """Save the mask that a layer is part of, all its structures, and return the path.

    A mask of a file goes back there, another beside its image; where neither is
    known, another mask is there already, or the file has changed since, the person is
    asked, and the place that was given holds from there. Where the disk cannot be
    written to, another place is asked for.

    Raises:
        ConfigError: If no file is chosen.
        FileError: If it cannot be written, or differs when it is read back.
        DiskError: If the disk is full or not writable.
    """
    from medseg.napari_plugin import beside

    viewer, layer = unwrap(viewer), unwrap(layer)
    parts = beside.members(viewer, layer)
    try:
        path = beside.place_beside(beside.layer_data(viewer, parts))
    except ConfigError:
        path = beside.last_place(viewer, parts) or _ask_path(layer.name)
    else:
        reason = beside.taken(viewer, parts, path)
        if reason:
            title = f"{layer.name}: {path.name} is there already, {reason}"
            last = beside.last_place(viewer, parts)
            path = last or _ask_path(title, beside.free_name(path))
    try:
        return str(beside.save(viewer, parts, path))
    except DiskError as error:
        # The disk is full or not to be written to: another may do.
        other = _choose_path(f"{layer.name}: {path} is {error.problem}", path.name)
        if other is None:
            raise
        return str(beside.save(viewer, parts, other))


def _ask_path(title: str, start: Path | str = "") -> Path:
    """Ask for a file.

    Raises:
        ConfigError: If none is chosen.
    """
    chosen = _choose_path(title, start)
    if chosen is None:
        raise ConfigError(title, "no file was chosen", "Save again")
    return chosen


def _choose_path(title: str, start: Path | str) -> Path | None:
    """Ask for a file; Qt asks too before one that is there is replaced."""
    kinds = "Masks (*.nii.gz *.nii *.nrrd *.mha *.tif *.png *.dcm);;All files (*)"
    chosen, _ = QFileDialog.getSaveFileName(None, f"Save {title}", str(start), kinds)
    return Path(chosen) if chosen else None

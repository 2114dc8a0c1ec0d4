"""Which file a mask goes to, and what goes there with it. No Qt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import ConfigError
from medseg.napari_plugin._writer import place_of, save_mask, save_result, with_facts
from medseg.napari_plugin.file_state import state_of
from medseg.napari_plugin.layers import LayerData, belongs, facts_of, mask_file
from medseg.napari_plugin.originals import image_at
from medseg.napari_plugin.unsaved import keeper_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.components import ViewerModel
    from napari.layers import Labels

# What a mask beside an image of this suffix is called, as `medseg predict` does.
_KEPT = (".nii.gz", ".nii", ".nrrd", ".mha", ".tif")
_ALIKE = {".tiff": ".tif", ".nhdr": ".nrrd", ".mhd": ".mha"}
_DICOM = (".dcm", ".dicom", ".ima")


def members(viewer: ViewerModel, layer: Labels) -> list[Labels]:
    """Return the layers of the mask that a layer is a part of: all its structures.

    A copy of a mask that is one layer is a mask of its own.
    """
    from napari.layers import Labels

    known = facts_of(layer)
    if known.get("structure") is None or not known.get("group"):
        return [layer]
    masks = [(x, facts_of(x)) for x in viewer.layers if isinstance(x, Labels)]
    return [
        x for x, own in masks if own.get("group") == known["group"] and own["structure"]
    ]


def layer_data(viewer: ViewerModel, layers: Sequence[Labels]) -> list[LayerData]:
    """Return layer data; of masks made in napari with the facts of their image."""
    return [with_facts(x.as_layer_data_tuple(), viewer) for x in layers]


def place_beside(layers: Sequence[LayerData]) -> Path:
    """Return the file of a mask: its own, or ``<image>_mask`` beside the image.

    Cells of a movie go into a folder beside it, or beside that of the masks that they
    were read from.

    Raises:
        ConfigError: If the layers came from no file, or from one that cannot be
            written again.
    """
    known = facts_of(layers[0])
    movie = _is_result(known)
    own = mask_file(layers[0])
    path = Path(own) if own else None
    if path is not None and (path.name.endswith("_RES") if movie else True):
        return path if movie else _writable(path, known.get("source"))
    origin = known.get("source") or (known.get("files") if movie else None)
    if not origin:
        raise ConfigError(
            str(layers[0][1].get("name", "mask")),
            "it is not known which file it belongs to",
            "Use File > Save Selected Layers",
        )
    image = Path(origin)
    stem, suffix = _split(image)
    if movie:
        return result_folder(image)
    kept = _ALIKE.get(suffix, suffix)
    if kept not in _KEPT:
        flat = suffix in (".png", ".jpg", ".jpeg")
        kept = ".png" if flat and len(layers) == 1 else ".tif" if flat else ".nii.gz"
    return image.with_name(f"{stem}_mask{kept}")


def result_folder(movie: Path | str) -> Path:
    """Return the folder for the cells of a movie, a folder or a file: ``01_RES``."""
    path = Path(movie)
    return path.with_name(f"{_split(path)[0]}_RES")


def _is_result(known: Mapping[str, Any]) -> bool:
    """Return whether a mask is saved as a tracking result: cells of a movie."""
    return known.get("frames") is not None and known.get("structure") is None


def _split(path: Path) -> tuple[str, str]:
    """Return a file's name without its suffix, and the suffix."""
    from medseg.io.sniff import suffix_of

    suffix = suffix_of(path.name)
    return path.name[: len(path.name) - len(suffix)], suffix


def _writable(path: Path, source: str | None) -> Path:
    """Return where the mask of a file goes; not all that is read is written."""
    stem, suffix = _split(path)
    if path.is_dir():  # a PNG a structure
        return path.with_name(f"{path.name}.png")
    if suffix in _DICOM and not source:
        raise ConfigError(
            path.name,
            "a DICOM-SEG needs the image that it was made of, which is not known",
            "Use File > Save Selected Layers with another format",
        )
    written = {**_ALIKE, ".tiff": ".tiff", ".jpg": ".png", ".jpeg": ".png"}
    return path.with_name(f"{stem}{written.get(suffix, suffix)}")


def taken(viewer: ViewerModel, layers: Sequence[Labels], target: Path) -> str:
    """Return what a mask would write over unasked; empty if that is its own file."""
    target = place_of(target, layers)
    if image_at(target, layer_data(viewer, layers), viewer):
        return "it holds an image"
    if not target.exists():
        return ""
    keeper = keeper_of(viewer)
    known = {x: s for x in keeper.layers if (s := keeper.file_state(x, target))}
    other = next((x for x in known if x not in layers), None)
    if other is not None:
        return f"it holds {other.name}, which is open too"
    if not known:
        return "it holds another mask"
    same = state_of(target) in known.values()
    return "" if same else "it has changed since it was opened or saved here"


def last_place(viewer: ViewerModel, layers: Sequence[Labels]) -> Path | None:
    """Return where a mask was saved last, None if nowhere or it is taken since."""
    last = keeper_of(viewer).saved_path(layers[0])
    known = facts_of(layer_data(viewer, layers)[0])
    if not last:
        return None
    path = Path(last)
    path = path if _is_result(known) else _writable(path, known.get("source"))
    return None if taken(viewer, layers, path) else path


def free_name(target: Path) -> Path:
    """Return a name like that of ``target`` that is not taken, nor is its folder."""
    stem, suffix = _split(target)
    for word in ("_mask", "_RES", ""):
        if stem.endswith(word):
            break
    stem = stem[: len(stem) - len(word)]
    number = 2
    while (folder := target.with_name(f"{stem}_{number}{word}")).exists() or (
        found := target.with_name(f"{folder.name}{suffix}")
    ).exists():
        number += 1
    return found


def save(viewer: ViewerModel, layers: Sequence[Labels], target: Path) -> Path:
    """Write the layers of one mask to ``target``, checked; return what was written.

    The lineage of a movie goes along if it is open.

    Raises:
        ConfigError: If several lineages of the mask are open.
        FileError: If it cannot be written, or differs when it is read back.
        DiskError: If the disk is full or not writable.
    """
    data = layer_data(viewer, layers)
    if _is_result(facts_of(data[0])):
        tracks = _tracks_of(viewer, layers[0])
        written = save_result(target, [*data, *tracks], follow_masks=True)
    else:
        save_mask(target, data, viewer)
        written = place_of(target, data)
    for layer in layers:
        keeper_of(viewer).mark_saved(layer, written)
    return written


def _tracks_of(viewer: ViewerModel, mask: Labels) -> list[Any]:
    """Return the tracks layer that belongs to a movie's mask, if there is one."""
    found = [x for x in viewer.layers if belongs(x, mask)]
    # What was linked or edited here replaces the tracks that came with the masks.
    found = [x for x in found if "tracks_of" in facts_of(x)] or found
    if len(found) > 1:
        raise ConfigError(
            "save",
            f"{len(found)} tracks layers belong to {mask.name!r}",
            "Select mask and tracks, and use File > Save Selected Layers",
        )
    return [x.as_layer_data_tuple() for x in found]

"""Files that were read as images: no save of the plugin writes over one. No Qt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import FileError
from medseg.napari_plugin.layers import LayerData, facts_of, mask_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Layer


def image_at(target: Path, layers: Sequence[LayerData], viewer: Any = None) -> str:
    """Return the image that a save to ``target`` would write over, empty if none.

    Images are those that are open and those that an open mask was made of. A mask may
    lie in the folder of its series or movie: its own file is no image.

    Args:
        target: A file, or the folder that files are written into.
        layers: What would be saved.
        viewer: Holds the other layers; by default the current one.
    """
    from napari import current_viewer

    from medseg.napari_plugin.unsaved import was_saved_to

    viewer = viewer or current_viewer()
    others = () if viewer is None else viewer.layers
    images = {_image_file(x) for x in (*layers, *others)} - {""}
    own = {Path(f).resolve() for x in layers if (f := mask_file(x))}
    if any(was_saved_to(x[0], target) for x in layers):
        own.add(target.resolve())
    return next((f for f in sorted(images) if _hits(target, Path(f), own)), "")


def refuse_image(target: Path, layers: Sequence[LayerData], viewer: Any = None) -> None:
    """Refuse to write over an image.

    Raises:
        FileError: If a save to ``target`` would; see `image_at`.
    """
    if image := image_at(target, layers, viewer):
        raise FileError(
            target,
            f"would be written over the image {Path(image).name}",
            "Give another name",
        )


def _image_file(layer: Layer | LayerData) -> str:
    from napari.layers import Image

    known = facts_of(layer)
    if known:
        return str(known.get("source") or "")
    return str(layer.source.path or "") if isinstance(layer, Image) else ""


def _hits(target: Path, image: Path, own: set[Path]) -> bool:
    there, read = target.resolve(), image.resolve()
    if read in (there, *there.parents[:1]):  # of a series or a movie: the folder
        return there == read or (there.exists() and there not in own)
    if read.parent == there:
        return True
    return there.exists() and read.exists() and there.samefile(read)

"""Which image a mask was drawn on, and which maps a model made of that image. No Qt.

Films of one size are many: a shape says nothing of the patient. Where a mask states
its image, by file and name, another film is never taken in its place; where nothing
says which of several films is the mask's, none is.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.io.mask_folder import stem
from medseg.napari_plugin._reader import MASK_WORDS
from medseg.napari_plugin.layers import facts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

_MASK_WORD = re.compile(rf"[-_]({'|'.join(MASK_WORDS)})$", re.IGNORECASE)


def own_image(viewer: ViewerModel, mask: Labels) -> Image | None:
    """Return the image that a mask states, else that of its file's name, else the one.

    An image that came from no file may be the stated one, changed; one of another
    file is not. Where no file is stated, the name is all there is to go by.
    """
    known = facts_of(mask)
    source, name = known.get("source") or "", known.get("image")
    fitting = [x for x in viewer.layers if is_image(x) and fits(x, mask)]
    of_file = [x for x in fitting if source in _files(x)]
    # Labels that napari made of an image file state that file: if it is not open as
    # an image, it was a mask of another program.
    if source == known.get("path") and not of_file:
        source = ""
    if not source and not name:
        return _of_name(fitting, file_of(mask))
    found = of_file or [x for x in fitting if not file_of(x)]
    named = [x for x in found if x.name == name]
    return _one(named or (found if source else []))


def _of_name(images: Sequence[Image], file: str) -> Image | None:
    """Return the image that a mask's file is named after, else the only one there is.

    As ``film.png`` of ``film_mask.png`` and ``film.nii.gz``; of films of one name the
    one in the mask's folder.
    """
    name = _MASK_WORD.sub("", stem(Path(file).name))
    named = [x for x in images if name and stem(Path(file_of(x)).name) == name]
    near = [x for x in named if Path(file_of(x)).parent == Path(file).parent]
    return _one(near or named or images)


def _one(images: Sequence[Image]) -> Image | None:
    """Return the only image, or the first of the channels of one file."""
    files = {file_of(x) or x for x in images}
    return images[0] if len(files) == 1 else None


def own_maps(viewer: ViewerModel, mask: Labels, image: Image | None) -> list[Image]:
    """Return the maps of a model that were made of a mask's image.

    Args:
        viewer: Holds them.
        mask: Counts if it states its image: that may have another name by now.
        image: Counts for other masks, such as those drawn by hand.
    """
    known = facts_of(mask)
    if known.get("image"):
        origin = known.get("source"), known["image"]
    elif image is not None:
        origin = file_of(image) or None, image.name
    else:
        return []
    maps = [x for x in viewer.layers if is_probability(x) and fits(x, mask)]
    return [x for x in maps if _origin(x) == origin]


def is_image(layer: Layer) -> bool:
    """Return whether a layer is a picture, and no map that a model made."""
    from napari.layers import Image

    maps = facts_of(layer).get("role") in ("probability", "uncertainty")
    return isinstance(layer, Image) and not layer.multiscale and not maps


def is_probability(layer: Layer) -> bool:
    """Return whether a layer holds a model's probabilities."""
    return facts_of(layer).get("role") == "probability"


def fits(image: Image, mask: Labels) -> bool:
    """Return whether an image has the mask's shape; colours are an axis more."""
    return tuple(image.data.shape)[: image.ndim] == tuple(mask.data.shape)


def file_of(layer: Layer) -> str:
    """Return the file that a layer came from, empty if none."""
    return str(facts_of(layer).get("path") or layer.source.path or "")


def _files(image: Image) -> tuple[str, ...]:
    """Return the file of an image and its folder, which a movie of files is."""
    file = file_of(image)
    return (file, str(Path(file).parent)) if file else ()


def _origin(layer: Layer) -> tuple[str | None, str | None]:
    known = facts_of(layer)
    return known.get("source"), known.get("image")

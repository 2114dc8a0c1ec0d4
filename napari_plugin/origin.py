"""Which image a mask was drawn on, and which maps a model made of that image. No Qt.

Films of one size are many: a shape says nothing of the patient. Where a mask states
its image, by file and name, another film is never taken in its place.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medseg.napari_plugin.layers import facts_of
from medseg.napari_plugin.unsaved import file_of, image_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer


def own_image(viewer: ViewerModel, mask: Labels) -> Image | None:
    """Return the image that a mask states; of one that states none, see `image_of`.

    An image that came from no file may be the stated one, changed; one of another
    file is not. Where no file is stated, the name is all there is to go by.
    """
    known = facts_of(mask)
    source, name = known.get("source") or "", known.get("image")
    if not source and not name:
        return image_of(viewer, mask)
    fitting = [x for x in viewer.layers if is_image(x) and fits(x, mask)]
    found = [x for x in fitting if not file_of(x) or source in _files(x)]
    found = [x for x in found if source or x.name == name]
    return max(found, key=lambda x: (bool(file_of(x)), x.name == name), default=None)


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


def _files(image: Image) -> tuple[str, str]:
    """Return the file of an image and its folder, which a movie of files is."""
    return file_of(image), str(Path(file_of(image)).parent)


def _origin(layer: Layer) -> tuple[str | None, str | None]:
    known = facts_of(layer)
    return known.get("source"), known.get("image")

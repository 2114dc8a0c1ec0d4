"""Commands of the menus and of the command palette."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import ConfigError
from medseg.napari_plugin._writer import saved_text
from medseg.napari_plugin.beside import layer_data, members, place_beside, save, taken
from medseg.napari_plugin.layers import (
    KEY,
    PLACE,
    facts,
    facts_of,
    geometry_if_known,
    is_mask,
    parts,
)
from medseg.napari_plugin.origin import file_of
from medseg.napari_plugin.unsaved import unwrap, watch_over

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Labels


def new_mask(viewer: napari.viewer.Viewer) -> None:
    """Add an empty mask on the grid of the selected image, and watch over it.

    Raises:
        ConfigError: If no image is selected.
    """
    viewer = unwrap(viewer)
    image = _image(viewer)
    data, meta = parts(image)
    ndim = data.ndim - bool(meta.get("rgb"))
    known = facts_of(image)
    own = facts(
        geometry_if_known(image),
        source=known.get("source") or file_of(image) or None,
        frames=known.get("frames"),
    )
    own[KEY]["image"] = known.get("image") or image.name
    watch_over(viewer)
    viewer.add_labels(
        np.zeros(data.shape[:ndim], np.uint16),
        name=f"{image.name} mask",
        metadata=own,
        **{key: getattr(image, key) for key in PLACE},
    )


def _image(viewer: napari.viewer.Viewer) -> Image:
    from napari.layers import Image

    active = viewer.layers.selection.active
    images = [x for x in viewer.layers if isinstance(x, Image)]
    if active in images:
        return active
    if len(images) == 1:
        return images[0]
    if not images:
        raise ConfigError("new mask", "no image is open", "Open one first")
    raise ConfigError(
        "new mask",
        f"{len(images)} images are open and none is selected",
        "Click on one in the layer list",
    )


def save_beside(viewer: napari.viewer.Viewer) -> None:
    """Save the selected masks, each whole, beside the image that it was made of.

    A mask that came from a file goes back there. All masks are saved if none is
    selected; a mask of several structures is saved with all of them.

    Raises:
        ConfigError: If there is no mask, it is not known of which file it is, or
            another mask would be overwritten.
        FileError: If one cannot be written.
    """
    from napari.utils.notifications import show_info

    viewer = unwrap(viewer)
    masks = [x for x in viewer.layers if is_mask(x)]
    chosen = [x for x in masks if x in viewer.layers.selection]
    if not masks:
        raise ConfigError("save", "there is no mask", "Make or open one")
    groups: list[list[Labels]] = []
    for layer in chosen or masks:
        if not any(layer in group for group in groups):
            groups.append(members(viewer, layer))
    targets = [place_beside(layer_data(viewer, group)) for group in groups]
    for target, group in zip(targets, groups, strict=True):
        if targets.count(target) > 1:
            raise ConfigError(
                "save", f"two masks would go to {target.name}", "Select one of them"
            )
        if reason := taken(viewer, group, target):
            raise ConfigError(
                target.name,
                f"is there already: {reason}",
                "Use File > Save Selected Layers, which lets you choose a name",
            )
    for target, group in zip(targets, groups, strict=True):
        show_info(saved_text(save(viewer, group, target)))

"""A bound on the windows that a model slides over an image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medseg.model_io import Model


def in_tiles_of(model: Model, side: int) -> Model:
    """Return the model with windows of at most ``side`` pixels along each axis.

    They are halved until they fit, as when a GPU runs out of memory, and so keep the
    proportions that the network was built for. A window sees less around each pixel
    then: results change a little, and say so in their provenance.

    Args:
        model: One that sees whole images is returned as it is.
        side: 0 for the model's own. Windows are never smaller than
            :data:`medseg.engines.ladder.SMALLEST_WINDOW`.
    """
    from medseg.engines.ladder import SMALLEST_WINDOW

    inference = model.spec.inference
    if not side or inference.mode != "sliding_window":
        return model
    size = inference.size
    while max(size) > side and min(size) // 2 >= SMALLEST_WINDOW:
        size = tuple(n // 2 for n in size)
    spec = replace(model.spec, inference=replace(inference, size=size))
    return replace(model, spec=spec)

"""medseg: from a folder of medical images to masks that a person has checked."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Looked up on first use: napari imports this module when it starts.
_NAMES = {
    "Geometry": "medseg.geometry",
    "Image": "medseg.image",
    "Label": "medseg.labels",
    "LabelSet": "medseg.labels",
    "MedsegError": "medseg.errors",
    "Predictor": "medseg.predict",
    "Segmentation": "medseg.segmentation",
    "TrackGraph": "medseg.lineage",
    "load_model": "medseg.model",
    "open_movie": "medseg.io",
    "read_image": "medseg.io",
    "read_segmentation": "medseg.io",
    "write_segmentation": "medseg.io",
}

if TYPE_CHECKING:
    from medseg.errors import MedsegError
    from medseg.geometry import Geometry
    from medseg.image import Image
    from medseg.io import (
        open_movie,
        read_image,
        read_segmentation,
        write_segmentation,
    )
    from medseg.labels import Label, LabelSet
    from medseg.lineage import TrackGraph
    from medseg.model import load_model
    from medseg.predict import Predictor
    from medseg.segmentation import Segmentation

__all__ = [
    "Geometry",
    "Image",
    "Label",
    "LabelSet",
    "MedsegError",
    "Predictor",
    "Segmentation",
    "TrackGraph",
    "load_model",
    "open_movie",
    "read_image",
    "read_segmentation",
    "write_segmentation",
]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'medseg' has no attribute {name!r}")

"""Read and write medical images and masks; the one room that flips axes."""

from __future__ import annotations

from medseg.io.ctc import (
    MaskMovie,
    ResultWriter,
    open_masks,
    read_track_table,
    validate_result,
    write_track_table,
)
from medseg.io.limits import Limits
from medseg.io.masks import read_segmentation
from medseg.io.movie import Movie, open_movie
from medseg.io.probe import ImageInfo, probe
from medseg.io.read import read_image
from medseg.io.sniff import IMAGE_SUFFIXES, is_image_name
from medseg.io.write import write_image, write_segmentation

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageInfo",
    "Limits",
    "MaskMovie",
    "Movie",
    "ResultWriter",
    "is_image_name",
    "open_masks",
    "open_movie",
    "probe",
    "read_image",
    "read_segmentation",
    "read_track_table",
    "validate_result",
    "write_image",
    "write_segmentation",
    "write_track_table",
]

"""Read and write medical images and masks; the one room that flips axes."""

from __future__ import annotations

from medseg.io.limits import Limits
from medseg.io.masks import read_segmentation
from medseg.io.probe import ImageInfo, probe
from medseg.io.read import read_image
from medseg.io.sniff import IMAGE_SUFFIXES, is_image_name
from medseg.io.write import write_image, write_segmentation

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageInfo",
    "Limits",
    "is_image_name",
    "probe",
    "read_image",
    "read_segmentation",
    "write_image",
    "write_segmentation",
]

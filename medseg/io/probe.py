"""What a file is, from its header alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.io.limits import Limits
from medseg.io.read import opened

if TYPE_CHECKING:
    import os

    from medseg.geometry import Unit


@dataclass(frozen=True)
class ImageInfo:
    """The facts of a header.

    Args:
        path: Of the file or folder.
        format: As in ``Image.meta``.
        shape: ``(C, [Z,] Y, X)``; colour counts 3 though equal channels read as 1.
        dtype: Name of the pixel type once read.
        spacing: ``([z,] y, x)`` in ``unit``.
        unit: ``mm`` or ``px``.
        bytes: That the pixels take once read.
        notes: What reading will warn of, as far as the header shows.
        detector_plane: Whether the spacing holds at the detector.
        modality: Of a DICOM file, else empty.
    """

    path: Path
    format: str
    shape: tuple[int, ...]
    dtype: str
    spacing: tuple[float, ...]
    unit: Unit
    bytes: int
    notes: tuple[str, ...]
    detector_plane: bool = False
    modality: str = ""


def probe(path: str | os.PathLike[str], *, limits: Limits | None = None) -> ImageInfo:
    """Return what ``path`` holds without reading its pixels.

    Raises:
        FileError: If the header is refused.
    """
    path = Path(path)
    with opened(path, limits or Limits(), header_only=True) as file:
        pixels = 1
        for n in file.shape:
            pixels *= n
        return ImageInfo(
            path,
            file.format,
            file.shape,
            str(file.dtype),
            file.geometry.spacing,
            file.geometry.unit,
            pixels * file.dtype.itemsize,
            file.notes,
            file.geometry.detector_plane,
            str(file.meta.get("modality", "")),
        )

"""Read an image or a mask: by content and name, checked, with warnings as warnings."""

from __future__ import annotations

import os
import stat
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import FileError, ImageWarning, printable
from medseg.image import Image
from medseg.io.dicom import open_dicom
from medseg.io.limits import Limits
from medseg.io.metaimage import open_metaimage
from medseg.io.nifti import open_nifti
from medseg.io.nrrd import open_nrrd
from medseg.io.raster import open_jpeg, open_png
from medseg.io.series import open_series
from medseg.io.sniff import HEAD, Format, decide
from medseg.io.source import Opened, Source, parsing, unreadable
from medseg.io.tiff import open_page, open_tiff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

_OPENERS: dict[Format, Callable[[Source], Opened]] = {
    "dicom": open_dicom,
    "nifti": open_nifti,
    "nrrd": open_nrrd,
    "metaimage": open_metaimage,
    "tiff": open_tiff,
    "png": open_png,
    "jpeg": open_jpeg,
}


@contextmanager
def opened(
    path: Path,
    limits: Limits,
    header_only: bool = False,
    name: str | None = None,
) -> Iterator[Opened]:
    """Yield the checked header of a file or series; its pixels load inside.

    Args:
        path: A file, or a folder with one DICOM series.
        limits: What the file may declare.
        header_only: Whether no pixels will be loaded.
        name: The name whose suffix counts, by default that of ``path``.

    Raises:
        FileError: If it cannot be opened, or its header is refused.
    """
    with ExitStack() as stack:
        yield _open(path, limits, header_only, name, stack)


def _open(
    path: Path, limits: Limits, header_only: bool, name: str | None, stack: ExitStack
) -> Opened:
    try:
        folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        raise unreadable(path, error) from error
    if folder:
        return open_series(path, limits, stack, header_only)
    source, kind = _source(path, limits, header_only, name, stack)
    with parsing(source, kind, quote=kind != "dicom"):
        return _OPENERS[kind](source)


def _source(
    path: Path, limits: Limits, header_only: bool, name: str | None, stack: ExitStack
) -> tuple[Source, Format]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a FIFO would wait for ever
            raise FileError(path, "not a regular file")
        stream = stack.enter_context(path.open("rb"))
        size = os.fstat(stream.fileno()).st_size
        head = stream.read(HEAD)
    except OSError as error:
        raise unreadable(path, error) from error
    kind = decide(path, head, size, name)
    return Source(path, stream, size, limits, header_only), kind


@contextmanager
def opened_page(
    path: Path, number: int, limits: Limits, header_only: bool = False
) -> Iterator[Opened]:
    """Yield one page of a TIFF as a plane; ``meta["pages"]`` says how many it has.

    Args:
        path: The TIFF.
        number: Of the page, from 0.
        limits: What a page may declare.
        header_only: Check all pages; none will be loaded.

    Raises:
        FileError: If it is no TIFF, cannot be opened, or a page is refused.
    """
    with ExitStack() as stack:
        source, kind = _source(path, limits, header_only, None, stack)
        with parsing(source, kind):
            page = open_page(source, number)
        yield page


def read_image(
    path: str | os.PathLike[str], *, limits: Limits | None = None, stored: bool = False
) -> Image:
    """Read a medical image file, or a folder with one DICOM series.

    High is always bright: MONOCHROME1 and WhiteIsZero are inverted. DICOM and NIfTI
    rescaling is applied. Integers stay integers where exact, else float32. World
    axes are LPS in array order.

    Args:
        path: ``.dcm .nii .nii.gz .nrrd .mha .tif .png .jpg`` and their kin.
        limits: What the file may declare, by default 2^30 pixels and 4 GiB.
        stored: The values as they are stored, neither inverted nor looked up in a
            palette: for masks.

    Returns:
        Pixels ``(C, [Z,] Y, X)`` in a new array; ``meta`` has ``format``,
        ``modality``, ``photometric``, ``bits`` and ``source`` (the file's name).
        Three channels are colours where `Image.has_colours` says so.

    Raises:
        FileError: If the file is refused; the message gives the cause.
    """
    path = Path(path)
    with opened(path, limits or Limits()) as file:
        pixels, late = file.load(stored)
        notes = [*file.notes, *late, *_value_notes(pixels)]
    for note in notes:
        warnings.warn(f"{printable(path)}: {note}", ImageWarning, stacklevel=2)
    return Image(pixels, file.geometry, meta_of(path, file, pixels))


def meta_of(path: Path, file: Opened, pixels: NDArray[Any]) -> dict[str, Any]:
    """Return what `Image.meta` says of the pixels of a file; see `read_image`."""
    colours = file.block is not None and file.block.colours
    return {
        "format": file.format,
        "modality": "",
        "photometric": "",
        "bits": pixels.dtype.itemsize * 8,
        **file.meta,
        **({"photometric": "RGB"} if colours else {}),
        "source": path.name,
    }


def _value_notes(pixels: NDArray[Any]) -> list[str]:
    if pixels.dtype.kind != "f":
        return []
    kinds = {"NaN": np.isnan, "infinite": np.isinf}
    counts = {name: int(test(pixels).sum()) for name, test in kinds.items()}
    return [f"{n} of {pixels.size} pixels are {k}" for k, n in counts.items() if n]

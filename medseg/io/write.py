"""Write masks and images: whole or not at all, and read back before they count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medseg.errors import FileError
from medseg.geometry import Geometry
from medseg.io.atomic import replace_file
from medseg.io.block import Block
from medseg.io.limits import Limits
from medseg.io.metaimage import write_metaimage
from medseg.io.nifti_write import write_nifti
from medseg.io.nrrd_write import write_nrrd
from medseg.io.raster import png_bytes
from medseg.io.read import opened
from medseg.io.sniff import SUFFIXES, suffix_of
from medseg.io.source import Index
from medseg.io.tiff_write import write_tiff
from medseg.labels import LabelSet
from medseg.segmentation import genuine

if TYPE_CHECKING:
    import os

    from medseg.image import Image
    from medseg.segmentation import Segmentation

# What we wrote ourselves may be as large as the memory that held it.
_UNLIMITED = Limits(2**60, 2**60)
_SLAB = 2**24  # pixels
_UNSIGNED = (np.uint8, np.uint16, np.uint32)
# Unsigned 32-bit NIfTI is refused by some programs; int32 holds enough.
_LABEL_TYPES: dict[str, tuple[type, ...]] = {
    "nifti": (np.uint8, np.uint16, np.int32),
    "nrrd": _UNSIGNED,
    "metaimage": _UNSIGNED,
    "tiff": _UNSIGNED,
    "png": (np.uint8, np.uint16),
}
_Encode = Callable[[BinaryIO, Path, NDArray[Any], Geometry, Block], None]


def _encode_png(
    stream: BinaryIO, path: Path, pixels: NDArray[Any], geometry: Geometry, block: Block
) -> None:
    stream.write(png_bytes(path, pixels, geometry, block))


def _encode_tiff(
    stream: BinaryIO, path: Path, pixels: NDArray[Any], geometry: Geometry, block: Block
) -> None:
    axes = "C" * (pixels.ndim - geometry.ndim) + "ZYX"[-geometry.ndim :]
    write_tiff(stream, path, pixels, axes, block)


_ENCODERS: dict[str, _Encode] = {
    "nifti": write_nifti,
    "nrrd": write_nrrd,
    "metaimage": write_metaimage,
    "tiff": _encode_tiff,
    "png": _encode_png,
}


def write_segmentation(
    seg: Segmentation,
    path: str | os.PathLike[str],
    *,
    split_labels: bool = False,
    source: str | os.PathLike[str] | None = None,
) -> tuple[Path, ...]:
    """Write a mask in the format of the suffix; equal masks give equal bytes.

    Exclusive labels and instances become one integer map in the smallest type that
    holds the largest label. Overlapping labels become a channel each. Names,
    colours, spacing, orientation and provenance go along.

    Args:
        seg: The mask.
        path: ``.nii.gz .nii .nrrd .mha .tif .png .dcm``.
        split_labels: Write a file a label, such as ``<stem>/<label>.png``: of 0 and
            255 as PNG, else of 0 and 1.
        source: For ``.dcm`` (DICOM-SEG): the DICOM file or series that was segmented.

    Returns:
        The files written.

    Raises:
        FileError: If the format cannot hold the mask, or reading back differs.
        DiskError: If the disk is full or not writable.
    """
    path = Path(path)
    if suffix_of(path.name) in (".dcm", ".dicom"):
        from medseg.io.dicomseg_write import write_dicomseg

        return (write_dicomseg(seg, path, None if source is None else Path(source)),)
    kind = _kind(path)
    provenance = genuine(seg.provenance, seg.mask)
    if split_labels:
        return _write_split(seg, path, kind, provenance)
    overlapping = seg.labels.kind == "overlapping"
    if kind == "png" and overlapping:
        raise FileError(
            path,
            f"a PNG cannot hold {len(seg.labels)} overlapping labels",
            "Write .tif, or split the labels into one PNG each",
        )
    mask = _zeros_and_ones(seg.mask) if overlapping else seg.mask
    pixels = as_label_type(path, mask, kind)
    _write(path, kind, pixels, Block(seg.geometry, seg.labels, provenance))
    return (path,)


def _zeros_and_ones(mask: NDArray[Any]) -> NDArray[Any]:
    """Return 1 where a mask is not 0; without a copy if it is so already."""
    if mask.dtype == np.uint8 and mask.max(initial=0) <= 1:
        return mask
    return mask.astype(bool).view(np.uint8)


def as_label_type(path: Path, mask: NDArray[Any], kind: str) -> NDArray[Any]:
    """Return ``mask`` in the smallest type of the format that holds its labels.

    Raises:
        FileError: If none does, or a label is negative; never wraps.
    """
    if mask.dtype == bool:
        return mask.view(np.uint8)
    if mask.dtype == np.uint8:
        return mask
    largest = int(mask.max(initial=0))
    if mask.dtype.kind == "i" and int(mask.min(initial=0)) < 0:
        raise FileError(path, f"label {int(mask.min())} is negative", "Number from 1")
    for dtype in _LABEL_TYPES[kind]:
        if largest <= np.iinfo(dtype).max:
            return mask.astype(dtype)
    widest = np.iinfo(_LABEL_TYPES[kind][-1]).max
    raise FileError(
        path,
        f"label {largest} is too large for {kind}, which holds up to {widest}",
        "Write .tif or .nrrd, or renumber the labels",
    )


def write_image(image: Image, path: str | os.PathLike[str]) -> Path:
    """Write an image in the format of the suffix, pixels and geometry exact.

    Args:
        image: Any real pixels; PNG takes uint8 and uint16 of one plane.
        path: ``.nii.gz .nii .nrrd .mha .tif .png``.

    Raises:
        FileError: If the format cannot hold the image, or reading back differs.
        DiskError: If the disk is full or not writable.
    """
    path = Path(path)
    kind = _kind(path)
    pixels = image.pixels
    if pixels.dtype.kind not in "biuf" or pixels.dtype.itemsize > 8:
        raise FileError(path, f"{pixels.dtype} pixels are not written")
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.dtype == bool:
        pixels = pixels.view(np.uint8)
    elif pixels.dtype == np.float16:
        pixels = pixels.astype(np.float32)
    if kind == "png" and len(pixels) == 3 and (pixels == pixels[:1]).all():
        pixels = pixels[:1]  # as which it is read: grey is one channel
    # Nobody has said so of pixels that come as an array.
    colours = image.has_colours and "photometric" in image.meta
    _write(path, kind, pixels, Block(image.geometry, colours=colours))
    return path


def _kind(path: Path) -> str:
    suffix = suffix_of(path.name)
    kind = SUFFIXES.get(suffix, "")
    if kind not in _ENCODERS or suffix in (".mhd", ".nhdr"):
        raise FileError(
            path,
            f"cannot write {suffix or 'a file without a known suffix'}",
            "Use .nii.gz .nii .nrrd .mha .tif or .png",
        )
    return kind


def _write(path: Path, kind: str, pixels: NDArray[Any], block: Block) -> None:
    geometry = block.geometry
    if kind == "png" and geometry.ndim == 3:
        raise FileError(
            path, f"a PNG cannot hold a volume {pixels.shape}", "Write .nii.gz"
        )
    channels = pixels.ndim > geometry.ndim
    if channels and len(pixels) == 1:
        pixels, channels = pixels[0], False
    whole = pixels if channels else pixels[None]

    def verify(part: Path) -> None:
        _check_written(path, part, whole, block)

    with replace_file(path, verify) as part, part.open("wb") as stream:
        _ENCODERS[kind](stream, path, pixels, geometry, block)


def _check_written(path: Path, part: Path, pixels: NDArray[Any], block: Block) -> None:
    with opened(part, _UNLIMITED, name=path.name) as file:
        same = _same(file.parts(), pixels)
        if not same or not file.geometry.matches(block.geometry, 1e-3):
            what = "geometry" if same else "pixels"
            raise FileError(path, f"read back with other {what} than written; not kept")
        if file.block is None or file.block.labels != block.labels:
            raise FileError(path, "read back with other labels than written; not kept")


def _same(parts: Iterable[tuple[Index, NDArray[Any]]], pixels: NDArray[Any]) -> bool:
    """Return whether the parts are those of ``pixels``, and all of them."""
    seen = 0
    for where, part in parts:
        if part.dtype != pixels.dtype or not _equal(part, pixels[where]):
            return False
        seen += part.size
    return seen == pixels.size


def _equal(back: NDArray[Any], pixels: NDArray[Any]) -> bool:
    """Compare ``(C, [Z,] Y, X)`` slab by slab, without a map of all pixels."""
    if back.shape != pixels.shape:
        return False
    rows = max(1, _SLAB // max(1, back[0, :1].size))
    return all(
        np.array_equal(a[i : i + rows], b[i : i + rows], back.dtype.kind == "f")
        for a, b in zip(back, pixels, strict=True)
        for i in range(0, len(a), rows)
    )


def _write_split(
    seg: Segmentation, path: Path, kind: str, provenance: Mapping[str, Any]
) -> tuple[Path, ...]:
    if seg.labels.kind == "instances":
        raise FileError(path, "split labels cannot hold instances", "Write one file")
    suffix = suffix_of(path.name)
    folder = path.with_name(path.name[: -len(suffix)])
    # Other programs show a PNG as it is stored.
    on = np.uint8(255 if kind == "png" else 1)
    written = []
    for label in seg.labels:
        _check_name(path, label.name)
        pixels = np.where(seg.structure(label.name), on, np.uint8(0))
        target = folder / f"{label.name}{suffix}"
        alone = (
            LabelSet((label,), seg.labels.kind)  # read back with its neighbours
            if kind == "png"
            else LabelSet((replace(label, value=1),))
        )
        _write(target, kind, pixels, Block(seg.geometry, alone, provenance))
        written.append(target)
    return tuple(written)


def _check_name(path: Path, name: str) -> None:
    bad = set(name) & set('/\\:*?"<>|') or not name.isprintable()
    if bad or not name.strip(". ") or len(name.encode()) > 200:
        raise FileError(
            path, f"label name {name!r} cannot be a file name", "Rename the label"
        )

"""What a file is, by its name and by its first bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from medseg.errors import FileError
from medseg.io.limits import AGAIN

if TYPE_CHECKING:
    from pathlib import Path

Format = Literal["dicom", "nifti", "nrrd", "metaimage", "tiff", "png", "jpeg"]

SUFFIXES: dict[str, Format] = {
    ".nii.gz": "nifti",
    ".nii": "nifti",
    ".nrrd": "nrrd",
    ".nhdr": "nrrd",
    ".mha": "metaimage",
    ".mhd": "metaimage",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".dcm": "dicom",
    ".dicom": "dicom",
    ".ima": "dicom",
}
IMAGE_SUFFIXES: tuple[str, ...] = tuple(SUFFIXES)
HEAD = 560

_RENAME: dict[str, str] = {
    "nifti": ".nii",
    "nrrd": ".nrrd",
    "metaimage": ".mha",
    "tiff": ".tif",
    "png": ".png",
    "jpeg": ".jpg",
    "dicom": ".dcm",
    "gzip": ".nii.gz",
}
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"NRRD", "nrrd"),
    (b"\x1f\x8b", "gzip"),
    (b"%!PS", "PostScript"),
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "zip archive"),
    (b"BZh", "bzip2"),
    (b"BM", "BMP"),
    (b"GIF8", "GIF"),
    (b"\x89HDF", "HDF5"),
    (b"\x93NUMPY", "numpy array"),
    (b"\x00\x00\x00\x0cjP", "JPEG 2000"),
    (b"<", "markup text"),
)
_META_FIELD = re.compile(rb"\s*(ObjectType|NDims|Comment|DimSize|BinaryData)\s*=", re.I)


def suffix_of(name: str) -> str:
    """Return the known image suffix that ``name`` ends with, or ``""``."""
    lower = name.lower()
    return next((s for s in IMAGE_SUFFIXES if lower.endswith(s)), "")


def is_image_name(name: str) -> bool:
    """Return whether a file of this name is taken as an image by a folder scan."""
    return bool(suffix_of(name)) and not name.startswith(".")


def content_of(head: bytes) -> str:
    """Return what the first :data:`HEAD` bytes are; ``""`` if they are unknown."""
    if head[128:132] == b"DICM":
        return "dicom"
    if _is_nifti(head):
        return "nifti"
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if _META_FIELD.match(head):
        return "metaimage"
    if _is_bare_dicom(head):
        return "dicom"
    return "text" if head and _is_text(head) else ""


def _is_nifti(head: bytes) -> bool:
    magic = head[344:348]
    if magic in (b"n+1\0", b"ni1\0"):
        return True
    return head[4:8] in (b"n+2\0", b"ni2\0")


def _is_bare_dicom(head: bytes) -> bool:
    # Without preamble a file starts with group 2 or 8 in explicit VR.
    return head[:2] in (b"\x02\0", b"\x08\0") and head[4:6] in (b"UL", b"UI", b"CS")


def _is_text(head: bytes) -> bool:
    return all(b in b"\t\r\n\f" or 32 <= b < 127 for b in head)


def decide(path: Path, head: bytes, size: int, name: str | None = None) -> Format:
    """Return the format of a file whose name and content agree.

    Args:
        path: For messages.
        head: Its first :data:`HEAD` bytes.
        size: Its size in bytes.
        name: Whose suffix counts, by default that of ``path``.

    Raises:
        FileError: If it is empty, unknown, or of another kind than its name says.
    """
    suffix = suffix_of(name or path.name)
    if size == 0:
        raise FileError(path, "empty (0 bytes)", AGAIN)
    content = content_of(head)
    expected: str = SUFFIXES.get(suffix, "")
    if suffix == ".nii.gz":
        expected = "gzip"
    if not suffix:
        if content == "dicom":  # DICOM files commonly have no suffix
            return "dicom"
        raise FileError(
            path,
            f"no image suffix, and the content is {content or 'not recognised'}",
            f"Name it by its kind: {' '.join(IMAGE_SUFFIXES)}",
        )
    if content == expected:
        return SUFFIXES[suffix]
    if content:
        rename = _RENAME.get(content)
        raise FileError(
            path,
            f"wrong kind: the content is {content}, the name says {suffix}",
            f"Rename it to end in {rename}" if rename else "Convert it first",
        )
    if suffix == ".nii" and size < 352:
        raise FileError(
            path, f"truncated: a NIfTI header has 352 bytes, {size} present", AGAIN
        )
    raise FileError(
        path,
        f"not recognised: the first bytes are not those of a {suffix} file "
        f"({size} bytes)",
        "Check what wrote it",
    )

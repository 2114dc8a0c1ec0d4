"""Malformed files, each with its verdict and the word its message must contain.

A case makes one file (or folder) in the folder it is given. ``reject`` means one
FileError with the word in it; ``warn`` means read right with exactly one ImageWarning
that has the word; ``accept`` means read right in silence.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Verdict = Literal["reject", "warn", "accept"]

GREY = np.arange(30, dtype=np.uint8).reshape(5, 6) * 7
DEEP = np.arange(30, dtype=np.uint16).reshape(5, 6) * 2001
VOLUME = np.arange(60, dtype=np.int16).reshape(3, 4, 5) * 11 - 100


@dataclass(frozen=True)
class Malformed:
    """One case: ``make(folder)`` writes it and returns its path."""

    kind: str
    name: str
    verdict: Verdict
    word: str
    make: Callable[[Path], Path]
    pixels: np.ndarray | None = None

    @property
    def id(self) -> str:
        return f"{self.kind}-{self.name}"


def _file(
    kind: str,
    name: str,
    verdict: Verdict,
    word: str,
    data: bytes | Callable[[], bytes],
    suffix: str,
    pixels: np.ndarray | None = None,
) -> Malformed:
    def make(folder: Path) -> Path:
        path = folder / f"case{suffix}"
        path.write_bytes(data() if callable(data) else data)
        return path

    return Malformed(kind, name, verdict, word, make, pixels)


def zeros_deflated(count: int) -> bytes:
    """Return a zlib stream of ``count`` MiB of zeros: one flushed block, repeated."""
    packer = zlib.compressobj(9)
    packer.compress(b"\0" * 2**20)
    head = packer.flush(zlib.Z_FULL_FLUSH)
    del head
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(b"\0" * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    # The checksum is not right: a reader that gets so far has failed already.
    return b"\x78\x9c" + block * count + end + b"\0\0\0\1"


# --- PNG ---------------------------------------------------------------------------


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return (
        struct.pack(">I", len(body))
        + kind
        + body
        + struct.pack(">I", zlib.crc32(kind + body))
    )


def png(
    pixels: np.ndarray = GREY,
    depth: int = 8,
    colour: int = 0,
    size: tuple[int, int] | None = None,
    extra: bytes = b"",
    data: bytes | None = None,
    end: bool = True,
) -> bytes:
    """Return a PNG of ``(Y, X[, S])`` pixels with any part overridden."""
    rows, columns = size or pixels.shape[:2]
    lines = b"".join(
        b"\0" + np.ascontiguousarray(r.astype(">u2" if depth == 16 else "u1")).tobytes()
        for r in pixels
    )
    header = struct.pack(">IIBBBBB", columns, rows, depth, colour, 0, 0, 0)
    parts = [
        b"\x89PNG\r\n\x1a\n",
        png_chunk(b"IHDR", header),
        extra,
        png_chunk(b"IDAT", zlib.compress(lines) if data is None else data),
        png_chunk(b"IEND", b"") if end else b"",
    ]
    return b"".join(parts)


def _jpeg() -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "JPEG")
    return buffer.getvalue()


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


_PALETTE = png_chunk(b"PLTE", bytes(range(9)))
_RGBA = np.stack([GREY, GREY + 1, GREY + 2, GREY * 0], axis=-1)
_BOMB_TEXT = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 2**23, 9))

_SHORT = zlib.compress(b"".join(b"\0" + r.tobytes() for r in GREY[:3] % 3))
PNG = (
    _file(
        "png",
        "short palette",
        "reject",
        "truncated",
        png(GREY % 3, colour=3, extra=_PALETTE, data=_SHORT),
        ".png",
    ),
    _file("png", "empty", "reject", "empty", b"", ".png"),
    _file("png", "signature only", "reject", "truncated", png()[:8], ".png"),
    _file(
        "png",
        "cut in half",
        "reject",
        "truncated",
        png()[: len(png()) // 2 + 10],
        ".png",
    ),
    _file("png", "no end chunk", "warn", "IEND", png(end=False), ".png", GREY[None]),
    _file("png", "checksum", "reject", "checksum", _flip(png(), -20), ".png"),
    _file("png", "header checksum", "reject", "checksum", _flip(png(), 17), ".png"),
    _file(
        "png",
        "damaged zlib",
        "reject",
        "damaged",
        png(data=b"\x78\x9c" + b"junk" * 9),
        ".png",
    ),
    _file("png", "short zlib", "reject", "damaged", png(GREY[:3], size=(5, 6)), ".png"),
    _file("png", "maximum size", "reject", "limit", png(size=(2**31 - 1,) * 2), ".png"),
    _file("png", "zero dimension", "reject", "zero", png(size=(0, 6)), ".png"),
    _file("png", "lies about size", "reject", "lies", png(size=(9000, 9000)), ".png"),
    _file(
        "png",
        "huge zeros",
        "reject",
        "limit",
        lambda: png(size=(60_000, 30_000), data=zeros_deflated(9)),
        ".png",
    ),
    _file("png", "text bomb", "reject", "bomb", png(extra=_BOMB_TEXT), ".png"),
    _file(
        "png",
        "palette index",
        "reject",
        "palette",
        png(GREY % 5, colour=3, extra=_PALETTE),
        ".png",
    ),
    _file("png", "bad depth", "reject", "header", png(depth=3), ".png"),
    _file("png", "jpeg inside", "reject", "jpeg", _jpeg, ".png"),
    _file(
        "png",
        "postscript inside",
        "reject",
        "PostScript",
        b"%!PS-Adobe-3.0 EPSF\n",
        ".png",
    ),
    _file("png", "16 bits", "accept", "", png(DEEP, 16), ".png", DEEP[None]),
    _file(
        "png",
        "rgba",
        "warn",
        "alpha",
        png(_RGBA, colour=6),
        ".png",
        np.moveaxis(_RGBA, -1, 0)[:3],
    ),
    _file(
        "png",
        "16-bit rgb",
        "accept",
        "",
        png(np.stack([DEEP, DEEP, DEEP + 1], -1), 16, 2),
        ".png",
        np.stack([DEEP, DEEP, DEEP + 1]),
    ),
    _file(
        "png",
        "grey as rgb",
        "accept",
        "",
        png(np.stack([GREY] * 3, -1), colour=2),
        ".png",
        GREY[None],
    ),
)

# --- TIFF --------------------------------------------------------------------------

Tags = dict[int, tuple[int, Any]]


def tiff(
    pixels: np.ndarray = GREY,
    tags: Tags | None = None,
    data: bytes | None = None,
    pages: int = 1,
    link: Callable[[list[int]], int] | None = None,
    description: str = "",
) -> bytes:
    """Return an uncompressed little-endian TIFF with any tag overridden.

    ``link`` gives the last directory's next offset from all directory offsets.
    """
    body = pixels.tobytes() if data is None else data
    out = bytearray(b"II*\0" + struct.pack("<I", 8))
    starts: list[int] = []
    text = description.encode() + b"\0"
    for page in range(pages):
        fields: Tags = {
            256: (4, pixels.shape[1]),
            257: (4, pixels.shape[0]),
            258: (3, pixels.dtype.itemsize * 8),
            259: (3, 1),
            262: (3, 1),
            273: (4, 0),
            277: (3, 1),
            278: (4, pixels.shape[0]),
            279: (4, len(body)),
        }
        fields.update(tags or {})
        if description and page == 0:
            fields[270] = (2, 0)
        size = 2 + 12 * len(fields) + 4
        starts.append(len(out))
        place = len(out) + size
        at_text = place + len(body)
        if 273 not in (tags or {}):
            fields[273] = (4, place)
        out += struct.pack("<H", len(fields))
        for code, (kind, value) in sorted(fields.items()):
            if code == 270:
                out += struct.pack("<HHII", code, 2, len(text), at_text)
            elif kind == 3:
                out += struct.pack("<HHIHH", code, 3, 1, value, 0)
            else:
                out += struct.pack("<HHII", code, kind, 1, value)
        tail = body + (text if description and page == 0 else b"")
        after = len(out) + 4 + len(tail)
        last = page == pages - 1
        out += struct.pack("<I", (link(starts) if link else 0) if last else after)
        out += tail
    return bytes(out)


def _two_sizes() -> bytes:
    import tifffile

    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(GREY, metadata=None)
        writer.write(GREY[:3], metadata=None)
    return buffer.getvalue()


_DEFLATE: Tags = {259: (3, 8)}
_ENTITY = '<!DOCTYPE x [<!ENTITY a "aaaa">]><OME>&a;</OME>'
_OUTSIDE = (
    '<OME><Image><Pixels SizeX="6" SizeY="5" SizeZ="1" SizeC="1" SizeT="1">'
    '<TiffData><UUID FileName="../other.tif">x</UUID></TiffData></Pixels></Image></OME>'
)
_IMAGEJ = "ImageJ=1.54f\nimages=40\nslices=40\n"
_SHAPED = json.dumps({"shape": [40, 5, 6]})
TIFF = (
    _file("tiff", "empty", "reject", "empty", b"", ".tif"),
    _file("tiff", "header only", "reject", "past the end", tiff()[:8], ".tif"),
    _file("tiff", "cut header", "reject", "truncated", tiff()[:6], ".tif"),
    _file(
        "tiff", "no directory", "reject", "no TIFF directory", b"II*\0\0\0\0\0", ".tif"
    ),
    _file(
        "tiff",
        "directory past the end",
        "reject",
        "past the end",
        b"II*\0" + struct.pack("<I", 2**30) + tiff()[8:],
        ".tif",
    ),
    _file(
        "tiff",
        "directory of itself",
        "reject",
        "loop",
        tiff(link=lambda s: s[-1]),
        ".tif",
    ),
    _file(
        "tiff",
        "loop of two",
        "reject",
        "loop",
        tiff(pages=2, link=lambda s: s[0]),
        ".tif",
    ),
    _file("tiff", "cut data", "reject", "truncated", tiff()[:-9], ".tif"),
    _file(
        "tiff",
        "strip past the end",
        "reject",
        "truncated",
        tiff(tags={273: (4, 2**20)}),
        ".tif",
    ),
    _file(
        "tiff", "byte count 0", "reject", "0 bytes", tiff(tags={279: (4, 0)}), ".tif"
    ),
    _file(
        "tiff",
        "maximum size",
        "reject",
        "limit",
        tiff(tags={256: (4, 2**32 - 1), 257: (4, 2**32 - 1)}),
        ".tif",
    ),
    _file(
        "tiff",
        "larger than the file",
        "reject",
        "truncated",
        tiff(tags={256: (4, 6000), 257: (4, 5000)}),
        ".tif",
    ),
    _file(
        "tiff",
        "deflate bomb",
        "reject",
        "limit|lies",
        lambda: tiff(
            tags=_DEFLATE | {256: (4, 60_000), 257: (4, 40_000), 278: (4, 40_000)},
            data=zeros_deflated(9),
        ),
        ".tif",
    ),
    _file(
        "tiff",
        "deflate lies",
        "reject",
        "lies",
        lambda: tiff(
            tags=_DEFLATE | {256: (4, 9000), 257: (4, 9000), 278: (4, 9000)},
            data=zlib.compress(bytes(30)),
        ),
        ".tif",
    ),
    _file(
        "tiff",
        "damaged deflate",
        "reject",
        "damaged",
        tiff(tags=_DEFLATE, data=b"\x78\x9c" + b"junk" * 9),
        ".tif",
    ),
    _file(
        "tiff",
        "short deflate",
        "reject",
        "damaged",
        tiff(tags=_DEFLATE, data=zlib.compress(bytes(7))),
        ".tif",
    ),
    _file(
        "tiff",
        "65535 samples",
        "reject",
        "samples",
        tiff(tags={277: (3, 65535)}),
        ".tif",
    ),
    _file("tiff", "0 bits", "reject", "bits", tiff(tags={258: (3, 0)}), ".tif"),
    _file(
        "tiff",
        "unknown compression",
        "reject",
        "damaged|compression",
        tiff(tags={259: (3, 4711)}),
        ".tif",
    ),
    _file(
        "tiff",
        "entities in OME",
        "reject",
        "entities",
        tiff(description=_ENTITY),
        ".tif",
    ),
    _file(
        "tiff",
        "OME outside",
        "reject",
        "outside its folder; not opened",
        tiff(description=_OUTSIDE),
        ".tif",
    ),
    _file(
        "tiff",
        "ImageJ promises",
        "reject",
        "promise 40 pages",
        tiff(description=_IMAGEJ),
        ".tif",
    ),
    _file(
        "tiff", "shape promises", "reject", "promise", tiff(description=_SHAPED), ".tif"
    ),
    _file("tiff", "pages of two sizes", "reject", "different size", _two_sizes, ".tif"),
    _file(
        "tiff",
        "complex",
        "reject",
        "complex|bits",
        tiff(np.zeros((5, 6), np.complex64), tags={339: (3, 6)}),
        ".tif",
    ),
    _file("tiff", "CMYK", "reject", "colour", tiff(tags={262: (3, 5)}), ".tif"),
    _file(
        "tiff",
        "white is zero",
        "accept",
        "",
        tiff(tags={262: (3, 0)}),
        ".tif",
        255 - GREY[None],
    ),
    _file(
        "tiff",
        "two pages",
        "accept",
        "",
        tiff(pages=2),
        ".tif",
        np.stack([GREY, GREY])[None],
    ),
    _file("tiff", "plain", "accept", "", tiff(DEEP), ".tif", DEEP[None]),
)

# --- NIfTI -------------------------------------------------------------------------


def nifti(
    pixels: np.ndarray = VOLUME,
    fields: dict[str, Any] | None = None,
    patch: dict[int, bytes] | None = None,
    order: str = "<",
) -> bytes:
    """Return a NIfTI-1 file of ``(Z, Y, X)`` pixels with any header field overridden."""
    import nibabel as nib

    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(pixels.dtype)
    header.set_data_shape(pixels.shape[::-1])
    header.set_zooms((1.0, 1.5, 2.0, 1.0, 1.0)[: pixels.ndim])
    affine = np.diag([1.0, 1.5, 2.0, 1.0])
    header.set_sform(affine, 1)
    header.set_qform(affine, 1)
    header.set_xyzt_units("mm")
    header["vox_offset"], header["scl_slope"], header["scl_inter"] = 352, 1, 0
    header["magic"] = b"n+1"
    for name, value in (fields or {}).items():
        header[name] = value
    raw = bytearray(header.binaryblock + b"\0\0\0\0")
    for at, value in (patch or {}).items():
        raw[at : at + len(value)] = value
    body = pixels.astype(pixels.dtype.newbyteorder(order))
    return bytes(raw) + body.tobytes()


def _dims(*sizes: int) -> dict[str, Any]:
    return {"dim": [len(sizes), *sizes, *[1] * (7 - len(sizes))]}


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def _bomb_gz() -> bytes:
    member = gzip.compress(bytes(2**24), 9, mtime=0)
    return gzip.compress(nifti(), mtime=0) + member * 2


_NAN = struct.pack("<f", np.nan)
_FLOATS = VOLUME.astype(np.float32)
_WITH_NAN = _FLOATS.copy()
_WITH_NAN[0, 0, :3] = np.nan
_SHEARED = {"srow_x": [1, 0.4, 0, 0], "qform_code": 0}
_PIXDIM = {
    "zero voxel size": [1, 0, 1.5, 2, 0, 0, 0, 0],
    "negative voxel size": [1, 1, -1.5, 2, 0, 0, 0, 0],
}
NIFTI = (
    _file("nifti", "empty", "reject", "empty", b"", ".nii"),
    _file("nifti", "plain named gz", "reject", "wrong kind", nifti(), ".nii.gz"),
    _file("nifti", "gz named plain", "reject", "wrong kind", _gzip(nifti()), ".nii"),
    _file("nifti", "cut gzip", "reject", "truncated", _gzip(nifti())[:-12], ".nii.gz"),
    _file(
        "nifti",
        "wrong checksum",
        "reject",
        "CRC|damaged",
        _flip(_gzip(nifti()), -6),
        ".nii.gz",
    ),
    _file("nifti", "cut header", "reject", "truncated", nifti()[:200], ".nii"),
    _file(
        "nifti", "cut header gz", "reject", "truncated", _gzip(nifti()[:200]), ".nii.gz"
    ),
    _file("nifti", "cut data", "reject", "truncated", nifti()[:-7], ".nii"),
    _file(
        "nifti", "cut data gz", "reject", "truncated", _gzip(nifti()[:-7]), ".nii.gz"
    ),
    _file(
        "nifti",
        "no dimensions",
        "reject",
        "dimensions",
        nifti(fields={"dim": [0] * 8}),
        ".nii",
    ),
    _file(
        "nifti",
        "negative dimension",
        "reject",
        "negative",
        nifti(fields=_dims(5, -4, 3)),
        ".nii",
    ),
    _file(
        "nifti",
        "huge dimension",
        "reject",
        "limit|truncated",
        nifti(fields=_dims(32767, 32767, 32767)),
        ".nii",
    ),
    _file(
        "nifti",
        "unknown datatype",
        "reject",
        "datatype",
        nifti(fields={"datatype": 77}),
        ".nii",
    ),
    _file(
        "nifti",
        "bitpix",
        "warn",
        "bitpix",
        nifti(fields={"bitpix": 8}),
        ".nii",
        VOLUME[None],
    ),
    _file(
        "nifti",
        "singular affine",
        "reject",
        "singular",
        nifti(fields={"srow_x": [0] * 4}),
        ".nii",
    ),
    _file(
        "nifti",
        "NaN affine",
        "reject",
        "NaN",
        nifti(fields={"srow_y": [np.nan] * 4}),
        ".nii",
    ),
    _file(
        "nifti",
        "NaN quaternion",
        "reject",
        "quaternion",
        nifti(fields={"quatern_b": np.nan}),
        ".nii",
    ),
    _file(
        "nifti",
        "forms disagree",
        "warn",
        "sform and qform",
        nifti(fields={"qoffset_x": 40}),
        ".nii",
        VOLUME[None],
    ),
    _file(
        "nifti",
        "no form",
        "warn",
        "neither sform nor qform",
        nifti(fields={"qform_code": 0, "sform_code": 0}),
        ".nii",
        VOLUME[None],
    ),
    *(
        _file("nifti", n, "reject", "voxel size", nifti(fields={"pixdim": v}), ".nii")
        for n, v in _PIXDIM.items()
    ),
    _file(
        "nifti",
        "sheared",
        "warn",
        "sheared",
        nifti(fields=_SHEARED | {"srow_y": [0.4, 1.5, 0, 0]}),
        ".nii",
        VOLUME[None],
    ),
    _file(
        "nifti",
        "offset past the end",
        "reject",
        "truncated",
        nifti(fields={"vox_offset": 5000}),
        ".nii",
    ),
    _file("nifti", "offset NaN", "reject", "offset", nifti(patch={108: _NAN}), ".nii"),
    _file(
        "nifti",
        "offset inside header",
        "reject",
        "offset",
        nifti(fields={"vox_offset": 100}),
        ".nii",
    ),
    _file(
        "nifti",
        "slope NaN",
        "warn",
        "slope",
        nifti(patch={112: _NAN}),
        ".nii",
        VOLUME[None],
    ),
    _file(
        "nifti",
        "slope infinite",
        "reject",
        "infinite",
        nifti(fields={"scl_slope": np.inf}),
        ".nii",
    ),
    _file(
        "nifti",
        "wrong header size",
        "reject",
        "header size",
        nifti(patch={0: struct.pack("<i", 300)}),
        ".nii",
    ),
    _file(
        "nifti",
        "pair",
        "reject",
        "another file",
        nifti(fields={"magic": b"ni1"}),
        ".nii",
    ),
    _file(
        "nifti",
        "RGB",
        "reject",
        "RGB",
        nifti(fields={"datatype": 128, "bitpix": 24}),
        ".nii",
    ),
    _file(
        "nifti",
        "complex",
        "reject",
        "complex",
        nifti(VOLUME.astype(np.complex64)),
        ".nii",
    ),
    _file(
        "nifti",
        "5-D",
        "reject",
        "dimensions",
        nifti(np.zeros((2, 2, 3, 4, 5), np.uint8)),
        ".nii",
    ),
    _file(
        "nifti",
        "NaN voxels",
        "warn",
        "3 of 60 pixels are NaN",
        nifti(_WITH_NAN),
        ".nii",
        _WITH_NAN[None],
    ),
    _file("nifti", "bomb", "reject", "lies", _bomb_gz, ".nii.gz"),
    _file(
        "nifti",
        "huge volume",
        "reject",
        "limit|lies",
        _gzip(nifti(fields=_dims(30000, 30000, 30))),
        ".nii.gz",
    ),
    _file(
        "nifti",
        "lies about size",
        "reject",
        "lies",
        _gzip(nifti(fields=_dims(300, 300, 300))),
        ".nii.gz",
    ),
    _file(
        "nifti",
        "metres",
        "warn",
        "converted",
        nifti(fields={"xyzt_units": 1}),
        ".nii",
        VOLUME[None],
    ),
    _file("nifti", "big-endian", "accept", "", nifti(order=">"), ".nii", VOLUME[None]),
    _file(
        "nifti",
        "constant",
        "accept",
        "",
        nifti(VOLUME * 0 + 3),
        ".nii",
        VOLUME[None] * 0 + 3,
    ),
    _file(
        "nifti",
        "integer scaling",
        "accept",
        "",
        nifti(fields={"scl_slope": 2, "scl_inter": -3}),
        ".nii",
        VOLUME[None].astype(np.int32) * 2 - 3,
    ),
    _file(
        "nifti", "two-dimensional", "accept", "", nifti(VOLUME[0]), ".nii", VOLUME[:1]
    ),
)

# --- NRRD --------------------------------------------------------------------------


def nrrd(
    pixels: np.ndarray = VOLUME,
    fields: dict[str, str | None] | None = None,
    data: bytes | None = None,
    end: bytes = b"\n",
    magic: str = "NRRD0005",
) -> bytes:
    """Return a NRRD of ``(Z, Y, X)`` pixels; a field of None is left out."""
    lines: dict[str, str | None] = {
        "type": {"int16": "short", "uint8": "uchar"}[str(pixels.dtype)],
        "dimension": str(pixels.ndim),
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, pixels.shape[::-1])),
        "space directions": "(1,0,0) (0,1.5,0) (0,0,2)",
        "endian": "little",
        "encoding": "raw",
        "space origin": "(0,0,0)",
    }
    lines.update(fields or {})
    text = "".join(f"{k}: {v}\n" for k, v in lines.items() if v is not None)
    body = pixels.tobytes() if data is None else data
    return f"{magic}\n{text}".encode() + end + body


_RAW = VOLUME.tobytes()
NRRD = (
    _file("nrrd", "empty", "reject", "empty", b"", ".nrrd"),
    _file("nrrd", "bad magic", "reject", "recognised", nrrd(magic="NURD0005"), ".nrrd"),
    _file(
        "nrrd", "unknown version", "reject", "magic", nrrd(magic="NRRD0099"), ".nrrd"
    ),
    _file(
        "nrrd",
        "no end of header",
        "reject",
        "without end",
        nrrd(end=b"", data=b""),
        ".nrrd",
    ),
    _file("nrrd", "short data", "reject", "truncated", nrrd()[:-9], ".nrrd"),
    _file(
        "nrrd",
        "huge sizes",
        "reject",
        "limit",
        nrrd(fields={"sizes": "99999999 99999999 9"}),
        ".nrrd",
    ),
    _file(
        "nrrd",
        "huge integer",
        "reject",
        "integers",
        nrrd(fields={"sizes": "9" * 5000 + " 4 3"}),
        ".nrrd",
    ),
    _file(
        "nrrd",
        "negative sizes",
        "reject",
        "negative",
        nrrd(fields={"sizes": "5 -4 3"}),
        ".nrrd",
    ),
    _file(
        "nrrd",
        "missing sizes",
        "reject",
        "sizes",
        nrrd(fields={"sizes": None}),
        ".nrrd",
    ),
    _file(
        "nrrd",
        "too few sizes",
        "reject",
        "sizes",
        nrrd(fields={"sizes": "5 4"}),
        ".nrrd",
    ),
    _file(
        "nrrd",
        "unknown type",
        "reject",
        "type",
        nrrd(fields={"type": "quaternion"}),
        ".nrrd",
    ),
    _file(
        "nrrd", "no endian", "reject", "endian", nrrd(fields={"endian": None}), ".nrrd"
    ),
    _file(
        "nrrd",
        "cut gzip",
        "reject",
        "truncated",
        nrrd(fields={"encoding": "gzip"}, data=_gzip(_RAW)[:-20]),
        ".nrrd",
    ),
    _file(
        "nrrd",
        "junk bzip2",
        "reject",
        "damaged",
        nrrd(fields={"encoding": "bzip2"}, data=b"junk" * 9),
        ".nrrd",
    ),
    _file(
        "nrrd",
        "gzip bomb",
        "reject",
        "lies",
        lambda: nrrd(fields={"encoding": "gzip"}, data=gzip.compress(bytes(2**22))),
        ".nrrd",
    ),
    _file(
        "nrrd",
        "text encoding",
        "reject",
        "encoding",
        nrrd(fields={"encoding": "ascii"}),
        ".nrrd",
    ),
    _file(
        "nrrd",
        "byte skip",
        "reject",
        "skip",
        nrrd(fields={"byte skip": "99999"}),
        ".nrrd",
    ),
    _file(
        "nrrd",
        "absolute path",
        "reject",
        "outside its folder; not opened",
        nrrd(fields={"data file": "/etc/hostname"}),
        ".nrrd",
    ),
    _file(
        "nrrd",
        "parent path",
        "reject",
        "outside its folder; not opened",
        nrrd(fields={"data file": "../raw.bin"}),
        ".nhdr",
    ),
    _file(
        "nrrd",
        "list of files",
        "reject",
        "many files; not opened",
        nrrd(fields={"data file": "LIST"}),
        ".nhdr",
    ),
    _file(
        "nrrd",
        "NaN directions",
        "reject",
        "NaN",
        nrrd(fields={"space directions": "(nan,0,0) (0,1,0) (0,0,1)"}),
        ".nrrd",
    ),
    _file(
        "nrrd",
        "singular directions",
        "reject",
        "singular",
        nrrd(fields={"space directions": "(1,0,0) (1,0,0) (0,0,1)"}),
        ".nrrd",
    ),
    _file(
        "nrrd",
        "no directions",
        "warn",
        "directions",
        nrrd(fields={"space directions": None, "space": None, "space origin": None}),
        ".nrrd",
        VOLUME[None],
    ),
    _file(
        "nrrd",
        "spacings only",
        "warn",
        "spacings",
        nrrd(
            fields={
                "space directions": None,
                "space": None,
                "space origin": None,
                "spacings": "1 2 3",
            }
        ),
        ".nrrd",
        VOLUME[None],
    ),
    _file(
        "nrrd",
        "RAS",
        "accept",
        "",
        nrrd(fields={"space": "right-anterior-superior"}),
        ".nrrd",
        VOLUME[None],
    ),
    _file(
        "nrrd",
        "gzip",
        "accept",
        "",
        nrrd(fields={"encoding": "gzip"}, data=_gzip(_RAW)),
        ".nrrd",
        VOLUME[None],
    ),
    _file(
        "nrrd",
        "bzip2",
        "accept",
        "",
        nrrd(fields={"encoding": "bzip2"}, data=bz2.compress(_RAW)),
        ".nrrd",
        VOLUME[None],
    ),
)

# --- MetaImage ---------------------------------------------------------------------


def mha(
    pixels: np.ndarray = VOLUME,
    fields: dict[str, str | None] | None = None,
    data: bytes | None = None,
) -> bytes:
    """Return a MetaImage of ``(Z, Y, X)`` int16; a field of None is left out."""
    lines: dict[str, str | None] = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "0 0 0",
        "ElementSpacing": "1 1.5 2",
        "DimSize": "5 4 3",
        "ElementType": "MET_SHORT",
    }
    lines.update(fields or {})
    lines.pop("ElementDataFile", None)  # the header ends with it
    lines["ElementDataFile"] = (fields or {}).get("ElementDataFile", "LOCAL")
    text = "".join(f"{k} = {v}\n" for k, v in lines.items() if v is not None)
    return text.encode() + (pixels.tobytes() if data is None else data)


_PACKED = {"CompressedData": "True"}
METAIMAGE = (
    _file("mha", "empty", "reject", "empty", b"", ".mha"),
    _file(
        "mha",
        "no data file",
        "reject",
        "ElementDataFile",
        mha(fields={"ElementDataFile": None}),
        ".mha",
    ),
    _file("mha", "short data", "reject", "truncated", mha()[:-9], ".mha"),
    _file(
        "mha",
        "huge size",
        "reject",
        "limit",
        mha(fields={"DimSize": "99999 99999 99999"}),
        ".mha",
    ),
    _file(
        "mha",
        "0 dimensions",
        "reject",
        "dimensions",
        mha(fields={"NDims": "0"}),
        ".mha",
    ),
    _file(
        "mha",
        "100 dimensions",
        "reject",
        "dimensions",
        mha(fields={"NDims": "100"}),
        ".mha",
    ),
    _file(
        "mha",
        "unknown type",
        "reject",
        "type",
        mha(fields={"ElementType": "MET_STRING"}),
        ".mha",
    ),
    _file(
        "mha",
        "singular matrix",
        "reject",
        "singular",
        mha(fields={"TransformMatrix": "1 0 0 1 0 0 0 0 1"}),
        ".mha",
    ),
    _file(
        "mha",
        "zero spacing",
        "reject",
        "spacing",
        mha(fields={"ElementSpacing": "0 1 1"}),
        ".mha",
    ),
    _file(
        "mha",
        "negative spacing",
        "reject",
        "spacing",
        mha(fields={"ElementSpacing": "1 1 -2"}),
        ".mha",
    ),
    _file(
        "mha",
        "zlib junk",
        "reject",
        "damaged",
        mha(fields=_PACKED, data=b"\x78\x9c" + b"\xff" * 20),
        ".mha",
    ),
    _file(
        "mha",
        "zlib bomb",
        "reject",
        "lies",
        lambda: mha(fields=_PACKED, data=zeros_deflated(4)),
        ".mha",
    ),
    _file(
        "mha",
        "cut zlib",
        "reject",
        "truncated",
        mha(fields=_PACKED, data=zlib.compress(_RAW)[:-30]),
        ".mha",
    ),
    _file(
        "mha",
        "outside",
        "reject",
        "outside its folder; not opened",
        mha(fields={"ElementDataFile": "/etc/hostname"}),
        ".mhd",
    ),
    _file(
        "mha",
        "parent",
        "reject",
        "outside its folder; not opened",
        mha(fields={"ElementDataFile": "../raw.bin"}),
        ".mhd",
    ),
    _file(
        "mha",
        "text pixels",
        "reject",
        "text",
        mha(fields={"BinaryData": "False"}),
        ".mha",
    ),
    _file(
        "mha",
        "no spacing",
        "warn",
        "ElementSpacing",
        mha(fields={"ElementSpacing": None}),
        ".mha",
        VOLUME[None],
    ),
    _file(
        "mha",
        "zlib",
        "accept",
        "",
        mha(fields=_PACKED, data=zlib.compress(_RAW)),
        ".mha",
        VOLUME[None],
    ),
    _file("mha", "plain", "accept", "", mha(), ".mha", VOLUME[None]),
)

JPEGS = (
    _file("jpeg", "cut", "reject", "truncated", lambda: _jpeg()[:-60], ".jpg"),
    _file("jpeg", "header only", "reject", "damaged", lambda: _jpeg()[:20], ".jpg"),
    _file("jpeg", "named png", "reject", "wrong kind", png(), ".jpeg"),
)

FILES = (*JPEGS, *PNG, *TIFF, *NIFTI, *NRRD, *METAIMAGE)

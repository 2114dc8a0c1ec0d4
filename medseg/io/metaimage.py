"""MetaImage (.mha, .mhd): header parsed and checked, pixels read by ourselves.

Axes are listed fastest first and the space is LPS; each line of TransformMatrix is
the direction of one axis.
"""

from __future__ import annotations

import math
import re
import zlib
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from medseg.geometry import Geometry
from medseg.io.block import KEYWORD, Block, parse_block
from medseg.io.limits import check_deflate, check_present
from medseg.io.plain import (
    check_directions,
    detached_path,
    packed_pixels,
    real_numbers,
    whole_numbers,
)
from medseg.io.source import Opened, Source, parsing
from medseg.io.units import factor_to_mm

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2",
    "MET_INT": "i4", "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
_NAMES = {
    code: name for name, code in _TYPES.items() if name not in ("MET_LONG", "MET_ULONG")
}
_MATRIX = ("TransformMatrix", "Rotation", "Orientation")
_ORIGIN = ("Offset", "Position", "Origin")


def open_metaimage(source: Source) -> Opened:
    """Check a MetaImage header.

    Raises:
        FileError: If the header is damaged or lies, the data are short, or lie in a
            file outside the folder.
    """
    fields, start = _header(source)
    ndim = _dimensions(source, fields)
    sizes = whole_numbers(source, _need(source, fields, "DimSize"), "DimSize")
    if len(sizes) != ndim:
        raise source.fail(f"{len(sizes)} sizes for {ndim} dimensions")
    channels = _one(source, fields, "ElementNumberOfChannels", 1)
    shape = (channels, *sizes[::-1])
    dtype = _dtype(source, fields)
    nbytes = source.limits.check(source.path, shape, dtype.itemsize)
    packed = _flag(fields, "CompressedData")
    notes: list[str] = []
    geometry = _geometry(source, fields, ndim, notes)
    block = parse_block(source.path, fields[KEYWORD]) if KEYWORD in fields else None
    if block and block.replaces(geometry):
        geometry, notes = block.geometry, []
    _check_data(source, fields, start, nbytes, packed)

    def load(mask: bool) -> tuple[NDArray[Any], tuple[str, ...]]:
        with parsing(source, "MetaImage"), ExitStack() as stack:
            stream = _data_stream(source, fields, start, stack, nbytes)
            encoding = "zlib" if packed else "raw"
            raw = packed_pixels(source, stream, nbytes, encoding)
            array = raw.view(dtype).reshape(*sizes[::-1], channels)
            array = array.astype(dtype.newbyteorder("="), copy=False)
            return np.ascontiguousarray(np.moveaxis(array, -1, 0)), ()

    native = dtype.newbyteorder("=")
    meta = {"bits": dtype.itemsize * 8}
    return Opened("metaimage", shape, native, geometry, load, meta, tuple(notes), block)


def _header(source: Source) -> tuple[dict[str, str], int]:
    raw = source.read(source.limits.max_header)
    end = re.search(rb"^ElementDataFile\s*=[^\n]*(\n|$)", raw, re.M)
    if end is None:
        raise source.fail(
            f"no ElementDataFile in the MetaImage header ({len(raw)} bytes searched)"
        )
    fields: dict[str, str] = {}
    for line in raw[: end.end()].decode("utf-8", "replace").splitlines():
        key, mark, value = line.partition("=")
        if not mark and line.strip():
            raise source.damaged(f"damaged MetaImage header line {line[:40]!r}")
        fields[key.strip()] = value.strip()
    return fields, end.end()


def _need(source: Source, fields: dict[str, str], name: str) -> str:
    if name not in fields:
        raise source.fail(f"no {name} in the MetaImage header")
    return fields[name]


def _one(source: Source, fields: dict[str, str], name: str, default: int) -> int:
    values = whole_numbers(source, fields.get(name, str(default)), name)
    if len(values) != 1:
        raise source.fail(f"{name} is not one number")
    return values[0]


def _flag(fields: dict[str, str], name: str) -> bool:
    return fields.get(name, "").lower() in ("true", "1")


def _dimensions(source: Source, fields: dict[str, str]) -> int:
    _need(source, fields, "NDims")
    ndim = _one(source, fields, "NDims", 0)
    if ndim not in (2, 3):
        raise source.fail(f"has {ndim} dimensions, 2 and 3 are read")
    return ndim


def _dtype(source: Source, fields: dict[str, str]) -> np.dtype[Any]:
    name = _need(source, fields, "ElementType")
    code = _TYPES.get(name.removesuffix("_ARRAY"))
    if code is None:
        raise source.fail(f"unknown MetaImage element type {name[:30]!r}")
    if fields.get("BinaryData", "True").lower() not in ("true", "1"):
        raise source.fail("pixels written as text are not read", "Save it as binary")
    big = _flag(fields, "BinaryDataByteOrderMSB") or _flag(
        fields, "ElementByteOrderMSB"
    )
    return np.dtype((">" if big else "<") + code)


def _geometry(
    source: Source, fields: dict[str, str], ndim: int, notes: list[str]
) -> Geometry:
    spacing = _vector(source, fields, ("ElementSpacing", "ElementSize"), ndim)
    if spacing is None:
        notes.append("no ElementSpacing in the header: read without voxel size")
        return Geometry.pixels(ndim)
    if min(spacing) <= 0:
        raise source.fail(f"zero or negative spacing {spacing}")
    factor = factor_to_mm([fields.get("DistanceUnits", "")], notes)
    if factor is None:
        return Geometry.pixels(ndim)
    origin = _vector(source, fields, _ORIGIN, ndim) or [0.0] * ndim
    values = _vector(source, fields, _MATRIX, ndim * ndim)
    matrix = np.eye(ndim)
    if values is not None:
        matrix = np.array(values).reshape(ndim, ndim).T
        check_directions(source, matrix, "the axes of TransformMatrix")
    matrix = (matrix / np.linalg.norm(matrix, axis=0))[::-1, ::-1] + 0.0
    return Geometry(
        tuple(s * factor for s in spacing[::-1]),
        tuple(o * factor + 0.0 for o in origin[::-1]),
        tuple(tuple(float(v) for v in row) for row in matrix),
        "mm",
    )


def _vector(
    source: Source, fields: dict[str, str], names: tuple[str, ...], count: int
) -> list[float] | None:
    name = next((n for n in names if n in fields), None)
    if name is None:
        return None
    values = real_numbers(source, fields[name], name)
    if len(values) != count or not all(map(math.isfinite, values)):
        raise source.fail(f"{name} is not {count} finite numbers")
    return values


def _check_data(
    source: Source, fields: dict[str, str], start: int, nbytes: int, packed: bool
) -> None:
    with ExitStack() as stack:
        stream = _data_stream(source, fields, start, stack, nbytes)
        begin = stream.tell()
        present = stream.seek(0, 2) - begin
    if packed:
        check_deflate(source.path, nbytes, present)
    else:
        check_present(source.path, nbytes, present)


def _data_stream(
    source: Source, fields: dict[str, str], start: int, stack: ExitStack, nbytes: int
) -> BinaryIO:
    """Return a stream at the first byte of the data."""
    stream: BinaryIO = source.stream
    name = fields["ElementDataFile"]
    if name.upper() != "LOCAL":
        if name.upper().split()[:1] == ["LIST"] or "%" in name:
            raise source.fail("spreads its data over many files; not opened")
        path = detached_path(source, name)
        stream, start = stack.enter_context(path.open("rb")), 0
    skip = _one(source, fields, "HeaderSize", 0)
    if name.upper() != "LOCAL" and skip:
        size = stream.seek(0, 2)
        start = size - nbytes if skip == -1 else skip
        if not 0 <= start <= size:
            raise source.damaged(
                f"a HeaderSize of {skip} leads past the end ({size} bytes)"
            )
    stream.seek(start)
    return stream


def write_metaimage(
    stream: BinaryIO, path: Path, pixels: NDArray[Any], geometry: Geometry, block: Block
) -> None:
    """Write ``(C, [Z,] Y, X)`` or, without channels, ``([Z,] Y, X)``, deflated."""
    n = geometry.ndim
    channels = len(pixels) if pixels.ndim > n else 1
    if pixels.ndim > n:
        pixels = np.moveaxis(pixels, 0, -1)
    body = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    packed = zlib.compress(body.data.cast("B"), 1)
    # Column i of our direction is axis i; its line here, all reversed to x, y, z.
    matrix = np.array(geometry.direction)[::-1, ::-1].T
    sizes = body.shape[:n][::-1]
    lines = {
        "ObjectType": "Image",
        "NDims": str(n),
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "True",
        "CompressedDataSize": str(len(packed)),
        "TransformMatrix": _text(matrix.ravel()),
        "Offset": _text(geometry.origin[::-1]),
        "CenterOfRotation": " ".join(["0"] * n),
        "ElementSpacing": _text(geometry.spacing[::-1]),
        "DimSize": " ".join(map(str, sizes)),
        "ElementNumberOfChannels": str(channels),
        "ElementType": _NAMES[pixels.dtype.newbyteorder("=").str[1:]],
        KEYWORD: block.dump(),
        "ElementDataFile": "LOCAL",
    }
    if channels == 1:
        del lines["ElementNumberOfChannels"]
    stream.write("".join(f"{k} = {v}\n" for k, v in lines.items()).encode("ascii"))
    stream.write(packed)


def _text(values: Any) -> str:
    return " ".join(repr(float(v) + 0.0) for v in values)

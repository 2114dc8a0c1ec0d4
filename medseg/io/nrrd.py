"""NRRD: header parsed and checked, pixels read and written by ourselves.

NRRD lists axes fastest first; ours are slowest first. Its space may be RAS, LAS or
LPS; ours is LPS.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from medseg.geometry import Geometry
from medseg.io.block import KEYWORD, parse_block
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
    from numpy.typing import NDArray

_TYPES: dict[str, str] = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("long long", "longlong", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("unsigned long long", "ulonglong", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
_ENCODINGS = {
    "raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2",
}  # fmt: skip
# Signs that take a space to LPS.
_SPACES: dict[str, tuple[int, int, int]] = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1, 1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1, -1, 1)),
}
_DOMAIN = ("domain", "space", "time", "???", "none", "")


def open_nrrd(source: Source) -> Opened:
    """Check a NRRD header; an axis without a direction becomes channels.

    Raises:
        FileError: If the header is damaged or lies, the data are short, or lie in a
            file outside the folder.
    """
    fields, values, start = _header(source)
    sizes = whole_numbers(source, _need(source, fields, "sizes"), "sizes")
    if len(sizes) != _dimension(source, fields):
        raise source.fail(f"{len(sizes)} sizes for {fields['dimension']} dimensions")
    dtype = _dtype(source, fields)
    nbytes = source.limits.check(source.path, sizes, dtype.itemsize)
    encoding = _encoding(source, fields)
    channel = _channel_axis(source, fields, len(sizes))
    notes: list[str] = []
    geometry = _geometry(source, fields, channel, len(sizes), notes)
    block = parse_block(source.path, values[KEYWORD]) if KEYWORD in values else None
    if block and block.replaces(geometry):
        geometry, notes = block.geometry, []
    _check_data(source, fields, start, nbytes, encoding)
    spatial = [n for i, n in enumerate(sizes) if i != channel]
    shape = (sizes[channel] if channel is not None else 1, *spatial[::-1])

    def load(mask: bool) -> tuple[NDArray[Any], tuple[str, ...]]:
        with parsing(source, "NRRD"), ExitStack() as stack:
            stream = _data_stream(source, fields, start, stack, nbytes, encoding)
            raw = packed_pixels(source, stream, nbytes, encoding)
            array = raw.view(dtype).reshape(sizes[::-1])
            array = array.astype(dtype.newbyteorder("="), copy=False)
            if channel is None:
                return array[None], ()
            moved = np.moveaxis(array, len(sizes) - 1 - channel, 0)
            return np.ascontiguousarray(moved), ()

    native = dtype.newbyteorder("=")
    meta: dict[str, Any] = {"bits": dtype.itemsize * 8}
    if channel is not None and _kinds(fields)[channel : channel + 1] == ["rgb-color"]:
        meta["photometric"] = "RGB"
    return Opened("nrrd", shape, native, geometry, load, meta, tuple(notes), block)


def _header(source: Source) -> tuple[dict[str, str], dict[str, str], int]:
    """Return fields, key-value pairs, and where attached data start."""
    raw = source.read(source.limits.max_header)
    if not re.match(rb"NRRD000[1-5]\r?\n", raw):
        raise source.fail("bad magic: not a NRRD file of version 1 to 5")
    end = re.search(rb"\r?\n\r?\n", raw)
    detached = re.search(rb"\n(data ?file):", raw[: end.start() if end else None], re.I)
    if end is None and not detached:
        raise source.damaged(
            f"truncated: a NRRD header without end in {len(raw)} bytes",
        )
    text = raw[: end.start() if end else None].decode("utf-8", "replace")
    fields: dict[str, str] = {}
    values: dict[str, str] = {}
    for line in text.splitlines()[1:]:
        if line.startswith("#") or not line.strip():
            continue
        key, mark, value = line.partition(":=")
        if mark and ": " not in key:
            values[key.strip()] = value
            continue
        key, mark, value = line.partition(":")
        if not mark:
            raise source.damaged(f"damaged NRRD header line {line[:40]!r}")
        if key.strip().lower() in fields:
            raise source.fail(f"the NRRD header gives {key[:40]!r} twice")
        fields[key.strip().lower()] = value.strip()
    return fields, values, end.end() if end else len(raw)


def _need(source: Source, fields: dict[str, str], name: str) -> str:
    if name not in fields:
        raise source.fail(f"no {name!r} in the NRRD header")
    return fields[name]


def _dimension(source: Source, fields: dict[str, str]) -> int:
    numbers = whole_numbers(source, _need(source, fields, "dimension"), "dimension")
    if len(numbers) != 1 or not 2 <= numbers[0] <= 4:
        raise source.fail(f"has {fields['dimension'][:20]} dimensions, 2 to 4 are read")
    return numbers[0]


def _dtype(source: Source, fields: dict[str, str]) -> np.dtype[Any]:
    name = _need(source, fields, "type").lower()
    if name not in _TYPES:
        raise source.fail(f"unknown or unread NRRD type {name[:30]!r}")
    code = _TYPES[name]
    if code[1] == "1":
        return np.dtype(code)
    endian = fields.get("endian", "").lower()
    if endian not in ("little", "big"):
        raise source.fail(f"no endian given for {name} pixels")
    return np.dtype(("<" if endian == "little" else ">") + code)


def _encoding(source: Source, fields: dict[str, str]) -> str:
    name = _need(source, fields, "encoding").lower()
    if name not in _ENCODINGS:
        raise source.fail(f"NRRD encoding {name[:20]!r} is not read", "Use raw or gzip")
    return _ENCODINGS[name]


def _directions(source: Source, fields: dict[str, str]) -> list[list[float] | None]:
    vectors: list[list[float] | None] = []
    for word in re.findall(r"\([^)]*\)|none", fields["space directions"]):
        if word == "none":
            vectors.append(None)
        else:
            vectors.append(real_numbers(source, word[1:-1], "space directions"))
    return vectors


def _kinds(fields: dict[str, str]) -> list[str]:
    return fields.get("kinds", "").lower().split()


def _channel_axis(source: Source, fields: dict[str, str], count: int) -> int | None:
    """Return the axis, fastest first, that is not space; None without one."""
    found: set[int] = set()
    if "space directions" in fields:
        vectors = _directions(source, fields)
        if len(vectors) != count:
            raise source.fail(f"{len(vectors)} space directions for {count} dimensions")
        found |= {i for i, v in enumerate(vectors) if v is None}
    if not found:
        kinds = _kinds(fields)[:count]
        found |= {i for i, k in enumerate(kinds) if k not in _DOMAIN}
    if not found and count == 4:
        found = {3}
    if len(found) > 1:
        raise source.fail(f"has {len(found)} axes that are not space, 1 is read")
    if count - len(found) < 2:
        raise source.fail(f"has {count - len(found)} axes of space, 2 or 3 are read")
    return found.pop() if found else None


def _geometry(
    source: Source,
    fields: dict[str, str],
    channel: int | None,
    count: int,
    notes: list[str],
) -> Geometry:
    ndim = count - (channel is not None)
    if "space directions" not in fields:
        return _spacings(source, fields, channel, count, notes)
    vectors = [v for v in _directions(source, fields) if v is not None]
    if any(len(v) != ndim for v in vectors):
        raise source.fail(f"space directions of other than {ndim} components")
    matrix = np.array(vectors).T  # column = axis, rows = world x, y, z
    check_directions(source, matrix, "space directions")
    origin = np.zeros(ndim)
    if "space origin" in fields:
        values = real_numbers(
            source, fields["space origin"].strip("()"), "space origin"
        )
        if len(values) != ndim or not np.isfinite(values).all():
            raise source.fail(f"the space origin is not {ndim} finite numbers")
        origin = np.array(values)
    factor = factor_to_mm(_quoted(fields.get("space units", "")), notes)
    if factor is None:
        return Geometry.pixels(ndim)
    signs = np.array(_space(source, fields, notes)[:ndim]) * factor
    matrix, origin = matrix * signs[:, None], origin * signs
    lengths = np.linalg.norm(matrix, axis=0)
    direction = (matrix / lengths)[::-1, ::-1] + 0.0
    return Geometry(
        tuple(float(s) for s in lengths[::-1]),
        tuple(float(o) + 0.0 for o in origin[::-1]),
        tuple(tuple(float(v) for v in row) for row in direction),
        "mm",
    )


def _quoted(text: str) -> list[str]:
    """Return the words of ``"mm" "mm" ""``, or of the same without quotes."""
    return re.findall(r'"([^"]*)"', text) or text.split()


def _space(
    source: Source, fields: dict[str, str], notes: list[str]
) -> tuple[int, int, int]:
    name = fields.get("space", "").lower()
    if name in _SPACES:
        return _SPACES[name]
    if name and not name.startswith(("3d-", "scanner")):
        raise source.fail(f"NRRD space {name[:40]!r} is not read", "Use LPS or RAS")
    if "space dimension" not in fields or name:
        notes.append("the NRRD header names no anatomical space; taken as LPS")
    return (1, 1, 1)


def _spacings(
    source: Source,
    fields: dict[str, str],
    channel: int | None,
    count: int,
    notes: list[str],
) -> Geometry:
    ndim = count - (channel is not None)
    if "spacings" not in fields:
        notes.append("no space directions and no spacings: read without voxel size")
        return Geometry.pixels(ndim)
    values = real_numbers(source, fields["spacings"], "spacings")
    if len(values) != count:
        raise source.fail(f"{len(values)} spacings for {count} dimensions")
    spacing = [v for i, v in enumerate(values) if i != channel]
    if not (np.isfinite(spacing) & (np.array(spacing) > 0)).all():
        raise source.fail(f"zero, negative or undefined spacing {spacing}")
    units = [u for i, u in enumerate(_quoted(fields.get("units", ""))) if i != channel]
    factor = factor_to_mm(units, notes)
    if factor is None:
        return Geometry.pixels(ndim)
    notes.append("no space directions: spacings are taken as mm along upright axes")
    return Geometry.upright(tuple(float(s * factor) for s in spacing[::-1]))


def _check_data(
    source: Source, fields: dict[str, str], start: int, nbytes: int, encoding: str
) -> None:
    with ExitStack() as stack:
        stream = _data_stream(source, fields, start, stack, nbytes, encoding)
        begin = stream.tell()
        present = stream.seek(0, 2) - begin
    if encoding == "raw":
        check_present(source.path, nbytes, present)
    elif encoding == "gzip":
        check_deflate(source.path, nbytes, present)


def _data_stream(
    source: Source,
    fields: dict[str, str],
    start: int,
    stack: ExitStack,
    nbytes: int,
    encoding: str,
) -> BinaryIO:
    """Return a stream at the first byte of the data."""
    stream: BinaryIO = source.stream
    name = fields.get("data file", fields.get("datafile"))
    if name is not None:
        if name.upper().split()[:1] == ["LIST"] or "%" in name:
            raise source.fail("spreads its data over many files; not opened")
        path = detached_path(source, name)
        stream, start = stack.enter_context(path.open("rb")), 0
    stream.seek(start)
    for _ in range(min(_skip(source, fields, "line skip"), 2**16)):
        stream.readline()
    skip = _skip(source, fields, "byte skip")
    if not skip:
        return stream
    if encoding != "raw":  # NRRD counts them once they are unpacked
        raise source.fail(f"a byte skip of {skip} in {encoding} data is not read")
    start = stream.tell() + skip
    size = stream.seek(0, 2)
    start = size - nbytes if skip == -1 else start
    if not 0 <= start <= size:
        raise source.damaged(
            f"a byte skip of {skip} leads past the end ({size} bytes present)"
        )
    stream.seek(start)
    return stream


def _skip(source: Source, fields: dict[str, str], name: str) -> int:
    return (*whole_numbers(source, fields.get(name, ""), name), 0)[0]

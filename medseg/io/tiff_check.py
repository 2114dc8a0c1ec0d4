"""Is a TIFF what it says? Its directories, and the pages that can be read."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.io.limits import DEFLATE_RATIO, check_deflate, check_present
from medseg.io.source import orientation_notes

if TYPE_CHECKING:
    from tifffile import TiffPage

    from medseg.io.source import Source

_MAX_PAGES = 2**16
PHOTOMETRIC = {0: "WhiteIsZero", 1: "BlackIsZero", 2: "RGB", 3: "palette", 6: "YCbCr"}
_COLOURS = (2, 6)
_ALPHA = (1, 2)  # what ExtraSamples calls associated and unassociated alpha
# Packings of bounded expansion: deflate, LZW (codes of 12 bits), PackBits.
RATIOS = {**dict.fromkeys((8, 32946, 50013), DEFLATE_RATIO), 5: 2800, 32773: 64}


def directories(source: Source) -> list[int]:
    """Return the offset of each directory, following the chain once.

    Raises:
        FileError: If it is cut, runs in a loop, or there is none.
    """
    head = source.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    if len(head) < (16 if big else 8):
        raise source.damaged(f"truncated: a TIFF header, {len(head)} bytes present")
    word, entry, start = ("Q", 20, 8) if big else ("I", 12, 4)
    count_code = "Q" if big else "H"
    width = struct.calcsize(order + word)
    (offset,) = struct.unpack(order + word, head[start : start + width])
    seen: list[int] = []
    while offset:
        if offset in seen[-64:] or len(seen) >= _MAX_PAGES:
            raise source.damaged(
                f"its TIFF directories form a loop (directory {len(seen) + 1} at "
                f"byte {offset})"
            )
        seen.append(offset)
        place = f"directory {len(seen)} is at byte {offset}"
        entries = _number(source, order + count_code, offset, place)
        link = offset + struct.calcsize(order + count_code) + entries * entry
        place = f"directory {len(seen)} declares {entries} entries"
        offset = _number(source, order + word, link, place)
    if not seen:
        raise source.damaged("no TIFF directory: the file holds no image")
    return seen


def _number(source: Source, code: str, offset: int, place: str) -> int:
    """Return the number that a directory has at a byte of the file."""
    length = struct.calcsize(code)
    raw = source.read(length, offset) if offset < source.size else b""
    if len(raw) < length:
        raise source.damaged(f"truncated: TIFF {place}, past the end at {source.size}")
    return int(struct.unpack(code, raw)[0])


def check_kind(source: Source, page: TiffPage) -> tuple[np.dtype[Any], int]:
    """Return dtype and samples of a page that we can read.

    Raises:
        FileError: If it is of a kind that we cannot read.
    """
    bits = page.bitspersample
    samples = int(page.samplesperpixel)
    if not isinstance(bits, int) or not 1 <= bits <= 64 or page.dtype is None:
        raise source.fail(f"cannot read TIFF samples of {bits} bits")
    dtype = np.dtype(page.dtype)
    if dtype.kind not in "biuf":
        raise source.fail(f"complex pixels ({dtype}) are not read")
    if page.photometric not in PHOTOMETRIC:
        raise source.fail(
            f"TIFF colour space {int(page.photometric)} is not read",
            "Save it as grey or RGB",
        )
    if not 1 <= samples <= 64:
        raise source.fail(f"declares {samples} samples per pixel, the limit is 64")
    if page.photometric in _COLOURS and samples < 3:
        raise source.fail(f"a colour TIFF with {samples} samples per pixel, 3 expected")
    if page.photometric == 6 and page.compression not in (6, 7):
        raise source.fail("YCbCr pixels that are no JPEG are not read", "Save as RGB")
    if page.photometric == 3 and (samples != 1 or page.colormap is None):
        raise source.fail("a palette TIFF without its palette")
    if page.imagedepth > 1:
        raise source.fail("a TIFF with volumes inside a page is not read")
    return dtype.newbyteorder("="), samples


def check_colour(source: Source, page: TiffPage) -> None:
    """Refuse colour in planes of their own: as a rule these are frames or slices.

    tifffile writes 3 or 4 grey images so, as one page, unless it is told not to.
    """
    if page.photometric == 2 and page.planarconfig == 2:
        raise source.fail(
            f"one page with {page.samplesperpixel} samples, each a plane of its own",
            "If these are frames, write them with photometric='minisblack'; if they "
            "are colours, with planarconfig='contig'",
        )


def kept(page: TiffPage) -> int:
    """Return how many samples are read: all but alpha and what follows colour."""
    if page.photometric in _COLOURS:
        return 3
    alpha = sum(int(kind) in _ALPHA for kind in page.extrasamples)
    return max(1, int(page.samplesperpixel) - alpha)


def channels(page: TiffPage) -> int:
    """Return how many channels a page is read as; a palette stands for colours."""
    return 3 if page.photometric == 3 else kept(page)


def alpha(page: TiffPage) -> tuple[str, ...]:
    """Return a note on samples that are not read, if there are any."""
    dropped = int(page.samplesperpixel) - kept(page)
    kind = "colour" if page.photometric in _COLOURS else "grey"
    note = f"{kind} with {dropped} more samples (alpha), which are not read"
    return (note,) if dropped else ()


def turned(page: TiffPage) -> tuple[str, ...]:
    """Return a note on a page that is to be shown turned or mirrored."""
    tag = page.tags.get("Orientation")
    return orientation_notes("TIFF", 1 if tag is None else tag.value)


def check_page(source: Source, page: TiffPage, first: TiffPage, number: int) -> None:
    """Check that a page is like the first one, and that its pixels are there.

    Raises:
        FileError: If a size, a type or an offset is wrong or too large.
    """
    size = (page.imagelength, page.imagewidth)
    expected = (first.imagelength, first.imagewidth)
    for name, here, there in (
        ("size", size, expected),
        ("pixel type", page.dtype, first.dtype),
        ("number of samples", page.samplesperpixel, first.samplesperpixel),
        ("colour space", page.photometric, first.photometric),
    ):
        if here != there:
            raise source.fail(
                f"pages of different {name}: page 1 has {there}, "
                f"page {number + 1} {here}",
                "Save one file for each",
            )
    shape = (int(page.samplesperpixel), *size)
    itemsize = np.dtype(page.dtype).itemsize
    wanted = source.limits.check(source.path, shape, itemsize)
    segment = (page.tilelength, page.tilewidth) if page.is_tiled else size
    tile = (int(page.samplesperpixel), *segment)
    if page.is_tiled and math.prod(tile) * itemsize > 4 * wanted + 2**24:
        raise source.fail(f"declares tiles of {segment} for an image of {size}")
    _check_segments(source, page, number, wanted)


def _check_segments(source: Source, page: TiffPage, number: int, wanted: int) -> None:
    offsets, counts = page.dataoffsets, page.databytecounts
    if not counts or len(offsets) != len(counts) or 0 in counts or 0 in offsets:
        raise source.damaged(
            f"page {number + 1} has pixel segments of 0 bytes ({len(counts)} segments)"
        )
    end = max(o + n for o, n in zip(offsets, counts, strict=True))
    if end > source.size:
        raise source.damaged(
            f"truncated: page {number + 1} has pixels up to byte {end} wanted, "
            f"{source.size} present",
        )
    packed = wanted // np.dtype(page.dtype).itemsize * int(page.bitspersample) // 8
    if page.compression == 1:
        check_present(source.path, packed, sum(counts))
    elif page.compression in RATIOS:
        ratio = RATIOS[page.compression]
        check_deflate(source.path, packed, sum(counts), ratio)

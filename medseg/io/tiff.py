"""TIFF: our own walk of the directories, then tifffile page by page.

Series, OME and ImageJ readers of tifffile are never used: they follow metadata out
of the file. Of that metadata only the axes and the voxel size are looked at.
"""

from __future__ import annotations

import logging
import math
import struct
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from medseg.io.limits import DEFLATE_RATIO, check_deflate, check_present
from medseg.io.source import Opened, Source, parsing
from medseg.io.tiff_metadata import Layout, describe, read_layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tifffile import TiffPage

    from medseg.io.block import Block
    from medseg.io.source import Index

# Without a handler tifffile's complaints would go to stderr. Once, not once a file:
# a logger keeps every handler that it gets.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_MAX_PAGES = 2**16
_BUFFER = 2**24  # bytes of packed strips read at once; tifffile would take 256 MB
_PHOTOMETRIC = {0: "WhiteIsZero", 1: "BlackIsZero", 2: "RGB", 3: "palette", 6: "YCbCr"}
_COLOURS = (2, 6)
_ALPHA = (1, 2)  # what ExtraSamples calls associated and unassociated alpha
# Packings of bounded expansion: deflate, LZW (codes of 12 bits), PackBits.
_RATIOS = {**dict.fromkeys((8, 32946, 50013), DEFLATE_RATIO), 5: 2800, 32773: 64}


def open_tiff(source: Source) -> Opened:
    """Check the directories of a TIFF; pages of one size become one array.

    Pages are the z axis, or what the axes of medseg, tifffile, ImageJ or OME metadata
    say. WhiteIsZero is inverted so that high means bright, as in DICOM.

    Raises:
        FileError: If a directory, an offset or a size is wrong or too large.
    """
    pages = _pages(source)
    first = pages[0]
    dtype, samples = _check_kind(source, first)
    if dtype.itemsize > 1:  # with 8 bits it may well be a photograph
        _check_colour(source, first)
    for number, page in enumerate(pages):
        _check_page(source, page, first, number)
    layout = read_layout(source, first, len(pages))
    channels = _channels(first) * layout.channels
    shape = (channels, *layout.depth, first.imagelength, first.imagewidth)
    source.limits.check(source.path, shape, dtype.itemsize)
    ratios = [_RATIOS.get(p.compression) for p in pages]
    if None not in ratios:  # pages may share their bytes
        pixels = len(pages) * samples * first.imagelength * first.imagewidth
        wanted = pixels * int(first.bitspersample) // 8
        check_deflate(source.path, wanted, source.size, max(filter(None, ratios)))
    return Opened(
        "tiff",
        shape,
        dtype,
        layout.geometry,
        lambda mask: (_load(source, pages, layout, mask), ()),
        {
            "photometric": _PHOTOMETRIC[int(first.photometric)],
            "bits": int(first.bitspersample),
        },
        (*layout.notes, *_alpha(first)),
        layout.block,
        (lambda: _strips(source, pages))
        if _plain(first) and not layout.depth
        else None,
    )


def open_page(source: Source, number: int) -> Opened:
    """Check one page of a TIFF whose pages are the frames of a movie.

    With ``source.header_only`` all pages are checked, else the first and this one.

    Returns:
        The page as a plane ``(C, Y, X)``; ``meta["pages"]`` is the number of pages.

    Raises:
        FileError: If a page is refused, or the pages are channels.
    """
    count = len(_directories(source))
    numbers = range(count) if source.header_only else (0, number)
    pages = _pages(source, numbers)
    first, page = pages[0], pages[-1]
    dtype, _ = _check_kind(source, first)
    _check_colour(source, first)
    for n, each in zip(numbers, pages, strict=True):
        _check_page(source, each, first, n)
    layout = read_layout(source, first, count, flat=True)
    if layout.channels > 1:
        raise source.fail(
            f"its {count} pages hold {layout.channels} channels, not a frame each",
            "Save one channel, or one file a frame",
        )
    shape = (_channels(first), first.imagelength, first.imagewidth)
    plane = Layout((), layout.geometry)
    return Opened(
        "tiff",
        shape,
        dtype,
        plane.geometry,
        lambda mask: (_load(source, [page], plane, mask), ()),
        {
            "photometric": _PHOTOMETRIC[int(first.photometric)],
            "bits": int(first.bitspersample),
            "pages": count,
        },
        _alpha(first),
    )


def _pages(source: Source, numbers: Sequence[int] | None = None) -> list[TiffPage]:
    """Return the pages of these numbers, or all of them."""
    count = len(_directories(source))
    import tifffile

    with parsing(source, "TIFF"):
        source.stream.seek(0)
        file = tifffile.TiffFile(source.stream, name=source.path.name, is_ome=False)
        wanted = range(count) if numbers is None else numbers
        return [file.pages[i] for i in wanted]  # type: ignore[misc]


def _directories(source: Source) -> list[int]:
    """Return the offset of each directory, following the chain once."""
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
        length = struct.calcsize(order + count_code)
        raw = source.read(length, offset) if offset < source.size else b""
        if len(raw) < length:
            raise source.damaged(
                f"truncated: TIFF directory {len(seen)} is at byte {offset}, past the "
                f"end at {source.size}"
            )
        (entries,) = struct.unpack(order + count_code, raw)
        link = offset + length + entries * entry
        raw = source.read(width, link) if link < source.size else b""
        if len(raw) < width:
            raise source.damaged(
                f"truncated: TIFF directory {len(seen)} declares {entries} entries, "
                f"past the end at {source.size}"
            )
        (offset,) = struct.unpack(order + word, raw)
    if not seen:
        raise source.damaged("no TIFF directory: the file holds no image")
    return seen


def _check_kind(source: Source, page: TiffPage) -> tuple[np.dtype[Any], int]:
    """Return dtype and samples of a page that we can read."""
    bits = page.bitspersample
    samples = int(page.samplesperpixel)
    if not isinstance(bits, int) or not 1 <= bits <= 64 or page.dtype is None:
        raise source.fail(f"cannot read TIFF samples of {bits} bits")
    dtype = np.dtype(page.dtype)
    if dtype.kind not in "biuf":
        raise source.fail(f"complex pixels ({dtype}) are not read")
    if page.photometric not in _PHOTOMETRIC:
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


def _check_colour(source: Source, page: TiffPage) -> None:
    """Refuse colour in planes of their own: as a rule these are frames or slices.

    tifffile writes 3 or 4 grey images so, as one page, unless it is told not to.
    """
    if page.photometric == 2 and page.planarconfig == 2:
        raise source.fail(
            f"one page with {page.samplesperpixel} samples, each a plane of its own",
            "If these are frames, write them with photometric='minisblack'; if they "
            "are colours, with planarconfig='contig'",
        )


def _kept(page: TiffPage) -> int:
    """Return how many samples are read: all but alpha and what follows colour."""
    if page.photometric in _COLOURS:
        return 3
    alpha = sum(int(kind) in _ALPHA for kind in page.extrasamples)
    return max(1, int(page.samplesperpixel) - alpha)


def _channels(page: TiffPage) -> int:
    return 3 if page.photometric == 3 else _kept(page)


def _alpha(page: TiffPage) -> tuple[str, ...]:
    dropped = int(page.samplesperpixel) - _kept(page)
    kind = "colour" if page.photometric in _COLOURS else "grey"
    note = f"{kind} with {dropped} more samples (alpha), which are not read"
    return (note,) if dropped else ()


def _check_page(source: Source, page: TiffPage, first: TiffPage, number: int) -> None:
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
    elif page.compression in _RATIOS:
        ratio = _RATIOS[page.compression]
        check_deflate(source.path, packed, sum(counts), ratio)


def _load(
    source: Source, pages: list[TiffPage], layout: Layout, mask: bool
) -> NDArray[Any]:
    """Return ``(C, [Z,] Y, X)``."""
    # (P, S, Y, X) -> (C, [Z,] S, Y, X) -> (C, S, [Z,] Y, X)
    with parsing(source, "TIFF"):
        stack = layout.arrange(_stack(pages, mask))
    samples = np.moveaxis(stack, -3, 1)
    pixels = samples.reshape(-1, *samples.shape[2:])
    grey_colour = pages[0].photometric in (2, 3, 6) and len(pixels) == 3
    if grey_colour and all((pixels[0] == c).all() for c in pixels[1:]):
        pixels = pixels[:1]
    return np.ascontiguousarray(pixels)


def _stack(pages: list[TiffPage], mask: bool) -> NDArray[Any]:
    """Return all pages as ``(P, S, Y, X)``."""
    first = pages[0]
    if not _plain(first) or first.dtype is None:
        return np.stack([_page_samples(page, mask) for page in pages])
    size = (first.imagelength, first.imagewidth)
    # Decoded in place: a stack of masks is not copied again.
    stack = np.empty((len(pages), 1, *size), np.dtype(first.dtype).newbyteorder("="))
    for page, plane in zip(pages, stack, strict=True):
        out = plane[0].reshape(page.shape)
        page.asarray(out=out, maxworkers=1, buffersize=_BUFFER)
    return stack


def _plain(page: TiffPage) -> bool:
    """Return whether the samples are the values: grey, and high is bright."""
    return bool(page.samplesperpixel == 1 and page.photometric == 1)


def _strips(
    source: Source, pages: list[TiffPage]
) -> Iterator[tuple[Index, NDArray[Any]]]:
    """Yield where each strip or tile of plain pages lies in ``(P, Y, X)``, and it."""
    with parsing(source, "TIFF"):
        for number, page in enumerate(pages):
            segments = page.segments(maxworkers=1, buffersize=_BUFFER)
            for pixels, (_, _, y, x, _), _ in segments:
                assert pixels is not None  # segments of 0 bytes have been refused
                part = pixels[:, : page.imagelength - y, : page.imagewidth - x, 0]
                ends = (number + 1, y + part.shape[1], x + part.shape[2])
                yield tuple(map(slice, (number, y, x), ends)), part


def _page_samples(page: TiffPage, mask: bool) -> NDArray[Any]:
    """Return one page as ``(S, Y, X)``."""
    pixels = page.asarray(maxworkers=1)
    pixels = pixels.reshape(_full_shape(page))
    if page.planarconfig != 2:
        pixels = np.moveaxis(pixels, -1, 0)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    pixels = pixels[: _kept(page)]
    if page.photometric == 3 and not mask:
        # Only the first page was checked: `parsing` reports another without one.
        palette = cast("NDArray[np.uint16]", page.colormap)
        return (palette[:, pixels[0]] >> 8).astype(np.uint8)
    if page.photometric == 0 and not mask:
        return _white_is_zero(pixels, int(page.bitspersample))
    return pixels


def _full_shape(page: TiffPage) -> tuple[int, ...]:
    size, samples = (page.imagelength, page.imagewidth), int(page.samplesperpixel)
    return (samples, *size) if page.planarconfig == 2 else (*size, samples)


def _white_is_zero(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    if pixels.dtype.kind == "b":
        return ~pixels
    if pixels.dtype.kind == "u":
        return (2**bits - 1 - pixels).astype(pixels.dtype)
    return -1 - pixels if pixels.dtype.kind == "i" else -pixels


def write_tiff(
    stream: BinaryIO, path: Path, pixels: NDArray[Any], axes: str, block: Block
) -> None:
    """Write ``pixels``, a page for each leading index, in the order of ``axes``.

    Masks of 8 bits are packed as runs (PackBits), all else is deflated: both are
    lossless, quick, and read by every program.
    """
    import tifffile

    if pixels.dtype == np.uint8:
        packing: dict[str, Any] = {"compression": "packbits"}
    else:
        packing = {"compression": "zlib", "compressionargs": {"level": 1}}
    resolution: dict[str, Any] = {}
    if block.geometry.unit == "mm":
        y, x = block.geometry.spacing[-2:]
        resolution = {"resolution": (10 / x, 10 / y), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(
        stream,
        pixels,
        photometric="minisblack",
        planarconfig=None,
        metadata=None,
        description=describe(pixels.shape, axes, block),
        software="medseg",
        maxworkers=1,
        **packing,
        **resolution,
    )

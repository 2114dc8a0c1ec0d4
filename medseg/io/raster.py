"""PNG and JPEG: checks of our own, then a decoder that is told the format."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import FileError
from medseg.geometry import Geometry
from medseg.io.block import KEYWORD, Block, parse_block
from medseg.io.limits import check_deflate, check_present
from medseg.io.source import Opened, Source, orientation_notes, parsing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGBA"}
_TEXT_LIMIT = 2**22


@dataclass(frozen=True)
class _PngHeader:
    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool

    @property
    def packed_bytes(self) -> int:
        """Bytes of the inflated scanlines, each with its filter byte."""
        row = (self.width * _SAMPLES[self.colour] * self.depth + 7) // 8
        return (row + 1) * self.height

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint16 if self.depth == 16 else np.uint8)


def open_png(source: Source) -> Opened:
    """Check the header of a PNG.

    Grey keeps its 8 or 16 bits. Colour becomes three channels, or one where all
    are equal; transparency is dropped. A PNG has no spacing that can be trusted
    (unit px) unless medseg wrote it.

    Raises:
        FileError: If the header is damaged or too large.
    """
    header = _png_header(source)
    channels = 3 if header.colour in (2, 3, 6) else 1
    shape = (channels, header.height, header.width)
    source.limits.check(source.path, shape, header.dtype.itemsize)
    if not header.interlaced:
        check_deflate(source.path, header.packed_bytes, source.size)
    block = _leading_block(source)
    return Opened(
        "png",
        shape,
        header.dtype,
        block.geometry if block else Geometry.pixels(2),
        lambda mask: _load_png(source, header, mask),
        {"photometric": _COLOURS[header.colour], "bits": header.depth},
        block=block,
    )


def _png_header(source: Source) -> _PngHeader:
    head = source.read(33)
    if len(head) < 33:
        raise source.damaged(
            f"truncated: a PNG header has 33 bytes, {len(head)} present"
        )
    width, height, depth, colour, method, filters, interlace = struct.unpack(
        ">IIBBBBB", head[16:29]
    )
    if head[12:16] != b"IHDR" or zlib.crc32(head[12:29]) != _u32(head, 29):
        raise source.damaged("damaged PNG header: wrong checksum of IHDR")
    if colour not in _DEPTHS or depth not in _DEPTHS[colour]:
        raise source.damaged(
            f"damaged PNG header: {depth} bits of colour type {colour}"
        )
    if method or filters or interlace > 1:
        raise source.damaged("damaged PNG header: unknown compression or interlacing")
    return _PngHeader(width, height, depth, colour, bool(interlace))


def _u32(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "big")


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and length of each chunk that fits into ``data``."""
    offset = len(SIGNATURE)
    while offset + 12 <= len(data):
        length = _u32(data, offset)
        if offset + 12 + length > len(data):
            return
        yield data[offset + 4 : offset + 8], offset + 8, length
        offset += 12 + length


def _leading_block(source: Source) -> Block | None:
    """Return our own text chunk; we write it right behind the header."""
    data = source.read(source.limits.max_header)
    for kind, start, length in _chunks(data):
        if kind == b"IDAT":
            return None
        if kind == b"tEXt" and data.startswith(KEYWORD.encode() + b"\0", start):
            return parse_block(
                source.path, data[start + len(KEYWORD) + 1 : start + length]
            )
    return None


def _load_png(
    source: Source, header: _PngHeader, mask: bool
) -> tuple[NDArray[Any], tuple[str, ...]]:
    data = source.read(source.size)
    notes = _check_chunks(source, data, header)
    if notes:  # the decoders insist on the end chunk
        data += b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    with parsing(source, "PNG"):
        if header.colour == 3:
            return _palette(source, data, header, mask), notes
        pixels, clear = _decode_png(data, header)
        return pixels, (*notes, "its alpha channel is not read") if clear else notes


def _check_chunks(source: Source, data: bytes, header: _PngHeader) -> tuple[str, ...]:
    kinds, end, packed = set(), len(SIGNATURE), 0
    for kind, start, length in _chunks(data):
        if zlib.crc32(data[start - 4 : start + length]) != _u32(data, start + length):
            name = kind.decode("latin-1")
            raise source.damaged(f"damaged: wrong checksum of PNG chunk {name}")
        if kind in (b"zTXt", b"iTXt", b"iCCP"):
            _check_text(source, kind, data[start : start + length])
        kinds.add(kind)
        packed += length * (kind == b"IDAT")
        end = start + length + 4
        if kind == b"IEND":
            break
    if b"IDAT" not in kinds or (b"IEND" not in kinds and end < len(data)):
        raise source.damaged(
            f"truncated: the last PNG chunk is incomplete, {len(data)} bytes present",
        )
    if not header.interlaced:
        check_deflate(source.path, header.packed_bytes, packed)
    return () if b"IEND" in kinds else ("the PNG end chunk (IEND) is missing",)


def _check_text(source: Source, kind: bytes, body: bytes) -> None:
    """Refuse compressed text that inflates beyond 4 MiB: a bomb."""
    _, _, rest = body.partition(b"\0")
    if kind == b"iTXt":
        if rest[:1] != b"\1":
            return
        rest = b"\0" + rest[2:].split(b"\0", 2)[-1]
    inflate = zlib.decompressobj()
    with parsing(source, "PNG text"):
        inflate.decompress(rest[1:], _TEXT_LIMIT)
    if inflate.unconsumed_tail:
        raise source.fail(
            f"compressed text bomb: it inflates to more than {_TEXT_LIMIT} bytes",
            "Save the image again without its text",
        )


def _decode_png(data: bytes, header: _PngHeader) -> tuple[NDArray[Any], bool]:
    """Return ``(C, Y, X)`` and whether an alpha channel says more than "opaque"."""
    # Not Pillow: it cuts 16-bit colour to 8 bits and fills missing rows with zeros.
    import imagecodecs

    pixels = np.asarray(imagecodecs.png_decode(data))
    if header.colour != 0:
        alpha = pixels[..., -1] if header.colour in (4, 6) else None
        clear = alpha is not None and bool((alpha < np.iinfo(alpha.dtype).max).any())
        return _colour(pixels), clear
    pixels = pixels[..., 0] if pixels.ndim == 3 else pixels  # a transparent grey
    if header.depth < 8:  # spread over 0..255 by the decoder
        pixels = pixels // (255 // (2**header.depth - 1))
    return pixels.astype(header.dtype, copy=False)[None], False


def _palette(
    source: Source, data: bytes, header: _PngHeader, mask: bool
) -> NDArray[Any]:
    # Not by Image.open, which has a limit of its own on the number of pixels.
    from PIL.PngImagePlugin import PngImageFile

    _check_rows(source, data, header)
    with PngImageFile(io.BytesIO(data)) as picture:
        index = np.asarray(picture)
        entries = len(picture.getpalette("RGB") or ()) // 3
        if index.max() >= entries:
            raise source.fail(
                f"palette index {index.max()} is out of range, "
                f"the palette has {entries}"
            )
        return index[None] if mask else _colour(np.asarray(picture.convert("RGB")))


def _check_rows(source: Source, data: bytes, header: _PngHeader) -> None:
    packed = b"".join(
        data[s : s + n] for kind, s, n in _chunks(data) if kind == b"IDAT"
    )
    rows = zlib.decompressobj().decompress(packed, header.packed_bytes)
    if not header.interlaced:
        check_present(source.path, header.packed_bytes, len(rows))


def _colour(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return ``(Y, X, S)`` samples as ``(C, Y, X)``: alpha dropped, grey as one."""
    channels = np.moveaxis(pixels, -1, 0)
    channels = channels[: 3 if len(channels) > 2 else 1]
    if len(channels) == 3 and all((channels[0] == c).all() for c in channels[1:]):
        channels = channels[:1]
    return np.ascontiguousarray(channels)


def open_jpeg(source: Source) -> Opened:
    """Check the header of a baseline or progressive JPEG (8 bits).

    Raises:
        FileError: If it is damaged, too large, or not grey or RGB.
    """
    from PIL.JpegImagePlugin import JpegImageFile

    with parsing(source, "JPEG"):
        source.stream.seek(0)
        picture = JpegImageFile(source.stream)
        turned = picture.getexif().get(0x0112, 1)
    if picture.mode not in ("L", "RGB"):
        raise source.fail(
            f"JPEG of colour mode {picture.mode}", "Save it as grey or RGB"
        )
    shape = (len(picture.mode) if picture.mode == "RGB" else 1, *picture.size[::-1])
    source.limits.check(source.path, shape, 1)

    def load(mask: bool) -> tuple[NDArray[Any], tuple[str, ...]]:
        with parsing(source, "JPEG"):
            pixels = np.asarray(picture)
        return (pixels[None] if pixels.ndim == 2 else _colour(pixels)), ()

    return Opened(
        "jpeg",
        shape,
        np.dtype(np.uint8),
        Geometry.pixels(2),
        load,
        {"photometric": "grey" if picture.mode == "L" else "RGB", "bits": 8},
        orientation_notes("EXIF", turned),
    )


def png_bytes(
    path: Path, pixels: NDArray[Any], geometry: Geometry, block: Block
) -> bytes:
    """Return ``(Y, X)`` or ``(3, Y, X)`` uint8, or ``(Y, X)`` uint16, as a PNG.

    Raises:
        FileError: If the pixels are of another kind.
    """
    from PIL import Image as Pillow
    from PIL.PngImagePlugin import PngInfo

    grey = pixels.ndim == 2 and pixels.dtype in (np.uint8, np.uint16)
    colour = pixels.ndim == 3 and len(pixels) == 3 and pixels.dtype == np.uint8
    if not grey and not colour:
        raise FileError(
            path,
            f"a PNG cannot hold {pixels.dtype} of shape {pixels.shape}",
            "Write .tif or .nii.gz",
        )
    info = PngInfo()
    info.add_text(KEYWORD, block.dump())
    if geometry.unit == "mm":
        per_metre = [round(1000 / s) for s in geometry.spacing]
        if all(0 < n < 2**31 for n in per_metre):
            info.add(b"pHYs", struct.pack(">IIB", per_metre[1], per_metre[0], 1))
    picture = Pillow.fromarray(
        np.ascontiguousarray(np.moveaxis(pixels, 0, -1)) if colour else pixels
    )
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=info, compress_level=1)
    return buffer.getvalue()

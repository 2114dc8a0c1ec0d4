"""The pixels of checked TIFF pages, whole or strip by strip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from medseg.io.source import parsing
from medseg.io.tiff_check import kept

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from tifffile import TiffPage

    from medseg.io.source import Index, Source
    from medseg.io.tiff_metadata import Layout

_BUFFER = 2**24  # bytes of packed strips read at once; tifffile would take 256 MB


def load(
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
    if not plain(first) or first.dtype is None:
        return np.stack([_page_samples(page, mask) for page in pages])
    size = (first.imagelength, first.imagewidth)
    # Decoded in place: a stack of masks is not copied again.
    stack = np.empty((len(pages), 1, *size), np.dtype(first.dtype).newbyteorder("="))
    for page, plane in zip(pages, stack, strict=True):
        out = plane[0].reshape(page.shape)
        page.asarray(out=out, maxworkers=1, buffersize=_BUFFER)
    return stack


def plain(page: TiffPage) -> bool:
    """Return whether the samples are the values: grey, and high is bright."""
    return bool(page.samplesperpixel == 1 and page.photometric == 1)


def strips(
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
    pixels = pixels[: kept(page)]
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

"""TIFF: our own walk of the directories, then tifffile page by page.

Series, OME and ImageJ readers of tifffile are never used: they follow metadata out
of the file. Of that metadata only the axes and the voxel size are looked at.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from medseg.io.limits import check_deflate
from medseg.io.source import Opened, Source, parsing
from medseg.io.tiff_check import (
    PHOTOMETRIC,
    RATIOS,
    alpha,
    channels,
    check_colour,
    check_kind,
    check_page,
    directories,
    turned,
)
from medseg.io.tiff_metadata import Layout, read_layout
from medseg.io.tiff_pixels import load, plain, strips

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tifffile import TiffPage

# Without a handler tifffile's complaints would go to stderr. Once, not once a file:
# a logger keeps every handler that it gets.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def open_tiff(source: Source) -> Opened:
    """Check the directories of a TIFF; pages of one size become one array.

    Pages are the z axis, or what the axes of medseg, tifffile, ImageJ or OME metadata
    say. WhiteIsZero is inverted so that high means bright, as in DICOM.

    Raises:
        FileError: If a directory, an offset or a size is wrong or too large.
    """
    # Smaller copies of the first page are no slices.
    pages = [p for i, p in enumerate(_pages(source)) if i == 0 or not p.is_reduced]
    first = pages[0]
    dtype, samples = check_kind(source, first)
    if dtype.itemsize > 1:  # with 8 bits it may well be a photograph
        check_colour(source, first)
    for number, page in enumerate(pages):
        check_page(source, page, first, number)
    layout = read_layout(source, first, len(pages))
    shape = (
        channels(first) * layout.channels,
        *layout.depth,
        first.imagelength,
        first.imagewidth,
    )
    source.limits.check(source.path, shape, dtype.itemsize)
    ratios = [RATIOS.get(p.compression) for p in pages]
    if None not in ratios:  # pages may share their bytes
        pixels = len(pages) * samples * first.imagelength * first.imagewidth
        wanted = pixels * int(first.bitspersample) // 8
        check_deflate(source.path, wanted, source.size, max(filter(None, ratios)))
    return Opened(
        "tiff",
        shape,
        dtype,
        layout.geometry,
        lambda mask: (load(source, pages, layout, mask), ()),
        {
            "photometric": PHOTOMETRIC[int(first.photometric)],
            "bits": int(first.bitspersample),
        },
        (*layout.notes, *alpha(first), *turned(first)),
        layout.block,
        (lambda: strips(source, pages)) if plain(first) and not layout.depth else None,
    )


def open_page(source: Source, number: int) -> Opened:
    """Check one page of a TIFF whose pages are the frames of a movie.

    With ``source.header_only`` all pages are checked, else the first and this one.

    Returns:
        The page as a plane ``(C, Y, X)``; ``meta["pages"]`` is the number of pages.

    Raises:
        FileError: If a page is refused, or the pages are channels.
    """
    count = len(directories(source))
    numbers = range(count) if source.header_only else (0, number)
    pages = _pages(source, numbers)
    first, page = pages[0], pages[-1]
    dtype, _ = check_kind(source, first)
    check_colour(source, first)
    for n, each in zip(numbers, pages, strict=True):
        check_page(source, each, first, n)
    layout = read_layout(source, first, count, flat=True)
    if layout.channels > 1:
        raise source.fail(
            f"its {count} pages hold {layout.channels} channels, not a frame each",
            "Save one channel, or one file a frame",
        )
    shape = (channels(first), first.imagelength, first.imagewidth)
    plane = Layout((), layout.geometry)
    return Opened(
        "tiff",
        shape,
        dtype,
        plane.geometry,
        lambda mask: (load(source, [page], plane, mask), ()),
        {
            "photometric": PHOTOMETRIC[int(first.photometric)],
            "bits": int(first.bitspersample),
            "pages": count,
        },
        (*alpha(first), *turned(first)),
    )


def _pages(source: Source, numbers: Sequence[int] | None = None) -> list[TiffPage]:
    """Return the pages of these numbers, or all of them."""
    count = len(directories(source))
    import tifffile

    with parsing(source, "TIFF"):
        source.stream.seek(0)
        file = tifffile.TiffFile(source.stream, name=source.path.name, is_ome=False)
        wanted = range(count) if numbers is None else numbers
        return [file.pages[i] for i in wanted]  # type: ignore[misc]

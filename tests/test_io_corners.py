"""Rare headers, each read by its rule or refused in words."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import logging
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from malformed import GREY, VOLUME, mha, nifti, nrrd, png, png_chunk, tiff
from malformed_dicom import dicom
from PIL import Image as Pillow

from medseg.errors import FileError, ImageWarning
from medseg.geometry import Geometry
from medseg.io import read_image, read_segmentation, write_segmentation
from medseg.io.block import Block
from medseg.io.numbered import by_number
from medseg.io.rescale import rescale, rescaled_dtype
from medseg.io.source import Source, parsing
from medseg.labels import Label, LabelSet
from medseg.segmentation import Segmentation

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.image import Image

BONES = LabelSet((Label(1, "a", "#ff0000"), Label(2, "b", "#00ff00")))


def _read(folder: Path, name: str, data: bytes) -> Image:
    (folder / name).write_bytes(data)
    return read_image(folder / name)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (MemoryError(), "more memory than there is"),
        (OSError(errno.EIO, "Input/output error"), "cannot be read: Input/output"),
        (OSError("odd"), "damaged TIFF data"),
        (RecursionError("deep"), "damaged TIFF data"),
    ],
)
def test_whatever_a_parser_raises_is_one_file_error(
    error: Exception, word: str, tmp_path: Path
) -> None:
    source = Source(tmp_path / "a", io.BytesIO(), 0)
    with pytest.raises(FileError, match=word), parsing(source, "TIFF"):
        raise error
    secret = ValueError("Canary^One")
    with pytest.raises(FileError) as caught, parsing(source, "DICOM", quote=False):
        raise secret
    assert "Canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("stored", "slope", "intercept", "expected"),
    [
        ("uint8", 1, 1, "int16"),
        ("uint8", 1, -1, "int16"),
        ("uint16", 2, 0, "int32"),
        ("uint32", 1, 1, "int64"),
        ("uint8", 257, 0, "uint16"),
        ("int16", -1, 0, "int32"),
        ("uint64", 2, 0, "float32"),
        ("float64", 2, 0, "float32"),
        ("int16", 0.5, 0, "float32"),
    ],
)
def test_rescaled_types_hold_every_value(
    stored: str, slope: float, intercept: float, expected: str
) -> None:
    dtype = np.dtype(stored)
    assert rescaled_dtype(dtype, slope, intercept) == expected
    if dtype.kind != "f" and dtype.itemsize < 8:
        ends = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
        out = rescale(ends, slope, intercept)
        assert out.tolist() == [int(v) * slope + intercept for v in ends]
    same = np.arange(3, dtype=dtype)
    assert rescale(same, 1, 0) is same


# --- PNG ---------------------------------------------------------------------------


def _interlaced(pixels: np.ndarray, colour: int, extra: bytes) -> bytes:
    """Return ``pixels`` as an Adam7 PNG."""
    passes = (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    )
    lines = b""
    for y, x, down, right in passes:
        part = pixels[y::down, x::right]
        if part.size:
            lines += b"".join(b"\0" + row.tobytes() for row in part)
    data = bytearray(png(pixels, colour=colour, extra=extra, data=zlib.compress(lines)))
    data[28] = 1
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def test_interlaced_pngs(tmp_path: Path) -> None:
    big = np.arange(9 * 17, dtype=np.uint8).reshape(9, 17)
    grey = _read(tmp_path, "a.png", _interlaced(big, 0, b""))
    np.testing.assert_array_equal(grey.pixels[0], big)
    table = png_chunk(b"PLTE", bytes(range(9)))
    colours = _read(tmp_path, "b.png", _interlaced(big % 3, 3, table))
    np.testing.assert_array_equal(colours.pixels[0], big % 3 * 3)


def test_transparent_grey(tmp_path: Path) -> None:
    alpha = np.full_like(GREY, 9)
    Pillow.fromarray(np.stack([GREY, alpha], -1), "LA").save(tmp_path / "a.png")
    with pytest.warns(ImageWarning, match="its alpha channel is not read"):
        image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.pixels, GREY[None])
    opaque = np.full_like(GREY, 255)
    Pillow.fromarray(np.stack([GREY, opaque], -1), "LA").save(tmp_path / "c.png")
    np.testing.assert_array_equal(read_image(tmp_path / "c.png").pixels, GREY[None])
    keyed = png(extra=png_chunk(b"tRNS", b"\0\7"))
    np.testing.assert_array_equal(_read(tmp_path, "b.png", keyed).pixels, GREY[None])


def test_text_in_pngs_is_harmless(tmp_path: Path) -> None:
    plain = png_chunk(b"iTXt", b"Title\0\0\0en\0\0hello")
    packed = png_chunk(b"iTXt", b"Title\0\1\0en\0\0" + zlib.compress(b"hello"))
    for extra in (
        plain,
        packed,
        png_chunk(b"zTXt", b"Title\0\0" + zlib.compress(b"x")),
    ):
        np.testing.assert_array_equal(
            _read(tmp_path, "a.png", png(extra=extra)).pixels[0], GREY
        )
    bomb = png_chunk(b"iTXt", b"T\0\1\0\0\0" + zlib.compress(bytes(2**23), 9))
    with pytest.raises(FileError, match="bomb"):
        _read(tmp_path, "a.png", png(extra=bomb))


def test_png_header_of_the_future(tmp_path: Path) -> None:
    data = bytearray(png())
    data[26] = 1  # compression method
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    with pytest.raises(FileError, match="unknown compression"):
        _read(tmp_path, "a.png", bytes(data))


def test_spacing_beyond_a_png_is_kept_in_our_block(tmp_path: Path) -> None:
    geometry = Geometry.upright((1e-9, 5e4))
    seg = Segmentation(GREY % 2, BONES, geometry)
    write_segmentation(seg, tmp_path / "a.png")
    assert read_segmentation(tmp_path / "a.png").geometry == geometry


# --- TIFF --------------------------------------------------------------------------


def test_tiff_pages_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="palette TIFF without"):
        _read(tmp_path, "a.tif", tiff(tags={262: (3, 3)}))
    with pytest.raises(FileError, match="volumes inside a page"):
        _read(tmp_path, "a.tif", tiff(tags={32997: (4, 3)}))
    tiles = {322: (4, 2**20), 323: (4, 2**20), 324: (4, 300), 325: (4, 30)}
    with pytest.raises(FileError, match="tiles of"):
        _read(tmp_path, "a.tif", tiff(tags=tiles))
    with pytest.raises(FileError, match="past the end"):
        _read(tmp_path, "a.tif", tiff()[:90])


def test_a_packed_palette_tiff(tmp_path: Path) -> None:
    table = np.zeros((3, 256), np.uint16)
    table[1] = np.arange(256) << 8
    tifffile.imwrite(
        tmp_path / "a.tif",
        GREY,
        photometric="palette",
        colormap=table,
        compression="zlib",
        metadata=None,
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels[1], GREY)


@pytest.mark.parametrize("spacing", [None, 0.0, "x"])
def test_imagej_stacks_without_depth_are_in_pixels(
    spacing: Any, tmp_path: Path
) -> None:
    stack = np.zeros((3, 5, 6), np.uint8)
    metadata = {"axes": "ZYX", "unit": "um"}
    if spacing is not None:
        metadata["spacing"] = spacing
    tifffile.imwrite(
        tmp_path / "a.tif", stack, imagej=True, resolution=(2, 2), metadata=metadata
    )
    assert read_image(tmp_path / "a.tif").geometry == Geometry.pixels(3)


def test_imagej_counts_that_do_not_multiply(tmp_path: Path) -> None:
    data = tiff(pages=3, description="ImageJ=1\nimages=3\nchannels=2\nslices=2\n")
    assert _read(tmp_path, "a.tif", data).pixels.shape == (1, 3, 5, 6)


def test_ome_without_sizes_and_with_colour(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 99, (5, 6, 3), np.uint8)
    tifffile.imwrite(
        tmp_path / "a.ome.tif", rgb, photometric="rgb", metadata={"axes": "YXS"}
    )
    image = read_image(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(image.pixels, np.moveaxis(rgb, -1, 0))
    assert image.geometry == Geometry.pixels(2)


def test_unknown_leading_axes_are_depth(tmp_path: Path) -> None:
    stack = np.zeros((3, 5, 6), np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", stack, photometric="minisblack", metadata={"axes": "IYX"}
    )
    assert read_image(tmp_path / "a.tif").pixels.shape == (1, 3, 5, 6)
    tifffile.imwrite(
        tmp_path / "b.tif", stack, metadata={"axes": "ZYX"}, photometric="minisblack"
    )
    assert read_image(tmp_path / "b.tif").pixels.shape == (1, 3, 5, 6)


# --- NIfTI -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ({"dim": [6, 5, 4, 3, 1, 1, 1, 1]}, (1, 3, 4, 5)),
        ({"dim": [1, 60, 1, 1, 1, 1, 1, 1]}, (1, 1, 60)),
        ({"vox_offset": 0}, (1, 3, 4, 5)),
        ({"scl_slope": 0, "scl_inter": 7}, (1, 3, 4, 5)),
    ],
)
def test_nifti_headers_read_by_rule(
    fields: dict[str, Any], shape: tuple[int, ...], tmp_path: Path
) -> None:
    image = _read(tmp_path, "a.nii", nifti(fields=fields))
    assert image.pixels.shape == shape
    np.testing.assert_array_equal(image.pixels.ravel(), VOLUME.ravel())


@pytest.mark.parametrize(
    "extension",
    [
        struct.pack("<4Bii", 1, 0, 0, 0, 16, 4) + b"AFNI" * 2,
        struct.pack("<4Bii", 1, 0, 0, 0, 9999, 4) + b"AFNI" * 2,
        struct.pack("<4Bii", 1, 0, 0, 0, 8, 4) + b"AFNI" * 2,
    ],
)
def test_extensions_of_others_are_passed_over(extension: bytes, tmp_path: Path) -> None:
    data = nifti(fields={"vox_offset": 368})
    data = data[:348] + extension + data[352:]
    np.testing.assert_array_equal(_read(tmp_path, "a.nii", data).pixels[0], VOLUME)


# --- blocks and masks ----------------------------------------------------------------


@pytest.mark.parametrize("make", [nrrd, mha])
def test_a_block_of_another_shape_does_not_count(make: Any, tmp_path: Path) -> None:
    text = Block(Geometry.pixels(2), BONES).dump()
    if make is nrrd:
        data = nrrd().replace(b"\n\n", f"\nmedseg:={text}\n\n".encode(), 1)
    else:
        data = mha(fields={"medseg": text})
    name = "a.nrrd" if make is nrrd else "a.mha"
    assert _read(tmp_path, name, data).geometry.spacing == (2.0, 1.5, 1.0)


def test_labels_of_another_kind_take_the_file_as_it_is(tmp_path: Path) -> None:
    mask = np.array([[[1, 0]], [[1, 1]]], np.uint8)
    layers = LabelSet(BONES.labels, "overlapping")
    write_segmentation(
        Segmentation(mask, layers, Geometry.pixels(2)), tmp_path / "m.tif"
    )
    other = LabelSet(
        (Label(1, "x", "#ff0000"), Label(2, "y", "#00ff00")), "overlapping"
    )
    np.testing.assert_array_equal(
        read_segmentation(tmp_path / "m.tif", other).mask, mask
    )


def test_boolean_masks(tmp_path: Path) -> None:
    cell = LabelSet((Label(1, "cell", "#ffffff"),), "instances")
    mask = GREY > 9
    write_segmentation(Segmentation(mask, cell, Geometry.pixels(2)), tmp_path / "m.tif")
    np.testing.assert_array_equal(read_segmentation(tmp_path / "m.tif").mask, mask)
    tifffile.imwrite(tmp_path / "b.tif", mask, metadata=None)
    np.testing.assert_array_equal(
        read_segmentation(tmp_path / "b.tif", cell).mask, mask
    )


def test_a_missing_mask_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No such file"):
        read_segmentation(tmp_path / "m.nii", BONES)


def test_reading_leaves_no_log_handlers_behind(tmp_path: Path) -> None:
    # One more a file would grow over thousands of films.
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    (tmp_path / "a.dcm").write_bytes(dicom())
    counts = []
    for _ in range(3):
        for name in ("a.tif", "a.dcm"):
            read_image(tmp_path / name)
        counts.append(
            [len(logging.getLogger(name).handlers) for name in ("tifffile", "pydicom")]
        )
    assert counts[0] == counts[1] == counts[2]


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("bzip2", bz2.compress)]
)
def test_packed_pixels_of_more_than_one_piece(
    tmp_path: Path, encoding: str, pack: Any
) -> None:
    # 2^24 bytes are unpacked at a time.
    pixels = np.zeros((2, 2100, 4200), np.uint8)
    pixels[-1, -1] = 7
    data = pack(pixels.tobytes())
    (tmp_path / "a.nrrd").write_bytes(nrrd(pixels, {"encoding": encoding}, data))
    np.testing.assert_array_equal(read_image(tmp_path / "a.nrrd").pixels[0], pixels)


def test_no_files_have_no_numbers(tmp_path: Path) -> None:
    assert by_number(tmp_path, []) == {}

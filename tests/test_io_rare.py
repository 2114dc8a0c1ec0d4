"""Files that few programs write, and files of ours that another program edited."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from malformed import VOLUME, nrrd
from malformed_dicom import series
from PIL import Image as Pillow

from medseg.errors import ConfigError, FileError, ImageWarning
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.io import (
    atomic,
    probe,
    read_image,
    read_segmentation,
    write_image,
    write_segmentation,
)
from medseg.io.ctc import read_labels
from medseg.labels import Label, LabelSet
from medseg.segmentation import Segmentation

ONE = LabelSet((Label(1, "a", "#ff0000"),))
GREY = np.arange(20, dtype=np.uint8).reshape(4, 5)


# --- TIFF --------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "channels"), [("unassalpha", 1), ("unspecified", 2)])
def test_the_alpha_of_a_grey_tiff_is_no_channel(
    kind: str, channels: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.tif"
    pixels = np.stack([GREY, np.full_like(GREY, 255)], axis=-1)
    tifffile.imwrite(
        path, pixels, photometric="minisblack", planarconfig="contig",
        extrasamples=[kind], metadata=None,
    )  # fmt: skip
    if channels == 2:
        np.testing.assert_array_equal(read_image(path).pixels[0], GREY)
        assert probe(path).shape == (2, 4, 5)
        return
    with pytest.warns(ImageWarning, match="grey with 1 more samples"):
        image = read_image(path)
    np.testing.assert_array_equal(image.pixels, GREY[None])
    assert probe(path).shape == (1, 4, 5)


def _retagged(data: bytes, tag: int, value: int) -> bytes:
    """Return a little-endian TIFF with another value of one SHORT tag."""
    entry = struct.pack("<HHI", tag, 3, 1)
    at = data.index(entry) + len(entry)
    return data[:at] + struct.pack("<HH", value, 0) + data[at + 4 :]


@pytest.mark.parametrize(
    ("photometric", "word"), [(2, "colour TIFF with 1 samples"), (6, "with 1 samples")]
)
def test_colour_of_one_sample_is_refused(
    photometric: int, word: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY, photometric="minisblack", metadata=None)
    path.write_bytes(_retagged(path.read_bytes(), 262, photometric))
    with pytest.raises(FileError, match=word):
        read_image(path)


def test_luminance_and_chroma_are_read_as_jpeg_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = np.stack([GREY] * 3, axis=-1)
    tifffile.imwrite(path, pixels, photometric="rgb", metadata=None)
    path.write_bytes(_retagged(path.read_bytes(), 262, 6))
    with pytest.raises(FileError, match="YCbCr pixels that are no JPEG"):
        read_image(path)
    tifffile.imwrite(path, pixels, photometric="rgb", compression="jpeg")
    assert read_image(path).pixels.shape[1:] == (4, 5)


def test_an_empty_mask_in_one_strip_of_lzw_is_no_lie(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    empty = np.zeros((2400, 2400), np.uint16)  # 1200 times smaller when packed
    tifffile.imwrite(path, empty, compression="lzw", rowsperstrip=2400)
    assert empty.nbytes > 1100 * path.stat().st_size
    assert not read_image(path).pixels.any()
    packed = path.read_bytes()
    for tag, length in ((257, 4), (278, 4)):  # ImageLength, RowsPerStrip
        side = struct.pack("<HHII", tag, length, 1, 2400)
        short = struct.pack("<HHIHH", tag, 3, 1, 2400, 0)
        for old in (side, short):
            packed = packed.replace(old, struct.pack("<HHII", tag, 4, 1, 40000))
    path.write_bytes(packed)
    with pytest.raises(FileError, match="lies about its size"):
        read_image(path)


# --- PNG and JPEG ------------------------------------------------------------------


def test_the_limit_on_pixels_is_ours_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Pillow.fromarray(GREY).save(tmp_path / "a.jpg")
    picture = Pillow.fromarray(GREY // 10, "L").convert("P")
    picture.save(tmp_path / "a.png")
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 2)  # would refuse 5 or more
    for name in ("a.jpg", "a.png"):
        assert read_image(tmp_path / name).pixels.shape == (1, 4, 5)


def test_numbered_cells_are_read_as_stored(tmp_path: Path) -> None:
    cells = np.array([[0, 1], [2, 2]], np.uint8)
    picture = Pillow.fromarray(cells).convert("P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "palette.png"), cells)
    tifffile.imwrite(tmp_path / "white.tif", cells, photometric="miniswhite")
    np.testing.assert_array_equal(read_labels(tmp_path / "white.tif"), cells)


# --- edited by others --------------------------------------------------------------


def _pixels_mask(shape: tuple[int, ...]) -> Segmentation:
    return Segmentation(np.ones(shape, np.uint8), ONE, Geometry.pixels(len(shape)))


def test_a_voxel_size_given_later_to_a_nifti_without(tmp_path: Path) -> None:
    import nibabel as nib

    write_segmentation(_pixels_mask((2, 3, 4)), tmp_path / "m.nii.gz")
    assert read_segmentation(tmp_path / "m.nii.gz").geometry == Geometry.pixels(3)
    image = nib.load(tmp_path / "m.nii.gz")
    edited = nib.Nifti1Image(image.dataobj, np.diag([2, 2, 5, 1.0]), image.header)
    nib.save(edited, tmp_path / "n.nii.gz")
    geometry = read_segmentation(tmp_path / "n.nii.gz").geometry
    assert (geometry.unit, geometry.spacing) == ("mm", (5.0, 2.0, 2.0))


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_voxel_size_given_later_to_a_mask_without(
    suffix: str, tmp_path: Path
) -> None:
    import SimpleITK

    path = tmp_path / f"m{suffix}"
    write_segmentation(_pixels_mask((2, 3, 4)), path)
    assert read_segmentation(path).geometry == Geometry.pixels(3)
    image = SimpleITK.ReadImage(path)
    image.SetSpacing((2.0, 2.0, 5.0))
    SimpleITK.WriteImage(image, path)
    geometry = read_segmentation(path).geometry
    assert (geometry.unit, geometry.spacing) == ("mm", (5.0, 2.0, 2.0))


def test_planes_of_ours_that_became_a_volume(tmp_path: Path) -> None:
    import nibabel as nib

    write_segmentation(_pixels_mask((3, 4)), tmp_path / "plane.nii")
    header = nib.load(tmp_path / "plane.nii", mmap=False).header
    stack = nib.Nifti1Image(np.ones((4, 3, 2), np.uint8), np.eye(4), header)
    nib.save(stack, tmp_path / "stack.nii")
    assert read_segmentation(tmp_path / "stack.nii").mask.shape == (2, 3, 4)


# --- NRRD --------------------------------------------------------------------------


def test_lines_are_skipped_before_bytes(tmp_path: Path) -> None:
    fields: dict[str, str | None] = {"line skip": "1", "byte skip": "3"}
    data = b"a line\nxyz" + VOLUME.tobytes()
    (tmp_path / "a.nrrd").write_bytes(nrrd(fields=fields, data=data))
    np.testing.assert_array_equal(read_image(tmp_path / "a.nrrd").pixels[0], VOLUME)
    packed = gzip.compress(b"xyz" + VOLUME.tobytes())
    fields = {"encoding": "gzip", "byte skip": "3"}
    (tmp_path / "b.nrrd").write_bytes(nrrd(fields=fields, data=packed))
    with pytest.raises(FileError, match="byte skip of 3 in gzip data is not read"):
        read_image(tmp_path / "b.nrrd")


@pytest.mark.parametrize(("kind", "colours"), [("RGB-color", True), ("list", False)])
def test_three_values_a_pixel_are_colours_where_the_nrrd_says_so(
    kind: str, colours: bool, tmp_path: Path
) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)  # colours run fastest
    fields: dict[str, str | None] = {
        "space": None,
        "space dimension": "2",
        "space directions": "none (1,0) (0,1)",
        "space origin": None,
        "kinds": f"{kind} domain domain",
    }
    (tmp_path / "a.nrrd").write_bytes(nrrd(pixels, fields))
    image = read_image(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(image.pixels, np.moveaxis(pixels, -1, 0))
    assert image.has_colours == colours


def test_a_data_file_may_be_called_a_listing(tmp_path: Path) -> None:
    (tmp_path / "listing.raw").write_bytes(VOLUME.tobytes())
    fields: dict[str, str | None] = {"data file": "listing.raw"}
    (tmp_path / "a.nhdr").write_bytes(nrrd(fields=fields, data=b""))
    np.testing.assert_array_equal(read_image(tmp_path / "a.nhdr").pixels[0], VOLUME)


def test_names_of_labels_make_no_header_lines(tmp_path: Path) -> None:
    labels = LabelSet((Label(1, "a\nsizes: 9 9\n\nb", "#ff0000"),))
    seg = Segmentation(np.ones((2, 3), np.uint8), labels, Geometry.pixels(2))
    write_segmentation(seg, tmp_path / "m.nrrd")
    assert read_segmentation(tmp_path / "m.nrrd").labels == labels


# --- what is written ---------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".nii.gz", ".nrrd", ".mha"])
def test_images_of_the_other_byte_order_are_written(
    suffix: str, tmp_path: Path
) -> None:
    image = Image.from_array(GREY.astype(">u2")[None] * 257)
    path = write_image(image, tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_image(path).pixels, image.pixels)


def test_a_type_that_no_format_holds(tmp_path: Path) -> None:
    for suffix in (".nii.gz", ".nrrd", ".mha", ".tif"):
        with pytest.raises(FileError, match="pixels are not written"):
            write_image(
                Image.from_array(np.ones((1, 2, 2), np.longdouble)),
                tmp_path / f"a{suffix}",
            )
    assert not list(tmp_path.iterdir())


def test_a_grey_png_of_three_channels_is_one(tmp_path: Path) -> None:
    path = write_image(Image.from_array(np.stack([GREY] * 3)), tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(path).pixels, GREY[None])


@pytest.mark.parametrize("colour", ["red", "#12345", "#12345g", ""])
def test_a_colour_is_six_digits(colour: str) -> None:
    with pytest.raises(ConfigError, match=r"labels\.colour.*#rrggbb"):
        LabelSet((Label(1, "a", colour),))


def test_infinite_pixels_are_counted(tmp_path: Path) -> None:
    pixels = np.array([[[np.inf, 1.0, -np.inf]]], np.float32)
    path = write_image(Image.from_array(pixels), tmp_path / "a.tif")
    with pytest.warns(ImageWarning, match="2 of 3 pixels are infinite"):
        read_image(path)


def test_a_letter_is_not_cut_in_two(tmp_path: Path) -> None:
    name = "x" * 199 + "é" * 10 + ".bin"
    with atomic.replace_file(tmp_path / name) as part:
        part.name.encode("utf-8")  # no half of a letter
        assert part.name.startswith("." + "x" * 199 + ".")
    stale = tmp_path / ".two\nlines.tif.12.0123abcd.part"
    stale.touch()
    os.utime(stale, (0, 0))
    assert atomic.remove_stale(tmp_path) == 1


# --- what cannot be opened ---------------------------------------------------------


def _refuse(monkeypatch: pytest.MonkeyPatch, name: str, after: int = 0) -> None:
    """Make opening a file of this name fail, as one without rights does."""
    real, left = Path.open, [after]

    def fail(self: Path, *args: Any, **options: Any) -> Any:
        if self.name == name:
            left[0] -= 1
            if left[0] < 0:
                raise PermissionError(13, "Permission denied")
        return real(self, *args, **options)

    monkeypatch.setattr(Path, "open", fail)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_slice_that_cannot_be_opened(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series(tmp_path)
    _refuse(monkeypatch, "7.dcm", after)  # listing, header, pixels
    with pytest.raises(FileError, match=r"7\.dcm: cannot be opened: Permission"):
        read_image(tmp_path)


def test_a_series_that_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(FileError, match="cannot be listed: Permission"):
        read_image(tmp_path)


def test_packed_text_is_no_nifti(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(b"text " * 100))
    with pytest.raises(FileError, match="the content is not a NIfTI header"):
        read_image(tmp_path / "a.nii.gz")


def test_a_mask_that_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_segmentation(_pixels_mask((2, 3)), tmp_path / "m.tif")
    _refuse(monkeypatch, "m.tif")
    with pytest.raises(FileError, match="cannot be opened: Permission"):
        read_segmentation(tmp_path / "m.tif")
    with pytest.raises(FileError, match="File name too long"):
        read_segmentation("x" * 300)


def test_the_folder_of_a_split_mask_may_be_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seg = _pixels_mask((2, 3))
    write_segmentation(seg, tmp_path / "m.png", split_labels=True)
    monkeypatch.chdir(tmp_path / "m")
    np.testing.assert_array_equal(read_segmentation(".").mask, seg.mask)

"""Masks of other programs, the names of files, and every refusal that is left."""

from __future__ import annotations

import io
import json
import os
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from malformed import GREY, VOLUME, mha, nifti, nrrd, png, png_chunk, tiff
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from medseg.errors import ConfigError, FileError, ImageWarning
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.io import (
    IMAGE_SUFFIXES,
    Limits,
    is_image_name,
    probe,
    read_image,
    read_segmentation,
    write_image,
    write_segmentation,
)
from medseg.io.block import Block, parse_block
from medseg.labels import Label, LabelSet, chest_labels
from medseg.segmentation import Segmentation, stamped

if TYPE_CHECKING:
    from pathlib import Path

BONES = LabelSet((Label(1, "a", "#ff0000"), Label(2, "b", "#00ff00")))
LAYERS = LabelSet(BONES.labels, "overlapping")
ONE = LabelSet((Label(3, "only", "#ff0000"),))
CELLS = LabelSet((Label(1, "cell", "#ffffff"),), "instances")
EYE = Geometry.pixels(3).direction
MAP = np.array([[0, 1], [2, 1]], np.uint8)


def _png(path: Path, pixels: np.ndarray) -> Path:
    Pillow.fromarray(pixels).save(path)
    return path


def test_a_foreign_map_needs_labels(tmp_path: Path) -> None:
    path = _png(tmp_path / "m.png", MAP)
    with pytest.raises(FileError, match="states no label names"):
        read_segmentation(path)
    np.testing.assert_array_equal(read_segmentation(path, BONES).mask, MAP)
    np.testing.assert_array_equal(
        read_segmentation(path, LAYERS).mask, [MAP == 1, MAP == 2]
    )
    np.testing.assert_array_equal(read_segmentation(path, CELLS).mask, MAP)


def test_a_mask_of_one_label_may_use_any_value(tmp_path: Path) -> None:
    path = _png(tmp_path / "m.png", (MAP == 1) * np.uint8(255))
    np.testing.assert_array_equal(read_segmentation(path, ONE).mask, (MAP == 1) * 3)
    one = LabelSet(ONE.labels, "overlapping")
    np.testing.assert_array_equal(read_segmentation(path, one).mask, [MAP == 1])


def test_values_without_a_label_are_named(tmp_path: Path) -> None:
    path = _png(tmp_path / "m.png", MAP * 9)
    for labels in (BONES, LAYERS):
        with pytest.raises(FileError, match=r"2 values without a label \(9, 18\)"):
            read_segmentation(path, labels)
    big = np.full((2, 2), 2**20, np.uint32)
    tifffile.imwrite(tmp_path / "m.tif", big, metadata=None)
    with pytest.raises(FileError, match="1048576"):
        read_segmentation(tmp_path / "m.tif", BONES)


def test_channels_that_are_not_the_labels_are_refused(tmp_path: Path) -> None:
    layers = np.stack([MAP, MAP, MAP * 0]).astype(np.uint16)
    write_image(Image.from_array(layers), tmp_path / "m.tif")
    for labels in (BONES, LAYERS):
        with pytest.raises(FileError, match="holds 3 channels"):
            read_segmentation(tmp_path / "m.tif", labels)


def test_channels_are_found_by_name(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 2, (5, 4, 4), np.uint8)
    seg = Segmentation(mask, chest_labels(), Geometry.pixels(2))
    write_segmentation(seg, tmp_path / "m.tif")
    some = LabelSet(chest_labels().labels[3:1:-1], "overlapping")
    np.testing.assert_array_equal(
        read_segmentation(tmp_path / "m.tif", some).mask, mask[[3, 2]]
    )


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.int16])
def test_labels_stored_as_other_numbers(kind: type, tmp_path: Path) -> None:
    volume = (VOLUME % 3).astype(kind)
    (tmp_path / "m.nii").write_bytes(nifti(volume))
    back = read_segmentation(tmp_path / "m.nii", BONES)
    np.testing.assert_array_equal(back.mask, volume)
    assert back.mask.dtype.kind in "iu"


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (0.5, "not whole"),
        (np.nan, "not whole"),
        (-1, "negative"),
        (2.0**60, "too large"),
    ],
)
def test_what_is_no_mask(value: float, word: str, tmp_path: Path) -> None:
    volume = np.zeros((2, 3, 4), np.float32)
    volume[0, 0, 0] = value
    (tmp_path / "m.nii").write_bytes(nifti(volume))
    with pytest.raises(FileError, match=word):
        read_segmentation(tmp_path / "m.nii", BONES)


def test_a_palette_mask_gives_its_indices(tmp_path: Path) -> None:
    picture = Pillow.fromarray(MAP, "P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "m.png")
    np.testing.assert_array_equal(
        read_segmentation(tmp_path / "m.png", BONES).mask, MAP
    )
    colours = read_image(tmp_path / "m.png").pixels
    np.testing.assert_array_equal(colours[:, 0, 1], [255, 0, 0])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_are_values_not_shades(depth: int, tmp_path: Path) -> None:
    values = np.arange(16, dtype=np.uint8).reshape(2, 8) % 2**depth
    rows = []
    for row in values:
        bits = np.unpackbits(row[:, None], axis=1)[:, 8 - depth :]
        rows.append(np.packbits(bits.ravel()))
    data = png(np.stack(rows), depth, size=(2, 8))
    (tmp_path / "m.png").write_bytes(data)
    np.testing.assert_array_equal(read_image(tmp_path / "m.png").pixels[0], values)


def test_warnings_of_a_mask_are_given(tmp_path: Path) -> None:
    data = nifti(VOLUME % 3, fields={"sform_code": 0, "qform_code": 0})
    (tmp_path / "m.nii").write_bytes(data)
    with pytest.warns(match="neither sform nor qform"):
        read_segmentation(tmp_path / "m.nii", BONES)


def test_split_masks_that_do_not_fit(tmp_path: Path) -> None:
    folder = tmp_path / "film"
    folder.mkdir()
    with pytest.raises(FileError, match="no PNG masks"):
        read_segmentation(folder)
    _png(folder / "a.png", MAP)
    with pytest.raises(FileError, match="states no label name"):
        read_segmentation(folder)
    for labels, word in (((), "states no label name"), (BONES.labels, "states 2")):
        block = Block(Geometry.pixels(2), LabelSet(labels)).dump()
        note = PngInfo()
        note.add_text("medseg", block)
        Pillow.fromarray(MAP).save(folder / "a.png", pnginfo=note)
        with pytest.raises(FileError, match=word):
            read_segmentation(folder)
    _png(folder / "a.png", MAP)
    with pytest.raises(FileError, match=r"has no b\.png"):
        read_segmentation(folder, BONES)
    _png(folder / "b.png", MAP)
    with pytest.raises(FileError, match="overlap"):
        read_segmentation(folder, BONES)
    with pytest.raises(FileError, match="cannot hold instances"):
        read_segmentation(folder, LabelSet(LAYERS.labels[:1], "instances"))
    _png(folder / "b.png", np.zeros((3, 3), np.uint8))
    with pytest.raises(FileError, match="has size"):
        read_segmentation(folder, LAYERS)
    seg = Segmentation(
        (MAP > 0).astype(np.uint8)[None],
        LabelSet((Label(1, "b", "#ff0000"),), "overlapping"),
        Geometry.upright((2.0, 2.0)),
    )
    write_segmentation(seg, tmp_path / "film.png", split_labels=True)
    with pytest.raises(FileError, match="another geometry"):
        read_segmentation(folder, LAYERS)


def test_files_of_one_folder_that_are_no_parts_of_one_mask(tmp_path: Path) -> None:
    def write(name: str, labels: LabelSet) -> None:
        write_segmentation(
            Segmentation(MAP.clip(0, 1), labels, Geometry.pixels(2)), tmp_path / name
        )

    one = LabelSet(BONES.labels[:1])
    write("t0.png", CELLS)
    with pytest.raises(
        FileError, match=r"t0\.png: states numbered cells: not the mask"
    ):
        read_segmentation(tmp_path)
    write("t0.png", one)
    write("t1.png", one)
    with pytest.raises(FileError, match=r"t0\.png and t1\.png both state the label 1"):
        read_segmentation(tmp_path)
    write("t1.png", LabelSet((Label(2, "a", "#ff0000"),)))
    with pytest.raises(FileError, match="both state the label 'a'") as caught:
        read_segmentation(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_split_masks_of_other_formats_are_of_0_and_1(tmp_path: Path) -> None:
    layers = np.stack([MAP == 1, MAP == 2]).astype(np.uint8)
    for labels, mask in ((LAYERS, layers), (BONES, MAP)):
        seg = Segmentation(mask, labels, Geometry.pixels(2))
        written = write_segmentation(seg, tmp_path / "m.nii.gz", split_labels=True)
        assert [str(p.relative_to(tmp_path)) for p in written] == [
            "m/a.nii.gz",
            "m/b.nii.gz",
        ]
        for path, name in zip(written, "ab", strict=True):
            stored = read_image(path, stored=True).pixels[0]
            np.testing.assert_array_equal(stored, seg.structure(name))
            back = read_segmentation(path)
            np.testing.assert_array_equal(back.structure(name), seg.structure(name))


MADE = {"model": "m", "parameters": {"thresholds": [0.5, 0.25]}}


@pytest.mark.parametrize("on", [1, 255])
def test_pages_of_one_value_are_structures(on: int, tmp_path: Path) -> None:
    """As tifffile saves channels; several values are labels of a volume's slices."""
    layers = np.stack([MAP == 1, MAP == 2]).astype(np.uint8)
    tifffile.imwrite(tmp_path / "m.tif", layers * np.uint8(on))
    back = read_segmentation(tmp_path / "m.tif", otherwise=LAYERS)
    np.testing.assert_array_equal(back.mask, layers)
    assert back.geometry.ndim == 2
    tifffile.imwrite(tmp_path / "v.tif", np.stack([MAP, MAP]))
    volume = read_segmentation(tmp_path / "v.tif", LAYERS)
    np.testing.assert_array_equal(volume.structure("b"), np.stack([MAP, MAP]) == 2)


@pytest.mark.parametrize("labels", [BONES, LAYERS, CELLS], ids=lambda x: x.kind)
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".tif", ".png"])
def test_the_provenance_goes_with_the_mask_until_it_is_changed(
    labels: LabelSet, suffix: str, tmp_path: Path
) -> None:
    channels = labels.kind == "overlapping"
    mask = np.stack([MAP == 1, MAP == 2]) if channels else MAP.astype(np.int64)
    path = tmp_path / f"m{suffix}"
    split = channels and suffix == ".png"
    seg = Segmentation(mask, labels, Geometry.pixels(2), stamped(MADE, mask))
    write_segmentation(seg, path, split_labels=split)
    back = read_segmentation(path)
    assert back.provenance == seg.provenance
    write_segmentation(back, path, split_labels=split)
    assert read_segmentation(path).provenance == back.provenance
    changed = mask.copy()
    changed[..., 0, 0] = 1
    write_segmentation(replace(back, mask=changed), path, split_labels=split)
    assert read_segmentation(path).provenance == {}
    write_segmentation(replace(seg, provenance=MADE), path, split_labels=split)
    assert read_segmentation(path).provenance == {}  # of which mask is not said


def test_a_mask_changed_by_another_program_has_no_provenance(tmp_path: Path) -> None:
    """nibabel keeps the header's extension, in which the provenance is."""
    path = tmp_path / "m.nii"
    seg = Segmentation(MAP[None], BONES, Geometry.pixels(3), stamped(MADE, MAP))
    write_segmentation(seg, path)
    stored = nib.load(path)
    pixels = np.array(stored.dataobj)
    nib.save(nib.Nifti1Image(pixels, stored.affine, stored.header), path)
    assert read_segmentation(path).provenance["model"] == "m"
    nib.save(nib.Nifti1Image(2 - pixels, stored.affine, stored.header), path)
    assert read_segmentation(path).labels == BONES
    assert read_segmentation(path).provenance == {}


def test_what_a_png_cannot_hold(tmp_path: Path) -> None:
    seg = Segmentation(np.zeros((2, 2, 2), np.uint8), LAYERS, Geometry.pixels(2))
    with pytest.raises(FileError, match=r"2 overlapping labels.*\.tif"):
        write_segmentation(seg, tmp_path / "m.png")
    cells = Segmentation(MAP, CELLS, Geometry.pixels(2))
    with pytest.raises(FileError, match="cannot hold instances"):
        write_segmentation(cells, tmp_path / "m.png", split_labels=True)
    volume = Segmentation(np.zeros((2, 2, 2), np.uint8), BONES, Geometry.pixels(3))
    with pytest.raises(FileError, match="volume"):
        write_segmentation(volume, tmp_path / "m.png")
    with pytest.raises(FileError, match="float32"):
        write_image(
            Image.from_array(np.zeros((1, 2, 2), np.float32)), tmp_path / "i.png"
        )
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("name", ["../x", "a/b", "", "..", "a\nb", "x" * 300])
def test_a_label_name_is_never_a_path(name: str, tmp_path: Path) -> None:
    labels = LabelSet((Label(1, name, "#ff0000"),), "overlapping")
    seg = Segmentation(np.zeros((1, 2, 2), np.uint8), labels, Geometry.pixels(2))
    with pytest.raises(FileError, match="cannot be a file name"):
        write_segmentation(seg, tmp_path / "m.png", split_labels=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["m.jpg", "m.mhd", "m.nhdr", "m", "m.txt"])
def test_what_is_not_written(name: str, tmp_path: Path) -> None:
    image = Image.from_array(np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(FileError, match="cannot write"):
        write_image(image, tmp_path / name)
    with pytest.raises(FileError, match="complex"):
        write_image(Image.from_array(np.zeros((1, 2, 2), complex)), tmp_path / "i.tif")


def test_nifti_holds_short_sides_only(tmp_path: Path) -> None:
    image = Image.from_array(np.zeros((1, 1, 40_000), np.uint8))
    with pytest.raises(FileError, match="32767"):
        write_image(image, tmp_path / "i.nii")


# --- names, blocks, limits -----------------------------------------------------------


def test_image_names() -> None:
    assert all(is_image_name(f"a{s}") for s in IMAGE_SUFFIXES)
    assert is_image_name("A.NII.GZ")
    assert is_image_name("b.Tif")
    assert not any(
        map(is_image_name, ("a.txt", "nii", ".a.tif", ".m.tif.1.00000000.part"))
    )


@pytest.mark.parametrize(
    ("name", "data", "word"),
    [
        ("a", b"some text", "no image suffix, and the content is text"),
        ("a.bin", b"\0\1\2", "no image suffix, and the content is not recognised"),
        ("a.png", tiff(), "Rename it to end in .tif"),
        ("a.tif", b"PK\3\4", "zip archive"),
        ("a.nrrd", mha(), "content is metaimage"),
        ("a.dcm", png(), "content is png"),
        ("a.nii", b"\1\2" * 9, "352 bytes, 18 present"),
    ],
)
def test_a_wrong_kind_says_what_it_is(
    name: str, data: bytes, word: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(FileError, match=word):
        read_image(tmp_path / name)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No such file"):
        read_image(tmp_path / "a.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "f.png")
        with pytest.raises(FileError, match="not a regular file"):
            read_image(tmp_path / "f.png")
    (tmp_path / "b.png\x1b[2J").write_bytes(b"")
    with pytest.raises(FileError) as caught:
        read_image(tmp_path / "b.png\x1b[2J")
    assert "\x1b" not in str(caught.value)


def test_limits(tmp_path: Path) -> None:
    path = write_image(
        Image.from_array(np.zeros((1, 20, 20), np.uint16)), tmp_path / "i.tif"
    )
    with pytest.raises(
        FileError, match=r"400 pixels, over the limit of 399.*max_pixels"
    ):
        read_image(path, limits=Limits(max_pixels=399))
    with pytest.raises(FileError, match=r"800 bytes.*max_bytes"):
        probe(path, limits=Limits(max_bytes=799))
    assert read_image(path, limits=Limits(400, 800)).pixels.shape == (1, 20, 20)
    for field in ("max_pixels", "max_bytes", "max_header"):
        with pytest.raises(ConfigError, match=field):
            Limits(**{field: 0})


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[" * 5000, '{"version":1}', "x" * 2**21, '{"version":1,"spacing":[0,1],"origin":[0,0],"direction":[[1,0],[0,1]],"unit":"mm","detector_plane":false}'],
)  # fmt: skip
def test_a_damaged_block_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="block is damaged"):
        parse_block(tmp_path, text)
    with pytest.raises(FileError, match="Update medseg"):
        parse_block(tmp_path, '{"version": 2}')


def test_a_damaged_block_in_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(png(extra=png_chunk(b"tEXt", b"medseg\0{]")))
    with pytest.raises(FileError, match="block is damaged"):
        read_image(tmp_path / "m.png")


# --- formats, the rest -----------------------------------------------------------------


def test_resolution_of_a_tiff(tmp_path: Path) -> None:
    path = tmp_path / "i.tif"
    for resolution, unit, spacing in (
        ((50, 100), "CENTIMETER", (0.1, 0.2)),
        ((254, 127), "INCH", (0.2, 0.1)),
        ((72, 72), "INCH", None),
        ((96, 96), "INCH", None),
        ((50, 100), "NONE", None),
        ((1, 1), "INCH", None),
        ((300, 300), "INCH", None),  # for paper
        ((118.11, 118.11), "CENTIMETER", None),  # the same
    ):
        tifffile.imwrite(
            path, GREY, resolution=resolution, resolutionunit=unit, metadata=None
        )
        geometry = read_image(path).geometry
        expected = Geometry.upright(spacing) if spacing else Geometry.pixels(2)
        assert geometry.unit == expected.unit
        assert geometry.spacing == pytest.approx(expected.spacing)
    tifffile.imwrite(path, GREY, metadata=None)
    assert read_image(path).geometry.unit == "px"


@pytest.mark.parametrize("ome", [False, True])
@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("ZYX", (3, 5, 6), (1, 3, 5, 6)),
        ("CYX", (3, 5, 6), (3, 5, 6)),
        ("ZCYX", (2, 3, 5, 6), (3, 2, 5, 6)),
        ("YX", (5, 6), (1, 5, 6)),
    ],
)
def test_axes_of_imagej_and_ome(
    ome: bool,
    axes: str,
    shape: tuple[int, ...],
    expected: tuple[int, ...],
    tmp_path: Path,
) -> None:
    pixels = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    path = tmp_path / ("a.ome.tif" if ome else "a.tif")
    size = {f"PhysicalSize{a}": v for a, v in zip("XYZ", (0.5, 0.25, 2.0), strict=True)}
    if ome:
        tifffile.imwrite(path, pixels, metadata={"axes": axes, **size})
    else:
        tifffile.imwrite(
            path, pixels, imagej=True, resolution=(2, 4),
            metadata={"axes": axes, "unit": "um", "spacing": 2.0},
        )  # fmt: skip
    image = read_image(path)
    assert image.pixels.shape == expected
    ours = np.moveaxis(pixels, 1, 0) if axes == "ZCYX" else pixels
    np.testing.assert_array_equal(image.pixels.reshape(ours.shape), ours)
    assert image.geometry.unit == "mm"
    spacing = (2e-3, 0.25e-3, 0.5e-3)[-image.geometry.ndim :]
    assert image.geometry.spacing == pytest.approx(spacing)


def test_a_movie_is_a_stack_with_a_warning(tmp_path: Path) -> None:
    movie = np.zeros((4, 5, 6), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", movie, imagej=True, metadata={"axes": "TYX"})
    with pytest.warns(match="movie of 4 frames"):
        assert read_image(tmp_path / "a.tif").pixels.shape == (1, 4, 5, 6)
    deep = np.zeros((2, 4, 5, 6), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", deep, imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(FileError, match="more than 3 axes"):
        read_image(tmp_path / "a.tif")


def _description(text: str) -> bytes:
    return tiff(description=text)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('<OME><Pixels SizeZ="4" SizeC="1" SizeT="1"/></OME>', "promise 4 pages"),
        ('<OME><UUID FileName="a.tif"/><UUID FileName="b.tif"/></OME>', "over 2 files"),
        ("x" * (2**20 + 1), "description of 1048577"),
    ],
)
def test_tiff_texts_that_are_refused(text: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(_description(text))
    with pytest.raises(FileError, match=word):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "text", ["{broken", '{"a": 1}', "words", "ImageJ=1\nunit=mm\n"]
)
def test_tiff_texts_that_say_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(_description(text))
    assert read_image(tmp_path / "a.tif").geometry == Geometry.pixels(2)


@pytest.mark.parametrize("planar", ["CONTIG", "SEPARATE"])
def test_tiff_colour(planar: str, tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (3, 7, 8), np.uint8)
    data = rgb if planar == "SEPARATE" else np.moveaxis(rgb, 0, -1)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, data, photometric="rgb", planarconfig=planar, metadata=None)
    np.testing.assert_array_equal(read_image(path).pixels, rgb)
    grey = np.stack([GREY] * 3, -1)
    tifffile.imwrite(path, grey, photometric="rgb", metadata=None)
    np.testing.assert_array_equal(read_image(path).pixels, GREY[None])
    more = np.concatenate(
        [data, data[:1] if planar == "SEPARATE" else data[..., :1]],
        axis=0 if planar == "SEPARATE" else -1,
    )
    tifffile.imwrite(path, more, photometric="rgb", planarconfig=planar, metadata=None)
    with pytest.warns(ImageWarning, match=r"1 more samples \(alpha\)"):
        image = read_image(path)
    np.testing.assert_array_equal(image.pixels, rgb)


@pytest.mark.parametrize("count", [3, 4])
def test_deep_colour_in_planes_is_refused(count: int, tmp_path: Path) -> None:
    path, planes = tmp_path / "a.tif", np.zeros((count, 7, 8), np.uint16)
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="SEPARATE")
    with pytest.raises(FileError, match=f"one page with {count} samples.*minisblack"):
        read_image(path)


def test_tiff_palette_and_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    table = np.zeros((3, 256), np.uint16)
    table[0] = np.arange(256) << 8
    tifffile.imwrite(path, MAP, photometric="palette", colormap=table, metadata=None)
    np.testing.assert_array_equal(read_segmentation(path, BONES).mask, MAP)
    np.testing.assert_array_equal(read_image(path).pixels[0], MAP)
    tifffile.imwrite(path, MAP > 0, photometric="miniswhite", metadata=None)
    np.testing.assert_array_equal(read_image(path).pixels[0], MAP == 0)
    np.testing.assert_array_equal(read_segmentation(path, ONE).mask, (MAP > 0) * 3)


@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_white_is_zero_of_other_types(kind: str, tmp_path: Path) -> None:
    pixels = (np.arange(6).reshape(2, 3) - 2).astype(kind)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric="miniswhite", metadata=None
    )
    back = read_image(tmp_path / "a.tif").pixels[0]
    assert (np.diff(back.ravel().astype(float)) == -1).all()


@pytest.mark.parametrize("packing", ["lzw", "zlib", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_tiff_compressions(packing: str, tile: Any, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 9, (40, 33), np.uint16)
    options = {"predictor": True} if packing in ("lzw", "zlib") else {}
    for big in (False, True):
        tifffile.imwrite(
            tmp_path / "a.tif",
            pixels,
            compression=packing,
            tile=tile,
            bigtiff=big,
            metadata=None,
            **options,
        )
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels[0], pixels)


def test_jpeg(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(16), np.arange(24)).astype(np.uint8) * 4
    Pillow.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    grey = read_image(tmp_path / "a.jpg")
    assert np.abs(grey.pixels[0].astype(int) - smooth).max() < 8
    rgb = np.stack([smooth, smooth // 2, smooth * 0], -1)
    exif = Pillow.Exif()
    exif[0x0112] = 6
    Pillow.fromarray(rgb).save(tmp_path / "b.jpg", exif=exif)
    with pytest.warns(match="orientation 6"):
        assert read_image(tmp_path / "b.jpg").pixels.shape == (3, 16, 24)
    Pillow.fromarray(rgb).convert("CMYK").save(tmp_path / "c.jpg")
    with pytest.raises(FileError, match="CMYK"):
        read_image(tmp_path / "c.jpg")


def test_nifti_of_other_shapes(tmp_path: Path) -> None:
    four = np.arange(120, dtype=np.int16).reshape(2, 3, 4, 5)
    (tmp_path / "a.nii").write_bytes(nifti(four))
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii").pixels, four)
    (tmp_path / "a.nii").write_bytes(nifti(four[:, None]))
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii").pixels, four)
    (tmp_path / "a.nii").write_bytes(nifti(four[:1]))
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii").pixels, four[:1])
    turned = {
        "srow_x": [0, 1, 0, 0],
        "srow_y": [0, 0, 1, 0],
        "srow_z": [1, 0, 0, 0],
        "qform_code": 0,
    }
    (tmp_path / "a.nii").write_bytes(nifti(VOLUME[0], fields=turned))
    with pytest.warns(match="not axial"):
        image = read_image(tmp_path / "a.nii")
    assert image.geometry == Geometry.upright((1.5, 1.0))


def test_nifti_2(tmp_path: Path) -> None:
    import nibabel as nib

    nib.save(nib.Nifti2Image(VOLUME.T, np.eye(4)), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii").pixels[0], VOLUME)


def test_nifti_fractional_scaling_is_float(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(nifti(fields={"scl_slope": 0.5, "scl_inter": 1}))
    pixels = read_image(tmp_path / "a.nii").pixels
    np.testing.assert_array_equal(pixels[0], VOLUME * 0.5 + 1)
    assert pixels.dtype == np.float32


def test_edited_geometry_wins_over_our_block(tmp_path: Path) -> None:
    import nibabel as nib

    seg = Segmentation(
        np.zeros((3, 4, 5), np.uint8), BONES, Geometry.upright((3.0, 2.0, 1.0))
    )
    write_segmentation(seg, tmp_path / "m.nii")
    image = nib.load(tmp_path / "m.nii", mmap=False)
    image.set_sform(np.diag([1.0, 2.0, 9.0, 1.0]))
    image.set_qform(np.diag([1.0, 2.0, 9.0, 1.0]))
    nib.save(image, tmp_path / "n.nii")
    back = read_segmentation(tmp_path / "n.nii")
    assert back.geometry.spacing == (9.0, 2.0, 1.0)
    assert back.labels == BONES


def test_detached_data_beside_the_header(tmp_path: Path) -> None:
    raw = VOLUME.tobytes()
    (tmp_path / "raw.bin").write_bytes(b"skip" + raw)
    (tmp_path / "a.nhdr").write_bytes(
        nrrd(fields={"data file": "raw.bin", "byte skip": "4"}, data=b"")
    )
    (tmp_path / "b.nhdr").write_bytes(
        nrrd(fields={"data file": "raw.bin", "byte skip": "-1"}, data=b"", end=b"")
    )
    (tmp_path / "c.mhd").write_bytes(
        mha(fields={"ElementDataFile": "raw.bin", "HeaderSize": "4"}, data=b"")
    )
    (tmp_path / "d.mhd").write_bytes(
        mha(fields={"ElementDataFile": "raw.bin", "HeaderSize": "-1"}, data=b"")
    )
    for name in ("a.nhdr", "b.nhdr", "c.mhd", "d.mhd"):
        np.testing.assert_array_equal(read_image(tmp_path / name).pixels[0], VOLUME)
    (tmp_path / "e.mhd").write_bytes(
        mha(fields={"ElementDataFile": "gone.bin"}, data=b"")
    )
    with pytest.raises(FileError, match="not there"):
        read_image(tmp_path / "e.mhd")
    (tmp_path / "link.bin").symlink_to("/etc/hostname")
    (tmp_path / "f.mhd").write_bytes(
        mha(fields={"ElementDataFile": "link.bin"}, data=b"")
    )
    with pytest.raises(FileError, match="outside its folder; not opened"):
        read_image(tmp_path / "f.mhd")


_FOUR = {
    "dimension": "4",
    "sizes": "2 5 4 3",
    "space directions": "none (1,0,0) (0,1,0) (0,0,1)",
}
NRRD_BAD = (
    ({"dimension": "9"}, "dimensions"),
    ({"dimension": "3 3"}, "dimensions"),
    ({"space": "left-posterior-superior-time"}, "space"),
    ({"space directions": "(1,0,0) (0,1,0)"}, "2 space directions"),
    ({"space directions": "(1,0) (0,1) (1,1)"}, "other than 3"),
    ({"space directions": "(1,a,0) (0,1,0) (0,0,1)"}, "not a list of numbers"),
    ({"space directions": "none none (0,0,1)"}, "2 axes that are not space"),
    ({"space origin": "(0,nan,0)"}, "space origin"),
    ({"space directions": None, "spacings": "1 2"}, "2 spacings"),
    ({"space directions": None, "spacings": "1 2 -1"}, "spacing"),
    ({"line without colon\nx": "1"}, "damaged NRRD header line"),
    ({"Type": "short"}, "twice"),
    (
        {
            "dimension": "2",
            "sizes": "5 12",
            "space directions": "none (1,0)",
            "kinds": None,
        },
        "1 axes of space",
    ),
)


@pytest.mark.parametrize(("fields", "word"), NRRD_BAD)
def test_nrrd_headers_that_are_refused(
    fields: dict[str, str | None], word: str, tmp_path: Path
) -> None:
    (tmp_path / "a.nrrd").write_bytes(nrrd(fields=fields))
    with pytest.raises(FileError, match=word):
        read_image(tmp_path / "a.nrrd")


def test_nrrd_channels_and_skipped_lines(tmp_path: Path) -> None:
    data = b"one\ntwo\n" + np.stack([VOLUME, VOLUME + 1], -1).tobytes()
    fields = {**_FOUR, "line skip": "2"}
    (tmp_path / "a.nrrd").write_bytes(nrrd(fields=fields, data=data))
    image = read_image(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(image.pixels, [VOLUME, VOLUME + 1])
    four = np.stack([VOLUME, VOLUME + 1]).tobytes()
    fields = {
        "dimension": "4",
        "sizes": "5 4 3 2",
        "space directions": None,
        "space": None,
        "space origin": None,
        "spacings": "1 1 1 nan",
    }
    (tmp_path / "b.nrrd").write_bytes(nrrd(fields=fields, data=four))
    with pytest.warns(match="spacings are taken"):
        image = read_image(tmp_path / "b.nrrd")
    np.testing.assert_array_equal(image.pixels, [VOLUME, VOLUME + 1])


def test_nrrd_ras_becomes_lps(tmp_path: Path) -> None:
    fields = {"space": "RAS", "space origin": "(1,2,3)"}
    (tmp_path / "a.nrrd").write_bytes(nrrd(fields=fields))
    geometry = read_image(tmp_path / "a.nrrd").geometry
    assert geometry.origin == (3.0, -2.0, -1.0)
    assert np.diag(np.array(geometry.direction)).tolist() == [1, -1, -1]
    (tmp_path / "b.nrrd").write_bytes(nrrd(fields={"space": "3D-right-handed"}))
    with pytest.warns(match="taken as LPS"):
        read_image(tmp_path / "b.nrrd")


MHA_BAD = (
    ({"NDims": None}, "NDims"),
    ({"NDims": "3 3"}, "not one number"),
    ({"DimSize": "5 4"}, "2 sizes"),
    ({"DimSize": "five"}, "not a list of integers"),
    ({"Offset": "0 0"}, "Offset"),
    ({"a line without sign\nx": "1"}, "damaged MetaImage header line"),
    ({"ElementDataFile": "LIST"}, "many files; not opened"),
)


@pytest.mark.parametrize(("fields", "word"), MHA_BAD)
def test_metaimage_headers_that_are_refused(
    fields: dict[str, str | None], word: str, tmp_path: Path
) -> None:
    (tmp_path / "a.mha").write_bytes(mha(fields=fields))
    with pytest.raises(FileError, match=word):
        read_image(tmp_path / "a.mha")


def test_metaimage_header_size_past_the_end(tmp_path: Path) -> None:
    (tmp_path / "raw.bin").write_bytes(VOLUME.tobytes())
    fields = {"ElementDataFile": "raw.bin", "HeaderSize": "9999"}
    (tmp_path / "a.mhd").write_bytes(mha(fields=fields, data=b""))
    with pytest.raises(FileError, match="HeaderSize of 9999"):
        read_image(tmp_path / "a.mhd")


def test_inputs_are_never_touched(tmp_path: Path) -> None:
    from malformed import FILES

    for case in FILES[::3]:
        path = case.make(tmp_path)
        before = path.read_bytes(), path.stat().st_mtime_ns
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for act in (read_image, probe, lambda p: read_segmentation(p, BONES)):
                try:
                    act(path)
                except FileError:
                    continue
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_no_free_text_is_written(tmp_path: Path) -> None:
    made = stamped({"patient": "canary", "model": "m"}, MAP)
    seg = Segmentation(MAP, BONES, Geometry.pixels(2), made)
    for suffix in (".nii", ".nrrd", ".mha", ".tif", ".png"):
        write_segmentation(seg, tmp_path / f"m{suffix}")
        assert b"canary" not in (tmp_path / f"m{suffix}").read_bytes()
    text = tifffile.TiffFile(io.BytesIO((tmp_path / "m.tif").read_bytes())).pages[0]
    assert set(json.loads(text.description)) == {"shape", "axes", "medseg"}


def test_axes_of_length_one_hold_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for axes, shape, expected in (
        ("TZCYX", (1, 1, 1, 4, 5), (1, 4, 5)),
        ("TZCYX", (3, 1, 1, 4, 5), (1, 3, 4, 5)),
        ("TCYX", (1, 2, 4, 5), (2, 4, 5)),
    ):
        stack = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImageWarning)  # time as z
            tifffile.imwrite(
                path, stack, metadata={"axes": axes}, photometric="minisblack"
            )
            pixels = read_image(path).pixels
        np.testing.assert_array_equal(pixels, stack.reshape(expected))
    thin = Image(GREY[None, None], Geometry.upright((3.0, 1.0, 2.0)))
    write_image(thin, path)  # but a volume stays one
    assert read_image(path).geometry == thin.geometry


def test_a_smaller_copy_is_no_slice_and_a_turned_page_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        turned = [(274, "H", 1, 6, True)]
        file.write(GREY, metadata=None, extratags=turned)
        file.write(GREY[::2, ::2], subfiletype=1, metadata=None)
    with pytest.warns(ImageWarning, match="TIFF orientation 6 is not applied"):
        found = read_image(path)
    np.testing.assert_array_equal(found.pixels, GREY[None])


@pytest.mark.parametrize(
    ("word", "factor"),
    [("um", 1e-3), ("micron", 1e-3), ("cm", 10.0), ("mm", 1.0), ("", 1.0)],
)
def test_lengths_are_read_in_their_unit(
    tmp_path: Path, word: str, factor: float
) -> None:
    path, axes = tmp_path / "v.nrrd", " ".join([f'"{word}"'] * 3)
    place = {"space units": axes, "space origin": "(4,5,6)"}
    upright = {"space directions": None, "space": None, "space origin": None}
    expected = Geometry.upright((2.0 * factor, 1.5 * factor, factor))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageWarning)
        path.write_bytes(nrrd(fields=place))
        found = read_image(path).geometry
        assert found.origin == pytest.approx((6 * factor, 5 * factor, 4 * factor))
        assert found.spacing == pytest.approx(expected.spacing)
        assert found.direction == expected.direction
        path.write_bytes(nrrd(fields={**upright, "spacings": "1 1.5 2", "units": axes}))
        assert read_image(path).geometry.spacing == pytest.approx(expected.spacing)
        path = tmp_path / "v.mha"
        path.write_bytes(mha(fields={"DistanceUnits": word, "Offset": "4 5 6"}))
        found = read_image(path).geometry
    assert found.origin == pytest.approx((6 * factor, 5 * factor, 4 * factor))
    assert found.spacing == pytest.approx(expected.spacing)


@pytest.mark.parametrize("words", ['"furlong" "mm" "mm"', '"um" "mm" "mm"'])
def test_lengths_in_unknown_or_mixed_units_are_none(tmp_path: Path, words: str) -> None:
    path = tmp_path / "v.nrrd"
    path.write_bytes(nrrd(fields={"space units": words}))
    with pytest.warns(ImageWarning, match="read without voxel size"):
        assert read_image(path).geometry == Geometry.pixels(3)


def test_a_far_origin_survives_the_32_bits_of_nifti(tmp_path: Path) -> None:
    spacing = (0.001, 0.00065, 0.00065)
    place = Geometry(spacing, (0.0121, -41.2007, 50.3004), EYE, "mm")
    seg = Segmentation(np.ones((1, 2, 3), np.uint8), ONE, place)
    write_segmentation(seg, tmp_path / "m.nii.gz")
    assert read_segmentation(tmp_path / "m.nii.gz").geometry == place
    moved = Geometry(spacing, (0.0121, -41.2007, 50.3010), EYE, "mm")
    assert not place.matches(moved)  # by one pixel


def test_stored_values_are_neither_inverted_nor_coloured(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "w.tif", MAP, photometric="miniswhite", metadata=None)
    picture = Pillow.fromarray(MAP, "P")
    picture.putpalette([9, 8, 7, 255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "p.png")
    for name in ("w.tif", "p.png"):
        found = read_image(tmp_path / name, stored=True)
        np.testing.assert_array_equal(found.pixels, MAP[None])
    inverted = read_image(tmp_path / "w.tif").pixels
    np.testing.assert_array_equal(inverted, 255 - MAP[None])


def test_labels_of_others_count_only_where_a_file_has_none(tmp_path: Path) -> None:
    ours = Segmentation(MAP, BONES, Geometry.pixels(2))
    write_segmentation(ours, tmp_path / "ours.tif")
    theirs = _png(tmp_path / "theirs.png", MAP)
    renamed = LabelSet((Label(1, "x", "#ff0000"), Label(2, "y", "#00ff00")))
    stated = read_segmentation(tmp_path / "ours.tif", otherwise=renamed)
    assert stated.labels == BONES
    assert read_segmentation(theirs, otherwise=renamed).labels == renamed

"""What is written is read back, by us and by others, with every axis in its place."""

from __future__ import annotations

import itertools
import tracemalloc
import warnings
from typing import TYPE_CHECKING

import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from malformed_dicom import STACK, series

from medseg.geometry import Geometry
from medseg.image import Image
from medseg.io import (
    atomic,
    read_image,
    read_segmentation,
    write_image,
    write_segmentation,
)
from medseg.io.limits import Limits
from medseg.io.read import opened
from medseg.labels import Label, LabelSet, chest_labels
from medseg.segmentation import Segmentation

if TYPE_CHECKING:
    from pathlib import Path

EXCLUSIVE = LabelSet((Label(1, "bone", "#ff0000"), Label(300, "fat", "#00ff00")))
CELLS = LabelSet((Label(1, "cell", "#ffffff"),), "instances")
SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".tif")
SPATIAL = (".nii", ".nii.gz", ".nrrd", ".mha")  # formats with a place for direction
SIZE = (3, 4, 5)
# All ways in which array axes can lie along world axes.
ORIENTATIONS = [
    (axes, signs)
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic.os, "fsync", lambda handle: None)


def oblique(ndim: int, seed: int = 0) -> Geometry:
    """Return a rotated geometry with different spacing along each axis."""
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(ndim, ndim)))
    direction = tuple(tuple(float(v) for v in row) for row in rotation)
    origin = (10.0, -20.0, 7.5)[:ndim]
    return Geometry((3.0, 2.0, 1.5)[:ndim], origin, direction, "mm")


def turned(axes: tuple[int, ...], signs: tuple[float, ...]) -> Geometry:
    """Return axis-aligned geometry: array axis i along world axis ``axes[i]``."""
    direction = np.zeros((3, 3))
    for i, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        direction[axis, i] = sign
    rows = tuple(tuple(float(v) for v in row) for row in direction)
    return Geometry((1.5, 2.0, 3.0), (-8.0, 16.0, 30.0), rows, "mm")


def geometries(ndim: int) -> list[Geometry]:
    film = Geometry.upright((0.7, 0.35, 0.25)[:ndim], detector_plane=True)
    return [oblique(ndim), Geometry.pixels(ndim), film]


def masks(ndim: int, geometry: Geometry) -> list[Segmentation]:
    rng = np.random.default_rng(3)
    size = SIZE[-ndim:]
    return [
        Segmentation(
            rng.integers(0, 2, (5, *size), np.uint8), chest_labels(), geometry
        ),
        Segmentation(rng.choice([0, 1, 300], size), EXCLUSIVE, geometry),
        Segmentation(rng.integers(0, 70_000, size), CELLS, geometry),
    ]


ALL_MASKS = [m for n in (2, 3) for g in geometries(n) for m in masks(n, g)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_mask_comes_back_with_labels_and_geometry(
    suffix: str, tmp_path: Path
) -> None:
    for seg in ALL_MASKS:
        _check_mask(seg, suffix, tmp_path)


def _check_mask(seg: Segmentation, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"mask{suffix}"
    assert write_segmentation(seg, path) == (path,)
    back = read_segmentation(path)
    np.testing.assert_array_equal(back.mask, seg.mask)
    assert back.labels == seg.labels
    assert back.geometry == seg.geometry
    first = path.read_bytes()
    write_segmentation(seg, path)
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"]
)
def test_an_image_comes_back_exactly(suffix: str, dtype: str, tmp_path: Path) -> None:
    for channels, ndim in ((1, 2), (3, 2), (4, 2), (1, 3), (3, 3)):
        _check_image(suffix, dtype, channels, ndim, tmp_path)


def _check_image(
    suffix: str, dtype: str, channels: int, ndim: int, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(1).normal(0, 99, (channels, *SIZE[-ndim:]))
    image = Image(pixels.astype(dtype), oblique(ndim))
    back = read_image(write_image(image, tmp_path / f"image{suffix}"))
    np.testing.assert_array_equal(back.pixels, image.pixels)
    assert back.pixels.dtype == image.pixels.dtype
    assert back.geometry == image.geometry


@pytest.mark.parametrize(
    "pixels",
    [
        np.arange(30, dtype=np.uint8).reshape(1, 5, 6),
        np.arange(30, dtype=np.uint16).reshape(1, 5, 6) * 2000,
        np.arange(90, dtype=np.uint8).reshape(3, 5, 6),
    ],
)
def test_a_png_image_comes_back_exactly(pixels: np.ndarray, tmp_path: Path) -> None:
    back = read_image(write_image(Image.from_array(pixels), tmp_path / "film.png"))
    np.testing.assert_array_equal(back.pixels, pixels)
    assert back.pixels.dtype == pixels.dtype
    assert back.geometry.unit == "px"


@pytest.mark.parametrize("kind", [bool, np.float16])
def test_types_that_files_do_not_know_are_widened(kind: type, tmp_path: Path) -> None:
    pixels = np.eye(4)[None].astype(kind)
    back = read_image(write_image(Image.from_array(pixels), tmp_path / "i.tif"))
    np.testing.assert_array_equal(back.pixels, pixels)


def test_split_labels_make_one_png_each(tmp_path: Path) -> None:
    geometry = Geometry.upright((0.2, 0.1))
    seg = masks(2, geometry)[0]
    paths = write_segmentation(seg, tmp_path / "film.png", split_labels=True)
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == [
        f"film/{name}.png" for name in seg.labels.names
    ]
    for path, channel in zip(paths, seg.mask, strict=True):
        np.testing.assert_array_equal(read_image(path).pixels[0], channel * 255)
    for name in ("film.png", "film"):
        back = read_segmentation(tmp_path / name)
        np.testing.assert_array_equal(back.mask, seg.mask)
        assert back.labels == seg.labels
        assert back.geometry == geometry


def test_split_exclusive_labels_come_back_as_a_map(tmp_path: Path) -> None:
    seg = masks(2, Geometry.pixels(2))[1]
    write_segmentation(seg, tmp_path / "film.png", split_labels=True)
    back = read_segmentation(tmp_path / "film.png")
    np.testing.assert_array_equal(back.mask, seg.mask)
    assert back.labels == seg.labels


@pytest.mark.parametrize("suffix", SPATIAL)
def test_48_orientations_are_exact(suffix: str, tmp_path: Path) -> None:
    assert len(ORIENTATIONS) == 48
    for axes, signs in ORIENTATIONS:
        _check_orientation(axes, signs, suffix, tmp_path)


def _check_orientation(
    axes: tuple[int, ...], signs: tuple[float, ...], suffix: str, tmp_path: Path
) -> None:
    geometry = turned(axes, signs)
    voxels = np.arange(60, dtype=np.int16).reshape(SIZE)
    image_path, mask_path = tmp_path / f"i{suffix}", tmp_path / f"m{suffix}"
    _write_by_simpleitk(voxels, geometry, image_path)
    image = read_image(image_path)
    np.testing.assert_array_equal(image.pixels[0], voxels)
    assert image.geometry == geometry
    seg = Segmentation((voxels > 30).astype(np.uint8), CELLS, image.geometry)
    write_segmentation(seg, mask_path)
    mask = sitk.ReadImage(str(mask_path))
    before = sitk.ReadImage(str(image_path))
    assert mask.GetOrigin() == before.GetOrigin()
    assert mask.GetSpacing() == before.GetSpacing()
    assert mask.GetDirection() == before.GetDirection()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), seg.mask)
    if suffix.startswith(".nii"):
        affine = nib.load(image_path).affine
        np.testing.assert_array_equal(nib.load(mask_path).affine, affine)


def _write_by_simpleitk(voxels: np.ndarray, geometry: Geometry, path: Path) -> None:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin[::-1])
    image.SetDirection(np.array(geometry.direction)[::-1, ::-1].ravel().tolist())
    sitk.WriteImage(image, str(path))


@pytest.mark.parametrize(
    "axes",
    [
        (1, 0, 0, 0, 1, 0),
        (0, 1, 0, 0, 0, -1),
        (1, 0, 0, 0, 0, -1),
        (-1, 0, 0, 0, -1, 0),
        (0.8, 0.6, 0, -0.6, 0.8, 0),
    ],
)
def test_a_dicom_series_keeps_its_world_points(
    axes: tuple[float, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    image = read_image(series(folder, orientation=axes))
    np.testing.assert_array_equal(image.pixels[0], STACK)
    row, column = np.array(axes[:3]), np.array(axes[3:])
    normal = np.cross(row, column)
    for z, y, x in itertools.product((0, 2, 4), (0, 3), (0, 2)):
        expected = (
            np.array([-10.0, 20, 30]) + 3 * z * normal + 2 * y * column + 1.5 * x * row
        )
        world = image.geometry.world(np.array([z, y, x]))
        np.testing.assert_allclose(world[::-1], expected, atol=1e-9)
    mask = Segmentation((STACK > 30).astype(np.uint8), CELLS, image.geometry)
    write_segmentation(mask, tmp_path / "m.nii.gz")
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    reference = sitk.ReadImage(names)
    written = sitk.ReadImage(str(tmp_path / "m.nii.gz"))
    for index in itertools.product((0, 2), (0, 3), (0, 4)):
        np.testing.assert_allclose(
            written.TransformIndexToPhysicalPoint(index),
            reference.TransformIndexToPhysicalPoint(index),
            atol=1e-5,
        )


@pytest.mark.parametrize("suffix", SPATIAL)
def test_oblique_masks_stay_within_a_hundredth_of_a_micron(
    suffix: str, tmp_path: Path
) -> None:
    corners = np.array(list(itertools.product((0, 64), repeat=3)), float)
    for seed in range(20):
        geometry = oblique(3, seed)
        seg = Segmentation(np.zeros(SIZE, np.uint8), CELLS, geometry)
        write_segmentation(seg, tmp_path / f"m{suffix}")
        other = sitk.ReadImage(str(tmp_path / f"m{suffix}"))
        for corner in corners:
            there = other.TransformContinuousIndexToPhysicalPoint(corner[::-1].tolist())
            apart = np.abs(np.array(there)[::-1] - geometry.world(corner)).max()
            assert apart < 5e-5


@pytest.mark.parametrize("seg", ALL_MASKS[:9:4] + ALL_MASKS[9::4], ids=str)
def test_other_libraries_see_the_same_labels(seg: Segmentation, tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        write_segmentation(seg, tmp_path / f"m{suffix}")
    n = seg.geometry.ndim
    overlapping = seg.labels.kind == "overlapping"
    last = np.moveaxis(seg.mask, 0, -1) if overlapping else seg.mask
    itk = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "m.mha")))
    np.testing.assert_array_equal(itk, last)
    itk = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "m.nrrd")))
    np.testing.assert_array_equal(itk, last)
    values, header = nrrd.read(str(tmp_path / "m.nrrd"), index_order="C")
    np.testing.assert_array_equal(values, last)
    assert header["sizes"].tolist() == list(last.shape[::-1])
    values = np.asarray(nib.load(tmp_path / "m.nii.gz").dataobj)
    ours = seg.mask[:, None] if overlapping and n == 2 else seg.mask
    np.testing.assert_array_equal(values.T, ours)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "m.tif"), seg.mask)


def test_world_points_agree_between_libraries(tmp_path: Path) -> None:
    geometry = oblique(3, 5)
    seg = Segmentation(np.zeros(SIZE, np.uint8), CELLS, geometry)
    for suffix in SPATIAL:
        write_segmentation(seg, tmp_path / f"m{suffix}")
    affine = nib.load(tmp_path / "m.nii.gz").affine
    _, header = nrrd.read(str(tmp_path / "m.nrrd"))
    for index in itertools.product((0, 1, 2), repeat=3):
        ours = geometry.world(np.array(index, float))[::-1]  # x, y, z in LPS
        xyz = np.array(index, float)[::-1]
        ras = affine[:3, :3] @ xyz + affine[:3, 3]
        np.testing.assert_allclose(ras * [-1, -1, 1], ours, atol=2e-5)
        lps = header["space directions"].T @ xyz + header["space origin"]
        np.testing.assert_allclose(lps, ours, atol=1e-9)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".png"])
@pytest.mark.parametrize("largest", [0, 1, 255, 256, 65535, 65536, 2**31 - 1])
def test_labels_written_are_labels_read_or_an_error(
    largest: int, suffix: str, tmp_path: Path
) -> None:
    from medseg.errors import FileError

    mask = np.zeros((4, 4), np.int64)
    mask[1, 2] = largest
    seg = Segmentation(mask, CELLS, Geometry.pixels(2))
    path = tmp_path / f"m{suffix}"
    if suffix == ".png" and largest > 65535:
        with pytest.raises(FileError, match="too large"):
            write_segmentation(seg, path)
        assert not list(tmp_path.iterdir())
        return
    write_segmentation(seg, path)
    back = read_segmentation(path)
    np.testing.assert_array_equal(back.mask, mask)
    width = 1 if largest < 256 else 2 if largest < 65536 else 4
    assert back.mask.dtype.itemsize == width


def test_a_label_beyond_every_type_is_an_error(tmp_path: Path) -> None:
    from medseg.errors import FileError

    for value, suffix in ((2**32, ".tif"), (2**31, ".nii"), (-1, ".tif")):
        mask = np.full((2, 2), value, np.int64)
        seg = Segmentation(mask, CELLS, Geometry.pixels(2))
        with pytest.raises(FileError, match="too large|negative"):
            write_segmentation(seg, tmp_path / f"m{suffix}")


def test_nothing_is_said_about_a_good_file(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seg in ALL_MASKS:
            write_segmentation(seg, tmp_path / "m.nii.gz")
            read_image(tmp_path / "m.nii.gz")


@pytest.mark.parametrize("layout", [{}, {"tile": (16, 32)}, {"rowsperstrip": 7}])
@pytest.mark.parametrize("shape", [(1, 40, 50), (3, 40, 50)])
def test_the_parts_of_a_file_are_the_whole(
    layout: dict[str, object], shape: tuple[int, ...], tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 9, shape).astype(np.uint16)
    options = {"photometric": "minisblack", "planarconfig": None, **layout}
    tifffile.imwrite(tmp_path / "m.tif", pixels, metadata={"axes": "CYX"}, **options)
    write_image(Image.from_array(pixels), tmp_path / "m.nrrd")
    for name in ("m.tif", "m.nrrd"):
        with opened(tmp_path / name, Limits()) as file:
            found = np.zeros(file.shape, file.dtype)
            for where, part in file.parts():
                found[where] += part + 1  # each pixel once
        np.testing.assert_array_equal(found, pixels + 1)


def test_a_mask_is_written_in_less_memory_than_it_takes(tmp_path: Path) -> None:
    mask = np.zeros((5, 1000, 1000), np.uint8)
    mask[:, 200:700, 300:600] = 1
    seg = Segmentation(mask, chest_labels(), Geometry.pixels(2))
    write_segmentation(seg, tmp_path / "first.tif")  # imports what it needs
    tracemalloc.start()
    write_segmentation(seg, tmp_path / "second.tif")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < mask[0].size
    np.testing.assert_array_equal(read_segmentation(tmp_path / "second.tif").mask, mask)


@pytest.mark.parametrize(("width", "packing"), [(2048, "PACKBITS"), (2049, "DEFLATE")])
def test_masks_with_long_rows_are_packed_otherwise_and_are_the_same(
    width: int, packing: str, tmp_path: Path
) -> None:
    mask = np.zeros((3, width), np.uint8)
    mask[1, 5:] = mask[2, -1] = 1
    seg = Segmentation(mask, CELLS, Geometry.pixels(2))
    write_segmentation(seg, tmp_path / "wide.tif")
    with tifffile.TiffFile(tmp_path / "wide.tif") as file:
        assert packing in file.pages[0].compression.name
        np.testing.assert_array_equal(file.asarray(), mask)
    found = read_segmentation(tmp_path / "wide.tif")
    np.testing.assert_array_equal(found.mask, mask)


@pytest.mark.parametrize(
    ("suffix", "colours"),
    [*itertools.product(SUFFIXES, (True, False)), (".png", True)],
)
def test_colours_stay_colours_and_stains_stain(
    tmp_path: Path, suffix: str, colours: bool
) -> None:
    pixels = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    meta = {"photometric": "RGB" if colours else "grey"}
    image = Image(pixels, Geometry.pixels(2), meta)
    assert image.has_colours == colours
    path = write_image(image, tmp_path / f"a{suffix}")
    again = read_image(path)
    assert again.has_colours == colours
    np.testing.assert_array_equal(again.pixels.reshape(3, 4, 5), pixels)

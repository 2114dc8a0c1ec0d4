from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from medseg.datasets import ctc, dic_hela, dsb2018, isbi2012
from medseg.datasets.case import Case, read_truth
from medseg.datasets.instances import InstanceTruth, read_instances, read_plane
from medseg.datasets.parting import part_touching
from medseg.datasets.pixels import one_plane, read_film
from medseg.errors import ConfigError, FileError, ImageWarning
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.io import write_image

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = [
    pytest.mark.shared,
    pytest.mark.skipif(not SHARED.is_dir(), reason="no real data beside the checkout"),
]


def discs(
    *centres: tuple[int, int], radius: float = 4, shape: tuple[int, int] = (40, 60)
) -> np.ndarray:
    y, x = np.indices(shape)
    cells = np.zeros(shape, np.uint16)
    for number, (cy, cx) in enumerate(centres, start=1):
        cells[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = number
    return cells


def put(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Picture.fromarray(pixels).save(path)
    else:
        tifffile.imwrite(path, pixels, metadata=None, photometric="minisblack")
    return path


# Two cells of radius 4 with markers of radius 1; in frame 1 one is not drawn.
BOTH, ONE = discs((10, 10), (30, 45)), discs((10, 10))
MARKERS = discs((10, 10), (30, 45), radius=1)


def challenge(folder: Path, name: str = "Set", frames: int = 6) -> Path:
    root = folder / name
    for number in range(frames):
        put(root / "01" / f"t{number:03d}.tif", BOTH.astype(np.uint8))
        put(root / "01_GT/TRA" / f"man_track{number:03d}.tif", MARKERS * 3)
    put(root / "01_GT/SEG/man_seg000.tif", BOTH)
    put(root / "01_GT/SEG/man_seg004.tif", ONE)
    return root


# --- the challenge ----------------------------------------------------------


def test_complete_and_partial_frames(tmp_path):
    whole, part = ctc.cases(challenge(tmp_path))
    assert (whole.frame, part.frame) == (0, 4)
    assert (whole.instances.partial, part.instances.partial) == (False, True)
    assert whole.group == part.group == "Set/01"
    assert whole.image.name == "t000.tif"
    assert part.instances.markers.name == "man_track004.tif"
    # Radius 4 around a marker of radius 1, and the margin.
    assert part.instances.reach == pytest.approx(3 + 2, abs=0.3)
    cells, known = read_instances(whole)
    assert cells.dtype == np.int32
    np.testing.assert_array_equal(cells, BOTH)
    assert known.all()


def test_pixels_near_an_undrawn_marker_are_unknown(tmp_path):
    _, part = ctc.cases(challenge(tmp_path))
    cells, known = read_instances(part)
    assert set(np.unique(cells)) == {0, 1}
    assert known[cells > 0].all()
    assert not known[BOTH == 2].any()
    assert not known[30, 45 + 5]
    assert known[30, 45 + 8]
    assert known[0, 0]


def test_the_rim_of_the_field_of_interest_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setitem(ctc.BORDERS, "Set", 7)
    whole, _ = ctc.cases(challenge(tmp_path))
    _, known = read_instances(whole)
    assert known[10, 6]  # of a cell that reaches into the rim
    assert not known[20, 6]
    assert known[20, 7]
    assert not known[:7, 20:].any()


def test_a_set_knows_its_name_from_inside(tmp_path, monkeypatch):
    monkeypatch.chdir(challenge(tmp_path, "Fluo-N2DH-SIM+"))
    assert [case.group for case in ctc.cases(".")] == ["Fluo-N2DH-SIM+/01"] * 2
    assert ctc.cases(".")[0].spacing == (0.125e-3, 0.125e-3)


def test_split_by_time(tmp_path):
    cases = [
        Case(f"{g}{n}", tmp_path, {}, (), g, frame=n) for g in "ab" for n in range(9)
    ]
    split = ctc.split_by_time(cases)
    for group in "ab":
        parts = [c.split for c in split if c.group == group]
        assert parts == ["train"] * 6 + ["val"] * 3
    assert [c.split for c in ctc.split_by_time(cases[:4], 0.5)].count("val") == 2
    with pytest.raises(ConfigError, match="share"):
        ctc.split_by_time(cases, 1.0)
    with pytest.raises(ConfigError, match="no frame number"):
        ctc.split_by_time([Case("a", tmp_path, {}, (), "a")])


def test_silver_truth_and_folders(tmp_path):
    root = challenge(tmp_path)
    for number in range(6):
        put(root / "01_ST/SEG" / f"man_seg{number:03d}.tif", BOTH)
    (root / "01_RES").mkdir()
    assert len(ctc.cases(root, truth="silver")) == 6
    (only,) = ctc.sequences(root)
    assert only.id == "01"
    assert only.silver == root / "01_ST" / "SEG"
    assert only.result == root / "01_RES"


def test_slices_of_volumes(tmp_path):
    root = tmp_path / "Set3D"
    volume = np.stack([np.full(BOTH.shape, z, np.uint8) for z in range(5)])
    markers = np.zeros((5, *BOTH.shape), np.uint16)
    markers[3] = MARKERS
    put(root / "01/t000.tif", volume)
    put(root / "01_GT/TRA/man_track000.tif", markers)
    put(root / "01_GT/SEG/man_seg_000_003.tif", ONE)
    (case,) = ctc.cases(root)
    assert case.slice == 3
    assert case.instances.partial
    film = read_film(case)
    assert film.pixels.shape == (1, 40, 60)
    assert film.pixels.max() == 3
    cells, known = read_instances(case)
    assert cells.max() == 1
    assert not known[30, 45]


def test_truth_without_tracking_is_taken_as_complete(tmp_path):
    root = challenge(tmp_path)
    for path in (root / "01_GT/TRA").iterdir():
        path.unlink()
    (root / "01_GT/TRA").rmdir()
    with pytest.warns(ImageWarning, match="no tracking truth, so all 2 frames"):
        cases = ctc.cases(root)
    assert not any(case.instances.partial for case in cases)


def test_folders_that_are_no_challenge(tmp_path):
    with pytest.raises(FileError, match="no sequence"):
        ctc.cases(tmp_path / "none")
    root = challenge(tmp_path)
    with pytest.raises(FileError, match=r"no silver segmentation.*Unpack 01_ST/SEG"):
        ctc.cases(root, truth="silver")
    put(root / "01_GT/SEG/man_seg009.tif", BOTH)
    with pytest.raises(FileError, match=r"man_seg009.tif: the movie has no frame 9"):
        ctc.cases(root)
    put(root / "01_GT/SEG/man_seg009.tif", BOTH[:9])
    put(root / "01_GT/TRA/man_track009.tif", BOTH)
    for number in (6, 7, 8):
        put(root / "01_GT/TRA" / f"man_track{number:03d}.tif", BOTH)
    with pytest.raises(
        FileError, match=r"markers of \(40, 60\) for cells of \(9, 60\)"
    ):
        ctc.cases(root)


# --- cells without numbers --------------------------------------------------


def test_cells_without_numbers_are_regions(tmp_path):
    path = put(tmp_path / "a.png", np.where(BOTH > 0, 0, 65535).astype(np.uint16))
    case = Case("a", path, {}, (), "a", instances=InstanceTruth(path, "zero_is_cell"))
    cells, known = read_instances(case)
    np.testing.assert_array_equal(cells, BOTH)
    assert known.all()


def test_touching_cells_are_parted_at_their_waist():
    y, x = np.indices((120, 200))
    left = (y - 60) ** 2 + (x - 60) ** 2 <= 40**2
    right = (y - 60) ** 2 + (x - 125) ** 2 <= 40**2
    parts = part_touching(left | right)
    assert parts.max() == 2
    assert parts[60, 30] == 1
    assert parts[60, 150] == 2
    assert abs(np.flatnonzero(parts[60] == 2)[0] - 92.5) < 3
    one = ((y - 60) / 30) ** 2 + ((x - 100) / 70) ** 2 <= 1
    assert part_touching(one).max() == 1
    np.testing.assert_array_equal(part_touching(one) > 0, one)


def test_parting_keeps_regions_and_drops_specks():
    mask = np.zeros((120, 120), bool)
    mask[2:4, 2:4] = True  # a speck of the drawing
    mask[20:80, 20:80] = True
    mask[48:52, 80:100] = True  # a thin arm stays with its cell
    mask[100:114, 100:114] = True  # small, but a region of its own
    parts = part_touching(mask)
    assert parts.max() == 2
    assert not parts[2, 2]
    assert parts[50, 95] == parts[50, 50] == 1
    assert parts[105, 105] == 2
    assert not part_touching(np.zeros((9, 9), bool)).any()


def test_regions_that_are_too_large_are_unknown(tmp_path):
    path = put(tmp_path / "a.png", np.where(BOTH > 0, 0, 255).astype(np.uint8))
    truth = InstanceTruth(path, "zero_is_cell", largest=10)
    cells, known = read_instances(Case("a", path, {}, (), "a", instances=truth))
    np.testing.assert_array_equal(known, cells == 0)


def hela(folder: Path, count: int = 6) -> Path:
    for number in range(count):
        put(folder / "images" / f"{number:03d}.png", np.zeros((40, 60), np.uint8))
        label = np.where(discs((20, 20), radius=14) > 0, 0, 65535).astype(np.uint16)
        put(folder / "labels" / f"{number:03d}.png", label)
    return folder


def test_dic_hela(tmp_path):
    cases = dic_hela.cases(hela(tmp_path / "a"))
    assert [c.split for c in cases] == ["train"] * 4 + ["val"] * 2
    assert len({c.group for c in cases}) == 1
    cells, known = read_instances(cases[0])
    assert cells.max() == 1
    assert known.all()
    (tmp_path / "a/labels/001.png").unlink()
    with pytest.raises(FileError, match=r"001\.png: there is no label"):
        dic_hela.cases(tmp_path / "a")
    put(tmp_path / "b/images/x.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "b/labels").mkdir()
    with pytest.raises(FileError, match="no frame number"):
        dic_hela.cases(tmp_path / "b")


def test_dic_hela_as_the_challenge_offers_it(tmp_path):
    root = challenge(tmp_path, "DIC-C2DH-HeLa")
    cases = dic_hela.cases(root)
    assert [c.split for c in cases] == ["train", "val"]
    assert cases[0].instances.border == 50
    for number in range(6):
        put(root / "01_ST/SEG" / f"man_seg{number:03d}.tif", BOTH)
    assert len(dic_hela.cases(root)) == 6


# --- ISBI 2012 --------------------------------------------------------------

CELLS = np.where(BOTH > 0, 255, 0).astype(np.uint8)


def test_isbi_prepared(tmp_path):
    for number in range(4):
        put(tmp_path / "image" / f"{number:02d}.png", CELLS)
        put(tmp_path / "label" / f"{number:02d}.png", CELLS)
    cases = isbi2012.cases(tmp_path)
    assert [c.split for c in cases] == ["train"] * 3 + ["val"]
    masks, annotated = read_truth(cases[0], ("cell",))
    np.testing.assert_array_equal(masks[0], CELLS > 0)
    assert annotated.all()
    np.testing.assert_array_equal(read_instances(cases[0])[0], BOTH)
    (tmp_path / "label/02.png").unlink()
    with pytest.raises(FileError, match="no label of this slice"):
        isbi2012.cases(tmp_path)
    put(tmp_path / "image/00b.png", CELLS)
    with pytest.raises(FileError, match="no slice number"):
        isbi2012.cases(tmp_path)


def test_isbi_public(tmp_path):
    pages = np.stack([np.roll(CELLS, n, 0) for n in range(4)])
    put(tmp_path / "train-volume.tif", pages)
    with pytest.raises(FileError, match="no labels of the volume"):
        isbi2012.cases(tmp_path)
    put(tmp_path / "train-labels.tif", pages)
    cases = isbi2012.cases(tmp_path)
    assert [c.slice for c in cases] == [0, 1, 2, 3]
    for case, page in zip(cases, pages, strict=True):
        np.testing.assert_array_equal(read_film(case).pixels[0], page)
        np.testing.assert_array_equal(read_truth(case, ("cell",))[0][0], page > 0)
        np.testing.assert_array_equal(read_instances(case)[0] > 0, page > 0)
    put(tmp_path / "train-labels.tif", pages[:3])
    with pytest.raises(FileError, match="has 3 pages, the volume has 4"):
        isbi2012.cases(tmp_path)


def test_isbi_without_slices(tmp_path):
    (tmp_path / "image").mkdir()
    (tmp_path / "label").mkdir()
    with pytest.raises(FileError, match="0 slices"):
        isbi2012.cases(tmp_path)


# --- DSB 2018 ---------------------------------------------------------------


def test_dsb_prepared(tmp_path):
    for name in "abcde":
        put(tmp_path / "images" / f"{name}.png", np.zeros((40, 60), np.uint8))
        put(tmp_path / "labels" / f"{name}.png", BOTH)
    cases = dsb2018.cases(tmp_path)
    assert [c.split for c in cases] == ["train"] * 4 + ["val"]
    np.testing.assert_array_equal(read_instances(cases[0])[0], BOTH)
    (tmp_path / "images/notes.txt").touch()
    (tmp_path / "labels/c.png").unlink()
    with pytest.raises(FileError, match=r"c\.png: there is no mask"):
        dsb2018.cases(tmp_path)


def test_dsb_as_used_by_stardist(tmp_path):
    for part in ("train", "test"):
        put(tmp_path / part / "images" / f"{part}.tif", np.zeros((40, 60), np.uint8))
        put(tmp_path / part / "masks" / f"{part}.tif", BOTH)
    assert [c.split for c in dsb2018.cases(tmp_path)] == ["train", "val"]


def test_dsb_public(tmp_path):
    stage = tmp_path / "stage1_train"
    for name, ground in (("dark", 10), ("bright", 240)):
        grey = np.full((40, 60, 4), ground, np.uint8)
        grey[..., 3] = 255
        put(stage / name / "images" / f"{name}.png", grey)
        for k in (1, 2):
            mask = np.where(k == BOTH, 255, 0).astype(np.uint8)
            put(stage / name / "masks" / f"{k}.png", mask)
    (only,) = dsb2018.cases(tmp_path)
    assert only.id == "dsb2018/dark"
    np.testing.assert_array_equal(read_instances(only)[0], BOTH)
    assert len(dsb2018.cases(stage, fluorescence_only=False)) == 2
    put(stage / "dark/masks/3.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(FileError, match="among others of"):
        read_instances(only)
    for path in (stage / "dark/masks").iterdir():
        path.unlink()
    with pytest.raises(FileError, match="0 masks"):
        read_instances(only)
    (stage / "dark/masks").rmdir()
    with pytest.raises(FileError, match="needs one and a folder masks"):
        dsb2018.cases(tmp_path)


def test_dsb_without_pictures(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    with pytest.raises(FileError, match="0 pictures"):
        dsb2018.cases(tmp_path)


# --- what cannot be read ----------------------------------------------------


def test_cases_and_planes_that_are_not_there(tmp_path):
    with pytest.raises(ConfigError, match="no cells drawn"):
        read_instances(Case("film", tmp_path, {}, (), "film"))
    path = put(tmp_path / "a.tif", BOTH)
    np.testing.assert_array_equal(read_plane(path, 0), BOTH)
    with pytest.raises(FileError, match="no plane 3"):
        read_plane(path, 3)
    with pytest.raises(FileError, match="has 2 planes, wanted is 2"):
        one_plane(path, np.zeros((1, 2, 3, 3)), 2)
    bad = put(tmp_path / "b.tif", BOTH + np.float32(0.5))
    with pytest.raises(FileError, match="not whole numbers"):
        read_plane(bad, None)
    pair = tmp_path / "pair.tif"
    write_image(Image.from_array(np.stack([BOTH, BOTH])), pair)
    with pytest.raises(FileError, match="a mask of 2 channels"):
        read_plane(pair, None)
    large = put(tmp_path / "c.tif", BOTH.astype(np.uint32) * 2**31)
    with pytest.raises(FileError, match="holds the label 2147483648"):
        read_plane(large, None)


def test_the_spacing_of_a_film_has_all_its_axes(tmp_path):
    path = put(tmp_path / "a.tif", np.zeros((2, 4, 5), np.uint16))
    spacing = (3.0, 2.0, 1.0)
    case = Case("a", path, {}, (), "a", spacing=spacing)
    assert read_film(case).geometry.spacing == spacing
    plane = Case("a", path, {}, (), "a", spacing=spacing, slice=1)
    assert read_film(plane).geometry.spacing == (2.0, 1.0)
    with pytest.raises(FileError, match="has 3 axes and its set states"):
        read_film(Case("a", path, {}, (), "a", spacing=(2.0, 1.0)))


def test_a_slice_keeps_the_spacing_of_its_file(tmp_path):
    volume = Image(np.zeros((1, 2, 4, 5), np.uint16), Geometry.upright((3.0, 2.0, 1.0)))
    path = write_image(volume, tmp_path / "a.tif")
    image = read_film(Case("a", path, {}, (), "a", slice=1))
    assert image.geometry == Geometry.upright((2.0, 1.0))


def test_numbers_in_a_palette_are_numbers(tmp_path):
    picture = Picture.fromarray(BOTH.astype(np.uint8)).convert("P")
    picture.putpalette([0, 0, 0, 255, 255, 255, 9, 9, 9])
    picture.save(tmp_path / "a.png")
    truth = InstanceTruth(tmp_path / "a.png")
    case = Case("a", tmp_path / "a.png", {}, (), "a", instances=truth)
    np.testing.assert_array_equal(read_instances(case)[0], BOTH)


def test_partial_truth_needs_markers_that_fit(tmp_path):
    path = put(tmp_path / "a.tif", ONE)
    truth = InstanceTruth(path, partial=True)
    with pytest.raises(FileError, match="without markers"):
        read_instances(Case("a", path, {}, (), "a", instances=truth))
    markers = put(tmp_path / "m.tif", MARKERS[:9])
    truth = InstanceTruth(path, partial=True, markers=markers)
    with pytest.raises(FileError, match="markers of"):
        read_instances(Case("a", path, {}, (), "a", instances=truth))
    full = put(tmp_path / "m.tif", ONE)
    truth = InstanceTruth(path, partial=True, markers=full)
    assert read_instances(Case("a", path, {}, (), "a", instances=truth))[1].all()


# --- the real sets ----------------------------------------------------------


class TestReal:
    pytestmark = needs_shared

    def test_gowt1(self):
        cases = ctc.cases(SHARED / "ctc" / "Fluo-N2DH-GOWT1")
        assert len(cases) == 30
        assert sum(c.instances.partial for c in cases) == 26
        case = next(c for c in cases if c.frame == 16)
        cells, known = read_instances(case)
        assert len(np.unique(cells)) == 4
        assert 0.3 < known.mean() < 0.7

    def test_dic_hela(self):
        cases = dic_hela.cases(SHARED / "dic-hela")
        assert sum(c.split == "val" for c in cases) == 20
        cells, known = read_instances(cases[0])
        assert cells.max() == 10
        assert known.all()

    def test_isbi(self):
        cases = isbi2012.cases(SHARED / "isbi2012")
        assert [c.frame for c in cases if c.split == "val"] == list(range(18, 24))
        assert read_instances(cases[0])[0].max() == 136

    def test_dsb(self):
        cases = dsb2018.cases(SHARED / "dsb2018")
        assert (len(cases), sum(c.split == "val" for c in cases)) == (120, 24)

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from medseg.datasets import jsrt, montgomery, shenzhen, synthetic, wingspan
from medseg.datasets.case import LUNGS, STRUCTURES, Case, read_truth
from medseg.datasets.pixels import part_lungs, read_film, read_jsrt_raw, read_mask
from medseg.errors import ConfigError, FileError, ImageWarning

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def box(left: int, right: int, shape: tuple[int, int] = (8, 16)) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[2:6, left:right] = 255
    return mask


# A chest of 8 x 16 pixels: the right lung lies on the left of the picture.
CHEST = {
    "right_lung": box(1, 6),
    "left_lung": box(10, 15),
    "heart": box(6, 11),
    "right_clavicle": box(2, 4),
    "left_clavicle": box(12, 14),
}


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(pixels).save(path)
    return path


def prepared_set(
    folder: Path, ids: tuple[str, ...], structures: tuple[str, ...] = STRUCTURES
) -> Path:
    for name in ids:
        save(folder / "images" / f"{name}.png", box(0, 16))
        for structure in structures:
            save(folder / "masks" / structure / f"{name}.png", CHEST[structure])
    return folder


def jsrt_public_set(folder: Path) -> Path:
    (folder / "All247images").mkdir(parents=True)
    for name, fold in (("JPCLN001", "fold1"), ("JPCLN002", "fold2")):
        (folder / "All247images" / f"{name}.IMG").touch()
        for structure, mask in CHEST.items():
            masks = folder / "scratch" / fold / "masks" / structure.replace("_", " ")
            save(masks / f"{name}.gif", mask)
    return folder


def case_of(folder: Path, masks: dict[str, np.ndarray], **options: object) -> Case:
    film = save(folder / "film.png", box(0, 16))
    truth = {n: save(folder / f"{n}.png", m) for n, m in masks.items()}
    names = options.pop("annotated", tuple(masks))
    return Case("film", film, truth, names, "film", **options)


# --- sets ------------------------------------------------------------------


def test_jsrt_prepared(tmp_path):
    folder = prepared_set(tmp_path, ("b", "a"))
    (folder / "splits.json").write_text(json.dumps({"a": "val", "b": "train"}))
    first, second = jsrt.cases(folder)
    assert (first.id, first.split, second.split) == ("a", "val", "train")
    masks, annotated = read_truth(first)
    assert annotated.all()
    for mask, name in zip(masks, STRUCTURES, strict=True):
        np.testing.assert_array_equal(mask * 255, CHEST[name])


@pytest.mark.parametrize(
    ("name", "side", "spacing", "unit"),
    [
        ("JPCLN001", 1024, (0.35, 0.35), "mm"),
        ("JPCNN093", 1024, (0.35, 0.35), "mm"),
        ("JPCLN001", 512, (1, 1), "px"),
        ("film1", 1024, (1, 1), "px"),
    ],
)
def test_only_films_of_jsrt_have_its_spacing(tmp_path, name, side, spacing, unit):
    folder = prepared_set(tmp_path, (name,))
    save(folder / "images" / f"{name}.png", np.zeros((side, side), np.uint8))
    geometry = read_film(jsrt.cases(folder)[0]).geometry
    assert (geometry.spacing, geometry.unit) == (spacing, unit)


def test_jsrt_public_layout(tmp_path):
    first, second = jsrt.cases(jsrt_public_set(tmp_path))
    assert (first.split, second.split) == ("train", "val")
    assert first.spacing == (0.175, 0.175)
    masks, annotated = read_truth(second)
    assert annotated.all()
    np.testing.assert_array_equal(masks[1] * 255, CHEST["left_lung"])


def test_a_jsrt_film_in_two_folders_is_one(tmp_path):
    folder = jsrt_public_set(tmp_path)
    (folder / "Nodule154images").mkdir()
    (folder / "Nodule154images/JPCLN001.IMG").touch()
    assert [case.id for case in jsrt.cases(folder)] == ["JPCLN001", "JPCLN002"]


def test_jsrt_raw_film_is_big_endian_and_inverted(tmp_path):
    raw = np.zeros((2048, 2048), ">u2")
    raw[0, 1] = 4095
    raw[5, 3] = 0x0102
    path = tmp_path / "JPCLN001.IMG"
    path.write_bytes(raw.tobytes())
    film = read_film(Case("a", path, {}, (), "a", spacing=jsrt.SPACING))
    assert film.pixels.dtype == np.uint16
    assert film.pixels.shape == (1, 2048, 2048)
    assert film.geometry.spacing == (0.175, 0.175)
    assert film.pixels[0, 0, 1] == 0
    assert film.pixels[0, 0, 0] == 4095
    assert film.pixels[0, 5, 3] == 4095 - 0x0102
    path.write_bytes(raw.astype("<u2").tobytes())
    with pytest.raises(FileError, match="12 bit"):
        read_jsrt_raw(path)
    path.write_bytes(b"\0" * 10)
    with pytest.raises(FileError, match=r"is 10 bytes, a JSRT film is 8388608"):
        read_jsrt_raw(path)


def test_jsrt_without_films(tmp_path):
    folder = jsrt_public_set(tmp_path)
    for film in (folder / "All247images").iterdir():
        film.unlink()
    with pytest.raises(FileError, match="All247images"):
        jsrt.cases(folder)


@pytest.mark.parametrize("text", ["{", "[1]", "7"])
def test_splits_that_are_not_a_table(tmp_path, text):
    folder = prepared_set(tmp_path, ("a",))
    (folder / "splits.json").write_text(text)
    with pytest.raises(FileError, match=r"splits\.json"):
        jsrt.cases(folder)


@pytest.mark.parametrize("word", ["test", "valid", "Val", 1, None])
def test_splits_that_are_neither_train_nor_val(tmp_path, word):
    folder = prepared_set(tmp_path, ("a",))
    (folder / "splits.json").write_text(json.dumps({"a": word}))
    with pytest.raises(
        FileError, match=rf"splits\.json: says {word!r} of a\. Use train"
    ):
        jsrt.cases(folder)


def test_missing_masks_are_counted_and_kept(tmp_path):
    folder = prepared_set(tmp_path, ("a", "b", "c"))
    (folder / "masks/heart/a.png").unlink()
    (folder / "masks/heart/c.png").unlink()
    with pytest.warns(ImageWarning, match=r"3 films.*heart of 2 \(a, c\)"):
        found = jsrt.cases(folder)
    assert [c.missing for c in found] == [("heart",), (), ("heart",)]
    masks, annotated = read_truth(found[0])
    assert annotated.tolist() == [True, True, False, True, True]
    assert not masks[2].any()


@pytest.mark.parametrize("images", ["images", "png"])
def test_wingspan_small_layouts(tmp_path, images):
    names = ("right_lung", "left_lung", "heart")
    folder = prepared_set(tmp_path, ("ws1",), names)
    if images == "png":
        (folder / "images").rename(folder / "png")
        (folder / "masks").rename(folder / "mask")
    (case,) = wingspan.cases(folder)
    assert case.annotated == names
    assert (case.threshold, case.spacing) == (127, None)
    assert read_truth(case)[1].tolist() == [True, True, True, False, False]


def test_wingspan_full_layout(tmp_path):
    for name in ("p1", "p2"):
        for structure in wingspan.ANNOTATED:
            save(tmp_path / name / f"{structure}.png", CHEST[structure])
        (tmp_path / name / "original.dcm").touch()
    assert [c.group for c in wingspan.cases(tmp_path)] == ["p1", "p2"]


def test_wingspan_heart_comes_before_lung(tmp_path):
    folder = prepared_set(tmp_path, ("ws1", "ws2"), wingspan.ANNOTATED)
    save(folder / "masks/left_lung/ws2.png", box(8, 15))
    clean, through = wingspan.cases(folder)
    # One of five heart columns is lung as well in the first, three in the second.
    assert wingspan.lung_through_heart(clean)
    assert wingspan.lung_through_heart(through)
    for case in (clean, through):
        masks, _ = read_truth(case)
        assert not (masks[1] & masks[2]).any()
        np.testing.assert_array_equal(masks[1] * 255, box(11, 15))
    raw = wingspan.cases(folder, heart_first=False)[1]
    np.testing.assert_array_equal(read_truth(raw)[0][1] * 255, box(8, 15))
    save(folder / "masks/left_lung/ws2.png", box(11, 15))
    assert not wingspan.lung_through_heart(through)
    (folder / "masks/left_lung/ws2.png").unlink()
    with pytest.warns(ImageWarning, match="left_lung of 1"):
        assert not wingspan.lung_through_heart(wingspan.cases(folder)[1])


def test_wingspan_threshold(tmp_path):
    mask = box(1, 6)
    mask[3, 2] = 127
    mask[3, 3] = 128
    case = case_of(tmp_path, {"heart": mask}, threshold=127)
    (heart,), _ = read_truth(case, ["heart"])
    assert (heart[3, 2], heart[3, 3]) == (0, 1)


def test_reference_ratios(tmp_path):
    with pytest.raises(FileError, match=r"ctr\.csv"):
        wingspan.reference_ratios(tmp_path)
    table = tmp_path / "ctr.csv"
    table.write_text("id,ctr\nws1,0.5\nws2,\n")
    assert wingspan.reference_ratios(tmp_path) == {"ws1": 0.5}
    table.write_text("id,ctr\nws1,0.5\nws2,half\n")
    with pytest.raises(FileError, match="line 3"):
        wingspan.reference_ratios(tmp_path)
    table.write_text("name,ratio\nws1,0.5\n")
    with pytest.raises(FileError, match="line 2"):
        wingspan.reference_ratios(tmp_path)


def test_montgomery(tmp_path):
    save(tmp_path / "CXR_png/MCUCXR_0001_0.png", box(0, 16))
    for side in ("left", "right"):
        mask = CHEST[f"{side}_lung"]
        save(tmp_path / f"ManualMask/{side}Mask/MCUCXR_0001_0.png", mask)
    (case,) = montgomery.cases(tmp_path)
    assert case.annotated == LUNGS
    masks, annotated = read_truth(case)
    assert annotated.tolist() == [True, True, False, False, False]
    np.testing.assert_array_equal(masks[0] * 255, CHEST["right_lung"])
    assert read_film(case).geometry.spacing == (0.0875, 0.0875)
    assert read_film(case).geometry.unit == "mm"


def test_shenzhen_parts_one_mask(tmp_path):
    both = CHEST["right_lung"] | CHEST["left_lung"]
    for name in ("CHNCXR_0001_0", "CHNCXR_0002_1"):
        save(tmp_path / "CXR_png" / f"{name}.png", box(0, 16))
    save(tmp_path / "mask/CHNCXR_0001_0_mask.png", both)
    with pytest.warns(ImageWarning, match=r"right_lung of 1 \(CHNCXR_0002_1\)"):
        first, second = shenzhen.cases(tmp_path)
    masks, annotated = read_truth(first, LUNGS)
    assert annotated.all()
    for mask, name in zip(masks, LUNGS, strict=True):
        np.testing.assert_array_equal(mask * 255, CHEST[name])
    assert read_film(second).geometry.unit == "px"
    save(tmp_path / "mask/CHNCXR_0001_0_mask.png", box(1, 15))
    with (
        pytest.warns(ImageWarning, match="lungs are joined"),
        pytest.raises(FileError, match="no two lungs"),
    ):
        read_truth(first)


SETS = [
    (jsrt.cases, "images"),
    (montgomery.cases, "CXR_png"),
    (shenzhen.cases, "CXR_png"),
    (wingspan.cases, "images"),
    (synthetic.cases, "images"),
]


@pytest.mark.parametrize(("cases", "expected"), SETS)
def test_wrong_folder_names_the_sub_folder(tmp_path, cases, expected):
    with pytest.raises(FileError, match=f"no sub folder {expected}/"):
        cases(tmp_path)
    with pytest.raises(FileError, match="no folder"):
        cases(tmp_path / "nowhere")


def test_wrong_fold_folder(tmp_path):
    (tmp_path / "scratch/fold1/masks").mkdir(parents=True)
    with pytest.raises(FileError, match="scratch/fold2/masks"):
        jsrt.cases(tmp_path)


def test_no_films(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    with pytest.raises(FileError, match="0 films"):
        jsrt.cases(tmp_path)


# --- case ------------------------------------------------------------------


def test_case_refuses_truth_that_is_not_annotated():
    with pytest.raises(ConfigError, match="heart"):
        Case("a", Path("a.png"), {"heart": Path("h.png")}, LUNGS, "a")


def test_read_truth_without_any_mask(tmp_path):
    case = case_of(tmp_path, {"heart": box(6, 11)})
    with pytest.raises(ConfigError, match="It has heart"):
        read_truth(case, LUNGS)


def test_read_truth_of_two_shapes(tmp_path):
    case = case_of(tmp_path, {"heart": box(6, 11), "left_lung": box(10, 15, (9, 16))})
    with pytest.raises(FileError, match="differ in shape"):
        read_truth(case)


def test_a_mask_that_is_no_picture(tmp_path):
    case = case_of(tmp_path, {"heart": box(6, 11)})
    case.truth["heart"].write_text("heart")
    with pytest.raises(FileError, match=r"heart\.png"):
        read_truth(case)


def test_gif_masks_are_checked(tmp_path):
    path = tmp_path / "heart.gif"
    path.write_text("GIF89a")
    with pytest.raises(FileError, match="is no GIF"):
        read_mask(path)
    save(path, np.zeros((1, 4097), np.uint8))
    with pytest.raises(FileError, match="4097 x 1"):
        read_mask(path)


def test_swapped_lungs_are_noticed(tmp_path):
    case = case_of(tmp_path, {"right_lung": box(10, 15), "left_lung": box(1, 6)})
    with pytest.warns(ImageWarning, match="mirrored or the masks are swapped"):
        read_truth(case)


# --- parting lungs ---------------------------------------------------------


def test_part_lungs_covers_every_pixel_once():
    mask = np.random.default_rng(0).random((20, 40)) < 0.05
    mask[3:17, 4:16] = mask[3:17, 24:37] = True
    right, left = part_lungs(mask)
    np.testing.assert_array_equal(right | left, mask)
    assert not (right & left).any()
    # A mirrored film has its lungs the other way round.
    mirrored_right, mirrored_left = part_lungs(mask[:, ::-1])
    np.testing.assert_array_equal(mirrored_right[:, ::-1], left)
    np.testing.assert_array_equal(mirrored_left[:, ::-1], right)


def test_part_lungs_that_are_joined_or_alone():
    assert part_lungs(np.zeros((8, 16), bool)) is None
    assert part_lungs(box(1, 15) > 0) is None
    speck = box(1, 10) > 0
    speck[7, 14] = True
    assert part_lungs(speck) is None


# --- the real sets ---------------------------------------------------------


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
def test_shared_sets():
    films = jsrt.cases(SHARED / "jsrt")
    assert [sum(c.split == s for c in films) for s in ("train", "val")] == [174, 22]
    masks, annotated = read_truth(films[0])
    assert masks.shape == (5, 1024, 1024)
    assert annotated.all()
    films = wingspan.cases(SHARED / "wingspan")
    assert len(films) == 160
    assert sum(wingspan.lung_through_heart(c) for c in films) == 8
    assert set(wingspan.reference_ratios(SHARED / "wingspan")) <= {c.id for c in films}

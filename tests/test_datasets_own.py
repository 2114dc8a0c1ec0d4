from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from medseg.datasets import own
from medseg.datasets.case import Case, read_truth
from medseg.datasets.instances import read_instances
from medseg.datasets.pairs import film_and_truth, image_and_cells
from medseg.errors import ConfigError, FileError, ImageWarning
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.io import write_image, write_segmentation
from medseg.labels import Label, LabelSet, cell_labels
from medseg.segmentation import Segmentation
from medseg.train.config_tables import DataConfig, LabelsConfig
from medseg.train.data import load_sample
from medseg.train.run import train
from medseg.train.score import score_cases, score_table
from medseg.train.split import find_cases

HEART, LUNGS = ("heart",), ("right_lung", "left_lung")
SHAPE = (24, 32)
PIXELS = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
MASKS = np.zeros((2, *SHAPE), np.uint8)
MASKS[0, 4:20, 3:14] = 1
MASKS[1, 6:18, 18:29] = 1
BOTH = LabelSet(
    (Label(1, "right_lung", "#4c9be8"), Label(2, "left_lung", "#2f6fb5")),
    "overlapping",
)
ONE_EACH = replace(BOTH, kind="exclusive")
NUMBERED = (MASKS[0] + 2 * MASKS[1]).astype(np.uint8)
PLANE = Geometry.upright((1.0, 1.0), "px")


def put(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="minisblack")
    else:
        Picture.fromarray(pixels).save(path)
    return path


def image(folder: Path, name: str = "a.png") -> Path:
    return put(folder / "images" / name, PIXELS)


def table(folder: Path, name: str, values: Any) -> None:
    (folder / name).write_text(json.dumps(values))


def save(folder: Path, name: str, labels: LabelSet = BOTH, **options: Any) -> None:
    mask = MASKS if labels.kind == "overlapping" else NUMBERED
    path = folder / "masks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_segmentation(Segmentation(mask, labels, PLANE), path, **options)


def lay_out(folder: Path, layout: str) -> None:
    if layout in ("a.tif", "a.nii.gz", "a.nrrd"):
        save(folder, layout)
    elif layout == "exclusive":
        save(folder, "a.png", ONE_EACH)
    elif layout == "split":
        save(folder, "a.png", split_labels=True)
    elif layout == "a folder a structure":
        for name, mask in zip(LUNGS, MASKS, strict=True):
            put(folder / "masks" / name / "a.png", mask * 255)
    elif layout == "numbered":
        put(folder / "masks" / "a.png", NUMBERED)
        names = {"background": 0, "right_lung": 1, "left_lung": 2}
        table(folder, "labels.json", names)
    else:
        put(folder / "masks" / "a.tif", MASKS)
        table(folder, "labels.json", {"left_lung": 2, "right_lung": 1})


@pytest.mark.parametrize(
    "layout",
    [
        "a.tif",
        "a.nii.gz",
        "a.nrrd",
        "exclusive",
        "split",
        "a folder a structure",
        "numbered",
        "channels",
    ],
)
def test_masks_of_every_layout_are_the_same_truth(tmp_path: Path, layout: str) -> None:
    image(tmp_path)
    lay_out(tmp_path, layout)
    (case,) = own.cases(tmp_path, ("left_lung", "heart", "right_lung"))
    assert (case.id, case.group, case.split) == ("a", "a", None)
    film, masks, annotated = film_and_truth(case, ("left_lung", "heart", "right_lung"))
    assert np.array_equal(film.pixels[0], PIXELS)
    assert annotated.tolist() == [True, False, True]
    assert np.array_equal(masks[[2, 0]], MASKS)


def test_one_structure_needs_no_words(tmp_path: Path) -> None:
    image(tmp_path)
    put(tmp_path / "masks" / "a.png", MASKS[0] * 200)
    (case,) = own.cases(tmp_path, HEART)
    assert np.array_equal(read_truth(case, HEART)[0][0], MASKS[0])


def test_one_structure_of_a_map_of_labels_is_named(tmp_path: Path) -> None:
    """Soft edges are shades, the numbers 1 and 2 are labels."""
    image(tmp_path)
    path = put(tmp_path / "masks" / "a.png", NUMBERED)
    (case,) = own.cases(tmp_path, HEART)
    with pytest.raises(FileError, match=r"values without a label.*labels\.json"):
        read_truth(case, HEART)
    table(tmp_path, "labels.json", {"lung": 1, "heart": 2})
    (case,) = own.cases(tmp_path, HEART)
    assert np.array_equal(read_truth(case, HEART)[0][0], MASKS[1])
    table(tmp_path, "labels.json", {"heart": 2})
    (case,) = own.cases(tmp_path, HEART)
    with pytest.raises(FileError, match=r"1 values without a label \(1\)"):
        read_truth(case, HEART)
    path.unlink()
    put(tmp_path / "masks" / "heart" / "a.png", NUMBERED)
    (case,) = own.cases(tmp_path, HEART)
    with pytest.raises(FileError, match="holds several numbers up to 2"):
        read_truth(case, HEART)


def test_images_without_what_is_learnt_are_left_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image(tmp_path, f"{name}.png")
    save(tmp_path, "a.tif")
    put(tmp_path / "masks" / "heart" / "b.png", MASKS[0])
    with pytest.warns(ImageWarning, match=r"1 images with other .* left out \(b\)"):
        (case,) = own.cases(tmp_path, LUNGS)
    assert case.id == "a"
    both = own.cases(tmp_path, ("spine",))
    assert {name for case in both for name in case.truth} == {*LUNGS, *HEART}


def test_images_are_found_as_predict_finds_them(tmp_path: Path) -> None:
    """DICOM without a suffix, and a folder behind a link."""
    outside = tmp_path / "elsewhere"
    put(outside / "b.png", PIXELS)
    folder = tmp_path / "own"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "p").symlink_to(outside)
    (folder / "images" / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(400))
    save(folder, "IM0001.tif")
    save(folder, "p/b.tif")
    assert [case.id for case in own.cases(folder, LUNGS)] == ["IM0001", "p/b"]


@pytest.mark.parametrize("cells", [False, True])
def test_a_mask_lies_where_its_image_lies(tmp_path: Path, cells: bool) -> None:
    """One stored the other way round, which its affine says, is no truth as it is."""
    space = Geometry.upright((2.0, 0.5, 0.5))
    volume = np.stack([PIXELS] * (2 if cells else 1))[None]
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    write_image(Image(volume, space), tmp_path / "images" / "a.nii.gz")
    labels = cell_labels() if cells else BOTH
    names = labels.names
    read = image_and_cells if cells else partial(film_and_truth, names=names)

    def write(geometry: Geometry, factor: int = 1) -> Case:
        mask = np.stack([NUMBERED] * 2).astype(np.int32) if cells else MASKS[:, None]
        mask = mask.repeat(factor, -1).repeat(factor, -2)
        path = tmp_path / "masks" / "a.nii.gz"
        write_segmentation(Segmentation(mask, labels, geometry), path)
        (case,) = own.cases(tmp_path, names, cells=cells)
        return case

    read(write(space))
    if not cells:  # finer, in the same place
        finer = replace(space, spacing=(2.0, 0.25, 0.25), origin=(0, -0.125, -0.125))
        read(write(finer, 2))
    mirrored = replace(
        space,
        direction=((1, 0, 0), (0, 1, 0), (0, 0, -1)),
        origin=(0.0, 0.0, 0.5 * (SHAPE[1] - 1)),
    )
    moved = replace(space, origin=(0.0, 0.0, 10.0))
    for geometry in (mirrored, moved):
        with pytest.raises(FileError, match=r"masks/a\.nii\.gz: lies 1[06]\.. mm from"):
            read(write(geometry))


def test_a_film_stored_as_one_slice_is_a_film(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    space = Geometry.upright((5.0, 0.5, 0.25))
    write_image(Image(PIXELS[None, None], space), tmp_path / "images" / "a.nii.gz")
    write_segmentation(
        Segmentation(MASKS[:, None], BOTH, space), tmp_path / "masks" / "a.nii.gz"
    )
    (case,) = own.cases(tmp_path, LUNGS)
    film, masks, _ = film_and_truth(case, LUNGS)
    assert film.geometry.spacing == (0.5, 0.25)
    assert np.array_equal(film.pixels[0], PIXELS)
    assert np.array_equal(masks, MASKS)


def test_a_volume_is_no_film(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    space = Geometry.upright((1.0, 1.0, 1.0))
    volume, truth = np.stack([PIXELS] * 3)[None], np.stack([MASKS] * 3, axis=1)
    write_image(Image(volume, space), tmp_path / "images" / "a.nii.gz")
    write_segmentation(
        Segmentation(truth, BOTH, space), tmp_path / "masks" / "a.nii.gz"
    )
    (case,) = own.cases(tmp_path, LUNGS)
    with pytest.raises(FileError, match=r"a\.nii\.gz: is a volume of \(3, 24, 32\)"):
        film_and_truth(case, LUNGS)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_cells_are_numbered_in_any_type(tmp_path: Path, dtype: type) -> None:
    image(tmp_path)
    put(tmp_path / "masks" / "a.tif", NUMBERED.astype(dtype))
    (case,) = own.cases(tmp_path, ("cell",), cells=True)
    assert np.array_equal(image_and_cells(case)[1], NUMBERED)


def test_cells_of_one_slice_are_those_of_an_image(tmp_path: Path) -> None:
    image(tmp_path)
    (tmp_path / "masks").mkdir()
    space = Geometry.upright((1.0, 1.0, 1.0))
    cells = Segmentation(NUMBERED[None].astype(np.int32), cell_labels(), space)
    write_segmentation(cells, tmp_path / "masks" / "a.nii.gz")
    (case,) = own.cases(tmp_path, ("cell",), cells=True)
    _, found, known = image_and_cells(case)
    assert np.array_equal(found, NUMBERED)
    assert known.shape == SHAPE


def test_cells_that_nobody_numbered_are_told(tmp_path: Path) -> None:
    image(tmp_path)
    put(tmp_path / "masks" / "a.png", (NUMBERED > 0) * np.uint8(255))
    (case,) = own.cases(tmp_path, ("cell",), cells=True)
    with pytest.warns(ImageWarning, match=r"a\.png: all 2 pieces have the number 255"):
        image_and_cells(case)


def test_cells_may_be_called_as_their_folder(tmp_path: Path) -> None:
    image(tmp_path, "cells/nuclei.png")
    put(tmp_path / "masks" / "cells" / "nuclei.png", NUMBERED)
    for name in ("cells", "nuclei"):
        (case,) = own.cases(tmp_path, (name,), cells=True)
        assert case.id == "cells/nuclei"


def test_frames_of_a_folder_are_counted_as_they_are_numbered(tmp_path: Path) -> None:
    for name in ("m/t10", "m/t2", "m/t1", "n/t7"):
        image(tmp_path, f"{name}.png")
    for name in ("m/t10", "m/t1", "n/t7"):
        put(tmp_path / "masks" / f"{name}.png", NUMBERED)
    with pytest.warns(ImageWarning, match="1 images without a mask"):
        found = own.cases(tmp_path, ("cell",), cells=True)
    assert {case.id: case.frame for case in found} == {"m/t1": 0, "m/t10": 2, "n/t7": 0}


def test_cells_keep_their_numbers(tmp_path: Path) -> None:
    image(tmp_path, "plain.png")
    image(tmp_path, "ours.png")
    put(tmp_path / "masks" / "plain.png", NUMBERED)
    cells = Segmentation(NUMBERED.astype(np.int32), cell_labels(), PLANE)
    write_segmentation(cells, tmp_path / "masks" / "ours.tif")
    found = own.cases(tmp_path, ("cell",), cells=True)
    assert [case.id for case in found] == ["ours", "plain"]
    for case in found:
        numbers, known = read_instances(case)
        assert np.array_equal(numbers, NUMBERED)
        assert known.all()


class TestWhatIsRefused:
    def test_structures_are_no_cells_and_cells_no_structures(
        self, tmp_path: Path
    ) -> None:
        image(tmp_path)
        save(tmp_path, "a.tif")
        with pytest.raises(FileError, match=r"holds right_lung, left_lung and no numb"):
            own.cases(tmp_path, ("cell",), cells=True)
        cells = Segmentation(NUMBERED.astype(np.int32), cell_labels(), PLANE)
        write_segmentation(cells, tmp_path / "masks" / "a.tif")
        with pytest.raises(FileError, match=r"a\.tif: holds numbered cells"):
            own.cases(tmp_path, LUNGS)

    def test_values_without_a_name(self, tmp_path: Path) -> None:
        image(tmp_path)
        put(tmp_path / "masks" / "a.png", NUMBERED)
        with pytest.raises(FileError, match=r"states no label names.*labels\.json"):
            own.cases(tmp_path, LUNGS)

    @pytest.mark.parametrize(
        "text", ["[1, 2]", '{"heart": "x"}', "{", '{"a": 1, "b": 1}', '{"a": -1}']
    )
    def test_labels_that_are_no_table(self, tmp_path: Path, text: str) -> None:
        image(tmp_path)
        put(tmp_path / "masks" / "a.png", NUMBERED)
        (tmp_path / "labels.json").write_text(text)
        with pytest.raises(FileError, match=r"labels\.json: is no table of a value"):
            own.cases(tmp_path, LUNGS)

    def test_two_images_of_one_name(self, tmp_path: Path) -> None:
        image(tmp_path)
        image(tmp_path, "a.tif")
        save(tmp_path, "a.tif")
        with pytest.raises(FileError, match=r"a\.tif: is a second image a, beside a\."):
            own.cases(tmp_path, LUNGS)

    def test_no_image_with_a_mask(self, tmp_path: Path) -> None:
        image(tmp_path, "b.png")
        save(tmp_path, "a.tif")
        with pytest.raises(FileError, match="1 images, 1 masks and no image has"):
            own.cases(tmp_path, LUNGS)

    def test_folders_that_are_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileError, match="has no sub folder images/"):
            own.cases(tmp_path, LUNGS)
        image(tmp_path)
        with pytest.raises(FileError, match="has no sub folder masks/"):
            own.cases(tmp_path, LUNGS)
        (tmp_path / "masks").mkdir()
        with pytest.raises(ConfigError, match="holds no mask"):
            own.cases(tmp_path, LUNGS)


def test_what_has_no_partner_is_counted(tmp_path: Path) -> None:
    for name in ("a.png", "p/b.png", "p/c.png", ".hidden/d.png"):
        image(tmp_path, name)
    for name in ("a.tif", "p/e.tif"):
        save(tmp_path, name)
    with pytest.warns(ImageWarning) as seen:
        found = own.cases(tmp_path, LUNGS)
    assert [case.id for case in found] == ["a"]
    assert [str(w.message).partition(": ")[2] for w in seen] == [
        "2 images without a mask are left out (p/b, p/c)",
        "1 masks without an image are left out (p/e)",
    ]


class TestSplits:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("a", "p/b", "p/c", "q/d"):
            image(tmp_path, f"{name}.png")
            save(tmp_path, f"{name}.tif")
        return tmp_path

    def test_a_folder_is_a_patient(self, folder: Path) -> None:
        groups = {case.id: case.group for case in own.cases(folder, LUNGS)}
        assert groups == {"a": "a", "p/b": "p", "p/c": "p", "q/d": "q"}

    def test_of_folders_and_of_single_images(self, folder: Path) -> None:
        table(folder, "splits.json", {"a": "train", "p": "val", "q/d": "train"})
        splits = {case.id: case.split for case in own.cases(folder, LUNGS)}
        assert splits == {"a": "train", "p/b": "val", "p/c": "val", "q/d": "train"}

    def test_of_deeper_folders_and_of_images_not_drawn_yet(self, folder: Path) -> None:
        image(folder, "p/r/e.png")
        save(folder, "p/r/e.tif")
        image(folder, "q/f.png")
        stated = {"a": "train", "p": "val", "p/r": "train", "q": "val", "q/f": "val"}
        table(folder, "splits.json", stated)
        with pytest.warns(ImageWarning, match="1 images without a mask"):
            splits = {case.id: case.split for case in own.cases(folder, LUNGS)}
        assert (splits["p/b"], splits["p/r/e"], splits["q/d"]) == (
            "val",
            "train",
            "val",
        )

    def test_that_leave_an_image_out(self, folder: Path) -> None:
        table(folder, "splits.json", {"a": "train", "p/b": "val"})
        with pytest.raises(FileError, match="says nothing of 2 images, such as p/c"):
            own.cases(folder, LUNGS)

    def test_that_name_what_is_not_there(self, folder: Path) -> None:
        table(folder, "splits.json", {"a": "train", "p": "val", "q": "val", "r": "val"})
        with pytest.raises(FileError, match="names r, which is no image and no folder"):
            own.cases(folder, LUNGS)


class TestSeveralFolders:
    @pytest.fixture
    def tables(self, tmp_path: Path) -> list[DataConfig]:
        for folder, patients in (("one", range(1, 6)), ("two", range(3, 8))):
            for name in ("a", *(f"p{k}/a" for k in patients)):
                image(tmp_path / folder, f"{name}.png")
                save(tmp_path / folder, f"{name}.tif")
        return [DataConfig("own", str(tmp_path / name)) for name in ("one", "two")]

    def test_no_patient_is_on_both_sides(self, tables: list[DataConfig]) -> None:
        split = find_cases(tables, LabelsConfig(LUNGS))
        train = {case.group for case in split.train}
        held = {case.group for case in split.held_cases}
        assert held == {"p3"}
        assert len(split.held_cases) == 2
        assert not train & held

    def test_films_of_one_name_are_different_films(
        self, tables: list[DataConfig]
    ) -> None:
        split = find_cases(tables, LabelsConfig(LUNGS))
        ids = [case.id for case in (*split.train, *split.held_cases)]
        assert len(set(ids)) == len(ids) == 12
        assert {"1/a", "2/a", "1/p3/a", "2/p3/a"} <= set(ids)
        (single,) = [find_cases(tables[:1], LabelsConfig(LUNGS))]
        assert "p1/a" in {case.id for case in single.train}


def test_an_image_of_two_channels_is_named(tmp_path: Path) -> None:
    put(tmp_path / "images" / "a.tif", np.stack([PIXELS, PIXELS]))
    save(tmp_path, "a.tif")
    path = tmp_path / "images" / "a.tif"
    write_image(Image.from_array(np.stack([PIXELS] * 2), PLANE), path)
    (case,) = own.cases(tmp_path, LUNGS)
    with pytest.raises(FileError, match=r"a\.tif: has 2 channels"):
        load_sample(case, LUNGS, (16, 16))
    write_image(Image.from_array(np.stack([PIXELS, PIXELS, 9 - PIXELS]), PLANE), path)
    with pytest.raises(FileError, match=r"a\.tif: has 3 channels that are no colours"):
        load_sample(case, LUNGS, (16, 16))


def test_scores_are_of_patients_and_count_a_film_once(tmp_path: Path) -> None:
    """Intervals over patients: of one patient it is a point."""

    class Perfect:
        def predict(self, film: Image) -> Segmentation:
            half = MASKS.any(axis=0).astype(np.uint8)
            half[:, : int(film.pixels.max()) // 16] = 0
            labels = LabelSet((Label(1, "lungs", "#4c9be8"),), "overlapping")
            return Segmentation(half[None], labels, film.geometry)

    for k in range(3):
        put(tmp_path / "images" / "p" / f"{k}.png", np.full(SHAPE, 60 * k, np.uint8))
        put(tmp_path / "masks" / "lungs" / "p" / f"{k}.png", MASKS.max(axis=0))
    found = own.cases(tmp_path, ("lungs",))
    scores = score_cases(Perfect(), found, ("lungs",))  # type: ignore[arg-type]
    assert len(scores) == 3
    groups = {case.id: case.group for case in found}
    row = score_table({"": scores}, groups)[""]["lungs"]
    assert row["n"] == 3
    assert row["dice_low"] == row["dice_high"] == row["dice"]
    alone = score_table({"": scores})[""]["lungs"]
    assert alone["dice_low"] < alone["dice"] < alone["dice_high"]


def test_a_model_learns_from_masks_as_they_were_saved(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for k in range(5):
        film = 50 + 80 * MASKS[0] + 160 * MASKS[1] + rng.normal(0, 5, SHAPE)
        put(tmp_path / "films/images" / f"{k}.tif", film.astype(np.uint16))
        save(tmp_path / "films", f"{k}.nii.gz")
    config = tmp_path / "config.toml"
    config.write_text(
        """
name = "tiny"
output = "run"
workers = 0
accelerator = "cpu"
average = 0

[labels]
names = ["right_lung", "left_lung"]

[network]
arguments = { widths = [4, 8, 8], norm = "batch" }

[[data]]
set = "own"
folder = "films"

[[stage]]
size = [32, 32]
epochs = 60
batch = 2
learning_rate = 3e-2
augmentation = 0.0
"""
    )
    model = train(config)
    scores = json.loads((model / "model.json").read_text())["scores"]["own"]
    for name in LUNGS:
        assert scores[name]["n"] == 1
        assert scores[name]["dice"] > 0.8

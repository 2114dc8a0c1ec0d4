from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from medseg.datasets import own
from medseg.datasets.case import read_truth
from medseg.datasets.instances import read_instances
from medseg.datasets.pairs import film_and_truth
from medseg.errors import ConfigError, FileError, ImageWarning
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.io import write_image, write_segmentation
from medseg.labels import Label, LabelSet, cell_labels
from medseg.segmentation import Segmentation
from medseg.train.run import train

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
        table(folder, "labels.json", {"right_lung": 1, "left_lung": 2})


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
        (tmp_path / "masks" / "a.tif").unlink()
        put(tmp_path / "masks" / "heart" / "a.png", MASKS[0])
        with pytest.raises(FileError, match="is the mask of one structure"):
            own.cases(tmp_path, HEART, cells=True)

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

    def test_that_leave_an_image_out(self, folder: Path) -> None:
        table(folder, "splits.json", {"a": "train", "p/b": "val"})
        with pytest.raises(FileError, match="says nothing of 2 images, such as p/c"):
            own.cases(folder, LUNGS)

    def test_that_name_what_is_not_there(self, folder: Path) -> None:
        table(folder, "splits.json", {"a": "train", "p": "val", "q": "val", "r": "val"})
        with pytest.raises(FileError, match="names r, which is no image"):
            own.cases(folder, LUNGS)


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

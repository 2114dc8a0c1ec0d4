"""A mask that a person has mended outlives every later run, until they say otherwise."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tifffile
from fakes import ChestPredictor, NumberPredictor, tree, write_number
from PIL import Image as PillowImage

from medseg.batch import BatchOptions, Summary, run_batch
from medseg.errors import PlanError
from medseg.io import read_image, read_segmentation, write_segmentation
from medseg.io.mask_folder import find_masks
from medseg.segmentation import stamped

OPTIONS = BatchOptions(workers=0)


def run(folder: Path, predictor: Any = None, **options: Any) -> Summary:
    return run_batch(
        [folder / "in"],
        folder / "out",
        predictor or NumberPredictor(),
        replace(OPTIONS, **options),
    )


def mend(path: Path, value: int = 3) -> bytes:
    """Paint a corner of a mask and return the bytes of its file."""
    seg = read_segmentation(path)
    mask = seg.mask.copy()
    mask[..., :2, :2] = value
    write_segmentation(replace(seg, mask=mask), path)
    return path.read_bytes()


def row(folder: Path, name: str) -> dict[str, str]:
    with (folder / "out" / "measurements.csv").open(newline="") as file:
        return next(r for r in csv.DictReader(file) if r["name"] == name)


def films(folder: Path, count: int = 2) -> list[Path]:
    return [write_number(folder / "in" / f"{i}.png", i + 1) for i in range(count)]


@pytest.mark.parametrize("options", [{}, {"verify": True}, {"engine": "other"}])
def test_a_mended_mask_is_kept(tmp_path: Path, options: dict[str, Any]) -> None:
    """By the same command, by one that verifies, and by another model."""
    films(tmp_path)
    run(tmp_path)
    mask = tmp_path / "out" / "0.png"
    mended, written = mend(mask), (tmp_path / "out" / "1.png").read_bytes()
    options = dict(options)
    other = options.pop("engine", "fake")
    summary = run(tmp_path, NumberPredictor(engine=other), **options)
    assert mask.read_bytes() == mended
    assert (summary.done, summary.failed) == (int(other == "other"), 0)
    assert summary.skipped == 2 - summary.done
    assert (
        "changed by hand and is kept (--overwrite" in row(tmp_path, "0.png")["message"]
    )
    assert row(tmp_path, "1.png")["message"] == ""
    again = tree(tmp_path / "out")
    assert run(tmp_path, NumberPredictor(engine=other), **options).skipped == 2
    assert tree(tmp_path / "out") == again
    assert run(tmp_path, NumberPredictor(engine="third")).skipped == 1
    assert mask.read_bytes() == mended
    assert run(tmp_path, overwrite=True).done == 2
    assert mask.read_bytes() != mended
    assert (tmp_path / "out" / "1.png").read_bytes() == written


@pytest.mark.parametrize("split", [False, True])
def test_a_mended_film_is_measured_as_it_is_now(tmp_path: Path, split: bool) -> None:
    write_number(tmp_path / "in" / "a.png", 9)
    run(tmp_path, ChestPredictor(), split_labels=split)
    before = float(row(tmp_path, "a.png")["ctr"])
    assert row(tmp_path, "a.png")["doubt"] != ""
    if split:
        path = tmp_path / "out" / "a" / "heart.png"
        heart = read_image(path).pixels
        heart[:, 5, 1:-1] = 255
        PillowImage.fromarray(heart[0]).save(path)
    else:
        path = tmp_path / "out" / "a.tif"
        seg = read_segmentation(path)
        mask = seg.mask.copy()
        mask[2, 5, 1:-1] = 1  # the heart, two pixels wider
        write_segmentation(replace(seg, mask=mask), path)
    again = run(tmp_path, ChestPredictor(), split_labels=split)
    assert again.skipped == 1
    now = row(tmp_path, "a.png")
    assert float(now["ctr"]) == pytest.approx(before * 6 / 4)
    assert now["doubt"] == ""  # no model said how sure it was


@pytest.mark.parametrize("form", [{"format": "nii.gz"}, {"format": "tif"}])
@pytest.mark.parametrize("reruns", [0, 1, 2])
def test_a_mended_mask_outlives_runs_in_other_forms(
    tmp_path: Path, form: dict[str, Any], reruns: int
) -> None:
    """However often it was found to be mended before, and back in the first form."""
    films(tmp_path, 1)
    run(tmp_path)
    mended = mend(tmp_path / "out" / "0.png")
    for _ in range(reruns):
        assert run(tmp_path).skipped == 1
    assert run(tmp_path, **form).done == 1
    assert (tmp_path / "out" / "0.png").read_bytes() == mended
    assert "0.png of an earlier run was changed" in row(tmp_path, "0.png")["message"]
    assert run(tmp_path).skipped == 1
    assert (tmp_path / "out" / "0.png").read_bytes() == mended
    assert list(find_masks(tmp_path / "out")) == ["0"]  # the model's other has gone


def heart_of(folder: Path) -> Path:
    return folder / "out" / "a" / "heart.png"


@pytest.mark.parametrize("reruns", [0, 1])
def test_a_mask_of_which_one_structure_was_mended_stays_whole(
    tmp_path: Path, reruns: int
) -> None:
    """The person has looked at the other structures too."""
    write_number(tmp_path / "in" / "a.png", 9)
    run(tmp_path, ChestPredictor(), split_labels=True)
    heart = read_image(heart_of(tmp_path)).pixels
    heart[:, 5, 1:-1] = 255
    PillowImage.fromarray(heart[0]).save(heart_of(tmp_path))
    mended = tree(heart_of(tmp_path).parent)
    for _ in range(reruns):
        assert run(tmp_path, ChestPredictor(), split_labels=True).skipped == 1
    assert run(tmp_path, ChestPredictor(), format="nii.gz").done == 1
    assert tree(heart_of(tmp_path).parent) == mended
    assert row(tmp_path, "a.png")["message"].count("was changed since") == 1
    assert run(tmp_path, ChestPredictor(), split_labels=True).skipped == 1
    assert tree(heart_of(tmp_path).parent) == mended
    assert list(find_masks(tmp_path / "out")) == ["a"]  # the model's other has gone
    assert "remove one of them" not in row(tmp_path, "a.png")["message"]


@pytest.mark.parametrize("reruns", [0, 1])
def test_maps_beside_a_mask_that_is_kept_stay(tmp_path: Path, reruns: int) -> None:
    """The other model was not run on this film."""
    films(tmp_path, 1)
    run(tmp_path, probabilities=True)
    mend(tmp_path / "out" / "0.png")
    for _ in range(reruns):
        run(tmp_path, probabilities=True)
    assert run(tmp_path, other_model()).skipped == 1
    assert len(list((tmp_path / "out").glob("*_probabilities.*"))) == 1
    assert "_probabilities" not in row(tmp_path, "0.png")["message"]


def other_model() -> NumberPredictor:
    predictor = NumberPredictor()
    facts = {**predictor.describe(), "model_hash": "1" * 64}
    predictor.describe = lambda: facts  # type: ignore[method-assign]
    return predictor


def test_maps_of_another_model_or_image_do_not_stay(tmp_path: Path) -> None:
    films(tmp_path, 3)
    run(tmp_path, probabilities=True)
    found = sorted((tmp_path / "out").glob("*_probabilities.*"))
    assert len(found) == 3
    found[2].write_bytes(b"changed since")
    write_number(tmp_path / "in" / "0.png", 77)
    run(tmp_path)
    assert sorted((tmp_path / "out").glob("*_probabilities.*")) == found[1:]
    run(tmp_path, probabilities=True)
    found[2].write_bytes(b"changed since")
    run(tmp_path, other_model())
    assert sorted((tmp_path / "out").glob("*_probabilities.*")) == found[2:]
    assert "2_probabilities" in row(tmp_path, "2.png")["message"]


def test_a_mended_mask_of_another_image_is_kept_and_the_case_fails(
    tmp_path: Path,
) -> None:
    films(tmp_path)
    run(tmp_path)
    mended = mend(tmp_path / "out" / "0.png")
    write_number(tmp_path / "in" / "0.png", 200)
    summary = run(tmp_path)
    assert (summary.done, summary.failed, summary.skipped) == (0, 1, 1)
    assert (tmp_path / "out" / "0.png").read_bytes() == mended
    failures = (tmp_path / "out" / "failures.csv").read_text()
    assert "the image was replaced since. Move the mask, or add --overwrite" in failures
    assert run(tmp_path).failed == 1
    (tmp_path / "out" / "0.png").unlink()
    assert run(tmp_path).done == 1


def test_a_mended_mask_of_another_size_is_kept_and_the_case_fails(
    tmp_path: Path,
) -> None:
    films(tmp_path)
    run(tmp_path)
    path = tmp_path / "out" / "0.png"
    small = read_segmentation(path)
    write_segmentation(replace(small, mask=small.mask[2:]), path)
    mended = path.read_bytes()
    summary = run(tmp_path)
    assert (summary.done, summary.failed, summary.skipped) == (0, 1, 1)
    assert path.read_bytes() == mended
    failures = (tmp_path / "out" / "failures.csv").read_text()
    height, width = small.spatial_shape
    assert f"has size {(height - 2, width)}, the image {(height, width)}" in failures


def test_under_numbers_a_mended_mask_stays_with_its_own_film(tmp_path: Path) -> None:
    """A new film in front takes the number of the one whose mask was mended."""
    films(tmp_path, 1)
    run(tmp_path, anonymous_names=True)
    mended = mend(tmp_path / "out" / "000001.png")
    assert run(tmp_path, anonymous_names=True).skipped == 1
    write_number(tmp_path / "in" / "!.png", 50)
    summary = run(tmp_path, anonymous_names=True)
    assert (summary.done, summary.failed) == (1, 1)
    assert (tmp_path / "out" / "000001.png").read_bytes() == mended


def test_a_damaged_mask_is_written_again(tmp_path: Path) -> None:
    films(tmp_path)
    run(tmp_path)
    wanted = tree(tmp_path / "out")
    mask = tmp_path / "out" / "0.png"
    mask.write_bytes(mask.read_bytes()[:30])
    assert run(tmp_path).done == 1
    assert tree(tmp_path / "out") == wanted


def test_masks_saved_by_another_program_are_kept_and_measured(tmp_path: Path) -> None:
    """They state no names; the second has as many bytes as the first."""
    write_number(tmp_path / "in" / "a.png", 9)
    run(tmp_path, ChestPredictor())
    before = float(row(tmp_path, "a.png")["ctr"])
    path = tmp_path / "out" / "a.tif"
    mask, sizes = read_segmentation(path).mask.copy(), set()
    for column, widths in ((1, 5), (6, 6)):
        mask[2, 5, column] = 1  # the heart, wider by a pixel each time
        tifffile.imwrite(path, mask)
        mended = path.read_bytes()
        sizes.add(len(mended))
        assert run(tmp_path, ChestPredictor()).skipped == 1
        assert path.read_bytes() == mended
        now = row(tmp_path, "a.png")
        assert "changed by hand" in now["message"]
        assert float(now["ctr"]) == pytest.approx(before * widths / 4, abs=1e-4)
    assert len(sizes) == 1


def test_a_mask_drawn_for_a_case_that_failed_is_kept(tmp_path: Path) -> None:
    films(tmp_path)
    good = (tmp_path / "in" / "0.png").read_bytes()
    (tmp_path / "in" / "0.png").write_bytes(b"broken")
    assert run(tmp_path).failed == 1
    mask = tmp_path / "out" / "0.png"
    mask.write_bytes((tmp_path / "out" / "1.png").read_bytes())
    drawn = mend(mask)
    (tmp_path / "in" / "0.png").write_bytes(good)
    assert run(tmp_path).failed == 0
    assert mask.read_bytes() == drawn


def test_an_image_in_the_place_of_a_mask_is_not_replaced(tmp_path: Path) -> None:
    films(tmp_path)
    run(tmp_path)
    write_number(tmp_path / "in" / "new.png", 3)
    mine = tmp_path / "out" / "new.png"
    PillowImage.new("RGB", (8, 8), (1, 2, 3)).save(mine)
    before = mine.read_bytes()
    summary = run(tmp_path)
    assert (summary.done, summary.failed, summary.skipped) == (0, 1, 2)
    assert mine.read_bytes() == before
    failures = (tmp_path / "out" / "failures.csv").read_text()
    assert "new.png is not what a run wrote there, and is no mask" in failures
    assert run(tmp_path, overwrite=True).done == 3


def test_a_mended_mask_of_another_form_is_kept_when_its_form_comes_again(
    tmp_path: Path,
) -> None:
    films(tmp_path, 1)
    run(tmp_path, format="tif")
    mended = mend(tmp_path / "out" / "0.tif")
    run(tmp_path, format="nii.gz")
    assert "stays beside" in row(tmp_path, "0.png")["message"]
    assert run(tmp_path, format="tif").skipped == 1
    assert (tmp_path / "out" / "0.tif").read_bytes() == mended
    assert not (tmp_path / "out" / "0.nii.gz").exists()  # the model's, and superseded


def test_a_model_s_mask_that_no_journal_knows_is_no_person_s_work(
    tmp_path: Path,
) -> None:
    """As a run leaves it that dies after the mask and before its line."""
    films(tmp_path, 1)
    run(tmp_path)
    seg = read_segmentation(tmp_path / "out" / "0.png")
    other = seg.mask + 1
    made = replace(seg, mask=other, provenance=stamped({"model": "another"}, other))
    write_segmentation(made, tmp_path / "out" / "0.png")
    assert run(tmp_path).done == 1
    assert row(tmp_path, "0.png")["message"] == ""


def test_the_mask_of_another_image_is_replaced_with_a_word(tmp_path: Path) -> None:
    films(tmp_path, 1)
    run(tmp_path)
    write_number(tmp_path / "in" / "0.png", 200)
    assert run(tmp_path).done == 1
    said = row(tmp_path, "0.png")["message"]
    assert said == "the mask of another image had this name"
    (tmp_path / "in" / "0.png").write_bytes(b"broken")
    assert run(tmp_path).failed == 1
    assert "The mask of an earlier run stays" in row(tmp_path, "0.png")["message"]


def test_an_image_named_as_a_map_is_mended_and_measured_as_any_other(
    tmp_path: Path,
) -> None:
    write_number(tmp_path / "in" / "of_uncertainty.v2" / "a_uncertainty.png", 9)
    run(tmp_path)
    path = tmp_path / "out" / "of_uncertainty.v2" / "a_uncertainty.png"
    mended = mend(path)
    assert run(tmp_path).skipped == 1
    assert path.read_bytes() == mended
    assert list(find_masks(tmp_path / "out")) == ["of_uncertainty.v2/a_uncertainty"]
    path.with_name("a.png").write_bytes(mended)  # the mask, and now its map
    assert list(find_masks(tmp_path / "out")) == ["of_uncertainty.v2/a"]


@pytest.mark.parametrize("number", [0, 5])
def test_an_image_of_one_value_is_done_with_a_word(tmp_path: Path, number: int) -> None:
    path = write_number(tmp_path / "in" / "0.png", number)
    PillowImage.new("L", (8, 8), number).save(path)
    run(tmp_path)
    said = f"all pixels are {number}: nothing is to be seen"
    assert row(tmp_path, "0.png")["message"].startswith(said)
    assert row(tmp_path, "0.png")["cells"] == str(int(number > 0))


def test_files_that_no_run_has_written_are_not_replaced(tmp_path: Path) -> None:
    films(tmp_path)
    mine = tmp_path / "out" / "0.png"
    write_number(mine, 77)
    before = tree(tmp_path / "out")
    with pytest.raises(PlanError, match=r"1 of its files would be replaced.* 0\.png"):
        run(tmp_path)
    assert tree(tmp_path / "out") == before
    assert run(tmp_path, overwrite=True).done == 2

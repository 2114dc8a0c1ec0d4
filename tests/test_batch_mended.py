"""A mask that a person has mended outlives every later run, until they say otherwise."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import ChestPredictor, NumberPredictor, tree, write_number
from PIL import Image as PillowImage

from medseg.batch import BatchOptions, Summary, run_batch
from medseg.errors import PlanError
from medseg.io import read_image, read_segmentation, write_segmentation

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
    # So small a file may have as many bytes as before.
    again = run(tmp_path, ChestPredictor(), split_labels=split, verify=True)
    assert again.skipped == 1
    now = row(tmp_path, "a.png")
    assert float(now["ctr"]) == pytest.approx(before * 6 / 4)
    assert now["doubt"] == ""  # no model said how sure it was


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


def test_files_that_no_run_has_written_are_not_replaced(tmp_path: Path) -> None:
    films(tmp_path)
    mine = tmp_path / "out" / "0.png"
    write_number(mine, 77)
    before = tree(tmp_path / "out")
    with pytest.raises(PlanError, match=r"1 of its files would be replaced.* 0\.png"):
        run(tmp_path)
    assert tree(tmp_path / "out") == before
    assert run(tmp_path, overwrite=True).done == 2

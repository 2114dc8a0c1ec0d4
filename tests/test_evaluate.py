"""Folders of predictions against folders of truths, and folders measured."""

from __future__ import annotations

import csv
import json
import re
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from medseg import cli
from medseg.batch.evaluate import EvaluateOptions, evaluate_folder, write_evaluation
from medseg.batch.measure import measure_folder
from medseg.errors import ConfigError, ExitCode, FileError, ImageWarning
from medseg.geometry import Geometry
from medseg.io import write_segmentation
from medseg.io.mask_folder import find_masks, read_masks
from medseg.labels import Label, LabelSet, cell_labels, chest_labels
from medseg.measure import COLUMNS
from medseg.segmentation import Segmentation

PIXELS = Geometry.pixels(2)
NAMES = ("right_lung", "left_lung", "heart")
LABELS = LabelSet(chest_labels().labels[:3], "overlapping")


def chest(shift=0, geometry=PIXELS, empty=()):
    """Return boxes for a chest ``(3, 40, 48)``, the heart moved by ``shift``."""
    mask = np.zeros((3, 40, 48), np.uint8)
    mask[0, 4:34, 4:20] = mask[1, 4:34, 30:44] = 1
    mask[2, 20:36, 14 + shift : 36 + shift] = 1
    for name in empty:
        mask[LABELS.index(name)] = 0
    return Segmentation(mask, LABELS, geometry)


def save_png(path: Path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(mask.astype(np.uint8) * 255).save(path)


def save(folder, case, seg, layout):
    """Save a mask in one of the layouts that are read."""
    if layout == "whole":
        write_segmentation(seg, folder / f"{case}.tif")
    elif layout == "nifti":
        write_segmentation(seg, folder / f"{case}.nii.gz")
    else:
        for name in seg.labels.names:
            parts = (case, name) if layout == "case" else (name, case)
            save_png(folder.joinpath(*parts).with_suffix(".png"), seg.structure(name))
    return folder


def folders(tmp_path, pred="whole", truth="structure", cases=("a", "s/b")):
    """Return a folder of predictions and one of truths, the hearts one pixel apart."""
    for case in cases:
        save(tmp_path / "pred", case, chest(1), pred)
        save(tmp_path / "truth", case, chest(), truth)
    return tmp_path / "pred", tmp_path / "truth"


def means(result):
    return {s.structure: s.mean for s in result.summaries if s.metric == "dice"}


@pytest.mark.parametrize("truth", ["whole", "case", "structure"])
@pytest.mark.parametrize("pred", ["whole", "nifti", "case", "structure"])
def test_every_layout_gives_the_same_scores(tmp_path, pred, truth):
    result = evaluate_folder(*folders(tmp_path, pred, truth))
    assert means(result) == {
        "right_lung": 1,
        "left_lung": 1,
        "heart": pytest.approx(21 / 22),
    }
    assert [s.case for s in result.scores] == ["a"] * 3 + ["s/b"] * 3
    assert {s.n_failed for s in result.summaries} == {0}
    assert result.problems == result.unmatched == ()


def test_a_folder_of_a_data_set_is_searched_in_its_masks_only(tmp_path):
    pred, truth = folders(tmp_path)
    (tmp_path / "set").mkdir()
    truth.rename(tmp_path / "set" / "masks")
    save_png(tmp_path / "set" / "images" / "a.png", np.ones((40, 48)))
    assert means(evaluate_folder(pred, tmp_path / "set"))["heart"] < 1


def test_ratio_is_compared_case_by_case(tmp_path):
    result = evaluate_folder(*folders(tmp_path))
    assert (result.ctr.n, result.ctr.mae) == (2, 0)
    assert "without a truth" not in result.table()


def test_grey_edged_and_binary_masks_read_alike(tmp_path):
    mask = np.zeros((6, 6), np.uint8)
    mask[2:5, 2:5] = 255
    for name, pixels in (("a", mask), ("b", mask // 255), ("c", np.maximum(mask, 90))):
        path = tmp_path / "heart" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        PillowImage.fromarray(pixels).save(path)
    for files in find_masks(tmp_path).values():
        assert (read_masks(files).structure("heart") == (mask > 0)).all()


def test_a_missing_prediction_is_a_failure(tmp_path):
    pred, truth = folders(tmp_path, cases=("a", "b"))
    (pred / "b.tif").unlink()
    result = evaluate_folder(pred, truth)
    assert means(result)["right_lung"] == 0.5
    assert {s.n_failed for s in result.summaries} == {1}
    assert [(p.case, p.message) for p in result.problems] == [
        ("b", "b: has no prediction. Predict it.")
    ]
    assert result.ctr.n_failed == 1


def test_missing_predictions_are_one_line(tmp_path):
    pred, truth = folders(tmp_path, cases=("a", "b", "c", "d", "e", "f"))
    for case in "bcde":
        (pred / f"{case}.tif").unlink()
    (pred / "f.tif").write_bytes(b"II*\0 nothing")
    result = evaluate_folder(pred, truth)
    damaged, missing = result.complaints()
    assert "f.tif" in damaged
    assert missing == (
        "no prediction for 4 of 6 cases (b, c, d, ...): counted as failed. "
        "Predict them, or add --only-predicted."
    )
    (pred / "f.tif").unlink()
    some = evaluate_folder(pred, truth, EvaluateOptions(only_predicted=True))
    assert {s.case for s in some.scores} == {"a"}
    assert some.left_out == tuple("bcdef")
    assert some.to_dict()["left_out"] == list("bcdef")
    assert some.complaints() == []
    assert "1 of 6 cases scored: the others have no prediction" in some.table()
    two = evaluate_folder(pred, truth)
    (pred / "b.tif").write_bytes((pred / "a.tif").read_bytes())
    assert "(b, c, d, ...)" in two.complaints()[0]


def test_one_case_is_held_at_a_time(tmp_path, monkeypatch):
    pred, truth = folders(tmp_path, cases=tuple("abcdefgh"))
    for case in "cdef":
        (pred / f"{case}.tif").unlink()
    small = Segmentation(chest().mask[:, 1:], LABELS, PIXELS)
    write_segmentation(small, pred / "b.tif")
    held, most = [], []

    def read(*arguments):
        most.append(sum(mask() is not None for mask in held))
        seg = read_masks(*arguments)
        held.append(weakref.ref(seg.mask))
        return seg

    monkeypatch.setattr("medseg.batch.evaluate.read_masks", read)
    evaluate_folder(pred, truth)
    assert len(held) == 13  # the first prediction is read for its structures, too
    assert max(most) == 1


def test_numbers_of_four_digits_do_not_touch(tmp_path):
    options = EvaluateOptions(spacing=(600.0, 600.0))
    pred, truth = folders(tmp_path, cases=("a", "b"))
    (pred / "b.tif").unlink()
    head, *rows = evaluate_folder(pred, truth, options).table().splitlines()
    rows = [row for row in rows if "_mm" in row]
    assert any(re.search(r"\.\.\d{5}\.\d{4} ", row) for row in rows)
    columns = len(head.replace("95 % interval", "i").replace("worst case", "w").split())
    assert {len(row.split()) for row in rows} == {columns}


def test_a_missing_file_of_one_structure_is_a_failure_of_that_structure(tmp_path):
    pred, truth = folders(tmp_path, "case", cases=("a", "b"))
    (pred / "b" / "heart.png").unlink()
    by_structure = {s.structure: s for s in evaluate_folder(pred, truth).summaries}
    assert by_structure["heart"].n_failed == 1
    assert by_structure["left_lung"].n_failed == 0


@pytest.mark.parametrize("damage", ["cut", "grid"])
def test_a_damaged_or_misplaced_prediction_is_a_failure_with_a_message(
    tmp_path, damage
):
    pred, truth = folders(tmp_path, cases=("a", "b"))
    if damage == "cut":
        (pred / "a.tif").write_bytes((pred / "a.tif").read_bytes()[:90])
    else:
        small = Segmentation(chest().mask[:, 1:], LABELS, PIXELS)
        write_segmentation(small, pred / "a.tif")
    result = evaluate_folder(pred, truth)
    assert {s.n_failed for s in result.summaries} == {1}
    (problem,) = result.problems
    assert problem.case == "a"
    assert ("grid" in problem.message) == (damage == "grid")


def test_if_every_prediction_is_misplaced_that_is_the_error(tmp_path):
    _, truth = folders(tmp_path, cases=("a",))
    other = Segmentation(chest().mask[:, 1:], LABELS, PIXELS)
    save(tmp_path / "other", "a", other, "whole")
    with pytest.raises(ConfigError, match=r"\(39, 48\).*the truth shape \(40, 48\)"):
        evaluate_folder(tmp_path / "other", truth)


def test_structures_that_are_not_annotated_are_skipped(tmp_path):
    pred, truth = folders(tmp_path, cases=("a", "b"))
    (truth / "heart" / "b.png").unlink()
    result = evaluate_folder(pred, truth)
    counts = {s.structure: s.n for s in result.summaries}
    assert counts == {"right_lung": 2, "left_lung": 2, "heart": 1}


def test_unions_and_spacing_and_tolerances(tmp_path):
    options = EvaluateOptions(("lungs", "heart"), tolerances=(0.5,), spacing=(0.5, 0.5))
    result = evaluate_folder(*folders(tmp_path), options)
    assert set(means(result)) == {"lungs", "heart"}
    assert {s.unit for s in result.scores} == {"mm"}
    heart = next(s for s in result.scores if s.structure == "heart")
    assert heart.values["hd"] == 0.5
    assert heart.values["nsd_0.5"] == 1


def test_a_truth_of_both_lungs_in_one(tmp_path):
    pred, _ = folders(tmp_path)
    both = chest().structure("right_lung") | chest().structure("left_lung")
    save_png(tmp_path / "other" / "lungs" / "a.png", both)
    result = evaluate_folder(pred, tmp_path / "other")
    assert means(result) == {"lungs": 1}
    assert result.ctr is None
    assert "cardiothoracic" not in result.table()
    assert result.unmatched == ("s/b",)


def test_patients_are_groups(tmp_path):
    pred, truth = folders(tmp_path, cases=("a", "b"))
    one = evaluate_folder(pred, truth, EvaluateOptions(groups={"a": "p", "b": "p"}))
    assert all(s.interval.low == s.interval.high for s in one.summaries)


def test_results_as_json_and_csv(tmp_path):
    result = evaluate_folder(*folders(tmp_path))
    data = json.loads(write_evaluation(result, tmp_path / "x.json").read_text())
    assert len(data["cases"]) == 6
    assert data["bootstrap"] == {"draws": 1000, "seed": 0}
    with write_evaluation(result, tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["case"] for r in rows] == [s.case for s in result.scores]
    assert rows[2]["hd95_px"] == "1.0"
    with pytest.raises(ConfigError, match="neither"):
        write_evaluation(result, tmp_path / "x.txt")


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda p, t: {"pred": p / "none"}, "is not a folder"),
        (lambda p, t: {"pred": (p / "empty", (p / "empty").mkdir())[0]}, "no mask"),
        (lambda p, t: {"pred": save(p / "x", "q", chest(), "whole")}, "no case of"),
        (lambda p, t: {"options": EvaluateOptions(("brain",))}, "prediction has brain"),
        (
            lambda p, t: {
                "truth": (
                    t.parent / "n",
                    save_png(t.parent / "n/left_clavicle/a.png", np.ones((40, 48))),
                )[0]
            },
            "the truth none of them",
        ),
        (
            lambda p, t: {"pred": save(p, "a", chest(), "nifti")},
            r"a\.tif: is a second mask of case a, beside .*a\.nii\.gz\. Remove one",
        ),
        (
            lambda p, t: {"pred": ((p / "res_track.txt").touch(), p)[1]},
            "pred: is a tracking result.* Add --ctc",
        ),
    ],
    ids=["no folder", "empty", "names", "unknown", "not annotated", "twice", "movie"],
)
def test_what_is_refused(tmp_path, spoil, cause):
    pred, truth = folders(tmp_path)
    arguments = {"pred": pred, "truth": truth} | spoil(pred, truth)
    with pytest.raises(ConfigError, match=cause):
        evaluate_folder(**arguments)


def test_structure_files_that_do_not_fit_together_are_refused(tmp_path):
    save_png(tmp_path / "a" / "heart.png", np.ones((4, 4)))
    save_png(tmp_path / "a" / "left_lung.png", np.ones((4, 5)))
    with pytest.raises(FileError, match=r"of the case \(4, 5\)"):
        read_masks(find_masks(tmp_path)["a"])
    colour = np.random.default_rng(0).integers(0, 255, (4, 4, 3), np.uint8)
    PillowImage.fromarray(colour).save(tmp_path / "a" / "left_lung.png")
    with pytest.raises(FileError, match="has 3 channels"):
        read_masks(find_masks(tmp_path)["a"])


def test_maps_and_hidden_files_are_no_masks(tmp_path):
    save(tmp_path, "a", chest(), "whole")
    for name in ("a_probabilities.tif", ".a.tif", "notes.txt"):
        (tmp_path / name).write_bytes((tmp_path / "a.tif").read_bytes())
    assert list(find_masks(tmp_path)) == ["a"]


@pytest.mark.parametrize("layout", ["whole", "case"])
def test_cases_may_be_called_as_structures_are(tmp_path: Path, layout: str) -> None:
    """What a file says that it holds counts, not the name of a folder of films."""
    names = ("heart/a", "lungs", "left_lung/heart/b", "c")
    for name in names:
        save(tmp_path, name, chest(), layout)
    found = find_masks(tmp_path)
    assert sorted(found) == sorted(names)
    for files in found.values():
        assert (read_masks(files).mask == chest().mask).all()


def test_a_structure_may_have_been_drawn_under_another_name(tmp_path: Path) -> None:
    """In a folder of its name; a file that states another structure is refused."""
    mask = chest().structure("heart").astype(np.uint8)
    for case, name in (("a", "label_1"), ("b", "Heart")):
        drawn = LabelSet((Label(1, name, "#ff0000"),), "exclusive")
        (tmp_path / "heart").mkdir(exist_ok=True)
        seg = Segmentation(mask, drawn, PIXELS)
        write_segmentation(seg, tmp_path / "heart" / f"{case}.png")
    found = find_masks(tmp_path)
    assert list(found) == ["a", "b"]
    for files in found.values():
        assert (read_masks(files).structure("heart") == mask).all()


def test_the_output_of_a_run_is_searched_whole(tmp_path: Path) -> None:
    """Films in a folder called masks are no masks beside images."""
    for name in ("a", "masks/b"):
        save(tmp_path, name, chest(), "whole")
    assert list(find_masks(tmp_path)) == ["b"]
    (tmp_path / "medseg-run.jsonl").touch()
    assert list(find_masks(tmp_path)) == ["a", "masks/b"]


# Measuring


@pytest.mark.parametrize("layout", ["whole", "nifti", "case", "structure"])
def test_a_folder_is_measured(tmp_path, layout):
    for case in ("a", "s/b"):
        save(tmp_path / "masks", case, chest(), layout)
    table = tmp_path / "out" / "table.csv"
    found = measure_folder(tmp_path / "masks", table)
    assert found.failed == 0
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [r["name"] for r in rows] == ["a", "s/b"]
    assert {r["ctr"] for r in rows} == {"0.55"}
    assert {r["heart_width_mm"] for r in rows} == {""}
    assert rows[0]["heart_line_x0_px"] == "13.5"


def test_spacing_and_its_plane_reach_the_table(tmp_path):
    at_detector = Geometry.upright((0.5, 0.5), detector_plane=True)
    path = tmp_path / "a.tif"
    write_segmentation(chest(geometry=at_detector), path)
    (row,) = measure_folder(path).rows
    assert row["doubt"] is None  # nobody knows without probabilities
    assert (row["heart_width_px"], row["heart_width_mm"]) == (22, 11)
    assert row["spacing_is_at_detector"] == "yes"


def cells(geometry=PIXELS, empty=False):
    """Return two cells of 6 and 16 pixels."""
    mask = np.zeros((16, 17), np.uint16)
    mask[1:4, 2:4], mask[8:12, 8:12] = 1, 2
    labels = LabelSet((Label(1, "cell", "#4c9be8"),), "instances")
    return Segmentation(mask * (not empty), labels, geometry)


def measured(tmp_path):
    """Return the table of ``masks`` below ``tmp_path``: its columns and rows."""
    measure_folder(tmp_path / "masks", tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(rows[0]), rows


def test_cells_of_images_are_a_row_each(tmp_path):
    micrometre = Geometry.upright((0.001, 0.001))
    for name, seg in (
        ("a.png", cells()),
        ("b.tif", cells(micrometre)),
        ("c.png", cells(empty=True)),
    ):
        write_segmentation(seg, tmp_path / "masks" / name)
    (tmp_path / "masks" / "d.png").write_bytes(b"")
    columns, rows = measured(tmp_path)
    assert columns[:3] == ("name", "status", "cell")
    assert not set(columns) & {"ctr", "frame"}
    found = [(r["name"], r["cell"], r["area_px"], r["area_um2"]) for r in rows]
    assert found == [
        ("a", "1", "6", ""),
        ("a", "2", "16", ""),
        ("b", "1", "6", "6.0"),
        ("b", "2", "16", "16.0"),
        ("c", "", "", ""),
        ("d", "", "", ""),
    ]
    assert rows[4]["message"] == "no cell"
    assert [r["status"] for r in rows] == ["done"] * 5 + ["failed"]
    assert "empty" in rows[5]["message"]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (("p/a", "p/b"), ["a/x", "y", "b/x"]),
        (("p/a", "q/a"), ["p/a/x", "y", "q/a/x"]),
        (("p/a", "p/b", "q/a"), ["p/a/x", "y", "b/x", "q/a/x"]),
        (("p/a/x.png", "q/a/x.png"), ["p/a/x", "q/a/x"]),
        (("s/x.png", "s/x.tif"), ["s/x.png", "s/x.tif"]),
        (("q", "r"), ["q/a/x", "r/a/x"]),
        (("p/a", "p/a/x.png", "p/a/../a"), ["x", "y"]),
    ],
)
def test_rows_have_names_that_tell_them_apart(tmp_path, given, names):
    for name in ("p/a/x", "p/a/y", "p/b/x", "q/a/x", "r/a/x", "s/x"):
        path = tmp_path / "root" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()  # a broken mask has a row too
    (tmp_path / "root/s/x.tif").touch()
    rows = measure_folder([tmp_path / "root" / path for path in given]).rows
    assert [row["name"] for row in rows] == names


def test_films_and_cells_share_a_table(tmp_path):
    write_segmentation(cells(), tmp_path / "masks" / "a.png")
    write_segmentation(chest(), tmp_path / "masks" / "b.tif")
    columns, rows = measured(tmp_path)
    assert set(COLUMNS) < set(columns)
    found = [(r["name"], r["ctr"], r["area_px"]) for r in rows]
    assert found == [("a", "", "6"), ("a", "", "16"), ("b", "0.55", "")]


def test_what_measures_nothing_is_a_failure(tmp_path):
    bones = LabelSet((Label(1, "spine", "#4c9be8"),))
    write_segmentation(
        Segmentation(np.eye(9, dtype=np.uint8), bones, PIXELS), tmp_path / "a.tif"
    )
    (row,) = measure_folder(tmp_path).rows
    assert row["status"] == "failed"
    assert "no lung and no heart, but spine" in row["message"]
    (tmp_path / "res_track.txt").touch()
    with pytest.raises(ConfigError, match="measured alone"):
        measure_folder([tmp_path, tmp_path])


def test_a_broken_mask_is_a_row_with_a_message(tmp_path):
    save(tmp_path, "good", chest(empty=["heart"]), "whole")
    (tmp_path / "bad.tif").write_bytes(b"II*\0 nothing")
    found = measure_folder([tmp_path])
    bad, good = found.rows
    assert found.failed == 1
    assert bad["status"] == "failed"
    assert "bad.tif" in bad["message"]
    assert good["ctr"] is None
    assert good["message"].startswith("heart is missing")


def test_a_table_never_replaces_a_mask(tmp_path):
    (mask,) = write_segmentation(chest(), tmp_path / "a.tif")
    before = mask.read_bytes()
    with pytest.raises(ConfigError, match=r"no \.csv file"):
        measure_folder(mask, mask)
    assert mask.read_bytes() == before
    odd = mask.rename(tmp_path / "a.csv")
    with pytest.raises(ConfigError, match="one of the masks"):
        measure_folder([odd], tmp_path / "." / "a.csv")
    assert odd.read_bytes() == before


def test_a_film_and_a_volume_of_one_slice_are_compared(tmp_path):
    film = chest(1, Geometry.upright((0.5, 0.5)))
    volume = Geometry((3.0, 0.5, 0.5), (9.0, 8.0, 7.0), Geometry.pixels(3).direction)
    volume = replace(volume, unit="mm")
    true = Segmentation(chest().mask[:, None], LABELS, volume)
    for pred, truth, name in ((film, true, "a"), (true, film, "b")):
        save(tmp_path / name / "pred", "a", pred, "nifti")
        save(tmp_path / name / "truth", "a", truth, "nifti")
        result = evaluate_folder(tmp_path / name / "pred", tmp_path / name / "truth")
        assert means(result)["heart"] == pytest.approx(21 / 22)
        assert result.ctr.n == 1
        heart = [s for s in result.scores if s.structure == "heart"]
        assert heart[0].values["hd"] == pytest.approx(0.5)


def plain(path: Path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(mask.astype(np.uint8)).save(path)


@pytest.mark.parametrize("stating", ["pred", "truth"])
def test_masks_without_names_are_read_like_those_with(tmp_path, stating):
    mask = np.kron([[0, 1], [2, 2]], np.ones((4, 4))).astype(np.uint8)
    labels = LabelSet((Label(1, "liver", "#ffffff"), Label(2, "tumour", "#000000")))
    silent = {"pred": "truth", "truth": "pred"}[stating]
    write_segmentation(Segmentation(mask, labels, PIXELS), tmp_path / stating / "a.tif")
    plain(tmp_path / silent / "a.png", mask)
    result = evaluate_folder(tmp_path / "pred", tmp_path / "truth")
    assert means(result) == {"liver": 1, "tumour": 1}
    assert result.assumed == {"liver": 1, "tumour": 2}
    assert "read as 1 = liver, 2 = tumour" in result.table()


def test_masks_without_any_names_need_them_stated(tmp_path):
    mask = np.kron([[0, 1], [2, 2]], np.ones((4, 4)))
    for folder in ("pred", "truth"):
        plain(tmp_path / folder / "a.png", mask)
    with pytest.raises(FileError, match="--names"):
        evaluate_folder(tmp_path / "pred", tmp_path / "truth")
    cells = EvaluateOptions(labels=cell_labels())
    result = evaluate_folder(tmp_path / "pred", tmp_path / "truth", cells)
    assert means(result) == {"cell": 1}
    assert not result.assumed


def test_values_of_part_masks_are_those_stored(tmp_path):
    on = chest().structure("heart").astype(np.uint8)
    save(tmp_path / "truth", "a", chest(), "structure")
    path = tmp_path / "pred" / "heart" / "a.tif"
    path.parent.mkdir(parents=True)
    for pixels, photometric in (
        (on, "miniswhite"),
        (255 * on, "minisblack"),
        (on.astype(np.float32), "minisblack"),
        ((on * 0.9 + 0.05).astype(np.float32), "minisblack"),
    ):
        tifffile.imwrite(path, pixels, photometric=photometric, metadata=None)
        result = evaluate_folder(tmp_path / "pred", tmp_path / "truth")
        assert means(result) == {"heart": 1}
    tifffile.imwrite(path, (on * 0.02).astype(np.float32), metadata=None)
    assert means(evaluate_folder(tmp_path / "pred", tmp_path / "truth")) == {"heart": 0}
    spoilt = on.astype(np.float32)
    spoilt[0, 0] = np.nan
    tifffile.imwrite(path, spoilt, metadata=None)
    with pytest.warns(ImageWarning), pytest.raises(FileError, match="1 of its 1920"):
        evaluate_folder(tmp_path / "pred", tmp_path / "truth")


def test_missing_cases_are_in_the_means_of_the_others(tmp_path):
    for case in "ab":
        save(tmp_path / "truth", case, chest(), "case")
    save(tmp_path / "pred", "a", chest(0, Geometry.upright((0.5, 0.5))), "nifti")
    result = evaluate_folder(tmp_path / "pred", tmp_path / "truth")
    [hd] = [s for s in result.summaries if (s.structure, s.metric) == ("heart", "hd")]
    assert (hd.n, hd.n_failed, hd.unit) == (2, 1, "mm")
    assert hd.mean == pytest.approx(0.5 * np.hypot(40, 48) / 2, rel=0.05)


def test_names_for_masks_that_state_none(tmp_path, capsys):
    plain(tmp_path / "a.png", np.kron([[1, 0, 7]], np.ones((4, 4))))
    words = ["measure", str(tmp_path / "a.png"), "-o", str(tmp_path / "t.csv")]
    assert cli.run([*words, "--names", "cells"]) == 0
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert [row["cell"] for row in rows] == ["1", "7"]
    assert cli.run([*words, "--names", "1=right_lung, 7=left_lung"]) == 0
    [row] = csv.DictReader((tmp_path / "t.csv").read_text().splitlines())
    assert (row["right_lung_area_px"], row["thoracic_width_px"]) == ("16", "12.0")
    for text in ("right_lung", "1=", "0=heart", "1=heart,1=lung"):
        assert cli.run([*words, "--names", text]) == ExitCode.USAGE, text
    assert "Give a value and a name each" in capsys.readouterr().err


def test_cells_are_scored_one_by_one_in_table_json_and_csv(tmp_path, capsys):
    """Of three cells two touch; a prediction has one number for all of them."""
    truth = np.zeros((16, 16))
    truth[2:6, 2:6], truth[2:6, 6:10], truth[10:14, 2:6] = 1, 2, 3
    for case in ("a", "b"):
        plain(tmp_path / "truth" / f"{case}.png", truth)
    plain(tmp_path / "pred" / "a.png", truth > 0)
    out = tmp_path / "s.json"
    words = ["evaluate", str(tmp_path / "pred"), str(tmp_path / "truth")]
    words += ["--names", "cells", "--json", str(out)]
    assert cli.run(words) == ExitCode.SOME_FAILED
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["cell", "seg", "2", "1", "0.1667"] in [line[:5] for line in lines]
    assert ["cell", "dice", "2", "1", "0.5000"] in [line[:5] for line in lines]
    a, b = json.loads(out.read_text())["cases"]
    assert (a["dice"], a["seg"], a["ap_50"], a["pq"]) == (1, pytest.approx(1 / 3), 0, 0)
    assert (b["outcome"], b["seg"]) == ("absent", 0)
    options = EvaluateOptions(labels=cell_labels(), only_predicted=True)
    found = evaluate_folder(tmp_path / "pred", tmp_path / "truth", options)
    table = write_evaluation(found, tmp_path / "s.csv").read_text().splitlines()
    [row] = csv.DictReader(table)
    assert row["seg"].startswith("0.333")

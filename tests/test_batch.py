"""Folders of tiny films through the plan and the run, with a fake predictor."""

from __future__ import annotations

import csv
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import malformed_dicom
import numpy as np
import pytest
from fakes import (
    NIGHTLY,
    NUMBERED,
    ChestPredictor,
    NumberPredictor,
    run,
    tree,
    write_folder,
    write_number,
)
from malformed import FILES
from malformed_dicom import STACK, series
from PIL import Image as PillowImage

from medseg.batch import (
    BatchOptions,
    Progress,
    make_plan,
    run_batch,
    run_plan,
)
from medseg.batch import pipeline as pipeline_module
from medseg.batch import result as result_module
from medseg.batch import session as session_module
from medseg.batch import work as work_module
from medseg.batch.isolate import IsolatedReader
from medseg.batch.journal import Journal
from medseg.errors import (
    ConfigError,
    DiskError,
    ExitCode,
    FileError,
    LockedError,
    PlanError,
)
from medseg.io import read_image, read_segmentation
from medseg.io import scan as scan_module
from medseg.io.lock import LOCK_NAME, hold
from medseg.io.mask_folder import find_masks
from medseg.labels import Label, LabelSet, chest_labels

FAKES = Path(__file__).with_name("fakes.py")
EXCLUSIVE = LabelSet((Label(1, "cell", "#ffffff"),))


def names(folder: Path, *args: object, **options: object) -> list[str]:
    """Return the planned targets of a folder."""
    plan = make_plan([folder], folder.parent / "out", NUMBERED, **options)
    return [item.target for item in plan.items]


def dicom(path: Path, modality: str = "DX", position: float | None = None) -> Path:
    """Write a DICOM header that is enough for the plan."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.Modality = modality
    if position is not None:
        data.ImagePositionPatient = [0, 0, position]
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


# The plan


@pytest.mark.parametrize(
    ("name", "exclusive", "overlapping"),
    [
        ("a.png", "a.png", "a.tif"),
        ("a.JPG", "a.png", "a.tif"),
        ("a.jpeg", "a.png", "a.tif"),
        ("a.tif", "a.tif", "a.tif"),
        ("a.tiff", "a.tif", "a.tif"),
        ("a.nii", "a.nii.gz", "a.nii.gz"),
        ("a.NII.GZ", "a.nii.gz", "a.nii.gz"),
        ("a.nrrd", "a.nrrd", "a.nrrd"),
        ("a.mha", "a.mha", "a.mha"),
        ("a.mhd", "a.mha", "a.mha"),
        ("a.dcm", "a.nii.gz", "a.nii.gz"),
        ("a.b.png", "a.b.png", "a.b.tif"),
    ],
)
def test_the_mask_is_named_after_the_image(
    tmp_path: Path, name: str, exclusive: str, overlapping: str
) -> None:
    (tmp_path / "in" / "w").mkdir(parents=True)
    (tmp_path / "in" / "w" / name).write_bytes(b"x")
    for labels, wanted in ((EXCLUSIVE, exclusive), (chest_labels(), overlapping)):
        plan = make_plan([tmp_path / "in"], tmp_path / "out", labels)
        assert [item.target for item in plan.items] == [f"w/{wanted}"]
        assert plan.items[0].outputs == (f"w/{wanted}",)
        assert plan.items[0].name == f"w/{name}"


@pytest.mark.parametrize(
    ("format", "wanted"),
    [("nii.gz", "a.nii.gz"), ("tif", "a.tif"), ("png", "a.png")],
)
def test_a_format_names_the_mask(tmp_path: Path, format: str, wanted: str) -> None:
    write_number(tmp_path / "in" / "a.png", 1)
    assert names(tmp_path / "in", format=format) == [wanted]


def test_split_labels_and_maps_are_planned_too(tmp_path: Path) -> None:
    write_number(tmp_path / "in" / "w" / "b.png", 1)
    item = make_plan(
        [tmp_path / "in"],
        tmp_path / "out",
        chest_labels(),
        split_labels=True,
        maps=("probabilities",),
    ).items[0]
    labels = [f"w/b/{name}.png" for name in chest_labels().names]
    assert item.outputs == (*labels, "w/b_probabilities.tif")


def test_numbered_cells_are_not_split(tmp_path: Path) -> None:
    write_number(tmp_path / "in" / "a.png", 1)
    with pytest.raises(PlanError, match="would lose the numbers of the cells"):
        names(tmp_path / "in", split_labels=True)


def test_a_png_cannot_hold_overlapping_labels(tmp_path: Path) -> None:
    write_number(tmp_path / "in" / "a.png", 1)
    with pytest.raises(PlanError, match="png holds one channel"):
        make_plan([tmp_path / "in"], tmp_path / "out", chest_labels(), format="png")
    with pytest.raises(PlanError, match="holds all labels"):
        options = {"format": "dcm-seg", "split_labels": True}
        make_plan([tmp_path / "in"], tmp_path / "out", chest_labels(), **options)


def test_a_dicom_seg_needs_dicom_images_and_no_cells(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    dicom(tmp_path / "in" / "a.dcm")
    dicom(tmp_path / "in" / "misnamed.png")
    (tmp_path / "in" / "empty.dcm").write_bytes(b"")  # fails by itself
    (tmp_path / "in" / "gone.png").symlink_to("nowhere")  # likewise
    chest = chest_labels()
    inputs = [tmp_path / "in"]
    plan = make_plan(inputs, tmp_path / "out", chest, format="dcm-seg")
    assert plan.items[0].target == "a.dcm"
    write_number(tmp_path / "in" / "film.png", 3)
    with pytest.raises(PlanError, match=r"film\.png: .* 1 of 5 inputs are none"):
        make_plan(inputs, tmp_path / "out", chest, format="dcm-seg")
    cells = LabelSet((Label(1, "cell", "#ffffff"),), "instances")
    with pytest.raises(PlanError, match="cannot hold numbered cells"):
        make_plan(inputs, tmp_path / "out", cells, format="dcm-seg")


def test_junk_and_hidden_names_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_number(folder / "a.png", 1)
    for junk in (
        "notes.txt",
        ".DS_Store",
        "._a.png",
        "Thumbs.db",
        "README",
        "DICOMDIR",
    ):
        (folder / junk).write_text("junk")
    write_number(folder / ".hidden" / "b.png", 2)
    plan = make_plan([folder], tmp_path / "out", NUMBERED)
    assert [item.name for item in plan.items] == ["a.png"]
    assert plan.ignored == 6


def test_a_file_is_named_by_its_bare_name(tmp_path: Path) -> None:
    path = write_number(tmp_path / "deep" / "down" / "a.png", 1)
    plan = make_plan([path], tmp_path / "out", NUMBERED)
    assert [item.target for item in plan.items] == ["a.png"]


def test_the_same_file_twice_is_one_case(tmp_path: Path) -> None:
    path = write_number(tmp_path / "in" / "a.png", 1)
    plan = make_plan([path, path, tmp_path / "in"], tmp_path / "out", NUMBERED)
    assert len(plan.items) == 1


@pytest.mark.parametrize(
    ("pair", "format"),
    [
        (("a.nii", "a.dcm"), "same"),
        (("a.nii", "a.nii.gz"), "same"),
        (("a.png", "a.jpg"), "same"),
        (("a.png", "a.tif"), "tif"),
        (("a.nii", "a.nii.gz/b.png"), "same"),
    ],
)
def test_two_images_for_one_mask_are_refused(
    tmp_path: Path, pair: tuple[str, str], format: str
) -> None:
    for name in pair:
        write_number(tmp_path / "x.png", 1)
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "x.png", tmp_path / "in" / name)
    with pytest.raises(PlanError, match="maps to the output") as caught:
        names(tmp_path / "in", format=format)
    assert caught.value.exit_code == ExitCode.USAGE
    assert not (tmp_path / "out").exists()


def test_two_folders_with_one_name_collide(tmp_path: Path) -> None:
    inputs = [write_number(tmp_path / x / "a.png", 1).parent for x in "xy"]
    with pytest.raises(PlanError, match="maps to the output"):
        make_plan(inputs, tmp_path / "out", NUMBERED)


def test_case_twins_are_refused_where_the_disk_folds_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "A.png"):
        write_number(tmp_path / "in" / name, 1)
    if len(os.listdir(tmp_path / "in")) == 2:
        assert names(tmp_path / "in") == ["A.png", "a.png"]
    monkeypatch.setattr("medseg.batch.plan._folds_case", lambda out: True)
    if len(os.listdir(tmp_path / "in")) == 2:
        with pytest.raises(PlanError, match="maps to the output"):
            names(tmp_path / "in")


def test_the_output_may_not_be_an_input(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_number(folder / "a.png", 1)
    with pytest.raises(PlanError, match="also the output folder"):
        make_plan([folder], folder, NUMBERED)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(PlanError, match="also the output folder"):
        make_plan([folder], tmp_path / "link", NUMBERED)
    with pytest.raises(PlanError, match="is the input"):
        make_plan([folder / "a.png"], folder, NUMBERED)
    (tmp_path / "out").mkdir()
    os.link(folder / "a.png", tmp_path / "out" / "a.png")
    with pytest.raises(PlanError, match="is the input"):
        make_plan([folder], tmp_path / "out", NUMBERED)


def test_an_output_inside_the_input_is_not_scanned(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_number(folder / "a.png", 1)
    write_number(folder / "out" / "b.png", 1)
    plan = make_plan([folder], folder / "out", NUMBERED)
    assert [item.name for item in plan.items] == ["a.png"]


@pytest.mark.parametrize("earlier", ["m1", "."])
def test_masks_of_an_earlier_run_are_no_films(tmp_path: Path, earlier: str) -> None:
    """Films beside them are, also in the same folder."""
    folder = tmp_path / "in"
    write_number(folder / "a.png", 1)
    out = folder / earlier
    run_batch([folder / "a.png"], out, NumberPredictor(), BatchOptions(format="tif"))
    write_number(out / "film.png", 2)
    plan = make_plan([folder], tmp_path / "m2", NUMBERED)
    film = "film.png" if earlier == "." else "m1/film.png"
    assert [item.name for item in plan.items] == ["a.png", film]
    assert plan.ignored > 0


@pytest.mark.parametrize("out", ["file", "mask.png"])
def test_the_output_is_a_folder(tmp_path: Path, out: str) -> None:
    write_number(tmp_path / "in" / "a.png", 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(PlanError, match="Give an output folder"):
        make_plan([tmp_path / "in"], tmp_path / out, NUMBERED)


def test_missing_and_empty_inputs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("")
    with pytest.raises(PlanError, match="no such file"):
        make_plan([tmp_path / "gone"], tmp_path / "out", NUMBERED)
    with pytest.raises(PlanError, match="no image found, 1 other file ignored"):
        make_plan([tmp_path / "in"], tmp_path / "out", NUMBERED)
    with pytest.raises(PlanError, match="Choose from same"):
        make_plan([tmp_path / "in"], tmp_path / "out", NUMBERED, format="bmp")


def test_a_full_disk_is_seen_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_number(tmp_path / "in" / "a.png", 1)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        "medseg.batch.plan.shutil.disk_usage", lambda path: usage._replace(free=100)
    )
    with pytest.raises(DiskError, match="0 MB are free"):
        make_plan([tmp_path / "in"], tmp_path / "out", NUMBERED)


def test_loops_and_odd_files_neither_hang_nor_vanish(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_number(folder / "a.png", 1)
    write_number(folder / "b.png" / "c.png", 2)  # a folder named like a file
    (folder / "loop").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    (folder / "gone.png").symlink_to(folder / "missing.png")
    (folder / "same.png").symlink_to(folder / "a.png")
    os.mkfifo(folder / "fifo.png")
    plan = make_plan([folder], tmp_path / "out", NUMBERED)
    problems = {item.name: item.problem for item in plan.items}
    assert set(problems) == {
        "a.png", "b.png/c.png", "gone.png", "same.png", "fifo.png",
    }  # fmt: skip
    assert "link to nothing" in problems["gone.png"]
    assert "FIFO" in problems["fifo.png"]
    assert plan.ignored == 1


def test_linked_folders_are_scanned_once_after_the_real_ones(tmp_path: Path) -> None:
    write_number(tmp_path / "in" / "z" / "a.png", 1)
    write_number(tmp_path / "elsewhere" / "b.png", 2)
    (tmp_path / "in" / "a_link").symlink_to(tmp_path / "in" / "z")
    (tmp_path / "in" / "far").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "in") == ["far/b.png", "z/a.png"]


def test_an_unreadable_folder_is_one_failed_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_number(tmp_path / "in" / "a.png", 1)
    write_number(tmp_path / "in" / "closed" / "b.png", 1)
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(scan_module.os, "scandir", refuse)
    plan = make_plan([tmp_path / "in"], tmp_path / "out", NUMBERED)
    assert [(i.name, bool(i.problem)) for i in plan.items] == [
        ("a.png", False),
        ("closed", True),
    ]


def test_films_are_cases_and_slices_are_a_series(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for i in range(3):
        dicom(folder / "films" / f"{i}.dcm", "DX")
        dicom(folder / "ct.v1" / f"{i}", "CT", position=i)
    dicom(folder / "one" / "slice.dcm", "CT", position=0)
    dicom(folder / "IM0001", "CR")
    dicom(folder / "1.2.840.99", "CR")
    (folder / "broken").mkdir()
    (folder / "broken" / "a.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    assert names(folder) == [
        "1.2.840.99.nii.gz",
        "IM0001.nii.gz",
        "broken/a.nii.gz",
        "ct.v1.nii.gz",
        "films/0.nii.gz",
        "films/1.nii.gz",
        "films/2.nii.gz",
        "one/slice.nii.gz",
    ]
    plan = make_plan([folder / "ct.v1"], tmp_path / "out", NUMBERED)
    assert [(i.target, i.series) for i in plan.items] == [("ct.v1.nii.gz", True)]


def test_a_name_too_long_for_the_mask_fails_alone(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_number(folder / "a.png", 1)
    (folder / f"{'x' * 250}.nii").write_bytes(b"")
    plan = make_plan([folder], tmp_path / "out", NUMBERED)
    assert [("257 bytes" in i.problem) for i in plan.items] == [False, True]


def test_planning_takes_a_linear_time(tmp_path: Path) -> None:
    count = 100_000 if NIGHTLY else 3000
    (tmp_path / "in").mkdir()
    for i in range(count):
        (tmp_path / "in" / f"{i}.png").touch()
    start = time.process_time()
    assert len(names(tmp_path / "in")) == count
    # 0.1 s for 3000; quadratic would be minutes
    assert time.process_time() - start < (5 if NIGHTLY else 3)


# The run


def table(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def mask_number(path: Path) -> int:
    with PillowImage.open(path) as image:
        return int(np.asarray(image).max())


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_every_mask_belongs_to_its_image(tmp_path: Path, workers: int) -> None:
    films = write_folder(tmp_path / "in", 60)
    films[7].write_bytes(b"junk")
    films[40].write_bytes(films[40].read_bytes()[:30])
    summary = run(tmp_path / "in", tmp_path / "out", workers=workers)
    assert str(summary).startswith("58 done, 2 failed, 0 skipped (see ")
    assert summary.exit_code == ExitCode.SOME_FAILED
    for i, film in enumerate(films):
        mask = tmp_path / "out" / film.relative_to(tmp_path / "in")
        assert mask.exists() == (i not in (7, 40))
        assert i in (7, 40) or mask_number(mask) == i % 255 + 1


def test_results_do_not_depend_on_workers_order_or_resume(tmp_path: Path) -> None:
    films = write_folder(tmp_path / "in", 20)
    trees = []
    for workers in (0, 1, 4, 4):
        out = tmp_path / f"out{len(trees)}"
        run(tmp_path / "in", out, workers=workers, report=True)
        trees.append(tree(out))
    shuffled = tmp_path / "shuffled"
    random.Random(3).shuffle(films)
    for film in films:
        (shuffled / film.relative_to(tmp_path / "in")).parent.mkdir(
            parents=True, exist_ok=True
        )
        shutil.copy2(film, shuffled / film.relative_to(tmp_path / "in"))
    run(shuffled, tmp_path / "other", workers=2, report=True)
    run(tmp_path / "in" / "ward1", tmp_path / "out0" / "unused", workers=1)
    trees.append(tree(tmp_path / "other"))
    run(tmp_path / "in", tmp_path / "out1", workers=2, report=True)
    trees.append(tree(tmp_path / "out1"))
    assert all(t == trees[0] for t in trees)


def test_numbers_stand_in_for_names_in_all_that_is_written(tmp_path: Path) -> None:
    for name in ("Smith/Ann.png", "Smith/Bob.png", "Zoe.png"):
        write_number(tmp_path / "in" / name, len(name))
    (tmp_path / "in" / "Smith" / "Bob.png").write_bytes(b"")
    seen: list[Progress] = []
    options = BatchOptions(anonymous_names=True, report=True)
    folders, out = [tmp_path / "in"], tmp_path / "out"
    run_batch(folders, out, NumberPredictor(), options, seen.append)
    assert sorted(p.name for p in out.rglob("0*")) == ["000001.png", "000003.png"]
    assert mask_number(out / "000003.png") == len("Zoe.png")
    for path in out.iterdir():
        for name in (b"Smith", b"Ann", b"Bob", b"Zoe"):
            assert name not in path.read_bytes(), path
    assert table(out / "failures.csv")[1][0] == "000002.png"
    # Who sits before the screen is told which file it was.
    assert [p.source.name for p in seen if p.entry and p.entry.error] == ["Bob.png"]


def test_numbers_stand_in_for_the_names_of_slices(tmp_path: Path) -> None:
    """A series that lacks one says after which: the third of the folder."""
    folder = tmp_path / "in" / "Ann"
    folder.mkdir(parents=True)
    pixels = np.zeros((5, 4, 4), STACK.dtype)
    series(folder, lambda i, ds: None if i == 2 else ds, pixels)
    for path in list(folder.iterdir()):  # 0, 7, 1 and 8
        path.rename(path.with_name(f"SMITH_{path.name}"))
    options = BatchOptions(anonymous_names=True, workers=0)
    summary = run_batch([tmp_path / "in"], tmp_path / "out", NumberPredictor(), options)
    assert summary.failed == 1
    said = (tmp_path / "out" / "failures.csv").read_text()
    assert "after file 3 where" in said
    for path in (tmp_path / "out").iterdir():
        assert b"SMITH" not in path.read_bytes(), path


def test_measures_are_no_names_of_slices(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "Ann"
    folder.mkdir(parents=True)
    pixels = np.zeros((5, 4, 4), STACK.dtype)
    series(folder, lambda i, ds: None if i == 2 else ds, pixels)
    for path, name in zip(sorted(folder.iterdir()), "1346", strict=True):
        path.rename(path.with_name(name))
    options = BatchOptions(anonymous_names=True, workers=0)
    run_batch([tmp_path / "in"], tmp_path / "out", NumberPredictor(), options)
    said = (tmp_path / "out" / "failures.csv").read_text()
    assert "a gap of 6.0000 mm after file 3 where the spacing is 3.0000 mm" in said


def test_a_number_that_passes_to_another_file_is_done_again(tmp_path: Path) -> None:
    films = [write_number(tmp_path / "in" / f"{n}.png", ord(n)) for n in "bc"]
    same = films[0].stat()
    for film in films:  # the same size and time: a copy that keeps whole seconds
        os.utime(film, ns=(same.st_atime_ns, 10**18))
    assert films[1].stat().st_size == same.st_size
    options = BatchOptions(anonymous_names=True)
    folders, out = [tmp_path / "in"], tmp_path / "out"
    run_batch(folders, out, NumberPredictor(), options)
    assert mask_number(out / "000001.png") == ord("b")
    films[0].unlink()
    summary = run_batch(folders, out, NumberPredictor(), options)
    assert (summary.done, summary.skipped) == (1, 0)
    assert mask_number(out / "000001.png") == ord("c")


def test_inputs_are_untouched(tmp_path: Path) -> None:
    films = write_folder(tmp_path / "in", 5)
    before = [(f.read_bytes(), f.stat().st_mtime_ns) for f in films]
    run(tmp_path / "in", tmp_path / "out", report=True)
    assert [(f.read_bytes(), f.stat().st_mtime_ns) for f in films] == before


def test_a_second_run_skips_what_is_done_and_retries_what_failed(
    tmp_path: Path,
) -> None:
    films = write_folder(tmp_path / "in", 6)
    good = films[2].read_bytes()
    films[2].write_bytes(b"")
    out = tmp_path / "out"
    assert str(run(tmp_path / "in", out)).startswith("5 done, 1 failed, 0 skipped")
    assert str(run(tmp_path / "in", out)).startswith("0 done, 1 failed, 5 skipped")
    films[2].write_bytes(good)
    assert str(run(tmp_path / "in", out)) == "1 done, 0 failed, 5 skipped"
    run(tmp_path / "in", tmp_path / "fresh")
    assert tree(out) == tree(tmp_path / "fresh")
    assert table(out / "failures.csv") == [["name", "error"]]


def test_changed_images_masks_engines_and_overwrite_are_done_again(
    tmp_path: Path,
) -> None:
    films = write_folder(tmp_path / "in", 4)
    out = tmp_path / "out"
    run(tmp_path / "in", out)
    write_number(films[0], 99)
    (out / films[1].relative_to(tmp_path / "in")).write_bytes(b"torn")
    assert str(run(tmp_path / "in", out)) == "2 done, 0 failed, 2 skipped"
    assert mask_number(out / films[0].relative_to(tmp_path / "in")) == 99
    assert (
        str(run(tmp_path / "in", out, overwrite=True)) == "4 done, 0 failed, 0 skipped"
    )
    other = NumberPredictor(engine="other")
    assert (
        str(run_batch([tmp_path / "in"], out, other)) == "4 done, 0 failed, 0 skipped"
    )


def test_masks_in_another_format_take_the_place_of_the_old_ones(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", 4)
    out = tmp_path / "out"
    run(tmp_path / "in", out, format="tif", probabilities=True)
    (out / "film000.png").write_bytes(b"not ours")
    mended = out / "ward1" / "film001.tif"
    mended.write_bytes(b"drawn by hand")
    seen: list[Progress] = []
    options = BatchOptions(format="nii.gz")
    run_batch([tmp_path / "in"], out, NumberPredictor(), options, seen.append)
    left = {p.relative_to(out).as_posix() for p in out.rglob("film*")}
    masks = {f"ward{i % 3}/film{i:03d}" for i in range(4)}
    assert left == {
        *(f"{mask}.nii.gz" for mask in masks),
        *(f"{mask}_probabilities.tif" for mask in masks),  # still the only ones
        "film000.png",
        "ward1/film001.tif",
    }
    (note,) = (w for p in seen if p.entry for w in p.entry.warnings)
    assert "ward1/film001.tif of an earlier run was changed since" in note
    assert "ward1/film001.nii.gz" in note
    mended.unlink()
    options = BatchOptions(split_labels=True, format="png")
    run_batch([tmp_path / "in"], out, ChestPredictor(), options)
    assert not list(out.rglob("*.nii.gz"))
    run(tmp_path / "in", out, format="tif")
    assert not (out / "ward0" / "film000").exists()
    assert list(find_masks(out)) == ["film000", *sorted(masks)]


def test_an_old_mask_that_cannot_be_removed_is_a_disk_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_number(tmp_path / "in" / "a.png", 7)
    run(tmp_path / "in", tmp_path / "out", format="tif")
    unlink = Path.unlink

    def refuse(path: Path, **options: bool) -> None:
        if path.name == "a.tif":
            raise PermissionError(errno.EACCES, "no")
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(DiskError, match=r"a\.tif"):
        run(tmp_path / "in", tmp_path / "out", format="png")


def test_a_case_that_fails_in_another_format_keeps_its_mask(tmp_path: Path) -> None:
    film = write_number(tmp_path / "in" / "a.png", 7)
    good, out = film.read_bytes(), tmp_path / "out"
    run(tmp_path / "in", out, format="tif")
    film.write_bytes(b"")
    assert run(tmp_path / "in", out, format="png").failed == 1
    assert (out / "a.tif").exists()
    film.write_bytes(good)
    assert run(tmp_path / "in", out, format="png").done == 1
    assert [p.name for p in out.glob("a.*")] == ["a.png"]


def test_verify_finds_a_mask_with_other_bytes(tmp_path: Path) -> None:
    films = write_folder(tmp_path / "in", 3)
    out = tmp_path / "out"
    run(tmp_path / "in", out)
    mask = out / films[0].relative_to(tmp_path / "in")
    written = mask.stat().st_mtime_ns
    mask.write_bytes(mask.read_bytes()[:-1] + b"?")
    os.utime(mask, ns=(written, written))  # as a disk loses a bit
    assert str(run(tmp_path / "in", out)) == "0 done, 0 failed, 3 skipped"
    assert str(run(tmp_path / "in", out, verify=True)) == "1 done, 0 failed, 2 skipped"


def test_existence_alone_is_never_done(tmp_path: Path) -> None:
    film = write_folder(tmp_path / "in", 1)[0]
    mask = tmp_path / "out" / film.relative_to(tmp_path / "in")
    mask.parent.mkdir(parents=True)
    mask.write_bytes(b"half")
    (tmp_path / "out" / LOCK_NAME).touch()  # a run was here, and was killed
    assert str(run(tmp_path / "in", tmp_path / "out")) == "1 done, 0 failed, 0 skipped"
    assert mask_number(mask) == 1


def test_part_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", 1)
    part = tmp_path / "out" / "ward0" / ".film000.png.123.0123abcd.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half")
    run(tmp_path / "in", tmp_path / "out")
    assert not part.exists()


def test_a_fault_in_any_stage_costs_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "in", 5)

    class Faulty(NumberPredictor):
        def prepare(self, image):
            if image.pixels.max() == 1:
                raise MemoryError
            return super().prepare(image)

        def infer(self, prepared):
            if prepared.pixels.max() == 2:
                raise ValueError("two\nlines")
            return super().infer(prepared)

        def finish(self, prepared, inferred, **maps):
            if inferred.max() == 3:
                raise FileError("f", "is odd")
            return super().finish(prepared, inferred, **maps)

    def measure(seg, *more):
        if seg.mask.max() == 4:
            raise OSError(5, "Input/output error")
        return {}

    monkeypatch.setattr(work_module, "measure", measure)
    summary = run_batch([tmp_path / "in"], tmp_path / "out", Faulty())
    assert (summary.done, summary.failed) == (1, 4)
    rows = dict(table(tmp_path / "out" / "failures.csv")[1:])
    texts = [rows[f"ward{i % 3}/film{i:03d}.png"] for i in range(4)]
    assert "out of memory" in texts[0]
    assert "infer failed: ValueError two lines" in texts[1]
    assert texts[2] == "is odd."
    assert not any(str(tmp_path) in text for text in texts)
    assert "Input/output error" in texts[3]


def test_twenty_good_films_beside_all_that_is_broken(tmp_path: Path) -> None:
    reject = [
        case
        for case in (*FILES, *malformed_dicom.FILES, *malformed_dicom.SERIES)
        # No case to a plan, and five films to it.
        if case.verdict == "reject"
        and case.name not in ("empty folder", "no positions")
    ]
    write_folder(tmp_path / "in" / "good", 20)
    run(tmp_path / "in", tmp_path / "clean")
    clean = {n: h for n, h in tree(tmp_path / "clean").items() if "good/" in n}
    assert len(clean) == 20
    for number, case in enumerate(reject):
        folder = tmp_path / "in" / f"bad{number:03d}"
        folder.mkdir()
        case.make(folder)
    summary = run(tmp_path / "in", tmp_path / "out")
    assert summary.done == 20
    assert {n: h for n, h in tree(tmp_path / "out").items() if "/" in n} == clean
    rows = table(tmp_path / "out" / "failures.csv")[1:]
    assert {name.split("/")[0] for name, _ in rows} == {
        f"bad{number:03d}" for number in range(len(reject))
    }
    for name, text in rows:
        assert "\n" not in text
        assert "Report this" not in text, (name, text)  # nothing unforeseen
        assert str(tmp_path) not in text, (name, text)


def test_warnings_of_a_file_stay_with_it(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    import warnings

    from medseg.errors import ImageWarning

    write_folder(tmp_path / "in", 8)

    class Loud(NumberPredictor):
        def prepare(self, image):
            number = image.pixels.max()
            if number % 2:
                warnings.warn(f"number {number}", ImageWarning, stacklevel=2)
            return super().prepare(image)

    run_batch([tmp_path / "in"], tmp_path / "out", Loud(), BatchOptions(workers=3))
    entries = Journal(tmp_path / "out").read()
    for i in range(8):
        wanted = (f"number {i + 1}",) if (i + 1) % 2 else ()
        assert entries[f"ward{i % 3}/film{i:03d}.png"].warnings == wanted
    assert not recwarn.list


@pytest.mark.parametrize("isolate", [False, True])
def test_warnings_do_not_tell_where_the_folder_lies(
    tmp_path: Path, isolate: bool
) -> None:
    pixels = np.ones((8, 8), np.float32)
    pixels[0, 0] = np.nan
    (tmp_path / "in").mkdir()
    PillowImage.fromarray(pixels).save(tmp_path / "in" / "a.tif")
    options = BatchOptions(isolate=isolate)
    run_batch([tmp_path / "in"], tmp_path / "out", ChestPredictor(), options)
    (entry,) = Journal(tmp_path / "out").read().values()
    assert entry.warnings == ("1 of 64 pixels are NaN",)
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes(), path


def test_the_disk_running_full_stops_the_run_and_a_resume_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "in", 12)
    write = result_module.write_segmentation
    calls = []

    def full(seg, path, **options):
        calls.append(path)
        if len(calls) > 5:
            raise DiskError(path, "the disk is full")
        return write(seg, path, **options)

    monkeypatch.setattr(result_module, "write_segmentation", full)
    plan = make_plan([tmp_path / "in"], tmp_path / "out", NUMBERED)
    summary = run_plan(plan, NumberPredictor(), BatchOptions(workers=2))
    assert summary.exit_code == ExitCode.DISK
    assert summary.done == 5
    assert len(calls) < 12
    with pytest.raises(DiskError, match="disk is full"):
        run(tmp_path / "in", tmp_path / "out", workers=0)
    monkeypatch.setattr(result_module, "write_segmentation", write)
    assert str(run(tmp_path / "in", tmp_path / "out")) == "7 done, 0 failed, 5 skipped"


def test_tables_that_cannot_be_written_are_a_disk_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "in", 1)

    def full(*args):
        raise DiskError("failures.csv", "the disk is full")

    monkeypatch.setattr(session_module.tables, "write_failures", full)
    with pytest.raises(DiskError, match=r"failures\.csv"):
        run(tmp_path / "in", tmp_path / "out")


def test_an_output_that_cannot_be_made_is_a_disk_error(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot be made"):
        run(tmp_path / "in", tmp_path / "file" / "out")


def test_a_folder_in_the_way_of_the_tree_is_a_disk_error(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ward0").write_text("")
    with pytest.raises(DiskError, match="cannot be made"):
        run(tmp_path / "in", tmp_path / "out")


def test_a_second_run_is_locked_out(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", 1)
    (tmp_path / "out").mkdir()
    with hold(tmp_path / "out"), pytest.raises(LockedError) as caught:
        run(tmp_path / "in", tmp_path / "out")
    assert caught.value.exit_code == ExitCode.LOCKED
    assert not (tmp_path / "out" / "medseg-run.jsonl").exists()


def test_shards_add_up(tmp_path: Path) -> None:
    films = write_folder(tmp_path / "in", 6)
    flat = [
        write_number(tmp_path / "flat" / f.name, i + 1) for i, f in enumerate(films)
    ]
    for shard in (flat[:3], flat[3:]):
        run_batch(shard, tmp_path / "out", NumberPredictor())
    summary = run(tmp_path / "flat", tmp_path / "out")
    assert str(summary) == "0 done, 0 failed, 6 skipped"
    run(tmp_path / "flat", tmp_path / "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_cancel_ends_the_run_and_a_resume_goes_on(
    tmp_path: Path, workers: int
) -> None:
    write_folder(tmp_path / "in", 40)
    plan = make_plan([tmp_path / "in"], tmp_path / "out", NUMBERED)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    predictor = NumberPredictor(pause=0.05)
    # A shell that starts the tests in the background has them ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        summary = run_plan(plan, predictor, BatchOptions(workers=workers))
    finally:
        signal.signal(signal.SIGINT, before)
    assert summary.exit_code == ExitCode.CANCELLED
    assert 0 < summary.done < 40
    again = run(tmp_path / "in", tmp_path / "out")
    assert again.skipped == summary.done
    run(tmp_path / "in", tmp_path / "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_the_library_passes_a_cancel_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "in", 1)

    def cancel(run, todo):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline_module, "loop", cancel)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "in", tmp_path / "out", workers=0)


def test_reading_ahead_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "in", 30)
    held, most = [0], [0]
    lock = threading.Lock()

    class Counting(NumberPredictor):
        def prepare(self, image):
            with lock:
                held[0] += 1
                most[0] = max(most[0], held[0])
            return super().prepare(image)

        def infer(self, prepared):
            with lock:
                held[0] -= 1
            time.sleep(0.005)
            return super().infer(prepared)

    run_batch([tmp_path / "in"], tmp_path / "a", Counting(), BatchOptions(workers=3))
    # Four read ahead, and three that wait for the network.
    assert 2 <= most[0] <= 7
    most[0] = 0
    monkeypatch.setattr(pipeline_module, "_AHEAD_BYTES", 1)
    run_batch([tmp_path / "in"], tmp_path / "b", Counting(), BatchOptions(workers=3))
    assert most[0] == 1


def test_progress_counts_every_case(tmp_path: Path) -> None:
    films = write_folder(tmp_path / "in", 5)
    films[0].write_bytes(b"")
    seen: list[Progress] = []
    run_batch(
        [tmp_path / "in"], tmp_path / "out", NumberPredictor(), progress=seen.append
    )
    assert [p.done + p.failed + p.skipped for p in seen] == [0, 1, 2, 3, 4, 5]
    assert {p.total for p in seen} == {5}
    assert sum(bool(p.entry and p.entry.error) for p in seen) == 1


def test_the_tables_and_the_record(tmp_path: Path) -> None:
    films = write_folder(tmp_path / "in", 3)
    films[1].write_bytes(b"")
    out = tmp_path / "out"
    run_batch([tmp_path / "in"], out, ChestPredictor(), BatchOptions(report=True))
    rows = _table(out)
    assert [r["name"] for r in rows] == [
        "ward0/film000.png", "ward1/film001.png", "ward2/film002.png",
    ]  # fmt: skip
    assert [r["status"] for r in rows] == ["done", "failed", "done"]
    assert [r["ctr"] for r in rows] == ["0.5", "", "0.5"]
    assert "empty" in rows[1]["message"]
    assert table(out / "failures.csv")[1][0] == "ward1/film001.png"
    record = json.loads((out / "medseg-run.json").read_text())
    assert record["files"] == 3
    assert record["failed"] == 1
    assert record["predictor"]["engine"] == "fake"
    assert "film002.png" in (out / "report.html").read_text()
    entry = Journal(out).read()["ward0/film000.png"]
    assert set(entry.seconds) == set(work_module.STAGES)
    assert entry.outputs[0].path == "ward0/film000.tif"


def test_maps_and_split_labels_are_written(tmp_path: Path) -> None:
    write_number(tmp_path / "in" / "a.png", 7)
    options = {"probabilities": True, "uncertainty": True}
    run(tmp_path / "in", tmp_path / "out", **options)
    assert (
        read_image(tmp_path / "out" / "a_probabilities.tif").pixels.dtype == np.float32
    )
    assert (tmp_path / "out" / "a_uncertainty.tif").exists()
    split = BatchOptions(split_labels=True, report=True)
    for done in (1, 0):
        summary = run_batch(
            [tmp_path / "in"], tmp_path / "split", ChestPredictor(), split
        )
        assert summary.done == done
    assert "no picture" not in (tmp_path / "split" / "report.html").read_text()
    heart = read_image(tmp_path / "split" / "a" / "heart.png").pixels
    assert set(np.unique(heart)) == {0, 255}
    split = BatchOptions(split_labels=True, format="nii.gz")
    run_batch([tmp_path / "in"], tmp_path / "nifti", ChestPredictor(), split)
    one = read_segmentation(tmp_path / "nifti" / "a" / "heart.nii.gz")
    assert one.labels.names == ("heart",)
    assert (one.mask > 0).tolist() == (heart[0] > 0).tolist()


@pytest.mark.parametrize(
    "name",
    [
        "a b.png",
        "it's.png",
        'q".png',
        "n\nl.png",
        "-dash.png",
        "é漢.png",
        "x" * 220 + ".png",
    ],
)
def test_odd_names_come_out(tmp_path: Path, name: str) -> None:
    write_number(tmp_path / "in" / name, 5)
    (tmp_path / "in" / "bad.png").write_bytes(b"")
    summary = run(tmp_path / "in", tmp_path / "out", report=True)
    assert (summary.done, summary.failed) == (1, 1)
    assert mask_number(tmp_path / "out" / name) == 5
    assert name in {r["name"] for r in _table(tmp_path / "out")}


def test_a_name_that_is_no_unicode_comes_out(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe.png")
    write_number(tmp_path / "in" / name, 5)
    assert run(tmp_path / "in", tmp_path / "out", report=True).done == 1
    assert (tmp_path / "out" / name).exists()
    assert run(tmp_path / "in", tmp_path / "out").skipped == 1


def _table(out: Path) -> list[dict[str, str]]:
    with (out / "measurements.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("field", "options"),
    [("workers", {"workers": -1}), ("time_limit", {"time_limit": 0})],
)
def test_options_out_of_range_are_refused(
    field: str, options: dict[str, float]
) -> None:
    with pytest.raises(ConfigError, match=field):
        BatchOptions(**options)


# Reading in child processes


def test_an_isolated_reader_reads_as_the_plain_one(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", 6)
    (tmp_path / "in" / "bad.png").write_bytes(b"junk")
    run(tmp_path / "in", tmp_path / "plain")
    run(tmp_path / "in", tmp_path / "isolated", isolate=True)
    assert tree(tmp_path / "plain") == tree(tmp_path / "isolated")


CHILD = """
import os, sys, time
from pathlib import Path
from medseg.batch.isolate import serve
class Requests:
    def __iter__(self):
        for line in sys.stdin.buffer:
            if b"segv" in line: os.kill(os.getpid(), 11)
            if b"quit" in line: os._exit(3)
            if b"stall" in line: time.sleep(60)
            if b"once" in line and not os.path.exists(sys.argv[1]):
                Path(sys.argv[1]).touch(); os._exit(1)
            yield line
serve(Requests(), sys.stdout.buffer)
"""


def test_a_reader_that_crashes_or_hangs_costs_one_file(tmp_path: Path) -> None:
    for name in ("a", "segv", "quit", "stall", "once", "z"):
        write_number(tmp_path / f"{name}.png", 9)
    command = (sys.executable, "-c", CHILD, str(tmp_path / "mark"))
    reader = IsolatedReader(2.5, command)
    try:
        for name, problem in (
            ("segv", r"crashed on it twice \(exit status -11"),
            ("quit", r"crashed on it twice \(exit status 3"),
            ("stall", "longer than 2.5 s"),
        ):
            with pytest.raises(FileError, match=problem):
                reader(tmp_path / f"{name}.png")
        for name in ("a", "once", "z"):
            assert reader(tmp_path / f"{name}.png").pixels.max() == 9
    finally:
        reader.close()


# Kills


def begun(out: Path) -> bool:
    """Return whether the journal has a line."""
    journal = out / "medseg-run.jsonl"
    return journal.exists() and journal.stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "times", "isolate"),
    [
        (signal.SIGKILL, 50 if NIGHTLY else 2, False),
        (signal.SIGTERM, 20 if NIGHTLY else 1, False),
        (signal.SIGINT, 20 if NIGHTLY else 1, False),
        (signal.SIGKILL, 50 if NIGHTLY else 2, True),
    ],
)
def test_a_killed_run_leaves_nothing_half_and_resumes_to_the_same_bytes(
    tmp_path: Path, kind: signal.Signals, times: int, isolate: bool
) -> None:
    import psutil

    write_folder(tmp_path / "in", 200 if NIGHTLY else 40)
    run(tmp_path / "in", tmp_path / "clean")
    clean = tree(tmp_path / "clean")
    out = tmp_path / "out"
    words = [tmp_path / "in", "-o", out, "--model", "x", *["--isolate"] * isolate]
    command = [sys.executable, FAKES, "0.01", "predict", *words]
    moments = random.Random(int(kind))
    readers: list[psutil.Process] = []
    while times:
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        while process.poll() is None and not begun(out):
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.3))
        if isolate and process.poll() is None:
            readers += psutil.Process(process.pid).children()
        process.send_signal(kind)
        process.communicate(timeout=60)
        times -= process.returncode != 0
        for name, digest in tree(out).items():
            if name.endswith(".png") and not name.split("/")[-1].startswith("."):
                assert clean[name] == digest
        if process.returncode == 0:  # all done before the signal: from the start
            shutil.rmtree(out)
        elif kind != signal.SIGKILL:
            assert process.returncode == ExitCode.CANCELLED
    last = subprocess.run(command, capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    assert tree(out) == clean
    assert bool(readers) == isolate
    assert not psutil.wait_procs(readers, timeout=30)[1]  # none outlives its run


@pytest.mark.slow
def test_memory_and_descriptors_are_flat(tmp_path: Path) -> None:
    import psutil

    count, first = (5000, 500) if NIGHTLY else (800, 200)
    write_folder(tmp_path / "in", count)
    process = psutil.Process()
    marks: list[tuple[int, int, int]] = []

    def look(progress: Progress) -> None:
        if progress.done in (first, count - 20):
            marks.append(
                (process.memory_info().rss, process.num_fds(), process.num_threads())
            )

    run_batch([tmp_path / "in"], tmp_path / "out", NumberPredictor(), progress=look)
    (early, fds, threads), (late, fds_late, threads_late) = marks
    assert late - early < 4 << 20  # 0.1 MB; over 5000 films less than 1 kB a film
    assert abs(fds_late - fds) <= 8
    assert threads_late == threads


# Dask


def numbers(pause: float = 0.0) -> NumberPredictor:
    return NumberPredictor(pause)


@pytest.mark.slow
def test_dask_gives_the_same_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    from medseg.batch.dask import executor

    films = write_folder(tmp_path / "in", 12)
    films[3].write_bytes(b"junk")
    run(tmp_path / "in", tmp_path / "plain", report=True)
    plan = make_plan([tmp_path / "in"], tmp_path / "dask", NUMBERED)
    # The workers, here threads, draw nothing: their pictures would be lost.
    monkeypatch.setattr(work_module, "thumbnail", None)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=False, dashboard_address=":0"
    ) as cluster:
        address = cluster.scheduler_address
        with executor(address, numbers, {"pause": 0.0}) as execute:
            summary = run_plan(
                plan, NumberPredictor(), BatchOptions(report=True), execute=execute
            )
    assert (summary.done, summary.failed) == (11, 1)
    assert tree(tmp_path / "plain") == tree(tmp_path / "dask")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_killed_dask_workers_cost_nothing(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    from medseg.batch.dask import executor

    count = 200 if NIGHTLY else 30
    write_folder(tmp_path / "in", count)
    run(tmp_path / "in", tmp_path / "plain")
    plan = make_plan([tmp_path / "in"], tmp_path / "dask", NUMBERED)
    killed: list[int] = []
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as cluster:

        def look(progress: Progress) -> None:
            if progress.done in (count // 6, count // 3, count // 2):
                nanny = cluster.workers[len(killed)]
                killed.append(nanny.pid)
                os.kill(nanny.pid, signal.SIGKILL)

        address = cluster.scheduler_address
        with executor(address, NumberPredictor, {"pause": 0.02}) as execute:
            summary = run_plan(plan, NumberPredictor(), progress=look, execute=execute)
    assert len(set(killed)) == 3
    assert (summary.done, summary.failed) == (count, 0)
    assert tree(tmp_path / "plain") == tree(tmp_path / "dask")


def test_dask_refuses_child_processes_and_always_closes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    from medseg.batch import dask

    class Client:
        closed = 0

        def close(self) -> None:
            self.closed += 1

    write_folder(tmp_path / "in", 1)
    plan = make_plan([tmp_path / "in"], tmp_path / "out", NUMBERED)
    client, isolate = Client(), BatchOptions(isolate=True)
    monkeypatch.setattr(dask, "connect", lambda address: client)
    with dask.executor("here", numbers, {}) as execute:
        summary = run_plan(plan, NumberPredictor(), isolate, execute=execute)
    assert "--isolate: does not go with --dask" in str(summary.error)
    assert (client.closed, summary.exit_code) == (1, ExitCode.USAGE)
    with pytest.raises(LockedError), hold(tmp_path / "out"):  # noqa: SIM117
        with dask.executor("here", numbers, {}) as execute:
            run_plan(plan, NumberPredictor(), execute=execute)
    assert client.closed == 2


def test_dask_without_a_worker_says_that_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    from dask import config

    from medseg.batch import dask

    monkeypatch.setattr(dask, "task", None)  # never runs
    write_folder(tmp_path / "in", 1)
    plan = make_plan([tmp_path / "in"], tmp_path / "out", NUMBERED)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        # Other arrays of this process, such as napari's, are none of the cluster's.
        assert config.get("scheduler", None) is None
        raise KeyboardInterrupt

    with distributed.LocalCluster(
        n_workers=0, processes=False, dashboard_address=":0"
    ) as cluster:
        address = cluster.scheduler_address
        with dask.executor(address, numbers, {}, say) as execute:
            assert run_plan(plan, NumberPredictor(), execute=execute).cancelled
    assert said == [f"{address} has no worker yet: waiting for the first"]


@pytest.mark.parametrize("address", ["no such address", "tls://127.0.0.1:1"])
def test_dask_without_a_scheduler_is_one_line(address: str) -> None:
    pytest.importorskip("distributed")
    from medseg.batch.dask import connect

    with pytest.raises(ConfigError, match="no scheduler answers"):
        connect(address)


def test_dask_that_is_not_installed_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from medseg.batch.dask import connect

    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"Install medseg\[dask\]"):
        connect("tcp://127.0.0.1:1")

"""A movie through ``medseg track``, with a predictor that needs no network."""

from __future__ import annotations

import csv
import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from fakes import ChestPredictor, NumberPredictor, tree

from medseg import cli
from medseg.batch import load
from medseg.batch.journal import hash_file
from medseg.batch.measure_cells import measure_result, read_filled
from medseg.batch.track import WORK_NAME, TrackOptions, track_movie
from medseg.batch.track_record import remove_extras
from medseg.cli.display import Display
from medseg.errors import ConfigError, DiskError, FileError, LockedError, PlanError
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.io import write_image
from medseg.io.ctc import read_track_table, validate_result, write_mask_file
from medseg.lineage import TrackRow
from medseg.measure.tracks import Scale

ALL = TrackOptions(tables=True, pictures=True, report=True, scale=Scale((0.5, 0.5), 60))


class BoxPredictor(NumberPredictor):
    """Labels are the grey values; may stop at a frame as if the user had."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.stop_after = stop_after

    def infer(self, prepared):
        if self.stop_after is not None and self.seen >= self.stop_after:
            raise KeyboardInterrupt
        return super().infer(prepared)


def boxes(t: int) -> np.ndarray:
    """One cell drifts; another divides after frame 2; the third is lost in frame 2."""
    pixels = np.zeros((32, 48), np.uint8)
    pixels[3:9, 4 + t : 10 + t] = 20 + t  # its label changes from frame to frame
    if t < 3:
        pixels[18:26, 10:22] = 40
    else:
        pixels[18:26, 8 - t : 14 - t] = 41
        pixels[18:26, 18 + t : 24 + t] = 42
    if t != 2:
        pixels[10:16, 36:42] = 60
    return pixels


@pytest.fixture
def sequence(tmp_path: Path) -> Path:
    folder = tmp_path / "01"
    folder.mkdir()
    for t in range(5):
        tifffile.imwrite(folder / f"t{t:03d}.tif", boxes(t))
    return folder


def test_a_movie_becomes_a_valid_result(sequence: Path, tmp_path: Path) -> None:
    out = tmp_path / "01_RES"
    summary = track_movie(sequence, out, BoxPredictor(), ALL)
    assert str(summary) == "5 done, 0 failed, 0 skipped"
    validate_result(out)
    assert read_track_table(out / "res_track.txt") == (
        TrackRow(1, 0, 4), TrackRow(2, 0, 2), TrackRow(3, 0, 4), TrackRow(4, 3, 4, 2), TrackRow(5, 3, 4, 2),
    )  # fmt: skip
    names = {p.name for p in out.iterdir()}
    assert names == {
        *(f"mask{t:03d}.tif" for t in range(5)),
        "res_track.txt", "medseg-run.json", "filled.csv", "report",
        "cells.csv", "tracks.csv", "counts.csv", "curves.png", "lineage.png",
    }  # fmt: skip
    assert len(list((out / "report").iterdir())) == 5
    mask = tifffile.imread(out / "mask002.tif")
    assert (mask[10:16, 36:42] == 3).all()  # made up where the cell was lost
    assert read_filled(out) == {(2, 3)}
    facts = json.loads((out / "medseg-run.json").read_text())
    assert (facts["cells"], facts["divisions"], facts["filled"]) == (17, 1, 1)
    with (out / "cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 17
    assert rows[0]["area_um2"] == "9.0"


def test_a_finished_run_does_nothing_again(sequence: Path, tmp_path: Path) -> None:
    out, predictor = tmp_path / "01_RES", BoxPredictor()
    track_movie(sequence, out, predictor)
    before = tree(out)
    summary = track_movie(sequence, out, predictor)
    assert (str(summary), predictor.seen) == ("0 done, 0 failed, 5 skipped", 5)
    assert tree(out) == before
    # A changed frame, option or output, or --overwrite, is work.
    tifffile.imwrite(sequence / "t004.tif", boxes(3))
    assert track_movie(sequence, out, predictor).done == 5
    assert track_movie(sequence, out, predictor, TrackOptions(fill=False)).done == 5
    (out / "mask000.tif").unlink()
    assert track_movie(sequence, out, predictor, TrackOptions(fill=False)).done == 5
    again = TrackOptions(fill=False, overwrite=True)
    assert track_movie(sequence, out, predictor, again).done == 5


def test_a_result_mended_by_hand_is_kept(sequence: Path, tmp_path: Path) -> None:
    out = tmp_path / "01_RES"
    track_movie(sequence, out, None, masks=sequence)
    mended = tifffile.imread(out / "mask001.tif")
    mended[mended == 1] = 9
    write_mask_file(out / "mask001.tif", mended)
    with pytest.raises(PlanError, match=r"a result whose mask001\.tif has changed"):
        track_movie(sequence, out, None, masks=sequence)
    np.testing.assert_array_equal(tifffile.imread(out / "mask001.tif"), mended)
    track_movie(sequence, out, None, TrackOptions(overwrite=True), masks=sequence)
    validate_result(out)


def test_what_a_user_has_changed_or_added_is_kept(
    sequence: Path, tmp_path: Path
) -> None:
    """A table, a picture among the report's, a table of the user's own."""
    out = tmp_path / "01_RES"
    first, other = TrackOptions(tables=True, report=True), TrackOptions(pictures=True)
    track_movie(sequence, out, None, first, masks=sequence)
    (out / "report" / "mine.txt").write_text("mine")
    track_movie(sequence, out, None, TrackOptions(fill=False), masks=sequence)
    assert [p.name for p in (out / "report").iterdir()] == ["mine.txt"]
    again = replace(first, overwrite=True)
    track_movie(sequence, out, None, again, masks=sequence)
    assert (out / "report" / "mine.txt").read_text() == "mine"
    assert len(list((out / "report").iterdir())) == 6
    for name in ("tracks.csv", "report/t001.png", "filled.csv"):
        before = (out / name).read_bytes()
        (out / name).write_bytes(b"edited")
        for options in (first, other, TrackOptions(fill=False)):
            with pytest.raises(PlanError, match=rf"result whose {name} has changed"):
                track_movie(sequence, out, None, options, masks=sequence)
        assert (out / name).read_bytes() == b"edited"
        (out / name).write_bytes(before)
    (out / "curves.png").write_bytes(b"mine")
    with pytest.raises(PlanError, match=r"holds a curves\.png that medseg track has"):
        track_movie(sequence, out, None, other, masks=sequence)
    track_movie(sequence, out, None, replace(other, overwrite=True), masks=sequence)
    assert (out / "curves.png").read_bytes() != b"mine"


def test_a_record_that_names_files_elsewhere_is_none(
    sequence: Path, tmp_path: Path
) -> None:
    """Nothing outside the folder is removed or copied."""
    out = tmp_path / "01_RES"
    track_movie(sequence, out, None, masks=sequence)
    record = json.loads((out / "medseg-run.json").read_text())
    (tmp_path / "other").write_text("")
    record["outputs"]["report/../../other"] = hash_file(tmp_path / "other")
    (out / "medseg-run.json").write_text(json.dumps(record))
    with pytest.raises(PlanError, match="medseg track has not written"):
        track_movie(sequence, out, None, masks=sequence)
    remove_extras(out)
    assert (tmp_path / "other").exists()


@pytest.mark.parametrize("masks", [False, True])
def test_more_tables_need_no_network(
    masks: bool, sequence: Path, tmp_path: Path
) -> None:
    """Asked for bit by bit or at once: the same bytes, and the masks are made once."""
    pytest.importorskip("geff")
    drawn = {"masks": sequence} if masks else {}

    def run(out: str, *extras: str) -> str:
        options = ALL.with_extras(extras)
        return str(track_movie(sequence, tmp_path / out, predictor, options, **drawn))

    predictor = BoxPredictor()
    run("parts")
    done, mask = predictor.seen, tmp_path / "parts/mask001.tif"
    skipped = "0 done, 0 failed, 5 skipped"
    assert run("parts", "tables") == skipped
    assert run("parts", "geff", "report") == skipped
    assert run("parts", "pictures") == skipped
    assert predictor.seen == done
    run("whole", "tables", "geff", "report", "pictures")
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")
    times = mask.stat().st_mtime_ns
    assert run("parts", "tables") == skipped
    assert mask.stat().st_mtime_ns == times  # nothing was left to do


def test_tables_that_are_asked_for_again_are_made_again(
    sequence: Path, tmp_path: Path
) -> None:
    """Where they were removed, or where the spacing is another one."""
    out, predictor = tmp_path / "01_RES", BoxPredictor()
    tables, geff = TrackOptions(tables=True), TrackOptions(pictures=True)
    track_movie(sequence, out, predictor, tables)
    before = tree(out)
    (out / "cells.csv").unlink()
    track_movie(sequence, out, predictor, geff)  # which nobody has asked for again
    assert not (out / "cells.csv").exists()
    assert (out / "counts.csv").exists()
    track_movie(sequence, out, predictor, tables)
    assert {name: tree(out)[name] for name in before if name.endswith("csv")} == {
        name: value for name, value in before.items() if name.endswith("csv")
    }
    micrometres = replace(geff, scale=Scale((0.5, 0.5), 60))
    track_movie(sequence, out, predictor, micrometres)
    with (out / "cells.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["area_um2"] == "9.0"
    assert predictor.seen == 5


def test_tables_of_an_earlier_run_go(sequence: Path, tmp_path: Path) -> None:
    out = tmp_path / "01_RES"
    track_movie(sequence, out, None, TrackOptions(tables=True), masks=sequence)
    (out / "notes.csv").touch()
    (out / "report").mkdir()  # of somebody else
    track_movie(sequence, out, None, TrackOptions(fill=False), masks=sequence)
    names = {p.name for p in out.iterdir() if not p.name.startswith("mask")}
    assert names == {"res_track.txt", "medseg-run.json", "notes.csv", "report"}


def test_tables_that_cannot_be_removed_are_a_disk_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cells.csv").touch()
    outputs = {"cells.csv": hash_file(tmp_path / "cells.csv")}
    (tmp_path / "medseg-run.json").write_text(json.dumps({"outputs": outputs}))

    def deny(path: Path) -> None:
        raise PermissionError(errno.EACCES, "no")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", deny)
        with pytest.raises(DiskError, match=r"cells\.csv: not written, permission"):
            remove_extras(tmp_path)


def test_the_spacing_of_a_movie_counts_in_every_table(
    sequence: Path, tmp_path: Path
) -> None:
    """It is that of the images, unless another is given; tracking and measuring agree."""
    images, out = tmp_path / "02", tmp_path / "02_RES"
    for t in range(5):
        frame = Image(boxes(t)[None], Geometry.upright((0.0005, 0.0005)))
        write_image(frame, images / f"t{t:03d}.tif")
    minute = Scale(frame_interval=60)
    options = TrackOptions(tables=True, scale=minute)
    track_movie(images, out, None, options, masks=sequence)
    given = TrackOptions(tables=True, scale=Scale((0.5, 0.5), 60))
    track_movie(sequence, tmp_path / "r", None, given, masks=sequence)
    table = tmp_path / "t.csv"
    measure_result(out, table, images=images, scale=minute, curves=False)
    for name, measured in (("cells", "t"), ("tracks", "t_tracks")):
        text = (out / f"{name}.csv").read_text()
        assert text == (tmp_path / "r" / f"{name}.csv").read_text()
        assert text == (tmp_path / f"{measured}.csv").read_text()
    with (out / "tracks.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert float(row["path_um"]) == float(row["path_px"]) / 2 > 0
    doubled = TrackOptions(tables=True, scale=Scale((1, 1), 60))
    track_movie(images, out, None, doubled, masks=sequence)
    with (out / "tracks.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert float(row["path_um"]) == float(row["path_px"])


def test_a_frame_that_is_done_already_is_no_line(
    sequence: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        track_movie(sequence, tmp_path / "r", BoxPredictor(3))
    with Display() as display:
        found = track_movie(
            sequence, tmp_path / "r", BoxPredictor(), progress=display.show
        )
    assert found.skipped >= 2
    assert display.counts().startswith(f"{found.done} done, 0 failed, {found.skipped}")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_a_stopped_run_resumes_to_the_same_bytes(
    stop: int, sequence: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "a_RES", tmp_path / "b_RES"
    track_movie(sequence, whole, BoxPredictor(), ALL)
    with pytest.raises(KeyboardInterrupt):
        track_movie(sequence, parts, BoxPredictor(stop), ALL)
    assert not list(parts.glob("mask*.tif"))
    assert (parts / WORK_NAME).is_dir()
    predictor = BoxPredictor()
    summary = track_movie(sequence, parts, predictor, ALL)
    assert summary.done + summary.skipped == 5
    assert predictor.seen == summary.done <= 5 - max(0, stop - 1)
    assert tree(parts) == tree(whole)


def test_a_damaged_work_mask_is_made_again(sequence: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        track_movie(sequence, tmp_path / "r", BoxPredictor(3))
    masks = sorted((tmp_path / "r" / WORK_NAME).glob("frame*.tif"))
    masks[0].write_bytes(b"half")
    track_movie(sequence, tmp_path / "r", BoxPredictor())
    track_movie(sequence, tmp_path / "s", BoxPredictor())
    assert tree(tmp_path / "r") == tree(tmp_path / "s")


def test_a_frame_that_fails_is_named_and_nothing_is_linked(
    sequence: Path, tmp_path: Path
) -> None:
    class Broken(BoxPredictor):
        def prepare(self, image):
            if image.meta["frame"] == 1:
                raise FileError("t001.tif", "is odd", "Look at it")
            return image

    out = tmp_path / "r"
    summary = track_movie(sequence, out, Broken())
    assert summary.errors == ("frame 1: is odd. Look at it.",)
    assert str(summary) == "4 done, 1 failed, 0 skipped"
    assert not list(out.glob("mask*.tif"))
    assert (
        str(track_movie(sequence, out, BoxPredictor())) == "1 done, 0 failed, 4 skipped"
    )


def test_existing_masks_are_linked_without_a_model(
    sequence: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r"
    summary = track_movie(sequence, out, None, masks=sequence)
    assert summary.facts["tracks"] == 5
    validate_result(out)
    again = track_movie(
        sequence, tmp_path / "s", None, masks=out
    )  # a result is masks too
    assert read_track_table(tmp_path / "s/res_track.txt") == read_track_table(
        out / "res_track.txt"
    )
    assert again.facts["filled"] == 0
    track_movie(sequence, tmp_path / "t", BoxPredictor())
    for t in range(5):
        name = f"mask{t:03d}.tif"
        assert (tmp_path / "t" / name).read_bytes() == (out / name).read_bytes()


def test_a_movie_without_cells(tmp_path: Path) -> None:
    folder = tmp_path / "01"
    folder.mkdir()
    for t in range(2):
        tifffile.imwrite(folder / f"t{t:03d}.tif", np.zeros((8, 8), np.uint8))
    summary = track_movie(folder, tmp_path / "r", BoxPredictor(), ALL)
    assert (summary.facts["cells"], summary.facts["tracks"]) == (0, 0)
    assert (tmp_path / "r/res_track.txt").read_text() == ""


def test_what_is_refused_before_any_work(sequence: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="is also an input folder"):
        track_movie(sequence, sequence, BoxPredictor())
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(PlanError, match="is a file"):
        track_movie(sequence, file, BoxPredictor())
    foreign = tmp_path / "02_RES"
    foreign.mkdir()
    (foreign / "res_track.txt").write_text("1 0 0 0\n")
    with pytest.raises(PlanError, match="has not written"):
        track_movie(sequence, foreign, BoxPredictor())
    assert (
        track_movie(
            sequence, foreign, BoxPredictor(), TrackOptions(overwrite=True)
        ).done
        == 5
    )
    with pytest.raises(ConfigError, match="gives overlapping labels"):
        track_movie(sequence, tmp_path / "r", ChestPredictor())
    with pytest.raises(PlanError, match="Give --model or --masks"):
        track_movie(sequence, tmp_path / "r", None)
    with pytest.raises(ConfigError, match="link.speed"):
        track_movie(
            sequence, tmp_path / "r", BoxPredictor(), TrackOptions(link={"speed": 1})
        )


def test_one_run_at_a_time(sequence: Path, tmp_path: Path) -> None:
    from medseg.io.lock import hold

    (tmp_path / "r").mkdir()
    with hold(tmp_path / "r"), pytest.raises(LockedError):
        track_movie(sequence, tmp_path / "r", BoxPredictor())


def test_measuring_a_result(sequence: Path, tmp_path: Path) -> None:
    out, table = tmp_path / "01_RES", tmp_path / "t.csv"
    track_movie(sequence, out, BoxPredictor(), ALL)
    found = measure_result(out, table, images=sequence, scale=ALL.scale)
    assert str(found).startswith("17 cells in 5 frames, 5 tracks: t.csv, t_tracks.csv")
    for name, ours in (("t", "cells"), ("t_tracks", "tracks"), ("t_counts", "counts")):
        assert (tmp_path / f"{name}.csv").read_text() == (
            out / f"{ours}.csv"
        ).read_text()
    assert (tmp_path / "t_lineage.png").is_file()
    with pytest.raises(ConfigError, match=r"is no \.csv file"):
        measure_result(out, tmp_path / "t.txt")
    (out / "filled.csv").write_text("frame,cell\n1,x\n")
    with pytest.raises(FileError, match="line 2"):
        measure_result(out, table)


def run(*words: object) -> int:
    return cli.run([str(word) for word in words])


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(
        load, "load_predictor", lambda models, **options: BoxPredictor()
    )
    monkeypatch.setattr(load, "load_labels", lambda models: BoxPredictor().labels)
    return "boxes"


def test_the_command_line(
    sequence: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "01_RES"
    assert (
        run(
            "track",
            sequence,
            "-o",
            out,
            "--model",
            model,
            "--tables",
            "--spacing",
            "0.5,0.5",
        )
        == 0
    )
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "5 done, 0 failed, 0 skipped"
    assert "17 cells, 5 tracks, 1 division, 1 mask drawn into gaps" in lines[-2]
    assert run("measure", out, "-o", tmp_path / "t.csv", "--frame-interval", 60) == 0
    truth = tmp_path / "01_GT/TRA"
    truth.mkdir(parents=True)
    for t in range(5):
        (truth / f"man_track{t:03d}.tif").write_bytes(
            (out / f"mask{t:03d}.tif").read_bytes()
        )
    (truth / "man_track.txt").write_bytes((out / "res_track.txt").read_bytes())
    assert run("evaluate", out, tmp_path, "--ctc", "--json", tmp_path / "s.json") == 0
    assert "1.000000" in capsys.readouterr().out
    assert json.loads((tmp_path / "s.json").read_text())["mean"]["TRA"] == 1
    assert (tmp_path / "s_errors.csv").read_text().count("\n") == 1
    assert run("evaluate", out, tmp_path, "--ctc", "--frames", "1-3") == 0
    assert "1 sequence, n_failed 0; frames 1 to 3 alone" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("track", "01", "-o", "r"), "--model: is not given"),
        (
            ("track", "01", "-o", "r", "--model", "m", "--masks", "01"),
            "--masks are both given",
        ),
        (
            ("track", "01", "-o", "r", "--masks", "01", "--spacing", "a"),
            "Give two or three numbers",
        ),
        (
            ("track", "01", "-o", "r", "--masks", "01", "--frame-interval", "0"),
            "frame interval: is (0.0,)",
        ),
        (("track", "nowhere", "-o", "r", "--masks", "01"), "nowhere: "),
        (
            ("track", "01", "-o", "r", "--masks", "01", "--threads", "2"),
            "--threads: is for a model, and --masks is given",
        ),
        (
            ("track", "01", "-o", "r", "--masks", "01", "--diameter", "9"),
            "--diameter: is for a model",
        ),
        (("evaluate", "r", "01", "--ctc"), "r: is no folder"),
        (("evaluate", "01", "01", "--ctc", "--json", "a.txt"), "does not end in .json"),
        (("evaluate", "r", "01", "--ctc", "--frames", "7"), "'7'. Give FIRST-LAST"),
        (("evaluate", "r", "01", "--ctc", "--frames", "9-3"), "'9-3'. Give FIRST-LAST"),
        (("evaluate", "r", "01", "--frames", "1-2"), "--frames: is for cell movies"),
        (("evaluate", "r", "01", "--errors", "e.csv"), "--errors: is for cell movies"),
        (("evaluate", "r", "01", "--ctc", "--only-predicted"), "are both given"),
        (("evaluate", "r", "01", "--ctc", "--labels", "a"), "--labels: and --ctc are"),
        (
            ("evaluate", "r", "01", "--ctc", "--spacing", "1", "1"),
            "--spacing: and --ctc are both given",
        ),
        (
            ("measure", "01", "-o", "t.csv", "--spacing", "1,1"),
            "--spacing: is for a mo",
        ),
        (
            ("measure", "01", "-o", "t.csv", "--images", "01"),
            "--images: is for a movie",
        ),
    ],
)
def test_usage_errors_are_one_line(
    words: tuple[str, ...],
    message: str,
    sequence: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(sequence.parent)
    assert run(*words) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (sequence.parent / "r").exists()


def test_a_hole_in_the_movie_is_one_line(
    sequence: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (sequence / "t002.tif").unlink()
    assert run("track", sequence, "-o", tmp_path / "r", "--model", model) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "2" in line
    assert str(sequence) in line
    assert not (tmp_path / "r").exists()


def test_what_cannot_start_loads_no_model(
    sequence: Path,
    tmp_path: Path,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def loaded(*arguments: object, **more: object) -> None:
        pytest.fail("a model was loaded")

    chest = ChestPredictor().labels
    monkeypatch.setattr(load, "load_predictor", loaded)
    monkeypatch.setattr(load, "load_labels", lambda models: chest)
    for words, problem in (
        ((sequence, "-o", tmp_path / "r"), "gives overlapping labels, no single cells"),
        ((sequence, "-o", sequence), "is also an input folder"),
        ((tmp_path / "none", "-o", tmp_path / "r"), "none: "),
        ((sequence, "-o", tmp_path / "r", "--spacing", "1,1,1"), "3 axes, a frame 2"),
    ):
        assert run("track", *words, "--model", model) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert problem in line
    assert not (tmp_path / "r").exists()


def test_with_a_real_network(sequence: Path, tmp_path: Path) -> None:
    """A network that is its input: bright is cell, then the model's own decoding."""
    pytest.importorskip("torch")
    import torch
    from model_builders import function_model, tiny_spec

    from medseg.instances import InstanceRule
    from medseg.labels import Label, LabelSet
    from medseg.model_spec import Decoding, Inference, Network
    from medseg.predict import Predictor

    arguments = {"in_channels": 1, "out_channels": 2, "widths": [2, 4]}
    spec = tiny_spec(
        labels=LabelSet((Label(1, "cell", "#ffffff"),), "instances"),
        network=Network("unet", arguments),
        preprocessing=(),
        inference=Inference("sliding_window", (16, 16)),
        decoding=Decoding("instances", instances=InstanceRule()),
    )
    model = function_model(spec, lambda x: torch.cat([10 - x, x - 10], 1))
    predictor = Predictor(model, engine="torch")
    summary = track_movie(sequence, tmp_path / "r", predictor)
    assert summary.facts["tracks"] == 5
    track_movie(sequence, tmp_path / "s", BoxPredictor())
    for t in range(5):  # the cells that were drawn, under other numbers
        a, b = (tifffile.imread(tmp_path / r / f"mask{t:03d}.tif") for r in "rs")
        np.testing.assert_array_equal(a > 0, b > 0)
        assert len(np.unique(a + 100 * b)) == len(np.unique(b))

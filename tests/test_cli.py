"""The command line: exit codes, one-line errors, and what each command leaves."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import typer
from fakes import NUMBERED, NumberPredictor, tree, write_folder, write_number

import medseg
from medseg import cli
from medseg.batch import load
from medseg.cli import commands, display
from medseg.cli.display import Display
from medseg.errors import ConfigError, ExitCode, FileError, ModelError
from medseg.geometry import Geometry
from medseg.io import write_segmentation
from medseg.io.lock import hold
from medseg.labels import LabelSet, chest_labels
from medseg.segmentation import Segmentation

FAKES = Path(__file__).with_name("fakes.py")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is the one that gives back its image's number."""
    monkeypatch.setattr(load, "load_labels", lambda models: NUMBERED)
    monkeypatch.setattr(
        load, "load_predictor", lambda models, **options: NumberPredictor()
    )


def predict(*words: object) -> int:
    return cli.run(["predict", *map(str, words), "--model", "fake"])


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_help_is_immediate() -> None:
    code = (
        "import sys; from medseg.cli import run; run(['predict', '--help'])\n"
        "heavy = {'torch', 'monai', 'numpy', 'scipy', 'nibabel'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--split-labels" in done.stdout


def test_without_words_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 0
    shown = capsys.readouterr().out
    for name in (
        "demo", "predict", "evaluate", "measure", "train", "models", "info", "doctor",
    ):  # fmt: skip
        assert f"\n  {name} " in shown


@pytest.mark.parametrize(
    "words",
    [
        ["bogus"],
        ["predict"],
        ["predict", "x", "-o", "y"],
        ["predict", "x", "-o", "y", "--model", "m", "--engine", "q"],
        ["predict", "x", "-o", "y", "--model", "m", "--workers", "-1"],
        ["predict", "--nope"],
        ["models"],
        ["info"],
    ],
)
def test_a_usage_error_is_one_line(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(words) == ExitCode.USAGE
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "--help." in lines[0]


def test_a_clean_run_ends_with_its_count(
    fake: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "in", 3)
    (tmp_path / "in" / "notes.txt").write_text("")
    assert predict(tmp_path / "in", "-o", tmp_path / "out") == ExitCode.DONE
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("3 images, ")
    assert lines[0].endswith(", 1 other file ignored")
    assert "over all threads: read" in lines[-2]
    assert lines[-1] == "3 done, 0 failed, 0 skipped"
    assert predict(tmp_path / "in", "-o", tmp_path / "out") == ExitCode.DONE
    assert last_line(capsys) == "0 done, 0 failed, 3 skipped"


def test_a_bad_file_is_one_line_and_exit_code_1(
    fake: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    films = write_folder(tmp_path / "in", 3)
    films[1].rename(films[1].with_name("od\nd\x1b.png"))
    films[1].with_name("od\nd\x1b.png").write_bytes(b"")
    assert predict(tmp_path / "in", "-o", tmp_path / "out") == ExitCode.SOME_FAILED
    lines = capsys.readouterr().err.splitlines()
    bad = [line for line in lines if "empty (0 bytes)" in line]
    assert len(bad) == 1
    assert "od\\nd\\x1b.png: " in bad[0]
    table = tmp_path / "out" / "failures.csv"
    assert lines[-1] == f"2 done, 1 failed, 0 skipped (see {table})"


def test_plan_model_and_lock_errors_leave_nothing(
    fake: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "in", 1)
    assert predict(tmp_path / "in", "-o", tmp_path / "in") == ExitCode.USAGE
    assert predict(tmp_path / "gone", "-o", tmp_path / "out") == ExitCode.USAGE
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    capsys.readouterr()
    with hold(tmp_path / "out"):
        assert predict(tmp_path / "in", "-o", tmp_path / "out") == ExitCode.LOCKED
    assert f"process {os.getpid()} on " in last_line(capsys)
    assert not list((tmp_path / "out").iterdir())


def test_an_unknown_model_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "in", 1)
    words = ["predict", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    assert cli.run([*words, "--model", "nobody"]) == ExitCode.USAGE
    assert capsys.readouterr().err.startswith("nobody: no such model.")
    assert not (tmp_path / "out").exists()


def test_what_the_names_alone_forbid_is_refused_without_torch(tmp_path: Path) -> None:
    write_folder(tmp_path, 1)
    code = (
        "import sys; from medseg.cli import run\n"
        "words = ['predict', sys.argv[1], '-o', sys.argv[2], '--model', 'chest-xray']\n"
        "codes = [int(run([*words, '--format', f])) for f in ('png', 'dcm-seg')]\n"
        "sys.exit(str(codes + ['torch' in sys.modules]))"
    )
    words = [sys.executable, "-P", "-c", code, str(tmp_path), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True)
    png, seg, codes = done.stderr.splitlines()
    assert png.startswith("format: png holds one channel")
    assert "film000.png: a DICOM-SEG belongs to a DICOM image" in seg
    assert codes == "[2, 2, False]"
    assert not (tmp_path / "out").exists()


def test_a_bad_spec_is_refused_by_name(tmp_path: Path) -> None:
    for text, problem in (
        ("[]", "labels is 'None'"),
        ('{"labels": {"label": []}}', "labels.label is an unknown key"),
        ("{", "is not JSON"),
    ):
        (tmp_path / "model.json").write_text(text)
        with pytest.raises(ModelError, match=problem) as caught:
            load.load_labels([str(tmp_path)])
        assert caught.value.subject.endswith("model.json")


def test_options_that_do_not_go_together_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "in", 1)
    assert predict("in", "-o", "out", "--dask", "a:1", "--isolate") == ExitCode.USAGE
    assert "--isolate: does not go with --dask" in last_line(capsys)
    with pytest.raises(ConfigError, match="--sha256: is the hash of one model, 2"):
        load.load_predictor(("a", "b"), sha256="0" * 64)
    words = ["evaluate", "p", "t", "--json", "scores.txt"]
    assert cli.run(words) == ExitCode.USAGE
    assert "does not end in .json" in last_line(capsys)


def test_a_full_disk_is_exit_code_4_with_a_count(
    fake: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_folder(tmp_path / "in", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ward0").write_text("in the way")
    assert predict(tmp_path / "in", "-o", tmp_path / "out") == ExitCode.DISK
    lines = capsys.readouterr().err.splitlines()
    assert "cannot be made" in lines[-3]
    assert lines[-1].startswith("0 done, 1 failed, 0 skipped")


def test_debug_shows_the_traceback_before_or_after_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["--debug", "info", "gone.png"], ["info", "gone.png", "--debug"]):
        assert cli.run(words) == ExitCode.SOME_FAILED
        shown = capsys.readouterr().err
        assert "Traceback" in shown
        assert shown.splitlines()[-1].startswith("gone.png: ")
    assert cli.run(["info", "gone.png"]) == ExitCode.SOME_FAILED
    assert "Traceback" not in capsys.readouterr().err
    (tmp_path / "--debug").write_text("")
    assert cli.run(["info", "--", "--debug"]) == ExitCode.SOME_FAILED
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyError("x\n\x1b[1m"), 1, "medseg: KeyError"),
        (FileError("a\nb", "is bad"), 1, "a\\nb: is bad."),
        (typer.Abort(), 130, ""),
        (KeyboardInterrupt(), 130, ""),
        (typer.Exit(4), 4, ""),
    ],
)
def test_whatever_a_command_raises_is_one_line_and_a_code(
    error: BaseException,
    code: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*words: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    assert cli.run(["info"]) == code
    shown = capsys.readouterr().err
    assert shown.startswith(text)
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == bool(text)


def test_main_exits_with_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["medseg", "bogus"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == ExitCode.USAGE


def test_info_tells_the_header_and_warns_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_number(tmp_path / "a.png", 3)
    assert cli.run(["info", str(path)]) == 0
    assert "1 x 8 x 8" in capsys.readouterr().out
    assert cli.run(["info", "--json", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [1, 8, 8]


def test_info_of_a_mask_lists_its_structures_and_leaves_out_what_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, plain = chest_labels(), Geometry.pixels(2)
    mask = np.zeros((5, 6, 7), np.uint8)
    write_segmentation(Segmentation(mask, labels, plain), tmp_path / "a.tif")
    assert cli.run(["info", str(tmp_path / "a.tif")]) == 0
    shown = dict(
        line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()
    )
    assert shown["structures"] == ", ".join(labels.names)
    assert shown["spacing"] == "not stated"
    assert "modality" not in shown
    scaled = Segmentation(
        mask[0], LabelSet(labels.labels[:1]), Geometry.upright((0.5, 2))
    )
    write_segmentation(scaled, tmp_path / "b.nii.gz")
    assert cli.run(["info", "--json", str(tmp_path / "b.nii.gz")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["structures"], facts["spacing"]) == (["right_lung"], [0.5, 2.0])


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"medseg {medseg.__version__}\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["predict"], ".tif for PNG and JPEG"),
        (["predict"], "costs that file alone"),
        (["predict"], "64 digits"),
        (["models", "verify"], "64 digits"),
        (["models", "convert"], "model.json of a shipped model"),
        (["evaluate"], "with commas or given again"),
    ],
)
def test_help_says_what_an_option_takes(
    command: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*command, "--help"]) == 0
    assert words in " ".join(capsys.readouterr().out.split())


def test_evaluate_and_measure_score_and_tabulate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("pred", "truth"):
        for name in ("right_lung", "left_lung", "heart"):
            write_number(tmp_path / folder / name / "a.png", 255)
    pred, truth = str(tmp_path / "pred"), str(tmp_path / "truth")
    numbers = tmp_path / "scores.json"
    words = ["evaluate", pred, truth, "--labels", "lungs,heart", "--json", str(numbers)]
    assert cli.run(words) == 0
    assert "1.0000" in capsys.readouterr().out
    cases = json.loads(numbers.read_text())["cases"]
    assert {c["structure"] for c in cases} == {"lungs", "heart"}
    write_number(tmp_path / "truth" / "heart" / "b.png", 255)
    assert cli.run(["evaluate", pred, truth]) == ExitCode.SOME_FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("no prediction for 1 of 2 cases (b): counted as failed")
    assert cli.run(["evaluate", pred, truth, "--only-predicted"]) == 0
    shown = capsys.readouterr()
    assert "1 of 2 cases scored" in shown.out
    assert shown.err == ""
    assert cli.run(["measure", pred, "-o", str(tmp_path / "t.csv")]) == 0
    assert "a,done," in (tmp_path / "t.csv").read_text()
    (tmp_path / "pred" / "heart" / "a.png").write_bytes(b"")
    words = ["measure", pred, "-o", str(tmp_path / "t.csv")]
    assert cli.run(words) == ExitCode.SOME_FAILED
    assert "empty" in capsys.readouterr().err


def test_train_passes_its_words_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = pytest.importorskip("medseg.train.run")
    monkeypatch.setattr(
        run, "train", lambda path, resume, say: (say("epoch 1"), f"{path} {resume}")[1]
    )
    assert cli.run(["train", "c.toml", "--resume"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "c.toml True\n"
    assert shown.err == "epoch 1\n"


def test_a_training_without_its_films_has_written_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "films").mkdir()
    config = tmp_path / "c.toml"
    config.write_text(
        """
name = "x"
output = "run"
[labels]
names = ["heart"]
[[data]]
set = "own"
folder = "films"
[[stage]]
size = [32, 32]
epochs = 1
"""
    )
    assert cli.run(["train", str(config)]) == ExitCode.USAGE
    assert "films: has no sub folder images/" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_doctor_reports_a_missing_package_and_a_bad_folder(tmp_path: Path) -> None:
    from medseg import doctor

    assert doctor.check_python().ok
    assert doctor.check_package("numpy").ok
    assert not doctor.check_package("no-such-package").ok
    assert doctor.check_package("no-such-package", optional=True).ok
    assert doctor.check_temporary_folder(tmp_path).ok
    assert not doctor.check_temporary_folder(tmp_path / "gone").ok


def test_doctor_exits_1_if_a_check_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from medseg import doctor

    checks = [doctor.Check("a", True, "1.0"), doctor.Check("b", False, "gone")]
    monkeypatch.setattr(doctor, "examine", lambda: checks)
    assert cli.run(["doctor"]) == 1
    assert capsys.readouterr().out == (
        "ok   a             1.0\nBAD  b             gone\n"
    )


def test_doctor_looks_at_every_shipped_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = pytest.importorskip("medseg.model")
    from medseg import doctor

    monkeypatch.setattr(model, "shipped_models", lambda: {"broken": tmp_path})
    (check,) = doctor.check_models()
    assert not check.ok
    monkeypatch.setattr(model, "shipped_models", dict)
    (check,) = doctor.check_models()
    assert "no shipped model" in check.detail


def test_models_pack_unpack_verify_and_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    builders = pytest.importorskip("model_builders")
    from medseg.model import save_model

    save_model(tmp_path / "m", builders.tiny_spec(), builders.tiny_network())
    assert cli.run(["models", "list"]) == 0
    assert cli.run(["models", "verify", str(tmp_path / "m")]) == 0
    assert cli.run(["models", "show", str(tmp_path / "m")]) == 0
    assert "right_lung" in capsys.readouterr().out
    package = str(tmp_path / "m.medseg")
    assert cli.run(["models", "pack", str(tmp_path / "m"), "-o", package]) == 0
    assert cli.run(["models", "unpack", package, "-o", str(tmp_path / "n")]) == 0
    for name in ("model.json", "weights.safetensors"):
        assert (tmp_path / "m" / name).read_bytes() == (
            tmp_path / "n" / name
        ).read_bytes()
    write_folder(tmp_path / "in", 2)
    words = ["predict", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    code = cli.run([*words, "--model", str(tmp_path / "m"), "--engine", "torch"])
    assert code == 0, capsys.readouterr().err
    assert len(list((tmp_path / "out").rglob("*.tif"))) == 2


def test_a_result_that_cannot_be_written_is_no_failed_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    builders = pytest.importorskip("model_builders")
    from medseg.model import save_model

    save_model(tmp_path / "m", builders.tiny_spec(), builders.tiny_network())
    labels = chest_labels()
    mask = np.ones((len(labels.names), 8, 8), np.uint8)
    masks, inside = str(tmp_path / "masks"), tmp_path / "notes" / "x"
    seg = Segmentation(mask, labels, Geometry.pixels(2))
    write_segmentation(seg, tmp_path / "masks" / "a.tif")
    inside.parent.write_text("no folder")
    for words in (
        ["measure", masks, "-o", f"{inside}.csv"],
        ["evaluate", masks, masks, "--json", f"{inside}.json"],
        ["models", "pack", str(tmp_path / "m"), "-o", str(inside)],
    ):
        assert cli.run(words) == ExitCode.DISK
        assert "notes is a file, not a folder" in last_line(capsys)


@pytest.mark.parametrize("out", [".", "", "m"])
def test_a_model_is_not_packed_as_a_folder(
    out: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "m").mkdir()
    monkeypatch.chdir(tmp_path)
    assert cli.run(["models", "pack", "chest-xray", "-o", out]) == ExitCode.USAGE
    assert "is a folder. Name the package, one file" in last_line(capsys)


def test_convert_makes_a_model_of_plain_weights(tmp_path: Path) -> None:
    builders = pytest.importorskip("model_builders")
    import torch

    network, spec = builders.tiny_network(), builders.tiny_spec()
    torch.save(network.state_dict(), tmp_path / "w.pt")
    (tmp_path / "spec.json").write_text(spec.to_json())
    out = tmp_path / "m"
    words = [
        str(tmp_path / "w.pt"),
        "--spec",
        str(tmp_path / "spec.json"),
        "-o",
        str(out),
    ]
    assert cli.run(["models", "convert", *words]) == 0
    assert cli.run(["models", "verify", str(out)]) == 0
    before = (out / "weights.safetensors").stat()
    assert cli.run(["models", "convert", *words]) == ExitCode.USAGE  # a model is there
    assert (out / "weights.safetensors").stat() == before


def test_the_demo_leaves_masks_tables_overlays_and_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    builders = pytest.importorskip("model_builders")
    from medseg.labels import chest_labels
    from medseg.model import save_model
    from medseg.model_spec import Network
    from medseg.networks import build

    arguments = {**builders.ARGUMENTS, "out_channels": 5}
    spec = builders.tiny_spec(
        name="five", labels=chest_labels(), network=Network("unet", arguments)
    )
    save_model(tmp_path / "five", spec, build("unet", arguments).eval())
    out = tmp_path / "demo"
    words = ["demo", "-o", str(out), "--films", "1", "--model", str(tmp_path / "five")]
    assert cli.run(words) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split()[:3] == ["model", "structure", "Dice"]
    assert len(shown.splitlines()) == 6
    for name in (
        "films/images/synthetic0000.png",
        "five/synthetic0000.tif",
        "five/measurements.csv",
        "five/report.html",
        "overlays/five/synthetic0000.png",
    ):
        assert (out / name).is_file(), name


def test_the_demo_draws_exclusive_labels_too(tmp_path: Path) -> None:
    builders = pytest.importorskip("model_builders")
    from medseg.model import save_model
    from medseg.networks import build

    fields = builders.exclusive()
    network = build("unet", fields["network"].arguments).eval()
    save_model(tmp_path / "two", builders.tiny_spec(**fields), network)
    out = tmp_path / "demo"
    words = ["demo", "-o", str(out), "--films", "1", "--model", str(tmp_path / "two")]
    assert cli.run(words) == 0
    assert (out / "two" / "synthetic0000.png").is_file()
    assert (out / "overlays" / "two" / "synthetic0000.png").is_file()


def test_the_demo_tracks_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from medseg import demo

    builders = pytest.importorskip("model_builders")
    from medseg.model import save_model
    from medseg.networks import build

    monkeypatch.setattr(demo, "FRAMES", 2)
    fields = builders.cells()
    network = build("unet", fields["network"].arguments).eval()
    save_model(tmp_path / "dots", builders.tiny_spec(**fields), network)
    out = tmp_path / "demo"
    words = ["demo", "-o", str(out), "--model", str(tmp_path / "dots")]
    assert cli.run(words) == 0, capsys.readouterr().err
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[:2] for row in rows] == [["dots", s] for s in ("SEG", "DET", "TRA")]
    assert not (out / "films").exists()
    for name in ("res_track.txt", "mask001.tif", "cells.csv", "lineage.png"):
        assert (out / "dots" / "01_RES" / name).is_file(), name


@pytest.mark.parametrize(
    "models", [("a/m", "b/m"), ("m", "M"), ("x/films",), ("overlays",), (".",), ("..",)]
)
def test_the_demo_gives_each_model_a_folder_of_its_own(
    models: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["demo", "-o", str(tmp_path / "demo")]
    for model in models:
        words += ["--model", model]
    assert cli.run(words) == ExitCode.USAGE
    assert "folder of their own" in last_line(capsys)
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("inside", ["", "demo"])
def test_the_demo_never_writes_into_a_file(
    inside: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes").write_text("mine")
    assert cli.run(["demo", "-o", str(tmp_path / "notes" / inside)]) == ExitCode.USAGE
    assert "notes: is a file, not a folder" in last_line(capsys)
    assert (tmp_path / "notes").read_text() == "mine"


def test_the_demo_without_a_model_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = pytest.importorskip("medseg.model")
    monkeypatch.setattr(model, "shipped_models", dict)
    assert cli.run(["demo", "-o", str(tmp_path / "demo")]) == ExitCode.USAGE
    assert "no shipped model" in capsys.readouterr().err


def test_the_demo_takes_the_models_of_what_it_draws() -> None:
    from medseg import demo
    from medseg.model_files import shipped_models

    chosen = set(filter(demo._fits, shipped_models()))
    assert {"chest-xray", demo.MOVIE_MODEL} < chosen
    assert "cells-dic" not in chosen


def test_a_demo_that_fails_in_part_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from medseg import demo

    bad = demo.DemoResult({"m": {"heart": 0.5}}, failed=1)
    monkeypatch.setattr(demo, "run_demo", lambda out, **options: bad)
    assert cli.run(["demo"]) == ExitCode.SOME_FAILED
    assert "0.5000" in capsys.readouterr().out


def test_napari_opens_in_a_process_of_its_own_and_gives_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[list[str]] = []

    def start(command: list[str]) -> int:
        ran.append(command[1:])
        return len(command) - 5

    monkeypatch.setattr("medseg.cli.napari._run", start)
    monkeypatch.setattr("medseg.cli.napari.find_spec", lambda name: "there")
    path = str(write_number(tmp_path / "a.png", 3))
    assert cli.run(["napari", path]) == 0
    assert ran == [["-P", "-m", "medseg.napari_plugin.launch", path]]
    assert cli.run(["napari", path, path]) == 1
    assert cli.run(["napari", "none.png"]) == ExitCode.SOME_FAILED
    assert last_line(capsys) == "none.png: there is no such file. Check the path."
    monkeypatch.setattr("medseg.cli.napari.find_spec", lambda name: None)
    assert cli.run(["napari"]) == ExitCode.USAGE
    assert "pip install" in last_line(capsys)


def test_ctrl_c_is_for_napari_alone_which_keeps_what_is_unsaved() -> None:
    from medseg.cli.napari import _run

    before = signal.getsignal(signal.SIGINT)
    # Ctrl-C in a terminal reaches both; the one that is waited for takes its time.
    code = """
import os, signal, sys, time
def quit(*_):
    time.sleep(0.6)
    sys.exit(7)
signal.signal(signal.SIGINT, quit)
os.kill(os.getppid(), signal.SIGINT)
os.kill(os.getpid(), signal.SIGINT)
"""
    started = time.monotonic()
    assert _run([sys.executable, "-c", f"import time; time.sleep(0.3){code}"]) == 7
    assert time.monotonic() - started > 0.6
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_that_is_cut_short_shows_the_cursor_again() -> None:
    pty = pytest.importorskip("pty")
    code = (
        "import os, signal, time; from medseg.cli.display import Display, cancellable\n"
        "with Display() as d, cancellable(d):\n"
        "    while True:\n"
        "        try: os.kill(os.getpid(), signal.SIGINT); time.sleep(9)\n"
        "        except KeyboardInterrupt: pass\n"
    )
    master, slave = pty.openpty()
    done = subprocess.run([sys.executable, "-c", code], stderr=slave)
    os.close(slave)
    text = b""
    with suppress(OSError):
        while part := os.read(master, 4096):
            text += part
    os.close(master)
    assert done.returncode == ExitCode.CANCELLED
    assert text.rindex(b"\x1b[?25h") > text.rindex(b"\x1b[?25l")
    assert b"cancelled before the first" in text


@pytest.mark.parametrize("command", ["predict", "track", "evaluate", "measure"])
def test_help_states_the_exit_codes(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([command, "--help"]) == 0
    assert "Exit codes: 0 " in capsys.readouterr().out


GOES_ON = "; cancelled, {} left: the same command goes on"


def test_progress_on_a_terminal_is_a_bar_and_elsewhere_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from medseg.batch import Progress
    from medseg.batch.journal import Entry

    bad = Entry(
        "a", "failed", "c", "m", 0, 0, error="[red]a[/red]: bad.", warnings=("odd",)
    )
    steps = [Progress(0, 0, 3, 9), Progress(1, 1, 3, 9, bad)]
    monkeypatch.setattr(display, "_PLAIN_SECONDS", -1.0)
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda t=terminal: t, raising=False)
        with Display() as shown:
            assert shown.counts().endswith("0 skipped; cancelled before the first")
            for step in steps:
                shown.show(step)
            assert shown.counts() == f"1 done, 1 failed, 3 skipped{GOES_ON.format(4)}"
        text = capsys.readouterr().err
        assert "[red]a[/red]: bad." in text
        assert "warning: a: odd" in text
        if not terminal:
            assert "3 of 9 are done already" in text
            assert "5 of 9, " in text


def test_what_libraries_log_is_shown_when_debugging(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    library = logging.getLogger("library")
    monkeypatch.setattr(cli, "app", lambda *words, **options: library.error("lost"))
    assert cli.run(["doctor"]) == 0
    assert caplog.messages == []
    library.error("after the command as before it")
    assert cli.run(["doctor", "--debug"]) == 0
    assert caplog.messages == ["after the command as before it", "lost"]


def test_text_with_control_bytes_is_made_visible() -> None:
    assert commands.printable_lines("a\x1b\nb") == "a\\x1b\nb"


def start(tmp_path: Path, pause: float) -> subprocess.Popen[str]:
    """Start a slow run in another process; return when a film is done."""
    words = ["predict", tmp_path / "in", "-o", tmp_path / "out", "--model", "fake"]
    process = subprocess.Popen(
        [sys.executable, FAKES, str(pause), *words], stderr=subprocess.PIPE, text=True
    )
    journal, deadline = tmp_path / "out" / "medseg-run.jsonl", time.monotonic() + 60
    while not (journal.exists() and journal.stat().st_size):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_cancel_is_130_and_the_run_goes_on_later(
    fake: None,
    tmp_path: Path,
    kind: signal.Signals,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_folder(tmp_path / "in", 30)
    process = start(tmp_path, 0.05)
    process.send_signal(kind)
    shown = process.communicate(timeout=20)[1]
    assert process.returncode == ExitCode.CANCELLED, shown
    last = shown.splitlines()[-1]
    done = int(last.split()[0])
    assert 0 < done < 30
    assert last.endswith(GOES_ON.format(30 - done))
    assert predict(tmp_path / "in", "-o", tmp_path / "out") == 0
    assert last_line(capsys) == f"{30 - done} done, 0 failed, {done} skipped"


def test_a_run_stuck_in_a_file_is_left_within_two_seconds(tmp_path: Path) -> None:
    films = write_folder(tmp_path / "in", 2)
    films[0].write_bytes(b"")  # journalled at once: the sign that the run has begun
    process = start(tmp_path, 30)
    time.sleep(0.3)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    shown = process.communicate(timeout=20)[1]
    assert process.returncode == ExitCode.CANCELLED
    assert time.monotonic() - begin < 10  # two where nothing else runs
    last = shown.splitlines()[-1]
    assert last == f"0 done, 1 failed, 0 skipped{GOES_ON.format(1)}"


def test_two_runs_on_one_output_do_not_meet(
    fake: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "in", 60)
    process = start(tmp_path, 1.0)  # a minute: it holds the output until it is told
    try:
        code = predict(tmp_path / "in", "-o", tmp_path / "out")
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert code == ExitCode.LOCKED
    assert f"process {process.pid} on " in last_line(capsys)
    assert process.returncode == ExitCode.CANCELLED


@pytest.mark.slow
def test_dask_runs_what_the_command_line_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    distributed = pytest.importorskip("distributed")
    builders = pytest.importorskip("model_builders")
    from medseg.model import save_model

    save_model(tmp_path / "m", builders.tiny_spec(), builders.tiny_network())
    write_folder(tmp_path / "in", 3)
    words = ["predict", str(tmp_path / "in"), "--model", str(tmp_path / "m"), "-o"]
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
    ) as cluster:
        address = cluster.scheduler_address
        assert cli.run([*words, str(tmp_path / "dask"), "--dask", address]) == 0
    assert cli.run([*words, str(tmp_path / "dask")]) == 0
    assert last_line(capsys) == "0 done, 0 failed, 3 skipped"
    assert cli.run([*words, str(tmp_path / "plain")]) == 0
    assert tree(tmp_path / "dask") == tree(tmp_path / "plain")

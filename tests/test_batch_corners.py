"""What seldom happens to a run: lost tasks, vanished files, locks, odd systems."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import runpy
import signal
import stat
import subprocess
import sys
import threading
import time
import warnings
from base64 import b64decode
from collections.abc import Sequence
from concurrent.futures import CancelledError
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes import (
    NUMBERED,
    ChestPredictor,
    NumberPredictor,
    run,
    write_folder,
    write_number,
)
from model_builders import exclusive, tiny_spec, window_spec
from PIL import Image as PillowImage

from medseg.batch import (
    BatchOptions,
    dask,
    gallery,
    isolate,
    load,
    make_plan,
    result,
    run_batch,
    run_plan,
)
from medseg.batch.items import Item, map_name
from medseg.batch.job import Job
from medseg.batch.journal import hash_source
from medseg.batch.notes import notes_of, warnings_kept
from medseg.batch.plan import _folds_case
from medseg.batch.session import Run
from medseg.batch.work import failure, process
from medseg.datasets.synthetic import write_films
from medseg.errors import (
    ConfigError,
    DiskError,
    ExitCode,
    FileError,
    ImageWarning,
    LockedError,
    ModelError,
    PlanError,
)
from medseg.geometry import Geometry
from medseg.io import atomic, lock, read_segmentation
from medseg.measure import ChestMeasurement, assess
from medseg.model import save_model
from medseg.model_spec import Decoding
from medseg.networks import build
from medseg.segmentation import Segmentation


@pytest.fixture
def one(tmp_path: Path) -> tuple[Run, Item]:
    """Return a run over one film, not begun."""
    write_number(tmp_path / "in" / "a.png", 7)
    plan = make_plan([tmp_path / "in"], tmp_path / "out", NUMBERED)
    plan.out.mkdir()
    job = Job.of(plan.out, NumberPredictor(), BatchOptions())
    return Run(plan, job, lambda _: None), plan.items[0]


def errors(folder: Path, predictor: Any) -> str:
    """Return the table of failures of a run with one worker."""
    run_batch([folder], folder.parent / "out", predictor, BatchOptions(workers=0))
    return (folder.parent / "out" / "failures.csv").read_text("utf-8")


# Dask, without a cluster


class Future:
    """A finished task."""

    def __init__(self, result: Any = None, error: Exception | None = None) -> None:
        self._result, self._error = result, error

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._result


@pytest.mark.parametrize(
    ("future", "problem"),
    [
        (Future(error=ValueError("gone\n away")), "was lost: ValueError gone away"),
        (Future(error=CancelledError("no scheduler")), "was lost: CancelledError no"),
        (Future({}), "its task gave no journal entry"),
    ],
)
def test_a_lost_task_costs_its_file(
    one: tuple[Run, Item], future: Future, problem: str
) -> None:
    run, item = one
    entry = dask._entry(future, item, run)
    assert entry.status == "failed"
    assert problem in entry.error


def test_a_task_hands_its_entry_back(one: tuple[Run, Item]) -> None:
    run, item = one
    entry = failure(run.load(item), FileError("a", "is bad"), run.job)
    assert dask._entry(Future(entry.to_json()), item, run) == entry


def test_a_full_disk_in_a_worker_ends_the_run(one: tuple[Run, Item]) -> None:
    run, item = one
    with pytest.raises(DiskError, match="is full"):
        dask._entry(Future(error=DiskError("out", "is full")), item, run)
    assert run.close(False, None).failed == 1


def test_a_worker_that_is_not_fit_ends_the_run_with_its_tables(tmp_path: Path) -> None:
    """What the others have done stays, and is not done again."""
    films = [write_number(tmp_path / "in" / f"{i}.png", i + 1) for i in range(3)]
    plan = make_plan([tmp_path / "in"], tmp_path / "out", NUMBERED)
    error = ModelError("m/model.json", "is missing", "Check the path")

    def execute(run: Run, todo: Sequence[Item]) -> None:
        run.record(todo[0], process(todo[0], run.job, nullcontext()))
        for item in todo[1:]:
            run.record(item, dask._entry(Future(error=error), item, run))

    summary = run_plan(plan, NumberPredictor(), execute=execute)
    assert (summary.done, summary.failed, summary.left) == (1, 0, 2)
    assert (summary.error, summary.exit_code) == (error, ExitCode.USAGE)
    assert (plan.out / "failures.csv").read_text() == "name,error\n"
    again = run_plan(plan, NumberPredictor())
    assert (again.done, again.skipped) == (len(films) - 1, 1)


def test_a_worker_does_what_the_run_says_of_it(tmp_path: Path) -> None:
    """Its model, its facts and its output folder are the caller's."""

    def of(**facts: Any) -> Job:
        predictor = NumberPredictor()
        said = {**predictor.describe(), **facts}
        predictor.describe = lambda: said  # type: ignore[method-assign]
        return Job.of(tmp_path, predictor, BatchOptions())

    promise = dask.Promise.of(of())
    promise.check(of())
    promise.check(of(versions={"torch": "9"}))  # a newer library is no other model
    with pytest.raises(ConfigError, match=r"--dask: a worker has engine other, here f"):
        promise.check(of(engine="other"))
    with pytest.raises(ConfigError, match="has another spec of the model. Give all"):
        replace(promise, model="0" * 64).check(of())


def test_a_worker_writes_where_the_run_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(folder: str) -> Job:
        return Job.of(tmp_path / folder, NumberPredictor(), BatchOptions())

    monkeypatch.setattr(dask, "_PATIENCE_S", 0.02)
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    with lock.hold(tmp_path / "here"):
        promise = dask.Promise.of(of("here"))
        promise.check(of("here"))
        with pytest.raises(ConfigError, match=r"there: is another folder where a work"):
            promise.check(of("there"))
        sleeps = []

        def appear(seconds: float) -> None:
            sleeps.append(seconds)
            (tmp_path / "there" / lock.LOCK_NAME).write_bytes(promise.lock)

        monkeypatch.setattr(dask.time, "sleep", appear)  # a slow network file system
        promise.check(of("there"))
    assert sleeps == [0.02 / 100]


def test_a_worker_loads_a_model_again_that_was_trained_again(
    one: tuple[Run, Item],
) -> None:
    run, item = one
    loads = []

    def factory(name: str) -> NumberPredictor:
        loads.append(name)
        return NumberPredictor()

    def task(model: str) -> None:
        job = replace(run.job, model=model)
        with suppress(ConfigError):  # the fake has the model that it had
            dask.task(
                item,
                job.out,
                factory,
                (("name", "a"),),
                job.options,
                dask.Promise.of(job),
            )

    for model in (run.job.model, run.job.model, "1" * 64, "1" * 64):
        task(model)
    assert loads == ["a", "a"]


def test_what_a_worker_finishes_after_a_cancel_does_not_stop_the_next_run(
    tmp_path: Path,
) -> None:
    write_number(tmp_path / "in" / "a.png", 7)
    plan = make_plan([tmp_path / "in"], tmp_path / "out", NUMBERED)

    def cancel(run: Run, todo: Sequence[Item]) -> None:
        process(todo[0], run.job, nullcontext())  # its line is never written
        raise KeyboardInterrupt

    assert run_plan(plan, NumberPredictor(), execute=cancel).cancelled
    assert (plan.out / "a.png").is_file()
    assert run_plan(plan, NumberPredictor()).done == 1


# The report


def test_a_film_that_cannot_be_read_again_has_no_picture(tmp_path: Path) -> None:
    films = write_folder(tmp_path / "in", 2)
    run(tmp_path / "in", tmp_path / "out", report=True)
    report = tmp_path / "out" / "report.html"
    assert report.read_text("utf-8").count("<img") == 2
    before = films[0].stat()
    films[0].write_bytes(b"x" * before.st_size)
    os.utime(films[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run(tmp_path / "in", tmp_path / "out", report=True).skipped == 2
    assert report.read_text("utf-8").count("<img") == 1


def test_a_film_without_spacing_is_reported_in_pixels() -> None:
    found = ChestMeasurement(0.5, None, None, 4, 8, 6, 5, 3, 0.8, (1, 1), "px", False)
    row = found.to_row()
    plain = gallery._shown(row)
    assert (plain["cardiothoracic ratio"], plain["heart width, px"]) == (0.5, 4)
    assert (plain["thorax width, px"], plain["heart area, px"]) == (8, 3)
    scaled = replace(found, spacing=(0.5, 0.5), unit="mm", detector_plane=True)
    real = gallery._shown(scaled.to_row())
    assert (real["heart width, mm"], real["left lung area, mm2"]) == (4, 5)
    assert len(real) == len(plain) == 6
    assert gallery._shown({"doubt": 0.1}) == {}  # cells have no thorax


@pytest.mark.parametrize(("most", "side"), [(1, 512), (0, 256)])
def test_the_report_has_the_colours_and_pictures_to_enlarge(
    most: int, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "_MOST_LARGE", most)
    (tmp_path / "in").mkdir()
    PillowImage.new("L", (600, 600)).save(tmp_path / "in" / "a.png")
    for done in (1, 0):  # drawn in the run, and again from the files
        options = BatchOptions(report=True)
        args = [tmp_path / "in"], tmp_path / "out", ChestPredictor(), options
        assert run_batch(*args).done == done
        text = (tmp_path / "out" / "report.html").read_text("utf-8")
        assert '<span style="--colour:#102030">right lung</span>' in text
        data = text.split("base64,")[1].split('"')[0]
        picture = PillowImage.open(io.BytesIO(b64decode(data)))
        assert picture.size == (side, side)


def test_drawing_a_film_again_says_nothing_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    pixels = np.ones((8, 8), np.float32)
    pixels[0, 0] = np.nan
    PillowImage.fromarray(pixels).save(tmp_path / "in" / "a.tif")
    for skipped in (0, 1):
        options = BatchOptions(report=True, workers=0)
        args = [tmp_path / "in"], tmp_path / "out", ChestPredictor(), options
        assert run_batch(*args).skipped == skipped
        assert "1 of 64 pixels are NaN" in (tmp_path / "out/report.html").read_text()
    assert capsys.readouterr().err == ""


def test_a_case_without_an_entry_is_left_out(one: tuple[Run, Item]) -> None:
    run, _ = one
    text = gallery.write_gallery(run.plan, {}, run.job, {}).read_text("utf-8")
    assert "a.png" not in text


# Child processes


def test_a_child_answers_each_path_with_a_line_and_the_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    resource = pytest.importorskip("resource")
    film = write_number(tmp_path / "a.png", 7)
    junk = tmp_path / "b.png"
    junk.write_bytes(b"junk")
    asked = "".join(f"{json.dumps(str(path))}\n" for path in (junk, film)).encode()
    limits: list[Any] = []
    monkeypatch.setattr(resource, "setrlimit", lambda *args: limits.append(args))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(asked)))
    kept = os.dup(1)
    try:
        monkeypatch.setattr(sys, "argv", ["isolate", "1.5"])
        runpy.run_path(isolate.__file__, run_name="__main__")
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    assert limits == [(resource.RLIMIT_AS, (16 << 30, 16 << 30))]
    answer = io.BytesIO(capfdbinary.readouterr().out)
    assert answer.readline() == b"ready\n"
    assert json.loads(answer.readline())["error"][0] == str(junk)
    image = isolate._image(json.loads(answer.readline()), answer)
    assert image.pixels.shape == (1, 8, 8)
    assert image.pixels.max() == 7
    assert not answer.read()


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="no alarms here")
def test_a_child_whose_parent_is_gone_ends_a_late_file_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rung: list[int] = []
    monkeypatch.setattr(isolate.signal, "alarm", rung.append)
    monkeypatch.setattr(isolate, "_answer", lambda path: ({}, b""))
    isolate.serve(io.BytesIO(b'"a"\n"b"\n'), io.BytesIO(), 1.5)
    assert rung == [2 + 5, 0, 2 + 5, 0]
    isolate.serve(io.BytesIO(b'"a"\n'), io.BytesIO())
    assert rung[4:] == [0, 0]
    code = "from medseg.batch import isolate; import io, time; " + (
        "isolate._GRACE = 0; isolate._answer = lambda path: time.sleep(60); "
        "isolate.serve(io.BytesIO(b'1'), io.BytesIO(), 0.1)"
    )
    ended = subprocess.run([sys.executable, "-c", code.replace("b'1'", "b'\"a\"'")])
    assert ended.returncode == -signal.SIGALRM


def test_a_child_that_ends_within_the_pixels_has_crashed(tmp_path: Path) -> None:
    header = {"warnings": [], "shape": [1, 2, 2], "dtype": "|u1"}
    script = f"print('ready', flush=True); input(); print('''{json.dumps(header)}''')"
    reader = isolate.IsolatedReader(60, (sys.executable, "-c", script))
    try:
        with pytest.raises(FileError, match="the reader crashed on it twice"):
            reader(tmp_path / "a.png")
    finally:
        reader.close()


SLEEPER = (
    "import sys, time; print('ready', flush=True); sys.stdin.readline(); time.sleep(60)"
)


def test_a_child_that_is_ended_late_has_not_crashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the end of the child is seen before that of the timer."""

    class Slow(threading.Timer):
        def run(self) -> None:
            super().run()
            time.sleep(0.5)

    monkeypatch.setattr(isolate.threading, "Timer", Slow)
    reader = isolate.IsolatedReader(0.3, (sys.executable, "-c", SLEEPER))
    try:
        with pytest.raises(FileError, match=r"longer than 0\.3 s.*without --isolate"):
            reader(tmp_path / "a.png")
    finally:
        reader.close()


# The lock


@pytest.mark.parametrize("left", ["nothing", "another"])
def test_a_lock_file_that_goes_while_it_is_taken_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    path, real, calls = tmp_path / lock.LOCK_NAME, lock._lock, []

    def late(descriptor: int) -> bool:
        calls.append(descriptor)
        if len(calls) == 1:  # the holder ends now, and removes it
            path.unlink()
            if left == "another":
                path.touch()
        return real(descriptor)

    monkeypatch.setattr(lock, "_lock", late)
    with lock.hold(tmp_path):
        assert path.read_text().startswith(f"{os.getpid()} ")
    assert len(calls) == 2
    assert not path.exists()


def test_a_lock_on_a_full_disk_holds_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lock.os, "write", full)
    with (
        lock.hold(tmp_path),
        pytest.raises(LockedError, match="process unknown"),
        lock.hold(tmp_path),
    ):
        pass


def test_a_lock_without_a_name_is_held_by_someone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_lock", lambda descriptor: False)
    with (
        pytest.raises(LockedError, match="process unknown"),
        lock.hold(tmp_path),
    ):
        pass


def test_a_lock_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: set[int] = set()

    def locking(descriptor: int, mode: int, count: int) -> None:
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 1 << 20
        if os.fstat(descriptor).st_ino in held:
            raise PermissionError
        held.add(os.fstat(descriptor).st_ino)

    fake = SimpleNamespace(locking=locking, LK_NBLCK=2)
    monkeypatch.setitem(sys.modules, "msvcrt", fake)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert runpy.run_path(lock.__file__)["fcntl"] is None
    monkeypatch.setattr(lock, "fcntl", None)
    with (
        lock.hold(tmp_path),
        pytest.raises(LockedError, match=f"process {os.getpid()} on"),
        lock.hold(tmp_path),
    ):
        pass


def test_a_folder_is_not_flushed_where_it_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "os", SimpleNamespace(name="nt"))
    atomic.sync_folder(tmp_path / "no such folder")  # else an error of `os.open`
    assert not list(tmp_path.iterdir())


# The pipeline


def test_after_a_full_disk_nothing_more_is_inferred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise DiskError("out", "is full")

    monkeypatch.setattr(result, "write_segmentation", full)
    write_folder(tmp_path / "in", 8)
    predictor = NumberPredictor(pause=0.2)
    with pytest.raises(DiskError, match="is full"):
        run_batch([tmp_path / "in"], tmp_path / "out", predictor)
    assert predictor.seen <= 2  # the one that met it, and the one in hand


def test_what_a_stopped_run_has_written_needs_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(write_number(tmp_path / "in" / "a.png", 1).parent, tmp_path / "out")
    usage = SimpleNamespace(free=100)
    monkeypatch.setattr("medseg.batch.plan.shutil.disk_usage", lambda path: usage)
    assert make_plan([tmp_path / "in"], tmp_path / "out", NUMBERED).items
    write_number(tmp_path / "in" / "b.png", 1)
    with pytest.raises(DiskError, match="0 MB are free"):
        make_plan([tmp_path / "in"], tmp_path / "out", NUMBERED)


# A case


def test_the_shape_of_a_heart_is_that_of_the_film_and_not_of_the_network() -> None:
    """A film twice as wide as high, seen by the network as a square."""
    spec = SimpleNamespace(decoding=Decoding("threshold", (0.5,)))
    labels = ChestPredictor().labels
    values = np.zeros((3, 50, 50), np.float32)
    values[0, 5:45, 3:20] = values[1, 5:45, 30:47] = values[2, 28:38, 18:38] = 1
    film = np.zeros((3, 100, 200), np.uint8)
    for geometry, shown in (
        (Geometry.pixels(2), "4.00"),
        (Geometry.upright((2.0, 0.5)), "1.00"),
    ):
        seg = Segmentation(film, labels, geometry)
        found = result._doubt(
            seg, SimpleNamespace(values=values), SimpleNamespace(spec=spec)
        )
        on_film = values.repeat(2, axis=1).repeat(4, axis=2).astype(np.uint8)
        same = assess(Segmentation(on_film, labels, geometry))
        name = f"heart width to height is {shown}"
        assert (name in found.grounds) == (name in same.grounds) == (shown == "4.00")
        assert not any("heart width to height is 2" in g for g in found.grounds)


def test_warnings_of_another_kind_are_shown_as_ever(tmp_path: Path) -> None:
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with warnings_kept(), notes_of(notes, tmp_path):
            warnings.warn("is dark", ImageWarning, stacklevel=1)
            warnings.warn("other", UserWarning, stacklevel=1)
    assert notes == ["is dark"]
    assert [str(w.message) for w in shown] == ["other"]


def test_a_film_that_does_not_suit_the_model_is_a_failure(tmp_path: Path) -> None:
    class Picky(NumberPredictor):
        def prepare(self, image: Any) -> Any:
            raise ConfigError("channels", "are 1, not 3")

    write_number(tmp_path / "in" / "a.png", 7)
    assert "channels: are 1, not 3" in errors(tmp_path / "in", Picky())


def test_a_mask_that_its_format_cannot_hold_is_a_failure(tmp_path: Path) -> None:
    class Many(NumberPredictor):
        def infer(self, prepared: Any) -> np.ndarray:
            return prepared.pixels[0].astype(np.uint32) * 10_000

        def finish(self, prepared: Any, inferred: Any, **maps: bool) -> Any:
            seg = super().finish(prepared, inferred, **maps)
            return replace(seg, mask=inferred)

    write_number(tmp_path / "in" / "a.png", 7)
    assert "label 70000 is too large for png" in errors(tmp_path / "in", Many())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFO here")
def test_what_is_no_file_fails_without_being_opened(tmp_path: Path) -> None:
    write_number(tmp_path / "in" / "a.png", 7)
    os.mkfifo(tmp_path / "in" / "b.png")
    text = errors(tmp_path / "in", NumberPredictor())
    assert "a FIFO, not a regular file" in text


# The plan


def test_a_device_is_no_image() -> None:
    from medseg.io.scan import _has_dicom_mark, _kind

    assert _kind(stat.S_IFCHR) == "a device, not a regular file"
    assert not _has_dicom_mark("/gone in the meantime")


@pytest.mark.parametrize(("kind", "wanted"), [("a.nrrd", "a_x.nii.gz"), ("a.bmp", "")])
def test_a_map_is_named_after_a_mask(kind: str, wanted: str) -> None:
    if wanted:
        assert map_name(kind, "x") == wanted
        return
    with pytest.raises(PlanError, match="has no mask suffix"):
        map_name(kind, "x")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="folds case")
def test_the_disk_tells_whether_it_folds_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out" / "7").mkdir(parents=True)
    assert not _folds_case(tmp_path / "out" / "7" / "not there" / "8")
    assert not _folds_case(Path("/0"))  # no letter on the way: by the system
    monkeypatch.setattr("medseg.batch.plan._identity", lambda path: (1, 1))
    assert _folds_case(tmp_path / "out")


def test_the_hash_of_a_series_is_of_its_visible_files(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    (folder / "1.dcm").write_bytes(b"one")
    item = Item(folder, "series", "series.nii.gz", (), 3, 0, series=True)
    before = hash_source(item)
    (folder / ".hidden").write_bytes(b"x")
    (folder / "deeper").mkdir()
    assert hash_source(item) == before
    (folder / "2.dcm").write_bytes(b"two")
    assert hash_source(item) != before


# Models by name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chest-xray", "chest-xray-open"])
def test_good_films_give_no_reason_and_an_empty_one_comes_first(
    tmp_path: Path, name: str
) -> None:
    films = tmp_path / "films" / "images"
    write_films(films.parent, 3, seed=5)
    PillowImage.new("L", (512, 512)).save(films / "empty.png")
    predictor = load.load_predictor([name], threads=1)
    run_batch([films], tmp_path / "out", predictor, BatchOptions(report=True))
    with (tmp_path / "out" / "measurements.csv").open() as file:
        empty, *good = csv.DictReader(file)
    assert (empty["name"], float(empty["doubt"])) == ("empty.png", 1)
    assert [row["message"] for row in good] == [""] * 3
    text = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert re.findall('<li class="([a-z]+)"', text) == ["doubtful"] + ["sure"] * 3


@pytest.mark.parametrize("kind", ["overlapping", "exclusive"])
def test_a_model_in_a_folder_goes_through_a_run(tmp_path: Path, kind: str) -> None:
    spec = tiny_spec() if kind == "overlapping" else window_spec(**exclusive())
    network = build("unet", spec.network.arguments).eval()
    model = str(tmp_path / "model")
    save_model(model, spec, network)
    assert load.load_labels([model]) == spec.labels
    write_folder(tmp_path / "in", 2)
    masks = []
    for count in (1, 2):
        predictor = load.load_predictor([model] * count, engine="torch")
        assert predictor.streams == 1
        out = tmp_path / f"out{count}"
        assert run_batch([tmp_path / "in"], out, predictor).done == 2
        masks.append([read_segmentation(p) for p in sorted(out.glob("ward*/film*"))])
    for one, mean in zip(*masks, strict=True):  # of a model with itself
        np.testing.assert_array_equal(one.mask, mean.mask)
        assert len(one.provenance["models"]) == 1
        assert len(mean.provenance["models"]) == 2


def test_one_film_a_processor_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.engines.choose", lambda *args: ("openvino", "cpu"))
    monkeypatch.setattr(load.psutil, "cpu_count", lambda logical: None)
    assert load._streams("auto", "auto", None) == 1
    assert load._streams("auto", "auto", 3) == 3
    assert load._streams("auto", "auto", 99) == load.MOST_STREAMS

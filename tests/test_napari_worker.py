"""The worker process: same bytes, cancel, crash, orphan, and no memory left over.

No Qt here. One worker (some seconds of importing torch) serves most of the tests.
"""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_builders import (
    exclusive,
    tiny_network,
    tiny_spec,
    window_spec,
)
from scipy import ndimage

from medseg.datasets.synthetic import chest_film
from medseg.errors import ConfigError, DiskError
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.instances import InstanceRule
from medseg.labels import Label, LabelSet, chest_labels
from medseg.model import load_model, save_model
from medseg.model_spec import Decoding, Inference
from medseg.napari_plugin.worker import shared
from medseg.napari_plugin.worker.child import describe_end
from medseg.napari_plugin.worker.client import WorkerClient, shared_client
from medseg.napari_plugin.worker.job import (
    Cancelled,
    Done,
    Failed,
    Item,
    Job,
    Opened,
    Progress,
    Stack,
    assemble,
)
from medseg.napari_plugin.worker.process import Worker
from medseg.napari_plugin.worker.protocol import Options, receive, send
from medseg.napari_plugin.worker.shared import Block, Field
from medseg.napari_plugin.worker.tiles import in_tiles_of
from medseg.networks import build
from medseg.predict import Predictor

LONG = 900.0  # a busy machine imports torch slowly
TORCH = Options(engine="torch", device="cpu")
ALL = Options("torch", "cpu", probabilities=True, uncertainty=True)
RNG = np.random.default_rng(0)


def spots(*shape: int) -> np.ndarray:
    """Return blurred noise: sharp noise is not looked at for the size of cells."""
    return ndimage.uniform_filter(4096 * RNG.random(shape), 3, axes=(-2, -1))


FILM = Image.from_array(spots(1, 21, 17).astype(np.uint16))
VOLUME = Image.from_array(spots(1, 4, 21, 17).astype(np.int16))
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_model(root / "tiny", tiny_spec(), tiny_network())
    spec = tiny_spec(**exclusive())
    network = build("unet", dict(spec.network.arguments)).eval()
    save_model(root / "exclusive", spec, network)
    cells = LabelSet((Label(1, "cell", "#ffffff"),), "instances")
    rule = InstanceRule("components", min_size=1)
    spec = window_spec(labels=cells, decoding=Decoding("instances", instances=rule))
    save_model(root / "cells", spec, tiny_network(3))
    inference = Inference("sliding_window", (8, 8), batch=3, diameter=4.0)
    sized = dataclasses.replace(spec, inference=inference)
    save_model(root / "sized", sized, tiny_network(3))
    save_model(root / "wide", window_spec((256, 128)), tiny_network())
    spec = window_spec((4, 8, 8))
    network = build("unet", dict(spec.network.arguments)).eval()
    save_model(root / "volume", spec, network)
    return root


@pytest.fixture(scope="module")
def tiny(folder: Path) -> str:
    return str(folder / "tiny")


@pytest.fixture(scope="module")
def client() -> Iterator[WorkerClient]:
    client = WorkerClient()
    yield client
    client.close()


@pytest.fixture(autouse=True)
def nothing_left_over() -> Iterator[None]:
    before = segments()
    yield
    # A cancelled job gives its memory back once the worker has answered.
    wait_until(lambda: segments() <= before)


def segments() -> set[str]:
    folder = Path("/dev/shm")
    return {p.name for p in folder.glob("psm_*")} if folder.is_dir() else set()


def wait_until(condition: Any, timeout: float = LONG) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def endless(read: Any = None) -> Stack:
    """Return more films than any test waits for."""
    pixels = FILM.pixels
    return Stack(100_000, pixels.shape, pixels.dtype, read or (lambda i: pixels))


def wait_for_item(job: Any) -> None:
    wait_until(lambda: any(isinstance(e, Item) for e in job.poll()))


# Results


@pytest.mark.parametrize("name", ["tiny", "exclusive", "cells", "sized", "volume"])
@pytest.mark.parametrize("image", [FILM, VOLUME], ids=["film", "volume"])
def test_results_are_the_predictors(
    client: WorkerClient, folder: Path, name: str, image: Image
) -> None:
    if name == "volume" and image is FILM:
        pytest.skip("a film has too few axes")
    model = load_model(folder / name)
    wanted = Predictor(model, engine="torch", device="cpu").predict(
        image, probabilities=True, uncertainty=True
    )
    events = client.predict(image, str(folder / name), ALL).wait(LONG)
    found = assemble(events, image.geometry)
    assert found.mask.dtype == wanted.mask.dtype
    np.testing.assert_array_equal(found.mask, wanted.mask)
    # The two processes may share the sums among another number of threads.
    np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=1e-5)
    np.testing.assert_allclose(found.uncertainty, wanted.uncertainty, atol=1e-5)
    assert found.labels == wanted.labels
    assert dict(found.provenance) == dict(wanted.provenance)


@pytest.mark.slow
def test_the_shipped_model_gives_what_the_command_line_gives(
    client: WorkerClient,
) -> None:
    film = chest_film(np.random.default_rng(4), 300)
    image = Image.from_array(film.image[None])
    wanted = Predictor(load_model("chest-xray")).predict(image)
    events = client.predict(image, "chest-xray").wait(LONG)
    found = assemble(events, image.geometry)
    assert found.mask.any()
    assert found.mask.tobytes() == wanted.mask.tobytes()
    assert dict(found.provenance) == dict(wanted.provenance)


def test_frames_of_a_movie_are_numbered_each_from_1(
    client: WorkerClient, folder: Path
) -> None:
    pixels = VOLUME.pixels
    stack = Stack(4, (1, 21, 17), pixels.dtype, lambda index: pixels[:, index])
    events = client.predict(stack, str(folder / "cells"), TORCH).wait(LONG)
    for item in (e for e in events if isinstance(e, Item)):
        present = np.unique(item.mask)
        np.testing.assert_array_equal(present, np.arange(len(present)))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_all_frames_of_a_movie_have_the_cell_size_of_the_first_ones(
    client: WorkerClient, folder: Path, count: int
) -> None:
    frames = [
        Image.from_array(np.kron(FILM.pixels[0], np.ones((k, k), np.uint16))[None])
        for k in (1, 2, 1, 2, 3)
    ]
    shape = (1, 42, 34)
    frames = [
        Image.from_array(np.resize(f.pixels, shape).astype(np.uint16)) for f in frames
    ][:count]
    predictor = Predictor(load_model(folder / "sized"), engine="torch", device="cpu")
    size = predictor.cell_size(frames[:3])
    stack = Stack(
        count, shape, np.dtype(np.uint16), lambda i: frames[i].pixels, movie=True
    )
    events = client.predict(stack, str(folder / "sized"), TORCH).wait(LONG)
    items = [e for e in events if isinstance(e, Item)]
    assert [e.index for e in items] == list(range(count))
    for frame, item in zip(frames, items, strict=True):
        wanted = predictor.sized(size).predict(frame)
        np.testing.assert_array_equal(item.mask, wanted.mask)
    facts = events[-1].provenance["parameters"]
    assert (facts["diameter"], facts["diameter_from"]) == (size.diameter, size.origin)


def test_the_tile_size_bounds_the_windows(client: WorkerClient, folder: Path) -> None:
    wide = load_model(folder / "wide")
    for side, size in ((0, (256, 128)), (200, (128, 64)), (10, (128, 64))):
        assert in_tiles_of(wide, side).spec.inference.size == size
    assert in_tiles_of(load_model(folder / "tiny"), 64).spec.inference.mode == "resize"
    film = Image.from_array(RNG.integers(0, 4096, (1, 300, 150)).astype(np.uint16))
    options = dataclasses.replace(TORCH, tile_size=150)
    events = client.predict(film, str(folder / "wide"), options).wait(LONG)
    small = Predictor(in_tiles_of(wide, 150), engine="torch", device="cpu")
    found = assemble(events, film.geometry)
    np.testing.assert_array_equal(found.mask, small.predict(film).mask)
    assert found.provenance["parameters"]["size"] == [128, 64]


def test_slices_arrive_one_by_one_with_progress(
    client: WorkerClient, tiny: str
) -> None:
    events = client.predict(VOLUME, tiny, TORCH).wait(LONG)
    assert isinstance(events[0], Opened)
    assert (events[0].engine, events[0].device, events[0].count) == ("torch", "cpu", 4)
    items = [e for e in events if isinstance(e, Item)]
    assert [item.index for item in items] == [0, 1, 2, 3]
    assert items[0].mask.shape == (2, 21, 17)
    assert items[0].probabilities is None
    shares = [e.share for e in events if isinstance(e, Progress)]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert isinstance(events[-1], Done)


def test_jobs_run_in_the_order_of_their_calls(client: WorkerClient, tiny: str) -> None:
    jobs = [client.predict(FILM, tiny, TORCH) for _ in range(3)]
    for job in jobs:
        assert isinstance(job.wait(LONG)[-1], Done)
        assert job.finished
    wait_until(lambda: client.idle)


def test_warm_and_start_run_in_one_process(client: WorkerClient, tiny: str) -> None:
    client.start()
    pid = client.pid
    client.warm(tiny, TORCH)
    client.predict(FILM, tiny, TORCH).wait(LONG)
    assert client.pid == pid
    assert client.devices is not None
    assert client.devices.cpu in ("OpenVINO", "PyTorch")


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling of Linux")
def test_the_worker_does_not_push_napari_aside(client: WorkerClient, tiny: str) -> None:
    client.predict(FILM, tiny, TORCH).wait(LONG)
    assert client.pid is not None
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, client.pid) == min(mine + 10, 19)
    assert os.sched_getscheduler(client.pid) == os.SCHED_BATCH


def test_a_model_that_was_trained_again_is_loaded_again(
    client: WorkerClient, tmp_path: Path
) -> None:
    masks = []
    for seed in (0, 5):
        save_model(tmp_path, tiny_spec(), tiny_network(seed))
        events = client.predict(FILM, str(tmp_path), TORCH).wait(LONG)
        masks.append(assemble(events, FILM.geometry).mask)
    assert (masks[0] != masks[1]).any()


# Errors


def test_a_missing_model_is_one_line(client: WorkerClient, tmp_path: Path) -> None:
    end = client.predict(FILM, str(tmp_path / "none"), TORCH).wait(LONG)[-1]
    assert isinstance(end, Failed)
    assert "no such model" in end.message
    assert not end.crashed
    assert "\n" not in end.message


def test_a_film_for_a_volume_model_is_refused(
    client: WorkerClient, folder: Path
) -> None:
    events = client.predict(FILM, str(folder / "volume"), TORCH).wait(LONG)
    assert isinstance(events[-1], Failed)
    assert "has 2 axes, the model needs 3" in events[-1].message
    with pytest.raises(ConfigError, match="needs 3"):
        assemble(events, FILM.geometry)


def test_an_image_that_cannot_be_read_ends_its_job_only(
    client: WorkerClient, tiny: str
) -> None:
    def read(index: int) -> np.ndarray:
        if index == 3:
            raise OSError("the disk is gone")
        return FILM.pixels

    end = client.predict(endless(read), tiny, TORCH).wait(LONG)[-1]
    assert isinstance(end, Failed)
    assert "OSError: the disk is gone" in end.message
    assert isinstance(client.predict(FILM, tiny, TORCH).wait(LONG)[-1], Done)


def test_too_little_shared_memory_is_said_before_it_is_touched(
    client: WorkerClient, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shared, "disk_usage", lambda path: type("Usage", (), {"free": 100})
    )
    monkeypatch.setattr(shared, "_FOLDER", Path("/"))
    with pytest.raises(DiskError, match="MB are free"):
        Block.create([Field("pixels", (4, 100), "<u2")])
    end = client.predict(FILM, tiny, TORCH).wait(LONG)[-1]
    assert isinstance(end, Failed)
    assert "shared memory" in end.message


def test_waiting_has_an_end(client: WorkerClient, tiny: str) -> None:
    job = client.predict(endless(), tiny, TORCH)
    with pytest.raises(TimeoutError, match="after 0 s"):
        job.wait(0)
    job.cancel()


# Cancel


def test_a_cancel_takes_at_once_and_nothing_follows(
    client: WorkerClient, tiny: str
) -> None:
    job = client.predict(endless(), tiny, TORCH)
    wait_for_item(job)
    pid = client.pid
    start = time.monotonic()
    job.cancel()
    events = job.poll()
    assert time.monotonic() - start < 0.2
    assert isinstance(events[-1], Cancelled)
    wait_until(lambda: client.idle, 2)
    assert job.poll() == []
    assert isinstance(client.predict(FILM, tiny, TORCH).wait(LONG)[-1], Done)
    assert client.pid == pid


def test_a_waiting_job_can_be_cancelled_and_a_finished_one_cannot(
    client: WorkerClient, tiny: str
) -> None:
    first = client.predict(endless(), tiny, TORCH)
    second = client.predict(FILM, tiny, TORCH)
    second.cancel()
    assert [type(e) for e in second.poll()] == [Cancelled]
    first.cancel()
    third = client.predict(FILM, tiny, TORCH)
    assert isinstance(third.wait(LONG)[-1], Done)
    third.cancel()
    assert third.state == "done"
    assert third.poll() == []


def test_progress_is_never_taken_back_nor_timed_too_early() -> None:
    job = Job(1, FILM, "tiny", TORCH, lambda job: None)
    job.tell(Opened(chest_labels(), "torch", "cpu", 12))
    job.tell_progress(0.08, timed=False)
    job.tell_progress(0.0)  # begun again
    job.tell_progress(0.5)
    shares = [(e.share, e.seconds_left is None) for e in job.poll()[1:]]
    assert shares == [(0.08, True), (0.08, False), (0.5, False)]


@posix
def test_a_worker_that_does_not_obey_is_killed_and_replaced(tiny: str) -> None:
    client = WorkerClient(grace=0.2)
    job = client.predict(endless(), tiny, TORCH)
    wait_for_item(job)
    old = client.pid
    assert old is not None
    os.kill(old, signal.SIGSTOP)
    job.cancel()
    assert isinstance(job.poll()[-1], Cancelled)
    wait_until(lambda: client.pid not in (None, old), 10)
    assert client.last_end == ""
    client.close()
    assert client.pid is None


# The end of a process


@posix
def test_a_killed_worker_is_reported_and_replaced(
    client: WorkerClient, tiny: str
) -> None:
    job = client.predict(endless(), tiny, TORCH)
    wait_for_item(job)
    old = client.pid
    assert old is not None
    os.kill(old, signal.SIGKILL)
    end = job.wait(10)[-1]
    assert isinstance(end, Failed)
    assert end.crashed
    assert "killed by SIGKILL, most often for lack of memory" in end.message
    assert "\n" not in end.message
    assert client.last_end.startswith("The worker ended")
    assert isinstance(client.predict(FILM, tiny, TORCH).wait(LONG)[-1], Done)
    assert client.pid != old


def test_a_traceback_of_the_worker_is_shown() -> None:
    code = "import sys; print('half a line', end=''); sys.exit('no torch here')"
    client = WorkerClient(command=(sys.executable, "-P", "-c", code))
    end = client.predict(FILM, "tiny").wait(LONG)[-1]
    assert isinstance(end, Failed)
    assert "exit code 1: no torch here" in end.message


@pytest.mark.parametrize(
    ("code", "tail", "wanted"),
    [
        (1, "", "exit code 1"),
        (3, "a\n\nb\nc\n", "exit code 3: b | c"),
        (-250, "", "killed by signal 250"),
        pytest.param(-11, "\x1b[0m", r"killed by SIGSEGV: \x1b[0m", marks=posix),
    ],
)
def test_the_end_in_words(code: int, tail: str, wanted: str) -> None:
    assert describe_end(code, tail) == wanted


@posix
@pytest.mark.parametrize("how", ["leaves", "killed"])
def test_the_worker_ends_with_its_parent(how: str) -> None:
    # The parent starts a worker, tells its number, and ends without a word to it.
    code = (
        "import os, time, sys\n"
        "from medseg.napari_plugin.worker.child import Child\n"
        "child = Child(); print(child.pid, flush=True)\n"
        + ("os._exit(0)" if how == "leaves" else "time.sleep(99)")
    )
    parent = subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    if how == "killed":
        parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: gone(pid), 60)


def gone(pid: int) -> bool:
    """Return whether a process that is no child of ours has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def test_nothing_is_said_on_the_way_out(tiny: str) -> None:
    # A program that ends in mid-run: no warning, no traceback, nothing left.
    code = (
        "import sys, time, numpy as np\n"
        "from medseg.napari_plugin.worker.client import shared_client\n"
        "from medseg.napari_plugin.worker.job import Item, Stack\n"
        "from medseg.napari_plugin.worker.protocol import Options\n"
        "pixels = np.zeros((1, 21, 17), np.uint16)\n"
        "stack = Stack(100_000, pixels.shape, pixels.dtype, lambda i: pixels)\n"
        "options = Options('torch', 'cpu')\n"
        f"job = shared_client().predict(stack, {tiny!r}, options)\n"
        "while not any(isinstance(e, Item) for e in job.poll()): time.sleep(0.01)\n"
        "assert not {'torch', 'openvino', 'monai'} & set(sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_there_is_one_client_and_making_it_starts_nothing() -> None:
    assert shared_client() is shared_client()
    assert shared_client().pid is None


# Parts


def test_a_message_survives_the_pipe_and_half_a_one_is_none() -> None:
    stream = io.BytesIO()
    send(stream, {"do": "open", "job": 1})
    stream.write(b'{"do": "op')
    stream.seek(0)
    assert receive(stream) == {"do": "open", "job": 1}
    assert receive(stream) is None


def test_a_block_is_seen_from_both_sides_and_outlives_its_name() -> None:
    fields = [Field("a", (3,), "<u2"), Field("b", (2, 2), "<f4")]
    one = Block.create(fields)
    other = Block.attach(one.name, fields)
    one.unlink()
    one.unlink()
    one.arrays["a"][:] = 7, 8, 9
    one.arrays["b"][...] = 0.5
    assert other.arrays["a"].tolist() == [7, 8, 9]
    assert (other.arrays["b"] == 0.5).all()
    one.close()
    assert other.arrays["a"].tolist() == [7, 8, 9]
    other.close()


def test_the_preamble_makes_the_hash_of_slices_that_of_the_volume() -> None:
    stack = Stack.of(VOLUME, 2)
    assert (stack.count, stack.shape) == (4, (1, 21, 17))
    assert stack.preamble() == f"{VOLUME.pixels.dtype.str} {VOLUME.pixels.shape} "
    with pytest.raises(ConfigError, match="needs 3"):
        Stack.of(FILM, 3)


def test_the_worker_passes_over_what_was_cancelled(tmp_path: Path) -> None:
    # A cancel overtakes a start: its memory is gone, and must not be asked for.
    replies = io.BytesIO()
    worker = Worker(io.BytesIO(), replies)
    worker._cancelled = 3
    worker._start(3, blocks=["gone"])
    worker._item(3, index=0, slot=0)
    worker._finish(3)
    assert replies.getvalue() == b""


def test_assembling_what_was_cancelled_is_an_error() -> None:
    with pytest.raises(ConfigError, match="was cancelled"):
        assemble([Cancelled()], Geometry.pixels(2))


def test_a_worker_that_cannot_start_is_said_and_blocks_nothing() -> None:
    client = WorkerClient(command=("/no/such/program",))
    client.warm("chest-xray")
    for _ in range(2):
        job = client.predict(FILM, "chest-xray")
        (event,) = job.poll()
        assert isinstance(event, Failed)
        assert "cannot be started" in event.message
        assert client.idle
    client.close()

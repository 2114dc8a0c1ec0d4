"""The worker: a program that holds models warm and segments what it is handed.

It is run as ``python -P -m medseg.napari_plugin.worker.process`` with a pipe on
either side, and ends when napari does. An error that is no `MedsegError` ends it
with a traceback, which napari shows; the next run starts a new one.
"""

from __future__ import annotations

import hashlib
import os
import queue
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from medseg.errors import MedsegError
from medseg.geometry import Geometry
from medseg.napari_plugin.worker.protocol import Message, Options, receive, send
from medseg.napari_plugin.worker.shared import Block, Field
from medseg.napari_plugin.worker.task import Report, Task
from medseg.napari_plugin.worker.tiles import in_tiles_of
from medseg.schema import to_plain

if TYPE_CHECKING:
    from medseg.predict import Predictor

_KEPT_MODELS = 2
_NICE = 10
_OOM_SCORE = 500
_REPORT_EVERY = 0.05  # seconds


class Cancelled(Exception):  # noqa: N818
    """Ends a prediction between two tiles."""


class Worker:
    """Answers messages one after the other; only a cancel overtakes the others."""

    def __init__(self, requests: IO[bytes], replies: IO[bytes]) -> None:
        self._requests, self._replies = requests, replies
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._cancelled = -1
        self._predictors: OrderedDict[tuple[Any, ...], Predictor] = OrderedDict()
        self._task: Task | None = None

    def serve(self) -> None:
        """Answer until napari ends, which ends this process too."""
        threading.Thread(target=self._listen, daemon=True).start()
        self._say(event="devices", **_devices())
        actions: dict[str, Callable[..., None]] = {
            "open": self._open,
            "start": self._start,
            "item": self._item,
            "finish": self._finish,
            "cancel": self._cancel,
        }
        while True:
            message = self._inbox.get()
            do, job = message.pop("do"), message.pop("job")
            try:
                actions[do](job, **message)
            except Cancelled:
                continue  # the message that caused it is next in the queue
            except MedsegError as error:
                self._close()
                self._say(event="failed", job=job, message=str(error))

    def _listen(self) -> None:
        while (message := receive(self._requests)) is not None:
            if message["do"] == "cancel":
                self._cancelled = message["job"]
            self._inbox.put(message)
        os._exit(0)

    def _say(self, **message: Any) -> None:
        send(self._replies, message)

    def _open(self, job: int, model: str, options: dict[str, Any]) -> None:
        from medseg.batch.track_size import SIZE_FRAMES

        predictor = self._predictor(model, Options(**options))
        spec = predictor.spec
        self._say(
            event="opened",
            job=job,
            labels=to_plain(spec.labels),
            dims=spec.spatial_dims,
            channels=int(spec.network.argument("out_channels")),
            engine=predictor.engine,
            device=predictor.device,
            look=SIZE_FRAMES if predictor.looks_for_size else 0,
            settings=dict(predictor.describe()),
        )

    def _predictor(self, model: str, options: Options) -> Predictor:
        from medseg.model import load_model, model_folder
        from medseg.predict import Predictor

        changed = _changed(model_folder(model))
        mirrors, diameter = options.test_time_augmentation, options.diameter
        tiles = options.tile_size
        key = (model, changed, options.engine, options.device, mirrors, diameter, tiles)
        if key not in self._predictors:
            while len(self._predictors) >= _KEPT_MODELS:
                self._predictors.popitem(last=False)
            self._predictors[key] = Predictor(
                in_tiles_of(load_model(model), tiles),
                engine=options.engine,
                device=options.device,
                test_time_augmentation=mirrors,
                diameter=diameter,
            )
        self._predictors.move_to_end(key)
        return self._predictors[key]

    def _start(self, job: int, **message: Any) -> None:
        if job <= self._cancelled:
            return
        self._close()
        options = Options(**message["options"])
        layout = [
            Field(n, tuple(shape), dtype) for n, shape, dtype in message["layout"]
        ]
        blocks = [Block.attach(name, layout) for name in message["blocks"]]
        predictor = self._predictor(message["model"], options)
        digest = hashlib.sha256(message["preamble"].encode())
        geometry = Geometry.upright(tuple(message["spacing"]), "px")
        number_on = message["number_on"] and predictor.labels.kind == "instances"
        self._task = Task(
            predictor,
            options,
            blocks,
            digest,
            geometry,
            number_on,
            message["look"],
            message["source"],
        )
        self._say(event="started", job=job)

    def _item(self, job: int, index: int, slot: int) -> None:
        if self._task is None or job <= self._cancelled:
            return
        for ready, place in self._task.take(index, slot, self._reporter(job, 0)):
            self._task.run(place, self._reporter(job, ready))
            self._say(event="item", job=job, index=ready, slot=place)

    def _reporter(self, job: int, index: int) -> Report:
        last = 0.0

        def report(done: int, total: int) -> None:
            nonlocal last
            if job <= self._cancelled:
                raise Cancelled
            if time.monotonic() - last > _REPORT_EVERY:
                last = time.monotonic()
                self._say(
                    event="progress", job=job, index=index, done=done, total=total
                )

        return report

    def _finish(self, job: int) -> None:
        if self._task is not None and job > self._cancelled:
            provenance = self._task.provenance()
            self._close()
            self._say(event="done", job=job, provenance=provenance)

    def _cancel(self, job: int) -> None:
        self._close()
        self._say(event="cancelled", job=job)

    def _close(self) -> None:
        if self._task is not None:
            self._task.close()
            self._task = None


def _changed(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Return what changes when a model is trained again."""
    files = sorted(p for p in folder.iterdir() if p.is_file())
    return tuple((p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in files)


def _devices() -> dict[str, str]:
    from torch import cuda

    from medseg.engines import choose

    name = {"openvino": "OpenVINO", "torch": "PyTorch"}[choose("auto", "cpu")[0]]
    gpu = cuda.get_device_name(0) if cuda.is_available() else ""
    return {"cpu": name, "gpu": gpu}


def _step_back() -> None:
    """Let napari go first: at the processor, and when memory runs out."""
    if hasattr(os, "nice"):
        os.nice(_NICE)
    else:  # Windows
        import psutil

        psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
    with suppress(OSError):
        if sys.platform == "linux":  # on waking up, do not push napari aside
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE))


def _watch(parent: int) -> None:
    """End with napari, even if a copy of its pipe lives on in another process."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def main() -> None:
    """Run the worker on this process's standard streams."""
    _step_back()  # before there are threads: they inherit it
    # What a library prints must not end up between the answers.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if hasattr(os, "getppid") and sys.platform != "win32":
        watch = threading.Thread(target=_watch, args=(os.getppid(),), daemon=True)
        watch.start()
    with suppress(BrokenPipeError):  # napari ended while this process was busy
        Worker(sys.stdin.buffer, replies).serve()


if __name__ == "__main__":
    main()

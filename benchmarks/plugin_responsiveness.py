"""Does napari stay usable while a model runs, is cancelled, or is killed?

    xvfb-run -a -s "-screen 0 1280x800x24" python benchmarks/plugin_responsiveness.py

prints one line of JSON. Stalls are the gaps between calls of a timer of 5 ms in
napari's own event loop; ``idle`` has no model running and shows what this machine
does by itself. ``longest_cpu_ms`` is the longest gap counted in the processor time of
that loop's thread: what is left of a stall where other programs do not take its time.
``making_layers`` is to be read beside ``bare_layer``, the same for a layer that napari
adds without the plugin's doing: no result layer can cost less. ``load`` says whether
the machine had anything else to do. ``killed_napari`` is a napari of its own that is
killed amid painting: ``lost_s`` is the age of the oldest stroke that cannot be restored.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PROBE_MS = 5
VOXELS_A_STROKE = 9
# What a running napari has loaded does not count as the plugin's.
IMPORT = """
import sys, time
import napari.viewer, napari.layers, napari.qt, qtpy.QtWidgets
wall, cpu = time.perf_counter(), time.process_time()
import medseg.napari_plugin.widgets.segment, medseg.napari_plugin.widgets.view
print(time.perf_counter() - wall)
print(time.process_time() - cpu)
print(sorted({"torch", "monai", "openvino"} & set(sys.modules)))
"""
# A napari with the Refine widget, in which somebody paints a dot of nine voxels ten
# times a second. It says when.
PAINTING = """
import itertools, time
import napari, numpy as np
from qtpy.QtCore import QTimer
from medseg.napari_plugin.widgets.refine import RefineWidget
viewer = napari.Viewer()
viewer.add_image(np.zeros((32, 512, 512), np.uint8))
layer = viewer.add_labels(np.zeros((32, 512, 512), np.uint8))
viewer.window.add_dock_widget(RefineWidget(viewer), name="Refine")
layer.brush_size = 3
strokes = itertools.count()
def paint():
    stroke = next(strokes)
    z, place = stroke % 32, stroke // 32
    layer.paint((z, 5 + 10 * (place // 50), 5 + 10 * (place % 50)), 1)
    print(time.monotonic(), flush=True)
timer = QTimer()
timer.timeout.connect(paint)
timer.start(100)
napari.run()
"""


class Probe:
    """Notes how late a timer of the event loop is."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._last = self._last_cpu = 0.0
        self.ticks: list[tuple[float, float, float]] = []

    def start(self) -> None:
        self.ticks, self._last = [], time.perf_counter()
        self._last_cpu = time.thread_time()
        self._timer.start(PROBE_MS)

    def stop(self) -> None:
        self._timer.stop()

    def gaps(self, begin: float = 0.0, end: float = np.inf) -> dict[str, float]:
        """Return what was seen between two times."""
        seen = [x for x in self.ticks if begin < x[0] - x[1] and x[0] <= end]
        late, cpu = np.array(seen or [(0.0,) * 3])[:, 1:].T * 1000
        return {
            "longest_ms": round(float(late.max()), 1),
            "longest_cpu_ms": round(float(cpu.max()), 1),
            "p99_ms": round(float(np.percentile(late, 99)), 1),
            "over_50_ms": int((late > 50).sum()),
            "ticks": len(late),
        }

    def _tick(self) -> None:
        now, cpu = time.perf_counter(), time.thread_time()
        self.ticks.append((now, now - self._last, cpu - self._last_cpu))
        self._last, self._last_cpu = now, cpu


def spin(done: Callable[[], bool], seconds: float) -> None:
    """Run the event loop until ``done``."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop, timer = QEventLoop(), QTimer()
    end = time.monotonic() + seconds
    timer.timeout.connect(
        lambda: loop.quit() if done() or time.monotonic() > end else None
    )
    timer.start(2)
    loop.exec()
    timer.stop()
    if not done():
        raise TimeoutError(f"nothing after {seconds:g} s")


def pause(seconds: float) -> None:
    end = time.monotonic() + seconds
    spin(lambda: time.monotonic() > end, seconds + 5)


def import_time() -> dict[str, Any]:
    """Return seconds beyond napari's own import, the best of three processes."""
    walls, cpus = [], []
    for _ in range(3):
        out = subprocess.check_output([sys.executable, "-P", "-c", IMPORT], text=True)
        wall, cpu, heavy = out.splitlines()
        walls.append(float(wall))
        cpus.append(float(cpu))
    best = {"import_s": round(min(walls), 3), "import_cpu_s": round(min(cpus), 3)}
    return {**best, "heavy_modules": heavy}


def films(count: int, size: int) -> np.ndarray:
    from medseg.datasets.synthetic import chest_film

    drawn = [chest_film(np.random.default_rng(i), size).image for i in range(3)]
    return np.stack([drawn[i % 3] for i in range(count)])


def warm_up(widget: Any, arguments: argparse.Namespace) -> None:
    """Let the worker see one film, past the window, which stays as it was."""
    from medseg.geometry import Geometry
    from medseg.image import Image
    from medseg.napari_plugin.worker.job import Done, Event

    film = Image(films(1, arguments.size), Geometry.pixels(2))
    job = widget._client.predict(film, arguments.model, widget._options())
    events: list[Event] = []

    def done() -> bool:
        events.extend(job.poll())
        return Done in map(type, events)

    spin(done, 1800)


def stalls(widget: Any, probe: Probe) -> dict[str, Any]:
    """Segment the whole stack and note the gaps.

    The layers are made before the model is asked to run. Making one is napari's work
    and cannot be cut into pieces.
    """
    viewer = widget._viewer
    idle = watched(probe, lambda: pause(3))
    before = len(viewer.layers)
    start = time.perf_counter()
    probe.start()
    widget.run()
    spin(lambda: not widget._client.idle, 60)
    began, layers = time.perf_counter(), len(viewer.layers) - before
    spin(lambda: not widget.running, 1800)
    probe.stop()
    return {
        "idle": idle,
        "making_layers": {**probe.gaps(end=began), "layers": layers},
        "run": probe.gaps(begin=began),
        "run_s": round(time.perf_counter() - start, 2),
        "bare_layer": watched(probe, lambda: add_layer(viewer)),
    }


def watched(probe: Probe, action: Callable[[], None]) -> dict[str, float]:
    """Return the gaps while ``action`` runs."""
    probe.start()
    action()
    probe.stop()
    return probe.gaps()


def add_layer(viewer: Any) -> None:
    """Add a layer as napari's own button does, and let it be drawn."""
    # It stays: removing layers has crashed the software renderer of a virtual display.
    data = np.zeros(viewer.layers[0].data.shape, np.uint8)
    viewer.add_labels(data)
    pause(0.5)


def cancels(widget: Any, repeats: int) -> dict[str, Any]:
    """Cancel in mid-run: until the widget is free, and until the worker is."""
    client, form = widget._client, widget.form
    # Into the masks that are there: sixty layers would be slow to draw.
    form.existing.setCurrentIndex(form.existing.findData("replace"))
    free, worker = [], []
    for _ in range(repeats):
        widget.run()
        spin(lambda: "Running" in widget.form.message.text(), 900)
        pause(0.3)
        start = time.perf_counter()
        widget.cancel()
        spin(lambda: not widget.running, 60)
        free.append(time.perf_counter() - start)
        spin(lambda: client.idle, 900)
        worker.append(time.perf_counter() - start)
    return {
        "cancel_ms": spread(free),
        "worker_free_ms": spread(worker),
        "cancels": repeats,
    }


def spread(seconds: list[float]) -> dict[str, float]:
    found = np.array(seconds) * 1000
    p95 = float(np.percentile(found, 95))
    return {"median": round(float(np.median(found)), 1), "p95": round(p95, 1)}


def crash(widget: Any, viewer: Any) -> dict[str, Any]:
    """Kill the worker in mid-run; then run again."""
    masks = [x for x in viewer.layers if "lung" in x.name]
    before = [int(x.data.sum()) for x in masks]
    widget.run()
    spin(lambda: "Running" in widget.form.message.text(), 900)
    start = time.perf_counter()
    os.kill(widget._client.pid, signal.SIGKILL)
    spin(lambda: not widget.running, 60)
    noticed = time.perf_counter() - start
    message = widget.form.message.text()
    kept = before == [int(x.data.sum()) for x in masks]
    widget.form.scope.setCurrentIndex(0)
    widget.run()
    spin(lambda: not widget.running, 1800)
    return {
        "noticed_ms": round(noticed * 1000, 1),
        "message": message,
        "masks_kept": kept,
        "next_run": widget.form.message.text(),
        "back_after_s": round(time.perf_counter() - start, 1),
    }


def killed_napari(seconds: float) -> dict[str, Any]:
    """Kill a napari in which somebody paints: how much of the painting is lost?"""
    from medseg.napari_plugin.mask_journal import read_journal

    with tempfile.TemporaryDirectory() as folder:
        with subprocess.Popen(
            [sys.executable, "-P", "-c", PAINTING],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "MEDSEG_STATE": folder},
        ) as run:
            assert run.stdout is not None
            painted = [float(run.stdout.readline())]
            while painted[-1] < painted[0] + seconds:
                painted.append(float(run.stdout.readline()))
            run.kill()
            killed = time.monotonic()
            painted += [float(x) for x in run.stdout if x.endswith("\n")]
        (journal,) = Path(folder).glob("masks/*")
        voxels = int(np.count_nonzero(read_journal(journal).mask))
    kept = min(voxels // VOXELS_A_STROKE, len(painted))
    lost = painted[kept:]
    return {
        "strokes": len(painted),
        "lost_strokes": len(lost),
        "lost_s": round(killed - lost[0], 1) if lost else 0.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=12)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--model", default="chest-xray")
    parser.add_argument("--cancels", type=int, default=10)
    parser.add_argument("--paint-seconds", type=float, default=37)
    arguments = parser.parse_args()
    result: dict[str, Any] = {"load": round(os.getloadavg()[0], 1)}
    result |= {"films": arguments.films, "size": arguments.size}
    result |= import_time()
    result["killed_napari"] = killed_napari(arguments.paint_seconds)

    import napari

    from medseg.napari_plugin.unsaved import keeper_of
    from medseg.napari_plugin.widgets.segment import SegmentWidget

    viewer = napari.Viewer()
    viewer.add_image(films(arguments.films, arguments.size), name="films")
    widget = SegmentWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Segment")
    names = [model.name for model in widget._models]
    widget.form.model.setCurrentIndex(names.index(arguments.model))
    start = time.monotonic()
    spin(lambda: widget._client.devices is not None, 1800)
    result["worker_ready_s"] = round(time.monotonic() - start, 1)
    warm_up(widget, arguments)
    widget.form.scope.setCurrentIndex(2)
    result |= stalls(widget, Probe())
    result |= cancels(widget, arguments.cancels)
    result["crash"] = crash(widget, viewer)
    result["torch_in_napari"] = "torch" in sys.modules
    result["load_end"] = round(os.getloadavg()[0], 1)
    print(json.dumps(result), flush=True)
    keeper_of(viewer).stop(keep=False)  # nobody is there to be asked about the masks
    viewer.close()
    widget._client.close()


if __name__ == "__main__":
    main()

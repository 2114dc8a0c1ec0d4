"""Time the Refine widget's parts and what a kill of napari loses; one JSON line.

    python benchmarks/plugin_refine.py [--clicks 20]

Clicks go through the same path as in the widget (session, one undo step, refresh of
the layer) on a synthetic film, without a window.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from napari.components import ViewerModel
from scipy import ndimage

from medseg.napari_plugin.autosave import MaskWatch
from medseg.napari_plugin.mask_journal import Header, JournalWriter, read_journal
from medseg.napari_plugin.mender import Mender
from medseg.refine.prompts import Point

KILLED = """
import sys
from pathlib import Path
import numpy as np
from napari.components import ViewerModel
from medseg.napari_plugin.autosave import MaskWatch
from medseg.napari_plugin.mask_journal import Header, JournalWriter
layer = ViewerModel().add_labels(np.zeros((8, 256, 256), np.uint8))
head = Header("x", layer.data.shape, "|u1")
watch = MaskWatch(layer, lambda: JournalWriter(Path(sys.argv[1]), head))
for step in range(10_000):
    layer.paint((step % 8, step // 8 % 25 * 10, step // 200 % 25 * 10), 1)
    watch.save()
    print(np.count_nonzero(layer.data), flush=True)
"""


def now() -> np.ndarray:
    """Return the time by the clock, and by the processor for this process alone."""
    return np.array([time.perf_counter(), time.process_time()])


def quantiles(seconds: list[np.ndarray]) -> dict[str, float]:
    """Return median and 95th percentile in ms, by clock and by processor time."""
    wall, cpu = np.array(seconds).T * 1000
    return {
        "median_ms": round(float(np.median(wall)), 1),
        "p95_ms": round(float(np.percentile(wall, 95)), 1),
        "cpu_median_ms": round(float(np.median(cpu)), 1),
        "cpu_p95_ms": round(float(np.percentile(cpu, 95)), 1),
    }


def film(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy picture of an ellipse and its true mask."""
    y, x = np.ogrid[:size, :size]
    truth = ((y / size - 0.5) / 0.35) ** 2 + ((x / size - 0.4) / 0.2) ** 2 <= 1
    noise = np.random.default_rng(0).normal(0, 0.15, (size, size))
    pixels = ndimage.gaussian_filter(truth.astype(float), 2) + noise
    return pixels.astype(np.float32), truth


def clicks(size: int, method: str, count: int) -> dict[str, float]:
    """Return the time from a click to the changed mask."""
    pixels, truth = film(size)
    generator = np.random.default_rng(1)
    viewer = ViewerModel()
    image = viewer.add_image(pixels)
    layer = viewer.add_labels(truth.astype(np.uint8))
    near = np.clip(ndimage.gaussian_filter(truth.astype(np.float32), 4), 0, 1)
    probability = viewer.add_image(near, visible=False)
    mender = Mender(viewer)
    mender.choose(layer, image, probability)
    mender.method = method
    inside = np.argwhere(ndimage.binary_erosion(truth, iterations=size // 12))
    seconds = []
    for _ in range(count + 2):
        centre = inside[generator.integers(len(inside))]
        radius = size // 24
        y, x = np.ogrid[:size, :size]
        hole = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2
        layer.data[hole] = 0  # an error to mend, made behind napari's back
        mender.accept()
        begin = now()
        mender.add(Point(tuple(map(float, centre))))
        seconds.append(now() - begin)
        layer.data[truth] = 1
    mender.close()
    return quantiles(seconds[2:])


def autosave(folder: Path, count: int) -> dict[str, float]:
    """Return the time that saving one stroke takes in a large volume."""
    layer = ViewerModel().add_labels(np.zeros((256, 512, 512), np.int32))
    layer.brush_size = 20
    path = folder / "volume"
    head = Header("x", layer.data.shape, layer.data.dtype.str)
    watch = MaskWatch(layer, lambda: JournalWriter(path, head))
    layer.paint((0, 9, 9), 1)
    watch.save_all()
    generator = np.random.default_rng(2)
    seconds, size = [], path.stat().st_size
    for _ in range(count):
        at = generator.integers((0, 30, 30), (256, 480, 480))
        with layer.block_history():
            for step in range(10):
                layer.paint(tuple(np.add(at, (0, step, step))), 1)
        begin = now()
        watch.save_all()
        seconds.append(now() - begin)
    written = (path.stat().st_size - size) / count
    watch.stop(keep=False)
    return {**quantiles(seconds), "bytes_per_stroke": round(written)}


def killed(folder: Path) -> dict[str, int]:
    """Return how many voxels the journal lacks after SIGKILL amid painting."""
    path = folder / "killed"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        painted = [int(run.stdout.readline()) for _ in range(40)]
        run.kill()
        painted += [int(line) for line in run.stdout if line.endswith("\n")]
    kept = int(np.count_nonzero(read_journal(path).mask))
    return {"painted": painted[-1], "lost": max(0, painted[-1] - kept)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clicks", type=int, default=20)
    parser.add_argument("--skip-kill", action="store_true")
    options = parser.parse_args()
    found: dict[str, object] = {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }
    methods = ("model_guided", "graph_cut", "random_walker", "grow")
    for size in (512, 2048):
        for method in methods:
            name = f"{method}_{size}"
            found[name] = clicks(size, method, options.clicks)
    with tempfile.TemporaryDirectory() as folder:
        found["autosave"] = autosave(Path(folder), options.clicks)
        if not options.skip_kill:
            found["sigkill"] = killed(Path(folder))
    print(json.dumps(found))


if __name__ == "__main__":
    main()

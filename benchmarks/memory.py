"""Memory over many files, and for one very large one.

    python benchmarks/memory.py MODEL [--films 2000] [--side 20000]

Prints one JSON line: growth of the resident memory a file between a tenth of a run
over tiny films and its end, and over its second half alone (a network of some size
takes hundreds of films until the allocator's pools of all threads are full),
descriptors and threads at both, and the peak of a ``medseg predict`` on one ``side x
side`` 16-bit TIFF. Each part has its own process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

LARGE_LIMIT = 1.5e9  # bytes that an image of 20,000 x 20,000 may take
SLOPE_LIMIT = 2048  # bytes a file


def many(model: str, films: int, folder: Path) -> None:
    """Run over tiny films and print what was held early and late."""
    import psutil
    from PIL import Image

    from medseg.batch import Progress, run_batch
    from medseg.batch.load import load_predictor

    rng = np.random.default_rng(0)
    (folder / "in").mkdir(parents=True)
    for i in range(films):
        pixels = rng.integers(0, 255, (64, 64), np.uint8)
        Image.fromarray(pixels).save(folder / "in" / f"{i:06d}.png")
    process = psutil.Process()
    marks: dict[int, tuple[int, int, int]] = {}

    def look(progress: Progress) -> None:
        if progress.done in (films // 10, films // 2, films):
            marks[progress.done] = (
                process.memory_info().rss,
                process.num_fds(),
                process.num_threads(),
            )

    run_batch([folder / "in"], folder / "out", load_predictor([model]), progress=look)
    early, half, late = (marks[k] for k in (films // 10, films // 2, films))
    print(
        json.dumps(
            {
                "films": films,
                "bytes_a_file": round((late[0] - early[0]) / (films - films // 10)),
                "bytes_a_file_late": round((late[0] - half[0]) / (films - films // 2)),
                "descriptors": [early[1], late[1]],
                "threads": [early[2], late[2]],
                "resident_mb": round(late[0] / 1e6),
            }
        )
    )


def large(model: str, side: int, folder: Path) -> dict[str, float]:
    """Segment one large image with the command line; return its peak."""
    import tifffile

    folder.mkdir(parents=True)
    path = folder / "large.tif"
    pixels = tifffile.memmap(path, shape=(side, side), dtype=np.uint16)
    columns = np.linspace(0, 60000, side).astype(np.uint16)
    for y in range(0, side, 1000):
        pixels[y : y + 1000] = np.roll(columns, y)
    pixels.flush()
    del pixels
    command = [sys.executable, "-c", "from medseg.cli import main; main()"]
    words = ["predict", str(path), "-o", str(folder / "out"), "--model", model]
    done = subprocess.run([*command, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {"side": side, "peak_mb": round(peak / 1e6), "of_limit": peak / LARGE_LIMIT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("model")
    parser.add_argument("--films", type=int, default=2000)
    parser.add_argument("--side", type=int, default=20000)
    parser.add_argument("--many", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.many is not None:
        many(args.model, args.films, args.many)
        return
    with tempfile.TemporaryDirectory() as folder:
        one = large(args.model, args.side, Path(folder) / "large")
        words = [args.model, "--films", str(args.films), "--many", f"{folder}/many"]
        run = subprocess.run(
            [sys.executable, os.path.abspath(__file__), *words],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    result = {
        "benchmark": "memory",
        "many": json.loads(run.stdout.splitlines()[-1]),
        "slope_limit_bytes": SLOPE_LIMIT,
        "large": one,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

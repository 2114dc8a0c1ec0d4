"""Memory over many files, and for one very large one.

    python benchmarks/memory.py MODEL [--films 2000] [--side 20000] [--film 16-bit]

Prints one JSON line: growth of the resident memory a file between a tenth of a run
over tiny films and its end, and over its second half alone (a network of some size
takes hundreds of films until the allocator's pools of all threads are full),
descriptors and threads at both, and the peak of a ``medseg predict`` on one ``side x
side`` film: a TIFF of 16 or 8 bits, one of 8 bits packed with LZW, or a PNG of 8 bits.
Each part has its own process. ``--films 0`` leaves the many files out.
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
FILMS = ("16-bit", "8-bit", "lzw", "png")


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


def draw(path: Path, side: int, film: str) -> None:
    """Write a ``side x side`` film."""
    import tifffile
    from PIL import Image

    dtype = np.uint16 if film == "16-bit" else np.uint8
    columns = np.linspace(0, np.iinfo(dtype).max, side).astype(dtype)
    pixels = np.empty((side, side), dtype)
    for y in range(side):
        pixels[y] = np.roll(columns, y // 4)
    if film == "png":
        Image.fromarray(pixels).save(path, compress_level=1)
    else:
        packing = "lzw" if film == "lzw" else None
        tifffile.imwrite(path, pixels, compression=packing, maxworkers=1)


def predict(model: str, side: int, film: str, folder: Path) -> int:
    """Segment a film with the command line; return the largest peak so far, bytes."""
    folder.mkdir(parents=True)
    path = folder / ("film.png" if film == "png" else "film.tif")
    draw(path, side, film)
    command = [sys.executable, "-c", "from medseg.cli import main; main()"]
    words = ["predict", str(path), "-o", str(folder / "out"), "--model", model]
    done = subprocess.run([*command, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def large(model: str, side: int, film: str, folder: Path) -> dict[str, float | str]:
    """Return the peak for one large film, and what a tiny one takes."""
    libraries = predict(model, 64, film, folder / "small")
    peak = predict(model, side, film, folder / "large")
    return {
        "film": film,
        "side": side,
        "libraries_mb": round(libraries / 1e6),
        "peak_mb": round(peak / 1e6),
        "bytes_a_pixel": round((peak - libraries) / side**2, 2),
        "of_limit": peak / LARGE_LIMIT,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("model")
    parser.add_argument("--films", type=int, default=2000)
    parser.add_argument("--side", type=int, default=20000)
    parser.add_argument("--film", choices=FILMS, default=FILMS[0])
    parser.add_argument("--many", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.many is not None:
        many(args.model, args.films, args.many)
        return
    result = {"benchmark": "memory", "slope_limit_bytes": SLOPE_LIMIT}
    with tempfile.TemporaryDirectory() as folder:
        result["large"] = large(args.model, args.side, args.film, Path(folder))
        if args.films:
            words = [args.model, "--films", str(args.films), "--many", f"{folder}/many"]
            run = subprocess.run(
                [sys.executable, os.path.abspath(__file__), *words],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            result["many"] = json.loads(run.stdout.splitlines()[-1])
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""Time of ``medseg track`` against the bare network, and memory over frames.

    python benchmarks/track_movie.py MODEL SEQUENCE [--frames 16]

Prints one JSON line: seconds a frame of the whole command (read, network, instances,
link, fill, write, validate), of the bare network on arrays that are ready, their
ratio, and the peak memory of the command over N and over 4 N frames (the movie
repeated), each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("sequence", type=Path)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--child", type=int, default=0, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        print(json.dumps(one_run(chosen, chosen.child)))
        return
    short, long = (child(chosen, n) for n in (chosen.frames, 4 * chosen.frames))
    print(
        json.dumps(
            {
                "benchmark": "track_movie",
                "model": chosen.model,
                "frames": chosen.frames,
                "shape": short["shape"],
                "engine": short["engine"],
                "threads": short["threads"],
                "track_s_per_frame": short["track"],
                "network_s_per_frame": short["network"],
                "ratio": round(short["track"] / short["network"], 3),
                "peak_mb": short["peak_mb"],
                "peak_mb_4n": long["peak_mb"],
                "memory_ratio": round(long["peak_mb"] / short["peak_mb"], 3),
            }
        )
    )


def child(chosen: argparse.Namespace, frames: int) -> dict[str, Any]:
    command = [sys.executable, __file__, chosen.model, str(chosen.sequence)]
    command += ["--engine", chosen.engine, "--child", str(frames)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def one_run(chosen: argparse.Namespace, frames: int) -> dict[str, Any]:
    """Track ``frames`` frames, then time the network alone on the same ones."""
    from medseg.batch.load import load_predictor
    from medseg.batch.track import track_movie
    from medseg.io.movie import open_movie

    with tempfile.TemporaryDirectory() as folder:
        sequence = repeat(open_movie(chosen.sequence).files, Path(folder), frames)
        predictor = load_predictor((chosen.model,), engine=chosen.engine)
        movie = open_movie(sequence)
        predictor.infer(predictor.prepare(movie.read(0)))  # compiled before the clock
        start = time.perf_counter()
        track_movie(sequence, Path(folder) / "01_RES", predictor)
        track = (time.perf_counter() - start) / frames
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    network = bare(predictor, chosen.sequence)
    return {
        "track": round(track, 4),
        "network": round(network, 4),
        "peak_mb": round(peak),
        "shape": list(movie.shape),
        "engine": predictor.describe()["engine"],
        "threads": predictor.streams,
    }


def repeat(files: tuple[Path, ...], folder: Path, frames: int) -> Path:
    sequence = folder / "01"
    sequence.mkdir()
    for t in range(frames):
        shutil.copy(files[t % len(files)], sequence / f"t{t:03d}.tif")
    return sequence


def bare(predictor: Any, source: Path, rounds: int = 5) -> float:
    """Return the seconds a frame of inference alone, on all streams at once."""
    from concurrent.futures import ThreadPoolExecutor

    from medseg.io.movie import open_movie

    movie = open_movie(source)
    count = max(1, predictor.streams)
    ready = [predictor.prepare(movie.read(i % len(movie))) for i in range(2 * count)]
    times = []
    with ThreadPoolExecutor(count) as pool:
        for _ in range(rounds):
            start = time.perf_counter()
            list(pool.map(predictor.infer, ready))
            times.append((time.perf_counter() - start) / len(ready))
    return sorted(times)[rounds // 2]


if __name__ == "__main__":
    main()

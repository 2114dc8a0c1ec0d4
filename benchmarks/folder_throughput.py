"""A folder of films through medseg, through plain MONAI, and the engine alone.

    python benchmarks/folder_throughput.py FOLDER MODEL [--limit N] [--threads 2]

Prints one JSON line. ``speedup`` is the time of a plain MONAI pipeline (LoadImaged,
EnsureChannelFirstd, the model's own preprocessing, eager torch with the same
weights, sigmoid, Invertd, AsDiscreted, SaveImaged) over that of ``run_batch``, both
in this process with the same threads; ``of_bare`` is the rate of ``run_batch`` over
that of the engine on preloaded arrays. Models are loaded, and each way has done one
film, before its clock starts. medseg also hashes, verifies, journals and measures.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai import transforms as mt
from torch import nn

from medseg.batch import BatchOptions, run_batch
from medseg.batch.load import load_predictor
from medseg.channels import to_channels
from medseg.engines import make_engine
from medseg.io import read_image
from medseg.io.scan import scan
from medseg.model import Model, load_model

KEPT = 16  # films whose network inputs are held for the bare engine


def peak_megabytes() -> float:
    """Return the largest memory that this process has had so far (Linux)."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, 1)


def bare_seconds(model: Model, films: list[Path], threads: int, device: str) -> float:
    """Return the engine's seconds a film on preloaded arrays."""
    engine = make_engine(model, device=device, threads=threads)
    prepare = model.spec.build_preprocessing()
    inputs = []
    for path in films[:KEPT]:
        pixels = to_channels(read_image(path).pixels, model.spec.channels)
        inputs.append(np.asarray(prepare(pixels))[None])
    engine(inputs[0])
    start = time.perf_counter()
    for i in range(len(films)):
        engine(inputs[i % len(inputs)])
    return (time.perf_counter() - start) / len(films)


def medseg_seconds(
    films: list[Path], out: Path, args: argparse.Namespace
) -> tuple[float, dict[str, float]]:
    """Return seconds a film of ``run_batch``, and of each stage over all threads."""
    predictor = load_predictor([args.model], device=args.device, threads=args.threads)
    options = BatchOptions(workers=args.workers, format=args.format)
    run_batch(films[:1], out / "warm", predictor, options)
    start = time.perf_counter()
    summary = run_batch(films, out / "medseg", predictor, options)
    seconds = time.perf_counter() - start
    if summary.failed:
        raise SystemExit(f"{summary}: every film must come out")
    return seconds / len(films), summary.seconds


def plain_pipeline(model: Model, out: Path) -> Callable[[Path], None]:
    """Return what takes one film through plain MONAI transforms and eager torch."""
    steps = [
        getattr(mt, f"{step.name}d")(
            keys="image",
            **({"mode": "area"} if step.name == "Resize" else {})
            | dict(step.arguments),
        )
        for step in model.spec.preprocessing
    ]
    before = mt.Compose(
        [mt.LoadImaged(keys="image"), mt.EnsureChannelFirstd(keys="image"), *steps]
    )
    after = mt.Compose(
        [
            mt.Invertd(keys="pred", transform=before, orig_keys="image"),
            mt.AsDiscreted(keys="pred", threshold=0.5),
            mt.SaveImaged(
                keys="pred",
                output_dir=out,
                output_dtype=np.uint8,
                separate_folder=False,
                print_log=False,
            ),
        ]
    )
    network: nn.Module = model.network

    def run(path: Path) -> None:
        data: Any = before({"image": str(path)})
        with torch.inference_mode():
            data["pred"] = torch.sigmoid(network(data["image"][None]))[0]
        after(data)

    return run


def plain_seconds(model: Model, films: list[Path], out: Path) -> float:
    """Return the plain pipeline's seconds a film."""
    run = plain_pipeline(model, out)
    run(films[0])
    start = time.perf_counter()
    for path in films:
        run(path)
    return (time.perf_counter() - start) / len(films)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("model")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--format", default="same", help="of medseg's masks")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    films = [case.path for case in scan(args.folder).cases][: args.limit]
    model = load_model(args.model)
    with tempfile.TemporaryDirectory() as folder:
        bare = bare_seconds(model, films, args.threads, args.device)
        ours, stages = medseg_seconds(films, Path(folder), args)
        peak = peak_megabytes()
        plain = plain_seconds(model, films, Path(folder) / "plain")
    result = {
        "benchmark": "folder_throughput",
        "films": len(films),
        "model": model.spec.name,
        "threads": args.threads,
        "speedup": round(plain / ours, 2),
        "of_bare": round(bare / ours, 3),
        "seconds_a_film": {
            "medseg": round(ours, 4),
            "plain_monai": round(plain, 4),
            "bare_engine": round(bare, 4),
        },
        "stages_a_film": {k: round(v / len(films), 4) for k, v in stages.items()},
        "peak_mb_before_plain": peak,
        "peak_mb": peak_megabytes(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""Time of a training step in bfloat16 and in float32, in one run.

    python benchmarks/training_step.py --size 512 --batch 4 --threads 2

prints one JSON line: for each network the seconds of a forward and backward pass in
both, and how many times as fast bfloat16 is.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch
from torch import nn

from medseg.engines.torch import channels_last
from medseg.networks import build

NETWORKS = {
    "unet": {"widths": [16, 32, 64, 128, 256]},
    "efficient_unet": {"variant": "lite0", "widths": [32, 48, 64, 96]},
}


def step(network: nn.Module, film: torch.Tensor, *, mixed: bool) -> float:
    """Return the seconds of one forward and backward pass."""
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        logits = network(film)
    logits.float().square().mean().backward()
    return time.perf_counter() - start


def median_step(
    network: nn.Module, film: torch.Tensor, repeats: int, *, mixed: bool
) -> float:
    step(network, film, mixed=mixed)
    times = [step(network, film, mixed=mixed) for _ in range(repeats)]
    return float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    film = torch.rand(arguments.batch, 1, *(arguments.size,) * 2)
    film = film.to(memory_format=torch.channels_last)
    facts = {}
    for name, options in NETWORKS.items():
        network = channels_last(build(name, {"out_channels": 5, **options}))
        exact, fast = (
            median_step(network, film, arguments.repeats, mixed=mixed)
            for mixed in (False, True)
        )
        facts[name] = {
            "float32_s": round(exact, 3),
            "bfloat16_s": round(fast, 3),
            "ratio": round(exact / fast, 2),
        }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()

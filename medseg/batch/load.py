"""Load what a run needs by plain names, here or in a worker elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import psutil

from medseg.batch.job import StagedPredictor
from medseg.errors import ConfigError
from medseg.labels import LabelSet
from medseg.model_files import model_folder, read_labels

EngineName = Literal["auto", "torch", "openvino"]
DeviceName = Literal["auto", "cpu", "cuda"]
MOST_STREAMS = 16


def load_labels(models: Sequence[str]) -> LabelSet:
    """Return the label set of a model, from its spec alone and without torch.

    Raises:
        ModelError: If there is no such model or its spec names no labels.
    """
    return read_labels(model_folder(models[0]))


def load_predictor(
    models: Sequence[str],
    *,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    test_time_augmentation: bool = False,
    threads: int | None = None,
    sha256: str | None = None,
    diameter: float | Literal["auto", "native"] = "auto",
) -> StagedPredictor:
    """Return the predictor of one model, or of several as an ensemble.

    Raises:
        ModelError: If a model is not accepted, or its hash is not ``sha256``.
        ConfigError: If the engine or the device cannot be had, ``sha256`` is given
            with several models, or the diameter suits no model.
    """
    if sha256 is not None and len(models) != 1:
        problem = f"is the hash of one model, {len(models)} are given"
        raise ConfigError("--sha256", problem, "Give one --model, or no hash")
    from medseg.model import load_model
    from medseg.predict import Predictor

    loaded = [load_model(name, sha256=sha256) for name in models]
    return Predictor(
        loaded if len(loaded) > 1 else loaded[0],
        engine=engine,
        device=device,
        test_time_augmentation=test_time_augmentation,
        threads=threads,
        streams=_streams(engine, device, threads),
        diameter=diameter,
    )


def _streams(engine: EngineName, device: DeviceName, threads: int | None) -> int:
    """Return how many films the network works on at the same time.

    On a processor one thread each: a film that waits for its file then leaves no
    thread idle, as all threads on one film would.
    """
    from medseg.engines import choose

    if choose(engine, device)[0] != "openvino":
        return 1
    return min(threads or psutil.cpu_count(logical=False) or 1, MOST_STREAMS)

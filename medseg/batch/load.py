"""Load what a run needs by plain names, here or in a worker elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from medseg.batch.job import StagedPredictor
from medseg.labels import LabelSet


def load_labels(models: Sequence[str]) -> LabelSet:
    """Return the label set of a model, from its spec alone.

    Raises:
        ModelError: If there is no such model or its spec is not accepted.
    """
    from medseg.model import load_spec, model_folder

    return load_spec(model_folder(models[0])).labels


def load_predictor(
    models: Sequence[str],
    *,
    engine: Literal["auto", "torch", "openvino"] = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    test_time_augmentation: bool = False,
    threads: int | None = None,
    sha256: str | None = None,
) -> StagedPredictor:
    """Return the predictor of one model, or of several as an ensemble.

    Raises:
        ModelError: If a model is not accepted, or its hash is not ``sha256``.
        ConfigError: If the engine or the device cannot be had.
    """
    from medseg.model import load_model
    from medseg.predict import Predictor

    loaded = [load_model(name, sha256=sha256) for name in models]
    return Predictor(
        loaded if len(loaded) > 1 else loaded[0],
        engine=engine,
        device=device,
        test_time_augmentation=test_time_augmentation,
        threads=threads,
    )

"""Which model, engine and image a result comes from; errors that name the image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medseg import __version__
from medseg.engines import Engine
from medseg.errors import ConfigError, FileError
from medseg.image import Image
from medseg.model_io import Model
from medseg.schema import to_plain


def describe(models: Sequence[Model], engine: Engine) -> dict[str, Any]:
    """Return what decides a result apart from the image."""
    inference, decoding = models[0].spec.inference, models[0].spec.decoding
    rule = decoding.instances
    rounded = engine.name == "openvino" and engine.precision != "float32"
    exact = inference.exact_layers if rounded else 0
    hashes = [m.sha256 for m in models]
    several = hashlib.sha256("".join(hashes).encode()).hexdigest()
    return {
        "model": " + ".join(m.spec.name for m in models),
        "model_hash": hashes[0] if len(models) == 1 else several,
        "models": [
            {
                "name": m.spec.name,
                "version": m.spec.version,
                "weights_sha256": m.sha256,
            }
            for m in models
        ],
        "versions": {
            "medseg": __version__,
            "torch": torch.__version__,
            "monai": version("monai"),
            **_engine_version(engine),
        },
        "engine": engine.name,
        "device": engine.device,
        "precision": engine.precision,
        "parameters": {
            "mode": inference.mode,
            "size": list(inference.size),
            "overlap": inference.overlap,
            "batch": inference.batch,
            "decoding": decoding.name,
            "thresholds": list(decoding.thresholds),
            **({"instances": to_plain(rule)} if rule is not None else {}),
            **({"exact_layers": exact} if exact else {}),
        },
    }


def _engine_version(engine: Engine) -> dict[str, str]:
    """Return the version of the engine in use; others need not be installed."""
    return {"openvino": version("openvino")} if engine.name == "openvino" else {}


def source(image: Image) -> str:
    """Return what an error calls the image: its file's name."""
    return str(image.meta.get("source", "image"))


def pixel_hash(pixels: NDArray[Any]) -> str:
    """Return the sha256 of dtype, shape and pixels."""
    digest = hashlib.sha256(f"{pixels.dtype.str} {pixels.shape} ".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


@contextmanager
def reported(image: Image) -> Iterator[None]:
    """Report what goes wrong with an image as an error of its file."""
    try:
        yield
    except (ConfigError, FileError) as error:
        raise FileError(source(image), error.problem, error.remedy) from error
    except MemoryError as error:
        remedy = "Use a smaller image or a machine with more memory"
        problem = f"needs more memory than there is ({error})"
        raise FileError(source(image), problem, remedy) from error

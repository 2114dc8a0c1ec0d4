"""Run a network fast: one protocol, one file per engine."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

# As "torch" this name would be replaced by the submodule of engines.
from torch import cuda

from medseg.engines.base import Engine, Precision
from medseg.engines.openvino import OpenVinoEngine, has_bfloat16
from medseg.engines.torch import TorchEngine
from medseg.errors import ConfigError
from medseg.model_io import Model

EngineName = Literal["auto", "torch", "openvino"]
DeviceName = Literal["auto", "cpu", "cuda"]

__all__ = ["DeviceName", "Engine", "EngineName", "Precision", "choose", "make_engine"]


def choose(engine: EngineName = "auto", device: DeviceName = "auto") -> tuple[str, str]:
    """Return the engine and device that will run.

    ``auto`` is torch on a CUDA device if there is one, else OpenVINO on the CPU.

    Raises:
        ConfigError: If what is named is unknown or not there.
    """
    for field, value, known in (
        ("engine", engine, ("auto", "torch", "openvino")),
        ("device", device, ("auto", "cpu", "cuda")),
    ):
        if value not in known:
            raise ConfigError(field, f"is {value!r}", f"Choose from {', '.join(known)}")
    if device == "cuda":
        if engine == "openvino":
            raise ConfigError("engine", "openvino runs on the CPU here", "Use torch")
        if not cuda.is_available():
            problem = "cuda was asked for and torch finds no CUDA device"
            raise ConfigError("device", problem, "Use --device cpu")
        return "torch", "cuda"
    if engine == "openvino" and find_spec("openvino") is None:
        problem = "openvino was asked for and is not installed"
        raise ConfigError("engine", problem, "Install it: pip install openvino")
    if device == "auto" and engine != "openvino" and cuda.is_available():
        return "torch", "cuda"
    if engine == "auto":
        engine = "openvino" if find_spec("openvino") else "torch"
    return engine, "cpu"


def make_engine(
    model: Model,
    *,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    threads: int | None = None,
    precision: Precision | None = None,
    streams: int = 1,
) -> Engine:
    """Return an engine for ``model``.

    Args:
        model: Stays as it is.
        engine: See :func:`choose`.
        device: See :func:`choose`.
        threads: CPU threads of one call; default: all physical cores.
        precision: Default: on a CPU the lowest that the model's spec allows and
            the processor has, on a GPU bfloat16 or float16.
        streams: Calls that OpenVINO works on at the same time.

    Raises:
        ConfigError: If the engine or device is not there, or a number is below 1.
    """
    for field, value in (("threads", threads), ("streams", streams)):
        if value is not None and value < 1:
            raise ConfigError(field, f"is {value}", "Use 1 or more")
    if precision not in (None, "float32", "bfloat16", "float16"):
        known = "float32, bfloat16 or float16"
        raise ConfigError("precision", f"is {precision!r}", f"Use {known}")
    name, where = choose(engine, device)
    if name == "torch":
        return TorchEngine(model.network, where, threads, precision)
    inference = model.spec.inference
    batch = inference.batch if inference.mode == "sliding_window" else 1
    shape = (batch, model.spec.in_channels, *inference.size)
    if precision is None and inference.precision == "bfloat16" and has_bfloat16():
        precision = "bfloat16"
    return OpenVinoEngine(
        model.network, shape, threads, precision, streams, inference.exact_layers
    )

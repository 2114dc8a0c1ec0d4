"""Every engine says the same, and what is not there is said so."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_builders import tiny_network, tiny_spec, window_spec
from torch import nn

from medseg import engines
from medseg.engines import choose, make_engine
from medseg.engines.cut import _depths, cut
from medseg.engines.ladder import Ladder, rungs
from medseg.engines.openvino import (
    OpenVinoEngine,
    convert,
    has_bfloat16,
    import_openvino,
    openvino_core,
)
from medseg.engines.torch import TorchEngine, _gpu_precision
from medseg.errors import ConfigError
from medseg.model import Model
from medseg.model_spec import Inference
from medseg.networks import build

BATCH = np.random.default_rng(0).normal(size=(3, 1, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_spec(), tiny_network(), Path())


@pytest.fixture(scope="module")
def openvino(model: Model) -> OpenVinoEngine:
    return OpenVinoEngine(model.network, (3, 1, 16, 16), threads=1)


def reference(network: nn.Module, batch: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network(torch.from_numpy(batch)).numpy()


def test_torch_is_the_network(model: Model) -> None:
    engine = make_engine(model, engine="torch", device="cpu")
    found = engine(BATCH)
    wanted = reference(model.network, BATCH)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    assert (engine.name, engine.device, engine.precision) == ("torch", "cpu", "float32")
    np.testing.assert_array_equal(engine(BATCH), found)


def test_openvino_equals_torch(model: Model, openvino: OpenVinoEngine) -> None:
    found, wanted = openvino(BATCH), reference(model.network, BATCH)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)
    assert ((found > 0) == (wanted > 0)).mean() >= 0.9999
    np.testing.assert_array_equal(openvino(BATCH), found)


def test_a_smaller_batch_is_filled_up(openvino: OpenVinoEngine) -> None:
    before = set(openvino._compiled)
    np.testing.assert_array_equal(openvino(BATCH[:2]), openvino(BATCH)[:2])
    assert set(openvino._compiled) == before


def test_another_shape_is_compiled_when_it_comes(model: Model) -> None:
    engine = OpenVinoEngine(model.network)
    small = np.ascontiguousarray(BATCH[:1, :, :8])
    wanted = reference(model.network, small)
    np.testing.assert_allclose(engine(small), wanted, rtol=1e-3, atol=1e-5)


def test_results_are_not_overwritten_by_the_next_call(openvino: OpenVinoEngine) -> None:
    first = openvino(BATCH)
    kept = first.copy()
    openvino(BATCH * 2)
    np.testing.assert_array_equal(first, kept)


def test_calls_from_threads_do_not_mix(openvino: OpenVinoEngine) -> None:
    batches = [BATCH * (k + 1) for k in range(8)]
    wanted = [openvino(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(openvino, batches), wanted, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_openvino_takes_max_unpooling() -> None:
    torch.manual_seed(0)
    network = build("segnet", {"in_channels": 1, "out_channels": 2, "width": 0.05})
    batch = np.repeat(np.repeat(BATCH[:1], 2, 2), 2, 3)
    found = OpenVinoEngine(network.eval(), batch.shape, threads=1)(batch)
    wanted = reference(network.eval(), batch)
    np.testing.assert_allclose(found, wanted, rtol=1e-2, atol=1e-4)


def test_openvino_does_not_call_home() -> None:
    openvino = import_openvino()
    assert openvino.tools.ovc.telemetry_utils.tm.__name__.endswith("telemetry_stub")
    assert "openvino_telemetry" not in sys.modules


# What follows engines that are gone, on processors with AMX units above all.
SIGNAL = """
import signal
import numpy as np
from torch import nn
from medseg.engines.openvino import OpenVinoEngine

def engine():
    made = OpenVinoEngine(nn.Conv2d(1, 1, 3).eval(), (1, 1, 8, 8))
    made(np.zeros((1, 1, 8, 8), np.float32))
    return made

signal.signal(signal.SIGINT, lambda *_: print("handled"))
first, second = engine(), engine()
del first
signal.raise_signal(signal.SIGINT)
del second
signal.raise_signal(signal.SIGINT)
"""


def test_a_signal_after_the_last_engine_is_handled() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGNAL], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.split()) == (0, ["handled"] * 2), done.stderr


def test_the_model_stays_as_it_is(model: Model) -> None:
    weight = next(model.network.parameters())
    strides = weight.stride()
    engine = TorchEngine(model.network)
    assert next(model.network.parameters()) is weight
    assert weight.stride() == strides
    assert engine(BATCH).dtype == np.float32


def test_volumes() -> None:
    spec = window_spec((8, 8, 8))
    torch.manual_seed(0)
    network = build("unet", spec.network.arguments).eval()
    model = Model(spec, network, Path())
    batch = np.ascontiguousarray(BATCH[:1, :, :8, :8, None].repeat(8, -1))
    for name in ("torch", "openvino"):
        found = make_engine(model, engine=name, device="cpu", threads=1)(batch)
        wanted = reference(network, batch)
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)


def test_lower_precision_is_close(model: Model) -> None:
    engine = TorchEngine(model.network, precision="bfloat16")
    found, wanted = engine(BATCH), reference(model.network, BATCH)
    assert engine.precision == "bfloat16"
    np.testing.assert_allclose(found, wanted, atol=0.1)


@pytest.mark.parametrize("layers", [1, 3])
def test_no_more_layers_are_cut_off_than_there_are(layers: int) -> None:
    network = build("pixel_classifier", {"in_channels": 1, "out_channels": 2}).eval()
    model = convert(network, BATCH.shape)
    with pytest.raises(ConfigError, match=f"exact_layers: is {layers} .* has 1 on"):
        cut(model, layers)


@pytest.mark.parametrize("layers", [0, 1, 3, 6])
@pytest.mark.parametrize("name", ["unet", "efficient_unet", "segnet"])
def test_two_parts_are_the_whole(name: str, layers: int) -> None:
    torch.manual_seed(0)
    narrow = {} if name == "efficient_unet" else {"width": 0.05}
    if name == "unet":
        narrow = {"widths": (4, 8, 8)}
    network = build(name, {"in_channels": 1, "out_channels": 2, **narrow}).eval()
    batch = np.repeat(np.repeat(BATCH[:2], 2, 2), 2, 3)
    first, rest = cut(convert(network, batch.shape), layers)
    core = openvino_core()
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    between = core.compile_model(first, "CPU", exact)([batch]).values()
    found = core.compile_model(rest, "CPU", exact)(list(between))
    wanted = reference(network, batch)
    np.testing.assert_allclose(found[0], wanted, rtol=1e-3, atol=1e-4)
    depths = _depths(first)
    assert max(depths.values()) == layers


@pytest.mark.skipif(not has_bfloat16(), reason="the processor has no bfloat16 units")
def test_exact_layers_are_not_rounded() -> None:
    # 1000.25 is 1000 in bfloat16, whose neighbours are 4 apart; 0.25 is 0.25.
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)).eval()
    with torch.no_grad():
        for convolution, bias in zip(network, (-1000, 0), strict=True):
            convolution.weight.fill_(1)
            convolution.bias.fill_(bias)
    batch = np.full((1, 1, 8, 8), 1000.25, np.float32)
    rounded = OpenVinoEngine(network, precision="bfloat16")
    assert (rounded(batch) == 0).all()
    for precision, layers in (("bfloat16", 1), ("float32", 0), ("float32", 1)):
        engine = OpenVinoEngine(network, precision=precision, exact_layers=layers)
        assert (engine(batch) == 0.25).all()
        assert engine.precision == precision


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "onnx"}, "engine: is 'onnx'"),
        ({"device": "tpu"}, "device: is 'tpu'"),
        ({"engine": "openvino", "device": "cuda"}, "runs on the CPU"),
        ({"threads": 0}, "threads: is 0"),
        ({"streams": 0}, "streams: is 0"),
        ({"precision": "int4"}, "precision: is 'int4'"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str, model: Model) -> None:
    with pytest.raises(ConfigError, match=message):
        make_engine(model, **options)


def test_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines.cuda, "is_available", lambda: True)
    assert choose() == ("torch", "cuda")
    assert choose("torch") == ("torch", "cuda")
    assert choose("openvino") == ("openvino", "cpu")
    assert choose("auto", "cpu") == ("openvino", "cpu")
    assert choose("auto", "cuda") == ("torch", "cuda")
    assert choose("torch", "cpu") == ("torch", "cpu")
    monkeypatch.setattr(engines.cuda, "is_available", lambda: False)
    assert choose() == ("openvino", "cpu")
    assert choose("torch") == ("torch", "cpu")
    with pytest.raises(ConfigError, match="finds no CUDA device"):
        choose("torch", "cuda")
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert choose() == ("torch", "cpu")
    with pytest.raises(ConfigError, match="not installed"):
        choose("openvino")


def test_the_precision_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert _gpu_precision() == "bfloat16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert _gpu_precision() == "float16"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_labels(model: Model) -> None:
    for precision in ("float32", "bfloat16", "float16"):
        found = TorchEngine(model.network, "cuda", precision=precision)(BATCH)
        np.testing.assert_allclose(found, reference(model.network, BATCH), atol=0.1)


# The ladder


def test_rungs_go_from_batch_to_window_to_cpu() -> None:
    windows = Inference("sliding_window", (256, 512), batch=4)
    assert [str(rung) for rung in rungs(windows, "cuda")] == [
        "batch 4, window 256x512, cuda",
        "batch 2, window 256x512, cuda",
        "batch 1, window 256x512, cuda",
        "batch 1, window 128x256, cuda",
        "batch 1, window 64x128, cuda",
        "batch 1, window 256x512, cpu",
    ]
    whole = Inference("resize", (256, 256), batch=4)
    assert [r.device for r in rungs(whole, "cuda")] == ["cuda", "cpu"]
    assert len(rungs(windows, "cpu")) == 1


def test_a_ladder_only_goes_down_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    ladder = Ladder(Inference("resize", (8, 8)), "cuda")
    assert ladder.fallbacks == ()
    assert ladder.step_down(RuntimeError("Tried to allocate 2 GiB\nlong story"))
    assert ladder.fallbacks == ("batch 1, window 8x8, cpu",)
    assert "Tried to allocate 2 GiB): going on with batch 1" in caplog.text
    assert "long story" not in caplog.text
    assert not ladder.step_down(RuntimeError("again"))
    assert ladder.rung.device == "cpu"

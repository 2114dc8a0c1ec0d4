"""Load and save models: a folder with ``model.json`` and ``weights.safetensors``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from medseg.errors import MedsegError, ModelError
from medseg.io import atomic
from medseg.model_files import (
    MAX_SPEC_BYTES,
    SPEC_NAME,
    model_folder,
    read_bare_file,
    refuse_code,
)
from medseg.model_spec import (
    ModelSpec,
    SelfTest,
    WeightsFile,
    read_spec,
)
from medseg.networks import build
from medseg.schema import MAX_TEXT
from medseg.weights import (
    MAX_TENSORS,
    MAX_WEIGHTS_BYTES,
    Shapes,
    largest_file,
    load_weights,
)

WEIGHTS_NAME = "weights.safetensors"
# At most this many pixels of the self-test's map are kept.
_MAP_PIXELS = 4096
_SELF_TEST_AGREEMENT = 0.999
_RUN = re.compile(r"\d{1,5}\*\d{1,7}")


@dataclass(frozen=True, eq=False)
class Model:
    """A checked model: its spec, its network in evaluation mode, its folder."""

    spec: ModelSpec
    network: nn.Module
    folder: Path

    @property
    def sha256(self) -> str:
        """Hash of the weights file."""
        return self.spec.weights.sha256 if self.spec.weights else ""


def load_spec(folder: Path) -> ModelSpec:
    """Read and check the spec of a model folder.

    Raises:
        ModelError: If it is missing or any check fails.
    """
    data = read_bare_file(folder, SPEC_NAME, MAX_SPEC_BYTES)
    return read_spec(folder / SPEC_NAME, data)


def load_model(name_or_dir: str | Path, *, sha256: str | None = None) -> Model:
    """Load a shipped model by name, or the model in a folder.

    Nothing in the folder is run or imported. The checks, in this order: content by
    first bytes, spec file, schema, weights file and hash, header, tensors, self-test.

    Args:
        name_or_dir: ``"chest-xray"``, or a path.
        sha256: What the weights must hash to. Only this pin proves the origin; the
            hash in the spec proves that the file is whole.

    Returns:
        The model on the CPU in float32, in evaluation mode.

    Raises:
        ModelError: If any check fails.
    """
    folder = model_folder(name_or_dir)
    # First bytes of both files, before either is understood.
    for name in (SPEC_NAME, WEIGHTS_NAME):
        if (folder / name).is_file():
            with (folder / name).open("rb") as stream:
                refuse_code(stream.read(512), folder / name)
    spec = load_spec(folder)
    assert spec.weights is not None  # read_spec has checked
    assert spec.self_test is not None
    network, shapes = _empty_network(spec, folder / SPEC_NAME)
    path = folder / spec.weights.file
    data = read_bare_file(folder, spec.weights.file, largest_file(shapes))
    if sha256 is not None and sha256.lower() != spec.weights.sha256:
        problem = f"the spec names the sha256 {spec.weights.sha256[:12]}..."
        raise ModelError(path, f"{problem}, you asked for {sha256[:12]}...")
    tensors = load_weights(data, shapes, spec.weights.sha256, path)
    network.load_state_dict(tensors, assign=True)
    network.eval().requires_grad_(False)
    _check_self_test(spec, spec.self_test, network, folder / SPEC_NAME)
    return Model(spec, network, folder)


def _empty_network(spec: ModelSpec, path: Path) -> tuple[nn.Module, Shapes]:
    """Return the network without memory behind it, and what its tensors must be."""
    try:
        with torch.device("meta"):
            network = build(spec.network.name, spec.network.arguments)
    except MedsegError as error:
        problem = f"{error.subject} {error.problem}"
        raise ModelError(path, problem, error.remedy) from error
    except (ValueError, KeyError, RuntimeError, ZeroDivisionError) as error:
        problem = f"network.arguments do not make a network ({error})"
        raise ModelError(path, problem) from error
    shapes = {k: (tuple(t.shape), t.dtype) for k, t in network.state_dict().items()}
    size = sum(t.numel() * t.itemsize for t in network.state_dict().values())
    if size > MAX_WEIGHTS_BYTES or len(shapes) > MAX_TENSORS:
        problem = f"describes a network of {size} bytes in {len(shapes)} tensors"
        remedy = f"At most {MAX_WEIGHTS_BYTES} bytes and {MAX_TENSORS} are allowed"
        raise ModelError(path, problem, remedy)
    return network, shapes


def ramp(size: Sequence[int], channels: int) -> Tensor:
    """Return the self-test's image ``(1, C, *size)``: ramps and stripes in [-2, 2]."""
    axes = np.ogrid[tuple(slice(n) for n in size)]
    steps = zip(axes, size, strict=True)
    total = np.zeros(tuple(size), np.int64)
    for i, (axis, n) in enumerate(steps):
        total += (i + 1) * axis * 64 // n
    stripes = (total // 8) % 2 * 16
    values = ((total + stripes) % 128).astype(np.float32) / 32 - 2
    return torch.from_numpy(values)[None, None].repeat(1, channels, *[1] * len(size))


def _self_test_map(
    network: nn.Module, spec: ModelSpec, test: SelfTest
) -> NDArray[np.int64]:
    """Return the channel of the highest logit at the pixels that the test keeps."""
    with torch.inference_mode():
        logits = network(ramp(test.size, spec.in_channels))[0]
    winner = logits.argmax(0) if len(logits) > 1 else (logits[0] > 0).long()
    every = (slice(None, None, test.stride),) * len(test.size)
    return winner[every].numpy()


def _check_self_test(
    spec: ModelSpec, test: SelfTest, network: nn.Module, path: Path
) -> None:
    runs = test.map.split(" ")
    small = all(1 <= n <= 1024 for n in test.size) and np.prod(test.size) <= 2**20
    if not (len(test.size) == spec.spatial_dims and small and 1 <= test.stride <= 1024):
        raise ModelError(path, f"self_test has size {test.size}, stride {test.stride}")
    kept = np.prod([-(-n // test.stride) for n in test.size])
    if not all(_RUN.fullmatch(run) for run in runs) or kept > _MAP_PIXELS:
        raise ModelError(path, f"self_test.map is no map of {kept} pixels")
    pairs = [run.split("*") for run in runs]
    counts = [int(count) for _, count in pairs]
    if sum(counts) != kept:
        raise ModelError(path, f"self_test.map has {sum(counts)} pixels, not {kept}")
    wanted = np.repeat([int(value) for value, _ in pairs], counts)
    try:
        found = _self_test_map(network, spec, test).ravel()
    except RuntimeError as error:
        problem = f"the network refuses the self-test's image ({error})"
        raise ModelError(path, problem) from error
    agreement = float((found == wanted).mean())
    if agreement < _SELF_TEST_AGREEMENT:
        problem = f"self-test agrees in {agreement:.2%} of pixels, 99.9% are needed"
        raise ModelError(path, problem, "Weights and spec do not belong together")


def _make_self_test(
    network: nn.Module, spec: ModelSpec, size: Sequence[int]
) -> SelfTest:
    """Return the test with as many pixels as a spec has room for."""
    stride, text = 1, ""
    while not text or len(text) > MAX_TEXT:
        while np.prod([-(-n // stride) for n in size]) > _MAP_PIXELS:
            stride += 1
        test = SelfTest(tuple(size), stride, "")
        values = _self_test_map(network, spec, test).ravel().tolist()
        text = " ".join(f"{v}*{len(list(group))}" for v, group in groupby(values))
        stride += 1
    return replace(test, map=text)


def save_model(
    folder: str | Path,
    spec: ModelSpec,
    network: nn.Module,
    *,
    dtype: Literal["float32", "float16"] = "float32",
    self_test_size: Sequence[int] | None = None,
) -> ModelSpec:
    """Write weights and spec into ``folder``, each atomically.

    Args:
        folder: Made if missing.
        spec: ``weights`` and ``self_test`` are replaced.
        network: Is left as it is.
        dtype: How floats are stored; float16 halves the file.
        self_test_size: Of the test image; by default that of the inference, at most
            64 along each axis (32 in 3-D). Networks of a fixed size need their own.

    Returns:
        The spec as written.

    Raises:
        ModelError: If the network is not the one that the spec describes, or its
            weights are not finite in ``dtype``.
    """
    folder = Path(folder)
    stored = _stored(network, dtype)
    data = save(stored)
    weights = WeightsFile(WEIGHTS_NAME, hashlib.sha256(data).hexdigest())
    fresh, shapes = _empty_network(spec, folder / SPEC_NAME)
    path = folder / WEIGHTS_NAME
    fresh.load_state_dict(load_weights(data, shapes, weights.sha256, path), assign=True)
    longest = 64 if spec.spatial_dims == 2 else 32
    size = self_test_size or [min(n, longest) for n in spec.inference.size]
    test = _make_self_test(fresh.eval(), spec, size)
    spec = replace(spec, weights=weights, self_test=test)
    text = spec.to_json().encode()
    read_spec(folder / SPEC_NAME, text)  # what is written can be read
    # Weights first: a spec beside older weights would be refused by their hash.
    atomic.write_bytes(path, data)
    atomic.write_bytes(folder / SPEC_NAME, text)
    return spec


def _stored(
    network: nn.Module, dtype: Literal["float32", "float16"]
) -> dict[str, Tensor]:
    kind = {"float32": torch.float32, "float16": torch.float16}[dtype]
    tensors = {}
    for name, tensor in network.state_dict().items():
        copied = tensor.detach().cpu().clone().contiguous()
        tensors[name] = copied.to(kind) if copied.is_floating_point() else copied
    return tensors

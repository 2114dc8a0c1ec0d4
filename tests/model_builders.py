"""Tiny models: real ones on disk, and ones whose network is any function."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medseg.instances import InstanceRule
from medseg.labels import Label, LabelSet
from medseg.model import Model, ModelSpec
from medseg.model_spec import Decoding, Inference, Network
from medseg.networks import build
from medseg.transforms import Step

LUNGS = (Label(1, "right_lung", "#4c9be8"), Label(2, "left_lung", "#2f6fb5"))
ARGUMENTS = {"in_channels": 1, "out_channels": 2, "widths": [2, 4]}


def tiny_spec(**changes: Any) -> ModelSpec:
    """Return a spec of two overlapping lungs at 16 x 16."""
    fields: dict[str, Any] = {
        "name": "tiny",
        "network": Network("unet", ARGUMENTS),
        "labels": LabelSet(LUNGS, "overlapping"),
        "preprocessing": (
            Step("Resize", {"spatial_size": [16, 16]}),
            Step("NormalizeIntensity"),
        ),
        "inference": Inference("resize", (16, 16)),
        "decoding": Decoding("threshold"),
    }
    return ModelSpec(**{**fields, **changes})


def window_spec(window: tuple[int, ...] = (8, 8), **changes: Any) -> ModelSpec:
    """Return a spec that slides a window and leaves intensities as they are."""
    arguments = {**ARGUMENTS, "spatial_dims": len(window)}
    fields: dict[str, Any] = {
        "network": Network("unet", arguments),
        "preprocessing": (),
        "inference": Inference("sliding_window", window, batch=3),
    }
    return tiny_spec(**{**fields, **changes})


def exclusive(**changes: Any) -> dict[str, Any]:
    """Return the fields that make a spec exclusive: background and two lungs."""
    return {
        "labels": LabelSet(LUNGS, "exclusive"),
        "network": Network("unet", {**ARGUMENTS, "out_channels": 3, **changes}),
        "decoding": Decoding("argmax"),
    }


def cells() -> dict[str, Any]:
    """Return the fields that make a spec one of cells, parted as components."""
    rule = InstanceRule("components")
    return {
        "labels": LabelSet((Label(1, "cell", "#4c9be8"),), "instances"),
        "network": Network("unet", {**ARGUMENTS, "out_channels": rule.channels}),
        "preprocessing": (Step("NormalizeIntensity"),),
        "inference": Inference("sliding_window", (32, 32), batch=2),
        "decoding": Decoding("instances", instances=rule),
    }


def tiny_network(seed: int = 0) -> nn.Module:
    """Return the network of :func:`tiny_spec` with random weights."""
    torch.manual_seed(seed)
    return build("unet", ARGUMENTS).eval()


class Function(nn.Module):
    """A network that is a function of its input."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def function_model(spec: ModelSpec, function: Callable[[Tensor], Tensor]) -> Model:
    """Return a model that computes ``function``."""
    return Model(spec, Function(function), Path())


def safetensors_bytes(header: Mapping[str, Any] | bytes, data: bytes) -> bytes:
    """Return a file with this header, true or not, and these bytes behind it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data

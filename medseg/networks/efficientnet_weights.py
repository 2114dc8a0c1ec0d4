"""Start a network from EfficientNet-Lite weights that the user has."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from torch import Tensor, nn

from medseg.errors import ConfigError, FileError
from medseg.networks.efficientnet import EfficientNetLite, InvertedResidual
from medseg.networks.user_weights import read_weights

_NORM = ("weight", "bias", "running_mean", "running_var")
# Convolution and normalisation of a block, last first: the first may be missing.
_LAYERS = (
    ("_project_conv", "_bn2"),
    ("_depthwise_conv", "_bn1"),
    ("_expand_conv", "_bn0"),
)


def load_efficientnet(network: nn.Module, path: str | Path) -> tuple[str, ...]:
    """Start the encoder of a network from EfficientNet-Lite weights.

    Reads the names of the packages ``efficientnet_pytorch`` and
    ``efficientnet_lite_pytorch`` from a safetensors file (``_conv_stem.weight``,
    ``_blocks.0._depthwise_conv.weight``, ...); the head is left out. A network with
    one input channel gets the sum of the first kernels over the colours, so that a
    grey image gives what it gives when repeated three times.

    Returns:
        The names of the parameters and buffers of ``network`` that were set.

    Raises:
        FileError: If the file is no safetensors file or lacks a tensor.
        ConfigError: If the network has no such encoder, or one of another variant.
    """
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, EfficientNetLite):
        raise ConfigError(
            "network",
            f"{type(network).__name__} has no EfficientNet-Lite encoder",
            "Use efficient_unet",
        )
    path = Path(path)
    weights = read_weights(path)
    state, found = encoder.state_dict(), {}
    for ours, theirs in _names(encoder).items():
        if theirs not in weights:
            remedy = "Give the weights of an EfficientNet-Lite"
            raise FileError(path, f"has no {theirs}", remedy)
        found[ours] = weights[theirs]
    first = "stem.0.weight"
    if state[first].shape[1] == 1:
        found[first] = found[first].sum(1, keepdim=True)
    _check_shapes(state, found, path)
    encoder.load_state_dict({**state, **found})
    return tuple(f"encoder.{name}" for name in found)


def _names(encoder: EfficientNetLite) -> dict[str, str]:
    """Return the published name of every parameter and statistic of the encoder."""
    names = _layer_names("stem", "_conv_stem", "_bn0")
    number = 0
    for k, stage in enumerate(encoder.stages):
        for j, block in enumerate(cast("nn.Sequential", stage)):
            last = len(cast("InvertedResidual", block).layers) - 1
            for after, (conv, norm) in enumerate(_LAYERS[: last + 1]):
                names |= _layer_names(
                    f"stages.{k}.{j}.layers.{last - after}",
                    f"_blocks.{number}.{conv}",
                    f"_blocks.{number}.{norm}",
                )
            number += 1
    return names


def _layer_names(ours: str, conv: str, norm: str) -> dict[str, str]:
    names = {f"{ours}.0.weight": f"{conv}.weight"}
    return names | {f"{ours}.1.{name}": f"{norm}.{name}" for name in _NORM}


def _check_shapes(
    state: dict[str, Tensor], found: dict[str, Tensor], path: Path
) -> None:
    for name, value in found.items():
        if state[name].shape != value.shape:
            raise ConfigError(
                "network.variant",
                f"encoder.{name} is {tuple(state[name].shape)}, in {path.name} "
                f"{tuple(value.shape)}",
                "Name the variant that the file holds",
            )

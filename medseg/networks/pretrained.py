"""Start a network from weights learnt on photographs, which the user has."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from medseg.errors import ConfigError
from medseg.networks.efficientnet import EfficientNetLite
from medseg.networks.efficientnet_weights import load_efficientnet
from medseg.networks.vgg16 import VGGEncoder
from medseg.networks.vgg16_weights import load_vgg16

_LOADERS = {VGGEncoder: load_vgg16, EfficientNetLite: load_efficientnet}


def load_pretrained(network: nn.Module, path: str | Path) -> tuple[str, ...]:
    """Start a network from the weights that its kind of encoder can read.

    Returns:
        The names of the parameters and buffers of ``network`` that were set.

    Raises:
        ConfigError: If no weights are known for its encoder, or they do not fit.
        FileError: If the file cannot be read or lacks a tensor.
    """
    for kind, load in _LOADERS.items():
        if isinstance(getattr(network, "encoder", None), kind):
            return load(network, path)
    raise ConfigError(
        "network.pretrained",
        f"{type(network).__name__} has no encoder that weights are known for",
        "Use deconvnet, segnet, fcn or efficient_unet, or leave it out",
    )

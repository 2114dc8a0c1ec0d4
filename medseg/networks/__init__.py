"""The networks, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from medseg.errors import ConfigError
from medseg.networks.unet import UNet

NETWORKS: dict[str, type[nn.Module]] = {
    "unet": UNet,
}


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Return the network ``name`` with random weights.

    Raises:
        ConfigError: If the name or an argument is unknown; lists the choices.
    """
    if name not in NETWORKS:
        choices = ", ".join(sorted(NETWORKS))
        raise ConfigError("network.name", f"no network {name!r}", f"Choose {choices}")
    try:
        return NETWORKS[name](**arguments)
    except TypeError as error:
        raise ConfigError("network.arguments", str(error)) from error

"""The networks, by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from medseg.errors import ConfigError
from medseg.networks.autoencoder import Autoencoder
from medseg.networks.deconvnet import DeconvNet
from medseg.networks.deeplab import DeepLab
from medseg.networks.efficient_unet import EfficientUNet
from medseg.networks.fcn import FCN
from medseg.networks.fcn_alexnet import FCNAlexNet
from medseg.networks.fcn_convt_skip import FCNConvTSkip
from medseg.networks.fcn_flat import FCNFlat
from medseg.networks.fcn_skip import FCNSkip
from medseg.networks.fcn_upscaling import FCNUpscaling
from medseg.networks.fpn import FPN
from medseg.networks.linknet import LinkNet
from medseg.networks.pixel_classifier import PixelClassifier
from medseg.networks.pspnet import PSPNet
from medseg.networks.scene_labelling import SceneLabelling
from medseg.networks.segnet import SegNet
from medseg.networks.sliding_window import SlidingWindow
from medseg.networks.unet import UNet
from medseg.networks.unet_2015 import UNet2015

NETWORKS: dict[str, type[nn.Module]] = {
    "unet": UNet,
    "unet_2015": UNet2015,
    "deconvnet": DeconvNet,
    "segnet": SegNet,
    "fcn": FCN,
    "fcn_alexnet": FCNAlexNet,
    "fcn_flat": FCNFlat,
    "fcn_upscaling": FCNUpscaling,
    "fcn_skip": FCNSkip,
    "fcn_convt_skip": FCNConvTSkip,
    "sliding_window": SlidingWindow,
    "pixel_classifier": PixelClassifier,
    "scene_labelling": SceneLabelling,
    "linknet": LinkNet,
    "pspnet": PSPNet,
    "fpn": FPN,
    "deeplab": DeepLab,
    "efficient_unet": EfficientUNet,
    "autoencoder": Autoencoder,
}


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Return the network ``name`` with random weights.

    Raises:
        ConfigError: If the name or an argument is unknown; lists the choices.
    """
    if name not in NETWORKS:
        choices = ", ".join(sorted(NETWORKS))
        raise ConfigError("network.name", f"no network {name!r}", f"Choose {choices}")
    known = list(inspect.signature(NETWORKS[name]).parameters)
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise ConfigError(
            "network.arguments",
            f"{name} has no argument {', '.join(unknown)}",
            f"Choose {', '.join(known)}",
        )
    try:
        network: nn.Module = NETWORKS[name](**arguments)
    # What torch says to a negative width, a list without one, a stride of 0.
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError) as error:
        raise ConfigError("network.arguments", str(error)) from error
    empty = next((key for key, x in network.named_parameters() if not x.numel()), None)
    if empty is not None:
        problem = f"leave {name} a layer without weights ({empty})"
        raise ConfigError("network.arguments", problem, "Use widths and sizes above 0")
    return network

"""The encoder of EfficientNet-Lite, with the published shape of each variant."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg.errors import ConfigError

Variant = Literal["lite0", "lite1", "lite2", "lite3", "lite4"]

# Factors on widths and on repeats.
_SCALES = {
    "lite0": (1.0, 1.0),
    "lite1": (1.0, 1.1),
    "lite2": (1.1, 1.2),
    "lite3": (1.2, 1.4),
    "lite4": (1.4, 1.8),
}
# Repeats, kernel, stride, expansion and channels of each stage.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM = 32


class DepthwiseConv(nn.Conv2d):
    """Convolution of each channel by itself, in float32 on a CPU under autocast.

    There its gradient in bfloat16 takes several times as long, and is what training
    then spends most of its time on.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the filtered maps."""
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())


class ConvNorm(nn.Sequential):
    """Convolution padded as TensorFlow pads (``same``), batch norm, clipped ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        *,
        active: bool = True,
    ) -> None:
        convolution = nn.Conv2d if groups == 1 else DepthwiseConv
        super().__init__(
            convolution(inputs, outputs, kernel, stride, groups=groups, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
            nn.ReLU6(inplace=True) if active else nn.Identity(),
        )
        # Even sizes at stride 2 get one zero less before than after.
        self.pad = ((kernel - stride) // 2, (kernel - 1) // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the size of ``x``, halved (even sizes) by stride 2."""
        return super().forward(F.pad(x, self.pad * 2))


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; add the input where shapes agree."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        wide = inputs * expansion
        expand = [ConvNorm(inputs, wide, 1)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            ConvNorm(wide, wide, kernel, stride, groups=wide),
            ConvNorm(wide, outputs, 1, active=False),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's maps."""
        y = self.layers(x)
        return x + y if self.adds else y


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite without its head (Tan, Le 2019; Lite variants, Google 2020).

    EfficientNet without squeeze-and-excitation and with clipped ReLU, which makes it
    fast on CPUs. lite0 has 3,002,896 parameters and buffers for RGB.

    Attributes:
        widths: Channels of the maps that it returns.

    Raises:
        ConfigError: If there is no such variant.
    """

    def __init__(self, in_channels: int = 1, variant: Variant = "lite0") -> None:
        super().__init__()
        if variant not in _SCALES:
            choices = ", ".join(_SCALES)
            raise ConfigError("network.variant", f"is {variant!r}", f"Use {choices}")
        width, depth = _SCALES[variant]
        self.stem = ConvNorm(in_channels, _STEM, 3, 2)
        stages, inputs, outputs = [], _STEM, []
        for number, (repeats, kernel, stride, expansion, channels) in enumerate(
            _STAGES
        ):
            channels = _rounded(channels * width)
            # The Lite variants leave first and last stage as they are.
            if 0 < number < len(_STAGES) - 1:
                repeats = math.ceil(repeats * depth)
            blocks = []
            for k in range(repeats):
                step = stride if k == 0 else 1
                blocks.append(
                    InvertedResidual(inputs, channels, kernel, step, expansion)
                )
                inputs = channels
            stages.append(nn.Sequential(*blocks))
            outputs.append(channels)
        self.stages = nn.ModuleList(stages)
        # The last stage of each size.
        self.kept = (0, 1, 2, 4, 6)
        self.widths = tuple(outputs[k] for k in self.kept)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return five maps, of 1/2, 1/4, 1/8, 1/16 and 1/32 of the size of ``x``."""
        x, maps = self.stem(x), []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in self.kept:
                maps.append(x)
        return maps


def _rounded(width: float) -> int:
    """Return the multiple of 8 nearest to ``width``, at least 90 % of it."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * width else nearest

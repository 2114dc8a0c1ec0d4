"""Feature pyramid network: coarse knowledge added to fine maps, level by level."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from medseg.networks.blocks import scale_widths
from medseg.networks.padding import AnySize
from medseg.networks.resnet import ResNetEncoder, ResNetNorm
from medseg.networks.upsample import resize

LATERAL = 256


class TopDown(nn.Module):
    """Lateral 1 x 1 convolutions, and from the top down: nearest x 2, add.

    Args:
        widths: Channels of the encoder's maps, finest first.
        channels: Channels of every level of the pyramid.
        dims: 2 or 3.
    """

    def __init__(self, widths: Sequence[int], channels: int, dims: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, dims]
        self.laterals = nn.ModuleList(conv(w, channels, 1) for w in widths)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the levels, finest first; the top one is its lateral."""
        levels: list[Tensor] = []
        for lateral, x in zip(reversed(self.laterals), reversed(maps), strict=True):
            level = lateral(x)
            if levels:
                level = level + F.interpolate(levels[0], scale_factor=2.0)
            levels.insert(0, level)
        return levels


class FPN(AnySize):
    """Feature pyramid network (Lin 2016) on ResNet-18 with a segmentation head.

    Each level is smoothed by 3 x 3; the head brings all to the finest size, 1/4,
    adds them and scores every pixel. Any input size: mirrored to a multiple of 32
    and cropped back.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        width: Factor on all widths.
        norm: ``"batch"`` or ``"instance"``.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: If an argument cannot be.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        width: float = 1.0,
        norm: ResNetNorm = "batch",
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        dims = spatial_dims
        self.encoder = ResNetEncoder(in_channels, width, norm, dims)
        (channels,) = scale_widths((LATERAL,), width)
        widths = self.encoder.widths
        self.top_down = TopDown(widths, channels, dims)
        conv = Conv[Conv.CONV, dims]
        self.smooth = nn.ModuleList(
            conv(channels, channels, 3, padding=1) for _ in widths
        )
        self.head = conv(channels, out_channels, 1)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits for images whose size :attr:`multiple` divides."""
        levels = self.top_down(self.encoder(x))
        smooth = [s(level) for s, level in zip(self.smooth, levels, strict=True)]
        finest = smooth[0]
        for level in smooth[1:]:
            finest = finest + resize(level, finest.shape[2:])
        return resize(self.head(finest), x.shape[2:])

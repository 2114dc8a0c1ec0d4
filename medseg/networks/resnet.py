"""The ResNet-18 encoder of LinkNet, PSPNet, FPN and DeepLab."""

from __future__ import annotations

from typing import Literal

from monai.networks.nets.resnet import ResNet, ResNetBlock
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.networks.blocks import check_dims, normalisation, scale_widths

ResNetNorm = Literal["batch", "instance"]
RESNET_WIDTHS = (64, 128, 256, 512)


class ResNetEncoder(nn.Module):
    """ResNet-18 (He 2015) without its classifier, from MONAI.

    Args:
        in_channels: Channels of the image.
        width: Factor on the published widths (64, 128, 256, 512).
        norm: ``"batch"``; or ``"instance"``, with group norm in the last stage where
            ``step`` is 32: its map may be one pixel large.
        spatial_dims: 2 or 3.
        step: Pixels of the image a pixel of the last map: 32, or 16 or 8, where
            the last one or two stages have convolutions with holes instead.

    Raises:
        ConfigError: If an argument cannot be.
    """

    def __init__(
        self,
        in_channels: int,
        width: float,
        norm: ResNetNorm,
        spatial_dims: int,
        step: Literal[32, 16, 8] = 32,
    ) -> None:
        super().__init__()
        check_dims(spatial_dims)
        if norm not in ("batch", "instance"):
            raise ConfigError("network.norm", f"is {norm!r}", "Use batch or instance")
        if step not in (32, 16, 8):
            raise ConfigError("network.step", f"is {step}", "Use 32, 16 or 8")
        self.widths = scale_widths(RESNET_WIDTHS, width)
        net = ResNet(
            ResNetBlock,
            [2, 2, 2, 2],
            list(self.widths),
            spatial_dims=spatial_dims,
            n_input_channels=in_channels,
            conv1_t_size=7,
            conv1_t_stride=2,
            bias_downsample=False,
            feed_forward=False,
        )
        self.stem = nn.Sequential(net.conv1, net.bn1, net.act)
        self.pool = net.maxpool
        self.stages = nn.ModuleList([net.layer1, net.layer2, net.layer3, net.layer4])
        for stage, rate in {32: (), 16: ((3, 2),), 8: ((2, 2), (3, 4))}[step]:
            make_holes(self.stages[stage], rate)
        if norm == "instance":  # MONAI would give it to the stem alone
            for part in (self.stem, *self.stages):
                # Images are multiples of 32, so the last map may be one pixel.
                point = step == 32 and part is self.stages[-1]
                _normalise_each_image(part, spatial_dims, point)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps of the four stages: 1/4, 1/8, 1/16, 1/32 of the size."""
        x = self.pool(self.stem(x))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def _normalise_each_image(part: nn.Module, dims: int, point: bool) -> None:
    """Put instance norm in the place of batch norm; ``point`` as `normalisation`."""
    for parent in part.modules():
        for name, layer in parent.named_children():
            if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
                channels = layer.num_features
                own = normalisation("instance", dims, channels, point=point)
                setattr(parent, name, own)


def make_holes(stage: nn.Module, rate: int) -> None:
    """Give the convolutions of a stage holes in place of its stride.

    The parameters stay, and a stage that had stride 2 sees as much as before.
    """
    for module in stage.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            dims = len(module.kernel_size)
            module.stride = (1,) * dims
            if module.kernel_size[0] > 1:
                module.dilation = (rate,) * dims
                module.padding = (rate,) * dims

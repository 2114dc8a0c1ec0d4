"""Three times convolution, ReLU, pool 2: the encoder of the lecture networks."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.layers.factories import Act, Conv, Pool
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.networks.blocks import check_dims, convolution


class PooledConvs(nn.Module):
    """Convolution, ReLU and max pooling of 2, once a kernel.

    Args:
        in_channels: Channels of the image.
        widths: Channels of each convolution.
        kernels: Size of each; ``(3, 4, 4)`` and ``(3, 3, 3)`` are both printed.
        spatial_dims: 2 or 3.
        padded: Convolutions keep the size; False: they shrink it.

    Raises:
        ConfigError: If there are not as many kernels as widths.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        kernels: Sequence[int],
        spatial_dims: int,
        padded: bool = True,
    ) -> None:
        super().__init__()
        check_dims(spatial_dims)
        if len(widths) != len(kernels) or not widths:
            raise ConfigError(
                "network.kernels",
                f"has {len(kernels)} entries for {len(widths)} widths",
                "Give one kernel a width",
            )
        self.multiple = 2 ** len(widths)
        inputs = (in_channels, *widths[:-1])
        conv = convolution if padded else _shrinking
        self.blocks = nn.ModuleList(
            nn.Sequential(conv(spatial_dims, i, o, k), Act["relu"](inplace=True))
            for i, o, k in zip(inputs, widths, kernels, strict=True)
        )
        self.pool = Pool[Pool.MAX, spatial_dims](2)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the last pooled map, and each map before its pooling."""
        maps = []
        for block in self.blocks:
            maps.append(block(x))
            x = self.pool(maps[-1])
        return x, maps


def _shrinking(dims: int, inputs: int, outputs: int, kernel: int) -> nn.Module:
    return Conv[Conv.CONV, dims](inputs, outputs, kernel)

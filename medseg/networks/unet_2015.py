"""The U-Net as published: valid convolutions, the output smaller than the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.networks.layers.factories import Act, Conv, Pool
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.networks.blocks import check_dims
from medseg.networks.padding import crop_to, mirror_pad


@dataclass(frozen=True)
class LevelSizes:
    """Sizes on one axis: before each pool, at the bottom, after each up block."""

    down: tuple[int, ...]
    bottom: int
    up: tuple[int, ...]


def level_sizes(size: int, depth: int = 4) -> LevelSizes | None:
    """Return the sizes inside a valid U-Net, or None where ``size`` does not fit.

    A size fits if every pool meets an even one and the output is not empty; with
    four pools 188 + 16 k, and the output is 184 smaller.
    """
    down = []
    for _ in range(depth):
        size -= 4
        down.append(size)
        if size < 2 or size % 2:
            return None
        size //= 2
    bottom = size = size - 4
    up = []
    for _ in range(depth):
        size = 2 * size - 4
        up.append(size)
    return LevelSizes(tuple(down), bottom, tuple(up)) if up[-1] > 0 else None


def nearest_valid_sizes(size: int, depth: int = 4) -> tuple[int, ...]:
    """Return the largest valid size up to ``size`` (if any) and the next above."""
    top = size
    while level_sizes(top, depth) is None:
        top += 1
    low = top - 2**depth
    return (low, top) if top > size and level_sizes(low, depth) else (top,)


class UNet2015(nn.Module):
    """U-Net (Ronneberger, Fischer, Brox 2015) with valid convolutions.

    31,030,658 parameters for one channel in and two out. The convolutions eat
    184 pixels of each axis (four pools), so an image is predicted in overlapping
    tiles, mirrored at its border: :attr:`margin` pixels on each side. Tiles at
    offsets that are multiples of ``2**depth`` give exactly the whole-image result.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        widths: Channels of each level, from full resolution to the bottom.
        dropout: Probability of dropping a value at the end of the contracting
            path: after its last two levels, as in the released network.
        mirror: Mirror the input outwards first, so that images of any size give
            logits of their own size.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: If ``spatial_dims`` is unknown or ``widths`` has fewer than two
            levels.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        dropout: float = 0.5,
        mirror: bool = False,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        check_dims(spatial_dims)
        if len(widths) < 2:
            raise ConfigError("network.widths", f"has {len(widths)} level", "Give two")
        dims = spatial_dims
        self.depth = len(widths) - 1
        self.mirror = mirror
        self.pool = Pool[Pool.MAX, dims](2)
        self.dropout = nn.Dropout(dropout)
        inputs = (in_channels, *widths[:-1])
        self.encoder = nn.ModuleList(
            _double_conv(dims, i, o) for i, o in zip(inputs, widths, strict=True)
        )
        pairs = [(widths[k + 1], widths[k]) for k in reversed(range(self.depth))]
        up = Conv[Conv.CONVTRANS, dims]
        self.up = nn.ModuleList(up(i, o, 2, stride=2) for i, o in pairs)
        self.decoder = nn.ModuleList(_double_conv(dims, 2 * o, o) for _, o in pairs)
        self.head = Conv[Conv.CONV, dims](widths[0], out_channels, 1)

    @property
    def margin(self) -> int:
        """Pixels by which the output is smaller on each side: 92 with four pools."""
        # Each level loses 4 pixels on the way down and, but for the bottom, up.
        lost = 4 * 2**self.depth + sum(8 * 2**k for k in range(self.depth))
        return lost // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, K, [Z,] Y, X)``, 2 * :attr:`margin` smaller an axis.

        Raises:
            ConfigError: If a size does not fit; names the nearest that do.
        """
        size = x.shape[2:]
        if self.mirror:
            x = self._mirror(x)
        self._check_size(x)
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(self.pool(x) if level else x)
            if level >= self.depth - 1:
                x = self.dropout(x)
            skips.append(x)
        x = skips.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            x = up(x)
            x = block(torch.cat([_crop_centre(skips.pop(), x), x], dim=1))
        x = self.head(x)
        return crop_to(x, size) if self.mirror else x

    def _mirror(self, x: Tensor) -> Tensor:
        wanted = [
            nearest_valid_sizes(n + 2 * self.margin, self.depth)[-1]
            for n in x.shape[2:]
        ]
        after = [w - n - self.margin for w, n in zip(wanted, x.shape[2:], strict=True)]
        return mirror_pad(x, self.margin, after)

    def _check_size(self, x: Tensor) -> None:
        for size in x.shape[2:]:
            if level_sizes(size, self.depth) is None:
                near = " or ".join(map(str, nearest_valid_sizes(size, self.depth)))
                raise ConfigError(
                    "image size",
                    f"{size} does not fit a U-Net with {self.depth} valid levels",
                    f"Use {near}, or mirror=True",
                )


def _double_conv(dims: int, inputs: int, outputs: int) -> nn.Sequential:
    conv, relu = Conv[Conv.CONV, dims], Act["relu"]
    return nn.Sequential(
        conv(inputs, outputs, 3),
        relu(inplace=True),
        conv(outputs, outputs, 3),
        relu(inplace=True),
    )


def _crop_centre(x: Tensor, like: Tensor) -> Tensor:
    for axis in range(2, x.ndim):
        length = like.shape[axis]
        x = x.narrow(axis, (x.shape[axis] - length) // 2, length)
    return x

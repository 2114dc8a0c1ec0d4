"""The VGG-16 convolutions with pooling switches, and their mirror image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch.nn.functional as F
from monai.networks.layers.factories import Pool
from torch import Tensor, nn

from medseg.networks.blocks import NormName, check_dims, conv_chain, scale_widths

VGG_WIDTHS = (64, 128, 256, 512, 512)
VGG_CONVS = (2, 2, 3, 3, 3)
DENSE = 4096


class Switches(NamedTuple):
    """Where a pooling found its maxima, and the size that it pooled."""

    indices: Tensor
    size: Sequence[int]


def unpool(x: Tensor, switches: Switches) -> Tensor:
    """Write ``(N, C, [Z,] Y, X)`` at the switches of a 2-pooling, 0 elsewhere."""
    size = list(switches.size)
    if x.ndim == 4:
        return F.max_unpool2d(x, switches.indices, (2, 2), output_size=size)
    return F.max_unpool3d(x, switches.indices, (2, 2, 2), output_size=size)


class VGGEncoder(nn.Module):
    """The 13 convolutions and five poolings of VGG-16 (Simonyan 2014).

    Args:
        in_channels: Channels of the image.
        width: Factor on the published widths (64, 128, 256, 512, 512).
        norm: ``"batch"``, ``"instance"`` or, as published, ``"none"``.
        spatial_dims: 2 or 3.
    """

    def __init__(
        self, in_channels: int, width: float, norm: NormName, spatial_dims: int
    ) -> None:
        super().__init__()
        check_dims(spatial_dims)
        self.widths = scale_widths(VGG_WIDTHS, width)
        self.blocks = nn.ModuleList()
        inputs = in_channels
        for count, outputs in zip(VGG_CONVS, self.widths, strict=True):
            plan = (inputs, *[outputs] * count)
            self.blocks.append(conv_chain(plan, spatial_dims, norm))
            inputs = outputs
        self.pool = Pool[Pool.MAX, spatial_dims](2, return_indices=True)

    def levels(self, x: Tensor) -> Iterator[tuple[Tensor, Switches]]:
        """Yield the map and the switches of each of the five poolings."""
        for block in self.blocks:
            x = block(x)
            size = x.shape[2:]
            x, indices = self.pool(x)
            yield x, Switches(indices, size)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Switches]]:
        """Return the last map, 1/32 of the size, and the switches on the way."""
        switches = []
        for pooled, switch in self.levels(x):
            switches.append(switch)
            x = pooled
        return x, switches


class UnpoolDecoder(nn.Module):
    """The mirror image of :class:`VGGEncoder`: unpool, then 3, 3, 3, 2, 2 layers.

    Args:
        widths: Widths of the encoder's levels.
        norm: As for the encoder.
        dims: 2 or 3.
        transposed: Transposed convolutions (DeconvNet) or plain ones (SegNet).
        drop_last: Leave out the last layer, which the caller replaces by its head.
    """

    def __init__(
        self,
        widths: Sequence[int],
        norm: NormName,
        dims: int,
        *,
        transposed: bool = False,
        drop_last: bool = False,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for level in reversed(range(len(widths))):
            out = widths[max(level - 1, 0)]
            plan = (*[widths[level]] * VGG_CONVS[level], out)
            plan = plan[:-1] if drop_last and level == 0 else plan
            self.blocks.append(conv_chain(plan, dims, norm, transposed=transposed))

    def forward(self, x: Tensor, switches: Sequence[Switches]) -> Tensor:
        """Return the map at full size."""
        for block, switch in zip(self.blocks, reversed(switches), strict=True):
            x = block(unpool(x, switch))
        return x

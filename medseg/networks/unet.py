"""A padded U-Net with width, normalisation and patch size as arguments."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Act, Conv
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.networks.blocks import NormName, check_dims, normalisation
from medseg.networks.padding import AnySize
from medseg.networks.patches import fold_patches, unfold_patches


class DoubleConv(nn.Sequential):
    """Twice: 3 x 3 convolution, normalisation, ReLU; the size stays."""

    def __init__(self, dims: int, inputs: int, outputs: int, norm: NormName) -> None:
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            conv = Conv[Conv.CONV, dims](
                channels, outputs, 3, padding=1, bias=norm == "none"
            )
            relu = Act["relu"](inplace=True)
            layers += [conv, normalisation(norm, dims, outputs), relu]
        super().__init__(*layers)


class UNet(AnySize):
    """U-Net (Ronneberger 2015) with zero padding: the output has the input's size.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        widths: Channels of each level, from full resolution to the bottom.
        norm: ``"batch"``, ``"instance"`` or ``"none"``.
        patch: The network works on patches of this size moved into channels, and
            writes patches of logits: 2 computes a quarter of the positions and
            keeps the output at full resolution (sub-pixel layer, Shi 2016).
        dropout: Probability of dropping a channel at the bottom.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: If ``norm`` or ``spatial_dims`` is unknown, or ``widths`` has
            fewer than two levels.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        widths: Sequence[int] = (32, 64, 128, 256, 512),
        norm: NormName = "batch",
        patch: int = 1,
        dropout: float = 0.0,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        check_dims(spatial_dims)
        if len(widths) < 2:
            raise ConfigError("network.widths", f"has {len(widths)} level", "Give two")
        dims, cells = spatial_dims, patch**spatial_dims
        self.patch = patch
        self.multiple = patch * 2 ** (len(widths) - 1)
        self.pool = nn.MaxPool2d(2) if dims == 2 else nn.MaxPool3d(2)
        inputs = [in_channels * cells, *widths[:-1]]
        self.encoder = nn.ModuleList(
            DoubleConv(dims, i, o, norm) for i, o in zip(inputs, widths, strict=True)
        )
        dropout_type = nn.Dropout2d if dims == 2 else nn.Dropout3d
        self.dropout = dropout_type(dropout)
        pairs = [(widths[k + 1], widths[k]) for k in reversed(range(len(widths) - 1))]
        up = Conv[Conv.CONVTRANS, dims]
        self.up = nn.ModuleList(up(i, o, 2, stride=2) for i, o in pairs)
        self.decoder = nn.ModuleList(DoubleConv(dims, 2 * o, o, norm) for _, o in pairs)
        self.head = Conv[Conv.CONV, dims](widths[0], out_channels * cells, 1)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits for images whose size :attr:`multiple` divides."""
        x = unfold_patches(x, self.patch)
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(self.pool(x) if level else x)
            skips.append(x)
        x = self.dropout(skips.pop())
        for up, block in zip(self.up, self.decoder, strict=True):
            x = block(torch.cat([skips.pop(), up(x)], dim=1))
        return fold_patches(self.head(x), self.patch)

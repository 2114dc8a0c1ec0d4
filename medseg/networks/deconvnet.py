"""DeconvNet: VGG-16, its dense layers as convolutions, and their mirror image."""

from __future__ import annotations

import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.networks.blocks import NormName, point_conv_relu, scale_widths
from medseg.networks.padding import AnySize, crop_to
from medseg.networks.vgg16 import DENSE, UnpoolDecoder, VGGEncoder


class DeconvNet(AnySize):
    """DeconvNet (Noh, Hong, Han 2015).

    251,772,245 parameters (1 GB) for RGB and 21 classes without normalisation: use
    a ``width`` of 1/8 or so in earnest. 224 pixels give a map of 7 x 7, which fc6
    makes one pixel and deconv-fc6 7 x 7 again; then 14, 28, 56, 112, 224.

    Any input size: it is mirrored to a multiple of 32 and the logits are cropped
    back. Where that leaves a map smaller than ``kernel`` (images under 224
    pixels), the map is filled up with zeros before fc6 and cropped after
    deconv-fc6; where it is larger, fc6 slides and deconv-fc6 sums the overlaps.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        width: Factor on all widths of VGG-16, the dense layers included.
        norm: ``"batch"``, ``"instance"`` or ``"none"``; the dense layers, whose map
            may be one pixel, have group norm instead.
        kernel: Size of fc6 and deconv-fc6; 3 keeps a 3-D network small.
        dropout: Probability of dropping a channel after fc6 and fc7.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: If ``norm``, ``spatial_dims``, ``kernel`` or ``width`` cannot be.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        width: float = 1.0,
        norm: NormName = "batch",
        kernel: int = 7,
        dropout: float = 0.0,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        if kernel < 1:
            raise ConfigError("network.kernel", f"is {kernel}", "Use 1 or more")
        dims, self.kernel = spatial_dims, kernel
        self.encoder = VGGEncoder(in_channels, width, norm, dims)
        bottom = self.encoder.widths[-1]
        (dense,) = scale_widths((DENSE,), width)
        self.fc6 = point_conv_relu(dims, bottom, dense, norm, kernel=kernel)
        self.fc7 = point_conv_relu(dims, dense, dense, norm)
        self.deconv_fc6 = point_conv_relu(
            dims, dense, bottom, norm, kernel=kernel, transposed=True
        )
        self.dropout = nn.Dropout2d(dropout) if dims == 2 else nn.Dropout3d(dropout)
        widths = self.encoder.widths
        self.decoder = UnpoolDecoder(widths, norm, dims, transposed=True)
        self.head = Conv[Conv.CONV, dims](widths[0], out_channels, 1)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits for images whose size :attr:`multiple` divides."""
        x, switches = self.encoder(x)
        return self.head(self.decoder(self.bottleneck(x), switches))

    def bottleneck(self, x: Tensor) -> Tensor:
        """Pass the map ``(N, C, [Z,] Y, X)`` through the dense layers; same size."""
        size = x.shape[2:]
        missing = [max(0, self.kernel - n) for n in reversed(size)]
        x = F.pad(x, [n for m in missing for n in (0, m)])
        x = self.dropout(self.fc6(x))
        x = self.dropout(self.fc7(x))
        return crop_to(self.deconv_fc6(x), size)

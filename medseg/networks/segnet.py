"""SegNet: VGG-16 and its mirror image, joined by pooling switches."""

from __future__ import annotations

from monai.networks.layers.factories import Conv
from torch import Tensor

from medseg.networks.blocks import NormName
from medseg.networks.padding import AnySize
from medseg.networks.vgg16 import UnpoolDecoder, VGGEncoder


class SegNet(AnySize):
    """SegNet (Badrinarayanan, Kendall, Cipolla 2015).

    13 convolutions down, 13 up; the decoder gets no feature maps but only where
    each pooling found its maximum (first in row-major order on ties, on CPU).
    29,433,483 parameters for RGB and 11 classes without normalisation. Any input
    size: mirrored to a multiple of 32 and cropped back.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        width: Factor on all widths of VGG-16; 0.25 has 1/16 of the parameters.
        norm: ``"batch"``, ``"instance"`` or ``"none"``.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: If ``norm``, ``spatial_dims`` or ``width`` cannot be.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        width: float = 1.0,
        norm: NormName = "batch",
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        self.encoder = VGGEncoder(in_channels, width, norm, spatial_dims)
        widths = self.encoder.widths
        self.decoder = UnpoolDecoder(widths, norm, spatial_dims, drop_last=True)
        self.head = Conv[Conv.CONV, spatial_dims](widths[0], out_channels, 3, padding=1)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits for images whose size :attr:`multiple` divides."""
        x, switches = self.encoder(x)
        return self.head(self.decoder(x, switches))

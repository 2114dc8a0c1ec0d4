"""LinkNet: a ResNet-18 encoder, a light decoder, skips that are added."""

from __future__ import annotations

from monai.networks.layers.factories import Act, Conv
from torch import Tensor, nn

from medseg.networks.blocks import NormName, conv_relu, normalisation, scale_widths
from medseg.networks.padding import AnySize
from medseg.networks.resnet import ResNetEncoder, ResNetNorm


class LinkNet(AnySize):
    """LinkNet (Chaurasia, Culurciello 2017).

    11,535,893 parameters for RGB and 21 classes. Any input size: mirrored to a
    multiple of 32 and cropped back.

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
        widths = self.encoder.widths
        outputs = (widths[0], *widths[:-1])
        # Stage 1 has the size of its input, so its mirror image does not double.
        self.decoder = nn.ModuleList(
            _decoder_block(
                dims, widths[k], outputs[k], norm, 2 if k else 1, k == len(widths) - 1
            )
            for k in reversed(range(len(widths)))
        )
        (half,) = scale_widths((32,), width)
        self.up = _up_relu(dims, widths[0], half, norm, 2)
        self.conv = conv_relu(dims, half, half, norm)
        self.head = Conv[Conv.CONVTRANS, dims](half, out_channels, 2, stride=2)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits for images whose size :attr:`multiple` divides."""
        *skips, x = self.encoder(x)
        for block in self.decoder:
            x = block(x)
            if skips:
                x = x + skips.pop()
        return self.head(self.conv(self.up(x)))


def _decoder_block(
    dims: int, inputs: int, outputs: int, norm: NormName, stride: int, point: bool
) -> nn.Sequential:
    quarter = max(1, inputs // 4)
    return nn.Sequential(
        conv_relu(dims, inputs, quarter, norm, kernel=1, point=point),
        _up_relu(dims, quarter, quarter, norm, stride),
        conv_relu(dims, quarter, outputs, norm, kernel=1),
    )


def _up_relu(
    dims: int, inputs: int, outputs: int, norm: NormName, stride: int
) -> nn.Sequential:
    conv = Conv[Conv.CONVTRANS, dims](
        inputs,
        outputs,
        3,
        stride=stride,
        padding=1,
        output_padding=stride - 1,
        bias=norm == "none",
    )
    relu = Act["relu"](inplace=True)
    return nn.Sequential(conv, normalisation(norm, dims, outputs), relu)

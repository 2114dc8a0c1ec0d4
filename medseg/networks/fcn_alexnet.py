"""AlexNet with its dense layers as convolutions: a classifier's heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from monai.networks.layers.factories import Act, Conv, Pool
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.networks.arithmetic import conv_size
from medseg.networks.blocks import check_dims, scale_widths
from medseg.networks.padding import crop_to, mirror_pad
from medseg.networks.upsample import resize
from medseg.networks.vgg16 import DENSE
from medseg.networks.vgg16_weights import dense_as_convolution

ALEXNET_WIDTHS = (96, 256, 384, 384, 256)
WINDOW = 227
STEP = 32
# Kernel, stride, padding and, after it, a pooling of 3 with stride 2 or none.
_LAYERS = (
    (11, 4, 0, True),
    (5, 1, 2, True),
    (3, 1, 1, False),
    (3, 1, 1, False),
    (3, 1, 1, True),
)
# Where torchvision's alexnet keeps the layers; its first one is padded by 2.
_FEATURES = (0, 3, 6, 8, 10)
_DENSE = {"fc6": "classifier.1", "fc7": "classifier.4", "score": "classifier.6"}


class FCNAlexNet(nn.Module):
    """AlexNet (Krizhevsky 2012) made fully convolutional (Long 2015).

    62,378,344 parameters for RGB and 1000 classes (one tower: every layer sees all
    channels of the one before). 227 pixels give maps of 55, 27, 27, 13, 13, 13, 13
    and 6 and one score a class, 259 give 2 x 2, 500 give 9 x 9: a score every 32
    pixels. :meth:`heat_map` gives these; :meth:`forward` mirrors the image so that
    every 32nd pixel from the first is the centre of a window, and interpolates.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        width: Factor on all widths, the dense layers included.
        widths: Of the five convolutions; torchvision has (64, 192, 384, 256, 256).
        padded: As published. False: no layer adds zeros, and the heat map is
            exactly the classifier at each window.
        dropout: Probability of dropping a channel before fc6 and fc7.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: If an argument cannot be.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        width: float = 1.0,
        widths: Sequence[int] = ALEXNET_WIDTHS,
        padded: bool = True,
        dropout: float = 0.5,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        check_dims(spatial_dims)
        if len(widths) != len(_LAYERS):
            raise ConfigError("network.widths", f"has {len(widths)} entries", "Give 5")
        dims = spatial_dims
        *widths, dense = scale_widths((*widths, DENSE), width)
        conv, relu, pool = Conv[Conv.CONV, dims], Act["relu"], Pool[Pool.MAX, dims]
        self.features = nn.Sequential()
        inputs, side = in_channels, WINDOW
        for outputs, (kernel, stride, padding, pooled) in zip(
            widths, _LAYERS, strict=True
        ):
            padding = padding if padded else 0
            layer = conv(inputs, outputs, kernel, stride=stride, padding=padding)
            self.features.extend([layer, relu(inplace=True)])
            inputs, side = outputs, conv_size(side, kernel, stride, padding)
            if pooled:
                self.features.append(pool(3, 2))
                side = conv_size(side, 3, 2)
        self.fc6 = conv(inputs, dense, side)
        self.fc7 = conv(dense, dense, 1)
        self.score = conv(dense, out_channels, 1)
        self.relu = relu()
        self.dropout = nn.Dropout2d(dropout) if dims == 2 else nn.Dropout3d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, K, [Z,] Y, X)`` for images ``(N, C, [Z,] Y, X)``."""
        size, before = x.shape[2:], WINDOW // 2
        gaps = [-(-(n - 1) // STEP) for n in size]
        after = [
            gap * STEP + WINDOW - n - before for gap, n in zip(gaps, size, strict=True)
        ]
        scores = self.heat_map(mirror_pad(x, before, after))
        # Scores stand at pixels 0, 32, ..: the corners of the cells are aligned.
        whole = resize(scores, [gap * STEP + 1 for gap in gaps], align_corners=True)
        return crop_to(whole, size)

    def heat_map(self, x: Tensor) -> Tensor:
        """Return one score a class for each window: 227 pixels, 32 apart."""
        x = self.relu(self.fc6(self.dropout(self.features(x))))
        return self.score(self.relu(self.fc7(self.dropout(x))))


def from_classifier(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of :class:`FCNAlexNet` that is torchvision's classifier.

    The heat map of a network with widths (64, 192, 384, 256, 256) then holds, at
    each window, what the classifier says of it; nothing is trained. torchvision pads
    an image by 2 first: pad it likewise to compare.
    """
    channels = weights[f"features.{_FEATURES[-1]}.weight"].shape[0]
    dense = {name: weights[f"{place}.weight"] for name, place in _DENSE.items()}
    side = round((dense["fc6"].shape[1] / channels) ** 0.5)
    state = {name: value[..., None, None] for name, value in dense.items()}
    state["fc6"] = dense_as_convolution(dense["fc6"], channels, side)
    state = {f"{name}.weight": value for name, value in state.items()}
    state |= {
        f"{name}.bias": weights[f"{place}.bias"] for name, place in _DENSE.items()
    }
    # The convolutions have the same places: ReLU and poolings stand between them.
    for place in _FEATURES:
        for name in (f"features.{place}.weight", f"features.{place}.bias"):
            state[name] = weights[name]
    return state

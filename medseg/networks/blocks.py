"""Pieces that several networks share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from monai.networks.layers.factories import Act, Conv, Norm
from torch import Tensor, nn

from medseg.errors import ConfigError

NormName = Literal["batch", "instance", "none"]


def normalisation(
    norm: NormName, dims: int, channels: int, *, point: bool = False
) -> nn.Module:
    """Return the normalisation layer called ``norm``.

    Args:
        norm: Its name.
        dims: 2 or 3.
        channels: Of the map.
        point: Whether the map may be one pixel large, which instance norm does not
            take: see :func:`point_normalisation`.

    Raises:
        ConfigError: If there is no such layer.
    """
    if point and norm == "instance":
        return point_normalisation(norm, channels)
    if norm == "none":
        return nn.Identity()
    if norm not in ("batch", "instance"):
        raise ConfigError("network.norm", f"is {norm!r}", "Use batch, instance or none")
    options = {"affine": True} if norm == "instance" else {}
    return Norm[norm, dims](channels, **options)


def point_normalisation(norm: NormName, channels: int) -> nn.Module:
    """Return a normalisation for maps that may be one pixel large.

    Batch and instance norm cannot train on one value a channel, so this is group
    norm over all channels, unless ``norm`` is ``"none"``.
    """
    return nn.Identity() if norm == "none" else nn.GroupNorm(1, channels)


class SamePad(nn.Module):
    """Zeros so that a convolution of odd or even ``kernel`` keeps the size.

    An even kernel has one more position after the centre than before it, as in
    Keras and PyTorch (which warns of a copy when it does this by itself).
    """

    def __init__(self, kernel: int, dims: int) -> None:
        super().__init__()
        self.pairs = ((kernel - 1) // 2, kernel // 2) * dims

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with zeros around its spatial axes."""
        return F.pad(x, self.pairs)


def convolution(dims: int, inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Return a biased convolution of any kernel that keeps the size."""
    conv = Conv[Conv.CONV, dims](inputs, outputs, kernel)
    return nn.Sequential(SamePad(kernel, dims), conv)


def conv_relu(
    dims: int,
    inputs: int,
    outputs: int,
    norm: NormName = "none",
    *,
    kernel: int = 3,
    dilation: int = 1,
    transposed: bool = False,
    point: bool = False,
) -> nn.Sequential:
    """Return a size-keeping convolution of odd kernel, normalisation and ReLU.

    The convolution has a bias only where no normalisation would remove it; ``point``
    as for :func:`normalisation`.
    """
    conv = Conv[Conv.CONVTRANS if transposed else Conv.CONV, dims](
        inputs,
        outputs,
        kernel,
        padding=dilation * (kernel // 2),
        dilation=dilation,
        bias=norm == "none",
    )
    relu = Act["relu"](inplace=True)
    return nn.Sequential(conv, normalisation(norm, dims, outputs, point=point), relu)


def conv_chain(
    plan: Sequence[int],
    dims: int,
    norm: NormName = "none",
    *,
    kernel: int = 3,
    transposed: bool = False,
) -> nn.Sequential:
    """Return :func:`conv_relu` after :func:`conv_relu` through the widths of ``plan``."""
    return nn.Sequential(
        *(
            conv_relu(dims, i, o, norm, kernel=kernel, transposed=transposed)
            for i, o in pairwise(plan)
        )
    )


def point_conv_relu(
    dims: int,
    inputs: int,
    outputs: int,
    norm: NormName,
    *,
    kernel: int = 1,
    padding: int = 0,
    transposed: bool = False,
) -> nn.Sequential:
    """Return convolution, group norm and ReLU for maps that may be one pixel large."""
    conv = Conv[Conv.CONVTRANS if transposed else Conv.CONV, dims](
        inputs, outputs, kernel, padding=padding, bias=norm == "none"
    )
    relu = Act["relu"](inplace=True)
    return nn.Sequential(conv, point_normalisation(norm, outputs), relu)


def scale_widths(widths: Sequence[int], factor: float) -> tuple[int, ...]:
    """Return the widths times ``factor``, rounded, at least 1.

    Raises:
        ConfigError: If the factor is not above 0.
    """
    if not (factor > 0 and math.isfinite(factor)):
        raise ConfigError("network.width", f"is {factor}", "Use a factor above 0")
    return tuple(max(1, round(w * factor)) for w in widths)


def check_dims(dims: int) -> None:
    """Check that ``spatial_dims`` is 2 or 3.

    Raises:
        ConfigError: If it is not.
    """
    if dims not in (2, 3):
        raise ConfigError("network.spatial_dims", f"is {dims!r}", "Use 2 or 3")

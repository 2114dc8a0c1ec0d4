"""Up-sampling: bed of nails, linear, bilinear transposed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from medseg.errors import ConfigError


def bed_of_nails(x: Tensor, stride: int = 2) -> Tensor:
    """Put each value of ``(N, C, [Z,] Y, X)`` at the near corner of a block of 0."""
    y = x.new_zeros(*x.shape[:2], *(n * stride for n in x.shape[2:]))
    corners = y
    for axis in range(2, x.ndim):
        # A view: every stride-th pixel of this axis.
        corners = corners.unfold(axis, 1, stride).squeeze(-1)
    corners.copy_(x)
    return y


def resize(x: Tensor, size: Sequence[int], *, align_corners: bool = False) -> Tensor:
    """Interpolate ``(N, C, [Z,] Y, X)`` linearly to spatial ``size``.

    With ``align_corners`` the outermost values stay at the outermost pixels.
    """
    mode = "bilinear" if x.ndim == 4 else "trilinear"
    return F.interpolate(x, size=tuple(size), mode=mode, align_corners=align_corners)


def bilinear_kernel(size: int, dims: int = 2) -> Tensor:
    """Return the triangle weights ``(size,) * dims`` that interpolate linearly.

    For an even size the up-sampling factor is half the size, and the weights sum
    to the factor to the power of ``dims``.
    """
    factor = (size + 1) // 2
    centre = (size - 1) / 2
    offset = (torch.arange(size, dtype=torch.float64) - centre).abs()
    line = 1 - offset / factor
    kernel = line
    for _ in range(dims - 1):
        kernel = kernel[..., None] * line
    return kernel


class BilinearUp(nn.Module):
    """Linear interpolation as a transposed convolution, one filter a channel.

    Kernel twice the factor, padding half of it: ``n`` pixels become exactly
    ``n * factor``, where the FCN release stores ``channels`` times the weights and
    crops (Long 2015).

    Args:
        channels: Channels in and out.
        factor: Even up-sampling factor.
        dims: 2 or 3.
        learnable: Whether training changes the weights.

    Raises:
        ConfigError: If the factor is odd.
    """

    def __init__(
        self, channels: int, factor: int, dims: int = 2, learnable: bool = False
    ) -> None:
        super().__init__()
        if factor % 2:
            raise ConfigError("factor", f"is {factor}", "Use an even factor")
        self.up = Conv[Conv.CONVTRANS, dims](
            channels,
            channels,
            2 * factor,
            stride=factor,
            padding=factor // 2,
            groups=channels,
            bias=False,
        )
        kernel = bilinear_kernel(2 * factor, dims).to(self.up.weight)
        with torch.no_grad():
            self.up.weight.copy_(kernel.expand_as(self.up.weight))
        if not learnable:
            # A buffer under the same name: saved, moved, and no parameter.
            weight = self.up.weight.detach()
            del self.up.weight
            self.up.register_buffer("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, C, [Z,] Y, X)`` with ``factor`` times the pixels an axis."""
        return self.up(x)

"""What one output pixel sees, by its gradient, against the box that theory gives.

Weights and images are positive and poolings average, so that no pixel is hidden.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medseg.networks import build
from medseg.networks.deeplab import AtrousBranches, SummedScores
from medseg.networks.unet_2015 import level_sizes


class AveragePool(nn.Module):
    """In place of a pooling that also returns its switches."""

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return nn.functional.avg_pool2d(x, 2), None


def seen_rows(network: nn.Module, x: Tensor, pixel: int) -> list[int]:
    """Return the rows of ``x`` that the middle of one output row depends on."""
    for parameter in network.parameters():
        parameter.data.abs_()
    x = x.double().requires_grad_()
    y = network.eval().double()(x)
    y[0, 0, pixel, y.shape[-1] // 2].backward()
    assert x.grad is not None
    return x.grad[0].abs().sum((0, 2)).nonzero().flatten().tolist()


def extent(rows: list[int]) -> int:
    return rows[-1] - rows[0] + 1


@pytest.mark.parametrize(("upsampled", "expected"), [(False, 404), (True, 404 + 32)])
def test_fcn_sees_404_pixels_and_a_step_more_when_upsampled(
    upsampled: bool, expected: int
) -> None:
    # rf-vgg16-fc7; bilinear up-sampling looks at two neighbouring scores
    network = build("fcn", {"width": 1 / 64, "step": 32, "norm": "none"})
    network.encoder.pool = AveragePool()
    x = torch.rand(1, 1, 512, 512)
    if upsampled:
        assert extent(seen_rows(network, x, 256)) == expected
        return
    network.forward = network.coarse_scores
    rows = seen_rows(network, x, 8)
    assert extent(rows) == expected
    assert rows[0] + rows[-1] == 2 * (8 * 32 + 16) - 1  # around the score's own cell


def unet_box(pixel: int, depth: int) -> tuple[int, int]:
    """Return first and last input row of an output row of a valid U-Net."""
    low, high = pixel, pixel
    for _ in range(depth):  # two convolutions look 4 on, an up-convolution at one
        low, high = low // 2, (high + 4) // 2
    high += 4
    for _ in range(depth):
        low, high = 2 * low, 2 * high + 1 + 4
    return low, high


@pytest.mark.parametrize(("depth", "size"), [(1, 28), (2, 60), (4, 284)])
@pytest.mark.parametrize("offset", [0, 1, 3])
def test_the_valid_unet_sees_its_box(depth: int, size: int, offset: int) -> None:
    assert level_sizes(size, depth) is not None
    network = build("unet_2015", {"widths": [1] * (depth + 1)})
    network.pool = nn.AvgPool2d(2)
    pixel = 2**depth // 2 + offset
    rows = seen_rows(network, torch.rand(1, 1, size, size), pixel)
    assert (rows[0], rows[-1]) == unet_box(pixel, depth)
    assert extent(rows) == len(rows)
    assert extent(rows) >= 2 * network.margin + 1


def test_the_deeplab_heads_see_single_pixels_far_off() -> None:
    rates, middle = (6, 12, 18, 24), 30
    x = torch.rand(1, 1, 61, 61)
    rows = seen_rows(SummedScores(1, 1, rates, 2), x, middle)
    assert rows == [middle + k * 6 for k in range(-4, 5)]
    assert extent(rows) == 49  # k + (k - 1)(r - 1) of the largest rate

    branches = AtrousBranches(1, 1, rates[:3], "none", 2)
    assert seen_rows(branches, x, middle) == list(range(61))  # by the image's mean
    for rate, branch in zip((1, *rates[:3]), branches.branches, strict=True):
        wanted = [middle] if rate == 1 else [middle - rate, middle, middle + rate]
        assert seen_rows(branch, x, middle) == wanted

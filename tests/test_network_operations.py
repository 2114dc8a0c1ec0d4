"""Operations of the networks against worked examples (ids in the comments)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.networks.arithmetic import (
    conv_size,
    conv_transpose_size,
    effective_kernel,
    receptive_field,
)
from medseg.networks.blocks import convolution, normalisation, scale_widths
from medseg.networks.fcn_convt_skip import crop_one
from medseg.networks.padding import crop_to, mirror_pad, pad_to_multiple
from medseg.networks.upsample import BilinearUp, bed_of_nails, bilinear_kernel
from medseg.networks.vgg16 import Switches, unpool

SMALL = [[1, 2], [3, 4]]
ONES3 = [[1, 1, 1]] * 3
POOLED = [[1, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]]
SWITCHES = [[5, 2], [12, 15]]
SIX = [
    [2, 1, 7, 1, 2, 5],
    [5, 0, 3, 4, 1, 2],
    [1, 7, 8, 3, 3, 0],
    [0, 3, 2, 0, 1, 1],
    [3, 6, 5, 3, 0, 3],
    [3, 6, 0, 2, 1, 0],
]


def plane(values: list[list[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[None, None]


def conv_transpose(x, kernel, stride, padding=0, output_padding=0) -> Tensor:
    return F.conv_transpose2d(
        plane(x),
        plane(kernel),
        stride=stride,
        padding=padding,
        output_padding=output_padding,
    )


def test_nearest_upsampling_is_a_transposed_convolution():
    # nn-upsample-2x2, nn-upsample-as-convt
    expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert torch.equal(F.interpolate(plane(SMALL), scale_factor=2.0), plane(expected))
    assert torch.equal(conv_transpose(SMALL, [[1, 1], [1, 1]], 2), plane(expected))


def test_nearest_upsampling_sums_blocks_backwards():
    x = plane(SMALL).requires_grad_()
    F.interpolate(x, scale_factor=2.0).sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 4))


def test_bed_of_nails_is_a_transposed_convolution():
    # bed-of-nails-2x2, bed-of-nails-as-convt
    expected = plane([[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]])
    assert torch.equal(bed_of_nails(plane(SMALL)), expected)
    assert torch.equal(conv_transpose(SMALL, [[1, 0], [0, 0]], 2), expected)


def test_max_pool_keeps_flat_switches():
    # max-pool-2x2, max-pool-tie
    values, indices = F.max_pool2d(plane(POOLED), 2, return_indices=True)
    assert values[0, 0].tolist() == [[5, 6], [7, 8]]
    assert indices[0, 0].tolist() == SWITCHES
    _, tie = F.max_pool2d(plane([[4, 4], [4, 4]]), 2, return_indices=True)
    assert tie[0, 0].tolist() == [[0]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # max-unpool-printed
        (SMALL, [[0, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4]]),
        # max-unpool-round-trip
        ([[5, 6], [7, 8]], [[0, 0, 6, 0], [0, 5, 0, 0], [0, 0, 0, 0], [7, 0, 0, 8]]),
    ],
)
def test_unpool_writes_at_the_switches(values, expected):
    switches = Switches(torch.tensor(SWITCHES)[None, None], (4, 4))
    assert torch.equal(unpool(plane(values), switches), plane(expected))


@pytest.mark.parametrize("size", [(5, 7), (3, 5, 4)])
def test_unpool_of_pool_keeps_exactly_the_maxima(size):
    x = torch.randn(2, 3, *size)
    pool = nn.MaxPool2d if len(size) == 2 else nn.MaxPool3d
    values, indices = pool(2, return_indices=True)(x)
    y = unpool(values, Switches(indices, size))
    assert y.shape == x.shape
    assert torch.equal(y[y != 0], x[y != 0])
    assert torch.equal(y.flatten(2).sort()[0][..., -1], values.flatten(2).amax(-1))
    assert int((y != 0).sum()) == values.numel()


def test_pooling_3_by_3():
    # max-pool-3x3-s3, avg-pool-3x3-s3
    assert F.max_pool2d(plane(SIX), 3)[0, 0].tolist() == [[8, 5], [6, 3]]
    expected = plane([[34 / 9, 21 / 9], [28 / 9, 11 / 9]])
    torch.testing.assert_close(F.avg_pool2d(plane(SIX), 3), expected)


def test_convolution_is_cross_correlation():
    # conv-3x3-cross-correlation, conv-3x3-flipped
    x = plane(
        [
            [3, 3, 2, 1, 0],
            [0, 0, 1, 3, 1],
            [3, 1, 2, 2, 3],
            [2, 0, 0, 2, 2],
            [2, 0, 0, 0, 1],
        ]
    )
    kernel = plane([[0, 1, 2], [2, 2, 0], [0, 1, 2]])
    plain = F.conv2d(x, kernel)[0, 0].tolist()
    flipped = F.conv2d(x, kernel.flip(2, 3))[0, 0].tolist()
    assert plain == [[12, 12, 17], [10, 17, 19], [9, 6, 14]]
    assert flipped == [[18, 20, 19], [10, 9, 17], [11, 8, 14]]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "expected"),
    [
        # conv-size-0 .. conv-size-6, size-alexnet-224-pad2
        (4, 3, 1, 0, 2),
        (5, 3, 2, 0, 2),
        (5, 3, 1, 1, 5),
        (8, 2, 2, 0, 4),
        (4, 3, 1, 1, 4),
        (4, 3, 2, 1, 2),
        (224, 11, 4, 2, 55),
    ],
)
def test_conv_size_is_that_of_the_convolution(size, kernel, stride, padding, expected):
    assert conv_size(size, kernel, stride, padding) == expected
    conv = nn.Conv2d(1, 1, kernel, stride, padding, device="meta")
    assert conv(torch.empty(1, 1, size, size, device="meta")).shape[-1] == expected


def test_alexnet_needs_227_pixels_or_a_border_of_2():
    # size-alexnet-224-pad0: 54.25 windows; sizes-alexnet-227 has 55
    assert (224 - 11) / 4 + 1 == 54.25
    assert conv_size(224, 11, 4) == 54
    assert conv_size(224, 11, 4, 2) == conv_size(227, 11, 4) == 55


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "output_padding", "expected"),
    [
        # convt-size-0 .. convt-size-7
        (2, 3, 1, 0, 0, 4),
        (2, 3, 2, 0, 0, 5),
        (5, 3, 1, 1, 0, 5),
        (7, 2, 2, 0, 0, 14),
        (7, 3, 2, 1, 1, 14),
        (2, 3, 2, 1, 0, 3),
        (2, 3, 2, 1, 1, 4),
        (2, 4, 2, 1, 0, 4),
        # fcn-deconv-k63-s32, fcn-deconv-k64-s32, fcn-deconv-k64-s32-p16
        *[(n, 63, 32, 0, 0, m) for n, m in ((1, 63), (7, 255), (16, 543))],
        *[(n, 64, 32, 0, 0, m) for n, m in ((1, 64), (7, 256), (16, 544))],
        *[(n, 64, 32, 16, 0, m) for n, m in ((1, 32), (7, 224), (16, 512))],
    ],
)
def test_conv_transpose_size(size, kernel, stride, padding, output_padding, expected):
    arguments = (kernel, stride, padding, output_padding)
    assert conv_transpose_size(size, *arguments) == expected
    conv = nn.ConvTranspose2d(1, 1, *arguments, device="meta")
    assert conv(torch.empty(1, 1, size, size, device="meta")).shape[-1] == expected


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "output_padding", "expected"),
    [
        # convt-ones3-s1
        (ONES3, 1, 0, 0, [[1, 3, 3, 2], [4, 10, 10, 6], [4, 10, 10, 6], [3, 7, 7, 4]]),
        # convt-ones3-s2: checkerboard
        (
            ONES3,
            2,
            0,
            0,
            [
                [1, 1, 3, 2, 2],
                [1, 1, 3, 2, 2],
                [4, 4, 10, 6, 6],
                [3, 3, 7, 4, 4],
                [3, 3, 7, 4, 4],
            ],
        ),
        # convt-ones3-s2-torch-same
        (ONES3, 2, 1, 1, [[1, 3, 2, 2], [4, 10, 6, 6], [3, 7, 4, 4], [3, 7, 4, 4]]),
        # convt-1234-s2
        (SMALL, 2, 0, 0, [[1, 2, 2, 4], [3, 4, 6, 8], [3, 6, 4, 8], [9, 12, 12, 16]]),
    ],
)
def test_transposed_convolution(kernel, stride, padding, output_padding, expected):
    y = conv_transpose(SMALL, kernel, stride, padding, output_padding)
    assert torch.equal(y, plane(expected))


def test_doublings_lose_the_first_or_the_last_pixel():
    # convt-ones3-s2-torch-same, convt-ones3-s2-keras-same
    full = conv_transpose(SMALL, ONES3, 2)
    assert torch.equal(crop_one(full, "first"), conv_transpose(SMALL, ONES3, 2, 1, 1))
    keras = plane([[1, 1, 3, 2], [1, 1, 3, 2], [4, 4, 10, 6], [3, 3, 7, 4]])
    assert torch.equal(crop_one(full, "last"), keras)


def test_transposed_is_adjoint_and_not_inverse():
    # conv-convt-adjoint, conv-convt-not-inverse
    kernel = torch.randn(1, 1, 3, 3, dtype=torch.float64)
    u = torch.randn(1, 1, 5, 5, dtype=torch.float64)
    v = torch.randn(1, 1, 2, 2, dtype=torch.float64)
    left = (F.conv2d(u, kernel, stride=2) * v).sum()
    right = (u * F.conv_transpose2d(v, kernel, stride=2)).sum()
    assert abs(left - right) < 1e-12
    ones = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    down = F.conv2d(ones, plane(ONES3))
    expected = plane(
        [[9, 18, 18, 9], [18, 36, 36, 18], [18, 36, 36, 18], [9, 18, 18, 9]]
    )
    assert torch.equal(F.conv_transpose2d(down, plane(ONES3)), expected)


def test_bilinear_kernels():
    # bilinear-kernel-4, bilinear-kernel-3, bilinear-kernel-sums
    line4 = torch.tensor([0.25, 0.75, 0.75, 0.25], dtype=torch.float64)
    line3 = torch.tensor([0.5, 1, 0.5], dtype=torch.float64)
    assert torch.equal(bilinear_kernel(4), torch.outer(line4, line4))
    assert torch.equal(bilinear_kernel(3), torch.outer(line3, line3))
    sums = [bilinear_kernel(k).sum().item() for k in (2, 4, 16, 64)]
    assert sums == pytest.approx([1, 4, 64, 1024], abs=1e-9)
    assert bilinear_kernel(4, 3).sum().item() == pytest.approx(8)


@pytest.mark.parametrize("factor", [2, 8])
def test_bilinear_up_keeps_constants_and_ramps(factor):
    # bilinear-convt-constant, bilinear-convt-ramp, for any even factor
    up = BilinearUp(2, factor)
    constant = up(torch.full((1, 2, 6, 6), 3.0))
    assert constant.shape[2:] == (6 * factor, 6 * factor)
    inside = slice(factor, -factor)
    torch.testing.assert_close(
        constant[..., inside, inside], torch.full_like(constant, 3)[..., inside, inside]
    )
    ramp = up(torch.arange(6.0).expand(1, 2, 6, 6))[0, 1, 3 * factor, inside]
    torch.testing.assert_close(ramp.diff(), torch.full_like(ramp[1:], 1 / factor))


def test_bilinear_up_is_linear_interpolation():
    x = torch.randn(1, 3, 5, 4)
    expected = F.interpolate(x, scale_factor=4.0, mode="bilinear", align_corners=False)
    y = BilinearUp(3, 4)(x)
    torch.testing.assert_close(y[..., 4:-4, 4:-4], expected[..., 4:-4, 4:-4])


def test_bilinear_up_is_fixed_unless_learnable():
    assert list(BilinearUp(3, 2).parameters()) == []
    assert "up.weight" in BilinearUp(3, 2).state_dict()
    assert len(list(BilinearUp(3, 2, learnable=True).parameters())) == 1
    with pytest.raises(ConfigError, match="factor: is 3"):
        BilinearUp(1, 3)


def test_grouped_bilinear_up_stores_no_zeros():
    # bilinear-upscore-weights: 21 * 21 * 63 * 63, of which 83,349 are not 0
    dense = nn.ConvTranspose2d(21, 21, 63, stride=32, bias=False, device="meta")
    grouped = nn.ConvTranspose2d(21, 21, 63, groups=21, bias=False, device="meta")
    assert dense.weight.numel() == 1_750_329
    assert grouped.weight.numel() == 83_349


def test_even_kernel_looks_further_after_the_pixel():
    # same-padding-even-kernel: support of an impulse. Output pixel i sees inputs
    # i - 1 .. i + 2, so the impulse at 3 reaches outputs 1 .. 4.
    conv = convolution(2, 1, 1, 4)
    conv[1].weight.data.fill_(1)
    conv[1].bias.data.zero_()
    impulse = torch.zeros(1, 1, 7, 7)
    impulse[..., 3, 3] = 1
    support = conv(impulse)[0, 0].nonzero()
    assert [support.amin(0).tolist(), support.amax(0).tolist()] == [[1, 1], [4, 4]]


def test_conv_1x1_is_a_linear_layer_at_every_pixel():
    # conv1x1-is-linear
    conv, linear = nn.Conv2d(5, 3, 1).double(), nn.Linear(5, 3).double()
    linear.weight.data = conv.weight.data[..., 0, 0]
    linear.bias.data = conv.bias.data
    x = torch.randn(2, 5, 4, 6, dtype=torch.float64)
    assert (conv(x) - linear(x.movedim(1, -1)).movedim(-1, 1)).abs().max() < 1e-12


def test_atrous_convolution_is_a_kernel_with_zeros():
    # atrous-rate2, atrous-effective-kernel
    impulse = torch.zeros(1, 1, 9)
    impulse[..., 4] = 1
    kernel = torch.tensor([[[1.0, 2, 3]]])
    y = F.conv1d(impulse, kernel, dilation=2)
    assert y[0, 0].tolist() == [3, 0, 2, 0, 1]
    stuffed = torch.tensor([[[1.0, 0, 2, 0, 3]]])
    assert torch.equal(y, F.conv1d(impulse, stuffed))
    rates = (1, 2, 4, 6, 12, 18, 24)
    assert [effective_kernel(3, r) for r in rates] == [3, 5, 9, 13, 25, 37, 49]


VGG_LAYERS = [layer for n in (2, 2, 3, 3, 3) for layer in [*[(3, 1)] * n, (2, 2)]]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        # rf-no-downsampling, rf-fcn-upscaling, rf-fcn-upscaling-333, rf-vgg16-*
        ([(3, 1)] * 10, 21),
        ([(3, 1), (2, 2), (4, 1), (2, 2), (4, 1), (2, 2)], 28),
        ([(3, 1), (2, 2), (3, 1), (2, 2), (3, 1), (2, 2)], 22),
        (VGG_LAYERS, 212),
        ([*VGG_LAYERS, (7, 1), (1, 1)], 404),
    ],
)
def test_receptive_field(layers, expected):
    assert receptive_field(layers) == expected


@pytest.mark.parametrize("size", [(8, 16), (5, 7), (1, 1), (9, 31, 2)])
def test_padding_is_undone_by_cropping(size):
    x = torch.randn(1, 2, *size)
    padded = pad_to_multiple(x, 8)
    more = [n - m for n, m in zip(padded.shape[2:], size, strict=True)]
    assert all(n % 8 == 0 for n in padded.shape[2:])
    assert all(0 <= n < 8 for n in more)
    assert torch.equal(crop_to(padded, size), x)


def test_padding_reflects():
    x = plane([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    assert pad_to_multiple(x, 4)[0, 0].tolist() == [
        [1, 2, 3, 2],
        [4, 5, 6, 5],
        [7, 8, 9, 8],
        [4, 5, 6, 5],
    ]


def test_mirror_pad_is_reflection_and_goes_further():
    x = torch.randn(1, 1, 6, 7)
    expected = F.pad(x, (3, 5, 3, 4), mode="reflect")
    assert torch.equal(mirror_pad(x, 3, (4, 5)), expected)
    line = torch.tensor([1.0, 2, 3])[None, None, None]
    wide = mirror_pad(line, 4, (0, 4))[0, 0, 4]
    assert wide.tolist() == [1, 2, 3, 2, 1, 2, 3, 2, 1, 2, 3]


def test_unknown_normalisation_and_width():
    with pytest.raises(ConfigError, match=r"network\.norm: is 'layer'"):
        normalisation("layer", 2, 4)
    with pytest.raises(ConfigError, match=r"network\.width: is 0"):
        scale_widths((64,), 0)
    assert scale_widths((64, 128), 1 / 128) == (1, 1)

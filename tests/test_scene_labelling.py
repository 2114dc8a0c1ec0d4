"""The multi-scale net against its single scale, and its passes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medseg.errors import ConfigError
from medseg.networks import build
from medseg.networks.scene_labelling import SceneLabelling
from medseg.networks.upsample import resize

SMALL = {"widths": (4, 6, 8), "kernels": (3, 3, 3)}


def small(**arguments: object) -> SceneLabelling:
    torch.manual_seed(1)
    network = build("scene_labelling", {**SMALL, **arguments}).eval()
    assert isinstance(network, SceneLabelling)
    return network


def image(*size: int) -> Tensor:
    return torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_one_scale_is_the_plain_net():
    network, x = small(scales=1), image(16, 24)
    finest = network.net(x)[1][-1]
    assert finest.shape == (1, 8, 4, 6)
    assert torch.equal(network(x), resize(network.head(finest), (16, 24)))


@torch.no_grad()
def test_stacked_channels_add_up_and_each_scale_scores_its_own():
    # A linear head: the logits are the sum of what each scale alone would give.
    network, x = small(scales=3), image(32, 64)
    assert network.head.in_channels == 3 * 8
    expected = network.head.bias[:, None, None].expand(1, 2, 32, 64)
    for scale in range(3):
        level = torch.nn.functional.avg_pool2d(x, 2**scale)
        maps = resize(network.net(level)[1][-1], (8, 16))
        weight = network.head.weight[:, 8 * scale : 8 * (scale + 1)]
        expected = expected + resize(torch.nn.functional.conv2d(maps, weight), (32, 64))
    torch.testing.assert_close(network(x), expected)


@torch.no_grad()
def test_without_weight_on_coarse_scales_the_net_is_plain():
    network, plain, x = small(scales=3), small(scales=1), image(32, 32)
    network.head.weight[:, 8:] = 0
    plain.net.load_state_dict(network.net.state_dict())
    plain.head.weight.copy_(network.head.weight[:, :8])
    plain.head.bias.copy_(network.head.bias)
    torch.testing.assert_close(network(x), plain(x))


def test_scales_and_passes_share_their_weights():
    def count(**arguments: object) -> int:
        return sum(p.numel() for p in small(**arguments).parameters())

    # A scale more widens the head only, further passes add nothing.
    assert count(scales=3) - count(scales=2) == 8 * 2
    assert count(passes=3) == count(passes=2) == count(in_channels=3)


@torch.no_grad()
def test_a_second_pass_sees_the_logits_of_the_first():
    once, x = small(passes=2), image(32, 32)
    first = once.scores(torch.cat([x, torch.zeros(1, 2, 32, 32)], 1))
    second = once.scores(torch.cat([x, first], 1))
    assert not torch.allclose(first, second)
    assert torch.equal(once(x), second)
    # Blind to the logits, all passes say the same.
    once.net.blocks[0][0][1].weight[:, 1:] = 0
    assert torch.equal(once(x), once.scores(torch.cat([x, first], 1)))


@torch.no_grad()
def test_a_coarse_scale_sees_further():
    def seen(scales: int) -> int:
        network, x = small(scales=scales), torch.zeros(1, 1, 96, 96)
        y = x.clone()
        y[..., 48, 48] = 1
        return int((network(y) != network(x))[0, 0].any(0).sum())

    assert seen(1) < seen(2) < seen(3)


@pytest.mark.parametrize("name", ["scales", "passes"])
def test_no_scale_or_pass_is_refused(name):
    with pytest.raises(ConfigError, match=rf"network\.{name}: is 0. Use 1 or more"):
        small(**{name: 0})

"""EfficientNet-Lite as an encoder: published counts, padding, weights of the user."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from medseg.errors import ConfigError, FileError
from medseg.networks import build
from medseg.networks.efficientnet import ConvNorm, DepthwiseConv, EfficientNetLite
from medseg.networks.efficientnet_weights import load_efficientnet
from medseg.networks.pretrained import load_pretrained
from medseg.networks.unet import UNet

# Parameters of timm 1.0's tf_efficientnet_lite0..4, less conv_head, its norm and
# the classifier of 1,000 classes.
COUNTS = {
    "lite0": 4_652_008 - 1_693_160,
    "lite1": 5_416_680 - 1_693_160,
    "lite2": 6_092_072 - 1_734_120,
    "lite3": 8_197_096 - 1_775_080,
    "lite4": 13_006_568 - 1_857_000,
}
KINDS = ("expand", "depthwise", "project")


@pytest.mark.parametrize(("variant", "count"), COUNTS.items())
def test_the_encoder_has_the_published_number_of_parameters(
    variant: str, count: int
) -> None:
    encoder = EfficientNetLite(3, variant)
    assert sum(p.numel() for p in encoder.parameters()) == count


def test_the_maps_halve_five_times() -> None:
    maps = EfficientNetLite(1)(torch.zeros(1, 1, 64, 96))
    assert [m.shape[1:] for m in maps] == [
        (16, 32, 48),
        (24, 16, 24),
        (40, 8, 12),
        (112, 4, 6),
        (320, 2, 3),
    ]


def test_under_autocast_a_depthwise_convolution_stays_float32_on_a_cpu() -> None:
    layer = DepthwiseConv(3, 3, 3, groups=3, bias=False)
    x = torch.rand(1, 3, 8, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        filtered = layer(x)
        ordinary = F.conv2d(x, layer.weight, groups=3)
    exact = F.conv2d(x.float(), layer.weight, groups=3)
    assert torch.equal(filtered, exact)
    assert not torch.equal(ordinary.float(), exact)
    (gradient,) = torch.autograd.grad(filtered.square().sum(), layer.weight)
    (expected,) = torch.autograd.grad(exact.square().sum(), layer.weight)
    assert torch.equal(gradient, expected)


def test_the_encoder_filters_every_channel_by_itself_in_depthwise_convolutions() -> (
    None
):
    encoder = EfficientNetLite(1)
    grouped = [m for m in encoder.modules() if getattr(m, "groups", 1) > 1]
    assert len(grouped) == 16  # a block each: 1 + 2 + 2 + 3 + 3 + 4 + 1
    assert all(type(m) is DepthwiseConv for m in grouped)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2)])
def test_padding_is_that_of_tensorflow(kernel: int, stride: int) -> None:
    # "same": ceil(n / s) outputs, the odd zero comes last.
    size = 8
    missing = max(0, (size // stride - 1) * stride + kernel - size)
    before = missing // 2
    layer = ConvNorm(2, 3, kernel, stride, active=False).eval()
    x = torch.rand(1, 2, size, size)
    padded = F.pad(x, (before, missing - before) * 2)
    expected = layer[1](F.conv2d(padded, layer[0].weight, stride=stride))
    torch.testing.assert_close(layer(x), expected)


def published(
    encoder: EfficientNetLite, seed: int = 0
) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    """Return random weights under the published names, in the encoder's order."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {"_fc.bias": torch.zeros(10)}
    ordered = []

    def layer(module: ConvNorm, conv: str, norm: str) -> None:
        shape = list(module[0].weight.shape)
        if conv == "_conv_stem":
            shape[1] = 3
        names = [f"{conv}.weight"]
        names += [f"{norm}.{n}" for n in ("weight", "bias", "running_mean")]
        names += [f"{norm}.running_var"]
        for name in names:
            size = shape if name.startswith(conv) else shape[:1]
            tensors[name] = torch.rand(size, generator=generator) + 0.1
            ordered.append(tensors[name])

    layer(encoder.stem, "_conv_stem", "_bn0")
    blocks = [block for stage in encoder.stages for block in stage]
    for number, block in enumerate(blocks):
        kinds = KINDS[-len(block.layers) :]
        for kind, module in zip(kinds, block.layers, strict=True):
            norm = f"_bn{KINDS.index(kind)}"
            place = f"_blocks.{number}"
            layer(module, f"{place}._{kind}_conv", f"{place}.{norm}")
    return tensors, ordered


def test_every_weight_of_a_file_finds_its_place(tmp_path: Path) -> None:
    network = build("efficient_unet", {"in_channels": 3})
    tensors, ordered = published(network.encoder)
    save_file(tensors, tmp_path / "w.safetensors")
    names = load_efficientnet(network, tmp_path / "w.safetensors")
    state = network.state_dict()
    inside = [n for n in state if n.startswith("encoder.") and "num_batches" not in n]
    assert sorted(names) == sorted(inside)
    for name, value in zip(inside, ordered, strict=True):
        torch.testing.assert_close(state[name], value)


def test_a_grey_image_gives_what_it_gives_in_three_colours(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    grey, colour = EfficientNetLite(1).eval(), EfficientNetLite(3).eval()
    save_file(published(colour)[0], path)
    for encoder in (grey, colour):
        holder = torch.nn.Module()
        holder.encoder = encoder
        load_pretrained(holder, path)
    x = torch.rand(1, 1, 32, 32)
    stem = [grey.stem(x), colour.stem(x.expand(-1, 3, -1, -1))]
    torch.testing.assert_close(*stem)


class TestErrors:
    def test_a_network_without_such_an_encoder(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="UNet has no EfficientNet-Lite encoder"):
            load_efficientnet(UNet(), tmp_path / "w.safetensors")
        with pytest.raises(ConfigError, match="UNet has no encoder that weights"):
            load_pretrained(UNet(), tmp_path / "w.safetensors")

    def test_a_missing_tensor_is_named(self, tmp_path: Path) -> None:
        network = build("efficient_unet", {})
        tensors, _ = published(network.encoder)
        del tensors["_blocks.3._bn1.bias"]
        save_file(tensors, tmp_path / "w.safetensors")
        with pytest.raises(FileError, match="has no _blocks.3._bn1.bias"):
            load_efficientnet(network, tmp_path / "w.safetensors")

    def test_another_variant_is_refused(self, tmp_path: Path) -> None:
        donor = build("efficient_unet", {"variant": "lite2"})
        save_file(published(donor.encoder)[0], tmp_path / "w.safetensors")
        with pytest.raises(ConfigError, match=r"network.variant: .* in w.safetensors"):
            load_efficientnet(build("efficient_unet", {}), tmp_path / "w.safetensors")

    @pytest.mark.parametrize(
        ("arguments", "field"),
        [
            ({"variant": "b0"}, "network.variant"),
            ({"widths": [8, 8]}, "network.widths"),
            ({"spatial_dims": 3}, "network.spatial_dims"),
        ],
    )
    def test_arguments_that_cannot_be(self, arguments: dict, field: str) -> None:
        with pytest.raises(ConfigError, match=field):
            build("efficient_unet", arguments)

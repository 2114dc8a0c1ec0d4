"""One battery that every network passes, then each network's own facts."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.networks import NETWORKS, build
from medseg.networks.deeplab import AtrousBranches, SummedScores
from medseg.networks.fcn_alexnet import from_classifier
from medseg.networks.fpn import TopDown
from medseg.networks.padding import mirror_pad
from medseg.networks.pspnet import PyramidPooling
from medseg.networks.unet_2015 import UNet2015, level_sizes, nearest_valid_sizes
from medseg.networks.upsample import resize
from medseg.networks.vgg16_weights import dense_as_convolution

TINY = {
    "unet": {"widths": (4, 8, 8)},
    "unet_2015": {"widths": (4, 8), "mirror": True},
    "deconvnet": {"width": 1 / 16},
    "segnet": {"width": 1 / 16},
    "fcn": {"width": 1 / 16},
    "fcn_alexnet": {"width": 1 / 32},
    "fcn_flat": {"layers": 3, "width": 4},
    "fcn_upscaling": {"widths": (4, 4, 8)},
    "fcn_skip": {"widths": (4, 8, 8), "dense": 8},
    "fcn_convt_skip": {"widths": (4, 8, 8), "dense": 8},
    "sliding_window": {
        "patch": 16,
        "stride": 8,
        "widths": (8, 8, 8),
        "dense": 16,
        "interpolation": "linear",
    },
    "pixel_classifier": {},
    "scene_labelling": {"widths": (4, 8, 8), "passes": 2},
    "linknet": {"width": 1 / 8},
    "pspnet": {"width": 1 / 8},
    "fpn": {"width": 1 / 8},
    "deeplab": {"width": 1 / 8},
    "efficient_unet": {"widths": (4, 4, 4, 4)},
    "autoencoder": {"patch": 4, "widths": (16,), "code": 4},
}
FLAT = ("efficient_unet",)  # starts from photographs
UNPOOLING = ("segnet", "deconvnet")
SIX = [
    [2.0, 1, 7, 1, 2, 5],
    [5, 0, 3, 4, 1, 2],
    [1, 7, 8, 3, 3, 0],
    [0, 3, 2, 0, 1, 1],
    [3, 6, 5, 3, 0, 3],
    [3, 6, 0, 2, 1, 0],
]
PYRAMID = {
    1: [[47 / 18]],
    2: [[34 / 9, 21 / 9], [28 / 9, 11 / 9]],
    3: [[2, 3.75, 2.5], [2.75, 3.25, 1.25], [4.5, 2.5, 1.0]],
    6: SIX,
}


def tiny(name: str, **arguments: object) -> nn.Module:
    torch.manual_seed(1)
    return build(name, {**TINY[name], **arguments})


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def on_meta(name: str, **arguments: object) -> nn.Module:
    with torch.device("meta"):
        return build(name, arguments)


def multiplications(network: nn.Module, x: Tensor) -> int:
    """Count multiply-accumulates of convolutions and dense layers."""
    total = 0

    def add(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal total
        weights = module.weight.numel()
        if isinstance(module, nn.ConvTranspose2d):
            total += weights * math.prod(inputs[0].shape[2:])
        else:
            total += weights * math.prod(output.shape[2:])

    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    for module in network.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(add)
    network.eval()(x)
    return total


# The battery


def test_every_network_is_in_the_battery():
    assert set(TINY) == set(NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
def test_forward_and_backward_are_finite_and_reach_all_parameters(name):
    network = tiny(name, in_channels=2, out_channels=3).train()
    x = torch.randn(2, 2, 64, 48)
    y = network(x)
    assert y.shape == (2, 3, 64, 48)
    # A different weight for each value: a plain sum is constant under batch norm.
    (y * torch.randn_like(y)).sum().backward()
    assert torch.isfinite(y).all()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_output_has_the_size_of_the_input(name):
    network = tiny(name).eval()
    for size in range(1, 34, 4):
        x = torch.randn(1, 1, size, size + 2)
        y = network(x)
        assert y.shape == (1, 2, size, size + 2)
        assert torch.isfinite(y).all()


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_volumes(name):
    if name in FLAT:
        with pytest.raises(ConfigError, match=r"network\.spatial_dims: is 3"):
            tiny(name, spatial_dims=3)
        return
    network = tiny(name, spatial_dims=3, out_channels=3).eval()
    assert network(torch.randn(1, 1, 5, 18, 9)).shape == (1, 3, 5, 18, 9)


@pytest.mark.parametrize("name", NETWORKS)
def test_other_dimensions_are_refused(name):
    with pytest.raises(ConfigError, match=r"network\.spatial_dims: is 4"):
        tiny(name, spatial_dims=4)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_prediction_is_repeatable_and_leaves_its_input(name):
    network = tiny(name).eval()
    x = torch.randn(2, 1, 33, 20)
    before = x.clone()
    y = network(x)
    assert torch.equal(network(x), y)
    assert torch.equal(x, before)
    # A batch is its elements.
    torch.testing.assert_close(network(x[1:]), y[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_saved_weights_give_the_same_network(name, tmp_path):
    network = tiny(name).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(2)
    other = build(name, TINY[name]).eval()
    x = torch.randn(1, 1, 32, 32)
    assert not torch.equal(other(x), network(x))
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(other(x), network(x))


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_a_network_without_memory_takes_weights_as_they_are(name):
    network = tiny(name).eval()
    with torch.device("meta"):
        empty = build(name, TINY[name])
    empty.load_state_dict(network.state_dict(), assign=True)
    x = torch.randn(1, 1, 20, 33)
    assert torch.equal(empty.eval()(x), network(x))


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_memory_layout_does_not_matter(name):
    network, x = tiny(name).eval(), torch.randn(2, 1, 40, 33)
    expected = network(x)
    network = network.to(memory_format=torch.channels_last)
    y = network(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("name", "step"),
    [("linknet", {}), ("fpn", {})]
    + [(n, {"step": s}) for n in ("pspnet", "deeplab") for s in (8, 16, 32)],
)
def test_instance_norm_is_of_each_image_alone(name, step, dims):
    network = tiny(name, norm="instance", spatial_dims=dims, **step).train().double()
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    assert not any(isinstance(m, kinds) for m in network.modules())
    # At step 32 the last map is one pixel.
    x = torch.randn(2, 1, *(7, 32, 20)[-dims:], dtype=torch.float64)
    torch.testing.assert_close(network(x)[:1], network(x[:1]))


@pytest.mark.parametrize("name", NETWORKS)
def test_mixed_precision_trains(name):
    network = tiny(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        y = network(torch.randn(2, 1, 64, 48))
    y.float().square().mean().backward()
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize(
    "name",
    [
        n if n in UNPOOLING else pytest.param(n, marks=pytest.mark.slow)
        for n in NETWORKS
    ],
)
def test_exported_network_gives_the_same_labels(name):
    from medseg.engines.openvino import import_openvino, openvino_core

    openvino = import_openvino()

    network = tiny(name, out_channels=3).eval()
    x = torch.randn(2, 1, 33, 47)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = network(x)
        exported = torch.export.export(network, (x,))
        model = openvino.convert_model(exported)
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": 1,
    }
    compiled = openvino_core().compile_model(model, "CPU", options)
    logits = torch.from_numpy(compiled(x.numpy())[0])
    same = logits.argmax(1) == expected.argmax(1)
    assert same.float().mean() >= 0.9999
    scale = expected.abs().max().item()
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3 * scale)


def test_build_refuses_what_it_does_not_know():
    with pytest.raises(ConfigError, match=r"no network 'u_net'.*unet_2015"):
        build("u_net", {})
    with pytest.raises(ConfigError, match=r"unet has no argument depth.*widths"):
        build("unet", {"depth": 4})
    with pytest.raises(ConfigError, match=r"network\.arguments"):
        build("segnet", {"width": "half"})


# Parameter counts and arithmetic of the lecture decks


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        # params-unet, for both; batch norm would change it
        ("unet_2015", {}, 31_030_658),
        ("unet", {"widths": (64, 128, 256, 512, 1024), "norm": "none"}, 31_030_658),
        # params-deconvnet-21, params-segnet-11
        (
            "deconvnet",
            {"in_channels": 3, "out_channels": 21, "norm": "none"},
            251_772_245,
        ),
        ("segnet", {"in_channels": 3, "out_channels": 11, "norm": "none"}, 29_433_483),
        # params-fcn32s-vgg16, params-fcn8s-scores
        (
            "fcn",
            {"in_channels": 3, "out_channels": 21, "norm": "none", "step": 32},
            134_346_581,
        ),
        (
            "fcn",
            {"in_channels": 3, "out_channels": 21, "norm": "none", "step": 8},
            134_346_581 + 16_170,
        ),
        # params-sliding-window-200, params-fcn-upscaling, -skip, -convt-skip
        ("sliding_window", {"out_channels": 3}, 5_077_723),
        ("fcn_upscaling", {"out_channels": 3}, 77_563),
        ("fcn_skip", {"out_channels": 3}, 193_963),
        ("fcn_convt_skip", {"out_channels": 3}, 481_323),
        # AlexNet in one tower: 60,965,224 in two; 61,100,840 in torchvision
        ("fcn_alexnet", {"in_channels": 3, "out_channels": 1000}, 62_378_344),
        (
            "fcn_alexnet",
            {
                "in_channels": 3,
                "out_channels": 1000,
                "widths": (64, 192, 384, 256, 256),
            },
            61_100_840,
        ),
        # params-linknet-resnet18
        ("linknet", {"in_channels": 3, "out_channels": 21}, 11_535_893),
        ("linknet", {"in_channels": 3, "out_channels": 2}, 11_533_442),
    ],
)
def test_parameter_count(name, arguments, expected):
    assert count(on_meta(name, **arguments)) == expected


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        # params-vgg16-convs, params-fc6, params-fc7, params-deconv-fc6
        ("encoder", 14_714_688),
        ("fc6", 102_764_544),
        ("fc7", 16_781_312),
        ("deconv_fc6", 102_760_960),
    ],
)
def test_parameter_count_of_deconvnet_parts(part, expected):
    network = on_meta("deconvnet", in_channels=3, out_channels=21, norm="none")
    assert count(getattr(network, part)) == expected


@pytest.mark.parametrize(
    ("kernels", "expected"), [((3, 4, 4), 77_320), ((3, 3, 3), 43_720)]
)
def test_parameter_count_of_the_sliding_convolutions(kernels, expected):
    # params-sliding-convs-344, params-sliding-convs-333
    assert count(on_meta("sliding_window", kernels=kernels).convs) == expected
    assert count(on_meta("fcn_upscaling", kernels=kernels).encoder) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # fcn-upscaling-macs, fcn-skip-macs, fcn-convt-skip-macs
        ("fcn_upscaling", 10_200),
        ("fcn_skip", 21_240),
        ("fcn_convt_skip", 43_800),
    ],
)
def test_multiplications_per_pixel(name, expected):
    x = torch.empty(1, 1, 32, 40, device="meta")
    network = on_meta(name, out_channels=3)
    assert multiplications(network, x) == expected * 32 * 40


def test_multiplications_per_patch():
    # sliding-window-macs
    network = on_meta("sliding_window", out_channels=3)
    patch = torch.empty(1, 1, 200, 200, device="meta")
    network.forward = network.classify
    assert multiplications(network, patch) == 403_400_300


@pytest.mark.parametrize(
    ("name", "expected"),
    # channels-fcn-skip, channels-fcn-convt-skip
    [("fcn_skip", [240, 320, 360]), ("fcn_convt_skip", [160, 160, 80])],
)
def test_channels_after_concatenation(name, expected, monkeypatch):
    network, channels, cat = on_meta(name), [], torch.cat

    def spy(tensors, dim):
        channels.append(cat(tensors, dim=dim).shape[1])
        return cat(tensors, dim=dim)

    monkeypatch.setattr(torch, "cat", spy)
    network(torch.empty(1, 1, 16, 16, device="meta"))
    assert channels == expected


# U-Net 2015


@pytest.mark.parametrize(
    ("size", "expected"),
    # unet-valid-sizes
    [(188, 4), (204, 20), (220, 36), (572, 388), (684, 500)],
)
def test_unet_2015_output_size(size, expected):
    network = on_meta("unet_2015", widths=(1, 1, 1, 1, 1))
    shape = network(torch.empty(1, 1, size, 188, device="meta")).shape
    assert shape == (1, 2, expected, 4)
    assert level_sizes(size).up[-1] == expected == size - 2 * network.margin


def test_unet_2015_level_sizes():
    # unet-572-levels, against what the layers really give
    sizes = level_sizes(572)
    assert (sizes.down, sizes.bottom) == ((568, 280, 136, 64), 28)
    assert sizes.up == (52, 100, 196, 388)
    network, seen = on_meta("unet_2015", widths=(1, 1, 1, 1, 1)), []
    for block in (*network.encoder, *network.decoder):
        block.register_forward_hook(lambda m, i, y: seen.append(y.shape[-1]))
    network(torch.empty(1, 1, 572, 572, device="meta"))
    assert seen == [*sizes.down, sizes.bottom, *sizes.up]


@pytest.mark.parametrize(
    ("size", "nearest"),
    # unet-invalid-sizes
    [
        (187, "188"),
        (256, "252 or 268"),
        (512, "508 or 524"),
        (571, "556 or 572"),
        (573, "572 or 588"),
        (580, "572 or 588"),
    ],
)
def test_unet_2015_refuses_other_sizes_and_names_the_nearest(size, nearest):
    assert level_sizes(size) is None
    network = on_meta("unet_2015", widths=(1, 1, 1, 1, 1))
    with pytest.raises(ConfigError, match=f"{size} does not fit.*Use {nearest},"):
        network(torch.empty(1, 1, 188, size, device="meta"))


def test_unet_2015_valid_sizes_are_those_that_are_named():
    assert [n for n in range(300) if level_sizes(n)] == list(range(188, 300, 16))
    assert nearest_valid_sizes(1) == (188,)
    assert nearest_valid_sizes(204) == (204,)


@torch.no_grad()
def test_unet_2015_tiles_equal_the_whole_image_where_aligned():
    # unet-tiling-aligned, unet-tiling-misaligned
    torch.manual_seed(0)
    network = UNet2015(widths=(4, 8, 8)).double().eval()
    image = torch.randn(1, 1, 140, 140, dtype=torch.float64)
    whole = network(image)
    for offset, aligned in ((0, True), (4, True), (8, True), (1, False), (2, False)):
        tile = network(image[..., offset : offset + 76, offset : offset + 76])
        part = whole[..., offset : offset + 36, offset : offset + 36]
        difference = (tile - part).abs().max()
        assert difference < 1e-12 if aligned else difference > 1e-5


@torch.no_grad()
def test_unet_2015_mirrored_equals_the_valid_one_inside():
    network = tiny("unet_2015", mirror=False).eval()
    x = torch.randn(1, 1, 30, 46)
    valid = network(x)
    network.mirror = True
    whole = network(x)
    m = network.margin
    # The margin is a multiple of 2 ** depth here, so the poolings agree.
    torch.testing.assert_close(whole[..., m:-m, m:-m], valid)


def test_unet_2015_drops_out_at_the_end_of_the_contracting_path():
    network, seen = on_meta("unet_2015", widths=(1, 2, 3)), []
    network.dropout.register_forward_hook(lambda m, i, y: seen.append(y.shape[1]))
    network(torch.empty(1, 1, 60, 60, device="meta"))
    assert seen == [2, 3]


@pytest.mark.parametrize("name", ["unet", "unet_2015"])
def test_unets_need_two_levels(name):
    with pytest.raises(ConfigError, match=r"network\.widths: has 1 level"):
        build(name, {"widths": (8,)})


# Unpooling networks


def test_deconvnet_ladder():
    # deconvnet-ladder
    network, seen = on_meta("deconvnet", width=1 / 64), []
    for block in (network.fc6, network.deconv_fc6, *network.decoder.blocks):
        block.register_forward_hook(lambda m, i, y: seen.append(y.shape[-1]))
    network(torch.empty(1, 1, 224, 224, device="meta"))
    assert seen == [1, 7, 14, 28, 56, 112, 224]


@pytest.mark.parametrize("name", UNPOOLING)
@torch.no_grad()
def test_foreign_switches_change_the_output(name):
    network = tiny(name).eval()
    x, other = torch.randn(2, 1, 1, 32, 32)
    bottom, switches = network.encoder(x)
    _, foreign = network.encoder(other)
    own = network.decoder(bottom, switches)
    assert torch.equal(own, network.decoder(bottom, switches))
    assert not torch.equal(own, network.decoder(bottom, foreign))


@pytest.mark.parametrize("name", UNPOOLING)
def test_width_scales_the_parameters_by_its_square(name):
    full, quarter = on_meta(name), on_meta(name, width=0.25)
    assert count(quarter) == pytest.approx(count(full) / 16, rel=0.01)


def test_deconvnet_refuses_a_kernel_of_nothing():
    with pytest.raises(ConfigError, match=r"network\.kernel: is 0"):
        build("deconvnet", {"kernel": 0})


# FCN


def test_fcn_at_the_published_size():
    network = on_meta("fcn", width=1 / 64)
    x = torch.empty(1, 1, 224, 224, device="meta")
    assert network.coarse_scores(x).shape[-1] == 28
    assert network(x).shape[-1] == 224


@torch.no_grad()
def test_fcn_without_its_finest_score_is_the_coarser_one_upsampled():
    fine = tiny("fcn", step=8).eval()
    coarse = tiny("fcn", step=16).eval()
    shared = {k: v for k, v in fine.state_dict().items() if not k.startswith("up.")}
    coarse.load_state_dict(shared, strict=False)
    nn.init.zeros_(fine.skips["2"].weight)
    nn.init.zeros_(fine.skips["2"].bias)
    x = torch.randn(1, 1, 64, 64)
    expected = fine.up2[1](coarse.coarse_scores(x))
    torch.testing.assert_close(fine.coarse_scores(x), expected)


def test_fcn_learns_its_upsampling_only_if_told():
    fixed, free = tiny("fcn"), tiny("fcn", learnable=True)
    classes, kernels = 2, 16**2 + 2 * 4**2
    assert count(free) - count(fixed) == classes * kernels
    assert fixed.state_dict().keys() == free.state_dict().keys()


@pytest.mark.parametrize("name", ["fcn", "pspnet", "deeplab"])
def test_unknown_step(name):
    with pytest.raises(ConfigError, match=r"network\.step: is 4"):
        tiny(name, step=4)


# AlexNet


def test_alexnet_sizes():
    # sizes-alexnet-227; the maps of 13 follow ReLU and pooling alike
    network, seen = on_meta("fcn_alexnet"), []
    for layer in network.features:
        if not isinstance(layer, nn.ReLU):
            layer.register_forward_hook(lambda m, i, y: seen.append(y.shape[-1]))
    network.heat_map(torch.empty(1, 1, 227, 227, device="meta"))
    assert seen == [55, 27, 27, 13, 13, 13, 13, 6]
    assert network.fc6.weight[0].numel() == 9_216


@pytest.mark.parametrize(("size", "expected"), [(227, 1), (259, 2), (500, 9)])
def test_alexnet_heat_map(size, expected):
    # fcn-alexnet-heatmap
    network = on_meta("fcn_alexnet", width=1 / 32)
    heat = network.heat_map(torch.empty(1, 1, size, 227, device="meta"))
    assert heat.shape == (1, 2, expected, 1)


@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_alexnet_heat_map_is_the_classifier_at_each_window(padded):
    # fc-as-conv-unpadded, fc-as-conv-padded
    network = tiny("fcn_alexnet", padded=padded).double().eval()
    x = torch.randn(1, 1, 259, 259, dtype=torch.float64)
    whole = network.heat_map(x)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        crop = x[..., 32 * i :, 32 * j :][..., :227, :227]
        difference = (network.heat_map(crop)[..., 0, 0] - whole[..., i, j]).abs().max()
        difference = difference / (whole.amax() - whole.amin())
        assert difference > 1e-3 if padded else difference < 1e-12


@torch.no_grad()
def test_alexnet_logits_are_the_windows_of_every_32nd_pixel():
    network = tiny("fcn_alexnet", padded=False).eval()
    x = torch.randn(1, 1, 40, 33)
    y = network(x)
    wide = mirror_pad(x, 113, (140, 140))
    for i, j in ((0, 0), (1, 0), (1, 1)):
        window = wide[..., 32 * i :, 32 * j :][..., :227, :227]
        expected = network.heat_map(window)[..., 0, 0]
        torch.testing.assert_close(y[..., 32 * i, 32 * j], expected)
    between = y[..., 0, 0] + (y[..., 32, 0] - y[..., 0, 0]) * 5 / 32
    torch.testing.assert_close(y[..., 5, 0], between)


@torch.no_grad()
def test_alexnet_gives_what_torchvision_gives():
    from torchvision.models.alexnet import AlexNet

    torch.manual_seed(3)
    theirs = AlexNet(num_classes=3).eval()
    widths = (64, 192, 384, 256, 256)
    with torch.device("meta"):
        ours = build(
            "fcn_alexnet", {"in_channels": 3, "out_channels": 3, "widths": widths}
        )
    state = from_classifier(theirs.state_dict())
    ours.load_state_dict(state, assign=True)
    x = torch.randn(1, 3, 224, 224)
    heat = ours.eval().heat_map(nn.functional.pad(x, (2, 2, 2, 2)))
    assert heat.shape == (1, 3, 1, 1)
    torch.testing.assert_close(heat[..., 0, 0], theirs(x), rtol=1e-4, atol=1e-5)


def test_alexnet_has_five_convolutions():
    with pytest.raises(ConfigError, match=r"network\.widths: has 2 entries"):
        build("fcn_alexnet", {"widths": (8, 8)})


# The lecture's small networks


@torch.no_grad()
def test_fcn_upscaling_is_constant_on_blocks():
    # fcn-upscaling-blocks
    y = tiny("fcn_upscaling").eval()(torch.randn(1, 1, 64, 48))
    blocks = y.unfold(2, 8, 8).unfold(3, 8, 8).flatten(-2)
    assert (blocks.amax(-1) - blocks.amin(-1)).max() == 0


@torch.no_grad()
def test_fcn_skip_without_its_finest_skip_is_constant_on_blocks():
    network = tiny("fcn_skip").eval()
    network.head.weight[:, -TINY["fcn_skip"]["widths"][0] :] = 0
    y = network(torch.randn(1, 1, 32, 32))
    blocks = y.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)
    assert (blocks.amax(-1) - blocks.amin(-1)).max() == 0


def seen_pixels(network: nn.Module, size: int) -> int:
    """Measure the receptive field on one axis by the gradient of one pixel."""
    for parameter in network.parameters():
        parameter.data.abs_()
    x = torch.rand(1, 1, size, size).requires_grad_()
    network.double()(x.double())[0, 0, size // 2, size // 2].backward()
    rows = x.grad[0, 0].abs().sum(1).nonzero()
    return int(rows.max() - rows.min()) + 1


def test_receptive_field_of_the_flat_network():
    # rf-no-downsampling
    assert seen_pixels(build("fcn_flat", {"width": 2}), 41) == 21


def test_receptive_field_of_the_upscaling_network():
    # rf-fcn-upscaling, average pooling so that no maximum hides a pixel
    network = tiny("fcn_upscaling")
    network.encoder.pool = nn.AvgPool2d(2)
    assert seen_pixels(network, 64) == 28


def test_pixel_classifier_sees_one_pixel():
    assert seen_pixels(build("pixel_classifier", {}), 9) == 1


def test_convt_skip_crops_either_end():
    x = torch.randn(1, 1, 16, 16)
    first, last = (tiny("fcn_convt_skip", crop=end).eval() for end in ("first", "last"))
    assert not torch.equal(first(x), last(x))
    with pytest.raises(ConfigError, match=r"network\.crop: is 'both'"):
        tiny("fcn_convt_skip", crop="both")


@pytest.mark.parametrize("name", ["fcn_upscaling", "sliding_window"])
def test_one_kernel_a_width(name):
    with pytest.raises(ConfigError, match="has 2 entries for 3 widths"):
        tiny(name, kernels=(3, 3))


def test_flat_network_needs_a_layer():
    with pytest.raises(ConfigError, match=r"network\.layers: is 0"):
        build("fcn_flat", {"layers": 0})


# Sliding window


@torch.no_grad()
def test_sliding_window_gives_each_centre_its_patch():
    network = tiny("sliding_window", border="blank", interpolation="nearest").eval()
    x = torch.randn(1, 1, 40, 32)
    y = network(x)
    for top in (0, 8, 16, 24):
        for left in (0, 8, 16):
            patch = x[..., top : top + 16, left : left + 16]
            expected = network.classify(patch)[0]
            torch.testing.assert_close(y[0, :, top + 8, left + 8], expected)
    assert y[..., :8, :].abs().max() == 0
    assert y[..., 33:, :].abs().max() == 0


@torch.no_grad()
def test_sliding_window_interpolates_between_centres():
    network = tiny("sliding_window", border="blank", interpolation="linear").eval()
    y = network(torch.randn(1, 1, 16, 32))[0, :, 8]
    share = torch.arange(9) / 8
    expected = y[:, 8:9] + share * (y[:, 16:17] - y[:, 8:9])
    torch.testing.assert_close(y[:, 8:17], expected)


@torch.no_grad()
def test_sliding_window_mirrors_at_the_border():
    network = tiny("sliding_window", interpolation="nearest").eval()
    x = torch.randn(1, 1, 24, 24)
    corner = torch.nn.functional.pad(x, (8, 0, 8, 0), mode="reflect")[..., :16, :16]
    torch.testing.assert_close(network(x)[0, :, 0, 0], network.classify(corner)[0])


@torch.no_grad()
def test_unpadded_windows_equal_the_convolutionalised_network():
    network = tiny("sliding_window", padded=False, patch=36, stride=8, border="blank")
    network = network.double().eval()
    x = torch.randn(1, 1, 60, 52, dtype=torch.float64)
    linear, channels = network.dense[0], TINY["sliding_window"]["widths"][-1]
    kernel = dense_as_convolution(linear.weight, channels, network.side)
    hidden = nn.functional.conv2d(network.convs(x)[0], kernel, linear.bias).relu()
    heat = nn.functional.conv2d(
        hidden, network.head.weight[..., None, None], network.head.bias
    )
    centres = network(x)[..., 18:43:8, 18:35:8]
    assert heat.shape == centres.shape
    assert (heat - centres).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"stride": 0}, r"network\.stride: is 0"),
        ({"border": "wrap"}, r"network\.border: is 'wrap'"),
        ({"interpolation": "cubic"}, r"network\.interpolation: is 'cubic'"),
        ({"patch": 4}, r"network\.patch: of 4 is too small"),
    ],
)
def test_sliding_window_options(arguments, match):
    with pytest.raises(ConfigError, match=match):
        tiny("sliding_window", **arguments)


def test_sliding_window_needs_an_image_of_a_patch():
    with pytest.raises(ConfigError, match="15 is smaller than the patch of 16"):
        tiny("sliding_window", border="blank")(torch.zeros(1, 1, 15, 20))


# Networks on ResNet-18


def test_resnet_encoder_is_that_of_torchvision():
    from torchvision.models import resnet18

    ours = on_meta("linknet", in_channels=3).encoder
    with torch.device("meta"):
        theirs = resnet18()
    assert count(ours) == count(theirs) - count(theirs.fc)
    shapes = [p.shape for p in ours.parameters()]
    assert shapes == [p.shape for p in theirs.parameters()][:-2]


@torch.no_grad()
def test_resnet_encoder_gives_what_torchvision_gives():
    from torchvision.models import resnet18

    torch.manual_seed(4)
    theirs = resnet18().eval()
    ours = build("linknet", {"in_channels": 3}).encoder.eval()
    values = list(theirs.state_dict().values())[:-2]  # without the classifier
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    x = torch.randn(1, 3, 64, 96)
    y = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
    stages = (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4)
    for found, stage in zip(ours(x), stages, strict=True):
        y = stage(y)
        torch.testing.assert_close(found, y)


@pytest.mark.parametrize(("step", "sizes"), [(32, [2]), (16, [4]), (8, [8])])
def test_holes_keep_the_resolution(step, sizes):
    network = on_meta("pspnet", step=step)
    maps = network.encoder(torch.empty(1, 1, 64, 64, device="meta"))
    assert [m.shape[-1] for m in maps[-1:]] == sizes
    assert count(network) == count(on_meta("pspnet"))


@pytest.mark.parametrize("name", ["linknet", "pspnet", "fpn", "deeplab"])
def test_resnets_need_a_normalisation(name):
    with pytest.raises(ConfigError, match=r"network\.norm: is 'none'"):
        tiny(name, norm="none")


@torch.no_grad()
def test_linknet_adds_its_skips():
    # linknet-additive-skip
    network, inputs = tiny("linknet").double().eval(), []
    for block in network.decoder:
        block.register_forward_hook(lambda m, i, y: inputs.append((i[0], y)))
    x = torch.randn(1, 1, 64, 64, dtype=torch.float64)
    network(x)
    skips = network.encoder(x)
    for k in range(3):
        difference = inputs[k + 1][0] - inputs[k][1] - skips[2 - k]
        assert difference.abs().max() < 1e-12


def test_pyramid_pooling_bins():
    # pyramid-pool-6x6, pyramid-pool-constant
    pyramid = PyramidPooling(4, 2, "none")
    for pool, (bins, expected) in zip(pyramid.pools, PYRAMID.items(), strict=True):
        values = pool(torch.tensor(SIX)[None])[0]
        assert values.shape == (bins, bins)
        torch.testing.assert_close(values, torch.tensor(expected), atol=1e-5, rtol=0)
        level = resize(pool(torch.full((1, 1, 12, 18), 2.5)), (12, 18))
        torch.testing.assert_close(level, torch.full_like(level, 2.5))
    assert pyramid(torch.randn(1, 4, 6, 6)).shape[1] == pyramid.channels == 8


def test_pspnet_trains_with_one_image():
    network = tiny("pspnet").train()
    network(torch.randn(1, 1, 64, 64)).sum().backward()
    gradients = [p.grad for p in network.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)


@torch.no_grad()
def test_top_down_with_zero_laterals_is_nearest_upsampling():
    # fpn-zero-laterals
    top_down = TopDown((3, 3, 3, 3), 2, 2)
    for lateral in top_down.laterals[:-1]:
        nn.init.zeros_(lateral.weight)
        nn.init.zeros_(lateral.bias)
    maps = [torch.randn(1, 3, 16 // 2**k, 16 // 2**k) for k in range(4)]
    levels = top_down(maps)
    assert torch.equal(levels[-1], top_down.laterals[-1](maps[-1]))
    blocks = levels[-1].repeat_interleave(8, 2).repeat_interleave(8, 3)
    assert torch.equal(levels[0], blocks)


@pytest.mark.parametrize("version", ["v2", "v3", "v3+"])
@torch.no_grad()
def test_deeplab_versions(version):
    network = tiny("deeplab", version=version).eval()
    assert network(torch.randn(1, 1, 33, 40)).shape == (1, 2, 33, 40)
    rates = [m.dilation[0] for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert {6, 12, 18} <= set(rates)
    assert (24 in rates) == (version == "v2")


@torch.no_grad()
def test_summed_scores_are_convolutions_with_zeros_in_the_kernels():
    rates = (1, 2, 3)
    head, x = SummedScores(2, 3, rates, 2).double(), torch.randn(1, 2, 9, 11).double()
    expected = torch.zeros(1, 3, 9, 11, dtype=torch.float64)
    for rate, conv in zip(rates, head.scores, strict=True):
        kernel = torch.zeros(3, 2, *(2 * rate + 1,) * 2, dtype=torch.float64)
        kernel[..., ::rate, ::rate] = conv.weight
        expected += nn.functional.conv2d(x, kernel, conv.bias, padding=rate)
    torch.testing.assert_close(head(x), expected)


@torch.no_grad()
def test_a_rate_larger_than_the_map_is_a_1x1_convolution():
    branches = AtrousBranches(2, 3, (24,), "none", 2)
    conv, x = branches.branches[1][0], torch.randn(1, 2, 5, 5)
    middle = nn.functional.conv2d(x, conv.weight[..., 1:2, 1:2], conv.bias)
    torch.testing.assert_close(conv(x), middle)


def test_unknown_deeplab():
    with pytest.raises(ConfigError, match=r"network\.version: is 'v1'"):
        tiny("deeplab", version="v1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": [-1, 4]}, "negative dimension -1"),
        ({"widths": [0, 4]}, "without weights"),
        ({"patch": 0}, "without weights"),
    ],
)
def test_sizes_that_no_network_has_are_an_error_of_the_configuration(
    arguments, message
):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        with pytest.raises(ConfigError, match=message):
            build("unet", arguments)

"""VGG-16 weights of the user's, against torchvision's own network."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.vgg import make_layers, vgg16, vgg16_bn

from medseg.errors import ConfigError, FileError
from medseg.networks import build
from medseg.networks.vgg16 import VGG_CONVS
from medseg.networks.vgg16_weights import dense_as_convolution, load_vgg16

WIDTH = 1 / 16
WIDTHS = (4, 8, 16, 32, 32)
DENSE = 256


def narrow_vgg(norm: bool = False) -> nn.Module:
    """Return torchvision's VGG-16 with our narrow widths and dense layers."""
    torch.manual_seed(1)
    plan: list[int | str] = []
    for width, convs in zip(WIDTHS, VGG_CONVS, strict=True):
        plan += [*[width] * convs, "M"]
    network = nn.Module()
    network.features = make_layers(plan, batch_norm=norm)
    relu, dropout = nn.ReLU(), nn.Dropout()
    first, second = nn.Linear(WIDTHS[-1] * 49, DENSE), nn.Linear(DENSE, DENSE)
    network.classifier = nn.Sequential(first, relu, dropout, second, relu, dropout)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.weight.data, module.bias.data):
                nn.init.uniform_(values)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


def saved(network: nn.Module, folder) -> str:
    path = folder / "vgg16.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.mark.parametrize("reference", [vgg16, vgg16_bn])
def test_encoder_has_the_shapes_of_torchvision(reference):
    with torch.device("meta"):
        theirs = reference()
        ours = build("deconvnet", {"in_channels": 3, "norm": "none"})
    kernels = [m.weight.shape for m in theirs.features if isinstance(m, nn.Conv2d)]
    convs = [m for m in ours.encoder.modules() if isinstance(m, nn.Conv2d)]
    assert [m.weight.shape for m in convs] == kernels
    dense = theirs.classifier[0].weight
    assert dense_as_convolution(dense, 512, 7).shape == ours.fc6[0].weight.shape


@pytest.mark.parametrize("name", ["segnet", "deconvnet", "fcn"])
@pytest.mark.parametrize("norm", [False, True])
@torch.no_grad()
def test_encoder_gives_what_torchvision_gives(name, norm, tmp_path):
    reference = narrow_vgg(norm)
    network = build(
        name, {"in_channels": 3, "width": WIDTH, "norm": "batch" if norm else "none"}
    ).eval()
    names = load_vgg16(network, saved(reference, tmp_path))
    x = torch.randn(1, 3, 64, 32)
    torch.testing.assert_close(network.encoder(x)[0], reference.features(x))
    layers = {n for n in network.state_dict() if n.startswith("encoder.")}
    assert {n for n in names if n.startswith("encoder.")} == {
        n for n in layers if not n.endswith("num_batches_tracked")
    }


@torch.no_grad()
def test_dense_layers_become_convolutions(tmp_path):
    reference = narrow_vgg()
    network = build("deconvnet", {"in_channels": 3, "width": WIDTH, "norm": "none"})
    assert "fc6.0.weight" in load_vgg16(network.eval(), saved(reference, tmp_path))
    x = torch.randn(2, 3, 224, 224)
    bottom, _ = network.encoder(x)
    ours = network.fc7(network.fc6(bottom)).flatten(1)
    dense = reference.classifier
    theirs = dense[3](dense[0](bottom.flatten(1)).relu()).relu()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_fully_connected_as_convolution_equals_crops():
    # fc-as-conv-unpadded, fc-as-conv-padded: AlexNet's arithmetic, narrow
    def heat_map(x: Tensor, padded: bool) -> Tensor:
        p = int(padded)
        x = nn.functional.max_pool2d(nn.functional.conv2d(x, first, stride=4), 3, 2)
        x = nn.functional.conv2d(x, second, padding=2 * p)
        x = nn.functional.max_pool2d(x, 3, 2)
        x = nn.functional.conv2d(x, third, padding=p)
        x = nn.functional.max_pool2d(x, 3, 2)
        side = 6 if padded else 4
        kernel = dense_as_convolution(dense[:, : 2 * side * side], 2, side)
        return nn.functional.conv2d(x, kernel)

    torch.manual_seed(1)
    first = torch.randn(2, 1, 11, 11, dtype=torch.float64)
    second = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    third = torch.randn(2, 2, 3, 3, dtype=torch.float64)
    dense = torch.randn(3, 72, dtype=torch.float64) / 100
    x = torch.randn(1, 1, 259, 259, dtype=torch.float64)
    for padded in (False, True):
        whole = heat_map(x, padded)
        assert whole.shape[2:] == (2, 2)
        scale = whole.abs().max()
        crops = [
            heat_map(x[..., i : i + 227, j : j + 227], padded)[..., 0, 0]
            for i in (0, 32)
            for j in (0, 32)
        ]
        difference = (torch.stack(crops, -1) - whole.flatten(2)).abs().max() / scale
        assert difference > 1e-3 if padded else difference < 1e-12


@torch.no_grad()
def test_grey_network_gets_the_sum_over_colours(tmp_path):
    # rgb-to-grey-conv
    path = saved(narrow_vgg(), tmp_path)
    grey = build("segnet", {"width": WIDTH, "norm": "none"}).eval()
    colour = build("segnet", {"in_channels": 3, "width": WIDTH, "norm": "none"}).eval()
    load_vgg16(grey, path)
    load_vgg16(colour, path)
    x = torch.randn(1, 1, 32, 32)
    ours, theirs = grey.encoder(x)[0], colour.encoder(x.expand(-1, 3, -1, -1))[0]
    torch.testing.assert_close(ours, theirs)


@torch.no_grad()
def test_plain_weights_start_a_network_with_batch_norm(tmp_path):
    reference = narrow_vgg()
    network = build("segnet", {"in_channels": 3, "width": WIDTH})
    names = load_vgg16(network, saved(reference, tmp_path))
    assert len(names) == 13
    kernel = network.encoder.blocks[0][0][0].weight
    assert torch.equal(kernel, reference.features[0].weight)


@pytest.mark.parametrize("suffix", ["pth", "pt"])
def test_pickled_file_is_refused(suffix, tmp_path):
    network = build("segnet", {"width": WIDTH})
    with pytest.raises(FileError, match=r"pickled.*save_file"):
        load_vgg16(network, tmp_path / f"vgg16.{suffix}")


def test_file_that_is_not_there_or_no_safetensors(tmp_path):
    network = build("segnet", {"width": WIDTH})
    with pytest.raises(FileError, match="does not exist"):
        load_vgg16(network, tmp_path / "no.safetensors")
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"PK\x03\x04 this is something else")
    with pytest.raises(FileError, match="is no safetensors file"):
        load_vgg16(network, bad)


def test_file_of_another_network(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"features.0.weight": torch.zeros(4, 3, 3, 3)}, path)
    with pytest.raises(FileError, match=r"holds 1 convolutions.*VGG-16 has 13"):
        load_vgg16(build("segnet", {"width": WIDTH}), path)


def test_file_with_a_layer_missing(tmp_path):
    weights = narrow_vgg().state_dict()
    del weights["features.2.bias"]
    path = tmp_path / "part.safetensors"
    save_file(weights, path)
    with pytest.raises(FileError, match=r"has no features\.2\.bias"):
        load_vgg16(build("segnet", {"width": WIDTH, "norm": "none"}), path)


@pytest.mark.parametrize(
    ("name", "arguments", "match"),
    [
        ("unet", {}, "UNet has no VGG-16 encoder"),
        ("segnet", {"width": 1 / 8}, r"encoder\.blocks\.0\.0\.0\.weight is \(8, 1"),
        ("segnet", {"width": WIDTH, "in_channels": 2}, r"Use width 1, spatial_dims 2"),
        ("segnet", {"width": WIDTH, "spatial_dims": 3}, "spatial_dims 2"),
        ("deconvnet", {"width": WIDTH, "kernel": 3}, r"fc6.*32 x 3 x 3.*1568"),
    ],
)
def test_network_that_does_not_fit(name, arguments, match, tmp_path):
    with pytest.raises(ConfigError, match=match):
        load_vgg16(build(name, arguments), saved(narrow_vgg(), tmp_path))


def test_batch_norm_weights_need_batch_norm(tmp_path):
    network = build("segnet", {"width": WIDTH, "norm": "none"})
    with pytest.raises(ConfigError, match=r"has batch norm\. Use norm batch"):
        load_vgg16(network, saved(narrow_vgg(norm=True), tmp_path))


def test_a_network_that_does_not_fit_is_left_alone(tmp_path):
    network = build("segnet", {"width": 1 / 8})
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(ConfigError):
        load_vgg16(network, saved(narrow_vgg(), tmp_path))
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())

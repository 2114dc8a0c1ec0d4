"""Start a network from VGG-16 weights that the user has."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from medseg.errors import ConfigError, FileError
from medseg.networks.user_weights import read_weights
from medseg.networks.vgg16 import VGG_CONVS, VGGEncoder


def dense_as_convolution(weight: Tensor, channels: int, size: int) -> Tensor:
    """Return the weight ``(O, C * size * size)`` of a dense layer as a kernel.

    The convolution gives, at each position, what the dense layer gives for the
    flattened window there.
    """
    return weight.reshape(len(weight), channels, size, size)


def load_vgg16(network: nn.Module, path: str | Path) -> tuple[str, ...]:
    """Start DeconvNet, SegNet or FCN from VGG-16 weights that the user has.

    Reads the names of torchvision's ``vgg16`` and ``vgg16_bn`` from a safetensors
    file: ``features.*`` for the convolutions and, where the network has them and
    the file too, ``classifier.0`` and ``classifier.3`` for fc6 and fc7. A network
    with one input channel gets the sum of the first kernels over the colours, so
    that a grey image gives what it gives when repeated three times.

    Returns:
        The names of the parameters and buffers of ``network`` that were set.

    Raises:
        FileError: If the file is no safetensors file or does not hold VGG-16.
        ConfigError: If the network has no VGG-16 encoder of the published shape.
    """
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, VGGEncoder):
        raise ConfigError(
            "network",
            f"{type(network).__name__} has no VGG-16 encoder",
            "Use deconvnet, segnet or fcn",
        )
    path = Path(path)
    weights = read_weights(path)
    found = _match_features(network, weights, path)
    for name, source in (("fc6", "classifier.0"), ("fc7", "classifier.3")):
        if hasattr(network, name) and f"{source}.weight" in weights:
            found.update(_match_dense(network, name, source, weights))
    state = network.state_dict()
    _check_shapes(state, found)
    network.load_state_dict({**state, **found})
    return tuple(found)


def _match_features(
    network: nn.Module, weights: dict[str, Tensor], path: Path
) -> dict[str, Tensor]:
    """Return values for the encoder by name, in the order of the convolutions."""
    numbers = sorted(
        int(name.split(".")[1])
        for name, value in weights.items()
        if name.startswith("features.") and name.endswith(".weight") and value.ndim == 4
    )
    layers = [
        f"encoder.blocks.{level}.{k}"
        for level, count in enumerate(VGG_CONVS)
        for k in range(count)
    ]
    if len(numbers) != len(layers):
        raise FileError(
            path,
            f"holds {len(numbers)} convolutions named features.*, VGG-16 has 13",
            "Give the weights of torchvision's vgg16 or vgg16_bn",
        )
    has_norm = f"features.{numbers[0] + 1}.running_mean" in weights
    state = network.state_dict()
    # 0: convolution, 1: normalisation of a layer of conv_relu.
    if has_norm and f"{layers[0]}.1.running_mean" not in state:
        raise ConfigError(
            "network.norm", f"{path.name} has batch norm", "Use norm batch"
        )
    found = {}
    for number, layer in zip(numbers, layers, strict=True):
        try:
            found.update(_match_layer(weights, number, layer, state, has_norm))
        except KeyError as error:
            raise FileError(
                path,
                f"has no {error.args[0]}",
                "Give the weights of torchvision's vgg16 or vgg16_bn",
            ) from error
    first = f"{layers[0]}.0.weight"
    if state[first].shape[1] == 1:
        found[first] = found[first].sum(1, keepdim=True)
    return found


def _match_layer(
    weights: dict[str, Tensor],
    number: int,
    layer: str,
    state: dict[str, Tensor],
    has_norm: bool,
) -> dict[str, Tensor]:
    found = {f"{layer}.0.weight": weights[f"features.{number}.weight"]}
    bias = weights[f"features.{number}.bias"]
    if f"{layer}.0.bias" in state:
        found[f"{layer}.0.bias"] = bias
    if has_norm:
        for name in ("weight", "bias", "running_mean", "running_var"):
            found[f"{layer}.1.{name}"] = weights[f"features.{number + 1}.{name}"]
        # Our convolution has no bias before batch norm: the mean takes it.
        found[f"{layer}.1.running_mean"] = found[f"{layer}.1.running_mean"] - bias
    return found


def _match_dense(
    network: nn.Module, name: str, source: str, weights: dict[str, Tensor]
) -> dict[str, Tensor]:
    conv = getattr(network, name)[0]
    weight, bias = weights[f"{source}.weight"], weights[f"{source}.bias"]
    size = conv.kernel_size[0]
    if weight.shape[1] != conv.in_channels * size * size:
        raise ConfigError(
            f"network.{name}",
            f"takes {conv.in_channels} x {size} x {size} values, the file's "
            f"{source} {weight.shape[1]}",
            "Use width 1 and kernel 7",
        )
    kernel = dense_as_convolution(weight, conv.in_channels, size)
    found = {f"{name}.0.weight": kernel}
    if conv.bias is not None:
        found[f"{name}.0.bias"] = bias
    return found


def _check_shapes(state: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    for name, value in found.items():
        if state[name].shape != value.shape:
            raise ConfigError(
                "network",
                f"{name} is {tuple(state[name].shape)}, in VGG-16 {tuple(value.shape)}",
                "Use width 1, spatial_dims 2 and 1 or 3 in_channels",
            )

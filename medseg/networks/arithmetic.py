"""How sizes and views change from layer to layer: whole numbers, no tensors."""

from __future__ import annotations

from collections.abc import Sequence


def conv_size(size: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """Return the output size of a convolution or pooling: the floor convention."""
    return (size + 2 * padding - kernel) // stride + 1


def conv_transpose_size(
    size: int, kernel: int, stride: int = 1, padding: int = 0, output_padding: int = 0
) -> int:
    """Return the output size of a transposed convolution."""
    return (size - 1) * stride - 2 * padding + kernel + output_padding


def effective_kernel(kernel: int, rate: int) -> int:
    """Return how many pixels a convolution with holes (atrous) spans."""
    return kernel + (kernel - 1) * (rate - 1)


def receptive_field(layers: Sequence[tuple[int, int]]) -> int:
    """Return how many input pixels, on one axis, one output pixel sees.

    Args:
        layers: ``(kernel, stride)`` of each layer from the input on.
    """
    field, step = 1, 1
    for kernel, stride in layers:
        field += (kernel - 1) * step
        step *= stride
    return field

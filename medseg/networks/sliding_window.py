"""The sliding-window classifier: one class a patch, put back on the image grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from monai.networks.layers.factories import Act
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.networks.padding import crop_to, mirror_pad
from medseg.networks.pooled_convs import PooledConvs

Border = Literal["mirror", "blank"]
Interpolation = Literal["nearest", "linear"]


class SlidingWindow(nn.Module):
    """Classify the centre pixel of every patch with a small network.

    The baseline that shows why dense prediction exists: 5,077,723 parameters and
    403 million multiplications a patch (one channel, three classes, patch 200).
    Patches lie ``stride`` pixels apart; :meth:`classify` takes single patches.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        patch: Size of the patch; its class is that of its centre.
        stride: Distance of patches.
        border: ``"mirror"`` extends the image so that its corners are centres of
            patches; ``"blank"`` keeps patches inside the image and gives all
            classes the logit 0 beyond the outermost centres.
        interpolation: Pixels between the centres: the nearest, or linear.
        widths: Channels of the three convolutions.
        kernels: Their sizes, ``(3, 4, 4)`` or ``(3, 3, 3)``.
        dense: Width of the dense layer.
        dropout: Probability of dropping a value after it.
        padded: Convolutions keep the size (each patch then has its own zero
            border, and no dense network gives the same); False: they shrink it.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: If an option is unknown, or the patch too small.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        patch: int = 200,
        stride: int = 100,
        border: Border = "mirror",
        interpolation: Interpolation = "nearest",
        widths: Sequence[int] = (40, 40, 80),
        kernels: Sequence[int] = (3, 4, 4),
        dense: int = 100,
        dropout: float = 0.5,
        padded: bool = True,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        _check_options(stride, border, interpolation)
        self.patch, self.stride = patch, stride
        self.border, self.interpolation = border, interpolation
        self.convs = PooledConvs(in_channels, widths, kernels, spatial_dims, padded)
        side = _final_size(patch, kernels, padded)
        if side < 1:
            raise ConfigError("network.patch", f"of {patch} is too small", "Use more")
        self.side = side
        self.dense = nn.Sequential(
            nn.Linear(widths[-1] * side**spatial_dims, dense),
            Act["relu"](),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(dense, out_channels)

    def classify(self, patches: Tensor) -> Tensor:
        """Return logits ``(N, K)`` for patches ``(N, C, [Z,] Y, X)``."""
        features, _ = self.convs(patches)
        return self.head(self.dense(features.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, K, [Z,] Y, X)`` for images ``(N, C, [Z,] Y, X)``.

        Raises:
            ConfigError: If the border is blank and the image smaller than a patch.
        """
        size = x.shape[2:]
        if self.border == "mirror":
            # The patch round pixel 0 begins half a patch before it.
            before = self.patch // 2
            steps = [-(-(n - 1) // self.stride) for n in size]
            after = [
                max(0, k * self.stride + self.patch - n - before)
                for k, n in zip(steps, size, strict=True)
            ]
            return self._spread(self._grid(mirror_pad(x, before, after)), size, 0)
        if min(size) < self.patch:
            raise ConfigError(
                "image size",
                f"{min(size)} is smaller than the patch of {self.patch}",
                "Use border mirror or a smaller patch",
            )
        grid = self._grid(x)
        return self._spread(grid, size, self.patch // 2)

    def _grid(self, x: Tensor) -> Tensor:
        """Return logits ``(N, K, ...)``, one a patch; a slab of patches at a time."""
        rows = [self._classify_slab(slab) for slab in self._slabs(x)]
        return torch.stack(rows, dim=2)

    def _slabs(self, x: Tensor) -> Iterator[Tensor]:
        for start in range(0, x.shape[2] - self.patch + 1, self.stride):
            yield x.narrow(2, start, self.patch)

    def _classify_slab(self, slab: Tensor) -> Tensor:
        channels, dims = slab.shape[1], slab.ndim - 2
        for axis in range(3, slab.ndim):
            slab = slab.unfold(axis, self.patch, self.stride)
        # (N, C, patch, grid..., patch...) -> (N * grid, C, patch, patch...)
        counts = slab.shape[3 : 2 + dims]
        grid_axes = tuple(range(3, 2 + dims))
        patch_axes = tuple(range(2 + dims, 1 + 2 * dims))
        slab = slab.permute(0, *grid_axes, 1, 2, *patch_axes)
        patches = slab.reshape(-1, channels, *[self.patch] * dims)
        logits = self.classify(patches)
        return logits.reshape(-1, *counts, logits.shape[1]).movedim(-1, 1)

    def _spread(self, grid: Tensor, size: Sequence[int], first: int) -> Tensor:
        """Put ``(N, K, ...)`` on the pixels; the first centre is pixel ``first``."""
        for axis, length in enumerate(size, start=2):
            pixel = torch.arange(length, device=grid.device)
            place = (pixel - first) / self.stride
            last = grid.shape[axis] - 1
            inside = (place >= 0) & (place <= last)
            grid = self._interpolate(grid, axis, place.clamp(0, last))
            if self.border == "blank":
                shape = [length if k == axis else 1 for k in range(grid.ndim)]
                grid = grid * inside.reshape(shape)
        return crop_to(grid, size)

    def _interpolate(self, grid: Tensor, axis: int, place: Tensor) -> Tensor:
        if self.interpolation == "nearest":
            return grid.index_select(axis, (place + 0.5).floor().long())
        low = place.floor().long().clamp(max=max(0, grid.shape[axis] - 2))
        high = (low + 1).clamp(max=grid.shape[axis] - 1)
        shape = [-1 if k == axis else 1 for k in range(grid.ndim)]
        share = (place - low).to(grid.dtype).reshape(shape)
        a, b = grid.index_select(axis, low), grid.index_select(axis, high)
        return a + share * (b - a)


def _check_options(stride: int, border: str, interpolation: str) -> None:
    if stride < 1:
        raise ConfigError("network.stride", f"is {stride}", "Use 1 or more")
    if border not in ("mirror", "blank"):
        raise ConfigError("network.border", f"is {border!r}", "Use mirror or blank")
    if interpolation not in ("nearest", "linear"):
        raise ConfigError(
            "network.interpolation", f"is {interpolation!r}", "Use nearest or linear"
        )


def _final_size(patch: int, kernels: Sequence[int], padded: bool) -> int:
    for kernel in kernels:
        patch = (patch if padded else patch - kernel + 1) // 2
    return patch

"""Any input size: pad to a multiple, crop back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad ``(N, C, [Z,] Y, X)`` at the far end of each axis to a multiple.

    Reflects where the axis is long enough for it, else repeats the edge.
    """
    missing = [-size % multiple for size in x.shape[2:]]
    if not any(missing):
        return x
    reflects = all(m < s for m, s in zip(missing, x.shape[2:], strict=True))
    # F.pad counts from the last axis and wants (before, after) pairs.
    pairs = [n for m in reversed(missing) for n in (0, m)]
    return F.pad(x, pairs, mode="reflect" if reflects else "replicate")


def crop_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return the near corner of ``x`` with spatial ``size``: undoes the padding."""
    for axis, length in enumerate(size, start=2):
        x = x.narrow(axis, 0, length)
    return x


class AnySize(nn.Module, ABC):
    """A network whose own size is a multiple: any other is padded, then cropped.

    Attributes:
        multiple: Divides the sizes that :meth:`logits` is called with.
    """

    multiple: int = 32

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, K, [Z,] Y, X)`` for images ``(N, C, [Z,] Y, X)``."""
        size = x.shape[2:]
        return crop_to(self.logits(pad_to_multiple(x, self.multiple)), size)

    @abstractmethod
    def logits(self, x: Tensor) -> Tensor:
        """Return logits for images whose size :attr:`multiple` divides."""


def mirror_pad(x: Tensor, before: int, after: Sequence[int]) -> Tensor:
    """Mirror ``(N, C, [Z,] Y, X)`` outwards, any number of times its own size.

    Args:
        x: The image.
        before: Pixels added at the near end of each axis.
        after: Pixels added at the far end, one number an axis.
    """
    for axis, more in enumerate(after, start=2):
        size = x.shape[axis]
        index = torch.arange(-before, size + more, device=x.device)
        # The mirrored image repeats every 2 (size - 1) pixels; one pixel, every 1.
        period = max(1, 2 * (size - 1))
        index = index.remainder(period)
        x = x.index_select(
            axis, torch.minimum(index, period - index).clamp(max=size - 1)
        )
    return x

"""Patches of pixels moved into channels and back (space to depth)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def unfold_patches(x: Tensor, patch: int) -> Tensor:
    """Move ``patch``-sized blocks into channels: ``(N, C * patch^d, [Z,] Y, X)``."""
    if patch == 1:
        return x
    if x.ndim == 4:
        return F.pixel_unshuffle(x, patch)
    n, c, *size = x.shape
    z, y, w = (s // patch for s in size)
    x = x.reshape(n, c, z, patch, y, patch, w, patch)
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(n, c * patch**3, z, y, w)


def fold_patches(x: Tensor, patch: int) -> Tensor:
    """Undo :func:`unfold_patches`."""
    if patch == 1:
        return x
    if x.ndim == 4:
        return F.pixel_shuffle(x, patch)
    n, c, z, y, w = x.shape
    c //= patch**3
    x = x.reshape(n, c, patch, patch, patch, z, y, w)
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(
        n, c, z * patch, y * patch, w * patch
    )

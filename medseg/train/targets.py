"""What the network is to say, and what it said, for both kinds of label set."""

from __future__ import annotations

import torch
from torch import Tensor

from medseg.labels import Kind


def to_targets(truth: Tensor, annotated: Tensor, kind: Kind) -> tuple[Tensor, Tensor]:
    """Return the loss's target and ``annotated`` for structure masks.

    Overlapping structures are a channel each. Exclusive ones share a pixel with
    the background, which comes first and is known only where all structures are.

    Args:
        truth: ``(N, K, [Z,] Y, X)`` in [0, 1].
        annotated: ``(N, K)``.
        kind: Of the label set.
    """
    if kind == "overlapping":
        return truth, annotated
    total = truth.sum(dim=1, keepdim=True)
    background = (1 - total).clamp(min=0)
    known = annotated.amin(dim=1, keepdim=True)
    # Structures that meet in a pixel share it: a target sums to 1.
    return (
        torch.cat([background, truth / total.clamp(min=1)], dim=1),
        torch.cat([known, annotated], dim=1),
    )


def to_masks(logits: Tensor, kind: Kind) -> Tensor:
    """Return boolean structure masks ``(N, K, [Z,] Y, X)`` of logits."""
    if kind == "overlapping":
        return logits > 0
    structures = torch.arange(1, logits.shape[1], device=logits.device)
    shape = (1, -1, *[1] * (logits.ndim - 2))
    return logits.argmax(dim=1, keepdim=True) == structures.reshape(shape)

"""Losses for exclusive and overlapping labels with structures nobody drew.

One input form for both kinds: logits and target are ``(N, K, [Z,] Y, X)``, and
``annotated``, ``(N, K)`` or ``(N, K, [Z,] Y, X)`` of 0/1, tells what somebody drew.
What nobody drew gives no loss and exactly no gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg.errors import ConfigError

LossKind = Literal["overlapping", "exclusive"]

# Far below any logit, and finite: a channel that is left out of a softmax.
_LEFT_OUT = -1e30


def cross_entropy(logits: Tensor, target: Tensor, annotated: Tensor) -> Tensor:
    """Return ``-sum_k y log p`` of every pixel for exclusive labels (C1).

    The softmax runs over the annotated channels alone, so that the logit of a
    structure that nobody drew gets no gradient, not even through the others.

    Returns:
        ``(N, K, [Z,] Y, X)``, the term of each channel; 0 where it is not annotated.
    """
    drawn = _per_pixel(annotated, logits) > 0
    left_out = max(_LEFT_OUT, torch.finfo(logits.dtype).min / 2)
    log_p = logits.masked_fill(~drawn, left_out).log_softmax(dim=1)
    # Not a product: 0 times the huge logarithm of a channel left out is not clean.
    return torch.where(drawn, -target * log_p, 0)


def binary_cross_entropy(logits: Tensor, target: Tensor, annotated: Tensor) -> Tensor:
    """Return the cross-entropy of every pixel and channel for overlapping labels.

    Returns:
        ``(N, K, [Z,] Y, X)``; 0 where it is not annotated.
    """
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return loss * _per_pixel(annotated, logits)


def soft_dice(
    p: Tensor,
    y: Tensor,
    annotated: Tensor | None = None,
    *,
    squared: bool = True,
    smooth: float = 1e-5,
    batch: bool = False,
) -> Tensor:
    """Return the soft Dice loss of every sample and structure.

    ``1 - (2 sum py + s) / (sum p^2 + sum y^2 + s)`` with ``squared``, as in the
    lecture deck (C2); without, the plain sums of p and y (C3).

    Args:
        p: Probabilities ``(N, K, [Z,] Y, X)``.
        y: Truth of the same shape, in [0, 1].
        annotated: Pixels that count; all, if not given.
        squared: Squared denominators or plain ones.
        smooth: The s above. With 0, a structure that is absent from truth and
            prediction gives 0/0 = NaN (C4).
        batch: Sum over the samples first.

    Returns:
        ``(N, K)``, or ``(1, K)`` with ``batch``.
    """
    axes = (*((0,) if batch else ()), *range(2, p.ndim))
    mask = torch.ones_like(p) if annotated is None else _per_pixel(annotated, p)
    power = 2 if squared else 1
    overlap = 2 * (p * y * mask).sum(axes)
    total = ((p**power + y**power) * mask).sum(axes)
    loss = 1 - (overlap + smooth) / (total + smooth)
    return loss.reshape(-1, p.shape[1])


def _per_pixel(annotated: Tensor, like: Tensor) -> Tensor:
    """Broadcast ``(N, K)`` or ``(N, K, ...)`` of 0/1 over the pixels of ``like``."""
    if annotated.ndim == 2:
        annotated = annotated[(...,) + (None,) * (like.ndim - 2)]
    return annotated.to(like.dtype).expand_as(like)


class MaskedDiceCELoss(nn.Module):
    """Cross-entropy plus soft Dice; a weight of 0 leaves either out.

    The cross-entropy is a mean over annotated pixels (and channels, where labels
    overlap). The Dice loss is a mean over the structures of the samples in which
    they are annotated, background included; each is computed per sample, or over
    the batch.

    Args:
        cross_entropy: Weight of the mean pixel cross-entropy.
        dice: Weight of the mean soft Dice loss.
        squared: Squared denominators, as in the lecture deck (C2), or plain (C3).
        smooth: Added to numerator and denominator (C4); above 0.
        kind: ``"overlapping"``: a sigmoid a channel. ``"exclusive"``: softmax over
            the channels, of which the first is the background.
        class_weights: One factor a channel on its cross-entropy; the mean is then
            weighted, as in :class:`torch.nn.CrossEntropyLoss`.
        batch: Dice over the batch rather than per sample.

    Raises:
        ConfigError: If an argument cannot be.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        cross_entropy: float = 1.0,
        dice: float = 1.0,
        squared: bool = True,
        smooth: float = 1e-5,
        *,
        kind: LossKind = "overlapping",
        class_weights: Sequence[float] | None = None,
        batch: bool = False,
    ) -> None:
        super().__init__()
        _check(cross_entropy, dice, smooth, kind, class_weights)
        self.cross_entropy = cross_entropy
        self.dice = dice
        self.squared = squared
        self.smooth = smooth
        self.exclusive = kind == "exclusive"
        self.batch = batch
        weights = None if class_weights is None else torch.tensor(list(class_weights))
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        annotated: Tensor,
        pixel_weights: Tensor | None = None,
    ) -> Tensor:
        """Return the scalar loss.

        Args:
            logits: ``(N, K, [Z,] Y, X)``.
            target: The same shape, in [0, 1]; for exclusive labels one-hot.
            annotated: ``(N, K)`` or ``(N, K, [Z,] Y, X)`` of 0/1: what somebody drew.
            pixel_weights: ``(N, [Z,] Y, X)`` factors on the cross-entropy, for
                instance :func:`medseg.border_weights.border_weights`. They do not
                enter the denominator of the mean.

        Raises:
            ConfigError: If the number of class weights is not K.
        """
        # Half precision would lose the sums.
        logits, target = logits.float(), target.float()
        loss = logits.new_zeros(())
        if self.cross_entropy:
            term = self._mean_cross_entropy(logits, target, annotated, pixel_weights)
            loss = loss + self.cross_entropy * term
        if self.dice:
            loss = loss + self.dice * self._mean_dice(logits, target, annotated)
        return loss

    def _mean_cross_entropy(
        self,
        logits: Tensor,
        target: Tensor,
        annotated: Tensor,
        pixel_weights: Tensor | None,
    ) -> Tensor:
        function = cross_entropy if self.exclusive else binary_cross_entropy
        terms = function(logits, target, annotated)
        counted = _per_pixel(annotated, logits)
        if self.exclusive:
            # A pixel counts once, through the channel of its class.
            counted = counted * target
        if self.class_weights is not None:
            weights = self._class_weights_for(logits)
            terms, counted = terms * weights, counted * weights
        if pixel_weights is not None:
            terms = terms * pixel_weights[:, None].to(terms.dtype)
        total = counted.sum()
        return terms.sum() / torch.where(total > 0, total, 1)

    def _class_weights_for(self, logits: Tensor) -> Tensor:
        weights, channels = self.class_weights, logits.shape[1]
        if weights is None or len(weights) != channels:
            count = 0 if weights is None else len(weights)
            raise ConfigError(
                "loss.class_weights",
                f"has {count} entries for {channels} channels",
                "Give one a channel",
            )
        return weights.to(logits).reshape(1, -1, *[1] * (logits.ndim - 2))

    def _mean_dice(self, logits: Tensor, target: Tensor, annotated: Tensor) -> Tensor:
        mask = _per_pixel(annotated, logits)
        if self.exclusive:
            p = logits.masked_fill(mask == 0, _LEFT_OUT).softmax(dim=1)
        else:
            p = logits.sigmoid()
        dice = soft_dice(
            p, target, mask, squared=self.squared, smooth=self.smooth, batch=self.batch
        )
        axes = (*((0,) if self.batch else ()), *range(2, p.ndim))
        drawn = (mask.sum(axes) > 0).to(p.dtype).reshape(dice.shape)
        return (dice * drawn).sum() / drawn.sum().clamp(min=1)


def _check(
    cross_entropy: float,
    dice: float,
    smooth: float,
    kind: str,
    class_weights: Sequence[float] | None,
) -> None:
    sums_up = 0 < cross_entropy + dice < math.inf
    if not sums_up or min(cross_entropy, dice) < 0:
        raise ConfigError(
            "loss",
            f"has weights {cross_entropy} and {dice}",
            "Give cross_entropy or dice a weight above 0",
        )
    if not 0 < smooth < math.inf:
        raise ConfigError(
            "loss.smooth", f"is {smooth}", "Use a value above 0, such as 1e-5"
        )
    if kind not in ("overlapping", "exclusive"):
        raise ConfigError("loss.kind", f"is {kind!r}", "Use overlapping or exclusive")
    finite = all(0 <= w < math.inf for w in class_weights or ())
    if class_weights is not None and not (len(class_weights) and finite):
        raise ConfigError(
            "loss.class_weights", f"is {list(class_weights)}", "Use weights from 0 up"
        )

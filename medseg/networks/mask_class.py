"""The third stage of the instance-aware cascade (Dai 2015): what a mask is of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead

_BINS = 7 * 7  # to which regions of 14 x 14 are averaged


class MaskClass(nn.Module):
    """The third stage of the cascade: the class of what a mask covers.

    Args:
        channels: Of the features.
        dense: Width of the head.
        classes: Of objects.
    """

    def __init__(self, channels: int, dense: int, classes: int) -> None:
        super().__init__()
        self.head = TwoMLPHead(channels * _BINS, dense)
        self.score = nn.Linear(dense, classes + 1)

    def forward(self, regions: Tensor, logits: Tensor) -> Tensor:
        """Return scores ``(R, 1 + K)``; class 0 is a mask of no object.

        Args:
            regions: ``(R, C, 14, 14)`` features.
            logits: ``(R, 28, 28)`` of the masks.
        """
        cover = F.avg_pool2d(logits.sigmoid()[:, None], 2)  # (R, 1, 14, 14)
        covered: Tensor = self.head(F.avg_pool2d(regions * cover, 2))
        scores: Tensor = self.score(covered)
        return scores

    def loss(
        self, regions: Tensor, logits: Tensor, true: Tensor, kind: Tensor
    ) -> Tensor:
        """Return the loss; a mask of IoU below 1/2 with the true one is no object."""
        drawn, true = logits > 0, true >= 0.5
        common = (drawn & true).sum((1, 2))
        good = 2 * common >= (drawn | true).sum((1, 2))
        return F.cross_entropy(self(regions, logits), torch.where(good, kind, 0))

"""Mask R-CNN: boxes, the class of each, and a mask in each, from one set of features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from medseg.errors import ConfigError
from medseg.networks.blocks import scale_widths
from medseg.networks.fpn import TopDown
from medseg.networks.mask_class import MaskClass
from medseg.networks.padding import pad_to_multiple
from medseg.networks.regions_of_interest import in_rows, paste, roi_align
from medseg.networks.resnet import ResNetEncoder, ResNetNorm
from medseg.panoptic import Detections, objects

PYRAMID, DENSE = 256, 1024
MULTIPLE = 64  # two pixels of the encoder's last map, which a norm needs to train
BOX_BINS, MASK_BINS = (7, 7), (14, 14)
SIDES, RATIOS = (0.5, 1.0, 2.0), (0.5, 1.0, 2.0)
PROPOSALS = {"training": 1000, "testing": 1000}
LEAST_BINS = 8  # pixels of the map that an object of the given diameter spans at least


class MaskRCNN(nn.Module):
    """Mask R-CNN (He 2017) for objects of about one size, on torchvision's parts.

    A ResNet-18 feature pyramid, of which one map serves all: the coarsest that still
    gives an object of ``diameter`` eight pixels. Nine anchors a place, of half, one
    and two diameters. Regions are aligned without rounding (torchvision's own model
    is half a pixel off, in its maps and in its masks): 7 x 7 for box and class,
    14 x 14 for a 28 x 28 mask a class.

    The images stay on their own grid and have any size; bring their values to about
    zero mean and unit deviation first. It is none of the ``NETWORKS``: those score
    pixels, this finds objects. In training, call it for its losses; in evaluation,
    :meth:`detect`.

    With ``cascade`` a third stage scores the class of each mask on the features that
    it covers (instance-aware cascade, Dai 2015), in place of the score of its box.
    Boxes, classes and masks do not depend on it: ``network.third = None`` removes it.

    Args:
        in_channels: Channels of the image.
        classes: Of objects; the background is none.
        diameter: Of a common object in pixels. Enlarge images where it is below 16.
        width: Factor on all widths.
        norm: ``"instance"``, or ``"batch"`` for large batches.
        cascade: Whether there is the third stage.
        least_score: A box of no higher score is no object.
        most: Objects of an image.

    Raises:
        ConfigError: If an argument cannot be.
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 1,
        diameter: float = 32.0,
        width: float = 1.0,
        norm: ResNetNorm = "instance",
        *,
        cascade: bool = False,
        least_score: float = 0.5,
        most: int = 300,
    ) -> None:
        super().__init__()
        _check(classes, diameter, least_score, most)
        self.in_channels, self.classes = in_channels, classes
        self.level = min(3, max(0, int(math.log2(diameter / LEAST_BINS)) - 2))
        self.encoder = ResNetEncoder(in_channels, width, norm, 2)
        channels, dense = scale_widths((PYRAMID, DENSE), width)
        self.top_down = TopDown(self.encoder.widths[self.level :], channels, 2)
        self.smooth = nn.Conv2d(channels, channels, 3, padding=1)
        self.proposals = RegionProposalNetwork(
            AnchorGenerator((tuple(diameter * side for side in SIDES),), (RATIOS,)),
            RPNHead(channels, len(SIDES) * len(RATIOS)),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n=PROPOSALS,
            post_nms_top_n=PROPOSALS,
            nms_thresh=0.7,
        )
        bins = math.prod(BOX_BINS)
        self.boxes = RoIHeads(
            None,  # regions are cut out here
            TwoMLPHead(channels * bins, dense),
            FastRCNNPredictor(dense, classes + 1),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=128,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=least_score,
            nms_thresh=0.5,
            detections_per_img=most,
        )
        self.masks = nn.Sequential(
            MaskRCNNHeads(channels, (channels,) * 4, dilation=1),
            MaskRCNNPredictor(channels, channels, classes + 1),
        )
        self.third = MaskClass(channels, dense, classes) if cascade else None

    def forward(
        self,
        images: Tensor,
        labels: Sequence[Tensor] | Tensor,
        classes: Sequence[Mapping[int, int]] | None = None,
    ) -> dict[str, Tensor]:
        """Return the terms of the loss; their sum is what is minimised.

        Args:
            images: ``(N, C, Y, X)``.
            labels: ``(N, Y, X)`` instance maps of integers, 0 is background.
            classes: For each image the class of each value; default: all are 1.

        Raises:
            ConfigError: If the network is in evaluation, or images, maps and classes
                do not belong together.
        """
        if not self.training:
            raise ConfigError("network", "is in evaluation", "Call train() for losses")
        self._check_images(images)
        truth = _targets(images, labels, classes, self.classes)
        sizes = [(images.shape[2], images.shape[3])] * len(images)
        features, padded = self._features(images)
        found, losses = self.proposals(ImageList(padded, sizes), {"0": features}, truth)
        boxes, matches, kinds, moves = self.boxes.select_training_samples(found, truth)
        scores, moved = self._score(features, boxes)
        losses["loss_classifier"], losses["loss_box_reg"] = fastrcnn_loss(
            scores, moved, kinds, moves
        )
        seen = zip(truth, matches, boxes, strict=True)
        true = torch.cat([_cut(t["masks"], m, b) for t, m, b in seen])
        kind = torch.cat(kinds)
        there = kind > 0
        # As in detect, a box of no object has the mask of its likeliest class.
        drawn = torch.where(there, kind, scores[:, 1:].argmax(1) + 1)
        used = there if self.third is None else torch.ones_like(there)
        regions = roi_align(features, in_rows(boxes)[used], MASK_BINS, self.scale)
        logits = _of(self.masks(regions), drawn[used])
        losses["loss_mask"] = F.binary_cross_entropy_with_logits(
            logits[there[used]], true[there], reduction="sum"
        ) / max(1, true[there].numel())
        if self.third is not None:
            losses["loss_mask_class"] = self.third.loss(regions, logits, true, kind)
        return losses

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[Detections]:
        """Return the objects of each image, by decreasing score of their boxes.

        Args:
            images: ``(N, C, Y, X)``.

        Raises:
            ConfigError: If the network is in training or the images do not suit it.
        """
        if self.training:
            raise ConfigError("network", "is in training", "Call eval() to detect")
        self._check_images(images)
        size = (images.shape[2], images.shape[3])
        sizes = [size] * len(images)
        features, padded = self._features(images)
        found, _ = self.proposals(ImageList(padded, sizes), {"0": features})
        boxes, scores, kinds = self.boxes.postprocess_detections(
            *self._score(features, found), found, sizes
        )
        kind = torch.cat(kinds)
        regions = roi_align(features, in_rows(boxes), MASK_BINS, self.scale)
        logits = _of(self.masks(regions), kind)
        if self.third is not None:
            again = self.third(regions, logits).softmax(1)
            scores = _of(again, kind).split([len(some) for some in boxes])
        masks = logits.sigmoid().split([len(some) for some in boxes])
        return [
            Detections(
                b[:, [1, 0, 3, 2]].float().cpu().numpy(),  # numpy has no bfloat16
                s.float().cpu().numpy(),
                k.cpu().numpy(),
                paste(m, b, size).cpu().numpy(),
            )
            for b, s, k, m in zip(boxes, scores, kinds, masks, strict=True)
        ]

    @property
    def scale(self) -> float:
        """Pixels of the features a pixel of the image."""
        return 1 / (4 * 2**self.level)

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the map that serves all, and the padded images it is of."""
        padded = pad_to_multiple(images, MULTIPLE)
        levels = self.top_down(self.encoder(padded)[self.level :])
        return self.smooth(levels[0]), padded

    def _score(
        self, features: Tensor, boxes: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return scores ``(R, 1 + K)`` and moves ``(R, 4 + 4 K)`` of all boxes."""
        regions = roi_align(features, in_rows(boxes), BOX_BINS, self.scale)
        scores, moves = self.boxes.box_predictor(self.boxes.box_head(regions))
        return scores, moves

    def _check_images(self, images: Tensor) -> None:
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            problem = f"are {tuple(images.shape)}"
            raise ConfigError("images", problem, f"Give (N, {self.in_channels}, Y, X)")


def _check(classes: int, diameter: float, least_score: float, most: int) -> None:
    if classes < 1:
        raise ConfigError("network.classes", f"are {classes}", "Use 1 or more")
    if not (diameter > 0 and math.isfinite(diameter)):
        raise ConfigError("network.diameter", f"is {diameter}", "Give it in pixels")
    if not 0 <= least_score < 1:
        problem = f"is {least_score}"
        raise ConfigError("network.least_score", problem, "Use 0 to below 1")
    if most < 1:
        raise ConfigError("network.most", f"is {most}", "Use 1 or more")


def _targets(
    images: Tensor,
    labels: Sequence[Tensor] | Tensor,
    classes: Sequence[Mapping[int, int]] | None,
    count: int,
) -> list[dict[str, Tensor]]:
    """Return boxes, classes and masks of each image as torchvision wants them."""
    size = images.shape[2:]
    n = len(images)
    if len(labels) != n or any(one.shape != size for one in labels):
        problem = f"are {[tuple(one.shape) for one in labels]}"
        raise ConfigError("labels", problem, f"Give {n} of {tuple(size)}")
    if classes is not None and len(classes) != n:
        raise ConfigError(
            "classes", f"are {len(classes)}", "Give a table for each image"
        )
    targets = []
    for i, one in enumerate(labels):
        found = objects(one.cpu().numpy(), None if classes is None else classes[i])
        top = found.classes.max(initial=0)
        if top > count:
            remedy = "Build the network for more"
            raise ConfigError("classes", f"have a {top} of {count}", remedy)
        boxes = torch.from_numpy(found.boxes[:, [1, 0, 3, 2]])
        kinds, masks = torch.from_numpy(found.classes), torch.from_numpy(found.masks)
        target = {"boxes": boxes, "labels": kinds, "masks": masks}
        targets.append({key: x.to(images.device) for key, x in target.items()})
    return targets


def _cut(masks: Tensor, matches: Tensor, boxes: Tensor) -> Tensor:
    """Return what each box sees of the mask it is matched with, ``(R, 28, 28)``."""
    side = (2 * MASK_BINS[0], 2 * MASK_BINS[1])
    if not len(masks):  # background everywhere
        return boxes.new_zeros(len(boxes), *side)
    rows = torch.cat([matches[:, None].to(boxes), boxes], dim=1)
    return roi_align(masks[:, None].to(boxes), rows, side)[:, 0]


def _of(x: Tensor, kind: Tensor) -> Tensor:
    """Return what ``x`` ``(R, K, ..)`` holds for the class of each of R objects."""
    return x[torch.arange(len(kind), device=x.device), kind]

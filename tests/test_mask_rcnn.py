"""Regions of interest against worked examples (ids in the comments); Mask R-CNN."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torchvision import ops

from medseg.errors import ConfigError
from medseg.metrics.objects import match_objects
from medseg.networks.mask_rcnn import MaskRCNN
from medseg.networks.regions_of_interest import (
    bilinear_point,
    in_rows,
    paste,
    roi_align,
    roi_pool,
    roi_warp,
)
from medseg.panoptic import instance_map

TWO = (2, 2)
BINS = (28, 28)
GRID = torch.arange(16.0)
RAMP = (2 * GRID[None, :] + 3 * GRID[:, None] + 1)[None, None]
BOX = torch.tensor([[0.0, 1.3, 2.6, 9.7, 11.2]])
ALIGNED = torch.tensor([[19.55, 27.95], [32.45, 40.85]])


def rows_of(*box: float) -> Tensor:
    return torch.tensor([[0.0, *box]], dtype=torch.float32)


# Regions


def test_suppression_keeps_the_best_of_those_that_overlap():
    # nms-3-boxes
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 1, 10, 11], [20, 20, 30, 30]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert ops.nms(boxes, scores, 0.5).tolist() == [0, 2]


def test_regions_of_a_ramp():
    # roialign-ramp, roiwarp-ramp, roipool-ramp
    aligned = roi_align(RAMP, BOX, TWO)[0, 0]
    torch.testing.assert_close(aligned, ALIGNED, atol=1e-4, rtol=0)
    warped = roi_warp(RAMP, BOX, TWO)[0, 0]
    expected = torch.tensor([[20.0, 29], [32, 41]])
    torch.testing.assert_close(warped, expected, atol=1e-4, rtol=0)
    assert roi_pool(RAMP, BOX, TWO)[0, 0].tolist() == [[32, 42], [44, 54]]
    # What RoIAlign gives is exact: the ramp at the middle of each bin.
    for i, j in np.ndindex(2, 2):
        y, x = 2.6 + 8.6 * (i + 0.5) / 2 - 0.5, 1.3 + 8.4 * (j + 0.5) / 2 - 0.5
        assert aligned[i, j].item() == pytest.approx(2 * x + 3 * y + 1, abs=1e-4)


def test_the_default_of_torchvision_is_half_a_pixel_off():
    shifted = ops.roi_align(RAMP, BOX, TWO, sampling_ratio=2)[0, 0]
    half = torch.full(TWO, 0.5 * (2 + 3))
    torch.testing.assert_close(shifted - ALIGNED, half, atol=1e-4, rtol=0)


def test_the_printed_table():
    # maskrcnn-roi-table: AP, AP50, AP75; its row of RoIWarp with means is missing
    table = {
        "pool max": (26.9, 48.8, 26.4),
        "warp max": (27.2, 49.2, 27.1),
        "align max": (30.2, 51.0, 31.8),
        "align mean": (30.3, 51.2, 31.5),
    }
    gain = np.subtract(table["align mean"], table["pool max"])
    assert gain.tolist() == pytest.approx([3.4, 2.4, 5.1], abs=1e-9)


def test_between_four_pixels():
    # bilinear-point
    four = torch.tensor([[0.0, 10], [20, 30]], dtype=torch.float64)
    assert bilinear_point(four, 0.25, 0.5).item() == pytest.approx(10, abs=1e-9)
    for y, x in np.ndindex(2, 2):
        assert bilinear_point(four, y, x) == four[y, x]
    for point in ((-0.1, 0), (0, 1.1)):
        with pytest.raises(ConfigError, match=r"point: .* is outside of \(2, 2\)"):
            bilinear_point(four, *point)


@pytest.mark.parametrize("mode", ["mean", "max"])
@pytest.mark.parametrize("samples", [1, 3])
def test_aligned_regions_are_samples_between_pixels(mode, samples):
    torch.manual_seed(3)
    x = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    x0, y0, x1, y1 = box = (1.3, 2.6, 9.7, 11.2)
    rows = rows_of(*box).double()
    found = roi_align(x, rows, (3, 2), samples=samples, mode=mode)[0, 0]
    steps = (np.arange(samples) + 0.5) / samples
    for i, j in np.ndindex(3, 2):
        ys = y0 + (y1 - y0) * (i + steps) / 3 - 0.5
        xs = x0 + (x1 - x0) * (j + steps) / 2 - 0.5
        points = [bilinear_point(x[0, 0], a, b).item() for a in ys for b in xs]
        expected = np.mean(points) if mode == "mean" else max(points)
        assert found[i, j].item() == pytest.approx(expected, abs=1e-6)


def test_regions_follow_image_and_scale():
    torch.manual_seed(4)
    x = torch.randn(2, 3, 12, 12)
    boxes = [torch.tensor([[2.0, 4, 10, 20]]), torch.tensor([[4.0, 4, 12, 8]] * 2)]
    rows = in_rows(boxes)
    assert rows[:, 0].tolist() == [0, 1, 1]
    half = rows * torch.tensor([1, 0.5, 0.5, 0.5, 0.5])
    for region in (roi_align, roi_warp, roi_pool):
        whole = region(x, rows, TWO, 0.5)
        assert whole.shape == (3, 3, 2, 2)
        torch.testing.assert_close(whole, region(x, half, TWO))
        torch.testing.assert_close(
            whole[1:], region(x[1:], in_rows(boxes[1:]), TWO, 0.5)
        )
        constant = region(torch.full((2, 1, 12, 12), 3.0), rows, TWO, 0.5)
        torch.testing.assert_close(constant, torch.full((3, 1, 2, 2), 3.0))


def test_regions_that_cannot_be():
    with pytest.raises(ConfigError, match="mode: is 'sum'"):
        roi_align(RAMP, BOX, TWO, mode="sum")
    with pytest.raises(ConfigError, match="samples: are 0"):
        roi_align(RAMP, BOX, TWO, samples=0)


# Pasting


@pytest.mark.parametrize("side", [7, 14, 28])
def test_any_mask_of_a_pixel_aligned_box_comes_back(side):
    torch.manual_seed(5)
    mask = torch.zeros(1, 40, 40)
    mask[0, 5 : 5 + side, 8 : 8 + side] = (torch.rand(side, side) > 0.5).float()
    box = (8, 5, 8 + side, 5 + side)
    bins = roi_align(mask[None], rows_of(*box), BINS)[0]
    back = paste(bins, rows_of(*box)[:, 1:], (40, 40))
    assert torch.equal(back, mask > 0)  # IoU 1


@pytest.mark.parametrize("size", [(1, 1), (3, 38), (11, 5), (40, 29)])
def test_a_full_pixel_aligned_box_comes_back(size):
    mask = torch.zeros(1, 40, 40)
    mask[0, : size[0], 40 - size[1] :] = 1
    box = (40 - size[1], 0, 40, size[0])
    bins = roi_align(mask[None], rows_of(*box), BINS)[0]
    assert torch.equal(paste(bins, rows_of(*box)[:, 1:], (40, 40)), mask > 0)


def test_a_mask_moves_with_its_box_and_is_cut_at_the_edge():
    torch.manual_seed(6)
    masks = torch.rand(1, 28, 28)
    box = torch.tensor([[10.3, 12.8, 21.9, 20.1]])
    whole = paste(masks, box, (40, 50))
    assert whole.any()
    moved = paste(masks, box + torch.tensor([20.0, 11, 20, 11]), (40, 50))
    assert torch.equal(moved[:, 11:, 20:], whole[:, :-11, :-20])
    cut = paste(masks, box - torch.tensor([15.0, 15, 15, 15]), (40, 50))
    assert torch.equal(cut[:, :-15, :-15], whole[:, 15:, 15:])
    assert not paste(masks, box + 100, (40, 50)).any()
    assert paste(masks[:0], box[:0], (4, 5)).shape == (0, 4, 5)


def shift(region: object, offset: float) -> float:
    """Return how far a disc of radius 6 moves through a region and back."""
    y, x = np.mgrid[:32, :32] + 0.5 - 16 - offset
    disc = torch.tensor(np.clip(6.5 - np.hypot(y, x), 0, 1), dtype=torch.float32)
    low, high = 8.7 + offset, 23.3 + offset
    rows = rows_of(low, low, high, high)
    bins = region(disc[None, None], rows, BINS)[0]
    pasted = paste(bins, rows[:, 1:], (32, 32))[0].numpy()
    centre = ndimage.center_of_mass(pasted)
    return math.hypot(*(c + 0.5 - 16 - offset for c in centre))


def test_rounding_moves_masks():
    offsets = np.arange(8) / 8
    align, warp, pool = (
        np.mean([shift(region, offset) for offset in offsets])
        for region in (roi_align, roi_warp, roi_pool)
    )
    assert align < 0.1 < warp < pool


# The network


def discs(size: int = 64) -> Tensor:
    """Return two discs that touch, as an instance map."""
    y, x = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.int32)
    labels[np.hypot(y - 32, x - 20) <= 12] = 1
    labels[(np.hypot(y - 32, x - 44) <= 12.4) & (labels == 0)] = 2
    return torch.from_numpy(labels)


def tiny(**arguments: object) -> MaskRCNN:
    torch.manual_seed(1)
    return MaskRCNN(**{"width": 1 / 16, "diameter": 24, **arguments})


@pytest.mark.parametrize(
    ("diameter", "stride"), [(3, 4), (32, 4), (63, 4), (64, 8), (200, 16), (999, 32)]
)
def test_the_diameter_chooses_map_and_anchors(diameter, stride):
    with torch.device("meta"):
        network = MaskRCNN(diameter=diameter, width=1 / 16)
    assert network.scale == 1 / stride
    anchors = network.proposals.anchor_generator
    assert anchors.sizes == ((diameter / 2, diameter, diameter * 2),)
    assert anchors.num_anchors_per_location() == [9]


def test_the_heads_have_the_published_sizes():
    with torch.device("meta"):
        network = MaskRCNN(classes=3)
        masks = network.masks(torch.empty(2, 256, 14, 14))
    assert network.boxes.box_head.fc6.in_features == 256 * 7 * 7
    assert network.boxes.box_predictor.cls_score.out_features == 4
    assert masks.shape == (2, 4, 28, 28)


def test_losses_are_finite_and_reach_all_parameters():
    network = tiny(in_channels=2, classes=2, cascade=True).train()
    images, labels = torch.randn(2, 2, 50, 70), torch.zeros(2, 50, 70, dtype=torch.int)
    labels[0, 5:25, 5:25], labels[0, 5:30, 25:45] = 4, 9
    losses = network(images, labels, [{4: 1, 9: 2}, {}])  # the second has no object
    sum(losses.values()).backward()
    assert set(losses) == {
        "loss_objectness",
        "loss_rpn_box_reg",
        "loss_classifier",
        "loss_box_reg",
        "loss_mask",
        "loss_mask_class",
    }
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


def test_images_without_objects_have_a_loss():
    losses = tiny().train()(torch.randn(1, 1, 64, 64), torch.zeros(1, 64, 64).int())
    assert losses["loss_mask"] == 0
    assert all(torch.isfinite(x) for x in losses.values())


def test_where_nothing_is_found():
    found = (
        tiny(cascade=True, least_score=0.999).eval().detect(torch.zeros(2, 1, 9, 80))
    )
    assert [len(one) for one in found] == [0, 0]
    assert instance_map(found[0]).shape == (9, 80)


def test_the_features_of_an_image_are_its_own_in_training():
    network, images = tiny().train(), torch.randn(2, 1, 64, 80)
    alone = network._features(images[:1])[0]
    torch.testing.assert_close(
        network._features(images)[0][:1], alone, atol=1e-5, rtol=1e-3
    )


def test_objects_are_found_in_half_precision():
    network = tiny(classes=2, cascade=True, least_score=0.2, most=7).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (found,) = network.detect(torch.randn(1, 1, 50, 70))
    assert len(found)
    assert found.boxes.dtype == found.scores.dtype == np.float32


def test_removing_the_third_stage_changes_scores_only():
    network = tiny(classes=2, cascade=True, least_score=0.2, most=7).eval()
    images = torch.randn(2, 1, 50, 70)
    before = images.clone()
    first, again = network.detect(images), network.detect(images)
    network.third = None
    plain = network.detect(images)
    assert torch.equal(images, before)
    for a, b, c in zip(first, again, plain, strict=True):
        assert 0 < len(a) <= 7
        assert a.masks.shape[1:] == (50, 70)
        assert (a.boxes >= 0).all()
        assert (a.boxes <= (50, 70, 50, 70)).all()
        for name in ("boxes", "classes", "masks", "scores"):
            assert np.array_equal(getattr(a, name), getattr(b, name))
            same = np.array_equal(getattr(a, name), getattr(c, name))
            assert same == (name != "scores")


def test_two_touching_discs_are_found_as_two():
    labels = discs()
    assert ndimage.label(labels.numpy())[1] == 1  # components see one
    network = tiny(width=1 / 8)
    images = (labels > 0).float()[None, None] + 0.1 * torch.randn(1, 1, 64, 64)
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(60):
        losses = network(images, labels[None])
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
    found = network.eval().detect(images)[0]
    score = match_objects(instance_map(found), labels.numpy())
    assert (score.tp, score.fp, score.fn) == (2, 0, 0)
    assert score.sq > 0.8
    # Boxes are (y0, x0, y1, x1), half open: 20 .. 45 down, 8 .. 33 across.
    # A few more may overlap it, of which the map above keeps none.
    assert np.abs(found.boxes - (20, 8, 45, 33)).max(axis=1).min() < 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 0}, r"network\.classes: are 0"),
        ({"diameter": 0}, r"network\.diameter: is 0"),
        ({"diameter": math.inf}, r"network\.diameter: is inf"),
        ({"least_score": 1}, r"network\.least_score: is 1"),
        ({"most": 0}, r"network\.most: is 0"),
        ({"norm": "layer"}, r"network\.norm: is 'layer'"),
    ],
)
def test_networks_that_cannot_be(arguments, message):
    with pytest.raises(ConfigError, match=message):
        tiny(**arguments)


def test_what_the_network_refuses():
    network, image = tiny(), torch.zeros(1, 1, 64, 64)
    with pytest.raises(ConfigError, match=r"network: is in training\. Call eval"):
        network.detect(image)
    with pytest.raises(ConfigError, match=r"labels: are \[\(64, 63\)\]\. Give 1 of"):
        network(image, torch.zeros(1, 64, 63).int())
    with pytest.raises(ConfigError, match="classes: are 2"):
        network(image, discs()[None], [{}, {}])
    with pytest.raises(ConfigError, match="classes: have a 2 of 1"):
        network(image, discs()[None], [{1: 1, 2: 2}])
    network.eval()
    with pytest.raises(ConfigError, match=r"network: is in evaluation\. Call train"):
        network(image, discs()[None])
    for wrong in (image[0], torch.zeros(1, 3, 64, 64)):
        with pytest.raises(ConfigError, match=r"images: are .* Give \(N, 1, Y, X\)"):
            network.detect(wrong)

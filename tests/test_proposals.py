"""Aggregation of proposals against worked examples and a loop over pixels."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from medseg.errors import ConfigError
from medseg.networks.proposals import (
    aggregate,
    by_size,
    pyramid_boxes,
    running,
    score_proposals,
)

THREE = [
    ((0, 0, 4, 4), [[1.0, 1, 1, 1]] * 4),
    ((1, 1, 3, 3), [[3.0, 0], [0, 2]]),
    ((0, 2, 2, 4), [[5.0, 0], [0, -1]]),
]


def scored(proposals: list) -> list[tuple[tuple[int, ...], Tensor]]:
    return [(box, torch.tensor([scores])) for box, scores in proposals]


def brute_force(proposals, size, mode):
    """Every proposal asked at every pixel; 0 where it does not reach."""
    y = torch.zeros(1, *size)
    for i, j in itertools.product(*map(range, size)):
        values = [
            s[0, i - b[0], j - b[1]].item()
            if b[0] <= i < b[2] and b[1] <= j < b[3]
            else 0
            for b, s in proposals
        ]
        y[0, i, j] = max(values) if mode == "max" else sum(values) / len(values)
    return y


def test_maximum_of_three_proposals():
    # proposal-aggregation-max
    y = aggregate(scored(THREE), (4, 4), "max")
    expected = [[1, 1, 5, 1], [1, 3, 1, 1], [1, 1, 2, 1], [1, 1, 1, 1]]
    assert y.tolist() == [expected]
    for order in itertools.permutations(scored(THREE)):
        assert torch.equal(aggregate(order, (4, 4), "max"), y)


def test_mean_counts_every_proposal_everywhere():
    # proposal-aggregation-mean
    two = scored([((0, 0, 2, 2), [[4.0, 4], [4, 4]]), ((0, 0, 1, 1), [[8.0]])])
    assert aggregate(two, (2, 2), "mean").tolist() == [[[6, 2], [2, 2]]]


def test_one_proposal_keeps_its_negative_scores():
    # proposal-aggregation-zero-outside
    one = scored([((0, 0, 1, 2), [[-2.0, -3]])])
    assert aggregate(one, (2, 2), "max").tolist() == [[[-2, -3], [0, 0]]]


@pytest.mark.parametrize("mode", ["max", "mean"])
def test_aggregation_against_a_loop_over_pixels(mode):
    torch.manual_seed(0)
    boxes = pyramid_boxes((5, 7), 3)
    proposals = [(b, torch.randn(1, b[2] - b[0], b[3] - b[1])) for b in by_size(boxes)]
    expected = brute_force(proposals, (5, 7), mode)
    torch.testing.assert_close(aggregate(proposals, (5, 7), mode), expected)
    steps = list(running(proposals, (5, 7), mode))
    assert len(steps) == len(boxes)
    torch.testing.assert_close(steps[2], brute_force(proposals[:3], (5, 7), mode))


def test_scores_are_combined_before_the_softmax():
    wide = torch.tensor([4.0, 0])[:, None, None]
    close = torch.tensor([0.0, 3])[:, None, None]
    box = (0, 0, 1, 1)
    y = aggregate([(box, wide), (box, close)], (1, 1), "max")
    assert y.flatten().tolist() == [4, 3]
    separate = torch.maximum(wide.softmax(0), close.softmax(0))
    assert not torch.allclose(y.softmax(0), separate)


@pytest.mark.parametrize("side", [None, (6, 8)])
def test_a_box_of_the_whole_image_is_the_plain_prediction(side):
    network = torch.nn.Conv2d(2, 3, 3, padding=1)
    image = torch.randn(2, 6, 8)
    y = aggregate(score_proposals(network, image, [(0, 0, 6, 8)], side), (6, 8))
    torch.testing.assert_close(y, network(image[None])[0])


def test_crops_are_scored_in_decreasing_size_and_at_their_own_size():
    seen = []

    def network(x: Tensor) -> Tensor:
        seen.append(tuple(x.shape[2:]))
        return x

    image = torch.arange(48.0).reshape(1, 6, 8)
    boxes = [(0, 0, 2, 2), (0, 0, 6, 8), (2, 2, 5, 6)]
    found = list(score_proposals(network, image, boxes))
    assert [box for box, _ in found] == [boxes[1], boxes[2], boxes[0]]
    assert seen == [(6, 8), (3, 4), (2, 2)]
    assert torch.equal(found[1][1], image[:, 2:5, 2:6])
    seen.clear()
    resized = list(score_proposals(network, image, boxes, (4, 4)))
    assert seen == [(4, 4)] * 3
    assert [tuple(s.shape[1:]) for _, s in resized] == [(6, 8), (3, 4), (2, 2)]


def test_proposals_in_a_volume():
    scores = torch.full((2, 1, 2, 1), 3.0)
    y = aggregate([((1, 0, 2, 2, 2, 3), scores)], (2, 2, 3))
    assert y.shape == (2, 2, 2, 3)
    assert y.sum() == 2 * 2 * 3
    assert y[:, 1, :, 2].unique().tolist() == [3]


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (1, 9), (4, 6, 5)])
def test_pyramid_boxes_cover_the_image_at_every_size(size):
    boxes = pyramid_boxes(size, 3)
    assert boxes[0] == (*[0] * len(size), *size)
    assert by_size(boxes) == boxes
    for level in range(3):
        sides = tuple(-(-n // 2**level) for n in size)
        covered = torch.zeros(size)
        for box in boxes:
            start, stop = box[: len(size)], box[len(size) :]
            if tuple(b - a for a, b in zip(start, stop, strict=True)) == sides:
                covered[tuple(map(slice, start, stop))] = 1
        assert covered.all()


def test_half_the_windows_overlap_by_half():
    assert pyramid_boxes((8, 4), 2)[1:4] == [(0, 0, 4, 2), (0, 1, 4, 3), (0, 2, 4, 4)]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: aggregate([], (2, 2)), "proposals: are none"),
        (lambda: aggregate([], (2, 2), "sum"), "mode: is 'sum'"),
        (lambda: pyramid_boxes((4, 4), 0), "have 0 levels"),
        (lambda: pyramid_boxes((4, 4), 2, 1.0), "overlap 1"),
        *[
            (
                lambda box=box: aggregate([(box, torch.zeros(1, 1, 1))], (2, 2)),
                r"no box in an image of \(2, 2\)",
            )
            for box in ((0, 0, 3, 2), (-1, 0, 1, 1), (1, 1, 1, 2), (0, 0, 1))
        ],
    ],
)
def test_proposals_that_cannot_be(call, match):
    with pytest.raises(ConfigError, match=match):
        call()

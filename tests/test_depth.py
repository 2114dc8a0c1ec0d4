"""Depth from bins and from parallax, and its scores."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from scipy.special import softmax

from medseg.depth import expected_depth, stereo_depth
from medseg.errors import ConfigError
from medseg.metrics import depth_scores

TRUTH = np.array([1.0, 2.0, 4.0])


@pytest.mark.parametrize(
    ("pred", "expected"),
    [
        # depth-gt, depth-scaled
        (TRUTH, (1.0, 0.0, 0.0)),
        (2 * TRUTH, (0.0, 0.0, 1.0)),
        # one of three just inside the factor; the others inside and outside
        (TRUTH * [1.24, 1 / 1.24, 1.26], (2 / 3, None, (0.24 + 6 / 31 + 0.26) / 3)),
        # the factor itself is not less, above and below
        (TRUTH * [1.25, 0.8, 1], (1 / 3, None, 0.15)),
    ],
)
def test_scores(pred, expected):
    scores = astuple(depth_scores(pred, TRUTH))
    for score, value in zip(scores, expected, strict=True):
        assert value is None or score == pytest.approx(value, abs=1e-9)


def test_silog_is_the_variance_of_the_log_ratio():
    rng = np.random.default_rng(1)
    pred, truth = rng.uniform(1, 5, (2, 6, 7))
    d = np.log(pred) - np.log(truth)
    expected = (d**2).mean() - d.mean() ** 2
    assert depth_scores(pred, truth).silog == pytest.approx(expected)
    assert depth_scores(9 * pred, truth).silog == pytest.approx(expected)


def test_unknown_truth_is_left_out():
    pred, truth = np.array([1.0, np.nan]), np.array([1.0, np.nan])
    assert astuple(depth_scores(pred, truth)) == (1, 0, 0)
    assert np.isnan(astuple(depth_scores(pred[1:], truth[1:]))).all()


def test_depths_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"shape \(2,\), the truth \(3,\)"):
        depth_scores(TRUTH[:2], TRUTH)
    with pytest.raises(ConfigError, match="prediction has 1 of 3 depths not above 0"):
        depth_scores(TRUTH - 1, TRUTH)
    with pytest.raises(ConfigError, match="truth has 1 of 3 depths"):
        depth_scores(TRUTH, TRUTH * [1, 2, np.inf])


def test_one_hot_weights_give_the_centres():
    centres = np.array([0.5, 1.5, 4.0])
    bins = np.array([[0, 2], [1, 1]])
    weights = np.eye(3)[bins].transpose(2, 0, 1)
    assert (expected_depth(weights, centres) == centres[bins]).all()


def test_expected_depth_is_the_weighted_mean():
    scores = np.random.default_rng(2).normal(size=(3, 4, 5))
    weights, centres = softmax(scores, axis=0), np.array([0.5, 1.5, 4.0])
    means = np.average(
        np.broadcast_to(centres, (4, 5, 3)), 2, weights.transpose(1, 2, 0)
    )
    np.testing.assert_allclose(expected_depth(weights, centres), means)


def test_weights_that_are_no_shares_are_refused():
    centres = np.ones(3)
    with pytest.raises(ConfigError, match=r"weights: have shape \(2, 4\) for"):
        expected_depth(np.ones((2, 4)), centres)
    with pytest.raises(ConfigError, match=r"weights: sum to 3\.\.3 over the bins"):
        expected_depth(np.ones((3, 4)), centres)


def test_parallax_gives_depth():
    # parallax-depth
    depth = stereo_depth(np.array([25.0, 50.0, 0.0, np.nan]), 500.0, 0.1)
    np.testing.assert_allclose(depth, [2.0, 1.0, np.inf, np.nan], atol=1e-9)


def test_a_camera_that_cannot_be_is_refused():
    for focal, baseline, name in ((0, 1, "focal"), (1, -1, "baseline")):
        with pytest.raises(ConfigError, match=rf"{name}: is -?\d. Use a length"):
            stereo_depth(np.ones(2), focal, baseline)
    with pytest.raises(ConfigError, match=r"disparity: is -3\.0 at the least"):
        stereo_depth(np.array([1.0, -3.0]), 1, 1)

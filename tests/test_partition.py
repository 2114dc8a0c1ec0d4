"""The five conditions of a partition, two baselines that hold them, and the vote."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from scipy import ndimage
from skimage.graph import RAG
from skimage.measure import label

from medseg.errors import ConfigError
from medseg.partition import check_partition, neighbours
from medseg.partition_baselines import (
    intensity_range_below,
    region_growing,
    split_and_merge,
)
from medseg.regions import overlaps, regions, superpixel_vote

BASELINES = [region_growing, split_and_merge]
# A bright disc on a ramp, odd sides.
Y, X = np.mgrid[:17, :21]
DISC = (X + 40 * ((Y - 8) ** 2 + (X - 9) ** 2 < 30)).astype(np.uint8)


def one_intensity(values):
    return np.ptp(values) == 0


def noise(seed, top=9, shape=(11, 14)):
    return np.random.default_rng(seed).integers(0, top, shape)


@pytest.mark.parametrize(
    ("image", "labels", "expected"),
    [
        # partition-ok, partition-disconnected, partition-oversplit, partition-gap
        ([[1, 1, 2], [1, 2, 2]], [[1, 1, 2], [1, 2, 2]], (1, 1, 1, 1, 1)),
        ([[1, 2, 1]], [[1, 2, 1]], (1, 0, 1, 1, 1)),
        ([[1, 1, 2]], [[1, 2, 3]], (1, 1, 1, 1, 0)),
        ([[1, 1, 2]], [[1, 1, 0]], (0, 1, 1, 1, 1)),
        # two intensities in one region; no region at all
        ([[1, 1, 2]], [[7, 7, 7]], (1, 1, 1, 0, 1)),
        ([[1, 1, 2]], [[0, 0, 0]], (0, 1, 1, 1, 1)),
    ],
)
def test_the_five_conditions(image, labels, expected):
    check = check_partition(np.array(labels), np.array(image), one_intensity)
    assert astuple(check) == tuple(map(bool, expected))


@pytest.mark.parametrize(("connectivity", "joined"), [(4, False), (8, True)])
def test_a_corner_joins_only_with_eight_neighbours(connectivity, joined):
    image = np.array([[1, 2], [2, 1]])
    check = check_partition(image, image, one_intensity, connectivity)
    assert check.connected is joined
    parts = np.array([[1, 2], [3, 4]])
    check = check_partition(parts, image, one_intensity, connectivity)
    assert check.maximal is not joined


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("seed", range(4))
def test_pieces_and_neighbours_as_scipy_and_scikit_image_find_them(seed, connectivity):
    labels = noise(seed, 5, (6, 7))
    near = np.ones((3, 3)) if connectivity == 8 else None
    pieces = [ndimage.label(labels == k, near)[1] for k in range(1, 5)]
    check = check_partition(labels, labels, one_intensity, connectivity)
    assert check.connected == (max(pieces) == 1)
    edges = RAG(labels, connectivity=connectivity // 4).edges
    expected = {(min(e), max(e)) for e in edges if 0 not in e}
    assert set(map(tuple, neighbours(labels, connectivity))) == expected


@pytest.mark.parametrize("grow", BASELINES)
@pytest.mark.parametrize("t", [1, 2.5, 6])
@pytest.mark.parametrize("image", [DISC, noise(0), noise(1) / 7, -noise(2)[:, :1]])
def test_a_baseline_passes_its_own_check(grow, t, image):
    before = image.copy()
    labels = grow(image, t)
    check = check_partition(labels, image, intensity_range_below(t))
    assert all(astuple(check)), check
    assert (image == before).all()
    # Numbered in reading order.
    values, first = np.unique(labels, return_index=True)
    assert values.tolist() == list(range(1, len(values) + 1))
    assert (np.diff(first) > 0).all()


@pytest.mark.parametrize("grow", BASELINES)
def test_a_narrow_range_gives_the_flat_pieces_and_a_wide_one_the_image(grow):
    image = noise(3, 3)
    flat = label(image, background=-1, connectivity=1)
    assert (grow(image, 1) == flat).all()
    assert (grow(image, 3) == 1).all()
    assert (grow(image[:1, :1], 1e-9) == 1).all()
    assert grow(image[:0], 1).shape == (0, 14)


@pytest.mark.parametrize("grow", BASELINES)
def test_a_baseline_finds_the_disc_on_a_ramp(grow):
    disc = DISC >= 40
    labels = grow(DISC, 30)
    assert (labels.max(), len(set(labels[disc])), len(set(labels[~disc]))) == (2, 1, 1)


@pytest.mark.parametrize("grow", BASELINES)
def test_small_integers_do_not_overflow(grow):
    image = np.array([[-128, 127]], np.int8)
    assert grow(image, 200).tolist() == [[1, 2]]


def test_what_is_no_partition_is_refused():
    image = np.zeros((2, 3))
    with pytest.raises(ConfigError, match=r"labels: have shape \(3,\).*\(2, 3\)"):
        check_partition(np.ones(3, int), image, one_intensity)
    with pytest.raises(ConfigError, match="connectivity: is 6. Use 4 or 8"):
        check_partition(np.ones((2, 3), int), image, one_intensity, 6)
    with pytest.raises(ConfigError, match="label -1 is below 0"):
        check_partition(np.full((2, 3), -1), image, one_intensity)


@pytest.mark.parametrize("grow", BASELINES)
def test_a_baseline_refuses_what_has_no_range(grow):
    for t in (0, float("nan")):
        with pytest.raises(ConfigError, match=f"t: is {t}. Use a range above 0"):
            grow(DISC, t)
    with pytest.raises(ConfigError, match=r"shape \(2,\) and 1 value not"):
        grow(np.array([np.nan, 1]), 2)


def test_a_mask_of_true_and_false_is_one_of_ones():
    mask, other = np.eye(3, dtype=bool), np.tri(3, dtype=bool)
    for one, same in zip(
        overlaps(mask, other), overlaps(mask + 0, other + 0), strict=True
    ):
        assert one.tolist() == same.tolist()
    assert regions(mask).sizes.tolist() == [3]
    assert regions(~mask).centroids.tolist() == [[1, 1]]
    voted = superpixel_vote(mask, other)
    assert voted.dtype == bool
    assert voted.tolist() == superpixel_vote(mask + 0, other + 0).tolist()


def test_superpixels_vote():
    # superpixel-vote
    superpixels = np.array([[0, 0, 0, 1], [0, 1, 1, 1]])
    labels = np.array([[2, 2, 3, 3], [2, 3, 3, 2]], np.uint8)
    voted = superpixel_vote(labels, superpixels)
    assert voted.tolist() == [[2, 2, 2, 3], [2, 3, 3, 3]]
    assert voted.dtype == np.uint8


@pytest.mark.parametrize("shape", [(9, 8), (3, 5, 4)])
def test_a_vote_is_the_commonest_label_and_a_second_changes_nothing(shape):
    labels, superpixels = noise(4, 4, shape), 3 * noise(5, 6, shape) + 2
    voted = superpixel_vote(labels, superpixels)
    for k in np.unique(superpixels):
        counts = np.bincount(labels[superpixels == k])
        assert (voted[superpixels == k] == counts.argmax()).all()
    assert (superpixel_vote(voted, superpixels) == voted).all()


def test_a_vote_on_other_grids_is_refused():
    with pytest.raises(
        ConfigError,
        match=r"1 x 3, the other 2 x 3 pixels\. Compare masks on the same grid",
    ):
        superpixel_vote(np.ones((2, 3), int), np.ones((1, 3), int))

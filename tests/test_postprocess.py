"""Rules about shape, by their laws and against SciPy and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medseg import postprocess
from medseg.errors import ConfigError
from medseg.postprocess import fill_holes, keep_largest, pieces, remove_small

# Sizes 6, 3 and 1; the last two touch by a corner, which does not join them.
THREE = np.array(
    [
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 1, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 1, 0, 0],
    ],
    bool,
)
RING = np.pad(np.ones((3, 3), bool), 1)
RING[2, 2] = False


def noise(seed, shape=(12, 11)):
    return np.random.default_rng(seed).random(shape) < 0.55


def test_pieces_are_counted_along_edges_and_not_corners():
    labelled, sizes = pieces(THREE)
    assert sorted(sizes) == [1, 3, 6]
    assert labelled[3, 4] != labelled[4, 3]


@pytest.mark.parametrize(("n", "size"), [(1, 6), (2, 9), (3, 10), (9, 10)])
def test_keep_largest_keeps_the_n_largest(n, size):
    kept = keep_largest(THREE, n)
    assert kept.sum() == size
    assert not (kept & ~THREE).any()


def test_of_equal_pieces_the_first_stays():
    assert keep_largest(np.array([[1, 0, 1]], bool)).tolist() == [[True, False, False]]


@pytest.mark.parametrize(("size", "left"), [(0, 10), (1, 10), (3, 9), (3.5, 6), (7, 0)])
def test_remove_small(size, left):
    assert remove_small(THREE, size).sum() == left


def test_a_hole_is_filled_and_a_bay_is_not():
    assert fill_holes(RING)[2, 2]
    bay = RING.copy()
    bay[1, 2] = False
    assert (fill_holes(bay) == bay).all()
    assert (fill_holes(RING[1:4, 1:4]) == np.ones((3, 3))).all()


def test_a_hole_of_a_volume_is_closed_in_three_dimensions():
    shell = np.ones((3, 3, 3), bool)
    shell[1, 1, 1] = False
    assert fill_holes(shell).all()
    shell[0, 1, 1] = False
    assert (fill_holes(shell) == shell).all()


@pytest.mark.parametrize("shape", [(12, 11), (5, 6, 7)])
@pytest.mark.parametrize("seed", range(3))
def test_agreement_with_scipy_and_scikit_image(seed, shape):
    morphology = pytest.importorskip("skimage.morphology")
    mask = noise(seed, shape)
    assert (fill_holes(mask) == ndimage.binary_fill_holes(mask)).all()
    other = morphology.remove_small_objects(mask, max_size=3)
    assert (remove_small(mask, 4) == other).all()
    labelled, n = ndimage.label(mask)
    largest = max(ndimage.sum_labels(mask, labelled, range(1, n + 1)))
    assert keep_largest(mask).sum() == largest


@pytest.mark.parametrize(
    "rule", [keep_largest, fill_holes, lambda m: remove_small(m, 4)]
)
def test_a_rule_applied_twice_is_the_rule_and_leaves_its_input_alone(rule):
    for mask in (noise(1), THREE, RING, np.zeros((3, 4), bool), np.ones((3, 4), bool)):
        before = mask.copy()
        once = rule(mask)
        assert (rule(once) == once).all()
        assert once.shape == mask.shape
        assert once.dtype == bool
        once[:] = True
        assert (mask == before).all()


@pytest.mark.parametrize(
    ("call", "cause"),
    [
        (lambda: keep_largest(THREE, 0), "n is 0"),
        (lambda: remove_small(THREE, -1), "min_size is -1"),
        (lambda: fill_holes(THREE.astype(np.uint8)), "is uint8"),
        (lambda: keep_largest(THREE.astype(float)), "is float64"),
    ],
)
def test_what_is_refused(call, cause):
    with pytest.raises(ConfigError, match=cause):
        call()


@pytest.mark.parametrize("shape", [(9, 7), (5, 6, 4), (0, 3)])
@pytest.mark.parametrize("slab", [1, 15, 2**22])
def test_sizes_by_slabs_are_those_of_the_whole(
    shape: tuple[int, ...], slab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postprocess, "_SLAB", slab)
    rng = np.random.default_rng(4)
    for share in (0.0, 0.3, 0.5, 0.6, 0.8, 1.0):
        mask = rng.random(shape) < share
        expected = postprocess.pieces(mask)[1]
        np.testing.assert_array_equal(postprocess.piece_sizes(mask), expected)

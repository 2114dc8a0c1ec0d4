"""Which patches hold the attention, and their blocks of pixels."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from medseg.attention import attention_mass, attention_preview
from medseg.errors import ConfigError

DINO = np.array([[0.3, 0.05, 0.1], [0.25, 0.2, 0.1]])


def test_the_fewest_patches_that_reach_the_mass():
    # dino-mass
    assert attention_mass(DINO, 0.6).tolist() == [[1, 0, 0], [1, 1, 0]]


@pytest.mark.parametrize("mass", [0.0, 0.1, 0.5, 0.77, 0.95])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_smaller_set_reaches_the_mass(mass, dtype):
    patches = np.random.default_rng(1).random((2, 4)).astype(dtype)
    kept = attention_mass(patches, mass)
    wanted = mass * patches.sum()
    assert patches[kept].sum() >= wanted
    fewer = combinations(patches.ravel(), max(0, int(kept.sum()) - 1))
    assert not kept.any() or all(sum(c) < wanted for c in fewer)
    assert patches[kept].min(initial=1) >= patches[~kept].max(initial=0)


def test_the_whole_mass_keeps_every_patch_that_is_not_0():
    patches = np.array([[1.0, 1e-30], [0.0, 0.5]])
    assert attention_mass(patches, 1).tolist() == [[True, True], [False, True]]
    assert not attention_mass(np.zeros((2, 2)), 1).any()


def test_a_mass_that_is_met_exactly_takes_no_patch_more():
    # 0.1 added eight times is below 0.8.
    assert attention_mass(np.full((2, 5), 0.1), 0.8).sum() == 8
    assert attention_mass(np.full((2, 5), 0.1, np.float32), 0.8).sum() == 8


def test_heads_are_told_apart_and_a_factor_is_free():
    heads = np.stack([DINO, 7 * DINO[::-1]])
    kept = attention_mass(heads, 0.6)
    assert (kept[0] == attention_mass(DINO, 0.6)).all()
    assert (kept[1] == kept[0][::-1]).all()


def test_a_preview_repeats_each_patch_over_its_pixels():
    expected = np.kron(DINO, np.ones((4, 5)))
    assert (attention_preview(DINO, (8, 15)) == expected).all()
    kept = attention_preview(DINO, (8, 15), mass=0.6)
    assert ((kept > 0) == np.kron(attention_mass(DINO, 0.6), np.ones((4, 5)))).all()
    assert (kept[kept > 0] == expected[kept > 0]).all()


def test_a_preview_of_another_size_keeps_values_and_corners():
    preview = attention_preview(DINO, (7, 10))
    assert preview.shape == (7, 10)
    assert set(preview.ravel()) == set(DINO.ravel())
    assert (preview[0, 0], preview[-1, -1]) == (0.3, 0.1)


def test_what_is_no_attention_is_refused():
    with pytest.raises(ConfigError, match=r"mass: is 1.5. Give a share"):
        attention_mass(DINO, 1.5)
    with pytest.raises(ConfigError, match="mass: is nan"):
        attention_mass(DINO, float("nan"))
    for values, bad in ((-DINO, 6), (DINO / [1, 1, np.nan], 2), (DINO[0], 0)):
        with pytest.raises(ConfigError, match=f"has shape .* and {bad} values below 0"):
            attention_mass(values, 0.5)
    for values, shape in ((DINO[None], (8, 8)), (DINO, (0, 8)), (DINO, (8,))):
        with pytest.raises(ConfigError, match="attention: has shape .* for an image"):
            attention_preview(values, shape)

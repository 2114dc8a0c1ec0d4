from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from medseg.train.augment import augment, build_augmentation
from medseg.train.config_tables import AugmentConfig
from medseg.train.gas_augment import (
    LEAST_ROWS,
    SMOOTHING,
    RandBowelGasd,
    draw_gas,
    raised_dome,
)

LUNG, HEART = 0.3, 0.8
TOP, BOTTOM, LEFT, RIGHT = 40, 200, 20, 90


def box(height: int = 256, width: int = 128) -> NDArray[np.float32]:
    """A lung: rows 40 to 199, columns 20 to 89."""
    lung = np.zeros((height, width), np.float32)
    lung[TOP:BOTTOM, LEFT:RIGHT] = 1
    return lung


def film() -> dict[str, torch.Tensor]:
    """A lung of one grey in tissue of another, and a heart beside it."""
    lung, heart = box(), np.zeros_like(box())
    heart[120:180, 92:120] = 1
    image = np.where(lung > 0, np.float32(LUNG), np.float32(HEART))
    return {
        "image": torch.from_numpy(image[None]),
        "truth": torch.from_numpy(np.stack([lung, heart])),
    }


def drawn(seed: int, data: dict[str, Any] | None = None, **how: Any) -> dict[str, Any]:
    change = RandBowelGasd(how.get("lungs", [0]), how.get("prob", 1.0))
    change.set_random_state(seed=seed)
    return change(data or film())


def gassed(seed: int, *, plain: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """A lung with noise in it, and what gas from row 120 on changes."""
    lung = box()
    dome = np.full(128, 120.0)
    lost = lung * (np.arange(256)[:, None] > dome)
    texture = np.random.default_rng(0).normal(0, 0.02, lung.shape)
    image = (np.where(lung > 0, LUNG, HEART) + texture * lung).astype(np.float32)
    rng = np.random.RandomState(seed)
    return image, draw_gas(image, lung - lost, lost, dome, rng, plain=plain) - image


def _grain(pixels: NDArray[Any]) -> float:
    """The deviation of white noise that differs so from pixel to pixel; without edges."""
    return float(np.median(np.abs(np.diff(pixels, axis=1))) / 0.6745 / np.sqrt(2))


class TestDome:
    @pytest.mark.parametrize("seed", range(8))
    def test_the_crest_lies_in_the_lower_part_and_the_arch_falls_to_both_sides(
        self, seed: int
    ) -> None:
        dome = raised_dome(box() > 0, np.random.RandomState(seed))
        assert dome is not None
        crest = int(np.argmin(dome))
        assert LEFT + 0.35 * 70 - 1 <= crest <= LEFT + 0.65 * 70 + 1
        assert TOP + 0.4 * 160 <= dome.min() <= TOP + 0.8 * 160 + 1
        assert (np.diff(dome[: crest + 1]) <= 0).all()
        assert (np.diff(dome[crest:]) >= 0).all()
        # A parabola: its second differences are one number.
        np.testing.assert_allclose(np.diff(dome, 2), np.diff(dome, 2)[0], rtol=1e-6)

    def test_a_lung_of_too_few_rows_or_columns_has_none(self) -> None:
        rng = np.random.RandomState(0)
        lung = np.zeros((64, 64), bool)
        assert raised_dome(lung, rng) is None
        lung[:40, : LEAST_ROWS - 1] = True
        assert raised_dome(lung, rng) is None
        lung[:40, LEAST_ROWS - 1] = True
        assert raised_dome(lung, rng) is not None


class TestGas:
    @pytest.mark.parametrize("seed", range(8))
    def test_lung_is_lost_below_an_arch_and_nothing_else_of_the_truth(
        self, seed: int
    ) -> None:
        before, after = film(), drawn(seed)
        lung = after["truth"][0].numpy()
        dome = raised_dome(box() > 0, _after_the_choice(seed))
        rows = np.arange(256)[:, None]
        np.testing.assert_array_equal(lung, box() * (rows <= dome))
        assert 0 < lung.sum() < box().sum()
        torch.testing.assert_close(after["truth"][1], before["truth"][1])

    @pytest.mark.parametrize("seed", range(8))
    def test_the_film_changes_below_the_arch_alone(self, seed: int) -> None:
        before, after = film()["image"][0], drawn(seed)["image"][0]
        lung = drawn(seed)["truth"][0].numpy()
        lost = np.flatnonzero((box() - lung).any(1))
        # Soft edges reach 16 pixels at 512 rows: here 8.
        above = lost[0] - 9
        torch.testing.assert_close(after[:above], before[:above])
        assert not torch.equal(after, before)
        assert after.min() >= 0
        assert after.max() <= 1

    @pytest.mark.parametrize("seed", range(8))
    def test_lung_keeps_its_texture_and_tissue_moves_towards_the_lungs_grey(
        self, seed: int
    ) -> None:
        _, change = gassed(seed, plain=False)
        # Away from folds the lung is as much brighter or darker everywhere.
        inner = change[140:190, 30:80]
        common = np.median(inner)
        assert abs(common) <= 0.08
        assert np.mean(np.abs(inner - common) < 1e-3) > 0.5
        # Tissue is at most as dark as lung; lines add up to 0.12 times 1.5.
        tissue = (box() == 0) & (np.abs(np.arange(128) - 55) > 40)
        assert change[tissue].min() >= LUNG - 0.1 - HEART
        assert change.max() <= 0.08 + 0.18
        # The line of the dome is what tells them apart.
        assert change[118:123, 40:70].max() > common + 0.005

    @pytest.mark.parametrize("seed", range(8))
    def test_plain_gas_has_lost_most_of_the_texture(self, seed: int) -> None:
        image, change = gassed(seed, plain=True)
        before, after = (_grain((image + c)[140:190, 30:80]) for c in (0, change))
        # Noise through a Gaussian of 0.75 pixels or more keeps 0.38 of its deviation.
        assert after < 0.5 * before

    def test_gas_is_plain_in_half_of_the_films(self) -> None:
        rough = film()
        texture = np.random.default_rng(0).normal(0, 0.05, (1, 256, 128))
        rough["image"] = rough["image"] + torch.from_numpy(texture).float()
        plain = []
        for seed in range(40):
            after = drawn(seed, rough)
            lost = (box() - after["truth"][0].numpy()) > 0
            rows = slice(BOTTOM - 30, BOTTOM - 10)
            if lost[rows, 30:80].all():
                plain.append(_grain(after["image"][0].numpy()[rows, 30:80]) < 0.03)
        assert 0.3 < np.mean(plain) < 0.7

    def test_the_same_seed_draws_the_same_and_another_another(self) -> None:
        first, again, other = drawn(3), drawn(3), drawn(4)
        torch.testing.assert_close(first["image"], again["image"], rtol=0, atol=0)
        torch.testing.assert_close(first["truth"], again["truth"], rtol=0, atol=0)
        assert not torch.equal(first["image"], other["image"])

    def test_either_lung_is_chosen(self) -> None:
        data = film()
        data["truth"][1] = torch.from_numpy(box())
        changed = {
            tuple(
                (drawn(s, data, lungs=[0, 1])["truth"] != data["truth"]).any(2).any(1)
            )
            for s in range(8)
        }
        assert {tuple(map(bool, c)) for c in changed} == {(True, False), (False, True)}

    def test_never_and_no_lung_leave_all_as_it_is(self) -> None:
        data = film()
        same = drawn(0, data, prob=0.0)
        empty = {**data, "truth": torch.zeros_like(data["truth"])}
        for after, before in ((same, data), (drawn(0, empty), empty)):
            for key in ("image", "truth"):
                torch.testing.assert_close(after[key], before[key], rtol=0, atol=0)

    def test_data_that_came_in_stays(self) -> None:
        data = film()
        drawn(1, data)
        for key, value in film().items():
            torch.testing.assert_close(data[key], value, rtol=0, atol=0)


def _after_the_choice(seed: int) -> np.random.RandomState:
    """The state in which the transform draws its dome."""
    change = RandBowelGasd([0], 1.0)
    change.set_random_state(seed=seed)
    change.randomize(None)
    change.R.choice([0])
    return change.R


OFF = AugmentConfig().scaled(0)


class TestChain:
    def test_without_gas_the_chain_draws_what_it_drew(self) -> None:
        config, size = AugmentConfig(), (256, 128)
        plain = build_augmentation(config, size)
        told = build_augmentation(config, size, lungs=[0])
        a = augment(plain, *film().values(), seed=7)
        b = augment(told, *film().values(), seed=7)
        for x, y in zip(a, b, strict=True):
            torch.testing.assert_close(x, y, rtol=0, atol=0)

    def test_gas_moves_with_the_film(self) -> None:
        chain = build_augmentation(OFF, (256, 128), lungs=[0], gas=1.0)
        data = film()
        _, truth = augment(chain, *data.values(), seed=7)
        assert 0 < truth[0].sum() < data["truth"][0].sum()
        torch.testing.assert_close(truth[1], data["truth"][1])

    def test_films_are_smoothed_whole_as_often_whether_or_not_there_is_gas(
        self,
    ) -> None:
        chain = build_augmentation(OFF, (256, 128), lungs=[0], gas=0.5)
        data = film()
        seen = np.zeros((2, 2), int)
        for seed in range(100):
            image, truth = augment(chain, *data.values(), seed=seed)
            gas = not torch.allclose(truth[0], data["truth"][0], atol=1e-4)
            # The upper edge of the lung, which no gas reaches.
            edge = image[0, TOP - 1 : TOP + 1, 55]
            smooth = float((edge[0] - edge[1]).abs()) < 0.9 * (HEART - LUNG)
            seen[int(gas), int(smooth)] += 1
        # 25 of each are expected; 4 deviations are 17.
        assert seen.sum() == 100
        assert (np.abs(seen - 25) <= 17).all()

    @pytest.mark.parametrize("seed", range(4))
    def test_the_smoothing_is_that_of_plain_gas(self, seed: int) -> None:
        chain = build_augmentation(OFF, (256, 128), lungs=[0], gas=1.0)
        point = torch.zeros(1, 256, 128)
        point[0, 128, 64] = 1
        image, _ = augment(chain, point, torch.zeros(2, 256, 128), seed=seed)
        spread = image[0].numpy() / float(image.sum())
        for axis, middle in ((0, 128), (1, 64)):
            line = spread.sum(1 - axis)
            variance = float((line * (np.arange(line.size) - middle) ** 2).sum())
            low, high = (sigma / 2 for sigma in SMOOTHING)
            assert 0.95 * low <= np.sqrt(variance) <= 1.05 * high

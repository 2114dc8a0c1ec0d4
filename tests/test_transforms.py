"""Preprocessing equals MONAI's, and refuses what it does not know."""

from __future__ import annotations

import warnings
from typing import Any

import monai.transforms as monai
import numpy as np
import pytest
import torch

from medseg import transforms
from medseg.channels import to_channels
from medseg.errors import ConfigError
from medseg.transforms import Step, build_preprocessing, sample

FILM = np.random.default_rng(0).integers(0, 4096, (1, 21, 17)).astype(np.uint16)
STEPS = [
    ("Resize", {"spatial_size": [8, 9], "mode": "area"}),
    ("Resize", {"spatial_size": [40, 9], "mode": "bilinear"}),
    ("NormalizeIntensity", {}),
    ("NormalizeIntensity", {"channel_wise": True}),
    ("ScaleIntensity", {"minv": -1.0, "maxv": 2.0}),
    ("ScaleIntensityRange", {"a_min": 5, "a_max": 300, "b_min": 0, "b_max": 1}),
    (
        "ScaleIntensityRangePercentiles",
        {"lower": 1, "upper": 99, "b_min": 0.0, "b_max": 1.0, "clip": True},
    ),
    ("HistogramNormalize", {"num_bins": 64, "min": 0, "max": 1}),
    ("GaussianSmooth", {"sigma": 1.5}),
]


@pytest.mark.parametrize(("name", "arguments"), STEPS)
def test_each_step_equals_monai(name: str, arguments: dict[str, Any]) -> None:
    found = build_preprocessing([Step(name, arguments)])(FILM)
    wanted = getattr(monai, name)(**arguments)(FILM.astype(np.float32))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), np.asarray(wanted), atol=2e-4, rtol=1e-5)


def test_steps_run_in_order_and_leave_the_image_alone() -> None:
    before = FILM.copy()
    steps = [Step("Resize", {"spatial_size": [4, 4]}), Step("ScaleIntensity")]
    found = build_preprocessing(steps)(FILM)
    assert found.shape == (1, 4, 4)
    assert (float(found.min()), float(found.max())) == (0.0, 1.0)
    np.testing.assert_array_equal(FILM, before)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [s for s in STEPS if s[0] not in ("Resize", "GaussianSmooth")],
)
def test_a_window_gets_the_statistics_of_the_whole(
    name: str, arguments: dict[str, Any]
) -> None:
    preprocessing = build_preprocessing([Step(name, arguments)])
    whole = preprocessing(FILM)
    window = preprocessing.fit(FILM)(FILM[:, 3:9, 2:7])
    np.testing.assert_array_equal(window, whole[:, 3:9, 2:7])


def test_only_pointwise_steps_fit_a_window() -> None:
    with pytest.raises(ConfigError, match="not pointwise"):
        build_preprocessing([Step("GaussianSmooth")]).fit(FILM)


@pytest.mark.parametrize(("name", "arguments"), STEPS)
def test_a_constant_image_divides_by_nothing(
    name: str, arguments: dict[str, Any]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = build_preprocessing([Step(name, arguments)])(np.full((1, 9, 9), 7.0))
    assert bool(found.isfinite().all())


def test_numbers_that_are_not_finite_become_the_nearest_that_are() -> None:
    pixels = np.array([[[1, np.nan, 3], [np.inf, 2, -np.inf]]], np.float32)
    found = build_preprocessing([])(pixels)
    np.testing.assert_array_equal(found, [[[1, 1, 3], [3, 2, 1]]])
    nothing = build_preprocessing([])(np.full((1, 2, 2), np.nan))
    np.testing.assert_array_equal(nothing, np.zeros((1, 2, 2)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_window_is_finite_where_the_sample_of_the_image_is(value: float) -> None:
    pixels = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    pixels[0, 1, 1] = value
    found = build_preprocessing([]).fit(pixels[:, ::2, ::2])(pixels[:, :2])
    wanted = pixels[:, :2].copy()
    wanted[0, 1, 1] = 10 if value > 0 else 0  # the ends of 0, 2, 8, 10
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("shape", [(1, 21, 17), (2, 64, 9), (1, 12, 9, 10)])
def test_a_very_large_image_is_averaged_to_the_same(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(1).integers(0, 65535, shape).astype(np.uint16)
    size = [5] * (len(shape) - 1)
    wanted = transforms.resize(pixels, size)
    monkeypatch.setattr(transforms, "LARGE", 0)
    np.testing.assert_allclose(transforms.resize(pixels, size), wanted, rtol=1e-5)


def test_resize_refuses_another_number_of_axes() -> None:
    with pytest.raises(ConfigError, match="has 3 axes, the image 2"):
        transforms.resize(FILM, [4, 4, 4])


def test_a_sample_is_small_and_regular(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sample(FILM) is not None
    np.testing.assert_array_equal(sample(FILM), FILM)
    monkeypatch.setattr(transforms, "SAMPLE", 50)
    np.testing.assert_array_equal(sample(FILM), FILM[:, ::3, ::3])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Resise", {}, "Did you mean Resize"),
        ("Lambda", {"func": "x"}, "no step 'Lambda'"),
        ("NormalizeIntensity", {"chanel_wise": True}, "Did you mean channel_wise"),
        ("Resize", {}, "spatial_size: is missing"),
        ("Resize", {"spatial_size": [0, 8]}, "2 or 3 sizes"),
        ("Resize", {"spatial_size": [10**6, 8]}, "2 or 3 sizes"),
        ("Resize", {"spatial_size": "8"}, "2 or 3 sizes"),
        ("Resize", {"spatial_size": [8, 8], "mode": "nearest"}, "area"),
        ("ScaleIntensity", {"minv": "0"}, "a number"),
        ("ScaleIntensity", {"minv": float("nan")}, "a number"),
        ("ScaleIntensityRange", {"a_min": 0, "a_max": 1, "clip": 1}, "true or false"),
        ("ScaleIntensityRange", {"a_min": 0, "a_max": 1, "b_min": "a"}, "a number"),
        (
            "ScaleIntensityRangePercentiles",
            {"lower": -1, "upper": 99, "b_min": 0, "b_max": 1},
            "percentage",
        ),
        ("HistogramNormalize", {"num_bins": 1}, "bins"),
        ("GaussianSmooth", {"sigma": 0}, "above 0"),
    ],
)
def test_what_a_step_refuses(
    name: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Step(name, arguments)


def test_channels() -> None:
    red = np.zeros((3, 2, 2), np.uint8)
    red[0] = 100
    assert to_channels(red, "same") is red
    assert to_channels(red, "rgb") is red
    np.testing.assert_allclose(to_channels(red, "grey"), np.full((1, 2, 2), 29.9))
    grey = np.full((1, 2, 2), 7, np.uint8)
    assert to_channels(grey, "grey") is grey
    np.testing.assert_array_equal(to_channels(grey, "rgb"), np.full((3, 2, 2), 7))
    same = np.repeat(FILM, 3, axis=0)
    np.testing.assert_allclose(to_channels(same, "grey"), FILM, rtol=1e-6)
    with pytest.raises(ConfigError, match="has 2 channels"):
        to_channels(red[:2], "grey")

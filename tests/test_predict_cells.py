"""Cells through the predictor: channels, grids, tiles, poses, progress."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from model_builders import function_model, tiny_spec
from torch import Tensor

from medseg.errors import ConfigError, FileError
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.instances import InstanceRule, find_instances
from medseg.labels import Label, LabelSet
from medseg.model import Model, ModelSpec
from medseg.model_spec import Cleaning, Decoding, Flip, Inference, Network
from medseg.predict import Predictor, masks, runner
from medseg.transforms import Step

CELL = LabelSet((Label(1, "cell", "#4c9be8"),), "instances")
COMPONENTS = InstanceRule("components", fill_holes=False)
WATERSHED = InstanceRule("watershed", smoothing=0.0)


def cell_spec(rule: InstanceRule = COMPONENTS, **changes: Any) -> ModelSpec:
    arguments = {"in_channels": 1, "out_channels": rule.channels, "widths": [2, 4]}
    fields: dict[str, Any] = {
        "network": Network("unet", arguments),
        "labels": CELL,
        "preprocessing": (),
        "inference": Inference("sliding_window", (16, 16), batch=2),
        "decoding": Decoding("instances", instances=rule),
    }
    return tiny_spec(**{**fields, **changes})


def bright(x: Tensor) -> Tensor:
    """Two logits: cell where the image is above 0.5."""
    return torch.cat([0 * x, 20 * (x - 0.5)], dim=1)


def three(x: Tensor) -> Tensor:
    """Foreground and distance are the image, no border."""
    return torch.cat([20 * (x - 0.5), 8 * x - 4, 0 * x - 20], dim=1)


def predict(model: Model, image: Image, **options: Any) -> Any:
    return Predictor(model, engine="torch", device="cpu").predict(image, **options)


def spots(shape: tuple[int, ...] = (40, 45)) -> np.ndarray[Any, Any]:
    pixels = np.zeros((1, *shape), np.float32)
    for corner in [(2, 3), (2, 20), (14, 14), (25, 30), (33, 1)]:
        index = tuple(slice(c, c + 5) for c in corner)
        pixels[(0, *[slice(None)] * (len(shape) - 2), *index)] = 1
    return pixels


@pytest.mark.parametrize("method", ["components", "watershed"])
def test_cells_are_numbered_on_the_images_own_grid(method: Any) -> None:
    rule = COMPONENTS if method == "components" else WATERSHED
    model = function_model(cell_spec(rule), bright if method == "components" else three)
    image = Image.from_array(spots())
    found = predict(model, image, probabilities=True, uncertainty=True)
    assert found.mask.dtype == np.int32
    assert found.mask.shape == (40, 45)
    assert np.unique(found.mask).tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(found.mask > 0, spots()[0] > 0.5)
    assert found.probabilities.shape == (rule.channels, 40, 45)
    assert found.uncertainty.shape == (40, 45)
    facts = found.provenance["parameters"]
    assert facts["decoding"] == "instances"
    assert facts["instances"]["method"] == method
    wanted = find_instances(found.probabilities, rule)
    np.testing.assert_array_equal(found.mask, wanted)


@pytest.mark.parametrize("kept", [0, 2**27])
def test_a_large_image_in_tiles_equals_the_whole(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = function_model(cell_spec(), bright)
    image = Image.from_array(spots())
    wanted = predict(model, image).mask
    monkeypatch.setattr(masks, "WHOLE", 0)
    monkeypatch.setattr(masks, "TILE", {2: 12})
    monkeypatch.setattr(masks, "HALO", {2: 10})
    monkeypatch.setattr(runner, "KEPT", kept)
    found = predict(model, image).mask
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == np.int32


def test_slices_of_a_volume_are_numbered_on() -> None:
    model = function_model(cell_spec(), bright)
    volume = np.repeat(spots()[:, None], 3, axis=1)
    steps: list[tuple[int, int]] = []
    found = predict(
        model, Image.from_array(volume), progress=lambda *s: steps.append(s)
    ).mask
    assert [len(np.unique(plane)) - 1 for plane in found] == [5, 5, 5]
    assert found.max() == 15
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_a_volume_with_spacing_is_decoded_with_it() -> None:
    rule = replace(WATERSHED, smoothing=2.0, height=0.2)
    arguments = {
        "in_channels": 1,
        "out_channels": 3,
        "widths": [2, 4],
        "spatial_dims": 3,
    }
    spec = cell_spec(
        rule,
        network=Network("unet", arguments),
        inference=Inference("sliding_window", (8, 8, 8)),
    )
    pixels = np.full((1, 9, 8, 8), 0.55, np.float32)
    pixels[0, 2] = pixels[0, 6] = 1
    model = function_model(spec, three)
    one = predict(model, Image.from_array(pixels)).mask
    apart = Geometry.upright((6.0, 0.5, 0.5))
    two = predict(model, Image(pixels, apart, {})).mask
    assert (one.max(), two.max()) == (1, 2)


# Progress


def test_progress_counts_the_windows() -> None:
    steps: list[tuple[int, int]] = []
    predict(
        function_model(cell_spec(), bright),
        Image.from_array(spots()),
        progress=lambda *s: steps.append(s),
    )
    assert steps[-1][0] == steps[-1][1] == 12
    assert [done for done, _ in steps] == list(range(2, 13, 2))


def test_progress_of_a_film_is_one_step() -> None:
    steps: list[tuple[int, int]] = []
    model = function_model(tiny_spec(), lambda x: torch.cat([x, -x], 1))
    film = Image.from_array(np.zeros((1, 9, 9), np.uint8))
    predict(model, film, progress=lambda *s: steps.append(s))
    assert steps == [(1, 1)]


class StoppedError(Exception):
    pass


def test_what_progress_raises_ends_the_prediction() -> None:
    def stop(done: int, total: int) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        predict(
            function_model(cell_spec(), bright),
            Image.from_array(spots()),
            progress=stop,
        )


# Cells of another size


def test_an_image_is_scaled_to_the_cells_that_the_network_knows() -> None:
    inference = Inference("sliding_window", (16, 16), diameter=10.0)
    model = function_model(cell_spec(inference=inference), bright)
    seen: list[tuple[int, ...]] = []

    def watch(x: Tensor) -> Tensor:
        seen.append(tuple(x.shape))
        return bright(x)

    image = Image.from_array(spots())
    made = Predictor(
        function_model(model.spec, watch), engine="torch", device="cpu", diameter=5.0
    )
    steps: list[tuple[int, int]] = []
    found = made.predict(image, progress=lambda *s: steps.append(s))
    assert steps[-1] == (56, 56)  # 80 x 90 pixels in windows of 16
    assert found.mask.shape == (40, 45)
    np.testing.assert_array_equal(found.mask, predict(model, image).mask)
    assert found.provenance["parameters"]["diameter"] == 5.0


def test_a_diameter_that_cannot_be_used() -> None:
    model = function_model(cell_spec(), bright)
    with pytest.raises(ConfigError, match="does not say which it learnt"):
        Predictor(model, engine="torch", diameter=5.0)
    inference = Inference("sliding_window", (16, 16), diameter=10.0)
    model = function_model(cell_spec(inference=inference), bright)
    with pytest.raises(ConfigError, match="1 to 4096"):
        Predictor(model, engine="torch", diameter=0.0)


def test_an_image_too_large_to_be_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "KEPT", 0)
    inference = Inference("sliding_window", (16, 16), diameter=10.0)
    model = function_model(cell_spec(inference=inference), bright)
    made = Predictor(model, engine="torch", device="cpu", diameter=5.0)
    with pytest.raises(FileError, match="too large to be scaled"):
        made.predict(Image.from_array(spots()))


# Poses and ensembles


def test_the_mean_over_poses_is_equivariant() -> None:
    """Eight poses of an image give eight poses of the mean map."""
    poses = tuple(
        Flip(axes, transpose=turned or None)
        for turned in (False, True)
        for axes in ((), (0,), (1,), (0, 1))
        if axes or turned
    )
    spec = cell_spec(
        flips=poses, inference=Inference("sliding_window", (16, 16), overlap=0.0)
    )
    ramp = torch.linspace(0, 1, 16)[:, None] * torch.linspace(1, 3, 16)

    def biased(x: Tensor) -> Tensor:
        return torch.cat([0 * x, x + ramp], dim=1)

    model = function_model(spec, biased)
    made = Predictor(model, engine="torch", device="cpu", test_time_augmentation=True)
    pixels = np.random.default_rng(0).normal(size=(1, 16, 16)).astype(np.float32)

    def mean(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        found = made.predict(Image.from_array(x.copy()), probabilities=True)
        assert found.probabilities is not None
        return found.probabilities

    whole = mean(pixels)
    for change in (
        np.rot90,
        lambda a, axes: a[:, ::-1],
        lambda a, axes: a.swapaxes(1, 2),
    ):
        np.testing.assert_allclose(
            mean(change(pixels, axes=(1, 2))), change(whole, axes=(1, 2)), atol=1e-5
        )


def test_models_of_different_ways_are_not_averaged() -> None:
    one = function_model(cell_spec(), bright)
    other = function_model(cell_spec(WATERSHED), three)
    with pytest.raises(ConfigError, match="in different ways"):
        Predictor([one, other], engine="torch")


def test_models_that_learnt_cells_of_different_sizes_are_not_averaged() -> None:
    models = [
        function_model(
            cell_spec(inference=Inference("sliding_window", (16, 16), diameter=size)),
            bright,
        )
        for size in (10.0, 20.0)
    ]
    with pytest.raises(ConfigError, match=r"of 20\.0 pixels, .* of 10\.0"):
        Predictor(models, engine="torch")


# Specs


def test_a_spec_of_cells_survives_json() -> None:
    spec = cell_spec(
        WATERSHED,
        flips=(Flip((), transpose=True),),
        inference=Inference("sliding_window", (16, 16), diameter=30.0),
    )
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert "instances" not in tiny_spec().to_json()
    assert "diameter" not in tiny_spec().to_json()
    assert (spec.output_channels, spec.is_exclusive) == (3, False)
    assert (cell_spec().output_channels, cell_spec().is_exclusive) == (2, True)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        (
            {
                "decoding": Decoding("threshold"),
                "network": Network("unet", {"in_channels": 1, "out_channels": 1}),
            },
            "decoding.name",
        ),
        (
            {"labels": LabelSet((*CELL, Label(2, "b", "#000000")), "instances")},
            "labels.labels",
        ),
        (
            {
                "inference": Inference("resize", (16, 16)),
                "preprocessing": (Step("Resize", {"spatial_size": [16, 16]}),),
            },
            "inference.mode",
        ),
        (
            {
                "decoding": Decoding(
                    "instances",
                    steps=(Cleaning("fill_holes", ("cell",)),),
                    instances=COMPONENTS,
                )
            },
            "decoding.steps",
        ),
        (
            {"decoding": Decoding("instances", instances=WATERSHED)},
            "network.arguments.out_channels",
        ),
        (
            {
                "flips": (Flip((0,), transpose=True),),
                "inference": Inference("sliding_window", (16, 8)),
            },
            "flips.transpose",
        ),
        ({"flips": (Flip(()),)}, "flips.axes"),
    ],
)
def test_parts_that_disagree_are_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cell_spec(**changes)
    assert caught.value.subject == field


def test_the_rule_belongs_to_instances_alone() -> None:
    with pytest.raises(ConfigError, match=r"decoding.instances: is missing"):
        Decoding("instances")
    with pytest.raises(ConfigError, match=r"decoding.instances: is given"):
        Decoding("argmax", instances=COMPONENTS)
    with pytest.raises(ConfigError, match=r"inference.diameter"):
        Inference("sliding_window", (16, 16), diameter=0.5)

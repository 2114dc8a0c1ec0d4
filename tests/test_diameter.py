"""The size of cells that is found by itself: a law for every branch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from model_builders import function_model, tiny_spec
from torch import Tensor
from torch.nn import functional as F

from medseg.batch import track_size
from medseg.batch.track import track_movie
from medseg.cli.predict import parse_diameter
from medseg.errors import ConfigError, ImageWarning
from medseg.image import Image
from medseg.instances import InstanceRule
from medseg.labels import Label, LabelSet
from medseg.model_spec import Decoding, Inference, Network
from medseg.predict import CellSize, Predictor, diameter, runner
from medseg.predict.diameter import (
    check_diameter,
    is_noise,
    median_diameter,
    middle,
    settle,
)
from medseg.predict.diameter import typical as typical_size

Look = Callable[[Tensor], Tensor]


def bright(x: Tensor) -> Tensor:
    """Cell where the image is above 0.5, however large."""
    return torch.cat([0 * x, 20 * (x - 0.5)], dim=1)


def wide(x: Tensor) -> Tensor:
    """Only cells that a square of 7 pixels fits into."""
    core = -F.max_pool2d(-(x > 0.5).float(), 7, 1, 3)
    return bright(F.max_pool2d(core, 7, 1, 3))


def made(network: Look = bright, learnt: float | None = 10.0, **options: Any) -> Any:
    spec = tiny_spec(
        labels=LabelSet((Label(1, "cell", "#ffffff"),), "instances"),
        network=Network("unet", {"in_channels": 1, "out_channels": 2, "widths": [2]}),
        preprocessing=(),
        inference=Inference("sliding_window", (32, 32), batch=4, diameter=learnt),
        decoding=Decoding("instances", instances=InstanceRule()),
    )
    model = function_model(spec, network)
    return Predictor(model, engine="torch", device="cpu", **options)


def discs(size: float, side: int = 64, step: int = 16) -> Image:
    """Discs of a diameter on a grid of places."""
    grid = np.mgrid[:side, :side] % step - step / 2
    disc = np.hypot(*grid) <= size / 2
    return Image.from_array(disc.astype(np.float32)[None])


def facts(found: Any) -> tuple[Any, Any]:
    parameters = found.provenance["parameters"]
    return parameters["diameter"], parameters["diameter_from"]


def counted(network: Look) -> tuple[Look, list[int]]:
    """Return a network that counts the pixels it is asked for."""
    seen: list[int] = []

    def watch(x: Tensor) -> Tensor:
        seen.append(x.numel())
        return network(x)

    return watch, seen


# An image


@pytest.mark.parametrize("size", [4.0, 5.0, 7.0, 15.0])
def test_the_size_is_found_to_ten_per_cent(size: float) -> None:
    image = discs(size, side=72, step=24)
    found = made().predict(image)
    true = median_diameter(made(diameter="native").predict(image).mask, (1, 1))
    assert facts(found)[1] == "found"
    assert facts(found)[0] == pytest.approx(true, rel=0.1)
    # Who gives that number gets the same bytes.
    again = made(diameter=facts(found)[0]).predict(image)
    assert again.mask.tobytes() == found.mask.tobytes()
    assert facts(again) == (facts(found)[0], "given")


def test_cells_of_the_right_size_take_one_pass_and_change_nothing() -> None:
    image = discs(10.5)
    network, seen = counted(bright)
    found = made(network).predict(image, probabilities=True)
    passed = sum(seen)
    seen.clear()
    native = made(network, diameter="native").predict(image, probabilities=True)
    assert sum(seen) == passed
    assert found.mask.tobytes() == native.mask.tobytes()
    assert found.probabilities.tobytes() == native.probabilities.tobytes()
    assert facts(found) == (10.0, "fits")
    assert native.provenance["parameters"]["diameter"] == "native"


def test_an_empty_image_is_left_alone() -> None:
    found = made().predict(Image.from_array(np.zeros((1, 20, 24), np.float32)))
    assert not found.mask.any()
    assert facts(found) == (10.0, "no cells")


def test_cells_that_are_seen_only_when_enlarged() -> None:
    image = discs(6.0)
    assert not made(wide, diameter="native").predict(image).mask.any()
    found = made(wide).predict(image)
    assert facts(found) == (5.0, "found")  # the double; near enough to leave it
    assert found.mask.max() == 16


def test_the_same_image_gives_the_same_bytes() -> None:
    one, other = (made().predict(discs(6.0), uncertainty=True) for _ in range(2))
    assert one.mask.tobytes() == other.mask.tobytes()
    assert one.uncertainty.tobytes() == other.uncertainty.tobytes()
    assert dict(one.provenance) == dict(other.provenance)


def test_progress_begins_again_and_can_end_it() -> None:
    steps: list[tuple[int, int]] = []
    made().predict(discs(5.0), progress=lambda *s: steps.append(s))
    totals = list(dict.fromkeys(total for _, total in steps))
    assert len(totals) == 2
    assert totals[1] > totals[0]
    assert steps[-1] == (totals[1], totals[1])

    def stop(done: int, total: int) -> None:
        if total == totals[1]:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        made().predict(discs(5.0), progress=stop)


def test_a_huge_image_is_measured_in_its_middle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = discs(5.0, side=96)
    monkeypatch.setattr(diameter, "SAMPLE", 40 * 40)
    network, seen = counted(bright)
    found = made(network).predict(image)
    looked = sum(seen)
    seen.clear()
    given = made(network, diameter=facts(found)[0]).predict(image)
    assert given.mask.tobytes() == found.mask.tobytes()
    assert found.mask.max() == 36
    assert looked < 1.3 * sum(seen)  # two small looks and the whole


def test_an_image_too_large_to_be_scaled_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = discs(5.0)
    monkeypatch.setattr(diameter, "SAMPLE", 64 * 64)
    monkeypatch.setattr(runner, "KEPT", 2 * 64 * 64)
    with pytest.warns(ImageWarning, match="too large to be scaled to its cells of 5"):
        found = made().predict(image)
    native = made(diameter="native").predict(image)
    assert found.mask.tobytes() == native.mask.tobytes()
    assert facts(found) == (10.0, "too large")


def test_slices_have_a_size_each() -> None:
    planes = [discs(5.0), discs(10.0), discs(0.0)]
    volume = np.stack([plane.pixels for plane in planes], axis=1)
    volume[0, 2] = 0
    found = made().predict(Image.from_array(volume), probabilities=True)
    alone = [made().predict(plane, probabilities=True) for plane in planes[:2]]
    assert facts(found)[0][:2] == [facts(one)[0] for one in alone]
    assert facts(found)[1] == ["found", "fits", "no cells"]
    assert found.mask[0].tobytes() == alone[0].mask.tobytes()
    for z, one in enumerate(alone):
        np.testing.assert_array_equal(found.probabilities[:, z], one.probabilities)


def test_a_model_that_states_no_diameter_sees_images_as_they_are() -> None:
    found = made(learnt=None).predict(discs(5.0))
    assert "diameter" not in found.provenance["parameters"]
    assert not made(learnt=None).looks_for_size


def test_what_is_no_diameter() -> None:
    with pytest.raises(ConfigError, match="auto, native or a number"):
        made(diameter="large")
    assert check_diameter("auto", made().spec) is None
    for text, wanted in (("auto", "auto"), ("native", "native"), ("12.5", 12.5)):
        assert parse_diameter(text) == wanted
    for text in ("nan", "large", "0", "5000", ""):
        with pytest.raises(ConfigError, match="--diameter"):
            parse_diameter(text)


# The rule


def looked(law: Callable[[float], float]) -> tuple[CellSize, list[float]]:
    scales: list[float] = []

    def look(scale: float) -> float:
        scales.append(scale)
        return law(scale)

    return settle(look, 40.0), scales


def test_cells_that_seem_larger_the_smaller_they_are() -> None:
    """Where the size seen is a power of the scale, the fixed point is found."""
    size, scales = looked(lambda scale: 10 * (4 / scale) ** 0.4)
    assert size.diameter == pytest.approx(10, rel=0.03)
    assert len(scales) == 3
    assert scales[-1] == size.scale(40.0)


def test_a_size_beyond_the_limits() -> None:
    for true, scale in ((0.5, 6.0), (1000.0, 1 / 6)):
        size, scales = looked(lambda _, true=true: true)
        assert size.scale(40.0) == pytest.approx(scale, rel=0.03)
        assert len(scales) <= 3


@pytest.mark.parametrize("lost", [2, 3])
def test_cells_lost_at_the_scale_they_seemed_to_have(lost: int) -> None:
    answers = [20.0, 12.0, math.nan] if lost == 3 else [20.0, math.nan]
    size, _ = looked(lambda _: answers.pop(0))
    assert size == CellSize(40.0, "fits")


def test_trials_keep_the_most_plausible() -> None:
    law = {1.0: math.nan, 0.5: 300.0, 2.0: 21.0, 4.0: 14.0}
    size, scales = looked(law.__getitem__)
    assert (size, scales) == (CellSize(20.0, "found"), [1.0, 0.5, 2.0, 4.0])
    law[2.0] = 3.0  # debris, and the cells of the last are 1.4 too large
    assert looked(law.__getitem__)[0].diameter == pytest.approx(14, rel=0.03)
    law[4.0] = 2.0
    assert looked(law.__getitem__)[0] == CellSize(40.0, "no cells")


def test_the_median_diameter() -> None:
    mask = np.zeros((9, 9), np.int32)
    mask[:2, :2], mask[4:7, :3], mask[:5, 4:] = 1, 2, 5
    assert median_diameter(mask, (1, 1)) == pytest.approx(2 * math.sqrt(9 / math.pi))
    ball = np.ones((2, 3, 4), np.int32)
    wanted = 2 * (3 * 24 * 2.5 / (4 * math.pi)) ** (1 / 3)
    assert median_diameter(ball, (2.5, 1, 1)) == pytest.approx(wanted)
    assert math.isnan(median_diameter(0 * mask, (1, 1)))


def test_the_middle_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diameter, "SAMPLE", 100)
    assert middle((10, 10), 1) == (slice(0, 10), slice(0, 10))
    assert middle((100, 20), 1) == (slice(45, 55), slice(5, 15))
    assert middle((4, 100), 1) == (slice(0, 4), slice(37, 62))
    assert middle((10, 10), 2) == (slice(2, 7), slice(2, 7))
    assert middle((40, 40), 0.5) == (slice(10, 30), slice(10, 30))


def test_the_size_for_a_movie() -> None:
    sizes = [CellSize(d, "found") for d in (18.0, 20.0, 31.0)]
    size = typical_size([*sizes, CellSize(40.0, "no cells")], 40.0)
    assert size.diameter == pytest.approx(20, rel=0.03)
    assert typical_size([CellSize(36.0, "found")], 40.0) == CellSize(40.0, "fits")
    assert typical_size([], 40.0) == CellSize(40.0, "no cells")
    fixed = made(diameter=7.0)
    assert fixed.cell_size([]) == CellSize(7.0, "given")


# A movie


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    folder = tmp_path / "01"
    folder.mkdir()
    for t, size in enumerate((5.0, 5.0, 5.0, 10.0)):
        pixels = discs(size).pixels[0]
        tifffile.imwrite(folder / f"t{t:03d}.tif", pixels.astype(np.uint8))
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_movie_has_one_size(movie: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "a", tmp_path / "b"
    summary = track_movie(movie, whole, made())
    size = summary.facts["cell_size"]
    assert size["diameter_from"] == "found"
    assert size["diameter"] == pytest.approx(5, rel=0.1)
    asked: list[int] = []

    def stop(progress: Any) -> None:
        asked.append(progress.done)
        if len(asked) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        track_movie(movie, parts, made(), progress=stop)
    kept = json.loads((parts / ".medseg-work" / track_size.SIZE_NAME).read_text())
    assert kept["diameter"] == size["diameter"]
    again = made()
    again.cell_size = None  # nobody looks a second time
    assert track_movie(movie, parts, again).skipped >= 1
    assert tree(whole) == tree(parts)
    # Finished: nothing is looked at. Another size: all is done again.
    assert track_movie(movie, parts, again).done == 0
    assert track_movie(movie, parts, made(diameter="native")).done == 4


def test_half_a_record_of_the_size_is_none(movie: Path, tmp_path: Path) -> None:
    from medseg.io.movie import open_movie

    frames = open_movie(movie)
    size = track_size.size_of_movie(frames, tmp_path, made())
    path = tmp_path / track_size.SIZE_NAME
    path.write_text(path.read_text()[:20])
    assert track_size.size_of_movie(frames, tmp_path, made()) == size
    (movie / "t001.tif").write_bytes(b"II*\0")  # left to the run to report
    assert track_size.size_of_movie(frames, tmp_path, made()) == size


@pytest.mark.parametrize("shape", [(64, 64), (200, 50), (6, 40, 40)])
def test_noise_is_told_from_everything_else(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(500, 15, shape)
    assert is_noise(noise)
    assert is_noise(rng.poisson(3.0, shape).astype(np.uint8))
    assert not is_noise(np.full(shape, 7))
    assert not is_noise(noise[..., :1, :])
    axes = (-2, -1)
    assert not is_noise((noise + np.roll(noise, 1, axes[-1])) / 2)  # r = 0.5
    cell = np.zeros(shape)
    cell[..., 5:15, 5:15] = 3 * 15
    assert not is_noise(noise + cell)
    spoilt = noise - 500
    spoilt[..., 0, 0], spoilt[..., 3, 4] = np.nan, np.inf
    assert is_noise(spoilt)


@pytest.mark.parametrize("shape", [(2, 200), (200, 2)])
def test_of_an_image_too_thin_for_a_cell_one_look_is_enough(
    shape: tuple[int, int],
) -> None:
    network, seen = counted(bright)
    image = Image.from_array(np.zeros((1, *shape), np.float32))
    with pytest.warns(ImageWarning, match="too few for cells of 10 even enlarged"):
        found = made(network).predict(image)
    assert facts(found) == (10.0, "no cells")
    once = sum(seen)
    made(network, diameter="native").predict(image)
    assert sum(seen) == 2 * once


def test_an_image_that_a_cell_fits_into_enlarged_is_looked_at() -> None:
    network, seen = counted(bright)
    image = Image.from_array(np.zeros((1, 3, 60), np.float32))
    made(network, diameter="native").predict(image)
    once = sum(seen)
    assert facts(made(network).predict(image)) == (10.0, "no cells")
    assert sum(seen) > 3 * once


def test_in_noise_no_size_of_cells_is_looked_for() -> None:
    noise = np.random.default_rng(1).normal(0.2, 0.1, (1, 64, 64)).astype(np.float32)
    image = Image.from_array(noise)
    with pytest.warns(ImageWarning, match="looks like noise alone"):
        found = made().predict(image)
    assert facts(found) == (10.0, "no cells")
    np.testing.assert_array_equal(
        found.mask, made(diameter="native").predict(image).mask
    )

"""Image in, segmentation out: laws, and MONAI as the reference."""

from __future__ import annotations

import hashlib
import math
import os
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from model_builders import (
    ARGUMENTS,
    LUNGS,
    exclusive,
    function_model,
    tiny_network,
    tiny_spec,
    window_spec,
)
from monai.inferers import sliding_window_inference
from PIL import Image as Pillow
from torch import Tensor

from medseg.engines import ladder
from medseg.engines.openvino import has_bfloat16
from medseg.engines.torch import TorchEngine
from medseg.errors import ConfigError, FileError
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.io import read_image, write_image
from medseg.labels import Label, LabelSet
from medseg.model import Model
from medseg.model_spec import Cleaning, Decoding, Flip, Inference, Network
from medseg.postprocess import fill_holes, keep_largest
from medseg.predict import Predictor, decode, predictor, provenance, runner, windows
from medseg.predict.inputs import padded
from medseg.predict.windows import blended_slabs, importance, window_starts
from medseg.transforms import Step

RNG = np.random.default_rng(0)
FILM = RNG.integers(0, 4096, (1, 21, 17)).astype(np.uint16)


def torch_predictor(model: Model | list[Model], **options: Any) -> Predictor:
    return Predictor(model, engine="torch", device="cpu", **options)


def two(x: Tensor) -> Tensor:
    """Two logits from one channel."""
    return torch.cat([x, -x], dim=1)


def soft(x: Tensor) -> Tensor:
    """Two logits that look at the neighbours, so that windows matter."""
    wide = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return torch.cat([wide - 0.5, x - wide], dim=1)


# Windows


@pytest.mark.parametrize(
    ("length", "window", "overlap", "starts"),
    [
        (8, 8, 0.25, [0]),
        (5, 8, 0.25, [0]),
        (9, 8, 0.25, [0, 1]),
        (20, 8, 0.25, [0, 6, 12]),
        (20, 8, 0.5, [0, 4, 8, 12]),
        (10, 1, 0.5, list(range(10))),
    ],
)
def test_window_starts(
    length: int, window: int, overlap: float, starts: list[int]
) -> None:
    assert window_starts(length, window, overlap) == starts


@pytest.mark.parametrize("blending", ["gaussian", "constant"])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
@pytest.mark.parametrize("size", [(20, 20), (8, 31), (41, 9), (8, 8)])
def test_constant_in_constant_out(
    size: tuple[int, int], overlap: float, blending: Any
) -> None:
    slabs = blended_slabs(
        lambda window: np.ones((1, 8, 8), np.float32),
        lambda batch: np.repeat(batch, 2, axis=1) * 0.7,
        size,
        (8, 8),
        overlap=overlap,
        batch=2,
        blending=blending,
    )
    rows = 0
    for start, values in slabs:
        assert start == rows
        rows += values.shape[1]
        np.testing.assert_allclose(values, 0.7, rtol=1e-6)
    assert rows == size[0]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("size", [(30, 21), (8, 8), (5, 19), (3, 4), (9, 8)])
def test_blending_equals_monai(
    size: tuple[int, int], overlap: float, batch: int
) -> None:
    spec = window_spec(inference=Inference("sliding_window", (8, 8), overlap, batch))
    pixels = RNG.normal(size=(1, *size)).astype(np.float32)
    found = torch_predictor(function_model(spec, soft)).predict(
        Image.from_array(pixels), probabilities=True
    )
    wanted = sliding_window_inference(
        torch.from_numpy(pixels)[None],
        (8, 8),
        batch,
        lambda x: soft(x).sigmoid(),
        overlap=overlap,
        mode="gaussian",
        padding_mode="replicate",
    )[0].numpy()
    np.testing.assert_allclose(found.probabilities, wanted, rtol=1e-4, atol=1e-6)
    clear = np.abs(wanted - 0.5) > 1e-5
    np.testing.assert_array_equal((found.mask == 1)[clear], (wanted > 0.5)[clear])


def test_a_thin_image_is_widened_window_by_window() -> None:
    pixels = RNG.normal(size=(2, 3, 20)).astype(np.float32)
    asked: list[tuple[int, ...]] = []

    def read(window: tuple[slice, ...]) -> Any:
        part = pixels[(slice(None), *window)]
        asked.append(part.shape)
        return part

    wide = padded(read, (3, 20), (5, 0))
    whole = np.pad(pixels, [(0, 0), (2, 3), (0, 0)], mode="edge")
    for start in (0, 6, 12):
        window = (slice(0, 8), slice(start, start + 8))
        np.testing.assert_array_equal(wide(window), whole[(slice(None), *window)])
    assert asked == [(2, 3, 8)] * 3


def test_blending_of_volumes_equals_monai() -> None:
    spec = window_spec((4, 6, 6))
    pixels = RNG.normal(size=(1, 9, 7, 13)).astype(np.float32)
    found = torch_predictor(function_model(spec, two)).predict(
        Image.from_array(pixels), probabilities=True
    )
    wanted = sliding_window_inference(
        torch.from_numpy(pixels)[None],
        (4, 6, 6),
        3,
        lambda x: two(x).sigmoid(),
        mode="gaussian",
    )[0].numpy()
    np.testing.assert_allclose(found.probabilities, wanted, rtol=1e-4, atol=1e-6)


def test_slabs_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    def slabs() -> list[tuple[int, np.ndarray]]:
        pixels = RNG.normal(size=(1, 20, 12)).astype(np.float32)
        read = lambda window: pixels[(slice(None), *window)]  # noqa: E731
        return list(blended_slabs(read, lambda b: b, (20, 12), (8, 8)))

    assert [start for start, _ in slabs()] == [0, 6, 12]
    monkeypatch.setattr(windows, "PIECE", 24)
    found = slabs()
    assert [start for start, _ in found] == list(range(0, 20, 2))
    assert {values.shape for _, values in found} == {(1, 2, 12)}


def test_weights_are_above_zero() -> None:
    assert importance((32, 32), "gaussian").min() > 0


def test_memory_does_not_grow_with_the_first_axis(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    largest = []
    real = np.zeros

    def watch(shape: Any, *rest: Any) -> Any:
        largest.append(int(np.prod(shape)))
        return real(shape, *rest)

    sizes = []
    for rows in (64, 640):
        largest.clear()
        monkeypatch.setattr(np, "zeros", watch)
        ones = np.ones((1, 8, 8), np.float32)
        for _ in blended_slabs(lambda w: ones, lambda b: b, (rows, 16), (8, 8)):  # noqa: B023
            pass
        monkeypatch.undo()
        sizes.append(max(largest))
    assert sizes[0] == sizes[1] == 8 * 16


@pytest.mark.parametrize("kind", ["overlapping", "exclusive"])
def test_a_very_large_image_gets_the_same_mask(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = exclusive() if kind == "exclusive" else {}
    changes["decoding"] = replace(
        changes.get("decoding", Decoding("threshold")),
        steps=(Cleaning("keep_largest", ("left_lung",)),),
    )
    spec = window_spec(**changes)
    three = lambda x: torch.cat([x * 0, x - 0.5, -x], 1)  # noqa: E731
    model = function_model(spec, three if kind == "exclusive" else soft)
    image = Image.from_array(RNG.normal(size=(1, 30, 21)))
    wanted = torch_predictor(model).predict(image)
    monkeypatch.setattr(runner, "KEPT", 0)
    found = torch_predictor(model).predict(image)
    np.testing.assert_array_equal(found.mask, wanted.mask)
    assert found.mask.dtype == wanted.mask.dtype
    with pytest.raises(FileError, match="too large for probabilities"):
        torch_predictor(model).predict(image, uncertainty=True)


def test_a_step_that_needs_neighbours_runs_on_the_whole_image() -> None:
    spec = window_spec(preprocessing=(Step("GaussianSmooth", {"sigma": 1.0}),))
    pixels = RNG.normal(size=(1, 20, 20)).astype(np.float32)
    found = torch_predictor(function_model(spec, two)).predict(
        Image.from_array(pixels), probabilities=True
    )
    smooth = spec.build_preprocessing()(pixels)
    np.testing.assert_allclose(
        found.probabilities[0], smooth[0].sigmoid(), rtol=1e-4, atol=1e-6
    )


# Resampling and decoding


@pytest.mark.parametrize("size", [(8, 8), (16, 24), (21, 5), (3, 3), (1, 50)])
def test_resampling_equals_torch(size: tuple[int, int]) -> None:
    values = RNG.random((8, 8)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], size, mode="bilinear"
    )[0, 0].numpy()
    np.testing.assert_allclose(decode.resample(values, size), wanted, atol=1e-6)
    part = [slice(0, 1), slice(1, size[1])]
    np.testing.assert_allclose(
        decode.resample(values, size, part), wanted[tuple(part)], atol=1e-6
    )


def test_resampling_of_volumes_equals_torch() -> None:
    values = RNG.random((4, 5, 6)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], (9, 5, 13), mode="trilinear"
    )[0, 0].numpy()
    np.testing.assert_allclose(decode.resample(values, (9, 5, 13)), wanted, atol=1e-6)


@pytest.mark.parametrize("slab", [1, 2**22])
@pytest.mark.parametrize("size", [(8, 8), (37, 21), (5, 90)])
@pytest.mark.parametrize("kind", ["overlapping", "exclusive"])
def test_decoding_on_the_fine_grid(
    kind: str, size: tuple[int, int], slab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "_SLAB", slab)
    labels = LabelSet((Label(2, "a", "#000000"), Label(300, "b", "#000000")), kind)
    rule = Decoding("argmax" if kind == "exclusive" else "threshold", (0.6,))
    values = RNG.random((labels.output_channels, 8, 8)).astype(np.float32)
    fine = np.stack([decode.resample(v, size) for v in values])
    found = decode.decode_resampled(values, size, labels, rule)
    if kind == "overlapping":
        np.testing.assert_array_equal(found, fine > np.float32(0.6))
        assert found.dtype == np.uint8
    else:
        np.testing.assert_array_equal(found, np.array([0, 2, 300])[fine.argmax(0)])
        assert found.dtype == np.uint16


def test_nothing_above_the_threshold_gives_nothing() -> None:
    labels = LabelSet(LUNGS, "overlapping")
    values = np.full((2, 4, 4), 0.5, np.float32)
    mask = decode.decode_resampled(values, (9, 9), labels, Decoding("threshold"))
    assert not mask.any()
    decode.clean_mask(mask, labels, [Cleaning("fill_holes", ("left_lung",))])
    assert not mask.any()


def ring() -> np.ndarray:
    """A ring with a hole, and a speck; background 0.1."""
    values = np.full((12, 12), 0.1, np.float32)
    values[2:8, 2:8] = 0.9
    values[4:6, 4:6] = 0.2
    values[10, 10] = 0.9
    return values


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("kind", ["overlapping", "exclusive"])
def test_cleaning_keeps_the_largest_piece_and_fills_it(kind: str, scale: int) -> None:
    structures = ("right_lung",)
    steps = (Cleaning("keep_largest", structures), Cleaning("fill_holes", structures))
    changes = exclusive() if kind == "exclusive" else {}
    name = "argmax" if kind == "exclusive" else "threshold"
    changes["decoding"] = Decoding(name, steps=steps)
    changes["inference"] = Inference("resize", (12, 12))
    changes["preprocessing"] = (Step("Resize", {"spatial_size": [12, 12]}),)
    logit = torch.logit(torch.from_numpy(ring()))[None, None]
    rest = torch.full_like(logit, -9)
    logits = [logit, rest] if kind == "overlapping" else [-logit, logit, rest - 9]
    answer = torch.cat(logits, 1)
    model = function_model(tiny_spec(**changes), lambda x: answer)
    image = Image.from_array(np.zeros((1, 12 * scale, 12 * scale)))
    found = torch_predictor(model).predict(image, probabilities=True)
    mask = found.structure("right_lung")
    np.testing.assert_array_equal(mask, fill_holes(keep_largest(mask)))
    assert mask[5 * scale, 5 * scale]
    assert not mask[-2 * scale :, -2 * scale :].any()
    assert mask[2 * scale : 8 * scale, 2 * scale : 8 * scale].mean() > 0.95
    # The probabilities are those of the network.
    index = 0 if kind == "overlapping" else 1
    if scale == 1 and kind == "overlapping":
        np.testing.assert_allclose(found.probabilities[index], ring(), rtol=1e-5)


def test_small_pieces_go() -> None:
    steps = (Cleaning("remove_small", ("right_lung",), min_size=2),)
    labels = LabelSet(LUNGS, "overlapping")
    mask = np.zeros((2, 6, 6), np.uint8)
    mask[:, 0, 0] = mask[:, 3, 3:5] = 1
    again = mask.copy()
    decode.clean_mask(mask, labels, steps)
    assert mask.sum(axis=(1, 2)).tolist() == [2, 3]
    decode.clean_mask(again, labels, steps, again=True)
    assert again.sum(axis=(1, 2)).tolist() == [3, 3]


def test_a_structure_that_is_not_there_is_not_cleaned() -> None:
    rule = Decoding("threshold", steps=(Cleaning("fill_holes", ("left_lung",)),))
    values = np.full((2, 4, 4), 0.1, np.float32)
    found = decode.clean_probabilities(values, LabelSet(LUNGS, "overlapping"), rule)
    np.testing.assert_array_equal(found, values)


def test_a_very_large_mask_is_cleaned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_LARGE", 0)
    labels = LabelSet(LUNGS, "overlapping")
    mask = np.zeros((2, 6, 6), np.uint8)
    mask[0, 0, 0] = mask[0, 3, 3:5] = 1
    steps = [Cleaning("keep_largest", ("right_lung",))]
    decode.clean_mask(mask, labels, steps, again=True)
    assert mask.sum() == 3


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="np.zeros is asked elsewhere")
def test_a_very_large_mask_takes_memory_where_it_is_written() -> None:
    labels = LabelSet(LUNGS, "overlapping")
    before = resident()
    mask = decode.new_mask(labels, (64, 2**21))  # 268 MB
    mask[:, :, :4096] = 1
    assert mask[:, :, 4096:].max() == 0
    assert resident() - before < 2**26
    small = decode.new_mask(labels, (6, 5))
    assert small.shape == (2, 6, 5)
    assert mask.dtype == small.dtype == np.uint8


def test_a_very_large_mask_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(tiny_spec(), tiny_network(), Path())
    wanted = torch_predictor(model).predict(Image.from_array(FILM))
    monkeypatch.setattr(decode, "_SPARSE", 0)
    found = torch_predictor(model).predict(Image.from_array(FILM))
    np.testing.assert_array_equal(found.mask, wanted.mask)
    assert found.mask.dtype == wanted.mask.dtype


def test_entropy() -> None:
    values = np.array([[[0.5, 0.0, 1.0, 0.9]], [[0.0, 0.0, 0.5, 0.9]]], np.float32)
    bits = -(0.9 * np.log2(0.9) + 0.1 * np.log2(0.1))
    found = decode.entropy(values, exclusive=False)
    np.testing.assert_allclose(found, [[1, 0, 1, bits]], atol=1e-6)
    even = np.full((4, 1, 1), 0.25, np.float32)
    np.testing.assert_allclose(decode.entropy(even, exclusive=True), [[1]], rtol=1e-6)


# The predictor


def test_a_film_through_a_real_model() -> None:
    model = Model(tiny_spec(), tiny_network(), Path())
    image = Image.from_array(FILM, Geometry.upright((0.2, 0.3)))
    before = FILM.copy()
    predictor = torch_predictor(model)
    found = predictor.predict(image, probabilities=True, uncertainty=True)
    inputs = model.spec.build_preprocessing()(FILM)[None]
    with torch.inference_mode():
        logits = model.network(inputs).sigmoid()
    wanted = torch.nn.functional.interpolate(logits, (21, 17), mode="bilinear")[0]
    np.testing.assert_allclose(found.probabilities, wanted, atol=1e-5)
    np.testing.assert_array_equal(found.mask, found.probabilities > 0.5)
    assert found.geometry == image.geometry
    assert found.labels == model.spec.labels
    assert found.uncertainty.shape == (21, 17)
    assert 0 <= found.uncertainty.min() <= found.uncertainty.max() <= 1
    np.testing.assert_array_equal(FILM, before)
    plain = predictor.predict(image)
    assert plain.probabilities is None
    assert plain.uncertainty is None
    assert plain.mask.tobytes() == found.mask.tobytes()
    stages = predictor.finish(p := predictor.prepare(image), predictor.infer(p))
    assert stages.mask.tobytes() == found.mask.tobytes()
    assert dict(stages.provenance) == dict(plain.provenance)


def test_the_pixels_go_when_the_network_has_its_input() -> None:
    predictor = torch_predictor(Model(tiny_spec(), tiny_network(), Path()))
    geometry = Geometry.upright((0.2, 0.3))
    wanted = predictor.predict(Image.from_array(FILM, geometry))
    image = Image.from_array(FILM.copy(), geometry)
    pixels = weakref.ref(image.pixels)
    prepared = predictor.prepare(image)
    del image
    assert pixels() is None
    found = predictor.finish(prepared, predictor.infer(prepared))
    np.testing.assert_array_equal(found.mask, wanted.mask)
    assert found.geometry == geometry
    assert dict(found.provenance) == dict(wanted.provenance)


def test_the_pixels_stay_where_an_image_may_be_looked_at_again() -> None:
    spec = tiny_spec()
    sized = replace(spec, inference=replace(spec.inference, diameter=8.0))
    image = Image.from_array(FILM)
    prepared = torch_predictor(Model(sized, tiny_network(), Path())).prepare(image)
    assert prepared.image is image


def test_both_engines_give_the_same_labels() -> None:
    model = Model(tiny_spec(), tiny_network(), Path())
    image = Image.from_array(FILM)
    masks = []
    for name in ("torch", "openvino"):
        predictor = Predictor(model, engine=name, device="cpu", threads=1)
        assert predictor.engine == name
        found = [predictor.predict(image).mask.tobytes() for _ in range(3)]
        assert len(set(found)) == 1
        masks.append(np.frombuffer(found[0], np.uint8))
    assert (masks[0] == masks[1]).mean() >= 0.9999


def test_provenance() -> None:
    model = Model(tiny_spec(), tiny_network(), Path())
    predictor = torch_predictor(model)
    facts = predictor.predict(Image.from_array(FILM)).provenance
    assert facts["models"] == [{"name": "tiny", "version": "1", "weights_sha256": ""}]
    assert set(facts["versions"]) == {"medseg", "torch", "monai"}
    assert (facts["engine"], facts["device"]) == ("torch", "cpu")
    text = f"<u2 {FILM.shape} ".encode() + FILM.tobytes()
    assert facts["input_sha256"] == hashlib.sha256(text).hexdigest()
    assert facts["fallbacks"] == []
    described = predictor.describe()
    assert {"model", "model_hash", "engine", "device"} <= set(described)
    assert {k: facts[k] for k in described} == dict(described)


def test_torch_runs_where_openvino_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def version(package: str) -> str:
        if package == "openvino":
            raise PackageNotFoundError(package)
        return "1"

    monkeypatch.setattr(provenance, "version", version)
    made = torch_predictor(Model(tiny_spec(), tiny_network(), Path()))
    assert "openvino" not in made.describe()["versions"]


def test_the_version_of_openvino_is_told_where_it_runs() -> None:
    made = Predictor(Model(tiny_spec(), tiny_network(), Path()), engine="openvino")
    assert "openvino" in made.describe()["versions"]


@pytest.mark.skipif(not has_bfloat16(), reason="the processor has no bfloat16 units")
def test_layers_left_in_float32_are_told() -> None:
    lower = replace(tiny_spec().inference, precision="bfloat16", exact_layers=2)
    model = Model(tiny_spec(inference=lower), tiny_network(), Path())
    made = Predictor(model, engine="openvino").describe()
    assert made["precision"] == "bfloat16"
    assert made["parameters"]["exact_layers"] == 2
    exact = Predictor(model, engine="openvino", precision="float32").describe()
    assert exact["precision"] == "float32"
    assert "exact_layers" not in exact["parameters"]


def test_colour_becomes_grey_or_the_other_way() -> None:
    grey = Image.from_array(FILM.astype(np.float32))
    colour = Image.from_array(np.repeat(FILM, 3, axis=0).astype(np.float32))
    predictor = torch_predictor(function_model(window_spec(), two))
    one, three = (
        predictor.predict(i, probabilities=True).probabilities for i in (grey, colour)
    )
    np.testing.assert_allclose(one, three, rtol=1e-5)
    arguments = {**ARGUMENTS, "in_channels": 3}
    spec = window_spec(network=Network("unet", arguments), channels="rgb")
    wide = torch_predictor(function_model(spec, lambda x: x[:, :2]))
    assert wide.predict(grey).mask.shape == (2, 21, 17)


STAINS = RNG.integers(0, 255, (3, 9, 9)).astype(np.uint8)
FILES_OF_COLOURS = ["a.png", "rgba.png", "a.jpg", "rgb.tif", "palette.tif"]


@pytest.mark.parametrize("name", FILES_OF_COLOURS)
def test_a_file_of_colours_is_seen_in_grey(name: str, tmp_path: Path) -> None:
    colours = np.ascontiguousarray(np.moveaxis(STAINS, 0, -1))
    if name == "palette.tif":
        palette = RNG.integers(0, 2**16, (3, 256)).astype(np.uint16)
        tifffile.imwrite(tmp_path / name, STAINS[0], colormap=palette)
    elif name == "rgb.tif":
        tifffile.imwrite(tmp_path / name, colours, photometric="rgb")
    else:
        picture = Pillow.fromarray(colours)
        picture.convert("RGBA" if "rgba" in name else "RGB").save(tmp_path / name)
    image = read_image(tmp_path / name)
    assert image.has_colours
    predictor = torch_predictor(function_model(window_spec(), two))
    assert predictor.predict(image).mask.shape == (2, 9, 9)


@pytest.mark.parametrize("name", ["imagej.tif", "samples.tif", "times.nii", "a.mha"])
def test_three_channels_that_are_no_colours_are_not_mixed(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if name == "imagej.tif":
        tifffile.imwrite(path, STAINS, imagej=True, metadata={"axes": "CYX"})
    elif name == "samples.tif":
        samples = np.ascontiguousarray(np.moveaxis(STAINS, 0, -1))
        tifffile.imwrite(path, samples, photometric="minisblack", planarconfig="contig")
    elif name == "times.nii":
        times = np.moveaxis(np.stack([STAINS] * 2, axis=1), 0, -1)
        nibabel.save(nibabel.Nifti1Image(times, np.eye(4)), path)
    else:
        write_image(Image.from_array(STAINS), path)
    image = read_image(path)
    predictor = torch_predictor(function_model(window_spec(), two))
    problem = rf"{name}: has 3 channels that are no colours\. Give one of them"
    with pytest.raises(FileError, match=problem):
        predictor.predict(image)
    network = Network("unet", {**ARGUMENTS, "in_channels": 3})
    for rule in ("rgb", "same"):  # a model that learnt three
        spec = window_spec(network=network, channels=rule)
        wide = torch_predictor(function_model(spec, lambda x: x[:, :2]))
        assert wide.predict(image).mask.shape == (2, *image.spatial_shape)


def test_images_that_do_not_suit() -> None:
    predictor = torch_predictor(function_model(window_spec((4, 4, 4)), two))
    image = Image(FILM, Geometry.pixels(2), {"source": "film.png"})
    with pytest.raises(FileError, match=r"film\.png: has 2 axes, the model needs 3"):
        predictor.predict(image)
    predictor = torch_predictor(function_model(tiny_spec(), two))
    pair = Image(np.zeros((2, 9, 9)), Geometry.pixels(2), {"source": "pair.tif"})
    with pytest.raises(FileError, match=r"pair\.tif: has 2 channels"):
        predictor.predict(pair)


def test_a_network_that_gives_nonsense() -> None:
    model = function_model(window_spec((21, 17)), lambda x: two(x) * torch.nan)
    problem = "gave 714 values that are not finite"
    with pytest.raises(FileError, match=rf"{problem}\. Use another model"):
        torch_predictor(model).predict(Image.from_array(FILM))
    half = torch_predictor(model, precision="bfloat16")
    with pytest.raises(FileError, match=rf"{problem}\. Try --engine torch"):
        half.predict(Image.from_array(FILM))


def test_too_little_memory_is_an_error_of_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("Unable to allocate 9 GiB")

    model = function_model(window_spec(), two)
    monkeypatch.setattr(predictor, "pixel_hash", fail)
    with pytest.raises(FileError, match="needs more memory than there is"):
        torch_predictor(model).predict(Image.from_array(FILM))


@pytest.mark.parametrize("mode", ["resize", "sliding_window"])
@pytest.mark.parametrize("kind", ["overlapping", "exclusive"])
@pytest.mark.parametrize("kept", [0, 2**27])
def test_a_volume_goes_through_slice_by_slice(
    mode: str, kind: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "KEPT", kept)
    changes = exclusive() if kind == "exclusive" else {}
    spec = tiny_spec(**changes) if mode == "resize" else window_spec(**changes)
    three = lambda x: torch.cat([x * 0, x - 0.5, -x], 1)  # noqa: E731
    model = function_model(spec, three if kind == "exclusive" else soft)
    volume = RNG.normal(size=(1, 4, 11, 12)).astype(np.float32)
    predict = torch_predictor(model).predict
    maps = {"probabilities": True, "uncertainty": True} if kept else {}
    whole = predict(Image.from_array(volume), **maps)
    for z in range(4):
        one = predict(Image.from_array(volume[:, z]), **maps)
        channels = (slice(None),) * (kind == "overlapping")
        np.testing.assert_array_equal(whole.mask[(*channels, z)], one.mask)
        if kept:
            np.testing.assert_allclose(
                whole.probabilities[:, z], one.probabilities, atol=1e-6
            )
            np.testing.assert_allclose(whole.uncertainty[z], one.uncertainty, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 5, 6), (4, 300, 200)])
def test_the_maps_of_a_volume_are_kept_on_the_smaller_grid(
    size: tuple[int, int, int],
) -> None:
    """Of thumbnails those of the network would be a hundred times as large."""
    model = function_model(tiny_spec(), soft)
    network = model.spec.inference.size
    volume = Image.from_array(RNG.normal(size=(1, *size)).astype(np.float32))
    predictor = torch_predictor(model)
    values = predictor.infer(predictor.prepare(volume)).values
    grid = min(network, size[1:], key=math.prod)
    assert values.shape[1:] == (size[0], *grid)


@pytest.mark.parametrize("size", [(9, 1, 12), (9, 12, 1)])
def test_a_film_whose_single_slice_is_not_the_first_axis_is_refused(
    size: tuple[int, int, int],
) -> None:
    predictor = torch_predictor(function_model(tiny_spec(), soft))
    wrong = rf"9 slices of {size[1]} x {size[2]} pixels\. Store it with its single"
    with pytest.raises(FileError, match=wrong):
        predictor.predict(Image.from_array(np.zeros((1, *size), np.float32)))
    predictor.predict(Image.from_array(np.zeros((1, 1, 9, 12), np.float32)))


# Flips and ensembles


def lopsided(x: Tensor) -> Tensor:
    """Right lung: the left half of the window. Left lung: weakly everywhere."""
    left = torch.linspace(1, -1, x.shape[-1]).expand(x.shape)
    return torch.cat([left, x * 0 - 0.2], dim=1)


def test_flips_mirror_back_and_swap_sides() -> None:
    pairs = (("right_lung", "left_lung"),)
    spec = tiny_spec(flips=(Flip((1,), pairs),))
    found = torch_predictor(
        function_model(spec, lopsided), test_time_augmentation=True
    ).predict(Image.from_array(np.zeros((1, 16, 16))), probabilities=True)
    x = torch.zeros(1, 1, 16, 16)
    plain = lopsided(x).sigmoid()
    mirrored = lopsided(x.flip(3)).sigmoid().flip(3)[:, [1, 0]]
    np.testing.assert_allclose(
        found.probabilities, ((plain + mirrored) / 2)[0], rtol=1e-5
    )


def test_flips_of_exclusive_labels_leave_the_background() -> None:
    pairs = (("right_lung", "left_lung"),)
    spec = tiny_spec(flips=(Flip((1,), pairs), Flip((0,))), **exclusive())
    answer = torch.randn(1, 3, 16, 16)
    found = torch_predictor(
        function_model(spec, lambda x: answer), test_time_augmentation=True
    ).predict(Image.from_array(np.zeros((1, 16, 16))), probabilities=True)
    p = answer.softmax(1)
    wanted = (p + p.flip(3)[:, [0, 2, 1]] + p.flip(2)) / 3
    np.testing.assert_allclose(found.probabilities, wanted[0], rtol=1e-4)


def test_flips_of_a_symmetric_network_change_nothing() -> None:
    spec = window_spec(flips=(Flip((0,)), Flip((1,)), Flip((0, 1))))
    image = Image.from_array(RNG.normal(size=(1, 20, 13)))
    plain, flipped = (
        torch_predictor(function_model(spec, two), test_time_augmentation=f)
        .predict(image, probabilities=True)
        .probabilities
        for f in (False, True)
    )
    np.testing.assert_allclose(flipped, plain, rtol=1e-5)


def test_an_ensemble_is_the_mean() -> None:
    answers = [torch.randn(1, 2, 16, 16), torch.randn(1, 2, 16, 16)]
    models = [function_model(tiny_spec(), lambda x, a=a: a) for a in answers]
    image = Image.from_array(np.zeros((1, 16, 16)))
    found = torch_predictor(models).predict(image, probabilities=True)
    mean = (answers[0].sigmoid() + answers[1].sigmoid()) / 2
    np.testing.assert_allclose(found.probabilities, mean[0], rtol=1e-5)
    assert len(found.provenance["models"]) == 2
    assert found.provenance["model"] == "tiny + tiny"


def test_an_ensemble_of_sizes_and_of_windows() -> None:
    large = tiny_spec(
        preprocessing=(Step("Resize", {"spatial_size": [32, 32]}),),
        inference=Inference("resize", (32, 32)),
    )
    ones = lambda x: two(torch.ones_like(x))  # noqa: E731
    models = [function_model(s, ones) for s in (tiny_spec(), large)]
    image = Image.from_array(RNG.normal(size=(1, 20, 20)))
    found = torch_predictor(models).predict(image, probabilities=True)
    np.testing.assert_allclose(found.probabilities[0], 1 / (1 + np.exp(-1)), rtol=1e-5)
    scaled = window_spec(
        preprocessing=(
            Step(
                "ScaleIntensityRange", {"a_min": 0, "a_max": 2, "b_min": 0, "b_max": 1}
            ),
        )
    )
    models = [function_model(s, two) for s in (window_spec(), scaled)]
    found = torch_predictor(models).predict(image, probabilities=True)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    x = image.pixels[0]
    wanted = (sigmoid(x) + sigmoid(x / 2)) / 2
    np.testing.assert_allclose(found.probabilities[0], wanted, rtol=1e-4)


def test_what_a_predictor_refuses() -> None:
    model = function_model(tiny_spec(), two)
    with pytest.raises(ConfigError, match="names no flips"):
        torch_predictor(model, test_time_augmentation=True)
    with pytest.raises(ConfigError, match="none was given"):
        torch_predictor([])
    other = function_model(
        tiny_spec(labels=LabelSet((LUNGS[1], LUNGS[0]), "overlapping")), two
    )
    with pytest.raises(ConfigError, match="different labels"):
        torch_predictor([model, other])
    for spec in (window_spec(), window_spec((4, 4))):
        first = function_model(window_spec((16, 16)), two)
        with pytest.raises(ConfigError, match="different sizes"):
            torch_predictor([first, function_model(spec, two)])
    with pytest.raises(ConfigError, match="different sizes"):
        torch_predictor([model, first])


# Out of memory


class Gpu:
    """A device with room for so many pixels; an engine that counts its calls."""

    name, device, threads, precision = "torch", "cuda", None, "float32"

    def __init__(self, room: int) -> None:
        self.room, self.calls = room, 0

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.calls += 1
        if batch.size > self.room:
            raise torch.OutOfMemoryError(f"Tried to allocate {batch.size} bytes")
        return soft(torch.from_numpy(batch)).numpy()


def on_gpu(model: Model, room: int) -> Predictor:
    """Return a predictor that believes to run on a GPU."""
    found = torch_predictor(model)
    found._ensemble.engine = Gpu(room)
    found._ensemble._engines["cuda"] = [found._ensemble.engine]
    found._ladder = ladder.Ladder(model.spec.inference, "cuda")
    return found


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "SMALLEST_WINDOW", 4)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("room", [1, 15, 16, 63, 64, 127, 128, 255, 256, 1023, 4096])
def test_out_of_memory_equals_a_run_started_there(room: int) -> None:
    spec = window_spec(
        (16, 16), inference=Inference("sliding_window", (16, 16), 0.25, 4)
    )
    model = function_model(spec, soft)
    image = Image.from_array(RNG.normal(size=(1, 40, 37)))
    predictor = on_gpu(model, room)
    found = predictor.predict(image, probabilities=True)
    rung = predictor._ladder.rung
    inference = Inference("sliding_window", rung.size, 0.25, rung.batch)
    there = function_model(replace(spec, inference=inference), soft)
    wanted = torch_predictor(there).predict(image, probabilities=True)
    assert found.probabilities.tobytes() == wanted.probabilities.tobytes()
    assert found.provenance["fallbacks"] == list(predictor.fallbacks)
    assert found.provenance["device"] == predictor.device == rung.device
    calls = predictor._ensemble.engine.calls
    again = predictor.predict(image, probabilities=True)
    assert again.probabilities.tobytes() == found.probabilities.tobytes()
    # The second image starts where the first one ended: nothing is tried in vain.
    tried = predictor._ensemble.engine.calls - calls
    assert tried == calls - len(predictor.fallbacks)


def test_a_film_falls_back_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    predictor = on_gpu(function_model(tiny_spec(), soft), room=1)
    found = predictor.predict(Image.from_array(FILM))
    assert found.provenance["device"] == "cpu"
    assert predictor.fallbacks == ("batch 1, window 16x16, cpu",)
    assert emptied == [1]


def test_the_bottom_of_the_ladder_names_the_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictor = on_gpu(function_model(tiny_spec(), soft), room=1)

    def full(self: TorchEngine, batch: np.ndarray) -> np.ndarray:
        raise torch.OutOfMemoryError("Tried to allocate 7 GiB\nand more")

    monkeypatch.setattr(TorchEngine, "__call__", full)
    with pytest.raises(FileError, match="needs more memory: Tried to allocate 7 GiB"):
        predictor.predict(Image.from_array(FILM))


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), ValueError("x")])
def test_other_errors_are_not_tried_again(error: Exception) -> None:
    predictor = on_gpu(function_model(tiny_spec(), soft), room=10**6)
    calls = []

    def broken(*_: object) -> np.ndarray:
        calls.append(1)
        raise error

    predictor._ensemble._engines["cuda"] = [broken]  # type: ignore[list-item]
    with pytest.raises(type(error)):
        predictor.predict(Image.from_array(FILM))
    assert len(calls) == 1


def test_a_function_is_enough() -> None:
    function: Callable[[Tensor], Tensor] = two
    assert (
        function_model(tiny_spec(), function).network(torch.zeros(1, 1, 2, 2)).any()
        == 0
    )

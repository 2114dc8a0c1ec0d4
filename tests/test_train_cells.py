"""Learning cells: targets, crops, scores, and a tiny run from end to end."""

from __future__ import annotations

import dataclasses
import json
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from scipy import ndimage

from medseg.border_weights import border_weights
from medseg.datasets.case import Case
from medseg.datasets.instances import InstanceTruth
from medseg.datasets.synthetic_movie import write_movie
from medseg.errors import ConfigError, FileError
from medseg.image import Image
from medseg.instances import InstanceRule, find_instances
from medseg.io.ctc import write_mask_file
from medseg.model import load_model
from medseg.predict import Predictor
from medseg.train import run
from medseg.train.card import card
from medseg.train.cell_augment import KEYS, build_cell_augmentation, pose
from medseg.train.cell_data import (
    CellSample,
    CropDataset,
    cell_scale,
    cut,
    load_all,
    load_cells,
)
from medseg.train.cell_scores import (
    CellScore,
    add_scores,
    score_cases,
    score_cells,
)
from medseg.train.cell_targets import distance_map, make_targets, part_touching
from medseg.train.config import TrainConfig
from medseg.train.config_cells import CellsConfig
from medseg.train.config_tables import (
    AugmentConfig,
    DataConfig,
    DataSet,
    LabelsConfig,
    NetworkConfig,
    StageConfig,
)
from medseg.train.loop import fit
from medseg.train.spec import make_spec
from medseg.train.split import Split, divide, find_cases
from medseg.train.task import _spread, make_task

COMPONENTS = CellsConfig(InstanceRule("components"), border_weight=10.0)
WATERSHED = CellsConfig(InstanceRule("watershed", smoothing=1.0), border_sigma=1.5)
STILL = {item.name: 0.0 for item in dataclasses.fields(AugmentConfig)}


def two_squares() -> NDArray[np.int32]:
    cells = np.zeros((9, 14), np.int32)
    cells[2:7, 2:7], cells[2:7, 7:12] = 1, 2
    return cells


# Targets


def test_cells_that_touch_are_parted_by_one_pixel() -> None:
    parted = part_touching(two_squares())
    wanted = two_squares()
    wanted[2:7, 6] = 0
    np.testing.assert_array_equal(parted, wanted)
    eight = np.ones((3, 3))
    assert ndimage.label(parted, eight)[1] == 2
    np.testing.assert_array_equal(part_touching(parted), parted)


def test_cells_that_meet_at_a_corner_are_parted_too() -> None:
    cells = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 2, 2], [0, 0, 2, 2]])
    assert ndimage.label(part_touching(cells), np.ones((3, 3)))[1] == 2


def test_distance_is_1_in_the_middle_of_every_cell() -> None:
    distance = distance_map(two_squares())
    assert (distance[4, 4], distance[4, 9]) == (1, 1)
    np.testing.assert_allclose(distance[4, 2:7], [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])
    np.testing.assert_array_equal(distance > 0, two_squares() > 0)
    assert distance_map(np.ones((3, 4), np.int32)).min() == 1


def test_distance_with_spacing_equals_that_of_the_fine_grid() -> None:
    fine = np.zeros((24, 12, 12), np.int32)
    z, y, x = np.mgrid[:24, :12, :12] - np.array([12, 6, 6])[:, None, None, None]
    fine[z**2 + y**2 + x**2 <= 25] = 1
    thin = distance_map(fine[::2], (2.0, 1.0, 1.0))
    np.testing.assert_allclose(thin, distance_map(fine)[::2], atol=0.2)


def test_maps_of_components_sum_to_1_and_the_gap_weighs_most() -> None:
    maps, weights = make_targets(two_squares(), COMPONENTS)
    np.testing.assert_array_equal(maps.sum(axis=0), np.ones((9, 14)))
    np.testing.assert_array_equal(maps[1] > 0, part_touching(two_squares()) > 0)
    parted = part_touching(two_squares())
    np.testing.assert_allclose(weights, 1 + border_weights(parted), rtol=1e-5)
    assert weights[4, 6] == weights.max()
    plain = dataclasses.replace(COMPONENTS, border_weight=0.0)
    assert (make_targets(two_squares(), plain)[1] == 1).all()


@pytest.mark.parametrize("config", [COMPONENTS, WATERSHED])
def test_the_targets_decode_to_the_cells(config: CellsConfig) -> None:
    maps, _ = make_targets(two_squares(), config)
    found = find_instances(maps, config.rule)
    score = score_cells(found, two_squares(), np.ones(found.shape, bool))
    assert found.max() == 2
    assert score.ap50 == 1
    assert score.seg >= 0.9


# Splits


def frames(n: int, movie: str = "a") -> list[Case]:
    return [
        Case(f"{movie}{k}", Path("x.png"), {}, (), movie, frame=k) for k in range(n)
    ]


def test_a_movie_is_cut_in_time_and_every_movie_for_itself() -> None:
    train, held = divide(frames(9) + frames(6, "b"), "split", "time")
    assert [c.id for c in train] == [f"a{k}" for k in range(6)] + ["b0", "b1"] + [
        "b2",
        "b3",
    ]
    assert [c.id for c in held] == ["a6", "a7", "a8", "b4", "b5"]
    assert len(divide(frames(10), "split", "time", 0.9)[1]) == 1
    assert len(divide(frames(10), "train", "time")[0]) == 10


def test_a_split_by_time_needs_frame_numbers() -> None:
    case = dataclasses.replace(frames(1)[0], frame=None)
    with pytest.raises(ConfigError, match="no frame number"):
        divide([case], "split", "time")


# Crops


def sample(shape: tuple[int, int] = (40, 50)) -> CellSample:
    cells = np.zeros(shape, np.int32)
    cells[5:12, 6:14], cells[20:30, 30:42] = 1, 2
    image = (cells > 0).astype(np.float32)[None]
    return CellSample(image, cells, np.ones(shape, bool))


def test_crops_lie_inside_and_all_parts_together() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        image, cells, known = cut(sample(), (16, 16), rng, 0.5)
        assert image.shape == cells.shape == known.shape == (1, 16, 16)
        np.testing.assert_array_equal(image > 0, cells > 0)
        assert known.all()


def test_centred_crops_hold_cells() -> None:
    rng = np.random.default_rng(0)
    assert all(cut(sample(), (16, 16), rng, 1.0)[1].any() for _ in range(20))


def test_a_small_image_is_padded_and_nobody_knows_the_rest() -> None:
    image, cells, known = cut(sample(), (64, 64), np.random.default_rng(0), 0.5)
    assert known[0, :40, :50].all()
    assert known.sum() == 40 * 50
    assert cells[0, 40:].max() == 0
    np.testing.assert_array_equal(image[0, 40:, :50], sample().image[0, :15:-1])


def test_unknown_pixels_give_no_gradient() -> None:
    known = np.ones((40, 50), bool)
    known[:, 25:] = False
    partly = dataclasses.replace(sample(), known=known)
    chain = build_cell_augmentation(AugmentConfig(**STILL), 0.0, (32, 32))
    data = CropDataset([partly], (32, 32), chain, WATERSHED, 1)
    _, maps, drawn, weights = data[0, 3]
    assert 0 < drawn.sum() < drawn.numel()
    logits = torch.zeros((1, *maps.shape), requires_grad=True)
    loss = make_task(configuration(Path())).loss(
        logits, maps[None], drawn[None], weights[None]
    )
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[0][drawn == 0] == 0).all()
    assert (logits.grad[0][drawn > 0] != 0).any()


def test_the_same_index_gives_the_same_crop_and_poses_are_eight() -> None:
    chain = build_cell_augmentation(AugmentConfig(), 5.0, (24, 24))
    data = CropDataset([sample()], (24, 24), chain, WATERSHED, 1)
    assert len(data) == WATERSHED.crops
    for a, b in zip(data[2, 1], data[2, 1], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not torch.equal(data[2, 1][0], data[3, 1][0])
    corner = np.arange(9, dtype=np.float32).reshape(1, 3, 3)
    assert len({pose(corner, k).tobytes() for k in range(8)}) == 8


def test_cells_move_with_the_image() -> None:
    chain = build_cell_augmentation(
        AugmentConfig(**{**STILL, "rotate": 90.0}), 8.0, (40, 40)
    )
    chain.set_random_state(seed=3)
    parts = cut(sample(), (40, 40), np.random.default_rng(0), 0.0)
    moved = chain(dict(zip(KEYS, map(torch.from_numpy, parts), strict=True)))
    bright = np.asarray(moved["image"]) > 0.5
    cells = np.asarray(moved["cells"])
    assert (bright == (cells > 0.5)).mean() > 0.97
    assert set(np.unique(cells)) <= {0, 1, 2}


def test_images_are_scaled_to_a_common_diameter() -> None:
    cells = np.zeros((30, 30), np.int32)
    cells[:10, :10] = 1  # the diameter of a disc of 100 pixels is 11.28
    assert cell_scale(cells, 22.568) == pytest.approx(2, rel=1e-3)
    assert cell_scale(cells, 0.0) == 1
    assert cell_scale(0 * cells, 20.0) == 1
    assert cell_scale(cells, 1000.0) == 4


# Scores


def test_scores_counted_by_hand() -> None:
    truth = np.zeros((6, 12), np.int32)
    truth[0:4, 0:4], truth[0:4, 8:12] = 1, 2
    found = np.zeros_like(truth)
    found[0:4, 0:3], found[5, 5] = 7, 2  # 12 of 16 pixels; one made up
    score = score_cells(found, truth, np.ones(truth.shape, bool))
    assert score.seg == pytest.approx((0.75 + 0) / 2)
    assert score.ap50 == pytest.approx(1 / 3)
    assert score.iou == pytest.approx(12 / 33)
    twice = add_scores([score, score])
    assert (twice.seg, twice.ap50, twice.images) == (score.seg, score.ap50, 2)
    nowhere = np.ones(truth.shape, bool)
    nowhere[5] = False  # the made-up cell lies where nobody looked
    assert score_cells(found, truth, nowhere).ap50 == pytest.approx(1 / 2)


def test_no_cells_have_no_score() -> None:
    assert np.isnan(CellScore().seg)
    assert np.isnan(CellScore().iou)
    assert "SEG" not in CellScore().to_table()


# A whole run


def write_cells(folder: Path, n: int = 6, size: int = 48) -> list[Case]:
    """Images of bright discs, two of which touch, with a number a disc."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    cases = []
    for k in range(n):
        cells = np.zeros((size, size), np.uint8)
        for number, (cy, cx) in enumerate([(14, 13), (14, 27), (35, 30)], start=1):
            shift = rng.uniform(-2, 2, 2)
            cells[(y - cy - shift[0]) ** 2 + (x - cx - shift[1]) ** 2 < 45] = number
        image = 40 + 120 * (cells > 0) + rng.normal(0, 4, cells.shape)
        files = [folder / f"image{k}.png", folder / f"cells{k}.png"]
        for path, pixels in zip(files, (image, cells), strict=True):
            PillowImage.fromarray(pixels.astype(np.uint8)).save(path)
        truth = InstanceTruth(files[1])
        cases.append(Case(str(k), files[0], {}, (), f"g{k}", instances=truth))
    return cases


def configuration(folder: Path, epochs: int = 2, **cells: Any) -> TrainConfig:
    return TrainConfig(
        name="tiny-cells",
        output=str(folder / "run"),
        labels=LabelsConfig(("nucleus",), "instances"),
        data=(DataConfig("dsb2018", str(folder)),),
        stage=(StageConfig((32, 32), epochs, 4, 1e-2),),
        network=NetworkConfig("unet", {"widths": [8, 16]}),
        augmentation=AugmentConfig(**STILL),
        cells=dataclasses.replace(WATERSHED, elastic=0.0, **cells),
        average=0.8,
        workers=0,
        accelerator="cpu",
        validate_every=epochs,
    )


@pytest.mark.parametrize("method", ["components", "watershed"])
def test_it_learns_the_discs(tmp_path: Path, method: Any) -> None:
    cases = write_cells(tmp_path)
    rule = InstanceRule(method, smoothing=1.0, min_size=5)
    config = configuration(tmp_path, 24, rule=rule, border_weight=5.0)
    network, logs = fit(config, cases[:5], cases[5:], tmp_path / "c.ckpt")
    assert logs[-1].loss < 0.7 * logs[0].loss
    assert set(logs[-1].scores) == {"SEG", "AP50"}
    assert logs[-1].mean_score > 0.5
    split = Split(tuple(cases[:5]), {"dsb2018": tuple(cases[5:])}, {"dsb2018": 5})
    folder = run.finish(config, split, network, logs, tmp_path / "model", print)
    spec = load_model(folder).spec
    scores = spec.scores["dsb2018"]["nucleus"]
    assert scores["cells"] == 3
    assert scores["SEG"] > 0.5
    assert "| nucleus |" in card(spec)
    assert "w0 5" in card(spec)
    image = Image.from_array(np.full((1, 20, 20), 3, np.uint8))
    found = Predictor(load_model(folder), engine="torch").predict(image)
    assert found.mask.dtype == np.int32
    assert found.labels.kind == "instances"


def test_rescaled_images_have_the_right_cells(tmp_path: Path) -> None:
    case = write_cells(tmp_path, 1)[0]
    plain, large = load_cells(case), load_cells(case, 30.0)
    assert large.scale == cell_scale(plain.cells, 30.0)
    assert 1.8 < large.scale < 2.6
    assert large.cells.max() == plain.cells.max() == 3
    assert large.image.shape[1:] == large.cells.shape == large.known.shape
    assert (
        make_task(configuration(tmp_path))
        .load([case, case], configuration(tmp_path).stage[0])[0]
        .scale
        == 1
    )


def test_cells_lie_on_the_grid_of_their_image(tmp_path: Path) -> None:
    def save(name: str, shape: tuple[int, int]) -> Path:
        pixels = np.zeros(shape, np.uint8)
        pixels[2:9, 3:8] = 200
        PillowImage.fromarray(pixels).save(tmp_path / name)
        return tmp_path / name

    image = save("image.png", (40, 24))
    case = Case("a", image, {}, (), "a", instances=InstanceTruth(image))
    assert load_cells(case).cells.shape == (40, 24)
    for shape in ((24, 40), (40, 12), (80, 48)):
        truth = InstanceTruth(save("cells.png", shape))
        case = Case("a", image, {}, (), "a", instances=truth)
        with pytest.raises(FileError, match=r"cells\.png: holds cells of .*\(40, 24\)"):
            load_cells(case)
        with pytest.raises(FileError, match=r"cells\.png: holds cells of .*\(40, 24\)"):
            score_cases(None, [case])


def test_cells_are_numbered_without_a_gap(tmp_path: Path) -> None:
    numbers = np.zeros((20, 30), np.uint32)
    numbers[2:8, 2:8], numbers[12:16, 20:25] = 2_000_000_000, 7
    tifffile.imwrite(tmp_path / "cells.tif", numbers)
    tifffile.imwrite(tmp_path / "image.tif", (numbers > 0).astype(np.uint8))
    truth = InstanceTruth(tmp_path / "cells.tif")
    case = Case("a", tmp_path / "image.tif", {}, (), "a", instances=truth)
    sample = load_cells(case)
    wanted = np.select([numbers == 7, numbers > 7], [1, 2])
    np.testing.assert_array_equal(sample.cells, wanted)
    assert [number for number, _ in sample.boxes] == [1, 2]


def test_gold_and_silver_truth_of_an_image_are_both_learnt(tmp_path: Path) -> None:
    gold, other = write_cells(tmp_path, 2)
    silver = dataclasses.replace(gold, instances=other.instances)
    first, second, again = load_all([gold, silver, gold], lambda case: 0.0)
    np.testing.assert_array_equal(first.image, second.image)
    assert not np.array_equal(first.cells, second.cells)
    assert again is first


@pytest.mark.parametrize("count", [1, 16, 17, 31, 100])
def test_a_validation_looks_at_images_spread_over_all(count: int) -> None:
    seen = _spread(range(count))
    steps = np.diff(seen)
    assert (seen[0], seen[-1], len(seen)) == (0, count - 1, min(count, 16))
    assert count == 1 or 1 <= steps.min() <= steps.max() <= steps.min() + 1


def test_the_card_of_images_without_a_cell(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    spec = make_spec(config, Split((), {}, {"dsb2018": 1}), 1)
    row = dataclasses.replace(CellScore(), images=2).to_table()
    spec = dataclasses.replace(spec, scores={"dsb2018": {"nucleus": row}})
    assert "| nucleus | - | 1.0000 | - | 0 | 2 |" in card(spec)


def test_sets_without_cells_are_refused(tmp_path: Path) -> None:
    bare = dataclasses.replace(write_cells(tmp_path, 1)[0], instances=None)
    split = Split((bare,), {}, {"dsb2018": 1})
    with pytest.raises(ConfigError, match="no cells drawn"):
        run.check_names(configuration(tmp_path), split)


def test_no_held_back_images_no_scores(tmp_path: Path) -> None:
    task = make_task(configuration(tmp_path))
    assert task.validate(lambda x: x, []) == {}


def test_a_run_recorded_before_cells_goes_on(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    output = tmp_path / "run"
    output.mkdir()
    split = Split((), {}, {})
    run.claim(config, split, output, resume=False)
    record = output / run.CONFIG
    table = json.loads(record.read_text())
    for entry in table["data"]:
        for name in ("split", "share", "rescale"):
            del entry[name]
    record.write_text(json.dumps(table))
    (output / run.CHECKPOINT).touch()
    run.claim(config, split, output, resume=True)
    with pytest.raises(ConfigError, match="differs from the run"):
        run.claim(dataclasses.replace(config, seed=9), split, output, resume=True)


# Volumes


def ball(middle: tuple[int, int, int], radius: float) -> NDArray[np.bool_]:
    z, y, x = np.mgrid[:8, :32, :32]
    away = (2 * (z - middle[0])) ** 2 + (y - middle[1]) ** 2 + (x - middle[2]) ** 2
    return np.asarray(away <= radius**2)


def two_balls() -> NDArray[np.int32]:
    """Voxels twice as deep as wide; balls of radius 6 that nearly touch."""
    cells = np.zeros((8, 32, 32), np.int32)
    cells[ball((4, 16, 9), 6)], cells[ball((4, 16, 22), 6)] = 1, 2
    return cells


def volume_sample() -> CellSample:
    cells = two_balls()
    image = (cells > 0).astype(np.float32)[None]
    return CellSample(image, cells, cells >= 0, 1.0, (2.0, 1.0, 1.0))


def volume_configuration(folder: Path, epochs: int = 2) -> TrainConfig:
    return dataclasses.replace(
        configuration(folder, epochs),
        data=(DataConfig("synthetic_movie", str(folder), spacing=(2.0, 1.0, 1.0)),),
        stage=(StageConfig((8, 32, 32), epochs, 2, 1e-2),),
        network=NetworkConfig("unet", {"widths": [6, 12], "spatial_dims": 3}),
    )


@pytest.mark.parametrize("config", [COMPONENTS, WATERSHED])
def test_the_targets_of_a_volume_decode_to_its_cells(config: CellsConfig) -> None:
    maps, weights = make_targets(two_balls(), config, (2.0, 1.0, 1.0))
    assert weights.shape == maps.shape[1:] == (8, 32, 32)
    found = find_instances(maps, config.rule, (2.0, 1.0, 1.0))
    score = score_cells(found, two_balls(), np.ones(found.shape, bool))
    assert (found.max(), score.ap50) == (2, 1)


def test_border_weights_with_spacing_equal_those_of_the_fine_grid() -> None:
    fine = np.zeros((17, 12, 20), np.int32)
    fine[2:15:, 3:9, 2:9], fine[2:15, 3:9, 11:18] = 1, 2
    every = border_weights(fine, sigma=2.0)[::2]
    thin = border_weights(fine[::2], sigma=2.0, spacing=(2.0, 1.0, 1.0))
    np.testing.assert_allclose(thin[2:-2], every[2:-2], rtol=1e-6)


def test_slices_of_a_volume_move_alike_and_in_sixteen_poses() -> None:
    chain = build_cell_augmentation(
        AugmentConfig(**{**STILL, "rotate": 90.0, "shading": 1.0}), 6.0, (8, 32, 32)
    )
    same = np.repeat(sample((32, 32)).image, 8, axis=0)
    parts = dict.fromkeys(KEYS, torch.from_numpy(same))
    moved = chain(parts)
    assert not torch.equal(torch.as_tensor(moved["image"]), torch.from_numpy(same))
    for key in KEYS:
        planes = np.asarray(moved[key])
        np.testing.assert_array_equal(planes, np.repeat(planes[:1], 8, axis=0))
    corner = np.arange(18, dtype=np.float32).reshape(2, 3, 3)
    assert len({pose(corner, k).tobytes() for k in range(16)}) == 16


def test_crops_of_a_volume_have_cells_where_it_is_bright() -> None:
    chain = build_cell_augmentation(AugmentConfig(**STILL), 0.0, (8, 16, 16))
    data = CropDataset([volume_sample()], (8, 16, 16), chain, WATERSHED, 1)
    image, maps, known, weights = data[0, 1]
    assert image.shape == (1, 8, 16, 16)
    assert maps.shape == known.shape == (3, 8, 16, 16)
    assert weights.shape == (8, 16, 16)
    assert known.all()
    bright = image[0] > 0.5
    assert bright.any()
    assert ((maps[0] > 0) == bright).float().mean() > 0.97  # the grid zooms by 3 %


def test_a_volume_is_learnt_and_predicted(tmp_path: Path) -> None:
    options = {"shape": (8, 32, 32), "cells": 2, "radius": 6.0, "anisotropy": 2.0}
    write_movie(tmp_path / "movie", 5, frames=4, debris=0, speed=0.02, **options)
    config = volume_configuration(tmp_path / "movie", 30)
    split = find_cases(config.data, config.labels)
    train = list(split.train)
    network, logs = fit(config, train[:3], train[3:], tmp_path / "c.ckpt")
    assert logs[-1].loss < 0.7 * logs[0].loss
    assert logs[-1].mean_score > 0.5
    split = Split(tuple(train[:3]), {"movie": tuple(train[3:])}, {"movie": 3})
    folder = run.finish(config, split, network, logs, tmp_path / "model", print)
    spec = load_model(folder).spec
    assert spec.inference.size == (8, 32, 32)
    assert len(spec.flips) == 15
    assert spec.scores["movie"]["nucleus"]["SEG"] > 0.5


def test_axes_that_disagree_are_refused(tmp_path: Path) -> None:
    case = write_cells(tmp_path, 1)[0]
    with pytest.raises(FileError, match="drawn with 2 axes and the stage's size has 3"):
        load_cells(case, ndim=3)
    volume = tmp_path / "volume.tif"
    write_mask_file(volume, two_balls().astype(np.uint16))
    thick = dataclasses.replace(case, image=volume, spacing=(1.0, 1.0))
    with pytest.raises(FileError, match=r"has 3 axes and .* spacing \(1.0, 1.0\)"):
        load_cells(thick, ndim=3)
    config = volume_configuration(tmp_path)
    flat = (StageConfig((32, 32), 2),)
    with pytest.raises(ConfigError, match=r"is \[32, 32\] and .*spatial_dims is 3"):
        dataclasses.replace(config, stage=flat)
    films = LabelsConfig(("heart",))
    with pytest.raises(ConfigError, match="is 3 for labels of the kind overlapping"):
        dataclasses.replace(config, labels=films)
    for size in ((16,), (2, 16, 16), (8, 15, 16), (4, 4, 16, 16)):
        with pytest.raises(ConfigError, match="depth of 4 or more"):
            StageConfig(size, 1)
    with pytest.raises(ConfigError, match="is silver for dsb2018"):
        DataConfig("dsb2018", "x", truth="silver")
    for spacing in ((1.0,), (0.0, 1.0)):
        with pytest.raises(ConfigError, match=r"data\.spacing"):
            DataConfig("dsb2018", "x", spacing=spacing)


@pytest.mark.parametrize("name", get_args(DataSet))
def test_every_set_of_a_configuration_finds_cases(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileError):
        import_module(f"medseg.datasets.{name}").cases(tmp_path)

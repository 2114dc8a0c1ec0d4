"""Maps to cells: phantoms counted by hand, laws, and scikit-image as reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

from medseg.errors import ConfigError
from medseg.instances import (
    InstanceRule,
    basins,
    drop_margin,
    fill_holes,
    find_instances,
    number,
)
from medseg.stitching import Stitcher

WATERSHED = InstanceRule("watershed")
COMPONENTS = InstanceRule("components")


def discs(*centres: tuple[float, ...], radius: float, shape: tuple[int, ...]) -> Any:
    """Which disc each pixel belongs to: the nearest of those that hold it."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    away = [np.linalg.norm(grid - np.array(c), axis=-1) for c in centres]
    nearest = np.argmin(away, axis=0) + 1
    return np.where(np.min(away, axis=0) <= radius, nearest, 0).astype(np.int32)


def maps_of(cells: NDArray[np.int32], sampling: Any = None) -> NDArray[np.float32]:
    """Perfect maps: foreground, distance over its largest, no border map."""
    distance = np.zeros(cells.shape, np.float32)
    for k in range(1, int(cells.max()) + 1):
        one = ndimage.distance_transform_edt(cells == k, sampling)
        distance += (one / one.max()).astype(np.float32)
    return np.stack([(cells > 0).astype(np.float32), distance, 0 * distance])


def two_maps(mask: NDArray[Any]) -> NDArray[np.float32]:
    cell = mask.astype(np.float32)
    return np.stack([1 - cell, cell])


TWO = discs((10, 8), (10, 19), radius=6, shape=(21, 28))


# Rules


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "voronoi"),
        ("foreground", 0.0),
        ("foreground", 1.0),
        ("smoothing", -1.0),
        ("height", 1.5),
        ("seed", -0.1),
        ("min_size", -1),
        ("margin", 5000),
        ("height", float("nan")),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"decoding.instances.{name}"):
        InstanceRule(**{name: value})


def test_lengths_scale_with_the_cells() -> None:
    rule = InstanceRule("watershed", smoothing=1.5, min_size=10, margin=3)
    assert rule.scaled(2, 2) == replace(rule, smoothing=3.0, min_size=40, margin=6)
    assert rule.scaled(2, 3).min_size == 80
    assert rule.scaled(1, 2) == rule


@pytest.mark.parametrize("rule", [WATERSHED, COMPONENTS])
def test_maps_and_spacing_must_suit(rule: InstanceRule) -> None:
    maps = np.zeros((rule.channels, 4, 4), np.float32)
    with pytest.raises(ConfigError, match="maps"):
        find_instances(maps[1:], rule)
    for spacing in ((1.0,), (1.0, 0.0), (1.0, 1.0, 1.0)):
        with pytest.raises(ConfigError, match="spacing"):
            find_instances(maps, rule, spacing)


# Touching cells


def test_two_touching_discs_stay_apart() -> None:
    assert ndimage.label(TWO > 0)[1] == 1
    found = find_instances(maps_of(TWO), WATERSHED)
    assert found.max() == 2
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found > 0, TWO > 0)
    assert (found != TWO).mean() < 0.01


def test_components_keep_what_touches_as_one_and_what_a_gap_parts_as_two() -> None:
    assert find_instances(two_maps(TWO > 0), COMPONENTS).max() == 1
    gap = TWO > 0
    gap[:, 13] = False
    found = find_instances(two_maps(gap), COMPONENTS)
    np.testing.assert_array_equal(found, ndimage.label(gap)[0])
    assert found.max() == 2


def test_the_border_map_parts_cells_that_the_distance_does_not() -> None:
    maps = np.ones((3, 6, 9), np.float32)
    maps[2] = 0
    rule = replace(WATERSHED, smoothing=0.0)
    assert find_instances(maps, rule).max() == 1
    maps[2, :, 4] = 1
    assert find_instances(maps, rule).max() == 2


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_constant_maps_give_nothing_or_one_cell(value: float) -> None:
    for rule in (WATERSHED, COMPONENTS):
        maps = np.full((rule.channels, 5, 7), value, np.float32)
        found = find_instances(maps, rule)
        assert found.max() == (1 if value > 0.5 else 0)
        assert (found == found[0, 0]).all()


def test_a_low_pass_between_peaks_is_needed() -> None:
    # Two peaks of 1 and 0.8 with a pass of 0.6: the lower stands out by 0.2.
    land = np.array([[0.2, 1.0, 0.6, 0.8, 0.3]], np.float32)
    mask = np.ones(land.shape, bool)
    assert basins(land, mask, 0.1).max() > 0
    assert len(np.unique(basins(land, mask, 0.19))) == 2
    assert len(np.unique(basins(land, mask, 0.21))) == 1


def test_a_low_peak_joins_its_neighbour_or_goes() -> None:
    land = np.array([[0.9, 0.1, 0.3, 0.0, 0.2]], np.float32)
    mask = np.array([[1, 1, 1, 0, 1]], bool)
    found = basins(land, mask, 0.05, lowest=0.4)
    assert (found[0, :3] == found[0, 0]).all()
    assert found[0, 0] > 0
    assert found[0, 4] == 0


@pytest.mark.parametrize("seed", range(4))
def test_basins_equal_a_watershed_seeded_by_h_maxima(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=(40, 40))
    land = ndimage.gaussian_filter(noise, 3)
    land = ((land - land.min()) / np.ptp(land)).astype(np.float32)
    mask = np.ones(land.shape, bool)
    seeds = ndimage.label(h_maxima(land, 0.1, ndimage.generate_binary_structure(2, 1)))
    wanted = watershed(-land, seeds[0])
    found = number(basins(land, mask, 0.1))
    assert found.max() == seeds[1]
    inside = seeds[0] > 0
    pairs = set(zip(wanted[inside], found[inside], strict=True))
    assert len(pairs) == seeds[1]
    table = np.array([0, *(b for _, b in sorted(pairs))])
    assert (table[wanted] == found).mean() > 0.99


# Spacing


def test_anisotropic_equals_isotropic_after_scaling() -> None:
    """Every third plane of a volume, told so by its spacing, has the same cells."""
    cells = discs((12, 8, 8), (12, 8, 18), radius=6, shape=(24, 17, 27))
    rule = replace(WATERSHED, smoothing=2.0)
    whole = find_instances(maps_of(cells), rule, (1, 1, 1))
    thin = find_instances(maps_of(cells)[:, ::3], rule, (3, 1, 1))
    assert whole.max() == thin.max() == 2
    assert (whole[::3] != thin).mean() < 0.01


def test_spacing_shortens_the_smoothing_along_coarse_axes() -> None:
    # Peaks two planes apart; smoothing over 3 planes would make them one.
    maps = np.zeros((3, 9, 5, 5), np.float32)
    maps[0] = 1
    maps[1, 2:7:4] = 1
    rule = replace(WATERSHED, smoothing=3.0, height=0.2)
    assert find_instances(maps, rule, (1, 1, 1)).max() == 1
    assert find_instances(maps, rule, (6, 1, 1)).max() == 2


# Debris, holes, margin


def test_debris_goes_and_numbers_have_no_gaps() -> None:
    mask = np.zeros((9, 9), bool)
    mask[0, 0] = mask[2:5, 2:5] = mask[7, 1:3] = mask[7:9, 6:9] = True
    found = find_instances(two_maps(mask), replace(COMPONENTS, min_size=3))
    assert np.unique(found).tolist() == [0, 1, 2]
    assert found[0, 0] == found[7, 1] == 0
    assert (found[3, 3], found[8, 8]) == (1, 2)


def test_numbers_follow_the_first_pixels() -> None:
    cells = np.array([[0, 7, 0], [3, 7, 0], [3, 0, 5]])
    np.testing.assert_array_equal(number(cells), [[0, 1, 0], [2, 1, 0], [2, 0, 3]])
    assert number(np.zeros((2, 2), np.int32)).max() == 0


def test_holes_of_one_cell_are_filled_and_gaps_between_cells_are_not() -> None:
    cells = np.zeros((9, 9), np.int32)
    cells[1:8, 1:8] = 1
    cells[2, 2] = 0  # a hole
    cells[3:7, 3:7] = 0  # a gap around another cell
    cells[4:6, 4:6] = 2
    wanted = cells.copy()
    wanted[2, 2] = 1
    np.testing.assert_array_equal(fill_holes(cells), wanted)


def test_a_bay_at_the_edge_is_no_hole() -> None:
    cells = np.ones((5, 5), np.int32)
    cells[0, 2] = cells[2, 2] = 0
    found = fill_holes(cells)
    assert found[0, 2] == 0
    assert found[2, 2] == 1


def test_holes_stay_where_the_rule_says_so() -> None:
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    kept = find_instances(two_maps(mask), replace(COMPONENTS, fill_holes=False))
    assert kept[2, 2] == 0
    assert find_instances(two_maps(mask), COMPONENTS)[2, 2] == 1


def test_cells_in_the_margin_go() -> None:
    cells = np.zeros((8, 8), np.int32)
    cells[0, :2] = 1  # wholly in the margin
    cells[1:4, 3] = 2  # reaches out of it
    cells[4, 4] = 3
    found = drop_margin(cells, 2)
    assert found[0, 0] == 0
    assert (found[1, 3], found[4, 4]) == (1, 2)
    np.testing.assert_array_equal(drop_margin(cells, 0), cells)
    assert drop_margin(cells, 9).max() == 0
    # A volume of few slices has its margin at the sides alone.
    stack = drop_margin(np.stack([cells, cells]), 2)
    np.testing.assert_array_equal(stack, np.stack([found, found]))


# Tiles


def stitched(
    maps: NDArray[np.float32], rule: InstanceRule, tile: int, halo: int, rows: int
) -> NDArray[np.int32]:
    shape = maps.shape[1:]
    stitcher = Stitcher(
        shape,
        lambda block: find_instances(block, rule),
        [tile] * len(shape),
        [halo] * len(shape),
    )
    for start in range(0, shape[0], rows):
        stitcher.add(maps[:, start : start + rows])
    return stitcher.result()


def many(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.int32]:
    """Cells of radius 3, some of which touch, in jittered rows."""
    rng = np.random.default_rng(seed)
    grids = np.meshgrid(*(np.arange(4, n - 3, 7) for n in shape), indexing="ij")
    centres = np.stack([g.ravel() for g in grids], axis=1) + 0.0
    centres += rng.uniform(-1, 1, centres.shape)
    return discs(*map(tuple, centres), radius=3.4, shape=shape)


@pytest.mark.parametrize("rows", [1, 5, 64])
@pytest.mark.parametrize("tile", [9, 16, 33])
def test_tiles_give_what_the_whole_gives(tile: int, rows: int) -> None:
    maps = maps_of(many((50, 61)))
    whole = find_instances(maps, WATERSHED)
    assert whole.max() > 40
    found = stitched(maps, WATERSHED, tile, 18, rows)
    np.testing.assert_array_equal(found, whole)


def test_tiles_of_a_volume() -> None:
    maps = maps_of(many((18, 25, 22)))
    rule = replace(WATERSHED, smoothing=0.5)
    found = stitched(maps, rule, 8, 12, 3)
    np.testing.assert_array_equal(found, find_instances(maps, rule))


def test_a_cell_larger_than_tile_and_halo_stays_one() -> None:
    mask = np.zeros((40, 40), bool)
    mask[2:37, 18:22] = mask[18:22, 3:38] = True  # a cross over all tiles
    mask[0:3, 0:3] = True
    found = stitched(two_maps(mask), COMPONENTS, 8, 4, 7)
    np.testing.assert_array_equal(found, ndimage.label(mask)[0])


def test_pieces_without_another_half_are_debris_at_the_end() -> None:
    mask = np.zeros((4, 12), bool)
    mask[1, 2] = mask[1:3, 6:9] = True
    stitcher = Stitcher(
        (4, 12), lambda m: find_instances(m, COMPONENTS), (4, 4), (1, 2)
    )
    stitcher.add(two_maps(mask))
    found = stitcher.result(min_size=2)
    assert found[1, 2] == 0
    assert (found[1:3, 6:9] == 1).all()


def test_tiles_need_a_length_for_each_axis() -> None:
    for tile, halo in [((4,), (4,)), ((4, 4), (4,)), ((4, 0), (1, 1))]:
        with pytest.raises(ConfigError, match="tiles"):
            Stitcher((8, 8), lambda m: np.zeros((1, 1), np.int32), tile, halo)

"""Cells, tracks and counts in numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage.measure import regionprops

from medseg.errors import ConfigError
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.lineage import TrackGraph
from medseg.measure.cells import CELL_COLUMNS, measure_frame, solidity
from medseg.measure.curves import draw_curves, draw_lineage
from medseg.measure.tracks import (
    COUNT_COLUMNS,
    MOVIE_COLUMNS,
    TRACK_COLUMNS,
    Scale,
    count_cells,
    measure_movie,
    measure_tracks,
    speeds,
)

MASK = np.zeros((12, 16), np.uint16)
MASK[2:6, 3:9] = 4
MASK[8:12, 10:16] = 9
# Frames 0, 1, 2, 4: a cell that moves 3 px a frame, divides after 1, one daughter is
# missing in frame 3.
GRAPH = TrackGraph(
    [0, 1, 2, 2, 4],
    [1, 1, 1, 2, 2],
    [[0, 0], [0, 3], [3, 3], [0, 6], [0, 10]],
    [(0, 1), (1, 2), (1, 3), (3, 4)],
)


def test_a_rectangle() -> None:
    (row, edge) = measure_frame(MASK, frame=7)
    assert tuple(row) == CELL_COLUMNS
    assert (row["frame"], row["cell"], row["area_px"], row["solidity"]) == (7, 4, 24, 1)
    assert (row["z_px"], row["y_px"], row["x_px"]) == (None, 3.5, 5.5)
    assert row["area_um2"] is row["intensity_mean"] is row["perimeter_um"] is None
    assert (row["touches_edge"], edge["touches_edge"]) == ("no", "yes")


def test_micrometres_only_where_they_are_known() -> None:
    row = measure_frame(MASK, geometry=Geometry.upright((0.0005, 0.0005)))[0]
    assert row["area_um2"] == 6
    assert row["perimeter_um"] == pytest.approx(row["perimeter_px"] / 2)
    oblong = measure_frame(MASK, geometry=Geometry.upright((0.001, 0.0005)))[0]
    assert (oblong["area_um2"], oblong["perimeter_um"]) == (12, None)
    volume = measure_frame(
        np.ones((2, 3, 4), int), geometry=Geometry.upright((0.002, 0.001, 0.001))
    )[0]
    assert (volume["volume_px"], volume["volume_um3"], volume["area_px"]) == (
        24,
        48,
        None,
    )


def test_intensity_above_background() -> None:
    pixels = np.full((1, 12, 16), 10, np.uint8)
    pixels[0, 2:6, 3:9] = 15
    row = measure_frame(MASK, Image.from_array(pixels))[0]
    assert (row["intensity_mean"], row["intensity_sd"], row["background"]) == (
        15,
        0,
        10,
    )
    assert (row["intensity_sum"], row["intensity_sum_above_background"]) == (360, 120)
    full = measure_frame(np.ones((3, 3), int), Image.from_array(np.ones((1, 3, 3))))[0]
    assert full["background"] is full["intensity_sum_above_background"] is None


def test_what_does_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"has \(3, 3\) pixels"):
        measure_frame(MASK, Image.from_array(np.ones((1, 3, 3))))
    with pytest.raises(ConfigError, match="has 3 axes, the mask 2"):
        measure_frame(MASK, geometry=Geometry.upright((1.0, 1.0, 1.0)))
    with pytest.raises(ConfigError, match="frame interval"):
        Scale(frame_interval=0)
    with pytest.raises(ConfigError, match="has 3 axes, the movie 2"):
        speeds(GRAPH, Scale((1.0, 1.0, 1.0)))
    with pytest.raises(ConfigError, match="label 4 of frame 0 is in no track"):
        measure_movie([(0, MASK, None)], GRAPH)


def test_turning_a_cell_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    mask = (rng.random((9, 9)) < 0.6).astype(int)
    a, b = measure_frame(mask)[0], measure_frame(np.rot90(mask))[0]
    for name in (
        "area_px",
        "perimeter_px",
        "major_axis_px",
        "eccentricity",
        "solidity",
    ):
        assert a[name] == pytest.approx(b[name])


def test_solidity_against_qhull() -> None:
    from scipy.spatial import ConvexHull

    rng = np.random.default_rng(1)
    for _ in range(20):
        mask = rng.random(rng.integers(1, 9, 2)) < 0.5
        if mask.any():
            at = np.argwhere(mask)
            corners = np.concatenate(
                [at + np.array([i, j]) for i in (0, 1) for j in (0, 1)]
            )
            assert solidity(mask) == pytest.approx(
                mask.sum() / ConvexHull(corners).volume
            )
    assert regionprops(MASK)[0].solidity == 1


def test_speed_is_along_a_track_only() -> None:
    rows = speeds(GRAPH, Scale((2.0, 2.0), 30.0))
    assert [r["speed_px_per_frame"] for r in rows] == [None, 3, None, None, 2]
    assert [r["speed_um_per_min"] for r in rows] == [None, 12, None, None, 8]
    assert speeds(GRAPH, Scale())[1]["speed_um_per_min"] is None


def test_tracks() -> None:
    one, two, three, four = measure_tracks(GRAPH, Scale((2.0, 2.0), 30.0), 4)
    assert set(one) <= set(TRACK_COLUMNS)
    assert (one["begins_by"], one["ends_by"]) == ("start of movie", "division")
    assert (one["daughters"], one["division_frame"], one["duration_min"]) == (
        "2 3",
        2,
        1,
    )
    assert (
        one["path_px"],
        one["net_displacement_um"],
        one["mean_speed_um_per_min"],
    ) == (3, 6, 12)
    assert (two["begins_by"], two["ends_by"], two["generation"]) == (
        "division",
        "disappears",
        1,
    )
    assert (three["ends_by"], four["begins_by"], four["ends_by"]) == (
        "gap",
        "gap",
        "end of movie",
    )
    assert (four["parent"], four["generation"], four["path_px"]) == (3, 1, 0)
    assert measure_tracks(TrackGraph([], [], np.zeros((0, 2)), [])) == []


def test_counts() -> None:
    rows = count_cells(GRAPH, range(5), Scale(frame_interval=30))
    assert tuple(rows[0]) == COUNT_COLUMNS
    assert [r["cells"] for r in rows] == [1, 1, 2, 0, 1]
    assert [r["divisions"] for r in rows] == [0, 0, 1, 0, 0]
    assert [r["ended"] for r in rows] == [0, 0, 1, 0, 0]
    assert rows[4]["minutes"] == 2


def test_movie_rows_and_pictures(tmp_path: Path) -> None:
    frames = []
    for t in (0, 1, 2, 4):
        mask = np.zeros((8, 16), int)
        for node in np.flatnonzero(GRAPH.frame == t):
            y, x = GRAPH.centroid[node].astype(int)
            mask[y : y + 2, x : x + 2] = GRAPH.label[node]
        frames.append((t, mask, None))
    rows = measure_movie(frames, GRAPH, Scale(), {(4, 2)})
    assert set(rows[0]) == set(MOVIE_COLUMNS)
    assert [(r["track"], r["parent"]) for r in rows] == [
        (1, None),
        (1, None),
        (2, 1),
        (3, 1),
        (4, 3),
    ]
    assert [r["filled"] for r in rows] == ["no"] * 4 + ["yes"]
    for figure in (
        draw_curves(count_cells(GRAPH, range(5)), rows),
        draw_lineage(GRAPH),
    ):
        figure.savefig(tmp_path / "a.png")
        times = [a.yaxis if a.get_ylabel() == "frame" else a.xaxis for a in figure.axes]
        assert all(float(t).is_integer() for axis in times for t in axis.get_ticklocs())
        assert (tmp_path / "a.png").stat().st_size > 1000
    draw_lineage(TrackGraph([], [], np.zeros((0, 2)), []))
    draw_curves([], [])


def test_a_huge_number_is_a_cell_like_any_other():
    labels = np.zeros((6, 8), np.int64)
    labels[1:3, 1:4], labels[4:6, 5:8] = 2**40, 3
    rows = measure_frame(labels)
    assert [(row["cell"], row["area_px"]) for row in rows] == [(3, 6), (2**40, 6)]
    with pytest.raises(ConfigError, match="-1 is negative"):
        measure_frame(labels - 1)

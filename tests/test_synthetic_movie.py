from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medseg.datasets import ctc
from medseg.datasets.instances import read_instances
from medseg.datasets.synthetic_movie import draw_movie, write_movie
from medseg.errors import ConfigError
from medseg.io import open_movie
from medseg.io.ctc import ResultWriter, read_track_table, validate_result

SMALL = {"frames": 14, "shape": (96, 96), "cells": 6, "life": (5, 9)}


def check_truth(movie, least: int) -> None:
    """The table says exactly what the masks hold, and parents end before."""
    ends = {row.label: row.end for row in movie.rows}
    for row in movie.rows:
        seen = [n for n, m in enumerate(movie.masks) if (m == row.label).any()]
        assert seen == list(range(row.begin, row.end + 1))
        if row.parent:
            assert ends[row.parent] < row.begin
    labels = {int(v) for m in movie.masks for v in np.unique(m) if v}
    assert labels == {row.label for row in movie.rows}
    smallest = [np.bincount(m.ravel())[1:] for m in movie.masks]
    assert min(s[s > 0].min() for s in smallest) >= least


def test_truth_agrees_with_the_table():
    movie = draw_movie(2, **SMALL)
    check_truth(movie, 10)
    assert len(movie.frames) == len(movie.masks) == 14
    assert movie.frames[0].shape == (96, 96)
    assert movie.frames[0].dtype == movie.masks[0].dtype == np.uint16


def test_the_same_seed_gives_the_same_movie():
    one, two, other = (draw_movie(s, **SMALL) for s in (3, 3, 4))
    assert one.rows == two.rows
    for a, b in zip(one.frames + one.masks, two.frames + two.masks, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.frames[0], other.frames[0])


def test_cells_divide_touch_enter_and_leave():
    movie = draw_movie(
        5, frames=30, shape=(128, 128), cells=10, life=(8, 14), entering=0.5, speed=0.2
    )
    check_truth(movie, 10)
    assert movie.divisions >= 2
    late = [r for r in movie.rows if r.begin > 0 and not r.parent]
    mothers = {r.parent for r in movie.rows}
    gone = [r for r in movie.rows if r.end < 29 and r.label not in mothers]
    assert late
    assert gone
    mask = movie.masks[-1]
    regions = ndimage.label(mask > 0)[1]
    assert regions < len(np.unique(mask)) - 1


def test_cells_do_not_divide_where_they_should_not():
    movie = draw_movie(2, **SMALL, divisions=False)
    assert movie.divisions == 0
    assert not any(row.parent for row in movie.rows)


def test_cells_are_brighter_than_the_ground_around_them():
    movie = draw_movie(1, **SMALL, debris=0, noise=0)
    for frame, mask in zip(movie.frames, movie.masks, strict=True):
        for label in np.unique(mask)[1:]:
            cell = mask == label
            ring = ndimage.binary_dilation(cell, iterations=8) & (mask == 0)
            assert np.median(frame[cell]) > np.median(frame[ring])


def test_noise_can_be_left_out():
    calm = draw_movie(1, **SMALL, noise=0).frames[0].astype(float)
    grainy = draw_movie(1, **SMALL).frames[0].astype(float)
    assert np.std(np.diff(calm)) < 0.8 * np.std(np.diff(grainy))


def test_volumes():
    movie = draw_movie(1, frames=5, shape=(8, 48, 48), cells=4, life=(3, 5))
    check_truth(movie, 2)
    assert movie.masks[0].shape == (8, 48, 48)
    assert any((m.max(axis=(1, 2)) == 0).any() for m in movie.masks)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"shape": (16, 64)}, "shape"),
        ({"shape": (64,)}, "shape"),
        ({"shape": (2, 64, 64)}, "shape"),
        ({"frames": 0}, "frames"),
        ({"cells": 0}, "cells"),
    ],
)
def test_movies_that_cannot_be_drawn(options, field):
    with pytest.raises(ConfigError, match=field):
        draw_movie(1, **options)


def test_a_written_movie_is_a_data_set(tmp_path):
    drawn = write_movie(tmp_path / "Drawn", 7, frames=4, shape=(64, 64), cells=4)
    movie = open_movie(tmp_path / "Drawn" / "01")
    for index, frame in enumerate(drawn.frames):
        np.testing.assert_array_equal(movie.read(index).pixels[0], frame)
    truth = tmp_path / "Drawn" / "01_GT" / "TRA"
    assert read_track_table(truth / "man_track.txt") == drawn.rows
    cases = ctc.cases(tmp_path / "Drawn")
    assert not any(case.instances.partial for case in cases)
    for case, mask in zip(cases, drawn.masks, strict=True):
        cells, known = read_instances(case)
        np.testing.assert_array_equal(cells, mask)
        assert known.all()
    with ResultWriter(tmp_path / "RES", movie.shape) as writer:
        for frame, mask in enumerate(drawn.masks):
            writer.write(frame, mask)
        validate_result(writer.finish(movie.frames, drawn.rows), movie)

"""Prompts become the pixels that a person marked."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.errors import ConfigError
from medseg.refine import Box, Lasso, Point, Prompt, Scribble


def drawn(prompt: Prompt, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, int)
    mask[prompt.pixels(shape)] = 1
    return mask


def test_a_point_is_the_nearest_pixel() -> None:
    assert np.argwhere(drawn(Point((1.4, 2.5)), (4, 5))).tolist() == [[1, 3]]
    assert drawn(Point((9, 9)), (4, 5)).sum() == 0


def test_a_box_holds_its_ends() -> None:
    found = drawn(Box((1, 0, 2), (1, 1, 3.9)), (3, 3, 5))
    expected = np.zeros((3, 3, 5), int)
    expected[1, 0:2, 2:4] = 1
    np.testing.assert_array_equal(found, expected)


def test_a_box_ends_at_the_image() -> None:
    assert drawn(Box((-5, -5), (9, 0)), (3, 4)).sum() == 3
    assert drawn(Box((7, 7), (9, 9)), (3, 4)).sum() == 0


def test_a_scribble_has_no_gaps() -> None:
    found = drawn(Scribble(((0, 0), (2, 6))), (3, 7))
    assert (found.sum(axis=0) == 1).all()
    assert drawn(Scribble(((1, 1),)), (3, 7)).sum() == 1


def test_a_wide_scribble_stays_in_its_slice() -> None:
    found = drawn(Scribble(((2, 3, 3), (2, 3, 5)), width=3), (5, 7, 9))
    assert np.flatnonzero(found.any(axis=(1, 2))).tolist() == [2]
    assert found[2, 2:5, 2:7].all()
    assert found.sum() == 15


def test_a_scribble_through_slices_is_a_tube() -> None:
    found = drawn(Scribble(((1, 2, 3), (3, 4, 4)), width=3), (5, 7, 7))
    assert found[2, 3, 4] == 1
    assert found.sum() > 7


def test_a_lasso_far_outside_takes_no_memory() -> None:
    corners = ((-1e5, -1e5), (-1e5, 1e5), (1e5, 1e5), (1e5, -1e5))
    assert drawn(Lasso(corners), (6, 6)).all()
    with pytest.raises(ConfigError, match="2 coordinates"):
        Lasso(corners).pixels((6, 6, 6))


def test_a_lasso_holds_its_outline_and_what_is_in_it() -> None:
    found = drawn(Lasso(((1, 1), (1, 4), (4, 4), (4, 1))), (6, 6))
    expected = np.zeros((6, 6), int)
    expected[1:5, 1:5] = 1
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_lasso_lies_in_any_slice(axis: int) -> None:
    flat = [(1, 1), (1, 4), (4, 4), (4, 1)]
    points = tuple(tuple(np.insert(p, axis, 2)) for p in flat)
    found = np.moveaxis(drawn(Lasso(points), (6, 6, 6)), axis, 0)
    assert found[2, 1:5, 1:5].all()
    assert found.sum() == 16


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Point((1,)), "2 or 3"),
        (lambda: Point((1, np.nan)), "finite"),
        (lambda: Box((1, 1), (0, 2)), "exceeds"),
        (lambda: Box((1, 1), (2, 2, 2)), "same number"),
        (lambda: Scribble(()), "at least 1"),
        (lambda: Scribble(((1, 1), (1, 1, 1))), "same number"),
        (lambda: Scribble(((1, 1),), width=0.5), "width"),
        (lambda: Lasso(((0, 0), (1, 1))), "at least 3"),
        (lambda: Lasso(((0, 0, 0), (1, 1, 1), (2, 0, 3))), "no slice"),
        (lambda: Point((1, 1)).pixels((3, 3, 3)), "coordinates"),
        (lambda: Box((1, 1), (2, 2)).pixels((3,)), "coordinates"),
    ],
)
def test_bad_prompts_are_refused(make, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()

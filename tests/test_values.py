"""Values that cannot be are refused, and the error names the field."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medseg.errors import ConfigError, counted
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.labels import Label, LabelSet
from medseg.regions import overlaps, regions
from medseg.segmentation import Segmentation

PLANE = Geometry.pixels(2)
CELL = Label(1, "cell", "#ffffff")
TWO = LabelSet((CELL, replace(CELL, value=2, name="nucleus")), "overlapping")


def test_messages_end_once_and_count_right() -> None:
    assert (
        str(ConfigError("a", "is b", "Did you mean c?")) == "a: is b. Did you mean c?"
    )
    assert str(ConfigError("a", "is b.", "Give c.")) == "a: is b. Give c."
    assert [counted(n, "frame") for n in (0, 1, 2)] == [
        "0 frames",
        "1 frame",
        "2 frames",
    ]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"spacing": (1.0,)}, "has 1 axes"),
        ({"origin": (0.0,)}, "spacing has 2 entries, origin 1, direction 2 rows"),
        ({"direction": ((1.0, 0.0), (0.0,))}, "direction 2 rows"),
        ({"spacing": (1.0, 0.0)}, "is not positive"),
        ({"spacing": (1.0, math.inf)}, "is not positive"),
        ({"origin": (math.nan, 0.0)}, "origin or direction is not finite"),
        ({"direction": ((math.inf, 0.0), (0.0, 1.0))}, "is not finite"),
        ({"unit": "cm"}, "unit 'cm'. Use mm or px"),
    ],
)
def test_geometry(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=rf"^geometry: .*{problem}"):
        replace(PLANE, **changes)


def test_image() -> None:
    problem = r"^image: pixels \(4, 4\) need 1 spatial axes, the geometry has 2"
    with pytest.raises(ConfigError, match=problem):
        Image(np.zeros((4, 4)), PLANE)


@pytest.mark.parametrize(
    ("labels", "kind", "problem"),
    [
        ((CELL,), "fuzzy", r"labels\.kind: is 'fuzzy'"),
        ((CELL, CELL), "exclusive", r"labels\.value: repeats in \[1, 1\]"),
        ((CELL, replace(CELL, value=2)), "exclusive", r"labels\.name: repeats"),
        ((replace(CELL, value=0),), "exclusive", "0 is the background"),
    ],
)
def test_labels(labels: tuple[Label, ...], kind: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        LabelSet(labels, kind)


def test_no_such_label() -> None:
    with pytest.raises(ConfigError, match="no structure 'lung'. Choose from cell, nuc"):
        TWO.index("lung")


@pytest.mark.parametrize(
    ("mask", "problem"),
    [
        (np.zeros((4, 4), int), "needs 1 spatial axes, the geometry has 2"),
        (np.zeros((3, 4, 4), int), "3 mask channels for 2 labels"),
        (np.zeros((2, 4, 4)), "the mask is float64. Labels are integers"),
    ],
)
def test_segmentation(mask: np.ndarray, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Segmentation(mask, TWO, PLANE)


def test_masks_of_two_shapes_have_nothing_in_common() -> None:
    a, b = np.array([[0, 2, 2]]), np.array([[7, 7, 0]])
    values, others, table = overlaps(a, b)
    assert (values.tolist(), others.tolist()) == ([0, 2], [0, 7])
    assert table.tolist() == [[0, 1], [1, 1]]
    with pytest.raises(ConfigError, match="one is 1 x 3, the other 3 x 1 pixels"):
        overlaps(a, b.T)


def test_cells_are_counted_in_both_ways() -> None:
    mask = np.array([[0, 5, 5], [9, 0, 5]], np.uint64)
    found = regions(mask)
    assert (found.labels.tolist(), found.sizes.tolist()) == ([5, 9], [3, 1])
    np.testing.assert_allclose(found.centroids, [[1 / 3, 5 / 3], [1, 0]])
    few = regions(mask * 10**6)  # too sparse for a table of all values
    assert few.labels.tolist() == [5 * 10**6, 9 * 10**6]
    assert few.sizes.tolist() == [3, 1]
    with pytest.raises(ConfigError, match="label -3 is below 0"):
        regions(np.array([[-3, 0]]))

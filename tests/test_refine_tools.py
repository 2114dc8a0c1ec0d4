"""Laws of the everyday tools on small phantoms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medseg import postprocess
from medseg.errors import ConfigError
from medseg.refine import Box, Edit, Point, Scribble, apply_edit
from medseg.refine.tools import (
    combine,
    fill_between_slices,
    fill_holes,
    grow,
    keep_largest,
    merge,
    next_label,
    relabel,
    remove_small,
    shrink,
    smooth,
    split,
    threshold_paint,
)

SIZE = 33
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE]


def disc(radius: float, y: float = 16, x: float = 16) -> np.ndarray:
    return np.hypot(ROWS - y, COLUMNS - x) <= radius


def after(labels: np.ndarray, edit: Edit) -> np.ndarray:
    result = labels.copy()
    apply_edit(result, edit)
    return result


def islands() -> np.ndarray:
    """A ring of 1 round a 2, and two more pieces of 1."""
    labels = np.where(disc(8, 12, 12), 1, 0).astype(np.uint8)
    labels[disc(4, 12, 12)] = 0
    labels[disc(1.5, 12, 12)] = 2
    labels[25:29, 25:29] = 1
    labels[30, 2] = 1
    return labels


EVERY = {
    "keep_largest": lambda x: keep_largest(x, 1),
    "remove_small": lambda x: remove_small(x, 1, 2),
    "fill_holes": lambda x: fill_holes(x, 1),
    "grow": lambda x: grow(x, 1, 3),
    "shrink": lambda x: shrink(x, 1, 1),
    "smooth": lambda x: smooth(x, 1, 2),
    "combine": lambda x: combine(x, 1, "invert"),
    "paint": lambda x: threshold_paint(x, x, Box((0, 0), (30, 30)), 1),
    "split": lambda x: split(x, Scribble(((0, 12), (32, 12))), 1),
}


@pytest.mark.parametrize("tool", EVERY)
def test_other_labels_are_protected_and_the_input_is_kept(tool: str) -> None:
    labels = islands()
    edit = EVERY[tool](labels)
    np.testing.assert_array_equal(labels, islands())
    changed = after(labels, edit)
    assert (changed != labels).any()
    np.testing.assert_array_equal(changed == 2, labels == 2)
    np.testing.assert_array_equal(after(changed, edit.inverse()), labels)


@pytest.mark.parametrize("tool", ["fill_holes", "grow", "combine", "paint"])
def test_protection_can_be_switched_off(tool: str) -> None:
    labels = islands()
    off = {"protect_other_labels": False}
    edit = {
        "fill_holes": lambda: fill_holes(labels, 1, **off),
        "grow": lambda: grow(labels, 1, 5, **off),
        "combine": lambda: combine(labels, 1, "invert", **off),
        "paint": lambda: threshold_paint(labels, labels, Point((12, 12)), 1, **off),
    }[tool]()
    assert after(labels, edit)[12, 12] == 1


@pytest.mark.parametrize("tool", [t for t in EVERY if t not in ("combine", "paint")])
def test_an_empty_label_stays_empty(tool: str) -> None:
    assert EVERY[tool](np.zeros((33, 33), np.uint8)).empty


def test_islands_agree_with_postprocess() -> None:
    labels = islands()
    own = labels == 1
    kept = after(labels, keep_largest(labels, 1, 2)) == 1
    np.testing.assert_array_equal(kept, postprocess.keep_largest(own, 2))
    large = after(labels, remove_small(labels, 1, 10)) == 1
    np.testing.assert_array_equal(large, postprocess.remove_small(own, 10))
    full = after(labels, fill_holes(labels, 1))
    expected = postprocess.fill_holes(own) & (labels != 2)
    np.testing.assert_array_equal(full == 1, expected)


@pytest.mark.parametrize("spacing", [(1, 1), (2, 0.5)])
def test_grow_adds_what_lies_within_the_length(spacing) -> None:
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[16, 16] = 1
    steps = np.hypot((ROWS - 16) * spacing[0], (COLUMNS - 16) * spacing[1])
    grown = after(labels, grow(labels, 1, 3, spacing)) == 1
    np.testing.assert_array_equal(grown, steps <= 3)


def test_shrink_removes_what_lies_within_the_length() -> None:
    labels = disc(10).astype(np.uint8)
    depth = ndimage.distance_transform_edt(labels)
    shrunk = after(labels, shrink(labels, 1, 3)) == 1
    np.testing.assert_array_equal(shrunk, depth > 3)


@pytest.mark.parametrize("length", [1, 2.5, 5])
@pytest.mark.parametrize("spacing", [(1, 1), (1, 0.5)])
def test_grow_then_shrink_gives_a_disc_back(length: float, spacing) -> None:
    """A closing: it never loses a pixel, and of a disc it adds next to none."""
    labels = disc(6).astype(np.uint8)
    grown = after(labels, grow(labels, 1, length, spacing))
    back = after(grown, shrink(grown, 1, length, spacing))
    assert (back >= labels).all()
    assert (back != labels).sum() <= 8


def test_shrink_does_not_cut_at_the_edge_of_the_image() -> None:
    labels = np.ones((9, 9), np.uint8)
    assert shrink(labels, 1, 2).empty
    labels[:, 5:] = 0
    assert after(labels, shrink(labels, 1, 2))[0].tolist() == [1, 1, 1] + [0] * 6


@pytest.mark.parametrize("length", [0.7, 2, 4])
def test_smoothing_keeps_the_size_and_removes_spikes(length: float) -> None:
    labels = disc(9).astype(np.uint8)
    labels[16, 25:31] = 1
    smoothed = after(labels, smooth(labels, 1, length))
    # Ties: pixels that lie alike stay or go together.
    assert abs(int(smoothed.sum()) - int(labels.sum())) <= 8
    if length >= 2:
        assert smoothed[16, 29] == 0


def test_smoothing_leaves_a_half_plane_alone() -> None:
    labels = np.zeros((16, 16), np.uint8)
    labels[:7] = 1
    assert smooth(labels, 1, 3).empty


def cone() -> tuple[np.ndarray, np.ndarray]:
    """Discs of radius 4 and 12 eight slices apart, and the cone between."""
    full = np.stack([disc(4 + z) for z in range(9)]).astype(np.uint8)
    drawn = full.copy()
    drawn[1:-1] = 0
    return drawn, full


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_between_two_discs_lies_a_cone(axis: int) -> None:
    drawn, full = (np.moveaxis(x, 0, axis) for x in cone())
    filled = after(drawn, fill_between_slices(drawn, 1, axis=axis))
    wrong = np.moveaxis(filled != full, axis, 0)
    assert not wrong[[0, 8]].any()
    # The outline of a drawn disc is known to half a pixel on either side.
    for z in range(1, 8):
        off = np.hypot(ROWS - 16, COLUMNS - 16)[wrong[z]] - (4 + z)
        assert (np.abs(off) <= 1).all()


def test_filling_agrees_with_interpolated_distances() -> None:
    drawn, _ = cone()
    drawn[8] = disc(7, 14, 18)
    filled = after(drawn, fill_between_slices(drawn, 1))

    def field(mask: np.ndarray) -> np.ndarray:
        inside = ndimage.distance_transform_edt(mask)
        return inside - ndimage.distance_transform_edt(1 - mask) - (mask - 0.5)

    for z in range(1, 8):
        mixed = (8 - z) / 8 * field(drawn[0]) + z / 8 * field(drawn[8])
        sure = np.abs(mixed) > 1e-9
        np.testing.assert_array_equal((filled[z] == 1)[sure], (mixed > 0)[sure])


def test_filling_between_equal_slices_repeats_them() -> None:
    labels = np.zeros((6, SIZE, SIZE), np.uint8)
    labels[0] = labels[5] = disc(7) * 3
    filled = after(labels, fill_between_slices(labels, 3))
    np.testing.assert_array_equal(filled, np.broadcast_to(labels[0], labels.shape))


def test_filling_keeps_other_labels_and_what_is_drawn() -> None:
    labels = np.zeros((5, SIZE, SIZE), np.uint8)
    labels[0] = labels[4] = disc(7)
    labels[2] = disc(3)
    labels[1, 16, 16] = 2
    filled = after(labels, fill_between_slices(labels, 1))
    np.testing.assert_array_equal(filled[2], labels[2])
    assert filled[1, 16, 16] == 2
    assert filled[1].sum() > 0
    free = fill_between_slices(labels, 1, protect_other_labels=False)
    assert after(labels, free)[1, 16, 16] == 1


def test_filling_can_be_limited_to_a_range() -> None:
    labels = np.zeros((7, SIZE, SIZE), np.uint8)
    labels[[0, 3, 6]] = disc(5)
    filled = after(labels, fill_between_slices(labels, 1, first=2, last=6))
    assert (filled.any(axis=(1, 2)) == [1, 0, 0, 1, 1, 1, 1]).all()
    assert fill_between_slices(labels, 1, last=0).empty
    assert fill_between_slices(labels, 2).empty


def test_a_line_parts_touching_cells_and_merging_joins_them() -> None:
    labels = np.zeros((SIZE, SIZE), np.uint16)
    labels[disc(8, 16, 9) | disc(6, 16, 22)] = 5
    parted = after(labels, split(labels, Scribble(((4, 17), (28, 17))), 5))
    assert np.unique(parted).tolist() == [0, 5, 6]
    np.testing.assert_array_equal(parted > 0, labels > 0)
    assert (parted == 5).sum() > (parted == 6).sum() > 0
    assert (parted[:, :16] != 6).all()
    assert (parted[:, 19:] != 5).all()
    np.testing.assert_array_equal(after(parted, merge(parted, [5, 6])), labels)


def test_a_thin_slanted_line_does_not_leak() -> None:
    labels = disc(10).astype(np.uint8)
    line = Scribble(((3, 2), (29, 31)))
    parted = after(labels, split(labels, line, 1, new=9))
    assert np.unique(parted).tolist() == [0, 1, 9]
    pieces = [ndimage.label(parted == v)[1] for v in (1, 9)]
    assert pieces == [1, 1]


def test_a_line_that_does_not_part_changes_nothing() -> None:
    labels = disc(10).astype(np.uint8)
    assert split(labels, Scribble(((0, 16), (14, 16))), 1).empty
    assert split(labels, Scribble(((0, 0), (32, 0))), 1).empty


def test_parts_away_from_the_line_keep_their_number() -> None:
    labels = (disc(5, 8, 8) | disc(3, 26, 26)).astype(np.uint8)
    parted = after(labels, split(labels, Scribble(((0, 8), (16, 8))), 1))
    assert (parted[disc(3, 26, 26)] == 1).all()
    assert (parted == 2).any()


def test_splitting_a_volume_parts_the_slice_of_the_line() -> None:
    labels = np.stack([disc(8)] * 3).astype(np.uint8)
    parted = after(labels, split(labels, Scribble(((1, 0, 16), (1, 32, 16))), 1))
    assert np.unique(parted[1]).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(parted[[0, 2]], labels[[0, 2]])


def test_a_line_through_three_parts_makes_as_many_cells() -> None:
    fork = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [1, 0, 1, 0, 1]], np.uint8)
    line = Scribble(((1, 0), (1, 4)))
    parted = after(fork, split(fork, line, 1))
    assert parted[2].tolist() == [2, 0, 3, 0, 4]
    assert after(fork, split(fork, line, 1, new=7))[2].tolist() == [7, 0, 7, 0, 7]
    with pytest.raises(ConfigError, match="label: is 256"):
        split(np.where(fork, 253, 0).astype(np.uint8), line, 253)


def test_relabel_renames_and_deletes() -> None:
    labels = islands()
    renamed = after(labels, relabel(labels, 1, 7))
    np.testing.assert_array_equal(renamed == 7, labels == 1)
    assert not (after(labels, relabel(labels, 1, 0)) == 1).any()
    joined = relabel(labels, 1, 2, protect_other_labels=False)
    assert next_label(after(labels, joined)) == 3
    assert relabel(labels, 9, 4).empty


def test_the_brush_paints_within_its_range() -> None:
    image = COLUMNS.astype(float)
    labels = np.where(COLUMNS == 12, 2, 0).astype(np.uint8)
    stroke = Scribble(((16, 4), (16, 28)), width=3)
    painted = after(labels, threshold_paint(labels, image, stroke, 1, low=10, high=20))
    assert np.flatnonzero((painted == 1).any(axis=0)).tolist() == [
        10,
        11,
        *range(13, 21),
    ]
    rubber = Scribble(stroke.points, positive=False, width=3)
    erased = after(painted, threshold_paint(painted, image, rubber, 1, low=15))
    assert np.flatnonzero((erased == 1).any(axis=0)).tolist() == [10, 11, 13, 14]
    np.testing.assert_array_equal(erased == 2, labels == 2)
    assert threshold_paint(labels, image, Point((99, 99)), 1).empty


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("copy", lambda a, b: b),
        ("add", np.logical_or),
        ("subtract", lambda a, b: a & ~b),
        ("intersect", np.logical_and),
        ("exclusive_or", np.logical_xor),
    ],
)
def test_logic(operation, expected) -> None:
    own, other = disc(6, 14, 14), disc(6, 18, 18)
    labels = own.astype(np.uint8)
    found = after(labels, combine(labels, 1, operation, other)) == 1
    np.testing.assert_array_equal(found, expected(own, other))


LABELS = np.zeros((4, 4), np.uint8)
LABELS[1, 1], LABELS[2, 2] = 1, 2
VOLUME = LABELS[None]
LINE = Scribble(((0, 0), (3, 3)))


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        (lambda: keep_largest(LABELS, 1, 0), "at least one"),
        (lambda: remove_small(LABELS, 1, -1), "0 or more"),
        (lambda: fill_holes(LABELS, 0), "label: is 0"),
        (lambda: fill_holes(LABELS, 256), "1 to 255"),
        (lambda: fill_holes(LABELS.astype(float), 1), "integers"),
        (lambda: grow(LABELS, 1, 0), "positive"),
        (lambda: shrink(LABELS, 1, np.nan), "positive"),
        (lambda: smooth(LABELS, 1, -1), "positive"),
        (lambda: grow(LABELS, 1, 1, (1, 1, 1)), "spacing"),
        (lambda: grow(LABELS, 1, 1, (1, 0)), "spacing"),
        (lambda: fill_between_slices(LABELS, 1), "volume"),
        (lambda: fill_between_slices(VOLUME, 1, axis=3), "axis"),
        (lambda: fill_between_slices(VOLUME, 0), "label"),
        (lambda: split(LABELS, LINE, 1, new=2), "in use"),
        (lambda: split(LABELS, LINE, 0), "label"),
        (lambda: split(VOLUME, LINE, 1), "coordinates"),
        (
            lambda: split(VOLUME, Scribble(((0, 0, 0), (1, 1, 1))), 1),
            "several slices",
        ),
        (lambda: merge(LABELS, [1]), "two labels"),
        (lambda: merge(LABELS, [1, 0]), "label"),
        (lambda: relabel(LABELS, 1, 2), "in use"),
        (lambda: relabel(LABELS, 1, 300), "label"),
        (lambda: threshold_paint(LABELS, VOLUME, LINE, 1), "image"),
        (lambda: threshold_paint(LABELS, LABELS, LINE, 1, low=2, high=1), "empty"),
        (lambda: threshold_paint(LABELS, LABELS, LINE, 0), "label"),
        (lambda: combine(LABELS, 1, "nand", LABELS > 0), "Choose from"),
        (lambda: combine(LABELS, 1, "add"), "mask is none"),
        (lambda: combine(LABELS, 1, "add", LABELS), "booleans"),
        (lambda: combine(LABELS, 1, "invert", LABELS > 0), "takes no mask"),
    ],
)
def test_what_cannot_be_done_is_said(fail, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        fail()

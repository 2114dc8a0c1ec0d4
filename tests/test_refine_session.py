"""Laws of mending: exact to take back, local, and fair to other labels."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.errors import ConfigError
from medseg.labels import Label, LabelSet
from medseg.refine import (
    METHODS,
    Box,
    Edit,
    Lasso,
    Point,
    RefineSession,
    Scribble,
    apply_edit,
    edit_between,
    revert_edit,
)
from medseg.refine.methods import Grow, Paint
from medseg.refine.tools import fill_holes

TWO = LabelSet((Label(1, "cell", "#4c9be8"), Label(2, "other", "#e0524d")))
OVER = LabelSet(TWO.labels, "overlapping")
MANY = LabelSet((Label(1, "cell", "#4c9be8"),), "instances")
SIZE = 48
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE]
MISSED, WRONG, AWAY = (24, 35), (12, 14), (45, 2)
PROMPTS = (
    Point(MISSED),
    Point(WRONG, positive=False),
    Scribble(((20, 36), (28, 36)), width=2),
    Box((16, 30), (32, 38)),
    Lasso(((8, 8), (8, 18), (18, 12)), positive=False),
)


def disc(y: float, x: float, radius: float) -> np.ndarray:
    return np.hypot(ROWS - y, COLUMNS - x) <= radius


TRUTH = disc(24, 26, 12)
START = disc(24, 22, 12)
OTHER = disc(24, 44, 3)


def image() -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 0.2, TRUTH.shape)
    return (TRUTH + noise).astype(np.float32)


def probability() -> np.ndarray:
    """A model that is unsure beside its outline, most of all where it errs."""
    p = 1 / (1 + np.exp((np.hypot(ROWS - 24, COLUMNS - 22) - 12) / 3))
    return p.astype(np.float32)


def begun(method: str = "model_guided", labels=TWO, **options) -> RefineSession:
    session = RefineSession(method=method, **options)
    session.set_image(image())
    mask = START.astype(np.int32)
    mask[OTHER] = 2
    if labels is OVER:
        mask = np.stack([START, OTHER]).astype(np.uint8)
    session.set_mask(mask, labels, 1, probability=probability())
    return session


every_method = pytest.mark.parametrize("method", METHODS)


@every_method
@pytest.mark.parametrize("labels", [TWO, OVER, MANY], ids=lambda x: x.kind)
def test_a_click_is_obeyed_at_its_pixel(method: str, labels: LabelSet) -> None:
    session = begun(method, labels)
    session.add(Point(MISSED))
    assert session.target_map[MISSED] == session.value == 1
    session.add(Point(WRONG, positive=False))
    assert session.target_map[WRONG] == 0
    assert session.target_map[MISSED] == 1


@every_method
def test_undo_takes_back_and_redo_does_again(method: str) -> None:
    session = begun(method)
    states = [session.mask.copy()]
    for prompt in PROMPTS:
        session.add(prompt)
        states.append(session.mask.copy())
    for before in reversed(states[:-1]):
        assert session.undo() is not None
        np.testing.assert_array_equal(session.mask, before)
    assert session.undo() is None
    assert not session.can_undo
    for after in states[1:]:
        assert session.redo() is not None
        np.testing.assert_array_equal(session.mask, after)
    assert session.redo() is None
    assert not session.can_redo


@every_method
@pytest.mark.parametrize("writes", [True, False])
def test_reset_gives_the_mask_back(method: str, writes: bool) -> None:
    session = begun(method, writes=writes)
    mask, before = session.mask, session.mask.copy()
    for prompt in PROMPTS:
        edit = session.add(prompt)
        if not writes:
            apply_edit(mask, edit)
    assert (mask != before).any()
    edit = session.reset()
    if not writes:
        apply_edit(mask, edit)
    np.testing.assert_array_equal(session.mask, before)
    assert session.prompts == ()
    assert session.reset().empty


@every_method
@pytest.mark.parametrize("labels", [TWO, OVER, MANY], ids=lambda x: x.kind)
def test_other_labels_and_far_pixels_stay(method: str, labels: LabelSet) -> None:
    session = begun(method, labels)
    before = session.mask.copy()
    for prompt in (*PROMPTS, Point((24, 44)), Scribble(((24, 38), (24, 47)))):
        session.add(prompt)
    if labels is OVER:
        np.testing.assert_array_equal(session.mask[1], before[1])
    else:
        np.testing.assert_array_equal(session.mask == 2, before == 2)
    assert session.target_map[AWAY] == 0


@every_method
def test_labels_are_overwritten_if_they_are_not_protected(method: str) -> None:
    session = begun(method, protect_other_labels=False)
    session.add(Point((24, 44)))
    assert session.mask[24, 44] == 1


@every_method
def test_a_prompt_only_adds_or_only_takes(method: str) -> None:
    session = begun(method)
    for prompt in PROMPTS:
        edit = session.add(prompt)
        assert set(edit.values.tolist()) <= {int(prompt.positive)}


@every_method
def test_a_drawn_region_is_the_limit(method: str) -> None:
    session = begun(method)
    box = Box((16, 30), (32, 38))
    edit = session.add(box)
    allowed = np.zeros(TRUTH.shape, bool)
    allowed[box.pixels(TRUTH.shape)] = True
    assert allowed[edit.indices].all()
    assert session.mask[24, 35] == 1  # the middle of the box


@every_method
def test_an_earlier_prompt_is_kept(method: str) -> None:
    session = begun(method)
    kept = [(24, 36), (20, 35), (28, 35)]
    session.add(Point(kept[0], positive=False))
    session.add(Point(kept[1]))
    session.add(Point(kept[2]))
    assert [session.mask[p] for p in kept] == [0, 1, 1]


@every_method
def test_a_constant_image_is_no_obstacle(method: str) -> None:
    session = RefineSession(method=method)
    session.set_image(np.full(TRUTH.shape, 1e5))
    empty = np.zeros(TRUTH.shape, np.uint8)
    session.set_mask(empty, TWO, 2, probability=np.full(TRUTH.shape, 0.5, np.float32))
    session.add(Point((24, 24)))
    found = session.mask == 2
    assert found[24, 24]
    np.testing.assert_array_equal(found[1:, 1:], found[1:, 1:][::-1, ::-1])
    assert not found[0, 0]


@every_method
def test_the_same_prompts_give_the_same_mask(method: str) -> None:
    one, two = begun(method), begun(method)
    for prompt in PROMPTS:
        one.add(prompt)
        two.add(prompt)
    np.testing.assert_array_equal(one.mask, two.mask)


def dice(mask: np.ndarray) -> float:
    return 2 * (mask & TRUTH).sum() / (mask.sum() + TRUTH.sum())


@pytest.mark.parametrize("method", ["model_guided", "graph_cut", "random_walker"])
def test_two_clicks_mend_more_than_two_discs(method: str) -> None:
    found = {}
    for name in (method, "paint"):
        session = begun(name, radius=12)
        session.add(Point((24, 36)))
        session.add(Point((24, 12), positive=False))
        found[name] = dice(session.mask == 1)
    assert found[method] > found["paint"] + 0.02
    assert found[method] > 0.9


@every_method
def test_a_click_on_what_is_right_changes_nothing(method: str) -> None:
    session = begun(method)
    assert session.add(Point((24, 22))).empty
    assert session.add(Point((2, 2), positive=False)).empty
    assert session.add(Point((24, 44))).empty  # protected
    assert len(session.prompts) == 3


@every_method
def test_a_click_in_a_volume_stays_in_its_slice(method: str) -> None:
    session = stack(method)
    session.add(Point((2, 24, 35)))
    flat = begun(method)
    flat.mask[OTHER] = 0
    flat.add(Point((24, 35)))
    np.testing.assert_array_equal(session.mask[2], flat.mask)
    np.testing.assert_array_equal(session.mask[[0, 1, 3, 4]] == 1, [START] * 4)


@every_method
def test_other_planes_of_a_volume_work_alike(method: str) -> None:
    upright = stack(method)
    upright.add(Point((2, 24, 35)))
    turned = stack(method, turn=(1, 2, 0), plane_axis=2)
    turned.add(Point((24, 35, 2)))
    np.testing.assert_array_equal(upright.mask.transpose(1, 2, 0), turned.mask)


@every_method
def test_a_volume_can_be_mended_as_a_whole(method: str) -> None:
    session = stack(method, volume=True, radius=12)
    edit = session.add(Point((2, 24, 35)))
    assert len(np.unique(edit.indices[0])) > 1
    session.undo()
    np.testing.assert_array_equal(session.mask == 1, [START] * 5)


def stack(method: str, turn=(0, 1, 2), **options) -> RefineSession:
    session = RefineSession(method=method, **options)
    session.set_image(np.stack([image()] * 5).transpose(turn))
    session.set_mask(
        np.stack([START] * 5).astype(np.int32).transpose(turn),
        TWO,
        1,
        probability=np.stack([probability()] * 5).transpose(turn),
    )
    return session


def test_slices_far_apart_count_as_far() -> None:
    """In a volume of slices 10 mm apart a click stays in its slice, at 1 mm not."""
    changed = []
    for spacing in ((10, 1, 1), (1, 1, 1)):
        session = RefineSession(method=Paint(radius=3), volume=True)
        session.set_image(np.zeros((5, 16, 16)), spacing)
        session.set_mask(np.zeros((5, 16, 16), np.uint8), TWO, 1)
        session.add(Point((2, 8, 8)))
        changed.append(session.mask.any(axis=(1, 2)).tolist())
    assert changed == [[False, False, True, False, False], [True] * 5]


@every_method
def test_a_large_window_is_mended_on_a_coarse_grid(method: str) -> None:
    """Seen coarser by a factor of 4, a shape four times as large is mended alike."""
    big = [np.kron(a, np.ones((6, 6))) for a in (START, image(), probability())]
    session = RefineSession(method=method)
    session.set_image(big[1])
    session.set_mask(big[0].astype(np.uint8), TWO, 1, probability=big[2])
    session.add(Point((24 * 6 + 3, 36 * 6 + 3)))
    session.add(Point((24 * 6 + 3, 12 * 6), positive=False))
    assert session.mask[24 * 6 + 3, 36 * 6 + 3] == 1
    assert dice(session.mask[3::6, 3::6] == 1) > dice(START)


def test_without_contrary_seeds_growing_ends_at_the_frame() -> None:
    session = RefineSession(method=Grow(distance=100), radius=4)
    session.set_image(np.zeros((9, 9)))
    session.set_mask(np.zeros((9, 9), np.uint8), TWO, 1)
    session.add(Point((4, 4)))
    assert session.mask[4, 4] == 1
    assert not session.mask[0].any()


def test_the_radius_assumed_is_a_length() -> None:
    """A twelfth of the shortest side: 12 slices 4 mm apart are 48 mm, not 12."""
    painted = []
    for spacing in ((4, 1, 1), (1, 1, 1)):
        session = RefineSession(method="paint", volume=True)
        session.set_image(np.zeros((12, 48, 48)), spacing)
        session.set_mask(np.zeros((12, 48, 48), np.uint8), TWO, 1)
        session.add(Point((6, 24, 24)))
        painted.append(np.count_nonzero(session.mask[6, 24]))
    assert painted == [2 * 4 + 1, 2 + 1]


@pytest.mark.parametrize("wrong", [np.nan, 255.0, -0.5, 2.0])
@pytest.mark.parametrize(
    "prompt",
    [Point((24, 35)), Point((24, 22), positive=False), Box((20, 30), (30, 40))],
)
def test_a_probability_that_is_none_is_refused(prompt, wrong: float) -> None:
    """Where a prompt reads it; farther off nobody looks."""
    session = begun()
    p = probability()
    p[0, 0] = wrong
    session.set_target(1, p)
    assert not session.add(prompt).empty
    session.undo()
    p = probability()
    p[23:26, 22:36] = wrong
    session.set_target(1, p)
    before = session.mask.copy()
    with pytest.raises(ConfigError, match=r"probability: has values .* from 0 to 1"):
        session.add(prompt)
    np.testing.assert_array_equal(session.mask, before)
    assert not session.can_undo


def test_a_probability_that_was_interpolated_is_taken() -> None:
    session = begun()
    session.set_target(1, probability() * 1.2 - 0.1)
    with pytest.raises(ConfigError, match="probability"):
        session.add(Point((24, 35)))
    session.set_target(1, np.clip(probability(), 0, 1) * np.float32(1 + 1e-6))
    assert not session.add(Point((24, 35))).empty


def test_a_mask_that_is_refused_changes_nothing() -> None:
    session = begun("paint")
    session.add(Point((24, 36)))
    before = session.mask
    wrong = np.zeros((2, 2))
    for target, field in ((9, "target"), (1, "probability")):
        with pytest.raises(ConfigError, match=field):
            session.set_mask(START.astype(np.uint8), TWO, target, probability=wrong)
    assert session.mask is before
    assert session.can_undo


def test_growing_alone_fills_a_picture_of_one_pixel() -> None:
    session = RefineSession(method="grow")
    session.set_image(np.zeros((1, 1)))
    session.set_mask(np.zeros((1, 1), np.uint8), TWO, 1)
    assert session.add(Point((0, 0))).values.tolist() == [1]


def test_tools_are_steps_like_any_other() -> None:
    session = begun(labels=OVER)
    session.mask[0, 24, 22] = 0
    before = session.mask.copy()
    edit = session.apply(fill_holes(session.target_map, session.value))
    assert [i.tolist() for i in edit.indices] == [[0], [24], [22]]
    assert session.mask[0, 24, 22] == 1
    session.undo()
    np.testing.assert_array_equal(session.mask, before)


def test_accept_is_where_reset_returns_to() -> None:
    session = begun()
    session.add(Point(MISSED))
    accepted = session.accept()
    assert session.prompts == ()
    assert not session.can_undo
    session.add(Point(WRONG, positive=False))
    session.reset()
    np.testing.assert_array_equal(session.mask, accepted)
    accepted[:] = 0
    assert session.mask.any()


def test_each_target_has_its_own_prompts() -> None:
    session = begun()
    session.add(Point(MISSED))
    session.set_target(2, probability())
    assert (session.target, session.prompts) == (2, ())
    session.add(Point((24, 44), positive=False))
    assert len(session.prompts) == 1
    session.undo()
    session.undo()
    assert not session.can_undo


def test_a_new_step_ends_redo() -> None:
    session = begun()
    session.add(Point(MISSED))
    session.undo()
    session.add(Point(WRONG, positive=False))
    assert not session.can_redo


def test_inputs_are_not_changed() -> None:
    mask = START.astype(np.uint8)
    session = RefineSession(method="paint")
    session.set_image(image())
    session.set_mask(mask, TWO, 1)
    session.add(Point(MISSED))
    np.testing.assert_array_equal(mask, START)


def test_a_shared_mask_is_written_by_its_owner() -> None:
    mask = START.astype(np.uint8)
    session = RefineSession(method="paint", writes=False)
    session.set_image(image())
    session.set_mask(mask, TWO, 1)
    edit = session.add(Point(MISSED))
    np.testing.assert_array_equal(mask, START)
    mask[edit.indices] = edit.values
    back = session.undo()
    assert back is not None
    mask[back.indices] = back.values
    np.testing.assert_array_equal(mask, START)


def test_history_holds_boxes_not_volumes() -> None:
    session = RefineSession(method="paint")
    session.set_image(np.zeros((64, 64, 64), np.uint8))
    session.set_mask(np.zeros((64, 64, 64), np.uint8), TWO, 1)
    session.add(Point((32, 32, 32)))
    assert 0 < session.nbytes < 1000


def test_an_edit_and_its_inverse_cancel() -> None:
    before = np.arange(12).reshape(3, 4)
    after = before.copy()
    after[1, 2:] = 0
    edit = edit_between(before, after)
    assert edit.slices == (slice(1, 2), slice(2, 4))
    work = before.copy()
    apply_edit(work, edit)
    np.testing.assert_array_equal(work, after)
    revert_edit(work, edit)
    np.testing.assert_array_equal(work, before)
    assert edit_between(before, before).empty


def test_stale_edits_are_refused() -> None:
    edit = edit_between(np.zeros((3, 3)), np.eye(3))
    with pytest.raises(ConfigError, match="changed since"):
        apply_edit(np.ones((3, 3)), edit)
    with pytest.raises(ConfigError, match="changed since"):
        apply_edit(np.zeros((2, 2)), edit)
    with pytest.raises(ConfigError, match="2 axes"):
        apply_edit(np.zeros((3, 3, 3)), edit)
    with pytest.raises(ConfigError, match="would become"):
        edit_between(np.zeros(2), np.zeros(3))
    with pytest.raises(ConfigError, match="a box of"):
        Edit((slice(0, 1),), np.zeros(2), np.zeros(2))


def ready(**options) -> RefineSession:
    session = RefineSession(**options)
    session.set_image(np.zeros((4, 4, 4)))
    session.set_mask(np.zeros((4, 4, 4), np.uint8), TWO, 1)
    return session


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        (lambda: RefineSession(method="magic"), "no method 'magic'"),
        (lambda: RefineSession(radius=0), "radius"),
        (lambda: RefineSession().set_image(np.zeros(3)), "Give"),
        (lambda: RefineSession(plane_axis=2).set_image(np.zeros((3, 3))), "plane_axis"),
        (lambda: RefineSession().set_image(np.zeros((3, 3)), (1, 0)), "spacing"),
        (lambda: RefineSession().set_image(np.zeros((3, 3)), (1,)), "spacing"),
        (lambda: RefineSession().set_mask(np.zeros((3, 3), int), TWO, 1), "set_image"),
        (lambda: RefineSession().mask, "set_mask"),
        (lambda: ready().set_mask(np.zeros((3, 3), int), TWO, 1), "of shape"),
        (lambda: ready().set_mask(np.zeros((4, 4, 4)), TWO, 1), "integers"),
        (lambda: ready().set_mask(np.zeros((4, 4, 4), int), OVER, 1), "of shape"),
        (lambda: ready().set_target(3), "target: is 3"),
        (lambda: ready().set_target(0), "target: is 0"),
        (lambda: ready().set_target(1, np.zeros((4, 4))), "probability"),
        (lambda: ready().add(Point((1, 1, 1))), "needs the probability"),
        (lambda: ready(method="paint").add(Point((1, 1))), "coordinates"),
        (lambda: ready(method="paint").add(Point((9, 1, 1))), "outside"),
        (lambda: ready(method="paint").add(Box((0, 0, 0), (1, 1, 1))), "2 slices"),
    ],
)
def test_what_cannot_be_done_is_said(fail, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        fail()


def test_a_number_that_does_not_fit_is_refused() -> None:
    session = RefineSession(method="paint")
    session.set_image(np.zeros((3, 3)))
    with pytest.raises(ConfigError, match="does not fit"):
        session.set_mask(np.zeros((3, 3), np.uint8), MANY, 256)
    with pytest.raises(ConfigError, match="a number from 1"):
        session.set_mask(np.zeros((3, 3), np.uint8), MANY, 0)

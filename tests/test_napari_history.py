"""One undo step for each edit of a Labels layer, whoever made it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from medseg.errors import ConfigError

pytest.importorskip("napari")
from napari.components import ViewerModel
from napari.layers import Labels

from medseg.napari_plugin import history
from medseg.refine.edit import edit_between


def random_mask(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)


def block(slices: tuple[slice, ...], after: np.ndarray) -> SimpleNamespace:
    return SimpleNamespace(slices=slices, before=None, after=after)


@pytest.mark.parametrize("shape", [(9, 7), (5, 6, 7), (3, 4, 5, 6)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_undo_gives_the_old_voxels_and_redo_the_new(shape, dtype) -> None:
    before = random_mask(shape).astype(dtype)
    after = random_mask(shape, 1).astype(dtype)
    layer = Labels(before.copy())
    assert history.apply_mask(layer, after) == np.count_nonzero(before != after)
    np.testing.assert_array_equal(layer.data, after)
    layer.undo()
    np.testing.assert_array_equal(layer.data, before)
    layer.redo()
    np.testing.assert_array_equal(layer.data, after)
    assert layer.data.dtype == dtype


def test_several_blocks_over_several_slices_are_one_step() -> None:
    layer = Labels(np.zeros((4, 8, 8), np.uint8))
    edits = [
        block((slice(z, z + 1), slice(1, 4), slice(2, 5)), np.full((1, 3, 3), z + 1))
        for z in range(3)
    ]
    assert history.apply_edits(layer, edits) == 27
    layer.undo()
    assert not layer.data.any()
    layer.undo()  # there was only the one step
    layer.redo()
    assert [layer.data[z, 2, 3] for z in range(4)] == [1, 2, 3, 0]


def test_an_empty_edit_makes_no_step() -> None:
    layer = Labels(np.zeros((6, 6), np.uint8))
    layer.data_setitem((np.array([1]), np.array([1])), 2)
    assert history.apply_mask(layer, layer.data.copy()) == 0
    assert history.apply_edits(layer, []) == 0
    layer.undo()
    assert not layer.data.any()


def test_painting_tools_and_painting_again_undo_in_order() -> None:
    layer = Labels(np.zeros((12, 12), np.uint8))
    states = [layer.data.copy()]
    layer.brush_size = 3
    for step in range(6):
        if step % 2:
            history.apply_mask(layer, random_mask((12, 12), step))
        else:
            layer.paint((4, 4 + step), step + 1)
        states.append(layer.data.copy())
    for state in reversed(states[:-1]):
        layer.undo()
        np.testing.assert_array_equal(layer.data, state)
    for state in states[1:]:
        layer.redo()
        np.testing.assert_array_equal(layer.data, state)


def test_a_slice_of_a_volume_changes_alone_and_undo_survives_scrolling() -> None:
    viewer = ViewerModel()
    layer = viewer.add_labels(random_mask((5, 6, 7)).copy())
    before = layer.data.copy()
    new = random_mask((6, 7), 3)
    history.apply_mask(layer, new, within=(2, slice(None), slice(None)))
    np.testing.assert_array_equal(layer.data[2], new)
    np.testing.assert_array_equal(layer.data[[0, 1, 3, 4]], before[[0, 1, 3, 4]])
    viewer.dims.set_current_step(0, 4)
    layer.undo()
    np.testing.assert_array_equal(layer.data, before)


def test_each_edit_tells_listeners_once() -> None:
    layer = Labels(np.zeros((4, 6, 6), np.uint8))
    heard = []
    layer.events.paint.connect(heard.append)
    history.apply_mask(layer, random_mask((4, 6, 6)))
    assert len(heard) == 1


def test_what_was_painted_while_an_edit_was_made_stays() -> None:
    layer = Labels(np.zeros((4, 4), np.uint8))
    after = np.zeros((4, 4), np.uint8)
    after[:2] = 1
    edit = edit_between(layer.data, after)
    layer.data_setitem((np.array([1, 3]), np.array([1, 1])), 5)
    history.apply_edits(layer, [edit])
    assert layer.data[1].tolist() == [1, 1, 1, 1]  # both said so: the later wins
    assert layer.data[3].tolist() == [0, 5, 0, 0]


def test_the_data_array_stays_the_same_object() -> None:
    layer = Labels(np.zeros((4, 6), np.uint8))
    data = layer.data
    history.apply_mask(layer, random_mask((4, 6)))
    assert layer.data is data


def test_what_cannot_be_applied_is_refused_and_changes_nothing() -> None:
    layer = Labels(np.zeros((6, 6), np.uint8))
    good = block((slice(0, 2), slice(0, 2)), np.ones((2, 2), int))
    bad = {
        "does not fit": block((slice(0, 2), slice(0, 2)), np.full((2, 2), 300)),
        "shape": block((slice(0, 2), slice(0, 2)), np.ones((3, 3))),
        "2 axes": block((slice(0, 2),), np.ones(2)),
    }
    for message, edit in bad.items():
        with pytest.raises(ConfigError, match=message):
            history.apply_edits(layer, [good, edit])
    with pytest.raises(ConfigError, match="outside"):
        history.apply_edits(
            layer, [block((slice(0, 2),), np.ones(2))], (9, slice(None))
        )
    assert not layer.data.any()
    layer.editable = False
    with pytest.raises(ConfigError, match="not editable"):
        history.apply_edits(layer, [good])


def test_edits_in_turns_are_one_step_also_if_it_ends_early() -> None:
    from medseg.napari_plugin.history import Block, apply_in_turns

    layer = ViewerModel().add_labels(np.zeros((3, 4, 4), np.uint8))
    whole = (slice(0, 4), slice(0, 4))
    blocks = [
        Block((slice(t, t + 1), *whole), np.full((1, 4, 4), t + 1)) for t in range(3)
    ]
    writing = apply_in_turns(layer, blocks)
    next(writing)
    assert layer.data.max() == 1
    writing.close()
    for _ in apply_in_turns(layer, blocks):
        pass
    assert layer.data[:, 0, 0].tolist() == [1, 2, 3]
    layer.undo()
    assert layer.data[:, 0, 0].tolist() == [1, 0, 0]
    layer.undo()
    assert not layer.data.any()
    layer.editable = False
    with pytest.raises(ConfigError, match="not editable"):
        next(apply_in_turns(layer, blocks))


def test_a_mask_read_as_it_is_shown_says_that_it_is_not_changed_so() -> None:
    array = pytest.importorskip("dask.array")
    layer = Labels(array.zeros((4, 8, 8), dtype=np.uint8, chunks=(1, 8, 8)))
    edits = [block((slice(0, 1), slice(0, 2), slice(0, 2)), np.ones((1, 2, 2)))]
    with pytest.raises(ConfigError, match="read from its files as it is shown"):
        history.apply_edits(layer, edits)
    with pytest.raises(ConfigError, match="read from its files as it is shown"):
        next(history.apply_in_turns(layer, edits))

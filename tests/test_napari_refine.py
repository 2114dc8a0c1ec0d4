"""Refine: prompts, tools, one undo for all, keys and layers given back."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from medseg.errors import ConfigError
from medseg.geometry import Geometry
from medseg.labels import Label, LabelSet
from medseg.segmentation import Segmentation

pytest.importorskip("napari")
from napari.components import ViewerModel
from napari.utils.shortcuts import default_shortcuts

from medseg.napari_plugin import file_state, recovery, unsaved
from medseg.napari_plugin.layers import facts, segmentation_layers
from medseg.napari_plugin.mender import Mender
from medseg.napari_plugin.origin import own_image
from medseg.refine import tools
from medseg.refine.prompts import Box, Point, Scribble


@pytest.fixture(autouse=True)
def _own_state(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MEDSEG_STATE", str(tmp_path / "state"))


def disc(shape=(48, 48), centre=(24, 24), radius=12) -> np.ndarray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def film_with_half_a_disc(viewer):
    """A bright disc whose mask (label 1) lacks the right half; label 2 in a corner."""
    truth = disc()
    image = viewer.add_image(np.where(truth, 200.0, 20.0), name="film")
    mask = np.where(truth, 1, 0).astype(np.uint8)
    mask[:, 25:] = 0
    mask[:4, :4] = 2
    layer = viewer.add_labels(mask, name="mask")
    return image, layer, truth


def dice(a, b) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


# The model


@pytest.fixture
def mended():
    viewer = ViewerModel()
    image, layer, truth = film_with_half_a_disc(viewer)
    mender = Mender(viewer)
    mender.choose(layer, image)
    yield SimpleNamespace(viewer=viewer, layer=layer, truth=truth, mender=mender)
    mender.close()


@pytest.mark.parametrize("method", ["graph_cut", "random_walker", "grow"])
def test_a_click_mends_and_undo_and_redo_are_exact(mended, method) -> None:
    before = mended.layer.data.copy()
    mended.mender.method = method
    assert mended.mender.add(Point((24, 30))) > 0
    after = mended.layer.data.copy()
    assert dice(after == 1, mended.truth) > dice(before == 1, mended.truth)
    mended.mender.undo()
    np.testing.assert_array_equal(mended.layer.data, before)
    assert mended.mender.prompts == ()
    mended.mender.redo()
    np.testing.assert_array_equal(mended.layer.data, after)
    assert len(mended.mender.prompts) == 1


def test_napari_s_own_undo_takes_prompts_along(mended) -> None:
    before = mended.layer.data.copy()
    mended.mender.add(Point((24, 30)))
    mended.layer.paint((40, 40), 1)
    mended.mender.add(Point((40, 5), positive=False))  # nothing there: no step
    painted = mended.layer.data.copy()
    mended.layer.undo()  # the stroke
    assert len(mended.mender.prompts) == 2
    mended.layer.undo()  # the first answer, and the one after it
    np.testing.assert_array_equal(mended.layer.data, before)
    assert mended.mender.prompts == ()
    mended.layer.redo()
    assert Point((24, 30)) in mended.mender.prompts
    mended.layer.redo()
    np.testing.assert_array_equal(mended.layer.data, painted)


def test_an_answer_that_changes_nothing_is_taken_back_alone(mended) -> None:
    mended.mender.add(Point((24, 30)))
    after = mended.layer.data.copy()
    assert mended.mender.add(Point((24, 20))) == 0
    mended.mender.undo()
    np.testing.assert_array_equal(mended.layer.data, after)
    assert len(mended.mender.prompts) == 1
    mended.mender.redo()
    assert len(mended.mender.prompts) == 2


def test_reset_takes_all_prompts_back_as_one_step(mended) -> None:
    before = mended.layer.data.copy()
    mended.mender.add(Point((24, 30)))
    mended.mender.add(Box((10, 40), (14, 44)))
    after = mended.layer.data.copy()
    assert mended.mender.reset() > 0
    np.testing.assert_array_equal(mended.layer.data, before)
    assert mended.mender.prompts == ()
    mended.layer.undo()
    np.testing.assert_array_equal(mended.layer.data, after)
    assert mended.mender.reset() == 0
    mended.mender.accept()


@pytest.mark.parametrize("protect", [True, False])
def test_other_labels_are_protected_by_default(mended, protect) -> None:
    mended.mender.method = "paint"
    assert mended.mender.protect
    mended.mender.protect = protect
    mended.mender.add(Box((0, 0), (6, 6)))
    assert (mended.layer.data[:4, :4] == 2).all() == protect


def test_tools_are_one_step_each(mended) -> None:
    states = [mended.layer.data.copy()]
    for tool in (
        lambda w: tools.grow(w.labels, w.value, 2, w.spacing),
        lambda w: tools.relabel(w.labels, 2, 7),
        lambda w: tools.fill_holes(w.labels, w.value),
    ):
        mended.mender.use_tool(tool)
        states.append(mended.layer.data.copy())
    assert (states[1] == 1).sum() > (states[0] == 1).sum()
    mended.mender.undo()  # filling holes changed nothing and is no step
    np.testing.assert_array_equal(mended.layer.data, states[1])
    mended.mender.undo()
    np.testing.assert_array_equal(mended.layer.data, states[0])


def volume():
    viewer = ViewerModel()
    pixels = np.zeros((5, 20, 24), np.float32)
    pixels[:, 5:15, 6:18] = 1
    image = viewer.add_image(pixels, scale=(3, 1, 1))
    layer = viewer.add_labels(np.zeros((5, 20, 24), np.uint8), scale=(3, 1, 1))
    mender = Mender(viewer)
    mender.choose(layer, image)
    return viewer, layer, mender


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_prompt_changes_the_slice_that_is_shown_in_all_three_views(axis) -> None:
    viewer, layer, mender = volume()
    order = [axis, *(a for a in range(3) if a != axis)]
    viewer.dims.order = tuple(order)
    index = (2, 9, 11)[axis]
    viewer.dims.set_current_step(axis, index)
    world = np.array((2, 9, 11)) * (3, 1, 1)
    mender.method = "paint"
    position = mender.to_part(world)
    assert position == (2.0, 9.0, 11.0)
    mender.add(Point(position))
    assert layer.data[2, 9, 11] == 1
    hits = np.nonzero(layer.data)
    assert set(hits[axis]) == {index}
    mender.use_tool(lambda w: tools.grow(w.labels, w.value, 1.0, w.spacing))
    assert set(np.nonzero(layer.data)[axis]) == {index}
    viewer.dims.ndisplay = 3
    with pytest.raises(ConfigError, match="3-D"):
        mender.add(Point(position))


def test_the_volume_as_a_whole_and_between_slices() -> None:
    _, layer, mender = volume()
    mender.volume, mender.method = True, "paint"
    mender.add(Box((0, 5, 6), (0, 14, 17)))
    mender.add(Box((4, 5, 6), (4, 14, 17)))
    count = mender.use_tool(
        lambda w: tools.fill_between_slices(w.labels, w.value, axis=w.plane_axis)
    )
    assert count == 3 * 120
    assert (layer.data[:, 5:15, 6:18] == 1).all()
    layer.undo()
    assert not layer.data[1:4].any()
    mender.close()


def test_time_stays_where_it_is() -> None:
    viewer = ViewerModel()
    layer = viewer.add_labels(np.zeros((3, 4, 10, 12), np.uint16))
    viewer.dims.set_current_step(0, 2)
    viewer.dims.set_current_step(1, 1)
    mender = Mender(viewer)
    mender.choose(layer)
    mender.method = "paint"
    mender.add(Scribble((mender.to_part((2, 1, 3, 3)), mender.to_part((2, 1, 3, 8)))))
    assert np.count_nonzero(layer.data) == np.count_nonzero(layer.data[2, 1]) == 6
    viewer.dims.set_current_step(0, 0)
    mender.add(Point(mender.to_part((0, 1, 5, 5))))
    assert layer.data[0, 1, 5, 5] == 1
    viewer.dims.order = (2, 1, 0, 3)
    with pytest.raises(ConfigError, match="time"):
        mender.add(Point((1, 5, 5)))
    mender.close()


def test_what_cannot_be_mended_is_said(mended) -> None:
    other = mended.viewer.add_image(np.zeros((9, 9)))
    with pytest.raises(ConfigError, match=r"shape \(9, 9\)"):
        mended.mender.choose(mended.layer, other)
    mended.mender.method = "model_guided"
    with pytest.raises(ConfigError, match="probability"):
        mended.mender.add(Point((24, 30)))
    mended.mender.close()
    with pytest.raises(ConfigError, match="not chosen"):
        mended.mender.add(Point((24, 30)))


def test_a_slice_that_the_mask_has_not_is_said() -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((9, 8, 8), np.uint8))
    layer = viewer.add_labels(np.ones((4, 8, 8), np.uint8), translate=(2, 0, 0))
    mender = Mender(viewer)
    mender.choose(layer)
    for step in (0, 7):  # slices -2 and 5 of the mask
        viewer.dims.set_current_step(0, step)
        with pytest.raises(ConfigError, match="which the mask has not"):
            mender.use_tool(lambda w: tools.fill_holes(w.labels, w.value))
    mender.close()


def test_another_array_in_the_layer_is_noticed(mended) -> None:
    mended.mender.method = "paint"
    mended.mender.add(Point((24.0, 30.0)))
    mended.layer.data = np.zeros_like(mended.layer.data)
    assert mended.mender.add(Point((24.0, 30.0))) > 0
    assert mended.layer.data[24, 30] == 1
    assert len(mended.mender.prompts) == 1


# Nothing lost


def test_masks_that_need_saving_are_known_and_can_be_given_back() -> None:
    viewer = ViewerModel()
    keeper = unsaved.keeper_of(viewer)
    assert unsaved.keeper_of(viewer) is keeper
    labels = LabelSet((Label(1, "heart", "#e0524d"),), "overlapping")
    geometry = Geometry.upright((3.0, 0.5, 0.7))
    seg = Segmentation(np.ones((1, 2, 8, 9), np.uint8), labels, geometry)
    data, words, _ = segmentation_layers(seg, "film", source="/nowhere/film.png")[0]
    drawn = viewer.add_labels(data, **words)
    foreign = viewer.add_labels(np.ones((2, 8, 9), np.uint8), name="foreign")
    assert keeper.unsaved == [drawn]  # of the model; nobody touched the other
    foreign.paint((0, 4, 4), 3)
    assert keeper.unsaved == [drawn, foreign]
    while not keeper.save():
        pass
    assert len(list(recovery.state_folder().glob("*"))) == 2
    assert recovery.find_lost() == ()  # this process is alive

    expected, scale = foreign.data.copy(), drawn.scale
    viewer.layers.remove(foreign)
    assert [f.header.name for f in keeper.removed] == ["foreign"]
    found = keeper.removed[0]
    assert "foreign on an unsaved image" in found.title
    layer, remark = recovery.restore(viewer, found)
    np.testing.assert_array_equal(layer.data, expected)
    assert remark == ""
    recovery.discard(found)
    assert keeper.removed == ()

    keeper.mark_saved(drawn, "/nowhere/film_mask.nii.gz")
    assert drawn not in keeper.unsaved
    drawn.paint((0, 4, 4), 0)
    assert drawn in keeper.unsaved
    unsaved.mark_saved(drawn.data, "/nowhere/film_mask.nii.gz")
    assert drawn not in keeper.unsaved
    keeper.look(drawn)
    assert drawn in keeper.unsaved
    keeper.stop(keep=True)
    keeper.stop(keep=True)

    dead = []
    for path in recovery.state_folder().glob("*"):
        head = recovery.read_header(path)
        object.__setattr__(head, "started", 0.0)  # as if the number came again
        assert not recovery.is_alive(path, head)
        dead.append(recovery.Found(path, head))
    kept = next(f for f in dead if f.header.name == drawn.name)
    other = ViewerModel()
    back, remark = recovery.restore(other, kept)
    np.testing.assert_array_equal(back.data, drawn.data)
    np.testing.assert_allclose(back.scale, scale)
    known = back.metadata["medseg"]
    assert (known["labels"], known["structure"]) == (labels, "heart")
    assert known["geometry"] == geometry
    assert "changed or is gone" in remark


def test_fingerprints_and_folders(tmp_path) -> None:
    assert file_state.fingerprint(tmp_path / "no") == ""
    path = tmp_path / "series" / "a"
    path.parent.mkdir()
    path.write_bytes(b"x" * 10)
    first = file_state.fingerprint(path), file_state.fingerprint(path.parent)
    path.write_bytes(b"y" * 11)
    assert file_state.fingerprint(path) != first[0]
    assert file_state.fingerprint(path.parent) != first[1]
    folder = recovery.state_folder()
    assert folder.parent == tmp_path / "state"
    if os.name == "posix":
        assert folder.stat().st_mode & 0o077 == 0
    (folder / f"junk{recovery.SUFFIX}").write_bytes(b"junk")
    assert recovery.find_lost() == ()


def test_a_journal_of_changes_needs_its_file(tmp_path) -> None:
    path = recovery.new_journal_path()
    head = unsaved.Header("m", (4, 4), "|u1", "file", mask_path=str(tmp_path / "gone"))
    unsaved.JournalWriter(path, head).close()
    with pytest.raises(recovery.FileError, match="changed or is gone"):
        recovery.restore(ViewerModel(), recovery.Found(path, head))
    assert path.exists()


# The widget


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def opened(make_napari_viewer):
    from medseg.napari_plugin.widgets.refine import RefineWidget

    viewer = make_napari_viewer(strict_qt=True)
    _, layer, truth = film_with_half_a_disc(viewer)
    widget = RefineWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Refine")
    return SimpleNamespace(viewer=viewer, layer=layer, truth=truth, widget=widget)


def drag(viewer, path, modifiers=()) -> None:
    """Press, move and release on the canvas, as napari's own tests do."""
    viewer = unsaved.unwrap(viewer)
    event = SimpleNamespace(
        type="mouse_press",
        button=1,
        modifiers=modifiers,
        pos=np.array(path[0], float),
        position=path[0],
    )
    following = [f(viewer, event) for f in viewer.mouse_drag_callbacks[-1:]]
    steps = [f for f in following if f is not None]
    for step in steps:
        next(step)
    event.type = "mouse_move"
    for position in path[1:]:
        event.position, event.pos = position, np.array(position, float)
        for step in steps:
            next(step)
    event.type = "mouse_release"
    for step in steps:
        next(step, None)


@pytest.mark.gui
def test_three_corrections_by_mouse_then_undo_and_redo(opened) -> None:
    viewer, layer, widget = opened.viewer, opened.layer, opened.widget
    assert widget.layer is layer
    assert widget.form.protect.isChecked()
    drag(viewer, [(24, 30)])
    assert widget.mender.prompts == ()  # prompts are off
    states = [layer.data.copy()]
    widget.use("point")
    drag(viewer, [(24, 30)])
    states.append(layer.data.copy())
    widget.use("scribble")
    drag(viewer, [(40, 40), (40, 44)])
    states.append(layer.data.copy())
    widget.form.method.setCurrentIndex(4)
    widget.use("box")
    drag(viewer, [(38, 38), (42, 46)], modifiers=("Shift",))
    states.append(layer.data.copy())
    assert [type(p).__name__ for p in widget.mender.prompts] == [
        "Point",
        "Scribble",
        "Box",
    ]
    assert not np.array_equal(states[0], states[1])
    assert not (states[3][38:43, 38:47] == 1).any()
    assert {"prompts (points)", "prompts (lines)"} <= {x.name for x in viewer.layers}
    assert viewer.layers.selection.active == layer
    for state in states[-2::-1]:
        widget.undo()
        np.testing.assert_array_equal(layer.data, state)
    for state in states[1:]:
        widget.redo()
        np.testing.assert_array_equal(layer.data, state)
    widget.use("lasso")
    drag(viewer, [(2, 30), (2, 40), (9, 40), (9, 30)])
    assert (layer.data[4:8, 32:38] == 1).all()
    drag(viewer, [(2, 30), (2, 31)])  # no outline
    widget.reset()
    np.testing.assert_array_equal(layer.data, states[0])
    assert viewer.camera.mouse_pan


@pytest.mark.gui
def test_napari_s_brush_puts_the_prompts_away(opened) -> None:
    viewer, layer, widget = opened.viewer, opened.layer, opened.widget
    widget.use("lasso")
    layer.mode = "paint"
    assert widget.form.kinds["off"].isChecked()
    assert widget.input.kind == "off"
    layer.mode = "pan_zoom"
    before = layer.data.copy()
    drag(viewer, [(2, 30), (2, 40), (9, 40), (9, 30)])
    np.testing.assert_array_equal(layer.data, before)
    widget.form.tools.split.setChecked(True)
    layer.mode = "erase"
    assert not widget.form.tools.split.isChecked()
    widget.use("point")  # which takes the mouse from the brush
    assert str(layer.mode) == "pan_zoom"
    assert widget.form.kinds["point"].isChecked()


@pytest.mark.gui
def test_a_closed_dock_leaves_mouse_keys_and_layer_list_alone(opened) -> None:
    from qtpy.QtGui import QHideEvent, QShowEvent

    viewer, layer, widget = opened.viewer, opened.layer, opened.widget
    widget.use("lasso")
    drag(viewer, [(2, 30), (2, 40), (9, 40), (9, 30)])
    before, keys = layer.data.copy(), set(viewer.keymap)
    assert "prompts (lines)" in viewer.layers
    widget.hideEvent(QHideEvent())  # napari hides a dock that is closed
    drag(viewer, [(12, 30), (12, 40), (19, 40), (19, 30)])
    np.testing.assert_array_equal(layer.data, before)
    assert widget.form.kinds["off"].isChecked()
    assert "prompts (lines)" not in viewer.layers
    assert not {s.key for s in widget.shortcuts.bound} & set(viewer.keymap)
    widget.showEvent(QShowEvent())
    assert set(viewer.keymap) == keys
    assert "prompts (lines)" in viewer.layers  # they are still in effect
    widget.undo()
    assert not np.array_equal(layer.data, before)


@pytest.mark.gui
def test_the_layer_of_a_drag_is_there_before_it(opened) -> None:
    opened.widget.use("point")
    assert "prompts (lines)" not in opened.viewer.layers
    opened.widget.use("lasso")
    assert "prompts (lines)" in opened.viewer.layers
    assert opened.viewer.layers.selection.active == opened.layer


@pytest.mark.gui
@pytest.mark.parametrize("back", ["button", "Ctrl-Z"])
def test_after_an_undo_no_message_speaks_of_what_was_done(opened, back) -> None:
    layer, widget = opened.layer, opened.widget
    widget.use("point")
    drag(opened.viewer, [(24, 30)])
    assert "pixels changed" in widget.message.text()
    widget.undo() if back == "button" else layer.undo()
    assert widget.message.text() == ""


@pytest.mark.gui
def test_tools_by_button_and_by_drag(opened) -> None:
    viewer, layer, widget = opened.viewer, opened.layer, opened.widget
    panel = widget.form.tools
    before = layer.data.copy()
    panel.buttons["Grow"].click()
    assert (layer.data == 1).sum() > (before == 1).sum()
    assert "Grow" in widget.form.message.text()
    panel.split.setChecked(True)
    drag(viewer, [(24, 2), (24, 44)])
    assert (layer.data == 3).any()
    panel.brush.setChecked(True)
    assert not panel.split.isChecked()
    panel.set_range(100, 300)
    drag(viewer, [(24, 34), (24, 46)])
    assert layer.data[24, 36] == 1
    assert layer.data[24, 45] == 0
    panel.release()
    panel.other.setValue(3)
    panel.buttons["Merge"].click()
    assert not (layer.data == 3).any()
    panel.other.setValue(2)
    panel.buttons["Relabel"].click()
    assert "in use" in widget.form.message.text()
    for name in ("Shrink", "Smooth", "Keep largest", "Fill holes", "Remove <"):
        panel.buttons[name].click()
    for _ in range(12):
        layer.undo()
    np.testing.assert_array_equal(layer.data, before)


@pytest.mark.gui
def test_keys_are_free_listed_and_given_back(opened) -> None:
    viewer, widget = opened.viewer, opened.widget
    core = {str(k) for keys in default_shortcuts.values() for k in keys}
    bound = {s.key for s in widget.shortcuts.bound}
    assert len(bound) == 9
    assert not bound & core
    assert all(f"<b>{key}</b>" in widget.form.keys.text() for key in bound)
    keymap = {str(k): f for k, f in viewer.keymap.items()}
    assert bound <= set(keymap)
    keymap["W"](viewer)
    assert widget.form.kinds["point"].isChecked()
    keymap["N"](viewer)
    assert widget.input.negative
    assert widget.form.take.isChecked()
    keymap["Q"](viewer)
    assert widget.input.kind == "off"


@pytest.mark.gui
def test_closing_the_widget_leaves_the_viewer_as_it_was(make_napari_viewer) -> None:
    from qtpy.QtCore import QCoreApplication, QEvent

    from medseg.napari_plugin.widgets.refine import RefineWidget

    viewer = make_napari_viewer(strict_qt=True)
    film_with_half_a_disc(viewer)
    keys, names = dict(viewer.keymap), [x.name for x in viewer.layers]
    callbacks = list(viewer.mouse_drag_callbacks)
    widget = RefineWidget(viewer)
    widget.use("point")
    drag(viewer, [(24, 30)])
    assert len(viewer.layers) > len(names)
    widget.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    assert dict(viewer.keymap) == keys
    assert [x.name for x in viewer.layers] == names
    assert list(viewer.mouse_drag_callbacks) == callbacks


@pytest.mark.gui
def test_closing_with_unsaved_masks_asks(make_napari_viewer, tmp_path, capsys) -> None:
    from qtpy.QtCore import QCoreApplication, QEvent
    from qtpy.QtGui import QCloseEvent
    from qtpy.QtWidgets import QMainWindow

    from medseg.napari_plugin.widgets.close_guard import CloseGuard, main_window

    viewer = make_napari_viewer(strict_qt=True)
    _, layer, _ = film_with_half_a_disc(viewer)
    window = QMainWindow()  # stands for napari's, which the fixture closes
    window.show()
    answers, saved = [], []

    def save(viewer, layer) -> str:
        if not saved:
            saved.append("failed")
            raise recovery.FileError(tmp_path, "is full")
        saved.append(layer)
        return str(tmp_path / "mask.nii.gz")

    guard = CloseGuard(viewer, window, save=save, ask=lambda masks: answers.pop())
    assert main_window(window) is window
    close = lambda: guard.eventFilter(window, QCloseEvent())  # noqa: E731
    assert not close()  # nothing is unsaved: nobody is asked
    layer.paint((30, 40), 1)
    assert guard.timer.isActive()
    guard._autosave()
    assert list(recovery.state_folder().glob("*"))
    answers += ["cancel"]
    assert close()
    answers += ["save"]
    assert close()  # it could not be saved: the window stays
    assert "is not saved" in capsys.readouterr().out
    assert guard.keeper.unsaved == [layer]
    answers += ["save"]
    assert not close()
    assert saved[1:] == [layer]
    assert not list(recovery.state_folder().glob("*"))
    layer.paint((30, 30), 2)
    guard._autosave()
    answers += ["discard"]
    assert not close()
    guard._finish_if_closed()  # napari asked too, and the person stayed
    assert list(recovery.state_folder().glob("*"))
    answers += ["discard"]
    assert not close()
    window.hide()
    guard._finish_if_closed()
    assert not list(recovery.state_folder().glob("*"))
    assert not guard.timer.isActive()
    assert not guard.eventFilter(window, QEvent(QEvent.Type.Show))
    window.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


@pytest.mark.gui
def test_the_banner_restores_and_discards(
    make_napari_viewer, monkeypatch, capsys
) -> None:
    from qtpy.QtCore import QCoreApplication, QEvent
    from qtpy.QtWidgets import QVBoxLayout, QWidget

    from medseg.napari_plugin.widgets.recovery_banner import RecoveryBanner

    viewer = make_napari_viewer(strict_qt=True)
    lost = ViewerModel()
    keeper = unsaved.keeper_of(lost)
    for name in "ab":
        lost.add_labels(np.zeros((8, 9), np.uint8), name=name).paint((4, 4), 3)
    while not keeper.save():
        pass
    keeper.stop(keep=True)
    monkeypatch.setattr(recovery, "is_alive", lambda path, header: False)
    host = QWidget()
    QVBoxLayout(host)
    banner = RecoveryBanner(viewer, host)
    assert not banner.isHidden()
    assert len(banner.found) == 2
    Path(banner.found[1].path).write_bytes(b"spoilt meanwhile")
    banner.restore_all()
    assert "no mask journal" in capsys.readouterr().out
    assert [x.name for x in viewer.layers] == ["a"]
    assert viewer.layers["a"].data[4, 4] == 3
    monkeypatch.undo()
    banner.discard_all()
    unsaved.keeper_of(viewer).stop(keep=False)
    host.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def test_an_answer_for_a_mask_that_is_gone_is_refused() -> None:
    viewer = ViewerModel()
    layer = viewer.add_labels(np.zeros((20, 20), np.uint8))
    mender = Mender(viewer)
    mender.choose(layer)
    mender.method = "paint"
    prompt = Point((5.0, 5.0))
    edit = mender.ask(prompt)
    mender.close()  # as when the layer is removed while a thread answers
    with pytest.raises(ConfigError, match="changed meanwhile"):
        mender.take(edit, prompt)


@pytest.mark.gui
def test_prompts_lie_over_the_mask_that_they_are_for(opened) -> None:
    viewer, layer, widget = opened.viewer, opened.layer, opened.widget
    other = viewer.add_labels(
        np.zeros((48, 48), np.uint8), name="other", scale=(0.5, 2), translate=(90, 3)
    )
    widget.form.method.setCurrentIndex(4)
    for mask in (layer, other, layer):
        widget.form.mask.choose(mask)
        widget.work.ask(Box((5.0, 5.0), (9.0, 9.0)))
        lines = viewer.layers["prompts (lines)"]
        np.testing.assert_array_equal(lines.scale, mask.scale)
        np.testing.assert_array_equal(lines.translate, mask.translate)
    for mask in (other, layer):  # with prompts in sight, until none is left
        viewer.layers.remove(mask)
    assert widget.layer is None
    assert len(lines.data) == 0


@pytest.mark.gui
def test_a_view_in_three_dimensions_is_said_and_not_raised(opened) -> None:
    viewer, widget = opened.viewer, opened.widget
    widget.use("box")
    viewer.dims.ndisplay = 3
    drag(viewer, [(24, 30), (28, 33)])
    assert "Switch to 2-D" in widget.message.text()


@pytest.mark.gui
def test_what_goes_wrong_in_a_thread_ends_the_work(opened, monkeypatch) -> None:
    from medseg.napari_plugin.widgets import background

    workers = []

    class Worker:
        def __init__(self, work) -> None:
            from psygnal import Signal

            class Signals:
                returned, errored = Signal(object), Signal(object)

            self.work, signals = work, Signals()
            self.returned, self.errored = signals.returned, signals.errored

        def start(self) -> None:
            workers.append(self)

    def make(work, _start_thread=True):
        return Worker(work)

    monkeypatch.setattr(background, "create_worker", make)
    widget = opened.widget
    widget.work._in_thread(lambda: 1 / 0, lambda found: None)
    assert widget.busy
    before = opened.layer.data.copy()
    widget.form.tools.buttons["Grow"].click()  # not in between
    widget.undo()
    assert "Wait" in widget.message.text()
    np.testing.assert_array_equal(opened.layer.data, before)
    workers[0].errored.emit(MemoryError("none left"))
    assert not widget.busy
    assert "MemoryError: none left" in widget.message.text()
    widget.work._in_thread(lambda: 1, lambda found: pytest.fail("the widget is gone"))
    widget.work.close()
    workers[1].returned.emit([1, None])
    workers[1].errored.emit(MemoryError("none left"))


@pytest.mark.gui
def test_filling_between_slices_leaves_the_choice_of_3d(make_napari_viewer) -> None:
    from medseg.napari_plugin.widgets.refine import RefineWidget

    viewer = make_napari_viewer(strict_qt=True)
    mask = np.zeros((5, 9, 9), np.uint8)
    mask[[0, 4], 3:6, 3:6] = 1
    layer = viewer.add_labels(mask)
    widget = RefineWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Refine")
    widget.form.tools.buttons["Fill between slices"].click()
    assert (layer.data[:, 3:6, 3:6] == 1).all()
    assert not widget.form.volume.isChecked()
    # Keys of a closed widget's layer tell nobody.
    label = widget.form.label
    widget.deleteLater()
    from qtpy.QtCore import QCoreApplication, QEvent

    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    layer.selected_label = 7
    assert label._layer is None


@pytest.mark.gui
def test_autosaves_are_as_far_apart_as_the_settings_say(
    make_napari_viewer, monkeypatch
) -> None:
    from qtpy.QtCore import QCoreApplication, QEvent
    from qtpy.QtWidgets import QMainWindow

    from medseg.napari_plugin._settings import Settings
    from medseg.napari_plugin.widgets import close_guard

    viewer = make_napari_viewer(strict_qt=True)
    _, layer, _ = film_with_half_a_disc(viewer)
    window = QMainWindow()
    seconds = 30
    monkeypatch.setattr(
        close_guard, "settings", lambda: Settings(autosave_seconds=seconds)
    )
    guard = close_guard.CloseGuard(viewer, window)
    layer.paint((30, 40), 1)
    assert guard.timer.interval() == 2000  # the first change is kept soon
    guard.timer.stop()
    while guard.keeper.unsaved and not guard.keeper.save():
        pass
    guard._autosave()
    layer.paint((30, 30), 1)
    assert 29_000 < guard.timer.interval() <= 30_000
    guard.timer.stop()
    seconds = 0
    layer.paint((30, 20), 1)
    assert not guard.timer.isActive()
    guard.keeper.stop(keep=False)
    window.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


@pytest.mark.gui
def test_the_widget_is_never_narrower_than_its_buttons(opened) -> None:
    widget = opened.widget
    inner = widget.form.inner.minimumSizeHint().width()
    assert widget.minimumSizeHint().width() >= inner > 100


def test_a_mask_kept_elsewhere_is_seen_as_it_is() -> None:
    zarr = pytest.importorskip("zarr")
    viewer = ViewerModel()
    layer = viewer.add_labels(zarr.array(np.zeros((24, 24), np.uint8)))
    mender = Mender(viewer)
    mender.choose(layer)
    mender.method = "paint"
    assert mender.add(Box((2, 2), (10, 10))) == 81
    assert mender.add(Box((2, 2), (10, 5), positive=False)) == 36
    layer.data[0, 0] = 1  # by somebody else
    assert mender.add(Box((0, 0), (1, 1), positive=False)) == 1
    mender.undo()
    mender.undo()
    assert np.count_nonzero(layer.data[:]) == 82
    mender.close()


def test_an_answer_that_cannot_be_written_is_not_remembered(mended) -> None:
    edit = mended.mender.ask(Point((24, 30)))
    mended.layer.editable = False
    with pytest.raises(ConfigError, match="is not editable"):
        mended.mender.take(edit, Point((24, 30)))
    assert mended.mender.prompts == ()


# Which image and which map


PLANE = Geometry.pixels(2)


def open_film(viewer, name: str, path: str | None):
    """A bright disc, as a reader opens it."""
    pixels, own = np.where(disc(), 200.0, 20.0), facts(PLANE, source=path, path=path)
    return viewer.add_image(pixels, name=name, metadata=own)


def segment_film(viewer, image, *, of: str = "heart", maps: int = 1, **known):
    """The layers that a run of a model leaves: the mask of one structure, its map."""
    source = image.metadata["medseg"]["path"]
    run = {"image": image.name, "model": "chest", "of": of}
    mask = facts(PLANE, source=source, **{"structure": of, **known})["medseg"]
    layer = viewer.add_labels(
        disc(radius=8).astype(np.uint8),
        name=f"{of} ({image.name})",
        metadata={"medseg": {**mask, **run, "role": "mask"}},
    )
    drawn = {**facts(PLANE, source=source)["medseg"], **run, "role": "probability"}
    for _ in range(maps):
        name = f"{of} probability ({image.name})"
        pixels = disc(radius=12).astype(np.float32)
        viewer.add_image(pixels, name=name, metadata={"medseg": drawn})
    return layer


def refine(viewer):
    from medseg.napari_plugin.widgets.refine import RefineWidget

    widget = RefineWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Refine")
    return widget


def worked_on(widget) -> tuple[str, str]:
    """Names of the image and the map that the methods see, which are those shown."""
    form, mender = widget.form, widget.mender
    assert (mender.image, mender.probability) == (
        form.image.layer,
        form.probability.layer,
    )
    return tuple(getattr(x, "name", "") for x in (mender.image, mender.probability))


@pytest.mark.gui
@pytest.mark.parametrize("paths", [("/a/1.png", "/a/2.png"), (None, None)])
def test_a_mask_is_mended_with_its_own_film_and_map(make_napari_viewer, paths) -> None:
    viewer = make_napari_viewer(strict_qt=True)
    films = [
        open_film(viewer, n, p) for n, p in zip(("one", "two"), paths, strict=True)
    ]
    hearts = [segment_film(viewer, film) for film in films]
    lung = segment_film(viewer, films[0], of="lung", maps=0)
    viewer.layers.selection.active = hearts[0]  # neither its film nor map is on top
    widget = refine(viewer)
    assert worked_on(widget) == ("one", "heart probability (one)")
    assert widget.mender.method == "model_guided"
    widget.form.mask.choose(hearts[1])
    assert worked_on(widget) == ("two", "heart probability (two)")
    widget.form.mask.choose(lung)  # the heart's map is none of it
    assert worked_on(widget) == ("one", "")
    assert widget.mender.method == "graph_cut"
    films[0].name = "renamed"
    widget.form.mask.choose(hearts[0])
    found = "renamed" if paths[0] else ""  # without a file the name is all there is
    assert worked_on(widget) == (found, "heart probability (one)")


@pytest.mark.gui
def test_a_film_without_a_map_takes_none_of_another_film(make_napari_viewer) -> None:
    viewer = make_napari_viewer(strict_qt=True)
    films = [open_film(viewer, n, f"/a/{n}.png") for n in ("one", "two")]
    first = segment_film(viewer, films[0])
    second = segment_film(viewer, films[1], maps=0)
    widget = refine(viewer)
    widget.form.method.setCurrentIndex(2)  # a person's choice stays
    widget.form.mask.choose(second)
    assert worked_on(widget) == ("two", "")
    assert widget.mender.method == "random_walker"
    viewer.layers.remove(films[1])
    assert worked_on(widget) == ("", "")
    assert "No image" in widget.message.text()
    widget.form.mask.choose(first)
    widget.form.mask.choose(second)
    assert worked_on(widget) == ("", "")
    with pytest.raises(ConfigError, match="probability"):
        widget.mender.method = "model_guided"
        widget.mender.add(Point((24, 34)))


@pytest.mark.gui
@pytest.mark.parametrize("kind", ["structure", "cells", "by hand"])
def test_a_map_can_be_refused_and_stays_so(make_napari_viewer, qtbot, kind) -> None:
    viewer = make_napari_viewer(strict_qt=True)
    film = open_film(viewer, "film", "/a/film.png")
    names = LabelSet((Label(1, "heart", "#e0524d"),), "exclusive")
    cells = LabelSet((Label(1, "heart", "#e0524d"),), "instances")
    own = {
        "structure": {},
        "cells": {"labels": cells, "structure": None},
        "by hand": {"labels": names, "structure": None},
    }[kind]
    layer = segment_film(viewer, film, maps=0, **own)
    if kind == "by hand":  # it states the file alone, as a recovered one does
        del layer.metadata["medseg"]["image"]
    widget = refine(viewer)
    assert worked_on(widget) == ("film", "")
    assert widget.mender.method == "graph_cut"
    segment_film(viewer, film, of="lung")
    segment_film(viewer, film)
    qtbot.waitUntil(lambda: widget.mender.probability is not None)
    assert worked_on(widget) == ("film", "heart probability (film)")
    assert widget.mender.method == "model_guided"
    widget.form.probability.choose(None)
    assert widget.form.probability.currentText() == "none"
    assert widget.mender.method == "graph_cut"
    widget.use("point")
    drag(viewer, [(24, 34)])  # which brings layers of prompts
    qtbot.wait(50)
    layer.selected_label = layer.selected_label + (kind == "cells")
    assert worked_on(widget) == ("film", "")
    assert len(widget.mender.prompts) == 1


@pytest.mark.gui
def test_a_film_opened_after_its_mask_is_taken(make_napari_viewer, qtbot) -> None:
    viewer = make_napari_viewer(strict_qt=True)
    own = facts(PLANE, source="/a/film.png", path="/a/film_mask.png")
    viewer.add_labels(disc().astype(np.uint8), metadata=own)
    widget = refine(viewer)
    assert worked_on(widget) == ("", "")
    open_film(viewer, "other", "/a/other.png")
    film = open_film(viewer, "film", "/a/film.png")
    qtbot.waitUntil(lambda: widget.mender.image is film)


@pytest.mark.gui
@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("first", ["film", "mask"])
def test_the_film_of_a_mask_s_name_takes_the_place_of_another(
    make_napari_viewer, qtbot, first, asked
) -> None:
    viewer = make_napari_viewer(strict_qt=True)

    def open_other() -> None:
        film = open_film(viewer, "a", "/films/a.png")
        segment_film(viewer, film)

    def open_mask():
        mask = mask_file_layer(viewer, "/films/b_mask.png")
        names = LabelSet((Label(1, "heart", "#e0524d"),), "exclusive")
        mask.metadata["medseg"]["labels"] = names
        return mask

    widget = refine(viewer)
    if first == "film":
        open_other()
        mask = open_mask()
    else:
        mask = open_mask()
        open_other()
    qtbot.wait(50)
    widget.form.mask.choose(mask)
    qtbot.waitUntil(lambda: worked_on(widget) == ("a", "heart probability (a)"))
    if asked:
        widget.form.image.activated.emit(widget.form.image.currentIndex())
    open_film(viewer, "b", "/films/b.png")
    qtbot.wait(50)
    assert worked_on(widget) == (("a", "heart probability (a)") if asked else ("b", ""))


@pytest.mark.gui
@pytest.mark.parametrize("known", [True, False])
def test_a_new_mask_is_of_the_image_that_is_chosen(make_napari_viewer, known) -> None:
    viewer = make_napari_viewer(strict_qt=True)
    for name in "AB":
        if known:
            open_film(viewer, name, None)
        else:
            viewer.add_image(np.zeros((48, 48)), name=name)
    widget = refine(viewer)
    for name in "ABA":
        widget.form.image.choose(viewer.layers[name])
        widget.form.new_mask.click()
        assert worked_on(widget) == (name, "")


@pytest.mark.gui
def test_an_unnamed_mask_gets_no_map_unasked(make_napari_viewer) -> None:
    viewer = make_napari_viewer(strict_qt=True)
    film = open_film(viewer, "film", "/a/film.png")
    segment_film(viewer, film)
    own = facts(PLANE, source="/a/film.png")
    drawn = viewer.add_labels(np.zeros((48, 48), np.uint8), metadata=own)
    widget = refine(viewer)
    widget.form.mask.choose(drawn)
    assert worked_on(widget) == ("film", "")
    widget.form.probability.choose(viewer.layers["heart probability (film)"])
    drawn.selected_label = 3  # of no name either: the choice stays
    assert worked_on(widget) == ("film", "heart probability (film)")
    assert widget.mender.method == "model_guided"


def test_the_image_of_a_mask_is_that_of_its_file_or_of_none() -> None:
    viewer = ViewerModel()
    mask = viewer.add_labels(
        np.zeros((48, 48), np.uint8), metadata=facts(PLANE, source="/a/film.png")
    )
    assert own_image(viewer, mask) is None
    open_film(viewer, "other", "/a/other.png")
    assert own_image(viewer, mask) is None
    changed = viewer.add_image(np.zeros((48, 48)), name="made of it, without a file")
    assert own_image(viewer, mask) is changed
    channels = [open_film(viewer, f"film channel {i}", "/a/film.png") for i in (0, 1)]
    assert own_image(viewer, mask) is channels[0]
    mask.metadata["medseg"]["image"] = "film channel 1"
    assert own_image(viewer, mask) is channels[1]
    viewer.add_image(np.zeros((9, 48)), metadata=facts(PLANE, path="/a/film.png"))


def mask_file_layer(viewer, path: str, source: str | None = None):
    known = facts(PLANE, path=path, source=source)
    return viewer.add_labels(disc(radius=8).astype(np.uint8), metadata=known)


@pytest.mark.parametrize(
    "file",
    [
        *("/a/two_mask.png", "/b/two.nii.gz", "/a/two_mask"),
        *("/a/two-Seg.nii.gz", "/b/two_labels.tif"),
    ],
)
def test_a_mask_that_states_no_image_belongs_to_that_of_its_name(file: str) -> None:
    viewer = ViewerModel()
    films = [open_film(viewer, n, f"/a/{n}.png") for n in ("one", "two", "three")]
    assert own_image(viewer, mask_file_layer(viewer, file)) is films[1]


def test_of_films_of_one_name_the_mask_s_is_that_of_its_folder() -> None:
    viewer = ViewerModel()
    films = [open_film(viewer, "ct", f"/{n}/ct.png") for n in ("one", "two")]
    assert own_image(viewer, mask_file_layer(viewer, "/two/ct_mask.png")) is films[1]
    assert own_image(viewer, mask_file_layer(viewer, "/masks/ct.png")) is None


def test_a_mask_that_nothing_is_known_of_has_the_only_image_or_none() -> None:
    viewer = ViewerModel()
    drawn = viewer.add_labels(np.zeros((48, 48), np.uint8))
    masks = drawn, mask_file_layer(viewer, "/a/strange.png")
    segment_film(viewer, open_film(viewer, "small", "/a/small.png"))
    viewer.layers.remove("small")  # its map is no image
    assert [own_image(viewer, m) for m in masks] == [None, None]
    channels = [open_film(viewer, n, "/a/one.png") for n in ("red", "green")]
    assert [own_image(viewer, m) for m in masks] == [channels[0]] * 2
    viewer.add_image(np.zeros((48, 48)))
    assert [own_image(viewer, m) for m in masks] == [None, None]


def test_labels_that_napari_made_of_an_image_are_of_it_or_of_another() -> None:
    viewer = ViewerModel()
    label_file, film = "/a/film_gt.png", open_film(viewer, "film", "/a/film.png")
    mask = mask_file_layer(viewer, label_file, source=label_file)
    assert own_image(viewer, mask) is film
    other = open_film(viewer, "other", "/a/other.png")
    assert own_image(viewer, mask) is None
    alike = mask_file_layer(viewer, "/labels/other.png", source="/labels/other.png")
    assert own_image(viewer, alike) is other
    its_own = open_film(viewer, "film_gt", label_file)  # it was no mask of another
    assert own_image(viewer, mask) is its_own


def test_the_image_of_a_movie_may_be_its_files() -> None:
    viewer = ViewerModel()
    masks = np.zeros((3, 8, 8), np.uint16)
    layer = viewer.add_labels(masks, metadata=facts(PLANE, source="/a/01"))
    own = facts(PLANE, path="/a/01/t000.tif")
    image = viewer.add_image(np.zeros((3, 8, 8)), metadata=own)
    assert own_image(viewer, layer) is image

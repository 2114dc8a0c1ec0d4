"""Track: edits of a lineage, what is suspicious, and the widget on tiny movies."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medseg.errors import ConfigError
from medseg.geometry import Geometry
from medseg.io.ctc import read_track_table
from medseg.lineage import TrackGraph, TrackRow
from medseg.track import from_csv, link, observe, relabel

pytest.importorskip("napari")
from napari.components import ViewerModel

from medseg.napari_plugin import lineage_edit as edit
from medseg.napari_plugin.history import apply_mask
from medseg.napari_plugin.lineage_editor import LineageEditor
from medseg.napari_plugin.lineage_events import find_events
from medseg.napari_plugin.lineage_layers import (
    graph_of_numbers,
    graph_of_tracks,
    show_tracks,
)
from medseg.napari_plugin.lineage_scene import LineageScene
from medseg.napari_plugin.mask_frames import frames_of, is_movie_mask
from medseg.napari_plugin.movie_job import JobCancelledError, MovieJob, linking
from medseg.napari_plugin.movies import movie_mask_layer, nodes_of, tracks_layer
from medseg.napari_plugin.numbered_view import NumberedView
from medseg.napari_plugin.unsaved import keeper_of


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSEG_STATE", str(tmp_path / "state"))


def square(mask: np.ndarray, y: int, x: int, label: int, side: int = 5) -> None:
    mask[y : y + side, x : x + side] = label


def dividing_movie() -> np.ndarray:
    """Six frames 40 x 60, numbered anew in each: one cell that divides, one that stays.

    The mother (frames 0 to 2) is 8 x 6 and becomes two of 4 x 6; the other cell
    is missing in frame 3.
    """
    movie = np.zeros((6, 40, 60), np.uint8)
    for t in range(6):
        if t < 3:
            movie[t, 10:18, 10:16] = 1
        else:
            movie[t, 9:13, 10:16] = 1
            movie[t, 15:19, 10:16] = 3
        if t != 3:
            square(movie[t], 20, 40, 2, 6)
    return movie


def two_lines() -> TrackGraph:
    """Two cells of four frames, labels 1 and 2, as two tracks."""
    frame = np.repeat(np.arange(4), 2)
    label = np.tile([1, 2], 4)
    centre = np.column_stack([np.tile([10.0, 30.0], 4), 10.0 + frame])
    edges = [(i, i + 2) for i in range(6)]
    return TrackGraph(frame, label, centre, np.array(edges))


def pairs(graph: TrackGraph) -> set[tuple[int, int]]:
    return set(map(tuple, graph.edges.tolist()))


# Edits, counted by hand


def test_a_link_takes_the_place_of_others() -> None:
    graph = edit.link(two_lines(), 3, 0)  # label 2 of frame 1 after label 1 of frame 0
    assert (0, 3) in pairs(graph)
    assert (0, 2) not in pairs(graph)
    assert (1, 3) not in pairs(graph)
    assert len(graph.edges) == 5


def test_cutting_ends_a_track() -> None:
    graph = edit.cut_before(two_lines(), 4)
    assert [(r.begin, r.end) for r in graph.rows()] == [(0, 1), (0, 3), (2, 3)]
    assert pairs(edit.cut_between(two_lines(), 4, 2)) == pairs(graph)


def test_dividing_and_undividing() -> None:
    alone = edit.cut_before(edit.cut_before(two_lines(), 3), 5)
    graph = edit.divide(alone, 0, 3)
    assert graph.divisions().tolist() == [0]
    assert graph.parents() == {2: 1, 3: 1} or len(graph.parents()) == 2
    assert pairs(edit.undivide(graph, 0, 3)) == pairs(alone)
    # Without a daughter named, the farther one parts.
    assert pairs(edit.undivide(graph, 0)) == pairs(alone)


def test_a_swap_exchanges_the_past_and_twice_is_nothing() -> None:
    graph = edit.swap(two_lines(), 4, 5)
    assert {(2, 5), (3, 4)} <= pairs(graph)
    assert pairs(edit.swap(graph, 4, 5)) == pairs(two_lines())


def test_merging_closes_a_gap() -> None:
    cut = edit.cut_before(edit.cut_before(two_lines(), 2), 4)
    ids = cut.track_ids()
    graph = edit.merge(cut, 4, 0)
    assert (0, 4) in pairs(graph)
    assert len(graph.gaps()) == 1
    assert ids[0] != ids[4]


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda g: edit.link(g, 0, 1), "both cells are in frame 0"),
        (lambda g: edit.cut_before(g, 0), "no link leads to"),
        (lambda g: edit.cut_between(g, 0, 3), "not linked"),
        (lambda g: edit.divide(g, 0, 2), "already"),
        (lambda g: edit.divide(g, 6, 7), "both cells"),
        (lambda g: edit.divide(edit.cut_before(g, 2), 0, 3), "has 0 daughters"),
        (lambda g: edit.undivide(g, 0), "does not divide"),
        (lambda g: edit.undivide(edit.divide(g, 0, 3), 0, 5), "no daughter"),
        (lambda g: edit.swap(g, 0, 0), "two cells of one frame"),
        (lambda g: edit.swap(g, 0, 1), "nothing before"),
        (lambda g: edit.merge(g, 0, 2), "both cells are of track 1"),
        (lambda g: edit.merge(g, 0, 3), "ends in frame 3"),
    ],
)
def test_what_cannot_be_done_is_said(action: Callable[..., Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        action(two_lines())


def test_undo_and_redo_go_through_all_steps() -> None:
    editor = LineageEditor()
    assert editor.undo() == ""
    first = two_lines()
    editor.set(first)
    second = edit.cut_before(first, 2)
    editor.put(second, "cut")
    editor.put(edit.cut_before(second, 3), "cut again")
    assert (editor.undo(), editor.undo()) == ("cut again", "cut")
    assert pairs(editor.graph) == pairs(first)
    assert editor.redo() == "cut"
    assert pairs(editor.graph) == pairs(second)
    editor.put(first, "link")
    assert editor.redo_name == ""


def carried(frame: np.ndarray, label: np.ndarray, centre: np.ndarray) -> TrackGraph:
    """Return `two_lines` on other masks."""
    now = TrackGraph(frame, label, centre, np.zeros((0, 2)))
    editor = LineageEditor()
    editor.set(two_lines())
    editor.carry(now, edit.match_cells(two_lines(), now))
    assert editor.graph is not None
    return editor.graph


def test_painted_and_renumbered_masks_keep_their_links() -> None:
    graph = two_lines()
    new = graph.label + 10  # other numbers, same places
    assert pairs(carried(graph.frame, new, graph.centroid)) == pairs(graph)
    moved = graph.centroid + 0.4  # painted: same numbers, other centres
    assert pairs(carried(graph.frame, graph.label, moved)) == pairs(graph)
    kept = np.arange(8) != 2  # label 1 of frame 1 was erased
    less = carried(graph.frame[kept], graph.label[kept], graph.centroid[kept])
    assert len(less) == 7
    assert len(less.edges) == 4


def test_steps_are_carried_to_other_masks() -> None:
    graph, editor = two_lines(), LineageEditor()
    editor.set(graph)
    editor.put(edit.cut_before(graph, 4), "cut")
    turned = np.arange(8)[::-1]  # the same cells in another order
    now = TrackGraph(
        graph.frame[turned], graph.label[turned], graph.centroid[turned], []
    )
    editor.carry(now, edit.match_cells(graph, now))
    assert len(editor.graph.edges) == 5
    assert editor.undo() == "cut"
    assert pairs(editor.graph) == {(7 - a, 7 - b) for a, b in pairs(graph)}


# Events


def test_a_quiet_movie_has_nothing_odd() -> None:
    size = np.full(8, 50)
    assert find_events(two_lines(), size, (40, 60)) == []
    none = TrackGraph(*(np.zeros(0, np.int64),) * 2, np.zeros((0, 2)), np.zeros((0, 2)))
    assert find_events(none, np.zeros(0, np.int64), (40, 60)) == []


def test_each_kind_of_event_is_found_and_the_worst_is_first() -> None:
    graph = two_lines()
    centre = graph.centroid.copy()
    centre[4:, 1] += [20, 0, 20, 0]  # label 1 jumps between frames 1 and 2
    jumps = TrackGraph(graph.frame, graph.label, centre, graph.edges)
    [jump] = find_events(jumps, np.full(8, 20), (40, 60))
    assert (jump.kind, jump.frame, jump.label) == ("jump", 2, 1)
    size = np.array([20, 20, 20, 20, 60, 20, 60, 20])
    [grown] = find_events(graph, size, (40, 60))
    assert (grown.kind, grown.text) == ("size", "20 to 60 px")
    cut = edit.cut_before(graph, 4)
    kinds = [e.kind for e in find_events(cut, np.full(8, 20), (40, 60))]
    assert sorted(kinds) == ["appears", "disappears"]
    split = edit.divide(edit.cut_before(graph, 5), 2, 5)
    found = find_events(split, np.array([20, 20, 40, 20, 30, 8, 30, 8]), (40, 60))
    assert found[0].kind == "division"
    assert found == sorted(found, key=lambda e: -e.score)
    gap = edit.link(edit.cut_before(graph, 2), 0, 4)
    assert "gap" in [e.kind for e in find_events(gap, np.full(8, 20), (40, 60))]
    lonely = edit.cut_before(edit.cut_before(graph, 2), 4)
    assert "short" in [e.kind for e in find_events(lonely, np.full(8, 20), (40, 60))]


def test_tracks_may_begin_and_end_at_the_border() -> None:
    graph = two_lines()
    at_edge = graph.centroid.copy()
    at_edge[::2, 0] = 2.0
    cut = edit.cut_before(TrackGraph(graph.frame, graph.label, at_edge, graph.edges), 4)
    assert find_events(cut, np.full(8, 20), (40, 60)) == []


# Layers


def test_tracks_and_view_agree_with_the_library() -> None:
    viewer = ViewerModel()
    movie = dividing_movie()
    layer = viewer.add_labels(movie, name="masks", scale=(1, 2, 2))
    masks = frames_of(layer)
    graph = link(masks)
    assert len(graph.divisions()) == 1
    tracks = show_tracks(viewer, layer, graph, None)
    assert tracks is not None
    again = graph_of_tracks(tracks, masks, observe(masks))
    assert pairs(again) == pairs(graph)
    wanted = np.stack([m for _, m in relabel(masks, graph)])
    view = NumberedView(masks, graph)
    np.testing.assert_array_equal(np.asarray(view.lazy()), wanted)
    np.testing.assert_allclose(
        tracks.data_to_world((1, 20, 40))[-3:], layer.data_to_world((1, 20, 40))
    )
    graph_2 = edit.cut_before(graph, int(graph.edges[0, 1]))
    assert show_tracks(viewer, layer, graph_2, tracks) is tracks
    assert len(np.unique(tracks.data[:, 0])) == len(graph_2.rows())
    empty = TrackGraph(
        *(np.zeros(0, np.int64),) * 2, np.zeros((0, 2)), np.zeros((0, 2))
    )
    assert show_tracks(viewer, layer, empty, tracks) is None
    assert tracks not in viewer.layers


def test_a_result_that_was_opened_keeps_its_lineage() -> None:
    movie = np.zeros((4, 20, 20), np.uint16)
    square(movie[0], 2, 2, 1)
    square(movie[1], 2, 2, 1)
    for t in (2, 3):
        square(movie[t], 1, 2, 2, 3)
        square(movie[t], 6, 2, 3, 3)
    rows = [TrackRow(1, 0, 1), TrackRow(2, 2, 3, 1), TrackRow(3, 2, 3, 1)]
    nodes = [n for t, m in enumerate(movie) for n in nodes_of(t + 5, m)]
    place = Geometry.pixels(2)
    shifted = [TrackRow(r.label, r.begin + 5, r.end + 5, r.parent) for r in rows]
    viewer = ViewerModel()
    data, keywords, _ = movie_mask_layer(movie, "m", place, range(5, 9))
    layer = viewer.add_labels(data, **keywords)
    points, own, _ = tracks_layer(shifted, nodes, "t", place, (20, 20))
    tracks = viewer.add_tracks(points, **own)
    masks = frames_of(layer)
    assert masks.numbers == range(5, 9)
    graph = graph_of_tracks(tracks, masks, observe(masks))
    assert graph.rows() == tuple(shifted)
    shown = show_tracks(viewer, layer, graph, None)
    world = shown.data_to_world((5, 0, 0))
    np.testing.assert_allclose(world, layer.data_to_world((0, 0, 0)))
    one = graph_of_numbers(observe(masks))
    assert len(one.rows()) == 3
    assert len(one.divisions()) == 0


def test_only_movies_of_masks_are_offered() -> None:
    viewer = ViewerModel()
    assert is_movie_mask(viewer.add_labels(dividing_movie()))
    assert not is_movie_mask(viewer.add_labels(np.zeros((4, 4), int)))
    assert not is_movie_mask(viewer.add_image(np.zeros((3, 4, 4))))


def test_an_edited_lineage_is_asked_for_when_the_window_closes() -> None:
    viewer = ViewerModel()
    layer = viewer.add_labels(dividing_movie())
    keeper = keeper_of(viewer)
    scene = LineageScene(viewer)
    scene.follow(layer)
    linked = graph_of_numbers(observe(frames_of(layer)))
    scene.editor.put(linked, "Link")
    assert keeper.unsaved == []  # linked again in a moment
    edges = linked.edges[:-1]
    scene.editor.put(replace(linked, edges=edges), "Cut")
    assert keeper.unsaved == [layer]
    keeper.mark_saved(layer, "01_RES")
    assert keeper.unsaved == []
    scene.editor.undo()
    assert keeper.unsaved == [layer]
    scene.close()
    keeper.stop(keep=False)


def test_a_cell_without_a_track_is_an_error() -> None:
    viewer = ViewerModel()
    layer = viewer.add_labels(dividing_movie())
    masks = frames_of(layer)
    tracks = show_tracks(viewer, layer, link(masks), None)
    square(layer.data[0], 30, 2, 9)
    with pytest.raises(ConfigError, match="label 9 of frame 0 is in no track"):
        graph_of_tracks(tracks, masks, observe(masks))


def test_a_job_reports_and_can_be_cancelled() -> None:
    masks = frames_of(ViewerModel().add_labels(dividing_movie()))
    job = MovieJob(masks, linking(masks, {"max_gap": 1}))
    found = job.run()
    assert job.done == job.total == 6
    assert found.parameters.max_gap == 1
    stopped = MovieJob(masks, linking(masks, {}))
    stopped.cancel()
    with pytest.raises(JobCancelledError):
        stopped.run()
    with pytest.raises(ConfigError):
        MovieJob(masks, linking(masks, {"persistence": 3.0})).run()


# The widget


def wait_for(widget: Any, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not widget.runs.running, timeout=20_000)


@pytest.fixture
def linked(make_napari_viewer: Any, qtbot: Any) -> SimpleNamespace:
    from medseg.napari_plugin.widgets.track import TrackWidget

    viewer = make_napari_viewer(strict_qt=True)
    layer = viewer.add_labels(dividing_movie(), name="masks")
    widget = TrackWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Track")
    widget.linking.link.click()
    wait_for(widget, qtbot)
    return SimpleNamespace(viewer=viewer, layer=layer, widget=widget, qtbot=qtbot)


def node(widget: Any, frame: int, label: int) -> int:
    found = widget.scene.node_of(frame, label)
    assert found is not None
    return found


@pytest.mark.gui
def test_it_says_whether_masks_have_changed_when_they_are_read_again(
    linked: Any,
) -> None:
    from medseg.napari_plugin.history import apply_mask

    widget, layer = linked.widget, linked.layer
    before = widget.scene.graph
    widget.editing.update_button.click()
    wait_for(widget, linked.qtbot)
    assert widget.message.text().startswith("The masks have not changed.")
    assert pairs(widget.scene.graph) == pairs(before)
    smaller = layer.data.copy()
    smaller[-1] = 0
    apply_mask(layer, smaller)
    widget.editing.update_button.click()
    wait_for(widget, linked.qtbot)
    assert widget.message.text().startswith("The masks have changed.")
    assert len(widget.scene.graph) < len(before)


@pytest.mark.gui
def test_linking_shows_tracks_and_leaves_the_masks_alone(linked: Any) -> None:
    widget, layer = linked.widget, linked.layer
    np.testing.assert_array_equal(layer.data, dividing_movie())
    assert "1 division, 1 gap closed" in widget.message.text()
    assert widget.scene.tracks.graph == {
        c: [p] for c, p in sorted(widget.scene.graph.parents().items())
    }
    names = [x.name for x in linked.viewer.layers]
    assert names == ["masks", "masks tracks", "masks by track"]
    assert widget.linking.numbers["max_distance"].value() > 0
    view = linked.viewer.layers["masks by track"]
    wanted = np.stack(
        [m for _, m in relabel(enumerate(layer.data), widget.scene.graph)]
    )
    np.testing.assert_array_equal(np.asarray(view.data), wanted)
    assert not view.editable


@pytest.mark.gui
def test_colouring_the_masks_is_one_undo_step(linked: Any) -> None:
    widget, layer = linked.widget, linked.layer
    widget.linking.paint.setCurrentIndex(1)
    before = pairs(widget.scene.graph)
    wanted = np.asarray(linked.viewer.layers["masks by track"].data)
    widget.linking.colour()
    wait_for(widget, linked.qtbot)
    np.testing.assert_array_equal(layer.data, wanted)
    assert (layer.data != dividing_movie()).any()
    assert pairs(widget.scene.graph) == before
    layer.undo()
    np.testing.assert_array_equal(layer.data, dividing_movie())
    linked.qtbot.waitUntil(
        lambda: set(widget.scene.graph.label.tolist()) == {1, 2, 3}, timeout=20_000
    )
    assert pairs(widget.scene.graph) == before


@pytest.mark.gui
def test_edits_undo_and_redo_show_in_the_tracks(linked: Any) -> None:
    widget = linked.widget
    count = len(widget.scene.graph.rows())
    widget.scene.select((node(widget, 2, 1), node(widget, 3, 3)))
    widget.editing.edit("Undivide")
    assert len(widget.scene.graph.divisions()) == 0
    assert len(np.unique(widget.scene.tracks.data[:, 0])) == len(
        widget.scene.graph.rows()
    )
    assert widget.editing.undo.text() == "Undo undivide"
    widget.editing.undo.click()
    assert len(widget.scene.graph.rows()) == count
    widget.editing.redo.click()
    assert len(widget.scene.graph.divisions()) == 0
    widget.editing.edit("Divide")
    assert len(widget.scene.graph.divisions()) == 1
    widget.scene.select((node(widget, 1, 1),))
    widget.editing.edit("Link")
    assert "Pick two" in widget.message.text()
    widget.editing.edit("Cut")
    assert "Cut" in widget.message.text()
    assert "picked cells" in linked.viewer.layers
    widget.editing.clear.click()
    assert "picked cells" not in linked.viewer.layers


@pytest.mark.gui
def test_clicks_on_cells_and_on_the_lineage_pick(linked: Any) -> None:
    from qtpy.QtGui import QHideEvent

    widget, viewer = linked.widget, linked.viewer
    widget.editing.pick.click()
    for frame, place in ((2, (2, 12, 12)), (3, (3, 17, 12))):
        viewer.dims.set_point(0, frame)
        widget.editing.picker.pick(
            SimpleNamespace(position=place, dims_displayed=[1, 2], view_direction=None)
        )
    assert widget.scene.picked == (node(widget, 2, 1), node(widget, 3, 3))
    assert "frame 3" in widget.editing.second.text()
    away = SimpleNamespace(position=(3, 300, 0), dims_displayed=[1, 2])
    widget.editing.picker.pick(away)
    assert len(widget.scene.picked) == 2
    widget.hideEvent(QHideEvent())  # napari hides a dock that is closed
    assert not widget.editing.picker.on
    widget.editing.pick.click()
    tree = widget.lineage.tree
    tree.resize(300, tree.sizeHint().height())
    wanted = node(widget, 5, 2)
    place = tree.place_of(wanted)
    assert tree.node_at(place.x(), place.y()) == wanted
    assert tree.node_at(place.x(), place.y() + 500) is None
    tree.clicked.emit(wanted)
    assert viewer.dims.current_step[0] == 5
    assert widget.scene.picked[-1] == wanted
    assert linked.layer.selected_label == 2


@pytest.mark.gui
def test_events_are_gone_through_and_struck_off(linked: Any) -> None:
    widget, viewer = linked.widget, linked.viewer
    assert [e.kind for e in widget.checking.events] == ["gap"]
    viewer.dims.set_point(0, 0)
    widget.checking.next.click()
    assert viewer.dims.current_step[0] == 4
    assert widget.scene.picked == (node(widget, 2, 2), node(widget, 4, 2))
    widget.checking.fine.click()
    assert widget.checking.table.rowCount() == 0
    assert widget.tabs.tabText(2) == "Check"


@pytest.mark.gui
def test_painting_keeps_the_lineage(linked: Any) -> None:
    widget, layer = linked.widget, linked.layer
    layer.visible = True
    linked.viewer.dims.set_point(0, 5)
    frame = layer.data[5].copy()
    frame[frame == 2] = 0
    square(frame, 30, 2, 7, 4)
    apply_mask(layer, frame, (5, slice(None), slice(None)))
    linked.qtbot.waitUntil(
        lambda: widget.scene.node_of(5, 7) is not None and not widget.runs.running,
        timeout=10_000,
    )
    assert widget.scene.node_of(5, 2) is None
    assert len(widget.scene.graph.divisions()) == 1


@pytest.mark.gui
def test_masks_of_another_type_are_followed(linked: Any, tmp_path: Path) -> None:
    widget, layer = linked.widget, linked.layer
    view = linked.viewer.layers["masks by track"]
    layer.visible = True
    linked.viewer.dims.set_point(0, 3)
    layer.data = layer.data.astype(np.uint32)  # Convert data type in napari's menu
    assert widget.scene.masks.data is layer.data
    frame = layer.data[3].copy()
    square(frame, 30, 50, 70_000, 4)
    apply_mask(layer, frame, (3, slice(None), slice(None)))
    linked.qtbot.waitUntil(
        lambda: widget.scene.node_of(3, 70_000) is not None and not widget.runs.running,
        timeout=10_000,
    )
    assert len(widget.scene.graph.divisions()) == 1
    new = widget.scene.graph.track_ids()[node(widget, 3, 70_000)]
    assert np.asarray(view.data[3])[31, 51] == new
    widget.saving.save_result(tmp_path / "01_RES")
    linked.qtbot.waitUntil(
        lambda: "01_RES" in widget.saving.where.text(), timeout=20_000
    )
    rows = read_track_table(tmp_path / "01_RES" / "res_track.txt")
    assert tuple(rows) == widget.scene.graph.rows()


@pytest.mark.gui
def test_masks_of_another_array_are_read_before_they_are_linked(linked: Any) -> None:
    widget, layer = linked.widget, linked.layer
    other = layer.data.copy()
    square(other[-1], 30, 50, 70, 4)  # in a frame that is not shown
    assert widget.scene.frame != len(other) - 1
    layer.data = other
    widget.linking.link.click()
    wait_for(widget, linked.qtbot)
    assert widget.scene.node_of(len(other) - 1, 70) is not None
    assert not widget.scene.stale


@pytest.mark.gui
def test_what_is_saved_can_be_read_again(linked: Any, tmp_path: Path) -> None:
    widget = linked.widget
    widget.saving.save_result(tmp_path / "01_RES")
    linked.qtbot.waitUntil(
        lambda: widget.saving.where.text() != "" or "01_RES:" in widget.message.text(),
        timeout=20_000,
    )
    rows = read_track_table(tmp_path / "01_RES" / "res_track.txt")
    assert tuple(rows) == widget.scene.graph.rows()
    widget.saving.save_csv(tmp_path / "tracks.csv")
    table = from_csv((tmp_path / "tracks.csv").read_text())
    assert table.rows() == widget.scene.graph.rows()
    widget.saving.save_csv(tmp_path / "nowhere" / "tracks.csv")
    assert str(tmp_path / "nowhere") in widget.message.text()
    square(linked.layer.data[0], 30, 50, 9)  # behind napari's back
    widget.saving.save_result(tmp_path / "02_RES")
    linked.qtbot.waitUntil(
        lambda: "masks of frame 0 have changed" in widget.message.text(),
        timeout=20_000,
    )
    assert not (tmp_path / "02_RES").exists()
    pytest.importorskip("geff")
    widget.saving.save_geff(tmp_path / "tracks.geff")
    assert (tmp_path / "tracks.geff").is_dir()


@pytest.mark.gui
def test_a_lineage_is_taken_from_a_tracks_layer(linked: Any) -> None:
    widget = linked.widget
    before = pairs(widget.scene.graph)
    widget.scene.select((node(widget, 1, 1),))
    widget.editing.edit("Cut")
    other = linked.viewer.layers["masks tracks"]
    assert len(pairs(widget.scene.graph)) == len(before) - 1
    widget.linking.tracks.choose(other)
    widget.linking.take.click()
    wait_for(widget, linked.qtbot)
    assert len(pairs(widget.scene.graph)) == len(before) - 1
    assert widget.editing.undo.text() == "Undo"
    assert other.visible


@pytest.mark.gui
def test_a_tracks_layer_that_was_taken_from_stays_and_is_hidden(linked: Any) -> None:
    from napari.layers import Layer

    widget, viewer = linked.widget, linked.viewer
    ours = viewer.layers["masks tracks"]
    opened = viewer.add_layer(Layer.create(*ours.as_layer_data_tuple()))
    before, graph = opened.data.copy(), pairs(widget.scene.graph)
    widget.linking.tracks.choose(opened)
    widget.linking.take.click()
    wait_for(widget, linked.qtbot)
    assert pairs(widget.scene.graph) == graph
    assert (ours.visible, opened.visible) == (True, False)
    np.testing.assert_array_equal(opened.data, before)


@pytest.mark.gui
def test_cancelling_changes_nothing_and_closing_leaves_no_mark(linked: Any) -> None:
    widget, viewer = linked.widget, linked.viewer
    graph = widget.scene.graph
    widget.scene.cells = None
    widget.linking.link.click()
    widget.linking.cancel.click()
    time.sleep(0.05)
    linked.qtbot.wait(50)
    assert not widget.runs.running
    assert widget.scene.graph is graph
    widget.scene.select((0,))
    callbacks = len(viewer.mouse_drag_callbacks)
    viewer.window.remove_dock_widget(widget)
    widget.deleteLater()
    linked.qtbot.waitUntil(
        lambda: len(viewer.mouse_drag_callbacks) < callbacks, timeout=5000
    )
    assert "picked cells" not in viewer.layers
    assert "masks tracks" in viewer.layers
    linked.layer.undo()


@pytest.mark.gui
def test_without_masks_it_says_so(make_napari_viewer: Any) -> None:
    from medseg.napari_plugin.widgets.track import TrackWidget

    viewer = make_napari_viewer(strict_qt=True)
    widget = TrackWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Track")
    assert "Open a movie" in widget.message.text()
    assert not widget.linking.link.isEnabled()
    widget.editing.edit("Cut")
    assert "no lineage" in widget.message.text()
    assert not widget.linking.take.isEnabled()


@pytest.mark.gui
def test_numbers_that_do_not_fit_and_a_locked_layer_are_said(linked: Any) -> None:
    widget, layer = linked.widget, linked.layer
    layer.editable = False
    widget.runs.number()
    linked.qtbot.waitUntil(lambda: not widget.runs.running, timeout=20_000)
    assert "not editable" in widget.message.text()
    np.testing.assert_array_equal(layer.data, dividing_movie())


@pytest.mark.gui
def test_nothing_is_edited_while_a_run_goes_on(linked: Any) -> None:
    widget = linked.widget
    before = pairs(widget.scene.graph)
    widget.linking.link.click()
    widget.scene.select((node(widget, 1, 1),))
    widget.editing.edit("Cut")
    assert "a run is going on" in widget.message.text()
    wait_for(widget, linked.qtbot)
    assert pairs(widget.scene.graph) == before


@pytest.mark.gui
def test_masks_without_a_cell_are_said(make_napari_viewer: Any, qtbot: Any) -> None:
    from medseg.napari_plugin.widgets.track import TrackWidget

    viewer = make_napari_viewer(strict_qt=True)
    viewer.add_labels(np.zeros((3, 20, 20), np.uint8))
    widget = TrackWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Track")
    widget.linking.link.click()
    wait_for(widget, qtbot)
    assert "no cells" in widget.message.text()
    assert widget.scene.graph is None


def test_a_dot_in_a_folder_is_no_suffix(monkeypatch: pytest.MonkeyPatch) -> None:
    from medseg.napari_plugin.beside import result_folder
    from medseg.napari_plugin.widgets import controls

    answers = iter(["/out/result", "/out/table", ""])
    monkeypatch.setattr(
        controls.QFileDialog, "getSaveFileName", lambda *words: (next(answers), "")
    )
    start = str(result_folder("/home/j.doe/01"))
    assert start == str(Path("/home/j.doe/01_RES"))
    assert controls.ask_file(None, "", start, "Folder (*)") == "/out/result"
    assert controls.ask_file(None, "", "t.csv", "Table (*.csv)") == "/out/table.csv"
    assert controls.ask_file(None, "", "t.csv", "Table (*.csv)") == ""
    assert result_folder("movie.tif") == Path("movie_RES")


@pytest.mark.gui
def test_strokes_while_a_result_is_written_stay_unsaved(
    linked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.napari_plugin.unsaved import keeper_of
    from medseg.napari_plugin.widgets import track_save

    layer, widget = linked.layer, linked.widget
    keeper = keeper_of(linked.viewer)
    keeper.look(layer)
    begun: list[Any] = []
    monkeypatch.setattr(track_save, "in_thread", lambda *work: begun.append(work))
    for painted in (True, False):
        widget.saving.save_result(tmp_path / "01_RES")
        work, then, _ = begun.pop()
        found = work()
        if painted:
            layer.data_setitem((np.array([5]), np.array([0]), np.array([0])), 0)
            layer.data_setitem((np.array([5]), np.array([0]), np.array([0])), 9)
            layer.undo()
        then(found)
        assert (keeper.unsaved == [layer]) is painted
    widget.saving.let_go()
    widget.saving.save_result(tmp_path / "01_RES")
    _, then, failed = begun.pop()
    then(found)  # the widget is gone: only napari is told
    failed(ConfigError("01_RES", "is full"))
    assert widget.saving._writing
    keeper.stop(keep=False)

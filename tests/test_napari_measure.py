"""Measure: tables that know their objects, and the lines of a chest film."""

from __future__ import annotations

import csv
import math
from inspect import isgenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medseg.errors import ConfigError
from medseg.geometry import Geometry
from medseg.labels import Label, LabelSet, chest_labels
from medseg.lineage import TrackRow
from medseg.measure.cells import measure_frame
from medseg.measure.chest import measure
from medseg.segmentation import Segmentation

pytest.importorskip("napari")
from napari.components import ViewerModel

from medseg.napari_plugin.chest_lines import ChestLines, with_lines
from medseg.napari_plugin.layers import facts, segmentation_layers
from medseg.napari_plugin.measuring import (
    MeasureJob,
    features_of,
    is_chest,
    is_movie,
    locate,
)
from medseg.napari_plugin.movie_job import JobCancelledError
from medseg.napari_plugin.movies import movie_mask_layer, nodes_of, tracks_layer


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSEG_STATE", str(tmp_path / "state"))


def cells() -> np.ndarray:
    """A square of 9 pixels (label 2) and one of 16 (label 5)."""
    mask = np.zeros((20, 30), np.uint8)
    mask[2:5, 3:6] = 2
    mask[10:14, 20:24] = 5
    return mask


def movie() -> np.ndarray:
    """Three frames: label 1 moves by 2 a frame, then 2 and 3 are there."""
    masks = np.zeros((3, 20, 30), np.uint8)
    masks[0, 4:8, 4:8] = 1
    masks[1, 4:8, 6:10] = 1
    masks[2, 3:5, 6:10] = 2
    masks[2, 7:9, 6:10] = 3
    return masks


ROWS = [TrackRow(1, 0, 1), TrackRow(2, 2, 2, 1), TrackRow(3, 2, 2, 1)]


def add_movie(viewer: Any, geometry: Geometry | None = None) -> tuple[Any, Any]:
    geometry, masks = geometry or Geometry.pixels(2), movie()
    data, keywords, _ = movie_mask_layer(masks, "cells", geometry, range(3), path="/m")
    layer = viewer.add_labels(data, **keywords)
    nodes = [n for t, m in enumerate(masks) for n in nodes_of(t, m)]
    points, own, _ = tracks_layer(ROWS, nodes, "tracks", geometry, (20, 30), "/m")
    return layer, viewer.add_tracks(points, **own)


def chest(unit: bool, kind: str = "overlapping", heart: bool = True) -> Segmentation:
    """Lungs of 10 x 10 and 10 x 12, 6 apart; a heart 14 wide between them."""
    mask = np.zeros((3, 30, 50), np.uint8)
    mask[0, 5:15, 5:15] = 1
    mask[1, 5:15, 21:33] = 1
    if heart:
        mask[2, 16:22, 10:24] = 1
    geometry = Geometry.upright((0.5, 0.5)) if unit else Geometry.pixels(2)
    labels = LabelSet(chest_labels().labels[:3], kind)
    if kind == "exclusive":
        mask = (mask * np.array([1, 2, 3])[:, None, None]).sum(0).astype(np.uint8)
    return Segmentation(mask, labels, geometry)


def add_chest(viewer: Any, seg: Segmentation) -> list[Any]:
    return [viewer.add_labels(d, **k) for d, k, _ in segmentation_layers(seg, "film")]


# Without a window


def test_one_image_gives_the_rows_of_the_library() -> None:
    viewer = ViewerModel()
    layer = viewer.add_labels(cells())
    assert not is_movie(layer)
    found = MeasureJob(layer).run()
    assert list(found.cells) == measure_frame(cells())
    assert [r["area_px"] for r in found.cells] == [9, 16]
    assert "area_um2" not in found.columns("cells")
    assert locate(found, "cells", found.cells[1]) == (0, 5)
    features = features_of(found)
    assert features["index"] == [2, 5]
    assert features["area_px"] == [9, 16]


def test_intensities_are_of_the_image() -> None:
    viewer = ViewerModel()
    layer = viewer.add_labels(cells())
    image = viewer.add_image(np.where(cells() > 0, 7.0, 1.0))
    found = MeasureJob(layer, image).run()
    assert [r["intensity_mean"] for r in found.cells] == [7, 7]
    assert [r["background"] for r in found.cells] == [1, 1]


def test_a_movie_gives_cells_tracks_and_counts() -> None:
    viewer = ViewerModel()
    layer, tracks = add_movie(viewer)
    assert is_movie(layer)
    found = MeasureJob(layer, None, tracks, movie=True).run()
    assert len(found.cells) == 4
    assert [r["cells"] for r in found.counts] == [1, 1, 2]
    assert [r["divisions"] for r in found.counts] == [0, 0, 1]
    assert found.tracks[0]["daughters"] == "2 3"
    assert found.tracks[0]["mean_speed_px_per_frame"] == 2
    assert locate(found, "tracks", found.tracks[2]) == (2, 3)
    assert locate(found, "counts", found.counts[1]) == (1, 1)
    features = features_of(found)
    assert features["frames"] == [2, 1, 1]
    assert features["area_px_mean"] == [16, 8, 8]
    # The numbers alone know of no division.
    alone = MeasureJob(layer, movie=True).run()
    assert sum(r["divisions"] for r in alone.counts) == 0
    assert alone.note == ""


def test_micrometres_only_where_the_spacing_is_real() -> None:
    viewer = ViewerModel()
    layer, tracks = add_movie(viewer, Geometry.upright((0.001, 0.001)))
    found = MeasureJob(layer, None, tracks, movie=True, frame_interval=60.0).run()
    assert found.cells[0]["area_um2"] == pytest.approx(16)
    assert found.tracks[0]["mean_speed_um_per_min"] == pytest.approx(2)
    plain, _ = add_movie(ViewerModel())
    found = MeasureJob(plain, movie=True, frame_interval=60.0).run()
    assert "area_um2" not in found.columns("cells")
    assert "mean_speed_um_per_min" not in found.columns("tracks")


def test_numbers_that_do_not_follow_cells_are_noticed() -> None:
    masks = np.zeros((4, 20, 60), np.uint8)
    for t in range(4):  # two cells that stand still and swap their numbers
        masks[t, 4:8, 4:8] = 1 + t % 2
        masks[t, 4:8, 50:54] = 2 - t % 2
    found = MeasureJob(ViewerModel().add_labels(masks), movie=True).run()
    assert "link the movie in Track" in found.note


def test_a_job_ends_when_cancelled_and_returns_what_is_wrong() -> None:
    layer, _ = add_movie(ViewerModel())
    job = MeasureJob(layer, movie=True)
    job.cancel()
    with pytest.raises(JobCancelledError):
        job.run()
    small = ViewerModel().add_image(np.zeros((4, 4)))
    mask = ViewerModel().add_labels(cells())
    with pytest.raises(ConfigError):
        MeasureJob(mask, small).run()


def test_lines_make_the_ratio_and_areas_stay() -> None:
    found = measure(chest(unit=True))
    assert found.ctr == pytest.approx(14 / 28)
    heart = found.heart_line._replace(end=(found.heart_line.end[0], 30.5))
    moved = with_lines(found, heart, found.thorax_line)
    assert moved.heart_width == pytest.approx(21 * 0.5)
    assert moved.ctr == pytest.approx(21 / 28)
    assert moved.heart_area == found.heart_area
    point = found.thorax_line._replace(end=found.thorax_line.start)
    assert math.isnan(with_lines(found, heart, point).ctr)


@pytest.mark.parametrize("kind", ["overlapping", "exclusive"])
def test_chest_masks_are_told_from_cells(kind: str) -> None:
    viewer = ViewerModel()
    assert all(is_chest(x) for x in add_chest(viewer, chest(True, kind)))
    assert not is_chest(viewer.add_labels(cells()))
    layer, _ = add_movie(viewer)
    assert not is_chest(layer)
    other = Segmentation(
        cells(), LabelSet((Label(2, "liver", "#ffffff"),)), Geometry.pixels(2)
    )
    [(data, keywords, _)] = segmentation_layers(other, "x")
    assert not is_chest(viewer.add_labels(data, **keywords))


def test_dragging_is_live_and_lines_are_level_in_the_end() -> None:
    viewer = ViewerModel()
    [layer, *_] = add_chest(viewer, chest(unit=True))
    lines = ChestLines(viewer)
    told: list[float] = []
    lines.changed.connect(lambda m: told.append(m.ctr))
    found = measure(chest(unit=True))
    assert lines.show(found, layer)
    heart, thorax = (np.array(x) for x in lines.layer.data)
    np.testing.assert_allclose(heart[:, 1], [9.5, 23.5])
    heart[1] += (3, 7)  # one end is dragged, also down
    lines.layer.data = [heart, thorax]
    assert told[-1] == pytest.approx(21 / 28)
    assert lines.moved
    now = np.array(lines.layer.data[0])
    assert now[0, 0] == now[1, 0] == pytest.approx(heart[1, 0])
    lines.reset()
    assert told[-1] == pytest.approx(0.5)
    assert not lines.moved
    np.testing.assert_allclose(lines.layer.data[0][:, 1], [9.5, 23.5])
    lines.layer.selected_data = {0}
    lines.layer.remove_selected()  # a line cannot be lost
    assert len(lines.layer.data) == 2
    assert lines.measurement.ctr == pytest.approx(0.5)
    lines.close()
    assert "cardiothoracic ratio" not in viewer.layers


def test_without_a_heart_there_are_no_lines() -> None:
    viewer = ViewerModel()
    seg = chest(unit=False, heart=False)
    [layer, *_] = add_chest(viewer, seg)
    lines = ChestLines(viewer)
    assert not lines.show(measure(seg), layer)
    assert lines.layer is None
    lines.reset()


# With a window


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    return make_napari_viewer(strict_qt=True)


def open_widget(viewer: Any) -> Any:
    from medseg.napari_plugin.widgets.measure import MeasureWidget

    widget = MeasureWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Measure")
    return widget


def run(widget: Any, qtbot: Any) -> None:
    widget.measure()
    qtbot.waitUntil(lambda: not widget.running, timeout=20_000)


@pytest.mark.gui
def test_rows_and_objects_find_each_other(viewer: Any, qtbot: Any) -> None:
    layer, _ = add_movie(viewer)
    widget = open_widget(viewer)
    assert widget.cells.with_tracks.isChecked()
    run(widget, qtbot)
    table = widget.cells.table
    assert table.rows.rowCount() == 4
    table.selectRow(3)
    assert layer.selected_label == 3
    assert viewer.dims.current_step[0] == 2
    mark = viewer.layers["measured object"]
    np.testing.assert_allclose(mark.data, [[2, 7.5, 7.5]])
    click = SimpleNamespace(position=(1, 5, 7), dims_displayed=[1, 2])
    widget.cells.picker.pick(click)
    assert table.row["frame"] == 1
    assert layer.selected_label == 1
    widget.cells.name.setCurrentIndex(1)
    assert table.rows.rowCount() == 3
    widget.cells.picker.pick(SimpleNamespace(position=(2, 4, 7), dims_displayed=[1, 2]))
    assert table.row["track"] == 2
    widget.cells.name.setCurrentIndex(2)
    table.selectRow(0)
    assert viewer.dims.current_step[0] == 0
    assert list(layer.features["frames"]) == [2, 1, 1]


@pytest.mark.gui
def test_the_table_sorts_with_empty_values_last(viewer: Any, qtbot: Any) -> None:
    from qtpy.QtCore import Qt

    add_movie(viewer)
    widget = open_widget(viewer)
    run(widget, qtbot)
    rows = widget.cells.table.rows
    column = rows.columns.index("speed_px_per_frame")
    for order in (Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder):
        rows.sort(column, order)
        values = [r["speed_px_per_frame"] for r in rows.rows]
        assert values == [2.0, None, None, None]
    rows.sort(rows.columns.index("area_px"), Qt.SortOrder.DescendingOrder)
    assert [r["area_px"] for r in rows.rows] == [16, 16, 8, 8]
    rows.sort(99)


@pytest.mark.gui
def test_what_is_shown_is_saved(viewer: Any, qtbot: Any, tmp_path: Path) -> None:
    add_movie(viewer)
    widget = open_widget(viewer)
    run(widget, qtbot)
    widget.cells.name.setCurrentIndex(1)
    widget.save_csv(tmp_path / "tracks.csv")
    with (tmp_path / "tracks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["track"] for r in rows] == ["1", "2", "3"]
    assert [r["parent"] for r in rows] == ["", "1", "1"]
    assert str(tmp_path / "tracks.csv") in widget.message.text()


@pytest.mark.gui
@pytest.mark.parametrize("unit", [True, False])
def test_a_film_is_measured_at_once_in_its_own_unit(
    viewer: Any, tmp_path: Path, unit: bool
) -> None:
    add_chest(viewer, chest(unit))
    widget = open_widget(viewer)
    form = widget.film
    assert form.ratio.text() == "0.500"
    area = form.values["right_lung_area"].text()
    assert area == ("25 mm²" if unit else "100 px")
    assert ("no spacing" in form.units.text()) is not unit
    lines = widget.film.lines.layer
    heart, thorax = (np.array(x) for x in lines.data)
    thorax[0, 1] -= 7
    lines.data = [heart, thorax]
    assert form.ratio.text() == "0.400"
    assert "by hand" in form.origin.text()
    widget.save_csv(tmp_path / "film.csv")
    with (tmp_path / "film.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    assert float(row["ctr"]) == 0.4
    assert row["lines"] == "moved by hand"
    assert (row["heart_width_mm"] == "") is not unit
    form.reset.click()
    assert form.ratio.text() == "0.500"


@pytest.mark.gui
def test_a_mended_mask_is_measured_again(viewer: Any, qtbot: Any) -> None:
    from medseg.napari_plugin.history import apply_mask

    layers = add_chest(viewer, chest(unit=True))
    widget = open_widget(viewer)
    heart = next(x for x in layers if x.metadata["medseg"]["structure"] == "heart")
    wider = heart.data.copy()
    wider[16:22, 10:31] = 1
    apply_mask(heart, wider)
    qtbot.waitUntil(lambda: widget.film.ratio.text() == "0.750", timeout=5000)


@pytest.mark.gui
@pytest.mark.parametrize("how", ["emptied", "removed"])
def test_a_heart_that_is_gone_has_no_ratio(
    viewer: Any, qtbot: Any, tmp_path: Path, how: str
) -> None:
    from medseg.napari_plugin.history import apply_mask

    layers = add_chest(viewer, chest(unit=True))
    widget = open_widget(viewer)
    heart = next(x for x in layers if x.metadata["medseg"]["structure"] == "heart")
    viewer.layers.selection.active = widget.film.lines.layer  # as it is when drawn
    if how == "emptied":
        apply_mask(heart, np.zeros_like(heart.data))
    else:
        viewer.layers.remove(heart)
    qtbot.waitUntil(lambda: widget.film.ratio.text() == "undefined", timeout=5000)
    assert widget.film.lines.layer is None
    assert widget.film.values["heart_area"].text() == "not there"
    assert "heart" in widget.message.text()
    widget.save_csv(tmp_path / "film.csv")
    with (tmp_path / "film.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    assert (row["ctr"], row["heart_width_mm"]) == ("", "")
    assert float(row["right_lung_area_mm2"]) == 25


@pytest.mark.gui
def test_a_mask_that_cannot_be_measured_shows_and_saves_no_numbers(
    viewer: Any, tmp_path: Path
) -> None:
    layers = add_chest(viewer, chest(unit=True))
    widget = open_widget(viewer)
    assert widget.film.ratio.text() == "0.500"
    layers[0].translate = (3, 0)  # a structure that lies elsewhere
    widget.film.again.click()
    assert "grid" in widget.message.text()
    assert widget.film.ratio.text() == ""
    assert {value.text() for value in widget.film.values.values()} == {""}
    widget.save_csv(tmp_path / "film.csv")
    assert not (tmp_path / "film.csv").exists()
    layers[0].translate = (0, 0)
    widget.film.again.click()
    assert widget.film.ratio.text() == "0.500"


@pytest.mark.gui
def test_lines_can_be_dragged_with_the_mouse(viewer: Any, qtbot: Any) -> None:
    add_chest(viewer, chest(unit=False))
    widget = open_widget(viewer)
    layer = widget.film.lines.layer
    assert str(layer.mode) == "direct"
    assert viewer.layers.selection.active is layer
    (y, x) = layer.data[0][1]

    def event(kind: str, place: tuple[float, float]) -> SimpleNamespace:
        return SimpleNamespace(
            type=kind,
            position=place,
            pos=place,
            button=1,
            modifiers=(),
            dims_displayed=[0, 1],
            view_direction=None,
            handled=False,
            is_dragging=kind == "mouse_move",
            up_direction=None,
        )

    now = event("mouse_press", (y, x))
    callbacks = [callback(layer, now) for callback in layer.mouse_drag_callbacks]
    for drag in filter(isgenerator, callbacks):  # others are done when pressed
        next(drag)
        for step in (3.0, 7.0):
            vars(now).update(vars(event("mouse_move", (y + 1, x + step))))
            next(drag)
        vars(now).update(vars(event("mouse_release", (y + 1, x + 7))))
        next(drag, None)
    assert widget.film.ratio.text() == "0.750"
    assert len(layer.data) == 2
    assert layer.data[0][0, 0] == layer.data[0][1, 0]


@pytest.mark.gui
def test_closing_removes_what_the_widget_owns(viewer: Any, qtbot: Any) -> None:
    add_chest(viewer, chest(unit=True))
    widget = open_widget(viewer)
    assert "cardiothoracic ratio" in viewer.layers
    before = len(viewer.mouse_drag_callbacks)
    viewer.window.remove_dock_widget(widget)
    widget.deleteLater()
    qtbot.waitUntil(lambda: "cardiothoracic ratio" not in viewer.layers, timeout=5000)
    assert len(viewer.mouse_drag_callbacks) == before - 1


@pytest.mark.gui
def test_without_a_mask_it_says_so(viewer: Any) -> None:
    widget = open_widget(viewer)
    assert "Open a mask" in widget.message.text()
    widget.measure()
    widget.save_csv("never.csv")
    assert not Path("never.csv").exists()


@pytest.mark.gui
def test_structures_that_come_later_belong_to_the_film(viewer: Any, qtbot: Any) -> None:
    widget = open_widget(viewer)
    layers = add_chest(viewer, chest(unit=True))  # one after the other
    qtbot.waitUntil(lambda: widget.film.ratio.text() == "0.500", timeout=5000)
    assert widget.masks.count() == 1  # not one for each structure
    assert widget.masks.currentText() == "film: all structures"
    viewer.layers.remove(layers[2])
    qtbot.waitUntil(lambda: widget.film.ratio.text() == "undefined", timeout=5000)


@pytest.mark.gui
def test_who_paints_goes_on_painting_and_undo_is_measured(
    viewer: Any, qtbot: Any
) -> None:
    from medseg.napari_plugin.history import apply_mask

    layers = add_chest(viewer, chest(unit=True))
    widget = open_widget(viewer)
    heart = next(x for x in layers if x.metadata["medseg"]["structure"] == "heart")
    viewer.layers.selection.active = heart
    wider = heart.data.copy()
    wider[16:22, 10:31] = 1
    apply_mask(heart, wider)
    qtbot.waitUntil(lambda: widget.film.ratio.text() == "0.750", timeout=5000)
    assert viewer.layers.selection.active is heart
    heart.undo()
    qtbot.waitUntil(lambda: widget.film.ratio.text() == "0.500", timeout=5000)


@pytest.mark.gui
def test_the_ring_is_as_large_as_its_object(viewer: Any, qtbot: Any) -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[2:4, 2:4], mask[20:50, 20:50] = 1, 2
    viewer.add_labels(mask, translate=(7, 0))
    widget = open_widget(viewer)
    run(widget, qtbot)
    sizes = []
    for label in (1, 2, 1):
        widget.cells.show_object(0, label)
        ring = viewer.layers["measured object"]
        sizes.append(float(np.asarray(ring.size).max()))
    assert sizes == pytest.approx([5, 47, 5])
    np.testing.assert_array_equal(ring.translate, (7, 0))


def test_a_stack_without_facts_may_be_a_movie() -> None:
    from medseg.napari_plugin import _commands
    from medseg.napari_plugin.measuring import is_open

    viewer = ViewerModel()
    viewer.add_image(np.zeros((3, 8, 9), np.uint8))
    _commands.new_mask(viewer)
    mask = viewer.layers[-1]
    assert is_movie(mask)
    assert is_open(mask)
    mask.metadata = facts(Geometry.pixels(3))  # a TIFF that does not say
    assert is_open(mask)
    mask.metadata = facts(Geometry.upright((1.0, 1.0, 1.0)))
    assert not is_open(mask)
    layer, _ = add_movie(viewer)
    assert is_movie(layer)
    assert not is_open(layer)

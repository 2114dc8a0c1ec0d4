"""The Segment widget: what is run, where results go, and what is never overwritten.

The worker is a stand-in that answers at once; tests/test_napari_worker.py has the
real one.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari")

from medseg.errors import ConfigError, ModelError
from medseg.geometry import Geometry
from medseg.labels import Label, LabelSet
from medseg.napari_plugin._settings import Settings
from medseg.napari_plugin.layers import facts, facts_of
from medseg.napari_plugin.layers_to_mask import segmentation_from_layers
from medseg.napari_plugin.models import ModelInfo, find_models, read_model
from medseg.napari_plugin.results import Results, targets
from medseg.napari_plugin.scope import position, select
from medseg.napari_plugin.unsaved import keeper_of
from medseg.napari_plugin.widgets import segment
from medseg.napari_plugin.widgets.segment import SegmentWidget
from medseg.napari_plugin.worker.job import (
    Cancelled,
    Done,
    Failed,
    Item,
    Job,
    Opened,
    Progress,
    Stack,
)
from medseg.napari_plugin.worker.protocol import Devices, Options

pytestmark = pytest.mark.gui
PAIR = (Label(1, "lung", "#4c9be8"), Label(2, "heart", "#e0524d"))
OVERLAPPING = LabelSet(PAIR, "overlapping")
EXCLUSIVE = LabelSet(PAIR, "exclusive")
CELLS = LabelSet((Label(1, "cell", "#4c9be8"),), "instances")
PROVENANCE = {"model": "bright", "input_sha256": "abc"}


class Bright:
    """A worker whose model finds what is above 0 (and its negative)."""

    def __init__(self, labels: LabelSet = OVERLAPPING) -> None:
        self.labels, self.devices = labels, Devices("OpenVINO", "A card")
        self.jobs: list[Job] = []
        self.warmed: list[str] = []
        self.hold = False
        self._numbers = itertools.count(1)

    def warm(self, model: str, options: Options) -> None:
        self.warmed.append(model)

    def predict(self, stack: Stack, model: str, options: Options) -> Job:
        job = Job(next(self._numbers), stack, model, options, self._cancel)
        self.jobs.append(job)
        job.tell(
            Opened(self.labels, "openvino", "cpu", stack.count, {"model": "bright"})
        )
        for index in range(1 if self.hold else stack.count):
            self.answer(job, index)
        if not self.hold:
            job.tell(Done(PROVENANCE))
        return job

    def answer(self, job: Job, index: int) -> None:
        assert isinstance(job.image, Stack)
        pixels = job.image.read(index)
        assert pixels.shape == job.image.shape
        on = pixels[0] > 0
        mask = on.astype(np.int32 if self.labels.kind == "instances" else np.uint8)
        two = np.stack([mask, 1 - mask])
        maps = np.stack([mask, 1 - mask, mask]).astype(np.float32)
        overlapping = self.labels.kind == "overlapping"
        job.tell(
            Item(
                index,
                two if overlapping else mask,
                maps if job.options.probabilities else None,
                on.astype(np.float32) if job.options.uncertainty else None,
            )
        )
        job.tell(Progress((index + 1) / job.image.count, 1.0))

    @staticmethod
    def _cancel(job: Job) -> None:
        job.tell(Cancelled())


@pytest.fixture
def stack() -> np.ndarray:
    pixels = np.zeros((4, 6, 5), np.uint16)
    for z in range(4):
        pixels[z, z : z + 2, 1:4] = z + 1
    return pixels


@pytest.fixture
def opened(
    make_napari_viewer: Any, stack: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[Any, SegmentWidget, Bright]]]:
    def open_widget(labels: LabelSet = OVERLAPPING, pixels: Any = None) -> Any:
        viewer = make_napari_viewer(strict_qt=True)
        viewer.add_image(stack if pixels is None else pixels, name="film")
        worker = Bright(labels)
        widget = SegmentWidget(viewer, worker)  # type: ignore[arg-type]
        viewer.window.add_dock_widget(widget, name="Segment")
        widget._models = [ModelInfo("bright", "bright", labels, 2, mirrors=True)]
        widget.form.set_models(widget._models)
        widget._model_changed()
        return viewer, widget, worker

    return open_widget


def run(widget: SegmentWidget, scope: str = "all") -> None:
    widget.form.scope.setCurrentIndex(widget.form.scope.findData(scope))
    widget.run()
    drain(widget)


def drain(widget: SegmentWidget) -> None:
    for _ in range(1000):
        if not widget.running:
            return
        widget.work.poll()


def masks(viewer: Any) -> list[Any]:
    return [x for x in viewer.layers if facts_of(x).get("role") == "mask"]


def test_a_stack_becomes_a_layer_a_structure(opened: Any, stack: np.ndarray) -> None:
    viewer, widget, _worker = opened()
    run(widget)
    lung, heart = masks(viewer)
    assert [lung.name, heart.name] == ["lung (film)", "heart (film)"]
    np.testing.assert_array_equal(lung.data, stack > 0)
    np.testing.assert_array_equal(heart.data, stack == 0)
    assert facts_of(lung)["provenance"] == PROVENANCE
    np.testing.assert_allclose(lung.get_color(1)[:3], (0.298, 0.608, 0.910), atol=0.01)
    seg = segmentation_from_layers([lung, heart])
    assert seg.labels == OVERLAPPING
    assert seg.mask.shape == (2, 4, 6, 5)
    assert viewer.layers.selection.active is lung
    assert widget.form.message.text() == "Done: 4 slices."
    [doubt] = [x for x in viewer.layers if facts_of(x).get("role") == "uncertainty"]
    assert not doubt.visible
    np.testing.assert_array_equal(doubt.data, stack > 0)
    assert widget.form.image.count() == 1  # the map is not offered as an image


@pytest.mark.parametrize(
    ("labels", "name"), [(EXCLUSIVE, "mask (film)"), (CELLS, "cell (film)")]
)
def test_other_labels_share_a_layer(opened: Any, labels: LabelSet, name: str) -> None:
    viewer, widget, _ = opened(labels)
    widget.form.probabilities.setChecked(True)
    run(widget)
    [mask] = masks(viewer)
    assert mask.name == name
    maps = [x for x in viewer.layers if facts_of(x).get("role") == "probability"]
    assert len(maps) == len(labels)


def test_only_the_chosen_slices_are_run(opened: Any, stack: np.ndarray) -> None:
    viewer, widget, worker = opened()
    viewer.dims.set_current_step(0, 2)
    assert widget.form.where.text() == "Slice 2"
    run(widget, "slice")
    assert worker.jobs[-1].image.count == 1
    lung = masks(viewer)[0]
    np.testing.assert_array_equal(lung.data[2], stack[2] > 0)
    assert not lung.data[[0, 1, 3]].any()
    widget.form.first.setValue(0)
    widget.form.last.setValue(1)
    run(widget, "range")
    # Empty slices of the same masks are filled: no second set of layers.
    assert len(masks(viewer)) == 2
    np.testing.assert_array_equal(lung.data[:3], stack[:3] > 0)


def test_a_second_run_keeps_corrections_in_new_layers(opened: Any) -> None:
    viewer, widget, _ = opened()
    run(widget)
    lung = masks(viewer)[0]
    lung.data_setitem((np.array([0]), np.array([5]), np.array([4])), 1)
    kept = lung.data.copy()
    run(widget)
    assert len(masks(viewer)) == 4
    np.testing.assert_array_equal(lung.data, kept)


def test_replacing_is_one_undo_step_a_slice(opened: Any, stack: np.ndarray) -> None:
    viewer, widget, _ = opened()
    run(widget)
    lung = masks(viewer)[0]
    lung.data_setitem((np.array([3]), np.array([0]), np.array([0])), 1)
    kept = lung.data.copy()
    index = widget.form.existing.findData("replace")
    widget.form.existing.setCurrentIndex(index)
    run(widget)
    assert len(masks(viewer)) == 2
    np.testing.assert_array_equal(lung.data, stack > 0)
    lung.undo()
    np.testing.assert_array_equal(lung.data, kept)


def test_what_is_drawn_while_results_arrive_stays(opened: Any) -> None:
    viewer, widget, worker = opened()
    worker.hold = True
    widget.form.scope.setCurrentIndex(2)
    widget.run()
    for _ in range(10):
        widget.work.poll()
    lung = masks(viewer)[0]
    lung.data_setitem((np.array([2]), np.array([5]), np.array([0])), 1)
    for index in (1, 2, 3):
        worker.answer(worker.jobs[-1], index)
    worker.jobs[-1].tell(Done(PROVENANCE))
    drain(widget)
    assert lung.data[2].sum() == 1
    assert "1 slices left alone" in widget.form.message.text()


def test_cancel_keeps_what_has_arrived(opened: Any) -> None:
    viewer, widget, worker = opened()
    worker.hold = True
    widget.form.scope.setCurrentIndex(2)
    widget.run()
    for _ in range(10):
        widget.work.poll()
    assert widget.form.cancel.isEnabled()
    widget.cancel()
    drain(widget)
    assert widget.form.message.text().startswith("Cancelled")
    assert masks(viewer)[0].data[0].any()
    assert facts_of(masks(viewer)[0])["provenance"] == {"model": "bright"}
    assert widget.form.run.isEnabled()


def test_a_crash_is_a_message_and_the_next_run_works(opened: Any) -> None:
    _viewer, widget, worker = opened()
    worker.hold = True
    widget.run()
    widget.work.poll()
    worker.jobs[-1].tell(Failed("The worker ended (killed by SIGKILL).", crashed=True))
    drain(widget)
    assert "SIGKILL" in widget.form.message.text()
    worker.hold = False
    run(widget)
    assert widget.form.message.text().startswith("Done")


def test_the_layers_of_a_stack_are_there_before_the_model_runs(opened: Any) -> None:
    viewer, widget, worker = opened()
    worker.hold = True
    widget.form.probabilities.setChecked(True)
    widget.form.scope.setCurrentIndex(2)
    widget.run()
    made = []
    while not worker.jobs:
        widget.work.poll()
        made.append(len(viewer.layers) - 1)
    # Two structures, uncertainty, two probabilities: one in a turn, then the model.
    assert made[:5] == [1, 2, 3, 4, 5]
    assert set(made[5:]) == {5}
    before = list(viewer.layers)
    worker.jobs[-1].tell(Done(PROVENANCE))
    drain(widget)
    assert list(viewer.layers) == before
    assert [x.data.dtype for x in masks(viewer)] == [np.uint8, np.uint8]
    assert masks(viewer)[0].data[0].any()


def test_what_has_arrived_is_unsaved_before_the_run_ends(opened: Any) -> None:
    viewer, widget, worker = opened()
    keeper = keeper_of(viewer)
    worker.hold = True  # one slice of four
    run(widget)
    assert widget.running
    assert masks(viewer)[0].data.any()
    assert keeper.unsaved == masks(viewer)


@pytest.mark.parametrize("labels", [EXCLUSIVE, CELLS])
def test_prepared_layers_have_the_type_of_the_result(
    opened: Any, labels: LabelSet
) -> None:
    viewer, widget, _worker = opened(labels)
    run(widget, "slice")
    of_a_result = masks(viewer)[0].data.dtype
    run(widget)
    assert masks(viewer)[-1].data.dtype == of_a_result


def test_the_mask_is_selected_at_once_and_a_later_choice_stays(opened: Any) -> None:
    viewer, widget, worker = opened()
    worker.hold = True
    widget.form.scope.setCurrentIndex(2)
    widget.run()
    while not worker.jobs:
        widget.work.poll()
    first, second = masks(viewer)
    assert viewer.layers.selection.active is first
    viewer.layers.selection.active = second
    worker.jobs[-1].tell(Done(PROVENANCE))
    drain(widget)
    assert viewer.layers.selection.active is second
    worker.hold = False
    run(widget, "slice")  # of one image the layers are made of its result
    assert viewer.layers.selection.active in masks(viewer)


def test_cancelled_before_the_model_runs_nothing_is_left(opened: Any) -> None:
    viewer, widget, worker = opened()
    widget.form.scope.setCurrentIndex(2)
    widget.run()
    widget.work.poll()
    assert len(masks(viewer)) == 1
    widget.cancel()
    drain(widget)
    assert (masks(viewer), worker.jobs) == ([], [])
    assert widget.form.message.text().startswith("Cancelled")


def test_a_model_that_fails_leaves_what_was_drawn_and_no_empty_layer(
    opened: Any,
) -> None:
    viewer, widget, worker = opened()
    worker.hold = True
    worker.answer = lambda job, index: None
    widget.form.scope.setCurrentIndex(2)
    widget.run()
    while not worker.jobs:
        widget.work.poll()
    lung = masks(viewer)[0]
    lung.data_setitem((np.array([2]), np.array([5]), np.array([0])), 1)
    worker.jobs[-1].tell(Failed("The model cannot be read."))
    drain(widget)
    assert masks(viewer) == [lung]
    assert lung.data.sum() == 1


def test_a_run_without_results_keeps_the_earlier_provenance(opened: Any) -> None:
    viewer, widget, worker = opened()
    run(widget)
    worker.hold = True
    worker.answer = lambda job, index: None
    widget.form.existing.setCurrentIndex(widget.form.existing.findData("replace"))
    widget.run()
    widget.work.poll()
    worker.jobs[-1].tell(Failed("The model cannot be read."))
    drain(widget)
    assert facts_of(masks(viewer)[0])["provenance"] == PROVENANCE


def test_closing_the_viewer_cancels(opened: Any) -> None:
    viewer, widget, worker = opened()
    worker.hold = True
    widget.run()
    widget.work.poll()
    viewer.window.remove_dock_widget(widget)
    widget.deleteLater()
    from qtpy.QtCore import QCoreApplication, QEvent

    QCoreApplication.sendPostedEvents(widget, QEvent.Type.DeferredDelete)
    assert worker.jobs[-1].state == "cancelled"


def test_a_colour_film_has_three_channels(opened: Any) -> None:
    viewer, widget, worker = opened(pixels=np.ones((40, 50, 3), np.uint8))
    run(widget)
    assert worker.jobs[-1].image.shape == (3, 40, 50)
    assert masks(viewer)[0].data.shape == (40, 50)
    assert not widget.form.scope.isEnabled()
    assert "in colour and was seen in grey" in widget.form.message.text()
    colour = dataclasses.replace(widget._models[0], colour=True)
    widget._models = [colour]
    run(widget)
    assert widget.form.message.text() == "Done."


def test_the_image_selected_in_the_list_is_segmented(opened: Any) -> None:
    viewer, widget, _worker = opened()
    first = widget.image
    run(widget)
    assert widget.image is first  # its masks are no images
    second = viewer.add_image(np.ones((6, 5), np.uint8), name="second")
    assert widget.image is second
    viewer.layers.selection.active = first
    assert widget.image is first


def test_devices_are_named_and_the_model_is_warmed(opened: Any) -> None:
    _viewer, widget, worker = opened()
    texts = [widget.form.device.itemText(i) for i in range(widget.form.device.count())]
    assert texts == ["Auto (A card)", "A card", "Processor (OpenVINO)"]
    widget._warmed = True
    widget._model_changed()
    assert worker.warmed == ["bright"]
    assert widget.form.mirrors.isEnabled()


def test_every_control_has_a_tooltip(opened: Any) -> None:
    from qtpy.QtWidgets import QCheckBox, QComboBox, QPushButton, QSpinBox

    widget = opened()[1]
    kinds = (QCheckBox, QComboBox, QPushButton, QSpinBox)
    for kind in kinds:
        for child in widget.findChildren(kind):
            assert child.toolTip(), child


def test_a_model_for_volumes_refuses_a_film(opened: Any) -> None:
    _viewer, widget, _ = opened(pixels=np.ones((8, 7), np.uint8))
    widget._models = [ModelInfo("deep", "deep", OVERLAPPING, 3)]
    widget.form.set_models(widget._models)
    widget._model_changed()
    assert "the model needs 3" in widget.form.message.text()
    assert not widget.form.run.isEnabled()
    with pytest.raises(ConfigError, match="has 2 axes"):
        select(widget.image, 3, "all")


def test_the_tile_size_of_the_settings_goes_to_the_worker(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _viewer, widget, worker = opened()
    monkeypatch.setattr(segment, "settings", lambda: Settings(tile_size=256))
    run(widget)
    assert worker.jobs[-1].options.tile_size == 256


# Without a widget


def test_the_first_mask_imports_nothing_in_the_window() -> None:
    code = (
        "import sys, numpy as np\n"
        "from napari.layers import Labels\n"
        "from medseg.napari_plugin.results import import_for_layers\n"
        "import_for_layers()\n"
        "known = set(sys.modules)\n"
        "Labels(np.zeros((2, 3, 4), np.uint8), colormap={None: 'red', 1: 'red'})\n"
        "assert 'pandas' in known and 'torch' not in known\n"
        "assert set(sys.modules) == known, set(sys.modules) - known\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_a_movie_is_told_from_a_volume(make_napari_viewer: Any) -> None:
    pixels = np.zeros((3, 4, 5), np.uint8)
    layer = make_napari_viewer().add_image(pixels)
    stack = select(layer, 2, "all").stack
    assert (stack.number_on, stack.movie) == (True, False)
    layer.metadata = facts(Geometry.pixels(2), frames=(0, 1, 2))
    stack = select(layer, 2, "all").stack
    assert (stack.number_on, stack.movie) == (False, True)


def test_a_range_outside_the_layer_is_refused(opened: Any) -> None:
    widget = opened()[1]
    with pytest.raises(ConfigError, match="range 2 to 4 is not in 0 to 3"):
        select(widget.image, 2, "range", span=(2, 4))


def test_the_position_counts_array_steps_not_millimetres(
    make_napari_viewer: Any, stack: np.ndarray
) -> None:
    viewer = make_napari_viewer()
    layer = viewer.add_image(stack, scale=(2.5, 1, 1), translate=(-10, 0, 0))
    viewer.dims.set_current_step(0, 3)
    assert position(layer, viewer)[0] == 3


def test_planes_of_a_movie_of_volumes_go_through_both_axes(
    make_napari_viewer: Any,
) -> None:
    pixels = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    layer = make_napari_viewer().add_image(pixels)
    planes = select(layer, 2, "all")
    assert planes.indices[4] == (1, 1)
    np.testing.assert_array_equal(planes.stack.read(4)[0], pixels[1, 1])
    assert planes.whole
    volumes = select(layer, 3, "range", span=(1, 1))
    assert volumes.stack.shape == (1, 3, 4, 5)
    assert not volumes.whole


def test_targets_leave_the_background_out() -> None:
    found = targets(EXCLUSIVE, True, True)
    assert [t.role for t in found] == ["mask", "uncertainty", *["probability"] * 2]
    assert [t.channel for t in found[2:]] == [1, 2]
    assert [t.channel for t in targets(CELLS, True, False, 0)] == [None, 0]


def test_the_shipped_models_are_offered_without_torch() -> None:
    names = [model.name for model in find_models()]
    assert names[:2] == ["chest-xray", "chest-xray-open"]
    assert "heart" in find_models()[0].tooltip


def test_a_folder_of_models_is_searched_and_bad_ones_left_out(tmp_path: Path) -> None:
    shipped = Path(str(resources.files("medseg"))) / "models"
    spec = json.loads((shipped / "chest-xray/model.json").read_text())
    for name in ("mine", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine/model.json").write_text(json.dumps({**spec, "name": "mine"}))
    (tmp_path / "broken/model.json").write_text("{}")
    assert find_models(tmp_path)[-1].name == "mine"
    assert find_models(tmp_path)[-1].source == str(tmp_path / "mine")
    with pytest.raises(ModelError, match="is no spec"):
        read_model(tmp_path / "broken")
    with pytest.raises(ModelError, match="cannot be read"):
        read_model(tmp_path)
    spec["labels"]["labels"][0]["value"] = 0
    (tmp_path / "broken/model.json").write_text(json.dumps(spec))
    with pytest.raises(ModelError, match="background"):
        read_model(tmp_path / "broken")


def test_a_folder_without_a_model_is_said(opened: Any, tmp_path: Path) -> None:
    widget = opened()[1]
    widget.add_model(tmp_path)
    assert "cannot be read" in widget.form.message.text()


def test_a_layer_that_was_removed_is_not_filled(opened: Any) -> None:
    viewer, widget, _worker = opened()
    results = Results(
        viewer, widget.image, select(widget.image, 2, "all"), EXCLUSIVE, "bright"
    )
    mask = np.ones((6, 5), np.uint8)
    list(results.add(Item(0, mask)))
    viewer.layers.remove(results.layers[0])
    list(results.add(Item(1, mask)))
    list(results.finish({}))
    assert results.masks == []


def test_a_result_draws_the_canvas_and_leaves_the_layer_list_alone(
    opened: Any,
) -> None:
    viewer, widget, _worker = opened()
    results = Results(
        viewer, widget.image, select(widget.image, 2, "all"), EXCLUSIVE, "bright"
    )
    list(results.prepare())
    viewer.dims.set_current_step(0, 0)
    heard: list[str] = []
    results.layers[0].events.set_data.connect(lambda _: heard.append("canvas"))
    viewer.layers.events.connect(lambda _: heard.append("list"))
    list(results.add(Item(0, np.ones((6, 5), np.uint8))))
    assert heard == ["canvas"]
    list(results.add(Item(1, np.ones((6, 5), np.uint8))))
    assert heard == ["canvas"]  # not shown now
    results.layers[0].refresh()
    assert "list" in heard


def test_the_diameter_of_cells_is_found_or_given(opened: Any) -> None:
    _, widget, worker = opened(CELLS)
    form = widget.form
    assert form.size_row.isHidden()  # this model names no diameter
    assert widget._options().diameter == "auto"
    widget._models = [ModelInfo("nuclei", "nuclei", CELLS, 2, diameter=48.0)]
    form.set_models(widget._models)
    widget._model_changed()
    assert not form.size_row.isHidden()
    assert (form.diameter.value(), form.diameter.isEnabled()) == (48, False)
    assert "48" in form.diameter.toolTip()
    form.find_size.setChecked(False)
    form.diameter.setValue(20)
    run(widget, "all")
    assert worker.jobs[-1].options.diameter == 20.0
    form.find_size.setChecked(True)
    assert widget._options().diameter == "auto"


def test_a_spec_tells_the_diameter_of_its_cells() -> None:
    models = {model.name: model for model in find_models()}
    assert models["nuclei-fluorescence"].diameter == 48.0
    assert models["chest-xray"].diameter is None


def test_the_mask_of_another_file_s_image_is_left_alone(opened: Any) -> None:
    viewer, widget, _ = opened()
    first = widget.image
    first.metadata = facts(Geometry.pixels(3), path="one/film.dcm", source="one")
    run(widget, "slice")
    (lung, heart) = masks(viewer)
    kept = lung.data.copy()
    viewer.layers.remove(first)
    again = viewer.add_image(
        np.asarray(first.data),
        name="film",
        metadata=facts(Geometry.pixels(3), path="two/film.dcm"),
    )
    widget.form.image.choose(again)
    widget.form.existing.setCurrentIndex(widget.form.existing.findData("replace"))
    viewer.dims.set_current_step(0, 2)
    run(widget, "slice")
    np.testing.assert_array_equal(lung.data, kept)
    assert len(masks(viewer)) == 4
    assert facts_of(masks(viewer)[-1])["source"] == "two/film.dcm"
    assert facts_of(heart)["source"] == "one/film.dcm"


def test_a_stack_of_unknown_axes_can_be_tracked(opened: Any) -> None:
    from medseg.napari_plugin.mask_frames import is_movie_mask

    viewer, widget, _ = opened(CELLS)
    run(widget)
    (mask,) = masks(viewer)
    assert facts_of(mask)["geometry"] is None
    assert is_movie_mask(mask)
    # Of our readers: without a spacing nobody knows what its pages are.
    for geometry, movie in (
        (Geometry.pixels(3), True),
        (Geometry.upright((1.0, 1.0, 1.0)), False),
    ):
        widget.image.units = (geometry.unit,) * 3
        widget.image.metadata = facts(geometry)
        run(widget)
        assert is_movie_mask(masks(viewer)[-1]) is movie


def test_four_axes_of_unknown_meaning_are_run(opened: Any) -> None:
    viewer, widget, _ = opened(CELLS, np.ones((2, 3, 6, 5), np.uint8))
    run(widget)
    (mask,) = masks(viewer)
    assert mask.data.all()
    assert widget.form.message.text() == "Done: 6 slices."


def test_cancel_lets_go_of_what_waits_to_be_shown(opened: Any) -> None:
    viewer, widget, _ = opened()
    widget.form.scope.setCurrentIndex(2)
    widget.run()  # the worker is done before anything is shown
    widget.cancel()
    drain(widget)
    assert "Cancelled" in widget.form.message.text()
    assert masks(viewer) == []

"""The widgets in a window of napari's, opened as its menu does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari")

from npe2 import PluginManifest
from qtpy.QtWidgets import QDockWidget, QScrollArea

from medseg.napari_plugin.worker.client import shared_client

MANIFEST = Path(__file__).resolve().parent.parent / "napari_plugin" / "napari.yaml"
WIDGETS = [
    widget.display_name
    for widget in PluginManifest.from_file(MANIFEST).contributions.widgets
]
pytestmark = [
    pytest.mark.gui,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture
def window(make_napari_viewer: Any, npe2pm: Any) -> Iterator[Any]:
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_file(MANIFEST)):
        viewer = make_napari_viewer()
        viewer.add_image(np.zeros((8, 8), np.uint8), name="film")
        yield viewer.window
    # Segment has started the worker of this process.
    shared_client().close()
    shared_client.cache_clear()


@pytest.mark.parametrize("name", WIDGETS)
def test_napari_gives_each_widget_the_viewer(window: Any, name: str) -> None:
    dock, widget = window.add_plugin_dock_widget("medseg", name)
    assert isinstance(dock, QDockWidget)
    assert widget is not None


def test_widgets_are_tabs_of_one_place(window: Any) -> None:
    docks = [
        window.add_plugin_dock_widget("medseg", name)[0]
        for name in ("View slices", "Refine", "Measure")
    ]
    main = docks[0].parentWidget()
    main.show()
    assert set(main.tabifiedDockWidgets(docks[0])) == set(docks[1:])
    docks[1].setFloating(True)
    docks[1].widget().hide()
    docks[1].widget().show()
    assert docks[1].isFloating()  # where a person put it


def test_the_mask_selected_in_the_list_is_refined(window: Any, qtbot: Any) -> None:
    _, widget = window.add_plugin_dock_widget("medseg", "Refine")
    viewer = widget.mender._viewer
    lung, heart = (
        viewer.add_labels(np.zeros((8, 8), np.uint8), name=name)
        for name in ("lung", "heart")
    )
    assert widget.layer is lung  # what was chosen stays when a mask is added
    qtbot.wait(1)
    viewer.layers.selection.active = viewer.layers["film"]
    assert widget.layer is lung
    viewer.layers.selection.active = heart
    assert widget.layer is heart
    index = widget.form.mask.findText("lung")
    widget.form.mask.setCurrentIndex(index)
    widget.form.mask.activated.emit(index)  # a person's choice
    assert viewer.layers.selection.active is lung


@pytest.mark.parametrize("name", WIDGETS)
def test_a_widget_shows_its_whole_width_in_a_low_window(
    window: Any, qtbot: Any, name: str
) -> None:
    dock, widget = window.add_plugin_dock_widget("medseg", name)
    main = dock.parentWidget()
    main.show()
    main.resize(700, 300)
    qtbot.wait(100)
    for area in widget.findChildren(QScrollArea):
        inner = area.widget()
        if area.parentWidget() is widget and inner is not None:
            assert area.viewport().width() >= inner.minimumSizeHint().width()
    assert widget.minimumSizeHint().height() < 500


def test_a_volume_beside_a_larger_film_is_seen_from_each_side(window: Any) -> None:
    _, widget = window.add_plugin_dock_widget("medseg", "View slices")
    viewer = widget._viewer
    viewer.add_image(np.zeros((400, 500), np.uint8), name="large film")
    volume = viewer.add_image(np.zeros((6, 10, 12), np.uint8), scale=(3, 1, 1))
    widget.image.choose(volume)
    for axis in range(3):
        widget.look_along(axis)
        low, high = volume.extent.world[:, axis]
        assert low <= viewer.dims.point[axis] <= high

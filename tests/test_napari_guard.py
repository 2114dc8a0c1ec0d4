"""Whoever paints in a window of napari's is asked before it closes, whatever is open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.components import ViewerModel
from npe2 import PluginManifest
from qtpy.QtWidgets import QMainWindow

from medseg.geometry import Geometry
from medseg.image import Image
from medseg.io import write_image, write_segmentation
from medseg.labels import chest_labels
from medseg.napari_plugin import _commands, recovery, unsaved
from medseg.napari_plugin.unsaved import watch_over
from medseg.napari_plugin.widgets.close_guard import CloseGuard
from medseg.segmentation import Segmentation

MANIFEST = Path(__file__).resolve().parent.parent / "napari_plugin" / "napari.yaml"
pytestmark = [
    pytest.mark.gui,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture
def viewer(make_napari_viewer: Any, npe2pm: Any) -> Iterator[Any]:
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_file(MANIFEST)):
        yield make_napari_viewer()


def guards(viewer: Any) -> list[CloseGuard]:
    above = viewer.window.main_menu.window()
    assert isinstance(above, QMainWindow)
    return [x for x in above.children() if isinstance(x, CloseGuard)]


def paint_and_close(viewer: Any) -> list[str]:
    """Paint on the topmost mask; return what is asked about when the window closes."""
    asked: list[str] = []

    def ask(layers: list[Any]) -> str:
        asked.extend(x.name for x in layers)
        return "cancel"

    viewer.layers[-1].paint((3, 3), 1)
    (guard,) = guards(viewer)
    guard._ask = ask
    assert guard.timer.isActive()
    guard._autosave()
    assert len(list(recovery.state_folder().glob("*"))) == 1
    window = guard.parent()
    window.show()
    assert not window.close()
    assert window.isVisible()
    guard.keeper.stop(keep=False)
    window.hide()
    return asked


def film(folder: Path) -> Path:
    image = Image(np.zeros((1, 8, 9), np.uint8), Geometry.pixels(2))
    return write_image(image, folder / "film.png")


def test_a_mask_begun_by_hand_is_kept_and_asked_about(viewer: Any) -> None:
    viewer.add_image(np.zeros((8, 9)), name="film")  # another plugin's
    assert guards(viewer) == []
    _commands.new_mask(viewer)
    assert paint_and_close(viewer) == ["film mask"]


def test_what_is_painted_over_a_film_is_kept_and_asked_about(
    viewer: Any, tmp_path: Path
) -> None:
    viewer.open(film(tmp_path), plugin="medseg")
    viewer.add_labels(np.zeros((8, 9), np.uint8), name="napari's own")
    assert paint_and_close(viewer) == ["napari's own"]


@pytest.mark.parametrize("split", [False, True])
def test_a_mask_of_a_file_is_kept_and_asked_about(
    viewer: Any, tmp_path: Path, split: bool
) -> None:
    labels = chest_labels()
    mask = np.zeros((len(labels), 8, 9), np.uint8)
    seg = Segmentation(mask, labels, Geometry.pixels(2))
    name = "m.png" if split else "m.tif"
    write_segmentation(seg, tmp_path / name, split_labels=split)
    viewer.open(tmp_path / name.removesuffix(".png"), plugin="medseg")
    name = viewer.layers[-1].name
    assert paint_and_close(viewer) == [name]


@pytest.mark.parametrize("name", ["Measure", "View slices"])
def test_forms_that_change_no_mask_guard_the_window_too(viewer: Any, name: str) -> None:
    viewer.add_labels(np.zeros((8, 9), np.uint8), name="mine")
    dock, _ = viewer.window.add_plugin_dock_widget("medseg", name)
    dock.window().show()
    dock.show()
    assert paint_and_close(viewer) == ["mine"]


def test_only_a_window_of_this_thread_is_watched(viewer: Any) -> None:
    watch_over(None)
    watch_over(ViewerModel())
    elsewhere = Thread(target=watch_over, args=(viewer,))
    elsewhere.start()
    elsewhere.join()
    assert guards(viewer) == []
    for _ in range(2):
        watch_over(viewer)
    assert len(guards(viewer)) == 1
    assert guards(viewer)[0].keeper is unsaved.keeper_of(viewer)

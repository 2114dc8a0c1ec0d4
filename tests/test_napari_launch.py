"""napari finds the plugin: open, save, samples, commands, and its own window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.components import ViewerModel
from npe2 import PluginManifest

from medseg.errors import ExitCode, FileError
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.io import atomic, read_segmentation, write_image, write_segmentation
from medseg.labels import chest_labels
from medseg.napari_plugin import launch
from medseg.napari_plugin.layers import geometry_of
from medseg.segmentation import Segmentation

MANIFEST = Path(__file__).resolve().parent.parent / "napari_plugin" / "napari.yaml"
COLUMNS = Geometry.upright((3.0, 2.0, 1.5))


@pytest.fixture
def plugin(npe2pm: Any) -> Iterator[None]:
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_file(MANIFEST)):
        yield


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic.os, "fsync", lambda handle: None)


def film_and_mask(folder: Path) -> tuple[Path, Path]:
    pixels = np.arange(60, dtype=np.uint16).reshape(1, 3, 4, 5)
    image = write_image(Image(pixels, COLUMNS), folder / "v.nii.gz")
    mask = np.zeros((5, 3, 4, 5), np.uint8)
    mask[2, 1], mask[3, 1, 2] = 1, 1
    seg = Segmentation(mask, chest_labels(), COLUMNS)
    (path,) = write_segmentation(seg, folder / "m.nrrd")
    return image, path


@pytest.mark.usefixtures("plugin")
def test_open_and_save_by_npe2(tmp_path: Path) -> None:
    image, mask = film_and_mask(tmp_path)
    viewer = ViewerModel()
    viewer.open(image, plugin="medseg")
    viewer.open(mask, plugin="medseg")
    assert len(viewer.layers) == 6
    structures = viewer.layers[1:]
    structures[2].data[0] = 1
    out = tmp_path / "out.nii.gz"
    viewer.layers.selection = set(structures)
    written = viewer.layers.save(str(out), selected=True, plugin="medseg")
    assert written == [str(out)]
    back = read_segmentation(out)
    assert back.labels == chest_labels()
    assert back.structure("heart")[:2].all()
    assert back.geometry.matches(COLUMNS)
    both = tmp_path / "v.nrrd"  # an image and masks: napari 0.6 raises, later ones warn
    refusal = "not a valid writer|no registered plugin"
    with pytest.raises((UserWarning, ValueError), match=refusal):
        viewer.layers.save(str(both), plugin="medseg")
    assert not both.exists()


@pytest.mark.usefixtures("plugin")
def test_samples_by_npe2() -> None:
    viewer = ViewerModel()
    viewer.open_sample("medseg", "volume")
    assert [x.name for x in viewer.layers] == ["volume", "volume truth"]
    assert geometry_of(viewer.layers[0]).unit == "mm"


@pytest.mark.gui
@pytest.mark.usefixtures("plugin")
def test_commands_get_the_viewer(make_napari_viewer: Any, tmp_path: Path) -> None:
    from napari._app_model import get_app_model

    image, _ = film_and_mask(tmp_path)
    viewer = make_napari_viewer()
    viewer.open(image, plugin="medseg")
    commands = get_app_model().commands
    assert "medseg.new_mask" in commands
    commands.execute_command("medseg.new_mask").result()
    assert viewer.layers[-1].name == "v mask"
    viewer.layers[-1].data[0] = 1
    commands.execute_command("medseg.save_beside").result()
    back = read_segmentation(tmp_path / "v_mask.nii.gz")
    assert back.mask[0].all()
    assert back.geometry.matches(COLUMNS)


def test_the_window_opens_with_files_and_problems(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []

    class Window:
        def add_plugin_dock_widget(self, plugin: str, widget: str) -> None:
            seen.append((plugin, widget))

    class Viewer:
        window = Window()

        def __init__(self, title: str) -> None:
            seen.append(title)

        def open(self, path: str, plugin: str) -> None:
            if path == "bad.png":
                raise FileError(path, "damaged")
            seen.append(path)

        def reset_view(self) -> None:
            seen.append("fits the window")

    monkeypatch.setattr("napari.Viewer", Viewer, raising=False)
    monkeypatch.setattr("napari.run", lambda: seen.append("run"), raising=False)
    monkeypatch.setattr("qtpy.QtCore.QTimer.singleShot", lambda after, call: call())
    monkeypatch.setattr("napari.utils.notifications.show_error", seen.append)
    launch.main(["a.png", "bad.png"])
    assert seen == [
        "medseg",
        "a.png",
        ("medseg", "Segment"),
        "fits the window",
        "bad.png: damaged.",
        "run",
    ]
    assert capsys.readouterr().err == "bad.png: damaged.\n"


def test_ctrl_c_is_an_exit_code_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[list[str]] = []
    monkeypatch.setattr(launch, "main", opened.append)
    assert launch.start(["a.png"]) == ExitCode.DONE
    assert opened == [["a.png"]]

    def interrupted(paths: list[str]) -> None:
        raise KeyboardInterrupt  # as napari does when its loop has ended

    monkeypatch.setattr(launch, "main", interrupted)
    assert launch.start([]) == ExitCode.CANCELLED == 130

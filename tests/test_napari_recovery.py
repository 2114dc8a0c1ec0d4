"""What a napari that died had not saved is put back without harm to its file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.components import ViewerModel
from npe2 import PluginManifest

from medseg.errors import ConfigError
from medseg.geometry import Geometry
from medseg.io import read_segmentation, write_segmentation
from medseg.labels import Label, LabelSet, chest_labels
from medseg.napari_plugin import beside, movies, recovery, unsaved
from medseg.napari_plugin._reader import get_reader
from medseg.napari_plugin.layers import facts_of
from medseg.napari_plugin.widgets import saving
from medseg.segmentation import Segmentation

MANIFEST = Path(__file__).resolve().parent.parent / "napari_plugin" / "napari.yaml"


@pytest.fixture(autouse=True)
def _plugin(npe2pm: Any) -> Iterator[None]:
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_file(MANIFEST)):
        yield


def file_of_five(folder: Path) -> Path:
    mask = np.zeros((5, 6, 7), np.uint8)
    for number in range(5):
        mask[number, number] = 1
    seg = Segmentation(mask, chest_labels(), Geometry.upright((0.5, 0.5)))
    (path,) = write_segmentation(seg, folder / "film_mask.tif")
    return path


def painted_and_lost(
    path: Path | str,
    structure: str | None = "left_lung",
    where: tuple[int, ...] = (5, 5),
) -> recovery.Found:
    """Return the journal of a napari that died after one stroke on a structure."""
    viewer = ViewerModel()
    viewer.open(path, plugin="medseg")
    keeper = unsaved.keeper_of(viewer)
    part = next(x for x in viewer.layers if facts_of(x)["structure"] == structure)
    part.paint(where, 1)
    while not keeper.save():
        pass
    keeper.stop(keep=True)
    (journal,) = recovery.state_folder().glob("*")
    return recovery.Found(journal, recovery.read_header(journal))


def structures(viewer: ViewerModel) -> list[str]:
    return [facts_of(x)["structure"] for x in viewer.layers]


def test_a_restored_structure_comes_back_with_the_others(tmp_path: Path) -> None:
    path = file_of_five(tmp_path)
    found = painted_and_lost(path)
    viewer = ViewerModel()
    layer, remark = recovery.restore(viewer, found)
    assert remark == ""
    assert sorted(structures(viewer)) == sorted(x.name for x in chest_labels().labels)
    beside.save(viewer, beside.members(viewer, layer), path)
    back = read_segmentation(path)
    assert back.mask[1, 5, 5]
    assert back.structure("heart")[2].all()  # not written over
    again, _ = recovery.restore(viewer, found)
    assert again is layer


def test_a_file_that_has_changed_since_is_not_written_over(tmp_path: Path) -> None:
    path = file_of_five(tmp_path)
    found = painted_and_lost(path)
    write_segmentation(
        read_segmentation(path).__class__(
            np.ones((5, 6, 7), np.uint8), chest_labels(), Geometry.upright((0.5, 0.5))
        ),
        path,
    )
    viewer = ViewerModel()
    layer = recovery.add_layer(
        viewer, recovery.read_journal(found.path, np.zeros((6, 7), np.uint8))
    )
    assert facts_of(layer)["path"] is None


def test_files_are_known_by_their_whole_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_of_five(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = painted_and_lost("film_mask.tif")
    assert found.header.mask_path == str(tmp_path / "film_mask.tif")
    reader = get_reader("film_mask.tif")
    assert reader is not None
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    viewer = ViewerModel()
    viewer.open("../film_mask.tif", plugin="medseg")
    count = len(viewer.layers)
    layer, remark = recovery.restore(viewer, found)
    assert (len(viewer.layers), remark) == (count, "")
    assert layer.data[5, 5] == 1


def test_strokes_on_a_mask_that_changed_meanwhile_come_back_beside_it(
    tmp_path: Path,
) -> None:
    """The file was mended elsewhere after it was opened and before the first stroke."""
    path = file_of_five(tmp_path)
    viewer = ViewerModel()
    viewer.open(path, plugin="medseg")
    keeper = unsaved.keeper_of(viewer)
    seg = read_segmentation(path)
    whole = Segmentation(np.ones_like(seg.mask), seg.labels, seg.geometry)
    write_segmentation(whole, path)
    viewer.layers[0].paint((5, 5), 1)
    assert keeper.save(10.0)
    keeper.stop(keep=True)
    (journal,) = recovery.state_folder().glob("*")
    found = recovery.Found(journal, recovery.read_header(journal))
    again = ViewerModel()
    again.open(path, plugin="medseg")
    layer, _ = recovery.restore(again, found)
    assert layer is again.layers[-1]
    assert len(again.layers) == 6
    np.testing.assert_array_equal(layer.data, viewer.layers[0].data)
    assert facts_of(layer)["path"] is None


def movie_of_masks(folder: Path, kind: str) -> Path:
    """Write what a run over frames leaves: a mask a frame, each a file."""
    folder.mkdir()
    names = ("cell",) if kind == "instances" else ("lung", "heart")
    found = tuple(Label(i, n, "#4c9be8") for i, n in enumerate(names, 1))
    for frame in range(3):
        mask = np.zeros((2, 30, 33), np.uint8)
        mask[:, 3:9, 3 + frame : 9] = 1
        mask = mask[0] if kind == "instances" else mask
        seg = Segmentation(mask, LabelSet(found, kind), Geometry.pixels(2))
        write_segmentation(seg, folder / f"t00{frame}.tif")
    return folder


@pytest.mark.parametrize("kind", ["instances", "overlapping"])
def test_a_movie_of_masks_needs_saving_only_once_it_has_changed(
    tmp_path: Path, kind: str
) -> None:
    folder = movie_of_masks(tmp_path / "run", kind)
    files = {x: x.read_bytes() for x in folder.iterdir()}
    viewer = ViewerModel()
    viewer.open(folder, plugin="medseg")
    keeper = unsaved.keeper_of(viewer)
    assert keeper.unsaved == []
    assert keeper.save()
    assert not list(recovery.state_folder().iterdir())
    layer = viewer.layers[-1]
    layer.paint((1, 20, 20), 1)
    assert keeper.unsaved == [layer]
    keeper.save(0.0)  # the stroke only: the rest of the movie is in its files
    keeper.stop(keep=True)
    (journal,) = recovery.state_folder().iterdir()
    found = recovery.Found(journal, recovery.read_header(journal))
    for again in (ViewerModel(), viewer):
        back, remark = recovery.restore(again, found)
        assert (back.name, remark) == (layer.name, "")
        np.testing.assert_array_equal(back.data, layer.data)
    assert {x: x.read_bytes() for x in folder.iterdir()} == files


@pytest.mark.parametrize("kind", ["instances", "overlapping"])
def test_strokes_on_a_movie_too_large_for_the_memory_come_back_on_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(movies, "IN_MEMORY", 10)
    folder = movie_of_masks(tmp_path / "run", kind)
    found = painted_and_lost(
        folder, None if kind == "instances" else "heart", (1, 20, 20)
    )
    viewer = ViewerModel()
    back, remark = recovery.restore(viewer, found)
    assert remark == ""
    whole = np.zeros((3, 30, 33), np.uint8)
    for frame in range(3):
        whole[frame, 3:9, 3 + frame : 9] = 1
    assert back.data[1, 20, 20] == 1
    np.testing.assert_array_equal(back.data[:, :12], whole[:, :12])
    assert unsaved.keeper_of(viewer).unsaved == [back]


def test_a_restored_movie_goes_not_into_the_files_that_it_was_read_from(
    tmp_path: Path,
) -> None:
    folder = movie_of_masks(tmp_path / "run", "overlapping")
    found = painted_and_lost(folder, "heart", (1, 20, 20))
    folder.rename(tmp_path / "moved")
    viewer = ViewerModel()
    back, _ = recovery.restore(viewer, found)
    assert unsaved.keeper_of(viewer).unsaved == [back]  # no file holds its strokes
    with pytest.raises(ConfigError, match="which file it belongs to"):
        beside.place_beside(beside.layer_data(viewer, [back]))


def test_cells_of_a_movie_of_masks_are_saved_beside_it_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = movie_of_masks(tmp_path / "run", "instances")
    files = {x: x.read_bytes() for x in folder.iterdir()}
    viewer = ViewerModel()
    viewer.open(folder, plugin="medseg")
    monkeypatch.setattr(saving, "_ask_path", lambda *words: pytest.fail(f"{words}"))
    for column in (15, 20):
        viewer.layers[0].paint((1, 20, column), 2)
        there = saving.save_mask_of(viewer, viewer.layers[0])
        assert there == str(tmp_path / "run_RES")
        assert unsaved.keeper_of(viewer).unsaved == []
    assert (tmp_path / "run_RES" / "res_track.txt").exists()
    assert {x: x.read_bytes() for x in folder.iterdir()} == files

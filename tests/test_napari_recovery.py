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

from medseg.geometry import Geometry
from medseg.io import read_segmentation, write_segmentation
from medseg.labels import chest_labels
from medseg.napari_plugin import beside, recovery, unsaved
from medseg.napari_plugin._reader import get_reader
from medseg.napari_plugin.layers import facts_of
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


def painted_and_lost(path: Path | str) -> recovery.Found:
    """Return the journal of a napari that died after one stroke on the left lung."""
    viewer = ViewerModel()
    viewer.open(path, plugin="medseg")
    keeper = unsaved.keeper_of(viewer)
    lung = next(x for x in viewer.layers if facts_of(x)["structure"] == "left_lung")
    lung.paint((5, 5), 1)
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

"""The whole loop: open, mask, three corrections, undo and redo, save, reopen."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from medseg.errors import DiskError
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.io import read_image, read_segmentation, write_image, write_segmentation
from medseg.labels import Label, LabelSet
from medseg.segmentation import Segmentation

pytest.importorskip("napari")
from napari.components import ViewerModel
from napari.layers import Labels

from medseg.napari_plugin import _commands, beside, file_state, recovery, unsaved
from medseg.napari_plugin._reader import get_reader
from medseg.napari_plugin.layers import geometry_of, segmentation_layers
from medseg.napari_plugin.mender import Mender
from medseg.napari_plugin.widgets import saving
from medseg.napari_plugin.widgets.saving import save_mask_of
from medseg.refine import tools
from medseg.refine.prompts import Box, Point, Scribble

LABELS = LabelSet((Label(1, "organ", "#e0524d"), Label(5, "tumour", "#f2b134")))


def oblique() -> Geometry:
    """Uneven spacing, a turn about two axes, far from the origin."""
    a, b = np.deg2rad(25), np.deg2rad(-10)
    turn = np.array(
        [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    ) @ np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    direction = tuple(tuple(map(float, row)) for row in turn)
    return Geometry((2.5, 0.75, 1.25), (-120.5, 33.0, 7.25), direction, "mm")


def phantom() -> tuple[np.ndarray, np.ndarray]:
    """A bright ball, and a mask of it that lacks a part."""
    z, y, x = np.ogrid[:9, :30, :33]
    ball = (z - 4) ** 2 * 6 + (y - 15) ** 2 + (x - 16) ** 2 <= 100
    mask = np.where(ball, 1, 0).astype(np.uint8)
    mask[:, :, 20:] = 0
    mask[0, :3, :3] = 5
    return np.where(ball, 900.0, 50.0).astype(np.float32), mask


def open_path(viewer: ViewerModel, path) -> list:
    reader = get_reader(str(path))
    assert reader is not None
    before = set(viewer.layers)
    for data, words, kind in reader(str(path)):
        getattr(viewer, f"add_{kind}")(data, **words)
    return [x for x in viewer.layers if x not in before]


def painted_scan(folder):
    """Return a viewer with ``scan.nii.gz`` and a new mask, painted on."""
    write_image(Image(phantom()[0][None], oblique()), folder / "scan.nii.gz")
    viewer = ViewerModel()
    open_path(viewer, folder / "scan.nii.gz")
    _commands.new_mask(viewer)
    viewer.layers[-1].paint((4, 5, 5), 1)
    return viewer, viewer.layers[-1]


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_open_mend_undo_save_reopen(tmp_path, monkeypatch, suffix) -> None:
    monkeypatch.setenv("MEDSEG_STATE", str(tmp_path / "state"))
    pixels, mask = phantom()
    scan = tmp_path / f"scan{suffix}"
    write_image(Image(pixels[None], oblique()), scan)
    geometry = read_image(scan).geometry
    given = tmp_path / f"scan_mask{suffix}"
    write_segmentation(Segmentation(mask, LABELS, geometry), given)
    inputs = scan.read_bytes()

    viewer = ViewerModel()
    keeper = unsaved.keeper_of(viewer)
    (image,) = open_path(viewer, scan)
    (layer,) = open_path(viewer, given)
    assert keeper.unsaved == []
    np.testing.assert_array_equal(layer.data, mask)
    np.testing.assert_allclose(layer.scale, image.scale)

    mender = Mender(viewer)
    mender.choose(layer, image)
    viewer.dims.set_current_step(0, 4)
    layer.selected_label = 1
    states = [layer.data.copy()]
    for prompt in (
        Point((4, 15, 22)),
        Box((4, 2, 2), (4, 6, 6)),
        Scribble(((4, 4, 4), (4, 4, 5)), positive=False, width=3),
    ):
        mender.method = "graph_cut" if isinstance(prompt, Point) else "paint"
        assert mender.add(prompt) > 0
        states.append(layer.data.copy())
    mender.use_tool(lambda w: tools.fill_holes(w.labels, w.value))
    last = layer.data.copy()
    for _ in range(5):
        mender.undo()
    np.testing.assert_array_equal(layer.data, mask)
    for state in states[1:]:
        mender.redo()
        np.testing.assert_array_equal(layer.data, state)
    mender.redo()  # the tool's step, if it made one
    np.testing.assert_array_equal(layer.data, last)
    assert keeper.unsaved == [layer]
    while not keeper.save():
        pass
    assert os.listdir(recovery.state_folder())

    written = save_mask_of(viewer, layer)
    assert written == str(given)
    assert keeper.unsaved == []
    assert os.listdir(recovery.state_folder()) == []
    mender.close()
    keeper.stop(keep=True)

    again = read_segmentation(given)
    np.testing.assert_array_equal(again.mask, last)
    assert again.geometry.matches(geometry, 1e-6)
    assert (again.mask == 5).sum() == (mask == 5).sum()  # protected throughout
    (reopened,) = open_path(ViewerModel(), given)
    np.testing.assert_array_equal(reopened.data, last)
    np.testing.assert_allclose(reopened.scale, layer.scale)
    np.testing.assert_allclose(reopened.translate, layer.translate)
    assert scan.read_bytes() == inputs


def test_a_killed_session_is_restored_onto_the_reopened_image(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("MEDSEG_STATE", str(tmp_path / "state"))
    pixels, mask = phantom()
    scan = tmp_path / "scan.nii.gz"
    write_image(Image(pixels[None], oblique()), scan)
    given = tmp_path / "scan_mask.nii.gz"
    write_segmentation(Segmentation(mask, LABELS, oblique()), given)

    viewer = ViewerModel()
    keeper = unsaved.keeper_of(viewer)
    open_path(viewer, scan)
    (layer,) = open_path(viewer, given)
    layer.paint((4, 5, 5), 1)
    keeper.save(0.0)  # the stroke only: the rest of the mask is in its file
    expected = layer.data.copy()
    (journal,) = recovery.state_folder().iterdir()
    torn = journal.read_bytes() + b"T\x99\0\0"  # it died in the next record
    keeper.stop(keep=False)
    assert not journal.exists()
    journal.write_bytes(torn)
    monkeypatch.setattr(recovery, "is_alive", lambda path, header: False)

    other = ViewerModel()
    open_path(other, scan)
    (reopened,) = open_path(other, given)
    (found,) = recovery.find_lost()
    assert found.header.image_path == str(scan)
    assert file_state.fingerprint(scan) == found.header.image_print
    restored, remark = recovery.restore(other, found)
    assert restored is reopened
    assert "cut off" in remark
    np.testing.assert_array_equal(restored.data, expected)
    restored.undo()
    np.testing.assert_array_equal(restored.data, mask)


def test_two_masks_of_one_image_do_not_overwrite_each_other(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("MEDSEG_STATE", str(tmp_path / "state"))
    scan = tmp_path / "scan.nii.gz"
    write_image(Image(phantom()[0][None], oblique()), scan)
    viewer = ViewerModel()
    (image,) = open_path(viewer, scan)
    for _ in range(2):
        viewer.layers.selection.active = image
        _commands.new_mask(viewer)
    one, two = viewer.layers[-2:]
    one.paint((4, 5, 5), 1)
    two.paint((4, 20, 20), 2)
    first = save_mask_of(viewer, one)
    asked: list[tuple] = []

    def ask(title, start=""):
        asked.append((title, start))
        return start

    monkeypatch.setattr(saving, "_ask_path", ask)
    second = save_mask_of(viewer, two)
    assert first == str(tmp_path / "scan_mask.nii.gz")
    assert second == str(tmp_path / "scan_2_mask.nii.gz")
    assert f"it holds {one.name}, which is open too" in asked[0][0]
    assert set(np.unique(read_segmentation(first).mask)) == {0, 1}
    assert unsaved.keeper_of(viewer).unsaved == []
    save_mask_of(viewer, one)  # its own file: nobody is asked
    assert save_mask_of(viewer, two) == second  # nor again
    assert len(asked) == 1


def test_a_file_that_was_mended_elsewhere_is_asked_about_once(
    tmp_path, monkeypatch
) -> None:
    both = LabelSet(LABELS.labels, "overlapping")
    mask = np.zeros((2, 30, 33), np.uint8)
    seg = Segmentation(mask, both, Geometry.pixels(2))
    for name in ("m.tif", "m.png"):  # a file, and a folder of a file a structure
        path = tmp_path / name
        place = beside.place_of(path, segmentation_layers(seg, "m"))
        write_segmentation(seg, path, split_labels=place != path)
        windows = ViewerModel(), ViewerModel()
        for viewer in windows:
            for data, words, _ in segmentation_layers(seg, "m", path=place):
                viewer.add_labels(data, **words)
            unsaved.keeper_of(viewer)
        asked: list[str] = []

        def ask(title, start="", asked=asked):
            asked.append(title)
            return start

        monkeypatch.setattr(saving, "_ask_path", ask)
        for viewer in windows:
            viewer.layers[0].paint((20, 20), 1)
        assert save_mask_of(windows[0], windows[0].layers[0]) == str(place)
        before = read_segmentation(place).mask
        there = [save_mask_of(windows[1], windows[1].layers[0]) for _ in range(2)]
        assert there == [str(place.with_name(place.name.replace("m", "m_2", 1)))] * 2
        np.testing.assert_array_equal(read_segmentation(place).mask, before)
        assert len(asked) == 1
        assert "it has changed since it was opened or saved here" in asked[0]


def test_where_a_mask_without_a_file_goes_is_asked_once(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MEDSEG_STATE", str(tmp_path / "state"))
    viewer = ViewerModel()
    mask = viewer.add_labels(np.zeros((30, 33), np.uint8), name="m")
    asked: list[str] = []

    def ask(title, start=""):
        asked.append(title)
        return tmp_path / f"m{len(asked)}.tif"

    monkeypatch.setattr(saving, "_ask_path", ask)
    for column in (5, 9):
        mask.paint((5, column), 1)
        assert save_mask_of(viewer, mask) == str(tmp_path / "m1.tif")
    assert asked == ["m"]
    seg = read_segmentation(tmp_path / "m1.tif")
    assert seg.mask[5, 9]
    write_segmentation(replace(seg, mask=1 - seg.mask), tmp_path / "m1.tif")
    assert save_mask_of(viewer, mask) == str(tmp_path / "m2.tif")  # mended elsewhere
    assert not read_segmentation(tmp_path / "m1.tif").mask[5, 9]
    assert len(asked) == 2


@pytest.mark.parametrize("other", ["elsewhere.nii.gz", ""])
def test_where_the_disk_cannot_be_written_another_place_is_asked_for(
    other, tmp_path, monkeypatch
) -> None:
    viewer, mask = painted_scan(tmp_path)
    titles, real = [], beside.save

    def save(viewer, parts, path):
        if path.name == "scan_mask.nii.gz":
            raise DiskError(path, "not written, permission denied", "Free it")
        return real(viewer, parts, path)

    def choose(title, start):
        titles.append(title)
        return tmp_path / other if other else None

    monkeypatch.setattr(beside, "save", save)
    monkeypatch.setattr(saving, "_choose_path", choose)
    if other:
        assert save_mask_of(viewer, mask) == str(tmp_path / other)
        assert unsaved.keeper_of(viewer).unsaved == []
    else:  # nothing was chosen
        with pytest.raises(DiskError, match="permission denied"):
            save_mask_of(viewer, mask)
        assert unsaved.keeper_of(viewer).unsaved == [mask]
    assert "permission denied" in titles[0]
    unsaved.keeper_of(viewer).stop(keep=False)


def test_a_restored_mask_has_the_units_of_its_image(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MEDSEG_STATE", str(tmp_path / "state"))
    viewer, mask = painted_scan(tmp_path)
    while not unsaved.keeper_of(viewer).save():
        pass
    (journal,) = recovery.state_folder().iterdir()
    found = recovery.Found(journal, recovery.read_header(journal))
    back, _ = recovery.restore(ViewerModel(), found)
    assert (back.units, back.axis_labels) == (mask.units, mask.axis_labels)
    assert geometry_of(back) == geometry_of(mask)
    assert geometry_of(back).matches(oblique(), 1e-3)
    unsaved.keeper_of(viewer).stop(keep=False)


def test_changes_after_saving_find_the_saved_structure(tmp_path, monkeypatch) -> None:
    """The file's layers are named after the file, and the journal has one of two."""
    monkeypatch.setenv("MEDSEG_STATE", str(tmp_path / "state"))
    both = LabelSet(LABELS.labels, "overlapping")
    mask = np.zeros((2, 30, 33), np.uint8)
    mask[:, 3:9, 3:9] = 1
    seg = Segmentation(mask, both, Geometry.pixels(2))
    viewer = ViewerModel()
    layers = segmentation_layers(seg, "film", source=tmp_path / "film.png")
    _, tumour = [viewer.add_labels(data, **words) for data, words, _ in layers]
    saved = save_mask_of(viewer, tumour)
    tumour.paint((20, 20), 1)
    keeper = unsaved.keeper_of(viewer)
    keeper.save(0.0)  # the stroke only
    (journal,) = recovery.state_folder().iterdir()
    found = recovery.Found(journal, recovery.read_header(journal))
    other = ViewerModel()
    names = {x.name: x for x in open_path(other, saved)}
    back, _ = recovery.restore(other, found)
    assert back is names["tumour (film_mask)"]
    np.testing.assert_array_equal(back.data, tumour.data)
    keeper.stop(keep=False)


def test_samples_and_views_need_no_saving(monkeypatch) -> None:
    viewer = ViewerModel()
    drawn = SimpleNamespace(sample=("medseg", "film"), path=None)
    monkeypatch.setattr(Labels, "source", property(lambda layer: drawn))
    keeper = unsaved.keeper_of(viewer)
    seg = Segmentation(np.ones((8, 9), np.uint8), LABELS, Geometry.pixels(2))
    [(data, words, _)] = segmentation_layers(seg, "truth")
    sample = viewer.add_labels(data, **words)
    own = {"medseg": {**words["metadata"]["medseg"], "role": "view"}}
    viewer.add_labels(data.copy(), **{**words, "metadata": own})
    assert keeper.layers == [sample]
    assert keeper.unsaved == []
    sample.paint((2, 2), 5)
    assert keeper.unsaved == [sample]
    keeper.stop(keep=False)

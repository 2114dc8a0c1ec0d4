"""Files and folders become layers; what is not ours is left alone."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari")

import tifffile
from malformed_dicom import dicom, series
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer, Tracks
from PIL import Image as Picture

from medseg.errors import ConfigError, FileError
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.io import read_image, write_image, write_segmentation
from medseg.io.ctc import read_track_table, write_mask_file, write_track_table
from medseg.labels import Label, LabelSet
from medseg.lineage import TrackRow
from medseg.napari_plugin import _commands, _reader, _writer, movies
from medseg.napari_plugin.launch import open_paths
from medseg.napari_plugin.layers import LayerData, facts_of, geometry_of
from medseg.segmentation import Segmentation

FRAMES = np.arange(3 * 4 * 6, dtype=np.uint8).reshape(3, 4, 6)
ROWS = (TrackRow(1, 0, 1), TrackRow(2, 2, 2, 1), TrackRow(3, 2, 2, 1))


def opened(path: Path | str) -> list[Layer]:
    choose = _reader.get_folder_reader if Path(path).is_dir() else _reader.get_reader
    reader = choose(str(path))
    assert reader is not None
    return [Layer.create(*layer) for layer in reader(str(path))]


def cells() -> np.ndarray:
    """One cell in two frames; in the third there are its two daughters."""
    mask = np.zeros((3, 4, 6), np.uint16)
    mask[:2, 1:3, 1:3] = 1
    mask[2, 0, 1], mask[2, 3, 4] = 2, 3
    return mask


def challenge(folder: Path) -> Path:
    """Write a sequence ``01`` with its result, truth and gold segmentation."""
    for name in ("01", "01_RES", "01_GT/TRA", "01_GT/SEG"):
        (folder / name).mkdir(parents=True)
    for i, (frame, mask) in enumerate(zip(FRAMES, cells(), strict=True)):
        tifffile.imwrite(folder / f"01/t{i:03d}.tif", frame)
        write_mask_file(folder / f"01_RES/mask{i:03d}.tif", mask)
        write_mask_file(folder / f"01_GT/TRA/man_track{i:03d}.tif", mask)
    write_mask_file(folder / "01_GT/SEG/man_seg001.tif", cells()[1])
    write_track_table(ROWS, folder / "01_RES/res_track.txt")
    write_track_table(ROWS, folder / "01_GT/TRA/man_track.txt")
    return folder


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_volume_has_scale_units_and_axes(suffix: str, tmp_path: Path) -> None:
    geometry = Geometry.upright((3.0, 1.0, 0.5))
    pixels = np.arange(60, dtype=np.uint16).reshape(1, 3, 4, 5)
    path = write_image(Image(pixels, geometry), tmp_path / f"v{suffix}")
    (layer,) = opened(path)
    assert isinstance(layer, ImageLayer)
    assert layer.name == "v"
    np.testing.assert_allclose(layer.scale, geometry.spacing)
    assert [str(u) for u in layer.units] == ["millimeter"] * 3
    assert layer.axis_labels == ("z", "y", "x")
    np.testing.assert_array_equal(layer.data, pixels[0])
    assert geometry_of(layer).matches(geometry)
    assert facts_of(layer)["source"] == str(path)


def test_a_film_without_spacing_is_in_pixels(tmp_path: Path) -> None:
    Picture.fromarray(FRAMES[0]).save(tmp_path / "F.PNG")
    (layer,) = opened(tmp_path / "F.PNG")
    assert [str(u) for u in layer.units] == ["pixel"] * 2
    assert geometry_of(layer).unit == "px"


def test_colours_stay_colours(tmp_path: Path) -> None:
    colour = np.stack([FRAMES[0], FRAMES[1], FRAMES[2]], axis=-1)
    Picture.fromarray(colour).save(tmp_path / "c.png")
    (layer,) = opened(tmp_path / "c.png")
    assert isinstance(layer, ImageLayer)
    assert layer.rgb
    np.testing.assert_array_equal(layer.data, colour)


def test_channels_are_layers(tmp_path: Path) -> None:
    pixels = np.arange(40, dtype=np.uint16).reshape(2, 4, 5)
    path = write_image(Image(pixels, Geometry.pixels(2)), tmp_path / "c.tif")
    assert [x.name for x in opened(path)] == ["c channel 0", "c channel 1"]


def test_a_dicom_film_and_a_series(tmp_path: Path) -> None:
    (tmp_path / "film.dcm").write_bytes(dicom(PixelSpacing=[0.2, 0.1]))
    (layer,) = opened(tmp_path / "film.dcm")
    np.testing.assert_allclose(layer.scale, (0.2, 0.1))
    folder = tmp_path / "series"
    folder.mkdir()
    series(folder)
    (layer,) = opened(folder)
    image = read_image(folder)
    np.testing.assert_array_equal(layer.data, image.pixels[0])
    assert geometry_of(layer) == image.geometry
    assert layer.name == "series"


def test_a_mask_of_another_program_is_labels(tmp_path: Path) -> None:
    mask = np.zeros((4, 6), np.uint8)
    mask[1, 1], mask[2, 2] = 1, 5
    Picture.fromarray(mask).save(tmp_path / "film_mask.png")
    (layer,) = opened(tmp_path / "film_mask.png")
    assert isinstance(layer, Labels)
    assert facts_of(layer)["labels"].names == ("label_1", "label_5")
    tifffile.imwrite(
        tmp_path / "cells-seg.tif", np.arange(64, dtype=np.uint16).reshape(8, 8)
    )
    (layer,) = opened(tmp_path / "cells-seg.tif")
    assert facts_of(layer)["labels"].kind == "instances"


def test_several_files_are_a_movie(tmp_path: Path) -> None:
    paths = []
    for i, frame in enumerate(FRAMES):
        paths.append(str(tmp_path / f"a{i}.png"))
        Picture.fromarray(frame).save(paths[-1])
    reader = _reader.get_reader(paths)
    assert reader is not None
    ((data, meta, kind),) = reader(paths)
    assert (data.shape, kind) == (FRAMES.shape, "image")
    np.testing.assert_array_equal(np.asarray(data), FRAMES)
    assert meta["axis_labels"] == ("t", "y", "x")


def test_a_tiff_that_says_so_is_a_movie(tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, FRAMES, imagej=True, metadata={"axes": "TYX"})
    (layer,) = opened(path)
    assert facts_of(layer)["frames"] == (0, 1, 2)
    tifffile.imwrite(path, FRAMES, imagej=True, metadata={"axes": "ZYX"})
    (layer,) = opened(path)
    assert facts_of(layer)["frames"] is None


@pytest.mark.parametrize("name", ["a.txt", "a.py", "b.nii.gz", ".hidden.png"])
def test_what_is_not_ours_is_left_alone(name: str, tmp_path: Path) -> None:
    if name[0] != "b":  # b does not exist
        (tmp_path / name).write_bytes(b"x")
    assert _reader.get_reader(str(tmp_path / name)) is None
    assert _reader.get_folder_reader(str(tmp_path / name)) is None


@pytest.mark.parametrize(
    "names", [(), ("a.txt",), ("one.png",), ("report.py", "x1.txt", "x2.txt")]
)
def test_folders_that_are_not_ours(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    assert _reader.get_folder_reader(str(tmp_path)) is None
    assert _reader.get_folder_reader([str(tmp_path)] * 2) is None


def test_a_folder_that_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> Any:
        raise PermissionError("no")

    monkeypatch.setattr(_reader.os, "scandir", refuse)
    assert _reader.get_folder_reader(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n" + b"0" * 20, "damaged|truncated"),
        ("a.nii", b"\0" * 10, "352 bytes"),
        ("a.tif", b"", "empty"),
        ("a.dcm", b"\0" * 128 + b"DICM" + b"junk" * 9, "a.dcm"),
        ("a.jpg", b"\x89PNG\r\n\x1a\n", "wrong kind"),
    ],
)
def test_a_broken_file_says_why_in_one_line(
    name: str, content: bytes, word: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    reader = _reader.get_reader(str(path))
    assert reader is not None
    with pytest.raises(FileError, match=word) as caught:
        reader(str(path))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


# --- movies and tracking results ---------------------------------------------------


def test_a_sequence_is_read_when_it_is_shown(tmp_path: Path) -> None:
    folder = challenge(tmp_path) / "01"
    reader = _reader.get_folder_reader(str(folder))
    assert reader is not None
    ((data, meta, _),) = reader(str(folder))
    assert data.numblocks == (3, 1, 1)
    assert (data.dtype, meta["name"]) == (np.uint8, "01")
    (folder / "t002.tif").unlink()  # nobody has asked for it
    np.testing.assert_array_equal(np.asarray(data[1]), FRAMES[1])


TWO = (Label(1, "lung", "#4c9be8"), Label(2, "heart", "#e0524d"))
CELLS = LabelSet((Label(1, "cell", "#4cc38a"),), "instances")


def run_over_frames(folder: Path, labels: LabelSet, suffix: str) -> np.ndarray:
    """Write three masks as a run over frames 5 to 7 does; return ``(T, [C,] Y, X)``.

    The second is of a wider type where labels are numbers of cells.
    """
    folder.mkdir()
    masks = cells().astype(np.int32)
    if labels.kind == "instances":
        masks[1, 0, 0] = 300
    else:
        masks = masks.clip(0, len(labels))
    if labels.kind == "overlapping":
        masks = np.stack([masks > 0, masks > 1], axis=1).astype(np.uint8)
    for i, mask in enumerate(masks, 5):
        seg = Segmentation(mask, labels, Geometry.pixels(2))
        write_segmentation(seg, folder / f"t{i:03d}{suffix}")
    return masks


@pytest.mark.parametrize("in_memory", [2**30, 10])
@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        *itertools.product(("instances", "exclusive", "one"), (".png", ".tif")),
        ("instances", ".nii.gz"),
        ("overlapping", ".tif"),
        ("overlapping", ".nii.gz"),
    ],
)
def test_masks_of_frames_are_a_movie_of_masks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    suffix: str,
    in_memory: int,
) -> None:
    monkeypatch.setattr(movies, "IN_MEMORY", in_memory)
    named = {"instances": CELLS, "one": LabelSet(TWO[:1])}
    labels = named.get(kind) or LabelSet(TWO, kind)  # type: ignore[arg-type]
    masks = run_over_frames(tmp_path / "out", labels, suffix)
    layers = opened(tmp_path / "out")
    assert all(isinstance(x, Labels) for x in layers)
    assert isinstance(layers[0].data, np.ndarray) == (in_memory > 10)
    shown = [np.asarray(x.data) for x in layers]
    names = ["out"]
    if kind == "overlapping":
        masks, names = np.moveaxis(masks, 1, 0), ["lung (out)", "heart (out)"]
    np.testing.assert_array_equal(shown, masks if len(layers) > 1 else masks[None])
    assert [x.name for x in layers] == names
    for layer in layers:
        known = facts_of(layer)
        assert (known["labels"], known["frames"]) == (labels, (5, 6, 7))
        assert known["path"] is None  # no save writes into the files of the frames
        assert layer.data_to_world((0, 0, 0))[0] == 5
    assert (facts_of(layers[-1])["structure"] == "heart") == (kind == "overlapping")


def test_masks_of_frames_that_differ_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    run_over_frames(folder, CELLS, ".png")
    other = Segmentation(cells()[0], LabelSet(TWO), Geometry.pixels(2))
    write_segmentation(other, folder / "t007.png")
    with pytest.raises(
        FileError, match=r"t007\.png: labels lung = 1 .*, and t005\.png"
    ):
        opened(folder)
    small = Segmentation(cells()[0][:, :5], CELLS, Geometry.pixels(2))
    write_segmentation(small, folder / "t007.png")
    with pytest.raises(FileError, match=r"size 4 x 5, and t005\.png 4 x 6"):
        opened(folder)


@pytest.mark.parametrize("names", [("heart", "lung"), ("label_1", "label_2")])
def test_a_png_a_structure_is_one_mask(names: tuple[str, str], tmp_path: Path) -> None:
    labels = LabelSet(
        tuple(Label(i, n, "#4c9be8") for i, n in enumerate(names, 1)), "overlapping"
    )
    mask = np.stack([cells()[0] > 0, cells()[2] > 0]).astype(np.uint8)
    seg = Segmentation(mask, labels, Geometry.pixels(2))
    write_segmentation(seg, tmp_path / "film.png", split_labels=True)
    layers = opened(tmp_path / "film")
    np.testing.assert_array_equal([x.data for x in layers], mask)
    assert [facts_of(x)["structure"] for x in layers] == list(names)


def test_images_that_medseg_wrote_are_frames_too(tmp_path: Path) -> None:
    for i, frame in enumerate(FRAMES):
        image = Image(frame[None], Geometry.upright((2.0, 2.0)))
        write_image(image, tmp_path / f"t{i}.png")
    (layer,) = opened(tmp_path)
    assert isinstance(layer, ImageLayer)
    np.testing.assert_array_equal(np.asarray(layer.data), FRAMES)


@pytest.mark.parametrize("name", ["01_RES", "01_GT/TRA", "01_GT"])
def test_a_result_is_masks_and_tracks(name: str, tmp_path: Path) -> None:
    labels, tracks = opened(challenge(tmp_path) / name)
    assert isinstance(labels, Labels)
    assert isinstance(tracks, Tracks)
    np.testing.assert_array_equal(labels.data, cells())
    assert tracks.graph == {2: [1], 3: [1]}
    np.testing.assert_allclose(tracks.data[:2], [[1, 0, 1.5, 1.5], [1, 1, 1.5, 1.5]])
    assert facts_of(labels)["source"] == str(tmp_path / "01")
    np.testing.assert_allclose(labels.scale, tracks.scale[-3:])


def test_gold_segmentation_has_empty_frames(tmp_path: Path) -> None:
    (labels,) = opened(challenge(tmp_path) / "01_GT/SEG")
    assert facts_of(labels)["frames"] == (1,)
    np.testing.assert_array_equal(labels.data, cells()[1:2])
    assert labels.data_to_world((0, 0, 0))[0] == 1  # it lies at its frame


def test_large_masks_stay_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(movies, "IN_MEMORY", 10)
    reader = _reader.get_folder_reader(str(challenge(tmp_path) / "01_RES"))
    assert reader is not None
    (data, _, _), (table, _, _) = reader("")
    assert not isinstance(data, np.ndarray)
    assert len(table) == 4
    np.testing.assert_array_equal(np.asarray(data), cells())


def test_slices_of_gold_need_their_sequence(tmp_path: Path) -> None:
    folder = tmp_path / "02_GT/SEG"
    folder.mkdir(parents=True)
    write_mask_file(folder / "man_seg_000_001.tif", cells()[0])
    with pytest.raises(FileError, match="sequence that they belong to is not there"):
        opened(folder)
    (tmp_path / "02").mkdir()
    for i in range(2):
        path = tmp_path / f"02/t{i:03d}.tif"
        tifffile.imwrite(path, FRAMES, photometric="minisblack")
    (labels,) = opened(folder)
    assert labels.data.shape == (1, 3, 4, 6)
    np.testing.assert_array_equal(labels.data[0, 1], cells()[0])
    write_mask_file(folder / "man_seg_000_007.tif", cells()[0])
    with pytest.raises(FileError, match="slice 7"):
        opened(folder)


def test_a_result_survives_napari(tmp_path: Path) -> None:
    layers = [x.as_layer_data_tuple() for x in opened(challenge(tmp_path) / "01_RES")]
    out = tmp_path / "02_RES"
    assert _writer.write_result(str(out), layers) == [str(out)]
    assert read_track_table(out / "res_track.txt") == ROWS
    labels, _ = opened(out)
    np.testing.assert_array_equal(labels.data, cells())
    alone = tmp_path / "03_RES"
    _writer.write_result(str(alone), layers[:1])
    assert [r.parent for r in read_track_table(alone / "res_track.txt")] == [0, 0, 0]


def test_labels_become_track_numbers(tmp_path: Path) -> None:
    labels, tracks = _reader._read_masks(challenge(tmp_path) / "01_RES", "result")
    data = labels[0].copy()
    data[1][data[1] == 1] = 9  # its number in that frame, of no meaning
    told = {**tracks[1], "features": {"label": [1, 9, 2, 3]}}
    out = tmp_path / "02_RES"
    _writer.write_result(str(out), [(data, *labels[1:]), (tracks[0], told, "tracks")])
    np.testing.assert_array_equal(opened(out)[0].data, cells())
    data[0, 0, 5] = 77
    with pytest.raises(FileError, match=r"1 cells of frame 0 have no track \(77\)"):
        _writer.write_result(
            str(out), [(data, *labels[1:]), (tracks[0], told, "tracks")]
        )


def test_what_is_no_result(tmp_path: Path) -> None:
    labels, tracks = _reader._read_masks(challenge(tmp_path) / "01_RES", "result")
    with pytest.raises(FileError, match="a tracking result is a folder"):
        _writer.write_result(str(tmp_path / "a.tif"), [labels, tracks])
    plane: LayerData = (cells()[0], {}, "labels")
    with pytest.raises(FileError, match="is no movie"):
        _writer.write_result(str(tmp_path / "r"), [plane])
    image: LayerData = (FRAMES, {"metadata": labels[1]["metadata"]}, "image")
    with pytest.raises(FileError, match="a movie is not written as one image"):
        _writer.write_image(str(tmp_path / "a.tif"), *image[:2])


def test_a_movie_is_saved_as_its_result(tmp_path: Path) -> None:
    from napari.components import ViewerModel

    viewer = ViewerModel()
    for layer in opened(challenge(tmp_path) / "01_GT/TRA"):
        viewer.add_layer(layer)
    viewer.layers.selection = {viewer.layers[0]}
    with pytest.raises(ConfigError, match="01_RES: is there already"):
        _commands.save_beside(viewer)  # truth is never written over, nor is a result
    shutil.rmtree(tmp_path / "01_RES")
    _commands.save_beside(viewer)
    assert read_track_table(tmp_path / "01_RES/res_track.txt") == ROWS
    again = opened(tmp_path / "01_GT/TRA")[1]
    viewer.add_layer(again)
    with pytest.raises(Exception, match="2 tracks layers belong"):
        _commands.save_beside(viewer)


class Refusing:
    """A viewer whose readers refuse everything in different ways."""

    def open(self, path: str, plugin: str) -> None:
        if path == "bad.png":
            raise FileError(path, "damaged")
        if path == "other.xyz":
            raise ValueError("no reader")


def test_what_cannot_be_opened_is_told() -> None:
    lines = open_paths(Refusing(), ["good.png", "bad.png", "other.xyz"])  # type: ignore[arg-type]
    assert lines[0] == "bad.png: damaged."
    assert lines[1].startswith("other.xyz: neither an image nor a folder")
    assert len(lines) == 2

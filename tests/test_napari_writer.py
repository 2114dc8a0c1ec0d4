"""A mask goes through napari and back: voxels, labels and place as they were."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari")

from malformed_dicom import series
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer
from napari.layers._source import layer_source

from medseg.errors import ConfigError, FileError, LockedError
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.io import (
    atomic,
    read_image,
    read_segmentation,
    write_image,
    write_segmentation,
)
from medseg.io.lock import hold
from medseg.io.movie import open_movie
from medseg.labels import Label, LabelSet, chest_labels
from medseg.lineage import TrackRow
from medseg.napari_plugin import (
    _commands,
    _reader,
    _writer,
    beside,
    file_state,
    recovery,
    unsaved,
)
from medseg.napari_plugin.layers import (
    KEY,
    LayerData,
    facts,
    facts_of,
    geometry_of,
    image_layers,
    segmentation_layers,
)
from medseg.napari_plugin.layers_to_mask import segmentation_from_layers
from medseg.napari_plugin.movies import (
    movie_layers,
    movie_mask_layer,
    nodes_of,
    tracks_layer,
)
from medseg.napari_plugin.placement import is_tilted, placement
from medseg.segmentation import Segmentation

TWO = LabelSet((Label(1, "bone", "#ff0000"), Label(300, "fat", "#00ff00")))
CELLS = LabelSet((Label(1, "cell", "#ffffff"),), "instances")


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic.os, "fsync", lambda handle: None)


def oblique(ndim: int) -> Geometry:
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(ndim, ndim)))
    rows = tuple(tuple(float(v) for v in row) for row in rotation)
    return Geometry((3.0, 2.0, 1.5)[:ndim], (10.0, -20.0, 7.5)[:ndim], rows, "mm")


CORONAL = Geometry(  # array z runs to the back, y from head to feet, x to the left
    (3.0, 2.0, 1.5), (5.0, 6.0, 7.0), ((0, -1, 0), (1, 0, 0), (0, 0, 1)), "mm"
)
GEOMETRIES = {
    "film in px": Geometry.pixels(2),
    "film in mm": Geometry.upright((0.7, 0.35), detector_plane=True),
    "turned film": oblique(2),
    "volume": Geometry.upright((3.0, 1.0, 0.5)),
    "coronal volume": CORONAL,
    "oblique volume": oblique(3),
}


def mask_of(labels: LabelSet, geometry: Geometry) -> Segmentation:
    rng = np.random.default_rng(3)
    size = (3, 4, 5)[-geometry.ndim :]
    if labels.kind == "overlapping":
        mask = rng.integers(0, 2, (len(labels), *size), np.uint8)
        return Segmentation(mask, labels, geometry)
    values = [0, 1, 300] if labels is TWO else [0, 1, 2, 70_000]
    return Segmentation(rng.choice(values, size).astype(np.int32), labels, geometry)


def in_napari(layers: Sequence[LayerData]) -> list[Layer]:
    return [Layer.create(*layer) for layer in layers]


def tuples(layers: Sequence[Layer]) -> list[LayerData]:
    return [layer.as_layer_data_tuple() for layer in layers]


def same(one: Segmentation, two: Segmentation) -> None:
    assert one.labels == two.labels
    assert one.geometry.matches(two.geometry)
    np.testing.assert_array_equal(one.mask, two.mask)


# Every place and every format with every kind of labels, not all three crossed.
FILES = [
    *zip(
        GEOMETRIES, (".tif", ".nii.gz", ".nrrd", ".tif", ".mha", ".nii.gz"), strict=True
    ),
    *(("oblique volume", suffix) for suffix in (".nrrd", ".mha", ".tif")),
]


@pytest.mark.parametrize(("place", "suffix"), FILES)
@pytest.mark.parametrize("labels", [chest_labels(), TWO, CELLS], ids=lambda x: x.kind)
def test_a_mask_survives_napari_and_a_file(
    labels: LabelSet, place: str, suffix: str, tmp_path: Path
) -> None:
    seg = mask_of(labels, GEOMETRIES[place])
    layers = in_napari(segmentation_layers(seg, "m"))
    path = tmp_path / f"m{suffix}"
    assert _writer.write_structures(str(path), tuples(layers)) == [str(path)]
    reader = _reader.get_reader(str(path))
    assert reader is not None
    again = in_napari(reader(str(path)))
    assert len(again) == (len(labels) if labels.kind == "overlapping" else 1)
    same(segmentation_from_layers(tuples(again)), seg)
    same(read_segmentation(path), seg)
    assert [geometry_of(x).detector_plane for x in again[:1]] == [
        seg.geometry.detector_plane
    ]


def test_structures_are_layers_named_and_coloured_like_their_label() -> None:
    seg = mask_of(chest_labels(), Geometry.pixels(2))
    layers = in_napari(segmentation_layers(seg, "film"))
    assert [x.name for x in layers] == [f"{n} (film)" for n in seg.labels.names]
    assert len({facts_of(x)["group"] for x in layers}) == 1
    heart = layers[2]
    assert facts_of(heart)["structure"] == "heart"
    np.testing.assert_allclose(
        heart.get_color(1)[:3], np.array([0xE0, 0x52, 0x4D]) / 255, atol=1e-3
    )
    heart.data[...] = 0
    assert seg.mask[2].any()  # painting leaves the segmentation alone


def test_exclusive_labels_have_their_colours() -> None:
    (layer,) = in_napari(segmentation_layers(mask_of(TWO, Geometry.pixels(2)), "m"))
    np.testing.assert_allclose(layer.get_color(300)[:3], (0, 1, 0))


def test_one_structure_can_be_saved_alone(tmp_path: Path) -> None:
    seg = mask_of(chest_labels(), Geometry.pixels(2))
    heart = segmentation_layers(seg, "film")[2]
    _writer.write_mask(str(tmp_path / "h.tif"), *heart[:2])
    back = read_segmentation(tmp_path / "h.tif")
    assert back.labels.names == ("heart",)
    np.testing.assert_array_equal(back.mask[0], seg.mask[2])


def test_structures_as_png_are_a_folder(tmp_path: Path) -> None:
    seg = mask_of(chest_labels(), Geometry.upright((0.5, 0.25)))
    layers = segmentation_layers(seg, "film")
    written = _writer.write_structures(str(tmp_path / "film.png"), layers)
    assert sorted(Path(p).name for p in written) == sorted(
        f"{n}.png" for n in seg.labels.names
    )
    folder = str(tmp_path / "film")
    reader = _reader.get_folder_reader(folder)
    assert reader is not None
    same(segmentation_from_layers(reader(folder)), seg)


def test_a_value_painted_without_a_name_gets_one() -> None:
    (layer,) = in_napari(segmentation_layers(mask_of(TWO, Geometry.pixels(2)), "m"))
    layer.data[0, 0] = 7
    seg = segmentation_from_layers([layer])
    assert seg.labels.names == ("bone", "fat", "label_7")
    assert seg.structure("label_7")[0, 0]


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int16, np.int32, np.uint64])
def test_values_without_a_name_are_found_in_every_slice(kind: type) -> None:
    mask = np.zeros((3, 4, 5), kind)
    mask[0, 0, 0], mask[2, 1, 1] = 1, 1 if kind is bool else 90
    labels = segmentation_from_layers([(mask, {"name": "m"}, "labels")]).labels
    assert [x.value for x in labels] == [int(v) for v in np.unique(mask)[1:]]


def test_an_empty_mask_of_napari_has_one_label() -> None:
    seg = segmentation_from_layers([Labels(np.zeros((3, 4), int))])
    assert seg.labels.names == ("label_1",)
    assert seg.geometry == Geometry.pixels(2)


def test_a_scale_given_in_napari_counts() -> None:
    (layer,) = in_napari(segmentation_layers(mask_of(TWO, Geometry.pixels(2)), "m"))
    layer.scale, layer.units = (0.5, 0.25), ("mm", "mm")
    assert geometry_of(layer).spacing == (0.5, 0.25)
    assert geometry_of(layer).unit == "mm"


def test_moving_a_coronal_mask_keeps_its_axes() -> None:
    (layer,) = in_napari(segmentation_layers(mask_of(TWO, CORONAL), "m"))
    layer.scale = 2 * np.array(CORONAL.spacing)
    moved = geometry_of(layer)
    assert moved.spacing == (6.0, 4.0, 3.0)
    np.testing.assert_allclose(moved.direction, CORONAL.direction, atol=1e-9)


def test_micrometres_become_millimetres() -> None:
    layer = Labels(np.zeros((3, 4), int), scale=(2, 3), translate=(10, 20))
    layer.units = ("um", "um")
    found = geometry_of(layer)
    np.testing.assert_allclose(found.spacing, (0.002, 0.003))
    np.testing.assert_allclose(found.origin, (0.01, 0.02))


def test_the_middle_of_a_volume_is_where_the_patient_has_it() -> None:
    for geometry in (oblique(3), CORONAL, Geometry.upright((3.0, 1.0, 0.5))):
        where = placement(geometry, (3, 4, 5))
        assert where["scale"] == geometry.spacing
        index = np.array((1.0, 1.5, 2.0))
        shown = where["affine"] @ [*(index * geometry.spacing), 1]
        assert sorted(shown[:3]) == pytest.approx(sorted(geometry.world(index)))


def test_every_slice_of_a_tilted_volume_can_be_painted() -> None:
    """With the tilt in the affine napari paints on other slices than it shows."""
    geometry = oblique(3)
    assert is_tilted(geometry)
    assert not is_tilted(CORONAL)
    viewer = ViewerModel()
    image = Image(np.zeros((1, 9, 8, 8), np.uint8), geometry)
    layer = viewer.add_labels(
        np.zeros((9, 8, 8), np.uint8),
        **{
            k: v
            for k, v in image_layers(image, "i")[0][1].items()
            if k in ("scale", "affine", "units", "axis_labels")
        },
    )
    assert viewer.dims.nsteps[0] == 9
    for step in (0, 4, 8):
        viewer.dims.set_current_step(0, step)
        point = np.array(viewer.dims.point)
        assert layer.world_to_data(point)[0] == pytest.approx(
            layer.world_to_data([point[0], *layer.extent.world[1, 1:]])[0]
        )


def test_new_labels_of_napari_are_saved_where_their_image_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    geometry = oblique(3)
    viewer = ViewerModel()
    pixels = np.zeros((1, 3, 4, 5), np.uint8)
    for layer in in_napari(image_layers(Image(pixels, geometry), "i")):
        viewer.add_layer(layer)
    image = viewer.layers[0]
    labels = viewer.add_labels(np.ones((3, 4, 5), int), **_place(image))
    monkeypatch.setattr("napari.current_viewer", lambda: viewer)
    path = tmp_path / "m.nii.gz"
    _writer.write_mask(str(path), *labels.as_layer_data_tuple()[:2])
    assert read_segmentation(path).geometry.matches(geometry)


def _place(layer: Layer) -> dict[str, Any]:
    names = ("scale", "translate", "rotate", "shear", "affine", "units")
    return {name: getattr(layer, name) for name in names}


def test_a_dicom_segmentation_belongs_to_its_image(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    image = read_image(series(folder))
    mask = (image.pixels[0] > 20).astype(np.uint8)
    seg = Segmentation(mask[None], replace(chest_labels(), labels=TWO.labels[:1]),
                       image.geometry)  # fmt: skip
    layers = segmentation_layers(seg, "m", source=folder)
    written = _writer.write_structures(str(tmp_path / "m.dcm"), layers)
    reader = _reader.get_reader(written[0])
    assert reader is not None
    back = segmentation_from_layers(reader(written[0]))
    np.testing.assert_array_equal(back.mask, seg.mask)
    assert back.geometry.matches(seg.geometry)
    lonely = segmentation_layers(seg, "m")
    with pytest.raises(FileError, match="needs the DICOM image"):
        _writer.write_structures(str(tmp_path / "n.dcm"), lonely)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_an_image_keeps_its_place(suffix: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 4000, (1, 3, 4, 5), np.uint16)
    (layer,) = in_napari(image_layers(Image(pixels, oblique(3)), "i"))
    path = tmp_path / f"i{suffix}"
    data, meta, _ = layer.as_layer_data_tuple()
    assert _writer.write_image(str(path), data, meta) == [str(path)]
    back = read_image(path)
    np.testing.assert_array_equal(back.pixels, pixels)
    assert back.geometry.matches(oblique(3))


def test_only_what_was_written_is_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("napari.utils.notifications.show_info", told.append)
    seg = mask_of(TWO, Geometry.pixels(2))
    path = tmp_path / "m.bmp"
    with pytest.raises(FileError, match="cannot write"):
        _writer.write_structures(str(path), segmentation_layers(seg, "m"))
    assert not path.exists()
    assert told == []
    _writer.write_structures(str(tmp_path / "m.tif"), segmentation_layers(seg, "m"))
    assert told == [f"Saved and checked: m.tif in {tmp_path}"]


def structures() -> list[LayerData]:
    return segmentation_layers(mask_of(chest_labels(), Geometry.pixels(2)), "f")


def changed(layer: LayerData, data: Any = None, **meta: Any) -> LayerData:
    return (layer[0] if data is None else data, {**layer[1], **meta}, layer[2])


@pytest.mark.parametrize(
    ("layers", "word"),
    [
        (list[LayerData](), "no labels layer"),
        ([structures()[0]] * 2, "there twice"),
        ([structures()[0], changed(structures()[1], structures()[1][0][:2])], "grid"),
        ([structures()[0], changed(structures()[1], scale=(2.0, 2.0))], "grid"),
        ([structures()[0], (np.full((4, 5), 2), {"name": "x"}, "labels")], "several"),
        ([(np.full((4, 5), -1), {"name": "x"}, "labels")], "negative"),
        ([(np.zeros((4, 5)), {"name": "x"}, "image")], "is no labels layer"),
        ([(np.zeros((2, 2, 4, 5), int), {"name": "x"}, "labels")], "spatial axes"),
        ([changed(structures()[0], shear=[1.0])], "sheared"),
        ([changed(structures()[0], scale=(0.0, 1.0))], "scale"),
    ],
)
def test_layers_that_are_no_mask(layers: list[LayerData], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        segmentation_from_layers(layers)


def test_a_layer_of_another_make_joins_under_its_name() -> None:
    mine = (np.ones((4, 5), int), {"name": "nodule"}, "labels")
    seg = segmentation_from_layers([*structures()[:2], mine])
    assert seg.labels.names == ("right_lung", "left_lung", "nodule")
    assert [x.value for x in seg.labels] == [1, 2, 6]


# --- commands ----------------------------------------------------------------------


def viewer_with(*layers: LayerData) -> ViewerModel:
    viewer = ViewerModel()
    for layer in in_napari(layers):
        viewer.add_layer(layer)
    return viewer


def film(tmp_path: Path) -> LayerData:
    image = Image(np.zeros((1, 4, 5), np.uint8), GEOMETRIES["turned film"])
    return image_layers(image, "film", source=tmp_path / "film.png")[0]


def test_an_empty_mask_lies_on_its_image(tmp_path: Path) -> None:
    viewer = viewer_with(film(tmp_path))
    _commands.new_mask(viewer)
    mask = viewer.layers[-1]
    assert isinstance(mask, Labels)
    assert mask.data.shape == (4, 5)
    assert not mask.data.any()
    assert geometry_of(mask) == GEOMETRIES["turned film"]
    assert facts_of(mask)["source"] == str(tmp_path / "film.png")
    viewer.layers.selection.clear()
    viewer.add_layer(ImageLayer(np.zeros((4, 5))))
    viewer.layers.selection.clear()
    with pytest.raises(ConfigError, match="2 images are open"):
        _commands.new_mask(viewer)
    viewer.layers.clear()
    with pytest.raises(ConfigError, match="no image is open"):
        _commands.new_mask(viewer)


def test_a_new_mask_states_its_image_whoever_opened_it(tmp_path: Path) -> None:
    path = tmp_path / "film.png"
    write_image(Image(np.zeros((1, 4, 5), np.uint8), Geometry.pixels(2)), path)
    viewer = ViewerModel()
    with layer_source(path=str(path), reader_plugin="napari"):
        viewer.add_image(np.zeros((4, 5)), name="film")
    _commands.new_mask(viewer)
    assert facts_of(viewer.layers[-1])["source"] == str(path)
    assert facts_of(viewer.layers[-1])["image"] == "film"
    _commands.save_beside(viewer)
    assert (tmp_path / "film_mask.png").exists()
    stated = {**facts(None, source="a/chest.png")[KEY], "image": "chest"}
    of_it = {KEY: {**stated, "role": "probability"}}
    viewer.add_image(np.zeros((4, 5)), name="heart probability", metadata=of_it)
    _commands.new_mask(viewer)  # of a map: its image is that of the map
    known = facts_of(viewer.layers[-1])
    assert (known["source"], known["image"]) == ("a/chest.png", "chest")


def test_masks_are_saved_beside_their_image(tmp_path: Path) -> None:
    seg = mask_of(chest_labels(), GEOMETRIES["turned film"])
    source = tmp_path / "film.png"
    layers = segmentation_layers(seg, "film", source=source)
    viewer = viewer_with(film(tmp_path), *layers)
    viewer.layers.selection = {viewer.layers[3]}  # one structure stands for all
    _commands.save_beside(viewer)
    same(read_segmentation(tmp_path / "film_mask.tif"), seg)
    viewer.layers.selection.clear()
    _commands.new_mask(viewer)
    viewer.layers.selection.clear()
    _commands.save_beside(viewer)
    assert (tmp_path / "film_mask.png").exists()


def test_a_mask_goes_back_to_its_file(tmp_path: Path) -> None:
    path = tmp_path / "m.nrrd"
    seg = mask_of(TWO, oblique(3))
    _writer.write_structures(str(path), segmentation_layers(seg, "m"))
    viewer = viewer_with(*_reader.read_layers(path))
    viewer.layers[0].data[0, 0, 0] = 300
    _commands.save_beside(viewer)
    assert read_segmentation(path).mask[0, 0, 0] == 300


@pytest.mark.parametrize(
    ("suffix", "count", "name"),
    [
        (".dcm", 5, "f_mask.nii.gz"),
        (".tiff", 1, "f_mask.tif"),
        (".mhd", 1, "f_mask.mha"),
        (".jpg", 1, "f_mask.png"),
        (".png", 5, "f_mask.tif"),
        ("", 1, "f_mask.nii.gz"),
    ],
)
def test_names_beside_an_image(suffix: str, count: int, name: str) -> None:
    seg = mask_of(chest_labels(), Geometry.pixels(2))
    layers = segmentation_layers(seg, "m", source=f"f{suffix}")[:count]
    assert beside.place_beside(layers) == Path(name)


def test_what_cannot_be_saved_beside(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no mask"):
        _commands.save_beside(viewer_with(film(tmp_path)))
    seg = mask_of(TWO, Geometry.pixels(2))
    with pytest.raises(ConfigError, match="which file it belongs to"):
        _commands.save_beside(viewer_with(*segmentation_layers(seg, "m")))
    one = segmentation_layers(seg, "m", source=tmp_path / "a.png")
    two = segmentation_layers(seg, "n", source=tmp_path / "a.png")
    viewer = viewer_with(*one, *two)
    viewer.layers.selection.clear()
    with pytest.raises(ConfigError, match=r"two masks would go to a_mask\.png"):
        _commands.save_beside(viewer)
    assert not list(tmp_path.iterdir())


def test_a_copy_of_a_mask_is_a_mask_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "m.nrrd"
    one = LabelSet((Label(1, "bone", "#ff0000"),))
    seg = Segmentation(np.eye(5, dtype=np.uint8), one, GEOMETRIES["film in mm"])
    _writer.write_structures(str(path), segmentation_layers(seg, "m"))
    viewer = viewer_with(*_reader.read_layers(path))
    data, meta, _ = viewer.layers[0].as_layer_data_tuple()
    copy = viewer.add_labels(1 - data, **{**meta, "name": "m copy"})
    viewer.layers.selection = {viewer.layers[0]}
    with pytest.raises(ConfigError, match="holds m copy, which is open too"):
        _commands.save_beside(viewer)
    viewer.layers.pop(0)
    viewer.layers.selection = {copy}
    _commands.save_beside(viewer)
    back = read_segmentation(path)
    assert back.labels == one  # not two structures
    np.testing.assert_array_equal(back.mask, copy.data)


def test_no_other_mask_is_written_over_unasked(tmp_path: Path) -> None:
    there = tmp_path / "film_mask.png"
    there.write_bytes(b"of yesterday")
    viewer = viewer_with(film(tmp_path))
    _commands.new_mask(viewer)
    viewer.layers[-1].paint((2, 2), 1)
    with pytest.raises(ConfigError, match="is there already: it holds another mask"):
        _commands.save_beside(viewer)
    assert there.read_bytes() == b"of yesterday"
    there.unlink()
    _commands.save_beside(viewer)
    viewer.layers[-1].paint((1, 1), 1)
    _commands.save_beside(viewer)  # its own file now
    assert read_segmentation(there).mask[1, 1] == 1
    assert beside.free_name(there) == tmp_path / "film_2_mask.png"


def rewritten(path: Path, where: tuple[int, ...]) -> None:
    """Mend a mask's file elsewhere, as another window does."""
    seg = read_segmentation(path)
    mask = seg.mask.copy()
    mask[where] = 1
    write_segmentation(replace(seg, mask=mask), path)


@pytest.mark.parametrize("saved_first", [False, True])
def test_what_was_mended_elsewhere_is_not_written_over(
    tmp_path: Path, saved_first: bool
) -> None:
    path = tmp_path / "m.nii"
    seg = Segmentation(np.zeros((8, 9), np.uint8), TWO, Geometry.pixels(2))
    write_segmentation(seg, path)
    viewer = viewer_with(*_reader.read_layers(path))
    layer = viewer.layers[0]
    unsaved.keeper_of(viewer)
    if saved_first:
        layer.paint((1, 1), 1)
        _commands.save_beside(viewer)
    rewritten(path, (7, 8))
    layer.paint((5, 1), 1)
    with pytest.raises(ConfigError, match="changed since it was opened or saved here"):
        _commands.save_beside(viewer)
    assert read_segmentation(path).mask[7, 8] == 1
    path.unlink()
    _commands.save_beside(viewer)
    assert read_segmentation(path).mask[5, 1] == 1
    _commands.save_beside(viewer)


def test_a_change_in_the_middle_of_a_large_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "m.nii"
    content = bytearray(3 * 2**20)
    path.write_bytes(content)
    before = file_state.state_of(path)
    assert file_state.state_of(path) == before
    content[len(content) // 2] = 1
    path.write_bytes(content)
    os.utime(path, ns=(before.time + 10**9, before.time + 10**9))
    assert file_state.fingerprint(path) == before.content
    assert file_state.state_of(path) != before
    assert file_state.state_of(tmp_path / "gone") == file_state.FileState("", 0)


def test_structures_in_a_folder_are_not_written_over(tmp_path: Path) -> None:
    seg = mask_of(chest_labels(), Geometry.pixels(2))
    write_segmentation(seg, tmp_path / "m.png", split_labels=True)
    reader = _reader.get_folder_reader(str(tmp_path / "m"))
    assert reader is not None
    viewer = viewer_with(*reader(str(tmp_path / "m")))
    layers = [x for x in viewer.layers if isinstance(x, Labels)]
    target = tmp_path / "m.png"
    assert beside.taken(viewer, layers, target) == ""
    assert beside.save(viewer, layers, target) == tmp_path / "m"
    (tmp_path / "m" / ".DS_Store").touch()  # somebody has looked at the folder
    (tmp_path / "m" / "areas.csv").touch()  # and measured it
    assert beside.taken(viewer, layers, target) == ""
    one = read_segmentation(tmp_path / "m").structure("heart")
    heart = LabelSet((chest_labels().labels[2],), "overlapping")
    whole = Segmentation(np.ones_like(one[None], np.uint8), heart, seg.geometry)
    write_segmentation(whole, target, split_labels=True)
    assert "changed since" in beside.taken(viewer, layers, target)
    assert beside.free_name(target) == tmp_path / "m_2.png"
    (tmp_path / "m_2").mkdir()
    assert beside.free_name(target) == tmp_path / "m_3.png"


def opened_film(
    tmp_path: Path, name: str, dtype: type = np.uint8
) -> tuple[ViewerModel, Path, bytes]:
    """Return a viewer with a film from a file, the file, and what it holds."""
    path = tmp_path / name
    pixels = np.arange(20, dtype=dtype).reshape(1, 4, 5)
    write_image(Image(pixels, GEOMETRIES["film in px"]), path)
    return viewer_with(*_reader.read_layers(path)), path, path.read_bytes()


def converted(viewer: ViewerModel) -> Labels:
    """Make labels of the film, as napari's *Convert to Labels* does."""
    film = viewer.layers.pop(0)
    return viewer.add_labels(film.data, name=film.name, metadata=film.metadata)


@pytest.mark.parametrize("name", ["film.png", "film.nii.gz", "film.tif"])
def test_labels_made_of_a_film_never_replace_it(tmp_path: Path, name: str) -> None:
    viewer, path, before = opened_film(tmp_path, name)
    layer = converted(viewer)
    keeper = unsaved.keeper_of(viewer)
    assert keeper.unsaved == [layer]  # the file holds no mask
    assert keeper.save(10.0)
    _commands.save_beside(viewer)
    layer.paint((2, 2), 1)
    _commands.save_beside(viewer)
    kept = path.with_name(path.name.replace(".", "_mask.", 1))
    assert read_segmentation(kept).mask[2, 2] == 1
    assert path.read_bytes() == before
    with pytest.raises(FileError, match=f"be written over the image {name}"):
        _writer.write_mask(str(path), *layer.as_layer_data_tuple()[:2])
    with pytest.raises(FileError, match=f"be written over the image {name}"):
        beside.save(viewer, [layer], path)
    assert path.read_bytes() == before


def test_the_journal_of_labels_made_of_a_film_leads_not_back_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer, path, before = opened_film(tmp_path, "film.png")
    layer = converted(viewer)
    layer.paint((2, 2), 9)
    keeper = unsaved.keeper_of(viewer)
    assert keeper.save(10.0)
    keeper.stop(keep=True)
    (journal,) = recovery.state_folder().glob("*")
    found = recovery.Found(journal, recovery.read_header(journal))
    assert (found.header.base, found.header.mask_path) == ("zeros", "")
    for other in (ViewerModel(), viewer_with(*_reader.read_layers(path))):
        back, remark = recovery.restore(other, found)
        assert remark == ""
        np.testing.assert_array_equal(back.data, layer.data)
        other.layers.selection = {back}
        with suppress(ConfigError):  # the second time it is there already
            _commands.save_beside(other)
    assert read_segmentation(tmp_path / "film_mask.png").mask[2, 2] == 9
    assert path.read_bytes() == before


def test_no_image_that_is_open_is_written_over(tmp_path: Path) -> None:
    viewer, path, before = opened_film(tmp_path, "film_mask.nii.gz", np.float32)
    image = viewer.layers.pop(0)
    bare = ViewerModel()  # as another plugin's reader leaves it
    with layer_source(path=str(path)):
        bare.add_layer(ImageLayer(image.data))
    ours = viewer_with((image.data, {"metadata": image.metadata}, "image"))
    seg = Segmentation(np.eye(4, 5, dtype=np.uint8), TWO, Geometry.pixels(2))
    for one in (bare, ours):
        [data] = segmentation_layers(seg, "m", source=tmp_path / "film.nii.gz")
        mask = one.add_layer(Layer.create(*data))
        with pytest.raises(ConfigError, match="is there already: it holds an image"):
            _commands.save_beside(one)
        (tmp_path / "link.nii.gz").unlink(missing_ok=True)
        (tmp_path / "link.nii.gz").hardlink_to(path)
        with pytest.raises(FileError, match=r"over the image film_mask\.nii\.gz"):
            beside.save(one, [mask], tmp_path / "link.nii.gz")
    with pytest.raises(FileError, match="over the image"):
        _writer.write_image(str(path), *image.as_layer_data_tuple()[:2])
    assert path.read_bytes() == before


def test_the_frames_of_a_movie_are_not_written_over(tmp_path: Path) -> None:
    folder = tmp_path / "01"
    folder.mkdir()
    for number in range(2):
        frame = Image(np.zeros((1, 8, 9), np.uint8), Geometry.pixels(2))
        write_image(frame, folder / f"mask00{number}.tif")
    films = movie_layers(open_movie(folder), "01")
    viewer = viewer_with(*films)
    before = [x.read_bytes() for x in sorted(folder.iterdir())]
    cells = converted(viewer)
    [data] = beside.layer_data(viewer, [cells])
    assert beside.place_beside([data]) == tmp_path / "01_RES"
    for name in ("01", "01/mask000.tif"):
        with pytest.raises(FileError, match="over the image"):
            _writer.refuse_image(tmp_path / name, [data])
    with pytest.raises(FileError, match="over the image 01"):
        _writer.write_result(str(folder), [data])
    assert [x.read_bytes() for x in sorted(folder.iterdir())] == before
    _writer.refuse_image(folder / "new.tif", [data])
    own = folder / "mask001.tif"  # a mask may lie in the folder of its series
    seg = Segmentation(np.zeros((8, 9), np.uint8), TWO, Geometry.pixels(2))
    [mask] = segmentation_layers(seg, "m", path=own)
    _writer.refuse_image(own, [mask], viewer)
    structures = segmentation_layers(mask_of(chest_labels(), Geometry.pixels(2)), "m")
    viewer = viewer_with(
        *image_layers(
            Image(np.zeros((1, 4, 5)), Geometry.pixels(2)),
            "heart",
            source=f"{folder}/heart.png",
        )
    )
    with pytest.raises(FileError, match="over the image heart"):
        _writer.save_mask(tmp_path / "01.png", structures, viewer)


def test_a_mask_is_saved_again_into_the_folder_of_its_movie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "ser"
    folder.mkdir()
    for number in range(2):
        frame = Image(np.zeros((1, 8, 9), np.uint8), Geometry.pixels(2))
        write_image(frame, folder / f"t00{number}.tif")
    viewer = viewer_with(*movie_layers(open_movie(folder), "ser"))
    monkeypatch.setattr("napari.current_viewer", lambda: viewer)
    frames = [x.read_bytes() for x in sorted(folder.iterdir())]
    for _ in range(2):
        viewer.layers.selection = {viewer.layers[0]}
        _commands.new_mask(viewer)
    _, mask, other = viewer.layers
    keeper, own = unsaved.keeper_of(viewer), folder / "cells_mask.tif"
    for column in (1, 5):  # the second time it is the mask's own file
        mask.paint((0, 4, column), 1)
        _writer.write_mask(str(own), *mask.as_layer_data_tuple()[:2])
        assert keeper.unsaved == []
    assert read_segmentation(own).mask[0, 4, 5] == 1
    result = folder / "cells_RES"
    assert [beside.save(viewer, [mask], result) for _ in range(2)] == [result] * 2
    assert beside.last_place(viewer, [mask]) == result
    for layer, file in ((other, "cells_mask.tif"), (mask, "t000.tif")):
        with pytest.raises(FileError, match="over the image ser"):
            _writer.write_mask(str(folder / file), *layer.as_layer_data_tuple()[:2])
    rewritten(own, (1, 7, 8))  # it may be an image now
    with pytest.raises(FileError, match="over the image ser"):
        _writer.write_mask(str(own), *mask.as_layer_data_tuple()[:2])
    assert read_segmentation(own).mask[1, 7, 8] == 1
    assert [x.read_bytes() for x in sorted(folder.glob("t0*"))] == frames


def test_several_films_of_one_size_leave_open_whose_a_mask_is(tmp_path: Path) -> None:
    other = image_layers(
        Image(np.zeros((1, 4, 5), np.uint8), GEOMETRIES["turned film"]),
        "other",
        source=tmp_path / "other.png",
    )
    viewer = viewer_with(film(tmp_path), *other)
    words = {k: getattr(viewer.layers[0], k) for k in ("scale", "affine", "units")}
    mask = viewer.add_labels(np.ones((4, 5), np.uint8), **words)
    [layer] = beside.layer_data(viewer, [mask])
    assert geometry_of(layer) == GEOMETRIES["turned film"]
    with pytest.raises(ConfigError, match="which file it belongs to"):
        beside.place_beside([layer])
    viewer.layers.pop(1)
    assert (
        beside.place_beside(beside.layer_data(viewer, [mask])).name == "film_mask.png"
    )


@pytest.mark.parametrize(
    ("own", "name"), [("m.mhd", "m.mha"), ("m.tiff", "m.tiff"), ("m.jpg", "m.png")]
)
def test_a_mask_goes_back_to_what_can_be_written(own: str, name: str) -> None:
    seg = mask_of(TWO, Geometry.pixels(2))
    assert beside.place_beside(segmentation_layers(seg, "m", path=own)) == Path(name)


def test_a_dicom_seg_goes_back_with_its_image_only(tmp_path: Path) -> None:
    seg = mask_of(TWO, Geometry.pixels(2))
    lonely = segmentation_layers(seg, "m", path="m.dcm")
    with pytest.raises(ConfigError, match="needs the image"):
        beside.place_beside(lonely)
    known = segmentation_layers(seg, "m", path="m.dcm", source="i.dcm")
    assert beside.place_beside(known) == Path("m.dcm")
    (tmp_path / "m").mkdir()  # a folder of one PNG a structure
    split = segmentation_layers(seg, "m", path=tmp_path / "m")
    assert beside.place_beside(split) == tmp_path / "m.png"


def mothers_and_daughters(tmp_path: Path) -> tuple[list[LayerData], list[TrackRow]]:
    """A cell (1) in frames 0 and 1, its daughters (2, 3) in frame 2."""
    masks = np.zeros((3, 8, 9), np.uint16)
    masks[:2, 1:3, 1:3] = 1
    masks[2, 1:3, 1:3], masks[2, 5:7, 5:7] = 2, 3
    rows = [TrackRow(1, 0, 1), TrackRow(2, 2, 2, 1), TrackRow(3, 2, 2, 1)]
    place = Geometry.pixels(2)
    movie = tmp_path / "movie.tif"
    mask = movie_mask_layer(masks, "m", place, range(3), source=movie)
    nodes = [n for t, m in enumerate(masks) for n in nodes_of(t, m)]
    return [mask, tracks_layer(rows, nodes, "t", place, (8, 9))], rows


def test_mending_a_result_keeps_its_lineage(tmp_path: Path) -> None:
    from medseg.io.ctc import read_track_table

    layers, rows = mothers_and_daughters(tmp_path)
    folder = tmp_path / "by.name_RES"  # a dot in a name is no suffix
    _writer.save_result(folder, layers)
    reader = _reader.get_folder_reader(str(folder))
    assert reader is not None
    viewer = viewer_with(*reader(str(folder)))
    mask = viewer.layers[0]
    assert isinstance(mask, Labels)
    mask.data[2, 0, 8] = 9  # a cell that was missed
    mask.data[1][mask.data[1] == 1] = 0  # and one that was none
    group = beside.members(viewer, mask)
    target = beside.place_beside(beside.layer_data(viewer, group))
    assert beside.save(viewer, group, target) == target == folder
    found = {r.label: r for r in read_track_table(folder / "res_track.txt")}
    assert found == {
        1: TrackRow(1, 0, 0),
        2: rows[1],
        3: rows[2],
        9: TrackRow(9, 2, 2),
    }


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tracks.csv", ""),
        ("Notes.TXT", ""),
        ("res_track.txt", "changed since"),
        ("mask000.tif", "changed since"),
        ("mask999.tif", "changed since"),
        ("mask", "changed since"),
    ],
)
def test_only_masks_and_lineage_of_a_result_count_as_its_change(
    name: str, reason: str, tmp_path: Path
) -> None:
    folder = tmp_path / "01_RES"
    _writer.save_result(folder, mothers_and_daughters(tmp_path)[0])
    reader = _reader.get_folder_reader(str(folder))
    assert reader is not None
    viewer = viewer_with(*reader(str(folder)))
    unsaved.keeper_of(viewer)
    (folder / name).write_bytes(b"by another program")
    found = beside.taken(viewer, [viewer.layers[0]], folder)  # type: ignore[list-item]
    assert (reason in found) if reason else not found


def test_a_result_that_a_run_is_writing_is_left_to_it(tmp_path: Path) -> None:
    layers, _ = mothers_and_daughters(tmp_path)
    folder = tmp_path / "01_RES"
    folder.mkdir()
    with (
        hold(folder),
        pytest.raises(LockedError, match="another run holds this folder"),
    ):
        _writer.save_result(folder, layers)
    assert not list(folder.iterdir())
    _writer.save_result(folder, layers)


def test_parents_come_before_their_daughters() -> None:
    known = [TrackRow(1, 0, 1), TrackRow(2, 2, 3, 1), TrackRow(4, 2, 3, 7)]
    rows = [TrackRow(1, 0, 2), TrackRow(2, 2, 3), TrackRow(4, 2, 3)]
    assert _writer.with_parents(rows, known) == rows
    assert _writer.with_parents(known[:2], known) == known[:2]


def test_the_cells_of_a_movie_in_one_file_go_beside_it(tmp_path: Path) -> None:
    layers, _ = mothers_and_daughters(tmp_path)
    viewer = viewer_with(layers[0])
    viewer.layers.selection.clear()
    _commands.save_beside(viewer)
    assert (tmp_path / "movie_RES" / "res_track.txt").exists()
    with pytest.raises(FileError, match="is a folder"):
        _writer.save_result(tmp_path / "x.tif", layers)


def test_several_lineages_of_one_mask_are_not_chosen_from(tmp_path: Path) -> None:
    layers, _ = mothers_and_daughters(tmp_path)
    viewer = viewer_with(layers[0])
    viewer.layers[0].metadata["medseg"]["path"] = "01_RES"
    made = {"tracks_of": str(viewer.layers[0].unique_id)}
    for own in ({"path": "01_RES"}, made, made):
        tracks = viewer_with(layers[1]).layers.pop()
        known = tracks.metadata["medseg"]
        tracks.metadata = {"medseg": {**known, **own}}
        viewer.add_layer(tracks)
    with pytest.raises(ConfigError, match="2 tracks layers belong to"):
        beside.save(viewer, [viewer.layers[0]], tmp_path / "01_RES")
    viewer.layers.pop()  # an edited one counts more than the one that was opened
    folder = beside.save(viewer, [viewer.layers[0]], tmp_path / "01_RES")
    assert (folder / "res_track.txt").exists()


def test_of_a_pyramid_the_finest_level_is_saved(tmp_path: Path) -> None:
    fine = np.arange(64, dtype=np.uint8).reshape(8, 8)
    units = ("mm", "mm")
    viewer = ViewerModel()
    image = viewer.add_image([fine, fine[::2, ::2]], scale=(0.5, 0.5), units=units)
    assert image.multiscale
    _writer.write_image(str(tmp_path / "i.tif"), *image.as_layer_data_tuple()[:2])
    found = read_image(tmp_path / "i.tif")
    np.testing.assert_array_equal(found.pixels, fine[None])
    assert found.geometry.spacing == (0.5, 0.5)
    mask = viewer.add_labels([fine, fine[::2, ::2]], scale=(0.5, 0.5), units=units)
    _writer.write_mask(str(tmp_path / "m.tif"), *mask.as_layer_data_tuple()[:2])
    seg = read_segmentation(tmp_path / "m.tif")
    np.testing.assert_array_equal(seg.mask, fine)
    assert seg.geometry.spacing == (0.5, 0.5)


def test_a_view_of_a_mask_does_not_hide_whose_it_is(tmp_path: Path) -> None:
    path = tmp_path / "film.tif"
    viewer = viewer_with(
        *image_layers(Image.from_array(np.zeros((1, 4, 5), np.uint8)), "f", source=path)
    )
    mask = viewer.add_labels(np.ones((4, 5), np.uint8))
    for own in ({"role": "view"}, {"role": "probability", "source": None}):
        viewer.add_labels(np.ones((4, 5), np.uint8), metadata={"medseg": own})
    lent = _writer.with_facts(mask.as_layer_data_tuple(), viewer)
    assert facts_of(lent)["source"] == str(path)


def test_a_mask_that_is_named_anew_keeps_its_lineage(tmp_path: Path) -> None:
    from medseg.io.ctc import read_track_table
    from medseg.lineage import TrackGraph
    from medseg.napari_plugin.lineage_layers import show_tracks
    from medseg.napari_plugin.mask_frames import frames_of
    from medseg.track import observe

    layers, rows = mothers_and_daughters(tmp_path)
    viewer = ViewerModel()
    mask = viewer.add_labels(layers[0][0])
    cells = observe(frames_of(mask))
    graph = TrackGraph.from_rows(rows, cells.frame, cells.label, cells.centroid)
    show_tracks(viewer, mask, graph, None)
    mask.name = "another"
    folder = tmp_path / "01_RES"
    mask.metadata = {"medseg": {"frames": range(3), "geometry": Geometry.pixels(2)}}
    beside.save(viewer, [mask], folder)
    assert read_track_table(folder / "res_track.txt") == tuple(rows)


def test_tables_of_a_former_result_go(tmp_path: Path) -> None:
    import json

    from medseg.batch.journal import hash_file

    layers, _ = mothers_and_daughters(tmp_path)
    folder = _writer.save_result(tmp_path / "01_RES", layers)
    for name in ("cells.csv", "mine.csv"):
        (folder / name).write_text("1")
    record = {"outputs": {"cells.csv": hash_file(folder / "cells.csv")}}
    (folder / "medseg-run.json").write_text(json.dumps(record))
    _writer.save_result(folder, layers)
    left = {p.name for p in folder.glob("*.csv")}
    assert left == {"mine.csv"}


def test_large_labels_need_no_large_table(tmp_path: Path) -> None:
    mask = np.array([[0, 3_000_000_000], [7, 0]], np.uint32)
    pairs = np.array([[7, 1], [3_000_000_000, 2]])
    found = _writer.relabelled(tmp_path, 0, mask, pairs)
    np.testing.assert_array_equal(found, [[0, 2], [1, 0]])
    with pytest.raises(FileError, match="1 cells of frame 0 have no track"):
        _writer.relabelled(tmp_path, 0, mask, pairs[:1])

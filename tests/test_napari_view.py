"""The View slices widget and what it works out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari")

from medseg.geometry import Geometry
from medseg.image import Image
from medseg.napari_plugin.display import (
    CT,
    FILM,
    Orientation,
    Preset,
    SliceScores,
    camera_of,
    orientations,
    presets_for,
    sample,
)
from medseg.napari_plugin.layers import facts, image_layers
from medseg.napari_plugin.widgets.view import ViewWidget

pytestmark = pytest.mark.gui
RNG = np.random.default_rng(0)
VOLUME = RNG.integers(-1000, 1000, (6, 8, 10)).astype(np.int16)


def add(viewer: Any, pixels: Any, geometry: Geometry, **meta: Any) -> Any:
    image = Image(pixels[None], geometry, meta)
    [(data, keywords, _)] = image_layers(image, "image")
    return viewer.add_image(data, **keywords)


def add_doubt(viewer: Any, values: list[float]) -> Any:
    data = np.zeros((len(values), 8, 10), np.float32)
    data += np.array(values, np.float32)[:, None, None]
    own = facts(Geometry.pixels(3))
    own["medseg"]["role"] = "uncertainty"
    return viewer.add_image(data, name="doubt", metadata=own)


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    return make_napari_viewer(strict_qt=True)


def widget_of(viewer: Any) -> ViewWidget:
    widget = ViewWidget(viewer)
    viewer.window.add_dock_widget(widget, name="View slices")
    return widget


def finish(widget: ViewWidget) -> None:
    for _ in range(100):
        if not widget._timer.isActive():
            return
        widget._work()


def test_percentiles_are_numpys_and_a_flat_image_has_a_window() -> None:
    pixels = RNG.normal(size=(20, 30)).astype(np.float32)
    pixels[0, 0] = np.nan
    wanted = np.nanpercentile(pixels, (1, 99))
    np.testing.assert_allclose(FILM[0].limits(pixels), wanted, rtol=1e-5)
    assert FILM[2].limits(np.full((3, 3), 7.0)) == (7, 8)
    assert FILM[2].limits(np.full((3, 3), np.nan)) == (0, 1)
    assert CT[0].limits(pixels) == (-1350, 150)


def test_hounsfield_windows_are_for_ct_only(viewer: Any) -> None:
    geometry = Geometry.upright((3.0, 1.0, 1.0))
    ct = add(viewer, VOLUME, geometry, modality="CT")
    film = add(viewer, VOLUME[0], Geometry.upright((1.0, 1.0)), modality="DX")
    assert presets_for(ct)[:4] == CT
    assert presets_for(film) == FILM
    widget = widget_of(viewer)
    widget.image.choose(ct)
    assert [b.text() for b in widget.presets][:2] == ["CT lung", "CT soft tissue"]
    widget.presets[1].click()
    assert list(ct.contrast_limits) == [-160, 240]
    assert ct.gamma == 1
    untouched = list(film.contrast_limits)
    widget.image.choose(film)
    widget.presets[3].click()
    assert film.gamma == pytest.approx(0.8)
    assert list(film.contrast_limits) != untouched
    assert list(ct.contrast_limits) == [-160, 240]


def test_inverting_changes_the_colours_and_not_the_pixels(viewer: Any) -> None:
    layer = add(viewer, VOLUME[0], Geometry.pixels(2))
    before = layer.data.copy()
    widget = widget_of(viewer)
    widget.inverted.click()
    assert layer.colormap.name == "gray_r"
    widget.inverted.click()
    assert layer.colormap.name == "gray"
    np.testing.assert_array_equal(layer.data, before)


def test_a_large_image_is_sampled(viewer: Any) -> None:
    layer = viewer.add_image(np.zeros((40, 200, 200), np.uint8))
    assert sample(layer, viewer).size <= 2**19


def test_orientations_have_medical_names_where_they_are_known() -> None:
    assert [o.name for o in orientations(None)] == ["Plane YX", "Plane ZX", "Plane ZY"]
    axial = orientations(Geometry.upright((3.0, 1.0, 1.0)))
    assert axial == (
        Orientation("Axial", 0, upright=False),
        Orientation("Coronal", 1, upright=True),
        Orientation("Sagittal", 2, upright=True),
    )
    # A sagittal series: the first axis runs to the left, the second one down.
    turned = Geometry((1.0,) * 3, (0.0,) * 3, ((0, -1, 0), (0, 0, 1), (1, 0, 0)), "mm")
    found = orientations(turned)
    assert [o.name for o in found] == ["Sagittal", "Axial", "Coronal"]
    assert not found[0].upright


def test_each_orientation_shows_the_other_two_axes(viewer: Any) -> None:
    layer = add(viewer, VOLUME, Geometry.upright((3.0, 1.0, 1.0)))
    widget = widget_of(viewer)
    assert [b.text() for b in widget.planes] == ["Axial", "Coronal", "Sagittal"]
    for axis, shown in ((1, (0, 2)), (2, (0, 1)), (0, (1, 2))):
        widget.planes[axis].click()
        assert tuple(viewer.dims.displayed) == shown
    np.testing.assert_array_equal(layer.scale, (3, 1, 1))
    assert widget.aspect.text().startswith("Spacing 3 x 1 x 1")


def test_a_film_after_a_volume_is_upright(viewer: Any) -> None:
    add(viewer, VOLUME, Geometry.upright((3.0, 1.0, 1.0)))
    widget = widget_of(viewer)
    widget.look_along(1)
    assert camera_of(viewer).orientation2d[0] == "up"
    viewer.layers.clear()
    add(viewer, VOLUME[0], Geometry.pixels(2))
    assert camera_of(viewer).orientation2d[0] == "down"


def test_time_is_no_axis_of_space(viewer: Any) -> None:
    own = facts(Geometry.pixels(2), frames=range(6))
    viewer.add_image(VOLUME, name="movie", metadata=own)
    assert widget_of(viewer)._planes.isHidden()


def test_a_film_has_no_slices_and_no_orientation(viewer: Any) -> None:
    add(viewer, VOLUME[0], Geometry.pixels(2))
    widget = widget_of(viewer)
    assert widget._planes.isHidden()
    assert widget._slices.isHidden()


def test_the_slider_follows_and_leads_the_viewer(viewer: Any) -> None:
    viewer.add_image(np.zeros((5, 6, 8, 10), np.uint8))
    widget = widget_of(viewer)
    assert widget.axis.count() == 2
    viewer.dims.set_current_step(0, 3)
    assert (widget.number.value(), widget.slider.value()) == (3, 3)
    assert widget.place.text() == "of 4"
    widget.axis.setCurrentIndex(1)
    widget.slider.setValue(2)
    assert tuple(viewer.dims.current_step[:2]) == (3, 2)


@pytest.mark.parametrize("measure", ["mean", "p95"])
def test_scores_are_numpys_and_come_a_few_at_a_time(measure: Any) -> None:
    data = RNG.random((7, 5, 6)).astype(np.float32)
    scores = SliceScores(data, measure)
    assert not scores.work(0)
    assert np.isnan(scores.values[1:]).all()
    while not scores.work(0):
        pass
    flat = data.reshape(7, -1)
    wanted = flat.mean(1) if measure == "mean" else np.percentile(flat, 95, axis=1)
    np.testing.assert_allclose(scores.values, wanted, rtol=1e-6)
    assert scores.worst == wanted.argmax()
    assert scores.rank(scores.worst) == 1


def test_doubtful_slices_go_round() -> None:
    data = np.zeros((10, 2, 2))
    data[[2, 7]] = 0.5, 0.9
    data = data * np.ones(1)
    scores = SliceScores(data)
    scores.work(1)
    assert [scores.step(0, 1), scores.step(2, 1), scores.step(7, 1)] == [2, 7, 2]
    assert [scores.step(9, -1), scores.step(7, -1), scores.step(2, -1)] == [7, 2, 7]
    empty = SliceScores(np.zeros((3, 2, 2)))
    empty.work(1)
    assert empty.step(1, 1) == 0


def test_the_buttons_jump(viewer: Any) -> None:
    layer = add_doubt(viewer, [0.1, 0.2, 0.9, 0.1, 0.1, 0.8, 0.1, 0.1, 0.1, 0.1])
    widget = widget_of(viewer)
    assert widget.doubt.layer is layer
    assert widget.image.layer is None
    for button, step in (
        (widget.worst, 2),
        (widget.next, 5),
        (widget.next, 2),
        (widget.previous, 5),
    ):
        button.click()
        finish(widget)
        assert viewer.dims.current_step[0] == step
    assert widget.verdict.text() == "Slice 5: 0.8000, number 2 of 10 in doubt"
    viewer.layers.clear()
    assert not widget.worst.isEnabled()


def test_every_control_has_a_tooltip(viewer: Any) -> None:
    from qtpy.QtWidgets import QCheckBox, QComboBox, QPushButton, QSlider, QSpinBox

    add(viewer, VOLUME, Geometry.pixels(3))
    widget = widget_of(viewer)
    for kind in (QCheckBox, QComboBox, QPushButton, QSlider, QSpinBox):
        for child in widget.findChildren(kind):
            assert child.toolTip(), child


def test_a_preset_is_a_value() -> None:
    assert Preset("a", "b", 0, 1) == Preset("a", "b", 0, 1)

"""Pictures: what is drawn lies where the mask is, and nothing else changes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as PillowImage

from medseg.errors import ConfigError
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.labels import Label, LabelSet, chest_labels
from medseg.overlay import encode, outline, overlay, side_by_side, thumbnail, window
from medseg.segmentation import Segmentation

RED, BLUE = (255, 0, 0), (0, 0, 255)
LABELS = LabelSet(
    (Label(1, "heart", "#ff0000"), Label(2, "left_lung", "#0000ff")), "overlapping"
)
RAMP = np.tile(np.arange(200, dtype=np.uint16) * 20, (160, 1))


def film():
    return Image.from_array(RAMP[None])


def masks(**boxes):
    """Return a segmentation of boxes ``(y, x, height, width)`` on the film."""
    mask = np.zeros((2, 160, 200), np.uint8)
    for name, (y, x, h, w) in boxes.items():
        mask[LABELS.index(name), y : y + h, x : x + w] = 1
    return Segmentation(mask, LABELS, Geometry.pixels(2))


HEART = masks(heart=(40, 50, 60, 70))


def where(picture, colour):
    return np.argwhere((picture == colour).all(axis=-1))


def test_window_spans_the_percentiles():
    shown = window(RAMP)
    assert (shown.min(), shown.max()) == (0, 255)
    assert (np.diff(shown[0].astype(int)) >= 0).all()
    hot = RAMP.astype(float)
    hot[0, 0] = 1e9
    assert abs(window(hot)[50].astype(int) - shown[50]).max() <= 2


@pytest.mark.parametrize("value", [7, np.nan, np.inf])
def test_window_of_a_constant_image_is_black(value):
    assert (window(np.full((4, 5), value)) == 0).all()


def test_window_shows_what_is_not_finite_as_black():
    pixels = RAMP.astype(float)
    pixels[:, -1] = np.nan
    assert (window(pixels)[:, -1] == 0).all()


def test_window_is_the_same_for_scaled_pixels():
    assert (window(RAMP) == window(RAMP * 3.0 - 50)).all()


@pytest.mark.parametrize("width", [1, 3])
def test_the_outline_lies_in_the_mask_and_is_as_thick_as_asked(width):
    picture = overlay(film(), HEART, width=width, legend=False)
    drawn = where(picture, RED)
    inner = (60 - 2 * width) * (70 - 2 * width)
    assert len(drawn) == 60 * 70 - inner
    assert drawn.min(axis=0).tolist() == [40, 50]
    assert drawn.max(axis=0).tolist() == [99, 119]


def test_pixels_off_the_outline_are_those_of_the_image():
    picture = overlay(film(), HEART, legend=False)
    plain = overlay(film(), masks(), legend=False)
    assert (plain == window(RAMP)[..., None]).all()
    changed = (picture != plain).any(axis=-1)
    assert (changed == outline(HEART.mask[0] > 0)).all()


def test_a_structure_at_the_image_edge_is_closed():
    mask = np.ones((4, 4), bool)
    assert outline(mask, 1).sum() == 12


def test_each_structure_has_its_colour_and_the_legend_names_it():
    seg = masks(heart=(40, 50, 60, 70), left_lung=(10, 130, 100, 50))
    picture = overlay(film(), seg)
    body, strip = picture[:160], picture[160:]
    assert len(where(body, RED)) > 0
    assert len(where(body, BLUE)) > 0
    assert len(where(strip, RED)) >= 100
    assert len(where(strip, BLUE)) >= 100
    assert (strip > 200).all(axis=-1).any()


def test_a_narrow_legend_takes_more_lines():
    image = Image.from_array(RAMP[None, :, :130])
    labels = chest_labels()
    seg = Segmentation(np.zeros((5, 160, 130), np.uint8), labels, Geometry.pixels(2))
    wide = Segmentation(np.zeros((5, 160, 200), np.uint8), labels, Geometry.pixels(2))
    assert len(overlay(image, seg)) > len(overlay(film(), wide))


def test_a_large_picture_is_made_smaller_and_the_outline_follows():
    picture = overlay(film(), HEART, max_side=100, width=1, legend=False)
    assert picture.shape == (80, 100, 3)
    drawn = where(picture, RED)
    assert drawn.min(axis=0).tolist() == [20, 25]
    assert drawn.max(axis=0).tolist() == [49, 59]
    assert overlay(film(), HEART, legend=False).shape == (160, 200, 3)


def test_lines_are_drawn_where_they_were_measured():
    green = (0x7E, 0xE0, 0x81)
    line = ((80.0, 49.5), (80.0, 119.5))
    picture = overlay(film(), masks(), lines=[line], note="width", legend=False)
    drawn = where(picture, green)
    assert (drawn[:, 1].min(), drawn[:, 1].max()) == (50, 120)
    assert len(where(overlay(film(), masks(), note="width")[160:], green)) >= 100


def test_colour_images_keep_their_colours():
    pixels = np.stack([RAMP, RAMP[:, ::-1], RAMP * 0])
    shown = overlay(Image.from_array(pixels), masks(), legend=False)
    assert (shown[..., 1] == shown[:, ::-1, 0]).all()
    assert (shown[..., 2] == 0).all()


def test_of_a_volume_the_slice_with_the_largest_mask_is_drawn():
    pixels = np.zeros((1, 3, 20, 20), np.uint8)
    mask = np.zeros((3, 20, 20), np.uint8)
    mask[0, 5, 5] = 1
    mask[2, 5:15, 5:15] = 1
    labels = LabelSet((Label(1, "heart", "#ff0000"),))
    seg = Segmentation(mask, labels, Geometry.pixels(3))
    picture = overlay(Image.from_array(pixels), seg, width=1, legend=False)
    assert len(where(picture, RED)) == 36
    many = Segmentation(
        mask[None], LabelSet(labels.labels, "overlapping"), seg.geometry
    )
    same = overlay(Image.from_array(pixels), many, width=1, legend=False)
    assert (picture == same).all()
    assert thumbnail(Image.from_array(pixels)).startswith(b"\xff\xd8")


def test_touching_cells_have_different_colours_and_no_legend():
    mask = np.zeros((20, 20), np.uint16)
    mask[2:10, 2:10], mask[2:10, 10:18] = 1, 2
    cells = LabelSet((Label(1, "cell", "#ffffff"),), "instances")
    seg = Segmentation(mask, cells, Geometry.pixels(2))
    picture = overlay(Image.from_array(np.zeros((1, 20, 20))), seg)
    assert picture.shape == (20, 20, 3)
    assert (picture[3, 9] != picture[3, 10]).any()


def test_truth_and_prediction_side_by_side():
    pred = masks(heart=(45, 55, 60, 70))
    picture = side_by_side(film(), HEART, pred)
    assert picture.shape[1] == 404
    body = picture[22:182]
    left, right = where(body[:, :200], RED), where(body[:, 204:], RED)
    assert left.min(axis=0).tolist() == [40, 50]
    assert right.min(axis=0).tolist() == [45, 55]


def test_the_legend_names_what_only_the_prediction_has():
    only = Segmentation(
        HEART.mask[:1], LabelSet(LABELS.labels[:1], "overlapping"), HEART.geometry
    )
    picture = side_by_side(film(), only, HEART)
    assert len(where(picture[182:], BLUE)) >= 100


def test_files_read_back():
    picture = overlay(film(), HEART)
    png = PillowImage.open(io.BytesIO(encode(picture)), formats=("PNG",))
    assert (np.array(png) == picture).all()
    small = PillowImage.open(
        io.BytesIO(thumbnail(film(), HEART, 64)), formats=("JPEG",)
    )
    assert small.size == (64, 51)
    assert encode(picture) == encode(picture)


@pytest.mark.parametrize(
    ("call", "cause"),
    [
        (lambda: overlay(Image.from_array(RAMP[None, 1:]), HEART), "the image"),
        (lambda: overlay(film(), HEART, width=0), "width: is 0"),
        (lambda: side_by_side(film(), HEART, HEART, max_side=0), "max_side: is 0"),
        (lambda: thumbnail(film(), None, 0), "max_side: is 0"),
        (lambda: encode(RAMP, "gif"), "'gif'"),
    ],
)
def test_what_is_refused(call, cause):
    with pytest.raises(ConfigError, match=cause):
        call()

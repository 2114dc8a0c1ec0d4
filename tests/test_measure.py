"""Cardiothoracic ratio, areas, doubt and the table, on boxes for a chest."""

from __future__ import annotations

import csv
import io
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from medseg.errors import ConfigError
from medseg.geometry import Geometry
from medseg.labels import Label, LabelSet, chest_labels
from medseg.measure import COLUMNS, Line, assess, doubt, measure, table_row, to_csv
from medseg.measure.doubt import (
    EXPECTED_LOSS,
    RANGES,
    USUAL_LOSS,
    expected_dice,
    outside,
    ramp,
)
from medseg.segmentation import Segmentation

SHARED = Path(__file__).parents[2] / "shared" / "data"
NAMES = ("right_lung", "left_lung", "heart")
# Rectangles [y, x, height, width] on a film of 100 x 140 pixels.
BOXES = {
    "right_lung": (10, 5, 80, 50),
    "left_lung": (10, 75, 80, 60),
    "heart": (30, 20, 40, 60),
}
PIXELS = Geometry.pixels(2)


def chest(geometry=PIXELS, **changed):
    """Return a chest of boxes; a structure given as None is empty."""
    masks = np.zeros((3, 100, 140), np.uint8)
    for channel, (name, box) in enumerate((BOXES | changed).items()):
        if box is not None:
            y, x, h, w = box
            masks[channel, y : y + h, x : x + w] = 1
            assert NAMES[channel] == name
    labels = tuple(x for x in chest_labels() if x.name in NAMES)
    return Segmentation(masks, LabelSet(labels, "overlapping"), geometry)


# The heart is low and between the lungs, as it should be.
PLAUSIBLE = {
    "right_lung": (10, 15, 75, 35),
    "left_lung": (10, 80, 75, 33),
    "heart": (50, 42, 35, 50),
}


def test_ratio_of_heart_width_to_outer_thoracic_width():
    m = measure(chest())
    assert m.ctr == pytest.approx(60 / 130)
    assert (m.heart_width, m.thoracic_width) == (60, 130)


def test_lines_end_on_the_outer_edges_of_the_structures():
    m = measure(chest())
    assert m.heart_line == Line((49.5, 19.5), (49.5, 79.5))
    assert m.thorax_line == Line((49.5, 4.5), (49.5, 134.5))
    assert m.heart_line.length / m.thorax_line.length == pytest.approx(m.ctr)


def test_a_line_is_level_with_the_outermost_points():
    seg = chest(left_lung=(50, 75, 40, 60))
    assert measure(seg).thorax_line.start[0] == pytest.approx((49.5 + 69.5) / 2)


def test_areas_and_lung_ratio():
    m = measure(chest())
    assert (m.right_lung_area, m.left_lung_area, m.heart_area) == (4000, 4800, 2400)
    assert m.lung_ratio == pytest.approx(1.2)
    assert (m.unit, m.detector_plane) == ("px", False)


def test_millimetres_only_where_they_are_real():
    real = Geometry.upright((0.5, 0.2), detector_plane=True)
    m = measure(chest(real))
    assert (m.unit, m.detector_plane) == ("mm", True)
    assert m.heart_width == pytest.approx(60 * 0.2)
    assert m.right_lung_area == pytest.approx(4000 * 0.1)
    assert m.ctr == pytest.approx(60 / 130)


@pytest.mark.parametrize(
    ("missing", "defined"),
    [("right_lung", "heart_width"), ("heart", "thoracic_width")],
)
def test_a_missing_structure_leaves_its_values_undefined(missing, defined):
    m = measure(chest(**{missing: None}))
    assert math.isnan(m.ctr)
    assert not math.isnan(getattr(m, defined))
    assert math.isnan(getattr(m, f"{missing}_area"))
    assert (m.heart_line is None) == (missing == "heart")
    assert (m.thorax_line is None) == (missing == "right_lung")


def test_a_mask_of_other_structures_has_no_chest_values():
    labels = LabelSet((Label(1, "cord", "#ffffff"),))
    m = measure(Segmentation(np.ones((4, 4), np.uint8), labels, PIXELS))
    assert math.isnan(m.ctr)
    assert set(m.to_row().values()) == {None}


def test_a_stray_pixel_does_not_move_a_line():
    seg = chest()
    seg.mask[1, 0, 139] = 1
    seg.mask[2, 99, 0] = 1
    assert measure(seg).ctr == pytest.approx(60 / 130)


def test_a_lung_in_two_large_pieces_is_measured_whole():
    seg = chest()
    seg.mask[1, 10:90, 110:112] = 0
    assert measure(seg).thoracic_width == 130


def test_memory_is_that_of_the_boxes_around_structures():
    small = chest(heart=(80, 60, 15, 20), left_lung=(70, 90, 20, 40))
    wide = np.zeros((3, 1000, 1400), np.uint8)
    wide[:, :100, :140] = small.mask
    tracemalloc.start()
    found = measure(Segmentation(wide, small.labels, PIXELS))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == measure(small)
    assert peak < wide[0].size / 4


def test_ratio_does_not_depend_on_mirroring_or_size():
    seg = chest()
    mirrored = Segmentation(seg.mask[:, :, ::-1], seg.labels, PIXELS)
    large = Segmentation(seg.mask.repeat(2, 1).repeat(2, 2), seg.labels, PIXELS)
    for other in (mirrored, large):
        assert measure(other).ctr == pytest.approx(measure(seg).ctr)
    assert measure(large).heart_area == 4 * measure(seg).heart_area


def test_a_volume_is_refused():
    labels = LabelSet((Label(1, "heart", "#ffffff"),))
    volume = Segmentation(np.ones((2, 3, 3), np.uint8), labels, Geometry.pixels(3))
    with pytest.raises(ConfigError, match="has 2 slices"):
        measure(volume)


def test_a_volume_of_one_slice_is_a_film():
    film = chest()
    spacing = (0.5, 0.25)
    film = Segmentation(film.mask, film.labels, Geometry.upright(spacing))
    thick = Geometry.upright((7.0, *spacing))
    volume = Segmentation(film.mask[:, None], film.labels, thick)
    assert measure(volume) == measure(film)
    assert assess(volume) == assess(film)


@pytest.mark.shared
def test_ratio_of_drawn_masks_agrees_with_the_reference_table():
    folder = SHARED / "wingspan"
    if not folder.is_dir():
        pytest.skip("the data set is not here")
    errors = []
    with (folder / "ctr.csv").open() as file:
        known = [r for r in csv.DictReader(file) if r["ctr"]]
    labels = tuple(x for x in chest_labels() if x.name in NAMES)
    for row in known[::4]:
        paths = [folder / "masks" / n / f"{row['id']}.png" for n in NAMES]
        masks = [np.array(PillowImage.open(p).convert("L")) > 127 for p in paths]
        stack = np.stack(masks).astype(np.uint8)
        seg = Segmentation(stack, LabelSet(labels, "overlapping"), PIXELS)
        errors.append(abs(measure(seg).ctr - float(row["ctr"])))
    assert np.mean(errors) < 0.002
    assert np.max(errors) < 0.006


# Table


def test_a_row_has_pixels_always_and_millimetres_where_real():
    plain = table_row("a.png", measure(chest()))
    assert (plain["heart_width_px"], plain["heart_width_mm"]) == (60, None)
    assert plain["spacing_is_at_detector"] is None
    geometry = Geometry.upright((0.5, 0.2), detector_plane=True)
    placed = table_row("a.dcm", measure(chest(geometry)), doubt=0.25)
    assert (placed["heart_width_px"], placed["heart_width_mm"]) == (60, 12)
    assert (placed["right_lung_area_px"], placed["right_lung_area_mm2"]) == (4000, 400)
    assert placed["spacing_is_at_detector"] == "yes"
    assert (placed["status"], placed["doubt"]) == ("done", 0.25)


def test_the_table_reads_back_as_it_was_written():
    odd = 'odd, "name"\n.png'
    rows = [
        table_row(odd, measure(chest(heart=None))),
        table_row("b.png", error="b.png: cut short. Copy it again."),
    ]
    back = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert tuple(back[0]) == COLUMNS
    assert back[0]["name"] == odd
    assert (back[0]["ctr"], back[0]["thoracic_width_px"]) == ("", "130.0")
    assert (back[1]["status"], back[1]["ctr"]) == ("failed", "")
    assert back[1]["message"].startswith("b.png: cut short")
    assert to_csv([{"a": math.nan, "b": 0}], ["a", "b", "c"]) == "a,b,c\n,0,\n"


# Doubt


def test_a_plausible_chest_gives_no_doubt():
    found = assess(chest(**PLAUSIBLE))
    assert found.score == 0
    assert found.reasons == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"heart": None}, "heart is missing"),
        ({"left_lung": None}, "left lung is missing"),
        ({"left_lung": (10, 115, 20, 4)}, "left to right lung area"),
        ({"heart": (10, 60, 10, 10)}, "heart level"),
        ({"heart": (55, 95, 35, 20)}, "heart between the lungs"),
        ({"left_lung": (10, 0, 80, 5)}, "heart between the lungs"),
    ],
)
def test_an_implausible_chest_gives_doubt_and_says_why(changes, reason):
    found = assess(chest(**(PLAUSIBLE | changes)))
    assert found.score > 0.3
    assert any(r.startswith(reason) for r in found.reasons)


def test_pieces_raise_doubt():
    seg = chest(**PLAUSIBLE)
    seg.mask[2, 95:99, 100:130] = 1
    assert 0.1 < doubt(seg) < 0.6
    assert assess(seg).reasons == ("heart is in 2 pieces",)


def soft(seg, sure):
    """Return probabilities: ``sure`` inside the mask, the rest outside."""
    return np.where(seg.mask > 0, sure, 1 - sure).astype(np.float32)


def test_doubt_falls_as_the_probabilities_get_surer():
    seg = chest(**PLAUSIBLE)
    scores = [doubt(seg, soft(seg, p)) for p in (0.55, 0.9, 0.99, 1.0)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.9
    assert scores[-1] == 0


def test_borders_as_soft_as_those_of_right_masks_are_no_reason():
    seg = chest(**PLAUSIBLE)
    inside = seg.mask.astype(np.float32)
    # Of 0.9 within a mask and 0 beyond it the expected Dice is 1.8 / 1.9.
    usual = assess(seg, 0.9 * inside)
    assert min(USUAL_LOSS.values()) > 1 - 1.8 / 1.9
    assert (usual.score, usual.reasons) == (0, ())
    assert {r[-14:] for r in assess(seg, 0.7 * inside).reasons} == {"unsure borders"}
    assert all(USUAL_LOSS[name] < EXPECTED_LOSS[name] for name in USUAL_LOSS)


def test_probabilities_of_the_mask_itself_are_used():
    seg = chest(**PLAUSIBLE)
    p = soft(seg, 0.9)
    held = Segmentation(seg.mask, seg.labels, seg.geometry, probabilities=p)
    assert doubt(held) == doubt(seg, p) > doubt(seg)


def test_exclusive_probabilities_have_the_background_first():
    labels = LabelSet((Label(1, "cord", "#ffffff"),))
    mask = np.zeros((6, 6), np.uint8)
    mask[2:4, 2:4] = 1
    seg = Segmentation(mask, labels, PIXELS)
    p = np.stack([1 - mask * 1.0, mask * 1.0])
    assert doubt(seg, p) == 0
    assert doubt(seg, p[::-1]) > 0.9


def test_cells_are_judged_only_by_being_there():
    labels = LabelSet((Label(1, "cell", "#ffffff"),), "instances")
    seg = Segmentation(np.array([[1, 0, 2]]), labels, PIXELS)
    assert doubt(seg, np.zeros((5, 5))) == 0
    empty = Segmentation(np.zeros((1, 3), int), labels, PIXELS)
    assert doubt(empty) == pytest.approx(0.7)


def test_probabilities_of_another_shape_are_refused():
    with pytest.raises(ConfigError, match=r"\(3, 5, 5\)"):
        doubt(chest(), np.zeros((3, 5, 5)))


def test_expected_dice_is_the_dice_of_certain_probabilities():
    mask = np.array([True, True, False, False])
    assert expected_dice(np.array([1.0, 0, 1, 0]), mask) == 0.5
    assert expected_dice(mask * 1.0, mask) == 1
    assert expected_dice(np.ones(4), np.zeros(4, bool)) == 1


def test_ramps():
    assert [ramp(v, 1, 3) for v in (0, 1, 2, 3, 9)] == [0, 0, 0.5, 1, 1]
    limits = (0, 1, 2, 4)
    assert [outside(v, limits) for v in (-1, 0.5, 1.5, 3, 5)] == [1, 0.5, 0, 0.5, 1]
    for lowest, low, high, highest in RANGES.values():
        assert lowest < low < high < highest

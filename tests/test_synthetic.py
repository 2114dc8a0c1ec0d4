from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import polygon

from medseg.datasets import synthetic
from medseg.datasets.case import read_truth
from medseg.datasets.pixels import read_film
from medseg.datasets.synthetic import chest_film, draw_film
from medseg.datasets.synthetic_anatomy import draw_masks, rib_cage
from medseg.datasets.synthetic_frame import (
    Frame,
    enlarge,
    noise,
    paint,
    smooth,
    splat,
    spline,
)
from medseg.datasets.synthetic_marks import GLYPHS, burn_in, devices
from medseg.datasets.synthetic_sample import _TEXTS, sample_parameters
from medseg.errors import ConfigError

RIGHT_LUNG, LEFT_LUNG, HEART, RIGHT_CLAVICLE, LEFT_CLAVICLE = range(5)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def films() -> list[synthetic.SyntheticFilm]:
    return [chest_film(rng(seed), 96) for seed in range(8)]


# --- the film --------------------------------------------------------------


def test_parameters_replay_the_film():
    film = chest_film(rng(3), 64)
    again = draw_film(json.loads(json.dumps(film.parameters)), 64)
    np.testing.assert_array_equal(again.image, film.image)
    np.testing.assert_array_equal(again.masks, film.masks)


def test_same_seed_same_film_other_seed_other_film():
    np.testing.assert_array_equal(
        chest_film(rng(1), 64).image, chest_film(rng(1), 64).image
    )
    assert (chest_film(rng(1), 64).image != chest_film(rng(2), 64).image).any()


def test_bits_are_the_same_film():
    parameters = sample_parameters(rng())
    drawn = {b: draw_film(parameters, 64, bits=b).image for b in (8, 12, 16)}
    assert [d.dtype for d in drawn.values()] == [np.uint8, np.uint16, np.uint16]
    assert drawn[12].max() <= 4095
    for bits in (12, 16):
        scaled = drawn[bits] * (255 / (2**bits - 1))
        np.testing.assert_allclose(scaled, drawn[8], atol=0.54)


def test_inverted_is_the_negative():
    film, negative = chest_film(rng(4), 64), chest_film(rng(4), 64, inverted=True)
    np.testing.assert_array_equal(255 - negative.image.astype(int), film.image)
    np.testing.assert_array_equal(negative.masks, film.masks)


def test_lungs_are_darker_than_heart(films):
    for film in films:
        lungs = film.masks[:2].any(0)
        heart = (film.masks[HEART] > 0) & ~lungs
        assert film.image[lungs].mean() < film.image[heart].mean()


@pytest.mark.parametrize(
    ("options", "field"), [({"size": 16}, "size"), ({"bits": 10}, "bits")]
)
def test_what_cannot_be_drawn(options, field):
    with pytest.raises(ConfigError, match=field):
        chest_film(rng(), **{"size": 64, **options})


# --- the truth -------------------------------------------------------------


def test_masks_are_binary_and_whole(films):
    for film in films:
        assert film.masks.dtype == np.uint8
        assert film.masks.shape == (5, 96, 96)
        for k in range(3):
            assert ndimage.label(film.masks[k])[1] == 1
        assert all(mask.any() for mask in film.masks)
        assert set(np.unique(film.masks)) == {0, 1}


def test_lungs_and_heart_do_not_overlap_and_clavicles_do(films):
    for film in films:
        assert (film.masks[:3].sum(0) <= 1).all()
        for lung, clavicle in (
            (RIGHT_LUNG, RIGHT_CLAVICLE),
            (LEFT_LUNG, LEFT_CLAVICLE),
        ):
            assert (film.masks[lung] & film.masks[clavicle]).any()


def test_patients_right_is_on_the_left_of_the_picture(films):
    for film in films:
        columns = [np.nonzero(m)[1].mean() for m in film.masks]
        assert columns[RIGHT_LUNG] < columns[HEART] < columns[LEFT_LUNG]
        assert columns[RIGHT_CLAVICLE] < columns[LEFT_CLAVICLE]


def test_clavicles_are_drawn_over_the_rib_cage_only(films):
    for film in films:
        frame = Frame.of(film.parameters["frame"], 96)
        cage = frame.fill(rib_cage(film.parameters["lungs"]))
        assert not (film.masks[3:].any(0) & ~cage).any()


def test_ratio_is_what_was_sampled():
    # Upright, unbent and with blunt wobble-free walls, up to two pixels.
    parameters = sample_parameters(rng(5))
    parameters["frame"].update(angle=0.0, bend=0.0)
    for ratio in (0.40, 0.50, 0.60):
        parameters["heart"]["ratio"] = ratio
        assert draw_film(parameters, 256).ctr == pytest.approx(ratio, abs=0.012)


def test_ratio_without_heart_is_undefined():
    empty = synthetic.SyntheticFilm(np.zeros((4, 4)), np.zeros((5, 4, 4), np.uint8), {})
    assert np.isnan(empty.ctr)


def test_truth_does_not_depend_on_the_size():
    parameters = sample_parameters(rng(6))
    small, large = draw_film(parameters, 64).masks, draw_film(parameters, 256).masks
    share = large.reshape(5, 64, 4, 64, 4).mean((2, 4))
    for k in range(3):
        # Whole pixels agree exactly; only the rim may differ.
        assert (small[k][share[k] == 1] == 1).mean() > 0.98
        assert (small[k][share[k] == 0] == 0).mean() > 0.98


def test_spread_of_the_ratio():
    ratios = []
    for seed in range(40):
        parameters = sample_parameters(rng(seed))
        masks = draw_masks(parameters, Frame.of(parameters["frame"], 96))
        ratios.append(synthetic.SyntheticFilm(masks[0], masks, {}).ctr)
    ratios = np.array(ratios)
    assert 0.36 < ratios.min() < 0.45
    assert 0.55 < ratios.max() < 0.66


# --- files -----------------------------------------------------------------


def test_written_films_read_back(tmp_path):
    found = synthetic.write_films(tmp_path, 2, seed=7, size=64)
    assert found == synthetic.cases(tmp_path)
    for i, case in enumerate(found):
        film = chest_film(np.random.default_rng((7, i)), 64)
        np.testing.assert_array_equal(read_film(case).pixels[0], film.image)
        masks, annotated = read_truth(case)
        assert annotated.all()
        np.testing.assert_array_equal(masks, film.masks)
        assert case.spacing is None
    line = json.loads((tmp_path / "parameters.jsonl").read_text().splitlines()[1])
    assert line.pop("id") == found[1].id
    np.testing.assert_array_equal(draw_film(line, 64).image, film.image)


# --- marks and devices -----------------------------------------------------


def test_without_devices_and_marks():
    for seed in range(20):
        parameters = sample_parameters(rng(seed), devices=False, marks=False)
        assert parameters["devices"] == []
        assert parameters["marks"] == {"border": [0.0] * 4, "texts": []}


@pytest.mark.parametrize(
    "kind", ["wire", "line", "tube", "feeding", "pacemaker", "button"]
)
def test_every_device_leaves_a_shadow(kind):
    frame = Frame.of(sample_parameters(rng())["frame"], 64)
    shadow = devices([{"kind": kind, "jitter": [0.1] * 8}], frame)
    assert shadow.max() > 0.02
    assert shadow.min() >= 0


def test_borders_are_black_and_text_is_written():
    film = np.full((64, 64), 0.5, np.float32)
    text = {"at": [0.5, 0.5], "shift": [0, 0], "scale": 1, "grey": 1.0, "box": False}
    marks = {"border": [0.1, 0.0, 0.2, 0.0], "texts": [{**text, "text": "L"}]}
    marked = burn_in(marks, film)
    assert (film == 0.5).all()
    assert not marked[:6].any()
    assert not marked[:, :13].any()
    # An L of 5 x 7: seven pixels down and four more along its foot.
    assert (marked == 1).sum() == 11
    hidden = burn_in({"border": [0.0] * 4, "texts": [{**text, "text": ""}]}, film)
    assert (hidden == 0).any()


def test_side_markers_are_on_the_side_that_they_name():
    found = [t for s in range(200) for t in sample_parameters(rng(s))["marks"]["texts"]]
    columns = {
        side: [t["at"][1] + t["shift"][1] for t in found if t["text"][:1] == side]
        for side in "RL"
    }
    assert min(map(len, columns.values())) > 20
    assert max(columns["R"]) < 0.4  # the patient's right lung is on the film's left
    assert min(columns["L"]) > 0.6


def test_every_text_has_its_glyphs():
    assert set("".join(_TEXTS)) <= set(GLYPHS)


# --- drawing ---------------------------------------------------------------


def test_grid_is_the_inverse_of_pixels():
    frame = Frame(48, 0.45, 0.52, 0.4, 0.7, 0.12, 0.03)
    p, q = frame.grid()
    rows, columns = np.mgrid[:48, :48]
    back = frame.pixels(np.stack([p.ravel(), q.ravel()], axis=1))
    np.testing.assert_allclose(back[:, 0], rows.ravel(), atol=1e-3)
    np.testing.assert_allclose(back[:, 1], columns.ravel(), atol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_paint_agrees_with_scikit_image(seed):
    random = rng(seed)
    angle = np.sort(random.uniform(0, 2 * np.pi, 30))
    radius = random.uniform(5, 30, 30)  # some of it beyond the picture
    star = np.stack([20 + radius * np.sin(angle), 22 + radius * np.cos(angle)], 1)
    ours, theirs = np.zeros((40, 44), bool), np.zeros((40, 44), bool)
    paint(ours, star, True)
    theirs[polygon(star[:, 0], star[:, 1], theirs.shape)] = True
    np.testing.assert_array_equal(ours, theirs)


def test_paint_beside_the_picture_does_nothing():
    layer = np.zeros((8, 8), np.float32)
    for shift in (-50, 50):
        for axis in (0, 1):
            square = np.array([(0.0, 0), (0, 4), (4, 4), (4, 0)])
            square[:, axis] += shift
            paint(layer, square, 1.0)
    assert not layer.any()


def test_splat_keeps_the_amount():
    points = rng().uniform(2, 13, (50, 2))
    amounts = rng(1).uniform(0, 1, 50)
    layer = splat((16, 16), points, amounts)
    assert layer.sum() == pytest.approx(amounts.sum(), rel=1e-5)


@pytest.mark.parametrize("sigma", [0.7, 3.0, 9.0, 30.0])
def test_smooth_keeps_a_constant_and_about_the_mean(sigma):
    flat = np.full((50, 50), 3.0, np.float32)
    np.testing.assert_allclose(smooth(flat, sigma), 3.0, rtol=1e-5)
    assert enlarge(flat, 3).shape == (150, 150)


def test_wide_smooth_is_about_the_exact_blur():
    field = noise(rng(), 96, ((6, 1.0),))
    exact = ndimage.gaussian_filter(field, 9.0, mode="nearest")
    assert np.abs(smooth(field, 9.0) - exact).max() < 0.1 * np.ptp(exact)


def test_spline_goes_through_its_points():
    points = np.array([(0.0, 0.0), (1.0, 0.5), (2.0, 0.0)])
    curve = spline(points, 201)
    for point in points:
        assert np.linalg.norm(curve - point, axis=1).min() < 0.02

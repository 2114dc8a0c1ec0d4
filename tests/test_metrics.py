"""Metrics against printed numbers, laws and independent implementations."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from medseg.errors import ConfigError
from medseg.geometry import Geometry
from medseg.labels import Label, LabelSet, cell_labels, chest_labels
from medseg.metrics import (
    Counts,
    agreement,
    bootstrap_interval,
    count,
    dice,
    evaluate_pair,
    iou,
    missing_score,
    precision,
    sensitivity,
    summarise,
    surface_distances,
)
from medseg.metrics.cases import score_masks
from medseg.metrics.cells import CellCounts, count_cells, missed_cells
from medseg.metrics.evaluation import Evaluation, Problem, column
from medseg.metrics.overlap import confusion_matrix, confusion_scores, dice_from_iou
from medseg.metrics.surface import border, border_indices
from medseg.segmentation import Segmentation


def rectangles(shape, *boxes):
    """Return a mask with rectangles ``(y, x, height, width)``."""
    mask = np.zeros(shape, bool)
    for y, x, h, w in boxes:
        mask[y : y + h, x : x + w] = True
    return mask


SQUARE = rectangles((20, 20), (5, 5, 10, 10))
SHIFTED = rectangles((20, 20), (5, 6, 10, 10), (2, 2, 1, 1))
NOTHING = np.zeros((20, 20), bool)
BLOCK = rectangles((64, 64), (10, 10, 40, 40))
LEAK = rectangles((64, 64), (10, 10, 40, 40), (20, 50, 4, 12))


def blob(seed, shape=(24, 20), share=0.4):
    """Return a smooth random mask that is neither empty nor full."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 2)
    return noise > np.quantile(noise, 1 - share)


def film(masks, spacing=(1.0, 1.0), unit="mm", names=None):
    """Return overlapping labels of masks by name."""
    names = names or tuple(masks)
    labels = LabelSet(
        tuple(Label(i, n, "#ffffff") for i, n in enumerate(names, 1)), "overlapping"
    )
    pixels = np.stack([masks[n] for n in names]).astype(np.uint8)
    return Segmentation(pixels, labels, Geometry.upright(spacing, unit))


# Overlap


def test_dice_and_iou_of_two_overlapping_squares():
    a = np.array([[1, 1, 0], [1, 1, 0]], bool)
    b = np.array([[0, 1, 1], [0, 1, 1]], bool)
    assert count(a, b) == Counts(tp=2, fp=2, fn=2, tn=0)
    assert dice(count(a, b)) == 0.5
    assert iou(count(a, b)) == pytest.approx(1 / 3)


def test_dice_of_a_leak():
    assert dice(count(LEAK, BLOCK)) == pytest.approx(0.985222, abs=1e-6)


def test_sensitivity_and_precision_are_each_other_with_the_masks_swapped():
    there, back = count(LEAK, BLOCK), count(BLOCK, LEAK)
    assert sensitivity(there) == 1
    assert precision(there) == pytest.approx(1600 / 1648)
    assert (sensitivity(back), precision(back)) == (precision(there), 1)


@pytest.mark.parametrize(
    ("jaccard", "expected"),
    [(0.946, 0.9723), (0.95, 0.9744), (0.868, 0.9293), (0.882, 0.9373)],
)
def test_dice_from_iou(jaccard, expected):
    assert dice_from_iou(jaccard) == pytest.approx(expected, abs=5e-5)


def test_dice_from_iou_holds_for_each_case_but_not_for_the_means():
    cases = [count(blob(i), blob(i + 50)) for i in range(5)]
    for c in cases:
        assert dice_from_iou(iou(c)) == pytest.approx(dice(c))
    jaccards = np.array([0.99, 0.5])
    assert dice_from_iou(jaccards.mean()) == pytest.approx(0.853868, abs=1e-6)
    assert dice_from_iou(jaccards).mean() == pytest.approx(0.830821, abs=1e-6)


def test_confusion_of_two_classes():
    scores = confusion_scores(np.array([[50, 10], [5, 35]]))
    assert scores.pixel_accuracy == pytest.approx(0.85)
    assert scores.mean_class_accuracy == pytest.approx(0.854167, abs=1e-6)
    assert scores.mean_iou == pytest.approx(0.734615, abs=1e-6)
    assert scores.fw_iou == pytest.approx(0.741538, abs=1e-6)


def test_all_background_scores_well_by_accuracy_alone():
    truth = np.zeros((100, 100), np.uint8)
    truth[:10, :10] = 1
    nothing = np.zeros_like(truth)
    scores = confusion_scores(confusion_matrix(nothing, truth, 2))
    assert (scores.pixel_accuracy, scores.mean_iou) == (0.99, 0.495)
    assert dice(count(nothing > 0, truth > 0)) == 0


def test_confusion_matrix_agrees_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    truth, pred = random.integers(0, 4, (2, 9, 7))
    ours = confusion_matrix(pred, truth, 4)
    wide = pred.astype(np.uint64)
    assert (confusion_matrix(wide, truth, 4) == ours).all()
    assert (ours == metrics.confusion_matrix(truth.ravel(), pred.ravel())).all()
    jaccard = metrics.jaccard_score(truth.ravel(), pred.ravel(), average=None)
    assert confusion_scores(ours).mean_iou == pytest.approx(jaccard.mean())


def test_a_class_in_neither_mask_is_left_out_of_the_means():
    truth = np.array([0, 0, 1, 1])
    two, three = (confusion_scores(confusion_matrix(truth, truth, n)) for n in (2, 3))
    assert two == three
    empty = confusion_scores(np.zeros((2, 2), int))
    assert np.isnan(empty.mean_iou)


@pytest.mark.parametrize(
    ("pred", "truth", "cause"),
    [
        (np.zeros((2, 3), bool), np.zeros((3, 2), bool), r"\(2, 3\), the truth \(3, 2"),
        (np.zeros(3, np.uint8), np.zeros(3, bool), "prediction is uint8"),
        (np.zeros(3, bool), np.zeros(3), "truth is float64"),
    ],
)
def test_masks_that_cannot_be_compared(pred, truth, cause):
    with pytest.raises(ConfigError, match=cause):
        count(pred, truth)


def test_label_maps_that_cannot_be_compared():
    good = np.array([0, 1])
    with pytest.raises(ConfigError, match=r"labels 0\.\.2"):
        confusion_matrix(good, np.array([0, 2]), 2)
    with pytest.raises(ConfigError, match="shape"):
        confusion_matrix(good, np.array([0]), 2)


# Borders


@pytest.mark.parametrize("shape", [(1, 1), (7,), (9, 8), (5, 6, 7)])
def test_border_is_the_mask_minus_its_erosion(shape):
    for share in (0.3, 0.9, 1.0):
        mask = np.random.default_rng(1).random(shape) < share
        cross = ndimage.generate_binary_structure(mask.ndim, 1)
        expected = mask & ~ndimage.binary_erosion(mask, cross)
        assert (border(mask) == expected).all()
        assert (border_indices(mask) == np.argwhere(expected)).all()


@pytest.mark.parametrize(
    ("spacing", "hd", "hd95", "assd", "nsd"),
    [
        ((1, 1), 4.242641, 1.0, 0.551269, 0.986301),
        ((2.0, 0.5), 6.184658, 0.5, 0.331297, 0.986301),
    ],
)
def test_distances_of_the_square(spacing, hd, hd95, assd, nsd):
    d = surface_distances(SHIFTED, SQUARE, spacing)
    assert d.hausdorff() == pytest.approx(hd, abs=1e-6)
    assert d.hausdorff(95) == pytest.approx(hd95, abs=1e-6)
    assert d.assd() == pytest.approx(assd, abs=1e-6)
    assert d.nsd(1.0) == pytest.approx(nsd, abs=1e-6)


def test_hd95_of_the_leak_depends_on_how_directions_are_joined():
    d = surface_distances(LEAK, BLOCK, (1, 1))
    assert d.hausdorff() == 12
    assert d.hausdorff(95) == pytest.approx(9.0)
    assert d.hausdorff(95, "pooled") == pytest.approx(5.0)


def brute_force(a, b, spacing):
    """Return the nearest distance of every border pixel, by all pairs."""
    pa, pb = (np.argwhere(m & ~ndimage.binary_erosion(m)) * spacing for m in (a, b))
    return np.linalg.norm(pa[:, None] - pb[None], axis=-1).min(axis=1)


@pytest.mark.parametrize("spacing", [(1, 1), (0.35, 0.35), (3.0, 0.4)])
@pytest.mark.parametrize("seed", range(4))
def test_distances_agree_with_all_pairs_and_with_distance_transforms(seed, spacing):
    a, b = blob(seed), blob(seed + 99)
    d = surface_distances(a, b, spacing)
    np.testing.assert_allclose(d.pred_to_truth, brute_force(a, b, spacing), atol=1e-12)
    np.testing.assert_allclose(d.truth_to_pred, brute_force(b, a, spacing), atol=1e-12)
    field = ndimage.distance_transform_edt(~border(b), sampling=spacing)
    np.testing.assert_allclose(d.pred_to_truth, field[border(a)], atol=1e-12)


def test_distances_obey_the_laws_of_a_distance():
    a, b, c = blob(1), blob(2), blob(3)
    d = surface_distances
    assert d(a, a, (1, 1)).hausdorff() == d(a, a, (1, 1)).assd() == 0
    assert d(a, a, (1, 1)).nsd(1) == 1
    there, back = d(a, b, (1, 2)), d(b, a, (1, 2))
    for f in (lambda x: x.hausdorff(95), lambda x: x.assd(), lambda x: x.nsd(2)):
        assert f(there) == pytest.approx(f(back))
    far = d(a, c, (1, 1)).hausdorff()
    assert far <= d(a, b, (1, 1)).hausdorff() + d(b, c, (1, 1)).hausdorff()
    scaled = d(a, b, (0.5, 1.0))
    assert scaled.hausdorff() == pytest.approx(there.hausdorff() / 2)


def test_distances_in_a_volume():
    a, b = np.zeros((2, 6, 6, 6), bool)
    a[1:4, 1:4, 1:4] = True
    b[2:5, 1:4, 1:4] = True
    assert surface_distances(a, b, (3.0, 1, 1)).hausdorff() == 3.0


def test_a_distance_that_equals_the_tolerance_on_paper_is_within_it():
    a, b = rectangles((4, 20), (0, 0, 4, 17)), rectangles((4, 20), (0, 0, 4, 12))
    d = surface_distances(a, b, (0.2, 0.2))
    assert d.hausdorff() == pytest.approx(1.0)
    assert d.nsd(1.0) == 1


def test_nsd_falls_with_the_tolerance():
    d = surface_distances(LEAK, BLOCK, (1, 1))
    shares = [d.nsd(t) for t in (0.5, 1, 2, 5, 12)]
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize(
    ("call", "cause"),
    [
        (lambda d: d.hausdorff(101), "is 101"),
        (lambda d: d.hausdorff(95, "mean"), "is 'mean'"),
        (lambda d: d.nsd(0), "is 0"),
        (lambda d: surface_distances(SQUARE, SQUARE, (1.0,)), "1 entries for 2 axes"),
    ],
)
def test_distance_options_that_are_refused(call, cause):
    with pytest.raises(ConfigError, match=cause):
        call(surface_distances(SQUARE, SQUARE, (1, 1)))


# Empty masks


@pytest.mark.parametrize(
    ("pred", "truth", "spacing", "share", "far", "failed"),
    [
        (NOTHING, NOTHING, (1, 1), 1, 0, False),
        (NOTHING, SQUARE, (1, 1), 0, 28.284271, True),
        (SQUARE, NOTHING, (0.35, 0.35), 0, 9.899495, True),
        (SQUARE, SQUARE, (1, 1), 1, 0, False),
    ],
    ids=["both empty", "missed", "invented", "perfect"],
)
def test_conventions_for_empty_masks(pred, truth, spacing, share, far, failed):
    score = score_masks(pred, truth, Geometry.upright(spacing), structure="x")
    for metric, value in score.values.items():
        distance = metric in ("hd", "hd95", "assd")
        assert value == pytest.approx(far if distance else share, abs=1e-5), metric
    assert score.failed is failed


@pytest.mark.parametrize("truth", [SQUARE, NOTHING])
def test_an_absent_prediction_is_a_failure_whatever_the_truth(truth):
    score = missing_score(truth, Geometry.upright((1, 1)), structure="x")
    assert score.failed
    assert (score.values["dice"], score.values["nsd_1"]) == (0, 0)
    assert score.values["hd95"] == pytest.approx(28.284271)
    same = score_masks(NOTHING, SQUARE, Geometry.upright((1, 1)), structure="x")
    assert dict(score.values) == dict(same.values)
    assert score.counts == count(NOTHING, truth)


# Pairs


def test_structures_of_a_film_and_their_unions():
    right, left = rectangles((8, 12), (1, 1, 6, 4)), rectangles((8, 12), (1, 7, 6, 4))
    truth = film({"right_lung": right, "left_lung": left})
    pred = film({"left_lung": left, "right_lung": NOTHING[:8, :12]})
    scores = evaluate_pair(pred, truth, structures=["lungs", "left_lung"], case="a")
    assert [(s.case, s.structure) for s in scores] == [
        ("a", "lungs"),
        ("a", "left_lung"),
    ]
    assert scores[0].values["dice"] == pytest.approx(2 / 3)
    assert scores[1].values["dice"] == 1
    assert [s.failed for s in evaluate_pair(pred, truth)] == [True, False]


def test_a_structure_that_the_truth_does_not_draw_is_skipped():
    pred = film({"heart": SQUARE, "right_clavicle": SHIFTED})
    truth = film({"heart": SQUARE})
    assert [s.structure for s in evaluate_pair(pred, truth)] == ["heart"]
    asked = evaluate_pair(pred, truth, structures=["heart", "right_clavicle"])
    assert [s.structure for s in asked] == ["heart"]


def test_exclusive_and_overlapping_masks_score_alike():
    names = ("right_lung", "left_lung", "heart")
    masks = dict(zip(names, (BLOCK[:32], LEAK[32:], BLOCK[32:]), strict=True))
    masks["left_lung"] = masks["left_lung"] & ~masks["heart"]
    masks["right_lung"] = masks["right_lung"] & ~masks["heart"] & ~masks["left_lung"]
    channels = film(masks)
    values = LabelSet(channels.labels.labels, "exclusive")
    flat = sum(i * masks[n].astype(np.uint8) for i, n in enumerate(names, 1))
    one = Segmentation(flat, values, channels.geometry)
    for s in evaluate_pair(one, channels):
        assert s.values["dice"] == 1


def test_spacing_comes_from_the_mask_that_states_one():
    plain, placed = film({"heart": SQUARE}, unit="px"), film({"heart": SHIFTED}, (2, 2))
    for pair in ((plain, placed), (placed, plain)):
        (score,) = evaluate_pair(*pair)
        assert (score.unit, score.values["hd"]) == ("mm", pytest.approx(8.485281))
    (score,) = evaluate_pair(plain, plain)
    assert score.unit == "px"
    (score,) = evaluate_pair(plain, plain, spacing=(0.35, 0.35))
    assert score.unit == "mm"


def test_a_spacing_needs_one_number_an_axis():
    plain = film({"heart": SQUARE}, unit="px")
    with pytest.raises(ConfigError, match="has 3 numbers, the masks 2 axes"):
        evaluate_pair(plain, plain, spacing=(1, 1, 1))


@pytest.mark.parametrize(
    "other",
    [film({"heart": SQUARE[:10]}), film({"heart": SQUARE}, (1.0, 1.1))],
    ids=["shape", "spacing"],
)
def test_another_grid_is_refused_naming_both(other):
    with pytest.raises(ConfigError, match=r"prediction has shape.*the truth shape"):
        evaluate_pair(other, film({"heart": SQUARE}))


@pytest.mark.parametrize("wanted", [None, ["heart"]])
def test_a_structure_that_the_prediction_lacks_is_refused(wanted):
    truth, pred = film({"heart": SQUARE}), film({"left_lung": SQUARE})
    with pytest.raises(ConfigError, match="truth has heart, the prediction left_lung"):
        evaluate_pair(pred, truth, structures=wanted)


def test_nsd_is_reported_for_every_tolerance():
    truth, pred = film({"heart": SQUARE}), film({"heart": SHIFTED})
    (score,) = evaluate_pair(pred, truth, tolerances=(0.5, 2))
    assert {"nsd_0.5", "nsd_2"} <= set(score.values)


# Over cases


def scored(case, tp, fp, fn, unit="mm"):
    """Return the score of a mask with these counts, in a row of pixels."""
    truth, pred = np.zeros((2, 1, tp + fp + fn + 1), bool)
    truth[0, : tp + fn] = True
    pred[0, :tp] = pred[0, tp + fn : tp + fn + fp] = True
    geometry = Geometry.upright((1, 1), unit)
    return score_masks(pred, truth, geometry, structure="heart", case=case)


def test_macro_and_pooled_dice_of_a_large_and_a_small_case():
    rows = summarise([scored("large", 90, 10, 10), scored("small", 1, 0, 9)])
    row = next(r for r in rows if r.metric == "dice")
    assert row.mean == pytest.approx(0.540909, abs=1e-6)
    assert row.pooled == pytest.approx(0.862559, abs=1e-6)
    assert (row.n, row.n_failed, row.worst_case) == (2, 0, "small")
    assert row.sd == pytest.approx(np.std([0.9, 2 / 11], ddof=1))
    assert row.median == pytest.approx(0.540909, abs=1e-6)


def test_failed_cases_stay_in_the_mean():
    perfect = [scored(f"c{i}", 5, 0, 0) for i in range(9)]
    rows = summarise([*perfect, scored("invented", 0, 5, 0)])
    by_metric = {r.metric: r for r in rows}
    assert by_metric["dice"].mean == pytest.approx(0.9)
    assert by_metric["dice"].n_failed == 1
    assert by_metric["hd95"].worst_case == "invented"
    assert by_metric["hd95"].mean > 0
    assert np.isnan(by_metric["assd"].pooled)


def test_cases_empty_in_both_are_counted():
    rows = summarise([scored("a", 0, 0, 0), scored("b", 3, 0, 0)])
    assert {r.n_both_empty for r in rows} == {1}


def test_millimetres_and_pixels_are_never_averaged():
    rows = summarise([scored("a", 3, 1, 0, "mm"), scored("b", 3, 1, 0, "px")])
    assert [r.n for r in rows if r.metric == "dice"] == [2]
    assert [(r.unit, r.n) for r in rows if r.metric == "hd"] == [("mm", 1), ("px", 1)]


def test_one_case_has_no_spread():
    row = summarise([scored("a", 3, 1, 0)])[0]
    assert np.isnan(row.sd)
    assert row.interval.low == row.interval.high == row.mean


def test_a_case_without_a_group_is_refused():
    with pytest.raises(ConfigError, match="no group for case b"):
        summarise([scored("a", 1, 0, 0), scored("b", 1, 0, 0)], groups={"a": "p"})


def test_bootstrap_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    x = np.random.default_rng(3).normal(0.9, 0.05, 40)
    ours = bootstrap_interval(x, draws=4000)
    other = stats.bootstrap(
        (x,), np.mean, n_resamples=4000, method="percentile", rng=0
    ).confidence_interval
    assert ours.low == pytest.approx(other.low, abs=2e-3)
    assert ours.high == pytest.approx(other.high, abs=2e-3)


def test_bootstrap_is_the_same_for_the_same_seed():
    x = np.arange(10.0)
    assert bootstrap_interval(x, seed=1) == bootstrap_interval(x, seed=1)
    assert bootstrap_interval(x, seed=1) != bootstrap_interval(x, seed=2)


def test_bootstrap_draws_patients_and_not_films():
    x = np.repeat([0.0, 1.0, 0.0, 1.0], 25)
    films = bootstrap_interval(x)
    patients = bootstrap_interval(x, [f"p{i}" for i in np.repeat(range(4), 25)])
    assert patients.high - patients.low > 2 * (films.high - films.low)
    one = bootstrap_interval(x, ["p"] * 100)
    assert one.low == one.high == 0.5


def test_bootstrap_of_a_paired_difference():
    a = np.random.default_rng(0).random(30)
    interval = bootstrap_interval(a - (a - 0.01))
    assert interval.low == pytest.approx(0.01)
    assert interval.high == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("values", "options", "cause"),
    [
        ([], {}, "shape"),
        ([1, 2], {"groups": ["a"]}, "1 for 2 values"),
        ([1], {"draws": 0}, "is 0"),
    ],
)
def test_bootstrap_options_that_are_refused(values, options, cause):
    with pytest.raises(ConfigError, match=cause):
        bootstrap_interval(values, **options)


def test_agreement_of_measurements():
    found = agreement([0.5, 0.52, np.nan, 0.4], [0.49, 0.5, 0.5, np.nan])
    assert (found.n, found.n_failed) == (2, 1)
    assert found.bias == pytest.approx(0.015)
    assert found.mae == pytest.approx(0.015)
    assert found.high - found.low == pytest.approx(
        2 * 1.96 * np.std([0.01, 0.02], ddof=1)
    )
    assert np.isnan(agreement([np.nan], [1.0]).bias)
    with pytest.raises(ConfigError, match="predicted for"):
        agreement([1.0], [1.0, 2.0])


# Single cells


def cell_masks(name):
    """Return predicted and true cells ``(64, 64)``; the first two true ones touch."""
    truth = np.zeros((64, 64), np.uint16)
    truth[10:30, 10:30], truth[10:30, 30:50], truth[40:60, 10:30] = 7, 2, 3
    pred = truth.copy()
    if name == "one label":
        pred = (truth > 0).astype(np.uint16)
    elif name == "touching merged":
        pred[truth == 2] = 7
    elif name == "shifted":
        pred = np.roll(truth, 5, axis=1)
    elif name == "half":
        pred[10:20, 10:30] = 0
    elif name == "one more":
        pred[50:60, 50:60] = 9
    elif name == "random":
        pred = np.random.default_rng(1).integers(0, 4, (64, 64))
    return pred, truth


def by_sets(pred, truth):
    """Count SEG, AP50 and PQ again, with sets of pixels and without any matching."""
    found, true = (
        [set(np.flatnonzero(mask == v)) for v in np.unique(mask) if v]
        for mask in (pred, truth)
    )
    seg = sum(
        len(a & b) / len(a | b) for a in true for b in found if 2 * len(a & b) > len(a)
    )
    ious = [len(a & b) / len(a | b) for a in true for b in found]
    hits = [iou for iou in ious if iou > 0.5]  # no cell can have two of them
    wrong = len(found) + len(true) - 2 * len(hits)
    ap, pq = len(hits) / (len(hits) + wrong), sum(hits) / (len(hits) + wrong / 2)
    return {"seg": seg / len(true), "ap_50": ap, "pq": pq}


@pytest.mark.parametrize(
    "name",
    [
        "perfect",
        "one label",
        "touching merged",
        "shifted",
        "half",
        "one more",
        "random",
    ],
)
def test_cells_agree_with_a_count_by_sets(name):
    pred, truth = cell_masks(name)
    assert count_cells(pred, truth).values() == pytest.approx(by_sets(pred, truth))


def test_touching_cells_with_one_number_score_badly_though_dice_is_one():
    masks = (
        Segmentation(m, cell_labels(), Geometry.pixels(2))
        for m in cell_masks("one label")
    )
    [score] = evaluate_pair(*masks)
    assert score.values["dice"] == 1
    assert score.values["seg"] == pytest.approx(1 / 3)
    assert score.values["ap_50"] == score.values["pq"] == 0


def test_cells_are_scored_where_both_masks_have_single_cells():
    pred, truth = cell_masks("one label")
    single = Segmentation(truth, cell_labels(), Geometry.pixels(2))
    labels = LabelSet(cell_labels().labels, "exclusive")
    plain = Segmentation(pred, labels, Geometry.pixels(2))
    for pair in ((single, plain), (plain, single)):
        [score] = evaluate_pair(*pair)
        assert "seg" not in score.values


@pytest.mark.parametrize(
    ("pred", "truth", "share"), [(0, 0, 1), (1, 0, 0), (0, 1, 0), (1, 1, 1)]
)
def test_conventions_for_masks_without_cells(pred, truth, share):
    masks = (np.full((4, 4), value) for value in (pred, truth))
    assert set(count_cells(*masks).values().values()) == {share}


def test_cells_of_all_images_are_pooled_and_missing_images_count():
    """Three true cells, then one: found all, and then nothing."""
    pred, truth = cell_masks("perfect")
    one = np.where(truth == 7, 7, 0)
    masks = (Segmentation(m, cell_labels(), Geometry.pixels(2)) for m in (pred, truth))
    scores = evaluate_pair(*masks, case="a")
    scores.append(
        missing_score(
            one > 0,
            Geometry.pixels(2),
            structure="cell",
            case="b",
            cells=missed_cells(one),
        )
    )
    rows = {row.metric: row for row in summarise(scores)}
    for metric in ("seg", "ap_50", "pq"):
        row = rows[metric]
        assert (row.n, row.n_failed, row.mean, row.worst_case) == (2, 1, 0.5, "b")
    assert rows["seg"].pooled == rows["ap_50"].pooled == 3 / 4
    assert rows["pq"].pooled == 3 / 3.5
    assert CellCounts().seg == 1


def test_evaluation_as_rows_text_and_json():
    scores = (scored("a", 3, 1, 0), scored("b", 0, 0, 4), scored("c", 0, 0, 0))
    result = Evaluation(
        scores,
        tuple(summarise(scores)),
        agreement([0.5], [0.4]),
        (Problem("b", "b: has no prediction."),),
        ("d",),
        1000,
        0,
    )
    rows = result.case_rows()
    assert rows[0]["nsd_1mm"] == scores[0].values["nsd_1"]
    assert rows[1]["failed"] == 1
    data = result.to_dict()
    assert data["problems"][0]["case"] == "b"
    assert data["ctr"]["low"] is None
    hd = next(r for r in data["summary"] if r["metric"] == "hd95_mm")
    assert hd["pooled"] is None
    text = result.table()
    assert "1 mask empty in truth and prediction" in text
    assert "1 prediction without a truth" in text
    assert "mean absolute error 0.1000, bias +0.1000, limits of agreement -" in text
    none = replace(result, ctr=agreement([np.nan], [0.4])).table()
    assert "failed 1, mean absolute error -, bias -, limits of agreement -" in none
    assert "nan" not in text + none
    two = replace(result, ctr=agreement([0.5, 0.4], [0.4, 0.4])).table()
    assert "limits of agreement -0.0886 to +0.1886" in two
    lines = text.splitlines()
    assert lines[1].split()[:4] == ["heart", "dice", "3", "1"]
    assert lines[1].endswith("b")


def test_column_names_carry_units():
    names = [column("dice", ""), column("hd95", "px"), column("nsd_2", "mm")]
    assert names == ["dice", "hd95_px", "nsd_2mm"]


# Independent implementations


@pytest.fixture(scope="module")
def monai():
    """Return MONAI's metric functions and its way of holding a mask."""
    metrics = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")

    def hot(mask):
        """Return ``(1, 2, Y, X)``: background and mask."""
        return torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32))

    return metrics, hot


CASES = [
    *((blob(i), blob(i + 31)) for i in range(4)),
    (SHIFTED, SQUARE),
    (LEAK, BLOCK),
]


# MONAI warns of an argument that it gives to itself.
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("case", range(len(CASES)))
def test_monai_agrees_on_filled_masks(monai, case):
    metrics, hot = monai
    pred, truth = CASES[case]
    for spacing in ((1.0, 1.0), (2.0, 0.5)):
        ours = surface_distances(pred, truth, spacing)
        options = {"include_background": False, "spacing": list(spacing)}
        arrays = hot(pred), hot(truth)
        hd = metrics.compute_hausdorff_distance
        for percentile in (None, 95):
            other = hd(*arrays, percentile=percentile, **options)
            expected = pytest.approx(other.item(), abs=1e-5)
            assert ours.hausdorff(percentile or 100) == expected
        for tolerance in (1.0, 3.0):
            other = metrics.compute_surface_dice(
                *arrays, class_thresholds=[tolerance], **options
            )
            assert ours.nsd(tolerance) == pytest.approx(other.item(), abs=1e-6)
        assd = metrics.compute_average_surface_distance
        one, two = (assd(*a, **options).item() for a in (arrays, arrays[::-1]))
        means = [ours.pred_to_truth.mean(), ours.truth_to_pred.mean()]
        assert sorted([one, two]) == pytest.approx(sorted(means), abs=1e-5)
    counts = count(pred, truth)
    other = metrics.compute_dice(*arrays, include_background=False)
    assert dice(counts) == pytest.approx(other.item(), abs=1e-6)
    other = metrics.compute_iou(*arrays, include_background=False)
    assert iou(counts) == pytest.approx(other.item(), abs=1e-6)


def test_monai_lets_failures_vanish_where_we_count_them(monai):
    metrics, hot = monai
    one = metrics.compute_dice(hot(SQUARE), hot(NOTHING), include_background=False)
    assert np.isnan(one.item())
    assert dice(count(SQUARE, NOTHING)) == 0


@pytest.mark.parametrize("case", range(len(CASES)))
def test_medpy_agrees_on_filled_masks(case):
    binary = pytest.importorskip("medpy.metric.binary")
    pred, truth = CASES[case]
    for spacing in ((1.0, 1.0), (2.0, 0.5)):
        ours = surface_distances(pred, truth, spacing)
        assert ours.hausdorff() == pytest.approx(binary.hd(pred, truth, spacing))
        # MedPy pools both directions.
        pooled = binary.hd95(pred, truth, spacing)
        assert ours.hausdorff(95, "pooled") == pytest.approx(pooled)
        means = [binary.asd(*pair, spacing) for pair in ((pred, truth), (truth, pred))]
        sides = [ours.pred_to_truth.mean(), ours.truth_to_pred.mean()]
        assert sorted(sides) == pytest.approx(sorted(means))
    counts = count(pred, truth)
    assert dice(counts) == pytest.approx(binary.dc(pred, truth))
    assert iou(counts) == pytest.approx(binary.jc(pred, truth))
    assert sensitivity(counts) == pytest.approx(binary.recall(pred, truth))
    assert precision(counts) == pytest.approx(binary.precision(pred, truth))


def test_surface_distance_agrees_where_its_border_does():
    sd = pytest.importorskip("surface_distance")
    found = sd.compute_surface_distances(BLOCK, LEAK, (1.0, 1.0))
    ours = surface_distances(LEAK, BLOCK, (1, 1))
    assert ours.hausdorff() == sd.compute_robust_hausdorff(found, 100)
    assert ours.hausdorff(95) == sd.compute_robust_hausdorff(found, 95)
    # Its area-weighted border differs on a single pixel, as it should.
    found = sd.compute_surface_distances(SQUARE, SHIFTED, (1.0, 1.0))
    assert sd.compute_robust_hausdorff(found, 95) == pytest.approx(3.606, abs=1e-3)
    assert surface_distances(SHIFTED, SQUARE, (1, 1)).hausdorff(95) == 1


def test_every_pair_of_structures_of_a_chest_film_scores():
    labels = chest_labels()
    masks = np.stack([blob(i, (32, 32)) for i in range(5)]).astype(np.uint8)
    seg = Segmentation(masks, labels, Geometry.pixels(2))
    wanted = [*labels.names, "lungs", "clavicles"]
    scores = evaluate_pair(seg, seg, structures=wanted)
    assert [s.structure for s in scores] == wanted
    perfect = itertools.product(scores, ("dice", "iou", "nsd_1"))
    assert all(s.values[k] == 1 for s, k in perfect)

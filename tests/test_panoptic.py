"""Objects laid over classes against a worked example, and laws on drawn masks."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.errors import ConfigError
from medseg.metrics.objects import match_ious, match_objects
from medseg.panoptic import Detections, instance_map, merge, objects

# panoptic-merge
MASKS = [
    [[1, 1, 0, 0], [1, 1, 0, 0]],
    [[0, 1, 1, 0], [0, 0, 1, 0]],
    [[1, 1, 0, 0], [0, 0, 0, 0]],
]
THREE = Detections.from_masks(MASKS, [0.9, 0.8, 0.7], [2, 2, 2])
STUFF = np.ones((2, 4), np.int32)
BLOCKS = np.repeat([[3, 0, 7, 7], [3, 5, 5, 0]], 3, axis=0)


def pick(found: Detections, rows: list[int]) -> Detections:
    parts = (found.boxes, found.scores, found.classes, found.masks)
    return Detections(*(part[rows] for part in parts))


def test_merging_objects_with_classes():
    # panoptic-merge
    expected = [[2001, 2001, 2002, 1000]] * 2
    merged = merge(STUFF, THREE, overlap=0.5, divisor=1000)
    assert merged.tolist() == expected
    assert merged.dtype == np.int32
    assert instance_map(THREE).tolist() == [[1, 1, 2, 0]] * 2


def test_the_order_in_which_objects_are_given_does_not_matter():
    turned = pick(THREE, [2, 0, 1])
    assert np.array_equal(merge(STUFF, turned), merge(STUFF, THREE))
    assert np.array_equal(instance_map(turned), instance_map(THREE))


def test_without_objects_the_classes_stay():
    none = THREE.above(0.95)
    classes = np.arange(8, dtype=np.uint8).reshape(2, 4)
    assert len(none) == 0
    assert np.array_equal(merge(classes, none), classes.astype(int) * 1000)
    assert np.array_equal(merge(classes, none, divisor=7), classes * 7)
    assert not instance_map(none).any()


def test_every_pixel_has_one_id():
    rng = np.random.default_rng(1)
    masks = np.zeros((12, 20, 20), bool)
    for mask, (y, x) in zip(masks, rng.integers(0, 15, (12, 2)), strict=True):
        mask[y : y + 5, x : x + 5] = True
    found = Detections.from_masks(masks, rng.random(12), rng.integers(1, 4, 12))
    classes = rng.integers(0, 3, (20, 20))
    before = classes.copy(), masks.copy()
    ids, places = merge(classes, found), instance_map(found)
    assert np.array_equal(ids[places == 0], classes[places == 0] * 1000)
    numbers = np.unique(places[places > 0])
    assert numbers.tolist() == list(range(1, len(numbers) + 1))
    things = {int(ids[places == k][0]) for k in numbers}
    assert len(things) == len(numbers)
    for k in numbers:
        assert len(np.unique(ids[places == k])) == 1
    # Objects of a class are counted from 1.
    for kind in {thing // 1000 for thing in things}:
        counts = sorted(thing % 1000 for thing in things if thing // 1000 == kind)
        assert counts == list(range(1, len(counts) + 1))
    assert np.array_equal(classes, before[0])
    assert np.array_equal(masks, before[1])


def test_touching_cells_come_apart_without_a_watershed():
    left, right = np.zeros((2, 8, 12), bool)
    left[2:6, 1:7] = True
    right[2:6, 6:11] = True  # one column is in both
    found = Detections.from_masks([left, right], [0.6, 0.9], [1, 1])
    cells = instance_map(found)
    assert (cells == 1).sum() == 20
    assert (cells == 2).sum() == 20
    assert cells[3, 6] == 1  # the better one has the seam


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        # Half of the second is free, then a quarter of the third.
        (0.0, [1, 1, 1, 1, 2, 2, 3, 0]),
        (0.49, [1, 1, 1, 1, 2, 2, 0, 0]),
        # The second goes, and so three quarters of the third are free.
        (0.5, [1, 1, 1, 1, 2, 2, 2, 0]),
    ],
)
def test_an_object_goes_when_too_little_of_it_is_free(overlap, expected):
    masks = np.zeros((3, 1, 8), bool)
    masks[0, 0, :4] = masks[1, 0, 2:6] = masks[2, 0, 3:7] = True
    found = Detections.from_masks(masks, [0.9, 0.8, 0.7], [1, 1, 1])
    assert instance_map(found, overlap)[0].tolist() == expected


def test_objects_of_a_map_give_it_back():
    found = objects(BLOCKS, {3: 1, 5: 2, 7: 1})
    assert found.classes.tolist() == [1, 2, 1]
    # Half open, y first: rows 0 .. 5 of column 0, and so on.
    assert found.boxes.tolist() == [[0, 0, 6, 1], [3, 1, 6, 3], [0, 2, 3, 4]]
    expected = np.select([BLOCKS == 3, BLOCKS == 5, BLOCKS == 7], [1, 2, 3])
    assert np.array_equal(instance_map(found), expected)
    assert objects(BLOCKS).classes.tolist() == [1, 1, 1]
    assert len(objects(np.zeros((4, 5), np.int32))) == 0


def test_only_good_objects_are_kept():
    assert THREE.above(0.8).scores.tolist() == pytest.approx([0.9, 0.8])
    assert instance_map(THREE.above(0.85)).tolist() == [[1, 1, 0, 0]] * 2


def test_panoptic_quality():
    # pq-identity: matches of IoU 0.9 and 0.6, one made up, one missed
    score = match_ious([[0.9, 0, 0], [0, 0.6, 0], [0, 0, 0]])
    assert (score.tp, score.fp, score.fn) == (2, 1, 1)
    quality = (score.pq, score.sq, score.rq)
    assert quality == pytest.approx((0.5, 0.75, 2 / 3), abs=1e-6)
    assert score.pq == pytest.approx(score.sq * score.rq)
    merged = merge(STUFF, THREE)
    assert match_objects(merged, merged).pq == 1


def test_detections_that_do_not_belong_together():
    parts = (THREE.boxes, THREE.scores, THREE.classes, THREE.masks)
    for i in range(4):
        wrong = [part[:2] if k == i else part for k, part in enumerate(parts)]
        with pytest.raises(ConfigError, match="detections: have shapes"):
            Detections(*wrong)
    with pytest.raises(ConfigError, match=r"detections: have class 0\. Count from 1"):
        Detections.from_masks(MASKS, [1, 1, 1], [1, 0, 1])
    with pytest.raises(ConfigError, match="masks: number 1 is empty"):
        Detections.from_masks([MASKS[0], [[0] * 4] * 2], [1, 1], [1, 1])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones((2, 2)), "labels: is float64 of shape"),
        (np.ones((1, 2, 2), int), r"labels: is int64 of shape \(1, 2, 2\)"),
        (np.array([[1, -2]]), "labels: has a value of -2"),
    ],
)
def test_maps_that_are_none(labels, message):
    with pytest.raises(ConfigError, match=message):
        objects(labels)


def test_what_cannot_be_merged():
    with pytest.raises(ConfigError, match="classes: have none for 5"):
        objects(BLOCKS, {3: 1, 7: 1})
    for overlap in (-0.1, 1.0):
        with pytest.raises(ConfigError, match=f"overlap: is {overlap}"):
            instance_map(THREE, overlap)
    with pytest.raises(ConfigError, match=r"semantic: is float64"):
        merge(STUFF / 2, THREE)
    with pytest.raises(ConfigError, match=r"masks: are \(2, 4\), the classes \(4, 2\)"):
        merge(STUFF.T, THREE)
    with pytest.raises(ConfigError, match="divisor: is 2 for 2 objects of a class"):
        merge(STUFF, THREE, divisor=2)
    with pytest.raises(ConfigError, match="divisor: is 0 for 0 objects of a class"):
        merge(STUFF, THREE.above(1), divisor=0)
    with pytest.raises(ConfigError, match="divisor: is 1000000000 for class 2"):
        merge(STUFF, THREE, divisor=10**9)

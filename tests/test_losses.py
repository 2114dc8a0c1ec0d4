"""Losses against worked examples (ids in the comments), torch and MONAI."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss
from scipy import ndimage
from torch import Tensor, nn

from medseg.border_weights import balance_weights, border_weights
from medseg.errors import ConfigError
from medseg.losses import (
    MaskedDiceCELoss,
    binary_cross_entropy,
    cross_entropy,
    soft_dice,
)

# Two classes, 2 x 2 pixels: (1, 2, 2, 2).
P = torch.tensor([[[[0.9, 0.1], [0.6, 0.4]], [[0.1, 0.9], [0.4, 0.6]]]])
Y = torch.tensor([[[[1.0, 0], [1, 0]], [[0.0, 1], [0, 1]]]])
HALF_P = torch.full((1, 1, 4, 4), 0.5)
HALF_Y = torch.tensor([1.0, 1, 0, 0]).expand(1, 1, 4, 4)
KINDS = ("overlapping", "exclusive")


def drawn(x: Tensor) -> Tensor:
    return torch.ones(x.shape[:2])


def random_case(kind: str, size: tuple[int, ...] = (5, 6)) -> tuple[Tensor, Tensor]:
    """Return logits and target ``(3, 4, ...)``."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 4, *size, generator=generator)
    if kind == "exclusive":
        classes = torch.randint(0, 4, (3, *size), generator=generator)
        target = nn.functional.one_hot(classes, 4).movedim(-1, 1).float()
    else:
        target = (torch.rand(3, 4, *size, generator=generator) > 0.6).float()
    return logits, target


# Worked examples


def test_cross_entropy_of_two_classes():
    # ce-2class
    loss = MaskedDiceCELoss(dice=0, kind="exclusive")
    assert loss(P.log(), Y, drawn(P)).item() == pytest.approx(0.308093, abs=1e-6)


def test_cross_entropy_of_no_idea_is_log_n():
    # ce-uniform
    target = torch.tensor([1.0, 0, 0, 0]).reshape(1, 4, 1, 1)
    loss = MaskedDiceCELoss(dice=0, kind="exclusive")
    value = loss(torch.zeros(1, 4, 1, 1), target, torch.ones(1, 4))
    assert value.item() == pytest.approx(math.log(4), abs=1e-6)


@pytest.mark.parametrize(
    ("p", "y", "squared", "expected"),
    [
        # dice-squared-2class, dice-plain-2class, dice-squared-half, dice-plain-half
        (P, Y, True, 0.101796),
        (P, Y, False, 0.25),
        (HALF_P, HALF_Y, True, 1 / 3),
        (HALF_P, HALF_Y, False, 0.5),
    ],
)
def test_soft_dice(p, y, squared, expected):
    loss = soft_dice(p, y, squared=squared, smooth=0).mean()
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    reference = DiceLoss(squared_pred=squared, smooth_nr=0, smooth_dr=0)
    torch.testing.assert_close(loss, reference(p, y))


def test_soft_dice_of_an_empty_class():
    # dice-empty-smooth0, dice-empty-smooth1e-5
    empty = torch.zeros(1, 1, 2, 2)
    assert soft_dice(empty, empty, smooth=0).isnan().all()
    assert soft_dice(empty, empty, smooth=1e-5).item() == pytest.approx(0, abs=1e-7)
    assert soft_dice(empty, empty).shape == (1, 1)


# Independent implementations


@pytest.mark.parametrize("size", [(5, 6), (3, 4, 5)])
def test_exclusive_cross_entropy_is_that_of_torch(size):
    logits, target = random_case("exclusive", size)
    weights = [0.5, 1.0, 2.0, 0.0]
    for given in (None, weights):
        ours = MaskedDiceCELoss(dice=0, kind="exclusive", class_weights=given)
        theirs = nn.CrossEntropyLoss(None if given is None else torch.tensor(given))
        expected = theirs(logits, target.argmax(1))
        torch.testing.assert_close(ours(logits, target, drawn(logits)), expected)


def test_overlapping_cross_entropy_is_that_of_torch():
    logits, target = random_case("overlapping")
    ours = MaskedDiceCELoss(dice=0)
    expected = nn.BCEWithLogitsLoss()(logits, target)
    torch.testing.assert_close(ours(logits, target, drawn(logits)), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("batch", [True, False])
def test_dice_is_that_of_monai(kind, squared, batch):
    logits, target = random_case(kind)
    ours = MaskedDiceCELoss(0, 1, squared, 1e-3, kind=kind, batch=batch)
    theirs = DiceLoss(
        sigmoid=kind == "overlapping",
        softmax=kind == "exclusive",
        squared_pred=squared,
        batch=batch,
        smooth_nr=1e-3,
        smooth_dr=1e-3,
    )
    torch.testing.assert_close(
        ours(logits, target, drawn(logits)), theirs(logits, target)
    )


@pytest.mark.parametrize("size", [(5, 6), (3, 4, 5)])
def test_sum_is_that_of_monai(size):
    logits, target = random_case("exclusive", size)
    ours = MaskedDiceCELoss(0.7, 1.3, kind="exclusive")
    theirs = DiceCELoss(
        softmax=True,
        squared_pred=True,
        lambda_ce=0.7,
        lambda_dice=1.3,
        smooth_nr=1e-5,
        smooth_dr=1e-5,
    )
    torch.testing.assert_close(
        ours(logits, target, drawn(logits)), theirs(logits, target)
    )


def test_loss_of_logits_is_not_that_of_probabilities():
    # MONAI applies neither softmax nor sigmoid unless told (C5).
    logits, target = random_case("exclusive")
    raw = DiceLoss(squared_pred=True)(logits, target)
    ours = MaskedDiceCELoss(0, 1, kind="exclusive")(logits, target, drawn(logits))
    assert abs(raw - ours) > 0.01


# Laws


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_prediction_has_no_loss(kind):
    _, target = random_case(kind)
    loss = MaskedDiceCELoss(kind=kind)((target - 0.5) * 60, target, torch.ones(3, 4))
    assert loss.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [True, False])
def test_structures_that_nobody_drew_give_no_loss_and_no_gradient(kind, batch):
    logits, target = random_case(kind)
    annotated = torch.ones(3, 4)
    annotated[0, 2] = annotated[1] = 0
    loss = MaskedDiceCELoss(kind=kind, batch=batch)
    logits.requires_grad_()
    value = loss(logits, target, annotated)
    (gradient,) = torch.autograd.grad(value, logits)
    assert (gradient[0, 2] == 0).all()
    assert (gradient[1] == 0).all()
    assert (gradient[2] != 0).all()
    # Neither what is there in truth nor what the network says changes anything.
    other, changed = logits.detach().clone(), target.clone()
    other[1], other[0, 2] = 17, -5
    changed[1] = 1 - changed[1]
    if kind == "overlapping":
        changed[0, 2] = 1 - changed[0, 2]
    assert loss(other, changed, annotated) == value


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_that_nobody_labelled_give_no_loss_and_no_gradient(kind):
    logits, target = random_case(kind)
    annotated = torch.ones(3, 4, 5, 6)
    annotated[..., 2:4] = 0
    loss = MaskedDiceCELoss(kind=kind)
    logits.requires_grad_()
    value = loss(logits, target, annotated)
    (gradient,) = torch.autograd.grad(value, logits)
    assert (gradient[..., 2:4] == 0).all()
    assert (gradient[..., :2] != 0).any()
    # The same as a loss of the labelled pixels alone.
    keep = [0, 1, 4, 5]
    expected = loss(logits[..., keep], target[..., keep], torch.ones(3, 4))
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_annotated_is_exactly_zero(kind):
    logits, target = random_case(kind)
    logits.requires_grad_()
    value = MaskedDiceCELoss(kind=kind)(logits, target, torch.zeros(3, 4))
    value.backward()
    assert value == 0
    assert (logits.grad == 0).all()


def test_softmax_without_a_structure_is_that_of_the_others():
    logits, target = random_case("exclusive")
    keep = [0, 1, 3]
    target[:, 0] += target[:, 2]
    target[:, 2] = 0
    annotated = torch.tensor([1.0, 1, 0, 1]).expand(3, 4)
    loss = MaskedDiceCELoss(kind="exclusive")
    expected = loss(logits[:, keep], target[:, keep], torch.ones(3, 3))
    torch.testing.assert_close(loss(logits, target, annotated), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_pixel_terms_are_zero_where_nothing_is_drawn(kind):
    logits, target = random_case(kind)
    function = cross_entropy if kind == "exclusive" else binary_cross_entropy
    annotated = torch.tensor([1.0, 0, 1, 1]).expand(3, 4)
    terms = function(logits, target, annotated)
    assert terms.shape == logits.shape
    assert (terms[:, 1] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_pixel_weights(kind):
    logits, target = random_case(kind)
    loss = MaskedDiceCELoss(dice=0, kind=kind)
    plain = loss(logits, target, drawn(logits))
    ones = torch.ones(3, 5, 6)
    torch.testing.assert_close(loss(logits, target, drawn(logits), ones), plain)
    torch.testing.assert_close(loss(logits, target, drawn(logits), 3 * ones), 3 * plain)
    left = ones.clone()
    left[..., 3:] = 0
    half = loss(logits[..., :3], target[..., :3], drawn(logits))
    torch.testing.assert_close(loss(logits, target, drawn(logits), left), half / 2)


def test_class_weights_of_overlapping_labels():
    logits, target = random_case("overlapping")
    loss = MaskedDiceCELoss(dice=0, class_weights=[0, 2, 0, 0])
    expected = nn.BCEWithLogitsLoss()(logits[:, 1], target[:, 1])
    torch.testing.assert_close(loss(logits, target, drawn(logits)), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_logits_are_computed_in_full(kind):
    logits, target = random_case(kind, (64, 64))
    logits = logits.half()
    loss = MaskedDiceCELoss(kind=kind)
    value = loss(logits, target, drawn(logits))
    assert value.dtype == torch.float32
    assert value == loss(logits.float(), target.bool(), drawn(logits).bool())


def test_a_channel_is_left_out_in_half_precision_too():
    logits, target = random_case("exclusive")
    annotated = torch.tensor([[1, 1, 0, 1]] * 3)
    full = cross_entropy(logits, target, annotated)
    half = logits.half().requires_grad_()
    found = cross_entropy(half, target.half(), annotated)
    torch.testing.assert_close(found.float(), full, rtol=2e-3, atol=2e-3)
    found.sum().backward()
    assert (half.grad[:, 2] == 0).all()
    assert half.grad.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"cross_entropy": 0, "dice": 0}, "loss: has weights 0 and 0"),
        ({"dice": -1}, "loss: has weights 1.0 and -1"),
        ({"cross_entropy": math.nan}, "loss: has weights nan and 1.0"),
        ({"dice": math.inf}, "loss: has weights 1.0 and inf"),
        ({"smooth": 0}, r"loss\.smooth: is 0"),
        ({"smooth": math.nan}, r"loss\.smooth: is nan"),
        ({"class_weights": [1, math.nan]}, r"loss\.class_weights: is \[1, nan\]"),
        ({"class_weights": []}, r"loss\.class_weights: is \[\]"),
        ({"kind": "instances"}, r"loss\.kind: is 'instances'"),
        ({"class_weights": [1, -1]}, r"loss\.class_weights: is \[1, -1\]"),
    ],
)
def test_arguments_that_cannot_be(arguments, match):
    with pytest.raises(ConfigError, match=match):
        MaskedDiceCELoss(**arguments)


def test_one_class_weight_a_channel():
    logits, target = random_case("overlapping")
    loss = MaskedDiceCELoss(class_weights=[1, 1, 1])
    with pytest.raises(ConfigError, match="has 3 entries for 4 channels"):
        loss(logits, target, drawn(logits))


# Border weights


def brute_force(cells: np.ndarray, w0: float, sigma: float) -> np.ndarray:
    numbers = [n for n in np.unique(cells) if n]
    maps = [ndimage.distance_transform_edt(cells != n) for n in numbers]
    d1, d2 = np.sort(maps, axis=0)[:2]
    return w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2))


def test_border_weights_of_two_pixels():
    # unet-weight-map
    cells = np.zeros((1, 11), np.uint16)
    cells[0, 2], cells[0, 8] = 1, 2
    expected = [1.353353, 2.780373, *[4.867523] * 7, 2.780373, 1.353353]
    np.testing.assert_allclose(border_weights(cells)[0], expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(60, 90), (12, 20, 24)])
def test_border_weights_against_brute_force(shape):
    random = np.random.default_rng(1)
    cells = np.zeros(shape, np.int32)
    for number in (3, 4, 9, 17):
        corner = [random.integers(0, n - 4) for n in shape]
        cells[tuple(slice(c, c + 4) for c in corner)] = number
    weights = border_weights(cells, w0=7, sigma=2)
    np.testing.assert_allclose(weights, brute_force(cells, 7, 2), atol=1e-8)


def test_the_spacing_of_border_weights_may_be_an_array():
    cells = np.array([[1, 0, 2], [0, 0, 0]])
    found = border_weights(cells, spacing=np.array([2.0, 1.0]))
    np.testing.assert_array_equal(found, border_weights(cells, spacing=(2.0, 1.0)))


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_cells_have_no_border(count):
    cells = np.zeros((9, 9), np.uint8)
    cells[2:4, 2:4] = count
    assert (border_weights(cells) == 0).all()


def test_touching_cells_have_nearly_the_full_weight():
    cells = np.array([[1, 1, 1, 2, 2, 2]])
    assert border_weights(cells, w0=10, sigma=5).max() == pytest.approx(
        10 * math.exp(-1 / 50)
    )


def test_balance_weights_give_both_classes_the_same_total():
    mask = np.zeros((4, 5), bool)
    mask[0, :2] = True
    weights = balance_weights(mask)
    assert weights[mask].sum() == pytest.approx(weights[~mask].sum())
    assert weights.mean() == pytest.approx(1)
    assert (balance_weights(np.zeros((2, 2))) == 1).all()


def test_border_weights_refuse():
    with pytest.raises(ConfigError, match=r"instances: are float64\. Use"):
        border_weights(np.zeros((2, 2)))
    with pytest.raises(ConfigError, match="sigma: is 0"):
        border_weights(np.zeros((2, 2), int), sigma=0)

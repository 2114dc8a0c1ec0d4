"""Autoencoders: what the code keeps, and what a prior of shapes mends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medseg.errors import ConfigError
from medseg.networks import build
from medseg.shape_prior import ShapePrior, corrupt, learn


def discs(n: int, seed: int = 0, size: int = 32) -> np.ndarray:
    """Two discs side by side, and a band below them: ``(n, 3, size, size)``."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    found = np.zeros((n, 3, size, size), bool)
    for masks in found:
        cy, radius = rng.uniform(0.35, 0.45), rng.uniform(0.14, 0.2)
        for side in range(2):
            cx = 0.27 + 0.46 * side + rng.uniform(-0.02, 0.02)
            masks[side] = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        masks[2] = abs(y - cy - 0.35) < 0.08
    return found


@pytest.fixture(scope="module")
def prior() -> ShapePrior:
    return learn(discs(40), size=32, hidden=64, code=8, steps=300)


# The network


def test_a_linear_autoencoder_spans_the_principal_components():
    samples = np.random.default_rng(0).normal(size=(50, 5)) * (5, 4, 1, 1, 1)
    x = torch.from_numpy(samples)[:, :, None, None]
    torch.manual_seed(0)
    sizes = {"in_channels": 5, "out_channels": 5, "patch": 1, "widths": (), "code": 2}
    network = build("autoencoder", sizes).double()
    optimizer = torch.optim.LBFGS(
        network.parameters(), max_iter=2000, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.mse_loss(network(x), x)
        loss.backward()
        return loss

    optimizer.step(closure)
    centred = samples - samples.mean(axis=0)
    rest = np.linalg.svd(centred, compute_uv=False)[2:]
    expected = (rest**2).sum() / samples.size
    assert closure().item() == pytest.approx(expected, rel=1e-6)


def test_patches_know_nothing_of_each_other():
    torch.manual_seed(0)
    network = build("autoencoder", {"patch": 4, "code": 3}).eval()
    x = torch.randn(1, 1, 8, 12)
    other = x.clone()
    other[..., :4, 4:8] += 1
    with torch.no_grad():
        changed = (network(x) != network(other)).any(dim=1)[0]
        assert network.encode(x).shape == (1, 3, 2, 3)
    assert changed[:4, 4:8].all()
    assert changed.sum() == 16


@pytest.mark.parametrize("name", ["patch", "code"])
def test_a_size_below_one_is_refused(name):
    with pytest.raises(ConfigError, match=rf"network\.{name}: is 0\. Use 1 or more"):
        build("autoencoder", {name: 0})


def test_a_denoising_autoencoder_takes_noise_away():
    torch.manual_seed(0)
    phase = torch.rand(256, 1, 1, 1) * 6.28
    clean = torch.sin(torch.arange(16)[None, None, None] * 0.8 + phase)
    clean = clean.expand(-1, -1, 16, -1)
    sizes = {"out_channels": 1, "patch": 16, "widths": (), "code": 4}
    network = build("autoencoder", sizes)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(300):
        noisy = clean[:192] + 0.5 * torch.randn(192, 1, 16, 16)
        loss = F.mse_loss(network(noisy), clean[:192])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    noisy = clean[192:] + 0.5 * torch.randn(64, 1, 16, 16)
    with torch.no_grad():
        before, after = (F.mse_loss(v, clean[192:]) for v in (noisy, network(noisy)))
    # The signal has two dimensions, the noise 256.
    assert 10 * torch.log10(before / after) > 10


# The prior


def test_corrupted_masks_gain_dice(prior: ShapePrior):
    wanted = discs(10, seed=1)
    lots = torch.Generator().manual_seed(1)
    spoilt = corrupt(torch.from_numpy(wanted).float(), lots).numpy() > 0.5

    def dice(a: np.ndarray, b: np.ndarray) -> float:
        return float(2 * (a & b).sum() / (a.sum() + b.sum()))

    before = np.mean([dice(a, b) for a, b in zip(spoilt, wanted, strict=True)])
    mended = [prior.mend(masks) for masks in spoilt]
    after = np.mean([dice(a, b) for a, b in zip(mended, wanted, strict=True)])
    assert before < 0.9
    assert after > 0.92


def test_what_is_drawn_is_more_plausible_than_what_is_spoilt(prior: ShapePrior):
    masks = discs(1, seed=2)[0]
    swapped = masks[[2, 1, 0]]
    assert min(prior.plausibility(masks)) > 0.85
    assert prior.plausibility(masks.astype(np.uint8)) == prior.plausibility(masks)
    worse = prior.plausibility(swapped)
    assert max(worse[0], worse[2]) < 0.5


def test_a_structure_that_is_missing_is_drawn(prior: ShapePrior):
    masks = discs(1, seed=3)[0]
    without = masks.copy()
    without[1] = False
    mended = prior.mend(without)
    assert 2 * (mended[1] & masks[1]).sum() / (mended[1].sum() + masks[1].sum()) > 0.8
    assert prior.plausibility(without)[1] == 0


def test_masks_keep_their_grid(prior: ShapePrior):
    masks = discs(1, size=80)[0]
    mended = prior.mend(masks)
    assert mended.shape == masks.shape
    assert 2 * (mended & masks).sum() / (mended.sum() + masks.sum()) > 0.9


def test_the_same_seed_gives_the_same_prior():
    options = {"size": 16, "hidden": 8, "code": 2, "steps": 3}
    seen: list[tuple[int, int]] = []
    one = learn(discs(4), **options, progress=lambda *x: seen.append(x))
    other = learn(discs(4), **options)
    third = learn(discs(4), **options, seed=1)
    weights = [next(p.network.parameters()) for p in (one, other, third)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("shape", [(3, 8, 8), (0, 3, 8, 8)])
def test_no_masks_are_refused(shape):
    with pytest.raises(ConfigError, match=r"masks: have the shape .*N above 0"):
        learn(np.zeros(shape, bool))

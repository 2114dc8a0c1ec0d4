"""What masks look like: a denoising autoencoder that mends them and says how far off.

Trained on masks that people drew, corrupted on purpose, to give back what was drawn
(Vincent 2008; on segmentations Larrazabal 2019, "Anatomical priors for image
segmentation via post-processing with denoising autoencoders"). It sees no image: what
it gives is plausible, not true, and a rare anatomy is implausible as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.metrics.overlap import count, dice
from medseg.networks.autoencoder import Autoencoder

Masks = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ShapePrior:
    """Knows the structures ``(K, Y, X)`` of one kind of image.

    Args:
        network: From masks to logits of masks ``(N, K, size, size)``.
        size: Pixels a side of the grid that it works on.
    """

    network: nn.Module
    size: int

    @torch.inference_mode()
    def mend(self, masks: Masks | NDArray[np.uint8]) -> Masks:
        """Return the plausible masks nearest to ``masks`` of 0 and 1, of the same shape.

        Their outlines are as coarse as the prior's grid.
        """
        coarse = _shrunk(masks, self.size)
        found = self.network.eval()(coarse)
        fine = F.interpolate(found, masks.shape[1:], mode="bilinear")
        return np.asarray(fine[0].numpy() > 0)

    def plausibility(self, masks: Masks | NDArray[np.uint8]) -> tuple[float, ...]:
        """Return the Dice of each structure with what :meth:`mend` makes of it.

        From 0 to 1, NaN where a structure is in neither.
        """
        pairs = zip(masks > 0, self.mend(masks), strict=True)
        return tuple(dice(count(a, b)) for a, b in pairs)


def learn(
    masks: NDArray[np.floating] | Masks,
    *,
    size: int = 48,
    hidden: int = 256,
    code: int = 64,
    steps: int = 2000,
    batch: int = 32,
    learning_rate: float = 2e-3,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ShapePrior:
    """Return the prior of masks ``(N, K, Y, X)`` that people drew.

    Args:
        masks: Each image's structures, 0 to 1.
        size: Pixels a side of the grid that they are shrunk to.
        hidden: Channels between the masks and the code.
        code: Numbers that are kept of all masks of an image.
        steps: Of Adam, with half a cosine of the rate.
        batch: Images a step.
        learning_rate: At the start.
        seed: Of weights, order and corruption.
        progress: Called with the steps done and their number.

    Raises:
        ConfigError: If there are no masks, or they have other axes.
    """
    if masks.ndim != 4 or not len(masks):
        problem = f"have the shape {masks.shape}"
        raise ConfigError("masks", problem, "Give (N, K, Y, X), N above 0")
    lots = torch.Generator().manual_seed(seed)
    clean = torch.cat([_shrunk(one, size) for one in masks])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        channels = clean.shape[1]
        network = Autoencoder(channels, channels, size, (hidden,), code)
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        chosen = torch.randint(len(clean), (batch,), generator=lots)
        wanted = _moved(clean[chosen], lots)
        found = network(corrupt(wanted, lots))
        loss = F.binary_cross_entropy_with_logits(found, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress(step + 1, steps)
    return ShapePrior(network.eval(), size)


def corrupt(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Return masks ``(N, K, Y, X)`` as models spoil them.

    Of each structure a rectangle is emptied, another one filled, with probability one
    half each; one structure in ten is missing.
    """
    n, k, height, width = masks.shape

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    def boxes() -> Tensor:
        centre, half = draw(n, k, 2), 0.03 + 0.15 * draw(n, k, 2)
        y = (torch.arange(height) + 0.5) / height
        x = (torch.arange(width) + 0.5) / width
        rows = (y - centre[..., :1]).abs() < half[..., :1]
        columns = (x - centre[..., 1:]).abs() < half[..., 1:]
        happens = draw(n, k, 1, 1) < 0.5
        return rows[..., :, None] & columns[..., None, :] & happens

    spoilt = masks.masked_fill(boxes(), 0).masked_fill(boxes(), 1)
    return spoilt * (draw(n, k, 1, 1) >= 0.1)


def _moved(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image's masks scaled by up to 5 % and shifted by up to 2 %."""
    n = len(masks)
    scale = 1 + 0.1 * (torch.rand(n, 2, generator=generator) - 0.5)
    shift = 0.08 * (torch.rand(n, 2, generator=generator) - 0.5)
    affine = torch.zeros(n, 2, 3)
    affine[:, 0, 0], affine[:, 1, 1] = scale[:, 0], scale[:, 1]
    affine[:, :, 2] = shift
    grid = F.affine_grid(affine, list(masks.shape), align_corners=False)
    return F.grid_sample(masks, grid, align_corners=False)


def _shrunk(masks: NDArray[np.generic], size: int) -> Tensor:
    """Return ``(1, K, size, size)``: the share of each pixel that is covered."""
    whole = torch.from_numpy(np.asarray(masks, np.float32))[None]
    return F.interpolate(whole, (size, size), mode="area")

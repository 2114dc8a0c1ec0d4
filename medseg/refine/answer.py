"""From a prompt to the edit that answers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.refine.edit import Array, Edit, Slices, edit_between
from medseg.refine.methods import Method
from medseg.refine.methods.base import Mask, View
from medseg.refine.prompts import Box, Index, Lasso, Point, Prompt
from medseg.refine.window import (
    around,
    as_mask,
    at_border,
    clearance,
    core,
    reachable,
)

SMALLEST = 1.5
"""Smallest half-thickness of an error, in the smallest spacing."""

WIDENED = 3
"""How often a window whose border the change touches is doubled."""

_ROUNDING = 1e-4
"""How far a probability may lie beyond 0 and 1, as interpolated ones do."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What a prompt is about: one label of a film, of a slice or of a volume.

    Args:
        labels: Label map ``([z,] y, x)``.
        value: The target's.
        image: Of the same shape; only windows of it are read.
        probability: Of the target, or None.
        against: Pixels of earlier prompts to the contrary, one entry a prompt.
        spacing: Distance between neighbours along each axis, the smallest being 1.
        radius: Largest half-thickness of an error, a length; None for a twelfth of
            the shortest side.
        protect: Leave other labels alone.
    """

    labels: Array
    value: int
    image: NDArray[Any]
    probability: NDArray[Any] | None
    against: Sequence[Index]
    spacing: tuple[float, ...]
    radius: float | None
    protect: bool

    @property
    def largest(self) -> float:
        """Largest half-thickness of an error."""
        sides = zip(self.labels.shape, self.spacing, strict=True)
        return self.radius or min(n * step for n, step in sides) / 12

    def agree(self, box: Slices, positive: bool) -> Mask:
        """Return where the mask agrees with a prompt already."""
        return np.asarray((self.labels[box] == self.value) == positive)

    def free(self, box: Slices, positive: bool) -> Mask:
        """Return the pixels that a prompt may change."""
        block = self.labels[box]
        if not positive:
            return np.asarray(block == self.value)
        if self.protect:
            return np.asarray((block == 0) | (block == self.value))
        return np.ones(block.shape, bool)

    def view(
        self, box: Slices, positive: bool, seeds: Mask, scale: float, touching: bool
    ) -> View:
        """Return a window, seen from the side of the prompt.

        Raises:
            ConfigError: If the probability in it is not in [0, 1].
        """
        agree, free = self.agree(box, positive), self.free(box, positive)
        against = np.zeros(agree.shape, bool)
        for pixels in self.against:
            against |= as_mask(pixels, box)
        probability = None
        if self.probability is not None:
            p = _shares(self.probability[box])
            probability = p if positive else 1 - p
        return View(
            image=np.asarray(self.image[box], np.float32),
            mask=agree,
            seeds=seeds & free,
            against=against & ~seeds,
            blocked=~(free | agree),
            scale=scale,
            spacing=self.spacing,
            probability=probability,
            radius=max(self.largest, scale),
            touching=touching,
        )


def _shares(block: NDArray[Any]) -> NDArray[np.float32]:
    """Return the probabilities of a window, which nobody has looked at before."""
    p = np.asarray(block, np.float32)
    low, high = p.min(), p.max()
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # also where one is NaN
        problem = f"has values from {low:g} to {high:g} around the prompt"
        raise ConfigError("probability", problem, "Give numbers from 0 to 1")
    return p


def answer(scene: Scene, prompt: Prompt, pixels: Index, method: Method) -> Edit:
    """Return the edit of the label map that answers a prompt; it may be empty.

    Args:
        scene: The label map and what is known about it.
        prompt: Its kind and sign.
        pixels: Of the prompt, at least one.
        method: Decides what goes with them.

    Raises:
        ConfigError: If the probability around the prompt is not in [0, 1].
    """
    if method.exact and not isinstance(prompt, Point):
        box = around(pixels, scene.labels.shape, 1.0, scene.spacing)
        change = as_mask(pixels, box) & scene.free(box, prompt.positive)
    elif isinstance(prompt, Box | Lasso):
        box, change = _in_region(scene, prompt.positive, pixels, method)
    else:
        box, change = _near(scene, prompt.positive, pixels, method)
    block = scene.labels[box]
    after = np.where(change, scene.value if prompt.positive else 0, block)
    return edit_between(block, after, [s.start for s in box])


def _near(
    scene: Scene, positive: bool, pixels: Index, method: Method
) -> tuple[Slices, Mask]:
    """Change what hangs together with points, in a window as large as it takes."""
    labels, spacing = scene.labels, scene.spacing
    limit = scene.largest
    scale = clearance(
        labels, scene.value, positive, pixels, limit=limit, spacing=spacing
    )
    touching = scale < limit
    scale = max(scale, SMALLEST)
    reach = method.reach * float(np.sqrt(scale * max(limit, scale)))
    for _ in range(WIDENED + 1):
        box = around(pixels, labels.shape, reach, spacing)
        view = scene.view(box, positive, as_mask(pixels, box), scale, touching)
        may = _changeable(view)
        change = np.zeros(may.shape, bool)
        if (view.seeds & may).any():
            wanted = (method.potential(view) > 0) | view.seeds
            change = reachable(wanted & may, view.seeds)
        if not at_border(change, box, labels.shape):
            break
        reach *= 2
    return box, change


def _in_region(
    scene: Scene, positive: bool, pixels: Index, method: Method
) -> tuple[Slices, Mask]:
    """Change what hangs together with the middle of a region, within the region."""
    box = around(pixels, scene.labels.shape, 1.0, scene.spacing)
    region = as_mask(pixels, box)
    middle, size = core(region, scene.spacing)
    view = scene.view(box, positive, middle, size, touching=False)
    may = _changeable(view) & region
    if not (view.seeds.any() and may.any()):
        return box, np.zeros(may.shape, bool)
    wanted = (method.potential(view) > 0) | view.seeds
    whole = reachable((wanted & may) | (view.mask & region), view.seeds)
    return box, whole & may


def _changeable(view: View) -> Mask:
    return ~view.mask & ~view.blocked & ~view.against

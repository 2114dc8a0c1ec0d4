"""What a method sees and what it gives back.

A method never asks which sign a prompt has: for a negative one the session turns the
picture round (background is then what the prompt adds to), so that each method solves
one problem: how far does the error around the seeds reach?
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Field = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class View:
    """A window of the picture, seen from the side of the prompt.

    Args:
        image: Intensities ``([z,] y, x)``.
        mask: Where the mask agrees with the prompt already.
        seeds: Pixels of the prompt.
        against: Pixels of earlier prompts that say the opposite.
        blocked: Pixels that may not change (other labels).
        scale: Half the thickness of the error, a length; see
            `medseg.refine.window.clearance`.
        spacing: Distance between neighbours along each axis, the smallest being 1.
        probability: The model's, that a pixel agrees with the prompt; None without
            a model.
        radius: Largest scale there is, a length: about that of the object.
        touching: Whether the mask is so near that the scale is known from it, not
            assumed.
    """

    image: Field
    mask: Mask
    seeds: Mask
    against: Mask
    blocked: Mask
    scale: float
    spacing: tuple[float, ...]
    probability: Field | None = None
    radius: float = 40.0
    touching: bool = True


class Method(Protocol):
    """Decides which pixels around a prompt go with it."""

    @property
    def reach(self) -> float:
        """Half-width of the first window, in means of scale and radius."""
        ...

    @property
    def needs_probability(self) -> bool:
        """Whether it works with a model's probabilities only."""
        ...

    @property
    def exact(self) -> bool:
        """Whether boxes, scribbles and lassos are taken as drawn, undecided."""
        ...

    def potential(self, view: View) -> Field:
        """Return a field over the window, positive where pixels go with the prompt."""
        ...


def coarse(view: View, nodes: int) -> View:
    """Return the view on a grid of at most about ``nodes`` points.

    Steps are shortest along the axes of largest spacing. A grid point stands for the
    mean of its cell; seeds and blocks count if any pixel of the cell is one.
    """
    steps = _steps(view.mask.shape, view.spacing, nodes)
    if max(steps) == 1:
        return view
    mean = np.float32
    return replace(
        view,
        image=_cells(view.image.astype(mean), steps, np.mean),
        mask=_cells(view.mask.astype(mean), steps, np.mean) >= 0.5,
        seeds=_cells(view.seeds, steps, np.any),
        against=_cells(view.against, steps, np.any),
        blocked=_cells(view.blocked, steps, np.all),
        spacing=tuple(s * k for s, k in zip(view.spacing, steps, strict=True)),
        probability=None
        if view.probability is None
        else _cells(view.probability.astype(mean), steps, np.mean),
    )


def fine(field: Field, shape: tuple[int, ...]) -> Field:
    """Return a field of the coarse grid on the window's own, linear in between."""
    if field.shape == shape:
        return field
    steps = [-(-n // k) for n, k in zip(shape, field.shape, strict=True)]
    matrix = [1 / k for k in steps]
    # The centre of cell 0 lies at pixel (k - 1) / 2.
    offset = [-(k - 1) / (2 * k) for k in steps]
    return ndimage.affine_transform(
        field, matrix, offset, shape, order=1, mode="nearest", output=np.float32
    )


def _steps(
    shape: tuple[int, ...], spacing: tuple[float, ...], nodes: int
) -> tuple[int, ...]:
    factor = 1.0
    while True:
        steps = [max(1, round(factor / s)) for s in spacing]
        # As `fine` gets them back from the shapes alone.
        steps = [-(-n // -(-n // k)) for n, k in zip(shape, steps, strict=True)]
        if np.prod([-(-n // k) for n, k in zip(shape, steps, strict=True)]) <= nodes:
            return tuple(steps)
        factor += 1.0


def _cells(
    values: NDArray[Any], steps: tuple[int, ...], rule: Callable[..., Any]
) -> NDArray[Any]:
    padding = [(0, -n % k) for n, k in zip(values.shape, steps, strict=True)]
    padded = np.pad(values, padding, mode="edge")
    split: list[int] = []
    for n, k in zip(padded.shape, steps, strict=True):
        split += [n // k, k]
    return rule(padded.reshape(split), axis=tuple(range(1, 2 * values.ndim, 2)))

"""A volume through a 2-D model, slice by slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from medseg.errors import FileError
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.predict.decode import new_mask
from medseg.predict.diameter import CellSize
from medseg.predict.inputs import Array
from medseg.predict.masks import fine_rows
from medseg.predict.runner import Inferred, Progress, Runner


def check_slices(size: Sequence[int]) -> None:
    """Refuse a volume of single lines: a plane whose single slice is not the first axis.

    Raises:
        FileError: If the slices of a volume have one row or one column.
    """
    if size[0] > 1 and min(size[1:]) == 1:
        problem = f"is a volume of {size[0]} slices of {size[1]} x {size[2]} pixels"
        raise FileError("image", problem, "Store it with its single slice first")


def run_slices(
    runner: Runner,
    image: Image,
    infer: Callable[[Image], Inferred],
    progress: Progress | None,
) -> Inferred:
    """Go through a volume along its first axis.

    Cells are numbered on from slice to slice; nothing links them.

    Args:
        runner: Of the 2-D model.
        image: ``(C, Z, Y, X)``.
        infer: Finds what is in one slice.
        progress: Called after each slice.
    """
    labels, size = runner.spec.labels, image.spatial_shape
    mask, stack, cells = new_mask(labels, size), list[Array](), 0
    grid = _kept_grid(runner, size[1:])
    keep, sizes = runner.keeps((size[0], *grid)), tuple[CellSize, ...]()
    for z in range(size[0]):
        plane = Image(image.pixels[:, z], _plane(image.geometry), image.meta)
        found = infer(plane)
        drawn, sizes = runner.mask(found, plane), sizes + found.sizes
        if found.values is not None and keep:
            stack.append(_on_grid(found.values, grid))
        if labels.kind == "instances":
            drawn = np.where(drawn > 0, drawn + cells, 0)
            cells = max(cells, int(drawn.max(initial=0)))
        rows = mask[:, z] if labels.kind == "overlapping" else mask[z]
        rows[...] = drawn
        if progress is not None:
            progress(z + 1, size[0])
    values = np.stack(stack, axis=1) if stack else None
    return Inferred(values, mask, sizes=sizes)


def _plane(geometry: Geometry) -> Geometry:
    """Return the geometry of one slice of a volume, as far as a model asks."""
    return Geometry.upright(geometry.spacing[1:], geometry.unit)


def _kept_grid(runner: Runner, size: Sequence[int]) -> Sequence[int]:
    """Return the grid of a slice's maps: the network's, or a smaller one of the image."""
    inference = runner.spec.inference
    fixed = inference.mode == "resize" and inference.diameter is None
    return inference.size if fixed and prod(inference.size) < prod(size) else size


def _on_grid(values: Array, size: Sequence[int]) -> Array:
    """Return the maps of a slice on the grid of all slices."""
    if values.shape[1:] == tuple(size):
        return values
    return fine_rows(values, size, slice(0, size[0]))

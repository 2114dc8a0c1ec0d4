"""Cells of a size that nobody gave: the image is looked at until they fit."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

from medseg.engines.ladder import Rung
from medseg.errors import ImageWarning
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.predict.diameter import (
    TRIALS,
    CellSize,
    is_noise,
    median_diameter,
    middle,
    settle,
)
from medseg.predict.masks import relative_spacing
from medseg.predict.provenance import source
from medseg.predict.runner import Inferred, Prepared, Progress, Runner


def run_sized(
    runner: Runner, prepared: Prepared, rung: Rung, progress: Progress | None
) -> Inferred:
    """Find the size of the cells, and with it the cells.

    Args:
        runner: Of a model that states the size it learnt.
        prepared: At scale 1.
        rung: What to run with.
        progress: Begins again at every scale.
    """
    image, last = prepared.image, Inferred(scale=0.0)
    spacing, shape = relative_spacing(image.geometry), image.spatial_shape

    def try_scale(scale: float) -> float:
        nonlocal last
        last = Inferred(scale=0.0)  # its memory goes first
        part = middle(shape, scale)
        whole = all(p.stop - p.start == n for p, n in zip(part, shape, strict=True))
        one = image if whole else _cut(image, part)
        ready = prepared if whole and scale == 1 else runner.prepare(one, scale)
        found = runner.run(ready, rung, progress)
        mask = runner.mask(found, one)
        if whole:
            last = replace(found, mask=mask)
        return median_diameter(mask, spacing)

    if _is_thin(image, spacing, runner.trained) or _is_noise(image):
        size = CellSize(runner.trained, "no cells")
    else:
        size = _fitting(runner, settle(try_scale, runner.trained), image)
    scale = size.scale(runner.trained)
    if last.scale != scale:
        ready = prepared if scale == 1 else runner.prepare(image, scale)
        last = runner.run(ready, rung, progress)
    return replace(last, sizes=(size,))


def _is_thin(image: Image, spacing: Sequence[float], trained: float) -> bool:
    """Return whether an image holds no cell even where it is enlarged; say so."""
    axes = list(zip(image.spatial_shape, spacing, strict=True))[-2:]
    if min(n * s for n, s in axes) * max(TRIALS) >= trained:
        return False
    problem = (
        f"{source(image)} has {axes[0][0]} x {axes[1][0]} pixels, too few for cells of "
        f"{trained:.0f} even enlarged; no size of cells is looked for"
    )
    warnings.warn(problem, ImageWarning, stacklevel=2)
    return True


def _is_noise(image: Image) -> bool:
    """Return whether there is nothing to see in (the middle of) an image; say so."""
    part = image.pixels[(slice(None), *middle(image.spatial_shape, 1.0))]
    if not all(map(is_noise, part)):
        return False
    problem = (
        f"{source(image)} looks like noise alone (its neighbouring pixels are "
        "unrelated); no size of cells is looked for"
    )
    warnings.warn(problem, ImageWarning, stacklevel=2)
    return True


def _fitting(runner: Runner, size: CellSize, image: Image) -> CellSize:
    """Leave an image alone that memory does not let be scaled; say so."""
    scale = size.scale(runner.trained)
    grid = [max(1, round(n * scale)) for n in image.spatial_shape]
    if scale == 1 or runner.keeps(grid):
        return size
    problem = (
        f"{source(image)} is too large to be scaled to its cells of "
        f"{size.diameter:.0f} pixels; it is segmented as it is"
    )
    warnings.warn(problem, ImageWarning, stacklevel=2)
    return CellSize(runner.trained, "too large")


def _cut(image: Image, part: tuple[slice, ...]) -> Image:
    """Return a part of an image, as far as a model asks."""
    geometry = Geometry.upright(image.geometry.spacing, image.geometry.unit)
    return Image(image.pixels[(slice(None), *part)], geometry, image.meta)

"""From the maps of a network to the mask on the image's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medseg.geometry import Geometry
from medseg.instances import InstanceRule, drop_margin, find_instances
from medseg.model_spec import ModelSpec
from medseg.predict.decode import (
    clean_mask,
    clean_probabilities,
    decode,
    decode_resampled,
    entropy,
    new_mask,
    resample,
    slabs,
)
from medseg.stitching import Stitcher

Array = NDArray[np.float32]
Mask = NDArray[Any]

# Cells of an image of up to this many pixels are found in it as a whole.
WHOLE = 2**23
# Tiles of larger ones, and what is looked at around them; along each axis.
TILE = {2: 1024, 3: 96}
HALO = {2: 192, 3: 32}


class MaskBuilder(Protocol):
    """Takes maps from top to bottom and makes the mask of them."""

    def add(self, maps: Array) -> None:
        """Take the next rows (slices) ``(K, rows, ...)``."""

    def result(self) -> Mask:
        """Return the mask, when all rows are in."""


def mask_builder(
    spec: ModelSpec, size: Sequence[int], spacing: Sequence[float], scale: float = 1
) -> MaskBuilder:
    """Return what makes the mask of an image too large to keep its maps.

    Args:
        spec: Of the model.
        size: Of the image ``([Z,] Y, X)``.
        spacing: Of its pixels in units of the finest axis.
        scale: Cells on this grid are smaller than those the rule is meant for by
            this factor.
    """
    rule = spec.decoding.instances
    if rule is None:
        return _Pointwise(spec, size)
    return _Cells(rule.scaled(1 / scale, len(size)), size, spacing)


class _Pointwise:
    """Labels that depend on nothing but the pixel; shape is mended at the end."""

    def __init__(self, spec: ModelSpec, size: Sequence[int]) -> None:
        self._spec, self._row = spec, 0
        self._mask = new_mask(spec.labels, size)

    def add(self, maps: Array) -> None:
        rows = slice(self._row, self._row + maps.shape[1])
        channels = self._spec.labels.kind == "overlapping"
        target = self._mask[:, rows] if channels else self._mask[rows]
        target[...] = decode(maps, self._spec.labels, self._spec.decoding)
        self._row = rows.stop

    def result(self) -> Mask:
        clean_mask(self._mask, self._spec.labels, self._spec.decoding.steps)
        return self._mask


class _Cells:
    """Cells found in tiles and stitched."""

    def __init__(
        self, rule: InstanceRule, size: Sequence[int], spacing: Sequence[float]
    ) -> None:
        dims = len(size)
        self._rule = rule
        self._stitcher = Stitcher(
            size,
            lambda maps: find_instances(maps, rule, spacing),
            [max(1, round(TILE[dims] / s)) for s in spacing],
            [max(1, round(HALO[dims] / s)) for s in spacing],
        )

    def add(self, maps: Array) -> None:
        self._stitcher.add(maps)

    def result(self) -> Mask:
        cells = self._stitcher.result(self._rule.min_size)
        return drop_margin(cells, self._rule.margin)


def make_mask(
    values: Array,
    size: Sequence[int],
    spec: ModelSpec,
    spacing: Sequence[float],
    scale: float = 1,
) -> Mask:
    """Return the mask on a grid of ``size`` for maps ``(K, [Z,] y, x)``.

    Structures are cleaned on both grids. Cells are found on the image's grid.
    Arguments as for :func:`mask_builder`.
    """
    rule, decoding, labels = spec.decoding.instances, spec.decoding, spec.labels
    same = values.shape[1:] == tuple(size)
    if rule is not None:
        if same and int(np.prod(size)) <= WHOLE:
            rule = rule.scaled(1 / scale, len(size))
            return drop_margin(find_instances(values, rule, spacing), rule.margin)
        builder = mask_builder(spec, size, spacing, scale)
        for rows in slabs(size, len(values)):
            builder.add(values[:, rows] if same else fine_rows(values, size, rows))
        return builder.result()
    if same:
        mask = decode(values, labels, decoding)
        clean_mask(mask, labels, decoding.steps)
        return mask
    clean = clean_probabilities(values, labels, decoding)
    mask = decode_resampled(clean, size, labels, decoding)
    clean_mask(mask, labels, decoding.steps, again=True)
    return mask


def fine_rows(values: Array, size: Sequence[int], rows: slice) -> Array:
    """Return some rows of maps resampled to a grid of ``size``."""
    window = [rows, *(slice(0, n) for n in size[1:])]
    return np.stack([resample(one, size, window) for one in values])


def make_maps(
    values: Array,
    size: Sequence[int],
    spec: ModelSpec,
    *,
    probabilities: bool,
    uncertainty: bool,
) -> dict[str, Array]:
    """Return the maps asked for on a grid of ``size``, made slab by slab."""
    maps: dict[str, Array] = {}
    if probabilities:
        maps["probabilities"] = np.empty((len(values), *size), np.float32)
    if uncertainty:
        maps["uncertainty"] = np.empty(tuple(size), np.float32)
    for rows in slabs(size, len(values)):
        fine = fine_rows(values, size, rows)
        if probabilities:
            maps["probabilities"][:, rows] = fine
        if uncertainty:
            maps["uncertainty"][rows] = _doubt(fine, spec)
    return maps


def _doubt(fine: Array, spec: ModelSpec) -> Array:
    rule = spec.decoding.instances
    if rule is not None and rule.method == "watershed":
        return entropy(fine[:1], False)  # the foreground; the others are no labels
    return entropy(fine, spec.is_exclusive)


def relative_spacing(geometry: Geometry) -> tuple[float, ...]:
    """Return the spacing of an image in units of its finest axis."""
    finest = min(geometry.spacing)
    return tuple(s / finest for s in geometry.spacing)

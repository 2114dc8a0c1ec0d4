"""From the maps of a network to cells: a number a cell, from 1.

Two ways, by :class:`InstanceRule`. ``components``, the way of the U-Net paper
(Ronneberger 2015): the pieces of what is likely foreground; the gaps between cells
are the network's work, which border weights make it learn. ``watershed``, in the
manner of the Cell Tracking Challenge's leading entries (Scherr 2020): the network
draws foreground, distance to the cell's edge and closeness to the next cell; the
peaks of the last two seed a watershed that fills the foreground.

Neighbours share an edge (4 in an image, 6 in a volume). Lengths are in pixels of
the finest axis; ``spacing`` makes coarser axes as long as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import local_maxima
from skimage.segmentation import watershed as flood

from medseg.errors import ConfigError
from medseg.postprocess import box

Method = Literal["components", "watershed"]
Labels = NDArray[np.int32]
Maps = NDArray[np.float32]

MAPS: dict[Method, tuple[str, ...]] = {
    "components": ("background", "cell"),
    "watershed": ("foreground", "distance", "border"),
}
"""The maps of each method, in the order of the network's channels."""
CELL_MAP: dict[Method, int] = {"components": 1, "watershed": 0}
"""Which of them says where cells are."""


@dataclass(frozen=True)
class InstanceRule:
    """How maps become cells.

    Args:
        method: ``"components"`` or ``"watershed"``.
        foreground: Probability above which a pixel belongs to a cell.
        smoothing: Standard deviation of the Gaussian over the peaks (watershed).
        height: How far the map must fall between two peaks for them to be two
            cells (watershed); 0 makes every peak one.
        seed: A peak that is not above this is no cell; the foreground around it
            goes to its neighbour or, if it has none, away (watershed).
        min_size: Cells of fewer pixels are debris and go.
        fill_holes: Fill what one cell alone encloses.
        margin: Cells that lie wholly in this margin of the image, of a volume at
            the sides of its slices, go, as the challenge ignores cells outside its
            field of interest; 0 keeps all. Cells that the image's edge cuts stay
            and are cells like others.

    Raises:
        ConfigError: If a value is out of range.
    """

    method: Method = "components"
    foreground: float = 0.5
    smoothing: float = 1.0
    height: float = 0.1
    seed: float = 0.0
    min_size: int = 0
    fill_holes: bool = True
    margin: int = 0

    def __post_init__(self) -> None:
        if self.method not in MAPS:
            known = " or ".join(MAPS)
            _refuse("method", self.method, f"Use {known}")
        if not 0 < self.foreground < 1:
            _refuse("foreground", self.foreground, "Use a value between 0 and 1")
        for name, top in (("smoothing", 100), ("height", 1), ("seed", 1)):
            if not 0 <= getattr(self, name) <= top:
                _refuse(name, getattr(self, name), f"Use a value from 0 to {top}")
        for name, top in (("min_size", 10**9), ("margin", 4096)):
            if not 0 <= getattr(self, name) <= top:
                _refuse(name, getattr(self, name), f"Use a value from 0 to {top}")

    @property
    def channels(self) -> int:
        """Maps that the network draws."""
        return len(MAPS[self.method])

    def scaled(self, factor: float, ndim: int) -> InstanceRule:
        """Return the rule for a grid on which cells are ``factor`` times as wide."""
        return replace(
            self,
            smoothing=min(100.0, self.smoothing * factor),
            min_size=round(self.min_size * factor**ndim),
            margin=round(self.margin * factor),
        )


def _refuse(name: str, value: Any, remedy: str) -> None:
    raise ConfigError(f"decoding.instances.{name}", f"is {value}", remedy)


def find_instances(
    maps: Maps, rule: InstanceRule, spacing: Sequence[float] | None = None
) -> Labels:
    """Return the cells of an image.

    Args:
        maps: ``(K, [Z,] Y, X)`` in [0, 1], as :data:`MAPS` lists them.
        rule: What to do.
        spacing: Of the pixels, in units of the finest axis; default: 1.

    Returns:
        ``([Z,] Y, X)`` numbered from 1 without gaps, in the order of their first
        pixels. The margin is not taken off, see :func:`drop_margin`.

    Raises:
        ConfigError: If the number of maps is not that of the method, or ``spacing``
            does not suit them.
    """
    _check(maps, rule, spacing)
    if rule.method == "components":
        return components(maps[1], rule)
    return watershed(maps, rule, spacing)


def _check(maps: Maps, rule: InstanceRule, spacing: Sequence[float] | None) -> None:
    if len(maps) != rule.channels:
        wanted = ", ".join(MAPS[rule.method])
        raise ConfigError("maps", f"are {len(maps)}", f"Give {wanted}")
    if spacing is not None:
        good = len(spacing) == maps.ndim - 1 and all(s > 0 for s in spacing)
        if not good:
            problem = f"is {tuple(spacing)} for {maps.ndim - 1} axes"
            raise ConfigError("spacing", problem, "Give one above 0 for each axis")


def components(probability: Maps, rule: InstanceRule) -> Labels:
    """Return the connected pieces of where ``probability`` says cell.

    Args:
        probability: ``([Z,] Y, X)``.
        rule: ``foreground``, ``fill_holes`` and ``min_size`` are used.
    """
    labels = ndimage.label(probability > np.float32(rule.foreground))[0]
    return _tidy(labels, rule)


def watershed(
    maps: Maps, rule: InstanceRule, spacing: Sequence[float] | None = None
) -> Labels:
    """Return one cell for every peak, grown over the foreground.

    The landscape is ``distance (1 - border)``, smoothed; its peaks are those that
    stand out by ``height`` (h-maxima). Every piece of foreground has one at least,
    so that nothing is lost but what ``seed`` and ``min_size`` refuse.

    Args:
        maps: ``(3, [Z,] Y, X)``: foreground, distance, border.
        rule: What to do.
        spacing: Of the pixels, in units of the finest axis; default: 1.
    """
    mask = maps[0] > np.float32(rule.foreground)
    labels = np.zeros(mask.shape, np.int32)
    around = box(mask)
    if around is None:
        return labels
    mask = mask[around]
    sigma = [rule.smoothing / s for s in spacing or (1.0,) * mask.ndim]
    land = maps[1] * (1 - maps[2])
    # Smoothed before it is cut out: what lies around counts too.
    land = ndimage.gaussian_filter(land, sigma, truncate=3.0)[around]
    labels[around] = basins(land, mask, rule.height, rule.seed)
    return _tidy(labels, rule)


def basins(
    land: Maps, mask: NDArray[np.bool_], height: float, lowest: float = 0.0
) -> Labels:
    """Return the mountains of ``land`` that stand out by ``height``.

    The mask is flooded from every local peak; then each two mountains whose lower
    peak is less than ``height`` above the pass between them are one, the highest
    pass first. These are the basins of a watershed seeded by the h-maxima, without
    the morphological reconstruction that costs ten times as much.

    Args:
        land: ``([Z,] Y, X)``.
        mask: Where to look; what lies outside parts mountains.
        height: 0 keeps every peak.
        lowest: Mountains that are not above it join their neighbour or go, if it
            is above 0.
    """
    # Far below everything outside: pieces of the mask do not see each other.
    inside = np.pad(np.where(mask, land, np.float32(-2)), 1, constant_values=-2)
    # With an edge around: scikit-image finds no peak where all is flat.
    inner = (slice(1, -1),) * land.ndim
    found = local_maxima(inside, connectivity=1)[inner] & mask
    seeds, n = ndimage.label(found)
    regions = flood(-land, seeds, mask=mask)
    tops = np.zeros(n + 1)
    tops[seeds[found]] = land[found]  # a peak is flat
    owner = np.arange(n + 1)
    floor = lowest if lowest > 0 else -np.inf
    for saddle, pair in _passes(regions, land):
        one, other = sorted((_root(owner, k) for k in pair), key=lambda k: tops[k])
        if one != other and (tops[one] - saddle < height or tops[one] <= floor):
            owner[one] = other
    roots = np.array([_root(owner, k) for k in range(n + 1)], np.int32)
    roots[tops[roots] <= floor] = 0
    return roots[regions]


def _passes(
    regions: NDArray[Any], land: Maps
) -> Iterator[tuple[float, tuple[int, int]]]:
    """Yield the highest pass between each two regions that meet, highest first."""
    pairs, heights = [], []
    for axis in range(regions.ndim):
        ahead, behind = (
            tuple(part if a == axis else slice(None) for a in range(regions.ndim))
            for part in (slice(1, None), slice(None, -1))
        )
        one, other = regions[ahead], regions[behind]
        meet = (one != other) & (one > 0) & (other > 0)
        pairs.append(np.sort(np.stack([one[meet], other[meet]], axis=1), axis=1))
        heights.append(np.minimum(land[ahead][meet], land[behind][meet]))
    every, height = np.concatenate(pairs), np.concatenate(heights)
    order = np.lexsort((every[:, 1], every[:, 0], -height))
    first = np.sort(np.unique(every[order], axis=0, return_index=True)[1])
    for k in order[first]:
        yield float(height[k]), (int(every[k, 0]), int(every[k, 1]))


def _root(owner: NDArray[np.int64], k: int) -> int:
    while owner[k] != k:
        owner[k] = owner[owner[k]]
        k = int(owner[k])
    return k


def _tidy(labels: Labels, rule: InstanceRule) -> Labels:
    if rule.fill_holes:
        labels = fill_holes(labels)
    return number(labels, rule.min_size)


def fill_holes(labels: NDArray[Any]) -> NDArray[Any]:
    """Return the cells with their holes filled.

    A hole is background that meets one cell and neither another one nor the edge
    of the image: the gap around a cell that others surround is none.
    """
    holes, n = ndimage.label(labels == 0)
    closed = np.arange(n + 1) > 0
    for axis in range(labels.ndim):
        closed[holes.take([0, -1], axis).ravel()] = False
    if not closed.any():
        return labels
    pixels = closed[holes]
    cross = ndimage.generate_binary_structure(labels.ndim, 1)
    nothing = np.iinfo(labels.dtype).max
    high, low = np.zeros(n + 1, labels.dtype), np.full(n + 1, nothing)
    around = ndimage.grey_dilation(labels, footprint=cross)[pixels]
    np.maximum.at(high, holes[pixels], around)
    cells = np.where(labels == 0, nothing, labels)
    around = ndimage.grey_erosion(cells, footprint=cross)[pixels]
    np.minimum.at(low, holes[pixels], around)
    owner = np.where(closed & (high == low), high, 0).astype(labels.dtype)
    return np.where(labels == 0, owner[holes], labels)


def number(labels: NDArray[Any], min_size: int = 0) -> Labels:
    """Return cells of at least ``min_size`` pixels, numbered by their first pixel."""
    flat = labels.ravel()
    sizes = np.bincount(flat)
    sizes[0] = 0
    kept = np.flatnonzero((sizes > 0) & (sizes >= min_size))
    first = np.full(len(sizes), flat.size, np.int64)
    cells = np.flatnonzero(flat)[::-1]
    first[flat[cells]] = cells  # backwards: the first pixel is written last
    table = np.zeros(len(sizes), np.int32)
    table[kept[np.argsort(first[kept], kind="stable")]] = np.arange(1, len(kept) + 1)
    return table[labels]


def drop_margin(labels: Labels, margin: int) -> Labels:
    """Return the cells that reach out of the ``margin`` of the image, renumbered.

    A volume has it at the sides of its slices, not above and below. Every cell goes
    where the margin is all of the image.
    """
    if margin == 0:
        return labels
    rows, columns = (slice(margin, max(margin, n - margin)) for n in labels.shape[-2:])
    kept = np.zeros(int(labels.max(initial=0)) + 1, bool)
    kept[labels[..., rows, columns]] = True
    kept[0] = False
    table = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    return table[labels]

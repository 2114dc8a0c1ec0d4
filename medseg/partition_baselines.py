"""Two baselines that part an image into regions whose intensity range is below t.

Both take pixels that share an edge as neighbours. A range only grows with its region:
a union once refused stays refused, so that trying each once leaves none to merge.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet
from skimage.measure import label

from medseg.errors import ConfigError, counted
from medseg.partition import Labels, Predicate, neighbours


def intensity_range_below(t: float) -> Predicate:
    """Return the rule "the largest less the smallest intensity is below ``t``"."""
    return lambda values: float(values.max()) - float(values.min()) < t


def region_growing(image: NDArray[Any], t: float) -> NDArray[np.int32]:
    """Grow regions, each from its first pixel on, by neighbours while the range allows.

    Args:
        image: ``(Y, X)`` intensities.
        t: The range that a region stays below.

    Returns:
        ``(Y, X)`` regions, numbered from 1 in reading order; they pass all five
        conditions.

    Raises:
        ConfigError: If the image is not of finite numbers ``(Y, X)`` or ``t`` not
            above 0.
    """
    # A frame around the image, taken from the start, ends every row.
    values = np.pad(_checked(image, t), 1).ravel().tolist()
    free = np.pad(np.zeros(image.shape, np.int32), 1, constant_values=-1)
    labels, width, count = free.ravel().tolist(), free.shape[1], 0
    for seed in range(len(labels)):
        if labels[seed]:
            continue
        count += 1
        labels[seed] = count
        low = high = values[seed]
        front = deque([seed])
        while front:
            here = front.popleft()
            for near in (here - width, here - 1, here + 1, here + width):
                bottom, top = min(low, values[near]), max(high, values[near])
                if not labels[near] and top - bottom < t:
                    low, high = bottom, top
                    labels[near] = count
                    front.append(near)
    return np.array(labels, np.int32).reshape(free.shape)[1:-1, 1:-1]


def split_and_merge(image: NDArray[Any], t: float) -> NDArray[np.int32]:
    """Quarter the image while the range is too wide, then merge neighbours again.

    Arguments, result and errors are those of :func:`region_growing`.
    """
    image = _checked(image, t)
    labels = np.zeros(image.shape, np.int32)
    low, high = [0.0], [0.0]  # of each region, and of 0, which none is
    blocks = [(image, labels)]
    while blocks:
        block, place = blocks.pop()
        if not block.size:
            continue
        bottom, top = float(block.min()), float(block.max())
        if top - bottom < t:
            place[:] = len(low)
            low.append(bottom)
            high.append(top)
        else:
            blocks += zip(_quarters(block), _quarters(place), strict=True)
    return _merge(labels, low, high, t)


def _quarters(block: NDArray[Any]) -> list[NDArray[Any]]:
    halves = np.array_split(block, 2)
    return [quarter for half in halves for quarter in np.array_split(half, 2, axis=1)]


def _merge(
    labels: Labels, low: list[float], high: list[float], t: float
) -> NDArray[np.int32]:
    """Merge regions ``low`` to ``high`` wide, and number them in reading order."""
    regions = DisjointSet(range(len(low)))
    for one, other in neighbours(labels, 4):
        a, b = regions[one], regions[other]
        bottom, top = min(low[a], low[b]), max(high[a], high[b])
        if top - bottom < t:
            regions.merge(a, b)
            low[regions[a]], high[regions[a]] = bottom, top
    merged = np.array([regions[k] for k in range(len(low))])[labels]
    return label(merged, background=0, connectivity=1).astype(np.int32)


def _checked(image: NDArray[Any], t: float) -> NDArray[np.float64]:
    if not t > 0:
        raise ConfigError("t", f"is {t}", "Use a range above 0")
    bad = int(np.sum(~np.isfinite(image)))
    if image.ndim != 2 or bad:
        raise ConfigError(
            "image",
            f"has shape {image.shape} and {counted(bad, 'value')} not finite",
            "Give finite intensities (Y, X)",
        )
    return image.astype(np.float64)

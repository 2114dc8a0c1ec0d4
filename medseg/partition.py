"""Whether regions part an image by a rule Q of their intensities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from medseg.errors import ConfigError
from medseg.regions import compact

Labels = NDArray[np.integer]
Predicate = Callable[[NDArray[Any]], bool]
Connectivity = Literal[4, 8]


@dataclass(frozen=True)
class PartitionCheck:
    """The five conditions of a partition, each held or not.

    Args:
        cover: Every pixel is in a region.
        connected: Every region is one piece.
        disjoint: No pixel is in two regions; a label map always holds it.
        homogeneous: Q holds for every region.
        maximal: Q holds for no union of two regions that touch.
    """

    cover: bool
    connected: bool
    disjoint: bool
    homogeneous: bool
    maximal: bool


def check_partition(
    labels: Labels,
    image: NDArray[Any],
    predicate: Predicate,
    connectivity: Connectivity = 4,
) -> PartitionCheck:
    """Check whether a label map parts an image into regions by a rule.

    Args:
        labels: ``(Y, X)`` region of each pixel, 0 for none.
        image: ``(Y, X)`` intensities.
        predicate: Q: says of intensities ``(N,)`` whether they make one region.
        connectivity: Pixels that touch: 4 share an edge, 8 also a corner.

    Raises:
        ConfigError: If the maps are not two-dimensional and of one shape, a label is
            below 0, or ``connectivity`` is neither 4 nor 8.
    """
    if labels.ndim != 2 or labels.shape != image.shape:
        raise ConfigError(
            "labels",
            f"have shape {labels.shape}, the image {image.shape}",
            "Give two maps (Y, X) of one shape",
        )
    if connectivity not in (4, 8):
        raise ConfigError("connectivity", f"is {connectivity!r}", "Use 4 or 8")
    values, place = compact(labels)
    ordered = image.ravel()[np.argsort(place, kind="stable")]
    # The intensities of each region, those of no region first.
    pixels = np.split(
        ordered, np.cumsum(np.bincount(place, minlength=len(values)))[:-1]
    )
    places = place.reshape(labels.shape)
    pieces = label(places, background=0, connectivity=connectivity // 4)
    return PartitionCheck(
        cover=not pixels[0].size,
        connected=int(pieces.max(initial=0)) == len(values) - 1,
        disjoint=True,
        homogeneous=all(predicate(region) for region in pixels[1:]),
        maximal=not any(
            predicate(np.concatenate([pixels[a], pixels[b]]))
            for a, b in neighbours(places, connectivity)
        ),
    )


def neighbours(labels: Labels, connectivity: Connectivity) -> list[list[int]]:
    """Return the pairs of regions of ``(Y, X)`` that touch, each once; 0 is none."""
    sides = [(labels[:-1], labels[1:]), (labels[:, :-1], labels[:, 1:])]
    if connectivity == 8:
        sides.append((labels[:-1, :-1], labels[1:, 1:]))
        sides.append((labels[:-1, 1:], labels[1:, :-1]))
    pairs = np.concatenate([np.stack([a.ravel(), b.ravel()], 1) for a, b in sides])
    touch = (pairs > 0).all(axis=1) & (pairs[:, 0] != pairs[:, 1])
    return np.unique(np.sort(pairs[touch], axis=1), axis=0).tolist()

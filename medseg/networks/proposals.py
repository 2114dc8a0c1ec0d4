"""Scores of crops put together: large structures first, small ones in close-up.

A box is ``(start ..., stop ...)`` in array index coordinates, half open: ``(y0, x0,
y1, x1)`` or ``(z0, y0, x0, z1, y1, x1)``.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from medseg.errors import ConfigError
from medseg.networks.upsample import resize

Box = Sequence[int]
Mode = Literal["max", "mean"]


def box_slices(box: Box, size: Sequence[int]) -> tuple[slice, ...]:
    """Return the slices of a box in an image of spatial ``size``.

    Raises:
        ConfigError: If the box is empty or reaches out of the image.
    """
    dims = len(size)
    start, stop = tuple(box[:dims]), tuple(box[dims:])
    inside = len(stop) == dims and all(
        0 <= a < b <= n for a, b, n in zip(start, stop, size, strict=True)
    )
    if not inside:
        raise ConfigError(
            "proposal",
            f"{tuple(box)} is no box in an image of {tuple(size)}",
            "Give start and stop of each axis, inside the image",
        )
    return tuple(map(slice, start, stop))


def by_size(boxes: Iterable[Box]) -> list[Box]:
    """Return the boxes in decreasing size; equal ones keep their order."""
    return sorted(boxes, key=lambda box: -math.prod(_sides(box)))


def pyramid_boxes(
    size: Sequence[int], levels: int = 2, overlap: float = 0.5
) -> list[Box]:
    """Return the whole image, then windows of half its sides, a quarter, ..

    Args:
        size: ``([Z,] Y, X)`` of the image.
        levels: Number of sizes.
        overlap: Least share of a window, on each axis, that the next one sees too.

    Raises:
        ConfigError: If there is no level, or ``overlap`` is not in [0, 1).
    """
    if levels < 1 or not 0 <= overlap < 1:
        raise ConfigError(
            "proposals", f"have {levels} levels, overlap {overlap}", "Use 1 and 0.5"
        )
    boxes: list[Box] = []
    for level in range(levels):
        sides = [-(-n // 2**level) for n in size]
        starts = [_starts(n, s, overlap) for n, s in zip(size, sides, strict=True)]
        for start in itertools.product(*starts):
            boxes.append((*start, *(a + s for a, s in zip(start, sides, strict=True))))
    return boxes


def aggregate(
    proposals: Iterable[tuple[Box, Tensor]], size: Sequence[int], mode: Mode = "max"
) -> Tensor:
    """Combine the class scores of proposals pixel by pixel (Noh 2015).

    A proposal scores 0 outside its box. Scores are combined before any softmax, and
    one proposal alone keeps its negative scores.

    Args:
        proposals: Boxes and their scores ``(K, [Z,] Y, X)``, each of its box's size.
        size: ``([Z,] Y, X)`` of the image.
        mode: The maximum over all proposals, or their mean.

    Returns:
        ``(K, [Z,] Y, X)``.

    Raises:
        ConfigError: If there is no proposal, a box does not fit, or ``mode`` is
            unknown.
    """
    # One at a time: a hundred proposals need no more memory than two.
    return deque(running(proposals, size, mode), maxlen=1).pop()


def running(
    proposals: Iterable[tuple[Box, Tensor]], size: Sequence[int], mode: Mode = "max"
) -> Iterator[Tensor]:
    """Yield :func:`aggregate` after the first proposal, the first two, ..

    Raises:
        ConfigError: As :func:`aggregate`.
    """
    if mode not in ("max", "mean"):
        raise ConfigError("mode", f"is {mode!r}", "Use max or mean")
    total: Tensor | None = None
    for count, (box, scores) in enumerate(proposals, start=1):
        whole = scores.new_zeros(len(scores), *size)
        whole[(slice(None), *box_slices(box, size))] = scores
        if total is None:
            total = whole
        else:
            total = torch.maximum(total, whole) if mode == "max" else total + whole
        yield total if mode == "max" else total / count
    if total is None:
        raise ConfigError("proposals", "are none", "Give at least one box")


def score_proposals(
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    boxes: Iterable[Box],
    side: Sequence[int] | None = None,
) -> Iterator[tuple[Box, Tensor]]:
    """Yield each box, in decreasing size, with the network's scores of its crop.

    Args:
        network: From ``(1, C, [Z,] Y, X)`` to logits of the same size.
        image: ``(C, [Z,] Y, X)``.
        boxes: Any number; a box of the whole image is the plain prediction.
        side: Size that crops are brought to for the network; None: as they are.
    """
    size = image.shape[1:]
    for box in by_size(boxes):
        crop = image[(slice(None), *box_slices(box, size))][None]
        if side is None:
            yield box, network(crop)[0]
        else:
            yield box, resize(network(resize(crop, side)), crop.shape[2:])[0]


def _sides(box: Box) -> list[int]:
    dims = len(box) // 2
    return [b - a for a, b in zip(box[:dims], box[dims:], strict=True)]


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Return starts of windows over ``length``, evenly spread, the ends included."""
    if side == length:
        return [0]
    count = math.ceil((length - side) / max(1, side * (1 - overlap))) + 1
    return [round(k * (length - side) / (count - 1)) for k in range(count)]

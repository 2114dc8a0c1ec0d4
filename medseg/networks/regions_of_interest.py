"""Maps of a fixed size out of boxes of any size, and back again.

Boxes are torchvision's: ``(x0, y0, x1, y1)``, half open, in pixels of the image, where
pixel ``i`` reaches from ``i`` to ``i + 1`` and its centre is at ``i + 0.5``. A row
``(image, x0, y0, x1, y1)`` says which image of the batch a box lies in, see
:func:`in_rows`. ``scale`` brings boxes to the map: 1/4 for one of stride 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import ops

from medseg.errors import ConfigError

Size = tuple[int, int]
Mode = Literal["mean", "max"]


def in_rows(boxes: Sequence[Tensor]) -> Tensor:
    """Return the boxes ``(R, 4)`` of each image as rows ``(R, 5)``."""
    return torch.cat(
        [F.pad(some, (1, 0), value=float(i)) for i, some in enumerate(boxes)]
    )


def roi_pool(x: Tensor, rows: Tensor, size: Size, scale: float = 1.0) -> Tensor:
    """Round box and bins to whole pixels, the last one included; take maxima.

    RoIPool of Fast R-CNN (Girshick 2015).

    Args:
        x: ``(N, C, Y, X)``.
        rows: ``(R, 5)``.
        size: ``(y, x)`` bins.
        scale: Pixels of ``x`` a pixel of the image.

    Returns:
        ``(R, C, *size)``.
    """
    return ops.roi_pool(x, rows, size, scale)


def roi_warp(
    x: Tensor, rows: Tensor, size: Size, scale: float = 1.0, samples: int = 2
) -> Tensor:
    """Round the box to whole pixels of the map, then sample as :func:`roi_align`.

    RoIWarp of the network cascades (Dai 2015). Args and result as there.
    """
    rounded = (rows[:, 1:] * scale + 0.5).floor()  # halves up
    return roi_align(x, torch.cat([rows[:, :1], rounded], 1), size, samples=samples)


def roi_align(
    x: Tensor,
    rows: Tensor,
    size: Size,
    scale: float = 1.0,
    samples: int = 2,
    mode: Mode = "mean",
) -> Tensor:
    """Sample each bin bilinearly at regular points; round nothing.

    RoIAlign of Mask R-CNN (He 2017). torchvision calls it ``aligned=True``; its
    default takes pixel centres for whole numbers and so looks half a pixel of the
    map too far down and to the right.

    Args:
        x: ``(N, C, Y, X)``.
        rows: ``(R, 5)``.
        size: ``(y, x)`` bins.
        scale: Pixels of ``x`` a pixel of the image.
        samples: Points of a bin on each axis.
        mode: Their mean or their maximum.

    Returns:
        ``(R, C, *size)``.

    Raises:
        ConfigError: If ``mode`` is unknown or there is no sample.
    """
    if mode not in ("mean", "max"):
        raise ConfigError("mode", f"is {mode!r}", "Use mean or max")
    if samples < 1:
        raise ConfigError("samples", f"are {samples}", "Use 1 or more")
    if mode == "mean":
        return ops.roi_align(x, rows, size, scale, samples, aligned=True)
    # Bins as fine as the samples have each sample at their centre.
    fine = (size[0] * samples, size[1] * samples)
    points = ops.roi_align(x, rows, fine, scale, 1, aligned=True)
    return F.max_pool2d(points, samples)


def bilinear_point(x: Tensor, row: float, column: float) -> Tensor:
    """Return ``x`` ``(.., Y, X)`` between its pixels.

    ``(1-y)(1-x) f00 + (1-y)x f01 + y(1-x) f10 + yx f11``, with ``y`` and ``x`` what
    the coordinates have after the point. Here pixel centres are whole numbers.

    Raises:
        ConfigError: If the point is not between the pixels.
    """
    size = x.shape[-2:]
    if not (0 <= row <= size[0] - 1 and 0 <= column <= size[1] - 1):
        problem = f"({row}, {column}) is outside of {tuple(size)} pixels"
        raise ConfigError("point", problem, "Stay between the first and last centre")
    corner = x[..., math.floor(row) :, math.floor(column) :][..., :2, :2]
    ahead, aside = row % 1, column % 1
    rows = corner[..., 0, :] * (1 - ahead) + corner[..., -1, :] * ahead
    return rows[..., 0] * (1 - aside) + rows[..., -1] * aside


def paste(
    masks: Tensor, boxes: Tensor, size: Sequence[int], threshold: float = 0.5
) -> Tensor:
    """Put the masks of boxes on the grid of the image.

    A pixel belongs to a mask if its centre lies in the box and the probability there,
    bilinear between the centres of the bins, is at least the threshold. Without the
    whole-pixel boxes of torchvision's own, which widen every mask.

    Args:
        masks: ``(R, m, m)`` probabilities.
        boxes: ``(R, 4)``.
        size: ``(Y, X)`` of the image.
        threshold: Least probability.

    Returns:
        ``(R, Y, X)`` bool.
    """
    whole = torch.zeros(len(masks), *size, dtype=torch.bool, device=masks.device)
    for target, mask, (x0, y0, x1, y1) in zip(
        whole, masks, boxes.tolist(), strict=True
    ):
        rows, columns = _covered(y0, y1, size[0]), _covered(x0, x1, size[1])
        if rows and columns:
            grid = torch.stack(
                torch.meshgrid(
                    _in_box(columns, x0, x1), _in_box(rows, y0, y1), indexing="xy"
                ),
                dim=-1,
            )
            values = F.grid_sample(
                mask[None, None],
                grid[None].to(mask),
                padding_mode="border",
                align_corners=False,
            )
            inside = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
            target[inside] = values[0, 0] >= threshold
    return whole


def _covered(start: float, stop: float, length: int) -> range:
    """Return the pixels whose centres lie in [start, stop)."""
    first = max(0, math.ceil(start - 0.5))
    return range(first, min(length, math.ceil(stop - 0.5)))


def _in_box(pixels: range, start: float, stop: float) -> Tensor:
    """Return the places of pixel centres in a box, from -1 to 1."""
    centres = torch.arange(pixels.start, pixels.stop, dtype=torch.float64) + 0.5
    return 2 * (centres - start) / (stop - start) - 1

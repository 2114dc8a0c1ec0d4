"""Sizes, shapes and intensities of the cells of a frame.

Pixels always; micrometres only where the spacing is known, since a made-up 1.0 would
look like a measurement. The unit is in the name of the column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from skimage.measure import regionprops
from skimage.segmentation import relabel_sequential

from medseg.errors import ConfigError
from medseg.geometry import Geometry
from medseg.image import Image

Cell = float | int | str | None
Row = dict[str, Cell]

UM_PER_MM = 1000.0
CELL_COLUMNS = (
    "frame",
    "cell",
    "z_px",
    "y_px",
    "x_px",
    "area_px",
    "area_um2",
    "volume_px",
    "volume_um3",
    "perimeter_px",
    "perimeter_um",
    "major_axis_px",
    "minor_axis_px",
    "major_axis_um",
    "minor_axis_um",
    "eccentricity",
    "solidity",
    "touches_edge",
    "intensity_mean",
    "intensity_sd",
    "intensity_sum",
    "background",
    "intensity_sum_above_background",
)
MEANING: Mapping[str, str] = MappingProxyType(
    {
        "frame": "number of the frame",
        "cell": "value in the mask",
        "track": "number in the table of tracks: by first frame, then by value",
        "z_px, y_px, x_px": "centroid in array index coordinates",
        "area": "of a cell in a plane; volume of one in a stack",
        "perimeter": "length of the line through the border pixels (2-D)",
        "major_axis, minor_axis": "of the ellipse with the same second moments (2-D)",
        "eccentricity": "of that ellipse: 0 for a circle, towards 1 for a line",
        "solidity": "area over that of the convex hull (2-D)",
        "touches_edge": "yes where the image cuts the cell: its sizes are too small",
        "background": "median intensity of the frame's pixels outside all cells",
        "intensity_sum_above_background": "sum of intensity less background",
    }
)


def measure_frame(
    labels: NDArray[np.integer],
    image: Image | None = None,
    geometry: Geometry | None = None,
    *,
    frame: int = 0,
) -> list[Row]:
    """Measure every cell of one frame.

    Args:
        labels: ``([Z,] Y, X)`` instance mask.
        image: Of the same size, for intensities; its first channel counts.
        geometry: With unit mm for columns in micrometres; by default the image's.
        frame: Number of the frame, for the table.

    Returns:
        A row of `CELL_COLUMNS` a cell, in the order of the labels; None where a
        column does not apply.

    Raises:
        ConfigError: If image or geometry do not fit the mask, or a label is negative.
    """
    if labels.size and labels.min() < 0:
        raise ConfigError("labels", f"{labels.min()} is negative", "Relabel it")
    geometry = geometry or (image.geometry if image is not None else None)
    spacing = micrometres(geometry, labels.ndim)
    pixels = _pixels(labels, image)
    background = _background(labels, pixels)
    rows = []
    # Numbered afresh: regionprops goes through all numbers up to the largest.
    dense, _, former = relabel_sequential(np.asarray(labels))
    for cell in regionprops(dense):
        place = (None, *(round(float(x), 2) for x in cell.centroid))[-3:]
        row: Row = dict.fromkeys(CELL_COLUMNS)
        row |= {"frame": frame, "cell": int(former[cell.label])}
        row |= dict(zip(("z_px", "y_px", "x_px"), place, strict=True))
        row["touches_edge"] = "yes" if _at_edge(cell.bbox, labels.shape) else "no"
        row |= _sizes(cell, spacing) if labels.ndim == 2 else _volume(cell, spacing)
        if pixels is not None:
            row |= _intensities(pixels[cell.slice][cell.image], background)
        rows.append(row)
    return rows


def micrometres(geometry: Geometry | None, ndim: int) -> tuple[float, ...] | None:
    """Return the spacing in micrometres, None where there is none.

    Raises:
        ConfigError: If the geometry has another number of axes.
    """
    if geometry is None or geometry.unit != "mm":
        return None
    if geometry.ndim != ndim:
        raise ConfigError(
            "spacing", f"has {geometry.ndim} axes, the mask {ndim}", "Give one an axis"
        )
    return tuple(step * UM_PER_MM for step in geometry.spacing)


def _pixels(
    labels: NDArray[np.integer], image: Image | None
) -> NDArray[np.float64] | None:
    if image is None:
        return None
    if image.spatial_shape != labels.shape:
        raise ConfigError(
            "image",
            f"has {image.spatial_shape} pixels, the mask {labels.shape}",
            "Give the movie that the masks were made of",
        )
    return image.pixels[0].astype(np.float64)


def _background(
    labels: NDArray[np.integer], pixels: NDArray[np.float64] | None
) -> float:
    outside = pixels[labels == 0] if pixels is not None else np.zeros(0)
    return float(np.median(outside)) if outside.size else math.nan


def _at_edge(box: Sequence[int], shape: tuple[int, ...]) -> bool:
    low, high = box[: len(shape)], box[len(shape) :]
    # The ends of a stack in z are no edge that cuts a cell in the plane of focus.
    return any(
        a == 0 or b == n for a, b, n in list(zip(low, high, shape, strict=True))[-2:]
    )


def _sizes(cell: object, spacing: tuple[float, ...] | None) -> Row:
    """Return the columns of a cell in a plane."""
    get = cell.__getattribute__
    major, minor = float(get("axis_major_length")), float(get("axis_minor_length"))
    around = float(get("perimeter"))
    row: Row = {
        "area_px": int(get("area")),
        "perimeter_px": round(around, 2),
        "major_axis_px": round(major, 2),
        "minor_axis_px": round(minor, 2),
        "eccentricity": round(float(get("eccentricity")), 4),
        "solidity": round(solidity(get("image")), 4),
    }
    if spacing is not None:
        row["area_um2"] = round(int(get("area")) * float(np.prod(spacing)), 4)
        # Lengths have one scale only on square pixels.
        if np.isclose(spacing[0], spacing[1]):
            row["perimeter_um"] = round(around * spacing[0], 3)
            row["major_axis_um"] = round(major * spacing[0], 3)
            row["minor_axis_um"] = round(minor * spacing[0], 3)
    return row


def _volume(cell: object, spacing: tuple[float, ...] | None) -> Row:
    count = int(cell.__getattribute__("area"))
    row: Row = {"volume_px": count}
    if spacing is not None:
        row["volume_um3"] = round(count * float(np.prod(spacing)), 4)
    return row


def solidity(mask: NDArray[np.bool_]) -> float:
    """Return the pixels of a mask ``(Y, X)`` over those of its convex hull.

    The hull is that of the pixels' corners, so a rectangle has exactly 1.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - mask[rows][:, ::-1].argmax(axis=1)
    left = np.concatenate([np.stack([rows, first], 1), np.stack([rows + 1, first], 1)])
    right = np.concatenate([np.stack([rows, last], 1), np.stack([rows + 1, last], 1)])
    hull = _bulge(right[np.lexsort(right.T[::-1])].tolist(), 1)
    hull += _bulge(left[np.lexsort(left.T[::-1])].tolist(), -1)[::-1]
    y, x = np.transpose(hull)
    around = abs(float(y @ np.roll(x, 1) - x @ np.roll(y, 1))) / 2
    return float(mask.sum() / around)


def _bulge(points: list[list[int]], side: int) -> list[list[int]]:
    """Return the convex part of a line of points that runs down, on its outer side.

    Andrew's monotone chain: qhull takes 20 times as long for so few points.
    """
    kept: list[list[int]] = []
    for y, x in points:
        while len(kept) > 1:
            (y0, x0), (y1, x1) = kept[-2:]
            if side * ((y1 - y0) * (x - x0) - (x1 - x0) * (y - y0)) < 0:
                break
            kept.pop()
        kept.append([y, x])
    return kept


def _intensities(values: NDArray[np.float64], background: float) -> Row:
    total = float(values.sum())
    above = total - background * len(values)
    return {
        "intensity_mean": round(float(values.mean()), 4),
        "intensity_sd": round(float(values.std()), 4),
        "intensity_sum": round(total, 3),
        "background": None if math.isnan(background) else round(background, 4),
        "intensity_sum_above_background": None
        if math.isnan(above)
        else round(above, 3),
    }

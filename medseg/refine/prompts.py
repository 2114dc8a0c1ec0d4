"""What a person marks: a point, a box, a scribble or a lasso.

Coordinates are array indices in the order of the array, ``([z,] y, x)``; the centre
of the first pixel is 0. ``positive`` says "this belongs to the target", False "this
does not".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon

from medseg.errors import ConfigError

Index = tuple[NDArray[np.intp], ...]
Position = tuple[float, ...]


@dataclass(frozen=True)
class Point:
    """One click.

    Raises:
        ConfigError: If the position has not 2 or 3 finite coordinates.
    """

    position: Position
    positive: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "position", _position("point", self.position))

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.position)

    def pixels(self, shape: Sequence[int]) -> Index:
        """Return the index arrays of the clicked pixel, empty outside of ``shape``."""
        return _inside(np.array([self.position]), shape)


@dataclass(frozen=True)
class Box:
    """All pixels whose centre lies in a box, its ends included.

    Raises:
        ConfigError: If the corners are no positions of one length, or ``low`` exceeds
            ``high``.
    """

    low: Position
    high: Position
    positive: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", _position("box", self.low))
        object.__setattr__(self, "high", _position("box", self.high))
        _one_length("box", (self.low, self.high))
        if any(a > b for a, b in zip(self.low, self.high, strict=True)):
            raise ConfigError(
                "box", f"low {self.low} exceeds high {self.high}", "Swap the corners"
            )

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.low)

    def pixels(self, shape: Sequence[int]) -> Index:
        """Return the index arrays of the pixels of the box that lie in ``shape``."""
        _check_axes(self.ndim, shape)
        ranges = [
            np.arange(max(0, np.ceil(a)), min(n - 1, np.floor(b)) + 1, dtype=np.intp)
            for a, b, n in zip(self.low, self.high, shape, strict=True)
        ]
        return tuple(axis.ravel() for axis in np.meshgrid(*ranges, indexing="ij"))


@dataclass(frozen=True)
class Scribble:
    """A drawn line, ``width`` pixels thick.

    In a volume a line that stays in one slice is thick within that slice only.

    Raises:
        ConfigError: If it has no point, one that is no position, points of different
            length, or a width below 1.
    """

    points: tuple[Position, ...]
    positive: bool = True
    width: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", _path("scribble", self.points, 1))
        if not (np.isfinite(self.width) and self.width >= 1):
            raise ConfigError("scribble", f"width is {self.width}", "Use 1 or more")

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.points[0])

    def pixels(self, shape: Sequence[int]) -> Index:
        """Return the index arrays of the line's pixels that lie in ``shape``."""
        line = _line(np.array(self.points))
        if self.width > 1:
            line = (line[:, None] + _pen(self.points, self.width)).reshape(
                -1, self.ndim
            )
        return _inside(line, shape)


@dataclass(frozen=True)
class Lasso:
    """A closed outline with what it encloses; the last point joins the first.

    In a volume it lies in one slice: one coordinate is the same for all points.

    Raises:
        ConfigError: If it has fewer than 3 points, one that is no position, points of
            different length, or lies in no slice.
    """

    points: tuple[Position, ...]
    positive: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", _path("lasso", self.points, 3))
        if self.ndim == 3 and not _flat(self.points):
            raise ConfigError(
                "lasso", "its points lie in no slice", "Draw it within one slice"
            )

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.points[0])

    def pixels(self, shape: Sequence[int]) -> Index:
        """Return the index arrays of the outline and its inside in ``shape``."""
        _check_axes(self.ndim, shape)
        path = np.array(self.points)
        outline = _line(np.concatenate([path, path[:1]]))
        flat = _flat(self.points)[0] if self.ndim == 3 else None
        plane = [a for a in range(self.ndim) if a != flat]
        # What is drawn far outside takes no memory.
        sides = [shape[a] for a in plane]
        y, x = path[:, plane].T
        inner = np.stack(polygon(y, x, sides), axis=1).astype(np.float64)
        filled = np.full((len(inner), self.ndim), path[0])
        filled[:, plane] = inner
        return _inside(np.concatenate([outline, filled]), shape)


Prompt = Point | Box | Scribble | Lasso


def _position(field: str, value: Sequence[float]) -> Position:
    found = tuple(float(v) for v in value)
    if len(found) not in (2, 3) or not np.isfinite(found).all():
        raise ConfigError(
            field, f"position {found}", "Give 2 or 3 finite coordinates ([z,] y, x)"
        )
    return found


def _one_length(field: str, positions: Sequence[Position]) -> None:
    lengths = sorted({len(p) for p in positions})
    if len(lengths) > 1:
        raise ConfigError(
            field, f"positions of {lengths} coordinates", "Give all the same number"
        )


def _path(
    field: str, points: Sequence[Sequence[float]], least: int
) -> tuple[Position, ...]:
    found = tuple(_position(field, p) for p in points)
    if len(found) < least:
        raise ConfigError(field, f"has {len(found)} points", f"Give at least {least}")
    _one_length(field, found)
    return found


def _flat(points: Sequence[Position]) -> list[int]:
    """Return the axes along which all points have the same coordinate."""
    return [a for a, v in enumerate(zip(*points, strict=True)) if len(set(v)) == 1]


def _line(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return positions at most one pixel apart along the path ``(N, D)``."""
    parts = [points[:1]]
    for start, stop in pairwise(points):
        steps = max(1, int(np.ceil(np.abs(stop - start).max())))
        parts.append(start + (stop - start) * np.arange(1, steps + 1)[:, None] / steps)
    return np.concatenate(parts)


def _pen(points: Sequence[Position], width: float) -> NDArray[np.float64]:
    """Return the offsets ``(M, D)`` of a disc, or of a ball off any slice."""
    ndim, radius = len(points[0]), width / 2
    reach = np.arange(-int(radius), int(radius) + 1)
    flat = _flat(points)[:1] if ndim == 3 else []
    ranges = [np.zeros(1, int) if a in flat else reach for a in range(ndim)]
    offsets = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, ndim)
    return offsets[(offsets**2).sum(axis=1) <= radius**2].astype(np.float64)


def _check_axes(ndim: int, shape: Sequence[int]) -> None:
    if ndim != len(shape):
        raise ConfigError(
            "prompt",
            f"has {ndim} coordinates, the mask {len(shape)} axes",
            "Give a coordinate for each axis ([z,] y, x)",
        )


def _inside(positions: NDArray[np.float64], shape: Sequence[int]) -> Index:
    """Round to pixels, drop those outside and repeats; sorted, so deterministic."""
    _check_axes(positions.shape[1], shape)
    pixels = np.floor(positions + 0.5).astype(np.intp)
    pixels = pixels[((pixels >= 0) & (pixels < np.array(shape))).all(axis=1)]
    return tuple(np.unique(pixels, axis=0).T)

"""Apply a slope and an intercept, keeping integers where they stay exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INTEGERS = ("u1", "i2", "u2", "i4", "u4", "i8")


def rescale(pixels: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """Return ``pixels * slope + intercept``.

    Integers stay integers where slope and intercept are whole, in the smallest type
    that holds every value the stored type could give; else float32.
    """
    if slope == 1 and intercept == 0:
        return pixels
    dtype = rescaled_dtype(pixels.dtype, slope, intercept)
    if dtype.kind == "f":
        return (pixels * np.float64(slope) + intercept).astype(dtype)
    wide = pixels.astype(np.int64) * int(slope) + int(intercept)
    return wide.astype(dtype)


def rescaled_dtype(
    stored: np.dtype[Any],
    slope: float,
    intercept: float,
    bounds: tuple[int, int] | None = None,
) -> np.dtype[Any]:
    """Return the type of rescaled pixels of type ``stored``."""
    whole = float(slope).is_integer() and float(intercept).is_integer()
    if stored.kind == "f" or not whole:
        return np.dtype(np.float32)
    info = np.iinfo(stored)
    low, high = bounds or (int(info.min), int(info.max))
    ends = sorted(int(slope) * v + int(intercept) for v in (low, high))
    for code in _INTEGERS:
        fit = np.iinfo(code)
        if fit.min <= ends[0] and ends[1] <= fit.max:
            return np.dtype(code)
    return np.dtype(np.float32)

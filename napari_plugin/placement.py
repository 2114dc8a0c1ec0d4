"""Where napari shows an array, and what geometry a layer of napari has.

napari's world axes follow those of the array: array axis ``i`` is shown along world
axis ``i``, which stands for the patient axis closest to it, in its direction. So
every slice of the array is a slice on the screen, with true aspect and not mirrored.
A tilt against the patient axes is left out of the picture: napari would show the
slices anyhow, but paint on others than the one shown. The exact geometry, tilt
included, goes with the layer and into the files.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.geometry import Geometry

AXES = "zyx"
# What one unit of napari is in mm; anything else is a pixel.
_MILLIMETRES = {
    "meter": 1e3,
    "centimeter": 10.0,
    "millimeter": 1.0,
    "micrometer": 1e-3,
    "nanometer": 1e-6,
}


def nearest_axes(geometry: Geometry) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the world axis closest to each array axis, and its sign (1 or -1)."""
    direction = np.array(geometry.direction)
    n = geometry.ndim
    axes = max(
        itertools.permutations(range(n)),
        key=lambda rows: sum(abs(direction[r, i]) for i, r in enumerate(rows)),
    )
    signs = tuple(1 if direction[r, i] >= 0 else -1 for i, r in enumerate(axes))
    return axes, signs


def is_tilted(geometry: Geometry, tolerance: float = 1e-3) -> bool:
    """Return whether an axis is off the patient's axes by over ``tolerance`` rad."""
    axes, signs = nearest_axes(geometry)
    straight = np.zeros((geometry.ndim,) * 2)
    straight[axes, range(geometry.ndim)] = signs
    return bool(np.abs(np.array(geometry.direction) - straight).max() > tolerance)


def placement(
    geometry: Geometry, shape: Sequence[int], *, first_frame: int | None = None
) -> dict[str, Any]:
    """Return napari's ``scale``, ``affine``, ``units`` and ``axis_labels``.

    The spacing is the scale. The affine holds signs and position: the centre of the
    array is where the patient coordinates have it.

    Args:
        geometry: Of the spatial axes.
        shape: ``([Z,] Y, X)``.
        first_frame: For a movie ``(T, [Z,] Y, X)``: the number of its first frame.
    """
    axes, signs = nearest_axes(geometry)
    centre = (np.array(shape, float) - 1) / 2
    step = np.array(signs) * geometry.spacing
    origin = geometry.world(centre)[list(axes)] - step * centre
    lead = int(first_frame is not None)
    affine = np.eye(lead + geometry.ndim + 1)
    affine[range(lead, lead + geometry.ndim), range(lead, lead + geometry.ndim)] = signs
    affine[lead:-1, -1] = origin
    if first_frame is not None:
        affine[0, -1] = first_frame
    unit = "mm" if geometry.unit == "mm" else "pixel"
    return {
        "scale": (1.0,) * lead + geometry.spacing,
        "affine": affine,
        "units": ("pixel",) * lead + (unit,) * geometry.ndim,
        "axis_labels": ("t",) * lead + tuple(AXES[-geometry.ndim :]),
    }


def transform_of(meta: Mapping[str, Any], ndim: int) -> NDArray[np.float64]:
    """Return the matrix ``(ndim+1, ndim+1)`` from array index to napari's world.

    Args:
        meta: Keywords of a layer: ``scale translate rotate shear affine``.
        ndim: Axes of the layer.
    """
    linear = np.diag(_filled(meta.get("scale"), ndim, 1.0))
    linear = _shear(meta.get("shear"), ndim) @ linear
    rotate = meta.get("rotate")
    if rotate is not None:
        linear = np.asarray(rotate, float) @ linear
    inner = np.eye(ndim + 1)
    inner[:-1, :-1] = linear
    inner[:-1, -1] = _filled(meta.get("translate"), ndim, 0.0)
    affine = meta.get("affine")
    if affine is None:
        return inner
    outer = getattr(affine, "affine_matrix", affine)
    return np.asarray(outer, float) @ inner


def _filled(values: Any, ndim: int, default: float) -> NDArray[np.float64]:
    given = np.asarray([] if values is None else values, float)
    return np.concatenate([np.full(ndim - len(given), default), given])


def _shear(values: Any, ndim: int) -> NDArray[np.float64]:
    """Return napari's upper triangle as a matrix."""
    matrix = np.eye(ndim)
    if values is None:
        return matrix
    given = np.asarray(values, float)
    if given.ndim == 2:
        return given
    matrix[np.triu_indices(ndim, k=1)] = given
    return matrix


def geometry_of_transform(
    matrix: NDArray[np.float64],
    units: Sequence[object] | None,
    spatial: int,
    axes: Sequence[int] | None = None,
) -> Geometry:
    """Return the geometry of the last ``spatial`` axes of a layer's transform.

    Args:
        matrix: From :func:`transform_of`.
        units: A unit an axis, as napari gives them.
        spatial: 2 or 3.
        axes: Patient axis that each world axis stands for, by default in order.

    Raises:
        ConfigError: If the layer is sheared, or flat along an axis.
    """
    linear = matrix[-1 - spatial : -1, -1 - spatial : -1]
    names = [str(u) for u in (units or ())][-spatial:]
    known = [_MILLIMETRES.get(n) for n in names]
    in_mm = len(known) == spatial and None not in known
    factor = np.array([k or 1.0 for k in known]) if in_mm else np.ones(spatial)
    linear = factor[:, None] * linear
    spacing = np.linalg.norm(linear, axis=0)
    if not (spacing > 0).all():
        raise ConfigError("layer", f"its scale is {spacing.tolist()}")
    direction = linear / spacing
    if np.abs(direction.T @ direction - np.eye(spatial)).max() > 1e-3:
        raise ConfigError("layer", "it is sheared", "Reset its transform before saving")
    rows = np.argsort(axes) if axes is not None else np.arange(spatial)
    origin = (factor * matrix[-1 - spatial : -1, -1])[rows]
    return Geometry(
        tuple(spacing.tolist()),
        tuple(origin.tolist()),
        tuple(map(tuple, direction[rows].tolist())),
        "mm" if in_mm else "px",
    )

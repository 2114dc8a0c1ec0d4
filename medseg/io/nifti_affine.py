"""Between NIfTI's RAS over ``(x, y, z)`` and our LPS over ``([z,] y, x)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.geometry import Geometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.io.source import Source

_UNITS = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 1e-3}
_SHEAR = 1e-3


def ras_affine(geometry: Geometry) -> NDArray[np.float64]:
    """Return the 4 x 4 matrix from ``(x, y, z)`` index to RAS mm."""
    n = geometry.ndim
    affine = np.eye(4)
    # Reverse array and world axes: (z, y, x) -> (x, y, z), (S, P, L) -> (L, P, S).
    affine[:n, :n] = geometry.affine[:n, :n][::-1, ::-1]
    affine[:n, 3] = geometry.origin[::-1]
    affine[:2] *= -1  # LPS -> RAS
    return affine + 0.0  # no negative zeros


def read_geometry(
    source: Source, header: Any, spatial: int, notes: list[str]
) -> Geometry:
    """Return the geometry of ``spatial`` axes; adds to ``notes`` what was decided.

    Raises:
        FileError: If a voxel size is not positive, or the affine singular or not
            finite.
    """
    zooms = np.array(header["pixdim"][1 : spatial + 1], np.float64)
    if not (np.isfinite(zooms) & (zooms > 0)).all():
        raise source.fail(f"zero, negative or undefined voxel size {zooms.tolist()}")
    factor = _UNITS.get(int(header["xyzt_units"]) & 7, 1.0)
    if factor != 1:
        notes.append(f"coordinates are converted to mm (times {factor:g})")
    affine = _affine(source, header, notes)
    if affine is None:
        return Geometry.upright(tuple(zooms[::-1] * factor))
    affine[:3] *= factor
    return _decompose(source, affine, spatial, zooms * factor, notes)


def _affine(
    source: Source, header: Any, notes: list[str]
) -> NDArray[np.float64] | None:
    """Return the RAS affine that counts, or None where neither form is set."""
    sform = header.get_sform() if int(header["sform_code"]) > 0 else None
    if sform is not None:
        _check_regular(source, sform, "sform")
    qform = None
    if int(header["qform_code"]) > 0:
        quaternion = [float(header[f"quatern_{c}"]) for c in "bcd"]
        if not np.isfinite(quaternion).all() or np.dot(quaternion, quaternion) > 1.001:
            raise source.fail(f"the qform quaternion {quaternion} is not a rotation")
        qform = header.get_qform()
        _check_regular(source, qform, "qform")
    if sform is None and qform is None:
        notes.append("neither sform nor qform is set: only the voxel size is known")
        return None
    if sform is not None and qform is not None:
        apart = float(np.abs(sform - qform).max())
        if apart > 1e-3 * max(1.0, float(np.abs(sform).max())):
            notes.append(f"sform and qform disagree by {apart:.4g} mm; sform is used")
    return np.array(sform if sform is not None else qform, np.float64)


def _check_regular(source: Source, affine: NDArray[np.float64], name: str) -> None:
    if not np.isfinite(affine).all():
        raise source.fail(f"the {name} affine holds NaN or infinity")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() == 0 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise source.fail(f"the {name} affine is singular")


def _decompose(
    source: Source,
    affine: NDArray[np.float64],
    spatial: int,
    zooms: NDArray[np.float64],
    notes: list[str],
) -> Geometry:
    lps = affine.copy()
    lps[:2] *= -1
    matrix = lps[:3, :3]
    if spatial == 2:
        if np.abs(matrix[2, :2]).max() > 1e-4 * np.abs(matrix[:2, :2]).max():
            notes.append("a plane that is not axial: only its voxel size is kept")
            return Geometry.upright(tuple(zooms[::-1]))
        matrix = matrix[:2, :2]
    spacing = np.linalg.norm(matrix, axis=0)
    direction = matrix / spacing
    shear = float(np.abs(direction.T @ direction - np.eye(spatial)).max())
    if shear > _SHEAR:
        notes.append(f"sheared axes (cosine {shear:.4f} between two of them)")
    flipped = direction[::-1, ::-1] + 0.0
    return Geometry(
        tuple(float(s) for s in spacing[::-1]),
        tuple(float(o) + 0.0 for o in lps[:spatial, 3][::-1]),
        tuple(tuple(float(d) for d in row) for row in flipped),
        "mm",
    )

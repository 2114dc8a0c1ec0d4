"""Where a DICOM file lies: spacing of a film, position and orientation of slices.

DICOM speaks of ``(x, y, z)`` in LPS and of pixel spacing as (row, column); this is
the one place where that becomes our ``([z,] y, x)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.geometry import Geometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.io.source import Source

Dataset = Any

# Projections: they have a spacing at most, whatever position they also state.
_FILMS = frozenset(("CR", "DX", "MG", "RF", "XA", "PX", "IO", "RG", "SC", "OT", "ES"))
_ORTHOGONAL = 1e-3
_GAP_MM = 0.01
_GAP_SHARE = 0.01
_TILT_MM = 0.01


@dataclass(frozen=True)
class Plane:
    """One slice in space, in DICOM's own ``(x, y, z)``.

    Args:
        position: Centre of the first pixel, mm.
        column: Unit vector along increasing x index.
        row: Unit vector along increasing y index.
        spacing: ``(y, x)`` in mm.
        thickness: Between slices as stated, mm, or NaN.
    """

    position: NDArray[np.float64]
    column: NDArray[np.float64]
    row: NDArray[np.float64]
    spacing: tuple[float, float]
    thickness: float

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector along which slices follow."""
        return np.cross(self.column, self.row)


def numbers(source: Source, dataset: Dataset, name: str, count: int) -> list[float]:
    """Return the ``count`` numbers of an element, or ``[]`` if it is absent or empty.

    Raises:
        FileError: If there are others than ``count`` finite numbers.
    """
    value = dataset.get(name)
    if value is None or value == "":
        return []
    try:
        values = [float(v) for v in (value if count > 1 else [value])]
    except (TypeError, ValueError) as error:
        raise source.fail(f"{name} is not {count} numbers") from error
    if len(values) != count or not all(map(math.isfinite, values)):
        raise source.fail(f"{name} is not {count} finite numbers")
    return values


def spacing_of(
    source: Source, dataset: Dataset, name: str
) -> tuple[float, float] | None:
    """Return ``(y, x)`` spacing in mm of an element, None if it is absent.

    Raises:
        FileError: If it is zero or negative.
    """
    values = numbers(source, dataset, name, 2)
    if not values:
        return None
    if min(values) <= 0:
        raise source.fail(f"zero or negative spacing: {name} is {values}")
    return values[0], values[1]


def file_geometry(
    source: Source, dataset: Dataset, frames: int, notes: list[str]
) -> tuple[Geometry, Any]:
    """Return the geometry of one file, and the order of its frames.

    Args:
        source: The file.
        dataset: Its header.
        frames: How many it has.
        notes: What was decided is added here.

    Raises:
        FileError: If spacing or orientation are wrong, or many frames have no place.
    """
    if "PerFrameFunctionalGroupsSequence" in dataset and frames > 1:
        planes = [frame_plane(source, dataset, i) for i in range(frames)]
        order = sort_planes(source, planes, [f"frame {i + 1}" for i in range(frames)])
        return stack_geometry([planes[i] for i in order]), order
    if frames > 1:
        raise source.fail(
            f"{frames} frames without positions in space",
            "Use a series of single slices, or an enhanced file",
        )
    film = str(dataset.get("Modality", "") or "") in _FILMS
    plane = None if film else file_plane(source, dataset)
    if plane is None:
        notes += _turned(dataset)
        return film_geometry(source, dataset), slice(None)
    if math.isnan(plane.thickness):
        notes.append("no slice thickness is stated: 1 mm is taken")
    return stack_geometry([plane]), slice(None)


def _turned(dataset: Dataset) -> list[str]:
    """Return a note on a film whose rows or columns run another way than usual.

    Upright, rows run to the patient's left (or in a lateral film forwards or
    backwards) and columns to the feet.
    """
    ways = [str(w)[:1] for w in dataset.get("PatientOrientation") or ()]
    if len(ways) != 2 or not all(ways) or (ways[0] in "LAP" and ways[1] == "F"):
        return []
    return ["PatientOrientation says mirrored or turned; pixels are as stored"]


def film_geometry(source: Source, dataset: Dataset) -> Geometry:
    """Return the geometry of a projection: PixelSpacing, else at the detector.

    Without a calibration, PixelSpacing that repeats ImagerPixelSpacing holds at the
    detector too (DICOM PS3.3 10.7.1.3).
    """
    pixel = spacing_of(source, dataset, "PixelSpacing")
    imager = spacing_of(source, dataset, "ImagerPixelSpacing")
    scanned = spacing_of(source, dataset, "NominalScannedPixelSpacing")
    if pixel is not None:
        calibrated = bool(dataset.get("PixelSpacingCalibrationType"))
        return Geometry.upright(
            pixel, detector_plane=not calibrated and pixel in (imager, scanned)
        )
    at_detector = imager or scanned
    if at_detector is None:
        return Geometry.pixels(2)
    return Geometry.upright(at_detector, detector_plane=True)


def file_plane(source: Source, dataset: Dataset) -> Plane | None:
    """Return where a single slice lies, or None if it does not say.

    Raises:
        FileError: If its orientation is not orthogonal or its spacing wrong.
    """
    own = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    if own and any(g.get("PlanePositionSequence") for g in (*own, *shared)):
        return frame_plane(source, dataset, 0)
    return _plane(source, dataset, dataset, dataset)


def frame_plane(source: Source, dataset: Dataset, index: int) -> Plane:
    """Return where frame ``index`` of an enhanced file lies.

    Raises:
        FileError: If it does not say, or says something impossible.
    """
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    own = dataset.PerFrameFunctionalGroupsSequence
    if index >= len(own):
        raise source.damaged(
            f"frame {index + 1} has no functional group, {len(own)} present"
        )

    def group(name: str) -> Dataset:
        for holder in (own[index], shared):
            if holder is not None and holder.get(name):
                return holder[name].value[0]
        raise source.fail(f"frame {index + 1} has no {name}")

    plane = _plane(
        source,
        group("PlanePositionSequence"),
        group("PlaneOrientationSequence"),
        group("PixelMeasuresSequence"),
    )
    if plane is None:
        raise source.fail(f"frame {index + 1} has no position in space")
    return plane


def _plane(
    source: Source, position: Dataset, orientation: Dataset, measures: Dataset
) -> Plane | None:
    place = numbers(source, position, "ImagePositionPatient", 3)
    cosines = np.array(numbers(source, orientation, "ImageOrientationPatient", 6))
    spacing = spacing_of(source, measures, "PixelSpacing")
    if not place or not cosines.size or spacing is None:
        return None
    lengths = np.linalg.norm(cosines.reshape(2, 3), axis=1)
    product = float(cosines[:3] @ cosines[3:])
    if np.abs(lengths - 1).max() > _ORTHOGONAL or abs(product) > _ORTHOGONAL:
        raise source.fail(
            f"the orientation is not orthogonal: lengths {lengths[0]:.4f} and "
            f"{lengths[1]:.4f}, cosine {product:.4f}"
        )
    between = numbers(source, measures, "SpacingBetweenSlices", 1)
    thick = numbers(source, measures, "SliceThickness", 1)
    stated = [abs(v) for v in (*between, *thick) if v]
    return Plane(
        np.array(place),
        cosines[:3],
        cosines[3:],
        spacing,
        stated[0] if stated else math.nan,
    )


def sort_planes(source: Source, planes: list[Plane], names: list[str]) -> list[int]:
    """Return the order of two or more parallel planes along their normal.

    Raises:
        FileError: If they are not parallel, not equally spaced, at one position, or
            shifted against each other (gantry tilt); gives the numbers.
    """
    first = planes[0]
    for plane, name in zip(planes, names, strict=True):
        _check_like(source, first, plane, name)
    along = np.array([p.position @ first.normal for p in planes])
    order = [int(i) for i in np.argsort(along, kind="stable")]
    gaps = np.diff(along[order])
    _check_gaps(source, gaps, [names[i] for i in order])
    places = np.array([planes[i].position for i in order])
    steps = np.diff(places, axis=0)
    aside = np.linalg.norm(steps - gaps[:, None] * first.normal, axis=1)
    if aside.max() > _TILT_MM:
        angle = math.degrees(math.atan2(float(aside.max()), float(gaps.mean())))
        raise source.fail(
            f"gantry tilt: slices shift by {aside.max():.4f} mm in their plane "
            f"({angle:.2f} degrees), the tolerance is {_TILT_MM} mm",
            "Resample the series to upright slices",
        )
    return order


def _check_like(source: Source, first: Plane, plane: Plane, name: str) -> None:
    turned = min(float(first.column @ plane.column), float(first.row @ plane.row))
    if turned < 1 - 1e-5:
        angle = math.degrees(math.acos(max(-1.0, min(1.0, turned))))
        raise source.fail(
            f"slices of different orientation: {name} is turned by {angle:.2f} degrees "
            "(a localizer, or another series)",
            "Move it out of the folder",
        )
    if (
        max(abs(a / b - 1) for a, b in zip(plane.spacing, first.spacing, strict=True))
        > 1e-3
    ):
        raise source.fail(
            f"pixel spacing differs: {first.spacing} mm, "
            f"and {plane.spacing} mm in {name}"
        )


def _check_gaps(source: Source, gaps: NDArray[np.float64], names: list[str]) -> None:
    spacing = float(np.median(gaps))
    if gaps.min() < 1e-4:
        at = int(gaps.argmin())
        raise source.fail(
            f"two slices at one position (duplicate): {names[at]} and {names[at + 1]} "
            f"are {gaps[at]:.4f} mm apart, {spacing:.4f} mm expected",
            "Move one of them out of the folder",
        )
    tolerance = min(_GAP_MM, _GAP_SHARE * spacing)
    at = int(np.abs(gaps - spacing).argmax())
    if abs(gaps[at] - spacing) > tolerance + 1e-9:
        raise source.fail(
            f"a slice is missing or misplaced: a gap of {gaps[at]:.4f} mm after "
            f"{names[at]} where the spacing is {spacing:.4f} mm (tolerance "
            f"{tolerance:.4f} mm)",
            "Complete the series"
            if gaps[at] > 1.5 * spacing
            else "Resample it to even slices, as its positions may be rounded",
        )


def stack_geometry(planes: list[Plane]) -> Geometry:
    """Return the geometry ``(z, y, x)`` of sorted planes."""
    first, last = planes[0], planes[-1]
    normal, depth = first.normal, first.thickness
    if len(planes) > 1:
        step = (last.position - first.position) / (len(planes) - 1)
        depth = float(np.linalg.norm(step))
    if not math.isfinite(depth):
        depth = 1.0
    # Columns are array axes (z, y, x), rows world axes reversed to (S, P, L).
    matrix = np.stack([normal, first.row, first.column], axis=1)[::-1]
    return Geometry(
        (depth, *first.spacing),
        tuple(float(v) + 0.0 for v in first.position[::-1]),
        tuple(tuple(float(v) + 0.0 for v in row) for row in matrix),
        "mm",
    )

"""Data sets of the Cell Tracking Challenge: frames with gold or silver truth.

Ulman et al. 2017, Nature Methods 14:1141-1152; Maska et al. 2023, Nature Methods
20:1010-1020. The challenge's terms allow no redistribution.

Gold segmentation often draws only some cells of a frame, while the tracking truth
has a marker in every one. A frame is complete where a drawn cell covers more than
half of each marker (the numbers of the two need not agree: in GOWT1 they do not).
In the others, what lies within reach of a marker without a drawn cell is unknown.
Reach is measured on the set: the furthest that a drawn cell extends from its own
marker, in any frame, and 2 pixels more. In GOWT1 that is 66 pixels; everything
further away is background by the annotators' word, as every cell has its marker.

In some sets, cells that lie wholly in a rim of the picture are left out (the
challenge's field of interest): `BORDERS`. There, pixels of no cell are unknown.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.datasets.case import Case
from medseg.datasets.instances import (
    InstanceTruth,
    drawn_markers,
    read_instances,
    read_plane,
)
from medseg.errors import ConfigError, FileError, ImageWarning
from medseg.io.ctc import MaskMovie, open_masks
from medseg.io.movie import Movie, open_movie

# Rim of the field of interest in pixels, by the challenge's conventions.
BORDERS: dict[str, int] = {
    **dict.fromkeys(
        (
            "DIC-C2DH-HeLa", "Fluo-C2DL-Huh7", "Fluo-C2DL-MSC", "Fluo-C3DH-H157",
            "Fluo-N2DH-GOWT1", "Fluo-N3DH-CE", "Fluo-N3DH-CHO", "PhC-C2DH-U373",
        ),
        50,
    ),
    **dict.fromkeys(
        (
            "BF-C2DL-HSC", "BF-C2DL-MuSC", "Fluo-C3DL-MDA231", "Fluo-N2DL-HeLa",
            "PhC-C2DL-PSC",
        ),
        25,
    ),
}  # fmt: skip
SPACING: dict[str, tuple[float, ...]] = {  # mm, as the challenge states it
    "DIC-C2DH-HeLa": (0.19e-3, 0.19e-3),
    "Fluo-N2DH-GOWT1": (0.24e-3, 0.24e-3),
    "Fluo-N2DH-SIM+": (0.125e-3, 0.125e-3),
    "Fluo-C3DH-A549": (1e-3, 0.126e-3, 0.126e-3),
    "Fluo-C3DH-H157": (0.5e-3, 0.126e-3, 0.126e-3),
    "Fluo-C3DL-MDA231": (6e-3, 1.242e-3, 1.242e-3),
    "Fluo-N3DH-CE": (1e-3, 0.09e-3, 0.09e-3),
    "Fluo-N3DH-CHO": (1e-3, 0.202e-3, 0.202e-3),
    "Fluo-N3DH-SIM+": (0.2e-3, 0.125e-3, 0.125e-3),
}
_MARGIN = 2.0  # pixels
_FALLBACK_REACH = 40.0

__all__ = ["SequenceFolders", "cases", "read_instances", "sequences", "split_by_time"]

Truth = Literal["gold", "silver"]


@dataclass(frozen=True)
class SequenceFolders:
    """The folders of one movie; those that are not there are None.

    Args:
        id: ``"01"``, ``"02"``.
        frames: ``01``.
        gold: ``01_GT/SEG``.
        tracking: ``01_GT/TRA``.
        silver: ``01_ST/SEG``.
        result: ``01_RES``.
    """

    id: str
    frames: Path
    gold: Path | None
    tracking: Path | None
    silver: Path | None
    result: Path | None


def sequences(folder: str | Path) -> list[SequenceFolders]:
    """Return the movies of a data set: folders named by digits, with frames.

    Raises:
        FileError: If there is none.
    """
    folder = Path(folder)
    names = (
        sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name.isdigit())
        if folder.is_dir()
        else []
    )
    if not names:
        raise FileError(
            folder,
            "holds no sequence (a folder 01 or 02 with frames)",
            "Give the folder of one data set, such as Fluo-N2DH-SIM+",
        )

    def there(*parts: str) -> Path | None:
        path = folder.joinpath(*parts)
        return path if path.is_dir() else None

    return [
        SequenceFolders(
            name,
            folder / name,
            there(f"{name}_GT", "SEG"),
            there(f"{name}_GT", "TRA"),
            there(f"{name}_ST", "SEG"),
            there(f"{name}_RES"),
        )
        for name in names
    ]


def cases(folder: str | Path, *, truth: Truth = "gold") -> list[Case]:
    """Return the frames with drawn cells, by sequence and frame.

    All masks are read once, to see which frames are complete. No split is set: see
    `split_by_time`, or leave whole sequences out (``group`` is the sequence).

    Args:
        folder: Of one data set, with ``01``, ``01_GT/SEG``, ``01_GT/TRA``, and
            ``01_ST/SEG`` for silver truth; three digits or four, 2-D or 3-D (where
            single slices are drawn, each is a case).
        truth: ``"gold"`` (drawn by people) or ``"silver"`` (from many programs).

    Raises:
        FileError: If there is no sequence or no drawn frame, a mask has no frame,
            or a file cannot be read.
    """
    folder = Path(os.path.abspath(folder))  # for its name, also of "."
    found: list[Case] = []
    for sequence in sequences(folder):
        drawn = sequence.gold if truth == "gold" else sequence.silver
        if drawn is not None:
            movie = open_movie(sequence.frames)
            masks = open_masks(drawn, "seg")
            found += _sequence_cases(folder.name, sequence, movie, masks)
    if not found:
        raise FileError(
            folder,
            f"has no {truth} segmentation",
            "Unpack 01_GT/SEG" if truth == "gold" else "Unpack 01_ST/SEG",
        )
    return found


def _sequence_cases(
    name: str, sequence: SequenceFolders, movie: Movie, masks: MaskMovie
) -> list[Case]:
    markers = _markers(sequence)
    seen = [_look(masks, i, markers.get(frame)) for i, frame in enumerate(masks.frames)]
    reaches = [s.reach for s in seen if s.reach is not None]
    reach = max(reaches) + _MARGIN if reaches else _FALLBACK_REACH
    found = []
    for i, frame in enumerate(masks.frames):
        if frame not in movie.frames:
            raise FileError(
                masks.files[i],
                f"the movie has no frame {frame}; it has {movie.frames[0]} to "
                f"{movie.frames[-1]}",
                "Put the frame back, or remove the mask",
            )
        z = masks.slices[i]
        image = movie.files[movie.frames.index(frame)]
        found.append(
            Case(
                id=f"{name}/{sequence.id}/{image.stem}" + (f"_{z}" if z else ""),
                image=image,
                truth={},
                annotated=(),
                group=f"{name}/{sequence.id}",
                spacing=SPACING.get(name),
                frame=frame,
                slice=z,
                instances=InstanceTruth(
                    masks.files[i],
                    markers=markers.get(frame),
                    partial=seen[i].undrawn > 0,
                    reach=reach,
                    border=BORDERS.get(name, 0),
                ),
            )
        )
    if not markers:
        warnings.warn(
            f"{sequence.frames}: no tracking truth, so all {len(found)} frames are "
            "taken as completely drawn",
            ImageWarning,
            stacklevel=3,
        )
    return found


def _markers(sequence: SequenceFolders) -> dict[int, Path]:
    if sequence.tracking is None:
        return {}
    found = open_masks(sequence.tracking, "track")
    return dict(zip(found.frames, found.files, strict=True))


@dataclass(frozen=True)
class _Look:
    undrawn: int
    reach: float | None


def _look(masks: MaskMovie, index: int, path: Path | None) -> _Look:
    """Return how many markers have no cell, and how far drawn cells extend."""
    if path is None:
        return _Look(0, None)
    cells = read_plane(masks.files[index], None)
    markers = read_plane(path, masks.slices[index])
    if cells.shape != markers.shape:
        raise FileError(
            path,
            f"markers of {markers.shape} for cells of {cells.shape}",
            "Both are on the grid of the frame",
        )
    drawn, undrawn = drawn_markers(cells, markers)
    if np.array_equal(cells > 0, markers > 0) or not len(drawn):
        return _Look(len(undrawn), 0.0 if len(drawn) else None)
    return _Look(len(undrawn), _furthest(cells, markers))


def _furthest(cells: NDArray[np.integer], markers: NDArray[np.integer]) -> float:
    """Return how far the pixels of a cell lie from the marker inside it, at most."""
    furthest = 0.0
    for label, box in enumerate(ndimage.find_objects(cells.astype(np.int32)), start=1):
        if box is None:
            continue
        cell = cells[box] == label
        inside = cell & (markers[box] > 0)
        if inside.any():
            distance = ndimage.distance_transform_edt(~inside)
            furthest = max(furthest, float(distance[cell].max()))
    return furthest


def split_by_time(cases: Sequence[Case], share: float = 2 / 3) -> list[Case]:
    """Return the cases with a split by time: the first frames of each group train.

    The cut is by frame number, at ``share`` of the way from the first frame with
    truth to the last, so that all cases of one frame fall on one side.

    Args:
        cases: With frame numbers.
        share: Of the time, for training; the rest is ``"val"``.

    Raises:
        ConfigError: If a case has no frame number, or share is not within 0 to 1.
    """
    if not 0 < share < 1:
        raise ConfigError("share", f"is {share}", "Use a number between 0 and 1")
    numbers: dict[str, list[int]] = {}
    for case in cases:
        if case.frame is None:
            raise ConfigError(f"case {case.id}", "has no frame number")
        numbers.setdefault(case.group, []).append(case.frame)
    cuts = {
        group: min(n) + share * (max(n) + 1 - min(n)) for group, n in numbers.items()
    }
    return [
        replace(case, split="train" if (case.frame or 0) < cuts[case.group] else "val")
        for case in cases
    ]

"""Wingspan chest films with lungs and heart, and their cardiothoracic ratios.

Dong et al. 2018, MICCAI, pages 544-552 (unsupervised domain adaptation for the
cardiothoracic ratio); Dong et al. 2019, MICCAI, pages 828-836. MIT licence. No
clavicles are drawn.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from medseg.datasets.case import HEART, LEFT_LUNG, LUNGS, Case
from medseg.datasets.folders import checked, existing, need_folders
from medseg.datasets.pixels import read_mask
from medseg.errors import FileError

ANNOTATED = (*LUNGS, HEART)
THRESHOLD = 127  # masks were resized with interpolation: 0..255
THROUGH = 0.06  # of the heart; 152 films of 160 lie under 0.04, 8 over 0.08


def cases(folder: str | Path, *, heart_first: bool = True) -> list[Case]:
    """Return the films of ``folder``, sorted by id; layouts as they are offered.

    Prepared: ``images/*.png`` and ``masks/<structure>/*.png``, 512 x 512.
    Public, downsampled: ``png/*.png`` and ``mask/<structure>/*.png``, 512 x 512.
    Public, full: one folder a patient with ``original.dcm``, ``left_lung.png``,
    ``right_lung.png`` and ``heart.png``. The small films were resized to a square,
    so they have no spacing.

    Args:
        folder: One of the three.
        heart_first: A pixel of the heart is not lung. So are nearly all films
            drawn; in the others (`lung_through_heart`) the left lung runs on
            behind the heart. False leaves the masks as they are.

    Raises:
        FileError: If a sub folder is missing or there is no film.
    """
    folder = Path(folder)
    cut = {LEFT_LUNG: HEART} if heart_first else {}
    full = sorted(folder.glob("*/original.dcm"))
    if full:
        pairs = [(p, p.parent.name, {s: f"{s}.png" for s in ANNOTATED}) for p in full]
        found = [_case(film, name, film.parent, m, cut) for film, name, m in pairs]
        return checked(found, folder)
    images, masks = (
        ("png", "mask") if (folder / "png").is_dir() else ("images", "masks")
    )
    need_folders(folder, images, masks)
    found = []
    for film in sorted((folder / images).glob("*.png")):
        names = {s: f"{s}/{film.name}" for s in ANNOTATED}
        found.append(_case(film, film.stem, folder / masks, names, cut))
    return checked(found, folder)


def _case(
    film: Path, name: str, folder: Path, masks: dict[str, str], cut: dict[str, str]
) -> Case:
    return Case(
        id=name,
        image=film,
        truth=existing({s: folder / path for s, path in masks.items()}),
        annotated=ANNOTATED,
        group=name,
        threshold=THRESHOLD,
        cut=cut,
    )


def lung_through_heart(case: Case) -> bool:
    """Return whether the left lung is drawn through the heart on this film.

    The rule: more than 6 % of the heart's pixels are left lung as well. False
    where one of the two is not drawn.
    """
    if LEFT_LUNG not in case.truth or HEART not in case.truth:
        return False
    heart = read_mask(case.truth[HEART], case.threshold)
    lung = read_mask(case.truth[LEFT_LUNG], case.threshold)
    return bool(np.count_nonzero(heart & lung) > THROUGH * np.count_nonzero(heart))


def reference_ratios(folder: str | Path) -> dict[str, float]:
    """Return the reference cardiothoracic ratio by film id, from ``ctr.csv``.

    Films without one are left out.

    Raises:
        FileError: If there is no table, or a line is not ``id,ctr``.
    """
    path = Path(folder) / "ctr.csv"
    if not path.is_file():
        raise FileError(path, "is not there", "Give the folder that holds ctr.csv")
    ratios = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                if row["ctr"]:
                    ratios[row["id"]] = float(row["ctr"])
            except (KeyError, ValueError) as error:
                raise FileError(path, f"line {number} is not id,ctr: {row}") from error
    return ratios

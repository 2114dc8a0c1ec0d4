"""Data Science Bowl 2018 (BBBC038): nuclei in all kinds of pictures.

Caicedo et al. 2019, Nature Methods 16:1247-1253. CC0. The pictures' names are
hashes and reveal no plate or patient, so every fifth picture, by name, is held back;
crops of one slide may lie on both sides.

The prepared 120 are grey fluorescence of 8 bit. Pictures, their size, and the median
area of a nucleus in pixels, least and most over the pictures: 76 of 256 x 256 (53 to
482), 20 of 360 x 360 (811 to 2113), 18 of 520 x 696 (338 to 2047), 4 of 512 x 640
(1118 to 1399), one of 260 x 347 (140), one of 256 x 320 (209). They hold 1 to 369
nuclei.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medseg.datasets.case import Case
from medseg.datasets.folders import need_folders
from medseg.datasets.instances import InstanceTruth
from medseg.errors import FileError
from medseg.io import read_image

HELD_BACK = 5
DARK = 0.5  # of the range: fluorescence has a dark background


def cases(folder: str | Path, *, fluorescence_only: bool = True) -> list[Case]:
    """Return the pictures of ``folder`` by name; every fifth is for validation.

    Prepared: ``images/<id>.png`` and ``labels/<id>.png``, numbered cells.
    As used by StarDist: ``train/images``, ``train/masks`` and ``test/...`` (the split
    is then the folder), TIFF.
    Public: ``stage1_train/<id>/images/<id>.png`` and ``<id>/masks/*.png``, a file a
    nucleus; ``folder`` may be ``stage1_train`` itself.

    Args:
        folder: One of the three.
        fluorescence_only: Leave out pictures in colour or on a bright ground (only
            the public folder has some; every picture is read once for it).

    Raises:
        FileError: If a sub folder or a mask is missing, or there is no picture.
    """
    folder = Path(folder)
    if (folder / "train" / "images").is_dir():
        found = [
            replace(case, split=split)
            for part, split in (("train", "train"), ("test", "val"))
            if (folder / part / "images").is_dir()
            for case in _pairs(folder / part, "masks")
        ]
        return _some(found, folder)
    stage = folder / "stage1_train"
    stage = stage if stage.is_dir() else folder
    single = sorted(p.parent for p in stage.glob("*/images"))
    if single:
        found = [_public_case(p) for p in single]
        if fluorescence_only:
            found = [case for case in found if is_fluorescence(case.image)]
        return _held_back(_some(found, folder))
    need_folders(folder, "images", "labels")
    return _held_back(_some(_pairs(folder, "labels"), folder))


def is_fluorescence(path: Path) -> bool:
    """Return whether a picture is grey, with a background in the darker half."""
    pixels = read_image(path).pixels
    top = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else pixels.max()
    return len(pixels) == 1 and bool(np.median(pixels) < DARK * top)


def _pairs(folder: Path, labels: str) -> list[Case]:
    found = []
    for image in sorted((folder / "images").iterdir()):
        if image.suffix not in (".png", ".tif"):
            continue
        label = folder / labels / image.name
        if not label.is_file():
            raise FileError(label, "there is no mask of this picture", "Get it again")
        found.append(_case(image, InstanceTruth(label)))
    return found


def _public_case(folder: Path) -> Case:
    images = sorted((folder / "images").glob("*.png"))
    if len(images) != 1 or not (folder / "masks").is_dir():
        raise FileError(
            folder,
            f"has {len(images)} images, and needs one and a folder masks/",
            "Unpack it again",
        )
    return _case(images[0], InstanceTruth(folder / "masks", encoding="file_a_cell"))


def _case(image: Path, truth: InstanceTruth) -> Case:
    return Case(
        id=f"dsb2018/{image.stem}",
        image=image,
        truth={},
        annotated=(),
        group=f"dsb2018/{image.stem}",
        instances=truth,
    )


def _some(cases: Sequence[Case], folder: Path) -> list[Case]:
    if not cases:
        raise FileError(folder, "holds 0 pictures", "Check that it was unpacked")
    return list(cases)


def _held_back(cases: Sequence[Case]) -> list[Case]:
    return [
        replace(case, split="val" if i % HELD_BACK == HELD_BACK - 1 else "train")
        for i, case in enumerate(cases)
    ]

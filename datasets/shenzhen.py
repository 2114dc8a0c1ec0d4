"""Shenzhen chest films with masks of both lungs in one file.

Jaeger et al. 2014, Quantitative Imaging in Medicine and Surgery 4:475-477 (662
films, 336 with tuberculosis); masks for part of them, Stirenko et al. 2018,
arXiv:1803.01199. Check the terms before use.
"""

from __future__ import annotations

from pathlib import Path

from medseg.datasets.case import LUNGS, Case
from medseg.datasets.folders import checked, existing, need_folders


def cases(folder: str | Path) -> list[Case]:
    """Return the films of ``folder``, sorted by id.

    Layout: ``CXR_png/CHNCXR_0001_0.png`` (the last digit is 1 for tuberculosis) and
    ``mask/CHNCXR_0001_0_mask.png``, both lungs in one file, which
    `medseg.datasets.pixels.part_lungs` parts. There is no spacing.

    Raises:
        FileError: If a sub folder is missing or there is no film.
    """
    folder = Path(folder)
    need_folders(folder, "CXR_png", "mask")
    found = []
    for film in sorted((folder / "CXR_png").glob("*.png")):
        mask = folder / "mask" / f"{film.stem}_mask.png"
        found.append(
            Case(
                id=film.stem,
                image=film,
                truth=existing(dict.fromkeys(LUNGS, mask)),
                annotated=LUNGS,
                group=film.stem,
            )
        )
    return checked(found, folder)

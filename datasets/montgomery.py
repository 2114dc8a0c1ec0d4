"""Montgomery County chest films with the masks of both lungs.

Jaeger et al. 2014, IEEE TMI 33:233-245; Candemir et al. 2014, IEEE TMI 33:577-590.
138 films, 58 of them with tuberculosis. Check the terms before use.
"""

from __future__ import annotations

from pathlib import Path

from medseg.datasets.case import LEFT_LUNG, LUNGS, RIGHT_LUNG, Case
from medseg.datasets.folders import checked, existing, need_folders

SPACING = (0.0875, 0.0875)  # mm
MASKS = {RIGHT_LUNG: "ManualMask/rightMask", LEFT_LUNG: "ManualMask/leftMask"}


def cases(folder: str | Path) -> list[Case]:
    """Return the films of ``folder``, sorted by id.

    Layout: ``CXR_png/MCUCXR_0001_0.png`` (the last digit is 1 for tuberculosis),
    ``ManualMask/leftMask/`` and ``ManualMask/rightMask/`` with the same names.

    Raises:
        FileError: If a sub folder is missing or there is no film.
    """
    folder = Path(folder)
    need_folders(folder, "CXR_png", *MASKS.values())
    found = [
        Case(
            id=film.stem,
            image=film,
            truth=existing({s: folder / m / film.name for s, m in MASKS.items()}),
            annotated=LUNGS,
            group=film.stem,
            spacing=SPACING,
        )
        for film in sorted((folder / "CXR_png").glob("*.png"))
    ]
    return checked(found, folder)

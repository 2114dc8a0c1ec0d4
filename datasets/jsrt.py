"""JSRT chest films with the SCR masks (lungs, heart, clavicles).

Shiraishi et al. 2000, AJR 174:71-74 (films); van Ginneken et al. 2006, Medical
Image Analysis 10:19-40 (masks). Research and education only, no redistribution.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from medseg.datasets.case import STRUCTURES, Case
from medseg.datasets.folders import checked, existing, need_folders, read_splits
from medseg.errors import FileError

_NAME = re.compile(r"JPC[LN]N\d{3}")
SPACING = (0.175, 0.175)  # mm, at 2048 x 2048
PREPARED, SPACING_PREPARED = (1024, 1024), (0.35, 0.35)  # pixels, mm
FOLDS = {"fold1": "train", "fold2": "val"}
FILM_FOLDERS = ("All247images", "Nodule154images", "NonNodule93images")


def cases(folder: str | Path) -> list[Case]:
    """Return the films of ``folder``, sorted by id; layouts as they are offered.

    Prepared: ``images/*.png`` and ``masks/<structure>/*.png`` at 1024 x 1024, with
    an optional ``splits.json`` of id to ``"train"`` or ``"val"``. Films of your own
    may be laid out so, at any size; they have no spacing, which is JSRT's alone.

    Public: ``All247images/*.IMG`` (2048 x 2048) beside the unpacked SCR archive,
    ``scratch/fold1|fold2/masks/<left lung|...>/*.gif`` (1024 x 1024). The films may
    also lie in ``Nodule154images/`` and ``NonNodule93images/``. The first fold is
    for training, the second for validation.

    Raises:
        FileError: If a sub folder is missing, there is no film, or ``splits.json`` says
            anything else.
    """
    folder = Path(folder)
    if (folder / "scratch").is_dir():
        return checked(_public(folder), folder)
    need_folders(folder, "images", "masks")
    return checked([_with_spacing(case) for case in prepared(folder)], folder)


def _with_spacing(case: Case) -> Case:
    """Return a film of JSRT with its spacing; nobody knows that of others' films."""
    if not _NAME.fullmatch(case.id):
        return case
    return replace(case, spacing=SPACING_PREPARED, grid=PREPARED)


def prepared(folder: Path) -> list[Case]:
    """Return the films of ``images/`` and ``masks/<structure>/``, unchecked.

    Raises:
        FileError: If ``splits.json`` is no table of id to ``"train"`` or ``"val"``.
    """
    splits = read_splits(folder / "splits.json")
    return [
        Case(
            id=image.stem,
            image=image,
            truth=existing({s: folder / "masks" / s / image.name for s in STRUCTURES}),
            annotated=STRUCTURES,
            group=image.stem,
            split=splits.get(image.stem),
        )
        for image in sorted((folder / "images").glob("*.png"))
    ]


def _public(folder: Path) -> list[Case]:
    need_folders(folder, *(f"scratch/{fold}/masks" for fold in FOLDS))
    # A film may lie in two of the folders.
    films = {p.stem: p for name in FILM_FOLDERS for p in (folder / name).glob("*.IMG")}
    if not films:
        raise FileError(
            folder,
            f"has scratch/ but no film (*.IMG) in {', '.join(FILM_FOLDERS)}",
            f"Unpack the films into {FILM_FOLDERS[0]}/",
        )
    return [_public_case(folder, film) for _, film in sorted(films.items())]


def _public_case(folder: Path, film: Path) -> Case:
    truth: dict[str, Path] = {}
    split = None
    for fold, part in FOLDS.items():
        masks = folder / "scratch" / fold / "masks"
        # SCR writes the names with a space: "left lung".
        found = existing(
            {s: masks / s.replace("_", " ") / f"{film.stem}.gif" for s in STRUCTURES}
        )
        if found:
            truth, split = found, part
    return Case(
        id=film.stem,
        image=film,
        truth=truth,
        annotated=STRUCTURES,
        group=film.stem,
        split=split,
        spacing=SPACING,
    )

"""Finding the files of a set, and saying what is missing."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from medseg.datasets.case import Case
from medseg.errors import FileError, ImageWarning

SPLITS = ("train", "val")


def need_folders(folder: Path, *names: str) -> None:
    """Check that ``folder`` holds each of the sub folders ``names``.

    Raises:
        FileError: Naming the first that is not there.
    """
    wanted = ", ".join(f"{name}/" for name in names)
    for name in names:
        if not (folder / name).is_dir():
            problem = f"has no sub folder {name}/" if folder.is_dir() else "no folder"
            raise FileError(folder, problem, f"Give the folder that holds {wanted}")


def existing(paths: Mapping[str, Path]) -> dict[str, Path]:
    """Return the entries of ``paths`` whose file exists."""
    return {name: path for name, path in paths.items() if path.is_file()}


def read_splits(path: Path) -> dict[str, str]:
    """Return what a ``splits.json`` says: ``"train"`` or ``"val"`` by id.

    Raises:
        FileError: If it is no such table.
    """
    if not path.is_file():
        return {}
    try:
        splits = dict(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise FileError(path, f"is not JSON of id to split: {error}") from error
    for name, word in splits.items():
        if word not in SPLITS:
            remedy = "Use train or val, and keep test films in another folder"
            raise FileError(path, f"says {word!r} of {name}", remedy)
    return splits


def checked(cases: Sequence[Case], folder: Path) -> list[Case]:
    """Return the cases; warn, with counts, of masks that the set should have.

    Raises:
        FileError: If there is not a single case.
    """
    if not cases:
        raise FileError(folder, "holds 0 films", "Check that it was unpacked")
    parts = []
    for name in dict.fromkeys(n for case in cases for n in case.annotated):
        ids = [case.id for case in cases if name in case.missing]
        if ids:
            some = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
            parts.append(f"{name} of {len(ids)} ({some})")
    if parts:
        warnings.warn(
            f"{folder}: {len(cases)} films, masks missing: {'; '.join(parts)}",
            ImageWarning,
            stacklevel=3,
        )
    return list(cases)

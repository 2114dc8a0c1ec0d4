"""Files of a folder that carry a frame number in their name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from medseg.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_SHOWN = 5


def names_in(folder: Path) -> list[str]:
    """Return the names of the files in ``folder``, sorted; hidden ones left out.

    Raises:
        FileError: If it is no folder, or cannot be listed.
    """
    if not folder.is_dir():
        problem = "is no folder" if folder.exists() else "there is no such folder"
        raise FileError(folder, problem, "Check the path")
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.is_file() and e.name[0] != "."]
    except OSError as error:
        raise FileError(
            folder, f"cannot be listed: {error.strerror}", "Check its rights"
        ) from error
    return sorted(names)


def by_number(
    folder: Path, files: Iterable[tuple[str, str]], *, gaps: bool = False
) -> dict[int, Path]:
    """Return the files by their number, ascending.

    Numbers are padded with zeros to one width, or not at all; a number too large
    for the width just has more digits (``t999.tif``, ``t1000.tif``).

    Args:
        folder: Where the files are.
        files: Digits of the number as written, and file name.
        gaps: Whether numbers may be missing.

    Raises:
        FileError: If two files have one number, widths are mixed, or a number
            between the first and the last has no file.
    """
    pairs = sorted(files, key=lambda pair: (int(pair[0]), pair[1]))
    found: dict[int, Path] = {}
    for digits, name in pairs:
        number = int(digits)
        if number in found:
            raise FileError(
                folder,
                f"frame {number} is there twice: {found[number].name} and {name}",
                "Keep one of them",
            )
        found[number] = folder / name
    _check_width(folder, pairs)
    if not gaps:
        _check_gaps(folder, list(found))
    return found


def _check_width(folder: Path, pairs: list[tuple[str, str]]) -> None:
    if not pairs:
        return
    width, short = min((len(digits), name) for digits, name in pairs)
    for digits, name in pairs:
        if digits != f"{int(digits):0{width}d}":
            raise FileError(
                folder,
                f"frame numbers with {width} and {len(digits)} digits are mixed "
                f"({short} and {name})",
                "Rename the files to one number of digits",
            )


def _check_gaps(folder: Path, numbers: list[int]) -> None:
    present = set(numbers)
    if not numbers or numbers[-1] - numbers[0] + 1 == len(numbers):
        return
    missing = []
    for number in range(numbers[0], numbers[-1]):
        if number not in present:
            missing.append(number)
        if len(missing) > _SHOWN:
            break
    some = ", ".join(map(str, missing[:_SHOWN]))
    count = numbers[-1] - numbers[0] + 1 - len(numbers)
    word = "frame" if count == 1 else "frames"
    more = ", ..." if count > _SHOWN else ""
    raise FileError(
        folder,
        f"a gap in the numbering: {count} {word} missing ({some}{more}) between "
        f"{numbers[0]} and {numbers[-1]}",
        "Put the files back, or renumber the frames",
    )

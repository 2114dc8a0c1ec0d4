"""A label map written as text: a row a line, a class number a cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medseg.errors import FileError, counted
from medseg.io.text import read_lines

if TYPE_CHECKING:
    import os


def read_label_grid(
    path: str | os.PathLike[str], classes: Collection[int]
) -> NDArray[np.int64]:
    """Read a label map ``(Y, X)`` of numbers parted by spaces or tabs.

    Nothing is guessed or filled in: every row has as many cells as most rows have,
    and every cell is one of the classes. Empty lines are skipped. Messages count
    lines from 1, as editors do, and rows and columns from 0, as arrays do.

    Args:
        path: A text file.
        classes: The class numbers, or a mapping from them to names.

    Raises:
        FileError: If the file is no text or too large, has no rows, a row of another length (with
            its number) or a cell of an unknown class (with its row and column).
    """
    path = Path(path)
    lines = read_lines(path, "a label grid", "class numbers, a row a line")
    numbered = enumerate(map(str.split, lines), start=1)
    rows = [(number, cells) for number, cells in numbered if cells]
    if not rows:
        raise FileError(path, "has no rows", "Give class numbers, a row a line")
    usual, _ = Counter(len(cells) for _, cells in rows).most_common(1)[0]
    known = {str(value): value for value in classes}
    for row, (number, cells) in enumerate(rows):
        if len(cells) != usual:
            raise FileError(
                path,
                f"line {number} (row {row}) has {counted(len(cells), 'value')}, most "
                f"rows have {usual}",
                "Write one class number a cell, none missing",
            )
        for column, cell in enumerate(cells):
            if cell not in known:
                raise FileError(
                    path,
                    f"line {number} (row {row}), column {column}: {cell[:20]!r} is no "
                    "class",
                    f"Use {', '.join(known)}",
                )
    return np.array([[known[cell] for cell in cells] for _, cells in rows], np.int64)

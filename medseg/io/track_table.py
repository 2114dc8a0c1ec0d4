"""The track table of the Cell Tracking Challenge: a line ``L B E P`` a track."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import FileError
from medseg.io.atomic import write_bytes
from medseg.io.text import read_lines
from medseg.lineage import TrackRow

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

MAX_LABEL = 2**16 - 1  # masks of the challenge have 16 bits
_MAX_FRAME = 2**31


def read_track_table(path: str | os.PathLike[str]) -> tuple[TrackRow, ...]:
    """Read ``man_track.txt`` or ``res_track.txt``.

    Four whole numbers a line, parted by spaces or tabs; Windows line ends, a byte
    order mark and empty lines are accepted. An empty file is an empty result.

    Raises:
        FileError: Naming the line, if it is not four whole numbers, a label is
            below 1, over 65535 or there twice, a track ends before it begins, or
            its parent is unknown or has not ended before it begins.
    """
    return tuple(read_numbered_rows(Path(path)).values())


def read_numbered_rows(path: Path) -> dict[int, TrackRow]:
    """Return the rows of a table by line number; see `read_track_table`.

    Raises:
        FileError: If the table is refused.
    """
    rows = {}
    lines = read_lines(path, "a track table", "four numbers a line")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            rows[number] = _parse(path, number, line)
    check_rows(path, rows)
    return rows


def write_track_table(rows: Sequence[TrackRow], path: str | os.PathLike[str]) -> Path:
    """Write a track table, whole or not at all; equal rows give equal bytes.

    Raises:
        FileError: If the rows break a rule of `read_track_table`; nothing is
            written.
        DiskError: If the disk is full or not writable.
    """
    path = Path(path)
    check_rows(path, dict(enumerate(rows, start=1)))
    lines = [f"{r.label} {r.begin} {r.end} {r.parent}\n" for r in rows]

    def verify(part: Path) -> None:
        if tuple(read_numbered_rows(part).values()) != tuple(rows):
            raise FileError(path, "read back with other rows than written; not kept")

    return write_bytes(path, "".join(lines).encode("ascii"), verify)


def _parse(path: Path, number: int, line: str) -> TrackRow:
    words = line.split()
    try:
        if len(words) != 4 or any(len(word) > 18 for word in words):
            raise ValueError
        label, begin, end, parent = (int(word) for word in words)
    except ValueError as error:
        raise FileError(
            path,
            f"line {number}: {line.strip()[:60]!r} is not four whole numbers",
            "A line is: label, first frame, last frame, parent (0 for none)",
        ) from error
    return TrackRow(label, begin, end, parent)


def check_rows(path: Path, rows: dict[int, TrackRow]) -> None:
    """Check the rows of a table, by line number.

    Raises:
        FileError: Naming the first line that breaks a rule.
    """
    first: dict[int, int] = {}
    for number, row in rows.items():
        if not 1 <= row.label <= MAX_LABEL:
            raise FileError(
                path,
                f"line {number}: label {row.label} is not in 1 to {MAX_LABEL}",
                "Number the tracks from 1; masks have 16 bits",
            )
        if row.label in first:
            raise FileError(
                path,
                f"line {number}: label {row.label} is there twice, first in line "
                f"{first[row.label]}",
                "Give every track a label of its own",
            )
        if not 0 <= row.begin <= row.end <= _MAX_FRAME:
            raise FileError(
                path,
                f"line {number}: track {row.label} begins in frame {row.begin} and "
                f"ends in frame {row.end}",
                "Frames count from 0, and the first is not after the last",
            )
        first[row.label] = number
    ends = {row.label: row.end for row in rows.values()}
    for number, row in rows.items():
        if row.parent:
            _check_parent(path, number, row, ends)


def _check_parent(path: Path, number: int, row: TrackRow, ends: dict[int, int]) -> None:
    if row.parent == row.label:
        raise FileError(
            path,
            f"line {number}: track {row.label} is its own parent",
            "Write 0 for a track without a parent",
        )
    if row.parent not in ends:
        raise FileError(
            path,
            f"line {number}: the parent {row.parent} of track {row.label} has no line",
            "Add the parent's line, or write 0 for none",
        )
    if ends[row.parent] >= row.begin:
        raise FileError(
            path,
            f"line {number}: track {row.label} begins in frame {row.begin}, its "
            f"parent {row.parent} ends in frame {ends[row.parent]}, not before",
            "End the parent in the frame before, or write 0 for no parent",
        )

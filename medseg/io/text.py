"""Small text files, as they come from other programs."""

from __future__ import annotations

from pathlib import Path

from medseg.errors import FileError
from medseg.io.source import unreadable

_MAX_BYTES = 2**26


def read_lines(path: Path, kind: str, content: str) -> list[str]:
    """Return the lines of a UTF-8 file, without its byte order mark.

    Args:
        path: The file.
        kind: What it should be, as ``"a track table"``.
        content: What is in such a file, as ``"four numbers a line"``.

    Raises:
        FileError: If it cannot be read, is too large or no text.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            problem = f"is {size} bytes, {kind} has at most {_MAX_BYTES}"
            raise FileError(path, problem)
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        problem = f"not a text file (byte {error.start} is no UTF-8)"
        raise FileError(path, problem, f"Give {kind} of {content}") from error

"""What tells one state of a file or folder from another. No Qt."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

_EDGE = 1 << 20
_NOTES = frozenset({".csv", ".json", ".md", ".pdf", ".txt", ".xlsx"})


def fingerprint(path: str | os.PathLike[str]) -> str:
    """Return what tells one image from another, quickly also for large files.

    A file: SHA-256 of its size, first and last MiB. A folder: of the names and sizes
    of its files but hidden ones, tables and notes. Empty if there is nothing to read.
    """
    path = Path(path)
    digest = hashlib.sha256()
    try:
        if path.is_dir():
            for file in _files_in(path):
                digest.update(f"{file.name}\0{file.stat().st_size}\n".encode())
            return digest.hexdigest()
        size = path.stat().st_size
        digest.update(str(size).encode())
        with path.open("rb") as stream:
            digest.update(stream.read(_EDGE))
            stream.seek(max(_EDGE, size - _EDGE))
            digest.update(stream.read(_EDGE))
    except OSError:
        return ""
    return digest.hexdigest()


def _files_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if _counts(p.name) and p.is_file())


def _counts(name: str) -> bool:
    """Return whether a file may be part of the masks or images of its folder.

    A file manager leaves hidden files of its own where it only looks, and tables lie
    beside the masks that they were made of. The lineage is part of a result.
    """
    note = Path(name).suffix.lower() in _NOTES and not name.endswith("_track.txt")
    return not (note or name.startswith("."))


@dataclass(frozen=True)
class FileState:
    """What a file or folder is known by while napari runs.

    Args:
        content: Its `fingerprint`, which does not read all of a large file.
        time: When it or a file in it was last written, in ns since 1970; 0 if gone.
    """

    content: str
    time: int


def state_of(path: Path) -> FileState:
    """Return the state of a file, or of a folder with its files."""
    try:
        files = _files_in(path) if path.is_dir() else [path]
        time_ns = max((file.stat().st_mtime_ns for file in files), default=0)
    except OSError:
        time_ns = 0
    return FileState(fingerprint(path), time_ns)

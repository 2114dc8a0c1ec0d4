"""Write a file so that it is either whole under its name, or not there at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import DiskError, FileError, MedsegError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STALE = re.compile(r"\..+\.(\d+)\.[0-9a-f]{8}\.part", re.DOTALL)
_IN_USE_S = 3600
_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
}


def write_error(path: Path, error: OSError) -> MedsegError:
    """Return ``error`` as a DiskError (full, read-only) or else a FileError."""
    cause = _DISK.get(error.errno or 0)
    if cause:
        return DiskError(
            path, f"not written, {cause}", "Free it, or choose another folder"
        )
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        files = (p for p in path.parents if p.exists() and not p.is_dir())
        if (in_the_way := next(files, None)) is not None:
            problem = f"not written: {in_the_way} is a file, not a folder"
            return FileError(path, problem, "Choose another folder")
    text = error.strerror or type(error).__name__
    return FileError(path, f"not written: {text}", "Check the path and run again")


def _part_path(path: Path) -> Path:
    # 255 bytes is the usual longest name; ours adds pid, random part and suffix.
    # A letter cut in two goes: some disks refuse names that are no UTF-8.
    stem = os.fsencode(path.name)[:200].decode("utf-8", "ignore")
    return path.with_name(f".{stem}.{os.getpid()}.{secrets.token_hex(4)}.part")


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Flush the names of a folder to disk, where a folder can be opened."""
    if os.name == "posix":
        _sync(folder, os.O_RDONLY)


@contextmanager
def replace_file(
    path: str | os.PathLike[str], verify: Callable[[Path], None] | None = None
) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that becomes ``path`` on success.

    The temporary file exists and is empty on entry. On leaving it is flushed to
    disk, given to ``verify``, and renamed; on any exception it is removed and
    whatever stood under ``path`` stays.

    Args:
        path: The final name. Missing parent folders are made.
        verify: Called with the temporary path before the rename; raises to refuse.

    Raises:
        DiskError: If the disk is full or not writable.
        FileError: On any other failure to write.
    """
    path = Path(path)
    part = _part_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield part
        _sync(part, os.O_RDWR)
        if verify is not None:
            verify(part)
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        _discard(part)
        raise write_error(path, error) from error
    except BaseException:
        _discard(part)
        raise


def _discard(part: Path) -> None:
    with suppress(OSError):
        part.unlink()


def write_bytes(
    path: str | os.PathLike[str],
    data: bytes | memoryview,
    verify: Callable[[Path], None] | None = None,
) -> Path:
    """Write ``data`` to ``path`` atomically and return the path."""
    with replace_file(path, verify) as part, part.open("wb") as stream:
        stream.write(data)
    return Path(path)


@contextmanager
def only_output() -> Iterator[None]:
    """Report a file that cannot be written as the end of the work, not one of many.

    Raises:
        DiskError: In place of a FileError.
    """
    try:
        yield
    except FileError as error:
        raise DiskError(error.subject, error.problem, error.remedy) from error


def make_folder(path: Path) -> None:
    """Make a folder for results, and those above it.

    Raises:
        DiskError: If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(
            path, f"cannot be made ({error.strerror})", "Choose another folder"
        ) from error


def remove_stale(folder: str | os.PathLike[str]) -> int:
    """Remove what a killed writer left below ``folder``; return how many files.

    Call it while holding the folder's lock. Links are neither followed nor removed,
    nor files that another living process began within the last hour: a run may be
    going on in a folder below.
    """
    count = 0
    for root, _, names in os.walk(folder, followlinks=False):
        for name in names:
            path = Path(root, name)
            stale = _STALE.fullmatch(name)
            if stale and path.is_file() and not path.is_symlink():
                with suppress(OSError):
                    if not _in_use(path, int(stale[1])):
                        path.unlink()
                        count += 1
    return count


def _in_use(path: Path, process: int) -> bool:
    import psutil

    young = time.time() - path.stat().st_mtime < _IN_USE_S
    return young and process != os.getpid() and psutil.pid_exists(process)

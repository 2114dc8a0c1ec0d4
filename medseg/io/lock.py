"""One run at a time in one output folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medseg.errors import DiskError, LockedError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = ".medseg-run.lock"


@contextmanager
def hold(out: Path) -> Iterator[None]:
    """Hold the output folder ``out`` until the block ends or the process dies.

    Raises:
        LockedError: If another run holds it; names that run's process and host.
        DiskError: If the folder cannot be written to.
    """
    path = out / LOCK_NAME
    try:
        descriptor = _take(path)
    except OSError as error:
        raise DiskError(
            out, f"cannot be written to ({error.strerror})", "Choose another folder"
        ) from error
    try:
        with suppress(OSError):  # on a full disk the lock holds, without a name in it
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
        yield
    finally:
        # Removed while still held: whoever waits on this file finds it gone.
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _take(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _lock(descriptor):
                raise LockedError(
                    path.parent,
                    f"another run holds this folder: {_holder(path)}",
                    "Wait for it, or choose another output folder",
                )
            same = os.path.samestat(os.fstat(descriptor), os.stat(path))
        except FileNotFoundError:
            same = False  # the holder ended and removed it in between
        except BaseException:
            os.close(descriptor)
            raise
        if same:
            return descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock the open file for this process; the system lets go when it dies."""
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            # Far past the end, so that the holder's name can still be read.
            os.lseek(descriptor, 1 << 20, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _holder(path: Path) -> str:
    with suppress(OSError, ValueError):
        process, host = path.read_text().split()
        return f"process {process} on {host}"
    return "process unknown"

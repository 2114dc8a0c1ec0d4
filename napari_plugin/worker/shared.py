"""Arrays in memory that both processes see."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from shutil import disk_usage
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import DiskError

_ALIGN = 64
_FOLDER = Path("/dev/shm")


@dataclass(frozen=True)
class Field:
    """One array of a block."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Bytes, rounded up so that the next array is aligned."""
        count = int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize
        return -(-count // _ALIGN) * _ALIGN


class Block:
    """A piece of shared memory that holds named arrays.

    The one who creates it calls :meth:`unlink` as soon as the other one has attached
    it: from then on the memory goes when both processes have, whatever ends them.
    """

    def __init__(self, memory: SharedMemory, fields: Sequence[Field]) -> None:
        self._memory = memory
        self._linked = True
        self.name = memory.name
        self.arrays: dict[str, NDArray[Any]] = {}
        start = 0
        for field in fields:
            self.arrays[field.name] = np.ndarray(
                field.shape, np.dtype(field.dtype), memory.buf, start
            )
            start += field.size

    @classmethod
    def create(cls, fields: Sequence[Field]) -> Block:
        """Return a new block for these arrays, zero everywhere.

        Raises:
            DiskError: If there is not that much shared memory; without this check
                the first touch would end the process.
        """
        size = max(1, sum(field.size for field in fields))
        if _FOLDER.is_dir() and (free := disk_usage(_FOLDER).free) < size:
            raise DiskError(
                "shared memory",
                f"the image needs {size >> 20} MB, {free >> 20} MB are free",
                f"Choose fewer layers or a smaller image, or enlarge {_FOLDER}",
            )
        return cls(SharedMemory(create=True, size=size), fields)

    @classmethod
    def attach(cls, name: str, fields: Sequence[Field]) -> Block:
        """Return the block of this name, which stays the creator's to unlink."""
        if sys.version_info >= (3, 13):
            return cls(SharedMemory(name, track=False), fields)
        memory = SharedMemory(name)
        # Older Pythons count it as this process's own and would remove it twice.
        if sys.platform != "win32":
            resource_tracker.unregister(f"/{memory.name}", "shared_memory")
        return cls(memory, fields)

    def unlink(self) -> None:
        """Take the name away; the arrays stay while a process holds them."""
        if self._linked:
            self._linked = False
            with suppress(FileNotFoundError):
                self._memory.unlink()

    def close(self) -> None:
        """Give the memory back; no array of it may be in use."""
        self.arrays.clear()
        self._memory.close()

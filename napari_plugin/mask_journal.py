"""A file of one mask's changes: only what changed is written, at the end.

A journal starts with a magic line and a header, then holds tiles: a box of the mask
with its values, compressed. Replaying the tiles in order gives the mask as it was
when the last of them was written. Each record carries its length and a checksum; a
process that dies while it writes leaves a cut-off last record, which reading drops.
A tile holds values, not differences, so nothing that is lost spoils what remains.
"""

from __future__ import annotations

import json
import os
import struct
import weakref
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.errors import FileError, MedsegError
from medseg.io.atomic import write_error

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MAGIC = b"medseg mask journal 1\n"
_RECORD = struct.Struct("<cII")  # kind, payload bytes, CRC-32 of kind and payload
_HEADER, _TILE, _WHOLE = b"H", b"T", b"W"
_MAX_HEADER = 1 << 20
_MAX_TILE = 1 << 26

# Windows would else write every line feed as two bytes.
_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)

Box = tuple[slice, ...]
Base = Literal["zeros", "file"]


@dataclass(frozen=True)
class Header:
    """Which mask a journal is about, and who writes it.

    Args:
        name: Of the layer.
        shape: Of the mask.
        dtype: Of the mask, as numpy writes it.
        base: What the tiles change: an empty mask, or the mask in ``mask_path``.
        image_path: File or folder of the image under the mask, empty if unknown.
        image_print: Its fingerprint, see `medseg.napari_plugin.file_state.fingerprint`.
        mask_path: File that the mask came from, empty if none.
        mask_print: Its fingerprint.
        pid: Process that writes.
        started: When that process started, seconds since 1970: numbers come again.
        host: Machine that it runs on, empty if unknown.
        created: When the journal began, seconds since 1970.
        meta: Names, colours and provenance of the mask, as JSON can hold them.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    base: Base = "zeros"
    image_path: str = ""
    image_print: str = ""
    mask_path: str = ""
    mask_print: str = ""
    pid: int = 0
    started: float = 0.0
    host: str = ""
    created: float = 0.0
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Journal:
    """What a journal holds, as far as it can be read.

    Args:
        header: Its header.
        tiles: How many tiles were replayed.
        whole: Whether they make the whole mask, whatever it was based on.
        mask: The mask: on zeros, or on what `read_journal` was given as base.
        complete: False if the last record was cut off or damaged and is dropped.
    """

    header: Header
    tiles: int
    whole: bool
    mask: NDArray[Any]
    complete: bool


class JournalWriter:
    """Append to a new journal.

    Args:
        path: File to make; it must not be there yet.
        header: What it is about.

    Raises:
        DiskError: If the folder cannot be written.
        FileError: If the file is there, or on any other failure.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        text = json.dumps(header.__dict__).encode()
        try:
            # Others on this machine have no business in a patient's mask.
            self._handle = os.open(path, _NEW, 0o600)
        except OSError as error:
            raise write_error(path, error) from error
        self._let_go = weakref.finalize(self, os.close, self._handle)
        _lock(self._handle)
        self._waiting = [MAGIC, _record(_HEADER, text)]
        try:
            self.flush()
        except MedsegError:
            self.remove()  # the next try makes another
            raise

    @property
    def waiting(self) -> bool:
        """Whether there are records that the system has not been handed."""
        return bool(self._waiting)

    def add(self, box: Box, values: NDArray[Any]) -> None:
        """Append the ``values`` of a ``box``; `flush` hands them to the system."""
        self._waiting.append(_record(_TILE, _pack(box, values)))

    def mark_whole(self) -> None:
        """Note that every tile that is not empty has been written once."""
        self._waiting.append(_record(_WHOLE, b""))

    def flush(self, *, sync: bool = False) -> None:
        """Hand all to the system, which survives a crash of this process.

        Args:
            sync: Also have it written to the disk, against a crash of the machine.
                The disk may take long: nobody waits for it.

        Raises:
            DiskError: If the disk is full.
            FileError: On any other failure; what waits is tried again next time.
        """
        data = memoryview(b"".join(self._waiting))
        end = os.lseek(self._handle, 0, os.SEEK_CUR)
        try:
            while data:
                data = data[os.write(self._handle, data) :]
        except OSError as error:
            # Half a record in the middle would hide all that follows it.
            os.ftruncate(self._handle, end)
            os.lseek(self._handle, end, os.SEEK_SET)
            raise write_error(self.path, error) from error
        self._waiting.clear()
        if sync:
            copy = os.dup(self._handle)
            Thread(target=_sync, args=(copy,), daemon=True).start()

    def close(self) -> None:
        """Write what waits and close the file; it stays there."""
        if self._let_go.alive:
            self.flush()
            _unlock(self._handle)  # a copy may be open still, to be synced
            self._let_go()

    def remove(self) -> None:
        """Close the file and delete it: its mask is saved."""
        self._let_go()
        self.path.unlink(missing_ok=True)


def is_open(path: Path) -> bool | None:
    """Return whether a process writes to a journal; None where that cannot be known.

    The lock goes with the process, also where clocks are set, process numbers come
    again, or several machines share the folder.
    """
    if fcntl is None:
        return None
    try:
        with path.open("rb") as stream:  # shared: two may ask at once
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _lock(handle: int) -> None:
    if fcntl is not None:
        with suppress(OSError):  # some network disks have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)


def _unlock(handle: int) -> None:
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)


def read_header(path: Path) -> Header:
    """Return the header of a journal.

    Raises:
        FileError: If the file is no journal, or its header is damaged.
    """
    with _open(path) as stream:
        return _header(path, stream)


def read_journal(path: Path, base: NDArray[Any] | None = None) -> Journal:
    """Replay a journal onto zeros, or onto a copy of the mask that it is based on.

    Raises:
        FileError: If the file is no journal, its header is damaged, or the base has
            another shape.
    """
    with _open(path) as stream:
        header = _header(path, stream)
        mask = np.zeros(header.shape, header.dtype)
        if base is not None:
            if base.shape != mask.shape:
                problem = f"is for {mask.shape}, its base has {base.shape}"
                raise FileError(path, problem, "Open the mask that it was made for")
            mask[...] = base
        tiles, whole, complete = 0, False, True
        for record in _records(stream):
            if record is None:
                complete = False
                break
            kind, payload = record
            if kind == _TILE:
                complete = _unpack(payload, mask)
                tiles += complete
                if not complete:
                    break
            whole |= kind == _WHOLE
    return Journal(header, tiles, whole, mask, complete)


def _sync(handle: int) -> None:
    # A file system that cannot sync has the data all the same.
    with suppress(OSError):
        os.fsync(handle)
    os.close(handle)


def _open(path: Path) -> Any:
    try:
        return path.open("rb")
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
        raise FileError(path, problem, "Check the folder") from error


def _record(kind: bytes, payload: bytes) -> bytes:
    return _RECORD.pack(kind, len(payload), zlib.crc32(kind + payload)) + payload


def _records(stream: Any) -> Iterator[tuple[bytes, bytes] | None]:
    """Yield kind and payload of each record; None once for one that is damaged."""
    while head := stream.read(_RECORD.size):
        if len(head) < _RECORD.size:
            yield None
            return
        kind, size, checksum = _RECORD.unpack(head)
        payload = stream.read(size) if size <= _MAX_TILE else b""
        if len(payload) < size or zlib.crc32(kind + payload) != checksum:
            yield None
            return
        yield kind, payload


def _header(path: Path, stream: Any) -> Header:
    if stream.read(len(MAGIC)) != MAGIC:
        raise FileError(path, "is no mask journal", "Remove it")
    record = next(_records(stream), None)
    if record is None or record[0] != _HEADER or len(record[1]) > _MAX_HEADER:
        raise FileError(path, "has a damaged header", "Remove it")
    try:
        table = json.loads(record[1])
        header = Header(**table | {"shape": tuple(map(int, table["shape"]))})
        kind = np.dtype(header.dtype).kind
    except (ValueError, TypeError, KeyError) as error:
        raise FileError(path, f"has a bad header ({error})", "Remove it") from error
    if kind not in "iu":
        raise FileError(path, f"holds {header.dtype}, no labels", "Remove it")
    return header


def _pack(box: Box, values: NDArray[Any]) -> bytes:
    place = [n for s in box for n in (s.start, s.stop)]
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return struct.pack(f"<B{len(place)}Q", len(box), *place) + zlib.compress(
        little.data, 1
    )


def _unpack(payload: bytes, mask: NDArray[Any]) -> bool:
    """Write a tile into ``mask``; return False if it does not fit there."""
    ndim = payload[0] if payload else 0
    start = 1 + 16 * ndim
    if ndim != mask.ndim or len(payload) < start:
        return False
    place = struct.unpack(f"<{2 * ndim}Q", payload[1:start])
    box = tuple(slice(a, b) for a, b in zip(place[::2], place[1::2], strict=True))
    shape = tuple(s.stop - s.start for s in box)
    if any(not s.start <= s.stop <= n for s, n in zip(box, mask.shape, strict=True)):
        return False
    dtype = mask.dtype.newbyteorder("<")
    size = int(np.prod(shape)) * dtype.itemsize
    inflate = zlib.decompressobj()
    data = inflate.decompress(payload[start:], size + 1)  # never more than a tile
    if len(data) != size:
        return False
    mask[box] = np.frombuffer(data, dtype).reshape(shape)
    return True

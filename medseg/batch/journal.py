"""The journal: one line a finished file, and what counts as done."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medseg.errors import DiskError
from medseg.io.mask_folder import JOURNAL_NAME

if TYPE_CHECKING:
    from medseg.batch.items import Item

Status = Literal["done", "failed"]


@dataclass(frozen=True)
class Output:
    """A written file.

    Args:
        path: Below the output folder.
        size: Bytes.
        sha256: Of them.
        mtime_ns: Time of the last change; 0 if unknown.
    """

    path: str
    size: int
    sha256: str
    mtime_ns: int = 0

    @classmethod
    def of(cls, out: Path, path: str) -> Output:
        """Return the file ``path`` below ``out`` as it is now."""
        state = (out / path).stat()
        return cls(path, state.st_size, hash_file(out / path), state.st_mtime_ns)

    def is_there(self, out: Path, verify: bool = False) -> bool:
        """Return whether the file has these bytes still.

        They are read only where size and time do not tell, or with ``verify``.
        """
        try:
            state = (out / self.path).stat()
            if state.st_size != self.size:
                return False
            if state.st_mtime_ns == self.mtime_ns and not verify:
                return True
            return hash_file(out / self.path) == self.sha256
        except OSError:
            return False


@dataclass(frozen=True)
class Entry:
    """What happened to one case.

    Args:
        name: The case, as in the plan.
        status: ``done`` or ``failed``.
        config: Hash of every option that changes the bytes.
        model: Hash of the weights and the spec.
        size: Bytes of the source when it was read.
        mtime_ns: Its time of last change.
        sha256: Hash of the source; empty if it could not be read.
        outputs: The files written.
        error: One line without the path, for a failed case.
        engine: Engine that ran.
        device: Device it ran on, the lower one after a fallback.
        warnings: One line each.
        measures: Columns of the measurement table; None where undefined.
        seconds: Time of each stage.
        mended: The mask is a person's, see `medseg.batch.mended`.
    """

    name: str
    status: Status
    config: str
    model: str
    size: int
    mtime_ns: int
    sha256: str = ""
    outputs: tuple[Output, ...] = ()
    error: str = ""
    engine: str = ""
    device: str = ""
    warnings: tuple[str, ...] = ()
    measures: Mapping[str, float | str | None] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    mended: bool = False

    @property
    def message(self) -> str:
        """One line for tables: the error, or what to look at."""
        notes = (*self.warnings, str(self.measures.get("message") or ""))
        return self.error or "; ".join(filter(None, notes))

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Entry | None:
        """Return the entry, or None for anything but a whole line of this form."""
        try:
            fields = dict(data)
            fields["outputs"] = tuple(Output(**x) for x in fields["outputs"])
            fields["warnings"] = tuple(fields["warnings"])
            entry = cls(**fields)
        except (TypeError, ValueError, KeyError):
            return None
        return entry if entry.status in ("done", "failed") else None


class Entries(Mapping[str, Entry]):
    """The last entry of each case, read from the file when asked for.

    Only the offset of each line is kept, so that a run over very many files does
    not grow with them. A torn or foreign line is ignored.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offsets: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._written: dict[str, int] = {}
        offset = 0
        try:
            with path.open("rb") as file:
                for line in file:
                    self._take(_parse(line), offset)
                    offset += len(line)
        except FileNotFoundError:
            pass

    def _take(self, entry: Entry | None, offset: int) -> None:
        if entry is None:
            return
        self._offsets[entry.name] = offset
        if entry.status == "done":
            self._done[entry.name] = offset
        for output in entry.outputs:
            self._written[output.path] = offset

    def __getitem__(self, name: str) -> Entry:
        return self._at(self._offsets[name], name)

    def last_done(self, name: str) -> Entry | None:
        """Return the last entry that left outputs, also if the case failed since."""
        return self._at(self._done[name], name) if name in self._done else None

    def written(self, path: str) -> Output | None:
        """Return what a run last wrote to ``path``, whatever the case was called.

        None where the mask there is a person's.
        """
        if path not in self._written:
            return None
        entry = self._at(self._written[path], path)
        outputs = () if entry.mended else entry.outputs
        return next((output for output in outputs if output.path == path), None)

    def paths(self) -> Collection[str]:
        """Return every path that was ever written."""
        return self._written.keys()

    def _at(self, offset: int, name: str) -> Entry:
        with self._path.open("rb") as file:
            file.seek(offset)
            entry = _parse(file.readline())
        if entry is None:
            raise KeyError(name)  # somebody else has written to the journal
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(self._offsets)

    def __len__(self) -> int:
        return len(self._offsets)


class Journal:
    """Appends entries to ``medseg-run.jsonl``; a line is written by one call."""

    def __init__(self, out: Path) -> None:
        self.path = out / JOURNAL_NAME

    def begin(self) -> None:
        """Make the file: it says that a run of medseg may have written the masks here.

        A worker elsewhere can finish a mask after its run was cancelled.

        Raises:
            DiskError: If it cannot be made.
        """
        try:
            self.path.touch()
        except OSError as error:
            raise _disk_error(self.path, error.strerror or "error") from error

    def read(self) -> Entries:
        """Return the last entry of each case as the file stands now."""
        return Entries(self.path)

    def append(self, entry: Entry) -> None:
        """Append one line.

        Raises:
            DiskError: If it cannot be written.
        """
        line = json.dumps(entry.to_json(), sort_keys=True).encode() + b"\n"
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        try:
            descriptor = os.open(self.path, flags, 0o644)
            try:
                if not _ends_with_newline(descriptor):
                    line = b"\n" + line  # after a torn line
                written = os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _disk_error(self.path, error.strerror or "error") from error
        if written < len(line):
            raise _disk_error(self.path, f"{written} of {len(line)} bytes written")


def is_done(
    entry: Entry | None,
    item: Item,
    out: Path,
    *,
    config: str,
    model: str,
    verify: bool = False,
) -> bool:
    """Return whether ``item`` needs no work.

    Done means that the journal's line matches (configuration, model, and the source
    by size and time, or by hash where only the time differs), and every output, known
    in the same way; with ``verify`` always by hash. Behind a number the source is
    always known by its hash.
    """
    if entry is None or entry.status != "done":
        return False
    if (entry.config, entry.model) != (config, model):
        return False
    if {output.path for output in entry.outputs} != set(item.outputs):
        return False
    if entry.size != item.size:
        return False
    if not all(output.is_there(out, verify) for output in entry.outputs):
        return False
    if entry.mtime_ns == item.mtime_ns and not item.numbered:
        return True
    try:
        return hash_source(item) == entry.sha256
    except OSError:  # the reader says what is wrong with it
        return False


def hash_source(item: Item) -> str:
    """Return the sha256 of a file, or of a series folder's visible files in order."""
    if not item.series:
        return hash_file(item.source)
    total = hashlib.sha256()
    for path in sorted(item.source.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            total.update(hash_file(path).encode())
    return total.hexdigest()


def hash_file(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_config(config: Mapping[str, Any]) -> str:
    """Return the sha256 of plain data, independent of its order."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _parse(line: bytes) -> Entry | None:
    if not line.endswith(b"\n"):
        return None
    try:
        return Entry.from_json(json.loads(line))
    except (ValueError, RecursionError):
        return None


def _ends_with_newline(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    if size == 0:
        return True
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    return os.read(descriptor, 1) == b"\n"


def _disk_error(path: Path, cause: str) -> DiskError:
    return DiskError(path, f"cannot be written to ({cause})", "Free space, then resume")

"""Where models lie, and their plain files, read with suspicion and without torch."""

from __future__ import annotations

import os
import stat
from importlib import resources
from pathlib import Path

from medseg.errors import MedsegError, ModelError
from medseg.labels import LabelSet
from medseg.schema import parse, strict_json

SPEC_NAME = "model.json"
MAX_SPEC_BYTES = 64 * 1024
MAX_SPEC_DEPTH = 8
_DISGUISES = (
    (0, b"PK", "a zip archive (a torch checkpoint, or a packed model)"),
    (0, b"\x93NUMPY", "a NumPy file"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"\xfd7zXZ", "an xz file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (257, b"ustar", "a tar archive"),
)
_REMEDY = "Turn a checkpoint into a model with 'medseg models convert'"


def shipped_models() -> dict[str, Path]:
    """Return name and folder of the models that come with medseg."""
    root = Path(str(resources.files("medseg"))) / "models"
    return {
        path.parent.name: path.parent for path in sorted(root.glob(f"*/{SPEC_NAME}"))
    }


def model_folder(name_or_dir: str | Path) -> Path:
    """Return the folder of a shipped model, or ``name_or_dir`` if it is a folder.

    Raises:
        ModelError: If it is neither; lists the shipped models.
    """
    shipped = shipped_models()
    if str(name_or_dir) in shipped:
        return shipped[str(name_or_dir)]
    path = Path(name_or_dir)
    if path.is_dir():
        return path
    if path.is_file():
        with path.open("rb") as stream:
            refuse_code(stream.read(512), path)
        raise ModelError(path, "is a file, a model is a folder", "Give its folder")
    names = ", ".join(shipped) or "none"
    raise ModelError(
        name_or_dir, "no such model", f"Shipped: {names}; or give a folder"
    )


def read_labels(folder: Path) -> LabelSet:
    """Return the labels of a model folder; loading it checks all else in its spec.

    Raises:
        ModelError: If there is no spec, or it names no labels.
    """
    path = folder / SPEC_NAME
    data = read_bare_file(folder, SPEC_NAME, MAX_SPEC_BYTES)
    table = strict_json(data, path, limit=MAX_SPEC_BYTES, depth=MAX_SPEC_DEPTH)
    try:
        found = table.get("labels") if isinstance(table, dict) else None
        labels: LabelSet = parse(LabelSet, found, "labels")
    except MedsegError as error:
        problem = f"{error.subject} {error.problem}"
        raise ModelError(path, problem, error.remedy) from error
    return labels


def refuse_code(head: bytes, path: Path) -> None:
    """Refuse a file that can carry code, by its first bytes, whatever its name.

    Raises:
        ModelError: For a pickle, a torch checkpoint, an array or an archive.
    """
    # The length of a safetensors header may begin like a pickle or a zip does, but
    # is followed by zeros and a brace.
    if len(head) > 8 and head[8:9] == b"{" and head[4:8] == bytes(4):
        return
    for offset, magic, what in _DISGUISES:
        if head[offset : offset + len(magic)] == magic:
            raise ModelError(path, f"is {what}, not opened", _REMEDY)
    if head[:1] == b"\x80":
        raise ModelError(path, "is a pickle, which can run code; not opened", _REMEDY)


def read_bare_file(folder: Path, name: str, limit: int) -> bytes:
    """Return the bytes of a regular file directly inside ``folder``.

    Raises:
        ModelError: If it is missing, no regular file, a link out of the folder,
            larger than ``limit`` bytes, or of a kind that can carry code.
    """
    path = folder / name
    try:
        real = path.resolve(strict=True)
        if real.parent != folder.resolve():
            problem = "names a file outside its folder; not opened"
            raise ModelError(path, problem, "Put the file itself there")
        # The flags keep a pipe from blocking, and a link put there meanwhile out.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)
        flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        handle = os.open(real, flags)
    except FileNotFoundError as error:
        remedy = "A model folder holds model.json and weights.safetensors"
        raise ModelError(path, "is missing", remedy) from error
    except (OSError, RuntimeError) as error:
        raise ModelError(path, f"cannot be opened ({error})") from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise ModelError(path, "is not a regular file", "Put the file itself there")
    with open(handle, "rb") as stream:
        refuse_code(stream.read(512), path)
        if status.st_size > limit:
            problem = f"has {status.st_size} bytes, at most {limit} are allowed"
            raise ModelError(path, problem, "Get the model again from its source")
        stream.seek(0)
        return stream.read(limit + 1)

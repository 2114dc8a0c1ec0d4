"""What ``medseg models`` does: list, show, verify, pack, unpack, convert."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medseg.errors import ConfigError, ModelError, printable
from medseg.io import atomic
from medseg.model_files import (
    MAX_SPEC_BYTES,
    SPEC_NAME,
    model_folder,
    read_bare_file,
    shipped_models,
)
from medseg.model_io import WEIGHTS_NAME, load_model, load_spec, save_model
from medseg.model_spec import ModelSpec
from medseg.networks import build
from medseg.schema import to_plain
from medseg.weights import MAX_WEIGHTS_BYTES

CARD_NAME = "README.md"
# The only members of a packed model, with the most bytes each may unfold to.
_MEMBERS = {
    SPEC_NAME: MAX_SPEC_BYTES,
    WEIGHTS_NAME: MAX_WEIGHTS_BYTES,
    CARD_NAME: 2**20,
}
_TORCH_LEAST = (2, 10)


def list_models() -> list[str]:
    """Return one line for each shipped model; only their specs are read."""
    lines = []
    for name, folder in shipped_models().items():
        spec = load_spec(folder)
        structures = ", ".join(spec.labels.names)
        lines.append(f"{name} {spec.version}: {structures}. {spec.description}".strip())
    return lines


def show_model(name_or_dir: str | Path) -> str:
    """Return the spec of a model as text, without loading its weights.

    Raises:
        ModelError: If there is no such model or its spec is refused.
    """
    folder = model_folder(name_or_dir)
    table = to_plain(load_spec(folder))
    del table["self_test"]
    return "\n".join([f"folder: {folder}", *_lines(table, "")])


def _lines(table: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}:"
            yield from _lines(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield f"{indent}{key}:"
            for item in value:
                words = (f"{k} {v}" for k, v in item.items() if v not in ({}, []))
                yield f"{indent}  - {', '.join(words)}"
        elif value not in ("", {}, []):
            yield f"{indent}{key}: {value}"


def verify_model(name_or_dir: str | Path, *, sha256: str | None = None) -> str:
    """Run every check of the loader and return one line.

    Raises:
        ModelError: If a check fails.
    """
    model = load_model(name_or_dir, sha256=sha256)
    origin = "the hash you gave" if sha256 else "its own spec (no origin is proved)"
    return f"{model.spec.name} {model.spec.version}: all checks passed; sha256 " + (
        f"{model.sha256} equals {origin}"
    )


def pack_model(name_or_dir: str | Path, archive: str | Path) -> Path:
    """Write a verified model folder into one file; the same model, the same bytes.

    Raises:
        ModelError: If the model is refused.
        ConfigError: If the archive is a folder.
        DiskError: If it cannot be written.
    """
    archive = Path(archive)
    if archive.is_dir():
        raise ConfigError(archive, "is a folder", "Name the package, one file")
    model = load_model(name_or_dir)
    card = (model.folder / CARD_NAME).is_file()
    names = [SPEC_NAME, WEIGHTS_NAME, *([CARD_NAME] if card else [])]
    assert model.spec.weights is not None  # load_model has checked
    renamed = replace(model.spec.weights, file=WEIGHTS_NAME)
    with (
        atomic.only_output(),
        atomic.replace_file(archive) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as pack,
    ):
        for name in names:
            source = model.spec.weights.file if name == WEIGHTS_NAME else name
            data = read_bare_file(model.folder, source, _MEMBERS[name])
            if name == SPEC_NAME and renamed != model.spec.weights:
                data = replace(model.spec, weights=renamed).to_json().encode()
            # A member without a date: ZipInfo's default is 1 January 1980.
            pack.writestr(zipfile.ZipInfo(name), data)
    return archive


def unpack_model(archive: str | Path, folder: str | Path) -> Path:
    """Unpack what :func:`pack_model` wrote into a new folder and verify it.

    Only the expected bare names are read, each up to its size limit; nothing else in
    the archive is touched. The folder is there only once the model is accepted.

    Raises:
        ModelError: If the archive holds anything else, or the model is refused.
        DiskError: If the folder cannot be written.
    """
    archive, folder = Path(archive), Path(folder)
    _check_new(folder)
    members = _read_members(archive)
    with atomic.only_output():
        try:
            _unfold(members, folder, archive)
        except OSError as error:
            raise atomic.write_error(folder, error) from error
    return folder


def _unfold(members: Mapping[str, bytes], folder: Path, archive: Path) -> None:
    """Write a verified model folder in one move."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=folder.parent) as made:
        part = Path(made, "model")  # made itself is closed to other users
        for name, data in members.items():
            atomic.write_bytes(part / name, data)
        _verify_part(part, archive)
        if folder.is_dir():
            folder.rmdir()
        os.replace(part, folder)


def _check_new(folder: Path) -> None:
    """Refuse a file, and a folder with anything in it, such as another model."""
    if folder.exists() and not folder.is_dir():
        raise ModelError(folder, "is a file", "Name a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise ModelError(folder, "is not empty", "Name a new folder")


def _verify_part(part: Path, archive: Path) -> None:
    """Load an unpacked model; an error names the archive, which stays."""
    try:
        load_model(part)
    except ModelError as error:
        subject = error.subject.replace(printable(part), str(archive))
        raise ModelError(subject, error.problem, error.remedy) from error


def _read_members(archive: Path) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(archive) as pack:
            for info in pack.infolist():
                _check_member(info, members, archive)
                limit = _MEMBERS[info.filename]
                with pack.open(info) as stream:
                    # The size in the directory may lie; what is read may not.
                    data = stream.read(limit + 1)
                if len(data) > limit:
                    problem = f"{info.filename} unfolds to more than {limit} bytes"
                    raise ModelError(archive, problem)
                members[info.filename] = data
    except FileNotFoundError as error:
        raise ModelError(archive, "no such file", "Check the path") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ModelError(archive, f"is no packed model ({error})") from error
    return members


def _check_member(info: zipfile.ZipInfo, seen: Mapping[str, bytes], path: Path) -> None:
    if info.filename not in _MEMBERS or info.filename in seen:
        allowed = ", ".join(_MEMBERS)
        problem = f"holds {printable(info.filename)[:80]!r}"
        raise ModelError(path, problem, f"A packed model holds {allowed}, once each")
    if (info.external_attr >> 16) & 0o170000 not in (0, 0o100000):
        raise ModelError(path, f"{info.filename} is no regular file in it")
    if info.compress_type != zipfile.ZIP_STORED:
        raise ModelError(path, f"{info.filename} is compressed", "Pack the model again")


def convert(
    checkpoint: str | Path,
    spec_file: str | Path,
    folder: str | Path,
    **options: Any,
) -> Path:
    """Turn a torch checkpoint and a spec into a model folder.

    The checkpoint is read as tensors only; one that holds anything else is refused.
    It is the state dictionary itself, or holds it under ``state_dict``, ``model`` or
    ``network``; a common prefix ``module.`` is dropped.

    Args:
        checkpoint: Written by ``torch.save``.
        spec_file: JSON as in ``model.json``; weights and self-test may be absent.
        folder: Where the model goes.
        **options: As :func:`medseg.model_io.save_model`.

    Raises:
        ModelError: If a file is missing, the checkpoint needs more than tensors or
            does not fit, or the folder is not empty.
    """
    checkpoint, spec_file, folder = Path(checkpoint), Path(spec_file), Path(folder)
    _check_new(folder)
    if not spec_file.is_file():
        remedy = "Write it like the model.json of a shipped model, without its weights"
        raise ModelError(spec_file, "no such file", remedy)
    data = read_bare_file(spec_file.parent, spec_file.name, MAX_SPEC_BYTES)
    spec = ModelSpec.from_json(data, spec_file)
    tensors = _read_checkpoint(checkpoint)
    network = build(spec.network.name, spec.network.arguments)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        lines = " ".join(str(error).split())[:300]
        raise ModelError(checkpoint, f"does not fit the network ({lines})") from error
    save_model(folder, spec, network.eval(), **options)
    return folder


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    version = tuple(int(n) for n in torch.__version__.split("+")[0].split(".")[:2])
    if version < _TORCH_LEAST:
        problem = f"torch {torch.__version__} does not read checkpoints safely"
        raise ModelError(path, problem, "Install torch 2.10 or newer")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(path, "no such file", "Check the path") from error
    # Whatever the reader says, there is no second, laxer attempt.
    except Exception as error:
        problem = f"is no checkpoint of tensors only ({type(error).__name__})"
        remedy = "Save network.state_dict() with torch.save and convert that"
        raise ModelError(path, problem, remedy) from error
    for key in ("state_dict", "model", "network"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    tensors = isinstance(found, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor)
        for key, value in found.items()
    )
    if not (tensors and found):
        raise ModelError(path, "holds no state dictionary", "Save network.state_dict()")
    return {key.removeprefix("module."): value for key, value in found.items()}

"""What a folder says of the movie that was tracked into it: ``medseg-run.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from medseg.batch import tables
from medseg.batch.journal import hash_config, hash_file
from medseg.batch.track_extras import FILES
from medseg.errors import PlanError
from medseg.io.atomic import write_bytes, write_error
from medseg.io.ctc_validate import TABLE

WORK_NAME = ".medseg-work"
_REMEDY = "Give another folder, or add --overwrite"


def check_out(
    out: Path, inputs: Iterable[Path], extras: Collection[str], *, overwrite: bool
) -> None:
    """Refuse an output folder in which something would be lost.

    Args:
        out: The folder.
        inputs: Files and folders that are read.
        extras: What is to be written beside the masks.
        overwrite: Whether what is there may be replaced.

    Raises:
        PlanError: If it is a file or an input; or, without ``overwrite``, if it holds
            the result of another program, or something that was changed by hand, or
            a file of the user's own under the name of an extra.
    """
    if out.exists() and not out.is_dir():
        raise PlanError(out, "is a file, not a folder", "Give an output folder")
    for path in inputs:
        if out.is_dir() and path.is_dir() and os.path.samefile(out, path):
            raise PlanError(
                out, "is also an input folder", "Give another output folder"
            )
    # Without a table a run was cut short, at the latest while it put all in place.
    cut = (out / WORK_NAME).exists() and not (out / TABLE).exists()
    if not overwrite and not cut:
        _check_kept(out, extras)


def _check_kept(out: Path, extras: Collection[str]) -> None:
    """Refuse a folder that holds what the last run into it has not written so."""
    record = _read(out)
    if record is None and (any(out.glob("mask*.tif")) or (out / TABLE).exists()):
        problem = "holds a result that medseg track has not written"
        raise PlanError(out, problem, _REMEDY)
    outputs = record["outputs"] if record else {}
    for name in outputs:
        if (out / name).exists() and not _unchanged(out, name, outputs):
            problem = f"holds a result whose {name} has changed since"
            raise PlanError(out, problem, _REMEDY)
    ours = {_top(name) for name in outputs}
    for name in (name for extra in extras for name in FILES[extra]):
        if (out / name).exists() and name not in ours:
            problem = f"holds a {name} that medseg track has not written"
            raise PlanError(out, problem, _REMEDY)


def standing(
    out: Path, config: Mapping[str, Any], inputs: Callable[[], Mapping[int, str]]
) -> dict[str, Any] | None:
    """Return the record of an earlier run whose masks and tracks stand, else None."""
    record = None if (out / WORK_NAME).exists() else _read(out)
    if record is None or record.get("config_sha256") != hash_config(config):
        return None
    outputs = record["outputs"]
    if not all(_unchanged(out, name, outputs) for name in outputs if _is_result(name)):
        return None
    same = record.get("input_sha256") == digest(inputs())
    return record if same else None


def whole_extras(out: Path, record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the extras that are there as they were recorded."""
    outputs = record["outputs"]
    lost = {_top(name) for name in outputs if not _unchanged(out, name, outputs)}
    return tuple(x for x in record["beside"]["extras"] if lost.isdisjoint(FILES[x]))


def restage(out: Path, record: Mapping[str, Any], stage: Path, *, extras: bool) -> None:
    """Copy what an earlier run left into a stage: masks and tracks, or extras too.

    Raises:
        DiskError: If the disk is full or not writable.
    """
    for name in record["outputs"]:
        if (extras or _is_result(name)) and (out / name).is_file():
            write_bytes(stage / name, (out / name).read_bytes())


def write_record(stage: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Add the hashes of all that is staged to a record, and write it there."""
    files = [path for path in sorted(stage.rglob("*")) if path.is_file()]
    outputs = {path.relative_to(stage).as_posix(): hash_file(path) for path in files}
    record = {**facts, "outputs": outputs}
    tables.write_run(stage / tables.RUN_NAME, record)
    return record


def remove_extras(out: Path) -> None:
    """Remove the tables and pictures that the record in ``out`` names.

    What was changed since, and what others have put beside it, stays.

    Raises:
        DiskError: If they cannot be removed.
    """
    outputs = (_read(out) or {"outputs": {}})["outputs"]
    for name in outputs:
        path = out / name
        if _is_result(name) or not _unchanged(out, name, outputs):
            continue
        try:
            path.unlink()
        except OSError as error:
            raise write_error(path, error) from error
        for folder in path.parents[: name.count("/")]:
            with suppress(OSError):  # not empty
                folder.rmdir()


def digest(inputs: Mapping[int, str]) -> str:
    """Return one hash for those of all frames."""
    return hash_config({str(number): value for number, value in inputs.items()})


def _top(name: str) -> str:
    return name.split("/")[0]


def _is_result(name: str) -> bool:
    """Return whether a recorded file is no extra."""
    return all(_top(name) not in files for files in FILES.values())


def _unchanged(out: Path, name: str, outputs: Mapping[str, str]) -> bool:
    return (out / name).is_file() and hash_file(out / name) == outputs[name]


def _read(out: Path) -> dict[str, Any] | None:
    """Return the record of a folder; None where there is none, or half of one."""
    try:
        record = json.loads((out / tables.RUN_NAME).read_text())
        outputs = {str(k): str(v) for k, v in record["outputs"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if any(name.startswith("/") or ".." in name.split("/") for name in outputs):
        return None  # names no file in this folder
    return {**record, "outputs": outputs}

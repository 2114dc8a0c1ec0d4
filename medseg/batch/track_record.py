"""What a folder says of the movie that was tracked into it: ``medseg-run.json``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from medseg.batch import tables
from medseg.batch.journal import hash_config, hash_file
from medseg.batch.track_extras import NAMES
from medseg.errors import PlanError
from medseg.io.atomic import write_error
from medseg.io.ctc_validate import TABLE

WORK_NAME = ".medseg-work"
_REMEDY = "Give another folder, or add --overwrite"


def check_out(out: Path, inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse an output folder in which something would be lost.

    Raises:
        PlanError: If it is a file or an input; or, without ``overwrite``, if it holds
            the result of another program, or one that was mended by hand.
    """
    if out.exists() and not out.is_dir():
        raise PlanError(out, "is a file, not a folder", "Give an output folder")
    for path in inputs:
        if out.is_dir() and path.is_dir() and os.path.samefile(out, path):
            raise PlanError(
                out, "is also an input folder", "Give another output folder"
            )
    if overwrite:
        return
    if (out / WORK_NAME).exists() and not (out / TABLE).exists():
        return  # a run was cut short, at the latest while it put its result in place
    record = _read(out)
    if record is None:
        if any(out.glob("mask*.tif")) or (out / TABLE).exists():
            problem = "holds a result that medseg track has not written"
            raise PlanError(out, problem, _REMEDY)
        return
    for name, digest in record["outputs"].items():
        result = name == TABLE or name.startswith("mask")
        if result and (out / name).is_file() and hash_file(out / name) != digest:
            problem = f"holds a result whose {name} has changed since"
            raise PlanError(out, problem, _REMEDY)


def finished(
    out: Path, config: Mapping[str, Any], inputs: Callable[[], Mapping[int, str]]
) -> dict[str, Any] | None:
    """Return the record of an earlier run that leaves nothing to do, else None."""
    record = None if (out / WORK_NAME).exists() else _read(out)
    if record is None or record.get("config_sha256") != hash_config(config):
        return None
    for name, value in record["outputs"].items():
        if not (out / name).is_file() or hash_file(out / name) != value:
            return None
    same = record.get("input_sha256") == digest(inputs())
    return record if same else None


def write_record(stage: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Add the hashes of all that is staged to a record, and write it there."""
    files = [path for path in sorted(stage.rglob("*")) if path.is_file()]
    outputs = {path.relative_to(stage).as_posix(): hash_file(path) for path in files}
    record = {**facts, "outputs": outputs}
    tables.write_run(stage / tables.RUN_NAME, record)
    return record


def remove_extras(out: Path) -> None:
    """Remove the tables and pictures that the record in ``out`` names.

    Raises:
        DiskError: If they cannot be removed.
    """
    record = _read(out) or {"outputs": ()}
    recorded = {name.split("/")[0] for name in record["outputs"]}
    for path in (out / name for name in NAMES if name in recorded):
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise write_error(path, error) from error


def digest(inputs: Mapping[int, str]) -> str:
    """Return one hash for those of all frames."""
    return hash_config({str(number): value for number, value in inputs.items()})


def _read(out: Path) -> dict[str, Any] | None:
    """Return the record of a folder; None where there is none, or half of one."""
    try:
        record = json.loads((out / tables.RUN_NAME).read_text())
        outputs = {str(k): str(v) for k, v in record["outputs"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return {**record, "outputs": outputs}

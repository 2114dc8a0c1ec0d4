"""What lies beside the masks: the tables and the record of what ran."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.batch.items import Plan
from medseg.batch.journal import Entry
from medseg.errors import ConfigError
from medseg.io.atomic import only_output, replace_file, write_bytes
from medseg.labels import LabelSet
from medseg.measure import COLUMNS, chest

RUN_NAME = "medseg-run.json"
FAILURES_NAME = "failures.csv"
MEASUREMENTS_NAME = "measurements.csv"


def entries_of(plan: Plan, entries: Mapping[str, Entry]) -> Iterator[Entry]:
    """Yield the plan's entries in its order; a case not reached has none."""
    for item in plan.items:
        entry = entries.get(item.name)
        if entry is not None:
            yield entry


def write_failures(path: Path, entries: Iterable[Entry]) -> Path:
    """Write ``name,error`` of every failed case."""
    rows = ((e.name, e.error) for e in entries if e.status == "failed")
    return write_csv(path, ("name", "error"), rows)


def columns_of(labels: LabelSet) -> tuple[str, ...]:
    """Return the columns of `measurements.csv`: what these labels have measures for."""
    if set(labels.names) >= set(chest.STRUCTURES):
        return COLUMNS
    cells = ("cells",) if labels.kind == "instances" else ()
    return ("name", "status", *cells, "doubt", "message")


def write_measurements(path: Path, entries: Iterable[Entry], labels: LabelSet) -> Path:
    """Write one row a case, failed ones with their message."""
    columns = columns_of(labels)

    def row(entry: Entry) -> list[object]:
        texts = {
            **entry.measures,
            "name": entry.name,
            "status": entry.status,
            "message": entry.message,
        }
        return [texts.get(column) for column in columns]  # None is left empty

    return write_csv(path, columns, map(row, entries))


def write_run(path: Path, facts: Mapping[str, Any]) -> Path:
    """Write what ran; no dates and times, so that equal runs give equal bytes."""
    return write_text(path, json.dumps(facts, indent=2, sort_keys=True) + "\n")


def check_csv(path: Path) -> None:
    """Refuse another name for a table, before any work.

    Raises:
        ConfigError: If it does not end in ``.csv``.
    """
    if path.suffix.lower() != ".csv":
        raise ConfigError(path, "is no .csv file", "End the table's name in .csv")


def write_text(path: Path, text: str) -> Path:
    """Write a text atomically; a file name of odd bytes in it keeps them.

    Raises:
        DiskError: If it cannot be written.
    """
    with only_output():
        return write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_csv(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]
) -> Path:
    """Write a table atomically; a file name of odd bytes keeps them.

    Raises:
        DiskError: If it cannot be written.
    """
    with (
        only_output(),
        replace_file(path) as part,
        part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path

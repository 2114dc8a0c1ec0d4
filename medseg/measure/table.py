"""Measurements as a table, one film a row, units in the header."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence

from medseg.measure.chest import MEASURES, ChestMeasurement

COLUMNS = ("name", "status", *MEASURES, "doubt", "message")

Cell = float | str | None


def table_row(
    name: str,
    measurement: ChestMeasurement | None = None,
    *,
    doubt: float | None = None,
    error: str = "",
    message: str = "",
) -> dict[str, Cell]:
    """Return the row of one film for `COLUMNS`.

    Args:
        name: Relative path of the film.
        measurement: None for a film that failed.
        doubt: Score in [0, 1].
        error: The one line of a failure; makes the status ``failed``.
        message: What to look at.
    """
    row: dict[str, Cell] = dict.fromkeys(COLUMNS)
    if measurement is not None:
        row |= measurement.to_row()
    return row | {
        "name": name,
        "status": "failed" if error else "done",
        "doubt": None if doubt is None else round(doubt, 3),
        "message": error or message,
    }


def to_csv(
    rows: Iterable[Mapping[str, Cell | bool]], columns: Sequence[str] = COLUMNS
) -> str:
    """Return rows as CSV text with a header; None and NaN are empty fields."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: "" if _undefined(v) else v for k, v in row.items()})
    return text.getvalue()


def _undefined(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))

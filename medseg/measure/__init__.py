"""Numbers read off a mask."""

from __future__ import annotations

from medseg.measure.chest import MEASURES, ChestMeasurement, Line, measure
from medseg.measure.doubt import Doubt, assess, doubt
from medseg.measure.table import COLUMNS, table_row, to_csv

__all__ = [
    "COLUMNS",
    "MEASURES",
    "ChestMeasurement",
    "Doubt",
    "Line",
    "assess",
    "doubt",
    "measure",
    "table_row",
    "to_csv",
]

"""The layout of the Cell Tracking Challenge: masks, track tables, results."""

from __future__ import annotations

from medseg.io.ctc_masks import (
    MaskKind,
    MaskMovie,
    open_masks,
    read_labels,
    read_mask_file,
)
from medseg.io.ctc_validate import find_problems, validate_result
from medseg.io.ctc_write import ResultWriter, write_mask_file
from medseg.io.track_table import read_track_table, write_track_table

__all__ = [
    "MaskKind",
    "MaskMovie",
    "ResultWriter",
    "find_problems",
    "open_masks",
    "read_labels",
    "read_mask_file",
    "read_track_table",
    "validate_result",
    "write_mask_file",
    "write_track_table",
]

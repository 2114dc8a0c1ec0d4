"""Score tracking results and write the numbers and the single errors."""

from __future__ import annotations

import json as json_module
from pathlib import Path

from medseg.batch.tables import write_text
from medseg.errors import ConfigError
from medseg.measure.table import to_csv
from medseg.metrics.ctc_errors import COLUMNS
from medseg.metrics.ctc_sequence import CtcEvaluation, Frames, evaluate_ctc


def evaluate_result(
    result: Path,
    truth: Path,
    *,
    frames: Frames | None = None,
    json: Path | None = None,
    errors: Path | None = None,
) -> CtcEvaluation:
    """Score a result folder or a data set; see `evaluate_ctc`.

    Args:
        result: ``01_RES``, or a data set folder that holds some.
        truth: ``01_GT``, or the data set folder that holds it.
        frames: First and last frame that count; by default all.
        json: Where all numbers go.
        errors: Where the table of single errors goes; by default beside ``json``
            as ``NAME_errors.csv``.

    Raises:
        ConfigError: If an output has another suffix, or there is no reference for the
            result or these frames.
        FileError: If the result is not valid, or a file cannot be read.
        DiskError: If an output cannot be written.
    """
    for option, path, suffix in (
        ("--json", json, ".json"),
        ("--errors", errors, ".csv"),
    ):
        if path is not None and path.suffix != suffix:
            raise ConfigError(option, f"{path} does not end in {suffix}", "Name it so")
    found = evaluate_ctc(result, truth, frames)
    if json is not None:
        write_text(json, json_module.dumps(found.to_json(), indent=2) + "\n")
        errors = errors or json.with_name(f"{json.stem}_errors.csv")
    if errors is not None:
        write_text(errors, to_csv(found.error_rows(), COLUMNS))
    return found

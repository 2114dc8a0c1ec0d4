"""A drawn cell movie through a model: tracks, tables, pictures, and the scores."""

from __future__ import annotations

from pathlib import Path

from medseg.batch.evaluate_ctc import evaluate_result
from medseg.batch.job import StagedPredictor
from medseg.batch.track import TrackOptions, track_movie

SCORES = ("SEG", "DET", "TRA")


def track_cells(
    movie: Path, out: Path, predictor: StagedPredictor
) -> tuple[dict[str, float], int]:
    """Track the sequence ``movie/01`` into ``out/01_RES``.

    Returns:
        SEG, DET and TRA against ``movie/01_GT``, and how many frames failed.
    """
    result = out / "01_RES"
    options = TrackOptions(tables=True, pictures=True, report=True)
    summary = track_movie(movie / "01", result, predictor, options)
    if summary.errors:
        return dict.fromkeys(SCORES, 0.0), len(summary.errors)
    mean = evaluate_result(result, movie / "01_GT").mean()
    return {name: mean[name] for name in SCORES}, 0

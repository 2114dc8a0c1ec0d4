"""``medseg track``: a movie in, masks by track number and a track table out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.cli.display import Display, run_cancellable, say
from medseg.cli.options import (
    CellDiameter,
    CellModels,
    DeviceName,
    Divisions,
    EngineName,
    Fill,
    Geff,
    Interval,
    Masks,
    MaxDistance,
    MaxGap,
    MovieFrames,
    Outlines,
    OverwriteFrames,
    Pictures,
    Result,
    Spacing,
    Tables,
    Threads,
    parse_diameter,
    refuse,
    scale,
)
from medseg.errors import ConfigError, ExitCode, counted

if TYPE_CHECKING:
    from medseg.batch.track import TrackOptions, TrackSummary


def track(
    sequence: MovieFrames,
    out: Result,
    model: CellModels = None,
    masks: Masks = None,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    threads: Threads = None,
    diameter: CellDiameter = "auto",
    spacing: Spacing = None,
    frame_interval: Interval = None,
    max_distance: MaxDistance = None,
    max_gap: MaxGap = None,
    divisions: Divisions = True,
    fill: Fill = True,
    tables: Tables = False,
    pictures: Pictures = False,
    geff: Geff = False,
    report: Outlines = False,
    overwrite: OverwriteFrames = False,
) -> None:
    """Segment and track the cells of a movie.

    Writes maskNNN.tif and res_track.txt as the Cell Tracking Challenge wants them.
    A run that was ended resumes by itself when it is started again. With more of
    --tables, --pictures, --geff and --report it keeps what is there and adds to it;
    files that were changed since are refused, not written over.

    Exit codes: 0 done, 1 a frame failed or the result is not valid (the other frames
    are kept), 2 it cannot start and nothing is written, 3 another run holds OUT, 4
    disk full, 130 cancelled.
    """
    from medseg.batch.track import TrackOptions

    of_model = {
        "--engine": engine != "auto",
        "--device": device != "auto",
        "--threads": threads,
        "--diameter": diameter != "auto",
    }
    _check_source(model, masks, of_model)
    chosen = {"max_distance": max_distance, "max_gap": max_gap, "divisions": divisions}
    options = TrackOptions(
        link={name: value for name, value in chosen.items() if value is not None},
        fill=fill,
        scale=scale(spacing, frame_interval),
        tables=tables,
        pictures=pictures,
        geff=geff,
        report=report,
        overwrite=overwrite,
    )
    arguments = {
        "models": tuple(model or ()),
        "engine": engine,
        "device": device,
        "threads": threads,
        "diameter": parse_diameter(diameter),
    }
    run_cancellable(lambda d: run(sequence, out, masks, options, arguments, d))


def _check_source(
    model: list[str] | None, masks: Path | None, of_model: Mapping[str, object]
) -> None:
    """Refuse both a model and masks, neither, and masks with options of a model.

    Raises:
        ConfigError: If so.
    """
    if bool(model) == (masks is not None):
        raise ConfigError(
            "--model",
            "and --masks are both given" if model else "is not given",
            "Give a model, or --masks with a folder of instance masks",
        )
    if masks is not None:
        problem = "is for a model, and --masks is given"
        refuse(of_model, problem, "Leave out one of them")


def run(
    sequence: Path,
    out: Path,
    masks: Path | None,
    options: TrackOptions,
    arguments: dict[str, Any],
    display: Display,
) -> ExitCode:
    """Plan, load, run, and say how it ended; a plan can fail without loading."""
    from medseg.batch.load import load_labels, load_predictor
    from medseg.batch.track import run_movie
    from medseg.batch.track_plan import check_cells, plan_movie

    plan, predictor = plan_movie(sequence, out, options, masks=masks), None
    if masks is None:
        check_cells(load_labels(arguments["models"]))
        predictor = load_predictor(**arguments)
    start = time.monotonic()
    with display:
        summary = run_movie(plan, predictor, options, display.show)
    _close(summary, time.monotonic() - start)
    return ExitCode.SOME_FAILED if summary.errors else ExitCode.DONE


def _close(summary: TrackSummary, seconds: float) -> None:
    facts = summary.facts
    if facts:
        found = (counted(facts[f"{x}s"], x) for x in ("cell", "track", "division"))
        say(
            f"{counted(facts['frames'], 'frame')} in {seconds:.1f} s: "
            f"{', '.join(found)}, {counted(facts['filled'], 'mask')} drawn into gaps"
        )
    say(str(summary))

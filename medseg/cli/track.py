"""``medseg track``: a movie in, masks by track number and a track table out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medseg.cli.display import Display, run_cancellable, say
from medseg.cli.predict import (
    CellDiameter,
    DeviceName,
    EngineName,
    Threads,
    parse_diameter,
)
from medseg.errors import ConfigError, ExitCode, counted

if TYPE_CHECKING:
    from medseg.batch.track import TrackOptions, TrackSummary
    from medseg.measure.tracks import Scale

Spacing = Annotated[
    str | None,
    typer.Option(
        "--spacing", metavar="[Z,]Y,X", help="Micrometres between pixels: 0.65,0.65."
    ),
]
Interval = Annotated[
    float | None,
    typer.Option("--frame-interval", metavar="SECONDS", help="Between two frames."),
]


def track(
    sequence: Annotated[
        Path,
        typer.Argument(metavar="SEQUENCE", help="Folder of frames, or a paged TIFF."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Result, such as 01_RES.")],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME_OR_DIR", help="Finds the single cells."),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(help="Link these instance masks; no model runs."),
    ] = None,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    threads: Threads = None,
    diameter: CellDiameter = "auto",
    spacing: Spacing = None,
    frame_interval: Interval = None,
    max_distance: Annotated[
        float | None, typer.Option(help="Of a link, in pixels; else estimated.")
    ] = None,
    max_gap: Annotated[
        int | None, typer.Option(min=0, help="Frames a cell may be missing.")
    ] = None,
    divisions: Annotated[
        bool, typer.Option("--divisions/--no-divisions", help="Whether cells divide.")
    ] = True,
    fill: Annotated[
        bool, typer.Option("--fill/--no-fill", help="Draw masks into closed gaps.")
    ] = True,
    tables: Annotated[
        bool, typer.Option("--tables", help="Also cells.csv, tracks.csv, counts.csv.")
    ] = False,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Also curves.png and lineage.png.")
    ] = False,
    geff: Annotated[
        bool, typer.Option("--geff", help="Also tracks.geff, the lineage for others.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Also outlines over every frame.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Do every frame again.")
    ] = False,
) -> None:
    """Segment and track the cells of a movie.

    Writes maskNNN.tif and res_track.txt as the Cell Tracking Challenge wants them.
    A run that was ended resumes by itself when it is started again.

    Exit codes: 0 done, 1 a frame failed or the result is not valid (the other frames
    are kept), 2 it cannot start and nothing is written, 3 another run holds OUT, 4
    disk full, 130 cancelled.
    """
    from medseg.batch.track import TrackOptions

    if bool(model) == (masks is not None):
        raise ConfigError(
            "--model",
            "and --masks are both given" if model else "is not given",
            "Give a model, or --masks with a folder of instance masks",
        )
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


def scale(spacing: str | None, frame_interval: float | None) -> Scale:
    """Return the scale that the options give.

    Raises:
        ConfigError: If the spacing is not two or three numbers above 0.
    """
    from medseg.measure.tracks import Scale

    steps = None
    if spacing is not None:
        try:
            steps = tuple(float(x) for x in spacing.split(","))
        except ValueError:
            steps = ()
        if len(steps) not in (2, 3):
            raise ConfigError(
                "--spacing",
                f"is {spacing!r}",
                "Give two or three numbers, as 0.65,0.65",
            )
    return Scale(steps, frame_interval)


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

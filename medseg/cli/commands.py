"""The subcommands other than predict and models, each a call into a room."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from medseg.cli.display import say
from medseg.cli.track import Interval, Spacing, scale
from medseg.errors import ConfigError, ExitCode, printable


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Output folder.")] = Path(
        "medseg-demo"
    ),
    films: Annotated[int, typer.Option(min=1, help="Synthetic films to draw.")] = 6,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Default: every shipped one.")
    ] = None,
) -> None:
    """Segment synthetic films; needs no data.

    Leaves films, masks, tables, overlays and a report in OUT, and prints the Dice
    against the drawn truth.
    """
    from medseg.demo import run_demo

    result = run_demo(out, films=films, models=model, say=say)
    typer.echo(result.table())
    if result.failed:
        raise typer.Exit(ExitCode.SOME_FAILED)


def evaluate(
    pred: Annotated[Path, typer.Argument(metavar="PRED", help="Predicted masks.")],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="True masks.")],
    labels: Annotated[
        list[str] | None,
        typer.Option("--labels", help="Structures, by default all; also: lungs."),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Also write all numbers here.")
    ] = None,
    spacing: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="Y X", help="mm, where the masks state none."),
    ] = None,
    ctc: Annotated[
        bool, typer.Option("--ctc", help="Cell movies: SEG, DET, TRA; folders 01_RES.")
    ] = False,
    errors: Annotated[
        Path | None,
        typer.Option("--errors", help="With --ctc: a .csv file of every single error."),
    ] = None,
) -> None:
    """Score masks against the truth.

    Dice, IoU, NSD, HD95 and ASSD per case and structure; with --ctc the measures of
    the Cell Tracking Challenge.
    """
    if ctc:
        _evaluate_ctc(pred, truth, json, errors)
        return
    from medseg.batch.evaluate import (
        EvaluateOptions,
        evaluate_folder,
        write_evaluation,
    )

    if json is not None and json.suffix != ".json":
        raise ConfigError("--json", f"{json} does not end in .json", "Name it so")
    chosen = tuple(n for text in labels or () for n in text.split(",")) or None
    options = EvaluateOptions(structures=chosen, spacing=spacing)
    result = evaluate_folder(pred, truth, options)
    typer.echo(printable_lines(result.table()))
    if json is not None:
        write_evaluation(result, json)
    for problem in result.problems:
        say(problem.message)
    if result.problems:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _evaluate_ctc(
    result: Path, truth: Path, json: Path | None, errors: Path | None
) -> None:
    """Score tracking results; a sequence without any is named and counts as failed."""
    from medseg.batch.evaluate_ctc import evaluate_result

    evaluation = evaluate_result(result, truth, json=json, errors=errors)
    typer.echo(printable_lines(evaluation.table()))
    if evaluation.n_failed:
        raise typer.Exit(ExitCode.SOME_FAILED)


def measure(
    masks: Annotated[list[Path], typer.Argument(metavar="MASKS...")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The table, a .csv file.")],
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="MOVIE", help="Cells: for intensities."),
    ] = None,
    spacing: Spacing = None,
    frame_interval: Interval = None,
) -> None:
    """Heart and lung sizes of chest masks, or the cells of a tracking result.

    Chest: one row a film, cardiothoracic ratio with its two lines, areas, doubt.
    Cells (a folder such as 01_RES): one row a cell and frame; beside it the tables of
    tracks and of counts, and curves over time.
    """
    from medseg.batch.measure import measure_folder
    from medseg.batch.measure_cells import is_result, measure_result

    if len(masks) == 1 and is_result(masks[0]):
        known = scale(spacing, frame_interval)
        say(str(measure_result(masks[0], out, images=images, scale=known)))
        return
    if images is not None or spacing is not None or frame_interval is not None:
        raise ConfigError(
            "--images",
            "--spacing and --frame-interval belong to cells",
            "Give one result folder with res_track.txt",
        )
    result = measure_folder(masks, out)
    for row in result.rows:
        if row["status"] == "failed":
            say(str(row["message"]))
    if result.failed:
        raise typer.Exit(ExitCode.SOME_FAILED)


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an earlier run ended.")
    ] = False,
) -> None:
    """Train a model from a configuration file."""
    from medseg.train.run import train as run

    typer.echo(run(config, resume=resume, say=say))


def info(
    path: Annotated[Path, typer.Argument(metavar="FILE")],
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What a file is, from its header."""
    from dataclasses import asdict

    from medseg.io import probe

    facts: dict[str, Any] = asdict(probe(path))
    if json:
        typer.echo(json_module.dumps(facts, default=str, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        shown = " x ".join(map(str, value)) if isinstance(value, tuple) else value
        typer.echo(f"{name:<{width}}  {printable(shown)}")


def doctor() -> None:
    """Whether this machine is ready."""
    from medseg.doctor import examine

    checks = examine()
    for check in checks:
        mark = "ok " if check.ok else "BAD"
        typer.echo(f"{mark}  {check.name:<12}  {check.detail}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def printable_lines(text: str) -> str:
    """Return text with control bytes made visible, line ends apart."""
    return "\n".join(printable(line) for line in text.splitlines())

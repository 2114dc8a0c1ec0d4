"""The subcommands other than predict and models, each a call into a room."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from medseg.cli.display import say
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
) -> None:
    """Score masks against the truth.

    Dice, IoU, NSD, HD95 and ASSD per case and structure.
    """
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


def measure(
    masks: Annotated[list[Path], typer.Argument(metavar="MASKS...")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The table, a .csv file.")],
) -> None:
    """Heart and lung sizes of chest masks.

    One row a film: cardiothoracic ratio with its two lines, areas, doubt.
    """
    from medseg.batch.measure import measure_folder

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

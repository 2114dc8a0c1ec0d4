"""The subcommands other than predict and models, each a call into a room."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from medseg.cli.display import say
from medseg.cli.options import (
    Ctc,
    Errors,
    Frames,
    Interval,
    MaskSpacing,
    Names,
    Numbers,
    OnlyPredicted,
    Spacing,
    Structures,
    parse_frames,
    parse_names,
    parse_structures,
    refuse,
    scale,
)
from medseg.errors import ConfigError, ExitCode, FileError, printable


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
    labels: Structures = None,
    names: Names = None,
    json: Numbers = None,
    spacing: MaskSpacing = None,
    ctc: Ctc = False,
    errors: Errors = None,
    frames: Frames = None,
    only_predicted: OnlyPredicted = False,
) -> None:
    """Score masks against the truth.

    Dice, IoU, NSD, HD95 and ASSD per case and structure; of cells with a number each
    also SEG, AP and PQ, cell by cell; with --ctc the measures of the Cell Tracking
    Challenge.

    PRED and TRUTH each hold a file a case (a/b.tif), a folder a case
    (a/b/heart.png) or a folder a structure (heart/a/b.png); in all of them the case
    is a/b. With --ctc: 01_RES and 01_GT, or the data set folders that hold them.

    Masks of other programs seldom say what their values mean: they are read like the
    first mask that does, and --names says so where none does.

    Exit codes: 0 all scored, 1 a prediction is missing or unusable, 2 nothing could
    be scored, 4 disk full.
    """
    of_movies = {"--frames": frames, "--errors": errors}
    of_masks = {
        "--labels": labels,
        "--names": names,
        "--spacing": spacing,
        "--only-predicted": only_predicted,
    }
    if ctc:
        refuse(of_masks, "and --ctc are both given", "Leave out one of them")
        _evaluate_ctc(pred, truth, parse_frames(frames), json, errors)
    else:
        refuse(of_movies, "is for cell movies", "Add --ctc")
        _evaluate_masks(pred, truth, labels, names, spacing, only_predicted, json)


def _evaluate_masks(
    pred: Path,
    truth: Path,
    structures: list[str] | None,
    names: str | None,
    spacing: tuple[float, float] | None,
    only_predicted: bool,
    json: Path | None,
) -> None:
    """Score folders of masks; what could not be scored is a line each on stderr."""
    from medseg.batch.evaluate import (
        EvaluateOptions,
        evaluate_folder,
        write_evaluation,
    )

    if json is not None and json.suffix != ".json":
        raise ConfigError("--json", f"{json} does not end in .json", "Name it so")
    options = EvaluateOptions(
        structures=parse_structures(structures),
        labels=parse_names(names),
        spacing=spacing,
        only_predicted=only_predicted,
    )
    result = evaluate_folder(pred, truth, options)
    typer.echo(printable_lines(result.table()))
    if json is not None:
        write_evaluation(result, json)
    for line in result.complaints():
        say(line)
    if result.problems:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _evaluate_ctc(
    result: Path,
    truth: Path,
    frames: tuple[int, int] | None,
    json: Path | None,
    errors: Path | None,
) -> None:
    """Score tracking results; a sequence without any is named and counts as failed."""
    from medseg.batch.evaluate_ctc import evaluate_result

    evaluation = evaluate_result(result, truth, frames=frames, json=json, errors=errors)
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
    names: Names = None,
) -> None:
    """Heart and lung sizes of chest masks, cells of images or of a tracking result.

    Chest: one row a film, cardiothoracic ratio with its two lines, areas, and what
    looks wrong. MASKS are files, or folders with a file a case (a/b.tif), a folder a
    case (a/b/heart.png) or a folder a structure (heart/a/b.png). The column doubt is
    empty: it needs the probabilities that only predict has.

    Cells: one row a cell, in micrometres where the mask states a spacing.

    Movies: MASKS is one folder such as 01_RES, with maskNNN.tif and res_track.txt. One
    row a cell and frame; beside the table those of tracks and of counts, and curves
    over time.

    Exit codes: 0 done, 1 a mask could not be measured, 2 nothing written, 4 disk
    full.
    """
    from medseg.batch.measure import measure_folder
    from medseg.batch.measure_cells import is_result, measure_result

    if len(masks) == 1 and is_result(masks[0]):
        refuse({"--names": names}, "is not for a movie", "Its numbers are cells")
        known = scale(spacing, frame_interval)
        say(str(measure_result(masks[0], out, images=images, scale=known)))
        return
    refuse(
        {"--images": images, "--spacing": spacing, "--frame-interval": frame_interval},
        "is for a movie",
        "Give one result folder, with res_track.txt",
    )
    result = measure_folder(masks, out, labels=parse_names(names))
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

    try:
        folder = run(config, resume=resume, say=say)
    except FileError as error:  # not one file of many: there is no model
        raise ConfigError(error.subject, error.problem, error.remedy) from error
    typer.echo(folder)


def info(
    path: Annotated[Path, typer.Argument(metavar="FILE")],
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What a file is, from its header."""
    from dataclasses import asdict

    from medseg.io import probe

    found = probe(path)
    facts: dict[str, Any] = asdict(found)
    facts["structures"] = _structures(path)
    if json:
        typer.echo(json_module.dumps(facts, default=str, indent=2))
        return
    if found.unit == "px":
        facts["spacing"] = "not stated"
        del facts["unit"], facts["detector_plane"]
    facts = {name: value for name, value in facts.items() if value not in ("", ())}
    width = max(map(len, facts))
    for name, value in facts.items():
        joint = ", " if name in ("structures", "notes") else " x "
        shown = joint.join(map(str, value)) if isinstance(value, tuple) else value
        typer.echo(f"{name:<{width}}  {printable(shown)}")


def _structures(path: Path) -> tuple[str, ...]:
    """Return the names of a mask's structures, where its header has them."""
    from medseg.io.limits import Limits
    from medseg.io.read import opened

    with opened(path, Limits(), header_only=True) as file:
        labels = file.block.labels if file.block else None
    return labels.names if labels else ()


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

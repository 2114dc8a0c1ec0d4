"""The command line: one function a subcommand, each a call into a room.

Nothing heavy is imported until a subcommand runs, so that help is immediate.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from medseg import __version__
from medseg.cli import commands, models, napari, predict, track
from medseg.errors import ExitCode, ImageWarning, MedsegError, printable

# The classes' public home differs between versions of typer.
_ClickError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Segment chest X-rays and cell movies: from a folder to measured masks.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medseg {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks."),
    version: bool = typer.Option(
        False,
        "--version",
        is_eager=True,
        callback=_show_version,
        help="Show the version and exit.",
    ),
) -> None:
    pass  # debug is read in run(), where it is also accepted after the subcommand


app.command("demo")(commands.demo)
app.command("predict")(predict.predict)
app.command("track")(track.track)
app.command("evaluate")(commands.evaluate)
app.command("measure")(commands.measure)
app.command("train")(commands.train)
app.add_typer(models.app, name="models")
app.command("napari")(napari.napari)
app.command("info")(commands.info)
app.command("doctor")(commands.doctor)


def main() -> None:
    """Run the command line and exit."""
    code = run(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code. Errors are one line on stderr."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    debug = "--debug" in arguments[:end]
    words = [w for i, w in enumerate(arguments) if w != "--debug" or i > end]
    with _quiet(debug):
        try:
            result = app(words or ["--help"], prog_name="medseg", standalone_mode=False)
        except Exception as error:
            if debug:
                traceback.print_exc()
            return _report(error)
        except KeyboardInterrupt:
            return ExitCode.CANCELLED
    return int(result or 0)


@contextmanager
def _quiet(debug: bool) -> Iterator[None]:
    """One line for a warning about a file; those of libraries only when debugging."""

    def show(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
        print(f"warning: {printable(message)}", file=sys.stderr)

    with warnings.catch_warnings():
        if not debug:
            warnings.simplefilter("ignore")
            logging.disable()
        warnings.simplefilter("always", ImageWarning)
        warnings.showwarning = show
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _report(error: Exception) -> int:
    """Print one line for an error; return the exit code."""
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, typer.Abort):
        return ExitCode.CANCELLED
    if isinstance(error, BrokenPipeError):  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    if isinstance(error, MedsegError):
        print(error, file=sys.stderr)
        return error.exit_code
    if isinstance(error, _ClickError):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "medseg"
        text = " ".join(error.format_message().split()).rstrip(".")  # type: ignore[attr-defined]
        print(f"{command}: {printable(text)}. See {command} --help.", file=sys.stderr)
        return ExitCode.USAGE
    text = " ".join(f"{type(error).__name__} {error}".split())
    remedy = "This is a defect: run again with --debug and report it"
    print(f"medseg: {printable(text)}. {remedy}.", file=sys.stderr)
    return ExitCode.SOME_FAILED

"""``medseg models``: what is there, and is it what it says it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.errors import printable

app = typer.Typer(help="Shipped and local models.", rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="NAME_OR_DIR")]


@app.command("list")
def list_() -> None:
    """Shipped models, one a line."""
    from medseg.model import list_models

    for line in list_models():
        typer.echo(line)


@app.command()
def show(name: Name) -> None:
    """Structures, preprocessing, training data, scores and licence of a model."""
    from medseg.model import show_model

    typer.echo("\n".join(printable(x) for x in show_model(name).splitlines()))


@app.command()
def verify(
    name: Name,
    sha256: Annotated[str | None, typer.Option(help="Hash to be had.")] = None,
) -> None:
    """Load a model with every check, its self-test included."""
    from medseg.model import verify_model

    typer.echo(verify_model(name, sha256=sha256))


@app.command()
def pack(
    name: Name,
    out: Annotated[Path, typer.Option("-o", "--out", help="The package, one file.")],
) -> None:
    """Put a model folder into one file, to carry to another machine."""
    from medseg.model import pack_model

    typer.echo(pack_model(name, out))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="WEIGHTS.pt")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The new model folder.")],
    spec: Annotated[Path, typer.Option("--spec", help="Its model.json.")],
) -> None:
    """Turn weights of PyTorch's own format into a model folder, safely."""
    from medseg.model import convert as run

    typer.echo(run(source, spec, out))

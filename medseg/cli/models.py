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
    """Structures, training, scores, licence."""
    from medseg.model import show_model

    typer.echo("\n".join(printable(x) for x in show_model(name).splitlines()))


@app.command()
def verify(
    name: Name,
    sha256: Annotated[
        str | None,
        typer.Option(
            metavar="HASH",
            help="The SHA-256 that weights.safetensors must have, 64 digits: proves "
            "that it is the one that its maker named to you.",
        ),
    ] = None,
) -> None:
    """Load a model with every check."""
    from medseg.model import verify_model

    typer.echo(verify_model(name, sha256=sha256))


@app.command()
def pack(
    name: Name,
    out: Annotated[Path, typer.Option("-o", "--out", help="The package, one file.")],
) -> None:
    """Put a model folder into one file."""
    from medseg.model import pack_model

    typer.echo(pack_model(name, out))


@app.command()
def unpack(
    package: Annotated[Path, typer.Argument(metavar="PACKAGE")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The new model folder.")],
) -> None:
    """Unpack what pack wrote, safely, and verify it."""
    from medseg.model import unpack_model

    typer.echo(unpack_model(package, out))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="WEIGHTS.pt")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The new model folder.")],
    spec: Annotated[
        Path,
        typer.Option(
            "--spec",
            metavar="MODEL.json",
            help="What the weights are: network, labels, preprocessing, as in the "
            "model.json of a shipped model; weights and self_test are filled in.",
        ),
    ],
) -> None:
    """Turn PyTorch weights into a model folder."""
    from medseg.model import convert as run

    typer.echo(run(source, spec, out))

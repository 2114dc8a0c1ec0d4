"""What models there are, read from their specs alone: no torch in this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.errors import MedsegError, ModelError
from medseg.labels import LabelSet
from medseg.model_files import (
    MAX_SPEC_BYTES,
    MAX_SPEC_DEPTH,
    SPEC_NAME,
    shipped_models,
)
from medseg.schema import parse, strict_json


@dataclass(frozen=True)
class ModelInfo:
    """What a menu needs to know about a model.

    Args:
        name: As its spec has it.
        source: What :func:`medseg.load_model` takes: a shipped name or a folder.
        labels: What its masks mean.
        dims: 2 or 3, the axes that it sees at a time.
        mirrors: Whether it names mirror images, which the test-time augmentation needs.
        diameter: Of the cells that it learnt, in pixels; None where it names none.
        cell_map: For instances: which of the network's maps says where cells are.
        colour: Whether it sees red, green and blue; else images are turned to grey.
    """

    name: str
    source: str
    labels: LabelSet
    dims: int
    version: str = ""
    mirrors: bool = False
    diameter: float | None = None
    cell_map: int = 1
    colour: bool = False
    description: str = ""
    licence: str = ""

    @property
    def tooltip(self) -> str:
        """Several lines of plain text: what it finds, and on what terms."""
        names = ", ".join(self.labels.names)
        kind = f"{self.dims}-D, {self.labels.kind} labels: {names}"
        licence = f"Licence of the weights: {self.licence}" if self.licence else ""
        return "\n".join(filter(None, (self.description, kind, licence)))


def read_model(folder: Path, source: str | None = None) -> ModelInfo:
    """Return what the spec in ``folder`` says; the weights stay closed.

    The worker checks the model in full before it runs.

    Raises:
        ModelError: If there is no spec, or it cannot be understood.
    """
    path = folder / SPEC_NAME
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_SPEC_BYTES + 1)
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise ModelError(path, problem, "Choose a model's folder") from error
    table = strict_json(data, path, limit=MAX_SPEC_BYTES, depth=MAX_SPEC_DEPTH)
    try:
        labels = parse(LabelSet, table["labels"], "labels")
        dims = len(table["inference"]["size"])
        rule = table["decoding"].get("instances") or {}
        diameter = table["inference"].get("diameter") if rule else None
        name = _text(table, "name") or folder.name
    except MedsegError as error:
        problem = f"{error.subject} {error.problem}"
        raise ModelError(path, problem, error.remedy) from error
    except (KeyError, TypeError) as error:
        raise ModelError(path, f"is no spec of a model ({error})") from error
    return ModelInfo(
        name,
        source or str(folder),
        labels,
        dims,
        version=_text(table, "version"),
        mirrors=bool(table.get("flips")),
        diameter=float(diameter) if isinstance(diameter, int | float) else None,
        # The maps are background and cell, or foreground, distance and border.
        cell_map=0 if rule.get("method") == "watershed" else 1,
        colour=table.get("channels", "grey") != "grey",
        description=_text(table, "description"),
        licence=_text(table, "licence"),
    )


def _text(table: dict[str, Any], key: str) -> str:
    return str(table.get(key, ""))


def find_models(folder: Path | None = None) -> tuple[ModelInfo, ...]:
    """Return the shipped models, those of cells last, then those in the folders inside ``folder``.

    A folder that holds no readable spec is left out. ``folder`` may be a model
    itself.
    """
    found = [read_model(path, name) for name, path in shipped_models().items()]
    # Structures before cells, so that the first suits a film.
    found.sort(key=lambda model: model.labels.kind == "instances")
    if folder is None or not folder.is_dir():
        return tuple(found)
    for path in [*sorted(folder.glob(f"*/{SPEC_NAME}")), folder / SPEC_NAME]:
        if path.is_file():
            try:
                found.append(read_model(path.parent))
            except ModelError:
                continue
    return tuple(found)

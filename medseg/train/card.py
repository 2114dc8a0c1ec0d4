"""The model card: what a model is, what it learnt from, how it scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.io.atomic import replace_file
from medseg.model_spec import ModelSpec

WARNING = (
    "A research tool, not a medical device. Look at every mask before you use it; "
    "`medseg predict --report` sorts the doubtful ones first."
)

OF_FILMS = (
    "Macro means over cases on the films' own grid; intervals are 95 % bootstrap "
    "over patients (1000 draws); failures are counted in."
)
OF_CELLS = (
    "Over all cells of the images, on the images' own grid. SEG: mean IoU of the true "
    "cells with the found cell that covers more than half of them, 0 without one. "
    "AP50: TP / (TP + FP + FN) at an IoU above 0.5. IoU: of all cell pixels."
)
CELL_HEAD = "| cells | SEG | AP50 | IoU | cells scored | images |"
HEAD = (
    "| structure | Dice (95 % interval) | IoU | HD95 | ASSD | worst Dice | n | failed |"
)


def write_card(spec: ModelSpec, folder: Path) -> Path:
    """Write ``README.md`` into a model folder and return its path."""
    path = folder / "README.md"
    with replace_file(path) as part:
        part.write_text(card(spec), encoding="utf-8")
    return path


def card(spec: ModelSpec) -> str:
    """Return the card of a model in Markdown."""
    cells = spec.labels.kind == "instances"
    table = _cell_scores if cells else _scores
    facts = {
        "Structures": ", ".join(spec.labels.names),
        "Labels": spec.labels.kind,
        "Network": _call(spec.network.name, spec.network.arguments),
        "Input": "; ".join(_call(s.name, s.arguments) for s in spec.preprocessing),
        "Licence of the weights": spec.licence or "not stated",
        "Please cite": spec.citation or "nothing stated",
    }
    parts = [
        f"# {spec.name} {spec.version}",
        spec.description,
        WARNING,
        "\n".join(f"- **{name}:** {value}" for name, value in facts.items()),
        "## Training",
        _tree(
            {
                "data sets": ", ".join(spec.training.data_sets),
                "cases": spec.training.cases,
                **spec.training.facts,
            }
        ),
        "## Scores on cases not seen in training",
        OF_CELLS if cells else OF_FILMS,
        *(table(name, rows) for name, rows in spec.scores.items()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _call(name: str, arguments: Mapping[str, Any]) -> str:
    inside = ", ".join(f"{key}={_plain(value)}" for key, value in arguments.items())
    return f"{name}({inside})"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _tree(facts: Mapping[str, Any], depth: int = 0) -> str:
    lines = []
    for key, value in facts.items():
        label = "  " * depth + f"- {key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            lines += [label, _tree(value, depth + 1)]
        else:
            lines.append(f"{label}: {_plain(value)}")
    return "\n".join(lines)


def _scores(name: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [f"### {name}", "", HEAD, "|" + "---|" * 8]
    for structure, row in rows.items():
        unit = "mm" if "hd95_mm" in row else "px"
        lines.append(
            f"| {structure.replace('_', ' ')} | {row['dice']:.4f} "
            f"({row['dice_low']:.4f} to {row['dice_high']:.4f}) | {row['iou']:.4f} "
            f"| {row[f'hd95_{unit}']:.2f} {unit} | {row[f'assd_{unit}']:.2f} {unit} "
            f"| {row['dice_worst']:.4f} | {row['n']} | {row['n_failed']} |"
        )
    return "\n".join(lines)


def _cell_scores(name: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [f"### {name}", "", CELL_HEAD, "|" + "---|" * 6]
    for kind, row in rows.items():
        # Where no cell is drawn some figures are undefined, and absent.
        figures = (row.get(key) for key in ("SEG", "AP50", "IoU"))
        shown = " | ".join("-" if x is None else f"{x:.4f}" for x in figures)
        lines.append(
            f"| {kind.replace('_', ' ')} | {shown} | {row['cells']} | {row['images']} |"
        )
    return "\n".join(lines)

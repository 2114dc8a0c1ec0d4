"""How many clicks the refinement needs, and how long a click takes.

    python benchmarks/refine_clicks.py --docs docs --jsrt FOLDER [--dic-hela FOLDER]
        [--cells-model NAME_OR_DIR] [--films N] [--frames N] [--cache FOLDER]

A simulated user clicks where the largest error is deepest: the pixel of the largest
connected error (missing or too much) that is farthest from its outline, and does so
up to ten times. Writes ``refine-clicks.md`` and prints one JSON line. Probabilities
are predicted once and kept in ``--cache``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from refine_tasks import Task, cell_tasks, film_tasks, resized, titled
from refine_user import (
    PAINTERS,
    WALKER_SIDE,
    Answer,
    play,
    with_plain_walker,
    with_session,
)

from medseg.refine import METHODS

CLICKS = 10
SHOWN = (0, 1, 3, 5, 10)
GOALS = (0.95, 0.97)
SPEED_SIDES = (512, 2048)
CELL_RADIUS = 40.0  # px, told once for the data set, as a user sets a brush


def rows_of(
    tasks: Sequence[Task], ways: dict[str, Callable[[Task], Answer]]
) -> dict[str, dict]:
    rows = {}
    for name, begin in ways.items():
        curves, seconds = [], []
        for task in tasks:
            # The plain walker knows no mask to begin with.
            empty = begin is with_plain_walker
            start = np.zeros_like(task.start) if empty else task.start
            scores, times = play(replace(task, start=start), begin, CLICKS)
            curves.append(scores)
            seconds += times
        rows[name] = summary(curves, seconds)
    return rows


def summary(curves: Sequence[Sequence[float]], seconds: Sequence[float]) -> dict:
    table = np.array(curves)
    row = {f"dice_{n}": float(table[:, n].mean()) for n in SHOWN}
    for goal in GOALS:
        reached = table >= goal
        # A structure that is not reached in ten clicks counts as ten.
        needed = np.where(reached.any(axis=1), reached.argmax(axis=1), CLICKS)
        row[f"clicks_{goal}"] = float(needed.mean())
        row[f"failed_{goal}"] = int((~reached.any(axis=1)).sum())
    row["median_ms"] = 1e3 * float(np.median(seconds))
    row["p95_ms"] = 1e3 * float(np.percentile(seconds, 95))
    return row


def speed(tasks: Sequence[Task], side: int) -> dict[str, dict[str, float]]:
    """Return median and 95th percentile of ten clicks on pictures of one size."""
    rows = {}
    large = [resized(task, side) for task in tasks]
    for name in METHODS:
        seconds = []
        for task in large:
            seconds += play(task, with_session(name, None), CLICKS)[1]
        median, p95 = np.percentile(seconds, [50, 95]) * 1e3
        rows[name] = {"median_ms": float(median), "p95_ms": float(p95)}
    return rows


def score_table(rows: dict[str, dict]) -> str:
    head = ["method", *(f"Dice after {n}" for n in SHOWN)]
    head += [f"clicks to {g} (not reached)" for g in GOALS]
    head += ["ms a click: median", "95 %"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, row in rows.items():
        cells = [name.replace("_", " "), *(f"{row[f'dice_{n}']:.4f}" for n in SHOWN)]
        cells += [f"{row[f'clicks_{g}']:.2f} ({row[f'failed_{g}']})" for g in GOALS]
        cells += [f"{row['median_ms']:.0f}", f"{row['p95_ms']:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def speed_table(speeds: dict[int, dict[str, dict[str, float]]]) -> str:
    head = ["method", *(f"{side} x {side}" for side in speeds)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in METHODS:
        cells = [
            f"{rows[name]['median_ms']:.0f} / {rows[name]['p95_ms']:.0f}"
            for rows in speeds.values()
        ]
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


EXPLAINED = f"""# How many clicks

A simulated user clicks where the largest error is deepest: of the largest connected
piece that is missing or too much, the pixel farthest from its outline; at most
{CLICKS} times a structure. "Clicks to" counts a structure that does not get there as
{CLICKS}, and says in brackets how many do not. Times are those of one processor core
(its own time, so that other work on the machine does not count). The settings of the
methods were chosen on Wingspan films held back from training; that an error is as
long as the mean of its thickness and the radius was learned from three of the JSRT
films shown here (JPCLN001, 015 and 016).
Painting is not a straw man: the ideal brush has exactly the depth of the error, which
no user knows. The plain random walker starts from an empty mask, on pictures of at
most {WALKER_SIDE} pixels a side. For cells the radius of one, {CELL_RADIUS:.0f} px, is
told once for all."""


def films(options: argparse.Namespace) -> tuple[dict, list[str]]:
    """Play the held-back JSRT films; return the figures and the page's part."""
    tasks = list(
        film_tasks(options.jsrt, "jsrt", options.films, options.model, options.cache)
    )
    ways = {name: with_session(name, None) for name in METHODS if name != "paint"}
    rows = rows_of(tasks, ways | PAINTERS)
    speeds = {side: speed(tasks[: options.speed_tasks], side) for side in SPEED_SIDES}
    return {"jsrt": rows, "speed": speeds}, [
        f"## JSRT: {len(tasks)} structures, from the mask of {titled(options.model)}",
        score_table(rows),
        "### Milliseconds a click, median / 95th percentile",
        speed_table(speeds),
    ]


def cells(options: argparse.Namespace, model: str | None) -> tuple[dict, list[str]]:
    """Play the last frames of DIC-HeLa, from a model's cells or from nothing."""
    tasks = list(cell_tasks(options.dic_hela, options.frames, model, options.cache))
    ways = {
        name: with_session(name, CELL_RADIUS)
        for name, method in METHODS.items()
        if name != "paint" and (model or not method().needs_probability)
    }
    touching = "painting, disc that touches the mask"
    brushes = PAINTERS | {touching: with_session("paint", CELL_RADIUS)}
    rows = rows_of(tasks, ways | brushes)
    start = f"the cells of {titled(model)}" if model else "empty masks"
    return {f"dic_hela from {model or 'nothing'}": rows}, [
        f"## DIC-HeLa: {len(tasks)} cells of {options.frames} frames, from {start}",
        score_table(rows),
    ]


def command(options: argparse.Namespace) -> str:
    """Return the line that makes the page again."""
    words = ["python benchmarks/refine_clicks.py --docs docs"]
    if options.jsrt:
        words.append("--jsrt FOLDER")
        words += [f"--films {options.films}"] if options.films else []
    if options.dic_hela:
        words.append(f"--dic-hela FOLDER --frames {options.frames}")
        model = options.cells_model
        words += [f"--cells-model {model}"] if model else []
    return " ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jsrt", type=Path)
    parser.add_argument("--dic-hela", type=Path)
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--model", default="chest-xray")
    parser.add_argument("--cells-model")
    parser.add_argument("--films", type=int)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--speed-tasks", type=int, default=5)
    held = Path(tempfile.gettempdir()) / "medseg-refine-clicks"
    parser.add_argument("--cache", type=Path, default=held)
    options = parser.parse_args()
    made = [films(options)] if options.jsrt else []
    if options.dic_hela:
        made.append(cells(options, None))
        made += [cells(options, options.cells_model)] if options.cells_model else []
    if options.docs:
        parts = [EXPLAINED, *(part for _, page in made for part in page)]
        parts.append(f"Made by\n\n```\n{command(options)}\n```")
        options.docs.mkdir(exist_ok=True)
        text = "\n\n".join(parts) + "\n"
        (options.docs / "refine-clicks.md").write_text(text, encoding="utf-8")
    print(json.dumps({key: rows for result, _ in made for key, rows in result.items()}))


if __name__ == "__main__":
    main()

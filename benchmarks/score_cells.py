"""Scores of a cell model on the held-back end of a movie, segmented and linked.

    python benchmarks/score_cells.py MODEL DATA_SET... --docs docs [--row NAME]

DATA_SET is a folder in the layout of the Cell Tracking Challenge. Of each sequence the
frames that training with ``split = "time"`` holds back (from the first of the last
third of those with a drawn cell) are tracked as a movie of their own and scored by
SEG, DET and TRA against the reference of those frames. ``--whole`` takes all frames:
for movies that training has not seen. With ``--docs`` the rows join those of earlier
calls in ``cells.json``, and ``cells.md`` is written anew.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from medseg.batch.load import load_predictor
from medseg.batch.track import track_movie
from medseg.datasets.ctc import cases, split_by_time
from medseg.io.movie import Movie, open_movie
from medseg.metrics.ctc_sequence import evaluate_ctc

SCORES = ("SEG", "DET", "TRA", "OP_CSB", "OP_CTB")


def first_held(folder: Path, sequence: str) -> int:
    """Return the first frame that training with ``split = "time"`` holds back."""
    mine = [c for c in cases(folder) if c.group.endswith(f"/{sequence}")]
    held = [c.frame for c in split_by_time(mine) if c.split == "val"]
    return min(frame for frame in held if frame is not None)


def cut(movie: Movie, first: int, out: Path) -> None:
    """Copy the frames from ``first`` on."""
    out.mkdir(parents=True)
    for number, file in zip(movie.frames, movie.files, strict=True):
        if number >= first:
            shutil.copyfile(file, out / file.name)


def score(
    model: str, folder: Path, sequence: str, whole: bool, engine: str
) -> dict[str, Any]:
    movie = open_movie(folder / sequence)
    last = movie.frames[-1]
    first = movie.frames[0] if whole else first_held(folder, sequence)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        cut(movie, first, work / sequence)
        predictor = load_predictor((model,), engine=engine)
        result = work / f"{sequence}_RES"
        summary = track_movie(work / sequence, result, predictor)
        found = evaluate_ctc(result, folder / f"{sequence}_GT", (first, last))
    return {
        "set": f"{folder.name} {sequence}",
        "frames": f"{first} to {last}",
        **{key: round(found.mean()[key], 4) for key in SCORES},
        "failed": found.n_failed + len(summary.errors),
    }


def page(rows: list[dict[str, Any]]) -> str:
    head = ["model", "movie", "frames", *SCORES, "failed"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row["model"], row["set"], row["frames"]]
        cells += [f"{row[key]:.4f}" for key in SCORES] + [str(row["failed"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(
        [
            "# Cell movies: segmented and linked",
            "",
            "Frames that training has not seen, tracked by `medseg track` with nothing",
            "set by hand, and scored as the Cell Tracking Challenge does (SEG, DET, TRA;",
            "OP_CSB and OP_CTB are their means). A movie is split by time: of the frames",
            "with drawn cells the first two thirds train, and the movie from the next of",
            "them on is scored. These are training movies of the challenge, not its test",
            "movies, and neighbouring frames are alike: expect less on another movie.",
            "",
            *lines,
            "",
            "Made by `python benchmarks/score_cells.py MODEL DATA_SET... --docs docs`.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--row", help="how the table names the model")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--docs", type=Path)
    chosen = parser.parse_args()
    name = chosen.row or Path(chosen.model).name
    rows = []
    for folder in chosen.folders:
        for truth in sorted(folder.glob("[0-9][0-9]_GT")):
            sequence = truth.name.removesuffix("_GT")
            row = score(chosen.model, folder, sequence, chosen.whole, chosen.engine)
            rows.append({"model": name, **row})
            print(json.dumps(rows[-1]), flush=True)
    if chosen.docs:
        store = chosen.docs / "cells.json"
        old = json.loads(store.read_text()) if store.exists() else []
        fresh = {(r["model"], r["set"], r["frames"]) for r in rows}
        old = [r for r in old if (r["model"], r["set"], r["frames"]) not in fresh]
        store.write_text(json.dumps(old + rows, indent=1) + "\n")
        (chosen.docs / "cells.md").write_text(page(old + rows))


if __name__ == "__main__":
    main()

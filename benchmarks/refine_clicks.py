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
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import random_walker
from skimage.transform import resize

from medseg.labels import Label, LabelSet
from medseg.refine import METHODS, Method, Point, RefineSession
from medseg.refine.methods import Paint

CLICKS = 10
SHOWN = (0, 1, 3, 5, 10)
GOALS = (0.95, 0.97)
CELL_RADIUS = 40.0  # px, told once for the data set, as a user sets a brush
WALKER_SIDE = 192  # the plain random walker works on pictures made this small
ONE = LabelSet((Label(1, "target", "#4c9be8"),))
Mask = NDArray[np.bool_]
Field = NDArray[np.float32]
Answer = Callable[[Point, float], Mask]


@dataclass(frozen=True, eq=False)
class Task:
    """One structure of one picture: where it starts and where it should end."""

    name: str
    image: Field
    truth: Mask
    start: Mask
    probability: Field | None = None


def dice(one: Mask, other: Mask) -> float:
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / total if total else 1.0


def next_click(mask: Mask, truth: Mask) -> tuple[Point, float] | None:
    """Return the click and how deep in the error it lies; None if there is none."""
    error = mask ^ truth
    boxes = ndimage.find_objects(error.astype(np.int8))
    if not boxes:
        return None
    box = boxes[0]
    labelled, _ = ndimage.label(error[box])
    # A piece is missing or too much as a whole: part them where they touch.
    missing = truth[box]
    parts = [ndimage.label(error[box] & side)[0] for side in (missing, ~missing)]
    labelled = np.where(parts[1] > 0, parts[1] + parts[0].max(), parts[0])
    largest = 1 + int(np.argmax(np.bincount(labelled.ravel())[1:]))
    inner = ndimage.find_objects((labelled == largest).astype(np.int8))[0]
    depth = ndimage.distance_transform_edt(np.pad(labelled[inner] == largest, 1))
    at = np.unravel_index(int(np.argmax(depth)), depth.shape)
    y, x = (
        int(a) - 1 + i.start + b.start for a, i, b in zip(at, inner, box, strict=True)
    )
    return Point((y, x), positive=bool(truth[y, x])), float(depth.max())


def with_session(method: str | Method, radius: float | None) -> Callable:
    """Return what answers the clicks of a task with a method of medseg."""

    def begin(task: Task) -> Answer:
        session = RefineSession(method=method, radius=radius)
        session.set_image(task.image)
        session.set_mask(
            task.start.astype(np.uint8), ONE, 1, probability=task.probability
        )

        def answer(click: Point, _: float) -> Mask:
            session.add(click)
            return session.mask > 0

        return answer

    return begin


def with_ideal_brush(task: Task) -> Answer:
    """A disc of exactly the error's depth, which only the truth can tell."""
    mask = task.start.copy()
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]

    def answer(click: Point, depth: float) -> Mask:
        y, x = click.position
        mask[(rows - y) ** 2 + (columns - x) ** 2 <= depth**2] = click.positive
        return mask

    return answer


def with_plain_walker(task: Task) -> Answer:
    """scikit-image's random walker from the clicks alone, on the whole picture."""
    shape = np.array(task.image.shape)
    step = max(1.0, shape.max() / WALKER_SIDE)
    size = tuple(np.ceil(shape / step).astype(int))
    image = resize(task.image, size, anti_aliasing=True)
    image = (image - image.min()) / max(np.ptp(image), 1e-6)
    clicks: list[Point] = []

    def answer(click: Point, _: float) -> Mask:
        clicks.append(click)
        seeds = np.zeros(size, np.int32)
        # The frame of the picture stands in for a click beside the object.
        seeds[[0, -1]] = seeds[:, [0, -1]] = 2
        for c in clicks:
            seeds[tuple((np.array(c.position) / step).astype(int))] = (
                1 if c.positive else 2
            )
        if not (seeds == 1).any():
            return np.zeros(task.image.shape, bool)
        with warnings.catch_warnings():
            # Its probabilities may leave [0, 1] by a little.
            warnings.simplefilter("ignore", UserWarning)
            found = random_walker(
                image, seeds, beta=130, mode="cg_j", tol=1e-3, return_full_prob=True
            )
        return resize(found[0], task.image.shape, order=1) > 0.5

    return answer


def play(
    task: Task, begin: Callable[[Task], Answer], clicks: int
) -> tuple[list[float], list[float]]:
    """Return Dice after 0, 1, ... clicks and the processor seconds of each click.

    The processor's time of one thread: what a click takes on an idle machine.
    """
    answer, mask = begin(task), task.start
    scores, seconds = [dice(mask, task.truth)], []
    for _ in range(clicks):
        found = next_click(mask, task.truth)
        if found is not None:
            before = time.process_time()
            mask = answer(*found)
            seconds.append(time.process_time() - before)
        scores.append(dice(mask, task.truth))
    return scores, seconds


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


def predict(
    model: str, images: dict[str, Path], read: Callable, cache: Path
) -> Iterator[tuple[str, NDArray, NDArray]]:
    """Yield id, mask and probabilities of each picture, predicted at most once."""
    cache.mkdir(parents=True, exist_ok=True)
    predictor = None
    for key in images:
        kept = cache / f"{Path(model).name}-{key}.npz"
        if not kept.exists():
            if predictor is None:
                from medseg.model import load_model
                from medseg.predict import Predictor

                predictor = Predictor(load_model(model), threads=1)
            found = predictor.predict(read(key), probabilities=True)
            assert found.probabilities is not None
            small = np.rint(found.probabilities * 65535).astype(np.uint16)
            np.savez(kept, mask=found.mask, probabilities=small)
        with np.load(kept) as held:
            yield key, held["mask"], held["probabilities"]


def film_tasks(
    folder: Path, source: str, films: int | None, model: str, cache: Path
) -> Iterator[Task]:
    """Yield each structure of the held-back films with the model's answer."""
    from medseg.datasets import jsrt, wingspan
    from medseg.model import load_model
    from medseg.train.data import divide
    from medseg.train.score import read_case

    read_cases = {"jsrt": jsrt.cases, "wingspan": wingspan.cases}[source]
    cases = {c.id: c for c in divide(read_cases(folder), "split")[1][:films]}
    names = load_model(model).spec.labels.names

    def read(key: str):
        return read_case(cases[key], names)[0]

    paths = {key: c.image for key, c in cases.items()}
    for key, mask, probabilities in predict(model, paths, read, cache / source):
        image, truth = read_case(cases[key], names)
        for name in truth.labels.names:
            k = names.index(name)
            yield Task(
                f"{key} {name}",
                image.pixels[0].astype(np.float32),
                truth.structure(name),
                mask[k] > 0,
                probabilities[k].astype(np.float32) / 65535,
            )


def resized(task: Task, side: int) -> Task:
    """Return the task on a square picture."""
    size = (side, side)
    assert task.probability is not None
    return replace(
        task,
        image=resize(task.image, size, order=1).astype(np.float32),
        truth=resize(task.truth.astype(float), size, order=1) > 0.5,
        start=resize(task.start.astype(float), size, order=1) > 0.5,
        probability=resize(task.probability, size, order=1).astype(np.float32),
    )


def cell_tasks(
    folder: Path, frames: int, model: str | None, cache: Path
) -> Iterator[Task]:
    """Yield each cell of the last frames, from an empty mask or from a model's.

    A cell is a connected piece of the truth of 1000 to 40,000 pixels: where cells
    touch without a gap the truth does not tell them apart, and slivers at the edge
    are no cells.
    """
    from PIL import Image as Picture

    paths = {p.stem: p for p in sorted((folder / "images").glob("*.png"))[-frames:]}
    answers = {}
    if model is not None:
        from medseg.image import Image

        def read(key: str) -> Image:
            with Picture.open(paths[key]) as picture:
                return Image.from_array(np.asarray(picture)[None])

        answers = {
            key: (mask, p) for key, mask, p in predict(model, paths, read, cache)
        }
    for key, path in paths.items():
        with (
            Picture.open(path) as one,
            Picture.open(folder / "labels" / path.name) as t,
        ):
            image = np.asarray(one).astype(np.float32)
            pieces, n = ndimage.label(np.asarray(t) == 0)
        for number in range(1, n + 1):
            truth = pieces == number
            if not 1000 <= np.count_nonzero(truth) <= 40_000:
                continue
            start, probability = np.zeros_like(truth), None
            if key in answers:
                mask, p = answers[key]
                # The model's cell that covers most of this one.
                inside = np.bincount(mask[truth].ravel())
                inside[0] = 0
                if inside.any():
                    start = mask == int(np.argmax(inside))
                probability = p[-1].astype(np.float32) / 65535
            yield Task(f"{key} cell {number}", image, truth, start, probability)


PAINTERS: dict[str, Callable[[Task], Answer]] = {
    "painting, disc of 12 px": with_session(Paint(radius=12), None),
    "painting, disc that touches the mask": with_session("paint", None),
    "painting, disc of the right size (an ideal brush)": with_ideal_brush,
    "scikit-image random walker, clicks alone": with_plain_walker,
}


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
most {WALKER_SIDE} pixels a side."""


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
    result: dict = {}
    parts = [EXPLAINED]
    if options.jsrt:
        films = list(
            film_tasks(
                options.jsrt, "jsrt", options.films, options.model, options.cache
            )
        )
        ways = {name: with_session(name, None) for name in METHODS if name != "paint"}
        result["jsrt"] = rows_of(films, ways | PAINTERS)
        parts += [
            f"## JSRT: {len(films)} structures, from the mask of `{options.model}`",
            score_table(result["jsrt"]),
        ]
        chosen = films[: options.speed_tasks]
        speeds = {side: speed(chosen, side) for side in (512, 2048)}
        result["speed"] = speeds
        parts += [
            "### Milliseconds a click, median / 95th percentile",
            speed_table(speeds),
        ]
    if options.dic_hela:
        cells = list(
            cell_tasks(
                options.dic_hela, options.frames, options.cells_model, options.cache
            )
        )
        start = f"`{options.cells_model}`" if options.cells_model else "empty masks"
        ways = {
            name: with_session(name, CELL_RADIUS)
            for name in METHODS
            if name not in ("paint",)
            and (options.cells_model or not METHODS[name]().needs_probability)
        }
        touching = "painting, disc that touches the mask"
        brushes = PAINTERS | {touching: with_session("paint", CELL_RADIUS)}
        result["dic_hela"] = rows_of(cells, ways | brushes)
        parts += [
            f"## DIC-HeLa: {len(cells)} cells of {options.frames} frames, from {start}",
            f"The radius of a cell, {CELL_RADIUS:.0f} px, is told once for all.",
            score_table(result["dic_hela"]),
        ]
    if options.docs:
        command = "python benchmarks/refine_clicks.py --docs docs"
        command += " --jsrt FOLDER" if options.jsrt else ""
        if options.dic_hela:
            command += f" --dic-hela FOLDER --frames {options.frames}"
        command += (
            f" --cells-model {options.cells_model}" if options.cells_model else ""
        )
        command += f" --films {options.films}" if options.films else ""
        parts.append(f"Made by\n\n```\n{command}\n```")
        options.docs.mkdir(exist_ok=True)
        text = "\n\n".join(parts) + "\n"
        (options.docs / "refine-clicks.md").write_text(text, encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

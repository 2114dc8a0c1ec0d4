"""What the simulated user of ``refine_clicks.py`` mends: films and cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.transform import resize

from medseg.instances import CELL_MAP

Mask = NDArray[np.bool_]
Field = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Task:
    """One structure of one picture: where it starts and where it should end."""

    name: str
    image: Field
    truth: Mask
    start: Mask
    probability: Field | None = None


def titled(model: str) -> str:
    """Return name and version of a model, for a page of its figures."""
    from medseg.model import load_model

    spec = load_model(model).spec
    return f"`{spec.name}` version {spec.version}"


def predict(
    model: str, images: dict[str, Path], read: Callable, cache: Path
) -> Iterator[tuple[str, NDArray, NDArray]]:
    """Yield id, mask and probabilities of each picture, predicted at most once."""
    from medseg.model import load_model
    from medseg.predict import Predictor

    cache.mkdir(parents=True, exist_ok=True)
    loaded, predictor = load_model(model), None
    for key in images:
        # By the hash: a model of the same name may have been trained again.
        kept = cache / f"{loaded.sha256[:16]}-{key}.npz"
        if not kept.exists():
            predictor = predictor or Predictor(loaded, threads=1)
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
    from medseg.train.score import read_case
    from medseg.train.split import divide

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
    answers, cell_map = {}, 0
    if model is not None:
        from medseg.image import Image
        from medseg.model import load_model

        rule = load_model(model).spec.decoding.instances
        cell_map = CELL_MAP[rule.method]

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
                probability = p[cell_map].astype(np.float32) / 65535
            yield Task(f"{key} cell {number}", image, truth, start, probability)

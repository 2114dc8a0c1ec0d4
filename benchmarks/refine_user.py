"""The simulated user of ``refine_clicks.py``: where it clicks, and what answers."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy as np
from refine_tasks import Mask, Task
from scipy import ndimage
from skimage.segmentation import random_walker
from skimage.transform import resize

from medseg.labels import Label, LabelSet
from medseg.refine import Method, Point, RefineSession
from medseg.refine.methods import Paint

WALKER_SIDE = 192  # the plain random walker works on pictures made this small
ONE = LabelSet((Label(1, "target", "#4c9be8"),))
Answer = Callable[[Point, float], Mask]


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


PAINTERS: dict[str, Callable[[Task], Answer]] = {
    "painting, disc of 12 px": with_session(Paint(radius=12), None),
    "painting, disc that touches the mask": with_session("paint", None),
    "painting, disc of the right size (an ideal brush)": with_ideal_brush,
    "scikit-image random walker, clicks alone": with_plain_walker,
}

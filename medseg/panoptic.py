"""Objects one by one, as a detector finds them, and one label image out of them.

Each object brings its own mask, so that objects may overlap. Where they do, a pixel
goes to the object of the higher score: touching cells come apart without a watershed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.errors import ConfigError
from medseg.postprocess import box

Labels = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects of one image, found or true.

    Args:
        boxes: ``(N, 4)`` start and stop ``(y0, x0, y1, x1)`` in array index
            coordinates, half open: a box of whole pixels has whole edges.
        scores: ``(N,)`` in [0, 1].
        classes: ``(N,)`` from 1; 0 is background and no object.
        masks: ``(N, Y, X)`` bool, on the grid of the image.

    Raises:
        ConfigError: If the shapes do not belong together or a class is below 1.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    masks: NDArray[np.bool_]

    def __post_init__(self) -> None:
        n = len(self.scores)
        shapes = self.boxes.shape, self.scores.shape, self.classes.shape
        if shapes != ((n, 4), (n,), (n,)) or self.masks.shape[:-2] != (n,):
            problem = f"have shapes {shapes} and masks {self.masks.shape}"
            raise ConfigError("detections", problem, "Give one of each for an object")
        if n and self.classes.min() < 1:
            low = self.classes.min()
            raise ConfigError("detections", f"have class {low}", "Count from 1")

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def from_masks(
        cls, masks: ArrayLike, scores: ArrayLike, classes: ArrayLike
    ) -> Detections:
        """Return objects with the smallest boxes around their masks ``(N, Y, X)``.

        Raises:
            ConfigError: If a mask is empty, or as the class does.
        """
        drawn = np.asarray(masks, bool)
        boxes = np.zeros((len(drawn), 4), np.float32)
        for i, mask in enumerate(drawn):
            around = box(mask)
            if around is None:
                problem = f"number {i} is empty"
                raise ConfigError("masks", problem, "Give a pixel to each")
            rows, columns = around
            boxes[i] = rows.start, columns.start, rows.stop, columns.stop
        return cls(
            boxes, np.asarray(scores, np.float32), np.asarray(classes, np.int64), drawn
        )

    def above(self, score: float) -> Detections:
        """Return the objects whose score is at least ``score``."""
        kept = self.scores >= score
        return Detections(
            self.boxes[kept], self.scores[kept], self.classes[kept], self.masks[kept]
        )


def objects(
    labels: NDArray[np.integer], classes: Mapping[int, int] | None = None
) -> Detections:
    """Return the objects of an instance map, in the order of their values.

    Args:
        labels: ``(Y, X)``, 0 is background.
        classes: The class of each value; default: all are 1.

    Returns:
        Objects of score 1. :func:`instance_map` is the inverse, up to the numbers.

    Raises:
        ConfigError: If the map is not ``(Y, X)`` of integers from 0, or a value has
            no class.
    """
    _check_map("labels", labels)
    values = np.unique(labels[labels > 0])
    missing = [] if classes is None else [v for v in values if int(v) not in classes]
    if missing:
        raise ConfigError("classes", f"have none for {missing[0]}", "Name every object")
    kinds = [1 if classes is None else classes[int(v)] for v in values]
    masks = labels[None] == values[:, None, None]
    return Detections.from_masks(masks, np.ones(len(values)), kinds)


def instance_map(found: Detections, overlap: float = 0.5) -> Labels:
    """Return the objects as a label map, numbered from 1 by decreasing score.

    Args:
        found: The objects.
        overlap: An object of which no more than this share is still free goes.

    Returns:
        ``(Y, X)``, 0 where no object is.

    Raises:
        ConfigError: If ``overlap`` is not in [0, 1).
    """
    return _claim(found, overlap)[0]


def merge(
    semantic: NDArray[np.integer],
    instances: Detections,
    overlap: float = 0.5,
    divisor: int = 1000,
) -> Labels:
    """Lay objects over a map of classes: one id a pixel (Kirillov 2018).

    Objects come by decreasing score and take the pixels that are still free, as in
    :func:`instance_map`. An id is ``class * divisor + number``, where objects of a
    class are numbered from 1 and 0 stands for what no object covers, be its class
    stuff or a thing that was not found one by one.

    Args:
        semantic: ``(Y, X)`` classes from 0.
        instances: Objects on the same grid.
        overlap: An object of which no more than this share is still free goes.
        divisor: More than the objects of any class.

    Returns:
        ``(Y, X)``; without objects ``semantic * divisor``.

    Raises:
        ConfigError: If the maps do not fit each other, ``overlap`` is not in [0, 1),
            or the ids do not fit ``divisor`` or 32 bits.
    """
    _check_map("semantic", semantic)
    if instances.masks.shape[1:] != semantic.shape:
        problem = f"are {instances.masks.shape[1:]}, the classes {semantic.shape}"
        raise ConfigError("masks", problem, "Give both on one grid")
    owner, kept = _claim(instances, overlap)
    kinds = instances.classes[kept]
    numbers = [np.count_nonzero(kinds[: i + 1] == k) for i, k in enumerate(kinds)]
    most = max(numbers, default=0)
    if most >= divisor:
        problem = f"is {divisor} for {most} objects of a class"
        raise ConfigError("divisor", problem, "Use more than the objects")
    top = int(max(semantic.max(initial=0), kinds.max(initial=0)))
    if (top + 1) * divisor > np.iinfo(np.int32).max:
        problem = f"is {divisor} for class {top}"
        raise ConfigError("divisor", problem, "Use ids of less than 32 bits")
    ids = np.concatenate([[0], kinds * divisor + np.array(numbers, np.int64)])
    stuff = semantic.astype(np.int64) * divisor
    return np.where(owner > 0, ids[owner], stuff).astype(np.int32)


def _claim(found: Detections, overlap: float) -> tuple[Labels, Sequence[int]]:
    """Return the map of :func:`instance_map` and the row of each of its numbers."""
    if not 0 <= overlap < 1:
        raise ConfigError("overlap", f"is {overlap}", "Use 0 to below 1")
    owner = np.zeros(found.masks.shape[1:], np.int32)
    kept: list[int] = []
    for row in np.argsort(-found.scores, kind="stable"):
        mask = found.masks[row]
        free = mask & (owner == 0)
        if free.sum() > overlap * mask.sum():
            kept.append(int(row))
            owner[free] = len(kept)
    return owner, kept


def _check_map(name: str, values: NDArray[np.integer]) -> None:
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        problem = f"is {values.dtype} of shape {values.shape}"
        raise ConfigError(name, problem, "Give a (Y, X) map of integers")
    if values.min(initial=0) < 0:
        raise ConfigError(name, f"has a value of {values.min()}", "Count from 0")

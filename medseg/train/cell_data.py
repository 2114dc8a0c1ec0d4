"""Images with cells, kept in memory, and the crops that are drawn from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from monai.transforms import Compose
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.utils.data import Dataset

from medseg.datasets.case import Case
from medseg.datasets.instances import InstanceTruth
from medseg.datasets.pairs import image_and_cells
from medseg.errors import FileError
from medseg.predict.diameter import median_diameter
from medseg.predict.inputs import scaled
from medseg.predict.masks import relative_spacing
from medseg.train.cell_augment import KEYS, pose
from medseg.train.cell_targets import make_targets
from medseg.train.config_cells import CellsConfig
from medseg.train.data import grey
from medseg.transforms import Step, build_preprocessing

# What the finished model does to an image.
STEPS = (
    Step(
        "ScaleIntensityRangePercentiles",
        {"lower": 1.0, "upper": 99.8, "b_min": 0.0, "b_max": 1.0},
    ),
)
MOST_SCALE = 4.0
"""An image is made at most this many times as large or small."""


@dataclass(frozen=True, eq=False)
class CellSample:
    """One image with its cells.

    Args:
        image: ``(1, [Z,] Y, X)`` float32 as the network sees it.
        cells: ``([Z,] Y, X)`` int32 numbers, 0 for background.
        known: ``([Z,] Y, X)``, where somebody looked.
        scale: By which it was made larger than the file.
        spacing: Of the pixels, in units of the finest axis; None: 1.
    """

    image: NDArray[np.float32]
    cells: NDArray[np.int32]
    known: NDArray[np.bool_]
    scale: float = 1.0
    spacing: tuple[float, ...] | None = None

    @cached_property
    def boxes(self) -> list[tuple[int, tuple[slice, ...]]]:
        """Number of each cell and the box around it."""
        found = enumerate(ndimage.find_objects(self.cells), start=1)
        return [(number, box) for number, box in found if box is not None]


def load_cells(case: Case, diameter: float = 0.0, ndim: int = 2) -> CellSample:
    """Read one case; with ``diameter``, scaled so that its median cell has it.

    Raises:
        FileError: If it cannot be read, has not ``ndim`` axes, or its cells are on
            another grid.
    """
    image, cells, known = image_and_cells(case)
    if image.geometry.ndim != ndim:
        raise FileError(
            case.image,
            f"is drawn with {image.geometry.ndim} axes and the stage's size has {ndim}",
            "Volumes want a size of three, images and single slices one of two",
        )
    spacing = relative_spacing(image.geometry)
    scale = cell_scale(cells, diameter, spacing)
    pixels = scaled(grey(case.image, image), scale)
    if scale != 1:
        size = pixels.shape[1:]
        cells, known = _nearest(cells, size), _nearest(known, size)
    seen = build_preprocessing(STEPS)(pixels).numpy()
    return CellSample(seen, cells, known, scale, spacing)


def cell_scale(
    cells: NDArray[np.int32], diameter: float, spacing: Sequence[float] = (1.0, 1.0)
) -> float:
    """Return by which factor the median cell gets this diameter; 1 without cells."""
    median = median_diameter(cells, spacing)
    if not diameter or math.isnan(median):
        return 1.0
    return float(np.clip(diameter / median, 1 / MOST_SCALE, MOST_SCALE))


def _nearest(array: NDArray, size: Sequence[int]) -> NDArray:
    index = [
        ((np.arange(n) + 0.5) * old / n).astype(np.intp)
        for n, old in zip(size, array.shape, strict=True)
    ]
    return array[np.ix_(*index)]


def load_all(
    cases: Sequence[Case], diameter_of: Callable[[Case], float], ndim: int = 2
) -> list[CellSample]:
    """Read all cases; one that comes twice is kept once."""
    keys = [(case.image, case.slice, case.instances) for case in cases]
    read: dict[tuple[Path, int | None, InstanceTruth | None], CellSample] = {}
    for key, case in zip(keys, cases, strict=True):
        if key not in read:
            read[key] = load_cells(case, diameter_of(case), ndim)
    return [read[key] for key in keys]


class CropDataset(Dataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Crops as ``(image (1, ...), maps (K, ...), known (K, ...), weights (...))``.

    An index is ``(epoch, number)``; both and the seed decide place and
    augmentation, so a run that was resumed sees what it would have seen.
    """

    def __init__(
        self,
        samples: Sequence[CellSample],
        size: tuple[int, ...],
        chain: Compose,
        config: CellsConfig,
        seed: int,
    ) -> None:
        self.samples, self.size, self.chain = samples, size, chain
        self.config, self.seed = config, seed

    def __len__(self) -> int:
        return len(self.samples) * self.config.crops

    def __getitem__(
        self, index: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, *index])
        sample = self.samples[index[1] % len(self.samples)]
        parts = cut(sample, self.size, rng, self.config.centred)
        number = int(rng.integers(8 if self.size[-2] == self.size[-1] else 1))
        if len(self.size) == 3:
            number += 8 * int(rng.integers(2))
        posed = [torch.from_numpy(pose(x, number).copy()) for x in parts]
        self.chain.set_random_state(seed=int(rng.integers(2**31)))
        moved = self.chain(dict(zip(KEYS, posed, strict=True)))
        image, cells, known = (
            torch.as_tensor(moved[key]).reshape(self.size) for key in KEYS
        )
        numbers = cells.numpy().round().astype(np.int32)
        maps, weights = make_targets(numbers, self.config, sample.spacing)
        return (
            image[None].float(),
            torch.from_numpy(maps),
            known.expand(maps.shape).float(),
            torch.from_numpy(weights),
        )


def cut(
    sample: CellSample, size: Sequence[int], rng: np.random.Generator, centred: float
) -> list[NDArray[np.float32]]:
    """Return image, cells and known pixels of a random place.

    A smaller image is padded: by its mirror image, and nobody knows what is there.

    Args:
        sample: To cut from.
        size: Of the crop.
        rng: The lot.
        centred: Share of the crops that lie around a cell drawn by lot.

    Returns:
        Planes ``(1, Y, X)`` of an image, ``(Z, Y, X)`` of a volume.
    """
    shape = np.array(sample.cells.shape)
    middle = rng.uniform(0, 1, shape.size) * shape
    if sample.boxes and rng.uniform() < centred:
        number, box = sample.boxes[rng.integers(len(sample.boxes))]
        places = np.argwhere(sample.cells[box] == number)
        inside = places[rng.integers(len(places))] + [part.start for part in box]
        middle = inside + rng.uniform(-0.3, 0.3, shape.size) * size
    low = np.clip(np.round(middle - np.array(size) / 2), 0, None).astype(int)
    low = np.minimum(low, np.maximum(shape - np.array(size), 0))
    window = tuple(slice(k, k + n) for k, n in zip(low, size, strict=True))
    arrays = (sample.image[0], sample.cells, sample.known)
    parts = [np.asarray(a[window], np.float32) for a in arrays]
    missing = [(0, n - k) for n, k in zip(size, parts[0].shape, strict=True)]
    if any(after for _, after in missing):
        parts[0] = np.pad(parts[0], missing, mode="symmetric")
        parts[1:] = [np.pad(p, missing) for p in parts[1:]]
    return [p.reshape(-1, *size[-2:]) for p in parts]

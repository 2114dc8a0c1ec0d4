"""Cases as arrays of one size, kept in memory, and the order they are drawn in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, NormalizeIntensity, Resize, ScaleIntensity
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from medseg.datasets.case import Case
from medseg.datasets.ctc import split_by_time
from medseg.datasets.pairs import film_and_truth
from medseg.errors import ConfigError, FileError
from medseg.image import Image
from medseg.train.augment import augment
from medseg.train.config_tables import DataConfig, LabelsConfig
from medseg.transforms import check_channels, to_channels

HELD_BACK = 5
"""Where a set states no split, every fifth group is for validation."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One film at training size.

    Args:
        image: ``(1, Y, X)`` float16 in [0, 1].
        truth: ``(K, Y, X)`` uint8, 255 where the structure covers the whole pixel:
            resized by area, so that borders keep their sub-pixel position.
        annotated: ``(K,)``, which structures somebody drew.
    """

    image: NDArray[np.float16]
    truth: NDArray[np.uint8]
    annotated: NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """Cases to train on, and cases held back, by data set."""

    train: tuple[Case, ...]
    held: Mapping[str, tuple[Case, ...]]
    counts: Mapping[str, int]
    """Training cases by data set, repeats not counted."""

    @property
    def held_cases(self) -> list[Case]:
        """All cases held back."""
        return [case for cases in self.held.values() for case in cases]


def find_cases(data: Sequence[DataConfig], labels: LabelsConfig) -> Split:
    """Find the cases of all data sets and divide them.

    Args:
        data: The sets.
        labels: What is to be learnt.

    Raises:
        ConfigError: If nothing is left for training.
        FileError: If a folder does not have the layout of its set.
    """
    train: list[Case] = []
    held: dict[str, tuple[Case, ...]] = {}
    counts: dict[str, int] = {}
    cases = _told_apart(data, [_cases(entry, labels) for entry in data])
    patients = {
        c.group
        for entry, own in zip(data, cases, strict=True)
        if entry.set == "own" and entry.part == "split"
        for c in own
    }
    for entry, found in zip(data, cases, strict=True):
        # A challenge folder holds one set of many: its name says which.
        name = Path(entry.folder).name if entry.set == "ctc" else entry.set
        groups = patients if entry.set == "own" else {c.group for c in found}
        part_train, part_held = divide(
            found, entry.part, entry.split, entry.share, groups
        )
        train += part_train * entry.repeat
        if part_train:
            counts[name] = counts.get(name, 0) + len(part_train)
        if part_held:
            held[name] = (*held.get(name, ()), *part_held)
    if not train:
        raise ConfigError(
            "data", "has no case for training", "Add a set with part = 'split'"
        )
    return Split(tuple(train), held, counts)


def _cases(entry: DataConfig, labels: LabelsConfig) -> list[Case]:
    find = import_module(f"medseg.datasets.{entry.set}").cases
    options: dict[str, Any] = {}
    if entry.set == "ctc":
        options = {"truth": entry.truth}
    elif entry.set == "own":
        options = {"names": labels.names, "cells": labels.kind == "instances"}
    cases: list[Case] = find(Path(entry.folder), **options)
    if not entry.spacing:
        return cases
    return [replace(case, spacing=entry.spacing, grid=None) for case in cases]


def _told_apart(
    data: Sequence[DataConfig], cases: Sequence[list[Case]]
) -> list[list[Case]]:
    """Return the cases with the number of their table in front of what two may share.

    Of several tables of own images: files of one name are other films, while folders
    of one name are one patient.
    """
    own = [
        found for entry, found in zip(data, cases, strict=True) if entry.set == "own"
    ]
    if len(own) < 2:
        return list(cases)
    result = []
    for entry, found in zip(data, cases, strict=True):
        if entry.set == "own":
            number = 1 + next(k for k, table in enumerate(own) if table is found)
            found = [_numbered(case, number) for case in found]
        result.append(found)
    return result


def _numbered(case: Case, number: int) -> Case:
    name = f"{number}/{case.id}"
    alone = case.group == case.id
    return replace(case, id=name, group=name if alone else case.group)


def divide(
    cases: Sequence[Case],
    part: str,
    split: str = "group",
    share: float = 2 / 3,
    groups: Collection[str] = (),
) -> tuple[list[Case], list[Case]]:
    """Split cases into training and validation.

    Args:
        cases: Of one set.
        part: ``"train"`` or ``"val"``: all of them. ``"split"``: both.
        split: ``"group"``: no group is cut; where the set states no split, every
            fifth group is held back. ``"time"``: the last frames of every group.
        share: Of the time that is for training, from the first frame to the last.
        groups: Of which every fifth is held back; by default those of ``cases``.
    """
    if part == "train":
        return list(cases), []
    if part == "val":
        return [], list(cases)
    if split == "time":
        return divide(split_by_time(cases, share), part)
    every = sorted({*groups} or {c.group for c in cases})
    held_groups = set(every[HELD_BACK - 1 :: HELD_BACK])
    held = [
        c.split == "val" if c.split is not None else c.group in held_groups
        for c in cases
    ]
    return (
        [c for c, h in zip(cases, held, strict=True) if not h],
        [c for c, h in zip(cases, held, strict=True) if h],
    )


def grey(path: Path, image: Image) -> NDArray[Any]:
    """Return the pixels of an image with one channel; see `to_channels`.

    Raises:
        FileError: If it has neither one channel nor the three of a colour image.
    """
    try:
        check_channels(image, "grey")
        return to_channels(image.pixels, "grey")
    except ConfigError as error:
        raise FileError(path, error.problem, error.remedy) from error


def load_sample(case: Case, names: Sequence[str], size: tuple[int, ...]) -> Sample:
    """Read one case at ``size``, the way the finished model will see the image.

    Raises:
        FileError: If a file cannot be read, or masks and film are of another aspect.
    """
    film, masks, annotated = film_and_truth(case, names)
    pixels = grey(case.image, film).astype(np.float32)
    resize = Resize(size, mode="area")
    image = ScaleIntensity()(resize(torch.from_numpy(pixels)))
    truth = resize(torch.from_numpy(masks.astype(np.float32) * 255))
    return Sample(
        np.asarray(image, np.float16),
        np.asarray(truth).round().astype(np.uint8),
        annotated,
    )


def load_samples(
    cases: Sequence[Case],
    names: Sequence[str],
    size: tuple[int, ...],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Sample]:
    """Read all cases at ``size``; a case that comes twice is kept once."""
    keys = [(case.image, case.slice) for case in cases]
    read: dict[tuple[Path, int | None], Sample] = {}
    for done, (key, case) in enumerate(zip(keys, cases, strict=True)):
        if key not in read:
            read[key] = load_sample(case, names, size)
        progress(done + 1, len(cases))
    return [read[key] for key in keys]


class SampleDataset(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Samples as ``(image (1, Y, X), truth (K, Y, X), annotated (K,))`` tensors.

    An index is ``(epoch, number)``; both and the seed decide the augmentation, so
    a run that was resumed sees what it would have seen.
    """

    def __init__(
        self, samples: Sequence[Sample], chain: Compose | None, seed: int
    ) -> None:
        self.samples = samples
        self.chain = chain
        self.seed = seed
        self.normalise = NormalizeIntensity()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        epoch, number = index
        sample = self.samples[number]
        image = torch.from_numpy(sample.image.astype(np.float32))
        truth = torch.from_numpy(sample.truth.astype(np.float32) / 255)
        if self.chain is not None:
            state = np.random.SeedSequence([self.seed, epoch, number])
            image, truth = augment(
                self.chain, image, truth, int(state.generate_state(1)[0])
            )
        image = torch.as_tensor(self.normalise(image))
        return image, truth, torch.from_numpy(sample.annotated.astype(np.float32))


class EpochSampler(Sampler[tuple[int, int]]):
    """Draws every sample once an epoch, in an order that the seed decides."""

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        return iter([(self.epoch, int(i)) for i in order])

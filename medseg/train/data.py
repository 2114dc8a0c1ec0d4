"""Cases as arrays of one size, kept in memory, and the order they are drawn in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, NormalizeIntensity, Resize, ScaleIntensity
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from medseg.channels import check_channels, to_channels
from medseg.datasets.case import Case
from medseg.datasets.pairs import film_and_truth
from medseg.errors import ConfigError, FileError
from medseg.image import Image
from medseg.train.augment import augment


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

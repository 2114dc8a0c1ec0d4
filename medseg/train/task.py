"""What differs between learning structures of films and learning cells.

The loop knows a task: it loads cases, draws samples, gives the loss of a batch and
scores what is held back. All else is the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor
from torch.utils.data import Dataset

from medseg.datasets.case import Case
from medseg.instances import drop_margin, find_instances
from medseg.losses import MaskedDiceCELoss
from medseg.train.augment import build_augmentation
from medseg.train.cell_augment import build_cell_augmentation
from medseg.train.cell_data import CellSample, CropDataset, load_all
from medseg.train.cell_scores import add_scores, score_cells
from medseg.train.config import TrainConfig
from medseg.train.config_tables import StageConfig
from medseg.train.data import Sample, SampleDataset, load_samples
from medseg.train.targets import to_masks, to_targets

Forward = Callable[[Tensor], Tensor]
MOST_VALIDATED = 16
"""Images with cells that a validation looks at; spread evenly over those held."""


class Task(Protocol):
    """What the loop asks for; samples are the task's own."""

    def load(self, cases: Sequence[Case], stage: StageConfig) -> list[Any]:
        """Read all cases as a stage wants them."""

    def dataset(self, samples: list[Any], stage: StageConfig) -> Dataset[Any]:
        """Return what an epoch draws from: image and truth, as tensors."""

    def loss(self, logits: Tensor, *truth: Tensor) -> Tensor:
        """Return the loss of a batch."""

    def validate(self, forward: Forward, samples: list[Any]) -> dict[str, float]:
        """Return the scores of a network, by name; the larger the better."""


def make_task(config: TrainConfig) -> Task:
    """Return the task of a configuration."""
    cells = config.labels.kind == "instances"
    return CellTask(config) if cells else StructureTask(config)


def _criterion(
    config: TrainConfig, kind: Literal["exclusive", "overlapping"]
) -> MaskedDiceCELoss:
    loss = config.loss
    return MaskedDiceCELoss(
        loss.cross_entropy,
        loss.dice,
        loss.squared,
        kind=kind,
        class_weights=loss.class_weights or None,
    )


class StructureTask:
    """Structures of films, seen whole at the size of the stage; scored by Dice."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        exclusive = config.labels.kind == "exclusive"
        self.criterion = _criterion(config, "exclusive" if exclusive else "overlapping")

    def load(self, cases: Sequence[Case], stage: StageConfig) -> list[Sample]:
        """Read films at the size of the stage."""
        return load_samples(cases, self.config.labels.names, stage.size)

    def dataset(self, samples: list[Sample], stage: StageConfig) -> SampleDataset:
        """Return the films, changed afresh in every epoch."""
        changes = self.config.augmentation.scaled(stage.augmentation)
        chain = build_augmentation(
            changes, stage.size, lungs=self.config.lungs, gas=stage.gas
        )
        return SampleDataset(samples, chain, self.config.seed)

    def loss(self, logits: Tensor, *truth: Tensor) -> Tensor:
        """Return the loss for masks and what is annotated of them."""
        masks, annotated = truth
        target, known = to_targets(masks, annotated, self.config.labels.kind)
        loss: Tensor = self.criterion(logits, target, known)
        return loss

    def validate(self, forward: Forward, samples: list[Sample]) -> dict[str, float]:
        """Return the mean Dice per structure over the samples in which it is drawn."""
        names = self.config.labels.names
        scores: dict[str, list[float]] = {name: [] for name in names}
        for image, truth, annotated in _batches(samples):
            found = to_masks(forward(image), self.config.labels.kind).cpu()
            both = (found & truth).sum((2, 3))
            sizes = found.sum((2, 3)) + truth.sum((2, 3))
            dice = torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), 1.0)
            for case, drawn in zip(dice.tolist(), annotated.tolist(), strict=True):
                for name, value, known in zip(names, case, drawn, strict=True):
                    if known:
                        scores[name].append(value)
        return {name: sum(v) / len(v) for name, v in scores.items() if v}


def _batches(
    samples: list[Sample], size: int = 8
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    data = SampleDataset(samples, None, 0)
    for i in range(0, len(samples), size):
        rows = [data[0, k] for k in range(i, min(i + size, len(samples)))]
        image, truth, annotated = (torch.stack(x) for x in zip(*rows, strict=True))
        yield image, truth > 0.5, annotated > 0


def _spread(samples: Sequence[Any]) -> list[Any]:
    """Return at most `MOST_VALIDATED` samples, the first and the last among them."""
    count = min(len(samples), MOST_VALIDATED)
    places = np.linspace(0, len(samples) - 1, count).round().astype(int)
    return [samples[place] for place in places]


class CellTask:
    """Cells, seen in crops at the image's own resolution; scored by SEG and AP50."""

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.cells = config, config.cells
        components = config.cells.rule.method == "components"
        self.exclusive = components
        self.criterion = _criterion(
            config, "exclusive" if components else "overlapping"
        )

    def load(self, cases: Sequence[Case], stage: StageConfig) -> list[CellSample]:
        """Read images at their own size; those of sets with ``rescale`` scaled."""
        folders = [Path(d.folder) for d in self.config.data if d.rescale]

        def diameter_of(case: Case) -> float:
            scaled = any(case.image.is_relative_to(folder) for folder in folders)
            return self.cells.diameter if scaled else 0.0

        return load_all(cases, diameter_of, len(stage.size))

    def dataset(self, samples: list[CellSample], stage: StageConfig) -> CropDataset:
        """Return random crops of the stage's size."""
        changes = self.config.augmentation.scaled(stage.augmentation)
        elastic = self.cells.elastic * stage.augmentation
        chain = build_cell_augmentation(changes, elastic, stage.size)
        return CropDataset(samples, stage.size, chain, self.cells, self.config.seed)

    def loss(self, logits: Tensor, *truth: Tensor) -> Tensor:
        """Return the loss for maps, known pixels and weights."""
        loss: Tensor = self.criterion(logits, *truth)
        return loss

    def validate(self, forward: Forward, samples: list[CellSample]) -> dict[str, float]:
        """Return SEG and AP at 0.5 over all cells of at most `MOST_VALIDATED` images."""
        if not samples:
            return {}
        rule = self.cells.rule
        scores = []
        for sample in _spread(samples):
            logits = self._look(forward, torch.from_numpy(sample.image)[None])[0]
            maps = logits.softmax(0) if self.exclusive else logits.sigmoid()
            found = find_instances(np.asarray(maps.cpu()), rule, sample.spacing)
            found = drop_margin(found, rule.margin)
            scores.append(score_cells(found, sample.cells, sample.known))
        total = add_scores(scores)
        return {"SEG": total.seg, "AP50": total.ap50} if total.cells else {}

    def _look(self, forward: Forward, image: Tensor) -> Tensor:
        """Return the logits of an image; of a volume, in windows as it is predicted."""
        if image.ndim == 4:
            return forward(image)
        window = self.config.stage[-1].size
        logits = sliding_window_inference(image, window, 1, forward, mode="gaussian")
        return torch.as_tensor(logits)

"""The training loop: all of it on one screen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from medseg.datasets.case import Case
from medseg.errors import ConfigError
from medseg.losses import MaskedDiceCELoss
from medseg.train.augment import build_augmentation
from medseg.train.config import StageConfig, TrainConfig
from medseg.train.data import EpochSampler, Sample, SampleDataset, load_samples
from medseg.train.spec import build_network
from medseg.train.targets import to_masks, to_targets

WARM_UP = 0.03
"""Share of a stage over which the learning rate rises to its value."""


@dataclass(frozen=True)
class EpochLog:
    """What one epoch did; Dice per structure only where it was validated."""

    epoch: int
    stage: int
    loss: float
    learning_rate: float
    seconds: float
    dice: dict[str, float] = field(default_factory=dict)

    @property
    def mean_dice(self) -> float:
        """Mean over the structures; NaN where the epoch was not validated."""
        return sum(self.dice.values()) / len(self.dice) if self.dice else math.nan


@dataclass
class State:
    """What a resumed run goes on from."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: AveragedModel
    logs: list[EpochLog]
    stopped: set[int]


Report = Callable[[EpochLog, int], None]


def fit(
    config: TrainConfig,
    train: list[Case],
    held: list[Case],
    checkpoint: Path,
    report: Report = lambda log, total: None,
) -> tuple[nn.Module, list[EpochLog]]:
    """Train and return the averaged network with the log of every epoch.

    Continues from ``checkpoint`` where it exists, and writes it after each epoch.
    """
    fabric = Fabric(
        accelerator=config.accelerator,
        devices=config.devices,
        precision=config.precision,
    )
    if config.devices > 1:
        fabric.launch()
    fabric.seed_everything(config.seed, verbose=False)
    state = _start(config, fabric)
    _resume(fabric, state, checkpoint)
    first = 0
    for number, stage in enumerate(config.stage):
        # Not the number of logs: a stage that stopped early has fewer than epochs.
        done = state.logs[-1].epoch + 1 if state.logs else 0
        epochs = range(max(first, done), first + stage.epochs)
        if number not in state.stopped and len(epochs):
            samples = load_samples(train, config.labels.names, stage.size)
            unseen = load_samples(held, config.labels.names, stage.size)
            loader, sampler = _loader(config, fabric, stage, samples)
            for epoch in epochs:
                sampler.epoch = epoch
                log = _epoch(config, fabric, state, loader, number, epoch, first)
                if (epoch - first + 1) % config.validate_every == 0 or epoch == epochs[
                    -1
                ]:
                    log.dice.update(validate(fabric, state.average, unseen, config))
                state.logs.append(log)
                report(log, config.epochs)
                if _is_stuck(state.logs, number, config.patience):
                    state.stopped.add(number)
                _save(fabric, state, checkpoint)
                if number in state.stopped:
                    break
        first += stage.epochs
    return state.average.module, state.logs


def _start(config: TrainConfig, fabric: Fabric) -> State:
    network = build_network(config).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        network.parameters(), weight_decay=config.weight_decay
    )
    # The average lives on the device too, but outside the wrapped network.
    average = AveragedModel(
        network,
        device=fabric.device,
        multi_avg_fn=get_ema_multi_avg_fn(config.average),
        use_buffers=True,
    )
    wrapped, optimizer = fabric.setup(network, optimizer)
    return State(wrapped, optimizer, average, [], set())


def _loader(
    config: TrainConfig, fabric: Fabric, stage: StageConfig, samples: list[Sample]
) -> tuple[Any, EpochSampler]:
    chain = build_augmentation(
        config.augmentation.scaled(stage.augmentation), stage.size
    )
    sampler = EpochSampler(len(samples), config.seed)
    loader = DataLoader(
        SampleDataset(samples, chain, config.seed),
        batch_size=stage.batch,
        sampler=sampler,
        num_workers=config.workers,
        # Batch statistics of a single film are no statistics.
        drop_last=len(samples) > stage.batch,
    )
    return fabric.setup_dataloaders(loader), sampler


def _epoch(
    config: TrainConfig,
    fabric: Fabric,
    state: State,
    loader: Any,
    number: int,
    epoch: int,
    first: int,
) -> EpochLog:
    stage, start = config.stage[number], time.monotonic()
    criterion = _criterion(config)
    state.network.train()
    total, rate = 0.0, 0.0
    for step, (image, truth, annotated) in enumerate(loader):
        done = (epoch - first + step / len(loader)) / stage.epochs
        rate = learning_rate(stage.learning_rate, done)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        image = image.contiguous(memory_format=torch.channels_last)
        target, known = to_targets(truth, annotated, config.labels.kind)
        loss: Tensor = criterion(state.network(image), target, known)
        if not torch.isfinite(loss):
            raise ConfigError(
                "training",
                f"the loss is {loss.item()} in epoch {epoch + 1}, step {step + 1}",
                "Lower stage.learning_rate or use precision 32-true",
            )
        state.optimizer.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(state.network, state.optimizer, max_norm=5.0)
        state.optimizer.step()
        state.average.update_parameters(cast("nn.Module", state.network.module))
        total += loss.item()
    seconds = time.monotonic() - start
    return EpochLog(epoch, number, total / len(loader), rate, seconds)


def _criterion(config: TrainConfig) -> MaskedDiceCELoss:
    loss = config.loss
    kind: Literal["exclusive", "overlapping"] = (
        "exclusive" if config.labels.kind == "exclusive" else "overlapping"
    )
    return MaskedDiceCELoss(
        loss.cross_entropy,
        loss.dice,
        loss.squared,
        kind=kind,
        class_weights=loss.class_weights or None,
    )


def learning_rate(peak: float, done: float) -> float:
    """Return the rate after share ``done`` of a stage: warm-up, then half a cosine."""
    rise = min(1.0, done / WARM_UP + 1e-2)
    return peak * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


@torch.no_grad()
def validate(
    fabric: Fabric, network: nn.Module, samples: list[Sample], config: TrainConfig
) -> dict[str, float]:
    """Return the mean Dice per structure over the samples in which it is drawn."""
    network.eval()
    names = config.labels.names
    scores: dict[str, list[float]] = {name: [] for name in names}
    for image, truth, annotated in _batches(samples):
        with fabric.autocast():
            logits = network(fabric.to_device(image))
        found = to_masks(logits.float(), config.labels.kind).cpu()
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


def _is_stuck(logs: list[EpochLog], stage: int, patience: int) -> bool:
    scores = [x.mean_dice for x in logs if x.stage == stage and x.dice]
    if not patience or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])


def _save(fabric: Fabric, state: State, path: Path) -> None:
    part = path.with_suffix(".part")
    fabric.save(
        part,
        {
            "network": state.network,
            "optimizer": state.optimizer,
            "average": state.average.state_dict(),
            "logs": [vars(log) for log in state.logs],
            "stopped": sorted(state.stopped),
        },
    )
    if fabric.is_global_zero:
        part.replace(path)


def _resume(fabric: Fabric, state: State, path: Path) -> None:
    if not path.exists():
        return
    parts = {"network": state.network, "optimizer": state.optimizer}
    rest = fabric.load(path, parts, weights_only=True)
    state.average.load_state_dict(rest["average"])
    state.logs.extend(EpochLog(**log) for log in rest["logs"])
    state.stopped.update(rest["stopped"])

"""The training loop: all of it on one screen."""

from __future__ import annotations

import io
import math
import time
import zipfile
from collections.abc import Callable, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from medseg.datasets.case import Case
from medseg.engines.torch import channels_last, layout
from medseg.errors import ConfigError, FileError
from medseg.io.atomic import write_bytes
from medseg.train.config import TrainConfig
from medseg.train.config_tables import StageConfig
from medseg.train.data import EpochSampler
from medseg.train.spec import build_network
from medseg.train.task import Task, make_task

WARM_UP = 0.03
"""Share of a stage over which the learning rate rises to its value."""


@dataclass(frozen=True)
class EpochLog:
    """What one epoch did; scores by name only where it was validated."""

    epoch: int
    stage: int
    loss: float
    learning_rate: float
    seconds: float
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def mean_score(self) -> float:
        """Mean of the scores; NaN where the epoch was not validated."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else math.nan


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
    fabric: Fabric | None = None,
) -> tuple[nn.Module, list[EpochLog]]:
    """Train and return the averaged network with the log of every epoch.

    Continues from ``checkpoint`` where it exists, and writes it after each epoch.

    Raises:
        ConfigError: If the loss is no number.
        FileError: If the checkpoint, or a case, cannot be read.
    """
    fabric = fabric or make_fabric(config)
    if config.devices > 1:
        fabric.launch()
    fabric.seed_everything(config.seed, verbose=False)
    state, task = _start(config, fabric), make_task(config)
    _resume(fabric, state, checkpoint)
    first = 0
    for number, stage in enumerate(config.stage):
        # Not the number of logs: a stage that stopped early has fewer than epochs.
        done = state.logs[-1].epoch + 1 if state.logs else 0
        epochs = range(max(first, done), first + stage.epochs)
        if number not in state.stopped and len(epochs):
            unseen = task.load(held, stage)
            data = task.dataset(task.load(train, stage), stage)
            loader, sampler = _loader(config, fabric, stage, data)
            for epoch in epochs:
                sampler.epoch = epoch
                _seed(config, epoch)
                log = _epoch(config, fabric, task, state, loader, number, epoch, first)
                if (epoch - first + 1) % config.validate_every == 0 or epoch == epochs[
                    -1
                ]:
                    log.scores.update(validate(fabric, state.average, unseen, task))
                state.logs.append(log)
                report(log, config.epochs)
                if _is_stuck(state.logs, number, config.patience):
                    state.stopped.add(number)
                _save(fabric, state, checkpoint)
                if number in state.stopped:
                    break
        first += stage.epochs
    return state.average.module, state.logs


def make_fabric(config: TrainConfig) -> Fabric:
    """Return the devices and the precision that a configuration asks for.

    Raises:
        ConfigError: If this machine does not have them.
    """
    gpu = config.accelerator != "cpu" and torch.accelerator.is_available()
    if config.precision == "16-mixed" and not gpu:
        problem = "is 16-mixed, and the training would run on the CPU"
        raise ConfigError("precision", problem, "Use bf16-mixed or 32-true there")
    try:
        return Fabric(
            accelerator=config.accelerator,
            devices=config.devices,
            precision=config.precision,
        )
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        problem = f"is {config.accelerator}, with devices = {config.devices} "
        problem += f"({str(error).splitlines()[0].rstrip('.')})"
        remedy = "Use auto or cpu, or as many devices as there are"
        raise ConfigError("accelerator", problem, remedy) from error


def _start(config: TrainConfig, fabric: Fabric) -> State:
    network = channels_last(build_network(config))
    optimizer = torch.optim.AdamW(
        network.parameters(), weight_decay=config.weight_decay
    )
    # The average lives on the device too, but outside the wrapped network.
    average = AveragedModel(
        network,
        device=fabric.device,
        multi_avg_fn=running_average(config.average),
        use_buffers=True,
    )
    wrapped, optimizer = fabric.setup(network, optimizer)
    return State(wrapped, optimizer, average, [], set())


def _seed(config: TrainConfig, epoch: int) -> None:
    """Let seed and epoch alone decide what dropout drops, also in a resumed run."""
    state = np.random.SeedSequence([config.seed, epoch]).generate_state(1)
    torch.manual_seed(int(state[0]))


def running_average(decay: float) -> Callable[[Any, Any, Tensor | int], None]:
    """Return how a step enters the average of the ``n`` before it.

    The decay rises from 0.1 to ``decay`` as ``(1 + n) / (10 + n)``: of a run of few
    steps the average would else be mostly the weights that it began with.
    """

    def update(average: Any, current: Any, n: Tensor | int) -> None:
        now = min(decay, (1 + int(n)) / (10 + int(n)))
        get_ema_multi_avg_fn(now)(average, current, n)

    return update


def _loader(
    config: TrainConfig, fabric: Fabric, stage: StageConfig, data: Dataset[Any]
) -> tuple[Any, EpochSampler]:
    length = len(cast("Sized", data))
    sampler = EpochSampler(length, config.seed)
    loader = DataLoader(
        data,
        batch_size=stage.batch,
        sampler=sampler,
        num_workers=config.workers,
        # Batch statistics of a single film are no statistics.
        drop_last=length > stage.batch,
    )
    return fabric.setup_dataloaders(loader), sampler


def _epoch(
    config: TrainConfig,
    fabric: Fabric,
    task: Task,
    state: State,
    loader: Any,
    number: int,
    epoch: int,
    first: int,
) -> EpochLog:
    stage, start = config.stage[number], time.monotonic()
    state.network.train()
    network = cast("nn.Module", state.network.module)
    frozen = [network.get_submodule(name) for name in stage.frozen]
    for part in frozen:
        part.eval()  # batch statistics stay as well
    total, rate = 0.0, 0.0
    for step, (image, *truth) in enumerate(loader):
        done = (epoch - first + step / len(loader)) / stage.epochs
        rate = learning_rate(stage.learning_rate, done)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        image = image.contiguous(memory_format=layout(image.ndim))
        loss = task.loss(state.network(image), *truth)
        if not torch.isfinite(loss):
            raise ConfigError(
                "training",
                f"the loss is {loss.item()} in epoch {epoch + 1}, step {step + 1}",
                "Lower stage.learning_rate or use precision 32-true",
            )
        state.optimizer.zero_grad()
        fabric.backward(loss)
        for part in frozen:
            # Several devices may not be told between stages what has no gradient.
            part.zero_grad()
        fabric.clip_gradients(state.network, state.optimizer, max_norm=5.0)
        state.optimizer.step()
        state.average.update_parameters(network)
        total += loss.item()
    seconds = time.monotonic() - start
    return EpochLog(epoch, number, total / len(loader), rate, seconds)


def learning_rate(peak: float, done: float) -> float:
    """Return the rate after share ``done`` of a stage: warm-up, then half a cosine."""
    rise = min(1.0, done / WARM_UP + 1e-2)
    return peak * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


@torch.no_grad()
def validate(
    fabric: Fabric, network: nn.Module, samples: list[Any], task: Task
) -> dict[str, float]:
    """Return the task's scores of a network on samples."""
    network.eval()

    def forward(image: Tensor) -> Tensor:
        with fabric.autocast():
            logits: Tensor = network(fabric.to_device(image))
        return logits.float()

    return task.validate(forward, samples)


def _is_stuck(logs: list[EpochLog], stage: int, patience: int) -> bool:
    scores = [x.mean_score for x in logs if x.stage == stage and x.scores]
    if not patience or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])


def _save(fabric: Fabric, state: State, path: Path) -> None:
    # Not by fabric.save: it goes through the temporary folder, which may be small.
    if fabric.is_global_zero:
        buffer = io.BytesIO()
        torch.save(
            {
                "network": cast("nn.Module", state.network.module).state_dict(),
                "optimizer": state.optimizer.state_dict(),
                "average": state.average.state_dict(),
                "logs": [vars(log) for log in state.logs],
                "stopped": sorted(state.stopped),
                "scaler": fabric.strategy.precision.state_dict(),
            },
            buffer,
        )
        write_bytes(path, buffer.getbuffer())
    fabric.barrier()


def _resume(fabric: Fabric, state: State, path: Path) -> None:
    if not path.exists():
        return
    if not zipfile.is_zipfile(path):
        problem = f"is damaged: {path.stat().st_size} bytes that are no checkpoint"
        raise FileError(path, problem, "Put a copy back, or delete it to begin anew")
    parts = {"network": state.network, "optimizer": state.optimizer}
    rest = fabric.load(path, parts, weights_only=True)
    state.average.load_state_dict(rest["average"])
    for log in rest["logs"]:
        # Runs of older versions call the scores by their only kind.
        scores = log.pop("dice", log.pop("scores", {}))
        state.logs.append(EpochLog(**log, scores=scores))
    state.stopped.update(rest["stopped"])
    if rest.get("scaler"):  # of 16-mixed; older versions kept none
        fabric.strategy.precision.load_state_dict(rest["scaler"])

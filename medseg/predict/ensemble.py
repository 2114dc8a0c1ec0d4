"""The mean probability of several models and of mirrored images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medseg.engines import Engine, make_engine
from medseg.errors import ConfigError, FileError
from medseg.model_io import Model
from medseg.model_spec import Flip, ModelSpec
from medseg.predict.decode import resample

Array = NDArray[np.float32]


class Ensemble:
    """One model or several with the same labels, each on its engine.

    Args:
        models: At least one.
        augment: Average over the flips that each model's spec names.
        **options: As :func:`medseg.engines.make_engine`.

    Raises:
        ConfigError: If models disagree, an engine is not there, or a model names no
            flips for the augmentation.
    """

    def __init__(self, models: Sequence[Model], augment: bool, **options: Any) -> None:
        check_agreement([m.spec for m in models])
        if augment and not all(m.spec.flips for m in models):
            problem = "was asked for and a model's spec names no flips"
            raise ConfigError("test_time_augmentation", problem, "Switch it off")
        self.models = tuple(models)
        self._augment = augment
        self._threads = options.get("threads")
        made = [make_engine(model, **options) for model in models]
        self.engine = made[0]
        self._engines = {made[0].device: made}

    def mean(self, batches: Sequence[Array], device: str) -> Array:
        """Return the mean probabilities ``(N, K, ...)`` on the first model's grid.

        Args:
            batches: ``(N, C, [Z,] Y, X)``, one a model.
            device: That of the engines, or ``"cpu"`` after a GPU ran out of memory.

        Raises:
            FileError: If a number is not finite.
        """
        total: Array | None = None
        engines = self._engines_on(device)
        for model, engine, batch in zip(self.models, engines, batches, strict=True):
            values = self._probabilities(model.spec, engine, batch)
            if total is None:
                total = values
                continue
            if values.shape != total.shape:
                size = total.shape[2:]
                values = np.stack([[resample(k, size) for k in one] for one in values])
            total += values
        assert total is not None  # check_agreement wants a model
        if len(engines) > 1:
            total /= len(engines)
        bad = total.size - int(np.isfinite(total).sum())
        if bad:
            problem = f"the network gave {bad} values that are not finite"
            raise FileError("image", problem, _remedy(engines[0]))
        return total

    def _probabilities(self, spec: ModelSpec, engine: Engine, batch: Array) -> Array:
        total = _activate(engine(batch), spec)
        if not self._augment:
            return total
        for flip in spec.flips:
            axes = tuple(axis + 2 for axis in flip.axes)
            mirrored = np.flip(_turned(batch, flip), axes)
            found = _activate(engine(np.ascontiguousarray(mirrored)), spec)
            total += _turned(np.flip(found, axes), flip)[:, _swapped(flip, spec)]
        return np.asarray(total / np.float32(1 + len(spec.flips)))

    def _engines_on(self, device: str) -> list[Engine]:
        if device not in self._engines:
            self._engines[device] = [
                make_engine(m, engine="torch", device="cpu", threads=self._threads)
                for m in self.models
            ]
        return self._engines[device]


def check_agreement(specs: Sequence[ModelSpec]) -> None:
    """Require the same labels, and image sizes that can be averaged.

    Raises:
        ConfigError: If there is no model, or two disagree.
    """
    if not specs:
        raise ConfigError("model", "none was given", "Give one or more")
    first = specs[0]
    for spec in specs[1:]:
        if spec.labels != first.labels:
            problem = f"{spec.name} and {first.name} have different labels"
            raise ConfigError("model", problem, "Average models with the same labels")
        rules = [s.decoding.instances for s in (spec, first)]
        methods = {None if rule is None else rule.method for rule in rules}
        if len(methods) > 1:
            problem = f"{spec.name} and {first.name} find cells in different ways"
            raise ConfigError("model", problem, "Average models of one kind")
        one, other = first.inference, spec.inference
        if one.diameter != other.diameter:
            learnt = (
                f"{spec.name} learnt cells of {other.diameter} pixels, {first.name}"
            )
            problem = f"{learnt} of {one.diameter}"
            raise ConfigError("model", problem, "Average models of one kind")
        windows = one.mode == "sliding_window" and one.size != other.size
        dims = len(one.size) != len(other.size)
        if one.mode != other.mode or dims or windows:
            problem = f"{spec.name} and {first.name} see images at different sizes"
            raise ConfigError("model", problem, "Average models of one kind")


def _remedy(engine: Engine) -> str:
    """Return what else to try where numbers are not finite."""
    if (engine.name, engine.device, engine.precision) == ("torch", "cpu", "float32"):
        return "Use another model"
    return "Try --engine torch --device cpu"


def _activate(logits: Array, spec: ModelSpec) -> Array:
    values = torch.from_numpy(logits)
    return (values.softmax(1) if spec.is_exclusive else values.sigmoid()).numpy()


def _turned(maps: Array, flip: Flip) -> Array:
    return maps.swapaxes(-1, -2) if flip.transpose else maps


def _swapped(flip: Flip, spec: ModelSpec) -> list[int]:
    """Return which channel of the mirrored result each channel comes from."""
    labels = spec.labels
    offset = spec.output_channels - len(labels)
    order = list(range(spec.output_channels))
    for first, second in flip.swap:
        a, b = labels.index(first) + offset, labels.index(second) + offset
        order[a], order[b] = order[b], order[a]
    return order

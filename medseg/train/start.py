"""Go on from a model that there is: its weights, and of its last layer what is shared."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.instances import MAPS, InstanceRule
from medseg.labels import Kind
from medseg.model import Model, ModelSpec, load_spec, model_folder
from medseg.networks import build
from medseg.train.config import TrainConfig

FIELD = "network.start"
_FREE = ("in_channels", "out_channels", "dropout")
"""Arguments that may differ: the first two follow from the data, no weight from dropout."""


def start_spec(config: TrainConfig) -> ModelSpec:
    """Return the spec of the model that a run goes on from; its weights stay unread.

    Raises:
        ModelError: If there is no such model, or its spec cannot be used.
    """
    return load_spec(model_folder(config.network.start))


def start_from(network: nn.Module, model: Model, config: TrainConfig) -> None:
    """Give ``network``, which ``config`` describes, the weights of a model.

    Whatever does not depend on the labels is taken over whole. Of the last layer the
    channels of those labels are taken over that both know by name; others stay as
    they are.

    Raises:
        ConfigError: If the model is of another network or kind of labels, a tensor has
            another shape, or a share of it is to be kept and its labels are others.
    """
    _check_kind(model, config)
    theirs, ours = _maps_of(model.spec, config), _maps(config)
    if config.network.keep and theirs != ours:
        problem = f"is {config.network.keep} and {model.folder.name} draws "
        problem += f"{', '.join(theirs)}, this run {', '.join(ours)}"
        raise ConfigError("network.keep", problem, "Learn the same, in this order")
    shared = [name for name in ours if name in theirs]
    old, new = ([names.index(name) for name in shared] for names in (theirs, ours))
    heads = _heads(config) if theirs != ours else {}
    given = model.network.state_dict()
    for name, own in network.state_dict().items():
        axes = heads.get(name, ())
        _check_shape(model, name, given.get(name), own, axes)
        part = given[name][_grid(given[name], axes, old, len(theirs))]
        own[_grid(own, axes, new, len(ours))] = part


def describe_start(spec: ModelSpec, config: TrainConfig) -> str:
    """Return which channels of the last layer a model gives, and which begin afresh."""
    theirs = _maps_of(spec, config)
    taken = [name for name in _maps(config) if name in theirs]
    afresh = [name for name in _maps(config) if name not in theirs]
    parts = ((taken, "taken over"), (afresh, "afresh"))
    return "; ".join(f"{', '.join(names)} {how}" for names, how in parts if names)


def keep_share(network: nn.Module, model: Model, share: float) -> None:
    """Move the weights of ``network`` by ``share`` of the way back to the model's.

    What the model knew and the films of this run do not show is lost less so, at little
    cost to what was learnt (Wortsman et al., Robust fine-tuning of zero-shot models,
    CVPR 2022, arXiv:2109.01903, equation 1 with alpha = 1 - ``share``).
    """
    given = model.network.state_dict()
    with torch.no_grad():
        for name, own in network.state_dict().items():
            if own.is_floating_point():
                own.lerp_(given[name].to(own.device), share)


def _maps_of(spec: ModelSpec, config: TrainConfig) -> list[str]:
    """Return what each channel of a model draws, by name."""
    rule = spec.decoding.instances or config.cells.rule
    return _names(spec.labels.kind, spec.labels.names, rule)


def _maps(config: TrainConfig) -> list[str]:
    return _names(config.labels.kind, config.labels.names, config.cells.rule)


def _names(kind: Kind, names: Sequence[str], rule: InstanceRule) -> list[str]:
    if kind == "instances":
        return list(MAPS[rule.method])
    return ["background", *names] if kind == "exclusive" else list(names)


def _heads(config: TrainConfig) -> dict[str, tuple[int, ...]]:
    """Return the tensors that have an entry a label, with the axes that count them."""
    less, more = (_shapes(config, config.channels + k) for k in (0, 1))
    return {
        name: tuple(i for i, n in enumerate(shape) if n != more[name][i])
        for name, shape in less.items()
        if shape != more[name]
    }


def _shapes(config: TrainConfig, channels: int) -> dict[str, torch.Size]:
    given = {"in_channels": 1, "out_channels": channels}
    with torch.device("meta"):
        network = build(config.network.name, {**config.network.arguments, **given})
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def _check_kind(model: Model, config: TrainConfig) -> None:
    spec = model.spec
    for what, its, wanted in (
        ("the network", spec.network.name, config.network.name),
        ("labels of kind", spec.labels.kind, config.labels.kind),
    ):
        if its != wanted:
            problem = f"{model.folder.name} has {what} {its}, this run {wanted}"
            raise ConfigError(FIELD, problem, "Choose the same, or another model")
    given, own = (
        {k: v for k, v in arguments.items() if k not in _FREE}
        for arguments in (spec.network.arguments, config.network.arguments)
    )
    if json.dumps(given, sort_keys=True) != json.dumps(own, sort_keys=True):
        problem = f"{model.folder.name} has network.arguments {given}, this run {own}"
        raise ConfigError(FIELD, problem, "Use those of the model")


def _check_shape(
    model: Model, name: str, given: Tensor | None, own: Tensor, axes: Sequence[int]
) -> None:
    def apart_from_labels(tensor: Tensor) -> list[int]:
        return [n for i, n in enumerate(tensor.shape) if i not in axes]

    if given is None or apart_from_labels(given) != apart_from_labels(own):
        theirs = "none" if given is None else list(given.shape)
        problem = f"{model.folder.name} has {theirs} as {name}"
        problem += f", this run's network {list(own.shape)}"
        raise ConfigError(FIELD, problem, "Choose a model of grey images")


def _grid(
    tensor: Tensor, axes: Sequence[int], rows: Sequence[int], channels: int
) -> tuple[Tensor, ...]:
    """Return an index of the entries of ``rows`` along ``axes``, of all along others.

    A channel may have several entries, one after the other, as before a pixel shuffle.
    """
    lines = []
    for i, n in enumerate(tensor.shape):
        if i in axes and n % channels:
            problem = f"has {n} entries in a tensor that draw {channels} labels"
            raise ConfigError(FIELD, problem, "Learn the model's labels, in its order")
        entries = np.arange(n).reshape(channels if i in axes else 1, -1)
        lines.append(entries[rows if i in axes else 0].ravel())
    return tuple(torch.from_numpy(x) for x in np.ix_(*lines))

"""The parts of a model's spec: frozen values that check themselves."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from medseg.errors import ConfigError
from medseg.instances import InstanceRule
from medseg.networks import NETWORKS
from medseg.schema import parse, suggest

# Names become parts of file names and of reports.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def require(condition: bool, name: str, problem: str, remedy: str = "") -> None:
    """Raise a ConfigError about ``name`` unless ``condition`` holds."""
    if not condition:
        raise ConfigError(name, problem, remedy)


@dataclass(frozen=True)
class Network:
    """A network of :data:`medseg.networks.NETWORKS` and its constructor arguments.

    Raises:
        ConfigError: If the name or an argument is unknown, or a value has the wrong
            type or range.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in NETWORKS:
            remedy = suggest(self.name, NETWORKS)
            raise ConfigError("network.name", f"no network {self.name!r}", remedy)
        constructor = NETWORKS[self.name].__init__
        hints = typing.get_type_hints(constructor)
        for key, value in self.arguments.items():
            where = f"network.arguments.{key}"
            known = [name for name in hints if name != "return"]
            require(key in known, where, "is an unknown key", suggest(key, known))
            _check_argument(hints[key], value, where)

    def argument(self, name: str) -> Any:
        """Return the value of an argument, its default if it is not given."""
        constructor = NETWORKS[self.name].__init__
        default = inspect.signature(constructor).parameters[name].default
        return self.arguments.get(name, default)


def _check_argument(kind: Any, value: Any, where: str) -> None:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        if value is not None:
            _check_argument(typing.get_args(kind)[0], value, where)
        return
    if typing.get_origin(kind) is Sequence:
        good = isinstance(value, (list, tuple)) and 1 <= len(value) <= 16
        require(good, where, f"is {str(value)[:40]}", "Give a list of 1 to 16")
        for item in value:
            _check_argument(typing.get_args(kind)[0], item, where)
        return
    value = parse(kind, value, where)
    if type(value) in (int, float):
        top = 3 if where.endswith("spatial_dims") else 4096
        low = 1 if type(value) is int else 0
        problem, remedy = f"is {value}", f"Use a value from {low} to {top}"
        require(low <= value <= top, where, problem, remedy)


@dataclass(frozen=True)
class Inference:
    """How an image meets the network.

    ``resize``: as a whole, stretched to ``size`` by the preprocessing step Resize.
    ``sliding_window``: at its own resolution, in windows of ``size`` that share
    ``overlap`` of their length, ``batch`` at a time, blended by a Gaussian.

    ``precision`` is the lowest that OpenVINO may use on a processor that has it:
    ``bfloat16`` where training found the labels equal to those of float32 on at
    least 99.99 % of the pixels of the cases held back. ``exact_layers`` of its
    convolutions, counted from the input, stay in float32 all the same.

    ``diameter`` is that of the cells the network was trained on, in pixels: an image
    with cells of another size can be scaled to it.
    """

    mode: Literal["resize", "sliding_window"]
    size: tuple[int, ...]
    overlap: float = 0.25
    batch: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    exact_layers: int = 0
    diameter: float | None = None

    def __post_init__(self) -> None:
        good = len(self.size) in (2, 3) and all(1 <= n <= 4096 for n in self.size)
        remedy = "Give 2 or 3 sizes from 1 to 4096"
        require(good, "inference.size", f"is {list(self.size)}", remedy)
        problem = f"is {self.overlap}"
        require(0 <= self.overlap <= 0.9, "inference.overlap", problem, "Use 0 to 0.9")
        problem = f"is {self.batch}"
        require(1 <= self.batch <= 256, "inference.batch", problem, "Use 1 to 256")
        where, problem = "inference.exact_layers", f"is {self.exact_layers}"
        require(0 <= self.exact_layers <= 16, where, problem, "Use 0 to 16")
        good = self.diameter is None or 1 <= self.diameter <= 4096
        problem = f"is {self.diameter}"
        require(good, "inference.diameter", problem, "Use 1 to 4096 pixels")


@dataclass(frozen=True)
class Cleaning:
    """A rule about the shape of structures, applied in the order of the list.

    ``n`` pieces stay (``keep_largest``); pieces of fewer than ``min_size`` pixels of
    the network's grid go (``remove_small``).
    """

    name: Literal["keep_largest", "fill_holes", "remove_small"]
    structures: tuple[str, ...]
    n: int = 1
    min_size: int = 0

    def __post_init__(self) -> None:
        require(self.n >= 1, "decoding.steps.n", f"is {self.n}", "Use 1 or more")
        where, problem = "decoding.steps.min_size", f"is {self.min_size}"
        require(self.min_size >= 0, where, problem, "Use 0 or more")


@dataclass(frozen=True)
class Decoding:
    """From probabilities to labels.

    ``argmax`` for exclusive labels; ``threshold`` for overlapping ones: a structure
    is where its probability exceeds its threshold (one each, or one for all);
    ``instances`` for cells, by the rule of that name.
    """

    name: Literal["argmax", "threshold", "instances"]
    thresholds: tuple[float, ...] = (0.5,)
    steps: tuple[Cleaning, ...] = ()
    instances: InstanceRule | None = None

    def __post_init__(self) -> None:
        good = all(0 < t < 1 for t in self.thresholds)
        problem = f"has {list(self.thresholds)}"
        require(good, "decoding.thresholds", problem, "Use values between 0 and 1")
        both = (self.name == "instances") == (self.instances is not None)
        problem = f"is {'missing' if self.instances is None else 'given'}"
        remedy = "Give it for the decoding 'instances' and for no other"
        require(both, "decoding.instances", f"{problem} for {self.name!r}", remedy)


@dataclass(frozen=True)
class Flip:
    """A mirror image that the network knows: spatial ``axes`` from 0.

    ``swap`` names pairs of structures that change places, as left and right lung.
    With ``transpose`` the last two axes change places before the mirror: with all
    mirrors and both of these, an image has the eight poses of a square.
    """

    axes: tuple[int, ...]
    swap: tuple[tuple[str, ...], ...] = ()
    transpose: bool | None = None


@dataclass(frozen=True)
class Training:
    """What the weights were trained on; ``facts`` are texts and numbers."""

    data_sets: tuple[str, ...] = ()
    cases: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WeightsFile:
    """The bare name of the weights file beside the spec, and its hash."""

    file: str
    sha256: str

    def __post_init__(self) -> None:
        bare = bool(NAME.fullmatch(self.file)) and ".." not in self.file
        problem = f"is {self.file!r}, which names a file outside its folder; not opened"
        require(bare, "weights.file", problem, "Use a bare file name")
        good = bool(_SHA256.fullmatch(self.sha256))
        problem, remedy = f"is {self.sha256[:20]!r}", "Give 64 hexadecimal digits"
        require(good, "weights.sha256", problem, remedy)


@dataclass(frozen=True)
class SelfTest:
    """What the network says about a built-in ramp of ``size``.

    ``map`` holds the channel of the highest logit (of one channel: whether it is
    above 0) at every ``stride``-th pixel, run-length coded: ``"0*12 3*5"``.
    """

    size: tuple[int, ...]
    stride: int
    map: str

"""What a model is, apart from its weights: a closed JSON schema, and no code."""

from __future__ import annotations

import inspect
import json
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medseg.errors import ConfigError, MedsegError, ModelError
from medseg.labels import LabelSet
from medseg.networks import NETWORKS
from medseg.schema import parse, strict_json, suggest, to_plain
from medseg.transforms import Channels, Preprocessing, Step, build_preprocessing

FORMAT = 1
MAX_SPEC_BYTES = 64 * 1024
MAX_SPEC_DEPTH = 8
MAX_LABELS = 1000
# Names become parts of file names and of reports.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _require(condition: bool, name: str, problem: str, remedy: str = "") -> None:
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
            _require(key in known, where, "is an unknown key", suggest(key, known))
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
        _require(good, where, f"is {str(value)[:40]}", "Give a list of 1 to 16")
        for item in value:
            _check_argument(typing.get_args(kind)[0], item, where)
        return
    value = parse(kind, value, where)
    if type(value) in (int, float):
        top = 3 if where.endswith("spatial_dims") else 4096
        low = 1 if type(value) is int else 0
        problem, remedy = f"is {value}", f"Use a value from {low} to {top}"
        _require(low <= value <= top, where, problem, remedy)


@dataclass(frozen=True)
class Inference:
    """How an image meets the network.

    ``resize``: as a whole, stretched to ``size`` by the preprocessing step Resize.
    ``sliding_window``: at its own resolution, in windows of ``size`` that share
    ``overlap`` of their length, ``batch`` at a time, blended by a Gaussian.

    ``precision`` is the lowest that OpenVINO may use on a processor that has it:
    ``bfloat16`` where training found the labels equal to those of float32 on at
    least 99.99 % of the pixels of the cases held back.
    """

    mode: Literal["resize", "sliding_window"]
    size: tuple[int, ...]
    overlap: float = 0.25
    batch: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        good = len(self.size) in (2, 3) and all(1 <= n <= 4096 for n in self.size)
        remedy = "Give 2 or 3 sizes from 1 to 4096"
        _require(good, "inference.size", f"is {list(self.size)}", remedy)
        problem = f"is {self.overlap}"
        _require(0 <= self.overlap <= 0.9, "inference.overlap", problem, "Use 0 to 0.9")
        problem = f"is {self.batch}"
        _require(1 <= self.batch <= 256, "inference.batch", problem, "Use 1 to 256")


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
        _require(self.n >= 1, "decoding.steps.n", f"is {self.n}", "Use 1 or more")
        where, problem = "decoding.steps.min_size", f"is {self.min_size}"
        _require(self.min_size >= 0, where, problem, "Use 0 or more")


@dataclass(frozen=True)
class Decoding:
    """From probabilities to labels.

    ``argmax`` for exclusive labels; ``threshold`` for overlapping ones: a structure
    is where its probability exceeds its threshold (one each, or one for all).
    """

    name: Literal["argmax", "threshold"]
    thresholds: tuple[float, ...] = (0.5,)
    steps: tuple[Cleaning, ...] = ()

    def __post_init__(self) -> None:
        good = all(0 < t < 1 for t in self.thresholds)
        problem = f"has {list(self.thresholds)}"
        _require(good, "decoding.thresholds", problem, "Use values between 0 and 1")


@dataclass(frozen=True)
class Flip:
    """A mirror image that the network knows: spatial ``axes`` from 0.

    ``swap`` names pairs of structures that change places, as left and right lung.
    """

    axes: tuple[int, ...]
    swap: tuple[tuple[str, ...], ...] = ()


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
        bare = bool(_NAME.fullmatch(self.file)) and ".." not in self.file
        problem = f"is {self.file!r}, which names a file outside its folder; not opened"
        _require(bare, "weights.file", problem, "Use a bare file name")
        good = bool(_SHA256.fullmatch(self.sha256))
        problem, remedy = f"is {self.sha256[:20]!r}", "Give 64 hexadecimal digits"
        _require(good, "weights.sha256", problem, remedy)


@dataclass(frozen=True)
class SelfTest:
    """What the network says about a built-in ramp of ``size``.

    ``map`` holds the channel of the highest logit (of one channel: whether it is
    above 0) at every ``stride``-th pixel, run-length coded: ``"0*12 3*5"``.
    """

    size: tuple[int, ...]
    stride: int
    map: str


@dataclass(frozen=True)
class ModelSpec:
    """Network, labels, preprocessing, decoding, origin and scores of a model.

    ``channels`` says how an image is turned into the network's input channels.
    ``weights`` and ``self_test`` are filled in when the model is saved.

    Raises:
        ConfigError: If a value is out of range or parts disagree; names the field.
    """

    name: str
    network: Network
    labels: LabelSet
    preprocessing: tuple[Step, ...]
    inference: Inference
    decoding: Decoding
    channels: Channels = "grey"
    flips: tuple[Flip, ...] = ()
    version: str = "1"
    description: str = ""
    training: Training = Training()
    scores: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    citation: str = ""
    weights: WeightsFile | None = None
    self_test: SelfTest | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        problem, remedy = f"is {self.format}", f"This program knows {FORMAT}"
        _require(self.format == FORMAT, "format", problem, remedy)
        remedy = "Use up to 64 letters, digits, spaces, dots and dashes"
        for where, text in (("name", self.name), ("version", self.version)):
            _require(bool(_NAME.fullmatch(text)), where, f"is {text[:64]!r}", remedy)
        self._check_labels()
        self._check_channels()
        self._check_steps()
        self._check_decoding()
        self._check_flips()
        _check_numbers(self.scores, "scores")
        _check_numbers(self.training.facts, "training.facts", text=True)

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.inference.size)

    @property
    def in_channels(self) -> int:
        """Channels of the network's input."""
        return int(self.network.argument("in_channels"))

    def build_preprocessing(self) -> Preprocessing:
        """Return the preprocessing as a function of pixels."""
        return build_preprocessing(self.preprocessing)

    def _check_labels(self) -> None:
        n = len(self.labels)
        good, problem = 1 <= n <= MAX_LABELS, f"has {n} structures"
        _require(good, "labels.labels", problem, f"Use 1 to {MAX_LABELS}")
        for label in self.labels:
            good, problem = bool(_NAME.fullmatch(label.name)), f"is {label.name[:64]!r}"
            remedy = "Use up to 64 letters, digits, spaces, dots and dashes"
            _require(good, "labels.name", problem, remedy)
            good = bool(_COLOUR.fullmatch(label.colour))
            _require(good, "labels.colour", f"is {label.colour[:20]!r}", "Use #rrggbb")
            good, problem = label.value < 2**31, f"is {label.value}"
            _require(good, "labels.value", problem, "Use values below 2^31")

    def _check_channels(self) -> None:
        have = self.network.argument("out_channels")
        wanted = self.labels.output_channels
        problem = (
            f"is {have}, {len(self.labels)} {self.labels.kind} labels need {wanted}"
        )
        _require(have == wanted, "network.arguments.out_channels", problem)
        wanted = {"grey": 1, "rgb": 3}.get(self.channels, self.in_channels)
        problem = f"is {self.in_channels}, channels {self.channels!r} gives {wanted}"
        _require(self.in_channels == wanted, "network.arguments.in_channels", problem)
        dims = self.network.argument("spatial_dims")
        problem = f"has {self.spatial_dims} axes, the network {dims}"
        _require(dims == self.spatial_dims, "inference.size", problem)

    def _check_steps(self) -> None:
        sizes = [
            list(step.arguments["spatial_size"])
            for step in self.preprocessing
            if step.name == "Resize"
        ]
        wanted = [list(self.inference.size)] if self.inference.mode == "resize" else []
        problem = f"has Resize steps {sizes}, inference needs {wanted}"
        _require(sizes == wanted, "preprocessing", problem)

    def _check_decoding(self) -> None:
        wanted = {"exclusive": "argmax", "overlapping": "threshold"}.get(
            self.labels.kind
        )
        problem = f"is {self.decoding.name!r} for {self.labels.kind} labels"
        good = self.decoding.name == wanted
        _require(good, "decoding.name", problem, f"Use {wanted}")
        n = len(self.decoding.thresholds)
        problem = f"has {n} values for {len(self.labels)} structures"
        _require(n in (1, len(self.labels)), "decoding.thresholds", problem)
        for step in self.decoding.steps:
            for name in step.structures:
                self._check_structure(name, "decoding.steps.structures")

    def _check_structure(self, name: str, where: str) -> None:
        names = self.labels.names
        _require(name in names, where, f"no structure {name!r}", suggest(name, names))

    def _check_flips(self) -> None:
        for flip in self.flips:
            axes = set(flip.axes)
            good = bool(axes) and axes <= set(range(self.spatial_dims))
            remedy = f"Use axes from 0 to {self.spatial_dims - 1}"
            _require(good, "flips.axes", f"is {list(flip.axes)}", remedy)
            for pair in flip.swap:
                problem = f"is {list(pair)}"
                _require(len(pair) == 2, "flips.swap", problem, "Give pairs of names")
                for name in pair:
                    self._check_structure(name, "flips.swap")

    def to_json(self) -> str:
        """Return the spec as JSON text; :meth:`from_json` reads it."""
        return json.dumps(to_plain(self), indent=1, allow_nan=False) + "\n"

    @staticmethod
    def from_json(data: bytes | str, subject: object = "model.json") -> ModelSpec:
        """Read a spec.

        Raises:
            ModelError: If it is no JSON of this schema; names the field, and the
                near key for one that is unknown.
        """
        data = data.encode() if isinstance(data, str) else data
        table = strict_json(data, subject, limit=MAX_SPEC_BYTES, depth=MAX_SPEC_DEPTH)
        found = table.get("format") if isinstance(table, dict) else None
        if type(found) is int and found > FORMAT:
            problem = f"has format {found}, newer than this program knows ({FORMAT})"
            raise ModelError(subject, problem, "Update medseg")
        try:
            spec: ModelSpec = parse(ModelSpec, table, "")
        except MedsegError as error:
            problem = f"{error.subject} {error.problem}"
            raise ModelError(subject, problem, error.remedy) from error
        return spec


def _check_numbers(value: Any, where: str, text: bool = False) -> None:
    """Require nested tables of finite numbers (and short texts)."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_numbers(item, f"{where}.{key}", text)
        return
    if text and isinstance(value, (str, bool)):
        return
    good = type(value) in (int, float) and math.isfinite(value)
    remedy = "Give a finite number, or leave it out"
    _require(good, where, f"is {str(value)[:40]!r}", remedy)


def read_spec(path: Path, data: bytes) -> ModelSpec:
    """Return the spec in ``data`` of a saved model.

    Raises:
        ModelError: As :meth:`ModelSpec.from_json`, or if it names no weights or
            carries no self-test.
    """
    spec = ModelSpec.from_json(data, path)
    for name in ("weights", "self_test"):
        if getattr(spec, name) is None:
            raise ModelError(path, f"{name} is missing", "Save the model again")
    return spec

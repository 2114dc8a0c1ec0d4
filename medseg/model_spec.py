"""What a model is, apart from its weights: a closed JSON schema, and no code."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.channels import Channels
from medseg.errors import MedsegError, ModelError
from medseg.labels import LabelSet
from medseg.model_files import MAX_SPEC_BYTES, MAX_SPEC_DEPTH
from medseg.model_parts import (
    NAME,
    Cleaning,
    Decoding,
    Flip,
    Inference,
    Network,
    SelfTest,
    Training,
    WeightsFile,
    require,
)
from medseg.schema import parse, strict_json, suggest, to_plain
from medseg.transforms import Preprocessing, Step, build_preprocessing

FORMAT = 1
MAX_LABELS = 1000

__all__ = [
    "Cleaning",
    "Decoding",
    "Flip",
    "Inference",
    "ModelSpec",
    "Network",
    "SelfTest",
    "Training",
    "WeightsFile",
    "read_spec",
]


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
    training: Training = field(default_factory=Training)
    scores: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    citation: str = ""
    weights: WeightsFile | None = None
    self_test: SelfTest | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        problem, remedy = f"is {self.format}", f"This program knows {FORMAT}"
        require(self.format == FORMAT, "format", problem, remedy)
        remedy = "Use up to 64 letters, digits, spaces, dots and dashes"
        for where, text in (("name", self.name), ("version", self.version)):
            require(bool(NAME.fullmatch(text)), where, f"is {text[:64]!r}", remedy)
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

    @property
    def output_channels(self) -> int:
        """Maps that the network draws: structures (and background), or of cells."""
        rule = self.decoding.instances
        return self.labels.output_channels if rule is None else rule.channels

    @property
    def is_exclusive(self) -> bool:
        """Whether the maps are probabilities that sum to 1 (softmax)."""
        rule = self.decoding.instances
        if rule is not None:
            return rule.method == "components"
        return self.labels.kind == "exclusive"

    def build_preprocessing(self) -> Preprocessing:
        """Return the preprocessing as a function of pixels."""
        return build_preprocessing(self.preprocessing)

    def _check_labels(self) -> None:
        n = len(self.labels)
        good, problem = 1 <= n <= MAX_LABELS, f"has {n} structures"
        require(good, "labels.labels", problem, f"Use 1 to {MAX_LABELS}")
        for label in self.labels:
            good, problem = bool(NAME.fullmatch(label.name)), f"is {label.name[:64]!r}"
            remedy = "Use up to 64 letters, digits, spaces, dots and dashes"
            require(good, "labels.name", problem, remedy)
            good, problem = label.value < 2**31, f"is {label.value}"
            require(good, "labels.value", problem, "Use values below 2^31")

    def _check_channels(self) -> None:
        have = self.network.argument("out_channels")
        wanted = self.output_channels
        problem = (
            f"is {have}, {len(self.labels)} {self.labels.kind} labels need {wanted}"
        )
        require(have == wanted, "network.arguments.out_channels", problem)
        wanted = {"grey": 1, "rgb": 3}.get(self.channels, self.in_channels)
        problem = f"is {self.in_channels}, channels {self.channels!r} gives {wanted}"
        require(self.in_channels == wanted, "network.arguments.in_channels", problem)
        dims = self.network.argument("spatial_dims")
        problem = f"has {self.spatial_dims} axes, the network {dims}"
        require(dims == self.spatial_dims, "inference.size", problem)

    def _check_steps(self) -> None:
        sizes = [
            list(step.arguments["spatial_size"])
            for step in self.preprocessing
            if step.name == "Resize"
        ]
        wanted = [list(self.inference.size)] if self.inference.mode == "resize" else []
        problem = f"has Resize steps {sizes}, inference needs {wanted}"
        require(sizes == wanted, "preprocessing", problem)

    def _check_decoding(self) -> None:
        wanted = {
            "exclusive": "argmax",
            "overlapping": "threshold",
            "instances": "instances",
        }[self.labels.kind]
        problem = f"is {self.decoding.name!r} for {self.labels.kind} labels"
        good = self.decoding.name == wanted
        require(good, "decoding.name", problem, f"Use {wanted}")
        if self.labels.kind == "instances":
            self._check_instances()
        n = len(self.decoding.thresholds)
        problem = f"has {n} values for {len(self.labels)} structures"
        require(n in (1, len(self.labels)), "decoding.thresholds", problem)
        for step in self.decoding.steps:
            for name in step.structures:
                self._check_structure(name, "decoding.steps.structures")

    def _check_instances(self) -> None:
        n, mode = len(self.labels), self.inference.mode
        problem = f"has {n} names for cells of one kind"
        require(n == 1, "labels.labels", problem, "Give one")
        problem, remedy = f"is {mode!r} for cells", "Use sliding_window"
        require(mode == "sliding_window", "inference.mode", problem, remedy)
        problem, remedy = "has rules about structures", "Use decoding.instances"
        require(not self.decoding.steps, "decoding.steps", problem, remedy)

    def _check_structure(self, name: str, where: str) -> None:
        names = self.labels.names
        require(name in names, where, f"no structure {name!r}", suggest(name, names))

    def _check_flips(self) -> None:
        for flip in self.flips:
            axes = set(flip.axes)
            some = bool(axes) or bool(flip.transpose)
            good = some and axes <= set(range(self.spatial_dims))
            remedy = f"Use axes from 0 to {self.spatial_dims - 1}"
            require(good, "flips.axes", f"is {list(flip.axes)}", remedy)
            square = self.inference.size[-1] == self.inference.size[-2]
            problem = f"is asked for at a size of {list(self.inference.size)}"
            good = square or not flip.transpose
            require(good, "flips.transpose", problem, "Use a square size")
            for pair in flip.swap:
                problem = f"is {list(pair)}"
                require(len(pair) == 2, "flips.swap", problem, "Give pairs of names")
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
    require(good, where, f"is {str(value)[:40]!r}", remedy)


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

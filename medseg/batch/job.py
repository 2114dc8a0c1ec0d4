"""What is the same for every case of a run: predictor, options, output folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from medseg import __version__
from medseg.batch.items import OutputFormat
from medseg.batch.journal import hash_config
from medseg.errors import ConfigError
from medseg.image import Image
from medseg.io import read_image
from medseg.labels import LabelSet
from medseg.segmentation import Segmentation

if TYPE_CHECKING:
    from medseg.predict import CellSize


class StagedPredictor(Protocol):
    """What a batch needs of `medseg.predict.Predictor`."""

    @property
    def models(self) -> Sequence[Any]:
        """Models, each with a spec that names the hash of its weights."""

    @property
    def labels(self) -> LabelSet:
        """Structures of the masks."""

    @property
    def streams(self) -> int:
        """Threads that may call ``infer`` at the same time."""

    @property
    def looks_for_size(self) -> bool:
        """Whether it finds the size of the cells in each image by itself."""

    def cell_size(self, images: Iterable[Image]) -> CellSize:
        """Return the size of the cells in images that are alike."""

    def sized(self, size: CellSize) -> StagedPredictor:
        """Return the same predictor for cells of one size."""

    def describe(self) -> Mapping[str, Any]:
        """Return all that decides a mask, the image apart, as plain data.

        ``model`` and ``engine`` are names, ``model_hash`` is of the weights.
        """

    def prepare(self, image: Image) -> Any:
        """Return the network's input; may run in any thread."""

    def infer(self, prepared: Any) -> Any:
        """Return the network's output; runs in ``streams`` threads at a time."""

    def finish(
        self, prepared: Any, inferred: Any, *, probabilities: bool, uncertainty: bool
    ) -> Segmentation:
        """Return the mask on the image's grid; may run in any thread."""


@dataclass(frozen=True)
class BatchOptions:
    """How a batch runs.

    Args:
        format: Of the masks.
        split_labels: One file a label.
        probabilities: Also write ``NAME_probabilities``.
        uncertainty: Also write ``NAME_uncertainty``.
        report: Also write ``report.html``.
        anonymous_names: Numbers in place of the files' names, in all that is written.
        overwrite: Do every file again, whatever the journal says.
        verify: Compare the hashes of finished outputs, not only their sizes.
        workers: Reader threads, and as many writer threads; 0 does one file after
            the other in the calling thread.
        isolate: Read each file in a child process with a time limit, so that a
            reader that crashes or hangs costs one file.
        time_limit: Seconds for reading one file in a child process.

    Raises:
        ConfigError: If a number is out of range.
    """

    format: OutputFormat = "same"
    split_labels: bool = False
    probabilities: bool = False
    uncertainty: bool = False
    report: bool = False
    anonymous_names: bool = False
    overwrite: bool = False
    verify: bool = False
    workers: int = 2
    isolate: bool = False
    time_limit: float = 300.0

    def __post_init__(self) -> None:
        if not 0 <= self.workers <= 64:
            raise ConfigError("workers", f"is {self.workers}", "Give 0 to 64")
        if not self.time_limit > 0:
            raise ConfigError("time_limit", f"is {self.time_limit}", "Give seconds")

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the maps beside the mask."""
        chosen = {"probabilities": self.probabilities, "uncertainty": self.uncertainty}
        return tuple(name for name, wanted in chosen.items() if wanted)

    def config(self) -> dict[str, Any]:
        """Return the options that change the bytes of the results."""
        return {
            "format": self.format,
            "split_labels": self.split_labels,
            "maps": list(self.maps),
        }


@dataclass(frozen=True)
class Job:
    """What is the same for every case of a run.

    Args:
        out: The output folder.
        predictor: Loaded once.
        options: Of the run.
        config: Hash of all that changes the bytes, the model apart.
        model: Hash of the model.
        facts: What the predictor said of itself before the run.
        read: Reads a file; replaced by a child process with ``isolate``.
        picture: Longest side of the report's pictures, in pixels.
    """

    out: Path
    predictor: StagedPredictor
    options: BatchOptions
    config: str
    model: str
    facts: Mapping[str, Any]
    read: Callable[[Path], Image] = read_image
    picture: int = 512

    @classmethod
    def of(cls, out: Path, predictor: StagedPredictor, options: BatchOptions) -> Job:
        """Return the job of a predictor and its options."""
        facts = dict(predictor.describe())
        config = {"medseg": __version__, **facts, **options.config()}
        # A newer library may change bits, but a run that it cuts in two is one run.
        config.pop("versions", None)
        # The specs hold the hashes of the weights, and all that is done around them.
        specs = [model.spec.to_json() for model in predictor.models]
        model = hash_config({"weights": facts["model_hash"], "specs": specs})
        return cls(out, predictor, options, hash_config(config), model, facts)

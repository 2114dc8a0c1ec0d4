"""One case through its stages: read, prepare, infer, finish, write, measure."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from medseg import __version__
from medseg.batch.journal import Entry, Output, hash_config, hash_file, hash_source
from medseg.batch.plan import Item, OutputFormat, map_name
from medseg.errors import ConfigError, DiskError, FileError, ImageWarning, MedsegError
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.io import read_image, write_image, write_segmentation
from medseg.labels import LabelSet
from medseg.measure import Doubt, assess, chest
from medseg.overlay import thumbnail
from medseg.segmentation import Segmentation

STAGES = ("read", "prepare", "infer", "finish", "write", "measure")
_CHEST = {"right_lung", "left_lung", "heart"}

Row = dict[str, float | str | None]


class StagedPredictor(Protocol):
    """What a batch needs of `medseg.predict.Predictor`."""

    @property
    def models(self) -> Sequence[Any]:
        """Models, each with a spec that names the hash of its weights."""

    @property
    def labels(self) -> LabelSet:
        """Structures of the masks."""

    def describe(self) -> Mapping[str, Any]:
        """Return all that decides a mask, the image apart, as plain data.

        ``model`` and ``engine`` are names, ``model_hash`` is of the weights.
        """

    def prepare(self, image: Image) -> Any:
        """Return the network's input; may run in any thread."""

    def infer(self, prepared: Any) -> Any:
        """Return the network's output; runs in one thread at a time."""

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
    """

    out: Path
    predictor: StagedPredictor
    options: BatchOptions
    config: str
    model: str
    facts: Mapping[str, Any]
    read: Callable[[Path], Image] = read_image

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


@dataclass
class Case:
    """A case on its way; each stage adds to it."""

    item: Item
    sha256: str = ""
    image: Image | None = None
    prepared: Any = None
    output: Any = None
    device: tuple[str, ...] = ()
    thumbnail: bytes = b""
    error: MedsegError | None = None
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


_current = threading.local()
_kept = threading.Lock()
_keepers: list[Any] = []


@contextmanager
def warnings_kept() -> Iterator[None]:
    """Send image warnings to the case in hand in their thread, not to stderr.

    The filters belong to the whole process: the first to come sets them and the
    last to go restores them, in whatever order threads do.
    """
    with _kept:
        if not _keepers:
            _keepers.append(_install_keeper())
        _keepers.append(None)
    try:
        yield
    finally:
        with _kept:
            _keepers.pop()
            if len(_keepers) == 1:
                _keepers.pop().__exit__(None, None, None)


def _install_keeper() -> warnings.catch_warnings[None]:
    filters = warnings.catch_warnings()
    filters.__enter__()
    show = warnings.showwarning

    def keep(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
        case = getattr(_current, "case", None)
        if case is not None and issubclass(category, ImageWarning):
            case.warnings.append(str(message))
        else:
            show(message, category, *rest, **more)

    warnings.simplefilter("always", ImageWarning)
    warnings.showwarning = keep
    return filters


@contextmanager
def _stage(case: Case, name: str) -> Iterator[None]:
    """Time a stage; whatever it raises becomes this case's error, a full disk not."""
    _current.case = case
    start = time.perf_counter()
    try:
        yield
    except DiskError:
        raise
    except FileError as error:
        # The predictor knows the image's name, not its path.
        case.error = FileError(case.item.source, error.problem, error.remedy)
    except MedsegError as error:
        case.error = error
    except OSError as error:
        case.error = FileError(case.item.source, _words(error), "Check the file")
    except MemoryError as error:
        case.error = FileError(
            case.item.source, f"out of memory {error}".rstrip(), "Free memory"
        )
    except Exception as error:
        # A defect of ours or of a library must cost one file, not the run; it is
        # reported as that file's failure, with its type.
        case.error = FileError(
            case.item.source, f"{name} failed: {_words(error)}", "Report this"
        )
        case.error.__cause__ = error
    finally:
        case.seconds[name] = time.perf_counter() - start
        _current.case = None


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__} {text}".strip()


def load(item: Item, job: Job) -> Case:
    """Read and prepare one case."""
    case = Case(item)
    if item.problem:
        case.error = FileError(item.source, item.problem, "Remove it, or repair it")
        return case
    with _stage(case, "read"):
        case.sha256 = hash_source(item)
        case.image = job.read(item.source)
    if case.image is not None:
        with _stage(case, "prepare"):
            case.prepared = job.predictor.prepare(case.image)
    if not job.options.report:
        case.image = None  # not needed for the report's picture
    return case


def infer(case: Case, job: Job) -> None:
    """Run the network on a prepared case."""
    if case.error is None:
        with _stage(case, "infer"):
            case.output = job.predictor.infer(case.prepared)


def save(case: Case, job: Job) -> Entry:
    """Finish and write one case; return its journal entry.

    Raises:
        DiskError: If the disk is full or not writable; nothing half is left.
    """
    segmentation = None
    outputs: tuple[Path, ...] = ()
    measures: Row = {}
    if case.error is None:
        with _stage(case, "finish"):
            segmentation = job.predictor.finish(
                case.prepared,
                case.output,
                probabilities=job.options.probabilities,
                uncertainty=job.options.uncertainty,
            )
    case.prepared = None  # frees what the writer does not need
    if segmentation is not None:
        facts = segmentation.provenance
        case.device = (str(facts.get("device", "")), *facts.get("fallbacks", ()))
        with _stage(case, "write"):
            outputs = _write(segmentation, case.item, job)
        if case.error is None:
            with _stage(case, "measure"):
                measures = measure(segmentation, case.output, job.predictor)
                if case.image is not None:
                    case.thumbnail = thumbnail(case.image, segmentation)
    return _entry(case, outputs, measures, job)


def failure(case: Case, error: MedsegError, job: Job) -> Entry:
    """Return the entry of a case that ``error`` has ended."""
    case.error = error
    return _entry(case, (), {}, job)


def process(item: Item, job: Job, turn: AbstractContextManager[Any]) -> Entry:
    """Take one case through all stages in this thread.

    Args:
        item: The case.
        job: Of the run.
        turn: Held while the network runs.

    Raises:
        DiskError: If the disk is full or not writable.
    """
    case = load(item, job)
    with turn:
        infer(case, job)
    return save(case, job)


def _write(seg: Segmentation, item: Item, job: Job) -> tuple[Path, ...]:
    folder = (job.out / item.outputs[0]).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(
            folder, f"cannot be made ({error.strerror})", "Check the folder"
        ) from error
    if job.options.split_labels:
        written = _write_split(seg, item, job)
    else:
        written = write_segmentation(seg, job.out / item.target, source=item.source)
    for name in job.options.maps:
        pixels = getattr(seg, name)
        if pixels.ndim == seg.geometry.ndim:
            pixels = pixels[None]
        image = Image(pixels, seg.geometry)
        written += (write_image(image, job.out / map_name(item.target, name)),)
    return written


def _write_split(seg: Segmentation, item: Item, job: Job) -> tuple[Path, ...]:
    """Write one file a label: PNGs of 0 and 255, other kinds of 0 and 1."""
    if item.target.endswith(".png"):
        return write_segmentation(seg, job.out / item.target, split_labels=True)
    for label, output in zip(seg.labels, item.outputs, strict=False):
        on = seg.structure(label.name).astype(np.uint8)
        alone = LabelSet((replace(label, value=1),))
        one = Segmentation(on, alone, seg.geometry)
        write_segmentation(one, job.out / output)
    return tuple(job.out / output for output in item.outputs[: len(seg.labels)])


def measure(seg: Segmentation, output: Any, predictor: Any) -> Row:
    """Return the measurements and the doubt of a finished mask, for its table."""
    film = seg.geometry.ndim == 2 and set(seg.labels.names) >= _CHEST
    row = chest.measure(seg).to_row() if film else {}
    doubt = _doubt(seg, output, predictor)
    return {
        **row,
        "doubt": round(doubt.score, 3),
        "message": "; ".join(doubt.reasons),
    }


def _doubt(seg: Segmentation, output: Any, predictor: Any) -> Doubt:
    """Judge how doubtful a mask is, on the network's grid where there is one.

    There the probabilities are at hand, the pieces that cleaning takes away are
    still to be seen, and the pixels are fewer.
    """
    values = getattr(output, "values", None)
    if values is None:
        return assess(seg)
    from medseg.predict.decode import decode

    mask = decode(values, seg.labels, predictor.spec.decoding)
    coarse = Segmentation(mask, seg.labels, Geometry.pixels(values.ndim - 1))
    return assess(coarse, values)


def _entry(
    case: Case, outputs: tuple[Path, ...], measures: Row, job: Job
) -> Entry:
    item = case.item
    return Entry(
        item.name,
        "failed" if case.error else "done",
        job.config,
        job.model,
        item.size,
        item.mtime_ns,
        sha256=case.sha256,
        outputs=tuple(
            Output(
                path.relative_to(job.out).as_posix(),
                path.stat().st_size,
                hash_file(path),
            )
            for path in outputs
        ),
        error=str(case.error) if case.error else "",
        engine=str(job.facts.get("engine", "")),
        device=" ".join(case.device),
        warnings=tuple(case.warnings),
        measures=measures,
        seconds={name: round(value, 4) for name, value in case.seconds.items()},
    )

"""One case through its stages: read, prepare, infer, finish, write, measure."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.batch.items import Item
from medseg.batch.job import Job
from medseg.batch.journal import Entry, Output, hash_source
from medseg.batch.notes import notes_of
from medseg.batch.result import Row, measure, write
from medseg.errors import DiskError, FileError, MedsegError, printable
from medseg.image import Image
from medseg.overlay import thumbnail

STAGES = ("read", "prepare", "infer", "finish", "write", "measure")


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


@contextmanager
def _stage(case: Case, name: str) -> Iterator[None]:
    """Time a stage; whatever it raises becomes this case's error, a full disk not."""
    start = time.perf_counter()
    try:
        with notes_of(case.warnings, case.item.source):
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


def _words(error: Exception) -> str:
    """Return what an exception says, without the paths in it."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else error
    text = " ".join(str(said).split())[:300]
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
        case.warnings += _blank(case.image)
    if case.image is not None:
        with _stage(case, "prepare"):
            case.prepared = job.predictor.prepare(case.image)
    if not job.options.report:
        case.image = None  # not needed for the report's picture
    return case


def _blank(image: Image) -> list[str]:
    """Return a warning of an image in which nothing is to be seen."""
    low, high = image.pixels.min(), image.pixels.max()
    return [f"all pixels are {low:g}: nothing is to be seen"] if low == high else []


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
            outputs = write(segmentation, case.item, job)
        if case.error is None:
            with _stage(case, "measure"):
                measures = measure(segmentation, case.output, job.predictor)
                if case.image is not None:
                    case.thumbnail = thumbnail(case.image, segmentation, job.picture)
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


def _entry(case: Case, outputs: tuple[Path, ...], measures: Row, job: Job) -> Entry:
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
            Output.of(job.out, path.relative_to(job.out).as_posix()) for path in outputs
        ),
        error=_nameless(_error_text(case), item),
        engine=str(job.facts.get("engine", "")),
        device=" ".join(case.device),
        warnings=tuple(_nameless(warning, item) for warning in case.warnings),
        measures=measures,
        seconds={name: round(value, 4) for name, value in case.seconds.items()},
    )


def _nameless(text: str, item: Item) -> str:
    """Return a text with numbers in place of the names of a numbered case's files."""
    if not item.numbered:
        return text
    files = sorted(item.source.iterdir()) if item.source.is_dir() else [item.source]
    numbers = {printable(path.name): str(k) for k, path in enumerate(files, 1)}
    names = "|".join(map(re.escape, sorted(numbers, key=len, reverse=True)))
    # Whole names: slices may be called 1, 2 and 3, and measures are numbers too.
    whole = rf"(?<!\w)(?<!\d\.)({names})(?!\w|\.\d)"
    return re.sub(whole, lambda found: f"file {numbers[found[0]]}", text)


def _error_text(case: Case) -> str:
    """Return the error without the source's path: every table names the case."""
    error = case.error
    if error is None:
        return ""
    return error.text if error.subject == printable(case.item.source) else str(error)

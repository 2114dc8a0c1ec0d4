"""The frames of a movie through the network: instance masks in a work folder."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medseg.batch.job import BatchOptions, Job, StagedPredictor
from medseg.batch.journal import Entry, Journal, Output, hash_file
from medseg.batch.session import Listener, Progress
from medseg.errors import FileError, MedsegError
from medseg.image import Image
from medseg.io.ctc import read_mask_file, write_mask_file

if TYPE_CHECKING:
    from medseg.io.movie import Movie


class Frames(Protocol):
    """What is needed of `medseg.io.movie.Movie`."""

    @property
    def frames(self) -> tuple[int, ...]:
        """Frame numbers."""

    def read(self, i: int) -> Image:
        """Return frame ``i``, from 0."""


@dataclass(frozen=True)
class Segmented:
    """How the frames went.

    Args:
        done: Segmented in this run.
        skipped: Done by an earlier one.
        errors: One line for each frame that failed.
        inputs: Hash of each frame, by its number.
    """

    done: int
    skipped: int
    errors: tuple[str, ...]
    inputs: dict[int, str]


class FrameRun:
    """Segments frames that the journal of the work folder does not know as done.

    Args:
        movie: Frames to read.
        work: Folder of the masks and the journal; made where it is missing.
        predictor: Loaded once; its labels are instances.
        progress: Called after each frame.
    """

    def __init__(
        self,
        movie: Frames,
        work: Path,
        predictor: StagedPredictor,
        progress: Listener,
    ) -> None:
        self._movie, self._work = movie, work
        self._predictor = predictor
        self.job = Job.of(work, predictor, BatchOptions())
        self._journal = Journal(work)
        self._entries = dict(self._journal.read())
        self._progress = progress
        self._lock = threading.Lock()
        self._turn = threading.Semaphore(predictor.streams)
        self._counts: Counter[str] = Counter()
        self._errors: list[tuple[int, str]] = []
        self._inputs: dict[int, str] = {}

    def run(self) -> Segmented:
        """Take all frames through; those that fail do not stop the others.

        Raises:
            DiskError: If the disk is full; what is finished stays.
            KeyboardInterrupt: If the user stopped it; a rerun resumes.
        """
        workers = self._predictor.streams + 1  # one reads while the others compute
        with ThreadPoolExecutor(workers) as pool:
            todo: set[Future[None]] = set()
            try:
                for i in range(len(self._movie.frames)):
                    todo.add(pool.submit(self._frame, i))
                    if len(todo) > workers:  # few frames at a time: memory is flat
                        done, todo = wait(todo, return_when=FIRST_COMPLETED)
                        _raise_first(done)
                _raise_first(wait(todo).done)
            except BaseException:
                for future in todo:
                    future.cancel()
                raise
        errors = tuple(text for _, text in sorted(self._errors))
        inputs = {t: self._inputs[t] for t in sorted(self._inputs)}
        return Segmented(self._counts["done"], self._counts["skipped"], errors, inputs)

    def path(self, number: int) -> Path:
        """Return the file of a frame's instance mask."""
        return self._work / f"frame{number:06d}.tif"

    def masks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield frame number and instance mask of every frame."""
        for number in self._movie.frames:
            yield number, read_mask_file(self.path(number))

    def _frame(self, i: int) -> None:
        number = self._movie.frames[i]
        before = self._entries.get(str(number))
        try:
            entry = self._work_on(i, number, before)
        except FileError as error:
            with self._lock:
                self._errors.append((number, str(error)))
                self._tell("failed", self._entry(number, error=str(error)))
            return
        with self._lock:
            if entry is not before:
                self._journal.append(entry)
            self._tell("skipped" if entry is before else "done", entry)

    def _work_on(self, i: int, number: int, before: Entry | None) -> Entry:
        """Segment one frame; give back its entry of ``before`` if that holds still."""
        image = self._movie.read(i)
        digest = hash_pixels(image.pixels)
        self._inputs[number] = digest
        if before is not None and self._is_done(before, digest):
            return before
        try:
            prepared = self._predictor.prepare(image)
            with self._turn:
                inferred = self._predictor.infer(prepared)
            found = self._predictor.finish(
                prepared, inferred, probabilities=False, uncertainty=False
            )
        except MedsegError as error:
            place = f"frame {number}"
            raise FileError(place, error.problem, error.remedy) from error
        path = self.path(number)
        write_mask_file(path, found.mask)
        output = Output(path.name, path.stat().st_size, hash_file(path))
        return self._entry(number, digest, (output,))

    def _is_done(self, entry: Entry, digest: str) -> bool:
        if entry.status != "done" or entry.sha256 != digest:
            return False
        if (entry.config, entry.model) != (self.job.config, self.job.model):
            return False
        files = [(self._work / o.path, o.sha256) for o in entry.outputs]
        return all(path.is_file() and hash_file(path) == h for path, h in files)

    def _entry(
        self,
        number: int,
        digest: str = "",
        outputs: tuple[Output, ...] = (),
        error: str = "",
    ) -> Entry:
        return Entry(
            str(number),
            "failed" if error else "done",
            self.job.config,
            self.job.model,
            size=0,
            mtime_ns=0,
            sha256=digest,
            outputs=outputs,
            error=error,
        )

    def _tell(self, what: str, entry: Entry) -> None:
        self._counts[what] += 1
        counts, total = self._counts, len(self._movie.frames)
        self._progress(
            Progress(counts["done"], counts["failed"], counts["skipped"], total, entry)
        )


class DrawnRun:
    """Masks that are there already, in the place of a `FrameRun`.

    Args:
        drawn: The masks.
        movie: What is measured and drawn below them.
    """

    def __init__(self, drawn: Movie, movie: Frames) -> None:
        self._drawn, self._movie = drawn, movie

    def run(self) -> Segmented:
        """Read all frames once, for their hashes."""
        inputs = self.inputs()
        return Segmented(len(inputs), 0, (), inputs)

    def inputs(self) -> dict[int, str]:
        """Return the hash of each frame by its number."""
        below = hash_frames(self._movie)
        return {t: hash_pixels(mask) + below.get(t, "") for t, mask in self.masks()}

    def masks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield frame number and instance mask of every frame."""
        for i, number in enumerate(self._drawn.frames):
            yield number, self._drawn.read_labels(i)


def _raise_first(done: set[Future[None]]) -> None:
    for future in done:
        future.result()


def hash_pixels(pixels: NDArray[Any]) -> str:
    """Return the sha256 of dtype, shape and values."""
    digest = sha256(f"{pixels.dtype.str} {pixels.shape} ".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def hash_frames(movie: Frames) -> dict[int, str]:
    """Return the hash of each frame by its number."""
    return {t: hash_pixels(movie.read(i).pixels) for i, t in enumerate(movie.frames)}

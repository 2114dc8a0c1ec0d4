"""A folder of images to a folder of masks: resumable, one bad file costs one file."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import medseg
from medseg.batch import gallery, tables
from medseg.batch.isolate import IsolatedReader
from medseg.batch.journal import Entry, Journal, is_done
from medseg.batch.lock import hold
from medseg.batch.plan import Item, Plan, make_plan
from medseg.batch.work import (
    BatchOptions,
    Case,
    Job,
    StagedPredictor,
    failure,
    infer,
    load,
    save,
    warnings_kept,
)
from medseg.errors import DiskError, ExitCode
from medseg.image import Image
from medseg.io import read_image
from medseg.io.atomic import remove_stale

# Bytes of source files that may be in memory at once; a larger file goes alone.
_AHEAD_BYTES = 128 << 20


@dataclass(frozen=True)
class Progress:
    """How far a run is, after each case."""

    done: int
    failed: int
    skipped: int
    total: int
    entry: Entry | None = None


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Args:
        done: Cases finished in this run.
        failed: Cases that failed.
        skipped: Cases that were done already.
        ignored: Files that are no images.
        seconds: Total time of each stage, over all threads.
        failures: The table of failures, where there is one.
        cancelled: The user stopped the run.
        error: The disk error that stopped it.
    """

    done: int
    failed: int
    skipped: int
    ignored: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    failures: Path | None = None
    cancelled: bool = False
    error: DiskError | None = None

    @property
    def exit_code(self) -> ExitCode:
        """Exit code of the command line."""
        if self.cancelled:
            return ExitCode.CANCELLED
        if self.error is not None:
            return ExitCode.DISK
        return ExitCode.SOME_FAILED if self.failed else ExitCode.DONE

    def __str__(self) -> str:
        line = f"{self.done} done, {self.failed} failed, {self.skipped} skipped"
        return f"{line} (see {self.failures})" if self.failed and self.failures else line


Listener = Callable[[Progress], None]


def run_batch(
    inputs: Sequence[Path | str],
    out: Path | str,
    predictor: StagedPredictor,
    options: BatchOptions = BatchOptions(),
    progress: Listener | None = None,
) -> Summary:
    """Segment files and folders into the folder ``out``.

    Args:
        inputs: Files and folders.
        out: Output folder; mirrors the tree of the inputs.
        predictor: Loaded once, used for all.
        options: How to run.
        progress: Called after each case, from any thread, one at a time.

    Raises:
        PlanError: If the run cannot start; nothing is written.
        LockedError: If another run holds ``out``.
        DiskError: If the disk is full; what is finished stays, and a rerun resumes.
        KeyboardInterrupt: If the user stopped it; a rerun resumes.
    """
    plan = make_plan(
        inputs,
        out,
        predictor.labels,
        format=options.format,
        split_labels=options.split_labels,
        maps=options.maps,
    )
    summary = run_plan(plan, predictor, options, progress)
    if summary.cancelled:
        raise KeyboardInterrupt
    if summary.error is not None:
        raise summary.error
    return summary


def run_plan(
    plan: Plan,
    predictor: StagedPredictor,
    options: BatchOptions = BatchOptions(),
    progress: Listener | None = None,
    execute: Callable[[Run, Sequence[Item]], None] | None = None,
) -> Summary:
    """Run a plan; a full disk and a cancel end it early and are in the summary.

    Args:
        plan: From ``make_plan``.
        predictor: Loaded once.
        options: How to run.
        progress: Called after each case.
        execute: What takes the cases through; by default threads, or with no
            workers a plain loop.

    Raises:
        LockedError: If another run holds the output folder.
        DiskError: If the output folder cannot be made.
    """
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(
            plan.out, f"cannot be made ({error.strerror})", "Choose another folder"
        ) from error
    with hold(plan.out), warnings_kept():
        remove_stale(plan.out)
        job = Job.of(plan.out, predictor, options)
        with _reader(options) as read:
            run = Run(plan, replace(job, read=read), progress or _silent)
            todo = run.skip_done()
            cancelled, stopped = False, None
            try:
                (execute or (_threads if options.workers else _loop))(run, todo)
            except KeyboardInterrupt:
                cancelled = True
            except DiskError as error:
                stopped = error
            return run.close(cancelled, stopped)


@contextmanager
def _reader(options: BatchOptions) -> Iterator[Callable[[Path], Image]]:
    """Give what reads a file: plainly, or in child processes that end here."""
    if not options.isolate:
        yield read_image
        return
    reader = IsolatedReader(options.time_limit)
    try:
        yield reader
    finally:
        reader.close()


class Run:
    """The counts and the journal of a run in progress."""

    def __init__(self, plan: Plan, job: Job, progress: Listener) -> None:
        self.plan = plan
        self.job = job
        self.stop = threading.Event()
        self._progress = progress
        self._journal = Journal(plan.out)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._seconds: Counter[str] = Counter()
        self._thumbnails: dict[str, bytes] = {}

    def skip_done(self) -> list[Item]:
        """Count the cases that need no work; return the others."""
        options, entries = self.job.options, self._journal.read()
        todo = []
        for item in self.plan.items:
            done = not options.overwrite and is_done(
                entries.get(item.name),
                item,
                self.plan.out,
                config=self.job.config,
                model=self.job.model,
                verify=options.verify,
            )
            if done:
                self._counts["skipped"] += 1
            else:
                todo.append(item)
        self._tell(None)
        return todo

    def record(self, entry: Entry) -> None:
        """Journal one case and count it; safe from any thread."""
        with self._lock:
            self._counts[entry.status] += 1
            self._seconds.update(entry.seconds)
            self._journal.append(entry)
            self._tell(entry)

    def load(self, item: Item) -> Case:
        """Read and prepare one case."""
        return load(item, self.job)

    def infer(self, case: Case) -> None:
        """Run the network on it."""
        infer(case, self.job)

    def save(self, case: Case) -> None:
        """Finish, write and record it.

        Raises:
            DiskError: If the disk is full; the case is recorded as failed.
        """
        try:
            entry = save(case, self.job)
            if case.thumbnail:
                self._thumbnails[case.item.name] = case.thumbnail
        except DiskError as error:
            with suppress(DiskError):  # the journal's disk is as full
                self.record(failure(case, error, self.job))
            raise
        self.record(entry)

    def close(self, cancelled: bool, error: DiskError | None) -> Summary:
        """Write the tables and return the counts."""
        failures = None
        try:
            failures = self._write_tables(cancelled or error is not None)
        except DiskError as failed:
            error = error or failed
        return Summary(
            self._counts["done"],
            self._counts["failed"],
            self._counts["skipped"],
            self.plan.ignored,
            dict(self._seconds),
            failures,
            cancelled,
            error,
        )

    def _write_tables(self, early: bool) -> Path:
        out, plan = self.plan.out, self.plan
        entries = self._journal.read()
        failures = tables.write_failures(
            out / tables.FAILURES_NAME, tables.entries_of(plan, entries)
        )
        if early:
            return failures
        tables.write_measurements(
            out / tables.MEASUREMENTS_NAME, tables.entries_of(plan, entries)
        )
        tables.write_run(out / tables.RUN_NAME, self._facts(entries))
        if self.job.options.report:
            gallery.write_gallery(plan, entries, self.job, self._thumbnails)
        return failures

    def _facts(self, entries: Mapping[str, Entry]) -> dict[str, Any]:
        """Return what ran; nothing that differs between a run and its resume."""
        failed = sum(
            e.status == "failed" for e in tables.entries_of(self.plan, entries)
        )
        return {
            "medseg": medseg.__version__,
            "predictor": dict(self.job.facts),
            "options": self.job.options.config(),
            "config_sha256": self.job.config,
            "model_sha256": self.job.model,
            "files": len(self.plan.items),
            "failed": failed,
            "ignored": self.plan.ignored,
        }

    def _tell(self, entry: Entry | None) -> None:
        counts = self._counts
        self._progress(
            Progress(
                counts["done"],
                counts["failed"],
                counts["skipped"],
                len(self.plan.items),
                entry,
            )
        )


def _silent(progress: Progress) -> None:
    pass


def _loop(run: Run, todo: Sequence[Item]) -> None:
    """One case after the other, in the calling thread."""
    for item in todo:
        case = run.load(item)
        run.infer(case)
        run.save(case)


def _threads(run: Run, todo: Sequence[Item]) -> None:
    """Read ahead, infer and write behind at the same time.

    The network runs in a thread of its own, because Python answers to signals only
    between two calls of its main thread, and a forward pass can be a long call.
    """
    problems: list[BaseException] = []

    def body() -> None:
        try:
            _pipeline(run, todo)
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=body, name="medseg-infer", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)
    except KeyboardInterrupt:
        run.stop.set()
        thread.join()
        raise
    if problems:
        raise problems[0]


def _pipeline(run: Run, todo: Sequence[Item]) -> None:
    workers = run.job.options.workers
    writes: deque[Future[None]] = deque()
    with (
        ThreadPoolExecutor(workers, "medseg-read") as readers,
        ThreadPoolExecutor(workers, "medseg-write") as writers,
    ):
        for case in _read_ahead(run, readers, todo):
            run.infer(case)
            writes.append(writers.submit(run.save, case))
            large = case.item.size > _AHEAD_BYTES
            while writes and (large or len(writes) > workers or writes[0].done()):
                writes.popleft().result()
        for write in writes:
            write.result()


def _read_ahead(
    run: Run, readers: ThreadPoolExecutor, todo: Iterable[Item]
) -> Iterator[Case]:
    """Yield loaded cases in order, with a bounded number and size read ahead."""
    queue: deque[tuple[int, Future[Case]]] = deque()
    waiting = deque(todo)
    try:
        while (waiting or queue) and not run.stop.is_set():
            while waiting and _room(run, queue, waiting[0]):
                item = waiting.popleft()
                queue.append((item.size, readers.submit(run.load, item)))
            yield queue.popleft()[1].result()
    finally:
        for _, future in queue:
            future.cancel()


def _room(run: Run, queue: deque[tuple[int, Future[Case]]], item: Item) -> bool:
    if not queue:
        return True
    ahead = item.size + sum(size for size, _ in queue)
    return len(queue) <= run.job.options.workers and ahead <= _AHEAD_BYTES

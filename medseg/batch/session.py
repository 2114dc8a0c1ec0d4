"""A run in progress: its counts, its journal, and the tables at its end."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import medseg
from medseg.batch import gallery, tables
from medseg.batch.items import Item, Plan
from medseg.batch.job import Job
from medseg.batch.journal import Entry, Journal, is_done
from medseg.batch.mended import keep_mended
from medseg.batch.superseded import remove_superseded
from medseg.batch.work import Case, failure, infer, load, save
from medseg.errors import DiskError, ExitCode, MedsegError


@dataclass(frozen=True)
class Progress:
    """How far a run is, after each case; ``source`` is the file of ``entry``."""

    done: int
    failed: int
    skipped: int
    total: int
    entry: Entry | None = None
    source: Path | None = None

    def cancelled(self) -> str:
        """Return the last line of a run that is stopped here."""
        left = self.total - self.done - self.failed - self.skipped
        counts = f"{self.done} done, {self.failed} failed, {self.skipped} skipped"
        return counts + _goes_on(left)


def _goes_on(left: int) -> str:
    return f"; cancelled, {left} left: the same command goes on"


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
        error: What stopped it: a full disk, a worker that is not fit for it.
        left: Cases that it did not reach.
    """

    done: int
    failed: int
    skipped: int
    ignored: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    failures: Path | None = None
    cancelled: bool = False
    error: MedsegError | None = None
    left: int = 0

    @property
    def exit_code(self) -> ExitCode:
        """Exit code of the command line."""
        if self.cancelled:
            return ExitCode.CANCELLED
        if self.error is not None:
            return self.error.exit_code
        return ExitCode.SOME_FAILED if self.failed else ExitCode.DONE

    def __str__(self) -> str:
        line = f"{self.done} done, {self.failed} failed, {self.skipped} skipped"
        if self.failed and self.failures:
            line += f" (see {self.failures})"
        return line + _goes_on(self.left) if self.cancelled else line


Listener = Callable[[Progress], None]


class Run:
    """The counts and the journal of a run in progress."""

    def __init__(self, plan: Plan, job: Job, progress: Listener) -> None:
        self.plan = plan
        self.job = job
        self.stop = threading.Event()
        self._progress = progress
        self._journal = Journal(plan.out)
        self._journal.begin()
        self._earlier = self._journal.read()
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._seconds: Counter[str] = Counter()
        self._thumbnails: dict[str, bytes] = {}

    def skip_done(self) -> list[Item]:
        """Count the cases that need no work; return the others.

        A mask that somebody has mended needs none, see `medseg.batch.mended`.

        Raises:
            DiskError: If that cannot be journalled.
        """
        options, entries = self.job.options, self._earlier
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
            elif options.overwrite or not self._keep(item):
                todo.append(item)
        self._tell()
        return todo

    def _keep(self, item: Item) -> bool:
        """Record a case whose mask was mended; return whether it was."""
        entry = keep_mended(self._earlier, item, self.job)
        if entry is None:
            return False
        entry = self._replace_earlier(item, entry)
        self._counts["skipped" if entry.status == "done" else "failed"] += 1
        self._journal.append(entry)
        self._tell(entry, item.source)
        return True

    def record(self, item: Item, entry: Entry) -> None:
        """Journal one case and count it; safe from any thread.

        Raises:
            DiskError: If that, or removing a mask of another form, fails.
        """
        entry = self._replace_earlier(item, entry)
        with self._lock:
            self._counts[entry.status] += 1
            self._seconds.update(entry.seconds)
            self._journal.append(entry)
            self._tell(entry, item.source)

    def _replace_earlier(self, item: Item, entry: Entry) -> Entry:
        before = self._earlier.last_done(item.name)
        if before is None:
            return entry
        if entry.status == "failed":
            there = any(output.is_there(self.plan.out) for output in before.outputs)
            stays = f"{entry.error} The mask of an earlier run stays"
            return replace(entry, error=stays) if there else entry
        notes = remove_superseded(before, entry, self.plan.out, self._planned)
        if entry.sha256 != before.sha256:
            notes = ("the mask of another image had this name", *notes)
        return replace(entry, warnings=(*entry.warnings, *notes)) if notes else entry

    @cached_property
    def _planned(self) -> frozenset[str]:
        return frozenset(o for item in self.plan.items for o in item.outputs)

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
                self.record(case.item, failure(case, error, self.job))
            raise
        self.record(case.item, entry)

    def close(self, cancelled: bool, error: MedsegError | None) -> Summary:
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
            len(self.plan.items) - self._counts.total(),
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
            out / tables.MEASUREMENTS_NAME,
            tables.entries_of(plan, entries),
            self.job.predictor.labels,
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

    def _tell(self, entry: Entry | None = None, source: Path | None = None) -> None:
        counts = self._counts
        self._progress(
            Progress(
                counts["done"],
                counts["failed"],
                counts["skipped"],
                len(self.plan.items),
                entry,
                source,
            )
        )

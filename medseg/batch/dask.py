"""A run on a Dask cluster: one file, one task, one small dictionary back.

Every worker process loads the models once and needs to see the same paths as the
caller; one that would run another model or write elsewhere ends the run. What a worker
that dies was doing is done again elsewhere; a file that kills several workers fails
alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg import __version__
from medseg.batch.items import Item
from medseg.batch.job import BatchOptions, Job, StagedPredictor
from medseg.batch.journal import Entry
from medseg.batch.notes import warnings_kept
from medseg.batch.work import Case, failure, process
from medseg.errors import ConfigError, DiskError, FileError, MedsegError
from medseg.io.atomic import remove_stale
from medseg.io.lock import LOCK_NAME

if TYPE_CHECKING:
    from medseg.batch.session import Run

Factory = Callable[..., StagedPredictor]

# A worker may run several tasks at once; it loads its one network once.
_loading = threading.Lock()
# Network file systems may show a new file to other machines only after a minute.
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Promise:
    """What the record of a run says of every mask: the workers have to keep it.

    Args:
        model: Hash of the weights and the specs.
        config: Hash of all else that changes the bytes.
        facts: What the predictor says of itself, and the version of medseg.
        lock: What the lock of the output folder holds.
    """

    model: str
    config: str
    facts: Mapping[str, Any]
    lock: bytes

    @classmethod
    def of(cls, job: Job) -> Promise:
        """Return what a job does, in the output folder as this machine sees it."""
        facts = {"medseg": __version__, **job.facts}
        facts.pop("versions", None)  # as for the hash
        return cls(job.model, job.config, facts, _lock(job.out))

    def check(self, job: Job) -> None:
        """Compare with what this machine would do.

        Raises:
            ConfigError: If its masks would be others, or come elsewhere.
        """
        here = Promise.of(job)
        if (here.model, here.config) != (self.model, self.config):
            other = [
                f"{name} {value}, here {self.facts.get(name)}"
                for name, value in here.facts.items()
                if self.facts.get(name) != value
            ]
            raise ConfigError(
                "--dask",
                f"a worker has {'; '.join(other) or 'another spec of the model'}",
                "Give all machines the same medseg, models and kind of processor, and "
                "restart the workers",
            )
        waits_until = time.monotonic() + _PATIENCE_S
        while _lock(job.out) != self.lock:
            if time.monotonic() > waits_until:
                raise ConfigError(
                    job.out,
                    "is another folder where a worker of --dask is",
                    "Give an output folder that all machines share",
                )
            time.sleep(_PATIENCE_S / 100)


def _lock(out: Path) -> bytes:
    with suppress(OSError):
        return (out / LOCK_NAME).read_bytes()
    return b""


@contextmanager
def executor(
    address: str,
    factory: Factory,
    arguments: Mapping[str, Any],
    say: Callable[[str], None] = print,
) -> Iterator[Callable[[Run, Sequence[Item]], None]]:
    """Give what ``run_plan`` takes as ``execute``; the connection ends with the block.

    Args:
        address: Of the Dask scheduler.
        factory: An importable function that loads the predictor in a worker.
        arguments: Of the factory; strings, numbers and tuples.
        say: Takes a line for the user, where there is no worker yet.

    Raises:
        ConfigError: If distributed is not installed, nothing answers, the run's
            options do not go with it, or a worker would do something else.
    """
    client = connect(address)
    key = tuple(sorted(arguments.items()))

    def execute(run: Run, todo: Sequence[Item]) -> None:
        from distributed import as_completed

        check_options(run.job.options)
        if todo and not client.scheduler_info()["workers"]:
            say(f"{address} has no worker yet: waiting for the first")
        # Pictures stay in the workers: the report draws them here, from the files.
        options = replace(run.job.options, report=False)
        futures = {}
        # A worker's folder is another one: relative paths would go elsewhere there.
        out = run.plan.out.absolute()
        promise = Promise.of(run.job)
        for item in todo:
            there = replace(item, source=item.source.absolute())
            future = client.submit(
                task, there, out, factory, key, options, promise, pure=False
            )
            futures[future] = item
        finished = as_completed(list(futures), loop=client.loop)
        try:
            for future in finished:
                item = futures.pop(future)
                run.record(item, _entry(future, item, run))
            remove_stale(out)  # what a worker left that was killed while it wrote
        finally:
            client.cancel(list(futures))

    try:
        yield execute
    finally:
        client.close()


def check_options(options: BatchOptions) -> None:
    """Refuse what a run on a cluster cannot do.

    Raises:
        ConfigError: If files are to be read in child processes.
    """
    if options.isolate:
        raise ConfigError(
            "--isolate",
            "does not go with --dask, whose workers read the files themselves",
            "Leave out one of the two",
        )


def connect(address: str) -> Any:
    """Return a client of the scheduler at ``address``.

    Raises:
        ConfigError: If distributed is not installed or nothing answers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError(
            "dask", "the package distributed is not installed", "Install medseg[dask]"
        ) from error
    try:
        # Not the default: other arrays of the process, such as napari's, stay in it.
        return Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError, TypeError, TimeoutError) as error:
        raise ConfigError(
            "dask", f"no scheduler answers at {address}", "Start dask scheduler there"
        ) from error


def task(
    item: Item,
    out: Path,
    factory: Factory,
    key: tuple[tuple[str, Any], ...],
    options: BatchOptions,
    promise: Promise,
) -> dict[str, Any]:
    """Do one file in a worker; return its journal entry as plain data.

    Raises:
        ModelError: If the model cannot be loaded there.
        ConfigError: If the worker does not do what the run promises.
        DiskError: If the worker cannot write.
    """
    with _loading:
        predictor, turn = _loaded(factory, key, promise.model)
    job = Job.of(out, predictor, options)
    promise.check(job)
    with warnings_kept():
        return process(item, job, turn).to_json()


@lru_cache(maxsize=1)
def _loaded(
    factory: Factory, key: tuple[tuple[str, Any], ...], model: str
) -> tuple[StagedPredictor, threading.Semaphore]:
    """Load what the caller has; a worker lives longer than one state of a model."""
    predictor = factory(**dict(key))
    return predictor, threading.Semaphore(predictor.streams)


def _entry(future: Any, item: Item, run: Run) -> Entry:
    """Return the entry of a finished task, however it ended.

    Raises:
        DiskError: If the disk is full, which ends the run.
        MedsegError: If the worker is not fit for the run, which ends it too.
    """
    try:
        entry = Entry.from_json(future.result())
    except DiskError as error:
        run.record(item, failure(Case(item), error, run.job))
        raise
    except MedsegError:
        raise
    except Exception as error:  # the worker died, the scheduler did, ...
        text = " ".join(f"{type(error).__name__} {error}".split())[:300]
        lost = FileError(item.source, f"its task was lost: {text}", "Run again")
        return failure(Case(item), lost, run.job)
    if entry is None:
        lost = FileError(item.source, "its task gave no journal entry", "Run again")
        return failure(Case(item), lost, run.job)
    return entry

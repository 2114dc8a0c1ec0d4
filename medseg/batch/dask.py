"""A run on a Dask cluster: one file, one task, one small dictionary back.

Every worker process loads the models once and needs to see the same paths as the
caller. What a worker that dies was doing is done again elsewhere; a file that kills
several workers fails alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.batch.items import Item
from medseg.batch.job import BatchOptions, Job, StagedPredictor
from medseg.batch.journal import Entry
from medseg.batch.notes import warnings_kept
from medseg.batch.work import Case, failure, process
from medseg.errors import ConfigError, DiskError, FileError
from medseg.io.atomic import remove_stale

if TYPE_CHECKING:
    from medseg.batch.session import Run

Factory = Callable[..., StagedPredictor]

# A worker may run several tasks at once; it loads its one network once.
_loading = threading.Lock()


@contextmanager
def executor(
    address: str, factory: Factory, arguments: Mapping[str, Any]
) -> Iterator[Callable[[Run, Sequence[Item]], None]]:
    """Give what ``run_plan`` takes as ``execute``; the connection ends with the block.

    Args:
        address: Of the Dask scheduler.
        factory: An importable function that loads the predictor in a worker.
        arguments: Of the factory; strings, numbers and tuples.

    Raises:
        ConfigError: If distributed is not installed, nothing answers, or the run's
            options do not go with it.
    """
    client = connect(address)
    key = tuple(sorted(arguments.items()))

    def execute(run: Run, todo: Sequence[Item]) -> None:
        from distributed import as_completed

        check_options(run.job.options)
        # Pictures stay in the workers: the report draws them here, from the files.
        options = replace(run.job.options, report=False)
        futures = {}
        # A worker's folder is another one: relative paths would go elsewhere there.
        out = run.plan.out.absolute()
        for item in todo:
            there = replace(item, source=item.source.absolute())
            future = client.submit(task, there, out, factory, key, options, pure=False)
            futures[future] = item
        finished = as_completed(list(futures))
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
        return Client(address, timeout=10)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConfigError(
            "dask", f"no scheduler answers at {address}", "Start dask scheduler there"
        ) from error


def task(
    item: Item,
    out: Path,
    factory: Factory,
    key: tuple[tuple[str, Any], ...],
    options: BatchOptions,
) -> dict[str, Any]:
    """Do one file in a worker; return its journal entry as plain data.

    Raises:
        DiskError: If the worker cannot write.
    """
    with _loading:
        predictor, turn = _loaded(factory, key)
    with warnings_kept():
        return process(item, Job.of(out, predictor, options), turn).to_json()


@lru_cache(maxsize=1)
def _loaded(
    factory: Factory, key: tuple[tuple[str, Any], ...]
) -> tuple[StagedPredictor, threading.Semaphore]:
    predictor = factory(**dict(key))
    return predictor, threading.Semaphore(predictor.streams)


def _entry(future: Any, item: Item, run: Run) -> Entry:
    """Return the entry of a finished task, however it ended.

    Raises:
        DiskError: If the disk is full, which ends the run.
    """
    error = future.exception()
    if isinstance(error, DiskError):
        run.record(item, failure(Case(item), error, run.job))
        raise error
    if error is not None:
        text = " ".join(f"{type(error).__name__} {error}".split())[:300]
        lost = FileError(item.source, f"its task was lost: {text}", "Run again")
        return failure(Case(item), lost, run.job)
    entry = Entry.from_json(future.result())
    if entry is None:
        lost = FileError(item.source, "its task gave no journal entry", "Run again")
        return failure(Case(item), lost, run.job)
    return entry

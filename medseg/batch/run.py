"""A folder of images to a folder of masks: resumable, one bad file costs one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from medseg.batch import pipeline
from medseg.batch.gallery import picture_side
from medseg.batch.isolate import IsolatedReader
from medseg.batch.items import Item, Plan
from medseg.batch.job import BatchOptions, Job, StagedPredictor
from medseg.batch.mended import refuse_foreign
from medseg.batch.notes import warnings_kept
from medseg.batch.plan import make_plan
from medseg.batch.session import Listener, Progress, Run, Summary
from medseg.errors import MedsegError
from medseg.image import Image
from medseg.io import read_image
from medseg.io.atomic import make_folder, remove_stale
from medseg.io.lock import hold


def run_batch(
    inputs: Sequence[Path | str],
    out: Path | str,
    predictor: StagedPredictor,
    options: BatchOptions | None = None,
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
    options = options or BatchOptions()
    plan = make_plan(
        inputs,
        out,
        predictor.labels,
        format=options.format,
        split_labels=options.split_labels,
        maps=options.maps,
        anonymous_names=options.anonymous_names,
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
    options: BatchOptions | None = None,
    progress: Listener | None = None,
    execute: Callable[[Run, Sequence[Item]], None] | None = None,
) -> Summary:
    """Run a plan; an error of the whole run (a full disk) or a cancel ends it early.

    Either is in the summary.

    Args:
        plan: From ``make_plan``.
        predictor: Loaded once.
        options: How to run.
        progress: Called after each case.
        execute: What takes the cases through; by default threads, or with no
            workers a plain loop.

    Raises:
        PlanError: If files would be replaced that no run has written.
        LockedError: If another run holds the output folder.
        DiskError: If the output folder cannot be made.
    """
    options = options or BatchOptions()
    if not options.overwrite:
        refuse_foreign(plan)
    make_folder(plan.out)
    with hold(plan.out), warnings_kept():
        remove_stale(plan.out)
        job = Job.of(plan.out, predictor, options)
        with _reader(options) as read:
            job = replace(job, read=read, picture=picture_side(len(plan.items)))
            run = Run(plan, job, progress or _silent)
            todo = run.skip_done()
            cancelled = False
            stopped: MedsegError | None = None
            try:
                (execute or (pipeline.threads if options.workers else pipeline.loop))(
                    run, todo
                )
            except KeyboardInterrupt:
                cancelled = True
            except MedsegError as error:
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


def _silent(progress: Progress) -> None:
    pass

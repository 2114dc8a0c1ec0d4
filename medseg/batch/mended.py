"""Masks that somebody has changed since a run wrote them: they are kept.

A mask that can still be read and is not the one that was written is a person's work,
which a later run must not replace by the model's. One that cannot be read is damaged,
and is written again.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from medseg.batch.items import Item, Plan
from medseg.batch.job import Job
from medseg.batch.journal import JOURNAL_NAME, Entry, Output, hash_file, hash_source
from medseg.batch.masks import MaskFiles, read_masks
from medseg.batch.result import measure_mask
from medseg.errors import MedsegError, PlanError
from medseg.io.lock import LOCK_NAME
from medseg.segmentation import Segmentation

KEPT = "its mask was changed by hand and is kept (--overwrite replaces it)"


def refuse_foreign(plan: Plan) -> None:
    """Check that no file would be replaced that no run of medseg has written.

    Raises:
        PlanError: If the folder holds outputs of the plan and no trace of a run.
    """
    out = plan.out
    if (out / JOURNAL_NAME).exists() or (out / LOCK_NAME).exists():
        return
    there = [o for item in plan.items for o in item.outputs if (out / o).exists()]
    if there:
        raise PlanError(
            out,
            f"{len(there)} of its files would be replaced, such as {there[0]}, and no "
            "run of medseg has written them",
            "Choose another folder, or add --overwrite",
        )


def keep_mended(before: Entry | None, item: Item, job: Job) -> Entry | None:
    """Return what the journal shall say of a case with a mended mask; else None.

    The mask is measured as it is now. Where the image has changed too, the mask is
    kept all the same, and the case fails: nobody knows what the mask belongs to.

    Args:
        before: What the last run that finished the case wrote.
        item: The case.
        job: Of this run.
    """
    if before is None:
        return None
    seg = _mended(before, item, job.out)
    if seg is None:
        return None
    entry = replace(before, config=job.config, model=job.model, mended=True)
    if not _same_source(before, item):
        problem = "its mask was changed by hand, and the image was replaced since"
        remedy = "Move the mask, or add --overwrite"
        return replace(entry, status="failed", error=f"{problem}. {remedy}", outputs=())
    found = [path for path in item.outputs if (job.out / path).is_file()]
    warnings = tuple(dict.fromkeys((*before.warnings, KEPT)))
    measures = measure_mask(seg)
    outputs = tuple(_output(job.out, path) for path in found)
    return replace(entry, outputs=outputs, measures=measures, warnings=warnings)


def _mended(before: Entry, item: Item, out: Path) -> Segmentation | None:
    """Return the mask of a case if it is another one than a model's."""
    masks = set(item.masks)
    written = [output for output in before.outputs if output.path in masks]
    changed = any(_changed(out / output.path, output) for output in written)
    if not written or not (changed or before.mended):
        return None
    with suppress(MedsegError):
        return read_masks(_files(item, out))
    return None


def _changed(path: Path, output: Output) -> bool:
    return path.is_file() and hash_file(path) != output.sha256


def _files(item: Item, out: Path) -> MaskFiles:
    if item.masks == (item.target,):
        return MaskFiles(item.name, whole=out / item.target)
    parts = {Path(path).name.split(".")[0]: out / path for path in item.masks}
    return MaskFiles(item.name, parts=parts)


def _same_source(before: Entry, item: Item) -> bool:
    if before.size != item.size:
        return False
    same = before.mtime_ns == item.mtime_ns and not item.numbered
    with suppress(OSError):  # the reader says what is wrong with it
        return same or hash_source(item) == before.sha256
    return False


def _output(out: Path, path: str) -> Output:
    file = out / path
    return Output(path, file.stat().st_size, hash_file(file))

"""Masks that somebody has changed since a run wrote them: they are kept.

A file in the place of a mask that is not the one that was written is a person's work,
which a later run must not replace by the model's. One that cannot be read is damaged,
and is written again.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from medseg.batch.items import Item, Plan
from medseg.batch.job import Job
from medseg.batch.journal import (
    JOURNAL_NAME,
    Entries,
    Entry,
    Output,
    hash_source,
)
from medseg.batch.notes import notes_of
from medseg.batch.result import measure_mask
from medseg.batch.superseded import ONE_OF_TWO
from medseg.errors import MedsegError, PlanError
from medseg.io import probe, read_image
from medseg.io.lock import LOCK_NAME
from medseg.io.mask_folder import read_masks
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


def keep_mended(entries: Entries, item: Item, job: Job) -> Entry | None:
    """Return what the journal shall say of a case with a person's mask; else None.

    The mask is measured as it is now. Where the image has changed too, the mask is
    kept all the same, and the case fails: nobody knows what the mask belongs to. It
    fails as well if the mask has another size than the image, or if a file is in the
    way that is no mask of the model's labels.

    Args:
        entries: What earlier runs wrote.
        item: The case.
        job: Of this run.
    """
    before = entries.last_done(item.name)
    strange = _strange(entries, item, job.out)
    if not strange and not (before and before.mended):
        return None
    entry = replace(before or _first(item), config=job.config, model=job.model)
    try:
        with notes_of([], item.source):
            seg = read_masks(item.mask_files(job.out), job.predictor.labels)
    except MedsegError as error:
        wrong = [path for path in strange if _is_image(job.out / path)]
        if not wrong:
            return None  # damaged, or gone
        problem = f"{wrong[0]} is not what a run wrote there, and is no mask"
        return _refused(entry, f"{problem} ({error.problem})")
    if seg.provenance and not entry.mended:
        return None  # a model's still: a run died before it could say so
    entry = replace(entry, mended=True)
    if not _same_source(entry, item):
        problem = "its mask was changed by hand, and the image was replaced since"
        return _refused(entry, problem)
    grid = _other_grid(seg, item)
    if grid:
        return _refused(entry, grid)
    found = [path for path in item.outputs if (job.out / path).is_file()]
    earlier = (x for x in entry.warnings if not x.endswith(ONE_OF_TWO))
    warnings = tuple(dict.fromkeys((*earlier, KEPT)))
    measures = measure_mask(seg)
    outputs = tuple(Output.of(job.out, path) for path in found)
    return replace(entry, outputs=outputs, measures=measures, warnings=warnings)


def _strange(entries: Entries, item: Item, out: Path) -> list[str]:
    """Return the files in the place of masks that are not what a run wrote there."""
    there = [path for path in item.masks if (out / path).is_file()]
    known = {path: entries.written(path) for path in there}
    return [p for p, output in known.items() if not (output and output.is_there(out))]


def _first(item: Item) -> Entry:
    """Return the entry of a case that no run has finished."""
    digest = ""
    with suppress(OSError):  # the reader says what is wrong with it
        digest = hash_source(item)
    return Entry(item.name, "done", "", "", item.size, item.mtime_ns, digest)


def _refused(entry: Entry, problem: str) -> Entry:
    error = f"{problem}. Move the mask, or add --overwrite"
    return replace(entry, status="failed", error=error, outputs=())


def _other_grid(seg: Segmentation, item: Item) -> str:
    """Return what is wrong with a mask of another size than its image, else nothing."""
    with suppress(MedsegError), notes_of([], item.source):
        image = probe(item.source).shape[1:]
        slices = image[1:] if len(image) == 3 and image[0] == 1 else image
        if seg.as_film().spatial_shape != slices:
            mask = seg.spatial_shape
            return (
                f"its mask was changed by hand and has size {mask}, the image {image}"
            )
    return ""


def _is_image(path: Path) -> bool:
    with suppress(MedsegError), notes_of([], path):
        read_image(path, stored=True)
        return True
    return False


def _same_source(entry: Entry, item: Item) -> bool:
    if entry.size != item.size:
        return False
    same = entry.mtime_ns == item.mtime_ns and not item.numbered
    with suppress(OSError):  # the reader says what is wrong with it
        return same or hash_source(item) == entry.sha256
    return False

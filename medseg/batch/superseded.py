"""Masks that an earlier run wrote for a case, and this one in another form.

With both in one folder nobody can tell later which of the two counts.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path, PurePosixPath

from medseg.batch.journal import Entry, hash_file
from medseg.io.atomic import write_error
from medseg.io.mask_folder import MAPS, stem

ONE_OF_TWO = "remove one of them"
"""What the line about a file that stays ends with; of that run alone."""


def remove_superseded(
    before: Entry | None, entry: Entry, out: Path, kept: Collection[str]
) -> tuple[str, ...]:
    """Remove the files of ``before`` that ``entry`` has written in another form.

    A mask is one, whatever its number of files: it goes if all of them still have the
    recorded bytes and no person has mended it. A map goes by itself, where the case has
    a new one of its kind, or another model or image was run.

    Args:
        before: What an earlier run left of the case.
        entry: The case now.
        out: The output folder.
        kept: Outputs that the cases of this run have.

    Returns:
        A line for each mask or map that stays because somebody has changed it.

    Raises:
        DiskError: If a file cannot be removed.
    """
    if before is None or entry.status != "done":
        return ()
    new = {output.path for output in entry.outputs}
    kinds = set(map(_kind, new))
    other = (before.model, before.sha256) != (entry.model, entry.sha256)
    stale = other and not entry.mended  # nothing was run on a mask that is kept
    there = [
        output
        for output in before.outputs
        if output.path not in new | set(kept) and (out / output.path).is_file()
    ]
    masks = [x for x in there if _kind(x.path) == "mask"]
    maps = [x for x in there if x not in masks and (stale or _kind(x.path) in kinds)]
    notes = []
    for files in (masks, *([x] for x in maps)):
        changed = [x.path for x in files if hash_file(out / x.path) != x.sha256]
        if files is masks and before.mended:
            changed = changed or [x.path for x in files]
        if changed:
            notes.append(
                f"{changed[0]} of an earlier run was changed since and stays beside "
                f"{entry.outputs[0].path}; {ONE_OF_TWO}"
            )
        else:
            for x in files:
                _remove(out, out / x.path)
    return tuple(notes)


def _remove(out: Path, path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise write_error(path, error) from error
    if path.parent != out:
        with suppress(OSError):  # not empty
            path.parent.rmdir()


def _kind(path: str) -> str:
    own = stem(PurePosixPath(path).name)
    return next((ending for ending in MAPS if own.endswith(ending)), "mask")

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


def remove_superseded(
    before: Entry | None, entry: Entry, out: Path, kept: Collection[str]
) -> tuple[str, ...]:
    """Remove the files of ``before`` that ``entry`` has written in another form.

    Only files that still have the recorded bytes are removed, and none that a person
    has mended; maps where the case has a new one of the same kind, or is of another
    model or image now.

    Args:
        before: What an earlier run left of the case.
        entry: The case now.
        out: The output folder.
        kept: Outputs that the cases of this run have.

    Returns:
        A line for each file that stays because somebody has changed it.

    Raises:
        DiskError: If a file cannot be removed.
    """
    if before is None or entry.status != "done":
        return ()
    new = {output.path for output in entry.outputs}
    kinds = set(map(_kind, new))
    stale = (before.model, before.sha256) != (entry.model, entry.sha256)
    notes = []
    for old in before.outputs:
        path = out / old.path
        replaced = old.path not in new and (stale or _kind(old.path) in kinds)
        if not replaced or old.path in kept or not path.is_file():
            continue
        if before.mended or hash_file(path) != old.sha256:
            notes.append(
                f"{old.path} of an earlier run was changed since and stays beside "
                f"{entry.outputs[0].path}; remove one of them"
            )
            continue
        try:
            path.unlink()
        except OSError as error:
            raise write_error(path, error) from error
        if path.parent != out:
            with suppress(OSError):  # not empty
                path.parent.rmdir()
    return tuple(notes)


def _kind(path: str) -> str:
    own = stem(PurePosixPath(path).name)
    return next((ending for ending in MAPS if own.endswith(ending)), "mask")

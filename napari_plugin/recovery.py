"""Find the journals of a napari that died, and give its masks back.

No Qt here. Journals lie in a folder of this user's, beside nothing of the images.
"""

from __future__ import annotations

import itertools
import os
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, is_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import FileError, MedsegError
from medseg.geometry import Geometry
from medseg.labels import LabelSet
from medseg.napari_plugin import history
from medseg.napari_plugin.file_state import fingerprint
from medseg.napari_plugin.layers import PLACE, colours, facts, facts_of, read_from
from medseg.napari_plugin.mask_journal import (
    Header,
    Journal,
    is_open,
    read_header,
    read_journal,
)
from medseg.schema import parse

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

SUFFIX = ".maskjournal"
_NAMED = ("units", "axis_labels")
_PLACED = tuple(key for key in PLACE if key not in _NAMED)
_number = itertools.count()


def state_folder() -> Path:
    """Return the folder of the journals, made if need be, for this user alone.

    ``MEDSEG_STATE`` names another one.
    """
    named = os.environ.get("MEDSEG_STATE")
    if named:
        folder = Path(named)
    elif sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA", Path.home())) / "medseg"
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support" / "medseg"
    else:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        folder = Path(state) / "medseg"
    folder = folder / "masks"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def new_journal_path() -> Path:
    """Return a path for a journal of this process that is not taken."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"{stamp}-{os.getpid()}-{next(_number)}{SUFFIX}"
    return state_folder() / name


@cache
def process_start() -> float:
    """Return when this process started, in seconds since 1970."""
    import psutil

    return float(psutil.Process().create_time())


def is_alive(path: Path, header: Header) -> bool:
    """Return whether the process that wrote the journal still runs.

    Of another machine's process only the lock on its open journal tells; where files
    cannot be locked it counts as running.
    """
    held = is_open(path)
    if header.host not in ("", socket.gethostname()):
        return held is not False
    return bool(held) or _runs(header)


def _runs(header: Header) -> bool:
    import psutil

    try:
        started = psutil.Process(header.pid).create_time()
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False
    return abs(started - header.started) < 2  # else the number was given out again


@dataclass(frozen=True)
class Found:
    """A journal whose mask can be given back."""

    path: Path
    header: Header

    @property
    def title(self) -> str:
        """One line for a list: which mask of which image, from when."""
        image = Path(self.header.image_path).name
        when = time.strftime("%d %b %H:%M", time.localtime(self.path.stat().st_mtime))
        return f"{self.header.name} on {image or 'an unsaved image'}, {when}"


def find_lost(folder: Path | None = None) -> tuple[Found, ...]:
    """Return the journals of processes that are gone, oldest first.

    Files that are no journals are left alone and not listed.
    """
    found = []
    for path in (folder or state_folder()).glob(f"*{SUFFIX}"):
        with suppress(FileError):  # cut off before its first stroke: nothing to lose
            header = read_header(path)
            if not is_alive(path, header):
                found.append(Found(path, header))
    return tuple(sorted(found, key=lambda one: one.header.created))


def discard(found: Found) -> None:
    """Delete a journal: the person does not want its mask."""
    found.path.unlink(missing_ok=True)


def restore(viewer: ViewerModel, found: Found) -> tuple[Labels, str]:
    """Give a mask back: into its open layer as one undo step, else as a new layer.

    Where its file has changed since, or is read as it is shown, it is a new layer, which
    a save puts elsewhere.
    The journal stays; `discard` it when the mask is safe again.

    Returns:
        The layer, and a remark for the person, empty if all is as it was.

    Raises:
        FileError: If the journal cannot be read, or needs a mask file that is gone
            or has changed.
    """
    header = found.header
    journal = _replay(viewer, found)
    layer = _layer_for(viewer, journal)
    remarks = []
    if not journal.complete:
        remarks.append("the last change was cut off and is lost")
    if header.base == "zeros" and not journal.whole:
        remarks.append("parts of the mask had not been kept yet")
    if header.image_path and not _same(header.image_path, header.image_print):
        remarks.append(f"{Path(header.image_path).name} has changed or is gone")
    if layer is not None:
        history.apply_mask(layer, journal.mask)
    else:
        layer = add_layer(viewer, journal)
    return layer, "; ".join(remarks)


def add_layer(viewer: ViewerModel, journal: Journal) -> Labels:
    """Add the mask of a journal as a new layer, where it lay and in its colours.

    Raises:
        FileError: If the journal's header makes no sense.
    """
    meta = journal.header.meta
    words = meta.get("placed", {})
    placed: dict[str, Any] = {k: np.asarray(words[k]) for k in _PLACED if k in words}
    placed |= {k: tuple(words[k]) for k in _NAMED if k in words}
    try:
        known = _facts(meta["facts"], journal.header) if meta.get("facts") else {}
        layer = viewer.add_labels(
            journal.mask, name=journal.header.name, metadata=known, **placed
        )
    except (MedsegError, KeyError, TypeError, ValueError) as error:
        problem = f"has a bad header ({error})"
        raise FileError(journal.header.name, problem, "Discard it") from error
    labels, structure = facts_of(layer).get("labels"), facts_of(layer).get("structure")
    if labels is not None and labels.kind != "instances":
        layer.colormap = colours(labels, structure=structure)
    return layer


def describe(layer: Labels) -> dict[str, Any]:
    """Return where a layer lies and what its values mean, as JSON can hold it."""
    placed = {word: np.asarray(getattr(layer, word)).tolist() for word in _PLACED}
    placed |= {word: [str(x) for x in getattr(layer, word)] for word in _NAMED}
    return {"placed": placed, "facts": plain(facts_of(layer))}


def plain(value: Any) -> Any:
    """Return what JSON can hold of a value; None for other parts."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool) else None


def _facts(table: dict[str, Any], header: Header) -> dict[str, Any]:
    labels, geometry = table.get("labels"), table["geometry"]
    return facts(
        None if geometry is None else parse(Geometry, geometry, "geometry"),
        labels=None if labels is None else parse(LabelSet, labels, "labels"),
        structure=table.get("structure"),
        group=table.get("group"),
        source=table.get("source"),
        path=header.mask_path if _free(header) and not _read_only(header) else None,
        provenance=table.get("provenance"),
        meta=table.get("meta"),
        frames=table.get("frames"),
    )


def _layer_for(viewer: ViewerModel, journal: Journal) -> Labels | None:
    """Return the layer that a mask goes back into; None where that is a new one.

    A layer of a file that has changed since may show what others mended there, and one
    that is too large for the memory takes no edits.
    """
    header = journal.header
    layer = _open_mask(viewer, header) or _opened_mask(viewer, header)
    if layer is not None and history.is_read_as_shown(layer):
        return None
    if layer is None or _free(header) or np.array_equal(layer.data, journal.mask):
        return layer
    return None


def _replay(viewer: ViewerModel, found: Found) -> Journal:
    journal = read_journal(found.path)
    header = found.header
    if journal.whole or header.base == "zeros":
        return journal
    path = Path(header.mask_path)
    if not header.mask_path or not _same(path, header.mask_print):
        raise FileError(
            path if header.mask_path else found.path,
            "has changed or is gone since, and the journal holds its changes only",
            "Put the mask file back and restore again",
        )
    layer = _open_mask(viewer, header) or _opened_mask(viewer, header)
    if layer is None:
        raise FileError(path, f"has no mask {header.name!r} of {header.shape}")
    return read_journal(found.path, np.asarray(layer.data))


def _same(path: str | Path, print_then: str) -> bool:
    return bool(print_then) and fingerprint(path) == print_then


def _free(header: Header) -> bool:
    """Return whether a save may go to the mask's file: it is as it was, or gone."""
    path = header.mask_path
    return bool(path) and (_same(path, header.mask_print) or not os.path.exists(path))


def _read_only(header: Header) -> bool:
    """Return whether a movie was read from the folder, which is not where it goes."""
    return header.mask_path == (header.meta.get("facts") or {}).get("files")


def _file(layer: Any) -> str:
    """Return the whole path of the file that a layer came from, empty if none."""
    known = facts_of(layer)
    path = known.get("path") or known.get("files") or layer.source.path
    return os.path.abspath(path) if path else ""


def _opened_mask(viewer: ViewerModel, header: Header) -> Labels | None:
    """Open the mask's file if it is as it was and not open: all its structures.

    Of the restored structure alone, the next save would write over the others.
    """
    files = {_file(x) for x in viewer.layers}
    known = bool(header.mask_path) and _same(header.mask_path, header.mask_print)
    if not known or os.path.abspath(header.mask_path) in files:
        return None
    viewer.open(header.mask_path, plugin="medseg" if header.meta.get("facts") else None)
    return _open_mask(viewer, header)


def _open_mask(viewer: ViewerModel, header: Header) -> Labels | None:
    """Return the open layer of the same mask file and shape.

    Of several, as of the structures of one mask, the one of the same structure, else
    of the same name.
    """
    from napari.layers import Labels

    if not header.mask_path:
        return None
    found = [
        x
        for x in viewer.layers
        if isinstance(x, Labels)
        and (own := read_from(x))
        and os.path.abspath(header.mask_path) == os.path.abspath(own)
        and tuple(x.data.shape) == header.shape
    ]
    structure = (header.meta.get("facts") or {}).get("structure")
    if structure:
        found = [x for x in found if facts_of(x).get("structure") == structure]
    name = header.name.split(" [")[0]
    named = [x for x in found if x.name.split(" [")[0] == name]
    return next(iter(named or (found if len(found) == 1 else [])), None)

"""Warnings about an image go with the case in hand, in whichever thread that is."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medseg.errors import ImageWarning, printable

_current = threading.local()
_kept = threading.Lock()
_keepers: list[Any] = []


@contextmanager
def warnings_kept() -> Iterator[None]:
    """Send image warnings to the case in hand in their thread, not to stderr.

    The filters belong to the whole process: the first to come sets them and the
    last to go restores them, in whatever order threads do.
    """
    with _kept:
        if not _keepers:
            _keepers.append(_install_keeper())
        _keepers.append(None)
    try:
        yield
    finally:
        with _kept:
            _keepers.pop()
            if len(_keepers) == 1:
                _keepers.pop().__exit__(None, None, None)


def _install_keeper() -> warnings.catch_warnings[None]:
    filters = warnings.catch_warnings()
    filters.__enter__()
    show = warnings.showwarning

    def keep(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
        notes = getattr(_current, "notes", None)
        if notes is not None and issubclass(category, ImageWarning):
            notes.append(str(message).removeprefix(_current.prefix))
        else:
            show(message, category, *rest, **more)

    warnings.simplefilter("always", ImageWarning)
    warnings.showwarning = keep
    return filters


@contextmanager
def notes_of(notes: list[str], source: Path) -> Iterator[None]:
    """Append the warnings of this thread, within the block, to ``notes``.

    They begin with the path of ``source``, which is left out: the case has a name,
    and a result must not depend on where its folder lies.
    """
    _current.notes, _current.prefix = notes, f"{printable(source)}: "
    try:
        yield
    finally:
        _current.notes = None

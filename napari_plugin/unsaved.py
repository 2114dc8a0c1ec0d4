"""Which masks of a viewer are not saved, and their journals.

No Qt here: `medseg.napari_plugin.widgets.close_guard` brings the timer and asks when
the window closes. Other parts of the plugin say `keeper_of(viewer).mark_saved(...)`
when they have written a mask.
"""

from __future__ import annotations

import os
import socket
import time
import weakref
from pathlib import Path
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from medseg.napari_plugin import recovery
from medseg.napari_plugin.autosave import BUDGET_S, MaskWatch
from medseg.napari_plugin.file_state import FileState, fingerprint, state_of
from medseg.napari_plugin.layers import facts_of, is_mask, read_from
from medseg.napari_plugin.mask_journal import Header, JournalWriter, read_header
from medseg.napari_plugin.origin import file_of, own_image
from medseg.napari_plugin.recovery import Found

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.components import ViewerModel
    from napari.layers import Labels

_CLOSING_S = 2.0

_keepers: weakref.WeakKeyDictionary[Any, MaskKeeper] = weakref.WeakKeyDictionary()


def keeper_of(viewer: ViewerModel) -> MaskKeeper:
    """Return the keeper of a viewer's masks, made at the first call."""
    viewer = unwrap(viewer)
    if viewer not in _keepers:
        _keepers[viewer] = MaskKeeper(viewer)
    return _keepers[viewer]


def watch_over(viewer: ViewerModel | None) -> None:
    """Journal the masks of a viewer's window, and have it ask before it closes.

    A viewer without a window is left alone, and so is one in another thread.
    """
    window = getattr(viewer, "window", None)
    if viewer is not None and window is not None and current_thread() is main_thread():
        from medseg.napari_plugin.widgets.close_guard import protect

        protect(viewer, window.main_menu)


def mark_saved(data: Any, path: str | Path) -> None:
    """Tell all keepers that ``path`` holds the mask whose array is ``data``.

    For writers, which are given a layer's array and not the layer.
    """
    for keeper in list(_keepers.values()):
        for layer in keeper.layers:
            if layer.data is data:
                keeper.mark_saved(layer, path)


def was_saved_to(data: Any, path: Path) -> bool:
    """Return whether ``path`` is as the mask whose array is ``data`` was saved there.

    For writers, as `mark_saved`.
    """
    keepers = list(_keepers.values())
    own = [(k, x) for k in keepers for x in k.layers if x.data is data]
    return any(keeper.was_saved_to(layer, path) for keeper, layer in own)


def unwrap(thing: Any) -> Any:
    """Return the viewer or layer itself: plugins are given a proxy of it.

    Proxies of one object are not identical, and die while it lives on.
    """
    return getattr(thing, "__wrapped__", thing)


class MaskKeeper:
    """Follow all masks of a viewer and keep what is not saved.

    Attributes:
        changed: Emitted after each change that the journals do not have yet.
        removed: Journals of masks that were removed from the viewer unsaved.
    """

    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = weakref.ref(viewer)
        self._watches: dict[int, MaskWatch] = {}
        self._saved: dict[int, list[Path]] = {}
        self._files: dict[int, dict[Path, FileState]] = {}
        self._removed: list[tuple[float, Path]] = []
        self._stopped = False
        for layer in viewer.layers:
            self._add(layer)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def layers(self) -> list[Labels]:
        """All masks that are followed."""
        return [watch.layer for watch in list(self._watches.values())]

    @property
    def unsaved(self) -> list[Labels]:
        """The masks with changes that no file holds, in the order they came.

        Also those whose lineage has changed, which is saved with them.
        """
        return [w.layer for w in self._watches.values() if w.changed or w.lineage]

    @property
    def removed(self) -> tuple[Found, ...]:
        """Journals of masks that were removed unsaved since the viewer opened."""
        there = [path for _, path in self._removed if path.exists()]
        return tuple(Found(path, read_header(path)) for path in there)

    def saved_path(self, layer: Labels) -> str:
        """Return the file that the mask was last saved to, empty if none."""
        saved = self._saved.get(id(unwrap(layer)))
        return str(saved[-1]) if saved else ""

    def was_saved_to(self, layer: Labels, path: Path) -> bool:
        """Return whether a file is as the mask was saved there in this window."""
        saved = self._saved.get(id(unwrap(layer)), [])
        same = self.file_state(layer, path) == state_of(path)
        return same and path.resolve() in [file.resolve() for file in saved]

    def file_state(self, layer: Labels, path: str | Path) -> FileState | None:
        """Return a file as it was when the mask was last read from or saved to it.

        None if it never was.
        """
        known = self._files.get(id(unwrap(layer)), {})
        return known.get(Path(path).resolve())

    def save(self, budget: float = BUDGET_S) -> bool:
        """Journal what changed, for at most ``budget`` seconds.

        Returns:
            Whether all journals are up to date.

        Raises:
            DiskError: If the disk is full or not writable.
            FileError: On any other failure to write.
        """
        end = time.perf_counter() + budget
        done = True
        for watch in list(self._watches.values()):
            if watch.behind:
                done &= watch.save(max(0.0, end - time.perf_counter()))
        return done

    def mark_saved(self, layer: Labels, path: str | Path) -> None:
        """Note that ``path`` holds the mask: its journal goes."""
        layer = unwrap(layer)
        watch = self._watches.get(id(layer))
        if watch is not None:
            watch.saved()
            self._saved.setdefault(id(layer), []).append(Path(path))
            self._note(layer, path)
            self.changed.emit()

    def lineage_changed(self, layer: Labels) -> None:
        """Note that the lineage of a mask is in no file; no journal holds it."""
        watch = self._watches.get(id(unwrap(layer)))
        if watch is not None:
            watch.lineage = True
            self.changed.emit()

    def edits(self, layer: Labels) -> int:
        """Return a number that grows with each change of the mask."""
        watch = self._watches.get(id(unwrap(layer)))
        return watch.edits if watch is not None else 0

    def look(self, layer: Labels) -> None:
        """Look for changes of a mask that was written to without napari's events."""
        watch = self._watches.get(id(unwrap(layer)))
        if watch is not None:
            watch.look()

    def wrote(self, layer: Labels, index: Sequence[int]) -> None:
        """Note that a part of a mask was written without napari's events."""
        watch = self._watches.get(id(unwrap(layer)))
        if watch is not None:
            watch.wrote(index)

    def stop(self, *, keep: bool) -> None:
        """Follow nothing any longer; keep the journals of unsaved masks, or not.

        Masks that the person had removed are not kept, unless they went a moment ago,
        as they do when a script closes the viewer.
        """
        if self._stopped:
            return
        self._stopped = True
        for watch in self._watches.values():
            if keep and watch.changed:
                watch.save_all()
            watch.stop(keep=keep)
        self._watches.clear()
        now = time.monotonic()
        for when, path in self._removed:
            if not keep or now - when > _CLOSING_S:
                path.unlink(missing_ok=True)
        viewer = self._viewer()
        if viewer is not None:
            viewer.layers.events.inserted.disconnect(self._on_inserted)
            viewer.layers.events.removed.disconnect(self._on_removed)
            _keepers.pop(viewer, None)

    def _on_inserted(self, event: Any) -> None:
        self._add(event.value)

    def _on_removed(self, event: Any) -> None:
        watch = self._watches.pop(id(event.value), None)
        if watch is not None and watch.changed:
            watch.save_all()
        self._saved.pop(id(event.value), None)
        self._files.pop(id(event.value), None)
        if watch is None:
            return
        if watch.journal is not None:
            self._removed.append((time.monotonic(), watch.journal.path))
        watch.stop(keep=True)
        self.changed.emit()

    def _add(self, layer: Any) -> None:
        if not is_mask(layer):
            return
        if path := read_from(layer):
            self._note(layer, path)
        # Masks that our model drew are nowhere else; those of other plugins are
        # theirs, and samples are drawn again, until somebody edits them.
        clean = bool(path or layer.source.sample) or not facts_of(layer)
        self._watches[id(layer)] = MaskWatch(
            layer, self._opener(layer), clean=clean, on_change=self.changed.emit
        )
        if self._watches[id(layer)].changed:
            self.changed.emit()

    def _note(self, layer: Labels, path: str | Path) -> None:
        path = Path(path).resolve()
        self._files.setdefault(id(layer), {})[path] = state_of(path)

    def _opener(self, layer: Labels) -> Callable[[], JournalWriter]:
        keeper = weakref.ref(self)

        def open_journal() -> JournalWriter:
            me = keeper()
            viewer = me._viewer() if me is not None else None
            file = (me.saved_path(layer) if me is not None else "") or read_from(layer)
            known = me.file_state(layer, file) if me is not None and file else None
            path = recovery.new_journal_path()
            return JournalWriter(path, _header(viewer, layer, file, known))

        return open_journal


def _header(
    viewer: ViewerModel | None, layer: Labels, mask_path: str, known: FileState | None
) -> Header:
    image_path = str(facts_of(layer).get("source") or "")
    if not image_path and viewer is not None:
        image = own_image(viewer, layer)
        image_path = "" if image is None else file_of(image)
    return Header(
        name=layer.name,
        shape=tuple(layer.data.shape),
        dtype=layer.data.dtype.str,
        base="file" if mask_path else "zeros",
        image_path=image_path,
        image_print=fingerprint(image_path) if image_path else "",
        mask_path=mask_path,
        mask_print=known.content if known is not None else "",
        pid=os.getpid(),
        started=recovery.process_start(),
        host=socket.gethostname(),
        created=time.time(),
        meta=recovery.describe(layer),
    )

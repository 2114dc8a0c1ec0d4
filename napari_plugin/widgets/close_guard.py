"""Journal the masks of a window from time to time, and ask before it closes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import (
    QApplication,
    QMainWindow,
    QMessageBox,
    QWidget,
)

from medseg.errors import MedsegError
from medseg.napari_plugin._settings import settings
from medseg.napari_plugin._writer import saved_text
from medseg.napari_plugin.unsaved import MaskKeeper, keeper_of, unwrap
from medseg.napari_plugin.widgets.saving import save_mask_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

Answer = Literal["save", "discard", "cancel"]
Saver = Callable[["ViewerModel", "Labels"], str]

_PAUSE_S = 2.0  # after the first change; much painting in one go is one save
_NEXT_MS = 100  # between the parts of a large change
_RETRY_MS = 20_000  # after the disk was full


def protect(viewer: ViewerModel, widget: QWidget) -> CloseGuard | None:
    """Guard the window that holds ``widget``; call it when the widget is shown.

    Returns:
        The guard, the same for all widgets of a window; None while the widget is in
        no window.
    """
    window = main_window(widget)
    if window is None:
        return None
    for child in window.children():
        if isinstance(child, CloseGuard):
            return child
    return CloseGuard(viewer, window)


def main_window(widget: QWidget) -> QMainWindow | None:
    """Return the window that a docked widget belongs to, also while it floats."""
    above: QWidget | None = widget
    found = None
    while above is not None:
        found = above if isinstance(above, QMainWindow) else found
        above = above.parentWidget()
    return found


class CloseGuard(QObject):
    """Autosave by a timer that runs only after changes; ask when the window closes."""

    def __init__(
        self,
        viewer: ViewerModel,
        window: QMainWindow,
        *,
        save: Saver | None = None,
        ask: Callable[[list[Labels]], Answer] | None = None,
    ) -> None:
        super().__init__(window)
        self.keeper: MaskKeeper = keeper_of(viewer)
        self._viewer = unwrap(viewer)
        self._window = window
        self._saved_at = -math.inf
        self._save = save or save_mask_of
        self._ask = ask or self._ask_person
        self._ending = ending = _Ending(self.keeper)
        # Timers of a window die with it, unlike a plain single shot.
        self._closing = QTimer(self)
        self._closing.setSingleShot(True)
        self._closing.setInterval(0)
        self._closing.timeout.connect(self._finish_if_closed)
        window.destroyed.connect(lambda *_: ending.finish())
        self.timer = QTimer(self)
        self.timer.setSingleShot(True)
        self.timer.timeout.connect(self._autosave)
        self.keeper.changed.connect(self._on_changed)
        window.installEventFilter(self)
        application = QApplication.instance()
        assert application is not None  # there is a window
        application.aboutToQuit.connect(self._finish)
        self._on_changed()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Stop the window from closing if the person wants so."""
        if event.type() != QEvent.Type.Close or watched is not self._window:
            return False
        # Nobody can answer for a window that is not shown; the journals stay.
        if self._window.isVisible() and not self._may_close():
            event.ignore()
            return True
        self._closing.start()
        return False

    def _may_close(self) -> bool:
        unsaved = self.keeper.unsaved
        if not unsaved:
            return True
        answer = self._ask(unsaved)
        if answer == "cancel":
            return False
        self._ending.discard = answer == "discard"
        return answer == "discard" or self.save_masks(unsaved)

    def save_masks(self, layers: list[Labels]) -> bool:
        """Save masks to their files, tell where; return whether all are saved."""
        for layer in layers:
            if layer not in self.keeper.unsaved:
                continue  # saved with the others of its group
            try:
                path = self._save(self._viewer, layer)
            except MedsegError as error:
                # The cause first: napari cuts what is long.
                show_warning(f"{layer.name} is not saved: {error.problem}. {error}")
                return False
            self.keeper.mark_saved(layer, path)
            show_info(saved_text(path))
        return True

    def _ask_person(self, layers: list[Labels]) -> Answer:
        box = QMessageBox(self._window)
        box.setWindowTitle("Unsaved masks")
        box.setIcon(QMessageBox.Icon.Warning)
        names = "\n".join(f"   {layer.name}" for layer in layers[:10])
        more = f"\n   and {len(layers) - 10} more" if len(layers) > 10 else ""
        box.setText(f"These masks have changes that are not saved:\n{names}{more}")
        box.setInformativeText("Save puts them beside their image and checks them.")
        button = QMessageBox.StandardButton
        box.setStandardButtons(button.Save | button.Discard | button.Cancel)
        box.setDefaultButton(button.Save)
        answers: dict[object, Answer] = {
            button.Save: "save",
            button.Discard: "discard",
        }
        box.exec()
        return answers.get(box.standardButton(box.clickedButton()), "cancel")

    def _on_changed(self) -> None:
        if not self.timer.isActive() and (interval := settings().autosave_seconds):
            due = self._saved_at + interval - time.monotonic()
            self.timer.start(round(1000 * max(due, min(_PAUSE_S, interval))))

    def _autosave(self) -> None:
        try:
            done = self.keeper.save()
        except MedsegError as error:
            show_warning(f"Autosave: {error}")
            self.timer.start(_RETRY_MS)
            return
        if not done:
            self.timer.start(_NEXT_MS)
        else:
            self._saved_at = time.monotonic()

    def _finish_if_closed(self) -> None:
        if not self._window.isVisible():  # napari asks too, and may stay open
            self._finish()
        else:
            self._ending.discard = False

    def _finish(self) -> None:
        """Stop for good: the window is closed."""
        self.timer.stop()
        self._ending.finish()


class _Ending:
    """What is done when the window is gone; it outlives the window."""

    def __init__(self, keeper: MaskKeeper) -> None:
        self._keeper = keeper
        self.discard = False

    def finish(self) -> None:
        self._keeper.stop(keep=not self.discard)

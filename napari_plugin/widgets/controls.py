"""Parts that the widgets are laid out with: rows, buttons, one message, one bar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLayout,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from medseg.errors import MedsegError

if TYPE_CHECKING:
    from napari.layers import Layer

_BAR_EDGE = 2  # pixels that napari's style leaves beside a scroll bar
_BAD = "color: #e8734a;"
T = TypeVar("T")


def button(text: str, tip: str) -> QPushButton:
    """Return a button."""
    found = QPushButton(text)
    found.setToolTip(tip)
    return found


def combo(items: Sequence[tuple[str, Any]], tip: str) -> QComboBox:
    """Return a menu of texts and values that does not widen the dock."""
    found = QComboBox()
    policy = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
    found.setSizeAdjustPolicy(policy)
    found.setMinimumContentsLength(8)
    found.setToolTip(tip)
    for text, value in items:
        found.addItem(text, value)
    return found


def note(tip: str = "") -> QLabel:
    """Return a label of several lines."""
    found = QLabel()
    found.setWordWrap(True)
    found.setToolTip(tip)
    return found


def row(*widgets: QWidget, wide: int | None = 0, spacing: int | None = None) -> QWidget:
    """Return widgets side by side; one is wide, or (None) all share the room."""
    found = QWidget()
    layout = QHBoxLayout(found)
    layout.setContentsMargins(0, 0, 0, 0)
    if spacing is not None:
        layout.setSpacing(spacing)
    for number, widget in enumerate(widgets):
        layout.addWidget(widget, int(wide is None or number == wide))
    found.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
    return found


def rows(*pairs: tuple[str, QWidget]) -> QFormLayout:
    """Return labelled widgets below each other."""
    form = QFormLayout()
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    form.setContentsMargins(4, 4, 4, 4)
    for text, widget in pairs:
        if text:
            form.addRow(text, widget)
        else:
            form.addRow(widget)
    return form


def column(parent: QWidget, width: int = 0) -> QVBoxLayout:
    """Return the layout of a dock; it scrolls where the window is too low for it.

    Else a window with two docks would grow beyond the screen. It is never narrower
    than ``width`` pixels, nor than what it holds.
    """
    inner = QWidget()
    inner.setMinimumWidth(width)
    scroll = _Scroll()
    scroll.setWidget(inner)
    scroll.setWidgetResizable(True)
    scroll.setFrameShape(QFrame.Shape.NoFrame)
    scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    outer = QVBoxLayout(parent)
    outer.setContentsMargins(0, 0, 0, 0)
    outer.addWidget(scroll)
    return QVBoxLayout(inner)


def fit(widget: QWidget, layout: QLayout) -> None:
    """Give a page of tabs its layout; it gets no higher than it needs."""
    layout.setContentsMargins(6, 6, 6, 6)
    widget.setLayout(layout)
    widget.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)


class _Scroll(QScrollArea):
    """Scrolls up and down only: it is never narrower than what it holds."""

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Return the width of what it holds, with the scroll bar."""
        size = super().minimumSizeHint()
        bar = self.verticalScrollBar().sizeHint().width() + _BAR_EDGE
        inner = self.widget()
        if inner is not None:
            wide = max(inner.minimumWidth(), inner.minimumSizeHint().width())
            size.setWidth(wide + bar)
        return size

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Ask for more width when what it holds wants more, as with napari's fonts."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))


class Message(QLabel):
    """What happened last, in one sentence."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setToolTip("What happened last")
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    def say(self, text: str, bad: bool = False) -> None:
        """Show a sentence, in another colour if something is wrong."""
        self.setText(text)
        self.setStyleSheet(_BAD if bad else "")

    def attempt(self, action: Callable[[], T]) -> T | None:
        """Return what the action returns; say what is wrong if it fails."""
        try:
            return action()
        except MedsegError as error:
            self.say(str(error), bad=True)
            return None


class Bar(QProgressBar):
    """How far a run is; hidden while there is none."""

    def __init__(self, tip: str) -> None:
        super().__init__()
        self.setToolTip(tip)
        self.set_busy(False)

    def set_busy(self, busy: bool) -> None:
        """Show the bar, moving without an end, or hide it."""
        self.setVisible(busy)
        self.setRange(0, 0 if busy else 1)
        self.setFormat("")

    def show_progress(self, done: int, total: int, text: str = "") -> None:
        """Show how much is done; nothing yet moves without an end."""
        if done:
            self.setRange(0, total)
            self.setValue(done)
            self.setFormat(text)


def ask_file(parent: QWidget, title: str, start: str, kinds: str) -> str:
    """Return the file a person chooses, with its suffix; empty if none."""
    found, _ = QFileDialog.getSaveFileName(parent, title, start, kinds)
    suffix = Path(start).suffix if "*." in kinds else ""  # not that of a folder
    return found if not found or found.endswith(suffix) else found + suffix


def is_tracks(layer: Layer) -> bool:
    """Return whether a layer holds tracks."""
    from napari.layers import Tracks

    return isinstance(layer, Tracks)

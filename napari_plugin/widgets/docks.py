"""Where the widgets lie in the window: tabs of one place, not one below the other."""

from __future__ import annotations

from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

_PLACED = "medseg_placed"
_OURS = __name__.rpartition(".")[0]


def share_place(widget: QWidget) -> None:
    """Make a widget that is shown for the first time a tab beside those of ours.

    napari puts them below each other, and two of them are higher than a small screen.
    Where a person has dragged a widget since, it stays.
    """
    dock = _dock_of(widget)
    window = dock.parentWidget() if dock is not None else None
    if dock is None or not isinstance(window, QMainWindow) or dock.property(_PLACED):
        return
    dock.setProperty(_PLACED, True)
    area = window.dockWidgetArea(dock)
    ours = [
        other
        for other in window.findChildren(QDockWidget)
        if other is not dock
        and any(_is_ours(child) for child in other.findChildren(QWidget))
        and not (other.isHidden() or other.isFloating() or dock.isFloating())
        and window.dockWidgetArea(other) == area
    ]
    if ours:
        window.tabifyDockWidget(ours[-1], dock)
        dock.raise_()


def _is_ours(widget: QWidget) -> bool:
    return type(widget).__module__.startswith(_OURS)


def _dock_of(widget: QWidget) -> QDockWidget | None:
    above: QWidget | None = widget
    while above is not None and not isinstance(above, QDockWidget):
        above = above.parentWidget()
    return above

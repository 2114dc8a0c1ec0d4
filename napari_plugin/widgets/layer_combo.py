"""A menu of the viewer's layers that follows what is added and removed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox, QWidget

from medseg.napari_plugin.unsaved import unwrap

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


class LayerCombo(QComboBox):
    """Offers the layers for which ``wanted`` is true by ``title``, the top one first.

    ``currentIndexChanged`` tells of a new choice. A layer that is chosen stays chosen
    while it is in the viewer. Where the choice is ``optional``, none is offered before
    all layers, and stays chosen as a layer does.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        wanted: Callable[[Layer], bool],
        empty: str = "no image yet",
        parent: QWidget | None = None,
        title: Callable[[Layer], str] = lambda layer: str(layer.name),
        *,
        optional: bool = False,
    ) -> None:
        super().__init__(parent)
        self._title, self._optional = title, optional
        self._viewer, self._wanted, self._empty = unwrap(viewer), wanted, empty
        self._offered: list[Layer | None] = []
        # A long name must not widen the dock.
        policy = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        self.setSizeAdjustPolicy(policy)
        self.setMinimumContentsLength(8)
        events = self._viewer.layers.events
        names = ("inserted", "removed", "renamed")  # the last since napari 0.7
        known = tuple(name for name in names if hasattr(events, name))
        follow(self, events, known, self.refill)
        self.refill()

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        index = self.currentIndex()
        return self._offered[index] if 0 <= index < len(self._offered) else None

    def choose(self, layer: Layer | None) -> None:
        """Choose a layer, or None, if it is offered."""
        layer = unwrap(layer)
        if layer in self._offered:
            self.setCurrentIndex(self._offered.index(layer))

    def refill(self, event: Any = None) -> None:
        """Read the viewer's list of layers anew."""
        before = self.layer
        layers = [unwrap(x) for x in reversed(self._viewer.layers)]
        offered = [x for x in layers if self._wanted(x)]
        none = ["none"] if self._optional and offered else []
        self._offered = [*([None] if none else []), *offered]
        with QSignalBlocker(self):
            self.clear()
            titles = [*none, *(self._title(x) for x in offered)]
            self.addItems(titles or [self._empty])
            if before in self._offered:
                self.setCurrentIndex(self._offered.index(before))
        self.setEnabled(bool(offered))
        if self.layer is not before:
            self.currentIndexChanged.emit(self.currentIndex())

    def showPopup(self) -> None:  # noqa: N802
        """Show the names as they are now."""
        self.refill()
        super().showPopup()


def follow(
    widget: QWidget, events: Any, names: tuple[str, ...], callback: Callable[..., Any]
) -> None:
    """Connect ``callback`` to napari's events until ``widget`` is destroyed."""
    emitters = [getattr(events, name) for name in names]
    for emitter in emitters:
        emitter.connect(callback)

    def stop() -> None:
        for emitter in emitters:
            with suppress(ValueError, KeyError, IndexError):
                emitter.disconnect(callback)

    widget.destroyed.connect(stop)

"""Choose the label to edit, by name and colour or by number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QWidget,
)

from medseg.napari_plugin.layers import facts_of

if TYPE_CHECKING:
    from napari.layers import Labels


class LabelPicker(QWidget):
    """Shows and sets the label that is selected in napari.

    Signals:
        chosen: The label has changed, here or in napari.
    """

    chosen = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._layer: Labels | None = None
        self.names = QComboBox()
        policy = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        self.names.setSizeAdjustPolicy(policy)
        self.names.setMinimumContentsLength(8)
        self.names.setToolTip("The structure to edit")
        self.number = QSpinBox()
        self.number.setRange(1, 2_000_000_000)
        self.number.setToolTip("The number of the label to edit (keys - and =)")
        self.swatch = QLabel()
        self.swatch.setFixedSize(20, 20)
        self.swatch.setToolTip("Colour of the label")
        self.new = QPushButton("New")
        self.new.setToolTip("Take the next number that is free (key M)")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.swatch)
        layout.addWidget(self.names, 1)
        layout.addWidget(self.number, 1)
        layout.addWidget(self.new)
        self.names.currentIndexChanged.connect(self._name_chosen)
        self.number.valueChanged.connect(self._select)
        self.new.clicked.connect(self._next)
        self.follow(None)

    def follow(self, layer: Labels | None) -> None:
        """Show the labels of another layer."""
        self.let_go()
        self._layer = layer
        known = _names(layer)
        with QSignalBlocker(self.names):
            self.names.clear()
            for value, name in known.items():
                icon = QIcon(_square(_colour(layer, value)))
                self.names.addItem(icon, name.replace("_", " "), value)
        self.names.setVisible(bool(known))
        for widget in (self.number, self.swatch, self.new):
            widget.setVisible(not known)
        self.setEnabled(layer is not None)
        if layer is not None:
            layer.events.selected_label.connect(self._show)
            layer.events.colormap.connect(self._show)
            if known and layer.selected_label not in known:
                layer.selected_label = next(iter(known))
            self._show()

    def let_go(self) -> None:
        """Listen to the layer no longer; may be called when the widget is gone."""
        layer, self._layer = self._layer, None
        if layer is not None:
            layer.events.selected_label.disconnect(self._show)
            layer.events.colormap.disconnect(self._show)

    def _show(self, event: Any = None) -> None:
        if self._layer is None:
            return
        value = int(self._layer.selected_label)
        with QSignalBlocker(self.number), QSignalBlocker(self.names):
            self.number.setValue(max(1, value))
            self.names.setCurrentIndex(self.names.findData(value))
        self.swatch.setPixmap(_square(_colour(self._layer, value)))
        self.chosen.emit()

    @property
    def name(self) -> str:
        """The structure that is chosen, empty for labels without a name."""
        value = int(self._layer.selected_label) if self._layer is not None else 0
        return _names(self._layer).get(value, "")

    def _name_chosen(self, index: int) -> None:
        if index >= 0:
            self._select(self.names.itemData(index))

    def _select(self, value: int) -> None:
        if self._layer is not None:
            self._layer.selected_label = value

    def _next(self) -> None:
        if self._layer is not None:
            self._select(int(np.max(self._layer.data, initial=0)) + 1)


def _names(layer: Labels | None) -> dict[int, str]:
    """Return names by value; of a layer with one of overlapping structures: it."""
    known = facts_of(layer) if layer is not None else {}
    labels, structure = known.get("labels"), known.get("structure")
    if structure is not None:
        return {1: structure}
    if labels is None or labels.kind != "exclusive":
        return {}
    return {label.value: label.name for label in labels}


def _colour(layer: Labels | None, value: int) -> QColor:
    rgba = layer.get_color(value) if layer is not None else None
    return QColor("#808080") if rgba is None else QColor.fromRgbF(*map(float, rgba[:3]))


def _square(colour: QColor) -> QPixmap:
    pixmap = QPixmap(16, 16)
    pixmap.fill(colour)
    return pixmap

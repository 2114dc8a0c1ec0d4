"""The page of the Measure widget for chest films: the cardiothoracic ratio."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from medseg.measure.chest import ChestMeasurement, measure
from medseg.measure.table import COLUMNS, table_row, to_csv
from medseg.napari_plugin.chest_lines import ChestLines
from medseg.napari_plugin.layers import facts_of
from medseg.napari_plugin.layers_to_mask import segmentation_from_layers
from medseg.napari_plugin.widgets.controls import Message, button, note, row, rows

if TYPE_CHECKING:
    from napari.layers import Labels, Layer
    from napari.viewer import Viewer

_FILM = (
    ("heart_width", "Heart, width", "{unit}"),
    ("thoracic_width", "Thorax, width", "{unit}"),
    ("right_lung_area", "Right lung, area", "{unit}²"),
    ("left_lung_area", "Left lung, area", "{unit}²"),
    ("heart_area", "Heart, area", "{unit}²"),
)


class FilmPage(QWidget):
    """Owns the lines of the ratio.

    Args:
        viewer: Holds the masks, unwrapped.
        message: Where the page says what happened.
    """

    def __init__(self, viewer: Viewer, message: Message) -> None:
        super().__init__()
        self._viewer, self.message = viewer, message
        self._parts: list[Labels] = []
        self.film: ChestMeasurement | None = None
        self._plain: ChestMeasurement | None = None  # as measured, before any drag
        self.lines = ChestLines(viewer)
        self._make_numbers()
        self._lay_out()
        self.again.clicked.connect(self.measure)
        self.reset.clicked.connect(self.lines.reset)
        self.lines.changed.connect(self._show)

    def _make_numbers(self) -> None:
        self.ratio = QLabel()
        self.ratio.setStyleSheet("font-size: 30px; font-weight: bold;")
        self.ratio.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.ratio.setToolTip("Width of the heart over width of the thorax")
        self.origin = note("Whether the lines are where the mask says")
        self.origin.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.values = {name: QLabel() for name, _, _ in _FILM}
        for value in self.values.values():
            value.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.units = note("What the unit of the numbers means")

    def _lay_out(self) -> None:
        self.reset = button(
            "Reset lines", "Put the lines back to where they were measured"
        )
        self.again = button("Measure again", "Measure the mask as it is now")
        self.csv = button("Save table ...", "Write the numbers that are shown as CSV")
        layout = QVBoxLayout(self)
        title = QLabel("Cardiothoracic ratio")
        title.setAlignment(Qt.AlignmentFlag.AlignCenter)
        for widget in (title, self.ratio, self.origin):
            layout.addWidget(widget)
        layout.addLayout(rows(*((text, self.values[name]) for name, text, _ in _FILM)))
        layout.addWidget(self.units)
        layout.addWidget(row(self.reset, self.again, wide=None))
        layout.addWidget(self.csv)
        layout.addStretch(1)

    def follow(self, parts: list[Labels]) -> None:
        """Measure another film, its structures in ``parts``; none for no film."""
        self._parts = parts
        self.lines.close()
        self.film = None
        if parts:
            self.measure()

    def join(self, parts: list[Labels]) -> None:
        """Take the structures that the mask of this film has now."""
        if self._parts:
            self._parts = parts
            self.painted()

    def measure(self) -> None:
        """Measure the mask and draw the lines."""
        found = self._measured()
        if found is not None:
            self._draw(found)

    def _measured(self) -> ChestMeasurement | None:
        if not self._parts:
            return None
        found = self.message.attempt(
            lambda: measure(segmentation_from_layers(self._parts))
        )
        if found is None:
            self._clear()
        return found

    def _draw(self, found: ChestMeasurement) -> None:
        self._plain = found
        active = self._viewer.layers.selection.active
        drawn = self.lines.show(found, self._parts[0])
        self._show(found)
        if drawn:
            self.message.say("Drag the ends of the lines; the ratio follows")
            return
        self.message.say("Two lungs and a heart are needed for the ratio", bad=True)
        self._select(active)

    def _select(self, layer: Layer | None) -> None:
        """Make the layer active that was, unless it was that of the lines."""
        if layer in self._viewer.layers:
            self._viewer.layers.selection.active = layer

    def painted(self) -> None:
        """Follow a change of the mask; lines that a person moved stay.

        Who paints goes on painting: the lines are not made the active layer.
        """
        found = self._measured()
        if found is None or str(found) == str(self._plain):
            return  # the layer was only drawn anew
        if self.lines.moved:
            text = "The mask has changed: Measure again gives up your lines"
            self.message.say(text)
            return
        active = self._viewer.layers.selection.active
        self._draw(found)
        self._select(active)

    def text(self) -> str | None:
        """Return the numbers that are shown as CSV, None if there are none."""
        if self.film is None or not self._parts:
            return None
        layer = self._parts[0]
        found = table_row(str(facts_of(layer).get("source") or layer.name), self.film)
        by_hand = {"lines": "moved by hand" if self.lines.moved else "measured"}
        return to_csv([found | by_hand], [*COLUMNS, "lines"])

    def _show(self, film: ChestMeasurement) -> None:
        self.film = film
        moved = self.lines.moved
        self.ratio.setText("undefined" if math.isnan(film.ctr) else f"{film.ctr:.3f}")
        self.origin.setText("lines moved by hand" if moved else "lines as measured")
        self.reset.setEnabled(moved)
        for name, _, unit in _FILM:
            self.values[name].setText(_in_words(getattr(film, name), unit, film.unit))
        self.units.setText(_about_units(film))

    def _clear(self) -> None:
        """Take the numbers away: they are of no mask that is there."""
        self.film = self._plain = None
        for text in (self.ratio, self.origin, self.units, *self.values.values()):
            text.setText("")

    def end(self) -> None:
        """Take the lines away."""
        self.lines.close()
        self._parts = []


def _in_words(value: float, kind: str, unit: str) -> str:
    if math.isnan(value):
        return "not there"
    if unit == "px":  # an area is a number of pixels
        return f"{value:,.0f} px"
    digits = 0 if "²" in kind else 1
    return f"{value:,.{digits}f} {kind.format(unit=unit)}"


def _about_units(film: ChestMeasurement) -> str:
    if film.unit == "px":
        return "The film states no spacing: pixels, not mm"
    if film.detector_plane:
        return "mm in the plane of the detector: larger than in the patient"
    return ""

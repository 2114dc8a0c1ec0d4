"""The controls of the Measure widget, without what they do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QLabel,
    QProgressBar,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from medseg.measure.chest import ChestMeasurement
from medseg.napari_plugin.widgets.layer_combo import LayerCombo
from medseg.napari_plugin.widgets.segment_form import combo, note, row, rows
from medseg.napari_plugin.widgets.table import RowsTable
from medseg.napari_plugin.widgets.track_form import button

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_BAD = "color: #e8734a;"
_TABLES = (("Cells", "cells"), ("Tracks", "tracks"), ("Counts", "counts"))
_FILM = (
    ("heart_width", "Heart, width", "{unit}"),
    ("thoracic_width", "Thorax, width", "{unit}"),
    ("right_lung_area", "Right lung, area", "{unit}²"),
    ("left_lung_area", "Left lung, area", "{unit}²"),
    ("heart_area", "Heart, area", "{unit}²"),
)


class MeasureForm:
    """Lays the controls out in ``parent``; they are its attributes."""

    def __init__(
        self, parent: QWidget, viewer: ViewerModel, wanted: Callable[[Layer], bool]
    ) -> None:
        self.film: ChestMeasurement | None = None
        self.mask = LayerCombo(viewer, wanted, "no mask yet")
        self.mask.setToolTip("Cells are measured one by one, films by their structures")
        self.image = LayerCombo(viewer, _is_grey, "no image")
        self.image.setToolTip("The image whose intensities are measured")
        self.tracks = LayerCombo(viewer, _is_tracks, "no tracks layer")
        self.tracks.setToolTip("The lineage; without it equal numbers are one cell")
        self.pages = QStackedWidget()
        self.pages.addWidget(self._make_cells())
        self.pages.addWidget(self._make_film())
        self.message = note()
        self.message.setToolTip("What happened last")
        self.message.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
        )
        layout = QVBoxLayout(parent)
        layout.addLayout(rows(("Mask", self.mask)))
        layout.addWidget(self.pages, 1)
        layout.addWidget(self.message)
        parent.setMinimumWidth(290)

    def _make_cells(self) -> QWidget:
        self.with_image = QCheckBox("Intensities")
        self.with_image.setToolTip("Measure the intensities of an image too")
        self.with_tracks = QCheckBox("Lineage")
        self.with_tracks.setToolTip("Take tracks and divisions from a tracks layer")
        self.time = QCheckBox("The first axis is time")
        self.time.setToolTip("Off: the mask is one volume")
        self.interval = QDoubleSpinBox()
        self.interval.setRange(0, 1e6)
        self.interval.setSuffix(" s")
        self.interval.setSpecialValueText("unknown")
        self.interval.setToolTip(
            "Seconds between frames; without it no speeds in um/min"
        )
        self.measure = button("Measure", "Measure all objects; napari stays usable")
        self.cancel = button("Cancel", "End the run")
        self.cancel.setEnabled(False)
        self.bar = QProgressBar()
        self.bar.setToolTip("How far the run is")
        self.bar.setVisible(False)
        self.name = combo(_TABLES, "Which table is shown and saved")
        self.table = RowsTable()
        self.table.setToolTip("Click a row to go to the object, an object for its row")
        self.csv = button("Save table ...", "Write this table as CSV")
        image = row(self.with_image, self.image)
        self.movie_row = row(self.with_tracks, self.tracks)
        for line in (image, self.movie_row):
            line.layout().setStretch(0, 0)
            line.layout().setStretch(1, 1)
        self.interval_row = row(QLabel("Time between frames"), self.interval)
        layout = QVBoxLayout()
        layout.setContentsMargins(4, 0, 4, 0)
        for widget in (image, self.time, self.movie_row, self.interval_row):
            layout.addWidget(widget)
        layout.addWidget(row(self.measure, self.cancel))
        layout.addWidget(self.bar)
        layout.addWidget(self.name)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.csv)
        found = QWidget()
        found.setLayout(layout)
        return found

    def _make_film(self) -> QWidget:
        self.ratio = QLabel()
        self.ratio.setStyleSheet("font-size: 30px; font-weight: bold;")
        self.ratio.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.ratio.setToolTip("Width of the heart over width of the thorax")
        self.origin = note()
        self.origin.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.values = {name: QLabel() for name, _, _ in _FILM}
        lines = rows(*((text, self.values[name]) for name, text, _ in _FILM))
        for value in self.values.values():
            value.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.units = note()
        self.reset = button(
            "Reset lines", "Put the lines back to where they were measured"
        )
        self.film_again = button("Measure again", "Measure the mask as it is now")
        self.film_csv = button(
            "Save table ...", "Write the numbers that are shown as CSV"
        )
        layout = QVBoxLayout()
        title = QLabel("Cardiothoracic ratio")
        title.setAlignment(Qt.AlignmentFlag.AlignCenter)
        for widget in (title, self.ratio, self.origin):
            layout.addWidget(widget)
        layout.addLayout(lines)
        layout.addWidget(self.units)
        line = row(self.reset, self.film_again)
        line.layout().setStretchFactor(self.film_again, 1)
        layout.addWidget(line)
        layout.addWidget(self.film_csv)
        layout.addStretch(1)
        found = QWidget()
        found.setLayout(layout)
        return found

    # What is shown

    def show_film(self, film: ChestMeasurement, moved: bool) -> None:
        """Show the numbers of a film."""
        self.film = film
        undefined = math.isnan(film.ctr)
        self.ratio.setText("undefined" if undefined else f"{film.ctr:.3f}")
        self.origin.setText("lines moved by hand" if moved else "lines as measured")
        self.reset.setEnabled(moved)
        for name, _, unit in _FILM:
            value = getattr(film, name)
            text = "not there" if math.isnan(value) else f"{value:,.0f} {unit}"
            if not math.isnan(value) and film.unit == "mm" and "²" not in unit:
                text = f"{value:,.1f} {unit}"
            if film.unit == "px":
                text = text.replace("²", "")  # an area is a number of pixels
            self.values[name].setText(text.format(unit=film.unit))
        self.units.setText(_about_units(film))

    def say(self, text: str, bad: bool = False) -> None:
        """Show one message."""
        self.message.setText(text)
        self.message.setStyleSheet(_BAD if bad else "")

    def set_busy(self, busy: bool) -> None:
        """Show whether a run goes on."""
        self.bar.setVisible(busy)
        self.bar.setRange(0, 0)
        self.cancel.setEnabled(busy)
        self.measure.setEnabled(not busy)

    def show_progress(self, done: int, total: int) -> None:
        """Show how far a run is."""
        if done:
            self.bar.setRange(0, total)
            self.bar.setValue(done)


def _about_units(film: ChestMeasurement) -> str:
    if film.unit == "px":
        return "The film states no spacing: pixels, not mm"
    if film.detector_plane:
        return "mm in the plane of the detector: larger than in the patient"
    return ""


def _is_grey(layer: Layer) -> bool:
    from napari.layers import Image

    return isinstance(layer, Image) and not layer.rgb and not layer.multiscale


def _is_tracks(layer: Layer) -> bool:
    from napari.layers import Tracks

    return isinstance(layer, Tracks)

"""The page of the Measure widget for cells: tables whose rows are objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QLabel, QVBoxLayout, QWidget

from medseg.errors import counted
from medseg.measure.cells import Row
from medseg.measure.table import to_csv
from medseg.napari_plugin.layers import belongs
from medseg.napari_plugin.lineage_layers import go_to, show_world
from medseg.napari_plugin.mask_frames import frames_of
from medseg.napari_plugin.measuring import (
    MeasureJob,
    TableName,
    Tables,
    features_of,
    is_movie,
    is_open,
    locate,
)
from medseg.napari_plugin.origin import own_image
from medseg.napari_plugin.widgets.background import Runner
from medseg.napari_plugin.widgets.cell_picker import CellMarks, CellPicker
from medseg.napari_plugin.widgets.controls import (
    Bar,
    Message,
    button,
    combo,
    is_tracks,
    row,
)
from medseg.napari_plugin.widgets.layer_combo import LayerCombo
from medseg.napari_plugin.widgets.table import RowsTable

if TYPE_CHECKING:
    from napari.layers import Labels, Layer
    from napari.viewer import Viewer

_TABLES = (("Cells", "cells"), ("Tracks", "tracks"), ("Counts", "counts"))


class CellsPage(QWidget):
    """Owns the mark round the chosen object; changes only features of the mask.

    Args:
        viewer: Holds the masks, unwrapped.
        message: Where the page says what happened.
    """

    def __init__(self, viewer: Viewer, message: Message) -> None:
        super().__init__()
        self._viewer, self.message = viewer, message
        self._layer: Labels | None = None
        self._movie = self._behind = False
        self.tables: Tables | None = None
        self._row_of: dict[tuple[Any, Any], Row] = {}
        self.marks = CellMarks(viewer, "measured object")
        self.picker = CellPicker(viewer, self._clicked)
        self._make_choices()
        self._lay_out()
        self.runner = Runner(self, self)
        self.time.toggled.connect(self._show_state)
        self.measure_button.clicked.connect(self.measure)
        self.cancel.clicked.connect(self.runner.cancel)
        self.name.currentIndexChanged.connect(self._show_table)
        self.table.chosen.connect(self._row_chosen)

    def _make_choices(self) -> None:
        self.image = LayerCombo(self._viewer, _is_grey, "no image")
        self.image.setToolTip("The image whose intensities are measured")
        self.tracks = LayerCombo(self._viewer, is_tracks, "no tracks layer")
        self.tracks.setToolTip("The lineage; without it equal numbers are one cell")
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
        self.movie_row = row(self.with_tracks, self.tracks, wide=1)
        self.interval_row = row(QLabel("Time between frames"), self.interval)

    def _lay_out(self) -> None:
        self.measure_button = button(
            "Measure", "Measure all objects; napari stays usable"
        )
        self.cancel = button("Cancel", "End the run")
        self.cancel.setEnabled(False)
        self.bar = Bar("How far the run is")
        self.name = combo(_TABLES, "Which table is shown and saved")
        self.table = RowsTable()
        self.table.setToolTip("Click a row to go to the object, an object for its row")
        self.csv = button("Save table ...", "Write this table as CSV")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 0, 4, 0)
        layout.addWidget(row(self.with_image, self.image, wide=1))
        layout.addWidget(self.time)
        layout.addWidget(self.movie_row)
        layout.addWidget(self.interval_row)
        layout.addWidget(row(self.measure_button, self.cancel))
        layout.addWidget(self.bar)
        layout.addWidget(self.name)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.csv)

    def hideEvent(self, event: Any) -> None:  # noqa: N802
        """Leave the mouse to others, as to Refine in the tab in front."""
        super().hideEvent(event)
        self._behind = True
        self._listen()

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Listen to clicks on objects."""
        super().showEvent(event)
        self._behind = False
        self._listen()

    def _listen(self) -> None:
        self.picker.on = self._layer is not None and not self._behind

    # What is chosen

    def follow(self, layer: Labels | None) -> None:
        """Begin with another mask, None for none."""
        self.runner.cancel()
        self._layer = self.picker.layer = layer
        self._listen()
        self.tables = None
        self.marks.close()
        self._show_table()
        if layer is not None:
            self.message.say("")
            self.time.setChecked(is_movie(layer))
            self.time.setEnabled(layer.ndim == 3 and is_open(layer))
            self._choose_partners(layer)
        self._show_state()

    def _choose_partners(self, layer: Labels) -> None:
        image = own_image(self._viewer, layer)
        self.with_image.setChecked(image is not None)
        if image is not None:
            self.image.choose(image)
        own = [x for x in self._viewer.layers if belongs(x, layer)]
        self.with_tracks.setChecked(bool(own))
        if own:
            self.tracks.choose(own[-1])

    def _show_state(self, on: bool = False) -> None:
        movie = self.time.isChecked()
        for widget in (self.movie_row, self.interval_row, self.name):
            widget.setVisible(movie)
        self.measure_button.setEnabled(
            self._layer is not None and not self.runner.running
        )

    def painted(self) -> None:
        """Note that the mask has changed."""
        if self.tables is not None:
            self.message.say("The mask has changed: measure again")

    # Measuring

    def measure(self) -> None:
        """Measure the mask, in a thread."""
        layer, movie = self._layer, self.time.isChecked()
        if layer is None or self.runner.running:
            return
        image = self.image.layer if self.with_image.isChecked() else None
        text = ""
        if image is not None and tuple(image.data.shape) != tuple(layer.data.shape):
            text = f"{image.name} is not of the mask's shape: no intensities"
            image = None
        self.message.say(text)
        tracks = self.tracks.layer if self.with_tracks.isChecked() and movie else None
        interval = self.interval.value() or None
        job = self.message.attempt(
            lambda: MeasureJob(
                layer, image, tracks, movie=movie, frame_interval=interval
            )
        )
        if job is not None:
            self._movie = movie
            self.runner.start(job, lambda found: self._measured(found, text))

    def set_busy(self, busy: bool) -> None:
        """Show whether a run goes on."""
        self.bar.set_busy(busy)
        self.cancel.setEnabled(busy)
        self.measure_button.setEnabled(not busy)

    def show_progress(self, done: int, total: int) -> None:
        """Show how far a run is."""
        self.bar.show_progress(done, total)

    def _measured(self, found: Tables, warning: str) -> None:
        self.tables = found
        self._row_of = {(r["frame"], r["cell"]): r for r in found.cells}
        if self._layer is not None:
            self._layer.features = features_of(found)
        self._show_table()
        self._show_state()
        text = f"{counted(len(found.cells), 'row')} of cells"
        if found.graph is not None:
            text += f", {counted(len(found.tracks), 'track')}"
            text += f", {counted(len(found.counts), 'frame')}"
        doubts = ". ".join(x for x in (warning, found.note) if x)
        self.message.say(doubts or text, bad=bool(doubts))

    def _show_table(self, index: int = 0) -> None:
        tables = self.tables
        if tables is None:
            self.table.fill((), ())
        else:
            self.table.fill(tables.rows(self._name), tables.columns(self._name))
        self.csv.setEnabled(tables is not None)

    @property
    def _name(self) -> TableName:
        """Name of the table that is shown; of one image there are only cells."""
        movie = self.tables is not None and self.tables.graph is not None
        return self.name.currentData() if movie else "cells"

    def text(self) -> str | None:
        """Return the table that is shown as CSV, None if there is none."""
        if self.tables is None:
            return None
        columns = self.tables.columns(self._name)
        rows = self.tables.rows(self._name)
        return to_csv([{c: r.get(c) for c in columns} for r in rows], columns)

    # Rows and objects

    def _row_chosen(self, chosen: Row) -> None:
        if self.tables is not None:
            place = locate(self.tables, self._name, chosen)
            if place is not None:
                self.show_object(*place)

    def show_object(self, frame: int, label: int) -> None:
        """Select a label, go to its frame, mark it."""
        layer = self._layer
        if layer is None:
            return
        found: dict[str, Any] | None = self._row_of.get((frame, label))
        if found is None:  # a frame without a cell
            go_to(self._viewer, layer, frame, [0.0] * (layer.ndim - 1))
            return
        layer.selected_label = label
        places = (found[c] for c in ("z_px", "y_px", "x_px"))
        index = [float(p) for p in places if p is not None]
        size = float(found["area_px"] or found["volume_px"] or 1)
        side = size ** (1 / len(index))
        if self._movie:
            index.insert(0, frame - frames_of(layer).first)
        self.marks.show(layer, np.array([index]), 1.5 * side + 2)
        show_world(self._viewer, layer, np.asarray(layer.data_to_world(index), float))

    def _clicked(self, index: tuple[int, ...], label: int) -> None:
        layer = self._layer
        if layer is None or self.tables is None:
            return
        frame = index[0] + frames_of(layer).first if self._movie else 0
        here = self._row_of.get((frame, label), {})
        keys: dict[TableName, dict[str, Any]] = {
            "cells": {"frame": frame, "cell": label},
            "tracks": {"track": here.get("track")},
            "counts": {"frame": frame},
        }
        items = keys[self._name].items()
        if self.table.select(lambda r: all(r.get(k) == v for k, v in items)):
            self.show_object(frame, label)
        else:
            text = f"Label {label} is not in the table: measure again"
            self.message.say(text, bad=True)

    def end(self) -> None:
        """Take the mark away and leave the mouse."""
        self.picker.close()
        self.marks.close()
        self.runner.close()
        self._layer = None


def _is_grey(layer: Layer) -> bool:
    from napari.layers import Image

    return isinstance(layer, Image) and not layer.rgb and not layer.multiscale

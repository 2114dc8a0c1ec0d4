"""Measure cells, tracks and chest films, and find the object of each number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from napari.qt.threading import create_worker
from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QWidget

from medseg.errors import MedsegError
from medseg.io.atomic import write_bytes
from medseg.measure.cells import Row
from medseg.measure.chest import ChestMeasurement, measure
from medseg.measure.table import COLUMNS as FILM_COLUMNS
from medseg.measure.table import table_row, to_csv
from medseg.napari_plugin.chest_lines import ChestLines
from medseg.napari_plugin.layers import facts_of, segmentation_from_layers
from medseg.napari_plugin.lineage_layers import frames_of, go_to, show_world
from medseg.napari_plugin.measuring import (
    MeasureJob,
    Tables,
    features_of,
    is_chest,
    is_movie,
    locate,
)
from medseg.napari_plugin.movie_job import JobCancelledError
from medseg.napari_plugin.unsaved import image_of, unwrap
from medseg.napari_plugin.widgets.cell_picker import CellMarks, CellPicker
from medseg.napari_plugin.widgets.measure_form import MeasureForm

if TYPE_CHECKING:
    from napari.layers import Labels, Layer
    from napari.viewer import Viewer

_POLL_MS, _AGAIN_MS = 50, 400
LINES = "lines"


class MeasureWidget(QWidget):
    """Owns the lines of the ratio and its mark; changes only features of masks.

    Args:
        viewer: Holds the masks.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = unwrap(viewer)
        self.tables: Tables | None = None
        self._layer: Labels | None = None
        self._movie = False
        self._job: MeasureJob | None = None
        self.lines = ChestLines(self._viewer)
        self.marks = CellMarks(self._viewer, "measured object")
        self.picker = CellPicker(self._viewer, self._clicked)
        self.form = MeasureForm(self, self._viewer, _is_mask)
        self._timer = QTimer(self, interval=_POLL_MS)
        self._timer.timeout.connect(self._poll)
        self._again = QTimer(self, interval=_AGAIN_MS, singleShot=True)
        self._again.timeout.connect(self._measure_again)
        self._paint = self._painted  # one object, to be disconnected at the end
        self._connect()
        self._mask_changed()

    def _connect(self) -> None:
        form = self.form
        form.mask.currentIndexChanged.connect(self._mask_changed)
        form.time.toggled.connect(self._show_state)
        form.measure.clicked.connect(self.measure)
        form.cancel.clicked.connect(self.cancel)
        form.name.currentIndexChanged.connect(self._show_table)
        form.table.chosen.connect(self._row_chosen)
        form.csv.clicked.connect(lambda: self.save_csv())
        form.film_csv.clicked.connect(lambda: self.save_csv())
        form.film_again.clicked.connect(self.measure)
        form.reset.clicked.connect(self.lines.reset)
        self.lines.changed.connect(self._lines_changed)
        holder = self.__dict__
        self.destroyed.connect(lambda: _end(holder))

    @property
    def running(self) -> bool:
        """Whether cells are being measured."""
        return self._job is not None

    # What is chosen

    def _mask_changed(self, index: int = 0) -> None:
        layer = cast("Labels | None", self.form.mask.layer)
        if layer is self._layer and layer is not None:
            return
        self.cancel()
        for part in self._parts():
            part.events.paint.disconnect(self._paint)
        self._layer = layer
        self.tables = None
        self.marks.close()
        self.lines.close()
        chest = layer is not None and is_chest(layer)
        self.picker.on, self.picker.layer = not chest, None if chest else layer
        self.form.pages.setCurrentIndex(int(chest))
        self._show_table()
        if layer is None:
            self.form.say("Open a mask, or segment an image")
            return
        for part in self._parts():
            part.events.paint.connect(self._paint)
        self.form.say("")
        if chest:
            self.measure()
            return
        self.form.time.setChecked(is_movie(layer))
        self.form.time.setEnabled(layer.ndim == 3 and not facts_of(layer))
        image = image_of(self._viewer, layer)
        self.form.with_image.setChecked(image is not None)
        if image is not None:
            self.form.image.choose(image)
        own = [
            x
            for x in self._viewer.layers
            if facts_of(x).get("tracks_of") == layer.name
            or (_is_tracks(x) and _same_folder(x, layer))
        ]
        self.form.with_tracks.setChecked(bool(own))
        if own:
            self.form.tracks.choose(own[-1])
        self._show_state()

    def _parts(self) -> list[Labels]:
        """Return the layers of the chosen mask: all structures of a film."""
        if self._layer is None:
            return []
        group = facts_of(self._layer).get("group")
        if facts_of(self._layer).get("structure") is None or not group:
            return [self._layer]
        layers = [x for x in self._viewer.layers if facts_of(x).get("group") == group]
        return [x for x in layers if _is_mask(x)]

    def _show_state(self, on: Any = None) -> None:
        form = self.form
        movie = form.time.isChecked()
        form.movie_row.setVisible(movie)
        form.interval_row.setVisible(movie)
        form.name.setVisible(movie)
        form.measure.setEnabled(self._layer is not None and not self.running)

    def _painted(self, event: Any = None) -> None:
        if self._layer is not None and is_chest(self._layer):
            self._again.start()
        elif self.tables is not None:
            self.form.say("The mask has changed: measure again")

    def _measure_again(self) -> None:
        if self.lines.moved:
            self.form.say("The mask has changed: Measure again gives up your lines")
        else:
            self.measure()

    # Measuring

    def measure(self) -> None:
        """Measure the mask: a film at once, cells in a thread."""
        layer = self._layer
        if layer is None or self.running:
            return
        if is_chest(layer):
            self._measure_film(layer)
            return
        form = self.form
        movie = form.time.isChecked()
        image = form.image.layer if form.with_image.isChecked() else None
        if image is not None and tuple(image.data.shape) != tuple(layer.data.shape):
            form.say(f"{image.name} is not of the mask's shape: no intensities")
            image = None
        tracks = form.tracks.layer if form.with_tracks.isChecked() and movie else None
        interval = form.interval.value() or None
        made = self._try(
            lambda: MeasureJob(
                layer, image, tracks, movie=movie, frame_interval=interval
            )
        )
        if made is not None:
            self._run(made, movie)

    def _run(self, job: MeasureJob, movie: bool) -> None:
        self._job, self._movie = job, movie
        self.form.set_busy(True)

        def returned(found: list[Tables | MedsegError]) -> None:
            if self._job is job:  # not cancelled meanwhile
                self._ended(found[0])

        # In a list: napari takes an error that is returned for one that was raised.
        worker = create_worker(lambda: [job.run()], _start_thread=False)
        worker.returned.connect(returned)
        worker.start()
        self._timer.start()

    def cancel(self) -> None:
        """End a run."""
        if self._job is not None:
            self._job.cancel()
            self._job = None
            self._timer.stop()
            self.form.set_busy(False)
            self.form.say("Cancelled")

    def _poll(self) -> None:
        if self._job is not None:
            self.form.show_progress(self._job.done, self._job.total)

    def _ended(self, found: Tables | MedsegError) -> None:
        self._job = None
        self._timer.stop()
        self.form.set_busy(False)
        if isinstance(found, MedsegError):
            if not isinstance(found, JobCancelledError):
                self.form.say(str(found), bad=True)
            return
        self.tables = found
        if self._layer is not None:
            self._layer.features = features_of(found)
        self._show_table()
        self._show_state()
        text = f"{len(found.cells)} rows of cells"
        if found.graph is not None:
            text += f", {len(found.tracks)} tracks, {len(found.counts)} frames"
        self.form.say(found.note or text, bad=bool(found.note))

    def _show_table(self, index: int = 0) -> None:
        tables, name = self.tables, self.form.name.currentData()
        if tables is None:
            self.form.table.fill((), ())
        else:
            name = name if tables.graph is not None else "cells"
            self.form.table.fill(tables.rows(name), tables.columns(name))
        self.form.csv.setEnabled(tables is not None)

    # Rows and objects

    def _row_chosen(self, row: Row) -> None:
        tables, layer = self.tables, self._layer
        if tables is None or layer is None:
            return
        name = self.form.name.currentData() if tables.graph is not None else "cells"
        place = locate(tables, name, row)
        if place is not None:
            self.show_object(*place)

    def show_object(self, frame: int, label: int) -> None:
        """Select a label, go to its frame, mark it."""
        tables, layer = self.tables, self._layer
        if tables is None or layer is None:
            return
        of = {(r["frame"], r["cell"]): r for r in tables.cells}
        row = of.get((frame, label))
        if row is None:  # a frame without a cell
            go_to(self._viewer, layer, frame, [0.0] * (layer.ndim - 1))
            return
        layer.selected_label = label
        centre = [float(row[c]) for c in ("z_px", "y_px", "x_px") if row[c] is not None]
        index = [frame - frames_of(layer).first, *centre] if self._movie else centre
        size = float(row["area_px"] or row["volume_px"] or 1)
        side = size ** (1 / len(centre))
        self.marks.show(layer, np.array([index]), 1.5 * side + 2)
        point = np.asarray(layer.data_to_world(index), float)
        show_world(self._viewer, layer, point)

    def _clicked(self, index: tuple[int, ...], label: int) -> None:
        layer, tables = self._layer, self.tables
        if layer is None or tables is None:
            return
        frame = index[0] + frames_of(layer).first if self._movie else 0
        name = self.form.name.currentData() if tables.graph is not None else "cells"
        if name == "cells":
            wanted = {"frame": frame, "cell": label}
        elif name == "tracks":
            cells = (r for r in tables.cells if r["frame"] == frame)
            track = next((r["track"] for r in cells if r["cell"] == label), None)
            wanted = {"track": track}
        else:
            wanted = {"frame": frame}
        items = wanted.items()
        found = self.form.table.select(lambda r: all(r.get(k) == v for k, v in items))
        if found:
            self.show_object(frame, label)
        else:
            self.form.say(f"Label {label} is not in the table: measure again", bad=True)

    # Films

    def _measure_film(self, layer: Labels) -> None:
        found = self._try(lambda: measure(segmentation_from_layers(self._parts())))
        if found is None:
            return
        active = self._viewer.layers.selection.active
        if self.lines.show(found, layer):
            self.form.say("Drag the ends of the lines; the ratio follows")
        else:
            self._viewer.layers.selection.active = active
            self.form.say("Two lungs and a heart are needed for the ratio", bad=True)
        self._lines_changed(found)

    def _lines_changed(self, found: ChestMeasurement) -> None:
        self.form.show_film(found, self.lines.moved)

    # Saving

    def save_csv(self, path: str | Path | None = None) -> None:
        """Write the table that is shown; asks where."""
        text = self._csv()
        if text is None:
            return
        if not path:
            kinds = "Table (*.csv)"
            path, _ = QFileDialog.getSaveFileName(self, "Save", "measures.csv", kinds)
        if path and self._try(lambda: write_bytes(Path(path), text.encode()) or True):
            where = f"Saved: {Path(path).resolve()}"
            self.form.say(where)
            show_info(where)

    def _csv(self) -> str | None:
        layer, tables, film = self._layer, self.tables, self.form.film
        if layer is not None and is_chest(layer) and film is not None:
            row = table_row(str(facts_of(layer).get("source") or layer.name), film)
            by_hand = {LINES: "moved by hand" if self.lines.moved else "measured"}
            return to_csv([row | by_hand], [*FILM_COLUMNS, LINES])
        if tables is None:
            return None
        name = self.form.name.currentData() if tables.graph is not None else "cells"
        columns = tables.columns(name)
        rows = tables.rows(name)
        return to_csv([{c: r.get(c) for c in columns} for r in rows], columns)

    def _try(self, action: Callable[[], Any]) -> Any:
        """Return what the action returns; say what is wrong if it fails."""
        try:
            return action()
        except MedsegError as error:
            self.form.say(str(error), bad=True)
            return None


def _is_mask(layer: Layer) -> bool:
    from napari.layers import Labels

    plain = isinstance(layer, Labels) and not layer.multiscale
    return plain and layer.ndim in (2, 3, 4) and facts_of(layer).get("role") != "view"


def _is_tracks(layer: Layer) -> bool:
    from napari.layers import Tracks

    return isinstance(layer, Tracks)


def _same_folder(tracks: Layer, layer: Layer) -> bool:
    path = facts_of(tracks).get("path")
    return path is not None and path == facts_of(layer).get("path")


def _end(state: dict[str, Any]) -> None:
    """Remove the lines and the mark, and leave the mouse, when the widget is gone."""
    state["picker"].close()
    state["marks"].close()
    state["lines"].close()
    if state["_job"] is not None:
        state["_job"].cancel()
        state["_job"] = None
    layer, group = state["_layer"], None
    if layer is not None:
        group = facts_of(layer).get("group")
        for part in [layer, *state["_viewer"].layers]:
            if part is layer or (group and facts_of(part).get("group") == group):
                _disconnect(part, state["_paint"])
    state["_layer"] = state["_paint"] = None


def _disconnect(layer: Any, callback: Any) -> None:
    if hasattr(layer.events, "paint") and callback in layer.events.paint.callbacks:
        layer.events.paint.disconnect(callback)

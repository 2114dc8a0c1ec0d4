"""The controls of the Track widget, without what they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QDoubleSpinBox,
    QGridLayout,
    QHeaderView,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QSplitter,
    QTableWidget,
    QTableWidgetItem,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from medseg.napari_plugin.lineage_events import MEANING, Event
from medseg.napari_plugin.widgets.layer_combo import LayerCombo
from medseg.napari_plugin.widgets.lineage_view import LineageView
from medseg.napari_plugin.widgets.segment_form import combo, note, row, rows
from medseg.track import LinkParameters

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_BAD = "color: #e8734a;"
_AUTO = "estimated"
# Field, text, largest value, step, tooltip; those of the first rows are estimated.
_NUMBERS: tuple[tuple[str, str, float, float, str], ...] = (
    (
        "max_distance",
        "Farthest link, px",
        1e5,
        1.0,
        "Of a cell from where it is expected",
    ),
    ("division_distance", "Farthest daughter, px", 1e5, 1.0, "From its mother"),
    (
        "persistence",
        "Persistence",
        1.0,
        0.05,
        "0: cells wander; 1: cells keep their speed",
    ),
    (
        "overlap_weight",
        "Weight of overlap",
        100,
        0.1,
        "How much a link costs without overlap",
    ),
    ("size_weight", "Weight of size", 100, 0.1, "How much a change of size costs"),
    ("division_penalty", "Cost of a division", 100, 0.1, "More means fewer divisions"),
    (
        "gap_penalty",
        "Cost of a missing frame",
        100,
        0.05,
        "More means fewer closed gaps",
    ),
)
_ESTIMATED = ("max_distance", "division_distance", "persistence")
_PAINTS = (
    ("New layer", "view"),
    ("These masks, one undo step", "masks"),
    ("Leave the colours", "none"),
)
_KINDS = (("All kinds", ""), *((kind.capitalize(), kind) for kind in MEANING))


class TrackForm:
    """Lays the controls out in ``parent``; they are its attributes."""

    def __init__(
        self, parent: QWidget, viewer: ViewerModel, wanted: Callable[[Layer], bool]
    ) -> None:
        self.masks = LayerCombo(viewer, wanted, "no movie of masks yet")
        self.masks.setToolTip("The masks of a movie (T, [Z,] Y, X), a number a cell")
        self.tracks = LayerCombo(viewer, _is_tracks, "no tracks layer")
        self.tabs = QTabWidget()
        self.tabs.addTab(self._make_link(), "Link")
        self.tabs.addTab(self._make_edit(), "Edit")
        self.tabs.addTab(self._make_check(), "Check")
        self.tabs.addTab(self._make_save(), "Save")
        for i, tip in enumerate(
            ("Which cell is which", "Mend it by hand", "Look where it is odd", "Files")
        ):
            self.tabs.setTabToolTip(i, tip)
        self.lineage = LineageView()
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setFormat("")
        self.bar.setToolTip("Frames that have been read")
        self.bar.setVisible(False)
        self.message = note()
        self.message.setToolTip("What happened last")
        self.message.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
        )
        self._lay_out(parent)

    def _lay_out(self, parent: QWidget) -> None:
        split = QSplitter(Qt.Orientation.Vertical)
        split.addWidget(self.tabs)
        split.addWidget(self.lineage)
        split.setStretchFactor(1, 1)
        split.setChildrenCollapsible(False)
        self.lineage.setMinimumHeight(110)
        layout = QVBoxLayout(parent)
        layout.addLayout(rows(("Masks", self.masks)))
        layout.addWidget(split, 1)
        layout.addWidget(self.bar)
        layout.addWidget(self.message)
        parent.setMinimumWidth(300)

    def _make_link(self) -> QWidget:
        self.numbers: dict[str, QDoubleSpinBox] = {}
        lines: list[tuple[str, QWidget]] = []
        defaults = {f.name: f.default for f in fields(LinkParameters)}
        for name, text, most, step, tip in _NUMBERS:
            spin = QDoubleSpinBox()
            spin.setSingleStep(step)
            spin.setToolTip(tip)
            spin.setRange(0, most)
            if name in _ESTIMATED:
                spin.setRange(-step, most)
                spin.setSpecialValueText(_AUTO)
                spin.setValue(-step)
                spin.setToolTip(f"{tip}; read off the movie unless you set it")
            else:
                spin.setValue(float(defaults[name]))
            self.numbers[name] = spin
            lines.append((text, spin))
        self.max_gap = QSpinBox()
        self.max_gap.setRange(0, 100)
        self.max_gap.setValue(int(defaults["max_gap"]))
        self.max_gap.setToolTip("Frames that a cell may be missing; 0 closes no gaps")
        self.divisions = QCheckBox("Cells divide")
        self.divisions.setChecked(True)
        self.divisions.setToolTip("Look for cells that become two")
        self.paint = combo(
            _PAINTS,
            "Where masks get the colour and number of their track: a layer that only\n"
            "shows them, or the masks themselves, which Ctrl-Z takes back",
        )
        self.estimate = button("Estimate", "Read the parameters off the movie again")
        self.link = button(
            "Link", "Link the cells; a lineage edited by hand is replaced"
        )
        self.cancel = button("Cancel", "End the run; nothing changes")
        self.cancel.setEnabled(False)
        self.take = button(
            "Take from",
            "Take the lineage of a tracks layer instead of linking, as of a result\n"
            "that was opened",
        )
        self.repaint = button("Colour", "Colour the masks by track now")
        form = rows(
            *lines,
            ("Frames missing", self.max_gap),
            ("", self.divisions),
            ("Colour", row(self.paint, self.repaint)),
            ("", row(self.link, self.estimate, self.cancel)),
            ("", row(self.tracks, self.take)),
        )
        form.setVerticalSpacing(3)
        return page(form)

    def _make_edit(self) -> QWidget:
        self.pick = button("Pick cells", "Clicks on cells choose the two to edit")
        self.pick.setCheckable(True)
        self.clear = button("Clear", "Choose none")
        self.first, self.second = note(), note()
        self.first.setToolTip("The cell that was picked before the last one")
        self.second.setToolTip("The cell that was picked last")
        grid = QGridLayout()
        self.edits: dict[str, QPushButton] = {}
        for i, (name, tip) in enumerate(
            (
                ("Link", "The later cell is the earlier one; their other links go"),
                ("Cut", "The link between the two, or the link into the last picked"),
                ("Divide", "The later cell is one more daughter of the earlier one"),
                (
                    "Undivide",
                    "The earlier cell divides no more; the later one begins a track",
                ),
                (
                    "Swap",
                    "Two cells of one frame: exchange their past, from this frame on",
                ),
                ("Merge tracks", "The end of one track is linked to the other's begin"),
            )
        ):
            self.edits[name] = button(name, tip)
            grid.addWidget(self.edits[name], i // 2, i % 2)
        self.undo = button("Undo", "Take the last edit of the lineage back")
        self.redo = button("Redo", "Do it again")
        self.update = button(
            "Take over changes",
            "The masks were painted: read them again and keep all links of cells\n"
            "that are still there",
        )
        grid.addWidget(self.undo, 3, 0)
        grid.addWidget(self.redo, 3, 1)
        layout = QVBoxLayout()
        layout.addWidget(row(self.pick, self.clear))
        layout.addLayout(rows(("First", self.first), ("Last", self.second)))
        layout.addLayout(grid)
        layout.addWidget(self.update)
        layout.addStretch(1)
        return page(layout)

    def _make_check(self) -> QWidget:
        self.kind = combo(_KINDS, "Which events are listed")
        self.events = QTableWidget(0, 4)
        self.events.setHorizontalHeaderLabels(["What", "Frame", "Track", "Why"])
        self.events.setToolTip("Suspicious places, the worst first; click to go there")
        behaviour = QAbstractItemView.SelectionBehavior.SelectRows
        self.events.setSelectionBehavior(behaviour)
        single = QAbstractItemView.SelectionMode.SingleSelection
        self.events.setSelectionMode(single)
        self.events.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.events.verticalHeader().setVisible(False)
        self.events.verticalHeader().setDefaultSectionSize(22)
        header = self.events.horizontalHeader()
        for column in range(3):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        header.setStretchLastSection(True)
        self.previous = button("Previous", "The event before in the list")
        self.next = button("Next", "The next event in the list")
        self.fine = button("Fine", "This one is right: take it off the list, go on")
        self.count = note()
        layout = QVBoxLayout()
        layout.addWidget(row(self.kind, self.count))
        layout.addWidget(self.events, 1)
        line = row(self.previous, self.next, self.fine)
        for wide in (self.next, self.fine):
            line.layout().setStretchFactor(wide, 1)
        layout.addWidget(line)
        return page(layout)

    def _make_save(self) -> QWidget:
        self.save_result = button(
            "Challenge folder ...",
            "Masks by track and res_track.txt, as the Cell Tracking Challenge wants",
        )
        self.save_csv = button("Table (CSV) ...", "A line a cell and frame")
        self.save_geff = button(
            "GEFF ...", "The graph, for traccuracy, motile, TrackMate and others"
        )
        self.where = note()
        layout = QVBoxLayout()
        for one in (self.save_result, self.save_csv, self.save_geff):
            layout.addWidget(one)
        layout.addWidget(self.where)
        layout.addStretch(1)
        return page(layout)

    # What is shown

    def chosen(self) -> dict[str, Any]:
        """Return the parameters, without those that are to be estimated."""
        found: dict[str, Any] = {
            name: round(spin.value(), 6)
            for name, spin in self.numbers.items()
            if name not in _ESTIMATED or spin.value() >= 0
        }
        return found | {
            "max_gap": self.max_gap.value(),
            "divisions": self.divisions.isChecked(),
        }

    def show_estimated(self, values: Mapping[str, float]) -> None:
        """Show parameters that were read off the movie."""
        for name in _ESTIMATED:
            with QSignalBlocker(self.numbers[name]):
                self.numbers[name].setValue(float(values[name]))

    def forget_estimated(self) -> None:
        """Have the parameters estimated at the next run."""
        for name in _ESTIMATED:
            with QSignalBlocker(self.numbers[name]):
                self.numbers[name].setValue(self.numbers[name].minimum())

    def show_events(self, events: Sequence[Event], total: int) -> None:
        """List events."""
        with QSignalBlocker(self.events):
            self.events.setRowCount(len(events))
            for i, event in enumerate(events):
                texts = (event.kind, str(event.frame), str(event.track), event.text)
                for column, text in enumerate(texts):
                    item = QTableWidgetItem(text)
                    item.setToolTip(f"{event.text}. {MEANING[event.kind]}")
                    self.events.setItem(i, column, item)
            self.events.clearSelection()
            self.events.setCurrentCell(-1, -1)
        shown = f"{len(events)} of {total}" if len(events) != total else f"{total}"
        self.count.setText(f"{shown} to look at" if total else "nothing odd")

    def say(self, text: str, bad: bool = False) -> None:
        """Show one message."""
        self.message.setText(text)
        self.message.setStyleSheet(_BAD if bad else "")

    def set_busy(self, busy: bool) -> None:
        """Show whether a run goes on."""
        self.bar.setVisible(busy)
        self.bar.setRange(0, 0 if busy else 1000)
        self.bar.setFormat("")
        self.cancel.setEnabled(busy)
        for one in (self.link, self.estimate, self.take, self.update):
            one.setEnabled(not busy)

    def show_progress(self, done: int, total: int) -> None:
        """Show how many frames have been read."""
        if done:
            self.bar.setRange(0, total)
            self.bar.setValue(done)
            text = f"%v of {total} frames read" if done < total else "linking"
            self.bar.setFormat(text)


def _is_tracks(layer: Layer) -> bool:
    from napari.layers import Tracks

    return isinstance(layer, Tracks)


def button(text: str, tip: str) -> QPushButton:
    """Return a button."""
    found = QPushButton(text)
    found.setToolTip(tip)
    return found


def page(layout: Any) -> QWidget:
    """Return a widget with a layout."""
    found = QWidget()
    layout.setContentsMargins(6, 6, 6, 6)
    found.setLayout(layout)
    found.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
    return found

"""The tab of the Track widget that links the cells and colours them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QSpinBox, QWidget

from medseg.napari_plugin.lineage_scene import LineageScene
from medseg.napari_plugin.widgets.controls import (
    button,
    combo,
    fit,
    is_tracks,
    row,
    rows,
)
from medseg.napari_plugin.widgets.layer_combo import LayerCombo
from medseg.napari_plugin.widgets.track_runs import TrackRuns
from medseg.track import LinkParameters

# Field, text, largest value, step, tooltip; those of the first rows are estimated.
_NUMBERS: tuple[tuple[str, str, float, float, str], ...] = (
    ("max_distance", "Farthest link, px", 1e5, 1, "Of a cell from where it should be"),
    ("division_distance", "Farthest daughter, px", 1e5, 1, "From its mother"),
    (
        "persistence",
        "Persistence",
        1,
        0.05,
        "0: cells wander; 1: they keep their speed",
    ),
    ("overlap_weight", "Weight of overlap", 100, 0.1, "Cost of a link without overlap"),
    ("size_weight", "Weight of size", 100, 0.1, "How much a change of size costs"),
    ("division_penalty", "Cost of a division", 100, 0.1, "More: fewer divisions"),
    ("gap_penalty", "Cost of a missing frame", 100, 0.05, "More: fewer closed gaps"),
)
_ESTIMATED = ("max_distance", "division_distance", "persistence")
_PAINTS = (
    ("New layer", "view"),
    ("These masks, one undo step", "masks"),
    ("Leave the colours", "none"),
)


class LinkTab(QWidget):
    """The parameters of linking, and where the colours go.

    Args:
        scene: Its masks are coloured.
        runs: Do the work.
    """

    def __init__(self, scene: LineageScene, runs: TrackRuns) -> None:
        super().__init__()
        self._scene, self._runs = scene, runs
        self._make_parameters()
        self._make_actions()
        self._lay_out()
        self.link.clicked.connect(lambda: runs.link(self.chosen()))
        self.estimate.clicked.connect(runs.estimate)
        self.cancel.clicked.connect(runs.cancel)
        self.take.clicked.connect(lambda: runs.take(self.tracks.layer))
        self.recolour.clicked.connect(self.colour)
        self.tracks.currentIndexChanged.connect(self.show_state)
        runs.linked.connect(self.colour)
        runs.estimated.connect(self._show_estimated)

    def _make_parameters(self) -> None:
        self.numbers: dict[str, QDoubleSpinBox] = {}
        defaults: dict[str, Any] = asdict(LinkParameters(1, 1))
        for name, _, most, step, tip in _NUMBERS:
            spin = QDoubleSpinBox()
            spin.setSingleStep(step)
            spin.setRange(0, most)
            spin.setToolTip(tip)
            if name in _ESTIMATED:
                spin.setRange(-step, most)
                spin.setSpecialValueText("auto")
                spin.setToolTip(f"{tip}; read off the movie unless you set it")
            spin.setValue(-step if name in _ESTIMATED else defaults[name])
            self.numbers[name] = spin
        self.max_gap = QSpinBox()
        self.max_gap.setRange(0, 100)
        self.max_gap.setValue(defaults["max_gap"])
        self.max_gap.setToolTip("Frames that a cell may be missing; 0 closes no gaps")
        self.divisions = QCheckBox("Cells divide")
        self.divisions.setChecked(True)
        self.divisions.setToolTip("Look for cells that become two")

    def _make_actions(self) -> None:
        self.paint = combo(
            _PAINTS,
            "Where masks get the colour and number of their track: a layer that only\n"
            "shows them, or the masks themselves, which Ctrl-Z takes back",
        )
        self.recolour = button("Colour", "Colour the masks by track now")
        self.link = button(
            "Link", "Link the cells; a lineage edited by hand is replaced"
        )
        self.estimate = button("Estimate", "Read the parameters off the movie again")
        self.cancel = button("Cancel", "End the run; nothing changes")
        self.tracks = LayerCombo(self._scene.viewer, is_tracks, "no tracks layer")
        self.tracks.setToolTip("A lineage that is there already")
        self.take = button(
            "Take from",
            "Take the lineage of a tracks layer instead of linking, as of a result\n"
            "that was opened",
        )

    def _lay_out(self) -> None:
        form = rows(
            *((text, self.numbers[name]) for name, text, *_ in _NUMBERS),
            ("Frames missing", self.max_gap),
            ("", self.divisions),
            ("", row(self.paint, self.recolour)),
            ("", row(self.link, self.estimate, self.cancel)),
            ("", row(self.tracks, self.take)),
        )
        form.setVerticalSpacing(3)
        fit(self, form)

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

    def _show_estimated(self, found: LinkParameters) -> None:
        for name in _ESTIMATED:
            with QSignalBlocker(self.numbers[name]):
                self.numbers[name].setValue(getattr(found, name))

    def forget_estimated(self) -> None:
        """Have the parameters estimated at the next run."""
        for name in _ESTIMATED:
            with QSignalBlocker(self.numbers[name]):
                self.numbers[name].setValue(self.numbers[name].minimum())

    def colour(self) -> None:
        """Colour the masks by track, as chosen; they change only if asked for."""
        how = self.paint.currentData()
        if how == "view":
            self._scene.add_view()
        elif how == "masks":
            self._runs.number()

    def show_state(self, index: int = 0) -> None:
        """Enable what can be done now."""
        ready = self._scene.masks is not None and not self._runs.running
        self.link.setEnabled(ready)
        self.estimate.setEnabled(ready)
        self.take.setEnabled(ready and self.tracks.layer is not None)
        self.recolour.setEnabled(ready and self._scene.graph is not None)
        self.cancel.setEnabled(self._runs.running)

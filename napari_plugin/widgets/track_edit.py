"""The tab of the Track widget where links and divisions are mended by hand."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QGridLayout, QPushButton, QVBoxLayout, QWidget

from medseg.errors import ConfigError
from medseg.lineage import TrackGraph
from medseg.napari_plugin import lineage_edit as edit
from medseg.napari_plugin.lineage_scene import LineageScene
from medseg.napari_plugin.widgets.cell_picker import CellPicker
from medseg.napari_plugin.widgets.controls import (
    Message,
    button,
    fit,
    note,
    row,
    rows,
)
from medseg.napari_plugin.widgets.track_runs import TrackRuns

_EDITS: dict[str, tuple[Callable[..., TrackGraph], str]] = {
    "Link": (edit.link, "The later cell is the earlier one; their other links go"),
    "Cut": (
        edit.cut_between,
        "The link between the two, or the link into the last picked",
    ),
    "Divide": (
        edit.divide,
        "The later cell is one more daughter of the earlier one",
    ),
    "Undivide": (
        edit.undivide,
        "The earlier cell divides no more; the later one begins a track",
    ),
    "Swap": (
        edit.swap,
        "Two cells of one frame: exchange their past, from this frame on",
    ),
    "Merge tracks": (
        edit.merge,
        "The end of one track is linked to the other's begin",
    ),
}
_ALONE: dict[str, Callable[..., TrackGraph]] = {
    "Cut": edit.cut_before,
    "Undivide": edit.undivide,
}


class EditTab(QWidget):
    """Picks cells on the canvas and edits what is between them.

    Args:
        scene: Holds the lineage and the picked cells.
        runs: Take over masks that were painted.
        message: Where the tab says what happened.
    """

    def __init__(self, scene: LineageScene, runs: TrackRuns, message: Message) -> None:
        super().__init__()
        self._scene, self._runs, self._message = scene, runs, message
        self.picker = CellPicker(scene.viewer, self._clicked)
        self._make_controls()
        self._lay_out()
        self.pick.toggled.connect(self._pick_toggled)
        self.clear.clicked.connect(lambda: scene.select(()))
        for name, one in self.edits.items():
            one.clicked.connect(lambda _=False, n=name: self.edit(n))
        editor = scene.editor
        self.undo.clicked.connect(lambda: self._step(editor.undo, "Undone"))
        self.redo.clicked.connect(lambda: self._step(editor.redo, "Done again"))
        self.update_button.clicked.connect(runs.take_over)
        scene.picked_changed.connect(self._show_picked)

    def _make_controls(self) -> None:
        self.pick = button("Pick cells", "Clicks on cells choose the two to edit")
        self.pick.setCheckable(True)
        self.clear = button("Clear", "Choose none")
        self.first = note("The cell that was picked before the last one")
        self.second = note("The cell that was picked last")
        self.edits = {name: button(name, tip) for name, (_, tip) in _EDITS.items()}
        self.undo = button("Undo", "Take the last edit of the lineage back")
        self.redo = button("Redo", "Do it again")
        self.update_button = button(
            "Take over changes",
            "The masks were painted: read them again and keep all links of cells\n"
            "that are still there",
        )

    def _lay_out(self) -> None:
        grid = QGridLayout()
        buttons: list[QPushButton] = [*self.edits.values(), self.undo, self.redo]
        for number, one in enumerate(buttons):
            grid.addWidget(one, number // 2, number % 2)
        layout = QVBoxLayout()
        layout.addWidget(row(self.pick, self.clear))
        layout.addLayout(rows(("First", self.first), ("Last", self.second)))
        layout.addLayout(grid)
        layout.addWidget(self.update_button)
        layout.addStretch(1)
        fit(self, layout)

    def show_state(self) -> None:
        """Enable what can be done now: no edits while a run may replace them."""
        editor = self._scene.editor
        ready = editor.graph is not None and not self._runs.running
        for one in (*self.edits.values(), self.pick, self.clear, self.update_button):
            one.setEnabled(ready)
        for one, verb, name in (
            (self.undo, "Undo", editor.undo_name),
            (self.redo, "Redo", editor.redo_name),
        ):
            one.setEnabled(ready and bool(name))
            one.setText(f"{verb} {name}".strip())

    # Picking

    def _pick_toggled(self, on: bool) -> None:
        layer = self._scene.layer
        self.picker.on = on
        if on and layer is not None:
            self._scene.viewer.layers.selection.active = layer
            layer.mode = "pan_zoom"
            self._message.say("Click on a cell, go to another frame, click on another")

    def _clicked(self, index: tuple[int, ...], label: int) -> None:
        node = self._scene.node_of(index[0], label)
        if node is None:
            self._message.say(f"Label {label} is in no track: link again", bad=True)
        else:
            self._scene.select((*self._scene.picked, node))

    def _show_picked(self) -> None:
        texts = ["none", "none", *map(self._in_words, self._scene.picked)]
        self.first.setText(texts[-2] if len(texts) > 3 else "none")
        self.second.setText(texts[-1])

    def _in_words(self, node: int) -> str:
        graph = self._scene.graph
        if graph is None:
            return ""
        track = int(graph.track_ids()[node])
        return f"track {track}, frame {graph.frame[node]} (label {graph.label[node]})"

    # Editing

    def edit(self, name: str) -> None:
        """Change the lineage at the picked cells; says what is wrong if it cannot."""
        graph = self._message.attempt(lambda: self._edited(name))
        if graph is not None:
            self._scene.editor.put(graph, name.lower())
            self._message.say(f"{name}: {self._scene.summary()}")

    def _edited(self, name: str) -> TrackGraph:
        graph, picked = self._scene.graph, self._scene.picked
        if graph is None:
            raise ConfigError("tracks", "there is no lineage", "Press Link")
        if self._runs.running:
            raise ConfigError(name, "a run is going on", "Wait for it, or cancel it")
        if len(picked) == 1 and name in _ALONE:
            return _ALONE[name](graph, picked[0])
        if len(picked) < 2:
            count = "only one cell is" if picked else "no cell is"
            raise ConfigError(name, f"{count} picked", "Pick two")
        if name == "Undivide":
            picked = edit.in_time(graph, *picked)
        action, _ = _EDITS[name]
        return action(graph, *picked)

    def _step(self, step: Callable[[], str], text: str) -> None:
        name = step()
        if name:
            self._message.say(f"{text}: {name}. {self._scene.summary()}")

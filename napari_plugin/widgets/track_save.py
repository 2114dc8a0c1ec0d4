"""The tab of the Track widget that writes masks and lineage to files."""

from __future__ import annotations

from pathlib import Path

from napari.utils.notifications import show_info, show_warning
from qtpy.QtWidgets import QVBoxLayout, QWidget

from medseg.errors import MedsegError
from medseg.io.atomic import write_bytes
from medseg.napari_plugin._writer import save_result
from medseg.napari_plugin.beside import result_folder
from medseg.napari_plugin.layers import facts_of
from medseg.napari_plugin.lineage_scene import LineageScene
from medseg.napari_plugin.mask_frames import check_same
from medseg.napari_plugin.unsaved import keeper_of
from medseg.napari_plugin.widgets.background import in_thread
from medseg.napari_plugin.widgets.controls import Message, ask_file, button, fit, note
from medseg.track import to_csv, write_geff


class SaveTab(QWidget):
    """Three kinds of files, each checked.

    Args:
        scene: Holds what is saved.
        message: Where the tab says what happened.
    """

    def __init__(self, scene: LineageScene, message: Message) -> None:
        super().__init__()
        self._scene, self._message = scene, message
        self._writing, self._open = False, True
        self.result = button(
            "Challenge folder ...",
            "Masks by track and res_track.txt, as the Cell Tracking Challenge wants",
        )
        self.csv = button("Table (CSV) ...", "A line a cell and frame")
        self.geff = button(
            "GEFF ...", "The graph, for traccuracy, motile, TrackMate and others"
        )
        self.where = note("The last file that was written")
        layout = QVBoxLayout()
        for one in (self.result, self.csv, self.geff, self.where):
            layout.addWidget(one)
        layout.addStretch(1)
        fit(self, layout)
        self.result.clicked.connect(lambda: self.save_result())
        self.csv.clicked.connect(lambda: self.save_csv())
        self.geff.clicked.connect(lambda: self.save_geff())

    def show_state(self) -> None:
        """Enable what can be saved now."""
        there = self._scene.graph is not None
        for one in (self.csv, self.geff):
            one.setEnabled(there)
        self.result.setEnabled(there and not self._writing)

    def save_result(self, folder: str | Path | None = None) -> None:
        """Write masks and tracks as a challenge folder, in a thread; asks where."""
        scene = self._scene
        layer, tracks, masks, cells = (
            scene.layer,
            scene.tracks,
            scene.masks,
            scene.cells,
        )
        if layer is None or tracks is None or masks is None or cells is None:
            return
        start = str(result_folder(facts_of(layer).get("source") or "01"))
        path = folder or ask_file(self, "Folder for the result", start, "Folder (*)")
        if not path:
            return
        parts = [layer.as_layer_data_tuple(), tracks.as_layer_data_tuple()]
        self._message.say(f"Writing {path} ...")

        def work() -> Path:
            check_same(masks, cells)
            return save_result(Path(path), parts)

        keeper = keeper_of(scene.viewer)
        edits = keeper.edits(layer)

        def written(found: Path) -> None:
            if keeper.edits(layer) == edits:  # else strokes since are in no file
                keeper.mark_saved(layer, found)
            show_info(f"Saved and checked: {found.resolve()}")
            if self._open:
                self._end_writing()
                self._say(found)

        def failed(error: MedsegError) -> None:
            if self._open:
                self._end_writing()
                self._message.say(str(error), bad=True)
            else:
                show_warning(str(error))

        self._writing = True
        self.show_state()
        in_thread(work, written, failed)

    def _end_writing(self) -> None:
        self._writing = False
        self.show_state()

    def save_csv(self, path: str | Path | None = None) -> None:
        """Write the lineage as a table; asks where."""
        graph = self._scene.graph
        if graph is None:
            return
        path = path or ask_file(self, "Save", "tracks.csv", "Table (*.csv)")
        if not path:
            return
        target, text = Path(path), to_csv(graph).encode()
        if self._message.attempt(lambda: write_bytes(target, text)):
            self._tell(target)

    def save_geff(self, path: str | Path | None = None) -> None:
        """Write the lineage as GEFF; asks where."""
        graph, masks = self._scene.graph, self._scene.masks
        if graph is None or masks is None:
            return
        path = path or ask_file(self, "Save", "tracks.geff", "GEFF (*.geff)")
        if not path:
            return
        real = masks.geometry.unit == "mm"
        written = self._message.attempt(
            lambda: write_geff(
                graph,
                Path(path),
                spacing=masks.geometry.spacing if real else None,
                unit="millimeter" if real else None,
            )
        )
        if written is not None:
            self._tell(written)

    def let_go(self) -> None:
        """Note that the widget is gone; what is being written is finished."""
        self._open = False

    def _tell(self, path: Path) -> None:
        self._say(path)
        show_info(f"Saved: {path.resolve()}")

    def _say(self, path: Path) -> None:
        text = f"Saved: {path.resolve()}"
        self.where.setText(text)
        self._message.say(text)

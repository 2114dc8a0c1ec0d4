"""Link the cells of a movie, look at the lineage, and mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QSplitter, QTabWidget, QWidget

from medseg.errors import counted
from medseg.napari_plugin.lineage_scene import LineageScene
from medseg.napari_plugin.mask_frames import is_movie_mask, same_cells
from medseg.napari_plugin.unsaved import unwrap
from medseg.napari_plugin.widgets.close_guard import protect
from medseg.napari_plugin.widgets.controls import Bar, Message, column, rows
from medseg.napari_plugin.widgets.docks import share_place
from medseg.napari_plugin.widgets.layer_combo import LayerCombo, follow
from medseg.napari_plugin.widgets.lineage_view import LineageView
from medseg.napari_plugin.widgets.track_check import CheckTab
from medseg.napari_plugin.widgets.track_edit import EditTab
from medseg.napari_plugin.widgets.track_link import LinkTab
from medseg.napari_plugin.widgets.track_runs import TrackRuns
from medseg.napari_plugin.widgets.track_save import SaveTab

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Labels

_LOOK_MS = 300
_SMALL_FRAME = 1 << 22  # voxels; whether larger ones changed is not looked up
_SMALL_MOVIE = 1 << 27  # voxels; larger ones are not read again without being asked


class TrackWidget(QWidget):
    """Adds tracks and a view by track, which stay; its marks go with it.

    Args:
        viewer: Holds the masks.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = unwrap(viewer)
        self.scene = LineageScene(self._viewer)
        self.masks = LayerCombo(self._viewer, is_movie_mask, "no movie of masks yet")
        self.masks.setToolTip("The masks of a movie (T, [Z,] Y, X), a number a cell")
        self.message = Message()
        self.bar = Bar("Frames that have been read")
        self.lineage = LineageView()
        self.runs = TrackRuns(self, self.scene, self)
        self.linking = LinkTab(self.scene, self.runs)
        self.editing = EditTab(self.scene, self.runs, self.message)
        self.checking = CheckTab(self.scene, self.message)
        self.saving = SaveTab(self.scene, self.message)
        self._lay_out()
        self._painted: set[int] = set()  # numbers of frames
        self._touch = self._touched  # one object, to be disconnected at the end
        self._looking = QTimer(self, interval=_LOOK_MS, singleShot=True)
        self._looking.timeout.connect(self._look)
        self._connect()
        self._masks_changed()

    def _lay_out(self) -> None:
        self.tabs = QTabWidget()
        for tab, name, tip in (
            (self.linking, "Link", "Which cell is which"),
            (self.editing, "Edit", "Mend it by hand"),
            (self.checking, "Check", "Look where it is odd"),
            (self.saving, "Save", "Files"),
        ):
            self.tabs.setTabToolTip(self.tabs.addTab(tab, name), tip)
        self.lineage.setMinimumHeight(110)
        split = QSplitter(Qt.Orientation.Vertical)
        split.addWidget(self.tabs)
        split.addWidget(self.lineage)
        split.setStretchFactor(1, 1)
        split.setChildrenCollapsible(False)
        layout = column(self, 300)
        layout.addLayout(rows(("Masks", self.masks)))
        layout.addWidget(split, 1)
        layout.addWidget(self.bar)
        layout.addWidget(self.message)

    def _connect(self) -> None:
        self.masks.currentIndexChanged.connect(self._masks_changed)
        self.scene.changed.connect(self._lineage_changed)
        self.scene.picked_changed.connect(self._show_picked)
        self.lineage.tree.clicked.connect(self._tree_clicked)
        self.runs.linked.connect(self.checking.forget)
        self.checking.counted.connect(self._show_count)
        self.runs.finished.connect(self._look_soon)
        follow(self, self._viewer.dims.events, ("current_step",), self._moved)
        holder = self.__dict__
        self.destroyed.connect(lambda: _end(holder))

    def hideEvent(self, event: Any) -> None:  # noqa: N802
        """Give the mouse back: napari only hides a dock that is closed."""
        super().hideEvent(event)
        if not event.spontaneous():  # else the window is minimised
            self.editing.pick.setChecked(False)

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Guard the window against closing with unsaved masks."""
        super().showEvent(event)
        share_place(self)
        protect(self._viewer, self)

    # The masks

    def _masks_changed(self, index: int = 0) -> None:
        layer = cast("Labels | None", self.masks.layer)
        if layer is self.scene.layer and layer is not None:
            return
        self.runs.cancel()
        _disconnect(self.scene.layer, self._touch)
        self.editing.picker.layer = layer
        self.linking.forget_estimated()
        self.checking.forget()
        self._painted.clear()
        self.message.say("Open a movie of masks, or segment one")
        self.message.attempt(lambda: self.scene.follow(layer))
        if layer is not None:
            layer.events.paint.connect(self._touch)
            layer.events.set_data.connect(self._touch)
        if self.scene.masks is not None:
            count = len(self.scene.masks)
            text = (
                f"{counted(count, 'frame')}. Press Link, or take a lineage from tracks"
            )
            self.message.say(text)
        self._show_state()

    def _touched(self, event: Any = None) -> None:
        if self.scene.cells is None:
            return
        if event is not None and event.type == "paint":
            self._painted.add(self.scene.frame)
        if not self._looking.isActive():
            self._look_soon()

    def _look_soon(self) -> None:
        self._looking.start()

    def _look(self) -> None:
        """See whether masks that are shown, painted or numbered are the same."""
        masks, cells = self.scene.masks, self.scene.cells
        if masks is None or cells is None or self.runs.running:
            return  # the end of a run looks again
        if masks.data[0].size > _SMALL_FRAME:
            return
        frames = {f - masks.first for f in (*self._painted, self.scene.frame)}
        shown = (frames | {self.runs.witness}) & set(range(len(masks)))
        self._painted.clear()
        if all(same_cells(masks, cells, index) for index in shown):
            return
        if masks.data.size <= _SMALL_MOVIE:
            self.runs.take_over()
        else:
            self.message.say("The masks have changed: press Take over changes (Edit)")

    # Runs

    def set_busy(self, busy: bool) -> None:
        """Show whether a run goes on."""
        self.bar.set_busy(busy)
        self._show_state()

    def show_progress(self, done: int, total: int) -> None:
        """Show how many frames have been read."""
        text = f"%v of {total} frames read" if done < total else "linking"
        self.bar.show_progress(done, total, text)

    def _show_state(self) -> None:
        for tab in (self.linking, self.editing, self.saving):
            tab.show_state()

    # The lineage

    def _lineage_changed(self) -> None:
        scene = self.scene
        self.checking.look()
        layer = scene.view or scene.layer

        def colour(track: int) -> QColor:
            rgba = layer.get_color(track) if layer is not None else None
            if rgba is None:
                return QColor("#8a919c")
            return QColor.fromRgbF(*(float(v) for v in rgba[:3]))

        self.lineage.tree.show_graph(scene.graph, scene.span, colour)
        self._moved()
        self._show_state()

    def _show_count(self, left: int) -> None:
        self.tabs.setTabText(2, f"Check ({left})" if left else "Check")

    def _moved(self, event: Any = None) -> None:
        self.lineage.tree.show_frame(self.scene.frame)

    def _show_picked(self) -> None:
        picked = self.scene.picked
        self.lineage.tree.show_picked(picked)
        if picked:
            self.lineage.reveal(picked[-1])

    def _tree_clicked(self, node: int) -> None:
        self.scene.go_to(node)
        self.scene.select((*self.scene.picked, node))


def _disconnect(layer: Any, touch: Any) -> None:
    if layer is not None:
        layer.events.paint.disconnect(touch)
        layer.events.set_data.disconnect(touch)


def _end(state: dict[str, Any]) -> None:
    """Give back the mouse and the marks when the widget is gone; results stay."""
    state["editing"].picker.close()
    state["runs"].close()
    state["saving"].let_go()
    _disconnect(state["scene"].layer, state["_touch"])
    state["scene"].close()
    state["_touch"] = None

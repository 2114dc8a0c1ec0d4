"""Link the cells of a movie, look at the lineage, and mend it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from napari.qt.threading import create_worker
from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QFileDialog, QWidget

from medseg.errors import ConfigError, MedsegError
from medseg.io.atomic import write_bytes
from medseg.lineage import TrackGraph
from medseg.napari_plugin import lineage_edit as edit
from medseg.napari_plugin._writer import save_result, show_written
from medseg.napari_plugin.history import apply_mask
from medseg.napari_plugin.layers import facts_of
from medseg.napari_plugin.lineage_edit import LineageEditor
from medseg.napari_plugin.lineage_events import Event, find_events
from medseg.napari_plugin.lineage_layers import (
    MaskFrames,
    NumberedView,
    add_view,
    frames_of,
    go_to,
    graph_of_tracks,
    is_movie_mask,
    show_tracks,
)
from medseg.napari_plugin.movie_job import (
    JobCancelledError,
    Linked,
    MovieJob,
    estimating,
    linking,
)
from medseg.napari_plugin.unsaved import unwrap
from medseg.napari_plugin.widgets.cell_picker import CellMarks, CellPicker
from medseg.napari_plugin.widgets.close_guard import protect
from medseg.napari_plugin.widgets.layer_combo import follow
from medseg.napari_plugin.widgets.track_form import TrackForm
from medseg.regions import regions
from medseg.track import Cells, to_csv, write_geff
from medseg.track.parameters import typical_diameter

if TYPE_CHECKING:
    from napari.layers import Labels, Tracks
    from napari.viewer import Viewer

_POLL_MS, _LOOK_MS = 50, 300
_SMALL_FRAME = 1 << 22  # voxels; whether larger ones changed is not looked up
_SMALL_MOVIE = 1 << 27  # voxels; larger ones are not read again without being asked


class TrackWidget(QWidget):
    """Adds tracks and a view by track, which stay; its marks go with it.

    Args:
        viewer: Holds the masks.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = unwrap(viewer)
        self.editor = LineageEditor()
        self.picked: tuple[int, ...] = ()
        self.events: list[Event] = []
        self._shown_events: list[Event] = []
        self._fine: set[tuple[str, int, int]] = set()
        self._layer: Labels | None = None
        self._masks: MaskFrames | None = None
        self._cells: Cells | None = None
        self._tracks: Tracks | None = None
        self._view: tuple[Labels, NumberedView] | None = None
        self.marks = CellMarks(self._viewer, "picked cells")
        self._witness = -1  # a frame that tells whether colouring was undone
        self._job: MovieJob | None = None
        self._touch = self._touched  # one object, to be disconnected at the end
        self.form = TrackForm(self, self._viewer, is_movie_mask)
        self.picker = CellPicker(self._viewer, self._clicked)
        self._timer = QTimer(self, interval=_POLL_MS)
        self._timer.timeout.connect(self._poll)
        self._looking = QTimer(self, interval=_LOOK_MS, singleShot=True)
        self._looking.timeout.connect(self._look)
        self._connect()
        self._masks_changed()

    def _connect(self) -> None:
        form = self.form
        form.masks.currentIndexChanged.connect(self._masks_changed)
        form.link.clicked.connect(self.link)
        form.estimate.clicked.connect(self.estimate)
        form.cancel.clicked.connect(self.cancel)
        form.take.clicked.connect(self.take)
        form.repaint.clicked.connect(self.paint)
        form.tracks.currentIndexChanged.connect(self._show_state)
        form.pick.toggled.connect(self._pick_toggled)
        form.clear.clicked.connect(lambda: self.select(()))
        for name, button in form.edits.items():
            button.clicked.connect(lambda _=False, n=name: self.edit(n))
        form.undo.clicked.connect(lambda: self._undo(self.editor.undo, "Undone"))
        form.redo.clicked.connect(lambda: self._undo(self.editor.redo, "Done again"))
        form.update.clicked.connect(self.take_over)
        form.kind.currentIndexChanged.connect(self._list_events)
        form.events.itemSelectionChanged.connect(self._event_chosen)
        form.next.clicked.connect(lambda: self.step(1))
        form.previous.clicked.connect(lambda: self.step(-1))
        form.fine.clicked.connect(self.fine)
        form.save_result.clicked.connect(lambda: self.save_result())
        form.save_csv.clicked.connect(lambda: self.save_csv())
        form.save_geff.clicked.connect(lambda: self.save_geff())
        form.lineage.tree.clicked.connect(self._tree_clicked)
        self.editor.changed.connect(self._graph_changed)
        follow(self, self._viewer.dims.events, ("current_step",), self._moved)
        holder = self.__dict__
        self.destroyed.connect(lambda: _end(holder))

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Guard the window against closing with unsaved masks."""
        super().showEvent(event)
        protect(self._viewer, self)

    @property
    def running(self) -> bool:
        """Whether a movie is being read or linked."""
        return self._job is not None

    @property
    def graph(self) -> TrackGraph | None:
        """The lineage as it is now."""
        return self.editor.graph

    @property
    def tracks(self) -> Tracks | None:
        """The layer that shows it."""
        return self._tracks

    # The masks

    def _masks_changed(self, index: int = 0) -> None:
        layer = cast("Labels | None", self.form.masks.layer)
        if layer is self._layer and layer is not None:
            return
        self.cancel()
        self._follow_layer(layer)
        self._cells = None
        self._fine.clear()
        self._tracks, self._view = None, None
        self.form.forget_estimated()
        self.editor.set(None)
        if layer is None:
            self.form.say("Open a movie of masks, or segment one")
        else:
            count = len(self._masks) if self._masks is not None else 0
            self.form.say(f"{count} frames. Press Link, or take a lineage from tracks")

    def _follow_layer(self, layer: Labels | None) -> None:
        if self._layer is not None:
            self._layer.events.paint.disconnect(self._touch)
            self._layer.events.set_data.disconnect(self._touch)
        self._layer = self.picker.layer = layer
        self._masks = None
        if layer is None:
            return
        self._masks = self._try(lambda: frames_of(layer))
        layer.events.paint.connect(self._touch)
        layer.events.set_data.connect(self._touch)

    def _touched(self, event: Any = None) -> None:
        if self._cells is not None and not self._looking.isActive():
            self._looking.start()

    def _look(self) -> None:
        """See whether the masks that are shown, or were renumbered, are the same."""
        masks, cells = self._masks, self._cells
        if masks is None or cells is None or self.running:
            return
        shown = {self._frame() - masks.first, self._witness} & set(range(len(masks)))
        if np.prod(masks.shape) > _SMALL_FRAME:
            return
        if all(_same_cells(masks, cells, index) for index in shown):
            return
        self.form.update.setEnabled(True)
        if masks.data.size <= _SMALL_MOVIE:
            self.take_over()
        else:
            self.form.say("The masks have changed: press Take over changes (Edit)")

    # Linking

    def link(self) -> None:
        """Link the cells in a thread."""
        if self._masks is not None:
            then = linking(self._masks, self.form.chosen())
            self._start(then, self._linked, self._cells)

    def estimate(self) -> None:
        """Read the parameters off the movie, in a thread."""
        if self._masks is not None:
            self._start(estimating(self._masks), self._estimated, self._cells)

    def take(self) -> None:
        """Take the lineage of a tracks layer."""
        masks, tracks = self._masks, self.form.tracks.layer
        if masks is None or tracks is None:
            self.form.say("There is no tracks layer", bad=True)
            return

        def then(cells: Cells) -> Linked:
            return Linked(cells, None, graph_of_tracks(tracks, masks, cells))

        self._start(then, self._linked, self._cells)

    def take_over(self) -> None:
        """Read the masks again; cells that are still there keep their links."""
        if self.graph is not None and self._masks is not None:
            self._start(Linked, self._carried, None)

    def cancel(self) -> None:
        """End a run; nothing changes."""
        if self._job is not None:
            self._job.cancel()
            self._job = None
            self._timer.stop()
            self.form.set_busy(False)
            self.form.say("Cancelled")

    def _start(
        self,
        then: Callable[[Cells], Linked],
        finish: Callable[[Linked], None],
        cells: Cells | None,
    ) -> None:
        if self._masks is None or self.running:
            return
        job = MovieJob(self._masks, then, cells)
        self._job = job
        self.form.set_busy(True)
        self.form.say("Reading the masks ..." if cells is None else "Linking ...")

        def returned(found: list[Linked | MedsegError]) -> None:
            if self._job is job:  # not cancelled meanwhile
                self._ended(found[0], finish)

        # In a list: napari takes an error that is returned for one that was raised.
        worker = create_worker(lambda: [job.run()], _start_thread=False)
        worker.returned.connect(returned)
        worker.start()
        self._timer.start()

    def _poll(self) -> None:
        if self._job is not None:
            self.form.show_progress(self._job.done, self._job.total)

    def _ended(
        self, found: Linked | MedsegError, finish: Callable[[Linked], None]
    ) -> None:
        self._job = None
        self._timer.stop()
        self.form.set_busy(False)
        if isinstance(found, MedsegError):
            if not isinstance(found, JobCancelledError):
                self.form.say(str(found), bad=True)
            return
        finish(found)

    def _estimated(self, found: Linked) -> None:
        self._cells = found.cells
        if found.parameters is not None:
            self.form.show_estimated(asdict(found.parameters))
        self.form.say(f"Estimated from {len(found.cells)} cells")

    def _linked(self, found: Linked) -> None:
        self._cells = found.cells
        if found.parameters is not None:
            self.form.show_estimated(asdict(found.parameters))
        if found.graph is None:
            return
        self._fine.clear()
        self.picked = ()
        self.editor.set(found.graph)
        self.paint()
        self.form.say(self._summary())

    def _carried(self, found: Linked) -> None:
        cells = found.cells
        self._cells = cells
        frame = cells.frames[cells.frame]
        self.select(())
        self.editor.carry(
            lambda g: edit.reconcile(g, frame, cells.label, cells.centroid)
        )
        self.form.say(f"The masks have changed. {self._summary()}")

    def _summary(self) -> str:
        graph = self.graph
        if graph is None:
            return ""
        count = len(graph.rows())
        return (
            f"{len(graph)} cells in {count} tracks, "
            f"{len(graph.divisions())} divisions, "
            f"{len(graph.gaps())} gaps closed"
        )

    # What is shown

    def paint(self) -> None:
        """Colour the masks by track, as chosen; the masks change only if asked for."""
        layer, masks, graph = self._layer, self._masks, self.graph
        how = self.form.paint.currentData()
        if layer is None or masks is None or graph is None or how == "none":
            return
        if how == "masks":
            self._paint_masks(layer, masks, graph)
        elif self._view is None or self._view[0] not in self._viewer.layers:
            view = NumberedView(masks, graph)
            self._view = (add_view(self._viewer, layer, view), view)
            layer.visible = False
            self.form.masks.choose(layer)

    def _paint_masks(self, layer: Labels, masks: MaskFrames, graph: TrackGraph) -> None:
        numbered = NumberedView(masks, graph).whole()
        layer.visible = True  # napari cannot change what it has not sliced
        if self._view is not None and self._view[0] in self._viewer.layers:
            self._viewer.layers.remove(self._view[0])
        self._view = None
        if self._try(lambda: apply_mask(layer, numbered)) is None:
            return
        ids = graph.track_ids()
        new = graph.frame[graph.label != ids]
        self._witness = int(new[0]) - masks.first if len(new) else -1
        if self._cells is not None:
            self._cells = replace(self._cells, label=ids)
        self.editor.carry(lambda g: replace(g, label=ids))
        self.form.say("The masks have track numbers now; Ctrl-Z takes it back")

    def _graph_changed(self) -> None:
        graph, layer = self.graph, self._layer
        if layer is not None and graph is not None:
            active = self._viewer.layers.selection.active
            self._tracks = show_tracks(self._viewer, layer, graph, self._tracks)
            if active is not None and active in self._viewer.layers:
                self._viewer.layers.selection.active = active
            if self._view is not None and self._view[0] in self._viewer.layers:
                self._view[1].follow(graph)
                self._view[0].refresh()
        self._find_events()
        self._draw_lineage()
        self.select(self.picked if graph is not None else ())

    def _draw_lineage(self) -> None:
        layer = self._view[0] if self._view is not None else self._layer

        def colour(track: int) -> QColor:
            rgba = layer.get_color(track) if layer is not None else None
            if rgba is None:
                return QColor("#8a919c")
            return QColor.fromRgbF(*(float(v) for v in rgba[:3]))

        span = (0, 1)
        if self._masks is not None:
            span = (self._masks.numbers[0], self._masks.numbers[-1])
        self.form.lineage.tree.show_graph(self.graph, span, colour)
        self._moved()

    def _show_state(self, index: int = 0) -> None:
        form, graph = self.form, self.graph
        form.undo.setEnabled(bool(self.editor.undo_name))
        form.undo.setText(f"Undo {self.editor.undo_name}".strip())
        form.redo.setEnabled(bool(self.editor.redo_name))
        form.redo.setText(f"Redo {self.editor.redo_name}".strip())
        saves = (form.save_result, form.save_csv, form.save_geff)
        for one in (*form.edits.values(), form.pick, form.repaint, *saves):
            one.setEnabled(graph is not None)
        form.update.setEnabled(graph is not None)
        form.link.setEnabled(self._masks is not None and not self.running)
        form.estimate.setEnabled(form.link.isEnabled())
        form.take.setEnabled(form.link.isEnabled() and form.tracks.layer is not None)
        texts = [self._words(node) for node in self.picked]
        form.second.setText(texts[-1] if texts else "none")
        form.first.setText(texts[0] if len(texts) > 1 else "none")

    def _words(self, node: int) -> str:
        graph = self.graph
        if graph is None:
            return ""
        track = int(graph.track_ids()[node])
        return f"track {track}, frame {graph.frame[node]} (label {graph.label[node]})"

    def _frame(self) -> int:
        """Return the number of the frame that is shown."""
        if self._layer is None or self._masks is None:
            return 0
        point = self._viewer.dims.point[-self._layer.ndim :]
        return self._masks.first + round(float(self._layer.world_to_data(point)[0]))

    def _moved(self, event: Any = None) -> None:
        self.form.lineage.tree.show_frame(self._frame())

    # Picking

    def _pick_toggled(self, on: bool) -> None:
        self.picker.on = on
        if on and self._layer is not None:
            self._viewer.layers.selection.active = self._layer
            self._layer.mode = "pan_zoom"
            self.form.say("Click on a cell, go to another frame, click on another")

    def _clicked(self, index: tuple[int, ...], label: int) -> None:
        node = self.node_of(index[0], label)
        if node is None:
            self.form.say(f"Label {label} is in no track: link again", bad=True)
        else:
            self.select((*self.picked, node))

    def node_of(self, index: int, label: int) -> int | None:
        """Return the node of a label in a frame, by the frame's index."""
        graph, masks = self.graph, self._masks
        if graph is None or masks is None:
            return None
        here = (graph.frame == masks.first + index) & (graph.label == label)
        nodes = np.flatnonzero(here)
        return int(nodes[0]) if len(nodes) else None

    def select(self, nodes: tuple[int, ...]) -> None:
        """Choose the two cells that edits are about; of more, the last two."""
        kept = [n for i, n in enumerate(nodes) if n not in nodes[i + 1 :]]
        self.picked = tuple(kept[-2:])
        self._mark()
        self.form.lineage.tree.show_picked(self.picked)
        self._show_state()

    def _mark(self) -> None:
        """Draw a ring round the picked cells."""
        graph, layer = self.graph, self._layer
        if graph is None or layer is None or not self.picked:
            self.marks.close()
            return
        first = self._masks.first if self._masks is not None else 0
        nodes = list(self.picked)
        points = np.column_stack([graph.frame[nodes] - first, graph.centroid[nodes]])
        self.marks.show(layer, points, self._ring())

    def _ring(self) -> float:
        """Return the size of a mark: somewhat larger than a cell."""
        return 1.3 * typical_diameter(self._cells) if self._cells is not None else 10.0

    def _tree_clicked(self, node: int) -> None:
        self.go_to_node(node)
        self.select((*self.picked, node))

    def go_to_node(self, node: int) -> None:
        """Show the frame of a node, with its cell in the middle."""
        graph, layer = self.graph, self._layer
        if graph is None or layer is None:
            return
        go_to(self._viewer, layer, int(graph.frame[node]), graph.centroid[node])
        layer.selected_label = int(graph.label[node])
        if self._view is not None and self._view[0] in self._viewer.layers:
            self._view[0].selected_label = int(graph.track_ids()[node])
        self.form.lineage.reveal(node)

    # Editing

    def edit(self, name: str) -> None:
        """Change the lineage at the picked cells; says what is wrong if it cannot."""
        graph = self._try(lambda: self._edited(name))
        if graph is not None:
            self.editor.put(graph, name.lower())
            self.form.say(f"{name}: {self._summary()}")

    def _edited(self, name: str) -> TrackGraph:
        graph, picked = self.graph, self.picked
        if graph is None:
            raise ConfigError("tracks", "there is no lineage", "Press Link")
        alone = len(picked) == 1
        if alone and name == "Cut":
            return edit.cut_before(graph, picked[0])
        if alone and name == "Undivide":
            return edit.undivide(graph, picked[0])
        if len(picked) < 2:
            raise ConfigError(name, f"{len(picked)} cells are picked", "Pick two")
        if name == "Undivide":
            return edit.undivide(graph, *edit.in_time(graph, *picked))
        actions = {
            "Link": edit.link,
            "Cut": edit.cut_between,
            "Divide": edit.divide,
            "Swap": edit.swap,
            "Merge tracks": edit.merge,
        }
        return actions[name](graph, *picked)

    def _undo(self, step: Callable[[], str], text: str) -> None:
        name = step()
        if name:
            self.form.say(f"{text}: {name}. {self._summary()}")

    # Suspicious events

    def _find_events(self) -> None:
        graph, cells, masks = self.graph, self._cells, self._masks
        self.events = []
        if graph is not None and cells is not None and masks is not None:
            span = (masks.numbers[0], masks.numbers[-1])
            self.events = find_events(graph, cells.size, masks.shape, span)
        self._list_events()

    def _list_events(self, index: int = 0) -> None:
        kind = self.form.kind.currentData()
        left = [e for e in self.events if _key(e) not in self._fine]
        self._shown_events = [e for e in left if kind in ("", e.kind)]
        self.form.show_events(self._shown_events, len(left))
        self.form.tabs.setTabText(2, f"Check ({len(left)})" if left else "Check")

    def _event_chosen(self) -> None:
        row = self.form.events.currentRow()
        if 0 <= row < len(self._shown_events):
            node = self._shown_events[row].node
            self.go_to_node(node)
            self.select(self._around(node, self._shown_events[row]))

    def _around(self, node: int, event: Event) -> tuple[int, ...]:
        """Return the cells that mend an event: those of the link, or the one."""
        graph = self.graph
        if graph is None or event.kind not in ("jump", "size", "gap"):
            return (node,)
        before = int(graph.predecessors()[node])
        return (node,) if before < 0 else (before, node)

    def step(self, by: int) -> None:
        """Go to the next event of the list, or the one before."""
        count = len(self._shown_events)
        if count:
            row = self.form.events.currentRow()
            row = (row + by) % count if row >= 0 else (0 if by > 0 else count - 1)
            self.form.events.selectRow(row)

    def fine(self) -> None:
        """Take the chosen event off the list and go to the next."""
        row = self.form.events.currentRow()
        if not 0 <= row < len(self._shown_events):
            return
        self._fine.add(_key(self._shown_events[row]))
        self._list_events()
        if self._shown_events:
            self.form.events.selectRow(min(row, len(self._shown_events) - 1))

    # Saving

    def save_result(self, folder: str | Path | None = None) -> None:
        """Write masks and tracks as a challenge folder, in a thread; asks where."""
        layer, tracks, masks, cells = (
            self._layer,
            self._tracks,
            self._masks,
            self._cells,
        )
        if layer is None or tracks is None or masks is None or cells is None:
            return
        path = folder or _ask_folder(self, layer)
        if not path:
            return
        parts = [layer.as_layer_data_tuple(), tracks.as_layer_data_tuple()]
        self.form.save_result.setEnabled(False)
        self.form.say(f"Writing {path} ...")

        def work() -> list[Path | MedsegError]:
            try:
                _check_same(masks, cells)
                return [save_result(Path(path), parts)]
            except MedsegError as error:
                return [error]

        def returned(result: list[Path | MedsegError]) -> None:
            found = result[0]
            self.form.save_result.setEnabled(True)
            if isinstance(found, MedsegError):
                self.form.say(str(found), bad=True)
                return
            show_written([found], parts)
            self._saved(found)

        worker = create_worker(work, _start_thread=False)
        worker.returned.connect(returned)
        worker.start()

    def save_csv(self, path: str | Path | None = None) -> None:
        """Write the lineage as a table; asks where."""
        graph = self.graph
        path = path or (graph is not None and _ask_file(self, "Table (*.csv)", ".csv"))
        if graph is not None and path:
            text = to_csv(graph).encode()
            if self._try(lambda: write_bytes(Path(path), text) or True):
                self._saved(Path(path))

    def save_geff(self, path: str | Path | None = None) -> None:
        """Write the lineage as GEFF; asks where."""
        graph, masks = self.graph, self._masks
        if graph is None or masks is None:
            return
        path = path or _ask_file(self, "GEFF (*.geff)", ".geff")
        if not path:
            return
        real = masks.geometry.unit == "mm"
        scale = {"spacing": masks.geometry.spacing, "unit": "millimeter"}
        written = self._try(
            lambda: write_geff(graph, Path(path), **(scale if real else {}))
        )
        if written is not None:
            self._saved(written)

    def _saved(self, path: Path) -> None:
        self.form.where.setText(f"Saved: {path.resolve()}")
        self.form.say(f"Saved: {path.resolve()}")
        show_info(f"Saved: {path.resolve()}")

    def _try(self, action: Callable[[], Any]) -> Any:
        """Return what the action returns; say what is wrong if it fails."""
        try:
            return action()
        except MedsegError as error:
            self.form.say(str(error), bad=True)
            return None


def _same_cells(masks: MaskFrames, cells: Cells, index: int) -> bool:
    """Return whether a frame still has the cells that it had."""
    found = regions(np.asarray(masks.data[index]))
    here = np.flatnonzero(cells.frame == index)
    order = here[np.argsort(cells.label[here])]
    same = np.array_equal(cells.label[order], found.labels)
    return same and np.array_equal(cells.size[order], found.sizes)


def _check_same(masks: MaskFrames, cells: Cells) -> None:
    """Raise ConfigError if the masks are no longer those of the lineage."""
    for index in range(len(masks)):
        if not _same_cells(masks, cells, index):
            raise ConfigError(
                "tracks",
                f"the masks of frame {masks.first + index} have changed",
                "Press Take over changes (Edit), then save",
            )


def _key(event: Event) -> tuple[str, int, int]:
    return (event.kind, event.frame, event.label)


def _ask_folder(parent: QWidget, layer: Labels) -> str:
    source = facts_of(layer).get("source")
    start = f"{source}_RES" if source else "01_RES"
    found, _ = QFileDialog.getSaveFileName(
        parent, "Folder for the result", start, "Folder (*)"
    )
    return found


def _ask_file(parent: QWidget, kinds: str, suffix: str) -> str:
    found, _ = QFileDialog.getSaveFileName(parent, "Save", f"tracks{suffix}", kinds)
    return found if not found or found.endswith(suffix) else found + suffix


def _end(state: dict[str, Any]) -> None:
    """Give back the mouse and the marks when the widget is gone; results stay."""
    state["picker"].close()
    if state["_job"] is not None:
        state["_job"].cancel()
        state["_job"] = None
    layer = state["_layer"]
    if layer is not None:
        layer.events.paint.disconnect(state["_touch"])
        layer.events.set_data.disconnect(state["_touch"])
    state["marks"].close()
    for name in ("_layer", "_view", "_tracks", "_masks", "_touch"):
        state[name] = None

"""What the Track widget does to a whole movie: in a thread, or a part at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from medseg.errors import MedsegError
from medseg.lineage import TrackGraph
from medseg.napari_plugin.history import apply_in_turns
from medseg.napari_plugin.lineage_edit import match_cells
from medseg.napari_plugin.lineage_layers import graph_of_tracks, unlinked
from medseg.napari_plugin.lineage_scene import LineageScene
from medseg.napari_plugin.movie_job import Linked, MovieJob, estimating, linking
from medseg.napari_plugin.numbered_view import NumberedView, numbered_blocks
from medseg.napari_plugin.widgets.background import BusyForm, Runner
from medseg.track import Cells, LinkParameters

if TYPE_CHECKING:
    from napari.layers import Labels, Tracks

_Carried: TypeAlias = tuple[Cells, TrackGraph, NDArray[np.int64]]


class TrackRuns:
    """One run at a time.

    Args:
        parent: Owner of the timers.
        scene: Is given what a run finds.
        form: Shows how far a run is.

    Attributes:
        linked: Emitted when there is a new lineage.
        estimated: Emitted with the parameters that were used.
        finished: Emitted after every run, with or without a result.
        witness: Index of a frame that tells whether numbering was undone, else -1.
    """

    linked = Signal()
    estimated = Signal(LinkParameters)
    finished = Signal()

    def __init__(self, parent: QWidget, scene: LineageScene, form: BusyForm) -> None:
        self._scene, self._form = scene, form
        self._runner = Runner(parent, form)
        self._runner.finished.connect(self.finished.emit)
        self._writing: Generator[None] | None = None
        self._turns = QTimer(parent, interval=0)
        self._turns.timeout.connect(self._write_on)
        self.witness = -1

    @property
    def running(self) -> bool:
        """Whether a movie is read, linked or numbered."""
        return self._runner.running or self._writing is not None

    def link(self, chosen: Mapping[str, Any]) -> None:
        """Link the cells; what is not chosen is estimated."""
        masks = self._scene.masks
        if masks is not None:
            self._start(linking(masks, chosen), self._linked, self._scene.cells)

    def estimate(self) -> None:
        """Read the parameters off the movie."""
        masks = self._scene.masks
        if masks is not None:
            self._start(estimating(masks), self._linked, self._scene.cells)

    def take(self, tracks: Tracks) -> None:
        """Take the lineage of a tracks layer; a layer of ours shows it from then on."""
        scene = self._scene
        masks = scene.masks
        if masks is None:
            return

        def then(cells: Cells) -> Linked:
            return Linked(cells, None, graph_of_tracks(tracks, masks, cells))

        def taken(found: Linked) -> None:
            self._linked(found)
            if scene.tracks is not None:
                tracks.visible = tracks is scene.tracks

        self._start(then, taken, scene.cells)

    def take_over(self) -> None:
        """Read the masks again; cells that are still there keep their links."""
        graph = self._scene.graph
        if graph is not None:

            def then(cells: Cells) -> _Carried:
                now = unlinked(cells)
                return cells, now, match_cells(graph, now)

            self._start(then, self._carried, None)

    def cancel(self) -> None:
        """End the run; of numbering what is done stays, as one undo step."""
        self._runner.cancel()
        if self._writing is not None:
            self._writing.close()
            self._written("Cancelled", bad=False)

    def close(self) -> None:
        """End what runs for a widget that is gone."""
        self._runner.close()
        if self._writing is not None:
            self._writing.close()

    def _start(
        self,
        then: Callable[[Cells], Any],
        finish: Callable[[Any], None],
        cells: Cells | None,
    ) -> None:
        scene = self._scene
        masks = scene.masks
        cells = None if scene.stale else cells

        def read(found: Any) -> None:
            scene.stale = False
            finish(found)

        if masks is not None and not self.running:
            text = "Reading the masks ..." if cells is None else "Linking ..."
            self._form.message.say(text)
            self._runner.start(MovieJob(masks, then, cells), read)

    def _linked(self, found: Linked) -> None:
        scene = self._scene
        scene.cells = found.cells
        if not len(found.cells):
            self._form.message.say("There are no cells in these masks", bad=True)
            return
        if found.parameters is not None:
            self.estimated.emit(found.parameters)
        if found.graph is None:
            self._form.message.say(f"Estimated from {len(found.cells)} cells")
            return
        scene.picked = ()
        scene.editor.set(found.graph)
        self._form.message.say(scene.summary())
        self.linked.emit()

    def _carried(self, found: _Carried) -> None:
        scene = self._scene
        before = scene.cells
        scene.cells, now, new_of = found
        scene.picked = ()
        scene.editor.carry(now, new_of)
        same = before is not None and _same(before, scene.cells)
        found_that = "The masks have not changed" if same else "The masks have changed"
        self._form.message.say(f"{found_that}. {scene.summary()}")

    # Numbers in the masks themselves

    def number(self) -> None:
        """Give the masks the numbers of their tracks, as one undo step."""
        layer, masks, graph = self._scene.layer, self._scene.masks, self._scene.graph
        if layer is None or masks is None or graph is None or self.running:
            return
        ids = graph.track_ids()
        new = graph.frame[graph.label != ids]
        if not len(new):
            self._form.message.say("The masks have the numbers of their tracks already")
            return
        wrong = _why_not(layer, int(ids.max()))
        if wrong:
            self._form.message.say(wrong, bad=True)
            return
        self._scene.hide_view()
        blocks = numbered_blocks(masks, NumberedView(masks, graph))
        self._writing = apply_in_turns(layer, blocks)
        self.witness = int(new[0]) - masks.first
        self._form.set_busy(True)
        self._form.message.say("Writing the track numbers ...")
        self._turns.start()

    def _write_on(self) -> None:
        """Write one block; the event loop goes on in between."""
        if self._writing is None:
            return
        try:
            next(self._writing)
        except StopIteration:
            self._written("The masks have track numbers now; Ctrl-Z takes it back")
        except MedsegError as error:
            self._written(str(error), bad=True)

    def _written(self, text: str, bad: bool | None = None) -> None:
        self._turns.stop()
        self._writing = None
        self._form.set_busy(False)
        self._form.message.say(text, bad=bool(bad))
        graph, cells = self._scene.graph, self._scene.cells
        if bad is None and graph is not None and cells is not None:
            ids = graph.track_ids()
            self._scene.cells = cells = replace(cells, label=ids)
            self._scene.editor.carry(unlinked(cells), np.arange(len(graph)))
        self.finished.emit()


def _same(one: Cells, other: Cells) -> bool:
    """Return whether the cells of a movie are where they were, by the same numbers."""
    names = ("frame", "label", "size", "centroid")
    return all(np.array_equal(getattr(one, n), getattr(other, n)) for n in names)


def _why_not(layer: Labels, top: int) -> str:
    """Return why track numbers cannot be written into masks, empty if they can."""
    if not isinstance(layer.data, np.ndarray):
        return (
            "These masks are read from their files as they are shown: choose New layer"
        )
    if top > np.iinfo(layer.data.dtype).max:
        return f"{layer.data.dtype} cannot hold {top} tracks: choose New layer"
    return ""

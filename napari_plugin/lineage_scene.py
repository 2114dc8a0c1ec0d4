"""A movie of masks, its lineage, and the layers of napari that show both. No Qt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from psygnal import Signal

from medseg.lineage import TrackGraph
from medseg.napari_plugin.lineage_editor import LineageEditor
from medseg.napari_plugin.lineage_layers import go_to, show_tracks
from medseg.napari_plugin.mask_frames import MaskFrames, frames_of
from medseg.napari_plugin.numbered_view import NumberedView, add_view
from medseg.napari_plugin.unsaved import keeper_of
from medseg.napari_plugin.widgets.cell_picker import CellMarks
from medseg.track import Cells
from medseg.track.parameters import typical_diameter

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Tracks


class LineageScene:
    """What the tabs of the Track widget work on.

    Args:
        viewer: Holds the layers, unwrapped.

    Attributes:
        changed: Emitted when the lineage is another, or there is none any longer.
        picked_changed: Emitted when other cells are picked.
        layer: The masks; None while none are chosen.
        cells: Of the masks, when they were read last.
        stale: Whether the layer has been given another array since.
        editor: Holds the lineage.
        tracks: The layer that shows it.
        view: The layer that shows the masks by track number, if there is one.
        picked: The nodes, at most two, that edits are about.
    """

    changed = Signal()
    picked_changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.layer: Labels | None = None
        self._masks: MaskFrames | None = None
        self.cells: Cells | None = None
        self.stale = False
        self.editor = LineageEditor()
        self.tracks: Tracks | None = None
        self.view: Labels | None = None
        self.picked: tuple[int, ...] = ()
        self._numbers: NumberedView | None = None
        self._marks = CellMarks(viewer, "picked cells")
        self.editor.changed.connect(self._show)
        self.editor.edited.connect(self._keep)

    def follow(self, layer: Labels | None) -> None:
        """Begin with other masks; the layers that show the old ones stay.

        Raises:
            ConfigError: If the layer is sheared; there are no masks then.
        """
        self.layer, self._masks, self.cells, self.stale = layer, None, None, False
        self.tracks = self.view = self._numbers = None
        self.editor.set(None)
        if layer is not None:
            self._masks = frames_of(layer)

    @property
    def masks(self) -> MaskFrames | None:
        """Frames of the layer's masks, None while none are chosen.

        Of the array that the layer has now: another type is another array.
        """
        known, layer = self._masks, self.layer
        if known is not None and layer is not None and known.data is not layer.data:
            self._masks, self.stale = replace(known, data=layer.data), True
        return self._masks

    @property
    def graph(self) -> TrackGraph | None:
        """The lineage as it is now."""
        return self.editor.graph

    @property
    def span(self) -> tuple[int, int]:
        """First and last frame."""
        numbers = self.masks.numbers if self.masks is not None else range(2)
        return numbers[0], numbers[-1]

    @property
    def frame(self) -> int:
        """Number of the frame that is shown."""
        if self.layer is None or self.masks is None:
            return 0
        point = self.viewer.dims.point[-self.layer.ndim :]
        return self.masks.first + round(float(self.layer.world_to_data(point)[0]))

    def summary(self) -> str:
        """Return the lineage in words."""
        graph = self.graph
        if graph is None:
            return ""
        tracks = _counted(int(graph.track_ids().max(initial=0)), "track")
        return (
            f"{_counted(len(graph), 'cell')} in {tracks}, "
            f"{_counted(len(graph.divisions()), 'division')}, "
            f"{_counted(len(graph.gaps()), 'gap')} closed"
        )

    # What is shown

    def _show(self) -> None:
        graph, layer, masks = self.graph, self.layer, self.masks
        if layer is not None and masks is not None and graph is not None:
            active = self.viewer.layers.selection.active
            self.tracks = show_tracks(self.viewer, layer, graph, self.tracks)
            if active is not None and active in self.viewer.layers:
                self.viewer.layers.selection.active = active
            if self._numbers is not None and self.view is not None:
                self._numbers.follow(masks, graph)
                self.view.refresh()
        self.changed.emit()
        self.select(self.picked if graph is not None else ())

    def _keep(self) -> None:
        """Have the window ask before it closes: no file holds the lineage now."""
        if self.layer is not None:
            keeper_of(self.viewer).lineage_changed(self.layer)

    def add_view(self) -> None:
        """Show the masks by track number, in a layer of their own."""
        layer, masks, graph = self.layer, self.masks, self.graph
        if layer is None or masks is None or graph is None:
            return
        if self.view is None or self.view not in self.viewer.layers:
            self._numbers = NumberedView(masks, graph)
            self.view = add_view(self.viewer, layer, self._numbers)
        self.view.visible = True
        layer.visible = False

    def hide_view(self) -> None:
        """Show the masks themselves; removing a layer would stall the window."""
        if self.view is not None:
            self.view.visible = False

    # Cells

    def node_of(self, index: int, label: int) -> int | None:
        """Return the node of a label in a frame, by the frame's index."""
        graph, masks = self.graph, self.masks
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
        self.picked_changed.emit()

    def _mark(self) -> None:
        """Draw a ring round the picked cells, somewhat larger than a cell."""
        graph, layer, masks = self.graph, self.layer, self.masks
        if graph is None or layer is None or masks is None or not self.picked:
            self._marks.close()
            return
        frames = graph.frame[list(self.picked)] - masks.first
        points = np.column_stack([frames, graph.centroid[list(self.picked)]])
        size = typical_diameter(self.cells) if self.cells is not None else 8.0
        self._marks.show(layer, points, 1.3 * size)

    def go_to(self, node: int) -> None:
        """Show the frame of a node, with its cell in sight and its label selected."""
        graph, layer = self.graph, self.layer
        if graph is None or layer is None:
            return
        go_to(self.viewer, layer, int(graph.frame[node]), graph.centroid[node])
        layer.selected_label = int(graph.label[node])
        if self.view is not None and self.view in self.viewer.layers:
            self.view.selected_label = int(graph.track_ids()[node])

    def close(self) -> None:
        """Take the marks away and let the layers go; results stay."""
        self._marks.close()
        self.layer = self._masks = self.tracks = self.view = self._numbers = None


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"

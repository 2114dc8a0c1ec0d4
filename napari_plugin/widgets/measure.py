"""Measure cells, tracks and chest films, and find the object of each number."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QSizePolicy, QStackedWidget, QWidget

from medseg.io.atomic import write_bytes
from medseg.napari_plugin.layers import facts_of, is_mask
from medseg.napari_plugin.measuring import is_chest
from medseg.napari_plugin.unsaved import unwrap
from medseg.napari_plugin.widgets.close_guard import protect
from medseg.napari_plugin.widgets.controls import Message, ask_file, column, rows
from medseg.napari_plugin.widgets.docks import share_place
from medseg.napari_plugin.widgets.layer_combo import LayerCombo, follow
from medseg.napari_plugin.widgets.measure_cells import CellsPage
from medseg.napari_plugin.widgets.measure_film import FilmPage

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Labels, Layer

_AGAIN_MS = 400


class MeasureWidget(QWidget):
    """A mask, and the page that fits it: of cells or of a chest film.

    Args:
        viewer: Holds the masks.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = unwrap(viewer)
        self._layer: Labels | None = None
        self._parts: list[Labels] = []
        self.masks = LayerCombo(
            viewer, self._is_measurable, "no mask yet", title=_title
        )
        self.masks.setToolTip(
            "Cells are measured one by one, films by their structures"
        )
        self.message = Message()
        self.cells = CellsPage(self._viewer, self.message)
        self.film = FilmPage(self._viewer, self.message)
        self.pages = QStackedWidget()
        # napari else adds a stretch below, and the table gets two rows.
        policy = QSizePolicy.Policy
        self.pages.setSizePolicy(policy.Preferred, policy.Expanding)
        layout = column(self, 290)
        layout.addLayout(rows(("Mask", self.masks)))
        layout.addWidget(self.pages, 1)
        layout.addWidget(self.message)
        for one in (self.cells, self.film):
            self.pages.addWidget(one)
            one.csv.clicked.connect(lambda: self.save_csv())
        self._again = QTimer(self, interval=_AGAIN_MS, singleShot=True)
        self._again.timeout.connect(lambda: self.page.painted())
        # One object, to be disconnected; a method would keep a widget that is gone.
        self._paint = lambda event=None: self._again.start()
        self._joining = QTimer(self, interval=0, singleShot=True)
        self._joining.timeout.connect(self._parts_changed)
        follow(self, self._viewer.layers.events, ("inserted", "removed"), self._joined)
        self.masks.currentIndexChanged.connect(self._mask_changed)
        holder = self.__dict__
        self.destroyed.connect(lambda: _end(holder))
        self._mask_changed()

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Take a place in the window, and guard it against closing unsaved."""
        super().showEvent(event)
        share_place(self)
        protect(self._viewer, self)

    @property
    def page(self) -> CellsPage | FilmPage:
        """The page that is shown."""
        return self.film if self.pages.currentIndex() else self.cells

    @property
    def running(self) -> bool:
        """Whether cells are being measured."""
        return self.cells.runner.running

    def _mask_changed(self, index: int = 0) -> None:
        layer = cast("Labels | None", self.masks.layer)
        if layer is self._layer and layer is not None:
            return
        self._again.stop()
        self._layer = layer
        self._listen(self._parts_of(layer))
        chest = layer is not None and is_chest(layer)
        self.pages.setCurrentIndex(int(chest))
        self.cells.follow(None if chest else layer)
        self.film.follow(self._parts if chest else [])
        if layer is None:
            self.message.say("Open a mask, or segment an image")

    def _listen(self, parts: list[Labels]) -> None:
        """Listen to the layers of a mask; undo and redo only refresh them."""
        _disconnect(self._parts, self._paint)
        self._parts = parts
        for part in parts:
            part.events.paint.connect(self._paint)
            if is_chest(part):
                part.events.set_data.connect(self._paint)

    def _joined(self, event: Any = None) -> None:
        self._joining.start()  # of one mask there come several layers

    def _parts_changed(self) -> None:
        """Take in structures of the mask that have come or gone since."""
        parts = self._parts_of(self._layer)
        if self._layer in self._viewer.layers and parts != self._parts:
            self._listen(parts)
            self.film.join(parts)

    def _parts_of(self, layer: Labels | None) -> list[Labels]:
        """Return the layers of a mask: all structures of a film, the chosen first."""
        if layer is None:
            return []
        group = facts_of(layer).get("group")
        if facts_of(layer).get("structure") is None or not group:
            return [layer]
        layers = [x for x in self._viewer.layers if facts_of(x).get("group") == group]
        return [layer, *(x for x in layers if is_mask(x) and x is not layer)]

    def _is_measurable(self, layer: Layer) -> bool:
        """Return whether a mask is offered: of the structures of a film the first."""
        if not is_mask(layer) or layer.ndim not in (2, 3, 4):
            return False
        if not is_chest(layer):
            return True
        below = self._viewer.layers[: self._viewer.layers.index(layer)]
        return not any(part in below for part in self._parts_of(layer)[1:])

    def measure(self) -> None:
        """Measure the mask: a film at once, cells in a thread."""
        self.page.measure()

    def save_csv(self, path: str | Path | None = None) -> None:
        """Write the table that is shown; asks where."""
        text = self.page.text()
        if text is None:
            return
        path = path or ask_file(self, "Save", "measures.csv", "Table (*.csv)")
        if not path:
            return
        target = Path(path)
        if self.message.attempt(lambda: write_bytes(target, text.encode())):
            where = f"Saved: {target.resolve()}"
            self.message.say(where)
            show_info(where)


def _title(layer: Layer) -> str:
    """Return a mask's name; a film is not called after one of its structures."""
    structure = facts_of(layer).get("structure")
    if structure is None or not is_chest(layer):
        return str(layer.name)
    name = str(layer.name).removeprefix(f"{structure} ")
    return f"{name.removeprefix('(').removesuffix(')')}: all structures"


def _disconnect(parts: list[Labels], callback: Any) -> None:
    for part in parts:
        for emitter in (part.events.paint, part.events.set_data):
            with suppress(ValueError):  # cells are listened to in fewer ways
                emitter.disconnect(callback)


def _end(state: dict[str, Any]) -> None:
    """Give back what the widget owned and listened to, when it is gone."""
    state["cells"].end()
    state["film"].end()
    _disconnect(state["_parts"], state["_paint"])
    state["_parts"], state["_layer"] = [], None

"""The tab of the Track widget that leads to what is suspicious in a lineage."""

from __future__ import annotations

from psygnal import Signal
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from medseg.napari_plugin.lineage_events import MEANING, Event, find_events
from medseg.napari_plugin.lineage_scene import LineageScene
from medseg.napari_plugin.widgets.controls import Message, button, combo, fit, note, row

_KINDS = (("All kinds", ""), *((kind.capitalize(), kind) for kind in MEANING))
_MOST = 300  # rows of the table: the worst; the list goes on as they are mended


class CheckTab(QWidget):
    """Lists events, the worst first, and goes from one to the next.

    Args:
        scene: Holds the lineage.
        message: Where the tab says what is odd.

    Attributes:
        counted: Emitted with the number of events that are left to look at.
        events: All of the lineage.
    """

    counted = Signal(int)

    def __init__(self, scene: LineageScene, message: Message) -> None:
        super().__init__()
        self._scene, self._message = scene, message
        self.events: list[Event] = []
        self._shown: list[Event] = []
        self._fine: set[tuple[str, int, int]] = set()
        self.kind = combo(_KINDS, "Which events are listed")
        self.count = note("Events that nobody has struck off")
        self.table = _table()
        self.previous = button("Previous", "The event before in the list")
        self.next = button("Next", "The next event in the list")
        self.fine = button("Fine", "This one is right: take it off the list, go on")
        layout = QVBoxLayout()
        layout.addWidget(row(self.kind, self.count))
        layout.addWidget(self.table, 1)
        layout.addWidget(row(self.previous, self.next, self.fine, wide=None))
        fit(self, layout)
        self.kind.currentIndexChanged.connect(self._list)
        self.table.itemSelectionChanged.connect(self._chosen)
        self.previous.clicked.connect(lambda: self.step(-1))
        self.next.clicked.connect(lambda: self.step(1))
        self.fine.clicked.connect(self.strike_off)

    def forget(self) -> None:
        """Forget which events were found right."""
        self._fine.clear()
        self._list()

    def look(self) -> None:
        """Look at the lineage as it is now."""
        scene = self._scene
        self.events = []
        if scene.graph is not None and scene.cells is not None and scene.masks:
            self.events = find_events(
                scene.graph, scene.cells.size, scene.masks.shape, scene.span
            )
        self._list()

    def _list(self, index: int = 0) -> None:
        kind = self.kind.currentData()
        left = [e for e in self.events if _key(e) not in self._fine]
        wanted = [e for e in left if kind in ("", e.kind)]
        self._shown = wanted[:_MOST]
        with QSignalBlocker(self.table):
            self.table.setRowCount(len(self._shown))
            for number, event in enumerate(self._shown):
                self._fill(number, event)
            self.table.clearSelection()
            self.table.setCurrentCell(-1, -1)
        shown = (
            f"{len(wanted)} of {len(left)}" if len(wanted) < len(left) else len(left)
        )
        self.count.setText(f"{shown} to look at" if left else "nothing odd")
        self.counted.emit(len(left))

    def _fill(self, number: int, event: Event) -> None:
        texts = (event.kind, str(event.frame), str(event.track), event.text)
        for column, text in enumerate(texts):
            item = QTableWidgetItem(text)
            item.setToolTip(f"{event.text}. {MEANING[event.kind]}")
            self.table.setItem(number, column, item)

    @property
    def _current(self) -> Event | None:
        number = self.table.currentRow()
        return self._shown[number] if 0 <= number < len(self._shown) else None

    def _chosen(self) -> None:
        event = self._current
        if event is not None:
            self._scene.go_to(event.node)
            self._scene.select(self._around(event))
            self._message.say(f"{event.kind}: {event.text}; {MEANING[event.kind]}")

    def _around(self, event: Event) -> tuple[int, ...]:
        """Return the cells that mend an event: those of the link, or the one."""
        graph = self._scene.graph
        if graph is None or event.kind not in ("jump", "size", "gap"):
            return (event.node,)
        before = int(graph.predecessors()[event.node])
        return (event.node,) if before < 0 else (before, event.node)

    def step(self, by: int) -> None:
        """Go to the next event of the list, or the one before."""
        count = len(self._shown)
        if count:
            now = self.table.currentRow()
            start = 0 if by > 0 else count - 1
            self.table.selectRow((now + by) % count if now >= 0 else start)

    def strike_off(self) -> None:
        """Take the chosen event off the list and go to the next."""
        event, number = self._current, self.table.currentRow()
        if event is None:
            return
        self._fine.add(_key(event))
        self._list()
        if self._shown:
            self.table.selectRow(min(number, len(self._shown) - 1))


def _key(event: Event) -> tuple[str, int, int]:
    return (event.kind, event.frame, event.label)


def _table() -> QTableWidget:
    found = QTableWidget(0, 4)
    found.setHorizontalHeaderLabels(["What", "Frame", "Track", "Why"])
    found.setToolTip("Suspicious places, the worst first; click to go there")
    found.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    found.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    found.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    found.verticalHeader().setVisible(False)
    found.verticalHeader().setDefaultSectionSize(22)
    header = found.horizontalHeader()
    for column in range(3):
        header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
    header.setStretchLastSection(True)
    return found

"""The lineage as a tree: time to the right, a line a track, forks at divisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPoint, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPen
from qtpy.QtWidgets import QScrollArea, QWidget

from medseg.lineage import TrackGraph, TrackRow

_ROW = 14
_MARGIN = 26
_TOP = 20
_AXIS = "#8a919c"
_NOW = "#ffd166"
_PICKED = "#ffffff"
_MOST = 2000  # tracks drawn; a widget of Qt is at most 16 million pixels high
_NEAR = 0.6 * _ROW


def lanes(rows: tuple[TrackRow, ...]) -> dict[int, float]:
    """Return the lane of each track: families together, a mother between daughters.

    Lanes are counted from 0; only tracks without a child take a lane of their own.
    """
    children: dict[int, list[int]] = {}
    for row in rows:
        if row.parent:
            children.setdefault(row.parent, []).append(row.label)
    lane: dict[int, float] = {}
    free = 0
    for root in (row.label for row in rows if not row.parent):
        stack = [(root, False)]
        while stack:  # not recursive: lineages may be deep
            track, seen = stack.pop()
            young = children.get(track, [])
            if not young:
                lane[track] = float(free)
                free += 1
            elif seen:
                lane[track] = (lane[young[0]] + lane[young[-1]]) / 2
            else:
                stack.append((track, True))
                stack.extend((y, False) for y in reversed(young))
    return lane


@dataclass(frozen=True)
class _Line:
    row: TrackRow
    lane: float


class LineageTree(QWidget):
    """Draws one lineage.

    Signals:
        clicked: Row of the node that was clicked.
    """

    clicked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._graph: TrackGraph | None = None
        self._ids: NDArray[np.int64] = np.zeros(0, np.int64)
        self._lines: dict[int, _Line] = {}
        self._colour: Callable[[int], QColor] = lambda track: QColor(_AXIS)
        self._mothers: set[int] = set()
        self._span = (0, 1)
        self._frame = 0
        self._picked: tuple[int, ...] = ()
        self.setToolTip("Click on a track to go to the cell in that frame")
        self.setMouseTracking(True)

    def show_graph(
        self,
        graph: TrackGraph | None,
        span: tuple[int, int],
        colour: Callable[[int], QColor],
    ) -> None:
        """Draw a lineage.

        Args:
            graph: None for an empty picture.
            span: First and last frame.
            colour: Of a track; asked for those that are seen.
        """
        self._graph, self._span, self._colour = graph, span, colour
        self._lines = {}
        if graph is not None and len(graph):
            self._ids = graph.track_ids()
            rows = graph.rows()
            places = lanes(rows)
            self._lines = {
                r.label: _Line(r, places[r.label])
                for r in rows
                if places[r.label] < _MOST
            }
        self._mothers = {line.row.parent for line in self._lines.values()}
        self.setMinimumHeight(self.sizeHint().height())
        self.updateGeometry()
        self.update()

    def show_frame(self, frame: int) -> None:
        """Mark the frame that is shown."""
        if frame != self._frame:
            self._frame = frame
            self.update()

    def show_picked(self, nodes: tuple[int, ...]) -> None:
        """Mark nodes."""
        self._picked = nodes
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802
        """Return the size that all tracks need."""
        last = max((x.lane for x in self._lines.values()), default=4)
        return QSize(240, int(_TOP + (last + 1.5) * _ROW))

    # Places

    def x_of(self, frame: float) -> float:
        """Return where a frame is."""
        first, last = self._span
        width = max(self.width() - 2 * _MARGIN, 1)
        return _MARGIN + width * (frame - first) / max(last - first, 1)

    def y_of(self, lane: float) -> float:
        """Return where a lane is."""
        return _TOP + (lane + 0.5) * _ROW

    def place_of(self, node: int) -> QPoint:
        """Return where a node is drawn."""
        if self._graph is None or int(self._ids[node]) not in self._lines:
            return QPoint(-1, -1)
        line = self._lines[int(self._ids[node])]
        x = self.x_of(int(self._graph.frame[node]))
        return QPoint(round(x), round(self.y_of(line.lane)))

    def node_at(self, x: float, y: float) -> int | None:
        """Return the node that is drawn nearest, None where no track is near."""
        if self._graph is None or not self._lines:
            return None
        first, last = self._span
        width = max(self.width() - 2 * _MARGIN, 1)
        frame = first + (x - _MARGIN) / width * (last - first)
        reach = _NEAR / width * max(last - first, 1)
        here = [
            line
            for line in self._lines.values()
            if abs(self.y_of(line.lane) - y) <= _NEAR
            and line.row.begin - reach <= frame <= line.row.end + reach
        ]
        if not here:
            return None
        best = min(here, key=lambda line: abs(self.y_of(line.lane) - y))
        nodes = np.flatnonzero(self._ids == best.row.label)
        return int(nodes[np.abs(self._graph.frame[nodes] - frame).argmin()])

    # Qt

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802
        """Tell which node was clicked."""
        place = event.position() if hasattr(event, "position") else event.pos()
        node = self.node_at(place.x(), place.y())
        if node is not None:
            self.clicked.emit(node)

    def paintEvent(self, event: Any) -> None:  # noqa: N802
        """Draw the part that is seen."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._draw_axis(painter)
        seen = event.rect()
        low = (seen.top() - _TOP) / _ROW - 2
        high = (seen.bottom() - _TOP) / _ROW + 2
        for line in self._lines.values():
            mother = self._lines.get(line.row.parent)
            ends = [line.lane] if mother is None else [line.lane, mother.lane]
            if max(ends) >= low and min(ends) <= high:
                self._draw_line(painter, line, mother)
        painter.setPen(QPen(QColor(_PICKED), 2))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for node in self._picked:
            place = self.place_of(node)
            painter.drawEllipse(place, 5, 5)
        painter.end()

    def _draw_axis(self, painter: QPainter) -> None:
        first, last = self._span
        if not self._lines:
            painter.setPen(QColor(_AXIS))
            text = "The lineage is drawn here"
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, text)
            return
        painter.setPen(QPen(QColor(_AXIS), 1))
        for frame in _ticks(first, last, max(2, self.width() // 60)):
            x = self.x_of(frame)
            box = QRectF(x - 30, 0, 60, _TOP - 6)
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter, str(frame))
            painter.drawLine(round(x), _TOP - 5, round(x), _TOP - 2)
        x = round(self.x_of(self._frame))
        painter.setPen(QPen(QColor(_NOW), 1))
        painter.drawLine(x, _TOP - 5, x, self.height())

    def _draw_line(self, painter: QPainter, line: _Line, mother: _Line | None) -> None:
        y = self.y_of(line.lane)
        begin, end = self.x_of(line.row.begin), self.x_of(line.row.end)
        colour = _readable(self._colour(line.row.label))
        if mother is not None:
            pen = QPen(colour, 1.5)
            gap = mother.lane == line.lane
            pen.setStyle(Qt.PenStyle.DotLine if gap else Qt.PenStyle.SolidLine)
            painter.setPen(pen)
            start = self.x_of(mother.row.end)
            top = self.y_of(mother.lane)
            painter.drawLine(round(start), round(top), round(begin), round(y))
        painter.setPen(QPen(colour, 3))
        painter.drawLine(round(begin), round(y), round(max(end, begin + 1)), round(y))
        painter.setPen(QColor(_AXIS))
        box = QRectF(end + 4, y - _ROW / 2, 60, _ROW)
        if line.row.label not in self._mothers:
            left = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
            painter.drawText(box, left, str(line.row.label))


def _readable(colour: QColor) -> QColor:
    """Return a colour that is light enough for a dark ground."""
    light = min(max(colour.lightness(), 110), 190)
    return QColor.fromHsl(max(colour.hslHue(), 0), colour.hslSaturation(), light)


def _ticks(first: int, last: int, most: int) -> list[int]:
    """Return round frame numbers, at most ``most`` steps."""
    for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000):
        if (last - first) / step <= most:
            return [f for f in range(first, last + 1) if f % step == 0]
    return [first, last]


class LineageView(QScrollArea):
    """A lineage that scrolls."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = LineageTree()
        self.setWidget(self.tree)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def reveal(self, node: int) -> None:
        """Scroll to a node."""
        place = self.tree.place_of(node)
        if place.y() >= 0:
            self.ensureVisible(place.x(), place.y(), 0, 3 * _ROW)

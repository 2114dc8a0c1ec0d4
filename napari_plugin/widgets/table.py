"""A table of measurements that sorts and tells which row is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from qtpy.QtCore import (
    QAbstractTableModel,
    QItemSelectionModel,
    QModelIndex,
    QPersistentModelIndex,
    QSignalBlocker,
    Qt,
    Signal,
)
from qtpy.QtWidgets import QAbstractItemView, QTableView, QWidget

from medseg.measure.cells import MEANING, Row

_NONE = QModelIndex()
Index: TypeAlias = QModelIndex | QPersistentModelIndex


class RowsModel(QAbstractTableModel):
    """Rows of a table; sorted in place, empty values last."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows: list[Row] = []
        self.columns: list[str] = []

    def fill(self, rows: Sequence[Row], columns: Sequence[str]) -> None:
        """Show other rows."""
        self.beginResetModel()
        self.rows, self.columns = list(rows), list(columns)
        self.endResetModel()

    def rowCount(self, parent: Index = _NONE) -> int:  # noqa: N802
        """Return the number of rows."""
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: Index = _NONE) -> int:  # noqa: N802
        """Return the number of columns."""
        return 0 if parent.isValid() else len(self.columns)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the text of a cell."""
        value = self.rows[index.row()].get(self.columns[index.column()])
        if role == Qt.ItemDataRole.DisplayRole:
            return "" if value is None else str(value)
        if role == Qt.ItemDataRole.TextAlignmentRole and not isinstance(value, str):
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def headerData(  # noqa: N802
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        """Return the name of a column, and what it means."""
        if orientation != Qt.Orientation.Horizontal or section >= len(self.columns):
            return None
        name = self.columns[section]
        if role == Qt.ItemDataRole.DisplayRole:
            return name
        return _meaning(name) if role == Qt.ItemDataRole.ToolTipRole else None

    def sort(
        self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder
    ) -> None:
        """Sort by a column."""
        if not 0 <= column < len(self.columns):
            return
        name = self.columns[column]
        down = order == Qt.SortOrder.DescendingOrder
        self.layoutAboutToBeChanged.emit()
        known = [r for r in self.rows if r.get(name) is not None]
        rest = [r for r in self.rows if r.get(name) is None]
        known.sort(key=lambda r: _order(r[name]), reverse=down)
        self.rows = known + rest
        self.layoutChanged.emit()


class RowsTable(QTableView):
    """Shows rows.

    Signals:
        chosen: A person chose this row.
    """

    chosen = Signal(dict)

    def __init__(self) -> None:
        super().__init__()
        self.rows = RowsModel(self)
        self.setModel(self.rows)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.verticalHeader().setVisible(False)
        self.verticalHeader().setDefaultSectionSize(22)
        self.setSortingEnabled(True)
        self.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.selectionModel().currentRowChanged.connect(self._row_changed)

    def fill(self, rows: Sequence[Row], columns: Sequence[str]) -> None:
        """Show other rows, in their order."""
        self.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.rows.fill(rows, columns)
        self.resizeColumnsToContents()

    def select(self, wanted: Callable[[Row], bool]) -> bool:
        """Choose the first row that is wanted, without telling; return if any is."""
        for number, row in enumerate(self.rows.rows):
            if wanted(row):
                flag = QItemSelectionModel.SelectionFlag
                with QSignalBlocker(self.selectionModel()):
                    self.selectionModel().setCurrentIndex(
                        self.rows.index(number, 0), flag.ClearAndSelect | flag.Rows
                    )
                self.scrollTo(self.rows.index(number, 0))
                self.viewport().update()
                return True
        return False

    @property
    def row(self) -> Mapping[str, Any] | None:
        """The chosen row."""
        index = self.currentIndex()
        return self.rows.rows[index.row()] if index.isValid() else None

    def _row_changed(self, now: QModelIndex, before: QModelIndex) -> None:
        if now.isValid():
            self.chosen.emit(self.rows.rows[now.row()])


def _order(value: Any) -> tuple[int, Any]:
    return (1, value) if isinstance(value, str) else (0, value)


def _meaning(column: str) -> str:
    """Return what a column means, from the table of the measurements."""
    for names, text in MEANING.items():
        for name in names.split(", "):
            if column == name or column.startswith(f"{name}_"):
                return text
    return column.replace("_", " ")

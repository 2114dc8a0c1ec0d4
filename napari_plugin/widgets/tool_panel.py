"""The everyday tools of the Refine widget: buttons with their numbers."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QGridLayout,
    QGroupBox,
    QLabel,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from medseg.napari_plugin import tool_calls
from medseg.napari_plugin.mender import Tool
from medseg.napari_plugin.tool_calls import Call, Numbers

Path = list[tuple[float, ...]]


class ToolPanel(QGroupBox):
    """Buttons for `medseg.refine.tools`.

    Signals:
        wanted: A tool to run at once, and its name.
        path_wanted: Whether the next drags on the canvas are for `path_tool`.
    """

    wanted = Signal(object, str)
    path_wanted = Signal(bool)

    def __init__(self) -> None:
        super().__init__("Tools")
        self._make_numbers()
        self.buttons: dict[str, QPushButton] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.setSpacing(3)
        layout.addLayout(self._shape_rows())
        layout.addLayout(self._label_rows())

    def _make_numbers(self) -> None:
        self.length = QDoubleSpinBox()
        self.length.setRange(0.01, 1000)
        self.length.setDecimals(2)
        self.length.setValue(2.0)
        self.length.setToolTip("Length for Grow, Shrink and Smooth")
        self.least = QSpinBox()
        self.least.setRange(1, 10_000_000)
        self.least.setValue(50)
        self.least.setToolTip("Pieces of fewer pixels (voxels) are removed")
        self.other = QSpinBox()
        self.other.setRange(1, 2_000_000_000)
        self.other.setToolTip("The other label of Merge and Relabel")
        self.low, self.high = QDoubleSpinBox(), QDoubleSpinBox()
        for end, tip in ((self.low, "Lowest"), (self.high, "Highest")):
            end.setRange(-1e9, 1e9)
            end.setToolTip(f"{tip} intensity that the brush paints on")
        for spin in (self.length, self.least, self.other, self.low, self.high):
            spin.setMinimumWidth(64)
            spin.setMaximumWidth(110)

    def _shape_rows(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setSpacing(3)
        self.unit = QLabel("px")
        add = self._button
        add(grid, 0, 0, "Grow", "Widen the label by the length", tool_calls.grow)
        add(grid, 0, 1, "Shrink", "Narrow the label by the length", tool_calls.shrink)
        add(
            grid,
            0,
            2,
            "Smooth",
            "Round off what is smaller than the length",
            tool_calls.smooth,
        )
        grid.addWidget(self.length, 0, 3)
        grid.addWidget(self.unit, 0, 4)
        add(
            grid,
            1,
            0,
            "Keep largest",
            "Remove all but the largest piece",
            tool_calls.keep_largest,
        )
        add(
            grid,
            1,
            1,
            "Fill holes",
            "Fill holes that the label encloses",
            tool_calls.fill_holes,
        )
        add(
            grid,
            1,
            2,
            "Remove <",
            "Remove pieces smaller than this",
            tool_calls.remove_small,
        )
        grid.addWidget(self.least, 1, 3)
        grid.addWidget(QLabel("px"), 1, 4)
        return grid

    def _label_rows(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setSpacing(3)
        add = self._button
        add(
            grid,
            0,
            0,
            "Fill between slices",
            "Draw the label on some slices of the volume; the slices between them "
            "are filled",
            tool_calls.fill_between,
            columns=2,
        )
        self.split = self._toggle(
            "Split by line", "Draw a line across touching objects"
        )
        grid.addWidget(self.split, 0, 2, 1, 2)
        add(
            grid,
            1,
            0,
            "Merge",
            "Join the other label into the one edited",
            tool_calls.merge,
        )
        add(
            grid,
            1,
            1,
            "Relabel",
            "Give the label edited the other number",
            tool_calls.relabel,
        )
        grid.addWidget(QLabel("other label"), 1, 2)
        grid.addWidget(self.other, 1, 3)
        self.brush = self._toggle(
            "Range brush",
            "Paint with the width above, only where the image is within the range; "
            "Shift erases",
        )
        grid.addWidget(self.brush, 2, 0, 1, 2)
        grid.addWidget(self.low, 2, 2)
        grid.addWidget(self.high, 2, 3)
        return grid

    def set_range(self, low: float, high: float) -> None:
        """Offer a range of intensities."""
        self.low.setValue(low)
        self.high.setValue(high)

    @property
    def numbers(self) -> Numbers:
        """The numbers beside the buttons."""
        return Numbers(
            self.length.value(),
            self.least.value(),
            self.other.value(),
            self.low.value(),
            self.high.value(),
        )

    def path_tool(self, path: Path, width: float, positive: bool) -> tuple[Tool, str]:
        """Return what a path drawn on the canvas does, and its name."""
        numbers = self.numbers
        if self.split.isChecked():
            return lambda work: tool_calls.split(work, path), "Split"
        return (
            lambda work: tool_calls.range_brush(work, numbers, path, width, positive),
            "Range brush",
        )

    def release(self) -> None:
        """Let go of the tools that wait for a drag."""
        for toggle in (self.split, self.brush):
            toggle.setChecked(False)

    @property
    def waiting(self) -> bool:
        """Whether a tool waits for a drag on the canvas."""
        return self.split.isChecked() or self.brush.isChecked()

    def _button(
        self,
        grid: QGridLayout,
        row: int,
        column: int,
        text: str,
        tip: str,
        call: Call,
        columns: int = 1,
    ) -> None:
        button = QPushButton(text)
        button.setToolTip(tip)
        button.clicked.connect(lambda: self._want(call, text))
        grid.addWidget(button, row, column, 1, columns)
        self.buttons[text] = button

    def _want(self, call: Call, name: str) -> None:
        numbers = self.numbers
        self.wanted.emit(lambda work: call(work, numbers), name)

    def _toggle(self, text: str, tip: str) -> QPushButton:
        button = QPushButton(text)
        button.setCheckable(True)
        button.setToolTip(tip)
        button.toggled.connect(lambda on: self._toggled(button, on))
        self.buttons[text] = button
        return button

    def _toggled(self, button: QWidget, on: bool) -> None:
        if on:
            for toggle in (self.split, self.brush):
                if toggle is not button:
                    toggle.setChecked(False)
        self.path_wanted.emit(self.waiting)

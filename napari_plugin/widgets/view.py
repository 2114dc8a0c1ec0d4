"""Look at slices: window, orientation, frames, and where the model is in doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from qtpy.QtCore import QSignalBlocker, Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QGroupBox,
    QLabel,
    QPushButton,
    QSlider,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from medseg.errors import ConfigError
from medseg.napari_plugin.display import (
    Measure,
    Preset,
    SliceScores,
    orient,
    orientations,
    presets_for,
    sample,
    set_upright,
)
from medseg.napari_plugin.layers import facts_of, geometry_of
from medseg.napari_plugin.scope import pixels_of, position, shape_of
from medseg.napari_plugin.unsaved import unwrap
from medseg.napari_plugin.widgets.close_guard import protect
from medseg.napari_plugin.widgets.controls import column, combo, note, row, rows
from medseg.napari_plugin.widgets.docks import share_place
from medseg.napari_plugin.widgets.layer_combo import LayerCombo, follow

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer

_WORK_MS, _WORK_S = 10, 0.01
_MEASURES = (("Mean", "mean"), ("95th percentile", "p95"))


class ViewWidget(QWidget):
    """Sets the contrast of one image and moves the sliders; changes nothing else."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = unwrap(viewer)
        self._presets: tuple[Preset, ...] = ()
        self._scores: SliceScores | None = None
        self._then: Literal["worst", "previous", "next", ""] = ""
        self._upright = False
        self._timer = QTimer(self, interval=_WORK_MS)
        self._timer.timeout.connect(self._work)
        self.image = LayerCombo(self._viewer, _is_grey, "open an image first")
        self.image.setToolTip("The image whose contrast is set")
        layout = column(self, 270)
        layout.addLayout(rows(("Image", self.image)))
        for part in (
            self._make_window(),
            self._make_orientation(),
            self._make_slices(),
            self._make_doubt(),
        ):
            layout.addWidget(part)
        layout.addStretch(1)
        self.image.currentIndexChanged.connect(self._image_changed)
        dims = self._viewer.dims.events
        names = ("current_step", "order", "ndim", "ndisplay", "range")
        follow(self, dims, names, self._moved)
        self._image_changed()
        self._doubt_changed()

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Take a place in the window, and guard it against closing unsaved."""
        super().showEvent(event)
        share_place(self)
        protect(self._viewer, self)

    # The parts of the widget

    def _make_window(self) -> QGroupBox:
        box = QGroupBox("Window")
        self._grid = QGridLayout(box)
        self.presets: list[QPushButton] = []
        self.inverted = QCheckBox("Inverted (dense is dark)")
        self.inverted.setToolTip("Show the negative; the pixels stay as they are")
        self.inverted.clicked.connect(self._invert)
        return box

    def _make_orientation(self) -> QGroupBox:
        self._planes = QGroupBox("Orientation")
        self._planes.setToolTip("Slices across each axis, with their true aspect")
        self.planes = [QPushButton() for _ in range(3)]
        for axis, button in enumerate(self.planes):
            button.clicked.connect(lambda _=False, axis=axis: self.look_along(axis))
        layout = QVBoxLayout(self._planes)
        layout.addWidget(row(*self.planes, wide=None))
        self.aspect = note()
        layout.addWidget(self.aspect)
        return self._planes

    def _make_slices(self) -> QGroupBox:
        self._slices = QGroupBox("Slice or frame")
        self.axis = combo((), "The axis that is gone along")
        self.number = QSpinBox()
        self.number.setToolTip("Number of the slice or frame, from 0")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip("Drag to go through the slices or frames")
        self.place = QLabel()
        self.axis.currentIndexChanged.connect(self._moved)
        self.number.valueChanged.connect(self.go_to)
        self.slider.valueChanged.connect(self.go_to)
        layout = QVBoxLayout(self._slices)
        layout.addWidget(row(self.axis, self.number, self.place))
        layout.addWidget(self.slider)
        return self._slices

    def _make_doubt(self) -> QGroupBox:
        box = QGroupBox("Doubtful slices")
        self.doubt = LayerCombo(self._viewer, _is_doubt, "run Segment first")
        self.doubt.setToolTip("The uncertainty layer of a run of Segment")
        self.measure = combo(_MEASURES, "What a slice is judged by")
        self.previous = QPushButton("Previous")
        self.previous.setToolTip("Back to the slice before that is in doubt")
        self.next = QPushButton("Next")
        self.next.setToolTip("On to the next slice that is in doubt")
        self.worst = QPushButton("Worst")
        self.worst.setToolTip("Jump to the slice with the highest uncertainty")
        self.verdict = note()
        for button, then in (
            (self.previous, "previous"),
            (self.next, "next"),
            (self.worst, "worst"),
        ):
            button.clicked.connect(lambda _=False, then=then: self._jump(then))
        self.doubt.currentIndexChanged.connect(self._doubt_changed)
        self.measure.currentIndexChanged.connect(self._doubt_changed)
        layout = QVBoxLayout(box)
        layout.addLayout(rows(("Layer", self.doubt), ("Judge by", self.measure)))
        layout.addWidget(row(self.previous, self.next, self.worst, wide=None))
        layout.addWidget(self.verdict)
        return box

    # Window

    @property
    def layer(self) -> Image | None:
        """The chosen image."""
        return cast("Image | None", self.image.layer)

    def apply(self, preset: Preset) -> None:
        """Set the contrast of the chosen image."""
        if self.layer is not None:
            pixels = sample(self.layer, self._viewer)
            self.layer.contrast_limits = preset.limits(pixels)
            self.layer.gamma = preset.gamma

    def _invert(self, on: bool) -> None:
        if self.layer is not None:
            self.layer.colormap = "gray_r" if on else "gray"

    def _image_changed(self, index: int = 0) -> None:
        layer = self.layer
        self._presets = presets_for(layer) if layer is not None else ()
        for old in self.presets:
            self._grid.removeWidget(old)
            old.deleteLater()
        self.presets = []
        for number, preset in enumerate(self._presets):
            button = QPushButton(preset.name)
            button.setToolTip(preset.tip)
            button.clicked.connect(lambda _=False, preset=preset: self.apply(preset))
            self._grid.addWidget(button, number // 2, number % 2)
            self.presets.append(button)
        self._grid.addWidget(self.inverted, (len(self.presets) + 1) // 2, 0, 1, 2)
        self.inverted.setEnabled(layer is not None)
        if layer is not None:
            self.inverted.setChecked(layer.colormap.name == "gray_r")
        self._name_planes()
        self._moved()

    # Orientation

    def _name_planes(self) -> None:
        layer = self.layer
        time = layer is not None and facts_of(layer).get("frames") is not None
        volume = layer is not None and len(shape_of(layer)) - time >= 3
        self._planes.setVisible(volume)
        geometry = None
        if layer is not None and volume:
            try:
                geometry = geometry_of(layer)
            except ConfigError:  # four axes and no word on what they are
                geometry = None
        self._orientations = orientations(geometry)
        for button, found in zip(self.planes, self._orientations, strict=True):
            button.setText(found.name)
            button.setToolTip(f"Slices across axis {found.axis} of the volume")
        if layer is not None:
            scale = " x ".join(f"{s:.4g}" for s in layer.scale)
            self.aspect.setText(f"Spacing {scale} {layer.units[-1]}")

    def look_along(self, axis: int) -> None:
        """Show the slices across an axis of the volume."""
        self._upright = self._orientations[axis].upright
        orient(self._viewer, axis, self._upright)
        self._go_inside(axis)

    def _go_inside(self, axis: int) -> None:
        """Show a slice of the volume, where that of a larger image was shown."""
        layer, dims = self.layer, self._viewer.dims
        if layer is None or layer.ndim < 3:
            return
        low, high = layer.extent.world[:, layer.ndim - 3 + axis]
        place = dims.ndim - 3 + axis
        if not low <= dims.point[place] <= high:
            dims.set_point(place, (low + high) / 2)

    # Slices and frames

    def _moved(self, event: Any = None) -> None:
        dims = self._viewer.dims
        if self._upright and dims.ndim < 3:  # a film after a volume
            self._upright = False
            set_upright(self._viewer, upright=False)
        free = [a for a in range(dims.ndim) if a not in dims.displayed]
        free = [a for a in free if dims.nsteps[a] > 1]
        self._slices.setVisible(bool(free))
        if not free:
            return
        if [self.axis.itemData(i) for i in range(self.axis.count())] != free:
            with QSignalBlocker(self.axis):
                self.axis.clear()
                for axis in free:
                    self.axis.addItem(f"Axis {dims.axis_labels[axis]}", axis)
        axis = self.axis.currentData()
        now, last = dims.current_step[axis], dims.nsteps[axis] - 1
        for control in (self.number, self.slider):
            with QSignalBlocker(control):
                control.setRange(0, int(last))
                control.setValue(int(now))
        self.place.setText(f"of {last}")
        self._judge()

    def go_to(self, step: int) -> None:
        """Move the slider of the chosen axis."""
        axis = self.axis.currentData()
        if axis is not None:
            self._viewer.dims.set_current_step(axis, step)

    # Doubt

    def _doubt_changed(self, index: int = 0) -> None:
        layer = self.doubt.layer
        stack = layer is not None and len(shape_of(layer)) >= 3
        for button in (self.previous, self.next, self.worst):
            button.setEnabled(stack)
        self._scores = None
        self.verdict.setText("" if stack else "Needs the uncertainty layer of a stack")

    def _jump(self, then: Any) -> None:
        """Judge the slices, a few at a time, and then go where it was asked for."""
        layer = self.doubt.layer
        if layer is None:
            return
        self._then = then
        # Anew each time: a run may still be filling the layer.
        measure = cast("Measure", self.measure.currentData())
        self._scores = SliceScores(pixels_of(layer), measure)
        self._timer.start()

    def _work(self) -> None:
        scores, layer = self._scores, self.doubt.layer
        if scores is None or layer is None:
            self._timer.stop()
            return
        if not scores.work(_WORK_S):
            return
        self._timer.stop()
        here = position(layer, self._viewer)[0]
        to = {
            "worst": lambda: scores.worst,
            "next": lambda: scores.step(here, 1),
            "previous": lambda: scores.step(here, -1),
        }[self._then]()
        point = layer.data_to_world((to, *position(layer, self._viewer)[1:]))
        lead = self._viewer.dims.ndim - len(point)
        self._viewer.dims.set_point(lead, point[0])
        self._judge()

    def _judge(self) -> None:
        scores, layer = self._scores, self.doubt.layer
        if scores is None or layer is None or not scores.ready:
            return
        here = position(layer, self._viewer)[0]
        value, rank, count = scores.values[here], scores.rank(here), len(scores.values)
        text = f"Slice {here}: {value:.4f}, number {rank} of {count} in doubt"
        self.verdict.setText(text)


def _is_grey(layer: Layer) -> bool:
    from napari.layers import Image

    role = facts_of(layer).get("role", "")
    maps = role in ("probability", "uncertainty")
    return isinstance(layer, Image) and not layer.rgb and not maps


def _is_doubt(layer: Layer) -> bool:
    return facts_of(layer).get("role") == "uncertainty"

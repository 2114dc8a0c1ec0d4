"""The controls of the Segment widget, without what they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QGroupBox,
    QLabel,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QWidget,
)

from medseg.napari_plugin.models import ModelInfo
from medseg.napari_plugin.widgets.controls import column, combo, note, row, rows
from medseg.napari_plugin.widgets.layer_combo import LayerCombo
from medseg.napari_plugin.worker.job import Opened, Progress
from medseg.napari_plugin.worker.protocol import Devices

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_BAD = "color: #e8734a;"
_ENGINES = (("Automatic", "auto"), ("OpenVINO", "openvino"), ("PyTorch", "torch"))
_SCOPES = (("Current slice", "slice"), ("Range of slices", "range"), ("All", "all"))
_EXISTING = (("Keep it", "new"), ("Replace it", "replace"))


class SegmentForm:
    """Lays the controls out in ``parent``; they are its attributes."""

    def __init__(
        self, parent: QWidget, viewer: ViewerModel, wanted: Callable[[Layer], bool]
    ) -> None:
        self.image = LayerCombo(viewer, wanted, "open an image first")
        self.image.setToolTip("The image that the model is to see")
        self.model = combo(
            (), "The model; yours are found in the folder of the settings"
        )
        self.browse = QPushButton("...")
        self.browse.setToolTip("Choose the folder of another model")
        self.browse.setMaximumWidth(36)
        self.about = note()
        self.device = combo((), "Where the model runs")
        self.scope = combo(_SCOPES, "Which slices or frames of the image are segmented")
        self.where = note()
        self.first, self.last = QSpinBox(), QSpinBox()
        self.first.setToolTip("First slice of the range, from 0")
        self.last.setToolTip("Last slice of the range; it is segmented too")
        self._make_options()
        self._make_buttons()
        self._lay_out(parent)

    def _make_options(self) -> None:
        self.uncertainty = QCheckBox("Uncertainty layer")
        self.uncertainty.setToolTip(
            "A layer, hidden at first, that is bright where the model is in doubt;\n"
            "View slices jumps to its worst slice"
        )
        self.uncertainty.setChecked(True)
        self.probabilities = QCheckBox("Probability layers")
        self.probabilities.setToolTip("A hidden layer of 0 to 1 for each structure")
        self.mirrors = QCheckBox("Test-time augmentation")
        self._make_size()
        self.existing = combo(
            _EXISTING,
            "What to do where this model has drawn a mask before: keep it and make\n"
            "new layers, or replace it, which can be undone. Its empty slices are\n"
            "always filled",
        )
        self.engine = combo(
            _ENGINES,
            "The library that computes; OpenVINO is the fastest on a processor",
        )

    def _make_size(self) -> None:
        self.find_size = QCheckBox("Cell diameter: automatic")
        self.find_size.setChecked(True)
        self.find_size.setToolTip(
            "Find out how large the cells are and show them to the model at the size\n"
            "that it knows; switch it off to give their diameter yourself"
        )
        self.diameter = QSpinBox()
        self.diameter.setRange(1, 4096)
        self.diameter.setSuffix(" px")
        self.diameter.setToolTip("Of a typical cell, in pixels of the image")
        self.diameter.setEnabled(False)
        self.find_size.toggled.connect(self.diameter.setDisabled)
        self.size_row = row(self.find_size, self.diameter)
        self.size_row.setVisible(False)

    @property
    def cell_diameter(self) -> float | Literal["auto"]:
        """What is chosen: a number of pixels, or that it is to be found."""
        given = not self.size_row.isHidden() and not self.find_size.isChecked()
        return float(self.diameter.value()) if given else "auto"

    def _make_buttons(self) -> None:
        self.run = QPushButton("Segment")
        self.run.setToolTip("Run the model; napari stays usable meanwhile")
        self.cancel = QPushButton("Cancel")
        self.cancel.setToolTip("End the run at once; slices that have arrived stay")
        self.cancel.setEnabled(False)
        self.bar = QProgressBar()
        self.bar.setToolTip("How far the run is, and how long it will take")
        self.bar.setRange(0, 1000)
        self.bar.setFormat("")
        self.message = note()
        self.message.setToolTip("What happened last")
        self.message.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
        )

    def _lay_out(self, parent: QWidget) -> None:
        self.range_row = row(self.first, QLabel("to"), self.last)
        form = rows(
            ("Image", self.image),
            ("Model", row(self.model, self.browse)),
            ("", self.about),
            ("Device", self.device),
            ("Slices", self.scope),
            ("", self.range_row),
            ("", self.where),
        )
        box = QGroupBox("Options")
        options = rows(
            ("", self.uncertainty),
            ("", self.probabilities),
            ("", self.mirrors),
            ("", self.size_row),
            ("Earlier mask", self.existing),
            ("Engine", self.engine),
        )
        box.setLayout(options)
        layout = column(parent, 270)
        layout.addLayout(form)
        layout.addWidget(box)
        layout.addWidget(row(self.run, self.cancel))
        layout.addWidget(self.bar)
        layout.addWidget(self.message)
        layout.addStretch(1)

    # What is offered

    def set_models(self, models: Sequence[ModelInfo], chosen: int = 0) -> None:
        """Offer ``models``."""
        with QSignalBlocker(self.model):
            self.model.clear()
            for number, model in enumerate(models):
                self.model.addItem(model.name)
                tip = Qt.ItemDataRole.ToolTipRole
                self.model.setItemData(number, model.tooltip, tip)
            self.model.setCurrentIndex(chosen)

    def describe_model(self, model: ModelInfo | None) -> None:
        """Say what the chosen model finds."""
        self.about.setText(_about(model) if model else "No model found")
        self.about.setToolTip(model.tooltip if model else "")
        mirrors = model is not None and model.mirrors
        self.mirrors.setEnabled(mirrors)
        learnt = model.diameter if model is not None else None
        self.size_row.setVisible(learnt is not None)
        if learnt is not None:
            self.diameter.setToolTip(
                "Of a typical cell, in pixels of the image; the model learnt "
                f"{learnt:g}:\nwith that, the image is left as it is"
            )
            if self.find_size.isChecked():
                self.diameter.setValue(round(learnt))
        self.mirrors.setToolTip(
            "Average over mirror images: slower, often a little better"
            if mirrors
            else "This model names no mirror images that it was trained on"
        )

    def set_device(self, device: str) -> None:
        """Offer the devices before the worker has told which there are."""
        self._offer_devices((("Automatic", "auto"), ("Processor", "cpu")), device)

    def set_devices(self, found: Devices) -> None:
        """Offer the devices by name."""
        best = found.gpu or found.cpu
        offered = [(f"Auto ({best})", "auto"), (f"Processor ({found.cpu})", "cpu")]
        if found.gpu:
            offered.insert(1, (found.gpu, "cuda"))
        self._offer_devices(offered, self.device.currentData())

    def _offer_devices(self, offered: Sequence[tuple[str, str]], chosen: str) -> None:
        self.device.clear()
        for text, value in offered:
            self.device.addItem(text, value)
        self.device.setCurrentIndex(max(0, self.device.findData(chosen)))
        self.device.setToolTip(f"Where the model runs: {self.device.currentText()}")

    def set_slices(self, count: int) -> None:
        """Offer the slices of a stack, or none for a single image."""
        known = self.last.maximum() + 1 if self.scope.isEnabled() else 0
        self.scope.setEnabled(count > 0)
        if count != known:
            for spin, value in ((self.first, 0), (self.last, count - 1)):
                spin.setRange(0, max(0, count - 1))
                spin.setValue(max(0, value))

    @property
    def span(self) -> tuple[int, int]:
        """First and last slice of the range."""
        return self.first.value(), self.last.value()

    def show_scope(self, where: str) -> None:
        """Show the controls that belong to the chosen scope."""
        stack, scope = self.scope.isEnabled(), self.scope.currentData()
        self.range_row.setVisible(stack and scope == "range")
        self.where.setVisible(stack and scope == "slice")
        self.where.setText(f"Slice {where}")

    # What happens

    def say(self, text: str, bad: bool = False) -> None:
        """Show one message."""
        self.message.setText(text)
        self.message.setStyleSheet(_BAD if bad else "")

    def begin(self, text: str) -> None:
        """Show that a run has begun."""
        self.bar.setRange(0, 0)  # moves without an end
        self.say(text)

    def opened(self, event: Opened) -> None:
        """Show that the model runs, and where."""
        self.bar.setRange(0, 1000)
        self.bar.setValue(0)
        many = f" over {event.count} slices" if event.count > 1 else ""
        engine = {value: text for text, value in _ENGINES}[event.engine]
        self.say(f"Running{many} with {engine} on {event.device}")

    def show_progress(self, event: Progress) -> None:
        """Show how far the run is."""
        self.bar.setValue(round(event.share * 1000))
        left = (
            "" if event.seconds_left is None else f", {_time(event.seconds_left)} left"
        )
        self.bar.setFormat(f"%p %{left}")

    def end(self, text: str, bad: bool = False) -> None:
        """Show that a run has ended."""
        self.bar.setRange(0, 1000)
        self.bar.setValue(0)
        self.bar.setFormat("")
        self.say(text, bad)


def _about(model: ModelInfo) -> str:
    names = ", ".join(name.replace("_", " ") for name in model.labels.names)
    return f"Finds {names}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

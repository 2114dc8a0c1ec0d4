"""The controls of the Refine widget, without what they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QGroupBox,
    QLabel,
    QPushButton,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from medseg.napari_plugin.layers import is_mask
from medseg.napari_plugin.origin import is_image, is_probability
from medseg.napari_plugin.widgets.controls import (
    Message,
    button,
    column,
    combo,
    row,
    rows,
)
from medseg.napari_plugin.widgets.label_picker import LabelPicker
from medseg.napari_plugin.widgets.layer_combo import LayerCombo
from medseg.napari_plugin.widgets.prompt_input import PromptKind
from medseg.napari_plugin.widgets.tool_panel import ToolPanel

if TYPE_CHECKING:
    from napari.components import ViewerModel

_KINDS: tuple[tuple[PromptKind, str, str], ...] = (
    ("off", "Off", "Leave the mouse to napari: move the view, or use its brush"),
    (
        "point",
        "Point",
        "Click into what is missing, or Shift-click into what is too much",
    ),
    ("box", "Box", "Drag a box around what is missing"),
    ("scribble", "Scribble", "Draw over what is missing"),
    ("lasso", "Lasso", "Draw around what is missing"),
)
METHODS = (
    ("Model guided", "model_guided"),
    ("Graph cut", "graph_cut"),
    ("Random walker", "random_walker"),
    ("Grow from seeds", "grow"),
    ("Exactly as drawn", "paint"),
)


class RefineForm:
    """Lays the controls out in ``parent``; they are its attributes."""

    def __init__(self, parent: QWidget, viewer: ViewerModel) -> None:
        self._make_choices(viewer)
        self._make_prompts()
        self._make_steps()
        self.tools = ToolPanel()
        self.message = Message()
        self.list_keys = QToolButton()
        self.list_keys.setText("Keyboard shortcuts")
        self.list_keys.setToolTip("They work while this widget is open")
        self.list_keys.setCheckable(True)
        self.list_keys.setArrowType(Qt.ArrowType.RightArrow)
        style = Qt.ToolButtonStyle.ToolButtonTextBesideIcon
        self.list_keys.setToolButtonStyle(style)
        self.list_keys.setAutoRaise(True)
        self.keys = QLabel()
        self.keys.setVisible(False)
        self.list_keys.toggled.connect(self._show_keys)
        self._lay_out(parent)

    def _make_choices(self, viewer: ViewerModel) -> None:
        self.mask = LayerCombo(viewer, is_mask, "no mask yet")
        self.mask.setToolTip("The mask to refine: any labels layer, also of a file")
        self.new_mask = button("New", "Add an empty mask for the image")
        self.save = button(
            "Save", "Save the mask to its file or beside its image, checked"
        )
        self.image = LayerCombo(viewer, is_image, "no image", optional=True)
        self.image.setToolTip("The image that the methods look at")
        self.probability = LayerCombo(
            viewer,
            is_probability,
            "none: tick Probability layers in Segment",
            optional=True,
        )
        self.probability.setToolTip(
            "A model's probabilities of the label (Segment draws them); Model "
            "guided needs them"
        )
        self.label = LabelPicker()

    def _make_prompts(self) -> None:
        self.kinds: dict[PromptKind, QPushButton] = {}
        self._group = QButtonGroup()
        for kind, text, tip in _KINDS:
            self.kinds[kind] = button(text, tip)
            self.kinds[kind].setCheckable(True)
            self._group.addButton(self.kinds[kind])
        self.kinds["off"].setChecked(True)
        self.add = button("+ Add", "Prompts add to the label; Shift takes away")
        self.take = button("- Remove", "Prompts take away from the label; Shift adds")
        self._signs = QButtonGroup()
        for sign in (self.add, self.take):
            sign.setCheckable(True)
            self._signs.addButton(sign)
        self.add.setChecked(True)
        self.method = combo(METHODS, "How a prompt is answered")
        self.method.setCurrentIndex(1)
        self.width = QSpinBox()
        self.width.setRange(1, 200)
        self.width.setValue(5)
        self.width.setSuffix(" px")
        self.width.setToolTip("Width of scribbles and of the range brush")
        self.protect = QCheckBox("Protect other labels")
        self.protect.setChecked(True)
        self.volume = QCheckBox("Work in 3-D")
        self.volume.setToolTip("Prompts and tools work on the volume, not on one slice")

    def _make_steps(self) -> None:
        self.undo = button(
            "Undo", "Take the last step back: prompt, tool or brush (Ctrl-Z)"
        )
        self.redo = button("Redo", "Do it again (Ctrl-Shift-Z)")
        self.reset = button("Reset", "Take back all prompts since the last Accept")
        self.accept = button("Accept", "Keep the mask as it is and clear the prompts")

    def _lay_out(self, parent: QWidget) -> None:
        layout = column(parent)
        self.inner = layout.parentWidget()
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        choices = rows(
            ("Mask", row(self.mask, self.new_mask, self.save)),
            ("Image", self.image),
            ("Model map", self.probability),
            ("Label", self.label),
        )
        choices.setVerticalSpacing(3)
        layout.addLayout(choices)
        layout.addWidget(self._prompt_box())
        layout.addWidget(_line(self.undo, self.redo, self.reset, self.accept))
        layout.addWidget(self.tools)
        layout.addWidget(self.message)
        layout.addWidget(self.list_keys)
        layout.addWidget(self.keys)
        layout.addStretch(1)

    def _prompt_box(self) -> QGroupBox:
        box = QGroupBox("Prompts")
        layout = QVBoxLayout(box)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.setSpacing(3)
        layout.addWidget(_line(*self.kinds.values()))
        layout.addWidget(_line(self.add, self.take, self.width))
        form = rows(("Method", self.method))
        form.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(_line(self.protect, self.volume))
        return box

    def _show_keys(self, on: bool) -> None:
        arrow = Qt.ArrowType.DownArrow if on else Qt.ArrowType.RightArrow
        self.list_keys.setArrowType(arrow)
        self.keys.setVisible(on)


def _line(*widgets: QWidget) -> QWidget:
    """Return widgets side by side, as close and as wide as they are."""
    return row(*widgets, wide=-1, spacing=3)

"""Which layers the Refine widget works on, and what that allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

from psygnal import Signal
from qtpy.QtCore import QTimer

from medseg.napari_plugin.layers import facts_of
from medseg.napari_plugin.mender import Mender
from medseg.napari_plugin.unsaved import image_of
from medseg.napari_plugin.widgets.layer_combo import follow
from medseg.napari_plugin.widgets.refine_form import RefineForm, is_probability

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer


class RefineChoices:
    """Mask, image, model map and label: one follows from the other.

    Args:
        viewer: Holds the layers, unwrapped.
        form: Where they are chosen.
        mender: Is told.

    Attributes:
        changed: Emitted when the mender works on other layers.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer, form: RefineForm, mender: Mender) -> None:
        self._viewer, self._form, self._mender = viewer, form, mender
        form.mask.choose(viewer.layers.selection.active)
        self._known = WeakSet(viewer.layers)
        self._adding = QTimer(form.mask, interval=0, singleShot=True)
        self._adding.timeout.connect(self._know)
        follow(form.mask, viewer.layers.events, ("inserted",), self._added)
        follow(form.mask, viewer.layers.selection.events, ("active",), self._selected)
        form.mask.currentIndexChanged.connect(self.mask_changed)
        form.mask.activated.connect(lambda _: self._select())
        form.image.currentIndexChanged.connect(self.images_changed)
        form.probability.currentIndexChanged.connect(self.images_changed)
        form.label.chosen.connect(self.choose_map)
        form.new_mask.clicked.connect(self.new_mask)

    def _added(self, event: Any = None) -> None:
        """Know a layer only later: napari selects each that is added, not a person."""
        self._adding.start()

    def _know(self) -> None:
        self._known = WeakSet(self._viewer.layers)

    def _selected(self, event: Any) -> None:
        """Work on the mask that a person selects in napari's list."""
        if event.value in self._known:
            self._form.mask.choose(event.value)

    def _select(self) -> None:
        """Select the mask that a person chooses here: Ctrl-Z and brush go there."""
        if self._form.mask.layer is not None:
            self._viewer.layers.selection.active = self._form.mask.layer

    def mask_changed(self, index: int = 0) -> None:
        """Offer what belongs to another mask."""
        layer = cast("Labels | None", self._form.mask.layer)
        self._form.label.follow(layer)
        if layer is not None:
            image = image_of(self._viewer, layer)
            if image is not None:
                self._form.image.choose(image)
        self.choose_map()
        self.images_changed()
        self._explain_protection(layer)
        stack = layer is not None and layer.ndim > 2
        movie = layer is not None and bool(facts_of(layer).get("frames"))
        self._form.volume.setEnabled(stack and not movie)
        self._form.tools.buttons["Fill between slices"].setEnabled(stack and not movie)
        if not self._form.volume.isEnabled():
            self._form.volume.setChecked(False)

    def choose_map(self, event: Any = None) -> None:
        """Take the model's map of the structure that is edited, if there is one."""
        form = self._form
        layer = form.mask.layer
        name = form.label.name if layer is not None else ""
        maps = [x for x in self._viewer.layers if is_probability(x)]
        fits = [x for x in maps if _fitting(layer, x) is not None]
        own = [x for x in fits if name and _structure(x) == name]
        if own and form.probability.layer is not own[-1]:
            form.probability.choose(own[-1])
        if own and self._mender.probability is None:
            form.method.setCurrentIndex(form.method.findData("model_guided"))

    def _explain_protection(self, layer: Labels | None) -> None:
        structure = layer is not None and facts_of(layer).get("structure")
        self._form.protect.setToolTip(
            "This structure has a layer of its own and may overlap the others:\n"
            "there are no other labels in the layer to protect"
            if structure
            else "Pixels of other labels of this layer are never overwritten"
        )

    def images_changed(self, index: int = 0) -> None:
        """Work on the layers that are chosen."""
        form = self._form
        layer = form.mask.layer
        image = _fitting(layer, form.image.layer)
        probability = _fitting(layer, form.probability.layer)
        self._mender.choose(layer, image, probability)
        if layer is None:
            self._form.message.say("Open a mask, segment, or press New")
        elif image is None:
            self._form.message.say(
                "No image of the mask's shape: methods see the mask alone"
            )
        else:
            self._form.message.say("")
            low, high = image.contrast_limits
            form.tools.set_range(float(low), float(high))
        units = (
            str(getattr(layer, "units", ("pixel",))[-1]) if layer is not None else ""
        )
        form.tools.unit.setText("mm" if units in ("mm", "millimeter") else "px")
        self.changed.emit()

    def new_mask(self) -> None:
        """Add an empty mask for the image and choose it."""
        from medseg.napari_plugin._commands import new_mask

        image = self._form.image.layer
        if image is not None:
            self._viewer.layers.selection.active = image
        before = set(self._viewer.layers)
        self._form.message.attempt(lambda: new_mask(self._viewer))
        for layer in set(self._viewer.layers) - before:
            self._form.mask.choose(layer)


def _fitting(layer: Any, image: Any) -> Any:
    """Return the image if it has the mask's shape, else None."""
    if layer is None or image is None:
        return None
    shape = tuple(image.data.shape)
    return image if shape[: image.ndim] == tuple(layer.data.shape) else None


def _structure(probability: Any) -> str:
    """Return the structure that a layer of probabilities is about."""
    return str(facts_of(probability).get("of") or "")

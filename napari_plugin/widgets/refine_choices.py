"""Which layers the Refine widget works on, and what that allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

from psygnal import Signal
from qtpy.QtCore import QSignalBlocker, QTimer

from medseg.napari_plugin.layers import facts_of
from medseg.napari_plugin.mender import Mender
from medseg.napari_plugin.origin import fits, is_image, own_image, own_maps
from medseg.napari_plugin.widgets.layer_combo import LayerCombo, follow
from medseg.napari_plugin.widgets.refine_form import RefineForm

if TYPE_CHECKING:
    from napari.layers import Image, Labels
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
        self._structure = ""  # for which a map was looked for
        self._asked: set[LayerCombo] = set()  # those a person has chosen in
        self._adding = QTimer(form.mask, interval=0, singleShot=True)
        self._adding.timeout.connect(self._know)
        follow(form.mask, viewer.layers.events, ("inserted",), self._added)
        follow(form.mask, viewer.layers.selection.events, ("active",), self._selected)
        form.mask.currentIndexChanged.connect(self.mask_changed)
        form.mask.activated.connect(lambda _: self._select())
        form.image.currentIndexChanged.connect(self.images_changed)
        form.probability.currentIndexChanged.connect(self.images_changed)
        form.image.activated.connect(lambda _: self._asked.add(form.image))
        form.probability.activated.connect(lambda _: self._asked.add(form.probability))
        form.label.chosen.connect(self._label_changed)
        form.new_mask.clicked.connect(self.new_mask)

    def _added(self, event: Any = None) -> None:
        """Know a layer only later: napari selects each that is added, not a person."""
        self._adding.start()

    def _know(self) -> None:
        """Take what has come and is the mask's own; what was refused stays so."""
        new = [x for x in self._viewer.layers if x not in self._known]
        self._known = WeakSet(self._viewer.layers)
        form = self._form
        image = self._image_for(form.mask.layer)
        came = image in new and self._is_free(form.image)
        if came:
            form.image.choose(image)
        own = self._map_for(form.mask.layer)
        # Where another image came, the map that was chosen is none of it.
        if (came and self._is_free(form.probability)) or (
            form.probability.layer is None and own in new
        ):
            form.probability.choose(own)

    def _is_free(self, combo: LayerCombo) -> bool:
        """Return whether a choice may still follow the mask: no person has made it."""
        mask = self._form.mask.layer
        return combo.layer is None or (mask is not None and combo not in self._asked)

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
        form = self._form
        layer = cast("Labels | None", form.mask.layer)
        # One choice, told once: the method follows a map that comes or goes.
        with (
            QSignalBlocker(form.label),
            QSignalBlocker(form.image),
            QSignalBlocker(form.probability),
        ):
            form.label.follow(layer)
            form.image.choose(self._image_for(layer))
            form.probability.choose(self._map_for(layer))
        self._structure = self._edited(layer)
        self._asked.clear()
        self.images_changed()
        self._explain_protection(layer)
        stack = layer is not None and layer.ndim > 2
        movie = layer is not None and bool(facts_of(layer).get("frames"))
        form.volume.setEnabled(stack and not movie)
        form.tools.buttons["Fill between slices"].setEnabled(stack and not movie)
        if not form.volume.isEnabled():
            form.volume.setChecked(False)

    def _label_changed(self) -> None:
        """Take the map of another structure; of the same one a person's choice stays."""
        layer = self._form.mask.layer
        if self._edited(layer) != self._structure:
            self._structure = self._edited(layer)
            self._form.probability.choose(self._map_for(layer))

    def _image_for(self, layer: Labels | None) -> Image | None:
        """Return the mask's image; without a mask the one on top, to draw one for."""
        if layer is not None:
            return own_image(self._viewer, layer)
        images = (x for x in reversed(self._viewer.layers) if is_image(x))
        return next(images, None)

    def _map_for(self, layer: Labels | None) -> Image | None:
        """Return the model's map of the structure that is edited, if there is one."""
        name = self._edited(layer)
        if layer is None or not name:
            return None
        maps = own_maps(self._viewer, layer, self._form.image.layer)
        own = [x for x in maps if facts_of(x).get("of") == name]
        return own[-1] if own else None

    def _edited(self, layer: Labels | None) -> str:
        """Return the name of what is edited, empty if it has none."""
        labels = facts_of(layer).get("labels") if layer is not None else None
        if labels is not None and labels.kind == "instances":
            return str(labels.labels[0].name)
        return self._form.label.name if layer is not None else ""

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
        had = self._mender.probability is not None
        self._mender.choose(layer, image, probability)
        self._follow_map(had, probability is not None)
        if layer is None:
            self._form.message.say("Open a mask, segment, or press New")
        elif image is None:
            self._form.message.say(
                "No image that belongs to the mask: methods see the mask alone"
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

    def _follow_map(self, had: bool, has: bool) -> None:
        """Have the model guide where its map comes, and not where it has gone."""
        method = self._form.method
        if has and not had:
            method.setCurrentIndex(method.findData("model_guided"))
        elif had and not has and method.currentData() == "model_guided":
            method.setCurrentIndex(method.findData("graph_cut"))

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
    return None if layer is None or image is None or not fits(image, layer) else image

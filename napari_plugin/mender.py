"""Mend a napari Labels layer with prompts and tools: the model of the Refine widget.

No Qt here. A `medseg.refine.RefineSession` answers prompts on the layer's own array
and writes nothing; each answer goes into the layer through
`medseg.napari_plugin.history`, as one step of napari's own undo. Ctrl-Z, the widget's
button and painting therefore share one history. napari tells nobody that it has taken
a step back: `Mender.sync` compares the mask with the last answers and lets their
prompts come and go with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from medseg.errors import ConfigError
from medseg.labels import Label, LabelSet
from medseg.napari_plugin import history
from medseg.napari_plugin.history import Index
from medseg.napari_plugin.layers import hands_off
from medseg.napari_plugin.part import Place, Work, check_fits, part_of, shown_place
from medseg.napari_plugin.unsaved import unwrap
from medseg.refine.edit import Edit
from medseg.refine.methods import METHODS, MethodName
from medseg.refine.prompts import Prompt
from medseg.refine.session import RefineSession

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels
    from numpy.typing import NDArray

Tool = Callable[["Work"], Edit]

# Any number may be mended, whatever names the mask has: as for instances.
_ANY = LabelSet((Label(1, "object", "#ffffff"),), "instances")


class Mender:
    """Prompts, tools, undo and redo on one mask of a viewer.

    Attributes:
        changed: Emitted when the mask, the prompts or the choice of layers changes.
        brushed: Emitted when a person takes one of napari's own tools to the mask.
        volume: Whether prompts and tools work on the volume, not on the slice shown.
        protect: Whether other labels are never overwritten.
    """

    changed = Signal()
    brushed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = unwrap(viewer)
        self.layer: Labels | None = None
        self.image: Image | None = None
        self.probability: Image | None = None
        self.method: MethodName = "graph_cut"
        self.volume = False
        self.protect = True
        self._session: RefineSession | None = None
        self._place: Place | None = None
        self._data: Any = None
        self._part: NDArray[Any] = np.zeros(0, np.uint8)
        self._done: list[tuple[Edit, Prompt]] = []
        self._undone: list[tuple[Edit, Prompt]] = []

    def choose(
        self,
        layer: Labels | None,
        image: Image | None = None,
        probability: Image | None = None,
    ) -> None:
        """Work on ``layer`` from now on; prompts so far are forgotten.

        Raises:
            ConfigError: If an image has another shape than the mask.
        """
        layer, image, probability = map(unwrap, (layer, image, probability))
        for given in (image, probability):
            if layer is not None and given is not None:
                check_fits(layer, given)
        if self.layer is not None:
            self.layer.events.set_data.disconnect(self._on_refresh)
            self.layer.events.mode.disconnect(self._on_mode)
        self.layer, self.image, self.probability = layer, image, probability
        if layer is not None:
            layer.events.set_data.connect(self._on_refresh)
            layer.events.mode.connect(self._on_mode)
        self._forget()

    def close(self) -> None:
        """Let the layer go."""
        self.choose(None)

    @property
    def value(self) -> int:
        """The label to edit: the one selected in napari, at least 1."""
        return max(1, int(self.layer.selected_label)) if self.layer is not None else 1

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Prompts in effect, in coordinates of the part that is worked on."""
        return tuple(prompt for _, prompt in self._done)

    @property
    def place(self) -> Place:
        """The part that is shown.

        Raises:
            ConfigError: If no mask is chosen or the view is 3-D.
        """
        return shown_place(self._viewer, self._need_layer())

    def to_part(self, position: Any) -> tuple[float, ...]:
        """Return a world position as coordinates of the part that is shown."""
        place = self.place
        point = self._need_layer().world_to_data(position)
        lead = len(place.within) - min(len(place.within), 3)
        found = [float(v) for v in point[lead:]]
        if place.plane_axis is not None:
            found[place.plane_axis] = float(place.index)
        return tuple(found)

    def ask(self, prompt: Prompt) -> Edit:
        """Return the answer to a prompt; the mask stays.

        In a thread call the session's ``add`` instead, after `prepare`.

        Raises:
            ConfigError: If it cannot be answered.
        """
        return self.prepare().add(prompt)

    def prepare(self) -> RefineSession:
        """Return the session for the part shown, made anew where that is another.

        Raises:
            ConfigError: If no mask is chosen, or it does not fit its image.
        """
        layer, place = self._need_layer(), self.place
        same = self._place is not None and (place.within, place.plane_axis) == (
            self._place.within,
            self._place.plane_axis,
        )
        # Somebody may have given the layer another array.
        if self._session is None or not same or layer.data is not self._data:
            self._forget()
            self._data = layer.data
            self._session = RefineSession(
                method=self.method, plane_axis=place.plane_axis or 0, writes=False
            )
            self._session.set_image(self._image_part(place), self._spacing())
            self._part = np.asarray(layer.data[place.within])
            self._session.set_mask(self._part, _ANY, self.value)
        self._place = place
        self._follow()
        if place.plane_axis is not None:
            self._session.volume = self.volume
        if not isinstance(self._session.method, _kind(self.method)):
            self._session.method = METHODS[self.method]()
        self._session.protect_other_labels = self.protect
        self._session.set_target(self.value, self._probability_part(place))
        return self._session

    def _follow(self) -> None:
        """Give the session the mask as it is, where its array is but a copy."""
        if self.layer is not None and not isinstance(self._data, np.ndarray):
            assert self._place is not None
            self._part[...] = self.layer.data[self._place.within]

    def add(self, prompt: Prompt) -> int:
        """Answer a prompt, change the mask, and return how many voxels changed.

        Raises:
            ConfigError: If it cannot be answered.
        """
        return self.take(self.ask(prompt), prompt)

    def take(self, edit: Edit, prompt: Prompt) -> int:
        """Put the answer that `ask` gave into the layer.

        Raises:
            ConfigError: If another mask was chosen meanwhile, or the mask accepted.
        """
        if self._place is None:
            raise ConfigError("prompt", "the mask has changed meanwhile", "Click again")
        count = self._apply(edit, self._place.within)
        self._done.append((edit, prompt))
        self._undone.clear()
        self.changed.emit()
        return count

    def use_tool(self, tool: Tool) -> int:
        """Run a tool on the slice shown or the volume; return the voxels changed.

        Raises:
            ConfigError: What the tool raises, or if there is no mask.
        """
        work, within = self.prepare_tool()
        return self.put(tool(work), within)

    def put(self, edit: Edit, within: Index) -> int:
        """Put what a tool gave into the layer; return the voxels changed."""
        count = self._apply(edit, within)
        self.changed.emit()
        return count

    def prepare_tool(self, volume: bool | None = None) -> tuple[Work, Index]:
        """Return what a tool is given, and where its edit belongs.

        Args:
            volume: Whether it is the volume; by default what is chosen.

        Raises:
            ConfigError: If no mask is chosen, or the view does not show it.
        """
        layer, place = self._need_layer(), self.place
        spacing, dropped = self._spacing(), None
        labels = np.asarray(layer.data[place.within])
        image = self._image_part(place)
        axis, within = place.plane_axis, place.within
        if axis is not None and not (self.volume if volume is None else volume):
            labels, image = labels[place.plane], np.asarray(image[place.plane])
            spacing = tuple(s for a, s in enumerate(spacing) if a != axis)
            lead = len(within) - 3
            within = within[:lead] + place.plane
            axis, dropped = None, axis
        work = Work(labels, image, spacing, self.value, self.protect, axis, dropped)
        return work, within

    def undo(self) -> None:
        """Take the last step back: a prompt's, a tool's or a stroke of the brush."""
        layer = self._need_layer()
        if self._done and self._done[-1][0].empty:
            self._back()  # it changed nothing: only the prompt goes
        else:
            layer.undo()
        self.sync()

    def redo(self) -> None:
        """Do the last step taken back again."""
        layer = self._need_layer()
        if self._undone and self._undone[-1][0].empty:
            self._again()
        else:
            layer.redo()
        self.sync()

    def reset(self) -> int:
        """Take back what all prompts since `accept` changed, as one undo step."""
        if self._session is None or self._place is None or not self._done:
            return 0
        within = self._place.within
        self._follow()
        count = self._apply(self._session.reset(), within)
        self._forget()
        return count

    def accept(self) -> None:
        """Keep the mask as it is and begin with new prompts."""
        self._forget()

    def sync(self) -> None:
        """Follow what napari's own undo and redo did to the last answers."""
        if self._session is None or self._place is None or self.layer is None:
            return
        part = self.layer.data[self._place.within]
        while (last := _last_change(self._done)) is not None and _holds(
            part, self._done[last][0].inverse()
        ):
            while len(self._done) > last:
                self._back()
        while (following := _last_change(self._undone)) is not None and _holds(
            part, self._undone[following][0]
        ):
            while len(self._undone) > following:
                self._again()

    def _back(self) -> None:
        assert self._session is not None
        self._session.undo()
        self._undone.append(self._done.pop())
        self.changed.emit()

    def _again(self) -> None:
        assert self._session is not None
        self._session.redo()
        self._done.append(self._undone.pop())
        self.changed.emit()

    def _on_refresh(self, event: Any = None) -> None:
        if self._done or self._undone:
            self.sync()

    def _on_mode(self, event: Any) -> None:
        if self.layer is not None and not hands_off(self.layer):
            self.brushed.emit()

    def _apply(self, edit: Edit, within: Index) -> int:
        if edit.empty:
            return 0
        return history.apply_edits(self._need_layer(), [edit], within)

    def _forget(self) -> None:
        self._session = self._place = self._data = None
        self._done.clear()
        self._undone.clear()
        self.changed.emit()

    def _need_layer(self) -> Labels:
        if self.layer is None:
            raise ConfigError("mask", "is not chosen", "Choose or make a labels layer")
        return self.layer

    def _spacing(self) -> tuple[float, ...]:
        layer = self._need_layer()
        return tuple(abs(float(s)) for s in layer.scale[-min(layer.ndim, 3) :])

    def _image_part(self, place: Place) -> NDArray[Any]:
        layer = self._need_layer()
        if self.image is None:
            shape = tuple(layer.data.shape)[-min(layer.ndim, 3) :]
            return np.broadcast_to(np.float32(0), shape)
        return part_of(self.image, place)

    def _probability_part(self, place: Place) -> NDArray[Any] | None:
        return None if self.probability is None else part_of(self.probability, place)


def _kind(method: MethodName) -> type:
    return type(METHODS[method]())


def _last_change(steps: list[tuple[Edit, Prompt]]) -> int | None:
    """Return the position of the last step that changed the mask."""
    changing = (i for i in reversed(range(len(steps))) if not steps[i][0].empty)
    return next(changing, None)


def _holds(part: NDArray[Any], edit: Edit) -> bool:
    """Return whether the mask holds what the edit leaves."""
    return bool(np.array_equal(np.asarray(part[edit.slices]), edit.after))

"""Clicks on the canvas that choose cells of a labels layer, and marks round them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.napari_plugin.layers import PLACE, hands_off
from medseg.napari_plugin.unsaved import unwrap

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

_CLICK = 3.0  # a press that moves less, in screen pixels, is a click


class CellPicker:
    """Tell which label is clicked; drags go on moving the view.

    Args:
        viewer: Whose canvas to listen to.
        on_pick: Called with the index along the layer's first axes and the label.

    Attributes:
        layer: Whose labels are picked; None for no clicks.
        on: Whether to listen.
    """

    def __init__(
        self, viewer: ViewerModel, on_pick: Callable[[tuple[int, ...], int], None]
    ) -> None:
        self._viewer = unwrap(viewer)
        self._on_pick = on_pick
        self.layer: Labels | None = None
        self.on = False
        self._callback = self._pressed  # one object: removal is by identity
        self._viewer.mouse_drag_callbacks.append(self._callback)

    def close(self) -> None:
        """Leave the mouse."""
        if self._callback in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._callback)

    def _pressed(self, viewer: Any, event: Any) -> Iterator[None] | None:
        if not self.on or self.layer is None or event.button != 1:
            return None
        if not hands_off(self._viewer.layers.selection.active):
            return None
        return self._follow(event)

    def _follow(self, event: Any) -> Iterator[None]:
        start, moved = np.asarray(event.pos, float), 0.0
        yield
        while event.type == "mouse_move":
            moved = max(moved, float(np.abs(np.asarray(event.pos) - start).max()))
            yield
        if moved <= _CLICK:
            self.pick(event)

    def pick(self, event: Any) -> None:
        """Pick what is under the mouse."""
        layer = self.layer
        if layer is None:
            return
        position = tuple(event.position)
        if len(event.dims_displayed) == 3:
            value = layer.get_value(
                position,
                view_direction=event.view_direction,
                dims_displayed=event.dims_displayed,
                world=True,
            )
            if value:
                index = layer.world_to_data(position)
                self._on_pick(tuple(round(float(i)) for i in index), int(value))
            return
        index = np.round(layer.world_to_data(position[-layer.ndim :])).astype(int)
        if (index < 0).any() or (index >= layer.data.shape).any():
            return
        value = int(np.asarray(layer.data[tuple(index.tolist())]))
        if value:
            self._on_pick(tuple(index.tolist()), value)


class CellMarks:
    """Circles round cells, in a layer of their own that goes when there are none."""

    def __init__(self, viewer: ViewerModel, name: str) -> None:
        self._viewer, self._name = unwrap(viewer), name
        self._layer: Any = None

    def show(self, mask: Labels, points: Any, size: float) -> None:
        """Mark points ``(N, ndim)`` in array index coordinates of a mask."""
        if self._layer is not None and self._layer in self._viewer.layers:
            if not np.array_equal(self._layer.data, points):
                self._layer.data = points
            self._layer.size = size
            return
        active = self._viewer.layers.selection.active
        self._layer = self._viewer.add_points(
            points,
            name=self._name,
            size=size,
            symbol="disc",
            face_color="transparent",
            border_color="white",
            border_width=0.06,
            **{key: getattr(mask, key) for key in PLACE},
        )
        self._viewer.layers.selection.active = active

    def close(self) -> None:
        """Take the marks away."""
        layer, self._layer = self._layer, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

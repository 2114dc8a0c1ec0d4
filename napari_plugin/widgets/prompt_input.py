"""Turn clicks and drags on the canvas into prompts, and draw the prompts.

The mask stays the selected layer, so that napari's keys (undo, brush, label number)
go on working; clicks come through the viewer's own public mouse callbacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medseg.errors import ConfigError
from medseg.napari_plugin.display import camera_of
from medseg.napari_plugin.layers import PLACE, hands_off
from medseg.napari_plugin.mender import Mender
from medseg.napari_plugin.unsaved import unwrap
from medseg.refine.prompts import Box, Lasso, Point, Position, Prompt, Scribble

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

PromptKind = Literal["off", "point", "box", "scribble", "lasso"]
DrawKind = Literal["line", "brush"]

POSITIVE, NEGATIVE, DRAWN = "#3ddc6b", "#ff4d6a", "#ffd166"
_POINTS, _LINES = "prompts (points)", "prompts (lines)"
_CLICK = 3.0  # a press that moves less, in screen pixels, is a click
_NEAR = 1.0  # points of a path nearer than this, in pixels, are left out


class PromptInput:
    """Listen to the mouse while a kind of prompt is chosen.

    Args:
        viewer: Whose canvas to listen to.
        mender: Says where a position lies in the mask.
        on_prompt: Called with each prompt.
        on_path: Called with a path drawn for a tool, and whether it adds.
        on_error: Called with why nothing can be drawn, as in a 3-D view.

    Attributes:
        kind: What the next click or drag makes; ``off`` leaves the mouse to napari.
        negative: Whether prompts take away; Shift turns it round for one prompt.
        width: Of scribbles, in pixels.
        path_for_tool: When set, the next drag is for a tool and not a prompt.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        mender: Mender,
        on_prompt: Callable[[Prompt], None],
        on_path: Callable[[list[Position], bool], None],
        on_error: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._viewer = unwrap(viewer)
        self._mender = mender
        self._on_prompt, self._on_path, self._on_error = on_prompt, on_path, on_error
        self.kind: PromptKind = "off"
        self.negative = False
        self.width = 3
        self.path_for_tool = False
        self._glyphs = PromptGlyphs(viewer, mender)
        self._callback = self._on_drag  # one object: removal is by identity
        self._viewer.mouse_drag_callbacks.append(self._callback)
        mender.changed.connect(self.draw)

    def close(self) -> None:
        """Leave the mouse and take the drawn prompts away."""
        if self._callback in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._callback)
        self._mender.changed.disconnect(self.draw)
        self._glyphs.close()

    def draw(self) -> None:
        """Draw the prompts in effect."""
        self._glyphs.draw(self._mender.prompts)

    def hide(self) -> None:
        """Take the drawn prompts away until they are drawn again."""
        self._glyphs.close()

    def get_ready(self) -> None:
        """Make the layer that a drag draws on: in the midst of one it costs moves."""
        if self._mender.layer is not None and self.kind in ("box", "scribble", "lasso"):
            self._glyphs.get_ready()

    @property
    def listening(self) -> bool:
        """Whether clicks are ours: a kind is chosen and no brush of napari is."""
        if self._mender.layer is None or (
            self.kind == "off" and not self.path_for_tool
        ):
            return False
        return hands_off(self._viewer.layers.selection.active)

    def _on_drag(self, viewer: Any, event: Any) -> Iterator[None] | None:
        if not self.listening or event.button != 1:
            return None
        try:
            self._mender.place  # noqa: B018 (raises where there is none)
        except ConfigError as error:
            self._on_error(str(error))
            return None
        return self._follow(event)

    def _follow(self, event: Any) -> Iterator[None]:
        point = self.kind == "point" and not self.path_for_tool
        shift = "Shift" in tuple(getattr(m, "name", m) for m in event.modifiers)
        positive = self.negative == shift
        start = np.asarray(event.pos, float)
        path = [self._position(event)]
        camera = camera_of(self._viewer)
        pans = camera.mouse_pan
        if not point:
            camera.mouse_pan = False
        moved = 0.0
        try:
            yield
            while event.type == "mouse_move":
                moved = max(moved, float(np.abs(event.pos - start).max()))
                if not point:
                    _extend(path, self._position(event))
                    self._glyphs.preview(self._shape(path, positive), positive)
                yield
        finally:
            camera.mouse_pan = pans
            self._glyphs.preview(None, positive)
        if point and moved > _CLICK:
            return  # that was a drag of the view
        _extend(path, self._position(event))
        if self.path_for_tool:
            self._on_path(path, positive)
        elif (prompt := self._shape(path, positive)) is not None:
            self._on_prompt(prompt)

    def _position(self, event: Any) -> Position:
        return self._mender.to_part(event.position)

    def _shape(self, path: list[Position], positive: bool) -> Prompt | None:
        """Return the prompt that a path makes; None while there is too little."""
        if self.path_for_tool:
            return Scribble(tuple(path))
        if self.kind == "point":
            return Point(path[-1], positive)
        if self.kind == "scribble":
            return Scribble(tuple(path), positive, float(self.width))
        if self.kind == "lasso":
            return Lasso(tuple(path), positive) if len(path) > 2 else None
        low, high = np.minimum(path[0], path[-1]), np.maximum(path[0], path[-1])
        return Box(tuple(low), tuple(high), positive) if (low != high).any() else None


class PromptGlyphs:
    """Two layers of the widget's own that show the prompts."""

    def __init__(self, viewer: ViewerModel, mender: Mender) -> None:
        self._viewer = unwrap(viewer)
        self._mender = mender
        self._points: Any = None
        self._lines: Any = None
        self._over: Labels | None = None
        self._preview: tuple[Prompt, bool] | None = None
        self._prompts: tuple[Prompt, ...] = ()

    def draw(self, prompts: Sequence[Prompt]) -> None:
        """Show these prompts and no others."""
        if tuple(prompts) == self._prompts and self._prompts == ():
            return
        self._prompts = tuple(prompts)
        self._draw_points([p for p in self._prompts if isinstance(p, Point)])
        self._draw_lines()

    def preview(self, prompt: Prompt | None, positive: bool) -> None:
        """Show a prompt that is being drawn; None: no longer."""
        if prompt is None and self._preview is None:
            return
        if prompt is None or not isinstance(prompt, Point):
            self._preview = None if prompt is None else (prompt, positive)
            self._draw_lines()

    def get_ready(self) -> None:
        """Make the layer of the lines."""
        self._lines = self._layer(self._lines, "shapes")

    def close(self) -> None:
        """Remove the layers."""
        for layer in (self._points, self._lines):
            if layer is not None and layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self._points = self._lines = self._over = None

    def _draw_points(self, points: Sequence[Point]) -> None:
        if not points:
            empty = self._points
            if empty is not None and empty in self._viewer.layers:
                empty.data = np.zeros((0, empty.ndim))
            return
        layer = self._points = self._layer(self._points, "points")
        layer.data = np.array([self._lead() + p.position for p in points], float)
        layer.face_color = [POSITIVE if p.positive else NEGATIVE for p in points]
        layer.size = self._unit() * 9

    def _draw_lines(self) -> None:
        shown: list[Prompt] = [p for p in self._prompts if not isinstance(p, Point)]
        if self._preview is not None:
            shown.append(self._preview[0])
        if not shown:
            if self._lines in self._viewer.layers:
                self._lines.data = []
            return
        layer = self._lines = self._layer(self._lines, "shapes")
        layer.data = []
        for prompt in shown:
            path, kind = _outline(prompt)
            lead = np.tile(self._lead(), (len(path), 1))
            colour = POSITIVE if prompt.positive else NEGATIVE
            layer.add(
                np.concatenate([lead, path], axis=1) if lead.size else path,
                shape_type=kind,
                edge_color=colour,
                face_color="transparent",
                edge_width=self._unit() * 2,
            )

    def _lead(self) -> Position:
        lead = self._mender.place.within
        return tuple(float(i) for i in lead if not isinstance(i, slice))

    def _unit(self) -> float:
        """Return about one pixel of the screen, in pixels of the mask."""
        mask = self._mender.layer
        step = min(abs(s) for s in mask.scale[-2:]) if mask is not None else 1.0
        return 1.0 / max(1e-6, camera_of(self._viewer).zoom * step)

    def _layer(self, layer: Any, kind: Literal["points", "shapes"]) -> Any:
        """Return our layer, added above the mask without taking the selection."""
        mask = self._mender.layer
        if mask is None:
            raise ConfigError("mask", "is not chosen")
        words: dict[str, Any] = {key: getattr(mask, key) for key in PLACE}
        words["ndim"] = mask.ndim
        if mask is not self._over:
            self.close()  # what lies over another mask lies elsewhere
            self._over, layer = mask, None
        if layer is not None and layer in self._viewer.layers:
            return layer
        selected = set(self._viewer.layers.selection)
        active = self._viewer.layers.selection.active
        if kind == "points":
            layer = self._viewer.add_points(
                name=_POINTS, border_color="white", border_width=0.15, **words
            )
        else:
            layer = self._viewer.add_shapes(name=_LINES, **words)
        self._viewer.layers.selection = selected
        self._viewer.layers.selection.active = active
        return layer


def _extend(path: list[Position], position: Position) -> None:
    if max(abs(a - b) for a, b in zip(path[-1], position, strict=True)) >= _NEAR:
        path.append(position)


def _outline(prompt: Prompt) -> tuple[np.ndarray, str]:
    """Return the vertices ``(N, D)`` of a prompt and napari's name of the shape."""
    if isinstance(prompt, Lasso):
        return np.array(prompt.points), "polygon"
    if isinstance(prompt, Scribble):
        points = np.array(prompt.points)
        return (points if len(points) > 1 else np.repeat(points, 2, axis=0)), "path"
    assert isinstance(prompt, Box)
    low, high = np.array(prompt.low), np.array(prompt.high)
    first, second = [a for a in range(len(low)) if low[a] != high[a]][-2:] or (0, 1)
    corners = np.tile(low, (4, 1))
    corners[1:3, second] = high[second]
    corners[2:, first] = high[first]
    return corners, "polygon"

"""The two lines of the cardiothoracic ratio as a Shapes layer. No Qt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from medseg.measure.chest import ChestMeasurement, Line
from medseg.napari_plugin.layers import PLACE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Labels, Shapes

NAME = "cardiothoracic ratio"
_HEART, _THORAX = "#ff5346", "#00a8ec"


def with_lines(
    measured: ChestMeasurement, heart: Line, thorax: Line
) -> ChestMeasurement:
    """Return a measurement with other lines; areas stay.

    Only the horizontal extent of a line counts. A thorax of no width leaves the ratio
    undefined (NaN).
    """
    step = measured.spacing[1]
    heart_width, width = (abs(x.end[1] - x.start[1]) * step for x in (heart, thorax))
    return replace(
        measured,
        ctr=heart_width / width if width else float("nan"),
        heart_line=heart,
        thorax_line=thorax,
        heart_width=heart_width,
        thoracic_width=width,
    )


class ChestLines:
    """Two horizontal lines that a person can drag; owns their layer.

    Attributes:
        changed: Emitted with the measurement after every change of a line.
        moved: Whether a person has moved a line.
    """

    changed = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: Shapes | None = None
        self._measured: ChestMeasurement | None = None
        self._now: ChestMeasurement | None = None
        self._busy = False
        self.moved = False

    @property
    def layer(self) -> Shapes | None:
        """The layer, None while there is none."""
        return self._layer

    @property
    def measurement(self) -> ChestMeasurement | None:
        """What the lines say now."""
        return self._now

    def show(self, measured: ChestMeasurement, mask: Labels) -> bool:
        """Draw the lines of a measurement; return whether there are two."""
        self.close()
        self._measured = self._now = measured
        self.moved = False
        if measured.heart_line is None or measured.thorax_line is None:
            return False
        self._layer = self._viewer.add_shapes(
            _points(measured),
            shape_type="line",
            name=NAME,
            edge_color=[_HEART, _THORAX],
            edge_width=max(mask.data.shape) / 170,
            **{key: getattr(mask, key) for key in PLACE},
            opacity=0.9,
            features={"name": ["heart", "thorax"]},
            text={
                "string": "{name}",
                "color": [_HEART, _THORAX],
                "size": 11,
                "anchor": "center",
                "translation": [-max(mask.data.shape) / 35, 0],
            },
        )
        self._layer.events.data.connect(self._on_data)
        self._layer.mode = "direct"
        self._layer.selected_data = {0, 1}  # only ends of selected lines can be dragged
        return True

    def reset(self) -> None:
        """Put the lines back to where they were measured."""
        if self._measured is not None and self._layer is not None:
            self._put(self._measured)
            self.moved = False
            self._now = self._measured
            self.changed.emit(self._now)

    def close(self) -> None:
        """Remove the layer."""
        layer, self._layer = self._layer, None
        self._now = self._measured = None
        if layer is not None:
            layer.events.data.disconnect(self._on_data)
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def _on_data(self, event: Any) -> None:
        """Read the lines while one is dragged; make them level when it is let go."""
        layer, now = self._layer, self._now
        if self._busy or layer is None or now is None:
            return
        done = "changed" in str(event.action).lower()
        if len(layer.data) != 2 or any(len(line) != 2 for line in layer.data):
            if done or "removed" in str(event.action).lower():
                self._restore(layer, now)
            return
        heart, thorax = (
            _level(ends, line)
            for ends, line in zip(
                layer.data, (now.heart_line, now.thorax_line), strict=True
            )
        )
        self._now = with_lines(now, heart, thorax)
        if done:
            self._put(self._now)
        self.moved = self._now.ctr != _ratio(self._measured) or self.moved
        self.changed.emit(self._now)

    def _restore(self, layer: Shapes, now: ChestMeasurement) -> None:
        """Draw both lines again: one was deleted or got a corner."""
        self._busy = True
        layer.data = []
        layer.add_lines(_points(now), edge_color=[_HEART, _THORAX])
        layer.features = {"name": ["heart", "thorax"]}
        layer.selected_data = {0, 1}
        self._busy = False

    def _put(self, measurement: ChestMeasurement) -> None:
        if self._layer is not None:
            self._busy = True
            self._layer.data = _points(measurement)
            self._layer.selected_data = {0, 1}
            self._busy = False


def _ratio(measured: ChestMeasurement | None) -> float:
    return measured.ctr if measured is not None else float("nan")


def _points(measured: ChestMeasurement) -> list[np.ndarray]:
    lines = (measured.heart_line, measured.thorax_line)
    return [np.array([x.start, x.end], float) for x in lines if x is not None]


def _level(ends: Sequence[Any], before: Line | None) -> Line:
    """Return a level line through the end that was dragged."""
    (y0, x0), (y1, x1) = (map(float, end[-2:]) for end in ends)
    y = (y0 + y1) / 2
    if before is not None and y0 != y1:
        level = before.start[0]
        y = y0 if abs(y0 - level) > abs(y1 - level) else y1
    return Line((y, min(x0, x1)), (y, max(x0, x1)))

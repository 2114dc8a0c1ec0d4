"""Window/level presets, orientations and doubtful slices. No Qt."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.napari_plugin.layers import facts_of
from medseg.napari_plugin.placement import nearest_axes
from medseg.napari_plugin.scope import pixels_of, position, shape_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from medseg.geometry import Geometry

Measure = Literal["mean", "p95"]
# Percentiles are taken from at most this many pixels.
_SAMPLE = 2**18
# The most doubtful share of slices that previous and next stop at.
_DOUBTFUL = 0.2


@dataclass(frozen=True)
class Preset:
    """A window: percentiles of the image, or values where their unit is known.

    Args:
        name: For the menu.
        tip: What it is for.
        low: Lower end.
        high: Upper end.
        gamma: Below 1 brightens.
        absolute: Whether the ends are values (HU) and not percentiles.
    """

    name: str
    tip: str
    low: float
    high: float
    gamma: float = 1.0
    absolute: bool = False

    def limits(self, pixels: NDArray[Any]) -> tuple[float, float]:
        """Return the contrast limits for these pixels, the upper one the larger."""
        low, high = self.low, self.high
        if not self.absolute:
            finite = pixels[np.isfinite(pixels)]
            if not finite.size:
                return 0.0, 1.0
            low, high = map(float, np.percentile(finite, (low, high)))
        return low, high if high > low else low + 1


FILM = (
    Preset("1 to 99 %", "Leaves out the darkest and the brightest percent", 1, 99),
    Preset("0.5 to 99.5 %", "Leaves out half a percent on either side", 0.5, 99.5),
    Preset("Full range", "From the smallest to the largest value", 0, 100),
    Preset("Lung", "Stretches the dark half, where the lungs are", 0.5, 60, 0.8),
    Preset("Bone", "Stretches the bright half, where the bones are", 40, 99.9, 1.3),
)


def _window(name: str, centre: float, width: float) -> Preset:
    low, high = centre - width / 2, centre + width / 2
    tip = f"{low:g} to {high:g} HU (centre {centre:g}, width {width:g})"
    return Preset(name, tip, low, high, absolute=True)


CT = (
    _window("CT lung", -600, 1500),
    _window("CT soft tissue", 40, 400),
    _window("CT bone", 400, 1800),
    _window("CT brain", 40, 80),
)


def presets_for(layer: Image) -> tuple[Preset, ...]:
    """Return the presets that make sense: windows in HU only for a CT image."""
    meta = facts_of(layer).get("meta") or {}
    ct = str(meta.get("modality", "")).upper() == "CT"
    return (*CT, *FILM[:3]) if ct else FILM


def sample(layer: Image, viewer: ViewerModel) -> NDArray[Any]:
    """Return some pixels of a layer: of all if it is in memory, else of the slice."""
    data: Any = pixels_of(layer)
    if not isinstance(data, np.ndarray):
        data = np.asarray(data[position(layer, viewer)[: len(shape_of(layer)) - 2]])
    step = max(1, int(np.ceil((data.size / _SAMPLE) ** (1 / data.ndim))))
    return np.asarray(data[(slice(None, None, step),) * data.ndim], np.float32)


@dataclass(frozen=True)
class Orientation:
    """A way to look at a volume: the axis that the slider moves along."""

    name: str
    axis: int
    upright: bool


def orientations(geometry: Geometry | None) -> tuple[Orientation, ...]:
    """Return the three orientations, with their medical names where they are known.

    Args:
        geometry: Of a volume; None, or one in pixels, if nothing is known.

    Returns:
        In the order of the array's axes. ``upright`` says that the axis which runs
        down the picture should run up, so that the head is on top.
    """
    if geometry is None or geometry.ndim != 3 or geometry.unit != "mm":
        names = (("Plane YX", 0), ("Plane ZX", 1), ("Plane ZY", 2))
        return tuple(Orientation(name, axis, False) for name, axis in names)
    axes, signs = nearest_axes(geometry)
    medical = ("Axial", "Coronal", "Sagittal")  # world axes S, P, L
    found = []
    for axis in range(3):
        down = 1 if axis == 0 else 0  # the first of the two displayed axes
        upright = axes[down] == 0 and signs[down] > 0
        found.append(Orientation(medical[axes[axis]], axis, upright))
    return tuple(found)


def camera_of(viewer: ViewerModel) -> Any:
    """Return the camera, which napari 0.9 has moved."""
    scene = getattr(viewer, "scene", None)
    return viewer.camera if scene is None else scene.camera


def set_upright(viewer: ViewerModel, upright: bool) -> None:
    """Let the axis that runs down the picture run up, or down again."""
    camera = camera_of(viewer)
    if hasattr(camera, "orientation2d"):  # since napari 0.6
        camera.orientation2d = ("up" if upright else "down", "right")


def orient(viewer: ViewerModel, axis: int, upright: bool = False) -> None:
    """Show slices across ``axis``, counted among the last three axes.

    The scale of the layers gives them their true aspect.
    """
    lead = viewer.dims.ndim - 3
    rest = [lead + a for a in range(3) if a != axis]
    viewer.dims.ndisplay = 2
    viewer.dims.order = (*range(lead), lead + axis, *rest)
    set_upright(viewer, upright)
    viewer.reset_view()


class SliceScores:
    """The doubt of each slice along the first axis of an uncertainty layer.

    It is worked out a few slices at a time by :meth:`work`.
    """

    def __init__(self, data: Any, measure: Measure = "mean") -> None:
        self._data, self._measure = data, measure
        self._done = 0
        self.values = np.full(len(data), np.nan)

    @property
    def ready(self) -> bool:
        """Whether all slices have their score."""
        return self._done == len(self.values)

    def work(self, budget: float) -> bool:
        """Score slices for ``budget`` seconds, at least one; return :attr:`ready`."""
        end = time.perf_counter() + budget
        while not self.ready:
            plane = np.asarray(self._data[self._done])
            mean = self._measure == "mean"
            value = plane.mean() if mean else np.percentile(plane, 95)
            self.values[self._done] = value
            self._done += 1
            if time.perf_counter() > end:
                break
        return self.ready

    @property
    def worst(self) -> int:
        """The slice with the highest score; the first of several."""
        return int(np.nanargmax(self.values))

    def rank(self, index: int) -> int:
        """Return the place of a slice, 1 for the most doubtful."""
        return int((self.values > self.values[index]).sum()) + 1

    def step(self, index: int, direction: Literal[1, -1]) -> int:
        """Return the next doubtful slice from ``index`` on, going round at the end.

        Doubtful is the fifth of the slices with the highest scores, one at least;
        slices that were not segmented have a score of 0 and never count.
        """
        count = max(1, round(len(self.values) * _DOUBTFUL))
        order = np.argsort(-self.values, kind="stable")[:count]
        doubtful = np.sort([i for i in order if self.values[i] > 0] or [self.worst])
        beyond = doubtful[(doubtful - index) * direction > 0]
        if len(beyond):
            return int(beyond[0] if direction > 0 else beyond[-1])
        return int(doubtful[0] if direction > 0 else doubtful[-1])

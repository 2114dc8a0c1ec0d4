"""Preprocessing by named steps: MONAI array transforms from a fixed table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    GaussianSmooth,
    NormalizeIntensity,
    Resize,
    ScaleIntensityRange,
)
from numpy.typing import NDArray
from torch import Tensor

from medseg.errors import ConfigError
from medseg.schema import suggest

Pixels = NDArray[Any]
Transform = Callable[[Pixels], Any]

# Above this many pixels an image is not turned into float32 as a whole.
LARGE = 2**26
# Statistics of a windowed image come from at most this many of its pixels.
SAMPLE = 2**22


@dataclass(frozen=True)
class Step:
    """One preprocessing step: a name of :data:`STEPS` and MONAI's arguments.

    Raises:
        ConfigError: If the name or an argument is unknown, or a value unusable.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in STEPS:
            remedy = suggest(self.name, STEPS)
            raise ConfigError("preprocessing", f"no step {self.name!r}", remedy)
        allowed, required = STEPS[self.name].arguments, STEPS[self.name].required
        where = f"preprocessing.{self.name}"
        for key, value in self.arguments.items():
            if key not in allowed:
                remedy = suggest(key, allowed)
                raise ConfigError(f"{where}.{key}", "is an unknown argument", remedy)
            wanted = allowed[key](value)
            if wanted:
                raise ConfigError(f"{where}.{key}", f"is {value!r}", f"Give {wanted}")
        for key in required:
            if key not in self.arguments:
                raise ConfigError(f"{where}.{key}", "is missing", "Add it")


# A check returns what is wanted where the value is not that, else "".
def _number(value: Any) -> str:
    good = type(value) in (int, float) and abs(value) < 1e12
    return "" if good else "a number"


def _optional(value: Any) -> str:
    return "" if value is None else _number(value)


def _percent(value: Any) -> str:
    good = type(value) in (int, float) and 0 <= value <= 100
    return "" if good else "a percentage from 0 to 100"


def _positive(value: Any) -> str:
    good = type(value) in (int, float) and 0 < value <= 100
    return "" if good else "a number above 0 and up to 100"


def _bins(value: Any) -> str:
    return "" if type(value) is int and 2 <= value <= 65536 else "2 to 65536 bins"


def _flag(value: Any) -> str:
    return "" if type(value) is bool else "true or false"


def _size(value: Any) -> str:
    good = (
        isinstance(value, (list, tuple))
        and len(value) in (2, 3)
        and all(type(n) is int and 1 <= n <= 4096 for n in value)
    )
    return "" if good else "2 or 3 sizes from 1 to 4096"


def _mode(value: Any) -> str:
    modes = ("area", "bilinear", "trilinear")
    return "" if value in modes else f"one of {', '.join(modes)}"


def resize(pixels: Pixels, spatial_size: Sequence[int], mode: str = "area") -> Pixels:
    """Return float32 pixels ``(C, *spatial_size)``; the whole image is stretched.

    A very large image (:data:`LARGE`) is averaged row by row first, which for the
    mode ``area`` gives the same result and needs no float32 copy.

    Raises:
        ConfigError: If the image has another number of axes than the size.
    """
    if len(spatial_size) != pixels.ndim - 1:
        raise ConfigError(
            "preprocessing.Resize.spatial_size",
            f"has {len(spatial_size)} axes, the image {pixels.ndim - 1}",
        )
    if mode == "area" and pixels.size > LARGE and spatial_size[0] < pixels.shape[1]:
        pixels = _average_first_axis(pixels, spatial_size[0])
    transform = Resize(tuple(spatial_size), mode=mode)
    image = torch.from_numpy(np.ascontiguousarray(pixels, np.float32))
    return np.asarray(transform(image).numpy())


def _average_first_axis(pixels: Pixels, size: int) -> Pixels:
    """Average ``(C, Y, ...)`` to ``(C, size, ...)`` over the cells of ``area``."""
    length = pixels.shape[1]
    edges = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
    averages = np.empty((len(pixels), size, *pixels.shape[2:]), np.float32)
    for row, (a, b) in enumerate(edges):
        pixels[:, a:b].mean(axis=1, dtype=np.float32, out=averages[:, row])
    return averages


def _to_range(
    low: float, high: float, b_min: float | None, b_max: float | None, clip: bool
) -> Transform:
    if high > low:
        return ScaleIntensityRange(low, high, b_min, b_max, clip=clip)
    # A constant image: MONAI would warn and subtract.
    return lambda pixels: np.full_like(pixels, b_min or 0.0)


def _fit_normalize(pixels: Pixels, channel_wise: bool = False) -> Transform:
    if not channel_wise:
        mean, deviation = np.array(pixels.mean()), np.array(pixels.std() or 1.0)
        return NormalizeIntensity(mean, deviation)
    means = [float(c.mean()) for c in pixels]
    deviations = [float(c.std()) or 1.0 for c in pixels]
    return NormalizeIntensity(means, deviations, channel_wise=True)


def _fit_scale(pixels: Pixels, minv: float = 0.0, maxv: float = 1.0) -> Transform:
    return _to_range(float(pixels.min()), float(pixels.max()), minv, maxv, False)


def _fit_range(
    pixels: Pixels,
    a_min: float,
    a_max: float,
    b_min: float | None = None,
    b_max: float | None = None,
    clip: bool = False,
) -> Transform:
    return _to_range(a_min, a_max, b_min, b_max, clip)


def _fit_percentiles(
    pixels: Pixels,
    lower: float,
    upper: float,
    b_min: float | None,
    b_max: float | None,
    clip: bool = False,
) -> Transform:
    low, high = np.percentile(pixels, [lower, upper])
    return _to_range(float(low), float(high), b_min, b_max, clip)


def _fit_histogram(pixels: Pixels, num_bins: int = 256, **limits: float) -> Transform:
    low, high = limits.get("min", 0.0), limits.get("max", 255.0)
    counts, edges = np.histogram(pixels, num_bins)
    total = counts.cumsum().astype(np.float32)
    span = float(total[-1] - total[0]) or 1.0
    levels = (total - total[0]) / span * (high - low) + low
    centres = (edges[:-1] + edges[1:]) / 2
    return lambda x: np.interp(x, centres, levels).astype(np.float32)


def _fit_resize(pixels: Pixels, **arguments: Any) -> Transform:
    return lambda x: resize(x, **arguments)


def _fit_smooth(pixels: Pixels, sigma: float = 1.0) -> Transform:
    return GaussianSmooth(sigma)


@dataclass(frozen=True)
class _Rule:
    """How a step measures an image, and which arguments it takes."""

    fit: Callable[..., Transform]
    arguments: Mapping[str, Callable[[Any], str]]
    required: tuple[str, ...] = ()
    pointwise: bool = True


_RANGE = {"b_min": _optional, "b_max": _optional, "clip": _flag}

STEPS: dict[str, _Rule] = {
    "Resize": _Rule(
        _fit_resize,
        {"spatial_size": _size, "mode": _mode},
        ("spatial_size",),
        pointwise=False,
    ),
    "NormalizeIntensity": _Rule(_fit_normalize, {"channel_wise": _flag}),
    "ScaleIntensity": _Rule(_fit_scale, {"minv": _number, "maxv": _number}),
    "ScaleIntensityRange": _Rule(
        _fit_range, {"a_min": _number, "a_max": _number, **_RANGE}, ("a_min", "a_max")
    ),
    "ScaleIntensityRangePercentiles": _Rule(
        _fit_percentiles,
        {"lower": _percent, "upper": _percent, **_RANGE},
        ("lower", "upper", "b_min", "b_max"),
    ),
    "HistogramNormalize": _Rule(
        _fit_histogram, {"num_bins": _bins, "min": _number, "max": _number}
    ),
    "GaussianSmooth": _Rule(_fit_smooth, {"sigma": _positive}, pointwise=False),
}


def _fit_finite(pixels: Pixels) -> Transform:
    """Replace NaN and infinity by the smallest and largest number there is."""
    if pixels.dtype.kind != "f":
        return lambda x: x
    finite = np.isfinite(pixels)
    low, high = 0.0, 0.0
    if finite.any():
        low = float(pixels.min(where=finite, initial=np.inf))
        high = float(pixels.max(where=finite, initial=-np.inf))

    def replace(x: Pixels) -> Pixels:
        # Asked of each window: what was measured may be a sample of the image.
        if np.isfinite(x).all():
            return x
        return np.nan_to_num(x, nan=low, posinf=high, neginf=low)

    return replace


@dataclass(frozen=True)
class Preprocessing:
    """The steps of a model, as a function of pixels.

    Each step measures the image (its mean, its percentiles, ...) and then changes
    it. NaN counts as the smallest number of the image.
    """

    steps: tuple[Step, ...]

    def __call__(self, pixels: Pixels) -> Tensor:
        """Return float32 ``(C, [Z,] Y, X)`` for pixels ``(C, [Z,] Y, X)``."""
        return _tensor(self._run(pixels)[0])

    @property
    def pointwise(self) -> bool:
        """Whether every step changes each pixel by its own value alone."""
        return all(STEPS[step.name].pointwise for step in self.steps)

    def fit(self, pixels: Pixels) -> Callable[[Pixels], Tensor]:
        """Return the pointwise steps with the statistics of ``pixels`` fixed.

        The function that comes back works on any window of the image.

        Raises:
            ConfigError: If a step is not pointwise.
        """
        if not self.pointwise:
            raise ConfigError(
                "preprocessing",
                "a step is not pointwise",
                "Leave Resize and smoothing out",
            )
        stages = self._run(pixels)[1]

        def apply(window: Pixels) -> Tensor:
            for stage in stages:
                window = stage(window)
            return _tensor(window)

        return apply

    def _run(self, pixels: Pixels) -> tuple[Pixels, list[Transform]]:
        stages = [_fit_finite(pixels)]
        pixels = stages[0](pixels)
        for step in self.steps:
            # Resize itself decides when to leave the integers of the file.
            if step.name != "Resize":
                pixels = np.asarray(pixels, np.float32)
                stages.append(_as_float)
            stages.append(STEPS[step.name].fit(pixels, **step.arguments))
            pixels = np.asarray(stages[-1](pixels))
        return pixels, stages


def _as_float(pixels: Pixels) -> Pixels:
    return np.asarray(pixels, np.float32)


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels, np.float32))


def build_preprocessing(steps: Sequence[Step]) -> Preprocessing:
    """Return the function that applies ``steps`` in their order."""
    return Preprocessing(tuple(steps))


def sample(pixels: Pixels) -> Pixels:
    """Return every k-th pixel along each axis, at most :data:`SAMPLE` in all."""
    axes, stride = pixels.ndim - 1, 1
    while pixels.size / stride**axes > SAMPLE:
        stride += 1
    return pixels[(slice(None), *[slice(None, None, stride)] * axes)]

"""How large the cells of an image are: found by looking, so that nobody has to say.

A model of cells knows them at one size. The image is segmented as it is; if the
median cell found is smaller than those that the model knows by more than
:data:`SMALLER`, or larger by more than :data:`LARGER`, the image is scaled to fit and
segmented again; and where the cells then have another size than they seemed to have,
once more, at the size to which the two point. If no cell is found as the image is, the
scales of :data:`TRIALS` are tried and the one is kept whose cells look most like those
that the model knows. An image too thin for such a cell at all of them is left as it is.
All of it is arithmetic on masks: the same image gives the same
size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.model_spec import ModelSpec

Diameter = float | Literal["auto", "native"]
Origin = Literal["given", "native", "found", "fits", "no cells", "too large"]

SMALLER, LARGER = 1.2, 1.4
"""An image is not scaled if its cells are smaller, or larger, than those learnt by no
more than this factor. To enlarge it loses nothing, to shrink it loses detail."""
SETTLED = 1.1
"""Where it was scaled, the cells found then may be this factor from those expected."""
TRIALS = (0.5, 2.0, 4.0)
"""Scales to try where no cell is found as the image is."""
PLAUSIBLE = 1.6
"""Cells of a trial are believed up to this factor from the size that is known."""
LEAST_SCALE, MOST_SCALE = 1 / 6, 6.0
"""What an image is scaled by at least and at most."""
SAMPLE = 2**22
"""A scaled image of more pixels than this is measured in a part from its middle."""
NOISE = 5.0
"""Standard deviations up to which neighbouring pixels are taken as unrelated."""
# Sizes are rounded to sixteenths of an octave (2 per cent): a bit that differs between
# two machines then changes no scale, or next to never.
_STEPS = 16
_STEEPEST = 0.6


@dataclass(frozen=True)
class CellSize:
    """The diameter of an image's cells, and how it came about.

    Args:
        diameter: In pixels of the image's finest axis. That which the model learnt
            where the image is segmented as it is.
        origin: ``"given"`` by the caller; ``"native"``, nobody looked; ``"found"``,
            measured and scaled to; ``"fits"``, measured and near enough to leave the
            image alone; ``"no cells"``, or ``"too large"`` to be scaled: left alone.
    """

    diameter: float
    origin: Origin

    def scale(self, trained: float) -> float:
        """Return what the image is scaled by for a model that learnt ``trained``."""
        return trained / self.diameter


def check_diameter(diameter: Diameter, spec: ModelSpec) -> CellSize | None:
    """Return the size that a predictor uses; None where it has to look.

    Args:
        diameter: Of the cells in pixels, ``"auto"`` or ``"native"``.
        spec: Of the model. One that does not state a diameter sees images as they are.

    Raises:
        ConfigError: If the diameter is out of range, or the model does not state the
            one it learnt.
    """
    trained = spec.inference.diameter
    if isinstance(diameter, str):
        if diameter not in ("auto", "native"):
            remedy = "Use auto, native or a number of pixels"
            raise ConfigError("diameter", f"is {diameter!r}", remedy)
        if diameter == "auto" and trained is not None and spec.decoding.instances:
            return None
        return CellSize(trained or 1.0, "native")
    if trained is None:
        problem = f"is {diameter}, and {spec.name} does not say which it learnt"
        raise ConfigError("diameter", problem, "Leave it out")
    if not 1 <= diameter <= 4096:
        raise ConfigError("diameter", f"is {diameter}", "Use 1 to 4096 pixels")
    return CellSize(diameter, "given")


def median_diameter(mask: NDArray[Any], spacing: Sequence[float]) -> float:
    """Return the diameter of a disc or ball as large as the median cell; or NaN.

    Args:
        mask: ``([Z,] Y, X)``, a number a cell, 0 for background.
        spacing: Of its pixels, in units of the finest axis.
    """
    sizes = np.bincount(mask.ravel())[1:]
    sizes = sizes[sizes > 0]
    if not len(sizes):
        return math.nan
    size = float(np.median(sizes)) * math.prod(spacing)
    if mask.ndim == 3:
        return 2 * (3 * size / (4 * math.pi)) ** (1 / 3)
    return 2 * math.sqrt(size / math.pi)


def is_noise(pixels: NDArray[Any]) -> bool:
    """Return whether neighbouring pixels are as unrelated as those of white noise.

    Enlarged enough, noise looks like a field full of cells. The correlation of
    neighbours in noise is 0 with a standard deviation of one over the root of the
    number of pixels (Bartlett 1946); it counts up to :data:`NOISE` of them.

    Args:
        pixels: One channel ``([Z,] Y, X)``. A constant image, or one of a single row
            or column, is no noise.
    """
    known = np.isfinite(pixels)
    values = np.where(known, pixels.astype(np.float64), 0.0)
    values -= values.mean()
    power = float(np.square(values).mean())
    if not power or min(values.shape[-2:]) < 2:
        return False
    pairs = (
        (values[..., 1:, :] * values[..., :-1, :]).mean(),
        (values[..., 1:] * values[..., :-1]).mean(),
    )
    return bool(max(map(abs, pairs)) / power * math.sqrt(values.size) < NOISE)


def settle(look: Callable[[float], float], trained: float) -> CellSize:
    """Return the size at which the cells found are those that the model knows.

    Args:
        look: Segments the image at a scale; returns the median diameter of the cells
            in pixels of the unscaled image, NaN where there are none.
        trained: The diameter that the model learnt.
    """
    native = CellSize(trained, "fits")
    first = look(1.0)
    if math.isnan(first):
        return _try_scales(look, trained)
    if _fits(first, trained):
        return native
    size = CellSize(_rounded(first, trained), "found")
    second = look(size.scale(trained))
    if math.isnan(second):  # lost at the scale that they seemed to have
        return native
    if _apart(second, size.diameter) <= SETTLED:
        return size
    better = _extrapolated(first, second, size.scale(trained), trained)
    last = CellSize(_rounded(better, trained), "found")
    if last != size and math.isnan(look(last.scale(trained))):
        return native
    return last


def _extrapolated(first: float, second: float, scale: float, trained: float) -> float:
    """Return the size for which the scale that it asks for would give it again.

    Cells that are too small for the network merge and swell, the smallest are lost:
    they seem to shrink as the image is enlarged, about as a power of the scale.

    Args:
        first: Diameter found at scale 1.
        second: That found at ``scale``.
        scale: Not 1.
        trained: The diameter that the model learnt.
    """
    power = math.log(second / first) / math.log(scale)
    power = min(max(power, -_STEEPEST), _STEEPEST)
    return float(trained / (trained / first) ** (1 / (1 + power)))


def _try_scales(look: Callable[[float], float], trained: float) -> CellSize:
    best, best_apart = CellSize(trained, "no cells"), PLAUSIBLE
    for scale in TRIALS:
        found = look(scale)
        apart = math.inf if math.isnan(found) else _apart(found, trained / scale)
        if apart < best_apart:
            close = apart <= SMALLER
            size = trained / scale if close else _rounded(found, trained)
            best, best_apart = CellSize(size, "found"), apart
    return best


def _fits(found: float, expected: float) -> bool:
    return expected / SMALLER <= found <= expected * LARGER


def _apart(one: float, other: float) -> float:
    return max(one / other, other / one)


def _rounded(diameter: float, trained: float) -> float:
    """Return a diameter of the allowed range, to a sixteenth of an octave."""
    limited = min(max(diameter, trained / MOST_SCALE), trained / LEAST_SCALE)
    steps = round(_STEPS * math.log2(limited / trained))
    return min(max(round(trained * 2 ** (steps / _STEPS), 3), 1.0), 4096.0)


def typical(sizes: Sequence[CellSize], trained: float) -> CellSize:
    """Return the size for a movie: the median over frames in which cells were found.

    Args:
        sizes: Of some of its frames.
        trained: The diameter that the model learnt.
    """
    found = [s.diameter for s in sizes if s.origin in ("found", "fits")]
    if not found:
        return CellSize(trained, "no cells")
    median = float(np.median(found))
    if _fits(median, trained):
        return CellSize(trained, "fits")
    return CellSize(_rounded(median, trained), "found")


def middle(shape: Sequence[int], scale: float) -> tuple[slice, ...]:
    """Return the part ``([Z,] Y, X)`` of an image that is looked at at a scale.

    The whole image up to :data:`SAMPLE` pixels after scaling, else a part in its
    middle that has about as many, each axis cut to at most the same length.
    """
    room = SAMPLE / scale ** len(shape)
    if math.prod(shape) <= room:
        return tuple(slice(0, n) for n in shape)
    length, axes = 0.0, len(shape)
    for n in sorted(shape):  # a short axis leaves more to the others
        length = room ** (1 / axes)
        if n <= length:
            room, axes = room / n, axes - 1
    sides = [max(1, min(n, int(length))) for n in shape]
    return tuple(
        slice((n - side) // 2, (n - side) // 2 + side)
        for n, side in zip(shape, sides, strict=True)
    )


def stated(diameter: Diameter, size: CellSize | None) -> dict[str, Any]:
    """Return what the settings say of the size of cells before an image is seen."""
    if size is None or size.origin == "native":
        return {"diameter": diameter if size is None else "native"}
    return {"diameter": size.diameter, "diameter_from": size.origin}


def stated_of(sizes: Sequence[CellSize]) -> dict[str, Any]:
    """Return what the provenance says of the size of cells: a list for slices."""
    if len(sizes) == 1:
        return stated(sizes[0].diameter, sizes[0])
    return {
        "diameter": [size.diameter for size in sizes],
        "diameter_from": [size.origin for size in sizes],
    }

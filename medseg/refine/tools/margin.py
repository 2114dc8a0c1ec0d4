"""Grow and shrink by a length, and smooth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from medseg.errors import ConfigError
from medseg.refine.edit import Array, Edit
from medseg.refine.tools.common import Mask, lengths, reshape


def grow(
    labels: Array,
    value: int,
    length: float,
    spacing: Sequence[float] | None = None,
    *,
    protect_other_labels: bool = True,
) -> Edit:
    """Add every pixel whose centre lies within ``length`` of a pixel of the label.

    Args:
        labels: Label map ``([Z,] Y, X)``.
        value: The label.
        length: In the unit of the spacing (mm where it is known).
        spacing: Distance between neighbours along each axis, default 1.
        protect_other_labels: Grow into the background only.

    Raises:
        ConfigError: If length or spacing is not positive, or the value is no label.
    """
    _positive("length", length)
    steps = lengths(spacing, labels.ndim)

    def rule(mask: Mask) -> Mask:
        return _distance(~mask, steps) <= length * (1 + 1e-9)

    margin = [int(length / s * (1 + 1e-9)) for s in steps]
    return reshape(labels, value, rule, margin=margin, protect=protect_other_labels)


def shrink(
    labels: Array, value: int, length: float, spacing: Sequence[float] | None = None
) -> Edit:
    """Remove every pixel whose centre lies within ``length`` of one off the label.

    The edge of the image is no outline: a lung that runs out of the picture is not
    cut back there. Arguments as for `grow`.

    Raises:
        ConfigError: If length or spacing is not positive, or the value is no label.
    """
    _positive("length", length)
    steps = lengths(spacing, labels.ndim)

    def rule(mask: Mask) -> Mask:
        return mask & (_distance(mask, steps) > length * (1 + 1e-9))

    return reshape(labels, value, rule, margin=1, protect=True)


def smooth(
    labels: Array,
    value: int,
    length: float,
    spacing: Sequence[float] | None = None,
    *,
    protect_other_labels: bool = True,
) -> Edit:
    """Smooth the outline of a label and keep its size.

    The mask is blurred with a Gaussian of standard deviation ``length`` and cut at
    the level that leaves as many pixels as before, up to ties: a plain cut at one
    half would shrink round shapes. Details smaller than the length vanish, so thin
    parts lose pixels that thick ones gain. Arguments as for `grow`.

    Raises:
        ConfigError: If length or spacing is not positive, or the value is no label.
    """
    _positive("length", length)
    steps = lengths(spacing, labels.ndim)

    def rule(mask: Mask) -> Mask:
        sigma = [length / s for s in steps]
        # The picture goes on beyond its edge as it ends there.
        soft = ndimage.gaussian_filter(mask.astype(np.float32), sigma, mode="nearest")
        size = np.count_nonzero(mask)
        level = np.partition(soft.ravel(), soft.size - size)[soft.size - size]
        return soft >= max(level, np.float32(1e-6))

    margin = [int(3 * length / s) + 1 for s in steps]
    return reshape(labels, value, rule, margin=margin, protect=protect_other_labels)


def _distance(mask: Mask, steps: tuple[float, ...]) -> np.ndarray:
    """Return the distance to the nearest False pixel, infinite without one."""
    if mask.all():
        return np.full(mask.shape, np.inf)
    return ndimage.distance_transform_edt(mask, sampling=steps)


def _positive(field: str, length: float) -> None:
    if not (np.isfinite(length) and length > 0):
        raise ConfigError(field, f"is {length}", "Use a positive length")

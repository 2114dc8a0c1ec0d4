"""A mask, what its values mean, where it lies and how it came about."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.geometry import Geometry
from medseg.labels import LabelSet

MASK_HASH = "mask_sha256"
"""Where a provenance says of which mask it is."""


def mask_hash(mask: NDArray[Any]) -> str:
    """Return the sha256 of a mask's values, whatever integer type holds them."""
    smallest = np.min_scalar_type(int(mask.max(initial=0)))
    values = np.ascontiguousarray(mask.astype(smallest, copy=False))
    return hashlib.sha256(values.data).hexdigest()


def stamped(provenance: Mapping[str, Any], mask: NDArray[Any]) -> dict[str, Any]:
    """Return the provenance of a mask with the hash of the mask in it."""
    return {**provenance, MASK_HASH: mask_hash(mask)}


def genuine(provenance: Mapping[str, Any], mask: NDArray[Any]) -> Mapping[str, Any]:
    """Return a provenance if it is stamped with this mask, else an empty one.

    Where it is another mask's, somebody has changed the mask since, and no model made
    it as it is.
    """
    stamp = provenance.get(MASK_HASH)
    return provenance if stamp and stamp == mask_hash(mask) else {}


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A mask on the grid of its image.

    Args:
        mask: Overlapping labels: ``(L, [Z,] Y, X)`` of 0 and 1, one channel a
            label. Exclusive labels and instances: ``([Z,] Y, X)`` of label values.
        labels: What the channels or values mean.
        geometry: That of the image.
        provenance: Model name and hash, versions, engine, parameters, input hash,
            and the hash of the mask that all this is about.
        probabilities: ``(K, [Z,] Y, X)`` float32 in [0, 1], if asked for.
        uncertainty: ``([Z,] Y, X)`` float32 in [0, 1], if asked for.

    Raises:
        ConfigError: If the shapes disagree or the mask holds no integers.
    """

    mask: NDArray[Any]
    labels: LabelSet
    geometry: Geometry
    provenance: Mapping[str, Any] = field(default_factory=dict)
    probabilities: NDArray[np.float32] | None = None
    uncertainty: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        channels = self.labels.kind == "overlapping"
        if self.mask.ndim != self.geometry.ndim + channels:
            raise ConfigError(
                "segmentation",
                f"a mask of shape {self.mask.shape} with {self.labels.kind} labels "
                f"needs {self.mask.ndim - channels} spatial axes, "
                f"the geometry has {self.geometry.ndim}",
            )
        if channels and len(self.mask) != len(self.labels):
            raise ConfigError(
                "segmentation",
                f"{len(self.mask)} mask channels for {len(self.labels)} labels",
            )
        if self.mask.dtype.kind not in "biu":
            raise ConfigError(
                "segmentation", f"the mask is {self.mask.dtype}", "Labels are integers"
            )
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Size of the spatial axes ``([Z,] Y, X)``."""
        return tuple(self.mask.shape[-self.geometry.ndim :])

    def as_film(self) -> Segmentation:
        """Return a volume of one slice as that slice, and anything else as it is.

        Many programs store a film as a volume of one slice.
        """
        if self.geometry.ndim == 2 or self.spatial_shape[0] > 1:
            return self

        def flat(volume: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if volume is None else volume[..., 0, :, :]

        return replace(
            self,
            mask=self.mask[..., 0, :, :],
            geometry=self.geometry.plane(),
            probabilities=flat(self.probabilities),
            uncertainty=flat(self.uncertainty),
        )

    def structure(self, name: str) -> NDArray[np.bool_]:
        """Return the boolean mask ``([Z,] Y, X)`` of one structure.

        Raises:
            ConfigError: If there is no such structure.
        """
        channel = self.labels.index(name)
        if self.labels.kind == "overlapping":
            return self.mask[channel] > 0
        if self.labels.kind == "instances":
            return self.mask > 0
        return self.mask == self.labels.labels[channel].value

"""Where an array lies in space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError

Unit = Literal["mm", "px"]


@dataclass(frozen=True)
class Geometry:
    """Spacing, origin and direction of an array, all in its own axis order.

    The spatial axes are ``([z,] y, x)``, those of the array; the world axes are
    the patient's LPS axes (left, posterior, superior) written in the same order,
    ``(S, P, L)`` for a volume and ``(P, L)`` for a film, so that an identity
    direction means an axial volume or an upright film.

    Args:
        spacing: Distance between neighbours along each array axis, in ``unit``.
        origin: World coordinates of the first pixel's centre, in ``unit``.
        direction: Row-major square matrix; column ``i`` is the unit vector along
            which array axis ``i`` runs.
        unit: ``"mm"``, or ``"px"`` where the file states no spacing.
        detector_plane: True for the ``ImagerPixelSpacing`` of a radiograph, which
            holds at the detector and not in the patient.

    Raises:
        ConfigError: If the lengths disagree or a spacing is not positive and finite.
    """

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[tuple[float, ...], ...]
    unit: Unit = "px"
    detector_plane: bool = False

    def __post_init__(self) -> None:
        n = len(self.spacing)
        if n not in (2, 3):
            raise ConfigError("geometry", f"has {n} axes", "Use 2 or 3 spatial axes")
        if len(self.origin) != n or [len(r) for r in self.direction] != [n] * n:
            raise ConfigError(
                "geometry",
                f"spacing has {n} entries, origin {len(self.origin)}, "
                f"direction {len(self.direction)} rows",
                "Give all three the same number of axes",
            )
        if not all(np.isfinite(s) and s > 0 for s in self.spacing):
            raise ConfigError("geometry", f"spacing {self.spacing} is not positive")
        values = np.array([*self.origin, *np.ravel(self.direction)])
        if not np.isfinite(values).all():
            raise ConfigError("geometry", "origin or direction is not finite")
        if self.unit not in ("mm", "px"):
            raise ConfigError("geometry", f"unit {self.unit!r}", "Use mm or px")

    @classmethod
    def pixels(cls, ndim: int) -> Geometry:
        """Return the geometry of a file that states none: 1 px, identity."""
        return cls.upright((1.0,) * ndim, unit="px")

    @classmethod
    def upright(
        cls, spacing: tuple[float, ...], unit: Unit = "mm", detector_plane: bool = False
    ) -> Geometry:
        """Return axis-aligned geometry at the origin with this ``spacing``."""
        n = len(spacing)
        eye = tuple(tuple(float(i == j) for j in range(n)) for i in range(n))
        return cls(tuple(spacing), (0.0,) * n, eye, unit, detector_plane)

    def plane(self) -> Geometry:
        """Return that of one slice by itself: the spacing stays, the place does not."""
        return Geometry.upright(self.spacing[-2:], self.unit, self.detector_plane)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.spacing)

    @property
    def affine(self) -> NDArray[np.float64]:
        """Homogeneous matrix ``(n+1, n+1)`` from array index to world."""
        matrix = np.eye(self.ndim + 1)
        matrix[:-1, :-1] = np.array(self.direction) * np.array(self.spacing)
        matrix[:-1, -1] = self.origin
        return matrix

    def world(self, index: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return world coordinates ``(..., n)`` of array indices ``(..., n)``."""
        return index @ self.affine[:-1, :-1].T + self.affine[:-1, -1]

    def matches(self, other: Geometry, tolerance: float = 1e-4) -> bool:
        """Return whether both place every index within ``tolerance`` spacings.

        What 32-bit numbers round off coordinates is no difference.
        """
        if self.ndim != other.ndim or self.unit != other.unit:
            return False
        rounding = np.finfo(np.float32).eps * np.abs(self.origin).max()
        limit = tolerance * min(self.spacing) + rounding
        return bool(np.abs(self.affine - other.affine).max() <= limit)

"""How a movie is tracked, and how that ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from medseg.measure.tracks import Scale
from medseg.track.parameters import check_parameters

EXTRAS = ("tables", "pictures", "geff", "report")


@dataclass(frozen=True)
class TrackOptions:
    """How a movie is tracked.

    Args:
        link: Values of `LinkParameters` that are not estimated from the movie.
        fill: Whether gaps are filled with masks; see `medseg.track.fill`.
        scale: Micrometres and seconds, for tables and for anisotropic frames; by
            default the movie's spacing.
        tables: Also write ``cells.csv``, ``tracks.csv`` and ``counts.csv``.
        pictures: Also write ``curves.png`` and ``lineage.png``.
        geff: Also write ``tracks.geff``.
        report: Also write ``report/tNNN.png``, outlines over every frame.
        overwrite: Do everything again, also over a result of another program.

    Raises:
        ConfigError: If a link parameter is unknown or out of range.
    """

    link: Mapping[str, Any] = field(default_factory=dict)
    fill: bool = True
    scale: Scale = field(default_factory=Scale)
    tables: bool = False
    pictures: bool = False
    geff: bool = False
    report: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_parameters(self.link)
        object.__setattr__(self, "link", MappingProxyType(dict(self.link)))

    @property
    def extras(self) -> tuple[str, ...]:
        """Names of what is wanted beside the masks."""
        return tuple(name for name in EXTRAS if getattr(self, name))

    def with_extras(self, names: Collection[str]) -> Self:
        """Return the same options with these extras and no others."""
        chosen: dict[str, Any] = {name: name in names for name in EXTRAS}
        return replace(self, **chosen)

    def config(self) -> dict[str, Any]:
        """Return the options that change masks and tracks."""
        spacing = link_spacing(self.scale)
        return {
            "link": dict(self.link),
            "fill": self.fill,
            "link_spacing": spacing and list(spacing),
        }

    def beside(self) -> dict[str, Any]:
        """Return the options that change what lies beside masks and tracks."""
        return {
            "spacing": self.scale.spacing and list(self.scale.spacing),
            "frame_interval": self.scale.frame_interval,
            "extras": list(self.extras),
        }


@dataclass(frozen=True)
class TrackSummary:
    """How a run ended.

    Args:
        done: Frames segmented (or read, without a model) in this run.
        skipped: Frames that were done already.
        errors: One line for each frame that failed; then nothing was linked.
        facts: What is in ``medseg-run.json``; empty where frames failed.
    """

    done: int
    skipped: int
    errors: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.done} done, {len(self.errors)} failed, {self.skipped} skipped"


def link_spacing(scale: Scale) -> tuple[float, ...] | None:
    """Return the spacing in units of its smallest step; None where all are alike.

    Distances of the linker are then in pixels wherever pixels are square.
    """
    if scale.spacing is None or len(set(scale.spacing)) == 1:
        return None
    return tuple(np.divide(scale.spacing, min(scale.spacing)).tolist())

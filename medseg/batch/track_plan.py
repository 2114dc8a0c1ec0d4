"""What is to be tracked and where to: looked at before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medseg.batch.track_options import TrackOptions
from medseg.batch.track_record import check_out
from medseg.errors import ConfigError, FileError, PlanError
from medseg.io.movie import Movie, open_movie
from medseg.labels import LabelSet


@dataclass(frozen=True)
class MoviePlan:
    """A movie, the instance masks to link if they are there already, and the result."""

    movie: Movie
    drawn: Movie | None
    out: Path


def plan_movie(
    sequence: Path | str,
    out: Path | str,
    options: TrackOptions,
    *,
    masks: Path | str | None = None,
) -> MoviePlan:
    """Open a movie and check all that needs no model; writes nothing.

    Args:
        sequence: Folder of frames, or a multi-page TIFF.
        out: Result folder, such as ``01_RES``.
        options: How it will be tracked.
        masks: Folder of instance masks to link.

    Raises:
        PlanError: If the movie or the masks cannot be opened, or ``out`` is an input,
            or holds a result or a table of another program or one that was changed
            by hand.
        ConfigError: If the spacing has another number of axes than a frame, or GEFF
            is wanted and the package is missing.
    """
    out = Path(out)
    inputs = [Path(p) for p in (sequence, masks) if p is not None]
    movie, *drawn = map(_open, inputs)
    for found in drawn:
        _check_drawn(found)
    check_out(out, inputs, options.extras, overwrite=options.overwrite)
    spacing = options.scale.spacing
    if spacing is not None and len(spacing) != len(movie.shape):
        problem = f"has {len(spacing)} axes, a frame {len(movie.shape)}"
        raise ConfigError("spacing", problem, "Give one number an axis")
    if options.geff:
        from medseg.track.geff_file import check_geff

        check_geff()
    return MoviePlan(movie, drawn[0] if drawn else None, out)


def _check_drawn(masks: Movie) -> None:
    """Refuse pictures in the place of masks, by the first of them."""
    try:
        masks.read_labels(0)
    except FileError as error:
        raise PlanError(error.subject, error.problem, error.remedy) from error


def _open(path: Path) -> Movie:
    try:
        return open_movie(path)
    except FileError as error:  # not one file of many: there is nothing to do
        raise PlanError(error.subject, error.problem, error.remedy) from error


def check_cells(labels: LabelSet) -> None:
    """Refuse a model that does not tell one cell from the next.

    Raises:
        ConfigError: If its labels are no instances.
    """
    if labels.kind != "instances":
        raise ConfigError(
            "model",
            f"gives {labels.kind} labels, no single cells",
            "Choose a model of cells or nuclei",
        )

"""What lies beside the masks of a tracked movie on request: tables and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from medseg.batch.tables import write_csv, write_text
from medseg.batch.track_options import TrackOptions
from medseg.image import Image
from medseg.io.atomic import replace_file, write_bytes
from medseg.io.ctc import open_masks
from medseg.io.ctc_write import FILLED
from medseg.labels import cell_labels
from medseg.lineage import TrackGraph
from medseg.measure.curves import draw_curves, draw_lineage
from medseg.measure.table import to_csv
from medseg.measure.tracks import (
    COUNT_COLUMNS,
    MOVIE_COLUMNS,
    TRACK_COLUMNS,
    Row,
    Scale,
    count_cells,
    measure_movie,
    measure_tracks,
)
from medseg.overlay import encode, overlay
from medseg.segmentation import Segmentation
from medseg.track import Fill, write_geff

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "tables": ("cells.csv", "tracks.csv", "counts.csv"),
        "pictures": ("curves.png", "lineage.png"),
        "geff": ("tracks.geff",),
        "report": ("report",),
    }
)
"""Files and folders of each of `medseg.batch.track_options.EXTRAS`."""
CELLS = cell_labels()


@dataclass(frozen=True, eq=False)
class Result:
    """A tracking result on disk with its lineage.

    Args:
        folder: Of the masks.
        graph: Labels are the values in the masks.
        filled: Frame and label of the masks that were made up to close gaps.
        scale: Micrometres and seconds.
        movie: The images, of the same frames; None where there are none.
    """

    folder: Path
    graph: TrackGraph
    filled: frozenset[tuple[int, int]]
    scale: Scale
    movie: Any = None

    def frames(self) -> Iterator[tuple[int, NDArray[Any], Image | None]]:
        """Yield frame number, mask and image of every frame."""
        masks = open_masks(self.folder, "result")
        at = {t: i for i, t in enumerate(self.movie.frames)} if self.movie else {}
        for i, number in enumerate(masks.frames):
            image = self.movie.read(at[number]) if at else None
            yield number, masks.read(i), image

    def measure(self) -> Measures:
        """Measure cells, tracks and counts."""
        numbers: list[int] = []

        def counted() -> Iterator[tuple[int, NDArray[Any], Image | None]]:
            for frame in self.frames():
                numbers.append(frame[0])
                yield frame

        cells = measure_movie(counted(), self.graph, self.scale, self.filled)
        tracks = measure_tracks(
            self.graph, self.scale, max(numbers, default=0), min(numbers, default=0)
        )
        counts = count_cells(self.graph, numbers, self.scale)
        return Measures(cells, tracks, counts, self.graph)


@dataclass(frozen=True, eq=False)
class Measures:
    """The rows of a result's three tables, and its lineage."""

    cells: list[Row]
    tracks: list[Row]
    counts: list[Row]
    graph: TrackGraph

    def write_tables(self, cells: Path, tracks: Path, counts: Path) -> None:
        """Write the tables."""
        write_text(cells, to_csv(self.cells, MOVIE_COLUMNS))
        write_text(tracks, to_csv(self.tracks, TRACK_COLUMNS))
        write_text(counts, to_csv(self.counts, COUNT_COLUMNS))

    def draw(self, curves: Path, lineage: Path) -> None:
        """Draw the curves over time and the lineage."""
        _save_figure(draw_curves(self.counts, self.cells), curves)
        _save_figure(draw_lineage(self.graph), lineage)


def write_filled(folder: Path, graph: TrackGraph, fills: Iterable[Fill]) -> None:
    """List the masks that were made up to close gaps, by track number, if any were.

    Args:
        folder: Of the result.
        graph: Labels are those before relabelling, as in the fills.
        fills: The masks.

    Raises:
        DiskError: If the disk is full or not writable.
    """
    filled = {(fill.frame, fill.label) for fill in fills}
    ids = graph.track_ids().tolist()
    nodes = zip(graph.frame.tolist(), graph.label.tolist(), ids, strict=True)
    rows = sorted((t, i) for t, label, i in nodes if (t, label) in filled)
    if rows:
        write_csv(folder / FILLED, ("frame", "cell"), rows)


def write_extras(result: Result, wanted: TrackOptions) -> None:
    """Write what is wanted into the result's folder.

    Raises:
        ConfigError: If GEFF is wanted and the package is missing.
        DiskError: If the disk is full or not writable.
    """
    folder, graph, scale = result.folder, result.graph, result.scale
    if wanted.geff:
        spacing = scale.spacing
        unit = "micrometer" if spacing else None
        interval = scale.frame_interval
        path = folder / "tracks.geff"
        write_geff(graph, path, spacing=spacing, unit=unit, frame_interval=interval)
    if wanted.tables or wanted.pictures:
        found = result.measure()
        if wanted.tables:
            found.write_tables(*(folder / name for name in FILES["tables"]))
        if wanted.pictures:
            found.draw(*(folder / name for name in FILES["pictures"]))
    if wanted.report:
        _draw_frames(result)


def _save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, without the version of what drew it."""
    with replace_file(path) as part:
        figure.savefig(part, format="png", dpi=120, metadata={"Software": None})


def _draw_frames(result: Result) -> None:
    """Draw the outlines of every frame; a track keeps its colour."""
    for number, mask, image in result.frames():
        if image is None:
            return
        seg = Segmentation(mask, CELLS, image.geometry)
        picture = overlay(image, seg, width=1, legend=False)
        write_bytes(result.folder / "report" / f"t{number:03d}.png", encode(picture))

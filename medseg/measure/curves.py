"""Counts, sizes and speeds over time as a picture, and the lineage as a tree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medseg.lineage import TrackGraph
from medseg.measure.cells import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOUR = "#2f6fb5"
_DIVISION = "#e0524d"
# A tree of more tracks than this cannot be read, and takes minutes to draw.
MAX_TRACKS = 400


def draw_curves(counts: Sequence[Row], cells: Sequence[Row]) -> Figure:
    """Draw cells, areas and speeds against the frame; median and middle half.

    Args:
        counts: From `medseg.measure.tracks.count_cells`.
        cells: Rows of the movie's cells.
    """
    from matplotlib.figure import Figure  # seconds to import, needed only here
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    one, two, three = figure.subplots(1, 3)
    frames = [row["frame"] for row in counts]
    one.plot(frames, [row["cells"] for row in counts], color=_COLOUR)
    dividing = [(r["frame"], r["cells"]) for r in counts if r["divisions"]]
    if dividing:
        x, y = zip(*dividing, strict=True)
        one.plot(x, y, ".", color=_DIVISION, label="division")
        one.legend(fontsize="small")
    one.set(ylabel="cells")
    one.set_ylim(bottom=0)
    _spread(
        two, cells, *_known(cells, "area_um2", "area_px", "volume_um3", "volume_px")
    )
    _spread(three, cells, *_known(cells, "speed_um_per_min", "speed_px_per_frame"))
    for axes in (one, two, three):
        axes.set_xlabel("frame")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    return figure


_TITLE = {
    "area_um2": "area, um2",
    "area_px": "area, px",
    "volume_um3": "volume, um3",
    "volume_px": "volume, px",
    "speed_um_per_min": "speed, um/min",
    "speed_px_per_frame": "speed, px a frame",
}


def _known(cells: Sequence[Row], *columns: str) -> tuple[str, str]:
    for column in columns:
        if any(row.get(column) is not None for row in cells):
            return column, _TITLE[column]
    return columns[-1], _TITLE[columns[-1]]


def _spread(axes: Axes, cells: Sequence[Row], column: str, title: str) -> None:
    values: dict[int, list[float]] = {}
    for row in cells:
        value = row.get(column)
        if isinstance(value, int | float) and not math.isnan(value):
            values.setdefault(int(row["frame"] or 0), []).append(float(value))
    axes.set_ylabel(title)
    if not values:
        return
    frames = sorted(values)
    low, middle, high = np.transpose(
        [np.percentile(values[t], [25, 50, 75]) for t in frames]
    )
    axes.fill_between(frames, low, high, color=_COLOUR, alpha=0.2, linewidth=0)
    axes.plot(frames, middle, color=_COLOUR)
    axes.set_ylim(bottom=0)


def draw_lineage(graph: TrackGraph) -> Figure:
    """Draw the tracks as trees, time running down; dividing ones first.

    Only the first `MAX_TRACKS` tracks are drawn, in whole families; the title says so.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows, parents = graph.rows(), graph.parents()
    children: dict[int, list[int]] = {}
    for child, parent in sorted(parents.items()):
        children.setdefault(parent, []).append(child)
    roots = [row.label for row in rows if row.label not in parents]
    roots.sort(key=lambda root: (root not in children, root))
    place, shown = _places(roots, children)
    figure = Figure(
        figsize=(max(4, min(24, 0.18 * shown + 2)), 6), layout="constrained"
    )
    axes = figure.subplots()
    for row in rows:
        if row.label not in place:
            continue
        x = place[row.label]
        dot = "." if row.begin == row.end else ""
        ends = [row.begin, row.end]
        axes.plot([x, x], ends, color=_COLOUR, linewidth=1.2, marker=dot)
        if row.parent:
            from_x, end = place[row.parent], rows[row.parent - 1].end
            axes.plot([from_x, x], [end, row.begin], color=_DIVISION, linewidth=1)
        if shown <= 80:
            axes.text(x, row.end, str(row.label), fontsize=6, ha="center", va="top")
    some = f"{len(place)} of {len(rows)} tracks" if len(place) < len(rows) else ""
    axes.set(ylabel="frame", title=some)
    axes.set_xticks([])
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.invert_yaxis()
    return figure


def _places(
    roots: Sequence[int], children: dict[int, list[int]]
) -> tuple[dict[int, float], int]:
    """Return the column of each track, mothers midway over daughters; and how many."""
    place: dict[int, float] = {}
    column = 0
    for root in roots:
        if len(place) >= MAX_TRACKS:
            break
        stack = [(root, False)]
        while stack:  # no recursion: a lineage may be longer than the stack
            track, below = stack.pop()
            young = children.get(track, [])
            if below:
                place[track] = float(np.mean([place[y] for y in young]))
            elif young:
                stack += [(track, True), *((y, False) for y in reversed(young))]
            else:
                place[track] = column
                column += 1
    return place, column

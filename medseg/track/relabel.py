"""Masks whose values are track numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.lineage import TrackGraph
from medseg.regions import compact
from medseg.track.fill import Fill

Mask = NDArray[np.integer]


def relabel(
    frames: Iterable[tuple[int, Mask]],
    graph: TrackGraph,
    fills: Sequence[Fill] = (),
) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Yield each frame with track numbers for values, those of `TrackGraph.track_ids`.

    Args:
        frames: Frame number and instance mask ``([Z,] Y, X)``.
        graph: With a node for every cell; one frame is held at a time.
        fills: Masks to draw where a cell was missing, from `fill_gaps`.

    Raises:
        ConfigError: If a mask has a label that is no node of the graph.
    """
    ids = graph.track_ids()
    nodes = np.lexsort((graph.label, graph.frame))
    numbers = graph.frame[nodes]
    for number, mask in frames:
        low, high = np.searchsorted(numbers, [number, number + 1])
        here = nodes[low:high]
        of = dict(zip(graph.label[here].tolist(), ids[here].tolist(), strict=True))
        yield number, _draw(mask, number, of, fills)


def _draw(
    mask: Mask, number: int, of: dict[int, int], fills: Sequence[Fill]
) -> NDArray[np.int32]:
    values, index = compact(mask)
    unknown = [v for v in values.tolist() if v and v not in of]
    if unknown:
        raise ConfigError(
            "tracks", f"label {unknown[0]} of frame {number} is in no track"
        )
    table = np.array([of[v] if v else 0 for v in values.tolist()], np.int32)
    drawn = table[index].reshape(mask.shape)
    for fill in fills:
        if fill.frame == number:
            drawn[fill.slices][fill.mask] = of[fill.label]
    return drawn

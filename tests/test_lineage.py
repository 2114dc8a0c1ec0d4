"""The lineage as a graph: tracks, rows, parents."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.errors import ConfigError
from medseg.lineage import TrackGraph, TrackRow

# One cell over frames 0 and 1 divides into two; another is missing in frame 1.
FRAME, LABEL = [0, 1, 2, 2, 0, 2], [1, 1, 1, 2, 5, 6]
EDGES = [(0, 1), (1, 2), (1, 3), (4, 5)]
GRAPH = TrackGraph(FRAME, LABEL, np.arange(12.0).reshape(6, 2), EDGES)
ROWS = (
    TrackRow(1, 0, 1),
    TrackRow(2, 0, 0),
    TrackRow(3, 2, 2, 1),
    TrackRow(4, 2, 2, 1),
    TrackRow(5, 2, 2, 2),
)


def test_tracks_end_at_divisions_and_gaps() -> None:
    assert GRAPH.track_ids().tolist() == [1, 1, 3, 4, 2, 5]
    assert GRAPH.rows() == ROWS
    assert GRAPH.parents() == {3: 1, 4: 1, 5: 2}
    assert GRAPH.divisions().tolist() == [1]
    assert (~GRAPH.unbranched()).sum() == 2
    assert GRAPH.gaps().tolist() == [[4, 5]]
    assert GRAPH.predecessors().tolist() == [-1, 0, 1, 1, -1, 4]


def test_rows_and_graph_are_the_same_thing() -> None:
    again = TrackGraph.from_rows(ROWS, FRAME, GRAPH.track_ids(), GRAPH.centroid)
    assert again.rows() == ROWS
    assert sorted(map(tuple, again.edges)) == sorted(EDGES)


def test_the_order_of_nodes_does_not_count() -> None:
    turn = np.array([3, 5, 0, 2, 4, 1])
    place = np.argsort(turn)
    graph = TrackGraph(
        np.array(FRAME)[turn],
        np.array(LABEL)[turn],
        GRAPH.centroid[turn],
        place[np.array(EDGES)],
    )
    assert graph.rows() == ROWS
    assert graph.track_ids()[place].tolist() == GRAPH.track_ids().tolist()


def test_a_movie_without_cells() -> None:
    graph = TrackGraph([], [], np.zeros((0, 3)), [])
    assert (len(graph), graph.rows(), graph.parents()) == (0, (), {})
    assert graph.centroid.shape == (0, 3)
    assert TrackGraph.from_rows((), [], [], np.zeros((0, 2))).rows() == ()


@pytest.mark.parametrize(
    ("frame", "label", "edges", "message"),
    [
        ([0, 1], [1], [], "2 frames for 1 labels"),
        ([0, 0], [1, 1], [], "label 1 is in frame 0 twice"),
        ([0, 1], [1, 1], [(0, 2)], "name nodes 0 to 2 of 2"),
        ([0, 1], [1, 1], [(1, 0)], "from frame 1 to frame 0"),
        (
            [0, 0, 1],
            [1, 2, 1],
            [(0, 2), (1, 2)],
            "label 1 of frame 1 has 2 edges into it",
        ),
    ],
)
def test_what_is_no_lineage(
    frame: list[int], label: list[int], edges: list[tuple[int, int]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        TrackGraph(frame, label, np.zeros((len(frame), 2)), edges)


def test_rows_that_do_not_fit_the_masks() -> None:
    with pytest.raises(ConfigError, match="label 7 of frame 0 is in no row"):
        TrackGraph.from_rows((), [0], [7], np.zeros((1, 2)))
    rows = (TrackRow(1, 0, 0), TrackRow(2, 0, 0, 1))
    with pytest.raises(ConfigError, match="track 2 begins in frame 0, its parent 1"):
        TrackGraph.from_rows(rows, [0, 0], [1, 2], np.zeros((2, 2)))

"""Linking: laws on moving discs, gaps, exports."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from medseg.errors import ConfigError, FileError
from medseg.lineage import TrackGraph
from medseg.track import (
    LinkParameters,
    estimate_parameters,
    fill_gaps,
    from_csv,
    generations,
    link,
    link_cells,
    observe,
    read_geff,
    relabel,
    to_csv,
    to_napari,
    write_geff,
)
from medseg.track.assign import Hypotheses, choose

SIDE = 64
Disc = tuple[float, float, float]  # y, x, radius


def frame(*discs: Disc | None, side: int = SIDE) -> np.ndarray:
    """Draw discs labelled 1.. by their place; None leaves its label out."""
    y, x = np.mgrid[:side, :side]
    mask = np.zeros((side, side), np.uint16)
    for label, disc in enumerate(discs, 1):
        if disc is not None:
            mask[(y - disc[0]) ** 2 + (x - disc[1]) ** 2 <= disc[2] ** 2] = label
    return mask


def movie(*cells: list[Disc | None]) -> list[tuple[int, np.ndarray]]:
    return [(t, frame(*discs)) for t, discs in enumerate(zip(*cells, strict=True))]


def moving(
    y: float, x: float, dy: float, dx: float, n: int = 6, r: float = 5
) -> list[Disc | None]:
    return [(y + dy * t, x + dx * t, r) for t in range(n)]


def named(graph: TrackGraph) -> set[tuple[int, int, int, int]]:
    """Edges as (frame, label, frame, label)."""
    f, v = graph.frame, graph.label
    return {(int(f[a]), int(v[a]), int(f[b]), int(v[b])) for a, b in graph.edges}


def straight(cells: int, n: int = 6) -> set[tuple[int, int, int, int]]:
    return {(t, i, t + 1, i) for t in range(n - 1) for i in range(1, cells + 1)}


def test_each_disc_keeps_its_track() -> None:
    frames = movie(moving(10, 10, 0, 3), moving(40, 40, -2, 0), moving(50, 12, 0, 0))
    graph = link(frames)
    assert named(graph) == straight(3)
    assert len(graph.rows()) == 3


def test_crossing_discs_go_straight_on() -> None:
    # They swap sides between frames 3 and 4; without motion each would turn back.
    # They pass three pixels apart, so that no pixel is drawn twice.
    a = moving(28, 6, 0, 7, 8, r=3)
    b = moving(35, 55, 0, -7, 8, r=3)
    assert named(link(movie(a, b))) == straight(2, 8)


def test_touching_discs_stay_two() -> None:
    frames = movie(moving(20, 10, 0, 2), moving(31, 10, 0, 2))
    assert named(link(frames)) == straight(2)


def dividing() -> list[tuple[int, np.ndarray]]:
    mother = [(32.0, 32.0, 8.0)] * 3
    return [
        *((t, frame(disc, (8, 8, 5), (54, 10, 8))) for t, disc in enumerate(mother)),
        *((t, frame((32, 24.0 - 2 * (t - 3), 5.6), (8, 8, 5), (54, 10, 8), (32, 40.0 + 2 * (t - 3), 5.6))) for t in (3, 4)),
    ]  # fmt: skip


def test_a_division_has_one_mother_and_two_daughters() -> None:
    graph = link(dividing())
    assert {(2, 1, 3, 1), (2, 1, 3, 4)} <= named(graph)
    assert len(graph.divisions()) == 1
    assert sum(row.parent > 0 for row in graph.rows()) == 2
    none = link_cells(
        observe(dividing()), estimate_parameters(observe(dividing()), divisions=False)
    )
    assert len(none.divisions()) == 0


def test_a_gap_is_closed_and_filled() -> None:
    cell = moving(20, 10, 0, 2)
    cell[2] = cell[3] = None
    frames = movie(cell, moving(50, 50, 0, 0))
    graph = link(frames)
    assert (1, 1, 4, 1) in named(graph)
    assert [(r.begin, r.end) for r in graph.rows()] == [(0, 1), (0, 5), (4, 5)]
    filled, fills = fill_gaps(graph, frames)
    assert [fill.frame for fill in fills] == [2, 3]
    assert [(r.begin, r.end, r.parent) for r in filled.rows()] == [(0, 5, 0), (0, 5, 0)]
    masks = dict(relabel(frames, filled, fills))
    np.testing.assert_array_equal(masks[2] == 1, frame((20, 14, 5)) == 1)
    assert (
        len(link(frames, estimate_parameters(observe(frames), max_gap=1)).gaps()) == 0
    )


def test_a_gap_under_another_cell_is_not_filled() -> None:
    cell = moving(20, 20, 0, 0, 4)
    cell[2] = None
    frames = movie(cell, moving(50, 50, 0, 0, 4))
    frames[2][1][10:31, 10:31] = 2  # the neighbour's label covers the place
    graph = TrackGraph([0, 1, 3], [1, 1, 1], [[20, 20]] * 3, [(0, 1), (1, 2)])
    same, fills = fill_gaps(graph, frames)
    assert (fills, len(same.gaps())) == ((), 1)


def test_cells_enter_and_leave() -> None:
    late = [None, None, *moving(60, 30, -2, 0, 4)]
    gone = [*moving(10, 50, 0, 3, 3), None, None, None]
    graph = link(movie(moving(30, 10, 0, 1), late, gone))
    assert [(r.begin, r.end, r.parent) for r in graph.rows()] == [
        (0, 5, 0),
        (0, 2, 0),
        (2, 5, 0),
    ]


def crowd(seed: int = 3) -> list[tuple[int, np.ndarray]]:
    rng = np.random.default_rng(seed)
    grid = [(y, x) for y in range(8, 60, 16) for x in range(8, 60, 16)]
    steps = rng.normal(0, 0.7, (len(grid), 2))
    return movie(
        *(moving(y, x, *step, 5, r=4) for (y, x), step in zip(grid, steps, strict=True))
    )


def test_the_labels_of_a_frame_do_not_count() -> None:
    frames = crowd()
    rng = np.random.default_rng(0)
    tables = [np.concatenate([[0], 100 + rng.permutation(16)]) for _ in frames]
    other = [(t, table[mask]) for (t, mask), table in zip(frames, tables, strict=True)]
    a, b = link(frames), link(other)
    np.testing.assert_array_equal(a.edges, b.edges)
    np.testing.assert_array_equal(a.centroid, b.centroid)


def test_the_place_of_the_movie_does_not_count() -> None:
    frames = crowd()
    wide = [(t, np.pad(mask, ((5, 0), (0, 9)))) for t, mask in frames]
    assert named(link(frames)) == named(link(wide))


def test_time_reversed_gives_the_same_links() -> None:
    frames = crowd()
    back = [(t, mask) for t, (_, mask) in enumerate(reversed(frames))]
    turned = {(4 - f, a, 4 - e, b) for e, b, f, a in named(link(back))}
    assert turned == named(link(frames)) == straight(16, 5)


def test_a_volume_with_thick_slices() -> None:
    frames = []
    for t in range(3):
        mask = np.zeros((6, 20, 20), np.uint16)
        mask[1:3, 2 + t : 8 + t, 2:8] = 1
        mask[4:6, 10 + t : 16 + t, 10:16] = 2
        frames.append((t, mask))
    graph = link(frames, spacing=(3.0, 1.0, 1.0))
    assert named(graph) == straight(2, 3)
    assert graph.centroid.shape == (6, 3)


def hypotheses(seed: int) -> tuple[Hypotheses, int, int]:
    """Links and divisions among up to nine cells; every other time with ties."""
    rng = np.random.default_rng(seed)
    n, m = (int(k) for k in rng.integers(2, 10, 2))
    every = [(i, j, k) for i in range(n) for j in range(m) for k in (-1, *range(j))]
    some = rng.permutation(every)[: rng.integers(1, 60)]
    gains = -rng.uniform(0.1, 1, len(some)) - 0.7 * (some[:, 2] >= 0)
    gains = np.round(4 * gains - 1) / 4 if seed % 2 else gains
    return Hypotheses(some[:, 0], some[:, 1:], gains), n, m


def used(some: Hypotheses, rows: np.ndarray, n: int, m: int) -> np.ndarray:
    """How often each cell is used."""
    later = some.targets[rows]
    cells = np.concatenate([some.sources[rows], n + later[later >= 0]])
    return np.bincount(cells, minlength=n + m)


def cheapest(some: Hypotheses, n: int, m: int) -> float:
    """All cells in one integer programme."""
    rows = range(len(some))
    # The place before the later cells is that of a target that is none.
    table = np.zeros((n + 1 + m, len(some)))
    for row in rows:
        table[some.sources[row], row] = 1
        table[n + 1 + some.targets[row], row] = 1
    table[n] = 0
    once = LinearConstraint(table, -np.inf, 1)
    found = milp(some.gains, integrality=1, bounds=Bounds(0, 1), constraints=once)
    return float(found.fun)


@pytest.mark.parametrize("seed", range(30))
def test_the_choice_is_the_cheapest(seed: int) -> None:
    some, n, m = hypotheses(seed)
    rows = choose(some, n, m)
    assert used(some, rows, n, m).max() == 1
    assert some.gains[rows].sum() == pytest.approx(cheapest(some, n, m), abs=1e-6)


def test_three_mothers_of_three_cells() -> None:
    # Half of each division would be cheaper than what can be: -4.5 against -4.
    pairs = [(0, 1), (1, 2), (0, 2), (0, -1), (1, -1), (2, -1)]
    gains = np.array([-3.0, -3, -3, -0.9, -1, -0.8])
    some = Hypotheses(np.array([0, 1, 2, 2, 0, 1]), np.array(pairs), gains)
    assert choose(some, 3, 3).tolist() == [2, 4]


def test_a_group_too_large_for_the_search_keeps_a_good_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("medseg.track.assign._LARGEST", 0)
    lost = 0.0
    for seed in range(30):
        some, n, m = hypotheses(seed)
        rows = choose(some, n, m)
        assert used(some, rows, n, m).max() == 1
        lost += some.gains[rows].sum() / cheapest(some, n, m) / 30
    assert 0.97 < lost < 1  # the search is needed, and little is lost without it


def test_common_pixels_are_counted_pair_by_pair() -> None:
    rng = np.random.default_rng(5)
    masks = [rng.choice([0, 3, 7, 900], (9, 9)) for _ in range(2)]
    cells = observe(enumerate(masks))
    found = {
        (int(cells.label[a]), int(cells.label[b])): int(n) for a, b, n in cells.shared
    }
    pairs = [(a, b) for a in (3, 7, 900) for b in (3, 7, 900)]
    assert found == {
        (a, b): int(((masks[0] == a) & (masks[1] == b)).sum()) for a, b in pairs
    }
    assert np.lexsort(cells.shared[:, 1::-1].T).tolist() == list(range(9))


def test_no_cells_no_links() -> None:
    graph = link([(0, frame()), (1, frame((20, 20, 4))), (2, frame())])
    assert (len(graph), len(graph.edges)) == (1, 0)
    empty = link([(0, frame()), (1, frame())])
    assert (len(empty), empty.rows(), to_csv(empty).count("\n")) == (0, (), 1)


def test_parameters_come_from_the_movie() -> None:
    steady = estimate_parameters(
        observe(movie(moving(10, 10, 0, 4), moving(40, 10, 0, 4)))
    )
    assert steady.persistence == pytest.approx(1, abs=0.05)
    assert steady.max_distance == pytest.approx(24, abs=1)
    still = estimate_parameters(observe(movie(moving(10, 10, 0, 0))))
    assert still.persistence == 0
    assert still.max_distance == pytest.approx(10, abs=0.6)  # a diameter
    assert estimate_parameters(observe([(0, frame())]), max_gap=7).max_gap == 7


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"max_distance": 0}, "max_distance: is 0"),
        ({"overlap_weight": -1}, "overlap_weight: is -1"),
        ({"max_gap": float("nan")}, "max_gap: is nan"),
        ({"persistence": 2}, "persistence: is 2"),
        ({"speed": 2}, "speed: is no parameter. Choose from max_distance"),
    ],
)
def test_parameters_out_of_range(chosen: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        estimate_parameters(observe([(0, frame())]), **chosen)


def test_frames_that_are_no_movie() -> None:
    with pytest.raises(ConfigError, match="there are none"):
        link([])
    with pytest.raises(ConfigError, match="frame 1 follows frame 1"):
        link([(1, frame()), (1, frame())])
    with pytest.raises(ConfigError, match=r"frame 1 has shape \(4, 4\)"):
        link([(0, frame()), (1, frame(side=4))])
    with pytest.raises(ConfigError, match="spacing"):
        link([(0, frame())], spacing=(1.0, 1.0, 1.0))
    with pytest.raises(ConfigError, match="label -1 is below 0"):
        link([(0, np.array([[-1, 0]]))])


def test_a_cell_that_the_graph_lacks_is_not_relabelled() -> None:
    with pytest.raises(ConfigError, match="label 1 of frame 0 is in no track"):
        list(relabel([(0, frame((9, 9, 3)))], TrackGraph([], [], np.zeros((0, 2)), [])))


def test_napari_tracks() -> None:
    graph = link(dividing())
    data, properties, parents = to_napari(graph)
    assert data.shape == (len(graph), 4)
    assert (np.diff(data[:, 0]) >= 0).all()
    (mother,) = {tuple(p) for p in parents.values()}
    assert len(parents) == 2
    assert set(properties["generation"]) == {0, 1}
    assert data[properties["divides"], 0].tolist() == list(mother)
    assert generations(graph)[mother[0]] == 0


def same(a: TrackGraph, b: TrackGraph) -> bool:
    return a.rows() == b.rows() and named(a) == named(b)


def test_csv_comes_back() -> None:
    graph = link(dividing())
    assert same(from_csv(to_csv(graph)), graph)
    with pytest.raises(ConfigError, match="no column frame"):
        from_csv("track,label,parent_track,z,y,x\n")
    with pytest.raises(ConfigError, match="line 2 is broken"):
        from_csv(to_csv(graph).replace("1,0,1", "1,zero,1", 1))
    with pytest.raises(ConfigError, match="track 1 has no parent 9"):
        from_csv("track,frame,label,parent_track,z,y,x\n1,0,1,9,,2,3\n")
    head = "track,frame,label,parent_track,z,y,x\n1,0,1,,,2,3\n"
    with pytest.raises(ConfigError, match=r"line 3 is broken \(has 3 coordinates"):
        from_csv(head + "1,1,1,,4,2,3\n")
    with pytest.raises(ConfigError, match="line 3 is broken"):
        from_csv(head + "1,1,1,,,2,\n")


@pytest.mark.filterwarnings("ignore")  # those of zarr and pydantic
def test_geff_comes_back(tmp_path: Path) -> None:
    pytest.importorskip("geff")
    graph, path = link(dividing()), tmp_path / "a.geff"
    write_geff(graph, path)
    write_geff(graph, path, spacing=(0.5, 0.5), unit="micrometer", frame_interval=60)
    again = read_geff(path)
    assert same(again, graph)
    np.testing.assert_array_equal(again.centroid, graph.centroid)
    assert [p.name for p in tmp_path.iterdir()] == ["a.geff"]
    (tmp_path / "x").mkdir()
    with pytest.raises(FileError, match="is no GEFF"):
        read_geff(tmp_path / "x")
    with pytest.raises(FileError, match="is no folder"):
        read_geff(tmp_path / "y")
    with pytest.raises(FileError, match="is there and is no GEFF folder"):
        write_geff(graph, tmp_path / "x")


def family(dims: int = 2) -> TrackGraph:
    """A cell divides after frame 0; another is not found in frame 1."""
    frame, label = np.array([[0, 1], [1, 1], [1, 2], [2, 1], [0, 2], [2, 2]]).T
    edges = np.array([[0, 1], [0, 2], [1, 3], [4, 5]])
    return TrackGraph(frame, label, np.arange(6.0 * dims).reshape(6, dims), edges)


NOBODY = TrackGraph(*np.zeros((2, 0), int), np.zeros((0, 2)), np.zeros((0, 2), int))


@pytest.mark.parametrize("graph", [family(), family(3), NOBODY])
def test_geff_is_what_its_own_package_accepts(
    graph: TrackGraph, tmp_path: Path
) -> None:
    geff = pytest.importorskip("geff")
    data = pytest.importorskip("geff.validate.data")
    from geff.core_io import read_to_memory

    path = write_geff(graph, tmp_path / "a.geff", frame_interval=60)
    geff.validate_structure(path)
    everything = data.ValidationConfig(
        **dict.fromkeys(data.ValidationConfig.model_fields, True)
    )
    found = read_to_memory(path, data_validation=everything)
    named = {"tracklet": "tracklet", "lineage": "lineage"}
    assert found["metadata"].track_node_props == named


def test_geff_means_the_same_to_networkx(tmp_path: Path) -> None:
    geff = pytest.importorskip("geff")
    pytest.importorskip("networkx")
    path = write_geff(
        family(), tmp_path / "a.geff", spacing=(0.5, 0.4), unit="micrometer"
    )
    found, metadata = geff.read(path, backend="networkx")
    assert found.is_directed()
    assert [(a.name, a.unit, a.scale, a.scaled_unit) for a in metadata.axes] == [
        ("t", "frame", None, None),
        ("y", "pixel", 0.5, "micrometer"),
        ("x", "pixel", 0.4, "micrometer"),
    ]
    assert sorted(found.edges) == [(0, 1), (0, 2), (1, 3), (4, 5)]
    assert found.nodes[3] == {
        "t": 2, "y": 6.0, "x": 7.0, "label": 1, "track": 3, "tracklet": 2, "lineage": 1
    }  # fmt: skip
    # The lost cell is two tracks of the challenge, and one tracklet.
    assert [found.nodes[n]["track"] for n in (4, 5)] == [2, 5]
    assert found.nodes[4]["tracklet"] == found.nodes[5]["tracklet"]


def test_geff_of_other_programs(tmp_path: Path) -> None:
    geff = pytest.importorskip("geff")
    from geff_spec import Axis

    columns = {"FRAME": [0, 1], "POSITION_X": [5.0, 6], "POSITION_Y": [1.0, 2]}
    kinds = ("time", "space", "space")
    axes = [Axis(name=a, type=k) for a, k in zip(columns, kinds, strict=True)]

    def written(name: str, edges: list[list[int]]) -> Path:
        geff.core_io.write_arrays(
            tmp_path / name,
            np.array([7, 9], np.uint64),
            {a: {"values": np.array(v), "missing": None} for a, v in columns.items()},
            np.array(edges, np.uint64),
            {},
            geff.GeffMetadata(
                directed=True, axes=axes, node_props_metadata={}, edge_props_metadata={}
            ),
        )
        return tmp_path / name

    graph = read_geff(written("a.geff", [[7, 9]]))
    assert graph.centroid.tolist() == [[1, 5], [2, 6]]  # y, x
    assert graph.edges.tolist() == [[0, 1]]
    with pytest.raises(FileError, match="1 of 1 edges to nodes that are not there"):
        read_geff(written("b.geff", [[7, 8]]))


def test_without_geff_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "geff", None)
    with pytest.raises(ConfigError, match=r"pip install medseg\[geff\]"):
        read_geff(tmp_path)


@pytest.mark.shared
def test_true_masks_of_a_simulated_movie() -> None:
    folder = (
        Path(__file__).resolve().parents[2] / "shared/data/ctc/Fluo-N2DH-SIM+/01_GT/TRA"
    )
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/ctc")
    from medseg.io.ctc import open_masks, read_track_table
    from medseg.metrics.ctc import CtcScore, score_tracking

    frames = list(open_masks(folder, "track"))
    graph = link(frames)
    result = dict(relabel(frames, graph))
    pairs = [(t, mask, result[t]) for t, mask in frames]
    rows = read_track_table(folder / "man_track.txt")
    score = CtcScore("01", 0.0, 0, *score_tracking(pairs, rows, graph.rows()))
    assert score.det == 1
    assert score.tra >= 0.999


def test_parameters_are_values() -> None:
    assert LinkParameters(3, 4) == LinkParameters(3, 4)

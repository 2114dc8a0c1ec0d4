"""The challenge's measures: goldens, the official log, py-ctcmetrics."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from medseg.errors import ConfigError, FileError
from medseg.io.ctc import write_mask_file, write_track_table
from medseg.lineage import TrackRow
from medseg.metrics.ctc import CtcScore, score_segmentation, score_tracking
from medseg.metrics.ctc_errors import COLUMNS, CtcError
from medseg.metrics.ctc_sequence import evaluate_ctc, evaluate_sequence
from medseg.metrics.objects import ObjectScore, match_ious, match_objects

SHAPE = (20, 40)
LEFT, RIGHT = (5, 5, 10, 10), (5, 25, 10, 10)
TRUTH = [{1: LEFT, 2: RIGHT}] * 2
ROWS = [(1, 0, 1, 0), (2, 0, 1, 0)]
# name: result frames, result rows, SEG, DET, TRA (protocol, made with py-ctcmetrics)
GOLDEN = {
    "perfect": (TRUTH, ROWS, 1, 1, 1),
    "missed": ([TRUTH[0], {1: LEFT}], [(1, 0, 1, 0), (2, 0, 0, 0)], 0.75, 0.75, 0.732558),
    "extra": ([{**TRUTH[0], 3: (0, 38, 2, 2)}, TRUTH[1]], [*ROWS, (3, 0, 0, 0)], 1, 0.975, 0.976744),
    "merged": ([{1: (5, 5, 10, 30)}, TRUTH[1]], [(1, 0, 1, 0), (2, 1, 1, 0)], 2 / 3, 0.875, 0.813953),
    "restarted": ([TRUTH[0], {3: LEFT, 4: RIGHT}], [(1, 0, 0, 0), (2, 0, 0, 0), (3, 1, 1, 0), (4, 1, 1, 0)], 1, 1, 0.930233),
    "half": ([{1: (5, 5, 10, 5), 2: RIGHT}, TRUTH[1]], ROWS, 0.75, 0.725, 0.709302),
    "sixty": ([{1: (5, 5, 10, 6), 2: RIGHT}, TRUTH[1]], ROWS, 0.9, 1, 1),
    "split": ([{1: (5, 5, 10, 6), 3: (5, 11, 10, 4), 2: RIGHT}, TRUTH[1]], [*ROWS, (3, 0, 0, 0)], 0.9, 0.975, 0.976744),
    "empty": ([{}, {}], [], 0, 0, 0),
}  # fmt: skip


def draw(cells: dict[int, tuple[int, int, int, int]]) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint16)
    for label, (y, x, h, w) in cells.items():
        mask[y : y + h, x : x + w] = label
    return mask


def write_sequence(
    folder: Path,
    masks: list[np.ndarray],
    rows: list[tuple[int, ...]],
    truth: bool = False,
) -> Path:
    tra = folder / "TRA" if truth else folder
    for part in (tra, folder / "SEG") if truth else (tra,):
        part.mkdir(parents=True, exist_ok=True)
    for t, mask in enumerate(masks):
        write_mask_file(
            tra / (f"man_track{t:03d}.tif" if truth else f"mask{t:03d}.tif"), mask
        )
        if truth:
            write_mask_file(folder / "SEG" / f"man_seg{t:03d}.tif", mask)
    table = [TrackRow(*row) for row in rows]
    write_track_table(table, tra / ("man_track.txt" if truth else "res_track.txt"))
    return folder


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_cases(name: str, tmp_path: Path) -> None:
    frames, rows, seg, det, tra = GOLDEN[name]
    write_sequence(tmp_path / "01_GT", [draw(f) for f in TRUTH], ROWS, truth=True)
    write_sequence(tmp_path / "01_RES", [draw(f) for f in frames], rows)
    score = evaluate_sequence(tmp_path / "01_RES", tmp_path / "01_GT")
    assert (score.seg, score.det, score.tra) == pytest.approx((seg, det, tra), abs=1e-6)
    assert score.op_csb == (score.seg + score.det) / 2
    assert score.op_ctb == (score.seg + score.tra) / 2
    assert score.aogm0 == 43
    assert score.failed == (name == "empty")


def test_two_touching_cells_in_one_label() -> None:
    truth = draw({1: (5, 5, 10, 10), 2: (5, 15, 10, 10)})
    result = draw({1: (5, 5, 10, 20)})
    frames = [(t, truth, result) for t in (0, 1)]
    rows = [TrackRow(*row) for row in ROWS]
    nodes, edges, errors = score_tracking(frames, rows, rows[:1])
    score = CtcScore(
        "01", *score_segmentation([(truth, result)] * 2), nodes, edges, errors
    )
    assert (score.seg, score.det, score.tra) == pytest.approx(
        (0.5, 0.75, 0.697674), abs=1e-6
    )
    assert [e.kind for e in errors] == ["split"] * 2 + ["edge_missed"] * 2


def test_errors_say_where_to_look() -> None:
    truth, result = draw({1: LEFT, 2: RIGHT}), draw({7: LEFT})
    rows = [TrackRow(*row) for row in ROWS]
    frames = [(4, truth, draw({1: LEFT, 2: RIGHT})), (5, truth, result)]
    tracks = [TrackRow(1, 4, 4), TrackRow(2, 4, 4), TrackRow(7, 5, 5, 1)]
    _, _, errors = score_tracking(frames, rows, tracks)
    missed, edge, changed = errors
    assert missed == CtcError("missed", 5, 2, (9.5, 29.5))
    assert missed.official() == "T=5 GT_label=2"
    assert edge.official() == "[T=4 GT_label=2] -> [T=5 GT_label=2]"
    assert changed.official() == "[T=4 Label=1] -> [T=5 Label=7]"
    assert changed.kind == "edge_changed"
    row = changed.to_row("01")
    assert tuple(row) == COLUMNS
    assert (row["mask"], row["z"], row["y"], row["x"]) == ("result", None, 9.5, 9.5)
    assert missed.to_row()["mask"] == "truth"


def test_a_parent_that_the_masks_lack_is_refused() -> None:
    mask = draw({1: LEFT})
    with pytest.raises(ConfigError, match="label 9 is not in the mask of frame 0"):
        score_tracking(
            [(0, mask, mask), (1, mask, mask)],
            [TrackRow(1, 0, 1)],
            [TrackRow(1, 1, 1, 9), TrackRow(9, 0, 0)],
        )


def test_a_reference_cut_to_some_frames_names_the_option(tmp_path: Path) -> None:
    """The table is that of the whole movie; the mother ends before the section."""
    rows = [(1, 0, 1, 0), (2, 2, 3, 1)]
    masks = [draw({1: LEFT})] * 2 + [draw({2: LEFT})] * 2
    res = write_sequence(tmp_path / "01_RES", masks, rows)
    gt = write_sequence(tmp_path / "01_GT", masks, rows, truth=True)
    for t in (0, 1):
        (gt / "TRA" / f"man_track{t:03d}.tif").unlink()
        (gt / "SEG" / f"man_seg{t:03d}.tif").unlink()
    with pytest.raises(
        ConfigError,
        match=r"parent 1, and frame 1 is not compared, only 2 to 3. Add --frames 2-3",
    ):
        evaluate_sequence(res, gt)
    assert evaluate_sequence(res, gt, (2, 3)).tra == 1


def test_masks_of_two_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="20 x 40.*3 x 3"):
        score_segmentation([(draw({1: LEFT}), np.zeros((3, 3), int))])


def test_nothing_to_score_is_undefined() -> None:
    score = CtcScore("01")
    assert all(math.isnan(v) for v in (score.seg, score.det, score.tra, score.lnk))


def random_movie(
    rng: np.random.Generator, frames: int = 5
) -> tuple[list[np.ndarray], list[tuple[int, ...]]]:
    """Blocks on a grid that come, go, and divide; every track without a gap."""
    masks = [np.zeros((24, 24), np.uint16) for _ in range(frames)]
    rows, label = [], 0
    for cell in range(16):
        y, x = 6 * (cell // 4), 6 * (cell % 4)
        start = 0
        parent = 0
        while start < frames and rng.random() < 0.9:
            end = int(rng.integers(start, frames))
            label += 1
            for t in range(start, end + 1):
                h, w = rng.integers(2, 6, 2)
                masks[t][y : y + h, x : x + w] = label
            rows.append((label, start, end, parent))
            parent = label if rng.random() < 0.5 else 0
            start = end + 1 + int(rng.integers(0, 2))
    return masks, rows


@pytest.mark.parametrize("seed", range(6))
def test_equal_to_py_ctcmetrics(seed: int, tmp_path: Path) -> None:
    evaluate = pytest.importorskip("ctc_metrics.scripts.evaluate")
    rng = np.random.default_rng(seed)
    truth, result = random_movie(rng), random_movie(rng)
    gt = write_sequence(tmp_path / "01_GT", *truth, truth=True)
    res = write_sequence(tmp_path / "01_RES", *result)
    wanted = ["SEG", "DET", "TRA", "LNK"]
    theirs = evaluate.evaluate_sequence(str(res), str(gt), metrics=wanted, threads=1)
    score = evaluate_sequence(res, gt)
    ours = {"SEG": score.seg, "DET": score.det, "TRA": score.tra, "LNK": score.lnk}
    assert ours == pytest.approx({k: theirs[k] for k in wanted}, abs=1e-9)
    assert score.cost() == theirs["AOGM"]
    kinds = {"NS": "split", "FN": "missed", "FP": "extra", "ED": "edge_extra", "EA": "edge_missed", "EC": "edge_changed"}  # fmt: skip
    for key, kind in kinds.items():
        assert score.count(kind) == theirs[f"AOGM_{key}"]


@pytest.mark.shared
def test_official_log_line_by_line() -> None:
    folder = Path(__file__).resolve().parents[2] / "shared/data/ctc-scores"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/ctc-scores")
    score = evaluate_sequence(folder / "03_RES", folder / "03_GT")
    assert (round(score.det, 6), round(score.tra, 6)) == (0.688, 0.62298)
    assert (score.cost(), score.aogm0) == (105, 278.5)
    log = (folder / "03_RES/TRA_log.txt").read_text().splitlines()
    official = sorted(x.strip() for x in log if x.startswith(("T=", "[")))
    assert sorted(e.official() for e in score.errors) == official


def test_a_data_set_and_its_mean(tmp_path: Path) -> None:
    masks = [draw(f) for f in TRUTH]
    for name in ("01", "02"):
        write_sequence(tmp_path / f"{name}_GT", masks, ROWS, truth=True)
    write_sequence(tmp_path / "01_RES", masks, ROWS)
    found = evaluate_ctc(tmp_path, tmp_path)
    assert [s.name for s in found.scores] == ["01", "02"]
    assert found.n_failed == 1  # 02 has no result: it counts, with 0
    assert found.mean() == dict.fromkeys(
        ("SEG", "DET", "TRA", "LNK", "OP_CSB", "OP_CTB"), 0.5
    )
    assert "02 (no result)" in found.table()
    assert "n_failed 1" in found.table()
    json.dumps(found.to_json(), allow_nan=False)
    single = evaluate_ctc(tmp_path / "01_RES", tmp_path)
    assert [s.tra for s in single.scores] == [1]


def test_a_result_that_is_not_valid_is_refused(tmp_path: Path) -> None:
    masks = [draw(f) for f in TRUTH]
    gt = write_sequence(tmp_path / "01_GT", masks, ROWS, truth=True)
    res = write_sequence(tmp_path / "01_RES", masks, ROWS[:1])
    with pytest.raises(FileError, match="label 2"):
        evaluate_sequence(res, gt)
    write_sequence(res, masks, ROWS)
    write_mask_file(res / "mask000.tif", np.zeros((3, 3), np.uint16))
    with pytest.raises(FileError, match=r"mask000\.tif does not hold it"):
        evaluate_sequence(res, gt)


def test_a_missing_or_misfit_mask_is_named(tmp_path: Path) -> None:
    masks = [draw(f) for f in TRUTH]
    gt = write_sequence(
        tmp_path / "01_GT", [*masks, masks[0]], [(1, 0, 2, 0), (2, 0, 2, 0)], truth=True
    )
    with pytest.raises(FileError, match="2 masks, the reference 3; frame 2 is missing"):
        evaluate_sequence(write_sequence(tmp_path / "01_RES", masks, ROWS), gt)
    small = [m[:, :30].copy() for m in (*masks, masks[0])]
    with pytest.raises(
        FileError, match=r"mask000\.tif: a mask of 20 x 30 for a reference of 20 x 40"
    ):
        evaluate_sequence(
            write_sequence(tmp_path / "02_RES", small, [(1, 0, 2, 0), (2, 0, 2, 0)]), gt
        )


def test_a_section_of_a_movie(tmp_path: Path) -> None:
    """Cell 1 divides from frame 1 to 2; the result misses cell 4 in the last frame."""
    whole = [{1: LEFT}, {1: LEFT}, {2: LEFT, 3: RIGHT}, {2: LEFT, 4: RIGHT}]
    rows = [(1, 0, 1, 0), (2, 2, 3, 1), (3, 2, 2, 1), (4, 3, 3, 3)]
    gt = write_sequence(tmp_path / "01_GT", [*map(draw, whole)], rows, truth=True)
    masks = [*map(draw, [*whole[:3], {2: LEFT}])]
    res = write_sequence(tmp_path / "01_RES", masks, rows[:3])

    def score(*frames: int) -> CtcScore:
        return evaluate_sequence(res, gt, (frames[0], frames[1]))

    assert score(0, 3) == evaluate_sequence(res, gt)
    early = score(0, 2)
    assert (early.tra, early.nodes, early.edges, early.segmented) == (1, 4, 3, 4)
    late = score(2, 3)
    assert (late.nodes, late.edges, late.seg) == (4, 2, 0.75)
    assert [e.official() for e in late.errors] == [
        "T=3 GT_label=4",
        "[T=2 GT_label=3] -> [T=3 GT_label=4]",
    ]
    assert not score(3, 3).failed
    with pytest.raises(ConfigError, match="has none of the frames 4 to 9"):
        score(4, 9)
    (res / "mask000.tif").unlink()  # need not be there
    write_track_table(
        [TrackRow(1, 1, 1), *(TrackRow(*r) for r in rows[1:3])], res / "res_track.txt"
    )
    assert score(1, 2).tra == 1
    found = evaluate_ctc(res, gt, (1, 2))
    assert found.to_json()["frames"] == (1, 2)
    assert found.table().endswith("1 sequence, n_failed 0; frames 1 to 2 alone")


def test_where_there_is_no_reference(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no folder"):
        evaluate_ctc(tmp_path / "01_RES", tmp_path)
    (tmp_path / "01_RES").mkdir()
    with pytest.raises(ConfigError, match="holds no reference"):
        evaluate_ctc(tmp_path / "01_RES", tmp_path)


def test_one_slice_of_a_volume_as_gold(tmp_path: Path) -> None:
    volume = np.zeros((3, 8, 8), np.uint16)
    volume[:, 2:6, 2:6] = 1
    gt = write_sequence(tmp_path / "01_GT", [volume], [(1, 0, 0, 0)], truth=True)
    (gt / "SEG/man_seg000.tif").unlink()
    write_mask_file(gt / "SEG/man_seg_000_001.tif", volume[1])
    res = write_sequence(tmp_path / "01_RES", [volume], [(1, 0, 0, 0)])
    score = evaluate_sequence(res, gt)
    assert (score.seg, score.segmented, score.tra) == (1, 1, 1)


def test_objects_golden() -> None:
    score = ObjectScore(2, 1, 1, 1.5)  # matched IoU .9 and .6
    assert (score.pq, score.sq, score.rq) == pytest.approx((0.5, 0.75, 2 / 3))
    found = match_ious([[0.9, 0, 0, 0], [0, 0.6, 0, 0], [0, 0, 0.4, 0]])
    assert (found.tp, found.fp, found.fn, found.ap) == (2, 1, 2, 0.4)
    assert found + score == ObjectScore(4, 2, 3, 3.0)


def test_objects_of_masks() -> None:
    truth = draw({1: LEFT, 2: RIGHT})
    assert match_objects(truth, truth).pq == 1
    assert match_objects(truth * 0, truth * 0).ap == 1
    half = draw({1: (5, 5, 10, 5), 2: RIGHT})
    assert match_objects(half, truth).tp == 1  # 0.5 is not above 0.5
    assert match_objects(half, truth, 0.49).tp == 2
    assert match_objects(truth * 0, truth).pq == 0
    assert math.isnan(match_objects(truth * 0, truth).sq)
    with pytest.raises(ConfigError, match="threshold"):
        match_objects(truth, truth, 1.0)

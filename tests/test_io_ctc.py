from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from medseg.errors import ConfigError, DiskError, FileError, ImageWarning
from medseg.io import (
    ResultWriter,
    open_masks,
    open_movie,
    read_track_table,
    validate_result,
    write_track_table,
)
from medseg.io.ctc import find_problems, read_mask_file, write_mask_file
from medseg.lineage import TrackRow

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
# Cell 1 divides after frame 1 into 2 and 3; 3 is lost in frame 2 already.
ROWS = (TrackRow(1, 0, 1), TrackRow(2, 2, 2, 1), TrackRow(3, 2, 2, 1))


def mask(*labels: int, shape: tuple[int, ...] = (4, 6)) -> np.ndarray:
    pixels = np.zeros(shape, np.uint16)
    pixels.reshape(-1)[: len(labels)] = labels
    return pixels


FRAMES = (mask(1), mask(0, 1), mask(2, 3))


def put(folder: Path, name: str, pixels: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        folder / name,
        pixels,
        compression="lzw",
        metadata=None,
        photometric="minisblack",
    )
    return folder / name


def result(folder: Path) -> Path:
    with ResultWriter(folder, (4, 6)) as writer:
        for number, pixels in enumerate(FRAMES):
            writer.write(number, pixels)
        return writer.finish(range(3), ROWS)


def movie_of(folder: Path, count: int = 3, shape: tuple[int, int] = (4, 6)):
    for number in range(count):
        put(folder, f"t{number:03d}.tif", np.zeros(shape, np.uint16))
    return open_movie(folder)


# --- track tables -----------------------------------------------------------


def table(folder: Path, text: str) -> Path:
    path = folder / "man_track.txt"
    path.write_bytes(text.encode("utf-8"))
    return path


@pytest.mark.parametrize(
    "text",
    [
        "1 0 1 0\n2 2 2 1\n3 2 2 1\n",
        "1\t0\t1\t0\n2\t2\t2\t1\n3\t2\t2\t1",
        "\ufeff1 0 1 0\r\n2 2 2 1\r\n3 2 2 1\r\n\r\n",
        "  1  0 1 0 \n\n2 2 2 1\n3 2 2 1\n",
    ],
)
def test_tables_of_all_kinds(tmp_path, text):
    assert read_track_table(table(tmp_path, text)) == ROWS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 0 1\n", "line 1: '1 0 1' is not four whole numbers"),
        ("1 0 1 0 0\n", "line 1: .* not four"),
        ("1 0 1 0\n2 x 2 1\n", "line 2: '2 x 2 1' is not four"),
        ("1 0 1.5 0\n", "line 1"),
        ("1 0 1 " + "9" * 40, "line 1"),
        ("0 0 1 0\n", "line 1: label 0 is not in 1 to 65535"),
        ("65536 0 1 0\n", "line 1: label 65536"),
        ("1 0 1 0\n\n1 2 3 0\n", "line 3: label 1 is there twice, first in line 1"),
        ("1 5 2 0\n", "line 1: track 1 begins in frame 5 and ends in frame 2"),
        ("1 -1 2 0\n", "line 1: track 1 begins in frame -1"),
        ("1 0 1 0\n2 2 3 7\n", "line 2: the parent 7 of track 2 has no line"),
        ("1 0 1 -1\n", "line 1: the parent -1"),
        ("1 0 1 1\n", "line 1: track 1 is its own parent"),
        ("1 0 2 0\n2 2 3 1\n", "line 2: track 2 begins in frame 2, its parent 1 ends "),
    ],
)
def test_broken_lines(tmp_path, text, words):
    path = table(tmp_path, text)
    with pytest.raises(FileError, match=words) as error:
        read_track_table(path)
    assert error.value.subject == str(path)
    assert error.value.remedy
    assert "\n" not in str(error.value)


def test_files_that_are_no_table(tmp_path, monkeypatch):
    with pytest.raises(FileError, match="cannot be opened: No such file"):
        read_track_table(tmp_path / "none.txt")
    path = tmp_path / "res_track.txt"
    path.write_bytes(b"1 0 1 0\n\xff")
    with pytest.raises(FileError, match="byte 8 is no UTF-8"):
        read_track_table(path)
    monkeypatch.setattr("medseg.io.text._MAX_BYTES", 5)
    with pytest.raises(FileError, match="is 9 bytes"):
        read_track_table(path)


def test_tables_are_written_as_read(tmp_path):
    path = write_track_table(ROWS, tmp_path / "new" / "res_track.txt")
    assert path.read_bytes() == b"1 0 1 0\n2 2 2 1\n3 2 2 1\n"
    assert read_track_table(path) == ROWS
    assert read_track_table(write_track_table((), path)) == ()


def test_broken_rows_are_not_written(tmp_path):
    path = tmp_path / "res_track.txt"
    with pytest.raises(FileError, match="line 2: label 1 is there twice"):
        write_track_table((ROWS[0], ROWS[0]), path)
    assert not path.exists()


def test_table_that_reads_back_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr("medseg.io.track_table.read_numbered_rows", lambda p: {})
    with pytest.raises(FileError, match="read back"):
        write_track_table(ROWS, tmp_path / "res_track.txt")
    assert not list(tmp_path.iterdir())


# --- masks ------------------------------------------------------------------


def test_masks_by_kind(tmp_path):
    put(tmp_path, "man_track000.tif", mask(1))
    put(tmp_path, "man_track001.tif", mask(2))
    put(tmp_path, "man_seg001.tif", mask(5))
    put(tmp_path, "man_seg004.tif", mask(6))
    put(tmp_path, "mask0000.tif", mask(7))
    for kind, frames, top in (
        ("track", (0, 1), [1, 2]),
        ("seg", (1, 4), [5, 6]),
        ("result", (0,), [7]),
    ):
        masks = open_masks(tmp_path, kind)
        assert masks.frames == frames
        assert [int(m.max()) for _, m in masks] == top
    assert masks.index(0) == 0
    with pytest.raises(FileError, match="frame 3 has no mask, 1 others have"):
        masks.index(3)
    with pytest.raises(ConfigError, match="there are 1 masks"):
        masks.read(1)
    with pytest.raises(ConfigError, match="'st'"):
        open_masks(tmp_path, "st")


def test_gold_slices_of_volumes(tmp_path):
    for name in ("man_seg_001_004.tif", "man_seg_000_002.tif", "man_seg_001_003.tif"):
        put(tmp_path, name, mask(int(name[8:11]) * 10 + int(name[12:15])))
    put(tmp_path, "man_seg002.tif", mask(9, shape=(3, 4, 6)))
    masks = open_masks(tmp_path, "seg")
    assert masks.frames == (0, 1, 1, 2)
    assert masks.slices == (2, 3, 4, None)
    assert [int(m.max()) for _, m in masks] == [2, 13, 14, 9]


def test_masks_that_are_missing(tmp_path):
    put(tmp_path, "mask000.tif", mask(1))
    put(tmp_path, "mask002.tif", mask(1))
    with pytest.raises(FileError, match="gap"):
        open_masks(tmp_path, "result")
    with pytest.raises(FileError, match="0 masks named as man_seg000.tif"):
        open_masks(tmp_path, "seg")
    (tmp_path / "SEG").mkdir()
    with pytest.raises(FileError, match="It has the folders SEG"):
        open_masks(tmp_path, "track")


def test_files_that_are_no_masks(tmp_path):
    with pytest.warns(ImageWarning, match="8-bit mask"):
        small = read_mask_file(put(tmp_path, "a.tif", mask(3).astype(np.uint8)))
    assert small.max() == 3
    path = put(tmp_path, "b.tif", mask(3).astype(np.float32))
    with pytest.raises(FileError, match="pixels are float32"):
        read_mask_file(path)
    tifffile.imwrite(
        tmp_path / "c.tif", np.zeros((2, 4, 6), np.uint16), photometric="minisblack",
        planarconfig="separate",
    )  # fmt: skip
    with pytest.raises(FileError, match="mask of 2 channels"):
        read_mask_file(tmp_path / "c.tif")


# --- writing ----------------------------------------------------------------


def test_a_result_is_written_whole(tmp_path):
    folder = result(tmp_path / "01_RES")
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["mask000.tif", "mask001.tif", "mask002.tif", "res_track.txt"]
    for number, pixels in enumerate(FRAMES):
        stored = tifffile.imread(folder / f"mask{number:03d}.tif")
        assert stored.dtype == np.uint16
        np.testing.assert_array_equal(stored, pixels)
    with tifffile.TiffFile(folder / "mask000.tif") as file:
        assert file.pages[0].compression == tifffile.COMPRESSION.LZW
    again = result(tmp_path / "again")
    for name in names:
        assert (folder / name).read_bytes() == (again / name).read_bytes()


def test_a_stopped_run_leaves_nothing_that_looks_finished(tmp_path):
    folder = tmp_path / "01_RES"
    with pytest.raises(KeyboardInterrupt), ResultWriter(folder, (4, 6)) as writer:
        writer.write(0, FRAMES[0])
        raise KeyboardInterrupt
    assert not list(folder.iterdir())
    killed = ResultWriter(folder, (4, 6))
    killed.write(5, FRAMES[0])
    assert not [p for p in folder.iterdir() if p.name[0] != "."]
    assert len(list(result(folder).iterdir())) == 4  # with nothing of the killed one


def test_an_earlier_result_is_replaced(tmp_path):
    folder = result(tmp_path)
    (folder / "notes.txt").touch()
    (folder / "filled.csv").touch()  # of masks that are no more
    put(folder, "mask003.tif", mask(9))
    result(folder)
    names = sorted(p.name for p in folder.iterdir())
    assert not {"mask003.tif", "filled.csv"} & set(names)
    assert "notes.txt" in names
    validate_result(folder)


def test_a_result_that_disagrees_is_not_put_in_place(tmp_path):
    writer = ResultWriter(tmp_path, (4, 6))
    writer.write(0, mask(1))
    with pytest.raises(FileError, match="label 1 has no line"):
        writer.finish([0], ())
    with pytest.raises(FileError, match="1 mask for 2 frames; frame 1 has no mask"):
        writer.finish([0, 1], [TrackRow(1, 0, 0)])
    with pytest.raises(FileError, match="frame 0 has no movie"):
        writer.finish([], ())
    assert not (tmp_path / "res_track.txt").exists()
    assert not list(tmp_path.glob("mask*.tif"))


def test_volumes_and_four_digits(tmp_path):
    shape = (2, 4, 6)
    with ResultWriter(tmp_path, shape, digits=4) as writer:
        writer.write(0, mask(1, shape=shape))
        writer.finish([0], [TrackRow(1, 0, 0)])
    assert tifffile.imread(tmp_path / "mask0000.tif").shape == shape


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.full((4, 6), 65536), "labels from 65536 to 65536, .* holds 0 to 65535"),
        (np.full((4, 6), -1), "labels from -1"),
        (np.zeros((4, 6)), "labels are float64"),
        (np.zeros((4, 7), int), r"mask of \(4, 7\) for frames of \(4, 6\)"),
    ],
)
def test_labels_that_sixteen_bits_do_not_hold(tmp_path, labels, words):
    with pytest.raises(FileError, match=words):
        ResultWriter(tmp_path, (4, 6)).write(0, labels)


def test_options_that_make_no_result(tmp_path):
    with pytest.raises(ConfigError, match="digits"):
        ResultWriter(tmp_path, (4, 6), digits=2)
    with pytest.raises(ConfigError, match="shape"):
        ResultWriter(tmp_path, (4,))


@pytest.mark.parametrize("name", ["shutil.rmtree", "os.replace"])
def test_a_full_disk_is_a_disk_error(tmp_path, monkeypatch, name):
    def full(*args: object, **words: object) -> None:
        raise OSError(28, "No space left on device")

    writer = ResultWriter(tmp_path, (4, 6))
    writer.write(0, mask(1))
    monkeypatch.setattr(f"medseg.io.ctc_write.{name}", full)
    with pytest.raises(DiskError, match="disk is full"):
        if name == "os.replace":
            writer.finish([0], [TrackRow(1, 0, 0)])
        else:
            ResultWriter(tmp_path, (4, 6))
    assert not (tmp_path / "res_track.txt").exists()


@pytest.mark.parametrize("moves", range(9))
def test_what_was_there_comes_back_if_the_disk_fails_midway(
    tmp_path, monkeypatch, moves
):
    folder = result(tmp_path / "01_RES")
    put(folder, "mask003.tif", mask(9))
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    replace, count = os.replace, iter(range(99))

    def fail_once(path: Path, target: Path) -> None:
        if next(count) == moves:
            raise OSError(5, "Input/output error")
        replace(path, target)

    with ResultWriter(folder, (4, 6)) as writer:
        for number, pixels in enumerate(FRAMES):
            writer.write(number, pixels)
        writer.check(range(3), ROWS)
        monkeypatch.setattr("medseg.io.ctc_write.os.replace", fail_once)
        with pytest.raises(FileError, match="01_RES: not written: Input/output"):
            writer.publish()
    # Five files make room for four.
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_disk_that_fails_in_the_end_leaves_no_table(tmp_path, monkeypatch):
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    writer = ResultWriter(tmp_path, (4, 6))
    writer.write(0, mask(1))
    writer.check([0], [TrackRow(1, 0, 0)])
    monkeypatch.setattr("medseg.io.ctc_write.os.replace", full)
    with pytest.raises(DiskError, match="disk is full"):
        writer.publish()
    assert not (tmp_path / "res_track.txt").exists()


def test_a_folder_under_the_name_of_a_mask_is_left_alone(tmp_path):
    (tmp_path / "mask000.tif").mkdir(parents=True)
    with ResultWriter(tmp_path, (4, 6)) as writer:
        writer.write(0, mask(1))
        with pytest.raises(FileError, match="not written"):
            writer.finish([0], [TrackRow(1, 0, 0)])
    assert (tmp_path / "mask000.tif").is_dir()


def test_masks_that_read_back_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr("medseg.io.ctc_write.np.array_equal", lambda a, b: False)
    with pytest.raises(FileError, match="read back with other labels"):
        write_mask_file(tmp_path / "mask000.tif", mask(1))
    assert not list(tmp_path.iterdir())


# --- checking ---------------------------------------------------------------


def test_a_good_result_passes(tmp_path):
    folder = result(tmp_path / "01_RES")
    movie = movie_of(tmp_path / "01")
    validate_result(folder)
    validate_result(folder, movie)


def test_the_challenges_own_check_agrees(tmp_path):
    validate = pytest.importorskip("ctc_metrics.scripts.validate")
    folder = result(tmp_path)
    assert validate.validate_sequence(str(folder), threads=1)["Valid"] == 1
    put(folder, "mask001.tif", mask(0))
    with pytest.warns(UserWarning, match="not in mask"):
        assert validate.validate_sequence(str(folder), threads=1)["Valid"] == 0
    with pytest.raises(FileError, match="line 1: track 1 runs from 0 to 1"):
        validate_result(folder)


@pytest.mark.parametrize(
    ("name", "pixels", "words"),
    [
        ("mask001.tif", mask(0), r"line 1: track 1 runs.*mask001.tif does not hold it"),
        ("mask001.tif", mask(1, 7), r"label 7 has no line in res_track.txt"),
        ("mask002.tif", mask(1, 2, 3), r"label 1 is in frame 2, line 1 .* says 0 to 1"),
        ("mask001.tif", mask(1, shape=(4, 5)), r"a mask of 4 x 5 for frames of 4 x 6"),
        ("mask001.tif", mask(1).astype(np.uint8), r"pixels are uint8"),
        ("mask001.tif", mask(1).astype(np.int16), r"pixels are int16"),
        ("mask003.tif", mask(), r"the movie has no frame 3; it has 0 to 2"),
    ],
)
def test_problems_of_masks(tmp_path, name, pixels, words):
    folder = result(tmp_path / "01_RES")
    put(folder, name, pixels)
    with pytest.raises(FileError, match=words) as error:
        validate_result(folder, movie_of(tmp_path / "01"))
    assert error.value.remedy
    assert "\n" not in str(error.value)


def test_every_problem_is_found(tmp_path):
    folder = result(tmp_path / "01_RES")
    put(folder, "mask000.tif", mask(5))
    (folder / "mask002.tif").unlink()
    movie = movie_of(tmp_path / "01", 3)
    problems = [str(p) for p in find_problems(folder, movie)]
    assert len(problems) == 3
    assert "mask002.tif: frame 2 has no mask" in problems[0]
    assert "label 5 has no line" in problems[1]
    assert "track 1 runs from 0 to 1, mask000.tif does not" in problems[2]
    with pytest.raises(FileError, match="and 2 more problems"):
        validate_result(folder, movie)


def test_lines_beyond_the_movie(tmp_path):
    folder = result(tmp_path)
    table = folder / "res_track.txt"
    table.write_text(table.read_text().replace("3 2 2 1", "3 2 9 1"))
    with pytest.raises(FileError, match=r"line 3: track 3 is in frames 2 to 9"):
        validate_result(folder)


def test_nothing_to_check(tmp_path):
    with pytest.raises(FileError, match=r"res_track\.txt: cannot be opened"):
        validate_result(tmp_path)
    (tmp_path / "res_track.txt").touch()
    with pytest.raises(FileError, match="0 masks"):
        validate_result(tmp_path)


def test_an_empty_result_is_valid(tmp_path):
    with ResultWriter(tmp_path, (4, 6)) as writer:
        writer.write(0, mask())
        writer.finish([0], ())
    validate_result(tmp_path)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="no real data beside the checkout")
@pytest.mark.parametrize("name", ["Fluo-N2DH-SIM+", "Fluo-N2DH-GOWT1"])
def test_real_tables_and_masks(name):
    folder = SHARED / "ctc" / name / "01_GT"
    rows = read_track_table(folder / "TRA" / "man_track.txt")
    masks = open_masks(folder / "TRA", "track")
    assert max(row.end for row in rows) <= masks.frames[-1]
    present = set(np.unique(masks.read(0))) - {0}
    assert present == {row.label for row in rows if row.begin == 0}


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="no real data beside the checkout")
def test_the_official_result_is_valid():
    validate_result(SHARED / "ctc-scores" / "03_RES")

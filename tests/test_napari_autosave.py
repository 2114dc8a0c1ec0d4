"""What was painted is on the disk, whatever happens to napari."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from medseg.errors import DiskError, FileError

pytest.importorskip("napari")
from napari.layers import Labels

from medseg.napari_plugin import history, mask_journal, recovery
from medseg.napari_plugin.autosave import MaskWatch
from medseg.napari_plugin.mask_journal import (
    MAGIC,
    Header,
    JournalWriter,
    read_header,
    read_journal,
)


def header(shape: tuple[int, ...], **words: object) -> Header:
    return Header("heart", shape, "<i4", pid=os.getpid(), **words)


def watch(layer: Labels, path: Path, **words: object) -> MaskWatch:
    base = "file" if words.get("clean") else "zeros"
    shape = tuple(layer.data.shape)
    head = Header(layer.name, shape, layer.data.dtype.str, base)
    return MaskWatch(layer, lambda: JournalWriter(path, head), **words)


def random_mask(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, shape).astype(np.int32)


# The file


@pytest.mark.parametrize("dtype", ["u1", "<i4", ">u2", "<i8"])
def test_a_journal_replays_what_was_written(tmp_path, dtype) -> None:
    mask = random_mask((3, 40, 50)).astype(dtype)
    path = tmp_path / "a"
    writer = JournalWriter(path, Header("x", mask.shape, dtype, meta={"a": [1]}))
    for z in range(3):
        box = (slice(z, z + 1), slice(0, 40), slice(5, 50))
        writer.add(box, mask[box])
    writer.mark_whole()
    writer.flush(sync=True)
    found = read_journal(path)
    np.testing.assert_array_equal(found.mask[..., 5:], mask[..., 5:])
    assert not found.mask[..., :5].any()
    assert (found.tiles, found.whole, found.complete) == (3, True, True)
    assert read_header(path).meta == {"a": [1]}
    base = random_mask(mask.shape, 5)
    on_base = read_journal(path, base)
    np.testing.assert_array_equal(on_base.mask[..., :5], base[..., :5])
    if os.name == "posix":
        assert path.stat().st_mode & 0o077 == 0  # nobody else may look
    writer.remove()
    assert not path.exists()


def test_a_cut_off_record_is_dropped_and_the_rest_is_there(tmp_path) -> None:
    path = tmp_path / "a"
    writer = JournalWriter(path, header((4, 8)))
    sizes = []
    for row in range(4):
        writer.flush()
        sizes.append(path.stat().st_size)
        writer.add((slice(row, row + 1), slice(0, 8)), np.full((1, 8), row + 1, "i4"))
    writer.close()
    data = path.read_bytes()
    for size in [*range(sizes[0], len(data), 7), *sizes]:
        path.write_bytes(data[:size])
        whole = sum(size >= s for s in sizes) - 1
        found = read_journal(path)
        assert found.tiles == whole
        assert found.complete == (size in sizes)
        assert found.mask.max(initial=0) == whole


@pytest.mark.parametrize("place", [-1, -10, -20])
def test_a_damaged_record_ends_the_replay(tmp_path, place) -> None:
    path = tmp_path / "a"
    writer = JournalWriter(path, header((4, 8)))
    writer.add((slice(0, 1), slice(0, 8)), np.ones((1, 8), "i4"))
    writer.add((slice(1, 2), slice(0, 8)), np.ones((1, 8), "i4"))
    writer.close()
    data = bytearray(path.read_bytes())
    data[place] ^= 255
    path.write_bytes(data)
    found = read_journal(path)
    assert (found.tiles, found.complete) == (1, False)


def test_tiles_that_do_not_fit_are_dropped(tmp_path) -> None:
    boxes = [(slice(0, 9), slice(0, 8)), (slice(0, 1),), (slice(3, 2), slice(0, 8))]
    for number, box in enumerate(boxes):
        path = tmp_path / str(number)
        writer = JournalWriter(path, header((4, 8)))
        writer.add(box, np.ones((9, 8), "i4"))
        writer.close()
        assert read_journal(path).tiles == 0
    writer = JournalWriter(tmp_path / "short", header((4, 8)))
    writer.add((slice(0, 1), slice(0, 8)), np.ones((1, 7), "i4"))
    writer.close()
    assert read_journal(tmp_path / "short").tiles == 0


def test_files_that_are_no_journals_are_refused(tmp_path) -> None:
    path = tmp_path / "a"
    with pytest.raises(FileError, match="cannot be read"):
        read_header(path)
    path.write_bytes(b"something else entirely")
    with pytest.raises(FileError, match="no mask journal"):
        read_journal(path)
    path.write_bytes(MAGIC)
    with pytest.raises(FileError, match="damaged header"):
        read_header(path)
    record = mask_journal._record
    path.write_bytes(MAGIC + record(b"H", b'{"shape": "x"}'))
    with pytest.raises(FileError, match="bad header"):
        read_header(path)
    path.unlink()
    JournalWriter(path, Header("x", (2, 2), "<f4")).close()
    with pytest.raises(FileError, match="no labels"):
        read_journal(path)
    path.unlink()
    JournalWriter(path, header((2, 2))).close()
    with pytest.raises(FileError, match=r"its base has \(3, 2\)"):
        read_journal(path, np.zeros((3, 2), int))
    with pytest.raises(FileError, match="not written"):
        JournalWriter(path, header((2, 2)))  # never over another journal
    with pytest.raises(FileError, match="not written"):
        JournalWriter(tmp_path / "no" / "folder", header((2, 2)))


def test_a_full_disk_is_named_and_what_waits_is_written_later(
    tmp_path, monkeypatch
) -> None:
    path = tmp_path / "a"
    writer = JournalWriter(path, header((4, 8)))
    size = path.stat().st_size
    write = os.write

    def full(handle: int, data: bytes) -> int:
        if path.stat().st_size == size:
            return write(handle, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    writer.add((slice(0, 4), slice(0, 8)), np.ones((4, 8), "i4"))
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskError, match="disk is full"):
        writer.flush()
    assert path.stat().st_size == size
    monkeypatch.undo()
    writer.flush()
    assert read_journal(path).mask.all()


def test_a_journal_that_cannot_begin_leaves_no_file(tmp_path, monkeypatch) -> None:
    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskError, match="disk is full"):
        JournalWriter(tmp_path / "a", header((4, 8)))
    assert not list(tmp_path.iterdir())


def test_a_journal_is_open_until_its_writer_lets_go(tmp_path) -> None:
    pytest.importorskip("fcntl")
    writer = JournalWriter(tmp_path / "a", header((4, 8)))
    assert mask_journal.is_open(tmp_path / "a") is True
    writer.flush(sync=True)  # on a copy, in a thread that may take long
    writer.close()
    assert mask_journal.is_open(tmp_path / "a") is False
    assert mask_journal.is_open(tmp_path / "b") is None


@pytest.mark.parametrize(
    ("held", "host", "pid", "alive"),
    [
        (True, "here", 0, True),
        (True, "elsewhere", 0, True),  # whatever runs here under its number
        (False, "elsewhere", os.getpid(), False),
        (None, "elsewhere", 0, True),  # nobody can know: leave it alone
        (False, "here", os.getpid(), True),  # closed, and its napari goes on
        (False, "here", 0, False),
        (None, "", 0, False),
    ],
)
def test_whose_journals_are_lost(
    tmp_path, monkeypatch, held: bool | None, host: str, pid: int, alive: bool
) -> None:
    monkeypatch.setattr(recovery, "is_open", lambda path: held)
    monkeypatch.setattr(recovery.socket, "gethostname", lambda: "here")
    started = recovery.process_start() if pid else 0.0
    head = Header("m", (4, 8), "<i4", pid=pid, started=started, host=host)
    assert recovery.is_alive(tmp_path / "a", head) is alive


# The layer


def test_strokes_edits_undo_and_redo_are_kept(tmp_path) -> None:
    path = tmp_path / "a"
    layer = Labels(np.zeros((3, 130, 140), np.int32))
    follower = watch(layer, path)
    assert not follower.changed
    assert follower.save()
    assert not path.exists()  # nothing to keep, no file

    def check() -> None:
        assert follower.behind
        follower.save_all()
        np.testing.assert_array_equal(read_journal(path).mask, layer.data)

    layer.paint((1, 50, 60), 2)
    assert follower.changed
    check()
    history.apply_mask(layer, random_mask((130, 140)), (2, slice(None), slice(None)))
    check()
    layer.undo()
    check()
    layer.undo()
    check()
    assert not layer.data.any()
    layer.redo()
    layer.redo()
    check()
    layer.fill((0, 0, 0), 3)
    check()
    layer.data = random_mask((3, 130, 140), 2)
    check()
    assert not follower.behind


def test_a_stroke_that_met_a_full_disk_is_written_by_the_next_try(
    tmp_path, monkeypatch
) -> None:
    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    layer = Labels(np.zeros((256, 256), np.int32))
    kept = watch(layer, tmp_path / "a")
    layer.paint((5, 5), 1)
    kept.save_all()
    layer.paint((200, 200), 3)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskError, match="disk is full"):
        kept.save_all()
    monkeypatch.undo()
    assert kept.behind
    assert kept.save()
    assert not kept.behind
    np.testing.assert_array_equal(read_journal(tmp_path / "a").mask, layer.data)


def test_a_slice_that_was_written_without_a_word_is_kept(tmp_path) -> None:
    layer = Labels(np.zeros((2, 3, 200, 130), np.int32))
    kept = watch(layer, tmp_path / "a")
    layer.data[1, 2] = random_mask((200, 130))
    assert not kept.changed
    kept.wrote((1, 2))
    assert kept.changed
    kept.save_all()
    journal = read_journal(tmp_path / "a")
    np.testing.assert_array_equal(journal.mask, layer.data)
    assert journal.tiles == 4  # 2 x 2 of this slice, none of the others


def test_a_stroke_writes_only_its_tiles(tmp_path) -> None:
    path = tmp_path / "a"
    layer = Labels(np.zeros((8, 512, 512), np.int32))
    follower = watch(layer, path)
    layer.paint((4, 10, 10), 1)
    follower.save_all()
    found = read_journal(path)
    assert (found.tiles, found.whole) == (1, True)
    size = path.stat().st_size
    assert size < 2000
    follower.save_all()
    assert path.stat().st_size == size


def test_a_mask_from_a_file_begins_with_the_changes(tmp_path) -> None:
    path = tmp_path / "a"
    before = random_mask((2, 256, 256)) + 1
    layer = Labels(before.copy())
    follower = watch(layer, path, clean=True)
    follower.save_all()
    assert not path.exists()
    assert not follower.changed
    layer.data_setitem((np.array([0]), np.array([3]), np.array([4])), 9)
    follower.save(0.0)  # the stroke is there before the rest of the mask
    early = read_journal(path, before)
    np.testing.assert_array_equal(early.mask, layer.data)
    assert not early.whole
    follower.save_all()
    late = read_journal(path)
    np.testing.assert_array_equal(late.mask, layer.data)
    assert late.whole


def test_erasing_is_kept_before_the_rest_of_the_mask(tmp_path) -> None:
    path = tmp_path / "a"
    before = random_mask((128, 300)) + 1
    layer = Labels(before.copy())
    follower = watch(layer, path, clean=True)
    erased = np.zeros((128, 300), int)
    history.apply_mask(layer, erased)
    for _ in range(3):
        follower.save(0.0)
    assert not read_journal(path, before).mask.any()


def test_a_new_mask_from_a_model_is_kept_at_once(tmp_path) -> None:
    layer = Labels(random_mask((60, 70)))
    follower = watch(layer, tmp_path / "a")
    assert follower.changed
    follower.save_all()
    np.testing.assert_array_equal(read_journal(tmp_path / "a").mask, layer.data)


def test_saving_removes_the_journal_and_the_next_stroke_begins_another(
    tmp_path,
) -> None:
    path = tmp_path / "a"
    layer = Labels(random_mask((60, 70)))
    follower = watch(layer, path)
    follower.save_all()
    follower.saved()
    assert not path.exists()
    assert not follower.changed
    layer.paint((30, 30), 3)
    assert follower.changed
    follower.save_all()
    np.testing.assert_array_equal(read_journal(path).mask, layer.data)


def test_another_shape_begins_another_journal(tmp_path) -> None:
    names = iter("abc")
    layer = Labels(random_mask((60, 70)))
    follower = MaskWatch(
        layer,
        lambda: JournalWriter(tmp_path / next(names), header(tuple(layer.data.shape))),
    )
    follower.save_all()
    layer.data = random_mask((50, 60))
    follower.save_all()
    assert not (tmp_path / "a").exists()
    np.testing.assert_array_equal(read_journal(tmp_path / "b").mask, layer.data)


def test_stopping_keeps_or_deletes_and_listens_no_more(tmp_path) -> None:
    for keep in (True, False):
        path = tmp_path / str(keep)
        layer = Labels(random_mask((60, 70)))
        follower = watch(layer, path)
        follower.save_all()
        follower.stop(keep=keep)
        layer.paint((30, 30), 3)
        assert path.exists() == keep
        assert not follower.behind


def test_history_items_of_an_unknown_kind_are_looked_for_everywhere(tmp_path) -> None:
    path = tmp_path / "a"
    layer = Labels(np.zeros((60, 300), np.int32))
    follower = watch(layer, path)
    for value in (None, ["?"], [("?", 1)], [((np.array([0.5]),) * 2, 1)], []):
        layer.data[5, 5 + len(str(value))] += 1  # as some other plugin would
        layer.events.paint(value=value)
        follower.save_all()
        np.testing.assert_array_equal(read_journal(path).mask, layer.data)


def test_lazy_masks_are_followed_where_they_are_painted(tmp_path) -> None:
    zarr = pytest.importorskip("zarr")
    data = zarr.array(random_mask((3, 256, 256)) + 1)
    layer = Labels(data)
    follower = watch(layer, tmp_path / "a", clean=True)
    layer.data_setitem((np.array([0]), np.array([3]), np.array([4])), 9)
    follower.save_all()
    found = read_journal(tmp_path / "a")
    assert (found.tiles, found.whole) == (1, False)  # its file holds the rest
    assert found.mask[0, 3, 4] == 9


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from napari.components import ViewerModel
from medseg.napari_plugin.autosave import MaskWatch
from medseg.napari_plugin.mask_journal import Header, JournalWriter
layer = ViewerModel().add_labels(np.zeros((8, 256, 256), np.uint8))
head = Header("x", layer.data.shape, "|u1")
follower = MaskWatch(layer, lambda: JournalWriter(Path(sys.argv[1]), head))
for step in range(10_000):
    layer.paint((step % 8, step // 8 % 25 * 10, step // 200 % 25 * 10), 1)
    follower.save()
    print(step, np.count_nonzero(layer.data), flush=True)
"""


@pytest.mark.slow
def test_killing_napari_loses_no_stroke_that_was_saved(tmp_path) -> None:
    path = tmp_path / "a"
    with subprocess.Popen(
        [sys.executable, "-P", "-c", KILLED, str(path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        lines = [""]
        while not lines[-1].startswith("20 "):
            lines.append(run.stdout.readline())
            assert run.poll() is None
        time.sleep(0.05)
        run.kill()
        lines += [line for line in run.stdout if line.endswith("\n")]
    found = read_journal(path)
    # A stroke may have been saved but not printed yet.
    assert np.count_nonzero(found.mask) >= int(lines[-1].split()[1])


def test_saving_keeps_to_its_time(tmp_path) -> None:
    layer = Labels(np.zeros((2, 256, 256), np.int32))
    follower = watch(layer, tmp_path / "a")
    history.apply_mask(layer, random_mask((2, 256, 256)))
    calls = 1
    while not follower.save(0.0):
        calls += 1
    assert calls == 8  # a tile a call when there is no time
    np.testing.assert_array_equal(read_journal(tmp_path / "a").mask, layer.data)

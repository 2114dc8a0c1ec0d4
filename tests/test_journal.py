"""The journal, what counts as done, and the lock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from medseg.batch.items import Item
from medseg.batch.journal import (
    Entry,
    Journal,
    Output,
    hash_config,
    hash_source,
    is_done,
)
from medseg.errors import DiskError, LockedError
from medseg.io.lock import LOCK_NAME, hold


def entry(name: str = "a.png", **changes: object) -> Entry:
    base = Entry(name, "done", "config", "model", 3, 7, sha256="abc")
    return replace(base, **changes)


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Item, Entry]:
    """A source, its mask in ``out``, and the entry that records both."""
    source, mask = tmp_path / "a.png", tmp_path / "out" / "a.png"
    source.write_bytes(b"film")
    mask.parent.mkdir()
    mask.write_bytes(b"mask")
    state = source.stat()
    item = Item(source, "a.png", "a.png", ("a.png",), state.st_size, state.st_mtime_ns)
    done = entry(
        size=item.size,
        mtime_ns=item.mtime_ns,
        sha256=hash_source(item),
        outputs=(Output.of(mask.parent, "a.png"),),
    )
    return item, done


def ready(item: Item, done: Entry | None, out: Path, **changes: object) -> bool:
    options = {"config": "config", "model": "model"} | changes
    return is_done(done, item, out, **options)


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    first = entry(
        outputs=(Output("a.png", 4, "ff"),), warnings=("w",), seconds={"read": 0.5}
    )
    journal.append(first)
    journal.append(entry("odd \n \udcff name", status="failed", error="x: y."))
    assert dict(journal.read()) == {
        "a.png": first,
        "odd \n \udcff name": entry(
            "odd \n \udcff name", status="failed", error="x: y."
        ),
    }


def test_the_last_line_of_a_case_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(entry(status="failed"))
    journal.append(entry(status="done"))
    assert journal.read()["a.png"].status == "done"
    assert len(journal.read()) == 1


def test_a_journal_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert not Journal(tmp_path).read()


@pytest.mark.parametrize("cut", [2, 10, 40])
def test_a_torn_last_line_is_ignored_and_the_next_one_kept(
    tmp_path: Path, cut: int
) -> None:
    journal = Journal(tmp_path)
    journal.append(entry("a.png"))
    journal.append(entry("b.png"))
    with journal.path.open("r+b") as file:
        file.truncate(journal.path.stat().st_size - cut)
    assert set(journal.read()) == {"a.png"}
    journal.append(entry("c.png"))
    assert set(journal.read()) == {"a.png", "c.png"}


@pytest.mark.parametrize(
    "line",
    [
        b"not json\n",
        b"[1, 2]\n",
        b"null\n",
        b"{}\n",
        b'{"name": "a"}\n',
        b"\xff\xfe\n",
        b"[" * 5000 + b"\n",
    ],
)
def test_foreign_lines_are_ignored(tmp_path: Path, line: bytes) -> None:
    journal = Journal(tmp_path)
    journal.path.write_bytes(line)
    journal.append(entry())
    assert set(journal.read()) == {"a.png"}


def test_an_unknown_status_or_field_is_ignored(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    lines = [
        entry("a").to_json() | {"status": "perhaps"},
        entry("b").to_json() | {"new": 1},
    ]
    journal.path.write_text("".join(json.dumps(x) + "\n" for x in lines))
    assert not journal.read()


def test_a_line_rewritten_by_somebody_is_a_missing_key(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(entry())
    entries = journal.read()
    journal.path.write_text("{}\n")
    with pytest.raises(KeyError):
        entries["a.png"]


def test_a_journal_that_cannot_be_written_is_a_disk_error(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "missing")
    with pytest.raises(DiskError, match="cannot be written"):
        journal.append(entry())


def test_a_short_write_is_a_disk_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:5]))
    with pytest.raises(DiskError, match="5 of"):
        Journal(tmp_path).append(entry())


def test_a_recorded_mask_is_done(finished: tuple[Item, Entry], tmp_path: Path) -> None:
    assert ready(*finished, tmp_path / "out")


@pytest.mark.parametrize(
    "changes", [{"config": "other"}, {"model": "other"}], ids=["config", "model"]
)
def test_another_configuration_or_model_is_not_done(
    finished: tuple[Item, Entry], tmp_path: Path, changes: dict[str, str]
) -> None:
    assert not ready(*finished, tmp_path / "out", **changes)


def test_failed_and_unknown_cases_are_not_done(
    finished: tuple[Item, Entry], tmp_path: Path
) -> None:
    item, done = finished
    assert not ready(item, None, tmp_path / "out")
    assert not ready(item, replace(done, status="failed"), tmp_path / "out")
    assert not ready(item, replace(done, outputs=()), tmp_path / "out")


def test_a_mask_of_another_size_or_none_is_not_done(
    finished: tuple[Item, Entry], tmp_path: Path
) -> None:
    mask = tmp_path / "out" / "a.png"
    mask.write_bytes(b"mas")
    assert not ready(*finished, tmp_path / "out")
    mask.unlink()
    assert not ready(*finished, tmp_path / "out")


def test_other_bytes_of_the_same_size_are_seen_by_their_time_or_by_verify(
    finished: tuple[Item, Entry], tmp_path: Path
) -> None:
    assert ready(*finished, tmp_path / "out", verify=True)
    mask = tmp_path / "out" / "a.png"
    then = mask.stat().st_mtime_ns
    os.utime(mask, ns=(then + 1, then + 1))
    assert ready(*finished, tmp_path / "out")  # touched
    mask.write_bytes(b"kasm")
    assert not ready(*finished, tmp_path / "out")
    os.utime(mask, ns=(then, then))
    assert ready(*finished, tmp_path / "out")
    assert not ready(*finished, tmp_path / "out", verify=True)


def test_what_was_written_last_to_a_path_is_found_by_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(entry("a.png", outputs=(Output("a.png", 4, "ff"),)))
    journal.append(entry("a.jpg", outputs=(Output("a.png", 5, "ee"),)))
    journal.append(entry("b.png", status="failed"))
    entries = journal.read()
    assert entries.written("a.png") == Output("a.png", 5, "ee")
    assert entries.written("b.png") is None
    assert set(entries.paths()) == {"a.png"}


def test_a_touched_source_is_done_and_a_changed_one_is_not(
    finished: tuple[Item, Entry], tmp_path: Path
) -> None:
    item, done = finished
    touched = replace(item, mtime_ns=item.mtime_ns + 1)
    assert ready(touched, done, tmp_path / "out")
    item.source.write_bytes(b"fiim")
    assert not ready(touched, done, tmp_path / "out")
    assert not ready(replace(item, size=5), done, tmp_path / "out")
    item.source.unlink()
    assert not ready(touched, done, tmp_path / "out")


def test_the_hash_of_a_series_depends_on_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    (folder / "1.dcm").write_bytes(b"one")
    (folder / "2.dcm").write_bytes(b"two")
    item = Item(folder, "series", "series.nii.gz", (), 6, 0, series=True)
    first = hash_source(item)
    assert hash_source(item) == first
    (folder / "2.dcm").write_bytes(b"owt")
    assert hash_source(item) != first


def test_the_hash_of_a_configuration_has_no_order() -> None:
    assert hash_config({"a": 1, "b": [2]}) == hash_config({"b": [2], "a": 1})
    assert hash_config({"a": 1}) != hash_config({"a": 2})


def test_a_lock_is_gone_after_the_block_also_on_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), hold(tmp_path):
        assert (tmp_path / LOCK_NAME).exists()
        raise RuntimeError
    assert not (tmp_path / LOCK_NAME).exists()
    with hold(tmp_path):
        pass


def test_a_second_holder_is_told_who_is_first(tmp_path: Path) -> None:
    with (
        hold(tmp_path),
        pytest.raises(LockedError, match=f"process {os.getpid()} on "),
        hold(tmp_path),
    ):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib\n"
        "from medseg.io.lock import _take\n"
        "_take(pathlib.Path(sys.argv[1]))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, tmp_path / LOCK_NAME])
    assert killed.returncode == -9
    assert (tmp_path / LOCK_NAME).exists()
    with hold(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_a_disk_error(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="cannot be written"), hold(tmp_path / "no"):
        pass

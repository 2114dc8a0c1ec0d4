"""A file is whole under its name or not there at all, whatever call fails."""

from __future__ import annotations

import errno
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from medseg.errors import DiskError, ExitCode, FileError, MedsegError
from medseg.geometry import Geometry
from medseg.io import atomic, read_segmentation, write_segmentation
from medseg.labels import Label, LabelSet
from medseg.segmentation import Segmentation

if TYPE_CHECKING:
    from collections.abc import Iterator
from contextlib import contextmanager

CELLS = LabelSet((Label(1, "cell", "#ffffff"),), "instances")
OLD = Segmentation(np.eye(6, dtype=np.uint8), CELLS, Geometry.pixels(2))
NEW = Segmentation(np.arange(36).reshape(6, 6), CELLS, Geometry.upright((0.5, 0.25)))


class _Countdown:
    """Fails call number ``fatal`` of all counted calls."""

    def __init__(self, fatal: int, code: int) -> None:
        self.left, self.code = fatal, code
        self.fired = False

    def tick(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.fired = True
            raise OSError(self.code, os.strerror(self.code))


class _Stream(io.FileIO):
    def __init__(self, path: Path, mode: str, countdown: _Countdown) -> None:
        super().__init__(path, mode.replace("b", ""))
        self._countdown = countdown

    def write(self, data: Any) -> int:
        self._countdown.tick()
        return super().write(data)

    def flush(self) -> None:
        if not self.closed:
            self._countdown.tick()
        super().flush()


def _break(patch: pytest.MonkeyPatch, countdown: _Countdown) -> None:
    def counted(real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            countdown.tick()
            return real(*args, **kwargs)

        return call

    patch.setattr(atomic.os, "fsync", counted(lambda handle: None))
    for name in ("open", "replace"):
        patch.setattr(atomic.os, name, counted(getattr(os, name)))
    patch.setattr(Path, "mkdir", counted(Path.mkdir))
    real_open = Path.open

    def opened(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        countdown.tick()
        if "w" in mode:
            return _Stream(self, mode, countdown)
        return real_open(self, mode, *args, **kwargs)

    patch.setattr(Path, "open", opened)


def _attempt(path: Path) -> MedsegError | None:
    try:
        write_segmentation(NEW, path)
    except (DiskError, FileError) as error:
        return error
    return None


@pytest.mark.parametrize("suffix", [".tif", ".nii", ".nii.gz", ".nrrd", ".mha", ".png"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EMFILE])
def test_whatever_call_fails_the_final_file_is_old_or_new(
    suffix: str, code: int, tmp_path: Path
) -> None:
    path = tmp_path / f"mask{suffix}"
    write_segmentation(NEW, path)
    new = path.read_bytes()
    write_segmentation(OLD, path)
    old = path.read_bytes()
    for fatal in range(1, 61):
        path.write_bytes(old)
        countdown = _Countdown(fatal, code)
        with pytest.MonkeyPatch.context() as patch:
            _break(patch, countdown)
            failure = _attempt(path)
        failed = failure is not None
        if isinstance(failure, DiskError):
            assert failure.exit_code == ExitCode.DISK
            assert code in (errno.ENOSPC, errno.EACCES)
        assert failed == countdown.fired
        assert path.read_bytes() in (old, new)
        assert failed or path.read_bytes() == new
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
        if not countdown.fired:
            break
    assert fatal > 5


@contextmanager
def small_files() -> Iterator[None]:
    """Forbid files of more than 4 kB; short, for the test's own log is a file too."""
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.skipif(os.name != "posix", reason="needs resource limits")
def test_a_file_larger_than_allowed_leaves_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 2**31, (64, 64))
    seg = Segmentation(noise, CELLS, Geometry.pixels(2))
    with pytest.raises(FileError, match="not written"), small_files():
        write_segmentation(seg, tmp_path / "m.nii.gz")
    assert not list(tmp_path.iterdir())


def test_a_failing_body_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic.replace_file(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_refused_verification_leaves_what_was_there(tmp_path: Path) -> None:
    def refuse(part: Path) -> None:
        assert part.read_text() == "new"
        raise FileError(part, "no")

    with pytest.raises(FileError), atomic.replace_file(tmp_path / "a", refuse) as part:
        part.write_text("new")
    assert not list(tmp_path.iterdir())


def test_the_part_lies_beside_the_file_under_our_pattern(tmp_path: Path) -> None:
    name = "x" * 250 + ".tif"
    with atomic.replace_file(tmp_path / "deep" / name) as part:
        assert part.parent == tmp_path / "deep"
        assert atomic._STALE.fullmatch(part.name)
        assert str(os.getpid()) in part.name
    assert (tmp_path / "deep" / name).stat().st_size == 0


def test_bytes_are_written_whole(tmp_path: Path) -> None:
    assert atomic.write_bytes(tmp_path / "b", b"abc").read_bytes() == b"abc"


def test_stale_parts_and_nothing_else_are_removed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    stale = [tmp_path / ".m.tif.123.0a1b2c3d.part", tmp_path / "sub/.x.9.deadbeef.part"]
    kept = [tmp_path / "m.part", tmp_path / ".m.tif.123.xyz.part", tmp_path / "a.tif"]
    for path in (*stale, *kept):
        path.write_bytes(b"")
        os.utime(path, (0, 0))
    (tmp_path / ".l.1.0a1b2c3d.part").symlink_to(kept[0])
    assert atomic.remove_stale(tmp_path) == 2
    assert not any(p.exists() for p in stale)
    assert all(p.exists() for p in kept)


def test_what_a_living_process_is_writing_is_not_removed(tmp_path: Path) -> None:
    mine, other = os.getpid(), os.getppid()
    young = tmp_path / f".a.tif.{other}.0a1b2c3d.part"
    old = tmp_path / f".b.tif.{other}.0a1b2c3d.part"
    own = tmp_path / f".c.tif.{mine}.0a1b2c3d.part"  # numbers come again
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    dead = tmp_path / f".d.tif.{ended.pid}.0a1b2c3d.part"
    for path in (young, old, own, dead):
        path.touch()
    os.utime(old, (0, 0))
    assert atomic.remove_stale(tmp_path) == 3
    assert list(tmp_path.iterdir()) == [young]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, DiskError),
        (errno.EROFS, DiskError),
        (errno.EIO, FileError),
        (None, FileError),
    ],
)
def test_system_errors_become_ours(
    code: int | None, kind: type, tmp_path: Path
) -> None:
    error = OSError(code, os.strerror(code)) if code else OSError()
    assert isinstance(atomic.write_error(tmp_path, error), kind)


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("no folder")
    problem = re.escape(f"{tmp_path / 'folder'} is a file, not a folder")
    for path in ("folder/m.tif", "folder/deeper/m.tif"):
        with pytest.raises(FileError, match=problem):
            write_segmentation(OLD, tmp_path / path)
    assert (tmp_path / "folder").read_text() == "no folder"


def test_a_folder_in_the_way_is_a_file_error(tmp_path: Path) -> None:
    (tmp_path / "m.tif" / "x").mkdir(parents=True)
    with pytest.raises(FileError, match="not written"):
        write_segmentation(OLD, tmp_path / "m.tif")
    assert [p.name for p in tmp_path.iterdir()] == ["m.tif"]


@pytest.mark.parametrize(
    "loss", [lambda pixels: pixels * 0, lambda pixels: pixels[:-1]]
)
def test_a_writer_that_loses_pixels_is_caught(
    loss: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.io import write

    real = write._ENCODERS["tiff"]

    def careless(
        stream: Any, path: Path, pixels: Any, geometry: Any, block: Any
    ) -> None:
        real(stream, path, loss(pixels), geometry, block)

    monkeypatch.setitem(write._ENCODERS, "tiff", careless)
    with pytest.raises(FileError, match="read back with other pixels"):
        write_segmentation(OLD, tmp_path / "m.tif")
    assert not list(tmp_path.iterdir())


def test_a_writer_that_loses_geometry_or_labels_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.io import write
    from medseg.io.block import Block

    real = write._ENCODERS["tiff"]
    for block, word in (
        (Block(Geometry.upright((9.0, 9.0)), OLD.labels), "geometry"),
        (Block(OLD.geometry, None), "labels"),
    ):

        def careless(
            stream: Any,
            path: Path,
            pixels: Any,
            geometry: Any,
            _: Any,
            block: Any = block,
        ) -> None:
            real(stream, path, pixels, geometry, block)

        monkeypatch.setitem(write._ENCODERS, "tiff", careless)
        with pytest.raises(FileError, match=f"other {word}"):
            write_segmentation(OLD, tmp_path / "m.tif")
        assert not list(tmp_path.iterdir())


def test_old_files_are_still_read_after_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    write_segmentation(OLD, path)
    big = Segmentation(np.full((2, 2), 70_000), CELLS, Geometry.pixels(2))
    with pytest.raises(FileError):
        write_segmentation(big, path)
    np.testing.assert_array_equal(read_segmentation(path).mask, OLD.mask)

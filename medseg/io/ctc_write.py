"""Write a tracking result: all of it in the end, or nothing."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError, FileError, counted
from medseg.io.atomic import make_folder, replace_file, sync_folder, write_error
from medseg.io.ctc_validate import TABLE, plain_shape, validate_result
from medseg.io.track_table import MAX_LABEL, write_track_table

if TYPE_CHECKING:
    from types import TracebackType

    from medseg.lineage import TrackRow

FILLED = "filled.csv"
"""Frame and cell of the masks that were made up to close gaps, if there are any."""
STAGE = ".medseg-track"
ASIDE = ".medseg-track-former"


class ResultWriter:
    """Collects the masks of a movie and puts the result in place when it is whole.

    Until `publish`, all files are in ``stage``, the folder ``.medseg-track`` inside
    the result's: a run that was stopped leaves no mask and no track table where a
    result is looked for. Leaving the context removes that folder.

    Args:
        folder: Of the result, such as ``01_RES``.
        shape: Of one frame ``([Z,] Y, X)``.
        digits: Of the frame numbers in names; 3, or 4 for 1000 frames and more.

    Raises:
        ConfigError: If the shape has not 2 or 3 axes, or digits is not 3 to 9.
        DiskError: If the folder is not writable.
    """

    def __init__(
        self, folder: str | os.PathLike[str], shape: Sequence[int], digits: int = 3
    ) -> None:
        self.folder = Path(folder)
        self.shape = tuple(int(n) for n in shape)
        if len(self.shape) not in (2, 3) or min(self.shape) < 1:
            raise ConfigError("shape", f"{self.shape}", "Give ([z,] y, x) of a frame")
        if not 3 <= digits <= 9:
            raise ConfigError("digits", f"is {digits}", "Use 3, or 4 from 1000 frames")
        self.digits = digits
        self.stage = self.folder / STAGE
        self._written: set[int] = set()
        try:
            if self.stage.exists():
                shutil.rmtree(self.stage)
        except OSError as error:
            raise write_error(self.stage, error) from error
        make_folder(self.stage)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.stage, ignore_errors=True)

    def write(self, frame: int, labels: NDArray[Any]) -> None:
        """Stage the mask ``([Z,] Y, X)`` of a frame; call in any order.

        Raises:
            FileError: If it has another shape, or labels that 16 bits do not hold.
            DiskError: If the disk is full or not writable.
        """
        name = f"mask{frame:0{self.digits}d}.tif"
        mask = as_challenge_mask(self.folder / name, labels, self.shape)
        write_mask_file(self.stage / name, mask)
        self._written.add(frame)

    def check(self, frames: Sequence[int], rows: Sequence[TrackRow]) -> None:
        """Stage the track table and check the result.

        Args:
            frames: All frames of the movie.
            rows: The track table.

        Raises:
            FileError: If the frames are not those written, or masks and rows
                disagree.
            DiskError: If the disk is full or not writable.
        """
        odd = sorted(self._written.symmetric_difference(frames))
        if odd:
            raise FileError(
                self.folder,
                f"{counted(len(self._written), 'mask')} for "
                f"{counted(len(frames), 'frame')}; frame {odd[0]} "
                f"has no {'movie' if odd[0] in self._written else 'mask'}",
                "Write one for every frame, also for one without cells",
            )
        write_track_table(rows, self.stage / TABLE)
        validate_result(self.stage)

    def publish(self) -> Path:
        """Put all that is staged in place, the track table last; return the folder.

        What an earlier result left in the folder under the same kind of name goes,
        when all is in place; on an error it comes back. What else lies in a folder
        that is written into stays.

        Raises:
            DiskError: If the disk is full or not writable.
            FileError: On any other failure to move a file.
        """
        moved: list[tuple[Path, Path]] = []

        def move(path: Path, target: Path) -> None:
            target.parent.mkdir(exist_ok=True)
            os.replace(path, target)
            moved.append((path, target))

        aside = self.folder / ASIDE
        try:
            new = sorted(self._staged(), key=lambda p: p.name == TABLE)
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            # The table first: without it this is no longer a whole result.
            for old in (*self._former(), *(self.folder / name for name in new)):
                if old.exists():
                    move(old, aside / old.relative_to(self.folder))
            for name in new:
                move(self.stage / name, self.folder / name)
            sync_folder(self.folder)
        except BaseException as error:
            for path, target in reversed(moved):
                with suppress(OSError):
                    os.replace(target, path)
            for path in (*aside.glob("*"), aside):
                with suppress(OSError):  # what could not be put back stays in it
                    path.rmdir()
            if isinstance(error, OSError):
                raise write_error(self.folder, error) from error
            raise
        shutil.rmtree(aside, ignore_errors=True)
        return self.folder

    def _staged(self) -> Iterator[Path]:
        """Yield what is staged by name; a folder that is there already is gone into."""
        for path in self.stage.iterdir():
            inner = path.is_dir() and (self.folder / path.name).is_dir()
            for each in path.iterdir() if inner else (path,):
                yield each.relative_to(self.stage)

    def _former(self) -> list[Path]:
        """Return the files of an earlier result, the track table first."""
        masks = (
            p for p in self.folder.glob("mask*.tif") if p.stem[len("mask") :].isdigit()
        )
        found = [self.folder / TABLE, self.folder / FILLED, *masks]
        if any(path.is_dir() for path in found):  # somebody's: it is not for us to move
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return found

    def finish(self, frames: Sequence[int], rows: Sequence[TrackRow]) -> Path:
        """Check the result and put it in place; see `check` and `publish`."""
        self.check(frames, rows)
        return self.publish()


def as_challenge_mask(
    path: Path, labels: NDArray[Any], shape: tuple[int, ...]
) -> NDArray[np.uint16]:
    """Return labels as the uint16 of a challenge mask; never wraps.

    Raises:
        FileError: If they are no integers, of another shape, or outside 0 to 65535.
    """
    if labels.dtype.kind not in "biu":
        raise FileError(path, f"labels are {labels.dtype}", "Give whole numbers")
    if plain_shape(labels.shape) != plain_shape(shape):
        raise FileError(path, f"a mask of {labels.shape} for frames of {shape}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > MAX_LABEL:
        raise FileError(
            path,
            f"labels from {low} to {high}, a challenge mask holds 0 to {MAX_LABEL}",
            "Number the cells from 1, or split the movie",
        )
    return labels.astype(np.uint16)


def write_mask_file(path: Path, labels: NDArray[Any]) -> Path:
    """Write one mask ``([Z,] Y, X)`` as the challenge does: uint16, LZW.

    Raises:
        FileError: If 16 bits do not hold it.
        DiskError: If the disk is full or not writable.
    """
    import tifffile

    mask = as_challenge_mask(path, labels, labels.shape)
    with replace_file(path, lambda part: _check_same(path, part, mask)) as part:
        tifffile.imwrite(
            part,
            mask,
            photometric="minisblack",
            compression="lzw",
            metadata=None,
            software="medseg",
            maxworkers=1,
        )
    return path


def _check_same(path: Path, part: Path, mask: NDArray[np.uint16]) -> None:
    import tifffile

    with tifffile.TiffFile(part, is_ome=False) as file:
        planes = [page.asarray(maxworkers=1) for page in file.pages]
    if not np.array_equal(np.stack(planes).reshape(mask.shape), mask):
        raise FileError(path, "read back with other labels than written; not kept")

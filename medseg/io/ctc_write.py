"""Write a tracking result frame by frame, so that a stopped run can go on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError, FileError, MedsegError
from medseg.io.atomic import replace_file, sync_folder, write_bytes, write_error
from medseg.io.ctc_masks import read_mask_file
from medseg.io.ctc_validate import TABLE, validate_result
from medseg.io.track_table import MAX_LABEL, write_track_table

if TYPE_CHECKING:
    from types import TracebackType

    from medseg.lineage import TrackRow

WORK = ".medseg-track"
_KEY = "key.json"
_RAW, _READY = "cells", "ready"

Relabel = Callable[[int, NDArray[np.uint16]], NDArray[Any]]


class ResultWriter:
    """Collects the masks of a movie and puts the result in place when it is whole.

    Until `finish`, all files are in ``<folder>/.medseg-track``: a run that was
    stopped leaves no mask and no track table where a result is looked for. A later
    writer with the same ``key`` finds the frames again (`done`).

    Used as a context, leaving it does not finish the result.

    Args:
        folder: Of the result, such as ``01_RES``.
        shape: Of one frame ``([Z,] Y, X)``.
        digits: Of the frame numbers in names; 3, or 4 for 1000 frames and more.
        key: What the masks depend on (model, parameters, movie). Frames that were
            written under another key are discarded.

    Raises:
        ConfigError: If the shape has not 2 or 3 axes, or digits is not 3 to 9.
        DiskError: If the folder is not writable.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        shape: Sequence[int],
        digits: int = 3,
        *,
        key: str = "",
    ) -> None:
        self.folder = Path(folder)
        self.shape = tuple(int(n) for n in shape)
        if len(self.shape) not in (2, 3) or min(self.shape) < 1:
            raise ConfigError("shape", f"{self.shape}", "Give ([z,] y, x) of a frame")
        if not 3 <= digits <= 9:
            raise ConfigError("digits", f"is {digits}", "Use 3, or 4 from 1000 frames")
        self.digits = digits
        self._work = self.folder / WORK
        text = json.dumps({"key": key, "shape": self.shape, "digits": digits})
        self._open(text.encode())

    def _open(self, text: bytes) -> None:
        path = self._work / _KEY
        try:
            if self._work.exists() and not (
                path.is_file() and path.read_bytes() == text
            ):
                shutil.rmtree(self._work)
            for name in (_RAW, _READY):
                (self._work / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self._work, error) from error
        write_bytes(path, text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave what was written for a later run."""

    def name(self, frame: int) -> str:
        """Return the file name of a frame's mask."""
        return f"mask{frame:0{self.digits}d}.tif"

    def done(self, frame: int) -> bool:
        """Return whether a whole mask of this frame is there from before."""
        try:
            self.read(frame)
        except MedsegError:
            return False
        return True

    def read(self, frame: int) -> NDArray[np.uint16]:
        """Return what was written for a frame.

        Raises:
            FileError: If nothing was, or it is damaged.
        """
        path = self._work / _RAW / self.name(frame)
        mask = read_mask_file(path)
        if mask.dtype != np.uint16 or mask.size != np.prod(self.shape):
            raise FileError(path, f"holds {mask.dtype} {mask.shape}", "Write it again")
        return mask.reshape(self.shape)

    def write(self, frame: int, labels: NDArray[Any]) -> None:
        """Keep the mask ``([Z,] Y, X)`` of a frame; call in any order.

        Raises:
            FileError: If it has another shape, or labels that 16 bits do not hold.
            DiskError: If the disk is full or not writable.
        """
        mask = as_challenge_mask(self.folder / self.name(frame), labels, self.shape)
        path = self._work / _RAW / self.name(frame)
        part = path.with_suffix(".part")
        try:
            # Not flushed to disk, which takes longer than to predict a frame: after
            # a power failure a damaged one does not unpack and is made again.
            _encode(part, mask, "zlib")
            os.replace(part, path)
        except OSError as error:
            raise write_error(path, error) from error

    def finish(
        self,
        frames: Sequence[int],
        rows: Sequence[TrackRow],
        relabel: Relabel | None = None,
    ) -> Path:
        """Check the result and put it in place; the track table comes last.

        What an earlier result left in the folder under the same kind of name goes.

        Args:
            frames: All frames of the movie, each written or found `done`.
            rows: The track table.
            relabel: Called with frame number and mask, returns the mask with track
                numbers. None if the masks have them already.

        Returns:
            The folder.

        Raises:
            FileError: If a frame is missing, or masks and rows disagree; the
                folder stays as it was.
            DiskError: If the disk is full or not writable.
        """
        ready, names = self._work / _READY, {self.name(frame) for frame in frames}
        try:
            shutil.rmtree(ready)
            ready.mkdir()
            for frame in frames:
                mask = self.read(frame)
                labels = relabel(frame, mask) if relabel else mask
                target = self.folder / self.name(frame)
                mask = as_challenge_mask(target, labels, self.shape)
                _encode(ready / target.name, mask, "lzw", sync=True)
                _check_same(target, ready / target.name, mask)
            write_track_table(rows, ready / TABLE)
            validate_result(ready)
            self._publish(ready, names)
        except OSError as error:
            raise write_error(self.folder, error) from error
        return self.folder

    def _publish(self, ready: Path, names: set[str]) -> None:
        (self.folder / TABLE).unlink(missing_ok=True)  # no longer a whole result
        for old in self.folder.glob("mask*.tif"):
            if old.name not in names and old.stem[len("mask") :].isdigit():
                old.unlink()
        for name in sorted(names):
            os.replace(ready / name, self.folder / name)
        os.replace(ready / TABLE, self.folder / TABLE)
        sync_folder(self.folder)
        shutil.rmtree(self._work)


def as_challenge_mask(
    path: Path, labels: NDArray[Any], shape: tuple[int, ...]
) -> NDArray[np.uint16]:
    """Return labels as the uint16 of a challenge mask; never wraps.

    Raises:
        FileError: If they are no integers, of another shape, or outside 0 to 65535.
    """
    if labels.dtype.kind not in "biu":
        raise FileError(path, f"labels are {labels.dtype}", "Give whole numbers")
    if labels.shape != shape:
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
    mask = as_challenge_mask(path, labels, labels.shape)
    with replace_file(path, lambda part: _check_same(path, part, mask)) as part:
        _encode(part, mask, "lzw")
    return path


def _encode(
    path: Path, mask: NDArray[np.uint16], compression: str, *, sync: bool = False
) -> None:
    import tifffile

    with path.open("wb") as stream:
        tifffile.imwrite(
            stream,
            mask,
            photometric="minisblack",
            compression=compression,
            compressionargs={"level": 1} if compression == "zlib" else None,
            metadata=None,
            software="medseg",
            maxworkers=1,
        )
        if sync:
            stream.flush()
            os.fsync(stream.fileno())


def _check_same(path: Path, part: Path, mask: NDArray[np.uint16]) -> None:
    import tifffile

    with tifffile.TiffFile(part, is_ome=False) as file:
        planes = [page.asarray(maxworkers=1) for page in file.pages]
    if not np.array_equal(np.stack(planes).reshape(mask.shape), mask):
        raise FileError(path, "read back with other labels than written; not kept")

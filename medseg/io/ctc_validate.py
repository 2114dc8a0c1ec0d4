"""Check a tracking result as the Cell Tracking Challenge asks for it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import FileError, counted
from medseg.io.ctc_masks import MaskMovie, open_masks, read_mask_file
from medseg.io.track_table import MAX_LABEL, read_numbered_rows

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from medseg.io.movie import Movie
    from medseg.lineage import TrackRow

TABLE = "res_track.txt"


def validate_result(folder: str | os.PathLike[str], movie: Movie | None = None) -> None:
    """Check masks and track table of a result; see `find_problems`.

    Raises:
        FileError: The first problem, and how many more there are (up to 100).
    """
    problems = find_problems(folder, movie)
    first = next(problems, None)
    if first is None:
        return
    more = sum(1 for _ in zip(problems, range(100), strict=False))
    if more:
        count = f"{more} or more" if more == 100 else str(more)
        raise FileError(
            first.subject, f"{first.problem} (and {count} more problems)", first.remedy
        )
    raise first


def find_problems(
    folder: str | os.PathLike[str], movie: Movie | None = None
) -> Iterator[FileError]:
    """Yield every problem of a result, one line each, a frame in memory at a time.

    The rules: every frame has a mask of the frame's shape in uint16; a label is in
    the mask of each frame from its track's begin to its end, and in no other. So a
    track has no gaps: one that was lost for some frames is two tracks, the second
    with the first as its parent.

    Args:
        folder: With ``mask000.tif`` and on, and ``res_track.txt``.
        movie: What was tracked; without it the first mask gives the shape, and the
            frames are those that there are masks of.
    """
    folder = Path(folder)
    try:
        rows = read_numbered_rows(folder / TABLE)
        masks = open_masks(folder, "result")
    except FileError as error:
        yield error
        return
    frames = masks.frames if movie is None else movie.frames
    yield from _frame_problems(folder, masks, frames)
    yield from _row_problems(folder, rows, frames)
    shape = None if movie is None else movie.shape
    of_label = {row.label: (number, row) for number, row in rows.items()}
    for frame, path in zip(masks.frames, masks.files, strict=True):
        if frame not in set(frames):
            continue
        try:
            mask = _read(path, shape)
        except FileError as error:
            yield error
            continue
        shape = shape or mask.shape
        yield from _label_problems(folder / TABLE, path, frame, mask, of_label)


def _frame_problems(
    folder: Path, masks: MaskMovie, frames: tuple[int, ...]
) -> Iterator[FileError]:
    digits = len(masks.files[0].stem) - len("mask")
    for frame in sorted(set(frames) - set(masks.frames)):
        yield FileError(
            folder / f"mask{frame:0{digits}d}.tif",
            f"frame {frame} has no mask; there are {counted(len(masks), 'mask')} for "
            f"{counted(len(frames), 'frame')}",
            "Write one for every frame, also for one without cells",
        )
    for frame in sorted(set(masks.frames) - set(frames)):
        yield FileError(
            masks.files[masks.index(frame)],
            f"the movie has no frame {frame}; it has {frames[0]} to {frames[-1]}",
            "Remove the mask",
        )


def _row_problems(
    folder: Path, rows: dict[int, TrackRow], frames: tuple[int, ...]
) -> Iterator[FileError]:
    for number, row in rows.items():
        if row.begin < frames[0] or row.end > frames[-1]:
            yield FileError(
                folder / TABLE,
                f"line {number}: track {row.label} is in frames {row.begin} to "
                f"{row.end}, there are {frames[0]} to {frames[-1]}",
                "Correct its first and last frame",
            )


def _read(path: Path, shape: tuple[int, ...] | None) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 8 bits are an error here
        mask = read_mask_file(path)
    if mask.dtype != np.uint16:
        raise FileError(
            path,
            f"pixels are {mask.dtype}, a result has uint16 (labels up to {MAX_LABEL})",
            "Save it as 16-bit unsigned integers",
        )
    if shape is not None and plain_shape(mask.shape) != plain_shape(shape):
        here, there = (" x ".join(map(str, s)) for s in (mask.shape, shape))
        raise FileError(
            path,
            f"a mask of {here} for frames of {there}",
            "Write it on the grid of its frame",
        )
    return mask


def plain_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return ``([Z,] Y, X)``: a volume of one slice is a plane once it was written."""
    return shape[1:] if len(shape) == 3 and shape[0] == 1 else shape


def _label_problems(
    table: Path,
    path: Path,
    frame: int,
    mask: NDArray[Any],
    of_label: dict[int, tuple[int, TrackRow]],
) -> Iterator[FileError]:
    present = labels_of(mask)
    for label in present:
        if label not in of_label:
            yield FileError(
                path,
                f"label {label} has no line in {table.name}",
                "Add its line, or remove the label from the mask",
            )
            continue
        number, row = of_label[label]
        if not row.begin <= frame <= row.end:
            yield FileError(
                path,
                f"label {label} is in frame {frame}, line {number} of {table.name} "
                f"says {row.begin} to {row.end}",
                "Correct the line, or give the cell another label",
            )
    held = set(present)
    for label, (number, row) in of_label.items():
        if row.begin <= frame <= row.end and label not in held:
            yield FileError(
                table,
                f"line {number}: track {label} runs from {row.begin} to {row.end}, "
                f"{path.name} does not hold it",
                "End it before the gap, and go on with a new track whose parent it is",
            )


def labels_of(mask: NDArray[Any]) -> list[int]:
    """Return the labels of a uint16 mask, ascending, without the background."""
    return [int(v) for v in np.flatnonzero(np.bincount(mask.ravel())) if v]

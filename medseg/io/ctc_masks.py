"""Masks in the layout of the Cell Tracking Challenge, read frame by frame."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medseg.errors import ConfigError, FileError, ImageWarning, printable
from medseg.io.limits import Limits
from medseg.io.numbered import by_number, names_in
from medseg.io.read import opened

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from numpy.typing import NDArray

MaskKind = Literal["seg", "track", "result"]
NAMES: dict[str, str] = {
    "seg": "man_seg000.tif",
    "track": "man_track000.tif",
    "result": "mask000.tif",
}
_PATTERNS: dict[str, re.Pattern[str]] = {
    "seg": re.compile(r"man_seg_?(\d{1,9})(?:_(\d{1,9}))?\.tif", re.I),
    "track": re.compile(r"man_track_?(\d{1,9})()\.tif", re.I),
    "result": re.compile(r"mask(\d{1,9})()\.tif", re.I),
}


@dataclass(frozen=True)
class MaskMovie:
    """The masks of a sequence; one is in memory at a time.

    Iterating gives ``(frame number, mask)``.

    Args:
        folder: Where they are.
        kind: ``"seg"``, ``"track"`` or ``"result"``.
        frames: Frame number of each mask, ascending. Gold segmentation has masks
            of some frames only, and in 3-D a frame may be there once a drawn slice.
        slices: The z of each mask that is one slice of a volume, None for a whole
            frame.
        files: Of each mask.
        limits: What a file may declare.
    """

    folder: Path
    kind: MaskKind
    frames: tuple[int, ...]
    slices: tuple[int | None, ...]
    files: tuple[Path, ...]
    limits: Limits = field(default_factory=Limits)

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[tuple[int, NDArray[Any]]]:
        for index, frame in enumerate(self.frames):
            yield frame, self.read(index)

    def read(self, index: int) -> NDArray[Any]:
        """Return a mask ``([Z,] Y, X)`` of its file's unsigned type.

        Args:
            index: Position in ``frames``, from 0 (not the frame number).

        Raises:
            ConfigError: If there is no such mask.
            FileError: If it cannot be read or is no mask.
        """
        if not 0 <= index < len(self):
            raise ConfigError("frame", f"index {index}, there are {len(self)} masks")
        return read_mask_file(self.files[index], limits=self.limits)

    def index(self, frame: int) -> int:
        """Return the position of the first mask of frame number ``frame``.

        Raises:
            FileError: If it has none.
        """
        if frame not in self.frames:
            raise FileError(
                self.folder,
                f"frame {frame} has no mask, {len(self)} others have",
                f"Add it, named as {NAMES[self.kind]}",
            )
        return self.frames.index(frame)


def open_masks(
    folder: str | os.PathLike[str], kind: MaskKind, *, limits: Limits | None = None
) -> MaskMovie:
    """Open the masks of a folder without reading them.

    Args:
        folder: That with the masks.
        kind: ``"seg"`` for ``man_seg000.tif`` and ``man_seg_000_001.tif`` (frame,
            slice), ``"track"`` for ``man_track000.tif``, ``"result"`` for
            ``mask000.tif``; three digits or more.
        limits: What a file may declare.

    Raises:
        FileError: If there is none, a number is missing (not of ``"seg"``), there
            twice or of another width.
    """
    folder = Path(folder)
    if kind not in _PATTERNS:
        raise ConfigError("kind", f"{kind!r}", f"Use one of {', '.join(_PATTERNS)}")
    matches = [_PATTERNS[kind].fullmatch(name) for name in names_in(folder)]
    found = [match for match in matches if match]
    if not found:
        inside = sorted(p.name for p in folder.iterdir() if p.is_dir())[:5]
        remedy = f"It has the folders {', '.join(inside)}" if inside else (
            f"Name the masks {NAMES[kind]} and so on"
        )  # fmt: skip
        raise FileError(folder, f"holds 0 masks named as {NAMES[kind]}", remedy)
    whole = [m for m in found if not m[2]]
    files: dict[tuple[int, int | None], Path] = {
        (number, None): path
        for number, path in by_number(
            folder, [(m[1], m[0]) for m in whole], gaps=kind == "seg"
        ).items()
    }
    slices: dict[tuple[int, int | None], Path] = {
        (int(m[1]), int(m[2])): folder / m[0] for m in found if m[2]
    }
    entries = sorted({**files, **slices}.items(), key=lambda e: (e[0][0], e[0][1] or 0))
    return MaskMovie(
        folder,
        kind,
        tuple(frame for (frame, _), _ in entries),
        tuple(z for (_, z), _ in entries),
        tuple(path for _, path in entries),
        limits or Limits(),
    )


def read_mask_file(path: Path, *, limits: Limits | None = None) -> NDArray[Any]:
    """Read one mask ``([Z,] Y, X)``, in the unsigned type of the file.

    The challenge's masks have 16 bits; one of 8 is read with a warning.

    Raises:
        FileError: As for `read_labels`.
    """
    mask = read_labels(path, limits=limits)
    if mask.dtype.itemsize == 1:
        warnings.warn(
            f"{printable(path)}: an 8-bit mask, the challenge's have 16 bits",
            ImageWarning,
            stacklevel=2,
        )
    return mask


def read_labels(path: Path, *, limits: Limits | None = None) -> NDArray[Any]:
    """Read numbered cells ``([Z,] Y, X)`` as they are stored: no shades, no palette.

    Raises:
        FileError: If they cannot be read, have several channels, or are no unsigned
            integers.
    """
    with opened(path, limits or Limits()) as file:
        if file.dtype.kind not in "bu":
            raise FileError(
                path,
                f"pixels are {file.dtype}, labels of a mask are uint16",
                "Save it as 16-bit unsigned integers",
            )
        pixels, _ = file.load(True)
    if len(pixels) != 1:
        raise FileError(
            path, f"a mask of {len(pixels)} channels", "Save one channel of labels"
        )
    mask: NDArray[Any] = pixels[0]
    return mask.view(np.uint8) if mask.dtype.kind == "b" else mask

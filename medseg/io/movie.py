"""Movies: a folder of numbered frames, or one TIFF of a frame a page, read lazily."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import (
    ConfigError,
    FileError,
    ImageWarning,
    counted,
    printable,
)
from medseg.image import Image
from medseg.io.limits import Limits
from medseg.io.masks import integer_labels
from medseg.io.numbered import by_number, names_in
from medseg.io.read import meta_of, opened, opened_page
from medseg.io.sniff import SUFFIXES, is_image_name, suffix_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.io.source import Opened

_NUMBERED = re.compile(r"(?P<stem>.*?)(?P<digits>\d{1,9})")
# What the Cell Tracking Challenge calls a frame: chosen where other names lie about.
_CHALLENGE = ("t", "tiff")


@dataclass(frozen=True)
class Movie:
    """A movie on disk; one frame is in memory at a time.

    Iterating gives ``(frame number, Image)`` in order of time.

    Args:
        path: The folder, or the TIFF.
        frames: Frame numbers, ascending and without a gap.
        shape: Of one frame ``([Z,] Y, X)``.
        channels: Of every frame; 1 for files in colour if the first of them is grey.
        dtype: Of the pixels.
        geometry: Of the first frame.
        files: The file of each frame; empty where the frames are pages of ``path``.
        limits: What a file may declare.
        grey: Whether the files have three channels, and those of the first frame are
            equal.
    """

    path: Path
    frames: tuple[int, ...]
    shape: tuple[int, ...]
    channels: int
    dtype: np.dtype[Any]
    geometry: Geometry
    files: tuple[Path, ...] = ()
    limits: Limits = field(default_factory=Limits)
    grey: bool = False

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[tuple[int, Image]]:
        for index, frame in enumerate(self.frames):
            yield frame, self.read(index)

    def read(self, index: int) -> Image:
        """Return one frame, ``(C, [Z,] Y, X)``; its number is ``meta["frame"]``.

        Args:
            index: Position in ``frames``, from 0 (not the frame number).

        Raises:
            ConfigError: If there is no such frame.
            FileError: If it cannot be read, has changed since, or is in colour where
                the first is grey.
        """
        path = self._path(index)
        with self._opened(index) as file:
            _check_alike(path, file, self)
            pixels, _ = file.load(False)
        if len(pixels) > self.channels:
            raise FileError(
                path,
                f"frame {self.frames[index]} is in colour, the first one is grey",
                "A movie needs frames of one kind",
            )
        if len(pixels) < self.channels:  # a grey one in a movie of colours
            pixels = np.repeat(pixels, self.channels, axis=0)
        meta = {**meta_of(path, file, pixels), "frame": self.frames[index]}
        return Image(pixels, self.geometry, meta)

    def read_labels(self, index: int) -> NDArray[Any]:
        """Return one frame as numbered cells ``([Z,] Y, X)``, as they are stored.

        Args:
            index: As for `read`.

        Raises:
            ConfigError: If there is no such frame.
            FileError: If it cannot be read, has changed since, is in colour, or holds
                anything but whole numbers from 0.
        """
        path = self._path(index)
        with self._opened(index) as file:
            _check_alike(path, file, self)
            pixels, _ = file.load(True)
        if len(pixels) != 1:
            problem = f"{len(pixels)} channels, numbered cells have one"
            raise FileError(path, problem, "Save one channel of numbers")
        return integer_labels(path, pixels)[0]

    def _path(self, index: int) -> Path:
        if not 0 <= index < len(self):
            raise ConfigError("frame", f"index {index}, the movie has {len(self)}")
        return self.files[index] if self.files else self.path

    def _opened(self, index: int) -> AbstractContextManager[Opened]:
        if self.files:
            return opened(self.files[index], self.limits)
        return opened_page(self.path, index, self.limits)


def open_movie(path: str | os.PathLike[str], *, limits: Limits | None = None) -> Movie:
    """Open a movie without reading its pixels; every header is checked.

    Of files in colour the first is read: if it is grey, as for `read_image`, so is
    the movie.

    A folder holds one image file a frame, in any format of `read_image`, whose names
    differ in the number at their end (``t000.tif``; see `by_number` for the digits).
    Where it holds several such rows of names, the one named ``t000.tif`` is the
    movie. A TIFF holds a frame a page, numbered from 0.

    Args:
        path: The folder or the TIFF.
        limits: What a file may declare.

    Raises:
        FileError: If there is no frame, a number is missing, there twice or of
            another width, or frames differ in shape, channels or pixel type.
    """
    path, limits = Path(path), limits or Limits()
    if path.is_file():
        return _open_pages(path, limits)
    files = frame_files(path)
    _tell_of_others(path, files)
    numbers, paths = tuple(files), tuple(files.values())
    movie: Movie | None = None
    for file_path in paths:
        with opened(file_path, limits, header_only=True) as file:
            if movie is None:
                movie = _movie(path, file, limits, numbers, paths)
                _pass_on(file_path, file)
            _check_alike(file_path, file, movie)
    assert movie is not None, "by_number gave no file"
    return _grey(movie)


def _grey(movie: Movie) -> Movie:
    """Return the movie with as many channels as its first frame has once read."""
    if movie.channels != 3:
        return movie
    with movie._opened(0) as file:
        channels = len(file.load(False)[0])
    return replace(movie, channels=channels, grey=channels == 1)


def _pass_on(path: Path, file: Opened) -> None:
    for note in file.notes:
        warnings.warn(f"{printable(path)}: {note}", ImageWarning, stacklevel=3)


def _open_pages(path: Path, limits: Limits) -> Movie:
    if SUFFIXES.get(suffix_of(path.name)) != "tiff":
        raise FileError(
            path,
            "one file, and no TIFF of many pages",
            "A movie is a folder of numbered frames, or a TIFF with a frame a page",
        )
    with opened_page(path, 0, limits, header_only=True) as file:
        numbers = tuple(range(file.meta["pages"]))
        _pass_on(path, file)
        movie = _movie(path, file, limits, numbers, ())
    return _grey(movie)


def _movie(
    path: Path,
    file: Opened,
    limits: Limits,
    numbers: tuple[int, ...],
    files: tuple[Path, ...],
) -> Movie:
    return Movie(
        path,
        numbers,
        tuple(file.shape[1:]),
        file.shape[0],
        file.dtype,
        file.geometry,
        files,
        limits,
    )


def _check_alike(path: Path, file: Opened, movie: Movie) -> None:
    """Refuse a frame that is not like the first."""
    for name, here, there in (
        ("size", tuple(file.shape[1:]), movie.shape),
        ("number of channels", file.shape[0], 3 if movie.grey else movie.channels),
        ("pixel type", file.dtype, movie.dtype),
    ):
        if here != there:
            first = movie.files[0].name if movie.files else "page 1"
            raise FileError(
                path,
                f"frames of different {name}: {first} has {_text(there)}, "
                f"{path.name} {_text(here)}",
                "A movie needs frames of one kind",
            )


def _text(value: object) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def frame_files(folder: Path) -> dict[int, Path]:
    """Return the frames of ``folder`` by number; `open_movie` says which they are.

    Raises:
        FileError: If there is no frame, or the numbers have a gap or other widths.
    """
    rows: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    others = []
    for name in filter(is_image_name, names_in(folder)):
        suffix = suffix_of(name)
        match = _NUMBERED.fullmatch(name[: -len(suffix)])
        if match is None:
            others.append(name)
        else:
            key = (match["stem"].lower(), SUFFIXES[suffix])
            rows[key].append((match["digits"], name))
    return by_number(folder, rows[_choose(folder, rows, others)])


def _tell_of_others(folder: Path, frames: Mapping[int, Path]) -> None:
    used = {path.name for path in frames.values()}
    left = [n for n in names_in(folder) if is_image_name(n) and n not in used]
    if left:
        warnings.warn(
            f"{printable(folder)}: {counted(len(left), 'image')} beside the frames of "
            f"the movie not read ({', '.join(left[:3])})",
            ImageWarning,
            stacklevel=3,
        )


def _choose(
    folder: Path, rows: dict[tuple[str, str], list[tuple[str, str]]], others: list[str]
) -> tuple[str, str]:
    if len(rows) == 1:
        return next(iter(rows))
    if _CHALLENGE in rows:
        return _CHALLENGE
    if rows:
        some = ", ".join(pairs[0][1] for pairs in list(rows.values())[:3])
        raise FileError(
            folder,
            f"holds {len(rows)} rows of numbered images (such as {some}), which may "
            "be several movies",
            "Put each movie into a folder of its own",
        )
    inside = sorted(p.name for p in folder.iterdir() if p.is_dir())[:5]
    count = counted(len(others), "image")
    count += ", none with a frame number" if others else ""
    remedy = f"Give one of its folders: {', '.join(inside)}" if inside else (
        "Name the frames t000.tif, t001.tif and so on"
    )  # fmt: skip
    raise FileError(folder, f"no frame of a movie: {count}", remedy)

"""Drawn movies of fluorescent nuclei, with every cell and every division known.

Nuclei move, change shape, push each other, divide, and cross the border of the
picture; the camera adds blur, uneven light, debris and noise. No picture of a
microscope is in them. The same arguments give the same movie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.datasets import ctc
from medseg.datasets.case import Case
from medseg.datasets.synthetic_camera import Camera
from medseg.datasets.synthetic_cells import (
    Nucleus,
    new_nucleus,
    push_apart,
    shape_and_light,
    step,
)
from medseg.errors import ConfigError
from medseg.io.atomic import write_bytes
from medseg.io.ctc import write_mask_file, write_track_table
from medseg.lineage import TrackRow

LEAST_SIDE, LEAST_DEPTH = 32, 4
LEAST_PIXELS = 0.06  # of a grown cell's: what is less at the border is not drawn


@dataclass(frozen=True, eq=False)
class SyntheticMovie:
    """A drawn movie and its truth.

    Args:
        frames: ``([Z,] Y, X)`` uint16, one a frame.
        masks: The same shape, uint16, track numbers.
        rows: The track table.
    """

    frames: tuple[NDArray[np.uint16], ...]
    masks: tuple[NDArray[np.uint16], ...]
    rows: tuple[TrackRow, ...]

    @property
    def divisions(self) -> int:
        """Number of tracks with two children."""
        parents = [row.parent for row in self.rows if row.parent]
        return sum(parents.count(p) == 2 for p in set(parents))


def draw_movie(
    seed: int,
    frames: int = 20,
    shape: Sequence[int] = (256, 256),
    cells: int = 16,
    *,
    radius: float | None = None,
    speed: float = 0.08,
    divisions: bool = True,
    life: tuple[int, int] = (12, 30),
    entering: float = 0.1,
    debris: int = 4,
    noise: float = 1.0,
    anisotropy: float = 4.0,
) -> SyntheticMovie:
    """Return a movie with its truth.

    Args:
        seed: Decides everything that is drawn by chance.
        frames: How many.
        shape: ``(Y, X)`` or ``(Z, Y, X)`` of a frame.
        cells: In the first frame, about; crowded ones touch.
        radius: Of a grown nucleus in pixels, by default what fills a third of the
            picture.
        speed: Radii a frame.
        divisions: Whether cells divide.
        life: Frames between two divisions, least and most.
        entering: Chance that a cell enters over the border, in each frame.
        debris: Small bright specks that are no cells.
        noise: Of the camera; 0 for none.
        anisotropy: Length of a voxel in z against that in x.

    Raises:
        ConfigError: If a number is out of range.
    """
    shape = tuple(int(n) for n in shape)
    _check(shape, frames, cells)
    rng = np.random.default_rng(seed)
    extent = np.array(shape, float)
    if len(shape) == 3:
        extent[0] *= anisotropy
    grown = radius or 0.33 * float(np.sqrt(extent[-2] * extent[-1] / max(cells, 4)))
    if len(shape) == 3:
        grown = min(grown, 0.4 * extent[0])
    pace = speed * grown
    nuclei = [
        new_nucleus(rng, key, rng.uniform(0, 1, len(shape)) * extent, grown, life, pace)
        for key in range(1, cells + 1)
    ]
    nuclei = push_apart(nuclei, 30)
    camera = Camera(rng, shape, extent, grown, debris, noise)
    tracks = _Tracks(shape, extent, grown)
    next_key, images, masks = cells + 1, [], []
    for number in range(frames):
        if number:
            nuclei = step(rng, nuclei, next_key, pace, divisions)
            next_key = max([n.key for n in nuclei] + [next_key]) + 1
            if rng.random() < entering:
                at = _outside(rng, extent, grown)
                comer = new_nucleus(rng, next_key, at, grown, life, pace)
                nuclei.append(_inward(comer, extent, pace))
                next_key += 1
        mask, light, nuclei = tracks.draw(number, nuclei)
        masks.append(mask)
        images.append(camera.expose(light))
    return SyntheticMovie(tuple(images), tuple(masks), tracks.rows())


def _check(shape: tuple[int, ...], frames: int, cells: int) -> None:
    if len(shape) not in (2, 3) or min(shape[-2:]) < LEAST_SIDE:
        raise ConfigError(
            "shape", f"is {shape}", f"Use ([z,] y, x) of {LEAST_SIDE} pixels or more"
        )
    if len(shape) == 3 and shape[0] < LEAST_DEPTH:
        raise ConfigError("shape", f"is {shape}", f"Use {LEAST_DEPTH} slices or more")
    for name, value in (("frames", frames), ("cells", cells)):
        if value < 1:
            raise ConfigError(name, f"is {value}", "Use 1 or more")


def _outside(
    rng: np.random.Generator, extent: NDArray[np.float64], radius: float
) -> NDArray[np.float64]:
    place = rng.uniform(0.1, 0.9, len(extent)) * extent
    axis = int(rng.integers(len(extent) - 2, len(extent)))
    place[axis] = -0.8 * radius if rng.random() < 0.5 else extent[axis] + 0.8 * radius
    return np.asarray(place)


def _inward(nucleus: Nucleus, extent: NDArray[np.float64], pace: float) -> Nucleus:
    way = extent / 2 - nucleus.place
    return replace(nucleus, speed=3 * pace * way / np.linalg.norm(way), age=0)


class _Tracks:
    """Draws the masks and numbers the tracks as they come into sight."""

    def __init__(
        self, shape: tuple[int, ...], extent: NDArray[np.float64], radius: float
    ) -> None:
        self.shape = shape
        self.scale = extent / np.array(shape)
        ndim = len(shape)
        ball = np.pi * radius**2 if ndim == 2 else 4 / 3 * np.pi * radius**3
        self.least = LEAST_PIXELS * ball / float(np.prod(self.scale))
        self.number: dict[int, int] = {}
        self.begin: dict[int, int] = {}
        self.end: dict[int, int] = {}
        self.parent: dict[int, int] = {}

    def draw(
        self, frame: int, nuclei: Sequence[Nucleus]
    ) -> tuple[NDArray[np.uint16], NDArray[np.float32], list[Nucleus]]:
        """Return mask, light and the nuclei that are still of interest."""
        depth = np.ones(self.shape, np.float32)
        light = np.zeros(self.shape, np.float32)
        owner = np.zeros(self.shape, np.int32)
        for i, nucleus in enumerate(nuclei, start=1):
            self._paint(nucleus, i, depth, light, owner)
        sizes = np.bincount(owner.ravel(), minlength=len(nuclei) + 1)
        values = np.zeros(len(nuclei) + 1, np.uint16)
        kept = []
        for i, nucleus in enumerate(nuclei, start=1):
            seen = sizes[i] >= self.least
            if seen:
                values[i] = self._track(nucleus, frame)
            # A cell that has left does not come back under its number.
            if seen or nucleus.key not in self.number:
                kept.append(nucleus)
        light[values[owner] == 0] = 0  # what is not drawn is not seen
        return values[owner], light, kept

    def _paint(
        self,
        nucleus: Nucleus,
        i: int,
        depth: NDArray[np.float32],
        light: NDArray[np.float32],
        owner: NDArray[np.int32],
    ) -> None:
        reach = 1.3 * nucleus.size * nucleus.axes.max()
        low = np.floor((nucleus.place - reach) / self.scale).astype(int)
        high = np.ceil((nucleus.place + reach) / self.scale).astype(int) + 1
        box = tuple(
            slice(max(a, 0), min(b, n))
            for a, b, n in zip(low, high, self.shape, strict=True)
        )
        if any(s.start >= s.stop for s in box):
            return
        grid = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in box),
                                    indexing="ij"), axis=-1)  # fmt: skip
        offsets = (grid + 0.5) * self.scale - nucleus.place
        flat = offsets.reshape(-1, len(self.shape))
        deep, bright = shape_and_light(nucleus, flat)
        deep, bright = deep.reshape(grid.shape[:-1]), bright.reshape(grid.shape[:-1])
        inside = deep < depth[box]  # nearer to this centre than to another
        depth[box][inside] = deep[inside]
        light[box][inside] = bright[inside]
        owner[box][inside] = i

    def _track(self, nucleus: Nucleus, frame: int) -> int:
        if nucleus.key not in self.number:
            self.number[nucleus.key] = len(self.number) + 1
            self.begin[nucleus.key] = frame
            mother = self.number.get(nucleus.parent, 0)
            self.parent[nucleus.key] = mother
        self.end[nucleus.key] = frame
        return self.number[nucleus.key]

    def rows(self) -> tuple[TrackRow, ...]:
        """Return the track table."""
        return tuple(
            TrackRow(label, self.begin[key], self.end[key], self.parent[key])
            for key, label in self.number.items()
        )


def write_movie(folder: str | Path, seed: int, *, sequence: str = "01",
                **options: Any) -> SyntheticMovie:  # fmt: skip
    """Draw a movie and write it in the layout of the Cell Tracking Challenge.

    ``01/t000.tif``, ``01_GT/SEG/man_seg000.tif``, ``01_GT/TRA/man_track000.tif`` and
    ``01_GT/TRA/man_track.txt``, LZW; four digits from 1000 frames on.

    Args:
        folder: Of the data set.
        seed: As of `draw_movie`.
        sequence: Number of the sequence.
        options: As of `draw_movie`.

    Raises:
        ConfigError: If an option is out of range.
        DiskError: If the disk is full or not writable.
    """
    folder = Path(folder)
    movie = draw_movie(seed, **options)
    digits = max(3, len(str(len(movie.frames) - 1)))
    truth = folder / f"{sequence}_GT"
    for i, (frame, mask) in enumerate(zip(movie.frames, movie.masks, strict=True)):
        number = f"{i:0{digits}d}.tif"
        write_mask_file(folder / sequence / f"t{number}", frame)
        write_mask_file(truth / "SEG" / f"man_seg{number}", mask)
        write_mask_file(truth / "TRA" / f"man_track{number}", mask)
    write_track_table(movie.rows, truth / "TRA" / "man_track.txt")
    write_bytes(folder / "README.txt", b"Drawn by medseg; no microscope's picture.\n")
    return movie


def cases(folder: str | Path) -> list[Case]:
    """Return the frames of movies that `write_movie` wrote, as `ctc.cases` does.

    Raises:
        FileError: As `medseg.datasets.ctc.cases`.
    """
    return ctc.cases(folder)

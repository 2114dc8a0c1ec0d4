"""Synthetic chest films with exact masks of all five structures.

A film is drawn from parameters that are sampled first: outlines of the organs in
chest coordinates, thicknesses of tissue, air and bone along the beam, the beam's
attenuation and scatter, grain, and a film curve. The masks are the outlines that
the thicknesses were drawn from. No patient's film or mask is in them;
`synthetic_sample` says what the ranges were compared with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from medseg.datasets.case import STRUCTURES, Case
from medseg.datasets.folders import checked, need_folders
from medseg.datasets.jsrt import prepared
from medseg.datasets.synthetic_anatomy import draw_masks
from medseg.datasets.synthetic_bones import bones
from medseg.datasets.synthetic_film import expose
from medseg.datasets.synthetic_frame import Frame
from medseg.datasets.synthetic_marks import burn_in
from medseg.datasets.synthetic_marks import devices as draw_devices
from medseg.datasets.synthetic_sample import sample_parameters
from medseg.datasets.synthetic_tissue import air, soft_tissue
from medseg.datasets.synthetic_vessels import lung_tissue
from medseg.errors import ConfigError
from medseg.io.atomic import replace_file, write_bytes

LEAST_SIZE = 32


@dataclass(frozen=True, eq=False)
class SyntheticFilm:
    """A drawn film and its truth.

    Args:
        image: ``(Y, X)``, uint8 or uint16, dense is bright.
        masks: ``(5, Y, X)`` of 0 and 1, in the order of the chest labels.
        parameters: What it was drawn from; `draw_film` draws it again.
    """

    image: NDArray[Any]
    masks: NDArray[np.uint8]
    parameters: Mapping[str, Any]

    @property
    def ctr(self) -> float:
        """Cardiothoracic ratio of the masks: width of heart over that of lungs."""
        lungs = self.masks[0] | self.masks[1]
        return _width(self.masks[2]) / _width(lungs)


def _width(mask: NDArray[np.uint8]) -> float:
    columns = np.flatnonzero(mask.any(axis=0))
    return float(columns[-1] - columns[0] + 1) if columns.size else float("nan")


def chest_film(
    rng: np.random.Generator,
    size: int = 512,
    *,
    bits: Literal[8, 12, 16] = 8,
    devices: bool = True,
    marks: bool = True,
    inverted: bool = False,
) -> SyntheticFilm:
    """Return a new film of ``size`` x ``size`` pixels with its masks.

    Args:
        rng: Source of the parameters.
        size: Side in pixels.
        bits: 8 gives uint8, 12 and 16 uint16.
        devices: Now and then add tubes, wires or a pacemaker.
        marks: Now and then add black borders, burnt-in text and side markers: R on
            the film's left, which is the patient's right, and L on its right.
        inverted: Draw a negative: dense is dark.

    Raises:
        ConfigError: If ``size`` or ``bits`` cannot be drawn.
    """
    parameters = sample_parameters(rng, devices=devices, marks=marks, inverted=inverted)
    return draw_film(parameters, size, bits=bits)


def draw_film(
    parameters: Mapping[str, Any], size: int = 512, *, bits: Literal[8, 12, 16] = 8
) -> SyntheticFilm:
    """Draw the film that ``parameters`` describe; the same ones give the same film.

    Raises:
        ConfigError: If ``size`` or ``bits`` cannot be drawn.
    """
    if size < LEAST_SIZE:
        raise ConfigError("size", f"is {size}", f"Use {LEAST_SIZE} or more pixels")
    if bits not in (8, 12, 16):
        raise ConfigError("bits", f"is {bits}", "Use 8, 12 or 16")
    frame = Frame.of(parameters["frame"], size)
    p, q = frame.grid()
    masks = draw_masks(parameters, frame)
    body = soft_tissue(parameters["body"], frame, p, q)
    hollow = air(parameters, frame, masks, p, q)
    tissue = lung_tissue(parameters["lung_texture"], frame, masks)
    soft = np.where(body > 0, np.maximum(body - hollow, 0.2 * body) + tissue, 0)
    bone = bones(parameters, frame)
    metal = draw_devices(parameters["devices"], frame)
    film = expose(parameters["exposure"], soft, bone, metal)
    film = burn_in(parameters["marks"], film)
    return SyntheticFilm(_quantise(film, parameters, bits), masks, parameters)


def _quantise(
    film: NDArray[np.float32], parameters: Mapping[str, Any], bits: int
) -> NDArray[Any]:
    white = 2**bits - 1
    values = np.round(np.clip(film, 0, 1) * white)
    if parameters["exposure"]["inverted"]:
        values = white - values
    return values.astype(np.uint8 if bits == 8 else np.uint16)


def write_films(
    folder: str | Path, n: int, seed: int, *, size: int = 512
) -> list[Case]:
    """Write ``n`` films as PNG in the layout of the prepared JSRT set.

    ``images/synthetic0000.png`` (8 bit), ``masks/<structure>/synthetic0000.png``
    (0 and 255). The parameters go to ``parameters.jsonl``, a film a line. Film
    ``i`` depends on ``seed`` and ``i`` alone.

    Returns:
        The cases, as `cases` reads them.

    Raises:
        DiskError: If the folder is not writable or the disk is full.
    """
    folder = Path(folder)
    lines = []
    for i in range(n):
        name = f"synthetic{i:04d}"
        film = chest_film(np.random.default_rng((seed, i)), size)
        _write_png(folder / "images" / f"{name}.png", film.image)
        for structure, mask in zip(STRUCTURES, film.masks, strict=True):
            _write_png(folder / "masks" / structure / f"{name}.png", mask * 255)
        lines.append(json.dumps({"id": name, **film.parameters}) + "\n")
    write_bytes(folder / "parameters.jsonl", "".join(lines).encode())
    return cases(folder)


def cases(folder: str | Path) -> list[Case]:
    """Return the films that `write_films` wrote, sorted by id; they have no spacing.

    Raises:
        FileError: If a sub folder is missing or there is no film.
    """
    folder = Path(folder)
    need_folders(folder, "images", "masks")
    return checked(prepared(folder), folder)


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    with replace_file(path) as part:
        Picture.fromarray(pixels).save(part, format="PNG")

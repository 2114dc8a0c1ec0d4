"""An image together with what is drawn on it, on grids that fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import relabel_sequential

from medseg.datasets.case import STRUCTURES, Case, read_truth
from medseg.datasets.instances import read_instances
from medseg.datasets.pixels import read_film
from medseg.errors import FileError
from medseg.image import Image


def film_and_truth(
    case: Case, names: Sequence[str] = STRUCTURES
) -> tuple[Image, NDArray[np.uint8], NDArray[np.bool_]]:
    """Read a film and its masks, see `read_film` and `read_truth`.

    The masks may be on a finer or coarser grid, as those of SCR are.

    Raises:
        FileError: If a file cannot be read, the masks are of another aspect, or the
            image is no film but a volume.
        ConfigError: If the case has a mask for none of ``names``.
    """
    image = _one_plane(case.image, read_film(case))
    masks, annotated = read_truth(case, names)
    if not _same_aspect(masks.shape[1:], image.spatial_shape):
        path = next(case.truth[name] for name in names if name in case.truth)
        raise FileError(
            path,
            f"is a mask of {masks.shape[1:]} for a film of {image.spatial_shape}",
            "Draw it on the film, or turn it as the film is",
        )
    return image, masks, annotated


def image_and_cells(case: Case) -> tuple[Image, NDArray[np.int32], NDArray[np.bool_]]:
    """Read an image and its cells, see `read_film` and `read_instances`.

    Cells are numbered from 1 without a gap: files may hold numbers up to 2^31 - 1.

    Raises:
        FileError: If a file cannot be read, or the cells are on another grid.
        ConfigError: If the case has no cells drawn.
    """
    image = read_film(case)
    cells, known = read_instances(case)
    if cells.shape != image.spatial_shape:
        assert case.instances is not None  # they have been read
        raise FileError(
            case.instances.path,
            f"holds cells of {cells.shape} for an image of {image.spatial_shape}",
            "Draw them on the image, pixel by pixel",
        )
    return image, np.asarray(relabel_sequential(cells)[0], np.int32), known


def _one_plane(path: Path, image: Image) -> Image:
    """Return a film that is stored as a volume of one slice as a film."""
    if image.geometry.ndim == 2:
        return image
    if image.spatial_shape[0] > 1:
        raise FileError(
            path,
            f"is a volume of {image.spatial_shape}: structures are learnt on films",
            "Save each slice as an image, with its mask",
        )
    return Image(image.pixels[:, 0], image.geometry.plane(), image.meta)


def _same_aspect(one: Sequence[int], other: Sequence[int]) -> bool:
    """Return whether planes are alike but for scale, give or take a pixel; volumes equal."""
    if len(one) != 2 or len(other) != 2:
        return tuple(one) == tuple(other)
    (a, b), (c, d) = one, other
    return abs(a * d - b * c) <= c + d

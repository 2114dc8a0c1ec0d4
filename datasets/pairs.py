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
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.io.masks import stated_grid


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
    image = read_film(case)
    masks, annotated = read_truth(case, names)
    _check_own(case, image)
    image = image.as_film()
    if image.geometry.ndim > 2:
        raise FileError(
            case.image,
            f"is a volume of {image.spatial_shape}: structures are learnt on films",
            "Save each slice as an image, with its mask",
        )
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
    _check_own(case, image)
    image = image.as_film()
    if len(cells) == 1 and cells.ndim == 3:
        cells, known = cells[0], known[0]
    if cells.shape != image.spatial_shape:
        assert case.instances is not None  # they have been read
        raise FileError(
            case.instances.path,
            f"holds cells of {cells.shape} for an image of {image.spatial_shape}",
            "Draw them on the image, pixel by pixel",
        )
    return image, np.asarray(relabel_sequential(cells)[0], np.int32), known


def _check_own(case: Case, image: Image) -> None:
    """Check the place of masks that medseg or another program has written."""
    if case.masks is not None:
        path = case.masks.whole or next(iter(case.masks.parts.values()))
        size, place = stated_grid(path)
        _check_place(path, image, place, size)


def _check_place(
    path: Path, image: Image, mask: Geometry, shape: Sequence[int]
) -> None:
    """Check that a mask covers the same part of space as its image.

    Args:
        path: Of the mask.
        image: As it was read.
        mask: Where the mask lies.
        shape: Of the mask; it may be finer or coarser than the image.

    Raises:
        FileError: If an edge is off by more than a pixel. Where one of them has no
            place in space nobody knows.
    """
    place = image.geometry
    if "px" in (place.unit, mask.unit) or place.ndim != mask.ndim:
        return
    pixel = max(*place.spacing, *mask.spacing)
    off = np.abs(_edges(place, image.spatial_shape) - _edges(mask, shape)).max()
    if off > pixel:
        raise FileError(
            path,
            f"lies {off:.1f} mm from where its image lies, or is mirrored against it",
            "Resample it to the image's grid",
        )


def _edges(geometry: Geometry, shape: Sequence[int]) -> NDArray[np.float64]:
    """Return where the first corner of a grid is, and where the axes end, in mm."""
    size = np.array(shape, float)
    corners = np.vstack([np.zeros(len(size)), np.diag(size)]) - 0.5
    return geometry.world(corners)


def _same_aspect(one: Sequence[int], other: Sequence[int]) -> bool:
    """Return whether planes are alike but for scale, give or take a pixel; volumes equal."""
    if len(one) != 2 or len(other) != 2:
        return tuple(one) == tuple(other)
    (a, b), (c, d) = one, other
    return abs(a * d - b * c) <= c + d

"""Pixels of films and masks as the public sets store them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy import ndimage

from medseg.errors import FileError
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.io import read_image

if TYPE_CHECKING:
    from medseg.datasets.case import Case

RAW_SHAPE = (2048, 2048)
RAW_MAX = 4095  # 12 bit
RAW_SPACING = (0.175, 0.175)  # mm
GIF_SIDE = 4096
LEAST_LUNG = 0.1  # of the larger lung; smaller pieces are stray marks


def read_film(case: Case) -> Image:
    """Read the film of ``case``, with the spacing that its set states.

    Raises:
        FileError: If it cannot be read, or the spacing has fewer axes.
    """
    if case.image.suffix.lower() == ".img":
        pixels = read_jsrt_raw(case.image)[None]
        return Image(pixels, Geometry.upright(case.spacing or RAW_SPACING))
    image = read_image(case.image)
    if case.slice is not None and image.pixels.ndim == 4:
        plane = one_plane(case.image, image.pixels, case.slice)
        spacing, unit = image.geometry.spacing[1:], image.geometry.unit
        image = Image(plane, Geometry.upright(spacing, unit), image.meta)
    stated = case.grid is None or case.grid == image.spatial_shape
    if not case.spacing or not stated or image.geometry.unit != "px":
        return image
    ndim = image.geometry.ndim
    if len(case.spacing) < ndim:
        problem = f"has {ndim} axes and its set states the spacing {case.spacing}"
        raise FileError(case.image, problem, "Give one length for each axis")
    geometry = Geometry.upright(case.spacing[-ndim:])  # of a slice: the last two
    return Image(image.pixels, geometry, image.meta)


def one_plane(path: Path, pixels: NDArray[Any], number: int) -> NDArray[Any]:
    """Return plane ``number`` of ``(C, Z, Y, X)``.

    Raises:
        FileError: If there is none.
    """
    if number >= pixels.shape[1]:
        raise FileError(path, f"has {pixels.shape[1]} planes, wanted is {number}")
    return pixels[:, number]


def read_jsrt_raw(path: Path) -> NDArray[np.uint16]:
    """Read a film of the JSRT database, ``(2048, 2048)`` uint16, dense is high.

    The files are headerless big-endian 16 bit words of which 12 are used. They
    hold optical density (black film is high), so they are inverted here.

    Raises:
        FileError: If the size or the range is another one.
    """
    expected = RAW_SHAPE[0] * RAW_SHAPE[1] * 2
    size = path.stat().st_size
    if size != expected:
        raise FileError(
            path, f"is {size} bytes, a JSRT film is {expected}", "Download it again"
        )
    raw = np.fromfile(path, ">u2").reshape(RAW_SHAPE)
    if raw.max() > RAW_MAX:
        raise FileError(
            path,
            f"holds {raw.max()}, JSRT films are 12 bit (0..{RAW_MAX})",
            "Check that its bytes were not swapped",
        )
    return (RAW_MAX - raw).astype(np.uint16)


def read_mask(
    path: Path, threshold: int = 0, plane: int | None = None
) -> NDArray[np.bool_]:
    """Return where the mask file is greater than ``threshold``, ``(Y, X)``.

    Args:
        path: The mask file.
        threshold: On is what is greater.
        plane: Of a file of several pages, the page.

    Raises:
        FileError: If it cannot be read.
    """
    if path.suffix.lower() == ".gif":
        return _read_gif(path) > threshold
    pixels = read_image(path, stored=True).pixels
    if plane is not None and pixels.ndim == 4:
        pixels = one_plane(path, pixels, plane)
    mask: NDArray[np.bool_] = pixels.max(axis=0) > threshold
    return mask


def _read_gif(path: Path) -> NDArray[np.uint8]:
    # Only the SCR archive holds GIF; `medseg.io` does not read it.
    try:
        with Picture.open(path, formats=("GIF",)) as picture:
            if picture.width > GIF_SIDE or picture.height > GIF_SIDE:
                raise FileError(
                    path,
                    f"is {picture.width} x {picture.height} pixels",
                    f"Masks of SCR are at most {GIF_SIDE} on a side",
                )
            return np.asarray(picture.convert("L"))
    except OSError as error:
        raise FileError(path, f"is no GIF: {error}") from error


def part_lungs(
    mask: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Part one mask of both lungs ``(Y, X)`` into right and left.

    The two largest 8-connected components are the lungs; the one whose centre lies
    further left in the picture is the patient's right lung. Every smaller piece
    goes to the lung whose centre column is nearer. None if there is no second
    component of at least a tenth of the first: then the lungs are joined.
    """
    components, n = ndimage.label(mask, np.ones((3, 3)))
    if n < 2:
        return None
    sizes = np.bincount(components.ravel(), minlength=n + 1)[1:]
    first, second = np.argsort(sizes, kind="stable")[::-1][:2]
    if sizes[second] < LEAST_LUNG * sizes[first]:
        return None
    columns = np.array(
        [c[1] for c in ndimage.center_of_mass(mask, components, range(1, n + 1))]
    )
    right, left = sorted((first, second), key=lambda k: columns[k])
    to_right = np.abs(columns - columns[right]) <= np.abs(columns - columns[left])
    side = np.concatenate([[False], to_right])[components]
    return mask & side, mask & ~side

"""Which pixel belongs to which cell, and which pixels nobody has said anything of.

One call for all sets: `read_instances` gives a number a cell and a map of known
pixels. A pixel that is not known gives no loss and no score.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.datasets.parting import part_touching
from medseg.errors import ConfigError, FileError, ImageWarning, printable
from medseg.io import is_image_name
from medseg.io.masks import integer_labels
from medseg.io.read import read_image

if TYPE_CHECKING:
    from medseg.datasets.case import Case

Encoding = Literal["numbered", "zero_is_cell", "bright_is_cell", "file_a_cell"]
_FOUR = ndimage.generate_binary_structure(2, 1)
_FULL_COVER = 0.5  # of a marker, for its cell to count as drawn


@dataclass(frozen=True)
class InstanceTruth:
    """Where the cells of one picture are drawn, and how.

    Args:
        path: The mask file, or for ``"file_a_cell"`` the folder of them.
        encoding: ``"numbered"``: the value is the cell's number, 0 is background.
            ``"zero_is_cell"`` and ``"bright_is_cell"`` (more than half the largest
            value): cells without numbers, told apart as 4-connected regions.
        slice: Which page or z of the file, None for the whole of it.
        markers: Mask file with a marker in every cell, drawn or not.
        partial: Whether some cells have a marker and no outline.
        reach: How many pixels a cell may extend from its marker.
        border: Width of the rim of the picture, in pixels, where cells may be left
            out that lie wholly in it.
        largest: Regions of more pixels are taken for several cells that could not
            be told apart, and are not known. 0 for no such rule.
        part: Whether regions are parted at their waists, see `part_touching`.
    """

    path: Path
    encoding: Encoding = "numbered"
    slice: int | None = None
    markers: Path | None = None
    partial: bool = False
    reach: float = 0.0
    border: int = 0
    largest: int = 0
    part: bool = False


def read_instances(case: Case) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the cells of a case and which pixels are known.

    Known are all pixels of drawn cells. Of the others, those are unknown

    - that lie within ``reach`` of a marker whose cell is not drawn (it may extend
      that far: `medseg.datasets.ctc` measures it on the drawn cells of the set),
    - that lie in the rim of ``border`` pixels, where sets leave cells out.

    All else is known to be background. A region over ``largest`` is not known.

    Returns:
        ``([Z,] Y, X)`` int32, 0 is background, cells numbered as in the file, or
        from 1 in order of place where it has no numbers; and ``([Z,] Y, X)`` bool.

    Raises:
        ConfigError: If the case has no instance truth.
        FileError: If a file cannot be read or shapes disagree.
    """
    truth = case.instances
    if truth is None:
        raise ConfigError(
            f"case {case.id}", "has no cells drawn", "Use a set of cells, such as ctc"
        )
    cells = _cells(truth)
    known = np.ones(cells.shape, bool)
    if rim := truth.border:
        known[:] = False
        known[..., rim:-rim, rim:-rim] = True
    if truth.partial:
        known &= ~_near_undrawn(truth, cells)
    known |= cells > 0
    if truth.largest:
        sizes = np.bincount(cells.ravel())
        sizes[0] = 0
        known &= ~(sizes > truth.largest)[cells]
    return cells, known


def _cells(truth: InstanceTruth) -> NDArray[np.int32]:
    if truth.encoding == "file_a_cell":
        return _file_a_cell(truth.path)
    if truth.encoding == "numbered":
        cells = read_plane(truth.path, truth.slice).astype(np.int32)
        _warn_of_pieces(truth.path, cells)
        return cells
    mask = _plane(
        truth.path, read_image(truth.path, stored=True).pixels[0], truth.slice
    )
    on = mask == 0 if truth.encoding == "zero_is_cell" else mask > mask.max() / 2
    if truth.part:
        return part_touching(on)
    structure = ndimage.generate_binary_structure(on.ndim, 1)
    return np.asarray(ndimage.label(on, structure)[0], np.int32)


def _warn_of_pieces(path: Path, cells: NDArray[np.int32]) -> None:
    """Warn of a mask of cells that nobody has numbered: they would be one cell."""
    on = cells > 0
    if not on.any() or cells[on].min() < cells.max():
        return
    pieces = ndimage.label(on, ndimage.generate_binary_structure(on.ndim, on.ndim))[1]
    if pieces > 1:
        warnings.warn(
            f"{printable(path)}: all {pieces} pieces have the number {cells.max()}, so "
            "they count as one cell; number them if they are several",
            ImageWarning,
            stacklevel=3,
        )


def read_plane(path: Path, plane: int | None) -> NDArray[Any]:
    """Return numbered cells ``([Z,] Y, X)``, or one plane of them.

    Raises:
        FileError: If they cannot be read, have several channels, are no whole numbers
            or beyond 32 bits, or there is no such plane.
    """
    pixels = read_image(path, stored=True).pixels
    if len(pixels) != 1:
        raise FileError(
            path, f"a mask of {len(pixels)} channels", "Save one channel of labels"
        )
    mask = integer_labels(path, pixels)[0]
    largest = int(mask.max(initial=0))
    if largest > np.iinfo(np.int32).max:
        raise FileError(path, f"holds the label {largest}", "Renumber from 1")
    return _plane(path, mask, plane)


def _plane(path: Path, mask: NDArray[Any], plane: int | None) -> NDArray[Any]:
    if plane is None:
        return mask
    if mask.ndim == 2 and plane == 0:
        return mask
    if mask.ndim != 3 or plane >= len(mask):
        raise FileError(path, f"has no plane {plane}, its shape is {mask.shape}")
    return mask[plane]


def _file_a_cell(folder: Path) -> NDArray[np.int32]:
    names = sorted(p for p in folder.iterdir() if is_image_name(p.name))
    if not names:
        raise FileError(folder, "holds 0 masks", "Check that it was unpacked")
    cells: NDArray[np.int32] | None = None
    for number, path in enumerate(names, start=1):
        on = read_image(path, stored=True).pixels[0] > 0
        if cells is None:
            cells = np.zeros(on.shape, np.int32)
        if on.shape != cells.shape:
            raise FileError(path, f"a mask of {on.shape} among others of {cells.shape}")
        cells[on] = number
    assert cells is not None
    return cells


def drawn_markers(
    cells: NDArray[Any], markers: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the labels of the markers whose cell is drawn, and of those not.

    Drawn means that a cell covers more than half of the marker. The numbers of
    cells and markers need not agree; in some sets they do not.

    Args:
        cells: ``([Z,] Y, X)``.
        markers: Of the same shape.
    """
    flat = markers.ravel()
    whole = np.bincount(flat)
    inside = np.bincount(flat[cells.ravel() > 0], minlength=len(whole))
    labels = np.flatnonzero(whole)
    labels = labels[labels > 0]
    drawn = inside[labels] > _FULL_COVER * whole[labels]
    return labels[drawn], labels[~drawn]


def _near_undrawn(truth: InstanceTruth, cells: NDArray[np.int32]) -> NDArray[np.bool_]:
    if truth.markers is None:
        raise FileError(
            truth.path, "partial truth without markers", "Give the file of markers"
        )
    plane = truth.slice
    if plane is None and cells.ndim == 2:
        plane = marker_plane(truth.path)
    markers = read_plane(truth.markers, plane)
    if markers.shape != cells.shape:
        raise FileError(
            truth.markers,
            f"markers of {markers.shape} for cells of {cells.shape}",
            "Both are on the grid of the frame",
        )
    _, undrawn = drawn_markers(cells, markers)
    if not len(undrawn):
        return np.zeros(cells.shape, bool)
    distance = ndimage.distance_transform_edt(~np.isin(markers, undrawn))
    return np.asarray(distance <= truth.reach)


def marker_plane(path: Path) -> int | None:
    """Return the z of a gold mask of one slice (``man_seg_012_004.tif``), or None."""
    words = path.stem.split("_")
    return int(words[3]) if len(words) == 4 and words[3].isdigit() else None

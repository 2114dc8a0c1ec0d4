"""Read masks back, of ours and of others."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import FileError, ImageWarning, printable
from medseg.io.limits import Limits
from medseg.io.read import opened
from medseg.io.sniff import HEAD, content_of
from medseg.labels import LabelSet
from medseg.segmentation import Segmentation, genuine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from medseg.geometry import Geometry

_MOST_NUMBERS = 20
"""Of a map of labels; a mask with soft edges has brighter pixels."""
_NAME_THEM = "Say what its values mean: labels=, or --names on the command line"


def read_segmentation(
    path: str | os.PathLike[str],
    labels: LabelSet | None = None,
    *,
    otherwise: LabelSet | None = None,
    limits: Limits | None = None,
) -> Segmentation:
    """Read a mask file, a DICOM-SEG, or a folder of one PNG a label.

    Args:
        path: What :func:`write_segmentation` was given or returned, or a mask of
            another program.
        labels: What its values or channels mean; needed where the file does not say.
            A mask of one label may use any value but 0 for it, or shades; one that
            holds several small numbers is a map of labels.
        otherwise: The same, but of a file that does say so its own labels count.
        limits: What the file may declare.

    Raises:
        FileError: If the file is refused, states no labels, holds values that the
            labels do not name, or no whole numbers.
    """
    path, limits = Path(path), limits or Limits()
    folder = path.parent / path.name.removesuffix(".png")
    if os.path.isdir(folder) and (folder == path or not path.exists()):
        return _read_split(folder, labels, limits)
    if _is_dicom(path):
        from medseg.io.dicomseg import read_dicomseg

        return read_dicomseg(path, labels, limits)
    with opened(path, limits) as file:
        stored = file.block.labels if file.block else None
        provenance = file.block.provenance if file.block else {}
        chosen = labels or stored or otherwise
        if chosen is None:
            raise FileError(path, "states no label names", _NAME_THEM)
        pixels, late = file.load(True)
        notes = (*file.notes, *late)
    for note in notes:
        warnings.warn(f"{printable(path)}: {note}", ImageWarning, stacklevel=2)
    pixels = integer_labels(path, pixels)
    geometry = file.geometry
    if stored is not None and labels is not None:
        pixels = _by_name(pixels, stored, labels)
    if stored is None and _are_structures(pixels, chosen):
        pixels, geometry = pixels[0], geometry.plane()
    mask = fit(path, pixels, chosen)
    return Segmentation(mask, chosen, geometry, genuine(provenance, mask))


def stated_provenance(path: Path) -> Mapping[str, Any]:
    """Return what a mask file says of how it came about, true or not.

    Raises:
        FileError: If the file is refused.
    """
    with opened(path, Limits(), header_only=True) as file:
        return file.block.provenance if file.block else {}


def stated_labels(path: Path) -> LabelSet | None:
    """Return the labels that a mask file states, or None.

    Raises:
        FileError: If the file is refused.
    """
    if _is_dicom(path):
        return read_segmentation(path).labels
    with opened(path, Limits(), header_only=True) as file:
        return file.block.labels if file.block else None


def stated_grid(path: Path) -> tuple[tuple[int, ...], Geometry]:
    """Return the size ``([Z,] Y, X)`` of a mask file, and where it says that it lies.

    Raises:
        FileError: If the file is refused.
    """
    if _is_dicom(path):
        found = read_segmentation(path)
        return found.spatial_shape, found.geometry
    with opened(path, Limits(), header_only=True) as file:
        return tuple(file.shape[1:]), file.geometry


def _is_dicom(path: Path) -> bool:
    if not os.path.isfile(path):
        return False
    try:
        with path.open("rb") as stream:
            return content_of(stream.read(HEAD)) == "dicom"
    except OSError:
        return False  # `opened` says why


def integer_labels(path: Path, pixels: NDArray[Any]) -> NDArray[Any]:
    """Return labels as integers: many programs store masks as floats.

    Raises:
        FileError: If a value is negative, no whole number, or too large to be exact.
    """
    if pixels.dtype.kind == "b":
        return pixels.view(np.uint8)
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all() or not (pixels == np.rint(pixels)).all():
            raise FileError(path, "holds values that are not whole numbers: not a mask")
        if np.abs(pixels).max(initial=0) >= 2**53:
            raise FileError(path, "holds labels too large to be exact")
        pixels = pixels.astype(np.int64)
    if pixels.dtype.kind == "i" and pixels.min(initial=0) < 0:
        raise FileError(path, f"holds the negative label {int(pixels.min())}")
    if pixels.dtype.itemsize == 8:
        largest = int(pixels.max(initial=0))
        pixels = pixels.astype(np.min_scalar_type(largest))
    return pixels


def _are_structures(pixels: NDArray[Any], labels: LabelSet) -> bool:
    """Return whether the slices of a volume are the structures of a film.

    Many programs save channels as pages, and do not say that they are none of space.
    """
    pages = pixels.ndim == 4 and pixels.shape[:2] == (1, len(labels))
    if not pages or labels.kind != "overlapping" or len(labels) < 2:
        return False
    return bool(((pixels == 0) | (pixels == pixels.max(initial=0))).all())


def _by_name(pixels: NDArray[Any], stored: LabelSet, labels: LabelSet) -> NDArray[Any]:
    """Return the channels in the caller's order, where the file names them."""
    overlapping = stored.kind == labels.kind == "overlapping"
    named = set(labels.names) <= set(stored.names) and len(pixels) == len(stored)
    if not overlapping or not named:
        return pixels
    return pixels[[stored.index(name) for name in labels.names]]


def fit(path: Path, pixels: NDArray[Any], labels: LabelSet) -> NDArray[Any]:
    """Return ``(C, [Z,] Y, X)`` integers in the form that ``labels.kind`` asks for.

    Raises:
        FileError: If they cannot be those labels.
    """
    single = len(pixels) == 1 and len(labels) == 1 and labels.kind != "instances"
    if single and not is_label_map(pixels):
        value = np.uint8(1) if labels.kind == "overlapping" else labels.labels[0].value
        on = np.where(pixels > 0, value, 0).astype(np.min_scalar_type(value))
        return on if labels.kind == "overlapping" else on[0]
    if labels.kind == "overlapping":
        if len(pixels) == len(labels) > 1:
            return (pixels > 0).view(np.uint8)
        if len(pixels) == 1:
            _check_values(path, pixels, labels)
            return np.concatenate([pixels == x.value for x in labels]).view(np.uint8)
    if len(pixels) != 1:
        raise FileError(
            path,
            f"holds {len(pixels)} channels, {labels.kind} labels "
            f"({len(labels)} of them) do not fit",
            "Give the labels that the mask was written with",
        )
    if labels.kind == "exclusive":
        _check_values(path, pixels, labels)
    return pixels[0]


def is_label_map(pixels: NDArray[Any]) -> bool:
    """Return whether a mask holds several small numbers, which are no shades."""
    top = pixels.max(initial=0)
    if pixels.dtype.kind not in "iu" or top > _MOST_NUMBERS:
        return False
    return bool(((pixels > 0) & (pixels < top)).any())


def _check_values(path: Path, pixels: NDArray[Any], labels: LabelSet) -> None:
    present: set[int] = set()
    for plane in pixels[0]:  # not all at once: bincount makes 64 bits of each
        small = int(plane.max(initial=0)) < 2**16
        found = np.flatnonzero(np.bincount(plane.ravel())) if small else plane
        present.update(np.unique(found).tolist())
    unknown = sorted(present - {0} - {x.value for x in labels})
    if unknown:
        raise FileError(
            path,
            f"holds {len(unknown)} values without a label ({str(unknown[:5])[1:-1]})",
            "Name every value: labels=, --names on the command line, or labels.json "
            "beside the masks of a training",
        )


def _read_split(folder: Path, labels: LabelSet | None, limits: Limits) -> Segmentation:
    """Read ``<label>.png`` files of one folder as overlapping or exclusive labels."""
    names = sorted(p.name for p in folder.glob("*.png") if not p.name.startswith("."))
    if labels is not None:
        missing = [n for n in labels.names if f"{n}.png" not in names]
        if missing:
            raise FileError(folder, f"has no {missing[0]}.png", "Give fewer labels")
        names = [f"{n}.png" for n in labels.names]
    if not names:
        raise FileError(folder, "holds no PNG masks", "Give a mask file")
    masks: list[NDArray[Any]] = []
    found: list[LabelSet] = []
    made: list[Mapping[str, Any]] = []
    geometry: Geometry | None = None
    for path in (folder / name for name in names):
        with opened(path, limits) as file:
            stored = file.block.labels if file.block else None
            made.append(file.block.provenance if file.block else {})
            pixels, _ = file.load(True)
        if geometry is not None and file.geometry != geometry:
            raise FileError(path, "has another geometry than its neighbours")
        if masks and pixels.shape != masks[0].shape:
            here, there = pixels.shape[1:], masks[0].shape[1:]
            raise FileError(path, f"has size {here}, its neighbours {there}")
        if labels is None:
            found.append(_one_label(path, stored))
        masks.append(integer_labels(path, pixels))
        geometry = file.geometry
    if labels is None:
        _check_distinct(folder, names, found)
        order = sorted(range(len(found)), key=lambda i: found[i].labels[0].value)
        masks = [masks[i] for i in order]
        labels = LabelSet(tuple(found[i].labels[0] for i in order), found[0].kind)
    channels = np.concatenate([m[:1] for m in masks]) > 0
    assert geometry is not None  # there is at least one file
    mask = _merge(folder, channels, labels)
    return Segmentation(mask, labels, geometry, genuine(made[0], mask))


def _one_label(path: Path, stored: LabelSet | None) -> LabelSet:
    """Return what the file of one structure states."""
    if stored is None or not stored.labels:
        raise FileError(path, "states no label name", "Give labels=")
    if len(stored) > 1 or stored.kind == "instances":
        cells = stored.kind == "instances"
        what = "numbered cells" if cells else f"{len(stored)} labels"
        problem = f"states {what}: not the mask of one structure"
        raise FileError(path, problem, "Read it by itself")
    return stored


def _check_distinct(folder: Path, names: list[str], found: list[LabelSet]) -> None:
    """Refuse files that cannot be the structures of one mask."""
    for field in ("value", "name"):
        stated: dict[Any, str] = {}
        for name, labels in zip(names, found, strict=True):
            one = getattr(labels.labels[0], field)
            if one in stated:
                problem = f"{stated[one]} and {name} both state the label {one!r}"
                remedy = "Read them by themselves: they are no parts of one mask"
                raise FileError(folder, problem, remedy)
            stated[one] = name


def _merge(folder: Path, channels: NDArray[np.bool_], labels: LabelSet) -> NDArray[Any]:
    if labels.kind == "overlapping":
        return channels.view(np.uint8)
    if labels.kind == "instances":
        raise FileError(folder, "split PNGs cannot hold instances", "Write .tif")
    if (channels.sum(axis=0, dtype=np.uint16) > 1).any():
        raise FileError(folder, "masks overlap, the labels are exclusive")
    mask = np.zeros(
        channels.shape[1:], np.min_scalar_type(max(x.value for x in labels))
    )
    for on, label in zip(channels, labels, strict=True):
        mask[on] = label.value
    return mask

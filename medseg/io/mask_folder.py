"""Find and read the masks of a folder, in any layout that medseg or a data set uses.

* ``DIR/a/b.tif``: one file a case, all structures in it;
* ``DIR/a/b/right_lung.png``: a folder a case (what ``--split-labels`` writes);
* ``DIR/[masks/]right_lung/a/b.png``: a folder a structure (JSRT, Wingspan).

The case is ``a/b`` each time: the relative path without the suffix. What a file of
medseg says that it holds counts, whatever it and its folders are called.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import ConfigError, FileError
from medseg.io.masks import (
    is_label_map,
    read_segmentation,
    stated_labels,
    stated_provenance,
)
from medseg.io.read import read_image
from medseg.io.sniff import IMAGE_SUFFIXES, is_image_name
from medseg.labels import GREY, UNIONS, Label, LabelSet, chest_labels
from medseg.segmentation import Segmentation, genuine

if TYPE_CHECKING:
    from numpy.typing import NDArray


JOURNAL_NAME = "medseg-run.jsonl"
"""Of a run, in its output folder."""

MAPS = ("_probabilities", "_uncertainty")
"""What the names of maps beside a mask end with."""


@dataclass(frozen=True)
class MaskFiles:
    """The file or files that hold the mask of one case.

    Args:
        name: Relative path without suffix, with ``/``.
        whole: The file with all structures, if there is one.
        parts: Else the file of each structure.
    """

    name: str
    whole: Path | None = None
    parts: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", MappingProxyType(dict(self.parts)))


def known_structures(labels: LabelSet | None = None) -> tuple[str, ...]:
    """Return the names that mark a file or folder as one structure's; of cells none."""
    if labels is not None and labels.kind == "instances":
        return ()
    return ((labels or chest_labels()).names) + tuple(UNIONS)


def find_masks(folder: Path, labels: LabelSet | None = None) -> dict[str, MaskFiles]:
    """Return the cases below a folder by name, sorted.

    Args:
        folder: Searched with its sub-folders; links to folders are not followed.
            If it has a sub-folder ``masks``, only that is searched, but of the
            output folder of a run all.
        labels: Their names mark the files of one structure; by default the chest's.

    Raises:
        ConfigError: If there is no such folder, it holds no mask, or two files
            stand for one case.
    """
    inner = folder / "masks"
    outputs = (folder / JOURNAL_NAME).exists()
    root = inner if inner.is_dir() and not outputs else folder
    if not root.is_dir():
        raise ConfigError(folder, "is not a folder", "Give a folder of masks")
    names = known_structures(labels)
    wholes: dict[str, Path] = {}
    parts: dict[str, dict[str, Path]] = {}
    for path in _files(root):
        relative = path.relative_to(root)
        case, structure = split_name(relative, names)
        if structure is not None and _states_others(path, structure, names):
            case, structure = split_name(relative, ())
        before = _rival(wholes.get(case), parts.get(case, {}), structure)
        if before is not None:
            problem = f"is a second mask of case {case}, beside {before}"
            raise ConfigError(path, problem, "Remove one of them")
        if structure is None:
            wholes[case] = path
        else:
            parts.setdefault(case, {})[structure] = path
    if not wholes and not parts:
        raise ConfigError(folder, "holds no mask", "Give a folder of masks")
    found = {c: MaskFiles(c, whole=p) for c, p in wholes.items()}
    for case, files in parts.items():
        ordered = {name: files[name] for name in names if name in files}
        found[case] = MaskFiles(case, parts=ordered)
    return dict(sorted(found.items()))


def _states_others(path: Path, structure: str, names: Sequence[str]) -> bool:
    """Return whether a file says that it holds something else than one structure.

    A single label that has another name is that structure, unless it is known as
    another: masks that are drawn in a viewer are called "label_1" and the like.
    """
    with suppress(FileError):  # told when it is read
        labels = stated_labels(path)
        if labels is None:
            return False
        if labels.kind == "instances" or len(labels) != 1:
            return True
        return labels.names[0] != structure and labels.names[0] in names
    return False


def _rival(
    whole: Path | None, parts: Mapping[str, Path], structure: str | None
) -> Path | None:
    """Return the file that stands already for what a new one would."""
    if whole is not None:
        return whole
    return (
        next(iter(parts.values()), None) if structure is None else parts.get(structure)
    )


def _files(root: Path) -> Iterable[Path]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(s for s in subfolders if not s.startswith("."))
        masks = {*map(stem, names), *subfolders}
        for name in sorted(names):
            if not name.startswith(".") and is_image_name(name):
                path = Path(folder, name)
                if not _is_map(stem(name), masks) and path.is_file():
                    yield path


def _is_map(own: str, masks: Collection[str]) -> bool:
    """Return whether a file is named as a map of a mask that is there."""
    of = (own.removesuffix(ending) for ending in MAPS if own.endswith(ending))
    return any(mask in masks for mask in of)


def stem(name: str) -> str:
    """Return a file name without its image suffix (``a.nii.gz`` gives ``a``)."""
    fitting = [s for s in IMAGE_SUFFIXES if name.lower().endswith(s)]
    longest = max(map(len, fitting), default=0)
    return name[: len(name) - longest]


def split_name(relative: Path, names: Sequence[str]) -> tuple[str, str | None]:
    """Return the case of a relative path, and the structure if it holds one only."""
    *folders, name = relative.parts
    own = stem(name)
    if own in names and folders:
        return str(PurePosixPath(*folders)), own
    for position, part in enumerate(folders):
        if part in names:
            rest = folders[:position] + folders[position + 1 :]
            return str(PurePosixPath(*rest, own)), part
    return str(PurePosixPath(*folders, own)), None


def read_masks(files: MaskFiles, labels: LabelSet | None = None) -> Segmentation:
    """Read the mask of a case.

    In the file of one structure a pixel is on where it is above half of the
    file's largest value, so that 0/1, 0/255 and grey-edged masks read alike;
    fractions up to 1 are on above 0.5.

    Args:
        files: Of the case.
        labels: What the values mean where a file does not say.

    Raises:
        FileError: If a file cannot be read, has several channels where one
            structure was expected, or lies on another grid than the others.
    """
    if files.whole is not None:
        return read_segmentation(files.whole, otherwise=labels)
    images = {name: read_image(path, stored=True) for name, path in files.parts.items()}
    first = next(iter(images.values()))
    for name, image in images.items():
        if len(image.pixels) != 1:
            raise FileError(
                files.parts[name],
                f"has {len(image.pixels)} channels",
                "The mask of one structure has one",
            )
        same = image.spatial_shape == first.spatial_shape
        if not same or not image.geometry.matches(first.geometry):
            raise FileError(
                files.parts[name],
                f"has shape {image.spatial_shape} and spacing "
                f"{image.geometry.spacing}, another structure of the case "
                f"{first.spatial_shape} and {first.geometry.spacing}",
                "Draw all structures on the image's grid",
            )
    on = [_on(files.parts[name], image.pixels[0]) for name, image in images.items()]
    mask = np.stack(on).view(np.uint8)
    provenance = genuine(stated_provenance(next(iter(files.parts.values()))), mask)
    return Segmentation(mask, labels_named(images, labels), first.geometry, provenance)


def _on(path: Path, pixels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where the mask of one structure is on."""
    if not np.isfinite(pixels).all():
        wrong = int(np.count_nonzero(~np.isfinite(pixels)))
        problem = f"{wrong} of its {pixels.size} pixels are NaN or infinite"
        raise FileError(path, problem, "Save the mask as whole numbers")
    if is_label_map(pixels):
        top = int(pixels.max())
        problem = f"holds several numbers up to {top}: not the mask of one structure"
        raise FileError(path, problem, "Put it where a mask of all structures goes")
    largest = float(pixels.max(initial=0))
    fractions = pixels.dtype.kind == "f" and largest <= 1
    on: NDArray[np.bool_] = pixels > (0.5 if fractions else largest / 2)
    return on


def labels_named(names: Iterable[str], labels: LabelSet | None = None) -> LabelSet:
    """Return overlapping labels of these names, with the colours of ``labels``."""
    colours = {x.name: x.colour for x in labels or chest_labels()}
    return LabelSet(
        tuple(
            Label(i, name, colours.get(name, GREY)) for i, name in enumerate(names, 1)
        ),
        "overlapping",
    )

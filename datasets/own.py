"""Images of your own, with masks that medseg wrote and a person has checked.

``images/`` holds the images, in any format that `medseg.io` reads, and ``masks/`` what
``medseg predict images -o masks`` writes for them, or masks of another program in any
layout of `medseg.io.mask_folder`. An image and its mask have one name: ``images/a/b.dcm``
and ``masks/a/b.nii.gz``, ``masks/heart/a/b.png`` or ``masks/a/b/heart.png``.

Images of one sub-folder are of one patient, or one movie, unless ``splits.json`` says
which are for training: ``{"a": "train", "c/d": "val"}``, for a sub-folder or an image.

Masks of medseg say what they hold. For others a ``labels.json`` does,
``{"right_lung": 1, "left_lung": 2}``, values or channels; where a single structure is
learnt, all that is not 0 is taken for it. In masks of cells the value is the number of
the cell.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medseg.datasets.case import STRUCTURES, Case
from medseg.datasets.folders import need_folders, read_splits
from medseg.datasets.instances import InstanceTruth
from medseg.errors import ConfigError, FileError, ImageWarning
from medseg.io import is_image_name
from medseg.io.mask_folder import MaskFiles, find_masks, labels_named, stem
from medseg.io.masks import stated_labels
from medseg.labels import GREY, Label, LabelSet

_LABELS, _SPLITS = "labels.json", "splits.json"
_EXAMPLE = '{"right_lung": 1, "left_lung": 2}'


def cases(
    folder: str | Path, names: Sequence[str] = STRUCTURES, *, cells: bool = False
) -> list[Case]:
    """Return the images of ``folder`` that have a mask, sorted by name.

    Warns, with counts, of images without a mask and masks without an image.

    Args:
        folder: With ``images/`` and ``masks/``.
        names: Structures that are learnt: they mark the files of one structure.
        cells: Whether the masks hold numbered cells instead.

    Raises:
        FileError: If a sub-folder is missing, no image has a mask, two images have one
            name, a mask does not say what it holds, or ``labels.json`` or
            ``splits.json`` is wrong.
        ConfigError: If there is no mask, or two files stand for the mask of one image.
    """
    folder = Path(folder)
    need_folders(folder, "images", "masks")
    images = _images(folder / "images")
    masks = find_masks(folder / "masks", labels_named(names))
    both = sorted(images.keys() & masks.keys())
    if not both:
        problem = f"{len(images)} images, {len(masks)} masks and no image has a mask"
        raise FileError(folder, problem, "Give an image and its mask one name")
    _warn(folder, "images without a mask", images.keys() - masks.keys())
    _warn(folder, "masks without an image", masks.keys() - images.keys())
    splits = _splits(folder / _SPLITS, both)
    labels = _labels(folder / _LABELS)
    if labels is None and len(names) == 1:
        labels = labels_named(names)
    found = []
    for name in both:
        case = Case(name, images[name], {}, (), _group(name), splits.get(name))
        add = _with_cells if cells else _with_structures
        found.append(add(case, masks[name], labels))
    return found


def _images(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or not is_image_name(path.name) or not path.is_file():
            continue
        name = _name(relative)
        if name in found:
            problem = f"is a second image {name}, beside {found[name].name}"
            raise FileError(path, problem, "Remove or rename one of them")
        found[name] = path
    return found


def _name(relative: Path) -> str:
    return relative.with_name(stem(relative.name)).as_posix()


def _warn(folder: Path, what: str, names: Collection[str]) -> None:
    if names:
        some = ", ".join(sorted(names)[:5]) + (", ..." if len(names) > 5 else "")
        text = f"{folder}: {len(names)} {what} are left out ({some})"
        warnings.warn(text, ImageWarning, stacklevel=3)


def _group(name: str) -> str:
    return name.partition("/")[0]


def _splits(path: Path, names: Sequence[str]) -> Mapping[str, str]:
    """Return the split of each image; empty where nobody states one."""
    stated = read_splits(path)
    if not stated:
        return {}
    unknown = sorted(stated.keys() - {*names, *map(_group, names)})
    if unknown:
        problem = f"names {unknown[0]}, which is no image with a mask, and no folder"
        raise FileError(path, problem, "Correct or remove that entry")
    splits = {name: stated.get(name, stated.get(_group(name), "")) for name in names}
    silent = [name for name, split in splits.items() if not split]
    if silent:
        problem = f"says nothing of {len(silent)} images, such as {silent[0]}"
        raise FileError(path, problem, "Say train or val of each, or of its folder")
    return splits


def _labels(path: Path) -> LabelSet | None:
    if not path.is_file():
        return None
    try:
        table = dict(json.loads(path.read_text(encoding="utf-8")))
        values = {str(n): int(v) for n, v in table.items() if int(v) != 0}
        labels = tuple(Label(value, name, GREY) for name, value in values.items())
        return LabelSet(labels, "overlapping")
    except (TypeError, ValueError, ConfigError) as error:
        problem = f"is no table of a value from 1 by name ({error})"
        raise FileError(path, problem, f"Write it as {_EXAMPLE}") from error


def _with_structures(case: Case, masks: MaskFiles, labels: LabelSet | None) -> Case:
    if masks.whole is None:
        truth = dict(masks.parts)
    else:
        labels = stated_labels(masks.whole) or labels
        if labels is None:
            remedy = f"Write {_LABELS} beside masks/, such as {_EXAMPLE}"
            raise FileError(masks.whole, "states no label names", remedy)
        if labels.kind == "instances":
            remedy = "Learn labels of the kind instances, or give masks of structures"
            raise FileError(masks.whole, "holds numbered cells", remedy)
        truth = dict.fromkeys(labels.names, masks.whole)
    return replace(
        case, truth=truth, annotated=tuple(truth), masks=masks, labels=labels
    )


def _with_cells(case: Case, masks: MaskFiles, labels: LabelSet | None) -> Case:
    del labels  # the number of a cell is its own
    if masks.whole is None:
        path = next(iter(masks.parts.values()))
        raise FileError(
            path, "is the mask of one structure", "Number cells in one file"
        )
    stated = stated_labels(masks.whole)
    if stated is not None and stated.kind != "instances":
        problem = f"holds {', '.join(stated.names)} and no numbered cells"
        raise FileError(masks.whole, problem, "Give masks with a number for each cell")
    return replace(case, instances=InstanceTruth(masks.whole))

"""Images of your own, with masks that medseg wrote and a person has checked.

``images/`` holds the images, whatever ``medseg predict`` takes, and ``masks/`` what
``medseg predict images -o masks`` writes for them, or masks of another program in any
layout of `medseg.io.mask_folder`. An image and its mask have one name: ``images/a/b.dcm``
and ``masks/a/b.nii.gz``, ``masks/heart/a/b.png`` or ``masks/a/b/heart.png``.

Images of one sub-folder are of one patient, or one movie in the order of its numbers,
unless ``splits.json`` says which are for training: ``{"a": "train", "c/d": "val"}``, for
a sub-folder or an image.

Masks of medseg say what they hold. For others a ``labels.json`` does,
``{"right_lung": 1, "left_lung": 2}``, values or channels; where a single structure is
learnt, all that is not 0 is taken for it. In masks of cells the value is the number of
the cell.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from medseg.datasets.case import STRUCTURES, Case
from medseg.datasets.folders import need_folders, read_splits
from medseg.datasets.instances import InstanceTruth
from medseg.errors import ConfigError, FileError, ImageWarning
from medseg.io.mask_folder import find_masks, labels_named, stem
from medseg.io.masks import stated_labels
from medseg.io.scan import scan
from medseg.labels import GREY, Label, LabelSet, cell_labels

_LABELS, _SPLITS = "labels.json", "splits.json"
_EXAMPLE = '{"right_lung": 1, "left_lung": 2}'


def cases(
    folder: str | Path, names: Sequence[str] = STRUCTURES, *, cells: bool = False
) -> list[Case]:
    """Return the images of ``folder`` that have a mask, sorted by name.

    Warns, with counts, of images without a mask, masks without an image, and images in
    which none of the structures is drawn.

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
    marks = labels_named(dict.fromkeys((*names, *STRUCTURES)))
    masks = find_masks(folder / "masks", cell_labels() if cells else marks)
    both = sorted(images.keys() & masks.keys(), key=_natural)
    if not both:
        problem = f"{len(images)} images, {len(masks)} masks and no image has a mask"
        raise FileError(folder, problem, "Give an image and its mask one name")
    _warn(folder, "images without a mask", images.keys() - masks.keys())
    _warn(folder, "masks without an image", masks.keys() - images.keys())
    splits = _splits(folder / _SPLITS, images, both)
    frames = _frames(images)
    named = _labels(folder / _LABELS)
    if named is None and len(names) == 1:
        named = labels_named(names)
    found = []
    for name in both:
        case = Case(
            id=name,
            image=images[name],
            truth={},
            annotated=(),
            group=_group(name),
            split=splits.get(name),
            frame=frames[name],
            masks=masks[name],
        )
        found.append(_with_cells(case) if cells else _with_structures(case, named))
    return found if cells else _drawn(found, names, folder)


def _drawn(cases: list[Case], names: Sequence[str], folder: Path) -> list[Case]:
    """Return the cases in which one of the structures that are learnt is drawn."""
    useless = [case.id for case in cases if not set(names) & set(case.truth)]
    if len(useless) == len(cases):
        return cases  # whoever asked for these names says which there are
    _warn(folder, "images with other structures alone", useless)
    return [case for case in cases if case.id not in set(useless)]


def _images(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for case in scan(root).cases:
        name = _name(case.name)
        if name in found:
            problem = f"is a second image {name}, beside {found[name].name}"
            raise FileError(case.path, problem, "Remove or rename one of them")
        found[name] = case.path
    return found


def _name(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return folder + slash + stem(name)


def _natural(name: str) -> list[str | int]:
    """Return a key that sorts ``t2`` before ``t10``."""
    parts = re.split(r"(\d+)", name)
    return [int(p) if p.isdecimal() else p for p in parts]


def _frames(names: Collection[str]) -> dict[str, int]:
    """Return the place of each image in its folder."""
    count: Counter[str] = Counter()
    frames = {}
    for name in sorted(names, key=_natural):
        folder = name.rpartition("/")[0]
        frames[name] = count[folder]
        count[folder] += 1
    return frames


def _warn(folder: Path, what: str, names: Collection[str]) -> None:
    if names:
        some = ", ".join(sorted(names)[:5]) + (", ..." if len(names) > 5 else "")
        text = f"{folder}: {len(names)} {what} are left out ({some})"
        warnings.warn(text, ImageWarning, stacklevel=3)


def _group(name: str) -> str:
    return name.partition("/")[0]


def _splits(
    path: Path, images: Collection[str], wanted: Sequence[str]
) -> Mapping[str, str]:
    """Return the split of each wanted image; empty where nobody states one."""
    stated = read_splits(path)
    if not stated:
        return {}
    places = {place for name in images for place in _places(name)}
    unknown = sorted(stated.keys() - places)
    if unknown:
        problem = f"names {unknown[0]}, which is no image and no folder of images"
        raise FileError(path, problem, "Correct or remove that entry")
    splits = {
        name: next((stated[p] for p in _places(name) if p in stated), "")
        for name in wanted
    }
    silent = [name for name, split in splits.items() if not split]
    if silent:
        problem = f"says nothing of {len(silent)} images, such as {silent[0]}"
        raise FileError(path, problem, "Say train or val of each, or of its folder")
    return splits


def _places(name: str) -> list[str]:
    """Return an image and the folders it lies in, the nearest first."""
    return [name, *(str(p) for p in PurePosixPath(name).parents if p.name)]


def _labels(path: Path) -> LabelSet | None:
    if not path.is_file():
        return None
    try:
        table = dict(json.loads(path.read_text(encoding="utf-8")))
        # Channels are in the order of their values.
        values = sorted((int(v), str(n)) for n, v in table.items() if int(v) != 0)
        labels = tuple(Label(value, name, GREY) for value, name in values)
        return LabelSet(labels, "overlapping")
    except (TypeError, ValueError, ConfigError) as error:
        problem = f"is no table of a value from 1 by name ({error})"
        raise FileError(path, problem, f"Write it as {_EXAMPLE}") from error


def _with_structures(case: Case, labels: LabelSet | None) -> Case:
    assert case.masks is not None
    whole, names = case.masks.whole, tuple(case.masks.parts)
    if whole is not None:
        labels = stated_labels(whole) or labels
        if labels is None:
            remedy = f"Write {_LABELS} beside masks/, such as {_EXAMPLE}"
            raise FileError(whole, "states no label names", remedy)
        if labels.kind == "instances":
            remedy = "Learn labels of the kind instances, or give masks of structures"
            raise FileError(whole, "holds numbered cells", remedy)
        names = labels.names
    files = {name: whole or case.masks.parts[name] for name in names}
    return replace(case, truth=files, annotated=names, labels=labels)


def _with_cells(case: Case) -> Case:
    # No name marks the mask of one structure among masks of cells.
    assert case.masks is not None
    assert case.masks.whole is not None
    whole = case.masks.whole
    stated = stated_labels(whole)
    if stated is not None and stated.kind != "instances":
        problem = f"holds {', '.join(stated.names)} and no numbered cells"
        raise FileError(whole, problem, "Give masks with a number for each cell")
    return replace(case, instances=InstanceTruth(whole))

"""Which file gives which mask: decided for all files before any work."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from medseg.batch.items import FORMATS, Item, Namer, OutputFormat, Plan
from medseg.batch.journal import Journal
from medseg.errors import DiskError, PlanError, counted
from medseg.io import is_image_name
from medseg.io.scan import Found, Identity, inspect, is_dicom, scan
from medseg.labels import LabelSet

# Masks compress to a few per cent of the film; measured 1 to 3 % for chest films.
_MASK_SHARE = 0.05


def _results(folder: Path) -> Iterable[str]:
    return Journal(folder).read().paths()


def make_plan(
    inputs: Sequence[Path | str],
    out: Path | str,
    labels: LabelSet,
    *,
    format: OutputFormat = "same",
    split_labels: bool = False,
    maps: Sequence[str] = (),
    anonymous_names: bool = False,
) -> Plan:
    """Plan a run over files and folders; writes nothing.

    A folder's files keep their path below it, a single file its bare name.

    Args:
        inputs: Files and folders; a folder with a DICOM series is one case.
        out: The output folder; it need not exist, and is never scanned.
        labels: Of the model: decides which formats can hold the mask.
        format: Of the masks.
        split_labels: One mask file a label, in a folder named after the input.
        maps: Further outputs, ``"probabilities"`` and ``"uncertainty"``.
        anonymous_names: Numbers from 000001, in the order of the names, in place of
            the names in every output.

    Raises:
        PlanError: If an input is missing or holds no image, two inputs map to one
            output, an output is an input, or the format cannot hold the labels or
            does not go with the images.
        DiskError: If the results will not fit the disk.
    """
    out = Path(out)
    _check_out(out, format, labels, split_labels)
    found, ignored = _find(inputs, out)
    if format == "dcm-seg":
        _check_sources(found)
    namer = Namer(labels, format, split_labels, tuple(maps))
    if anonymous_names:
        items = tuple(namer.numbered(case, k) for k, case in enumerate(found, 1))
    else:
        items = tuple(map(namer.item, found))
    if not items:
        raise PlanError(
            ", ".join(str(path) for path in inputs) or "inputs",
            f"no image found, {counted(ignored, 'other file')} ignored",
            "Give image files, or folders that hold some",
        )
    _check_collisions(items, fold=_folds_case(out))
    _check_inputs_stay(items, found, out)
    plan = Plan(items, out, ignored)
    _check_space(plan, len(labels) if "probabilities" in maps else 0)
    return plan


def _check_out(out: Path, format: str, labels: LabelSet, split: bool) -> None:
    if format not in FORMATS:
        raise PlanError("format", f"is {format!r}", f"Choose from {', '.join(FORMATS)}")
    if out.exists() and not out.is_dir():
        raise PlanError(out, "is a file, not a folder", "Give an output folder")
    if not out.exists() and is_image_name(out.name):
        raise PlanError(out, "looks like an image file", "Give an output folder")
    if format == "png" and labels.kind == "overlapping" and not split:
        raise PlanError(
            "format",
            f"png holds one channel, the labels are {len(labels)} overlapping ones",
            "Add --split-labels, or choose tif or nii.gz",
        )
    if split and labels.kind == "instances":
        raise PlanError(
            "split_labels",
            "one file a label would lose the numbers of the cells",
            "Leave out --split-labels",
        )
    if format == "dcm-seg" and labels.kind == "instances":
        raise PlanError(
            "format",
            "a DICOM-SEG cannot hold numbered cells",
            "Choose same, tif or nii.gz",
        )
    if format == "dcm-seg" and split:
        raise PlanError(
            "split_labels",
            "a DICOM-SEG file holds all labels",
            "Leave out --split-labels, or choose another format",
        )


def _check_sources(found: Sequence[Found]) -> None:
    others = [case for case in found if not case.problem and not is_dicom(case)]
    if others:
        raise PlanError(
            others[0].path,
            f"a DICOM-SEG belongs to a DICOM image, {len(others)} of {len(found)} "
            "inputs are none, this is the first",
            "Choose another --format, or leave them out",
        )


def _find(inputs: Sequence[Path | str], out: Path) -> tuple[list[Found], int]:
    """Return every case of all inputs in the order of their names, and the junk."""
    skip = _identity(out)
    cases: dict[tuple[object, ...], Found] = {}
    ignored = 0
    for given in map(Path, inputs):
        if not os.path.lexists(given):
            raise PlanError(given, "no such file or folder", "Check the path")
        if given.is_dir():
            if skip is not None and _identity(given) == skip:
                raise PlanError(
                    given, "is also the output folder", "Give another output folder"
                )
            result = scan(given, skip, _results)
            ignored += result.ignored
            found: Iterable[Found] = result.cases
        else:
            found = [inspect(given, given.name)]
        for case in found:
            # Given twice, by itself and with its folder: one case.
            key = (case.name, *(case.identities or (str(case.path),)))
            cases.setdefault(key, case)
    return sorted(cases.values(), key=lambda case: case.name), ignored


def _identity(path: Path | str) -> Identity | None:
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _folds_case(out: Path) -> bool:
    """Return whether the output's disk takes ``A`` and ``a`` for one name."""
    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    while folder.name and folder.name.swapcase() == folder.name:
        folder = folder.parent
    if not folder.name:
        return sys.platform in ("win32", "darwin")
    here = _identity(folder)
    return here == _identity(folder.with_name(folder.name.swapcase()))


def _check_collisions(items: Sequence[Item], fold: bool) -> None:
    owner: dict[str, Item] = {}
    folders: dict[str, Item] = {}
    for item in items:
        for output in item.outputs:
            key = output.casefold() if fold else output
            if key in owner:
                _refuse_twins(owner[key], item, output)
            owner[key] = item
            for parent in PurePosixPath(key).parents[:-1] if "/" in key else ():
                folders.setdefault(str(parent), item)
    for key in folders.keys() & owner.keys():
        _refuse_twins(owner[key], folders[key], key)


def _refuse_twins(first: Item, second: Item, output: str) -> None:
    raise PlanError(
        second.source,
        f"maps to the output {output}, and so does {first.source}",
        "Rename one, or run them into two output folders",
    )


def _check_inputs_stay(items: Sequence[Item], found: list[Found], out: Path) -> None:
    """Refuse a run that would write over one of its inputs, by file identity."""
    if not out.is_dir():
        return
    sources = {identity: case.path for case in found for identity in case.identities}
    for item in items:
        for output in item.outputs:
            identity = _identity(os.path.join(out, output))
            if identity in sources:
                raise PlanError(
                    out / output,
                    f"this output is the input {sources[identity]}",
                    "Give another output folder",
                )


def _check_space(plan: Plan, channels: int) -> None:
    """Refuse a run whose results, by a rough estimate, do not fit."""
    folder = plan.out.absolute()
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    wanted = _estimate(plan.items, channels)
    if wanted > free:
        # What is there already, of a run that was ended, needs no room any more.
        wanted = _estimate([i for i in plan.items if not _is_there(i, plan)], channels)
    if wanted > free:
        raise DiskError(
            plan.out,
            f"the results need about {wanted / 1e6:.0f} MB, {free / 1e6:.0f} MB are free",
            "Free space, or choose a folder on another disk",
        )


def _estimate(items: Sequence[Item], channels: int) -> int:
    """Return roughly how many bytes the results of these cases take."""
    # A compressed film grows about fourfold in memory; probabilities are float32.
    share = _MASK_SHARE + 4 * channels
    return int(sum(item.size for item in items) * share) + 4096 * len(items)


def _is_there(item: Item, plan: Plan) -> bool:
    return all((plan.out / output).is_file() for output in item.outputs)

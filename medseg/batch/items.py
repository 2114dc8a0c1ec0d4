"""The cases of a plan, and how their outputs are named after them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from medseg.errors import PlanError
from medseg.io.mask_folder import MaskFiles, stem
from medseg.io.scan import Found
from medseg.labels import LabelSet

OutputFormat = Literal["same", "nii.gz", "tif", "png", "dcm-seg"]
FORMATS: tuple[str, ...] = ("same", "nii.gz", "tif", "png", "dcm-seg")

# Suffix of the input -> suffix of the mask, longest first.
_SAME = (
    (".nii.gz", ".nii.gz"),
    (".nii", ".nii.gz"),
    (".nrrd", ".nrrd"),
    (".nhdr", ".nrrd"),
    (".mha", ".mha"),
    (".mhd", ".mha"),
    (".tiff", ".tif"),
    (".tif", ".tif"),
    (".png", ".png"),
    (".jpeg", ".png"),
    (".jpg", ".png"),
    (".dicom", ".nii.gz"),
    (".dcm", ".nii.gz"),
    (".ima", ".nii.gz"),
)
_LONGEST_NAME = 255


@dataclass(frozen=True)
class Item:
    """One case and where its results go.

    Args:
        source: A file, or a folder with one DICOM series.
        name: Path of the source below its input folder: its name in every table.
        target: Path of the mask below the output folder, as given to the writer.
        outputs: Every file that it will write, below the output folder.
        size: Bytes of the source.
        mtime_ns: Time of the source's last change.
        series: True for a DICOM series.
        problem: Why it fails without being opened; else empty.
        numbered: The name is a number, which another file may have had before.
        maps: Those of the outputs that are no masks.
    """

    source: Path
    name: str
    target: str
    outputs: tuple[str, ...]
    size: int
    mtime_ns: int
    series: bool = False
    problem: str = ""
    numbered: bool = False
    maps: tuple[str, ...] = ()

    @property
    def masks(self) -> tuple[str, ...]:
        """Those of the outputs that are no maps."""
        return tuple(path for path in self.outputs if path not in self.maps)

    def mask_files(self, out: Path) -> MaskFiles:
        """Return the files of the mask, below the output folder ``out``."""
        if self.masks == (self.target,):
            return MaskFiles(self.name, whole=out / self.target)
        parts = {stem(PurePosixPath(path).name): out / path for path in self.masks}
        return MaskFiles(self.name, parts=parts)


@dataclass(frozen=True)
class Plan:
    """The cases of a run in the order of their names, and the output folder."""

    items: tuple[Item, ...]
    out: Path
    ignored: int = 0

    @property
    def input_bytes(self) -> int:
        """Bytes to read."""
        return sum(item.size for item in self.items)


@dataclass(frozen=True)
class Namer:
    """Names the outputs of a case from its relative path or its number alone."""

    labels: LabelSet
    format: str
    split: bool
    maps: tuple[str, ...]

    def numbered(self, case: Found, number: int) -> Item:
        """Return the case under a number in place of its name."""
        ending = case.name[len(self._split(case)[0]) :]
        hidden = replace(case, name=f"{number:06d}{'' if case.series else ending}")
        return replace(self.item(hidden), numbered=True)

    def item(self, case: Found) -> Item:
        """Return the case with the names of all its outputs."""
        stem, suffix = self._split(case)
        target = stem + suffix
        masks = (
            tuple(f"{stem}/{name}{suffix}" for name in self.labels.names)
            if self.split
            else (target,)
        )
        maps = tuple(map_name(target, kind) for kind in self.maps)
        outputs = masks + maps
        problem = case.problem
        longest = max(
            len(os.fsencode(part)) for path in outputs for part in path.split("/")
        )
        if not problem and longest > _LONGEST_NAME:
            problem = (
                f"its output name has {longest} bytes, the limit is {_LONGEST_NAME}"
            )
        return Item(
            case.path,
            case.name,
            target,
            outputs,
            case.size,
            case.mtime_ns,
            case.series,
            problem,
            maps=maps,
        )

    def _split(self, case: Found) -> tuple[str, str]:
        """Return the output's stem and suffix."""
        stem, suffix = case.name, ".nii.gz"
        if not case.series:
            for known, same in _SAME:
                if case.name.lower().endswith(known):
                    stem, suffix = case.name[: -len(known)], same
                    break
        if self.format != "same":
            suffix = ".dcm" if self.format == "dcm-seg" else f".{self.format}"
        elif suffix == ".png" and self.labels.kind == "overlapping" and not self.split:
            suffix = ".tif"  # a PNG holds no channel axis
        return stem, suffix


def map_name(target: str, kind: str) -> str:
    """Return the file name of a probability or uncertainty map beside ``target``."""
    for suffix in (".nii.gz", ".nrrd", ".mha", ".tif", ".png", ".dcm"):
        if target.endswith(suffix):
            volume = suffix in (".nii.gz", ".nrrd", ".mha", ".dcm")
            return f"{target[: -len(suffix)]}_{kind}{'.nii.gz' if volume else '.tif'}"
    raise PlanError(target, "has no mask suffix")

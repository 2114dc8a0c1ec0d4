"""ISBI 2012 EM stack: neurites of a fly larva, parted by membranes.

Cardona et al. 2010, PLoS Biology 8(10):e1000502; Arganda-Carreras et al. 2015,
Frontiers in Neuroanatomy 9:142. Serial sections, 4 x 4 x 50 nm a voxel, 512 x 512.

Labels are membrane (0) and cell (255): exclusive classes of a pixel, read by
`read_truth(case, ("cell",))`. The instances are the 4-connected regions of cell
(`read_instances`), which is what the challenge's Rand and warping errors compare.

Held back is the last quarter of the slices, one block: neighbours in the stack show
the same cells, so that slices drawn at random would be in both parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medseg.datasets.case import Case
from medseg.datasets.folders import need_folders
from medseg.datasets.instances import InstanceTruth
from medseg.errors import FileError
from medseg.io import open_movie

CELL = "cell"
THRESHOLD = 127
SPACING = (4e-6, 4e-6)  # mm
TRAINING_SHARE = 3 / 4
VOLUME, LABELS = "train-volume.tif", "train-labels.tif"


def cases(folder: str | Path) -> list[Case]:
    """Return the slices of ``folder`` in order; the last quarter is for val.

    Prepared: ``image/00.png`` and ``label/00.png``.
    Public: ``train-volume.tif`` and ``train-labels.tif``, 30 pages each.

    Raises:
        FileError: If a sub folder or a label is missing, a name is no number, or
            volume and labels have other numbers of pages.
    """
    folder = Path(folder)
    if (folder / VOLUME).is_file():
        return _held_back(_pages(folder))
    need_folders(folder, "image", "label")
    found = []
    for image in sorted((folder / "image").glob("*.png")):
        label = folder / "label" / image.name
        if not image.stem.isdigit():
            raise FileError(image, "its name is no slice number", "Name it as 00.png")
        if not label.is_file():
            raise FileError(label, "there is no label of this slice", "Unpack it again")
        found.append(_case(image, label, int(image.stem), None))
    if not found:
        raise FileError(folder, "holds 0 slices", "Check that it was unpacked")
    return _held_back(found)


def _pages(folder: Path) -> list[Case]:
    volume, labels = folder / VOLUME, folder / LABELS
    if not labels.is_file():
        raise FileError(labels, "there are no labels of the volume", "Unpack it again")
    counts = len(open_movie(volume)), len(open_movie(labels))
    if counts[0] != counts[1]:
        raise FileError(
            labels, f"has {counts[1]} pages, the volume has {counts[0]}", "Get it again"
        )
    return [_case(volume, labels, i, i) for i in range(counts[0])]


def _case(image: Path, label: Path, number: int, plane: int | None) -> Case:
    return Case(
        id=f"isbi2012/{number:02d}",
        image=image,
        truth={CELL: label},
        annotated=(CELL,),
        group="isbi2012",
        threshold=THRESHOLD,
        spacing=SPACING,
        frame=number,
        slice=plane,
        instances=InstanceTruth(label, encoding="bright_is_cell", slice=plane),
    )


def _held_back(cases: Sequence[Case]) -> list[Case]:
    cut = round(len(cases) * TRAINING_SHARE)
    return [
        replace(case, split="train" if i < cut else "val")
        for i, case in enumerate(cases)
    ]

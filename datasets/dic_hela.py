"""DIC-C2DH-HeLa as single pictures: HeLa cells under differential interference.

From the Cell Tracking Challenge (Ulman et al. 2017, Nature Methods 14:1141-1152);
its terms allow no redistribution. 60 frames of one movie, 10 minutes apart.

The labels say cell (0) or background (65535) and number no cells. Touching cells
are parted by thin gaps, many of them open: 4-connected regions are 369 pieces over
125 pixels in 60 frames, up to 138,964 pixels large, where a cell has 10,600 in the
median. So regions are parted at their waists (`medseg.datasets.parting`), which
gives 696 cells. Those that are still over twice the median (8 of them) are most
likely two, and are unknown: no loss and no score.

Now and then a spread, faint cell is not drawn at all (frame 028); that is not seen.
"""

from __future__ import annotations

from pathlib import Path

from medseg.datasets import ctc
from medseg.datasets.case import Case
from medseg.datasets.folders import checked, need_folders
from medseg.datasets.instances import InstanceTruth
from medseg.errors import FileError

SPACING = ctc.SPACING["DIC-C2DH-HeLa"]  # mm
MEDIAN_AREA = 10_600  # pixels
LARGEST = 2 * MEDIAN_AREA


def cases(folder: str | Path) -> list[Case]:
    """Return the frames of ``folder``, split by time: the last third is for val.

    Prepared: ``images/000.png`` and ``labels/000.png``, 512 x 512.
    Public: the challenge's layout (``01``, ``01_GT/SEG``, ``01_ST/SEG``); then the
    cells are numbered, and silver truth is used where there is some, for it draws
    every cell of every frame.

    Raises:
        FileError: If a sub folder or a label is missing, or a name is no number.
    """
    folder = Path(folder)
    if (folder / "01").is_dir():
        silver = (folder / "01_ST" / "SEG").is_dir()
        found = ctc.cases(folder, truth="silver" if silver else "gold")
        return ctc.split_by_time(found)
    need_folders(folder, "images", "labels")
    found = [_case(folder, p) for p in sorted((folder / "images").glob("*.png"))]
    return ctc.split_by_time(checked(found, folder))


def _case(folder: Path, image: Path) -> Case:
    label = folder / "labels" / image.name
    if not image.stem.isdigit():
        raise FileError(image, "its name is no frame number", "Name it as 000.png")
    if not label.is_file():
        raise FileError(label, "there is no label of this frame", "Unpack it again")
    return Case(
        id=f"dic-hela/{image.stem}",
        image=image,
        truth={},
        annotated=(),
        group="dic-hela",
        spacing=SPACING,
        frame=int(image.stem),
        instances=InstanceTruth(
            label, encoding="zero_is_cell", part=True, largest=LARGEST
        ),
    )

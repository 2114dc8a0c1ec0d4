"""Draw the picture of README.md from what ``medseg demo`` left.

    medseg demo && python docs/demo_picture.py medseg-demo

puts two films with their outlines, two frames of the movie and its lineage side by
side into ``docs/images/demo.png``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageOps

PICTURE = Path(__file__).parent / "images" / "demo.png"
PANELS = (
    "overlays/chest-xray/synthetic0000.png",
    "overlays/chest-xray/synthetic0003.png",
    "nuclei-fluorescence/01_RES/report/t004.png",
    "nuclei-fluorescence/01_RES/report/t015.png",
)
SIDE, GAP, PAPER = 300, 6, (18, 18, 18)


def main(folder: Path) -> None:
    """Write the picture."""
    panels = [Image.open(folder / name).convert("RGB") for name in PANELS]
    wide = (SIDE + GAP) * len(panels) - GAP
    picture = Image.new("RGB", (wide, SIDE), PAPER)
    for k, panel in enumerate(panels):
        square = ImageOps.fit(panel, (SIDE, SIDE), Image.Resampling.LANCZOS)
        picture.paste(square, (k * (SIDE + GAP), 0))
    picture.save(PICTURE, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Write TIFF, with medseg's own description of axes and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from medseg.io.tiff_metadata import describe

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from medseg.io.block import Block

# The time that PackBits takes grows with the square of a run's length: for empty rows
# of 20,000 pixels it is 25 times that of deflate.
_LONG_ROW = 2048


def write_tiff(
    stream: BinaryIO, path: Path, pixels: NDArray[Any], axes: str, block: Block
) -> None:
    """Write ``pixels``, a page for each leading index, in the order of ``axes``.

    Masks of 8 bits are packed as runs (PackBits) unless their rows are long, all else
    is deflated: both are lossless, quick, and read by every program.
    """
    import tifffile

    if pixels.dtype == np.uint8 and pixels.shape[-1] <= _LONG_ROW:
        packing: dict[str, Any] = {"compression": "packbits"}
    else:
        packing = {"compression": "zlib", "compressionargs": {"level": 1}}
    resolution: dict[str, Any] = {}
    if block.geometry.unit == "mm":
        y, x = block.geometry.spacing[-2:]
        resolution = {"resolution": (10 / x, 10 / y), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(
        stream,
        pixels,
        photometric="minisblack",
        planarconfig=None,
        metadata=None,
        description=describe(pixels.shape, axes, block),
        software="medseg",
        maxworkers=1,
        **packing,
        **resolution,
    )

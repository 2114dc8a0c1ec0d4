"""Write NRRD, with the fields by which 3D Slicer knows segments."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medseg.geometry import Geometry
from medseg.io.block import KEYWORD, Block

_NAMES = {
    "u1": "uint8", "u2": "uint16", "u4": "uint32", "i1": "int8", "i2": "int16",
    "i4": "int32", "i8": "int64", "u8": "uint64", "f4": "float", "f8": "double",
}  # fmt: skip


def write_nrrd(
    stream: BinaryIO, path: Path, pixels: NDArray[Any], geometry: Geometry, block: Block
) -> None:
    """Write ``(C, [Z,] Y, X)`` or, without a channel axis, ``([Z,] Y, X)``.

    Channels run fastest and are of kind ``list``, with a line for each segment, as
    3D Slicer writes overlapping segmentations.
    """
    channels = pixels.ndim - geometry.ndim
    if channels:
        pixels = np.moveaxis(pixels, 0, -1)
    head = _write_header(pixels, geometry, channels, block)
    stream.write(head.encode("ascii"))
    body = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    with gzip.GzipFile("", "wb", compresslevel=1, fileobj=stream, mtime=0) as packed:
        packed.write(body.data.cast("B"))


def _write_header(
    pixels: NDArray[Any], geometry: Geometry, channels: int, block: Block
) -> str:
    n = geometry.ndim
    matrix = geometry.affine[:n, :n][::-1, ::-1] + 0.0
    vectors = [_vector(matrix[:, i]) for i in range(n)]
    lines = [
        "NRRD0005",
        f"type: {_NAMES[pixels.dtype.newbyteorder('=').str[1:]]}",
        f"dimension: {pixels.ndim}",
        *(("space: left-posterior-superior",) if n == 3 else ("space dimension: 2",)),
        f"sizes: {' '.join(str(s) for s in pixels.shape[::-1])}",
        f"space directions: {' '.join(['none'] * channels + vectors)}",
        f"kinds: {' '.join(['list'] * channels + ['domain'] * n)}",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(np.array(geometry.origin[::-1]))}",
    ]
    if geometry.unit == "mm":
        lines.append("space units: " + " ".join(['"mm"'] * n))
    lines += [f"{k}:={v}" for k, v in segment_fields(block)]
    return "\n".join([*lines, f"{KEYWORD}:={block.dump()}", "", ""])


def _vector(values: NDArray[np.float64]) -> str:
    return "(" + ",".join(repr(float(v) + 0.0) for v in values) + ")"


def _plain(name: str) -> str:
    """Return a name as a header line can hold it; our block has it as it is."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in name)


def segment_fields(block: Block) -> list[tuple[str, str]]:
    """Return the lines by which 3D Slicer knows segment names, values and colours."""
    if block.labels is None or block.labels.kind == "instances":
        return []
    fields = []
    overlapping = block.labels.kind == "overlapping"
    for i, label in enumerate(block.labels):
        red, green, blue = (int(label.colour[j : j + 2], 16) / 255 for j in (1, 3, 5))
        fields += [
            (f"Segment{i}_ID", f"Segment_{label.value}"),
            (f"Segment{i}_Name", _plain(label.name)),
            (f"Segment{i}_Color", f"{red:.6f} {green:.6f} {blue:.6f}"),
            (f"Segment{i}_LabelValue", str(1 if overlapping else label.value)),
            (f"Segment{i}_Layer", str(i if overlapping else 0)),
        ]
    return fields

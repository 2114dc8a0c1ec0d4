"""Write NIfTI-1, with our block in a header extension."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medseg.errors import FileError
from medseg.geometry import Geometry
from medseg.io.block import Block
from medseg.io.nifti import EXTENSION_CODE
from medseg.io.nifti_affine import ras_affine


def write_nifti(
    stream: BinaryIO, path: Path, pixels: NDArray[Any], geometry: Geometry, block: Block
) -> None:
    """Write ``(C, [Z,] Y, X)`` or, without a channel axis, ``([Z,] Y, X)``.

    Channels are the fourth axis, behind a z axis of 1 in a plane. sform and qform
    both carry the affine; slope and intercept stay unset.

    Raises:
        FileError: If NIfTI cannot hold the sizes.
    """
    import nibabel as nib

    channels = pixels.ndim - geometry.ndim
    if max(pixels.shape) > 32767:
        raise FileError(
            path,
            f"NIfTI holds at most 32767 pixels a side, not {pixels.shape}",
            "Write .tif",
        )
    if channels and geometry.ndim == 2:
        pixels = pixels[:, None]
    header = nib.Nifti1Header(endianness="<")
    header.set_data_dtype(pixels.dtype)
    sizes = pixels.shape[channels:][::-1] + pixels.shape[:channels]
    header.set_data_shape(sizes)
    spacing = geometry.spacing[::-1] + (1.0,) * (3 - geometry.ndim)
    header.set_zooms((*spacing, 1.0)[: len(sizes)])
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    if geometry.unit == "mm":
        header.set_xyzt_units("mm")
        affine = ras_affine(geometry)
        header.set_qform(affine, code=1, strip_shears=True)
        header.set_sform(affine, code=1)
        header["pixdim"][1 : len(sizes) + 1] = (*spacing, 1.0)[: len(sizes)]
    header.extensions.append(
        nib.nifti1.Nifti1Extension(EXTENSION_CODE, block.dump().encode())
    )
    header["magic"] = b"n+1"
    size = 348 + 4 + header.extensions.get_sizeondisk()
    header["vox_offset"] = size
    buffer = io.BytesIO()
    header.write_to(buffer)
    head = buffer.getvalue().ljust(size, b"\0")
    _write_packed(stream, path, head, pixels)


def _write_packed(
    stream: BinaryIO, path: Path, head: bytes, pixels: NDArray[Any]
) -> None:
    body = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    if not path.name.lower().endswith(".gz"):
        stream.write(head)
        stream.write(body.data.cast("B"))
        return
    # No name and no time, so that equal masks give equal bytes.
    with gzip.GzipFile("", "wb", compresslevel=1, fileobj=stream, mtime=0) as packed:
        packed.write(head)
        packed.write(body.data.cast("B"))

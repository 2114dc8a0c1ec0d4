"""NIfTI-1 and -2: header by nibabel, checked here; pixels read by ourselves.

The one place where NIfTI's RAS ``(x, y, z)`` meets our LPS ``([z,] y, x)``.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.io.block import Block, parse_block
from medseg.io.limits import check_deflate, check_present
from medseg.io.nifti_affine import read_geometry
from medseg.io.rescale import rescale
from medseg.io.source import Opened, Source, parsing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.geometry import Geometry

_KINDS = {
    2: "u1", 256: "i1", 4: "i2", 512: "u2", 8: "i4", 768: "u4", 1024: "i8",
    1280: "u8", 16: "f4", 64: "f8",
}  # fmt: skip
_REFUSED = {
    1: "1-bit", 32: "complex", 1792: "complex", 2048: "complex", 128: "RGB",
    2304: "RGBA", 1536: "128-bit float",
}  # fmt: skip
EXTENSION_CODE = 6  # comment
_TRAILING = 2**20


class _Data:
    """The bytes of a NIfTI file in order, inflated if need be."""

    def __init__(self, source: Source) -> None:
        source.stream.seek(0)
        self.packed = source.read(2) == b"\x1f\x8b"
        source.stream.seek(0)
        self.stream: Any = source.stream
        if self.packed:
            self.stream = gzip.GzipFile(fileobj=source.stream, mode="rb")

    def read(self, count: int) -> bytes:
        return self.stream.read(count)


def open_nifti(source: Source) -> Opened:
    """Check the header of a NIfTI file; a fourth axis becomes channels.

    sform is used before qform. Warns where they disagree, where neither is set, and
    where the axes are sheared.

    Raises:
        FileError: If the header is damaged, lies, or is of a kind not read.
    """
    data = _Data(source)
    with parsing(source, "gzip" if data.packed else "NIfTI"):
        header, order = _header(source, data)
    sizes = _sizes(source, header)
    notes: list[str] = []
    dtype = _dtype(source, header, order, notes)
    nbytes = source.limits.check(source.path, sizes, dtype.itemsize)
    offset = _offset(source, header)
    if data.packed:
        check_deflate(source.path, nbytes + offset, source.size)
    else:
        check_present(source.path, nbytes, source.size - offset)
    with parsing(source, "NIfTI"):
        block = _block(source, data, header, order, offset)
    thin = len(sizes) < 3 or sizes[2] == 1
    flat = block is not None and block.geometry.ndim == 2 and thin
    spatial = 2 if flat else min(len(sizes), 3)
    geometry = _geometry(source, header, spatial, notes, block)
    shape = _shape(sizes, spatial)
    slope, inter = _scaling(source, header, notes)

    def load(mask: bool) -> tuple[NDArray[Any], tuple[str, ...]]:
        with parsing(source, "gzip" if data.packed else "NIfTI"):
            raw = _pixels(source, offset, nbytes)
            array = np.frombuffer(raw, dtype).reshape(shape)
            array = array.astype(dtype.newbyteorder("="), copy=False)
            return rescale(array, slope, inter), ()

    meta = {"bits": dtype.itemsize * 8}
    final = rescale(np.zeros(1, dtype.newbyteorder("=")), slope, inter).dtype
    return Opened("nifti", shape, final, geometry, load, meta, tuple(notes), block)


def _geometry(
    source: Source, header: Any, spatial: int, notes: list[str], block: Block | None
) -> Geometry:
    own = block.geometry if block is not None else None
    formed = max(int(header["sform_code"]), int(header["qform_code"])) > 0
    if own is not None and own.ndim == spatial and own.unit == "px" and not formed:
        return own  # no form is set, and none is missing
    geometry = read_geometry(source, header, spatial, notes)
    return own if own is not None and own.matches(geometry) else geometry


def _header(source: Source, data: _Data) -> tuple[Any, str]:
    import nibabel as nib

    raw = data.read(348)
    if len(raw) < 348:
        raise source.damaged(
            f"truncated: a NIfTI header has 348 bytes, {len(raw)} present"
        )
    sizes = {order: struct.unpack(order + "i", raw[:4])[0] for order in "<>"}
    for order, size in sizes.items():
        if size == 348 and raw[344:347] == b"n+1":
            return nib.Nifti1Header(raw, order, check=False), order
        if size == 540 and raw[4:7] == b"n+2":
            raw += data.read(540 - 348)
            return nib.Nifti2Header(raw, order, check=False), order
    if b"ni1" in raw[344:348] or b"ni2" in raw[4:8]:
        raise source.fail(
            "a NIfTI header whose pixels are in another file (.hdr and .img)",
            "Convert the pair to one .nii.gz",
        )
    if raw[344:347] == b"n+1" or raw[4:7] == b"n+2":
        raise source.fail(f"wrong NIfTI header size {sizes['<']}, 348 or 540 expected")
    raise source.fail("not recognised: the content is not a NIfTI header")


def _sizes(source: Source, header: Any) -> tuple[int, ...]:
    """Return the sizes ``(x, y[, z[, channel]])``."""
    dim = [int(n) for n in header["dim"]]
    count = dim[0]
    if not 1 <= count <= 7:
        raise source.fail(f"declares {count} dimensions, 2 to 4 are read")
    sizes = dim[1 : count + 1]
    if any(n < 1 for n in sizes):
        raise source.fail(f"declares a zero or negative dimension {sizes}")
    if len(sizes) == 5 and sizes[3] == 1:  # a vector image; ours to read as channels
        sizes = [*sizes[:3], sizes[4]]
    while len(sizes) > 4 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) == 1:
        sizes.append(1)
    if len(sizes) > 4:
        raise source.fail(f"has {len(sizes)} dimensions {sizes}, 2 to 4 are read")
    if len(sizes) == 4 and sizes[3] == 1:
        sizes.pop()
    return tuple(sizes)


def _dtype(source: Source, header: Any, order: str, notes: list[str]) -> np.dtype[Any]:
    code, bits = int(header["datatype"]), int(header["bitpix"])
    if code in _REFUSED:
        raise source.fail(f"{_REFUSED[code]} voxels are not read (datatype {code})")
    if code not in _KINDS:
        raise source.fail(f"unknown NIfTI datatype {code}")
    dtype = np.dtype(order + _KINDS[code])
    if bits != dtype.itemsize * 8:
        notes.append(
            f"bitpix {bits} disagrees with datatype {code}, which has "
            f"{dtype.itemsize * 8} bits and is used"
        )
    return dtype


def _offset(source: Source, header: Any) -> int:
    offset = float(header["vox_offset"])
    least = int(header["sizeof_hdr"]) + 4
    if not math.isfinite(offset) or offset != int(offset):
        raise source.fail(f"the data offset is {offset}, not a number of bytes")
    if offset == 0:
        return least
    if not least <= offset < least + source.limits.max_header:
        raise source.damaged(
            f"the data offset is {int(offset)}, at least {least} and within the file "
            f"expected ({source.size} bytes present)"
        )
    return int(offset)


def _scaling(source: Source, header: Any, notes: list[str]) -> tuple[float, float]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if math.isinf(slope) or math.isinf(inter):
        raise source.fail(f"infinite scaling (slope {slope}, intercept {inter})")
    if slope == 0:
        return 1.0, 0.0
    if math.isnan(slope) or math.isnan(inter):
        notes.append(f"scaling slope {slope}, intercept {inter} is not applied")
        return 1.0, 0.0
    return slope, inter


def _block(
    source: Source, data: _Data, header: Any, order: str, offset: int
) -> Block | None:
    start = int(header["sizeof_hdr"])
    raw = data.read(offset - start)
    if len(raw) < 4 or raw[0] == 0:
        return None
    at = 4
    while at + 8 <= len(raw):
        size, code = struct.unpack(order + "ii", raw[at : at + 8])
        if size < 16 or at + size > len(raw):
            return None
        body = raw[at + 8 : at + size]
        if code == EXTENSION_CODE and body.startswith(b'{"version":'):
            return parse_block(source.path, body.rstrip(b"\0"))
        at += size
    return None


def _shape(sizes: tuple[int, ...], spatial: int) -> tuple[int, ...]:
    """Return ``(C, [Z,] Y, X)``; the file's first axis runs fastest."""
    channels = sizes[3] if len(sizes) == 4 else 1
    return (channels, *sizes[:spatial][::-1])


def _pixels(source: Source, offset: int, nbytes: int) -> bytearray:
    data = _Data(source)
    buffer = bytearray(nbytes)
    view, filled = memoryview(buffer), 0
    while offset > 0:
        offset -= len(data.read(min(offset, 2**16))) or offset
    try:
        while filled < nbytes:
            count = data.stream.readinto(view[filled : filled + 2**26])
            if not count:
                break
            filled += count
        check_present(source.path, nbytes, filled)
        # The checksum stands at the end of a gzip stream.
        trailing = len(data.read(_TRAILING + 1)) if data.packed else 0
    except EOFError as error:
        raise source.damaged(
            f"truncated gzip: {nbytes} bytes of pixels wanted, {filled} present",
        ) from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise source.damaged(f"damaged gzip data ({error})") from error
    if trailing > _TRAILING:
        raise source.damaged(
            f"lies about its size: more than {_TRAILING} bytes follow the declared "
            f"{nbytes}"
        )
    return buffer

"""What NRRD and MetaImage share: a text header, and raw or packed pixels behind it.

Read by ourselves: C++ readers of both accept lies, open any file named in a header,
and abort the process on some.
"""

from __future__ import annotations

import bz2
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from medseg.io.limits import check_deflate, check_present

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from medseg.io.source import Source


def detached_path(source: Source, name: str) -> Path:
    """Return the data file that a header names, inside the header's own folder.

    Raises:
        FileError: If it is absolute, has ``..``, leads out of the folder, or is
            missing.
    """
    folder = source.path.parent.resolve()
    outside = source.fail(
        "names a file outside its folder; not opened",
        "Put header and data into one folder",
    )
    windows = len(name) > 1 and name[1] == ":"
    if "\0" in name or name.startswith(("/", "\\", "~")) or windows:
        raise outside
    if ".." in name.replace("\\", "/").split("/"):
        raise outside
    path = (folder / name).resolve()
    if not path.is_relative_to(folder):
        raise outside
    if not path.is_file():
        raise source.fail("its data file is not there", "Put it beside the header")
    return path


def whole_numbers(source: Source, text: str, what: str) -> list[int]:
    """Return the integers of a field.

    Raises:
        FileError: If it holds anything else.
    """
    try:
        words = text.split()
        if any(len(w) > 20 for w in words):
            raise ValueError
        return [int(w) for w in words]
    except ValueError:
        raise source.fail(f"{what} is not a list of integers ({text[:60]!r})") from None


def real_numbers(source: Source, text: str, what: str) -> list[float]:
    """Return the numbers of a field, NaN and infinity included.

    Raises:
        FileError: If it holds anything else.
    """
    try:
        return [float(w) for w in text.replace(",", " ").split()]
    except ValueError:
        raise source.fail(f"{what} is not a list of numbers ({text[:60]!r})") from None


def packed_pixels(
    source: Source, stream: BinaryIO, nbytes: int, encoding: str
) -> NDArray[np.uint8]:
    """Return ``nbytes`` read from ``stream`` to its end, inflating as it goes.

    Args:
        source: For messages.
        stream: Positioned at the first byte of the data.
        nbytes: Declared size.
        encoding: ``raw``, ``zlib``, ``gzip`` or ``bzip2``.

    Raises:
        FileError: If there are fewer bytes than declared, more, or damaged ones.
    """
    start = stream.tell()
    present = stream.seek(0, 2) - start
    stream.seek(start)
    if encoding == "raw":
        check_present(source.path, nbytes, present)
        buffer = np.empty(nbytes, np.uint8)
        stream.readinto(buffer.data)  # type: ignore[attr-defined]
        return buffer
    if encoding != "bzip2":
        check_deflate(source.path, nbytes, present)
    return _inflate(source, stream, nbytes, encoding)


def _inflate(
    source: Source, stream: BinaryIO, nbytes: int, encoding: str
) -> NDArray[np.uint8]:
    window = zlib.MAX_WBITS + (16 if encoding == "gzip" else 0)
    unpacker: Any = (
        bz2.BZ2Decompressor() if encoding == "bzip2" else zlib.decompressobj(window)
    )
    out = bytearray()
    try:
        while not unpacker.eof:
            piece = getattr(unpacker, "unconsumed_tail", b"")
            if not piece and getattr(unpacker, "needs_input", True):
                piece = stream.read(2**18)
                if not piece:
                    break
            # One byte more than declared shows that it lies.
            out += unpacker.decompress(piece, max(1, min(2**24, nbytes + 1 - len(out))))
            if len(out) > nbytes:
                raise source.damaged(
                    f"lies about its size: its {encoding} data inflate to more than "
                    f"the declared {nbytes} bytes"
                )
    except (zlib.error, OSError, EOFError, ValueError) as error:
        raise source.damaged(f"damaged {encoding} data ({error})") from error
    if len(out) < nbytes or not unpacker.eof:
        raise source.damaged(
            f"truncated {encoding} data: {nbytes} bytes of pixels wanted, "
            f"{len(out)} present"
        )
    return np.frombuffer(out, np.uint8)


def check_directions(source: Source, matrix: NDArray[np.float64], what: str) -> None:
    """Refuse axes that are not finite, or that do not span space.

    Args:
        source: For messages.
        matrix: Square, one column an axis, in any length.
        what: Its name in the file.

    Raises:
        FileError: If so.
    """
    if not np.isfinite(matrix).all():
        raise source.fail(f"{what} hold NaN or infinity")
    lengths = np.linalg.norm(matrix, axis=0)
    if lengths.min() <= 0 or abs(np.linalg.det(matrix / lengths)) < 1e-3:
        raise source.fail(f"{what} are singular, a zero axis or two parallel ones")

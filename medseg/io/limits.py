"""How large a file may be, checked from its header before anything is allocated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.errors import ConfigError, FileError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Deflate cannot expand by more than 1032; a declared size beyond this is a lie.
DEFLATE_RATIO = 1100
# What to do with a file that did not arrive whole.
AGAIN = "Get the file again from its source"


@dataclass(frozen=True)
class Limits:
    """Bounds on what a file may declare.

    Args:
        max_pixels: Most pixels (voxels times channels) of one image.
        max_bytes: Most bytes that they take once read.
        max_header: Most bytes of a text or side header.

    Raises:
        ConfigError: If a bound is below 1.
    """

    max_pixels: int = 2**30
    max_bytes: int = 2**32
    max_header: int = 2**20

    def __post_init__(self) -> None:
        for field in ("max_pixels", "max_bytes", "max_header"):
            if getattr(self, field) < 1:
                raise ConfigError(f"limits.{field}", f"is {getattr(self, field)}")

    def check(self, path: Path, shape: Sequence[int], itemsize: int) -> int:
        """Return the bytes that ``shape`` takes.

        Raises:
            FileError: If a dimension is below 1 or the size is over a limit.
        """
        text = " x ".join(map(str, shape))
        if any(n < 1 for n in shape):
            raise FileError(path, f"declares a zero or negative dimension ({text})")
        pixels = math.prod(shape)
        for size, field, unit in (
            (pixels, "max_pixels", "pixels"),
            (pixels * itemsize, "max_bytes", "bytes"),
        ):
            limit = getattr(self, field)
            if size > limit:
                raise FileError(
                    path,
                    f"declares a size of {text}, {size} {unit}, "
                    f"over the limit of {limit}",
                    f"Raise Limits.{field} if the file is genuine",
                )
        return pixels * itemsize


def check_deflate(
    path: Path, wanted: int, present: int, ratio: int = DEFLATE_RATIO
) -> None:
    """Refuse a declared size that the compressed bytes present cannot hold.

    Args:
        path: For messages.
        wanted: Bytes of the pixels.
        present: Bytes that they are packed in.
        ratio: The most that the packing can expand by, by default that of deflate.

    Raises:
        FileError: If ``wanted`` is more than ``ratio`` times ``present``.
    """
    if wanted > present * ratio:
        raise FileError(
            path,
            f"declares {wanted} bytes of pixels but holds {present} bytes, which "
            f"cannot unpack to more than {present * ratio}: truncated, or it lies "
            "about its size",
            AGAIN,
        )


def check_present(path: Path, wanted: int, present: int) -> None:
    """Refuse pixel data shorter than the header declares.

    Raises:
        FileError: If fewer bytes are present than wanted.
    """
    if present < wanted:
        raise FileError(
            path,
            f"truncated: {wanted} bytes of pixels wanted, {max(present, 0)} present",
            AGAIN,
        )

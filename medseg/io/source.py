"""An opened file, and what its header says; every format module speaks in these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from numpy.typing import NDArray

from medseg.errors import FileError, MedsegError
from medseg.io.limits import AGAIN, Limits

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from medseg.geometry import Geometry
    from medseg.io.block import Block


@dataclass(frozen=True)
class Source:
    """A file open for reading.

    Args:
        path: Its path, for messages.
        stream: Positioned anywhere.
        size: Its bytes.
        limits: What it may declare.
        header_only: Whether the pixels will not be asked for.
    """

    path: Path
    stream: BinaryIO
    size: int
    limits: Limits = field(default_factory=Limits)
    header_only: bool = False

    def read(self, count: int, offset: int = 0) -> bytes:
        """Return up to ``count`` bytes from ``offset``."""
        self.stream.seek(offset)
        return self.stream.read(count)

    def fail(self, problem: str, remedy: str = "") -> FileError:
        """Return the error that says what is wrong with this file."""
        return FileError(self.path, problem, remedy)

    def damaged(self, problem: str) -> FileError:
        """Return the error of a file that did not arrive whole."""
        return self.fail(problem, AGAIN)


# Pixels as (C, [Z,] Y, X) and notes on them; True asks for values as stored, which
# in a mask are labels: no inversion, no palette.
Load = Callable[[bool], tuple[NDArray[Any], tuple[str, ...]]]
Index = tuple[slice, ...]


@dataclass(frozen=True)
class Opened:
    """A checked header, and the way to its pixels.

    Args:
        format: ``dicom``, ``nifti``, ``nrrd``, ``metaimage``, ``tiff``, ``png``,
            ``jpeg``.
        shape: ``(C, [Z,] Y, X)``.
        dtype: Of the pixels once read.
        geometry: Of the spatial axes.
        load: Reads the pixels; call while the file is open.
        meta: Modality, photometric, bits.
        notes: One line for each thing that was read by a stated rule.
        block: What medseg itself wrote beside the pixels, if anything.
        strips: Reads the values as stored part by part, where the format can.
    """

    format: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    geometry: Geometry
    load: Load
    meta: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    block: Block | None = None
    strips: Callable[[], Iterator[tuple[Index, NDArray[Any]]]] | None = None

    def parts(self) -> Iterator[tuple[Index, NDArray[Any]]]:
        """Yield where the parts of the values as stored lie, and the parts.

        They need not be in memory at once; where the format cannot, one part is all.
        """
        if self.strips is not None:
            yield from self.strips()
        else:
            yield (), self.load(True)[0]


@contextmanager
def parsing(source: Source, kind: str, quote: bool = True) -> Iterator[None]:
    """Turn whatever a parser raises into one FileError; ours pass through.

    ``quote=False`` keeps the parser's words out: they may carry a patient's data.

    Raises:
        FileError: For any other exception of the body.
    """
    try:
        yield
    except MedsegError:
        raise
    except MemoryError as error:
        raise source.fail(
            f"its {kind} data need more memory than there is",
            "Use a machine with more memory",
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise source.fail(f"cannot be read: {error.strerror}") from error
        raise _damaged(source, kind, error, quote) from error
    except Exception as error:
        raise _damaged(source, kind, error, quote) from error


def unreadable(path: Path, error: OSError) -> FileError:
    """Return the error of a file that cannot be opened."""
    return FileError(
        path, f"cannot be opened: {error.strerror}", "Check the path and its rights"
    )


def _damaged(source: Source, kind: str, error: Exception, quote: bool) -> FileError:
    words = type(error).__name__
    if quote and str(source.path) not in str(error):  # which the message begins with
        words += f": {error}"
    return source.damaged(f"truncated or damaged {kind} data ({words[:160]})")


def orientation_notes(kind: str, orientation: int) -> tuple[str, ...]:
    """Return a note where a tag says to show the pixels turned or mirrored."""
    if orientation in (0, 1):
        return ()
    return (f"{kind} orientation {orientation} is not applied: pixels are as stored",)

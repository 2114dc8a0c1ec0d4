"""Decode the pixels of a DICOM file by the facts of its header."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.io.dicom_pixels import Dataset, PixelFacts
from medseg.io.limits import check_present
from medseg.io.rescale import rescale
from medseg.io.source import Source

_ByteOrder = Literal["<", ">"]

_NATIVE: dict[str, _ByteOrder] = {
    "1.2.840.10008.1.2": "<",
    "1.2.840.10008.1.2.1": "<",
    "1.2.840.10008.1.2.1.98": "<",
    "1.2.840.10008.1.2.1.99": "<",
    "1.2.840.10008.1.2.2": ">",
}

# Once, not once a file: a logger keeps every handler that it gets.
logging.getLogger("pydicom").addHandler(logging.NullHandler())

_RLE = "1.2.840.10008.1.2.5"
_THEIRS = r"(pydicom|highdicom|pylibjpeg|openjpeg|libjpeg|medseg\.io\.dicom)"
_LOCK = threading.RLock()  # pydicom's validation mode and all warnings are global


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom and highdicom: their warnings quote the file."""
    from pydicom.config import disable_value_validation

    with _LOCK, warnings.catch_warnings(), disable_value_validation():
        # Theirs alone: filters are for all threads, and others read images meanwhile.
        warnings.filterwarnings("ignore", module=_THEIRS)
        yield


def decode(
    source: Source, dataset: Dataset, facts: PixelFacts
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return frames ``(F, Y, X)``, high = bright, rescaled; and notes.

    Raises:
        FileError: If the pixels are short or damaged, or of an unknown encoding.
    """
    syntax = _transfer_syntax(dataset)
    notes: tuple[str, ...] = ()
    if syntax in _NATIVE:
        raw, notes = _native(source, dataset, facts, _NATIVE[syntax])
    elif syntax == _RLE:
        raw = _run_lengths(source, dataset, facts)
    else:
        raw = _compressed(source, dataset, facts, syntax)
    pixels = _significant(raw, facts)
    if facts.photometric == "MONOCHROME1":
        # The least value becomes the greatest; neither form can overflow.
        pixels = ~pixels if facts.signed else facts.bounds[1] - pixels
    if facts.slope == 1 and facts.intercept == 0:
        return pixels, notes
    if facts.dtype.kind == "f":
        return rescale(pixels, facts.slope, facts.intercept).astype(np.float32), notes
    wide = pixels.astype(np.int64) * int(facts.slope) + int(facts.intercept)
    return wide.astype(facts.dtype), notes


def _transfer_syntax(dataset: Dataset) -> str:
    meta = getattr(dataset, "file_meta", None)
    syntax = str(meta.get("TransferSyntaxUID", "")) if meta else ""
    if syntax:
        return syntax
    implicit, little = dataset.original_encoding
    if implicit:
        return "1.2.840.10008.1.2"
    return "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"


def _native(
    source: Source, dataset: Dataset, facts: PixelFacts, order: _ByteOrder
) -> tuple[NDArray[Any], tuple[str, ...]]:
    data = dataset.PixelData
    check_present(source.path, facts.nbytes, len(data))
    notes: tuple[str, ...] = ()
    if len(data) > facts.nbytes + facts.nbytes % 2:
        notes = (
            f"pixel data too long: {facts.nbytes} bytes wanted, {len(data)} present",
        )
    dtype = facts.raw_dtype.newbyteorder(order)
    words = dataset["PixelData"].VR == "OW"
    raw = np.frombuffer(data, dtype, facts.nbytes // dtype.itemsize)
    if order == ">" and facts.allocated == 8 and words:
        # Big-endian words of two 8-bit pixels are swapped.
        raw = np.frombuffer(data, ">u2").astype("<u2").view(dtype)[: raw.size]
    raw = raw.astype(dtype.newbyteorder("="), copy=False)
    return raw.reshape(facts.frames, facts.rows, facts.columns), notes


def _run_lengths(source: Source, dataset: Dataset, facts: PixelFacts) -> NDArray[Any]:
    # Not pylibjpeg: its decoder panics on some damaged files, past all handlers.
    import imagecodecs
    from pydicom.encaps import generate_frames

    size, width = facts.rows * facts.columns, facts.allocated // 8
    planes = np.empty((facts.frames, size, width), np.uint8)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=facts.frames))
    if len(frames) != facts.frames:
        raise source.damaged(f"{facts.frames} frames declared, {len(frames)} present")
    for number, frame in enumerate(frames):
        offsets = np.frombuffer(frame, "<u4", 16).astype(int)
        if offsets[0] != width:
            raise source.damaged(
                f"damaged RLE data: {offsets[0]} segments in frame {number + 1}, "
                f"{width} expected"
            )
        ends = [*offsets[2 : width + 1], len(frame)]
        for i, (start, end) in enumerate(
            zip(offsets[1 : width + 1], ends, strict=True)
        ):
            plane = imagecodecs.packbits_decode(frame[start:end])
            check_present(source.path, size, len(plane))
            # Segments run from the most significant byte to the least.
            planes[number, :, width - 1 - i] = np.frombuffer(plane, np.uint8, size)
    raw = planes.reshape(-1).view(facts.raw_dtype.newbyteorder("<"))
    raw = raw.astype(facts.raw_dtype, copy=False)
    return raw.reshape(facts.frames, facts.rows, facts.columns)


def _compressed(
    source: Source, dataset: Dataset, facts: PixelFacts, syntax: str
) -> NDArray[Any]:
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    try:
        decoder = get_decoder(UID(syntax))
    except NotImplementedError as error:
        shown = syntax if len(syntax) < 65 and set(syntax) <= set("0123456789.") else ""
        raise source.fail(f"unknown transfer syntax {shown}") from error
    with quiet():
        frames, _ = decoder.as_array(dataset, raw=True)
    return frames.reshape(facts.frames, facts.rows, facts.columns)


def _significant(raw: NDArray[Any], facts: PixelFacts) -> NDArray[Any]:
    """Keep the stored bits: overlays may lie above, sign bits must be spread."""
    bits = raw.dtype.itemsize * 8
    above, below = bits - 1 - facts.high, facts.high + 1 - facts.stored
    raw = raw.view(np.dtype(f"{'i' if facts.signed else 'u'}{bits // 8}"))
    if above == 0 and below == 0:
        return raw
    return (raw << above) >> (above + below)

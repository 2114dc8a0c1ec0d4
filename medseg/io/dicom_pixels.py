"""The pixels of a DICOM file: what the header says of them, and decoding them."""

from __future__ import annotations

import logging
import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.io.limits import check_present
from medseg.io.rescale import rescale, rescaled_dtype
from medseg.io.source import Source

Dataset = Any

_NATIVE = {
    "1.2.840.10008.1.2": "<",
    "1.2.840.10008.1.2.1": "<",
    "1.2.840.10008.1.2.1.98": "<",
    "1.2.840.10008.1.2.1.99": "<",
    "1.2.840.10008.1.2.2": ">",
}


_LOCK = threading.RLock()  # pydicom's validation mode and all warnings are global


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom and highdicom: their warnings quote the file."""
    from pydicom.config import disable_value_validation

    logging.getLogger("pydicom").addHandler(logging.NullHandler())
    with _LOCK, warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True)
class PixelFacts:
    """What a header says of its pixels, checked.

    Args:
        rows: Y size.
        columns: X size.
        frames: Number of frames.
        allocated: Bits a pixel takes, 8, 16 or 32.
        stored: Bits of them that count.
        high: The highest bit that counts.
        signed: Whether they are two's complement.
        photometric: MONOCHROME1 or MONOCHROME2.
        slope: Of the modality rescale.
        intercept: Of the modality rescale.
        notes: What was read by a stated rule.
    """

    rows: int
    columns: int
    frames: int
    allocated: int
    stored: int
    high: int
    signed: bool
    photometric: str
    slope: float
    intercept: float
    notes: tuple[str, ...] = ()

    @property
    def raw_dtype(self) -> np.dtype[Any]:
        """Type of the stored pixels."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.allocated // 8}")

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type after rescaling."""
        if self.slope == 1 and self.intercept == 0:
            return self.raw_dtype
        return rescaled_dtype(self.raw_dtype, self.slope, self.intercept, self.bounds)

    @property
    def bounds(self) -> tuple[int, int]:
        """Least and greatest stored value."""
        if self.signed:
            return -(2 ** (self.stored - 1)), 2 ** (self.stored - 1) - 1
        return 0, 2**self.stored - 1

    @property
    def nbytes(self) -> int:
        """Bytes of the uncompressed pixels."""
        return self.rows * self.columns * self.frames * self.allocated // 8


def read_facts(source: Source, dataset: Dataset) -> PixelFacts:
    """Return the pixel facts of a header.

    Raises:
        FileError: If a fact is missing, contradictory or of a kind not read.
    """
    photometric = str(dataset.get("PhotometricInterpretation", "") or "")
    samples = _integer(source, dataset, "SamplesPerPixel", 1)
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or samples != 1:
        if "Rows" not in dataset and "PixelData" not in dataset:
            raise source.fail("no pixels: the DICOM file holds no image")
        kind = photometric if photometric.isascii() and len(photometric) < 17 else ""
        raise source.fail(
            f"colour images are not read (photometric {kind or 'unknown'}, "
            f"{samples} samples per pixel)",
            "Use a grey image",
        )
    allocated = _integer(source, dataset, "BitsAllocated", None)
    stored = _integer(source, dataset, "BitsStored", allocated)
    high = _integer(source, dataset, "HighBit", stored - 1)
    if allocated not in (8, 16, 32):
        raise source.fail(f"{allocated} bits allocated per pixel; 8, 16 and 32 are read")
    if not 1 <= stored <= allocated or not stored - 1 <= high < allocated:
        raise source.fail(
            f"{stored} bits stored (high bit {high}) in {allocated} bits allocated"
        )
    slope, intercept, notes = _modality(source, dataset)
    facts = PixelFacts(
        _integer(source, dataset, "Rows", None),
        _integer(source, dataset, "Columns", None),
        _integer(source, dataset, "NumberOfFrames", 1),
        allocated,
        stored,
        high,
        _integer(source, dataset, "PixelRepresentation", 0) == 1,
        photometric,
        slope,
        intercept,
        notes,
    )
    shape = (facts.frames, facts.rows, facts.columns)
    source.limits.check(source.path, shape, allocated // 8)
    if not source.header_only and not dataset.get("PixelData"):
        raise source.fail(
            "no pixels: it holds no image, or is truncated before its pixels",
            "Get the file again from its source",
        )
    return facts


def _integer(source: Source, dataset: Dataset, name: str, default: int | None) -> int:
    value = dataset.get(name)
    if value is None or value == "":
        if default is None:
            raise source.fail(f"no {name} in the DICOM header")
        return default
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise source.fail(f"{name} in the DICOM header is not one number") from error


def _number(source: Source, dataset: Dataset, name: str, default: float) -> float:
    value = dataset.get(name)
    if value is None or value == "":
        return default
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise source.fail(f"{name} in the DICOM header is not one number") from error


def _modality(source: Source, dataset: Dataset) -> tuple[float, float, tuple[str, ...]]:
    holder = _rescale_holder(source, dataset)
    slope = _number(source, holder, "RescaleSlope", 1.0)
    intercept = _number(source, holder, "RescaleIntercept", 0.0)
    if not math.isfinite(slope) or not math.isfinite(intercept) or slope == 0:
        raise source.fail(f"rescale slope {slope}, intercept {intercept} lose the image")
    if dataset.get("ModalityLUTSequence"):
        return slope, intercept, ("its modality lookup table is not applied",)
    return slope, intercept, ()


def _rescale_holder(source: Source, dataset: Dataset) -> Dataset:
    """Return the data set that holds slope and intercept: enhanced files nest them."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    name = "PixelValueTransformationSequence"
    found = [g[name].value[0] for g in (shared, *frames) if g is not None and g.get(name)]
    if not found:
        return dataset
    pairs = {(float(f.get("RescaleSlope", 1)), float(f.get("RescaleIntercept", 0))) for f in found}
    if len(pairs) > 1:
        raise source.fail(
            f"{len(pairs)} different rescale slopes in one multi-frame file",
            "Use a series of single slices",
        )
    return found[0]


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
    else:
        raw = _compressed(source, dataset, facts, syntax)
    pixels = _significant(raw, facts)
    if facts.photometric == "MONOCHROME1":
        low, high = facts.bounds
        pixels = (low + high - pixels.astype(np.int64)).astype(pixels.dtype)
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
    source: Source, dataset: Dataset, facts: PixelFacts, order: str
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
    expected = (facts.frames, facts.rows, facts.columns)
    if frames.size != math.prod(expected):
        raise source.fail(f"decoded to {frames.shape}, the header declares {expected}")
    return frames.reshape(expected)


def _significant(raw: NDArray[Any], facts: PixelFacts) -> NDArray[Any]:
    """Keep the stored bits: overlays may lie above, sign bits must be spread."""
    bits = raw.dtype.itemsize * 8
    above, below = bits - 1 - facts.high, facts.high + 1 - facts.stored
    raw = raw.view(np.dtype(f"{'i' if facts.signed else 'u'}{bits // 8}"))
    if above == 0 and below == 0:
        return raw
    return (raw << above) >> (above + below)

"""The pixels of a DICOM file: what the header says of them, and decoding them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.io.rescale import rescaled_dtype

if TYPE_CHECKING:
    from medseg.io.source import Source

Dataset = Any


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
        raise source.fail(
            f"{allocated} bits allocated per pixel; 8, 16 and 32 are read"
        )
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
        raise source.damaged(
            "no pixels: it holds no image, or is truncated before its pixels",
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
        raise source.fail(
            f"rescale slope {slope}, intercept {intercept} lose the image"
        )
    if dataset.get("ModalityLUTSequence"):
        return slope, intercept, ("its modality lookup table is not applied",)
    return slope, intercept, ()


def _rescale_holder(source: Source, dataset: Dataset) -> Dataset:
    """Return the data set that holds slope and intercept: enhanced files nest them."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    name = "PixelValueTransformationSequence"
    found = [
        g[name].value[0] for g in (shared, *frames) if g is not None and g.get(name)
    ]
    if not found:
        return dataset
    pairs = {
        (float(f.get("RescaleSlope", 1)), float(f.get("RescaleIntercept", 0)))
        for f in found
    }
    if len(pairs) > 1:
        raise source.fail(
            f"{len(pairs)} different rescale slopes in one multi-frame file",
            "Use a series of single slices",
        )
    return found[0]

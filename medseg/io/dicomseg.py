"""Read the binary segments of a DICOM-SEG as a mask."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import ConfigError
from medseg.geometry import Geometry
from medseg.io.block import KEYWORD, Block, parse_block
from medseg.io.dicom import Dataset, read_dataset
from medseg.io.dicom_geometry import frame_plane, spacing_of, stack_geometry
from medseg.io.limits import Limits, check_present
from medseg.io.source import Source, parsing
from medseg.labels import Kind, Label, LabelSet
from medseg.segmentation import Segmentation, genuine

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
# Where our block is: in a group that the standard leaves to everybody.
PRIVATE_GROUP, PRIVATE_ELEMENT = 0x0099, 0x01


def read_dicomseg(path: Path, labels: LabelSet | None, limits: Limits) -> Segmentation:
    """Read the binary segments of a DICOM-SEG.

    Raises:
        FileError: If it is none, damaged, or its frames do not form a volume.
    """
    with ExitStack() as stack:
        stream = stack.enter_context(path.open("rb"))
        source = Source(path, stream, os.fstat(stream.fileno()).st_size, limits)
        dataset = read_dataset(source)
        with parsing(source, "DICOM", quote=False):
            stored, frames, numbers = _frames(source, dataset)
            mask, geometry = _place(source, dataset, frames, numbers, len(stored))
            block = _block(source, dataset)
    provenance = block.provenance if block else {}
    if block and block.replaces(geometry):
        geometry = block.geometry
    if labels is not None:
        missing = [n for n in labels.names if n not in stored.names]
        if missing:
            raise source.fail(f"no segment {missing[0]!r}", f"It has {stored.names}")
        mask = mask[[stored.index(n) for n in labels.names]]
    chosen = labels or stored
    if chosen.kind != "overlapping":
        mask = _flat(mask, chosen)
    return Segmentation(mask, chosen, geometry, genuine(provenance, mask))


def _block(source: Source, dataset: Dataset) -> Block | None:
    """Return what medseg wrote about the mask, if it did."""
    try:
        private = dataset.private_block(PRIVATE_GROUP, KEYWORD)
        text = str(private[PRIVATE_ELEMENT].value)
    except KeyError:
        return None
    return parse_block(source.path, text)


def _flat(mask: NDArray[np.uint8], labels: LabelSet) -> NDArray[Any]:
    flat = np.zeros(mask.shape[1:], np.min_scalar_type(max(x.value for x in labels)))
    for on, label in zip(mask, labels, strict=True):
        flat[on > 0] = label.value
    return flat


def _frames(
    source: Source, dataset: Dataset
) -> tuple[LabelSet, NDArray[np.uint8], list[int]]:
    """Return labels, frames ``(F, Y, X)`` and the channel of each."""
    if str(dataset.get("SOPClassUID", "")) != _STORAGE:
        raise source.fail(
            "a DICOM image, not a segmentation", "Read it with read_image"
        )
    if dataset.get("SegmentationType") != "BINARY" or dataset.get("BitsAllocated") != 1:
        raise source.fail("a DICOM-SEG that is not binary is not read")
    count, rows, columns = (
        int(dataset.get(n) or 1) for n in ("NumberOfFrames", "Rows", "Columns")
    )
    source.limits.check(source.path, (count, rows, columns), 1)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        raise source.fail("a compressed DICOM-SEG is not read", "Save it uncompressed")
    pixels = count * rows * columns
    check_present(source.path, (pixels + 7) // 8, len(dataset.PixelData))
    bits = np.frombuffer(dataset.PixelData, np.uint8)
    bits = np.unpackbits(bits, count=pixels, bitorder="little")
    frames = bits.reshape(count, rows, columns)
    found, labels = [], []
    for item in dataset.SegmentSequence:
        found.append(int(item.SegmentNumber))
        labels.append(_label(item))
    groups = dataset.PerFrameFunctionalGroupsSequence
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]
    common = shared.get("SegmentIdentificationSequence")  # if all frames have one
    numbers = []
    for group in groups:
        inner = group.get("SegmentIdentificationSequence") or common
        numbers.append(found.index(int(inner[0].ReferencedSegmentNumber)))
    if len(numbers) != count:
        raise source.damaged(f"{count} frames, {len(numbers)} of them described")
    exclusive = dataset.get("ContentLabel") == "EXCLUSIVE"
    kind: Kind = "exclusive" if exclusive else "overlapping"
    try:
        return LabelSet(tuple(labels), kind), frames, numbers
    except ConfigError as error:
        raise source.fail(f"its segments are no labels: {error.text}") from error


def _label(item: Dataset) -> Label:
    words = str(item.get("SegmentDescription", "")).split()
    ours = len(words) == 4 and words[0] == "value" and words[2] == "colour"
    value = int(words[1]) if ours else int(item.SegmentNumber)
    return Label(value, str(item.SegmentLabel), words[3] if ours else "#808080")


def _place(
    source: Source,
    dataset: Dataset,
    frames: NDArray[np.uint8],
    numbers: list[int],
    channels: int,
) -> tuple[NDArray[np.uint8], Geometry]:
    """Return ``(L, [Z,] Y, X)`` and its geometry; absent slices are empty."""
    first = dataset.PerFrameFunctionalGroupsSequence[0]
    if not first.get("PlanePositionSequence"):
        mask = np.zeros((channels, *frames.shape[1:]), np.uint8)
        for frame, number in zip(frames, numbers, strict=True):
            mask[number] |= frame
        return mask, _film_geometry(source, dataset)
    planes = [frame_plane(source, dataset, i) for i in range(len(frames))]
    along = np.array([p.position @ planes[0].normal for p in planes])
    places = np.unique(np.round(along, 4))
    step = float(np.diff(places).min()) if len(places) > 1 else planes[0].thickness
    step = step if np.isfinite(step) and step > 0 else 1.0
    index = (along - places[0]) / step
    if np.abs(index - np.rint(index)).max() > 0.05:
        raise source.fail("its slices are not equally spaced")
    depth = int(np.rint(index).max()) + 1
    source.limits.check(source.path, (channels, depth, *frames.shape[1:]), 1)
    mask = np.zeros((channels, depth, *frames.shape[1:]), np.uint8)
    for frame, number, z in zip(
        frames, numbers, np.rint(index).astype(int), strict=True
    ):
        mask[number, z] |= frame
    ends = [planes[int(along.argmin())], planes[int(along.argmax())]]
    if depth == 1:
        return mask, stack_geometry(ends[:1])
    plane = stack_geometry(ends[:1])
    depth_mm = float(along.max() - along.min()) / (depth - 1)
    return mask, Geometry(
        (depth_mm, *plane.spacing[1:]), plane.origin, plane.direction, "mm"
    )


def _film_geometry(source: Source, dataset: Dataset) -> Geometry:
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    measures = shared.get("PixelMeasuresSequence") if shared is not None else None
    spacing = spacing_of(source, measures[0], "PixelSpacing") if measures else None
    return Geometry.upright(spacing) if spacing else Geometry.pixels(2)

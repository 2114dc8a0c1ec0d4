"""DICOM-SEG: written by highdicom, read back by ourselves.

A DICOM-SEG belongs to its source image: as the standard demands it carries over the
patient and study of that image, and nothing beyond them.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import FileError
from medseg.geometry import Geometry
from medseg.io.atomic import replace_file
from medseg.io.dicom import Dataset, read_dataset
from medseg.io.dicom_geometry import frame_plane, spacing_of, stack_geometry
from medseg.io.dicom_pixels import quiet
from medseg.io.limits import Limits, check_present
from medseg.io.read import opened
from medseg.io.series import series_paths
from medseg.io.source import Source, parsing
from medseg.labels import Label, LabelSet
from medseg.segmentation import Segmentation

_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
_LIMIT = Limits(2**60, 2**60)
# SNOMED codes of what we know by name; anything else is "Tissue".
_LUNG, _HEART, _CLAVICLE = "39607008", "80891009", "51299004"
_TYPES = {
    "right_lung": (_LUNG, "Lung"),
    "left_lung": (_LUNG, "Lung"),
    "heart": (_HEART, "Heart"),
    "right_clavicle": (_CLAVICLE, "Clavicle"),
    "left_clavicle": (_CLAVICLE, "Clavicle"),
}


def write_dicomseg(seg: Segmentation, path: Path, source: Path | None) -> Path:
    """Write binary segments that refer to the DICOM image at ``source``.

    Identifiers are derived from mask and source, dates from the source, so that
    equal masks give equal bytes.

    Raises:
        FileError: If there is no source, it is not the image of the mask, or the
            mask is one of instances.
        DiskError: If the disk is full or not writable.
    """
    if source is None:
        raise FileError(
            path, "a DICOM-SEG needs the DICOM image it was made from", "Give source="
        )
    if seg.labels.kind == "instances":
        raise FileError(path, "a DICOM-SEG cannot hold instances", "Write .tif")
    headers = _source_headers(seg, path, source)
    frames = np.stack([seg.structure(x.name) for x in seg.labels], axis=-1)
    if seg.geometry.ndim == 2:
        frames = frames[None]
    with quiet():
        dataset = _build(seg, headers, frames.astype(np.uint8))

    def verify(part: Path) -> None:
        back = read_dicomseg(part, None, _LIMIT)
        if back.labels.names != seg.labels.names or not all(
            np.array_equal(back.structure(n), seg.structure(n)) for n in back.labels.names
        ):
            raise FileError(path, "read back with other labels than written; not kept")
        if back.geometry.unit == "mm" and not back.geometry.matches(seg.geometry, 1e-2):
            raise FileError(path, "read back with other geometry than written; not kept")

    with replace_file(path, verify) as part, part.open("wb") as stream:
        dataset.save_as(stream, enforce_file_format=True)
    return path


def _source_headers(seg: Segmentation, path: Path, source: Path) -> list[Dataset]:
    """Return the headers of the source image, in the order of the mask's slices."""
    with opened(source, Limits(), header_only=True) as file:
        if file.format != "dicom":
            raise FileError(
                path, f"a DICOM-SEG needs a DICOM image, the source is {file.format}"
            )
        if file.shape[1:] != seg.spatial_shape:
            raise FileError(
                path,
                f"the mask is {seg.spatial_shape}, its DICOM source {file.shape[1:]}",
                "Give the image that was segmented",
            )
        if not file.geometry.matches(seg.geometry, 1e-2):
            raise FileError(path, "mask and DICOM source lie in different places")
    paths = series_paths(source, Limits()) if source.is_dir() else [source]
    headers = []
    for item in paths:
        with item.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            headers.append(read_dataset(Source(item, stream, size), header_only=True))
    return headers


def _build(
    seg: Segmentation, headers: list[Dataset], frames: NDArray[np.uint8]
) -> Dataset:
    import highdicom as hd

    import medseg

    digest = hashlib.sha256(np.packbits(frames).tobytes())
    digest.update(repr((frames.shape, seg.labels)).encode())
    for header in headers:
        digest.update(str(header.get("SOPInstanceUID", "")).encode())
    uid = _uids(digest.hexdigest())
    measures = None
    if seg.geometry.unit == "mm" and seg.geometry.ndim == 2:
        measures = hd.PixelMeasuresSequence(seg.geometry.spacing, 1.0)
    dataset = hd.seg.Segmentation(
        source_images=headers,
        pixel_array=frames,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=_descriptions(seg.labels),
        series_instance_uid=uid("series"),
        series_number=1,
        sop_instance_uid=uid("instance"),
        instance_number=1,
        manufacturer="medseg",
        manufacturer_model_name="medseg",
        software_versions=medseg.__version__,
        device_serial_number="0",
        pixel_measures=measures,
        omit_empty_frames=False,
        content_label=seg.labels.kind.upper(),
    )
    _settle(dataset, headers[0], uid("dimensions"))
    for item, label in zip(dataset.SegmentSequence, seg.labels, strict=True):
        item.SegmentDescription = f"value {label.value} colour {label.colour}"
    return dataset


def _uids(entropy: str) -> Any:
    from pydicom.uid import generate_uid

    return lambda role: generate_uid(entropy_srcs=[entropy, role])


def _settle(dataset: Dataset, header: Dataset, organization: str) -> None:
    """Replace what differs from run to run: clock times and random identifiers."""
    date = str(header.get("StudyDate", "") or "19000101")
    time = str(header.get("StudyTime", "") or "000000")
    for word in ("InstanceCreation", "Content"):
        setattr(dataset, f"{word}Date", date)
        setattr(dataset, f"{word}Time", time)
    if "ContributingEquipmentSequence" in dataset:
        del dataset.ContributingEquipmentSequence
    for name in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
        for item in dataset.get(name) or []:
            item.DimensionOrganizationUID = organization


def _descriptions(labels: LabelSet) -> list[Any]:
    import highdicom as hd

    import medseg

    algorithm = hd.AlgorithmIdentificationSequence(
        name="medseg",
        version=medseg.__version__,
        family=hd.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"),
    )
    category = hd.sr.CodedConcept("123037004", "SCT", "Anatomical Structure")
    return [
        hd.seg.SegmentDescription(
            number,
            label.name[:64],
            category,
            hd.sr.CodedConcept(code, "SCT", meaning),
            hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm,
        )
        for number, label in enumerate(labels, 1)
        for code, meaning in [_TYPES.get(label.name, ("85756007", "Tissue"))]
    ]


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
    if labels is not None:
        missing = [n for n in labels.names if n not in stored.names]
        if missing:
            raise source.fail(f"no segment {missing[0]!r}", f"It has {stored.names}")
        mask = mask[[stored.index(n) for n in labels.names]]
    chosen = labels or stored
    if chosen.kind == "overlapping":
        return Segmentation(mask, chosen, geometry)
    flat = np.zeros(mask.shape[1:], np.min_scalar_type(max(x.value for x in chosen)))
    for on, label in zip(mask, chosen, strict=True):
        flat[on > 0] = label.value
    return Segmentation(flat, chosen, geometry)


def _frames(
    source: Source, dataset: Dataset
) -> tuple[LabelSet, NDArray[np.uint8], list[int]]:
    """Return labels, frames ``(F, Y, X)`` and the channel of each."""
    if str(dataset.get("SOPClassUID", "")) != _STORAGE:
        raise source.fail("a DICOM image, not a segmentation", "Read it with read_image")
    if dataset.get("SegmentationType") != "BINARY" or dataset.get("BitsAllocated") != 1:
        raise source.fail("a DICOM-SEG that is not binary is not read")
    count, rows, columns = (
        int(dataset.get(n) or 1) for n in ("NumberOfFrames", "Rows", "Columns")
    )
    source.limits.check(source.path, (count, rows, columns), 1)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        frames = np.asarray(dataset.pixel_array).reshape(count, rows, columns)
    else:
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
    numbers = []
    for group in groups:
        inner = group.get("SegmentIdentificationSequence")
        numbers.append(found.index(int(inner[0].ReferencedSegmentNumber)))
    if len(numbers) != count:
        raise source.fail(f"{count} frames, {len(numbers)} of them described")
    exclusive = dataset.get("ContentLabel") == "EXCLUSIVE"
    kind = "exclusive" if exclusive else "overlapping"
    return LabelSet(tuple(labels), kind), frames, numbers


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
    for frame, number, z in zip(frames, numbers, np.rint(index).astype(int), strict=True):
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

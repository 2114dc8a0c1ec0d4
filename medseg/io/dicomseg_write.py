"""Write DICOM-SEG by highdicom.

A DICOM-SEG belongs to its source image: as the standard demands it carries over who
the patient is and which study it is, and no other word of that image.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import FileError
from medseg.io.atomic import replace_file
from medseg.io.block import KEYWORD, Block
from medseg.io.dicom import Dataset, read_dataset
from medseg.io.dicom_decode import quiet
from medseg.io.dicomseg import PRIVATE_ELEMENT, PRIVATE_GROUP, read_dicomseg
from medseg.io.limits import Limits
from medseg.io.read import opened
from medseg.io.series import series_paths
from medseg.io.source import Source
from medseg.labels import LabelSet
from medseg.segmentation import Segmentation, genuine

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_LIMIT = Limits(2**60, 2**60)
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
# Carried over; may be empty, as it is in many films from which names were removed.
_CARRIED = {
    "PatientID": r".*",
    "PatientName": r".*",
    "PatientBirthDate": r"\d{8}",
    "PatientSex": r"[MFO]",
    "AccessionNumber": r".*",
    "StudyID": r".*",
    "StudyDate": r"\d{8}",
    "StudyTime": r"\d{2,6}(\.\d{1,6})?",
    "ReferringPhysicianName": r".*",
}
# Groups of elements about people, visits, procedures and places; of these, only the
# elements above and these.
_GROUPS = (0x0008, 0x0010, 0x0012, 0x0032, 0x0038, 0x0040)
_KEPT = {*_NEEDED, *_CARRIED, "SpecificCharacterSet", "ImageType", "Modality"}
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
            np.array_equal(back.structure(n), seg.structure(n))
            for n in back.labels.names
        ):
            raise FileError(path, "read back with other labels than written; not kept")
        if back.geometry.unit == "mm" and not back.geometry.matches(seg.geometry, 1e-2):
            raise FileError(
                path, "read back with other geometry than written; not kept"
            )

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
            header = read_dataset(Source(item, stream, size), header_only=True)
        headers.append(_completed(header, path))
    return headers


def _completed(header: Dataset, path: Path) -> Dataset:
    """Leave only what may be carried over; empty what is missing or malformed."""
    from pydicom.datadict import keyword_for_tag

    missing = [name for name in _NEEDED if not header.get(name)]
    if missing:
        raise FileError(
            path, f"the DICOM source has no {', '.join(missing)}", "Write .nii.gz"
        )
    for tag in list(header.keys()):
        if tag.group in _GROUPS and keyword_for_tag(tag) not in _KEPT:
            del header[tag]
    for name, form in _CARRIED.items():
        value = str(header.get(name) or "")
        if name not in header or not re.fullmatch(form, value, re.DOTALL):
            setattr(header, name, "")
    return header


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
    if seg.geometry.unit == "mm":
        spacing = (1.0, *seg.geometry.spacing)[-3:]  # a film has no thickness
        measures = hd.PixelMeasuresSequence(spacing[1:], spacing[0])
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
    if seg.geometry.ndim == 3:  # highdicom writes 1.0 for a single slice
        shared = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        shared.SpacingBetweenSlices = seg.geometry.spacing[0]
    private = dataset.private_block(PRIVATE_GROUP, KEYWORD, create=True)
    block = Block(seg.geometry, seg.labels, genuine(seg.provenance, seg.mask))
    private.add_new(PRIVATE_ELEMENT, "UT", block.dump())
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
    dataset.pop("ContributingEquipmentSequence", None)
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

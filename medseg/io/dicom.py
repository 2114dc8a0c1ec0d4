"""One DICOM file: pydicom parses, all that is used is checked here.

No text of the file is kept or quoted: only sizes, spacing, modality and the like.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from medseg.io.dicom_decode import decode, quiet
from medseg.io.dicom_geometry import file_geometry
from medseg.io.dicom_pixels import PixelFacts, read_facts
from medseg.io.source import Opened, Source, parsing

if TYPE_CHECKING:
    from numpy.typing import NDArray

Dataset = Any  # pydicom.Dataset; imported only when a DICOM file is read

_DEFLATED = "1.2.840.10008.1.2.1.99"
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_INFLATED_LIMIT = 2**27


def read_dataset(source: Source, header_only: bool = False) -> Dataset:
    """Parse a file, or all of it before the pixels.

    Raises:
        FileError: If it is not DICOM, truncated, or inflates without end.
    """
    import pydicom

    with parsing(source, "DICOM", quote=False):
        data = source.stream
        data.seek(0)
        _check_deflated(source)
        with quiet():
            dataset = pydicom.dcmread(data, stop_before_pixels=header_only, force=True)
            _check_ends(source, dataset)
    return dataset


def _check_deflated(source: Source) -> None:
    """Inflate a deflated file piece by piece, keeping nothing, up to a limit."""
    head = source.read(4096)
    start = head.find(_DEFLATED.encode())
    if start < 0 or head[128:132] != b"DICM":
        source.stream.seek(0)
        return
    group = int.from_bytes(head[140:144], "little")
    source.stream.seek(144 + group)
    inflate, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    limit = min(_INFLATED_LIMIT, source.limits.max_bytes)
    while piece := source.stream.read(2**16):
        while piece:
            total += len(inflate.decompress(piece, 2**20))
            piece = inflate.unconsumed_tail
            if total > limit:
                raise source.fail(
                    f"a deflate bomb: {source.size} bytes inflate to more than {limit}"
                )
    source.stream.seek(0)


def _check_ends(source: Source, dataset: Dataset) -> None:
    """Refuse a last element shorter than it says; pydicom does not notice."""
    from pydicom.dataelem import RawDataElement

    for part in (getattr(dataset, "file_meta", None), dataset):
        if not part:
            continue
        element = part.get_item(list(part.keys())[-1])
        if isinstance(element, RawDataElement) and element.length != 0xFFFFFFFF:
            present = len(element.value or b"")
            if present < element.length and int(element.tag) != 0x7FE00010:
                raise source.damaged(
                    f"truncated: element {element.tag} wants {element.length} bytes, "
                    f"{present} present",
                )
    if not len(dataset):
        raise source.damaged("not a DICOM file, or truncated: no data element in it")


def open_dicom(source: Source) -> Opened:
    """Check one DICOM file: a film, a slice, or an enhanced multi-frame volume.

    MONOCHROME1 is inverted in the stored range, then slope and intercept applied, so
    that high is always bright.

    Raises:
        FileError: If it holds no grey image, or one that is damaged.
    """
    dataset = read_dataset(source, source.header_only)
    with parsing(source, "DICOM", quote=False):
        if str(dataset.get("SOPClassUID", "")).startswith(_SEGMENTATION):
            raise source.fail(
                "a DICOM segmentation is a mask, not an image",
                "Read it with read_segmentation",
            )
        facts = read_facts(source, dataset)
        notes = [*facts.notes, *file_notes(source, dataset)]
        geometry, order = file_geometry(source, dataset, facts.frames, notes)
    depth = () if geometry.ndim == 2 else (facts.frames,)
    shape = (1, *depth, facts.rows, facts.columns)
    source.limits.check(source.path, shape, facts.dtype.itemsize)

    def load(mask: bool) -> tuple[NDArray[Any], tuple[str, ...]]:
        with parsing(source, "DICOM", quote=False):
            frames, late = decode(source, dataset, facts)
            return frames[order].reshape(shape), late

    return Opened(
        "dicom",
        shape,
        facts.dtype,
        geometry,
        load,
        meta_of(dataset, facts),
        tuple(notes),
    )


def meta_of(dataset: Dataset, facts: PixelFacts) -> dict[str, Any]:
    """Return modality, photometric interpretation and bits; nothing of the patient."""
    modality = str(dataset.get("Modality", "") or "")
    known = modality if modality.isalnum() and len(modality) <= 16 else ""
    return {"modality": known, "photometric": facts.photometric, "bits": facts.stored}


def file_notes(source: Source, dataset: Dataset) -> list[str]:
    """Return warnings on burned-in text, character set and missing preamble."""
    from pydicom.charset import python_encoding

    notes = []
    burned = str(dataset.get("BurnedInAnnotation", "")).upper() == "YES"
    if burned or str(dataset.get("SOPClassUID", "")).startswith(_SECONDARY_CAPTURE):
        kind = "has" if burned else "is a secondary capture and may have"
        notes.append(f"{kind} burned-in annotation, which previews show")
    charset = dataset.get("SpecificCharacterSet") or ()
    names = [charset] if isinstance(charset, str) else list(charset)
    if any(str(n) not in python_encoding for n in names):
        notes.append("unknown character set; no text of the file is used")
    if source.read(4, 128) != b"DICM":
        notes.append("no DICOM preamble; read from its first element")
    source.stream.seek(0)
    return notes

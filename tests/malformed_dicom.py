"""Malformed DICOM files and series; see ``malformed`` for the verdicts."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from malformed import Malformed, Verdict, _file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILM = np.arange(48, dtype=np.uint16).reshape(6, 8) * 50 + 3
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG = "1.2.840.10008.1.2.4.50"


def dataset(pixels: np.ndarray = FILM, syntax: str = EXPLICIT, **elements: Any) -> Any:
    """Return a film as a pydicom data set; an element of None is left out."""
    import pydicom
    from pydicom.dataset import FileMetaDataset

    ds = pydicom.Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3.4"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    ds.Modality, ds.PatientID, ds.PatientName = "CR", "PATIENT-77", "Canary^Bird"
    ds.PixelSpacing = [0.2, 0.1]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    bits = pixels.dtype.itemsize * 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    data = pixels.tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OW"
    for name, value in elements.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    return ds


def dicom(pixels: np.ndarray = FILM, syntax: str = EXPLICIT, **elements: Any) -> bytes:
    """Return :func:`dataset` as the bytes of a file."""
    import pydicom

    buffer = io.BytesIO()
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        dataset(pixels, syntax, **elements).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _patched(find: bytes, replace: bytes, **elements: Any) -> bytes:
    data = dicom(**elements)
    assert data.count(find) >= 1
    return data.replace(find, replace, 1)


def _element(tag: tuple[int, int], vr: bytes, value: bytes) -> bytes:
    head = struct.pack("<HH", *tag) + vr
    if vr in (b"OB", b"OW", b"SQ", b"UN"):
        return head + struct.pack("<HI", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def _us(tag: int, value: int) -> bytes:
    return struct.pack("<HH", 0x28, tag) + b"US" + struct.pack("<HH", 2, value)


def _no_preamble() -> bytes:
    return dicom()[132:]


def _deep() -> bytes:
    data = dicom()
    pixels = data.index(struct.pack("<HH", 0x7FE0, 0x0010) + b"OW")
    opening = struct.pack("<HH", 0x0040, 0xA730) + b"SQ\0\0" + b"\xff" * 4
    opening += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    closing = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack(
        "<HHI", 0xFFFE, 0xE0DD, 0
    )
    return data[:pixels] + opening * 5000 + closing * 5000 + data[pixels:]


def _bomb() -> bytes:
    data = dicom(syntax=DEFLATED)
    head = data[: 144 + int.from_bytes(data[140:144], "little")]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(9, zlib.DEFLATED, -15)
    large = struct.pack("<HH", 9, 0x1001) + b"OB\0\0" + struct.pack("<I", 400 * 2**20)
    start = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = start.compress(large) + start.flush(zlib.Z_FULL_FLUSH)
    return head + first + block * 400 + end.flush()


def _encapsulated(frame: bytes, **elements: Any) -> bytes:
    from pydicom.encaps import encapsulate

    eight = (FILM // 10).astype(np.uint8)
    ds = dataset(eight, JPEG, **elements)
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _dcm(
    name: str,
    verdict: Verdict,
    word: str,
    data: bytes | Callable[[], bytes],
    pixels: np.ndarray | None = None,
) -> Malformed:
    return _file("dicom", name, verdict, word, data, ".dcm", pixels)


_SIGNED = FILM.astype(np.int16) - 1000
_GOOD = dicom()
_PIXELS_AT = _GOOD.index(struct.pack("<HH", 0x7FE0, 0x0010) + b"OW")
_OUTSIDE = {"PatientID": "../../etc\x1b[2J", "PatientName": "../x"}
_TILTED = {"Modality": "CT", "ImagePositionPatient": [0, 0, 0]}

FILES = (
    _dcm("empty", "reject", "empty", b""),
    _dcm("random bytes", "reject", "recognised", np.random.default_rng(7).bytes(900)),
    _dcm("text", "reject", "text", b"this is not a film\n" * 40),
    _dcm("cut in the preamble", "reject", "recognised|wrong kind", _GOOD[:100]),
    _dcm("cut in the header", "reject", "truncated", _GOOD[: _PIXELS_AT - 17]),
    _dcm("cut before the pixels", "reject", "no pixels", _GOOD[:_PIXELS_AT]),
    _dcm("cut in the pixels", "reject", "truncated", _GOOD[:-20]),
    _dcm("no preamble", "warn", "preamble", _no_preamble, FILM[None]),
    _dcm("no pixels", "reject", "no pixels", dicom(PixelData=None)),
    _dcm("no rows", "reject", "Rows", dicom(Rows=None)),
    _dcm("short pixels", "reject", "truncated", dicom(PixelData=FILM.tobytes()[:-10])),
    _dcm(
        "long pixels",
        "warn",
        "too long",
        dicom(PixelData=FILM.tobytes() + bytes(10)),
        FILM[None],
    ),
    _dcm("65535 x 65535", "reject", "limit", dicom(Rows=65535, Columns=65535)),
    _dcm("zero rows", "reject", "zero", dicom(Rows=0)),
    _dcm("two billion frames", "reject", "limit", dicom(NumberOfFrames=2_000_000_000)),
    _dcm("frames without place", "reject", "frames", dicom(Rows=3, NumberOfFrames=2)),
    _dcm(
        "odd bit depth",
        "reject",
        "bits",
        dicom(BitsAllocated=12, BitsStored=12, HighBit=11),
    ),
    _dcm(
        "stored above allocated", "reject", "stored", dicom(BitsStored=20, HighBit=19)
    ),
    _dcm("slope 0", "reject", "slope", dicom(RescaleSlope=0, RescaleIntercept=0)),
    _dcm(
        "unknown syntax",
        "reject",
        "transfer syntax",
        _patched(EXPLICIT.encode() + b"\0", b"1.2.840.10008.1.2.9\0"),
    ),
    _dcm(
        "damaged JPEG",
        "reject",
        "damaged",
        lambda: _encapsulated(b"\xff\xd8\xff\xe0junkjunkjunk"),
    ),
    _dcm("zero spacing", "reject", "spacing", dicom(PixelSpacing=[0, 0.1])),
    _dcm("negative spacing", "reject", "spacing", dicom(PixelSpacing=[0.1, -0.1])),
    _dcm("one spacing", "reject", "PixelSpacing", dicom(PixelSpacing=[0.1, 0.1, 0.1])),
    _dcm(
        "orientation",
        "reject",
        "orthogonal",
        dicom(ImageOrientationPatient=[1, 0, 0, 1, 0, 0], **_TILTED),
    ),
    _dcm(
        "length past the end",
        "reject",
        "truncated|no pixels|damaged",
        _patched(b"LO" + struct.pack("<H", 10), b"LO" + struct.pack("<H", 60000)),
    ),
    _dcm(
        "RGB",
        "reject",
        "colour",
        dicom(SamplesPerPixel=3, PhotometricInterpretation="RGB"),
    ),
    _dcm("deflate bomb", "reject", "bomb", _bomb),
    _dcm("nesting", "reject", "damaged", _deep),
    _dcm(
        "character set",
        "warn",
        "character set",
        dicom(SpecificCharacterSet="ISO_IR 4711"),
        FILM[None],
    ),
    _dcm("burned in", "warn", "burned-in", dicom(BurnedInAnnotation="YES"), FILM[None]),
    _dcm(
        "secondary capture",
        "warn",
        "burned-in",
        dicom(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"),
        FILM[None],
    ),
    _dcm(
        "monochrome 1",
        "accept",
        "",
        dicom(PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11),
        (4095 - FILM)[None],
    ),
    _dcm("signed", "accept", "", dicom(_SIGNED), _SIGNED[None]),
    _dcm(
        "signed monochrome 1",
        "accept",
        "",
        dicom(_SIGNED, PhotometricInterpretation="MONOCHROME1"),
        (-1 - _SIGNED)[None],
    ),
    _dcm(
        "signed 12 bits",
        "accept",
        "",
        dicom(_SIGNED & 0xFFF, BitsStored=12, HighBit=11, PixelRepresentation=1),
        _SIGNED[None],
    ),
    _dcm(
        "overlay above",
        "accept",
        "",
        dicom(FILM | 0x8000, BitsStored=12, HighBit=11),
        FILM[None],
    ),
    _dcm(
        "rescaled",
        "accept",
        "",
        dicom(RescaleSlope=2, RescaleIntercept=-1024),
        FILM[None].astype(np.int32) * 2 - 1024,
    ),
    _dcm(
        "fractions",
        "accept",
        "",
        dicom(RescaleSlope=0.5, RescaleIntercept=0),
        (FILM[None] * 0.5).astype(np.float32),
    ),
    _dcm(
        "executable preamble",
        "accept",
        "",
        b"MZ" + b"\x90" * 126 + _GOOD[128:],
        FILM[None],
    ),
    _dcm("hostile patient", "accept", "", dicom(**_OUTSIDE), FILM[None]),
    _dcm("implicit", "accept", "", dicom(syntax="1.2.840.10008.1.2"), FILM[None]),
    _dcm("deflated", "accept", "", dicom(syntax=DEFLATED), FILM[None]),
    _dcm(
        "odd bytes",
        "accept",
        "",
        dicom(FILM.astype(np.uint8)[:5, :7]),
        FILM.astype(np.uint8)[None, :5, :7],
    ),
)

# --- series ------------------------------------------------------------------------

STACK = np.arange(5 * 4 * 3, dtype=np.int16).reshape(5, 4, 3)


def series(
    folder: Path,
    change: Callable[[int, Any], Any] = lambda i, ds: ds,
    pixels: np.ndarray = STACK,
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    origin: tuple[float, float, float] = (-10.0, 20.0, 30.0),
    spacing: tuple[float, float, float] = (3.0, 2.0, 1.5),
) -> Path:
    """Write one CT series; ``change(index, dataset)`` may return None to leave it out."""
    normal = np.cross(orientation[:3], orientation[3:])
    for index, plane in enumerate(pixels):
        place = np.array(origin) + index * spacing[0] * normal
        ds = dataset(
            np.ascontiguousarray(plane),
            Modality="CT",
            SOPClassUID="1.2.840.10008.5.1.4.1.1.2",
            SOPInstanceUID=f"1.2.3.4.{index}",
            ImagePositionPatient=[float(v) for v in place],
            ImageOrientationPatient=list(orientation),
            PixelSpacing=list(spacing[1:]),
            SliceThickness=spacing[0],
            InstanceNumber=index + 1,
            FrameOfReferenceUID="1.2.3.9",
            StudyID="1", StudyDate="20200101", StudyTime="000000", AccessionNumber="",
            PatientBirthDate="", PatientSex="", SeriesNumber=1,
            ReferringPhysicianName="",
        )  # fmt: skip
        ds = change(index, ds)
        if ds is not None:
            # Names say nothing about the order.
            ds.save_as(folder / f"{(index * 7) % 10}.dcm", enforce_file_format=True)
    return folder


def _series(
    name: str,
    verdict: Verdict,
    word: str,
    change: Callable[[int, Any], Any],
    pixels: np.ndarray | None = None,
) -> Malformed:
    return Malformed("series", name, verdict, word, lambda f: series(f, change), pixels)


def _on(index: int, **elements: Any) -> Callable[[int, Any], Any]:
    def change(i: int, ds: Any) -> Any:
        if i == index:
            for name, value in elements.items():
                setattr(ds, name, value)
        return ds

    return change


def _every(act: Callable[[int, Any], None]) -> Callable[[int, Any], Any]:
    def change(i: int, ds: Any) -> Any:
        act(i, ds)
        return ds

    return change


def _cut(folder: Path) -> Path:
    series(folder)
    path = folder / "1.dcm"
    path.write_bytes(path.read_bytes()[:-8])
    return folder


def _set_tilt(i: int, ds: Any) -> None:
    ds.ImagePositionPatient = [-10.0, 20.0 + i * 0.8, 30.0 + 3.0 * i]


def _reverse(i: int, ds: Any) -> None:
    ds.InstanceNumber = 99 - i


def _slopes(i: int, ds: Any) -> None:
    ds.RescaleSlope, ds.RescaleIntercept = i + 1, -i


_RESCALED = np.stack([STACK[i].astype(np.int32) * (i + 1) - i for i in range(5)])

SERIES = (
    _series("missing slice", "reject", r"6\.0000 mm .* 3\.0000 mm .*tolerance", lambda i, ds: None if i == 2 else ds),
    _series("jittered slice", "reject", "tolerance", _on(2, ImagePositionPatient=[-10.0, 20.0, 36.05])),
    _series("duplicate position", "reject", "duplicate", _on(2, ImagePositionPatient=[-10.0, 20.0, 33.0])),
    _series("mixed size", "reject", "different size", _on(2, Rows=3, PixelData=STACK[0, :3].tobytes())),
    _series("localizer", "reject", "localizer", _on(2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
    _series("turned localizer", "reject", "localizer", _on(4, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])),
    _series("two series", "reject", "2 series, of 4 and 1", _on(2, SeriesInstanceUID="1.9")),
    _series("gantry tilt", "reject", "tilt", _every(_set_tilt)),
    _series("no positions", "reject", "position", _every(lambda i, ds: ds.__delattr__("ImagePositionPatient"))),
    _series("other spacing", "reject", "spacing differs", _on(1, PixelSpacing=[2.0, 1.6])),
    Malformed("series", "cut slice", "reject", "truncated", _cut),
    Malformed("series", "empty folder", "reject", "no DICOM", lambda f: f),
    _series("good", "accept", "", lambda i, ds: ds, STACK[None]),
    _series("reversed numbers", "accept", "", _every(_reverse), STACK[None]),
    _series("rescale differs", "accept", "", _every(_slopes), _RESCALED[None]),
)  # fmt: skip

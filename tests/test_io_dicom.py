"""DICOM: encodings, spacing rules, volumes, segmentations, and no word of a patient."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from malformed_dicom import FILM, STACK, dataset, dicom, series

from medseg.errors import FileError, ImageWarning, MedsegError
from medseg.geometry import Geometry
from medseg.io import probe, read_image, read_segmentation, write_segmentation
from medseg.io.dicom_decode import quiet
from medseg.labels import Label, LabelSet, chest_labels
from medseg.segmentation import Segmentation, stamped

if TYPE_CHECKING:
    from pathlib import Path

JPEG_LS, JPEG_2000, RLE = (
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.5",
)
EXCLUSIVE = LabelSet((Label(1, "a", "#ff0000"), Label(300, "b", "#00ff00")))


def _save(path: Path, ds: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("syntax", [JPEG_LS, JPEG_2000, RLE])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_lossless_encodings_are_exact(
    syntax: str, photometric: str, tmp_path: Path
) -> None:
    pixels = np.tile(FILM, (8, 8))
    ds = dataset(
        pixels, BitsStored=12, HighBit=11, PhotometricInterpretation=photometric
    )
    ds.compress(syntax)
    image = read_image(_save(tmp_path / "film.dcm", ds))
    expected = 4095 - pixels if photometric == "MONOCHROME1" else pixels
    np.testing.assert_array_equal(image.pixels[0], expected)


def test_baseline_jpeg_is_near(tmp_path: Path) -> None:
    from PIL import Image
    from pydicom.encaps import encapsulate

    smooth = np.add.outer(np.arange(16), np.arange(24)).astype(np.uint8) * 4
    buffer = io.BytesIO()
    Image.fromarray(smooth).save(buffer, "JPEG", quality=95)
    ds = dataset(smooth, "1.2.840.10008.1.2.4.50")
    ds.PixelData = encapsulate([buffer.getvalue()])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    image = read_image(_save(tmp_path / "film.dcm", ds))
    assert np.abs(image.pixels[0].astype(int) - smooth).max() < 6


@pytest.mark.parametrize("allocated", [8, 16])
def test_big_endian_words(allocated: int, tmp_path: Path) -> None:
    pixels = FILM.astype(f"u{allocated // 8}")
    ds = dataset(pixels, "1.2.840.10008.1.2.2")
    ds.PixelData = pixels.view("<u2").byteswap().tobytes()
    image = read_image(_save(tmp_path / "film.dcm", ds))
    np.testing.assert_array_equal(image.pixels[0], pixels)


@pytest.mark.parametrize(
    ("elements", "spacing", "detector"),
    [
        ({}, (0.2, 0.1), False),
        ({"PixelSpacing": None, "ImagerPixelSpacing": [0.3, 0.4]}, (0.3, 0.4), True),
        ({"PixelSpacing": None, "NominalScannedPixelSpacing": [0.3, 0.4]}, (0.3, 0.4), True),
        ({"ImagerPixelSpacing": [0.2, 0.1]}, (0.2, 0.1), True),
        ({"ImagerPixelSpacing": [0.3, 0.15]}, (0.2, 0.1), False),
        ({"ImagerPixelSpacing": [0.2, 0.1], "PixelSpacingCalibrationType": "GEOMETRY"}, (0.2, 0.1), False),
    ],
)  # fmt: skip
def test_the_spacing_of_a_film(
    elements: dict[str, Any],
    spacing: tuple[float, float],
    detector: bool,
    tmp_path: Path,
) -> None:
    path = tmp_path / "film.dcm"
    path.write_bytes(dicom(**elements))
    geometry = read_image(path).geometry
    assert geometry == Geometry.upright(spacing, detector_plane=detector)
    assert probe(path).detector_plane == detector


def test_a_film_without_spacing_is_in_pixels(tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(dicom(PixelSpacing=None))
    image = read_image(path)
    assert image.geometry == Geometry.pixels(2)
    assert dict(image.meta) == {
        "format": "dicom", "modality": "CR", "photometric": "MONOCHROME2",
        "bits": 16, "source": "film",
    }  # fmt: skip


def test_one_slice_is_a_volume_in_its_place(tmp_path: Path) -> None:
    series(tmp_path, lambda i, ds: ds if i == 1 else None)
    image = read_image(tmp_path)
    assert image.pixels.shape == (1, 1, 4, 3)
    assert image.geometry.spacing == (3.0, 2.0, 1.5)
    assert image.geometry.origin == (33.0, 20.0, -10.0)
    assert read_image(next(tmp_path.iterdir())).geometry == image.geometry


def test_a_slice_without_thickness_is_1_mm(tmp_path: Path) -> None:
    def change(i: int, ds: Any) -> Any:
        del ds.SliceThickness
        return ds if i == 0 else None

    series(tmp_path, change)
    with pytest.warns(ImageWarning, match="no slice thickness is stated: 1 mm"):
        assert read_image(tmp_path).geometry.spacing[0] == 1.0


@pytest.mark.parametrize("ways", [["R", "F"], ["L", "H"], ["F", "R"]])
def test_a_film_that_is_stored_mirrored_or_turned(
    ways: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "film.dcm"
    path.write_bytes(dicom(PatientOrientation=ways))
    with pytest.warns(ImageWarning, match="says mirrored or turned"):
        np.testing.assert_array_equal(read_image(path).pixels[0], FILM)
    for upright in (["L", "F"], ["A", "F"], ["LP", "FH"], "", ["", ""]):
        path.write_bytes(dicom(PatientOrientation=upright))
        assert not probe(path).notes


def test_an_enhanced_file_of_one_frame_has_a_place(tmp_path: Path) -> None:
    ds = _enhanced()
    ds.NumberOfFrames, ds.PixelData = 1, STACK[3].tobytes()
    del ds.PerFrameFunctionalGroupsSequence[1:]
    image = read_image(_save(tmp_path / "mr.dcm", ds))
    np.testing.assert_array_equal(image.pixels[0], STACK[3:4])
    assert image.geometry.spacing == (3.0, 2.0, 1.5)
    assert image.geometry.origin == (9.0, 0.0, 0.0)
    place = ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    place.ImagePositionPatient = [0, 0, 12]
    _save(tmp_path / "next.dcm", ds)
    assert read_image(tmp_path).geometry.spacing == (3.0, 2.0, 1.5)
    del ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence
    assert read_image(_save(tmp_path / "xa.dcm", ds)).geometry.ndim == 2


def test_junk_in_the_folder_is_passed_over(tmp_path: Path) -> None:
    series(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / ".hidden.dcm").write_text("hello")
    (tmp_path / "DICOMDIR").write_bytes(dicom())
    (tmp_path / "sub").mkdir()
    np.testing.assert_array_equal(read_image(tmp_path).pixels[0], STACK)
    (tmp_path / "x.dcm").write_text("hello")
    with pytest.raises(FileError, match=r"x\.dcm: not a DICOM file"):
        read_image(tmp_path)


def test_warnings_of_a_series_are_given_once(tmp_path: Path) -> None:
    def change(i: int, ds: Any) -> Any:
        ds.BurnedInAnnotation = "YES"
        return ds

    with pytest.warns(match="burned-in") as caught:
        read_image(series(tmp_path, change))
    assert len(caught) == 1


def test_films_in_one_folder_are_no_series(tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / name).write_bytes(dicom())
    with pytest.raises(FileError, match="without a position"):
        read_image(tmp_path)


def _enhanced(**group: Any) -> Any:
    from pydicom import Dataset

    ds = dataset(STACK[0], Modality="MR")
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    order = [3, 0, 4, 1, 2]
    ds.NumberOfFrames = len(order)
    ds.PixelData = STACK[order].tobytes()

    def item(name: str, **elements: Any) -> Dataset:
        inner, outer = Dataset(), Dataset()
        for key, value in elements.items():
            setattr(inner, key, value)
        setattr(outer, name, [inner])
        return outer

    shared = item(
        "PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 0, 1, 0]
    )
    shared.update(
        item("PixelMeasuresSequence", PixelSpacing=[2, 1.5], SliceThickness=3)
    )
    ds.SharedFunctionalGroupsSequence = [shared]
    frames = [
        item("PlanePositionSequence", ImagePositionPatient=[0, 0, 3.0 * z])
        for z in order
    ]
    for frame, slope in zip(frames, group.get("slopes", ()), strict=False):
        frame.update(
            item(
                "PixelValueTransformationSequence",
                RescaleSlope=slope,
                RescaleIntercept=1,
            )
        )
    ds.PerFrameFunctionalGroupsSequence = frames
    return ds


def test_an_enhanced_file_is_a_volume_sorted_by_position(tmp_path: Path) -> None:
    path = _save(tmp_path / "mr.dcm", _enhanced())
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels[0], STACK)
    assert image.geometry.spacing == (3.0, 2.0, 1.5)
    assert probe(path).shape == (1, 5, 4, 3)


def test_the_scaling_of_an_enhanced_file(tmp_path: Path) -> None:
    image = read_image(_save(tmp_path / "mr.dcm", _enhanced(slopes=[2] * 5)))
    np.testing.assert_array_equal(image.pixels[0], STACK * 2 + 1)
    with pytest.raises(FileError, match="2 different rescale"):
        read_image(_save(tmp_path / "mr.dcm", _enhanced(slopes=[2, 3])))


def test_an_enhanced_file_with_a_group_missing_is_refused(tmp_path: Path) -> None:
    ds = _enhanced()
    del ds.PerFrameFunctionalGroupsSequence[-1]
    with pytest.raises(FileError, match="frame 5 has no functional group"):
        read_image(_save(tmp_path / "mr.dcm", ds))
    ds = _enhanced()
    del ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    with pytest.raises(FileError, match="has no PixelMeasuresSequence"):
        read_image(_save(tmp_path / "mr.dcm", ds))
    ds = _enhanced()
    del (
        ds.PerFrameFunctionalGroupsSequence[1]
        .PlanePositionSequence[0]
        .ImagePositionPatient
    )
    with pytest.raises(FileError, match="frame 2 has no position"):
        read_image(_save(tmp_path / "mr.dcm", ds))
    with pytest.raises(FileError, match="5 frames in a file of a series"):
        _save(tmp_path / "more.dcm", _enhanced())
        read_image(tmp_path)


def test_a_modality_table_is_said_to_be_left_out(tmp_path: Path) -> None:
    from pydicom import Dataset

    ds = dataset(ModalityLUTSequence=[Dataset()])
    with pytest.warns(match="lookup table is not applied"):
        read_image(_save(tmp_path / "film.dcm", ds))


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("RescaleSlope", [1, 2], "RescaleSlope"),
        ("Rows", [1, 2], "Rows"),
        ("ImagerPixelSpacing", [1, 2, 3], "ImagerPixelSpacing"),
    ],
)
def test_an_element_of_the_wrong_length_is_refused(
    name: str, value: Any, word: str, tmp_path: Path
) -> None:
    (tmp_path / "f.dcm").write_bytes(dicom(PixelSpacing=None, **{name: value}))
    with pytest.raises(FileError, match=word):
        read_image(tmp_path / "f.dcm")


def test_no_word_of_the_patient_leaves_the_file(tmp_path: Path) -> None:
    canaries = {
        "PatientName": "Canary^One", "PatientID": "canary-2", "InstitutionName": "canary-3",
        "StudyDescription": "canary-4", "AccessionNumber": "canary-5",
        "ImageComments": "canary-6", "OperatorsName": "Canary^Seven",
    }  # fmt: skip
    good = dicom(**canaries)
    text = str(dict(_image(tmp_path, good).meta))
    for at in range(300, len(good), 23):
        for data in (good[:at], good[:at] + b"\xff" + good[at + 1 :]):
            try:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    _image(tmp_path, data)
            except MedsegError as error:
                text += str(error)
            text += "".join(str(w.message) for w in caught)
    assert "canary" not in text.lower()


def _image(folder: Path, data: bytes) -> Any:
    (folder / "film.dcm").write_bytes(data)
    return read_image(folder / "film.dcm")


def test_only_the_warnings_of_dicom_libraries_are_silenced() -> None:
    """Another thread may be reading an image of which something is to be said."""
    with quiet():
        warnings.warn_explicit("odd", UserWarning, "f.py", 1, module="pydicom.valuerep")
        with pytest.warns(ImageWarning, match="unusual"):
            warnings.warn("unusual", ImageWarning, stacklevel=1)


# --- DICOM-SEG ---------------------------------------------------------------------


def _film_mask(geometry: Geometry, labels: LabelSet) -> Segmentation:
    rng = np.random.default_rng(2)
    if labels.kind == "exclusive":
        return Segmentation(rng.choice([0, 1, 300], FILM.shape), labels, geometry)
    mask = rng.integers(0, 2, (len(labels), *FILM.shape), np.uint8)
    return Segmentation(mask, labels, geometry)


@pytest.mark.parametrize("labels", [chest_labels(), EXCLUSIVE], ids=lambda x: x.kind)
@pytest.mark.parametrize("spacing", [[0.2, 0.1], None])
def test_a_film_segmentation_comes_back(
    labels: LabelSet, spacing: list[float] | None, tmp_path: Path
) -> None:
    source = tmp_path / "film.dcm"
    source.write_bytes(_complete(PixelSpacing=spacing))
    seg = _film_mask(read_image(source).geometry, labels)
    path = tmp_path / "mask.dcm"
    assert write_segmentation(seg, path, source=source) == (path,)
    back = read_segmentation(path)
    np.testing.assert_array_equal(back.mask, seg.mask)
    assert back.labels == labels
    assert back.geometry == seg.geometry
    assert back.provenance == {}
    first = path.read_bytes()
    write_segmentation(seg, path, source=source)
    assert path.read_bytes() == first
    with pytest.raises(FileError, match="is a mask, not an image"):
        read_image(path)
    one = LabelSet(labels.labels[1:2], labels.kind)
    np.testing.assert_array_equal(
        read_segmentation(path, one).structure(one.names[0]),
        seg.structure(one.names[0]),
    )


@pytest.mark.parametrize("labels", [chest_labels(), EXCLUSIVE], ids=lambda x: x.kind)
def test_a_segmentation_says_where_it_was_measured_and_what_made_it(
    labels: LabelSet, tmp_path: Path
) -> None:
    source = tmp_path / "film.dcm"
    source.write_bytes(_complete(ImagerPixelSpacing=[0.2, 0.1]))
    geometry = read_image(source).geometry
    assert geometry.detector_plane
    seg = _film_mask(geometry, labels)
    seg = replace(seg, provenance=stamped({"model": "m"}, seg.mask))
    write_segmentation(seg, tmp_path / "m.dcm", source=source)
    back = read_segmentation(tmp_path / "m.dcm")
    assert back.geometry == geometry
    assert back.provenance["model"] == "m"
    stored = pydicom.dcmread(tmp_path / "m.dcm")
    stored.PixelData = bytes(255 - byte for byte in stored.PixelData)
    stored.save_as(tmp_path / "m.dcm")
    assert read_segmentation(tmp_path / "m.dcm").provenance == {}


@pytest.mark.parametrize(
    "elements",
    [
        {},  # no date, no sex, no study: names were removed
        {"PatientSex": "unknown", "StudyDate": "2020", "PatientBirthDate": "a b"},
    ],
)
def test_a_segmentation_of_a_film_without_its_patient(
    elements: dict[str, str], tmp_path: Path
) -> None:
    source = tmp_path / "film.dcm"
    source.write_bytes(dicom(PatientID=None, **elements))
    seg = _film_mask(read_image(source).geometry, EXCLUSIVE)
    write_segmentation(seg, tmp_path / "m.dcm", source=source)
    np.testing.assert_array_equal(read_segmentation(tmp_path / "m.dcm").mask, seg.mask)


def test_a_segmentation_needs_a_study_to_belong_to(tmp_path: Path) -> None:
    source = tmp_path / "film.dcm"
    source.write_bytes(dicom(StudyInstanceUID=None))
    seg = _film_mask(read_image(source).geometry, EXCLUSIVE)
    with pytest.raises(FileError, match="source has no StudyInstanceUID"):
        write_segmentation(seg, tmp_path / "m.dcm", source=source)


def _complete(**elements: Any) -> bytes:
    return dicom(
        **{
            "StudyID": "1", "StudyDate": "20200101", "StudyTime": "000000",
            "AccessionNumber": "", "PatientBirthDate": "", "PatientSex": "",
            "ReferringPhysicianName": "", "SeriesNumber": 1, "InstanceNumber": 1,
            **elements,
        }
    )  # fmt: skip


@pytest.mark.parametrize("axes", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1)])
def test_a_volume_segmentation_comes_back(
    axes: tuple[float, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    image = read_image(series(folder, orientation=axes))
    seg = Segmentation((STACK > 20).astype(np.uint8)[None], _one(), image.geometry)
    write_segmentation(seg, tmp_path / "m.dcm", source=folder)
    back = read_segmentation(tmp_path / "m.dcm")
    np.testing.assert_array_equal(back.mask, seg.mask)
    assert back.geometry.matches(image.geometry)


def _one() -> LabelSet:
    return LabelSet((Label(1, "tumour", "#ff0000"),), "overlapping")


def test_what_a_dicom_segmentation_cannot_be(tmp_path: Path) -> None:
    source = tmp_path / "film.dcm"
    source.write_bytes(_complete())
    seg = _film_mask(read_image(source).geometry, chest_labels())
    out = tmp_path / "m.dcm"
    with pytest.raises(FileError, match="needs the DICOM image"):
        write_segmentation(seg, out)
    cells = LabelSet((Label(1, "cell", "#ffffff"),), "instances")
    with pytest.raises(FileError, match="instances"):
        write_segmentation(Segmentation(FILM, cells, seg.geometry), out, source=source)
    moved = Segmentation(seg.mask, seg.labels, Geometry.upright((1.0, 1.0)))
    with pytest.raises(FileError, match="different places"):
        write_segmentation(moved, out, source=source)
    small = Segmentation(seg.mask[:, :4], seg.labels, seg.geometry)
    with pytest.raises(FileError, match="its DICOM source"):
        write_segmentation(small, out, source=source)
    write_segmentation(seg, tmp_path / "m.nii.gz")
    with pytest.raises(FileError, match="the source is nifti"):
        write_segmentation(seg, out, source=tmp_path / "m.nii.gz")
    with pytest.raises(FileError, match="not a segmentation"):
        read_segmentation(source)
    assert not out.exists()


def test_a_damaged_segmentation_is_refused(tmp_path: Path) -> None:
    import pydicom
    import pydicom.encaps

    source, path = tmp_path / "film.dcm", tmp_path / "m.dcm"
    source.write_bytes(_complete())
    seg = _film_mask(read_image(source).geometry, chest_labels())
    write_segmentation(seg, path, source=source)
    with pytest.raises(FileError, match="no segment 'tumour'"):
        read_segmentation(path, _one())
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = RLE
    ds.PixelData = pydicom.encaps.encapsulate([b"xx"])
    with pytest.raises(FileError, match="compressed DICOM-SEG"):
        read_segmentation(_save(tmp_path / "bad.dcm", ds))
    for change, word in (
        (lambda ds: setattr(ds, "SegmentationType", "FRACTIONAL"), "not binary"),
        (lambda ds: setattr(ds, "PixelData", ds.PixelData[:4]), "truncated"),
        (lambda ds: ds.PerFrameFunctionalGroupsSequence.pop(), "described"),
        (
            lambda ds: setattr(ds.SegmentSequence[1], "SegmentLabel", "right_lung"),
            "segments are no labels: repeats",
        ),
    ):
        ds = pydicom.dcmread(path)
        change(ds)
        with pytest.raises(FileError, match=word):
            read_segmentation(_save(tmp_path / "bad.dcm", ds))


def test_empty_slices_may_be_left_out(tmp_path: Path) -> None:
    import pydicom

    folder = tmp_path / "series"
    folder.mkdir()
    image = read_image(series(folder))
    seg = Segmentation((STACK > 20).astype(np.uint8)[None], _one(), image.geometry)
    write_segmentation(seg, tmp_path / "m.dcm", source=folder)
    ds = pydicom.dcmread(tmp_path / "m.dcm")
    groups = ds.PerFrameFunctionalGroupsSequence
    heights = [
        float(g.PlanePositionSequence[0].ImagePositionPatient[2]) for g in groups
    ]
    keep = [i for i, z in enumerate(heights) if z not in (36.0, 39.0)]
    bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")
    frames = bits[: 5 * 12].reshape(5, 12)[keep]
    packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
    ds.PixelData = packed + b"\0" * (len(packed) % 2)
    ds.NumberOfFrames = 3
    ds.PerFrameFunctionalGroupsSequence = [groups[i] for i in keep]
    back = read_segmentation(_save(tmp_path / "few.dcm", ds))
    expected = seg.mask.copy()
    expected[:, [2, 3]] = 0
    np.testing.assert_array_equal(back.mask, expected)
    assert back.geometry.matches(image.geometry)
    top = int(np.argmax([heights[i] for i in keep]))
    place = ds.PerFrameFunctionalGroupsSequence[top].PlanePositionSequence[0]
    place.ImagePositionPatient = [-10, 20, 41]
    with pytest.raises(FileError, match="not equally spaced"):
        read_segmentation(_save(tmp_path / "few.dcm", ds))
    ds = pydicom.dcmread(tmp_path / "m.dcm")
    first = np.argmin(heights)
    ds.PixelData = np.packbits(frames[0], bitorder="little").tobytes()
    ds.NumberOfFrames = 1
    ds.PerFrameFunctionalGroupsSequence = [groups[int(first)]]
    back = read_segmentation(_save(tmp_path / "one.dcm", ds))
    assert back.mask.shape == (1, 1, 4, 3)
    assert back.geometry.origin == image.geometry.origin


def test_a_deflated_segmentation_is_read(tmp_path: Path) -> None:
    import pydicom

    source, path = tmp_path / "film.dcm", tmp_path / "m.dcm"
    source.write_bytes(_complete())
    seg = _film_mask(read_image(source).geometry, chest_labels())
    write_segmentation(seg, path, source=source)
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    np.testing.assert_array_equal(
        read_segmentation(_save(tmp_path / "z.dcm", ds)).mask, seg.mask
    )


def test_a_segmentation_that_loses_labels_or_place_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.io import dicomseg_write as dicomseg

    source, path = tmp_path / "film.dcm", tmp_path / "m.dcm"
    source.write_bytes(_complete())
    seg = _film_mask(read_image(source).geometry, chest_labels())
    build = dicomseg._build
    empty = Segmentation(seg.mask * 0, seg.labels, seg.geometry)
    moved = Segmentation(seg.mask, seg.labels, Geometry.upright((1.0, 1.0)))

    def lose(_: Any, headers: Any, frames: Any) -> Any:
        return build(empty, headers, frames * 0)

    def move(_: Any, headers: Any, frames: Any) -> Any:
        return build(moved, headers, frames)

    for wrong, word in ((lose, "other labels"), (move, "other geometry")):
        monkeypatch.setattr(dicomseg, "_build", wrong)
        with pytest.raises(FileError, match=word):
            write_segmentation(seg, path, source=source)
        assert not path.exists()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda frame: b"\3" + frame[1:], "3 segments in frame 1"),
        (lambda frame: frame[:90], "truncated"),
    ],
)
def test_damaged_run_lengths(change: Any, word: str, tmp_path: Path) -> None:
    from pydicom.encaps import encapsulate, generate_frames

    ds = dataset(np.tile(FILM, (8, 8)))
    ds.compress(RLE)
    (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
    ds.PixelData = encapsulate([change(frame)])
    with pytest.raises(FileError, match=word):
        read_image(_save(tmp_path / "a.dcm", ds))


def test_fewer_frames_than_declared(tmp_path: Path) -> None:
    from pydicom.encaps import encapsulate, generate_frames

    ds = _enhanced()
    ds.compress(RLE)
    frames = list(generate_frames(ds.PixelData, number_of_frames=5))
    ds.PixelData = encapsulate(frames[:4])
    with pytest.raises(FileError, match=r"damaged|5 frames declared"):
        read_image(_save(tmp_path / "a.dcm", ds))
    ds.PixelData = encapsulate([*frames, frames[0]])
    with pytest.raises(FileError, match=r"damaged|5 frames declared"):
        read_image(_save(tmp_path / "a.dcm", ds))


def test_a_frame_of_another_size_than_declared(tmp_path: Path) -> None:
    ds = dataset(np.tile(FILM, (8, 8)))
    ds.compress(JPEG_LS)
    ds.Rows = 24
    with pytest.raises(FileError, match=r"damaged|declares"):
        read_image(_save(tmp_path / "a.dcm", ds))


@pytest.mark.parametrize("implicit", [True, False])
def test_a_file_without_a_transfer_syntax(implicit: bool, tmp_path: Path) -> None:
    ds = dataset()
    syntax = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
    ds.file_meta.TransferSyntaxUID = syntax
    data = _save(tmp_path / "a.dcm", ds).read_bytes()
    body = data[144 + int.from_bytes(data[140:144], "little") :]
    image = _image(tmp_path, bytes(128) + b"DICM" + body)
    np.testing.assert_array_equal(image.pixels[0], FILM)


def test_spacing_that_is_no_number(tmp_path: Path) -> None:
    good = dicom(PixelSpacing=[0.25, 0.75])
    with pytest.raises(FileError, match="PixelSpacing"):
        _image(tmp_path, good.replace(b"0.25\\0.75", b"0.25\\zero"))


def test_a_folder_with_too_many_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.io import series as module

    series(tmp_path)
    monkeypatch.setattr(module, "_MAX_FILES", 4)
    with pytest.raises(FileError, match="5 files, the limit is 4"):
        read_image(tmp_path)


def test_a_slice_that_changes_under_our_eyes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.io import series as module

    monkeypatch.setattr(module, "decode", lambda *_: (np.zeros((1, 2, 2)), ()))
    with pytest.raises(FileError, match="changed while"):
        read_image(series(tmp_path))


def test_a_one_slice_folder_is_a_source(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    series(folder, lambda i, ds: ds if i == 0 else None)
    image = read_image(folder)
    seg = Segmentation((image.pixels > 3).astype(np.uint8), _one(), image.geometry)
    write_segmentation(seg, tmp_path / "m.dcm", source=folder)
    np.testing.assert_array_equal(read_segmentation(tmp_path / "m.dcm").mask, seg.mask)

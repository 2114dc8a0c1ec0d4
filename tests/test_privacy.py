"""What stands in the tags of a DICOM file reaches no output, log, name or message."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import pytest
from fakes import ChestPredictor
from malformed_dicom import dicom, series

from medseg import cli
from medseg.batch import load

TAGS = (
    "PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientNames",
    "PatientBirthName", "PatientMotherBirthName", "PatientAddress",
    "PatientTelephoneNumbers", "MilitaryRank", "BranchOfService", "EthnicGroup",
    "Occupation", "AdditionalPatientHistory", "PatientComments",
    "PatientReligiousPreference", "MedicalRecordLocator", "RegionOfResidence",
    "CountryOfResidence", "Allergies", "SpecialNeeds", "AccessionNumber", "StudyID",
    "StudyDescription", "SeriesDescription", "ReferringPhysicianName",
    "ReferringPhysicianAddress", "PhysiciansOfRecord", "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy", "OperatorsName", "AdmittingDiagnosesDescription",
    "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName",
    "StationName", "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber",
    "ProtocolName", "ImageComments", "RequestedProcedureDescription",
    "RequestingPhysician", "PerformedProcedureStepDescription",
    "CurrentPatientLocation", "DetectorID", "FilterType",
)  # fmt: skip
# What the standard demands of a DICOM-SEG: the patient and the study of its image.
CARRIED = {
    "PatientName", "PatientID", "AccessionNumber", "StudyID", "ReferringPhysicianName",
}  # fmt: skip


def canaries() -> dict[str, str]:
    """Return one word a tag; some try to leave the folder or to write to a screen."""
    words = {tag: f"Canary{k:02d}" for k, tag in enumerate(TAGS)}
    words["PatientID"] = f"../../{words['PatientID']}\x1b[2J"
    words["StudyID"] = f"../{words['StudyID']}"
    return words


def fill(folder: Path) -> None:
    """Write a film, two broken ones, and a series with a slice of another size."""
    good = dicom(**canaries())
    folder.mkdir(parents=True)
    (folder / "a.dcm").write_bytes(good)
    (folder / "cut.dcm").write_bytes(good[:-40])
    (folder / "odd.dcm").write_bytes(dicom(**canaries(), SamplesPerPixel=3))

    def change(index: int, ds: Any) -> Any:
        for tag, word in canaries().items():
            setattr(ds, tag, word)
        if index == 1:
            ds.PixelSpacing = [9.0, 9.0]
        return ds

    (folder / "ct").mkdir()
    series(folder / "ct", change)


def found(path: Path) -> set[str]:
    """Return the tags whose words are in a file or in its name, also unzipped."""
    data = path.read_bytes()
    if path.name.endswith(".gz"):
        data += gzip.decompress(data)
    data += str(path).encode()
    return {
        tag for k, tag in enumerate(TAGS) if f"canary{k:02d}".encode() in data.lower()
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["same", "tif", "png", "dcm-seg"])
def test_no_word_of_a_tag_leaves_by_any_door(
    format: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert len(TAGS) >= 40
    monkeypatch.setattr(load, "load_labels", lambda models: ChestPredictor().labels)
    monkeypatch.setattr(load, "load_predictor", lambda models, **_: ChestPredictor())
    caplog.set_level(logging.DEBUG)
    fill(tmp_path / "in")
    out = tmp_path / "deep" / "down" / "out"
    words = [
        "predict",
        str(tmp_path / "in"),
        "-o",
        str(out),
        "--model",
        "x",
        "--report",
    ]
    split = ["--split-labels"] if format == "png" else []
    code = cli.run(["--debug", *words, "--format", format, *split])
    shown = capsys.readouterr()
    assert code == 1, shown.err
    assert "1 done, 3 failed" in shown.err
    assert "canary" not in (shown.out + shown.err + caplog.text).lower()
    written = [p for p in out.rglob("*") if p.is_file()]
    assert len(written) >= 5
    for path in written:
        assert found(path) <= (CARRIED if path.suffix == ".dcm" else set()), path
    outside = {p.relative_to(tmp_path).parts[0] for p in tmp_path.rglob("*")}
    assert outside == {"in", "deep"}


def test_info_tells_geometry_and_no_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.dcm").write_bytes(dicom(**canaries()))
    for words in (["info"], ["info", "--json"]):
        assert cli.run([*words, str(tmp_path / "a.dcm")]) == 0
    shown = capsys.readouterr()
    assert "dicom" in shown.out
    assert "canary" not in (shown.out + shown.err).lower()

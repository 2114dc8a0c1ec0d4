"""Find the cases in a folder: files by name, DICOM series by their headers."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medseg.io.sniff import HEAD, content_of, is_image_name

Identity = tuple[int, int]

# One film a file whatever the headers say about a position in space.
_RADIOGRAPHS = {"CR", "DX", "RG", "MG", "PX", "IO", "XA", "RF", "XC", "SC", "OT", "US"}
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_DEFLATED = "1.2.840.10008.1.2.1.99"


@dataclass(frozen=True)
class Found:
    """One case of a folder.

    Args:
        path: A file, or a folder that holds one DICOM series.
        name: Path below the scanned folder, with ``/``; no patient data.
        size: Bytes, of all files of a series together.
        mtime_ns: Time of the last change; the latest of a series.
        identities: ``(device, inode)`` of every file behind it.
        series: True for a folder with a DICOM series.
        problem: Why it cannot be read, found without opening it; else empty.
    """

    path: Path
    name: str
    size: int
    mtime_ns: int
    identities: tuple[Identity, ...]
    series: bool = False
    problem: str = ""


@dataclass
class Scan:
    """What a folder holds: cases in the order of their names, junk counted."""

    cases: list[Found] = field(default_factory=list)
    ignored: int = 0


def _none(folder: Path) -> Iterable[str]:
    return ()


def scan(
    root: Path,
    skip: Identity | None = None,
    results: Callable[[Path], Iterable[str]] = _none,
) -> Scan:
    """Find every case below the folder ``root``.

    Links to
    folders are followed after the real folders, each folder once, so that
    a loop ends. Hidden names, names that no reader knows and the folder ``skip``
    (the output) are left out; the first two are counted. Only names and file states
    are read, except that a name without a suffix is opened to look for a DICOM
    mark, and the headers of DICOM files decide which folders are one series.

    Args:
        root: The folder.
        skip: A folder below it that is left out.
        results: What a run has written into a folder, as paths below it: no cases.
    """
    result = Scan()
    written: set[str] = set()
    for folder, prefix, entries, problem in _folders(root, skip):
        if problem:
            state = os.lstat(folder)
            result.cases.append(
                Found(
                    Path(folder),
                    prefix.rstrip("/") or root.name,
                    0,
                    state.st_mtime_ns,
                    (),
                    problem=problem,
                )
            )
            continue
        films: list[Found] = []
        dicoms: list[Found] = []
        written |= {prefix + path for path in results(Path(folder))}
        for entry in entries:
            ours = prefix + entry.name in written
            if ours or entry.name.startswith(".") or not _wanted(entry):
                result.ignored += 1
                continue
            case = inspect(Path(entry.path), prefix + entry.name)
            (dicoms if _is_dicom_name(entry.name) else films).append(case)
        if _one_series(dicoms):
            dicoms = [_series(Path(folder), prefix, root, dicoms)]
        result.cases += films + dicoms
    result.cases.sort(key=lambda case: case.name)
    return result


def inspect(path: Path, name: str) -> Found:
    """Return the case of one file, with the reason if it is no regular file."""
    try:
        state = path.stat()
    except OSError as error:
        what = "is a link to nothing" if path.is_symlink() else "cannot be reached"
        return Found(path, name, 0, 0, (), problem=f"{what} ({error.strerror})")
    problem = "" if stat.S_ISREG(state.st_mode) else f"is {_kind(state.st_mode)}"
    identity = ((state.st_dev, state.st_ino),)
    return Found(
        path, name, state.st_size, state.st_mtime_ns, identity, problem=problem
    )


def is_dicom(case: Found) -> bool:
    """Return whether a case is a DICOM image, by its name or else its content."""
    named = case.name.lower().endswith(_DICOM_SUFFIXES)
    return case.series or named or _has_dicom_mark(str(case.path))


def _folders(
    root: Path, skip: Identity | None
) -> Iterator[tuple[str, str, list[os.DirEntry[str]], str]]:
    """Yield (folder, name prefix, its files, problem), each folder once."""
    seen: set[Identity] = set() if skip is None else {skip}
    real: list[tuple[str, str]] = [(str(root), "")]
    linked: list[tuple[str, str]] = []
    while real or linked:
        folder, prefix = real.pop() if real else linked.pop(0)
        try:
            state = os.stat(folder)
            if (state.st_dev, state.st_ino) in seen:
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            yield (
                folder,
                prefix,
                [],
                f"is a folder that cannot be read ({error.strerror})",
            )
            continue
        files = []
        for entry in entries:
            if not _is_folder(entry):
                files.append(entry)
            elif not entry.name.startswith("."):
                below = (entry.path, f"{prefix}{entry.name}/")
                (linked if entry.is_symlink() else real).append(below)
        yield folder, prefix, files, ""


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _wanted(entry: os.DirEntry[str]) -> bool:
    """Return whether the name, or for a name without a suffix the content, is known."""
    if is_image_name(entry.name):
        return True
    if entry.name.upper() == "DICOMDIR":
        return False  # an index of files, no image
    suffix = os.path.splitext(entry.name)[1]
    # Scanners write IM0001, and UIDs such as 1.2.840.113.
    if suffix and not suffix[1:].isdigit():
        return False
    try:
        return entry.is_file() and _has_dicom_mark(entry.path)
    except OSError:  # a link to itself
        return False


def _is_dicom_name(name: str) -> bool:
    return name.lower().endswith(_DICOM_SUFFIXES) or not is_image_name(name)


def _has_dicom_mark(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return content_of(file.read(HEAD)) == "dicom"
    except OSError:
        return False


def _kind(mode: int) -> str:
    for test, words in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a FIFO, not a regular file"),
        (stat.S_ISSOCK, "a socket, not a regular file"),
    ):
        if test(mode):
            return words
    return "a device, not a regular file"


def _one_series(dicoms: list[Found]) -> bool:
    """Return whether a folder's DICOM files are slices of a volume.

    Two slices are enough: what else lies there (a localizer, a second series) is
    for the reader to refuse, naming the numbers, rather than to be segmented apart.
    """
    slices = 0
    for case in dicoms:
        slices += not case.problem and _is_slice(case.path)
        if slices == 2:
            return True
    return False


def _is_slice(path: Path) -> bool:
    from pydicom.filereader import read_file_meta_info, read_partial
    from pydicom.tag import Tag

    def past_position(tag: int, vr: str | None, length: int) -> bool:
        return tag > 0x00200032

    try:
        # Stopping early does not help where the whole file is one deflate stream.
        if read_file_meta_info(path).get("TransferSyntaxUID") == _DEFLATED:
            return False
        with path.open("rb") as file:
            header = read_partial(
                file,
                stop_when=past_position,
                specific_tags=[Tag("Modality"), Tag("ImagePositionPatient")],
            )
        modality = str(header.get("Modality", ""))
        return "ImagePositionPatient" in header and modality not in _RADIOGRAPHS
    except Exception:
        # pydicom raises anything on a damaged header; the file stays a case of its
        # own, and its reader reports the damage.
        return False


def _series(folder: Path, prefix: str, root: Path, slices: list[Found]) -> Found:
    return Found(
        folder,
        prefix.rstrip("/") or root.resolve().name,
        sum(s.size for s in slices),
        max(s.mtime_ns for s in slices),
        tuple(i for s in slices for i in s.identities),
        series=True,
    )

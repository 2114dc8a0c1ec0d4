"""A folder with one DICOM series becomes one volume, or a stated refusal."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import FileError, printable
from medseg.io.dicom import Dataset, file_notes, meta_of, open_dicom, read_dataset
from medseg.io.dicom_decode import decode
from medseg.io.dicom_geometry import Plane, file_plane, sort_planes, stack_geometry
from medseg.io.dicom_pixels import PixelFacts, read_facts
from medseg.io.numbered import names_in
from medseg.io.sniff import HEAD, content_of, suffix_of
from medseg.io.source import Opened, Source, parsing, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from medseg.io.limits import Limits

_MAX_FILES = 20_000


@dataclass(frozen=True)
class _Slice:
    path: Path
    facts: PixelFacts
    series: str
    plane: Plane | None
    localizer: bool
    meta: dict[str, Any]
    notes: tuple[str, ...]


def open_series(
    folder: Path, limits: Limits, stack: ExitStack, header_only: bool
) -> Opened:
    """Check the one series of ``folder``: slices sorted by position, never by name.

    Files that are not DICOM are passed over.

    Raises:
        FileError: If a slice is missing, double, cut, of another size or series, or
            the slices are tilted; with the numbers and the tolerance.
    """
    paths = list(_dicom_files(folder))
    whole = Source(folder, _closed(stack, folder), 0, limits, header_only)
    if not paths:
        raise whole.fail(
            "holds no DICOM file", "Give a file, or a folder with a series"
        )
    if len(paths) == 1:
        return open_dicom(_source(paths[0], limits, stack, header_only))
    slices, planes = _sorted(whole, paths, limits)
    facts = slices[0].facts
    shape = (1, len(slices), facts.rows, facts.columns)
    dtype = _common([s.facts.dtype for s in slices])
    limits.check(folder, shape, dtype.itemsize)
    notes = tuple(dict.fromkeys(n for s in slices for n in s.notes))
    return Opened(
        "dicom",
        shape,
        dtype,
        stack_geometry(planes),
        lambda mask: _load(slices, shape, dtype, limits),
        slices[0].meta,
        notes,
    )


def series_paths(folder: Path, limits: Limits) -> list[Path]:
    """Return the files of the series in ``folder`` in the order of the volume.

    Raises:
        FileError: As :func:`open_series`.
    """
    paths = list(_dicom_files(folder))
    if len(paths) < 2:
        return paths
    with ExitStack() as stack:
        whole = Source(folder, _closed(stack, folder), 0, limits, True)
        return [s.path for s in _sorted(whole, paths, limits)[0]]


def _sorted(
    whole: Source, paths: list[Path], limits: Limits
) -> tuple[list[_Slice], list[Plane]]:
    slices = [_slice(path, limits) for path in paths]
    _check_alike(whole, slices)
    planes = [s.plane for s in slices if s.plane is not None]
    if len(planes) < len(slices):
        raise whole.fail(
            f"{len(slices)} DICOM files, {len(slices) - len(planes)} of them without "
            "a position: not a series of slices",
            "Give each film by itself",
        )
    order = sort_planes(whole, planes, [s.path.name for s in slices])
    return [slices[i] for i in order], [planes[i] for i in order]


def _closed(stack: ExitStack, folder: Path) -> Any:
    # A folder has no stream; nothing reads from this source.
    return stack.enter_context(open(os.devnull, "rb"))


def _dicom_files(folder: Path) -> Iterator[Path]:
    names = names_in(folder)
    if len(names) > _MAX_FILES:
        raise FileError(folder, f"{len(names)} files, the limit is {_MAX_FILES}")
    for name in names:
        path = folder / name
        if name.upper() == "DICOMDIR":
            continue
        try:
            with path.open("rb") as stream:
                dicom = content_of(stream.read(HEAD)) == "dicom"
        except OSError as error:
            raise unreadable(path, error) from error
        if dicom:
            yield path
        elif suffix_of(name) in (".dcm", ".dicom", ".ima"):
            raise FileError(
                path,
                "not a DICOM file, though its name says so",
                "Move it out of the folder",
            )


def _source(path: Path, limits: Limits, stack: ExitStack, header_only: bool) -> Source:
    try:
        stream = stack.enter_context(path.open("rb"))
    except OSError as error:
        raise unreadable(path, error) from error
    return Source(path, stream, os.fstat(stream.fileno()).st_size, limits, header_only)


def _slice(path: Path, limits: Limits) -> _Slice:
    with ExitStack() as stack:
        source = _source(path, limits, stack, True)
        dataset: Dataset = read_dataset(source, header_only=True)
        with parsing(source, "DICOM", quote=False):
            facts = read_facts(source, dataset)
            if facts.frames > 1:
                raise source.fail(
                    f"{facts.frames} frames in a file of a series", "Give it by itself"
                )
            kind = [str(v).upper() for v in (dataset.get("ImageType") or ())]
            return _Slice(
                path,
                facts,
                str(dataset.get("SeriesInstanceUID", "")),
                file_plane(source, dataset),
                "LOCALIZER" in kind,
                meta_of(dataset, facts),
                (*facts.notes, *file_notes(source, dataset)),
            )


def _check_alike(source: Source, slices: list[_Slice]) -> None:
    localizers = [s.path.name for s in slices if s.localizer]
    if localizers:
        raise source.fail(
            f"a localizer among {len(slices)} slices: {printable(localizers[0])}",
            "Move it out of the folder",
        )
    counts = Counter(s.series for s in slices)
    if len(counts) > 1:
        sizes = " and ".join(str(n) for _, n in counts.most_common(5))
        raise source.fail(
            f"holds {len(counts)} series, of {sizes} files", "Give one folder for each"
        )
    shapes = Counter((s.facts.rows, s.facts.columns) for s in slices)
    if len(shapes) > 1:
        common, odd = shapes.most_common()[0][0], shapes.most_common()[-1][0]
        name = next(
            s.path.name for s in slices if (s.facts.rows, s.facts.columns) == odd
        )
        raise source.fail(
            f"slices of different size: {common} and {odd} in {name}",
            "Move it out of the folder",
        )


def _common(dtypes: list[np.dtype[Any]]) -> np.dtype[Any]:
    common = np.result_type(*dtypes)
    return np.dtype(np.float32) if common.kind == "f" else common


def _load(
    slices: list[_Slice], shape: tuple[int, ...], dtype: np.dtype[Any], limits: Limits
) -> tuple[NDArray[Any], tuple[str, ...]]:
    volume = np.empty(shape, dtype)
    notes: dict[str, None] = {}
    for index, item in enumerate(slices):
        with ExitStack() as stack:
            source = _source(item.path, limits, stack, False)
            dataset = read_dataset(source)
            with parsing(source, "DICOM", quote=False):
                facts = read_facts(source, dataset)
                frames, late = decode(source, dataset, facts)
            if frames.shape != (1, *shape[2:]):  # a file on a shared disk
                raise source.fail("changed while it was being read", "Run it again")
            volume[0, index] = frames[0]
            notes.update(dict.fromkeys(late))
    return volume, tuple(notes)

"""Open images, masks, DICOM series, movies and tracking results in napari."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

# napari asks for a reader before it reads: what is heavy waits until then.
if TYPE_CHECKING:
    from medseg.io.ctc import MaskKind
    from medseg.io.movie import Movie
    from medseg.napari_plugin.layers import LayerData
    from medseg.segmentation import Segmentation

Reader: TypeAlias = "Callable[[str | Sequence[str]], list[LayerData]]"

# Those of medseg.io, which is not imported before something is read.
SUFFIXES = (
    *(".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".tif", ".tiff"),
    *(".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".ima"),
)
# Words at the end of a name that tell a mask of another program from an image.
MASK_WORDS = ("mask", "masks", "seg", "segmentation", "label", "labels")
_FEW = 32
_LOOK_AT = 2000
_TABLES = {"track": "man_track.txt", "result": "res_track.txt"}


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """Return a reader for image and mask files, None where they are not ours."""
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not paths or not all(
        _is_image_name(Path(p).name) and Path(p).is_file() for p in paths
    ):
        return None
    return _watched(_read_files)


def get_folder_reader(path: str | Sequence[str]) -> Reader | None:
    """Return a reader for a folder, None where it holds nothing of ours."""
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if len(paths) != 1 or not Path(paths[0]).is_dir():
        return None
    folder = _full(paths[0])
    try:
        names = _some_names(folder)
        reader = _folder_reader(folder, names)
    except OSError:  # it cannot be listed: leave it to others
        return None
    return None if reader is None else _watched(reader)


def _watched(reader: Reader) -> Reader:
    """Return a reader that has the window watch over what is painted in it.

    napari does not tell a reader which viewer it reads for: the current one.
    """

    def read(path: str | Sequence[str]) -> list[LayerData]:
        from napari import current_viewer

        from medseg.napari_plugin.unsaved import watch_over

        layers = reader(path)
        watch_over(current_viewer())
        return layers

    return read


def _some_names(folder: Path) -> list[str]:
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                names.append(entry.name)
            if len(names) == _LOOK_AT:
                break
    return sorted(names)


def _folder_reader(folder: Path, names: list[str]) -> Reader | None:
    kinds: tuple[tuple[MaskKind, str], ...] = (
        ("result", r"mask\d{3,}\.tif"),
        ("track", r"man_track_?\d{3,}\.tif"),
        ("seg", r"man_seg_?\d{3,}(_\d+)?\.tif"),
    )
    for kind, pattern in kinds:
        if any(re.fullmatch(pattern, n, re.IGNORECASE) for n in names):
            return lambda path: _read_masks(folder, kind)
    for inner in ("TRA", "SEG"):  # 01_GT itself
        if inner in names and (folder / inner).is_dir():
            return get_folder_reader(str(folder / inner))
    images = [n for n in names if _is_image_name(n)]
    if any(_is_dicom(folder / n) for n in names[:8] if (folder / n).is_file()):
        return _read_series
    numbered = len([n for n in images if re.fullmatch(r".*\d\.[A-Za-z.]+", n)]) > 1
    if _are_our_pngs(folder, images):
        return lambda path: _read_pngs(folder, images[0], numbered)
    return _read_movie if numbered else None


def _is_image_name(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _are_our_pngs(folder: Path, images: list[str]) -> bool:
    """Return whether these are PNGs that medseg wrote, by the first of them."""
    if not images or not all(n.endswith(".png") for n in images):
        return False
    with (folder / images[0]).open("rb") as stream:
        return b"medseg\0" in stream.read(4096)


def _name(path: Path) -> str:
    lower = path.name.lower()
    suffix = next((s for s in SUFFIXES if lower.endswith(s)), "")
    return path.name[: len(path.name) - len(suffix)]


def _read_files(path: str | Sequence[str]) -> list[LayerData]:
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if len(paths) > 1:
        return _read_stack([_full(p) for p in paths])
    return read_layers(_full(paths[0]))


def read_layers(path: Path) -> list[LayerData]:
    """Return the layers of one file.

    Raises:
        FileError: If it is refused; one line with the cause.
    """
    from medseg.io import read_image
    from medseg.napari_plugin.layers import image_layers, segmentation_layers

    mask = _mask(path)
    if mask is not None:
        return segmentation_layers(mask, _name(path), path=path)
    movie = _movie_in_tiff(path)
    if movie is not None:
        from medseg.napari_plugin.movies import movie_layers

        return movie_layers(movie, _name(path))
    return image_layers(read_image(path), _name(path), source=path)


def _mask(path: Path) -> Segmentation | None:
    """Return the mask in a file; None if it is an image."""
    from medseg.io import Limits, read_segmentation
    from medseg.io.read import opened

    if _is_dicomseg(path):
        return read_segmentation(path)
    with opened(path, Limits(), header_only=True) as file:
        labelled = file.block is not None and file.block.labels is not None
        integers, channels = file.dtype.kind in "biu", file.shape[0]
    if labelled:
        return read_segmentation(path)
    words = _name(path).lower().replace("-", "_").split("_")
    if words[-1] in MASK_WORDS and integers and channels == 1:
        return _foreign_mask(path)
    return None


def _is_dicomseg(path: Path) -> bool:
    if not _is_dicom(path):
        return False
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        header = dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True)
    except (InvalidDicomError, OSError, ValueError, AttributeError, KeyError):
        return False  # damaged: medseg's own reader says how
    return str(header.get("SOPClassUID", "")).startswith("1.2.840.10008.5.1.4.1.1.66")


def _foreign_mask(path: Path) -> Segmentation:
    """Return the mask of another program: few values are labels, many are cells."""
    from dataclasses import replace

    import numpy as np

    from medseg.io import read_segmentation
    from medseg.labels import Label, LabelSet

    cells = LabelSet((Label(1, "object", "#4cc38a"),), "instances")
    seg = read_segmentation(path, cells)
    values = np.unique(seg.mask)
    values = values[values > 0].tolist()
    if not values or len(values) > _FEW:
        return seg
    named = [Label(v, f"label_{v}", _hue(i)) for i, v in enumerate(values)]
    return replace(seg, labels=LabelSet(tuple(named), "exclusive"))


def _hue(number: int) -> str:
    """Return colours that differ for neighbouring numbers (golden-ratio hues)."""
    from colorsys import hsv_to_rgb

    rgb = hsv_to_rgb((0.58 + 0.618034 * number) % 1.0, 0.62, 0.92)
    return "#" + "".join(f"{round(255 * c):02x}" for c in rgb)


def _movie_in_tiff(path: Path) -> Movie | None:
    """Return the movie of a TIFF that names its pages frames; None for others."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    from medseg.io import Limits
    from medseg.io.movie import open_movie
    from medseg.io.read import opened

    with opened(path, Limits(), header_only=True) as file:
        frames = any(note.startswith("a movie of ") for note in file.notes)
        channels = file.shape[0]
    return open_movie(path) if frames and channels == 1 else None


def _read_stack(paths: list[Path]) -> list[LayerData]:
    """Return several files as the frames of one movie, in the order given."""
    from medseg.io import Limits
    from medseg.io.movie import Movie
    from medseg.io.read import opened
    from medseg.napari_plugin.movies import movie_layers

    limits = Limits()
    with opened(paths[0], limits, header_only=True) as file:
        movie = Movie(
            paths[0].parent,
            tuple(range(len(paths))),
            tuple(file.shape[1:]),
            file.shape[0],
            file.dtype,
            file.geometry,
            tuple(paths),
            limits,
        )
    return movie_layers(movie, paths[0].parent.name, source=paths[0])


def _read_series(path: str | Sequence[str]) -> list[LayerData]:
    from medseg.io import read_image
    from medseg.napari_plugin.layers import image_layers

    folder = _only(path)
    return image_layers(read_image(folder), folder.name, source=folder)


def _read_pngs(folder: Path, name: str, numbered: bool) -> list[LayerData]:
    """Return a mask of one PNG a structure, or a movie of one PNG a frame.

    Args:
        folder: Of PNGs that medseg wrote.
        name: Of the first; a structure's file is named after it.
        numbered: Whether they may be frames.
    """
    from medseg.io import read_segmentation
    from medseg.io.masks import stated_labels
    from medseg.napari_plugin.layers import segmentation_layers

    if numbered:
        labels = stated_labels(folder / name)
        if labels is None or labels.names != (Path(name).stem,):
            return _read_movie(str(folder))
    return segmentation_layers(read_segmentation(folder), folder.name, path=folder)


def _only(path: str | Sequence[str]) -> Path:
    return _full(path if isinstance(path, str | os.PathLike) else path[0])


def _full(path: str | os.PathLike[str]) -> Path:
    """Return the whole path: journals outlive the folder that napari was started in."""
    return Path(os.path.abspath(path))


def _read_movie(path: str | Sequence[str]) -> list[LayerData]:
    """Return numbered frames: images, or masks where the first says that it is one."""
    from medseg.io.masks import stated_labels
    from medseg.io.movie import frame_files, open_movie
    from medseg.napari_plugin.mask_files import mask_file_layers
    from medseg.napari_plugin.movies import movie_layers

    folder = _only(path)
    files = frame_files(folder)
    if stated_labels(next(iter(files.values()))) is not None:
        return mask_file_layers(folder, files)
    return movie_layers(open_movie(folder), folder.name)


def _read_masks(folder: Path, kind: MaskKind) -> list[LayerData]:
    """Return masks, and tracks where there is a table."""
    from medseg.io.ctc import open_masks, read_track_table
    from medseg.napari_plugin.movies import mask_movie_layers

    table = folder / _TABLES[kind] if kind in _TABLES else None
    rows = read_track_table(table) if table is not None and table.exists() else None
    name = folder.name if kind == "result" else f"{folder.parent.name} {folder.name}"
    masks = open_masks(folder, kind)
    return mask_movie_layers(masks, name, rows=rows, movie=_sequence(folder))


def _sequence(folder: Path) -> Movie | None:
    """Return the images beside a challenge folder: ``01`` for ``01_RES``."""
    from medseg.io.movie import open_movie

    for inner in (folder, folder.parent):
        number, word, _ = inner.name.partition("_")
        images = inner.with_name(number)
        if word and number.isdigit() and images.is_dir():
            return open_movie(images)
    return None

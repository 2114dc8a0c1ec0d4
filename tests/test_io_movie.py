from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from medseg.errors import ConfigError, FileError, ImageWarning
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.io import Limits, open_movie, write_image
from medseg.io.numbered import names_in


def frame(number: int, shape: tuple[int, ...] = (4, 6)) -> np.ndarray:
    return np.full(shape, number, np.uint16)


def save(folder: Path, *names: str, shape: tuple[int, ...] = (4, 6)) -> Path:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        tifffile.imwrite(
            folder / name,
            frame(number, shape),
            compression="lzw",
            metadata=None,
            photometric="minisblack",
        )
    return folder


def test_frames_are_read_in_order(tmp_path):
    movie = open_movie(save(tmp_path / "01", "t000.tif", "t001.tif", "t002.tif"))
    assert (movie.frames, movie.shape, len(movie)) == ((0, 1, 2), (4, 6), 3)
    assert movie.dtype == np.uint16
    for number, image in movie:
        assert image.meta["frame"] == number
        assert image.meta["source"] == f"t00{number}.tif"
        np.testing.assert_array_equal(image.pixels, frame(number)[None])


def test_frames_may_start_anywhere(tmp_path):
    movie = open_movie(save(tmp_path / "01", "t0007.tif", "t0008.tif"))
    assert movie.frames == (7, 8)
    assert movie.read(1).meta["frame"] == 8


@pytest.mark.parametrize(
    "names",
    [
        ("t998.tif", "t999.tif", "t1000.tif"),
        ("9.png", "10.png"),
        ("a09.tif", "a10.tif"),
    ],
)
def test_widths_that_are_one_numbering(tmp_path, names):
    for i, name in enumerate(names):
        Picture.fromarray(frame(i).astype(np.uint8)).save(tmp_path / name)
    movie = open_movie(tmp_path)
    assert [int(i.pixels.max()) for _, i in movie] == list(range(len(names)))


def test_volumes(tmp_path):
    movie = open_movie(save(tmp_path / "01", "t000.tif", "t001.tif", shape=(3, 4, 6)))
    assert movie.shape == (3, 4, 6)
    assert movie.read(1).pixels.shape == (1, 3, 4, 6)


def test_pages_of_one_tiff_are_frames(tmp_path):
    path = tmp_path / "movie.tif"
    pages = np.stack([frame(n) for n in range(5)])
    tifffile.imwrite(path, pages, metadata=None)
    movie = open_movie(path)
    assert (movie.frames, movie.shape) == ((0, 1, 2, 3, 4), (4, 6))
    for number, image in movie:
        np.testing.assert_array_equal(image.pixels[0], pages[number])
    assert movie.read(0).meta["format"] == "tiff"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [3, 4])
def test_frames_that_were_written_as_colours(tmp_path, count, dtype):
    path = tmp_path / "movie.tif"
    stack = np.zeros((count, 4, 6), dtype)
    tifffile.imwrite(path, stack, photometric="rgb", planarconfig="separate")
    with pytest.raises(FileError, match=f"one page with {count} samples") as error:
        open_movie(path)
    assert "write them with photometric='minisblack'" in str(error.value)
    tifffile.imwrite(path, stack, photometric="minisblack")
    assert len(open_movie(path)) == count


def test_dropped_samples_are_mentioned(tmp_path):
    colours = np.zeros((2, 4, 6, 4), np.uint8)
    tifffile.imwrite(tmp_path / "movie.tif", colours, photometric="rgb")
    with pytest.warns(ImageWarning, match=r"1 more samples \(alpha\)"):
        assert open_movie(tmp_path / "movie.tif").channels == 1  # all black


def test_a_grey_movie_in_files_of_colour(tmp_path):
    grey = np.repeat(np.arange(24, dtype=np.uint8).reshape(4, 6, 1), 3, axis=2)
    red = grey * np.array([1, 0, 0], np.uint8)
    for folder, frames in (("grey", (grey, red)), ("red", (red, grey))):
        (tmp_path / folder).mkdir()
        for number, pixels in enumerate(frames):
            Picture.fromarray(pixels).save(tmp_path / folder / f"t{number:03d}.png")
    movie = open_movie(tmp_path / "grey")
    assert movie.channels == 1
    assert movie.read(0).pixels.shape == (1, 4, 6)
    with pytest.raises(FileError, match="frame 1 is in colour, the first one is grey"):
        movie.read(1)
    movie = open_movie(tmp_path / "red")
    assert movie.channels == 3
    np.testing.assert_array_equal(movie.read(1).pixels, np.moveaxis(grey, -1, 0))


# Pages of one movie in each of the ways to state the size of a pixel, 0.5 um.
CALIBRATED = {
    "imagej": {
        "imagej": True, "resolution": (2.0, 2.0), "metadata": {"axes": "TYX",
        "unit": "um"},
    },
    "ome": {
        "ome": True, "metadata": {"axes": "TYX", "PhysicalSizeX": 0.5,
        "PhysicalSizeY": 0.5},
    },
    "plain": {
        "metadata": None, "resolution": (20000, 20000), "resolutionunit": 3,
        "photometric": "minisblack",
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", CALIBRATED)
def test_pages_keep_the_size_of_their_pixels(tmp_path, kind):
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, np.zeros((3, 4, 6), np.uint16), **CALIBRATED[kind])
    movie = open_movie(path)
    assert movie.geometry.unit == "mm"
    assert movie.geometry.spacing == pytest.approx((5e-4, 5e-4))
    assert movie.read(2).geometry == movie.geometry


def test_pages_of_a_volume_of_ours_keep_their_spacing(tmp_path):
    geometry = Geometry.upright((3.0, 0.25, 25.4 / 96))
    volume = Image(np.zeros((1, 2, 4, 6), np.uint16), geometry)
    movie = open_movie(write_image(volume, tmp_path / "volume.tif"))
    assert movie.geometry == Geometry.upright((0.25, 25.4 / 96))


def test_two_pages_and_one(tmp_path):
    for count in (1, 2):
        path = tmp_path / f"{count}.tif"
        tifffile.imwrite(path, np.zeros((count, 4, 6), np.uint8), metadata=None)
        assert len(open_movie(path)) == count


def test_limits_hold_for_a_frame_and_not_for_the_movie(tmp_path):
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, np.zeros((9, 4, 6), np.uint8), metadata=None)
    assert len(open_movie(path, limits=Limits(max_pixels=24))) == 9
    with pytest.raises(FileError, match="over the limit of 23"):
        open_movie(path, limits=Limits(max_pixels=23))
    save(tmp_path / "01", "t000.tif")
    with pytest.raises(FileError, match="over the limit of 23"):
        open_movie(tmp_path / "01", limits=Limits(max_pixels=23))


def test_pages_that_are_channels(tmp_path):
    path = tmp_path / "channels.tif"
    pixels = np.zeros((2, 4, 6), np.uint16)
    tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(FileError, match="2 channels"):
        open_movie(path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("t000.tif", "t002.tif"), r"gap.*1 frame missing \(1\) between 0 and 2"),
        (("t000.tif", "t009.tif"), r"8 frames missing \(1, 2, 3, 4, 5, \.\.\.\)"),
        (("t000.tif", "t0001.tif"), r"3 and 4 digits are mixed \(t000.tif and t0001"),
        (
            ("t000.tif", "t001.tif", "t001.tiff"),
            r"frame 1 is there twice: t001.tif and",
        ),
        (("a000.tif", "b000.tif"), r"2 rows of numbered images"),
        (
            ("film.tif",),
            r"1 image, none with a frame number.*Name the frames t000.tif",
        ),
        ((), r"0 images"),
    ],
)
def test_names_that_are_no_movie(tmp_path, names, words):
    folder = save(tmp_path / "01", *names)
    with pytest.raises(FileError, match=words) as error:
        open_movie(folder)
    assert str(error.value).startswith(f"{folder}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            np.zeros((4, 7), np.uint16),
            "different size: t000.tif has 4 x 6, t001.tif 4 x 7",
        ),
        (np.zeros((4, 6), np.uint8), "different pixel type: t000.tif has uint16"),
        (np.zeros((2, 4, 6), np.uint16), "different size: t000.tif has 4 x 6"),
    ],
)
def test_frames_that_differ(tmp_path, other, words):
    folder = save(tmp_path / "01", "t000.tif")
    tifffile.imwrite(folder / "t001.tif", other, metadata=None)
    with pytest.raises(FileError, match=words) as error:
        open_movie(folder)
    assert error.value.subject == str(folder / "t001.tif")


def test_frames_of_other_channels(tmp_path):
    for name, shape in (("t000.png", (4, 6)), ("t001.png", (4, 6, 3))):
        pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        Picture.fromarray(pixels).save(tmp_path / name)
    with pytest.raises(FileError, match="number of channels"):
        open_movie(tmp_path)


def test_a_frame_that_changed_since(tmp_path):
    folder = save(tmp_path / "01", "t000.tif", "t001.tif")
    movie = open_movie(folder)
    tifffile.imwrite(folder / "t001.tif", np.zeros((9, 9), np.uint16))
    with pytest.raises(FileError, match="9 x 9"):
        movie.read(1)
    (folder / "t001.tif").unlink()
    with pytest.raises(FileError, match=r"t001\.tif: cannot be opened"):
        movie.read(1)


@pytest.mark.parametrize("index", [-1, 2])
def test_no_such_frame(tmp_path, index):
    movie = open_movie(save(tmp_path / "01", "t000.tif", "t001.tif"))
    with pytest.raises(ConfigError, match="the movie has 2"):
        movie.read(index)


def test_the_challenge_row_is_chosen_among_others(tmp_path):
    folder = save(tmp_path / "01", "t000.tif", "t001.tif", "dark001.tif", "mean.tif")
    with pytest.warns(
        ImageWarning, match=r"2 images beside the frames.*dark001.tif, mean"
    ):
        movie = open_movie(folder)
    assert movie.frames == (0, 1)


def test_junk_is_ignored(tmp_path):
    folder = save(tmp_path / "01", "t000.tif")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "._t000.tif").write_bytes(b"x")
    assert open_movie(folder).frames == (0,)


def test_paths_that_are_no_movie(tmp_path):
    with pytest.raises(FileError, match="no such folder"):
        open_movie(tmp_path / "none")
    path = tmp_path / "film.png"
    Picture.fromarray(np.zeros((4, 6), np.uint8)).save(path)
    with pytest.raises(FileError, match="no TIFF of many pages"):
        open_movie(path)
    save(
        tmp_path / "set",
    )
    (tmp_path / "set" / "01").mkdir()
    with pytest.raises(FileError, match="Give one of its folders: 01"):
        open_movie(tmp_path / "set")


def test_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("medseg.io.numbered.os.scandir", refuse)
    with pytest.raises(FileError, match="cannot be listed: Permission denied"):
        names_in(tmp_path)
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(FileError, match="is no folder"):
        names_in(path)


def test_notes_on_a_frame_are_given_once(tmp_path):
    for number in range(3):
        tifffile.imwrite(
            tmp_path / f"t{number:03d}.tif",
            np.zeros((3, 4, 6), np.uint16),
            imagej=True,
            metadata={"axes": "TYX"},
        )
    with pytest.warns(ImageWarning, match="read as a stack in z") as caught:
        movie = open_movie(tmp_path)
    assert len(caught) == 1
    assert len(list(movie)) == 3
    assert movie.shape == (3, 4, 6)

"""Damaged at random, a file gives a FileError or an image, and nothing else."""

from __future__ import annotations

import contextlib
import gzip
import io
import random
import time
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from fakes import NIGHTLY
from malformed import GREY, mha, nifti, nrrd, png
from malformed_dicom import FILM, dataset, dicom
from PIL import Image

from medseg.errors import FileError
from medseg.io import read_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COUNT = 2000 if NIGHTLY else 60


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "JPEG")
    return buffer.getvalue()


def _tiff(packing: str | None) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.stack([GREY, GREY]), compression=packing)
    return buffer.getvalue()


def _packed_dicom(syntax: str) -> bytes:
    ds = dataset(np.tile(FILM, (8, 8)))
    ds.compress(syntax)
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


SEEDS: dict[str, Callable[[], bytes]] = {
    "a.png": png,
    "a.jpg": _jpeg,
    "a.tif": lambda: _tiff(None),
    "lzw.tif": lambda: _tiff("lzw"),
    "zlib.tif": lambda: _tiff("zlib"),
    "a.nii": nifti,
    "a.nii.gz": lambda: gzip.compress(nifti(), mtime=0),
    "a.nrrd": nrrd,
    "a.mha": mha,
    "a.dcm": dicom,
    "rle.dcm": lambda: _packed_dicom("1.2.840.10008.1.2.5"),
    "j2k.dcm": lambda: _packed_dicom("1.2.840.10008.1.2.4.90"),
    "jls.dcm": lambda: _packed_dicom("1.2.840.10008.1.2.4.80"),
}
EXTREMES = (b"\xff\xff", b"\0\0", b"\xff\x7f", b"\xff" * 4, b"\0" * 4, b"\0\0\0\x80")


def mutant(data: bytes, rng: random.Random) -> bytes:
    """Return ``data`` with one seeded damage."""
    out = bytearray(data)
    at = rng.randrange(min(len(out), rng.choice([400, len(out)])))
    kind = rng.randrange(7)
    if kind == 0:
        out[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        out[at : at + 16] = rng.randbytes(16)
    elif kind == 2:
        del out[at:]
    elif kind == 3:
        del out[at : at + rng.randrange(1, 40)]
    elif kind == 4:
        out[at:at] = rng.randbytes(rng.randrange(1, 40))
    elif kind == 5:
        extreme = rng.choice(EXTREMES)
        out[at : at + len(extreme)] = extreme
    else:
        del out[len(out) // 3 : len(out) * 2 // 3]
    return bytes(out)


@pytest.mark.parametrize("name", SEEDS)
def test_a_mutant_is_refused_or_read(name: str, tmp_path: Path) -> None:
    rng, data, path = random.Random(name), SEEDS[name](), tmp_path / name
    for _ in range(COUNT):
        path.write_bytes(mutant(data, rng))
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(FileError):
                image = read_image(path)
                assert image.pixels.ndim == image.geometry.ndim + 1
        assert time.process_time() - start < 10

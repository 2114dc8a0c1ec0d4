"""Real files, where the shared data lie beside the checkout."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from medseg.geometry import Geometry
from medseg.io import read_image, write_segmentation
from medseg.labels import Label, LabelSet
from medseg.segmentation import Segmentation

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not DATA.is_dir(), reason="no shared data beside the checkout"),
]


@pytest.mark.filterwarnings("ignore:.*secondary capture")
def test_a_relabelled_film_is_the_negative_of_itself() -> None:
    folder = DATA / "dicom-cxr"
    two = read_image(folder / "siim_monochrome2.dcm")
    one = read_image(folder / "siim_relabelled_monochrome1.dcm")
    np.testing.assert_array_equal(one.pixels, 255 - two.pixels)
    assert two.geometry == Geometry.upright((0.168, 0.168))


@pytest.mark.parametrize("name", ["t1/t1w", "t2/t2", "t2s/t2s"])
def test_volumes_keep_affine_and_voxels(name: str, tmp_path: Path) -> None:
    path = DATA / "spine-mri" / f"{name}.nii.gz"
    image, reference = read_image(path), nib.load(path)
    np.testing.assert_allclose(image.pixels[0].T, reference.get_fdata(), rtol=1e-6)
    labels = LabelSet((Label(1, "cord", "#ff0000"),))
    mask = (image.pixels[0] > image.pixels.mean()).astype(np.uint8)
    write_segmentation(
        Segmentation(mask, labels, image.geometry), tmp_path / "m.nii.gz"
    )
    written = nib.load(tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(written.affine, reference.affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), mask.T)


def test_cell_frames_and_films_are_exact() -> None:
    frames = sorted((DATA / "ctc").glob("*/01/t*.tif"))[:3]
    films = sorted((DATA / "jsrt" / "images").glob("*.png"))[:3]
    assert frames
    assert films
    for path in frames:
        np.testing.assert_array_equal(read_image(path).pixels[0], tifffile.imread(path))
    for path in films:
        np.testing.assert_array_equal(
            read_image(path).pixels[0], np.asarray(Image.open(path))
        )

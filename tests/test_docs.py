"""The pages: their examples run as they are printed, their links lead somewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from malformed_dicom import dicom

from medseg.datasets.synthetic import chest_film
from medseg.io import read_segmentation

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = {
    f"{page.stem}-{i}": code
    for page in PAGES
    for i, code in enumerate(
        re.findall(r"(?ms)^```python\n(.*?)^```", page.read_text())
    )
}


def test_there_are_examples() -> None:
    assert {"README-0", "refine-0"} <= set(EXAMPLES)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_as_printed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each beside a drawn ``film.dcm``, in a folder of its own."""
    film = chest_film(np.random.default_rng(5), 512, bits=12, marks=False)
    (tmp_path / "film.dcm").write_bytes(dicom(film.image))
    monkeypatch.chdir(tmp_path)
    Path("example.py").write_text(EXAMPLES[name])
    names = runpy.run_path("example.py")
    if name == "README-0":
        back = read_segmentation(tmp_path / "film_mask.nii.gz")
        assert back.structure("heart").any()
    if name == "refine-0":
        heart = names["mask"][names["heart"]] > 0
        truth = film.masks[names["heart"]] > 0
        assert 2 * (heart & truth).sum() > 0.9 * (heart.sum() + truth.sum())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_checkout_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text()):
        assert (page.parent / target).exists(), target

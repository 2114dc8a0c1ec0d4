"""Section by section: what must be refused is, what must be read is read right."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

import malformed_dicom
import numpy as np
import pytest
from malformed import FILES, Malformed

from medseg.errors import FileError, ImageWarning
from medseg.io import probe, read_image

if TYPE_CHECKING:
    from pathlib import Path

CASES = (*FILES, *malformed_dicom.FILES, *malformed_dicom.SERIES)
REJECT = [c for c in CASES if c.verdict == "reject"]
READ = [c for c in CASES if c.verdict != "reject"]


@pytest.mark.parametrize("case", REJECT, ids=lambda c: c.id)
def test_a_malformed_file_is_refused_in_one_line_that_names_the_cause(
    case: Malformed, tmp_path: Path
) -> None:
    path = case.make(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(FileError) as caught:
            read_image(path)
    text = str(caught.value)
    assert "\n" not in text
    assert path.name in text or path.parent.name in text
    assert re.search(case.word, text, re.I), text
    if re.search("truncated|damaged", text):
        assert re.search(r"\. (Get the file again|Check|Complete) ", text), text
    assert len(text) < 600


@pytest.mark.parametrize("case", READ, ids=lambda c: c.id)
def test_an_unusual_file_is_read_right_with_at_most_one_warning(
    case: Malformed, tmp_path: Path
) -> None:
    path = case.make(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        image = read_image(path)
    assert len(caught) == (case.verdict == "warn"), [str(w.message) for w in caught]
    for warning in caught:
        assert warning.category is ImageWarning
        assert case.word in str(warning.message)
    assert case.pixels is not None
    np.testing.assert_array_equal(image.pixels, case.pixels)
    assert image.pixels.dtype == case.pixels.dtype


@pytest.mark.parametrize("case", READ, ids=lambda c: c.id)
def test_the_header_alone_promises_what_reading_gives(
    case: Malformed, tmp_path: Path
) -> None:
    path = case.make(tmp_path)
    info = probe(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = read_image(path)
    assert info.shape[1:] == image.spatial_shape
    assert info.shape == image.pixels.shape or info.shape[0] == 3
    assert info.dtype == str(image.pixels.dtype)
    assert info.spacing == image.geometry.spacing
    assert info.format == image.meta["format"]


def test_the_words_are_worth_checking() -> None:
    assert len(REJECT) >= 120
    assert all(c.word for c in CASES if c.verdict != "accept")
    assert len({c.id for c in CASES}) == len(CASES)

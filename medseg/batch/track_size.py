"""How large a movie's cells are: looked for once, in its first frames, and kept.

One size for all frames: cells then do not seem to grow from one frame to the next
because another scale was chosen. It is kept in the work folder with the hash of all
that decided it, so that a run that was ended goes on with the same size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from medseg import __version__
from medseg.batch.job import StagedPredictor
from medseg.batch.journal import hash_config
from medseg.batch.tables import write_text
from medseg.batch.track_frames import Frames, hash_pixels
from medseg.errors import FileError
from medseg.image import Image

if TYPE_CHECKING:
    from medseg.predict.diameter import CellSize

SIZE_NAME = "cell-size.json"
SIZE_FRAMES = 3
"""Frames that are looked at; the median counts."""


def size_of_movie(movie: Frames, work: Path, predictor: StagedPredictor) -> CellSize:
    """Return the size of the cells in the first frames of a movie.

    Args:
        movie: Frames; those that cannot be read are left out here.
        work: Folder where the size is kept.
        predictor: One that looks for the size of cells.

    Raises:
        FileError: If memory does not suffice for a frame.
        DiskError: If the size cannot be kept.
    """
    from medseg.predict.diameter import CellSize

    facts = dict(predictor.describe())
    facts.pop("versions", None)
    digests = [hash_pixels(image.pixels) for image in _first(movie)]
    key = hash_config({"medseg": __version__, "predictor": facts, "frames": digests})
    path = work / SIZE_NAME
    try:
        kept = json.loads(path.read_text())
        if kept["key"] == key:
            return CellSize(float(kept["diameter"]), kept["diameter_from"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is none, or half of one: it is looked for again
    size = predictor.cell_size(_first(movie))
    record = {"key": key, "diameter": size.diameter, "diameter_from": size.origin}
    write_text(path, json.dumps(record, indent=1))
    return size


def _first(movie: Frames) -> Iterator[Image]:
    for i in range(min(SIZE_FRAMES, len(movie.frames))):
        try:
            yield movie.read(i)
        except FileError:
            continue  # the run over all frames reports it

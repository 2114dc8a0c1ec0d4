"""What a finished mask leaves: its files, and its row in the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.batch.items import Item, map_name
from medseg.batch.job import Job
from medseg.errors import counted
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.io import write_image, write_segmentation
from medseg.io.atomic import make_folder
from medseg.measure import Doubt, assess, chest
from medseg.segmentation import Segmentation

Row = dict[str, float | str | None]


def write(seg: Segmentation, item: Item, job: Job) -> tuple[Path, ...]:
    """Write the mask, and the maps that are asked for; return the files.

    Raises:
        FileError: If the format cannot hold the mask.
        DiskError: If the disk is full or not writable.
    """
    make_folder((job.out / item.outputs[0]).parent)
    written = write_segmentation(
        seg,
        job.out / item.target,
        split_labels=job.options.split_labels,
        source=item.source,
    )
    for name in job.options.maps:
        pixels = getattr(seg, name)
        if pixels.ndim == seg.geometry.ndim:
            pixels = pixels[None]
        image = Image(pixels, seg.geometry)
        written += (write_image(image, job.out / map_name(item.target, name)),)
    return written


def measure(seg: Segmentation, output: Any, predictor: Any) -> Row:
    """Return the measurements and the doubt of a finished mask, for its table."""
    found = _doubt(seg, output, predictor)
    return _row(seg, round(found.score, 3), found)


def measure_mask(seg: Segmentation) -> Row:
    """Return the row of a mask that a person drew: nobody asks how sure a model was."""
    return _row(seg, None, assess(seg))


def _row(seg: Segmentation, score: float | None, found: Doubt) -> Row:
    row: Row = {}
    reasons = found.reasons
    if seg.labels.kind == "instances":
        row["cells"] = _count(seg.mask)
    if set(seg.labels.names) >= set(chest.STRUCTURES):
        film = seg.as_film()
        if film.geometry.ndim == 2:
            row = chest.measure(film).to_row()
        else:
            slices = counted(film.spatial_shape[0], "slice")
            reasons = (f"not measured: {slices}, and a film is one", *reasons)
    return {**row, "doubt": score, "message": "; ".join(reasons)}


def _count(mask: NDArray[Any]) -> int:
    """Return how many cells there are, row by row: an image may be very large."""
    rows = mask.reshape(-1, mask.shape[-1])
    numbers = np.concatenate([np.unique(row) for row in rows])
    return len(np.setdiff1d(numbers, [0]))


def _doubt(seg: Segmentation, output: Any, predictor: Any) -> Doubt:
    """Judge how doubtful a mask is, on the network's grid where there is one.

    There the probabilities are at hand, the pieces that cleaning takes away are
    still to be seen, and the pixels are fewer.
    """
    values = getattr(output, "values", None)
    # Maps of cells are no probabilities of structures.
    if values is None or seg.labels.kind == "instances":
        return assess(seg)
    from medseg.predict.decode import decode

    mask = decode(values, seg.labels, predictor.spec.decoding)
    # Its pixels are as wide and high as what they stand for: shapes stay true.
    size = np.divide(seg.spatial_shape, values.shape[1:]) * seg.geometry.spacing
    grid = Geometry.upright(tuple(size.tolist()), seg.geometry.unit)
    return assess(Segmentation(mask, seg.labels, grid), values)

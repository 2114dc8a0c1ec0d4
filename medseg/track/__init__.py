"""Linking cells through time."""

from __future__ import annotations

from medseg.track.cells import Cells, observe
from medseg.track.export import from_csv, generations, to_csv, to_napari
from medseg.track.fill import Fill, fill_gaps
from medseg.track.geff_file import read_geff, write_geff
from medseg.track.link import link, link_cells
from medseg.track.parameters import LinkParameters, estimate_parameters
from medseg.track.relabel import relabel

__all__ = [
    "Cells",
    "Fill",
    "LinkParameters",
    "estimate_parameters",
    "fill_gaps",
    "from_csv",
    "generations",
    "link",
    "link_cells",
    "observe",
    "read_geff",
    "relabel",
    "to_csv",
    "to_napari",
    "write_geff",
]

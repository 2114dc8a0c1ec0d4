"""Everyday tools: pure functions from a label map to an `Edit`.

None changes its input. A label map is ``([Z,] Y, X)`` of integers; of overlapping
labels a tool takes one channel (`RefineSession.target_map`).
"""

from __future__ import annotations

from medseg.refine.tools.brush import threshold_paint
from medseg.refine.tools.islands import fill_holes, keep_largest, remove_small
from medseg.refine.tools.logic import Operation, combine
from medseg.refine.tools.margin import grow, shrink, smooth
from medseg.refine.tools.slices import fill_between_slices
from medseg.refine.tools.split import merge, next_label, relabel, split

__all__ = [
    "Operation",
    "combine",
    "fill_between_slices",
    "fill_holes",
    "grow",
    "keep_largest",
    "merge",
    "next_label",
    "relabel",
    "remove_small",
    "shrink",
    "smooth",
    "split",
    "threshold_paint",
]

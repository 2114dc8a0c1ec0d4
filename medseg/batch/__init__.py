"""Folders of images: the plan, the run, its journal and its tables."""

from __future__ import annotations

from medseg.batch.plan import Item, Plan, make_plan
from medseg.batch.run import Progress, Summary, run_batch, run_plan
from medseg.batch.work import BatchOptions

__all__ = [
    "BatchOptions",
    "Item",
    "Plan",
    "Progress",
    "Summary",
    "make_plan",
    "run_batch",
    "run_plan",
]

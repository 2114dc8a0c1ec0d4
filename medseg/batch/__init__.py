"""Folders of images: the plan, the run, its journal and its tables."""

from __future__ import annotations

from medseg.batch.items import Item, Plan
from medseg.batch.job import BatchOptions
from medseg.batch.plan import make_plan
from medseg.batch.run import run_batch, run_plan
from medseg.batch.session import Progress, Summary

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

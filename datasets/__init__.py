"""Public data sets as lists of cases, one file a set."""

from __future__ import annotations

if __name__ != "medseg.datasets":
    raise ImportError(
        "this folder is medseg.datasets; install medseg and import it by that name"
    )

"""The rows of the report: a picture and the measurements of every case."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg import __version__
from medseg.batch.items import Item, Plan
from medseg.batch.job import Job
from medseg.batch.journal import Entry
from medseg.batch.notes import notes_of
from medseg.batch.report import ReportRow, write_report
from medseg.errors import MedsegError
from medseg.io.mask_folder import read_masks
from medseg.overlay import thumbnail

REPORT_NAME = "report.html"
# Pictures of about 30 kB while the page stays small, else of a third of that.
_LARGE, _SMALL = 512, 256
_MOST_LARGE = 500
_WIDTHS = {"heart_width": "heart width", "thoracic_width": "thorax width"}
_AREAS = {
    "right_lung_area": "right lung area",
    "left_lung_area": "left lung area",
    "heart_area": "heart area",
}


def picture_side(cases: int) -> int:
    """Return the longest side, in pixels, of the pictures of a report."""
    return _LARGE if cases <= _MOST_LARGE else _SMALL


def write_gallery(
    plan: Plan,
    entries: Mapping[str, Entry],
    job: Job,
    thumbnails: Mapping[str, bytes],
) -> Path:
    """Write ``report.html``.

    Cases of an earlier run look the same as those of this one; their pictures are
    drawn again from the image and the mask.

    Raises:
        DiskError: If it cannot be written.
    """
    rows = []
    for item in plan.items:
        entry = entries.get(item.name)
        if entry is not None:
            picture = thumbnails.get(item.name)
            if picture is None and entry.status == "done":
                picture = _draw(item, job)
            rows.append(_row(entry, picture))
    facts = {"medseg": __version__}
    facts |= {name: str(job.facts[name]) for name in ("model", "engine", "device")}
    labels = job.predictor.labels
    legend = (
        # Colours only tell touching cells apart.
        {}
        if labels.kind == "instances"
        else {label.name.replace("_", " "): label.colour for label in labels}
    )
    return write_report(rows, plan.out / REPORT_NAME, facts=facts, legend=legend)


def _row(entry: Entry, picture: bytes | None) -> ReportRow:
    doubt = entry.measures.get("doubt")
    return ReportRow(
        entry.name,
        entry.status,
        picture,
        _shown(entry.measures),
        float(doubt) if doubt is not None else None,
        entry.message,
    )


def _shown(measures: Mapping[str, Any]) -> dict[str, float | str | None]:
    """Return a film's measurements in mm, or in pixels where it has no spacing."""
    if "ctr" not in measures:
        return {}
    real = measures.get("spacing_is_at_detector") is not None
    length, area = ("mm", "mm2") if real else ("px", "px")
    return {
        "cardiothoracic ratio": measures["ctr"],
        **{f"{s}, {length}": measures.get(f"{c}_{length}") for c, s in _WIDTHS.items()},
        **{f"{s}, {area}": measures.get(f"{c}_{area}") for c, s in _AREAS.items()},
    }


def _draw(item: Item, job: Job) -> bytes | None:
    """Return the picture of a finished case; None where its files have gone."""
    labels = job.predictor.labels
    try:
        with notes_of([], item.source):  # what was unusual about it is in the journal
            mask = read_masks(item.mask_files(job.out), labels)
            return thumbnail(job.read(item.source), mask, job.picture)
    except MedsegError:
        return None

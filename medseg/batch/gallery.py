"""The rows of the report: a thumbnail and the measurements of every case."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medseg import __version__
from medseg.batch.items import Item, Plan
from medseg.batch.job import Job
from medseg.batch.journal import Entry
from medseg.batch.masks import MaskFiles, read_masks
from medseg.batch.report import ReportRow, write_report
from medseg.errors import MedsegError
from medseg.overlay import thumbnail

REPORT_NAME = "report.html"
_SHOWN = {
    "ctr": "cardiothoracic ratio",
    "heart_width_mm": "heart, mm",
    "thoracic_width_mm": "thorax, mm",
    "right_lung_area_mm2": "right lung, mm2",
    "left_lung_area_mm2": "left lung, mm2",
}


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
    return write_report(rows, plan.out / REPORT_NAME, facts=facts)


def _row(entry: Entry, picture: bytes | None) -> ReportRow:
    doubt = entry.measures.get("doubt")
    return ReportRow(
        entry.name,
        entry.status,
        picture,
        {shown: entry.measures.get(column) for column, shown in _SHOWN.items()},
        float(doubt) if doubt is not None else None,
        entry.message,
    )


def _draw(item: Item, job: Job) -> bytes | None:
    """Return the picture of a finished case; None where its files have gone."""
    labels = job.predictor.labels
    # The masks come first, in the order of the labels; maps follow.
    masks = zip(labels.names, map(job.out.joinpath, item.outputs), strict=False)
    files = (
        MaskFiles(item.name, parts=dict(masks))
        if job.options.split_labels
        else MaskFiles(item.name, whole=job.out / item.target)
    )
    try:
        return thumbnail(job.read(item.source), read_masks(files, labels))
    except MedsegError:
        return None

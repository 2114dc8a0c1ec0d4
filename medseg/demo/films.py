"""Drawn films through a model: masks, tables, a report, overlays, and the Dice."""

from __future__ import annotations

from pathlib import Path

from medseg.batch.evaluate import evaluate_folder
from medseg.batch.job import BatchOptions, StagedPredictor
from medseg.batch.run import run_batch
from medseg.io import read_image
from medseg.io.atomic import write_bytes
from medseg.io.mask_folder import find_masks, read_masks
from medseg.labels import LabelSet
from medseg.measure.chest import measure
from medseg.overlay import encode, overlay


def segment_films(
    films: Path, out: Path, name: str, predictor: StagedPredictor
) -> tuple[dict[str, float], int]:
    """Segment drawn films into ``out/name`` and draw them into ``out/overlays/name``.

    Returns:
        Mean Dice by structure, and how many films failed.
    """
    summary = run_batch(
        [films / "images"], out / name, predictor, BatchOptions(report=True)
    )
    overlays = out / "overlays" / name
    draw_overlays(films / "images", out / name, overlays, predictor.labels)
    return mean_dice(out / name, films), summary.failed


def mean_dice(pred: Path, truth: Path) -> dict[str, float]:
    """Return the mean Dice of each structure over the films of a folder."""
    summaries = evaluate_folder(pred, truth).summaries
    return {s.structure: s.mean for s in summaries if s.metric == "dice"}


def draw_overlays(films: Path, masks: Path, out: Path, labels: LabelSet) -> list[Path]:
    """Draw each mask over its film, with the lines of the cardiothoracic ratio."""
    written = []
    for name, files in find_masks(masks, labels).items():
        seg = read_masks(files, labels)
        image = read_image(films / f"{name}.png")
        found = measure(seg)
        lines = [x for x in (found.heart_line, found.thorax_line) if x is not None]
        note = f"cardiothoracic ratio {found.ctr:.3f}"
        picture = overlay(image, seg, lines=lines, note=note if len(lines) == 2 else "")
        written.append(write_bytes(out / f"{name}.png", encode(picture)))
    return written

"""The demonstration: synthetic films, the shipped models, and how well they did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medseg.batch.evaluate import EvaluateOptions, evaluate_folder
from medseg.batch.job import BatchOptions
from medseg.batch.load import load_predictor
from medseg.batch.masks import find_masks, read_masks
from medseg.batch.run import run_batch
from medseg.datasets.synthetic import write_films
from medseg.errors import ConfigError, ModelError
from medseg.io import read_image
from medseg.io.atomic import write_bytes
from medseg.labels import LabelSet
from medseg.measure.chest import measure
from medseg.overlay import encode, overlay

SEED = 20
# Folders that the demonstration makes beside those of the models, and no folders.
_TAKEN = ("films", "overlays", "", "..")
_FEW_DRAWS = 1000
Say = Callable[[str], None]


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration found.

    Args:
        dice: Mean Dice against the drawn truth by model, then structure.
        failed: Films that failed, over all models.
    """

    dice: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    failed: int = 0

    def table(self) -> str:
        """Return a line a model and structure."""
        return "\n".join(
            [
                f"{'model':<18}{'structure':<18}Dice",
                *(
                    f"{model:<18}{structure:<18}{dice:.4f}"
                    for model, scores in self.dice.items()
                    for structure, dice in scores.items()
                ),
            ]
        )


def run_demo(
    out: Path,
    *,
    films: int = 6,
    models: Sequence[str] | None = None,
    say: Say = lambda line: None,
) -> DemoResult:
    """Draw films with known masks, segment them, and compare.

    Writes ``films/`` (images and true masks), and for each model ``MODEL/`` (masks,
    tables, report) and ``overlays/MODEL/``. A repeated run resumes.

    Args:
        out: The folder, made if missing.
        films: How many to draw.
        models: Names or folders; by default every shipped model.
        say: Called with a line of progress.

    Raises:
        ModelError: If no model is shipped, or one is not accepted.
        ConfigError: If two models, or a model and the films, would share a folder.
        DiskError: If the folder is not writable.
    """
    from medseg.model import shipped_models

    chosen = list(models or shipped_models())
    if not chosen:
        raise ModelError("demo", "no shipped model found", "Install medseg again")
    predictors = {
        folder: load_predictor([model]) for model, folder in _folders(chosen).items()
    }
    say(f"drawing {films} films into {out / 'films'}")
    write_films(out / "films", films, SEED)
    dice, failed = {}, 0
    for name, predictor in predictors.items():
        say(f"segmenting them with {name} into {out / name}")
        options = BatchOptions(report=True)
        summary = run_batch([out / "films" / "images"], out / name, predictor, options)
        failed += summary.failed
        overlays = out / "overlays" / name
        draw_overlays(out / "films" / "images", out / name, overlays, predictor.labels)
        dice[name] = mean_dice(out / name, out / "films")
    say(f"open {out / next(iter(predictors)) / 'report.html'}")
    return DemoResult(dice, failed)


def _folders(models: Sequence[str]) -> dict[str, str]:
    """Return the folder name of each model.

    Raises:
        ConfigError: If two are the same, or one is that of the films or overlays.
    """
    folders = {}
    taken = list(_TAKEN)
    for model in models:
        name = Path(model).name
        if name.casefold() in taken:  # some disks do not tell a from A
            raise ConfigError(
                "model",
                f"the results of {model!r} need a folder of their own, "
                f"{name!r} is taken",
                "Rename the model's folder",
            )
        taken.append(name.casefold())
        folders[model] = name
    return folders


def mean_dice(pred: Path, truth: Path) -> dict[str, float]:
    """Return the mean Dice of each structure over the films of a folder."""
    result = evaluate_folder(pred, truth, EvaluateOptions(draws=_FEW_DRAWS))
    return {s.structure: s.mean for s in result.summaries if s.metric == "dice"}


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

"""The demonstration: drawn films and cells, the shipped models, and how they did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medseg.batch.job import StagedPredictor
from medseg.batch.load import load_labels, load_predictor
from medseg.errors import ConfigError, ModelError, PlanError

SEED = 20
FRAMES = 16
MOVIE_MODEL = "nuclei-fluorescence"
"""The shipped model for the drawn movie; other cell models want other microscopes."""
# Folders that the demonstration makes beside those of the models, and no folders.
_TAKEN = ("films", "movie", "overlays", "", "..")
Say = Callable[[str], None]


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration found.

    Args:
        scores: By model, then structure: mean Dice against the drawn truth. For
            cells SEG, DET and TRA.
        failed: Films and frames that failed, over all models.
    """

    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    failed: int = 0

    def table(self) -> str:
        """Return a line a model and structure."""
        return "\n".join(
            [
                f"{'model':<22}{'structure':<18}Dice (cells: SEG, DET, TRA)",
                *(
                    f"{model:<22}{structure:<18}{score:.4f}"
                    for model, scores in self.scores.items()
                    for structure, score in scores.items()
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
    """Draw films and cells with known masks, segment them, and compare.

    Writes ``films/`` and ``movie/`` (images and truth), for each model of films
    ``MODEL/`` (masks, tables, report) and ``overlays/MODEL/``, and for each model of
    cells ``MODEL/01_RES/``. A repeated run resumes.

    Args:
        out: The folder, made if missing.
        films: How many to draw.
        models: Names or folders; by default the shipped ones that fit the drawings.
        say: Called with a line of progress.

    Raises:
        PlanError: If the folder is a file, or would be inside one.
        ModelError: If no model is shipped, or one is not accepted.
        ConfigError: If two models, or a model and the films, would share a folder.
        DiskError: If the folder is not writable.
    """
    from medseg.datasets.synthetic import write_films
    from medseg.datasets.synthetic_movie import write_movie
    from medseg.model import shipped_models

    for path in (out, *out.parents):
        if path.is_file():
            raise PlanError(path, "is a file, not a folder", "Give an output folder")
    folders = _folders(list(models or filter(_fits, shipped_models())))
    if not folders:
        raise ModelError("demo", "no shipped model found", "Install medseg again")
    loaded = [(folder, load_predictor([name])) for name, folder in folders.items()]
    loaded.sort(key=lambda item: _of_cells(item[1]))  # films first
    kinds = [_of_cells(predictor) for _, predictor in loaded]
    if False in kinds:
        say(f"drawing {films} films into {out / 'films'}")
        write_films(out / "films", films, SEED)
    if True in kinds:
        say(f"drawing a movie of {FRAMES} frames into {out / 'movie'}")
        write_movie(out / "movie", SEED, frames=FRAMES)
    scores: dict[str, dict[str, float]] = {}
    pages: dict[str, Path] = {}
    failed = 0
    for name, predictor in loaded:
        scores[name], bad, page = _run(out, name, predictor, say)
        failed += bad
        pages.setdefault(page.name, page)  # the first of films, the first of cells
    for path in pages.values():
        say(f"open {path}")
    return DemoResult(scores, failed)


def _fits(name: str) -> bool:
    """Return whether a shipped model is for what is drawn here."""
    return name == MOVIE_MODEL or load_labels([name]).kind != "instances"


def _of_cells(predictor: StagedPredictor) -> bool:
    return predictor.labels.kind == "instances"


def _run(
    out: Path, name: str, predictor: StagedPredictor, say: Say
) -> tuple[dict[str, float], int, Path]:
    """Take one model through its drawings: scores, how many failed, what to open."""
    from medseg.demo.films import segment_films
    from medseg.demo.movie import track_cells

    if _of_cells(predictor):
        page = out / name / "01_RES" / "lineage.png"
        say(f"tracking the cells with {name} into {page.parent}")
        return *track_cells(out / "movie", out / name, predictor), page
    page = out / name / "report.html"
    say(f"segmenting the films with {name} into {page.parent}")
    return *segment_films(out / "films", out, name, predictor), page


def _folders(models: Sequence[str]) -> dict[str, str]:
    """Return the folder name of each model.

    Raises:
        ConfigError: If two are the same, or one is that of the drawings.
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

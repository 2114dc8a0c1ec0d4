"""A folder of predictions against a folder of truths."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from medseg.batch.tables import write_text
from medseg.errors import ConfigError, FileError, MedsegError
from medseg.io.ctc_validate import TABLE
from medseg.io.mask_folder import MaskFiles, find_masks, read_masks
from medseg.labels import LabelSet
from medseg.measure import chest, to_csv
from medseg.metrics import aggregate
from medseg.metrics.cases import (
    TOLERANCES,
    Score,
    available,
    common_geometry,
    evaluate_pair,
    missing_score,
    structure_mask,
)
from medseg.metrics.cells import missed_cells
from medseg.metrics.evaluation import Evaluation, Problem
from medseg.segmentation import Segmentation


@dataclass(frozen=True)
class EvaluateOptions:
    """How a folder is scored.

    Args:
        structures: Names of structures or unions (``"lungs"``); by default those
            of the truth that the predictions have.
        labels: Of files that do not say what their values mean; by default those
            that the first prediction states, or else the first truth.
        tolerances: For NSD, in mm (px where there is no spacing).
        spacing: ``(y, x)`` in mm, where neither mask states one; for a case without
            a prediction by default that of the first prediction.
        groups: Patient of each case name; by default each case is a patient.
        draws: Bootstrap resamples.
        seed: Of the bootstrap.
        only_predicted: Leave out the cases that have no prediction, which else count
            as failed.
    """

    structures: tuple[str, ...] | None = None
    labels: LabelSet | None = None
    tolerances: tuple[float, ...] = TOLERANCES
    spacing: tuple[float, ...] | None = None
    groups: Mapping[str, str] | None = None
    draws: int = aggregate.DRAWS
    seed: int = aggregate.SEED
    only_predicted: bool = False


@dataclass(frozen=True)
class _Common:
    """What a case takes from the folder as a whole.

    Args:
        structures: That the predictions have. A file that lacks one has missed it.
        labels: Of files that state none.
        spacing: In mm, of cases in which nothing states one.
        cells: Whether the predictions are masks of single cells.
    """

    structures: tuple[str, ...]
    labels: LabelSet | None
    spacing: tuple[float, ...] | None
    cells: bool


@dataclass(frozen=True)
class _CaseResult:
    """What is kept of a case: no mask, and no error that holds one.

    An exception keeps all that was in hand where it was raised. ``assumed`` says that
    a mask states no labels, and those of others were taken.
    """

    scores: list[Score]
    ratios: tuple[float, float]
    error: MedsegError | None = None
    missing: bool = False
    assumed: bool = False


def evaluate_folder(
    pred: Path, truth: Path, options: EvaluateOptions | None = None
) -> Evaluation:
    """Score every case of ``truth`` by the prediction of the same name.

    Both folders may have any layout of `medseg.io.mask_folder`. A structure that a
    case's truth does not have was not annotated and is skipped; a prediction that
    is missing, unreadable or on another grid counts as failed, and its scores are
    the failure values.

    Args:
        pred: Folder of predictions.
        truth: Folder of truths.
        options: What is scored and how.

    Raises:
        ConfigError: If a folder has no masks or ``pred`` is a tracking result, no
            case or structure is in both, or every case ends in an error (then that
            of the first).
        FileError: If a truth cannot be read.
    """
    options = options or EvaluateOptions()
    if (pred / TABLE).is_file():
        problem = "is a tracking result, whose measures are those of cell movies"
        raise ConfigError(pred, problem, "Add --ctc")
    truths, preds = find_masks(truth, options.labels), find_masks(pred, options.labels)
    shared = [name for name in truths if name in preds]
    if not shared:
        raise ConfigError(
            "evaluate",
            f"no case of {truth} ({next(iter(truths))}, ...) has a prediction "
            f"in {pred} ({next(iter(preds))}, ...)",
            "Give both the same relative names",
        )
    common = _common(truths, preds, options)
    results = {
        name: _score_case(truths[name], preds.get(name), common, options)
        for name in (shared if options.only_predicted else truths)
    }
    first = results[shared[0]].error
    if first is not None and all(results[name].error for name in shared):
        raise first
    if not any(result.scores for result in results.values()):
        raise ConfigError(
            "structures",
            f"the predictions have {', '.join(common.structures)}, "
            "the truth none of them",
            "Name structures that both have",
        )
    unmatched = tuple(name for name in preds if name not in truths)
    left_out = tuple(name for name in truths if name not in results)
    assumed = common.labels if any(r.assumed for r in results.values()) else None
    return _evaluation(results, unmatched, left_out, assumed, options)


def _evaluation(
    results: Mapping[str, _CaseResult],
    unmatched: tuple[str, ...],
    left_out: tuple[str, ...],
    assumed: LabelSet | None,
    options: EvaluateOptions,
) -> Evaluation:
    """Return what the results of all cases come to."""
    scores = [s for r in results.values() for s in r.scores]
    return Evaluation(
        scores=tuple(scores),
        summaries=tuple(
            aggregate.summarise(
                scores, groups=options.groups, draws=options.draws, seed=options.seed
            )
        ),
        ctr=_ctr_agreement(results),
        problems=tuple(
            Problem(name, str(r.error), r.missing)
            for name, r in results.items()
            if r.error
        ),
        unmatched=unmatched,
        draws=options.draws,
        seed=options.seed,
        left_out=left_out,
        assumed={x.name: x.value for x in assumed or ()},
    )


def _common(
    truths: Mapping[str, MaskFiles],
    preds: Mapping[str, MaskFiles],
    options: EvaluateOptions,
) -> _Common:
    """Return what the cases share; the first file that can be read speaks for all.

    Raises:
        ConfigError: If no prediction has a structure that is asked for.
    """
    labels = options.labels
    sample = _first(preds, labels, whole=True)
    if labels is None and (stated := sample or _first(truths, None, whole=True)):
        labels = stated.labels
        sample = sample or _first(preds, labels, whole=True)
    sample = sample or _first(preds, labels, whole=False)
    names = dict.fromkeys(name for files in preds.values() for name in files.parts)
    spacing = options.spacing
    if sample is not None:
        names |= dict.fromkeys(sample.labels.names)
        if spacing is None and sample.geometry.unit == "mm":
            spacing = sample.geometry.spacing
    wanted = options.structures or ()
    unknown = set(wanted) - set(available(names, wanted))
    if unknown and names:
        raise ConfigError(
            "structures",
            f"no prediction has {', '.join(sorted(unknown))}",
            f"Choose from {', '.join(names)}",
        )
    cells = sample is not None and sample.labels.kind == "instances"
    return _Common(tuple(names), labels, spacing, cells)


def _first(
    masks: Mapping[str, MaskFiles], labels: LabelSet | None, *, whole: bool
) -> Segmentation | None:
    """Return the first mask that can be read, of those in one file or in several."""
    for files in masks.values():
        if (files.whole is not None) is whole:
            # One that cannot is scored as failed, and named, when its turn comes.
            with suppress(FileError):
                return read_masks(files, labels)
    return None


def _score_case(
    truth: MaskFiles,
    pred: MaskFiles | None,
    common: _Common,
    options: EvaluateOptions,
) -> _CaseResult:
    """Score one case; whatever is wrong with its prediction becomes its error."""
    true = read_masks(truth, common.labels)
    wanted = options.structures or true.labels.names
    chosen = available(common.structures, available(true.labels.names, wanted))
    seg, scores = None, list[Score]()
    error: MedsegError | None = None
    if pred is None:
        error = FileError(truth.name, "has no prediction", "Predict it")
    else:
        try:
            seg = read_masks(pred, common.labels)
            found = available(seg.labels.names, chosen)
            scores = _scores(seg, true, found, options, truth.name)
        except (FileError, ConfigError) as problem:
            seg, error = None, problem.bare()
    scored = {s.structure for s in scores}
    for structure in chosen:
        if structure not in scored:
            scores.append(_missing(true, structure, common, options, truth.name))
    scores.sort(key=lambda s: chosen.index(s.structure))
    # A mask that states labels has its own, which are another object.
    assumed = options.labels is None and any(
        mask is not None and mask.labels is common.labels for mask in (true, seg)
    )
    ratios = _ratio(seg), _ratio(true)
    return _CaseResult(scores, ratios, error, pred is None, assumed)


def _scores(
    pred: Segmentation,
    truth: Segmentation,
    structures: tuple[str, ...],
    options: EvaluateOptions,
    case: str,
) -> list[Score]:
    common_geometry(pred, truth)
    if not structures:
        return []
    return evaluate_pair(
        pred,
        truth,
        structures=structures,
        tolerances=options.tolerances,
        spacing=options.spacing,
        case=case,
    )


def _missing(
    truth: Segmentation,
    structure: str,
    common: _Common,
    options: EvaluateOptions,
    case: str,
) -> Score:
    axes = truth.geometry.ndim
    fitting = common.spacing is not None and len(common.spacing) == axes
    cells = common.cells and truth.labels.kind == "instances"
    return missing_score(
        structure_mask(truth, structure),
        # Against itself: takes the spacing of the others where the truth has none.
        common_geometry(truth, truth, common.spacing if fitting else options.spacing),
        structure=structure,
        tolerances=options.tolerances,
        case=case,
        cells=missed_cells(truth.mask) if cells else None,
    )


def _ratio(seg: Segmentation | None) -> float:
    film = seg.as_film() if seg is not None else None
    if film is None or film.geometry.ndim != 2:
        return math.nan
    drawn = set(film.labels.names) >= set(chest.STRUCTURES)
    return chest.measure(film).ctr if drawn else math.nan


def _ctr_agreement(results: Mapping[str, _CaseResult]) -> aggregate.Agreement | None:
    pred, truth = zip(*(r.ratios for r in results.values()), strict=True)
    found = aggregate.agreement(pred, truth)
    return found if found.n or found.n_failed else None


def write_evaluation(evaluation: Evaluation, path: Path) -> Path:
    """Write an evaluation, atomically: ``.json`` all of it, ``.csv`` a row a case.

    Raises:
        ConfigError: If the suffix is another one.
        DiskError: If the file cannot be written.
    """
    if path.suffix == ".json":
        text = json.dumps(evaluation.to_dict(), indent=1, allow_nan=False) + "\n"
    elif path.suffix == ".csv":
        rows = evaluation.case_rows()
        text = to_csv(rows, list(dict.fromkeys(k for row in rows for k in row)))
    else:
        raise ConfigError(path, "is neither .json nor .csv", "Use one of these")
    return write_text(path, text)

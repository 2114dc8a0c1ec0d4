"""``medseg predict``: the plan, the run, its progress and its last line."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.cli.display import Display, run_cancellable, say
from medseg.cli.options import (
    AnonymousNames,
    CellDiameter,
    Dask,
    DeviceName,
    EngineName,
    Format,
    Inputs,
    Isolate,
    ModelNames,
    Out,
    Overwrite,
    Probabilities,
    Report,
    Sha256,
    SplitLabels,
    TestTimeAugmentation,
    Threads,
    Uncertainty,
    Verify,
    Workers,
    parse_diameter,
)
from medseg.errors import ExitCode, counted

if TYPE_CHECKING:
    from medseg.batch.items import Plan
    from medseg.batch.job import BatchOptions, StagedPredictor
    from medseg.batch.session import Summary


def predict(
    inputs: Inputs,
    out: Out,
    model: ModelNames,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    workers: Workers = 2,
    dask: Dask = None,
    format: Format = "same",
    split_labels: SplitLabels = False,
    probabilities: Probabilities = False,
    uncertainty: Uncertainty = False,
    test_time_augmentation: TestTimeAugmentation = False,
    report: Report = False,
    anonymous_names: AnonymousNames = False,
    overwrite: Overwrite = False,
    verify: Verify = False,
    isolate: Isolate = False,
    diameter: CellDiameter = "auto",
    threads: Threads = None,
    sha256: Sha256 = None,
) -> None:
    """Segment images, folders, or thousands.

    A run that was ended resumes by itself when it is started again.

    Exit codes: 0 all done, 1 some files failed, 2 nothing written, 3 another run
    holds OUT, 4 disk full, 130 cancelled.
    """
    from medseg.batch.job import BatchOptions

    options = BatchOptions(
        format=format,
        split_labels=split_labels,
        probabilities=probabilities,
        uncertainty=uncertainty,
        report=report,
        anonymous_names=anonymous_names,
        overwrite=overwrite,
        verify=verify,
        workers=workers,
        isolate=isolate,
    )
    arguments = {
        "models": tuple(model),
        "engine": engine,
        "device": device,
        "test_time_augmentation": test_time_augmentation,
        "threads": threads,
        "sha256": sha256,
        "diameter": parse_diameter(diameter),
    }
    run_cancellable(lambda d: segment(inputs, out, options, arguments, dask, d))


def segment(
    inputs: list[Path],
    out: Path,
    options: BatchOptions,
    arguments: dict[str, Any],
    dask: str | None,
    display: Display,
) -> ExitCode:
    """Plan, load, run; the plan comes first because it can fail without loading."""
    from medseg.batch.load import load_labels, load_predictor
    from medseg.batch.plan import make_plan
    from medseg.batch.run import run_plan

    if dask is not None:
        from medseg.batch.dask import check_options

        check_options(options)
    plan = make_plan(
        inputs,
        out,
        load_labels(arguments["models"]),
        format=options.format,
        split_labels=options.split_labels,
        maps=options.maps,
        anonymous_names=options.anonymous_names,
    )
    predictor = load_predictor(**arguments)
    say(_size(plan))
    start = time.monotonic()
    with _executor(dask, predictor, arguments) as execute, display:
        summary = run_plan(plan, predictor, options, display.show, execute)
    _close(summary, time.monotonic() - start)
    return summary.exit_code


def _executor(
    dask: str | None, predictor: StagedPredictor, arguments: dict[str, Any]
) -> AbstractContextManager[Any]:
    """Give what takes the cases through: a Dask cluster, or None for this machine."""
    if dask is None:
        return nullcontext()
    from medseg.batch.dask import executor
    from medseg.batch.load import load_predictor
    from medseg.model_files import shipped_models

    # Workers run what this process would: else a resume would not know its own.
    facts = predictor.describe()
    here = {name: facts[name] for name in ("engine", "device")}
    shipped = shipped_models()
    here["models"] = tuple(
        name if name in shipped else str(Path(name).absolute())
        for name in arguments["models"]
    )
    return executor(dask, load_predictor, {**arguments, **here}, say)


def _size(plan: Plan) -> str:
    others = counted(plan.ignored, "other file")
    ignored = f", {others} ignored" if plan.ignored else ""
    images = counted(len(plan.items), "image")
    return f"{images}, {plan.input_bytes / 1e6:.1f} MB{ignored}"


def _close(summary: Summary, seconds: float) -> None:
    """Print where the time went, and last the counts."""
    if summary.error is not None:
        say(str(summary.error))
    stages = ", ".join(f"{name} {t:.1f} s" for name, t in summary.seconds.items())
    if stages:
        rate = (summary.done + summary.failed) / max(seconds, 1e-9)
        say(
            f"{seconds:.1f} s, {rate:.2f} images/s; over all threads: {stages}"
            f"{_peak_memory()}"
        )
    say(str(summary))


def _peak_memory() -> str:
    try:
        import resource
    except ImportError:  # Windows
        return ""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scale = 1 if sys.platform == "darwin" else 1024
    return f"; peak memory {peak * scale / 1e6:.0f} MB"

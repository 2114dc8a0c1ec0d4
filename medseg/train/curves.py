"""What happened during training: a CSV, a picture and TensorBoard events."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from medseg.io.atomic import replace_file
from medseg.train.loop import EpochLog

SECONDS_PER_MINUTE = 60


def write_logs(logs: Sequence[EpochLog], folder: Path) -> None:
    """Write ``log.csv``, ``curves.png`` and ``tensorboard/`` into ``folder``."""
    write_csv(logs, folder / "log.csv")
    draw_curves(logs, folder / "curves.png")
    write_events(logs, folder / "tensorboard")


def structures(logs: Sequence[EpochLog]) -> list[str]:
    """Return the names that were scored, in their first order."""
    return list(dict.fromkeys(name for log in logs for name in log.scores))


def write_csv(logs: Sequence[EpochLog], path: Path) -> None:
    """Write one line an epoch; the score columns are empty where not validated."""
    names = structures(logs)
    with replace_file(path) as part, part.open("w", newline="") as file:
        table = csv.writer(file)
        head = ["epoch", "stage", "loss", "learning_rate", "seconds"]
        table.writerow([*head, *(f"score_{name}" for name in names)])
        for log in logs:
            row = [log.epoch + 1, log.stage + 1, f"{log.loss:.6f}"]
            row += [f"{log.learning_rate:.8f}", f"{log.seconds:.2f}"]
            scores = [f"{log.scores[n]:.6f}" if n in log.scores else "" for n in names]
            table.writerow([*row, *scores])


def draw_curves(logs: Sequence[EpochLog], path: Path) -> None:
    """Draw loss and validation score against the epoch."""
    from matplotlib.figure import Figure  # seconds to import, needed only here

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([x.epoch + 1 for x in logs], [x.loss for x in logs], color="#333333")
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    for name in structures(logs):
        seen = [x for x in logs if name in x.scores]
        right.plot(
            [x.epoch + 1 for x in seen],
            [x.scores[name] for x in seen],
            marker=".",
            label=name.replace("_", " "),
        )
    right.set(xlabel="epoch", ylabel="validation score")
    best = max((x.mean_score for x in logs if x.scores), default=math.nan)
    right.set_ylim(bottom=max(0.0, min(0.8, best - 0.1)) if best == best else 0, top=1)
    if structures(logs):
        right.legend(fontsize="small", loc="lower right")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    with replace_file(path) as part:
        figure.savefig(part, format="png", dpi=120)


def write_events(logs: Sequence[EpochLog], folder: Path) -> None:
    """Write the logs as TensorBoard events, afresh."""
    from torch.utils.tensorboard import SummaryWriter

    for old in folder.glob("events.*"):
        old.unlink()
    with SummaryWriter(str(folder)) as writer:
        for log in logs:
            writer.add_scalar("loss", log.loss, log.epoch + 1)
            writer.add_scalar("learning rate", log.learning_rate, log.epoch + 1)
            for name, value in log.scores.items():
                writer.add_scalar(f"score/{name}", value, log.epoch + 1)


def time_left(
    logs: Sequence[EpochLog], config_epochs: Sequence[tuple[int, int]]
) -> float:
    """Return the seconds that the remaining epochs will take.

    Args:
        logs: Epochs done; only the last one counts.
        config_epochs: For each stage its epochs and the pixels of one image: a
            stage not yet seen is taken to cost in proportion to its pixels.
    """
    if not logs:
        return math.nan
    last = logs[-1]
    # By its number: the logs of a resumed run begin in the middle.
    done = last.epoch + 1 - sum(epochs for epochs, _ in config_epochs[: last.stage])
    pixels = sum(epochs * size for epochs, size in config_epochs[last.stage :])
    size = config_epochs[last.stage][1]
    return last.seconds / size * (pixels - done * size)


def clock(seconds: float) -> str:
    """Return ``seconds`` as ``1 h 05 min`` or ``12 min``."""
    if not math.isfinite(seconds):
        return "unknown"
    minutes = round(seconds / SECONDS_PER_MINUTE)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"

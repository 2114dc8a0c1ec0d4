"""What to try, step by step, when a GPU runs out of memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from medseg.model_spec import Inference

_LOG = logging.getLogger(__name__)
# A window is not halved below this, about the receptive field of a small U-Net.
SMALLEST_WINDOW = 64


@dataclass(frozen=True)
class Rung:
    """Settings of a run: windows at a time, size of a window, device."""

    batch: int
    size: tuple[int, ...]
    device: str

    def __str__(self) -> str:
        size = "x".join(map(str, self.size))
        return f"batch {self.batch}, window {size}, {self.device}"


def rungs(inference: Inference, device: str) -> tuple[Rung, ...]:
    """Return the settings from first to last.

    Batch n, n/2 ... 1; then, with sliding windows, window / 2 down to
    :data:`SMALLEST_WINDOW`; then the CPU with the model's own window.
    """
    return tuple(_rungs(inference, device))


def _rungs(inference: Inference, device: str) -> Iterator[Rung]:
    windows = inference.mode == "sliding_window"
    batch, size = inference.batch if windows else 1, inference.size
    yield Rung(batch, size, device)
    if device == "cpu":
        return
    while batch > 1:
        batch //= 2
        yield Rung(batch, size, device)
    while windows and min(size) // 2 >= SMALLEST_WINDOW:
        size = tuple(n // 2 for n in size)
        yield Rung(1, size, device)
    yield Rung(1, inference.size, "cpu")


class Ladder:
    """The rung in use. It only ever goes down, and stays down for the whole run."""

    def __init__(self, inference: Inference, device: str) -> None:
        self._rungs = rungs(inference, device)
        self._index = 0

    @property
    def rung(self) -> Rung:
        """The settings to run with."""
        return self._rungs[self._index]

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """The rungs taken so far, the first one left out; they may change bits."""
        return tuple(map(str, self._rungs[1 : self._index + 1]))

    def step_down(self, error: Exception) -> bool:
        """Go one rung down and log it; return False at the bottom."""
        if self._index + 1 == len(self._rungs):
            return False
        self._index += 1
        reason = str(error).split("\n")[0]
        _LOG.warning("out of memory (%s): going on with %s", reason, self.rung)
        return True

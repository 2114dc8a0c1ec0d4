"""What an engine is: a network that runs."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Precision = Literal["float32", "bfloat16", "float16"]


class Engine(Protocol):
    """Runs one network on one device.

    Equal batches give equal bits, on the same machine with the same settings.
    """

    name: str
    device: str
    threads: int | None
    precision: Precision

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits ``(N, K, [Z,] Y, X)`` for images ``(N, C, [Z,] Y, X)``."""
        ...

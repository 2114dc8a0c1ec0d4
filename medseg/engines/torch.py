"""The torch engine: any device, any network."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from medseg.engines.base import Precision


class TorchEngine:
    """Eager torch, channels last; autocast on a GPU.

    Args:
        network: Is copied, so that it stays as it is.
        device: ``"cpu"`` or ``"cuda"``.
        threads: Of the CPU; set for the whole process, as torch has it.
        precision: Default: float32 on a CPU; bfloat16 on a GPU that has it, else
            float16.
    """

    name = "torch"

    def __init__(
        self,
        network: nn.Module,
        device: str = "cpu",
        threads: int | None = None,
        precision: Precision | None = None,
    ) -> None:
        self.device, self.threads = device, threads
        if precision is None:
            precision = "float32" if device == "cpu" else _gpu_precision()
        self.precision: Precision = precision
        if threads is not None:
            torch.set_num_threads(threads)
        network = copy.deepcopy(network).eval()
        self._network = channels_last(network.to(device))

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits ``(N, K, [Z,] Y, X)`` for images ``(N, C, [Z,] Y, X)``.

        Raises:
            torch.OutOfMemoryError: If the device has too little memory.
        """
        autocast = self.precision != "float32"
        kind = getattr(torch, self.precision)
        with (
            torch.inference_mode(),
            torch.autocast(self.device, dtype=kind, enabled=autocast),
        ):
            images = torch.from_numpy(batch).to(self.device)
            logits = self._network(images.contiguous(memory_format=layout(batch.ndim)))
            return np.ascontiguousarray(logits.float().cpu().numpy())


def channels_last(network: nn.Module) -> nn.Module:
    """Return the network with its weights in the layout that :func:`layout` names."""
    ndim = max((p.ndim for p in network.parameters()), default=4)
    return network.to(memory_format=layout(ndim))


def layout(ndim: int) -> torch.memory_format:
    """Return the fast layout of tensors of so many axes: 4, or 5 for volumes."""
    return torch.channels_last_3d if ndim == 5 else torch.channels_last


def _gpu_precision() -> Precision:
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"

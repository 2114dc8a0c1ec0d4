"""The OpenVINO engine: the fastest one on a CPU."""

from __future__ import annotations

import functools
import itertools
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from medseg.engines.base import Precision
from medseg.engines.cut import cut

_PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_LOCK = threading.Lock()


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry.

    The package reports every import to a server unless the user has opted out; a
    program that works on patients' images does not call home. Without the telemetry
    package OpenVINO takes its own silent stand-in.
    """
    absent = "openvino_telemetry" not in sys.modules
    if absent:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if absent:
            del sys.modules["openvino_telemetry"]
    return openvino


def openvino_core() -> Any:
    """Return the core, one for the process, which is never let go.

    Where there are AMX units a core gives its thread a stack for signals, and at its
    end puts the one before it back. Of two cores that may be the stack that the other
    has freed: the next signal, be it Ctrl-C, then ends the process.
    """
    with _LOCK:
        return _make_core()


@functools.cache
def _make_core() -> Any:
    return import_openvino().Core()


def has_bfloat16() -> bool:
    """Return whether the processor has bfloat16 units that OpenVINO uses."""
    capabilities = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in capabilities


class OpenVinoEngine:
    """OpenVINO on the CPU, compiled once for each shape of batch.

    Calls from several threads are safe; each thread gets its own request.

    Args:
        network: In evaluation mode; max-unpooling is fine.
        shape: Of the batches ``(N, C, [Z,] Y, X)``, compiled at once; a batch with
            fewer images is filled up. Other shapes are compiled when they come.
        threads: Default: as many as there are physical cores.
        precision: On processors with bfloat16 units ``"bfloat16"`` is about twice as
            fast; labels then differ in some 0.01 % of pixels.
        streams: Batches worked on at the same time, by calls from as many threads.
        exact_layers: So many convolutions, from the input, stay in float32.
    """

    name = "openvino"
    device = "cpu"

    def __init__(
        self,
        network: nn.Module,
        shape: tuple[int, ...] | None = None,
        threads: int | None = None,
        precision: Precision | None = None,
        streams: int = 1,
        exact_layers: int = 0,
    ) -> None:
        self.threads = threads
        self.precision: Precision = precision or "float32"
        self._exact_layers = 0 if self.precision == "float32" else exact_layers
        self._network = network
        self._options: dict[str, Any] = {"NUM_STREAMS": streams}
        if threads is not None:
            self._options["INFERENCE_NUM_THREADS"] = threads
        self._compiled: dict[tuple[int, ...], list[Any]] = {}
        self._lock = threading.Lock()
        self._local = threading.local()
        if shape is not None:
            self._compile(shape)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits ``(N, K, [Z,] Y, X)`` for images ``(N, C, [Z,] Y, X)``."""
        shape = self._shape_for(batch.shape)
        padding = shape[0] - len(batch)
        full = batch
        if padding:
            rest = np.zeros((padding, *batch.shape[1:]), np.float32)
            full = np.concatenate([batch, rest])
        first, *others = self._requests(shape)
        result = first.infer([np.ascontiguousarray(full)])
        for request in others:
            result = request.infer()
        # The request's own buffer is used again by its next call.
        return np.array(next(iter(result.values()))[: len(batch)], np.float32)

    def _shape_for(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the smallest compiled shape that holds a batch of ``shape``."""
        known = tuple(self._compiled)
        fitting = [s for s in known if s[1:] == shape[1:] and s[0] >= shape[0]]
        return min(fitting, default=shape)

    def _requests(self, shape: tuple[int, ...]) -> list[Any]:
        """Return this thread's requests, each fed by the one before it."""
        known = self._local.__dict__.setdefault("requests", {})
        if shape not in known:
            made = [part.create_infer_request() for part in self._compile(shape)]
            for source, request in itertools.pairwise(made):
                for k in range(len(source.model_outputs)):
                    request.set_input_tensor(k, source.get_output_tensor(k))
            known[shape] = made
        return list(known[shape])

    def _compile(self, shape: tuple[int, ...]) -> list[Any]:
        with self._lock:
            if shape not in self._compiled:
                self._compiled[shape] = self._parts(convert(self._network, shape))
            return self._compiled[shape]

    def _parts(self, model: Any) -> list[Any]:
        parts: list[tuple[Any, Precision]] = [(model, self.precision)]
        if self._exact_layers:
            first, rest = cut(model, self._exact_layers)
            parts = [(first, "float32"), (rest, self.precision)]
        core = openvino_core()
        return [
            core.compile_model(
                part,
                "CPU",
                {**self._options, "INFERENCE_PRECISION_HINT": _PRECISIONS[precision]},
            )
            for part, precision in parts
        ]


def convert(network: nn.Module, shape: tuple[int, ...]) -> Any:
    """Return the network as an OpenVINO model of a fixed input shape.

    Goes through ``torch.export``, which handles max-unpooling, and through the
    front end itself: ``openvino.convert_model`` reports each call to a server.
    """
    import_openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
    from openvino.frontend.pytorch.torchdynamo.export_decompositions import (
        ops_to_not_decompose,
    )

    with torch.no_grad():
        program = torch.export.export(network, (torch.zeros(shape),))
    table = torch.export.default_decompositions()
    for operation in ops_to_not_decompose():
        if operation in table:
            table.pop(operation)
    module = program.run_decompositions(table).module()
    decoder = TorchFXPythonDecoder(module, dynamic_shapes=False)
    front = FrontEndManager().load_by_framework("pytorch")
    # The input model keeps no reference to the decoder: it has to outlive the call.
    return front.convert(front.load(decoder))

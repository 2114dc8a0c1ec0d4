"""Open the files of a model folder: every check before the library sees a byte."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor

from medseg.errors import ModelError, printable
from medseg.schema import strict_json

MAX_WEIGHTS_BYTES = 4 * 2**30
MAX_HEADER_BYTES = 2**20
MAX_TENSORS = 10_000
# Nesting of a safetensors header: table, tensor, shape.
_HEADER_DEPTH = 3
_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}

Shapes = Mapping[str, tuple[tuple[int, ...], torch.dtype]]


def largest_file(shapes: Shapes) -> int:
    """Return the largest number of bytes that weights of these shapes can take."""
    tensors = sum(math.prod(shape) * dtype.itemsize for shape, dtype in shapes.values())
    return min(8 + MAX_HEADER_BYTES + tensors, MAX_WEIGHTS_BYTES)


def load_weights(
    data: bytes, shapes: Shapes, sha256: str, path: Path
) -> dict[str, Tensor]:
    """Return the tensors in the bytes of a safetensors file, floats as float32.

    Args:
        data: The whole file.
        shapes: Name, shape and dtype of every tensor of the network.
        sha256: What the bytes must hash to.
        path: For the error.

    Raises:
        ModelError: If the hash, the header, a name, a shape or a value is wrong.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        problem = f"has the sha256 {found[:12]}..., expected {sha256[:12]}..."
        remedy = "It was changed or damaged; get the model again from its source"
        raise ModelError(path, problem, remedy)
    header = check_header(data, path)
    _check_names(header, shapes, path)
    tensors = load(data)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() != shapes[name][1].is_floating_point:
            problem = f"tensor {name!r} is {tensor.dtype}, expected {shapes[name][1]}"
            raise ModelError(path, problem)
        if not tensor.isfinite().all():
            count = int((~tensor.isfinite()).sum())
            problem = f"tensor {name!r} has {count} values that are not finite"
            raise ModelError(path, problem, "Train or get the model again")
    return {name: tensor.to(shapes[name][1]) for name, tensor in tensors.items()}


def check_header(data: bytes, path: Path) -> dict[str, tuple[int, ...]]:
    """Check a safetensors header and return the shape of each tensor.

    Source: https://huggingface.co/docs/safetensors (format), made stricter.

    Raises:
        ModelError: If the header is too long, no JSON of the format, or the tensors
            do not cover the file exactly, one after the other.
    """

    def refuse(problem: str) -> ModelError:
        return ModelError(path, problem, "Get the model again from its source")

    if len(data) < 8:
        raise refuse(f"is truncated: {len(data)} bytes, a header needs 8")
    length = int.from_bytes(data[:8], "little")
    if length > min(MAX_HEADER_BYTES, len(data) - 8):
        problem = f"states a header of {length} bytes in a file of {len(data)}"
        raise refuse(f"is no safetensors file or is truncated: it {problem}")
    header = data[8 : 8 + length]
    table = strict_json(header, path, limit=MAX_HEADER_BYTES, depth=_HEADER_DEPTH)
    if not isinstance(table, dict):
        raise refuse("has a header that is no table")
    table.pop("__metadata__", None)
    if len(table) > MAX_TENSORS:
        problem = f"has {len(table)} tensors, at most {MAX_TENSORS} are allowed"
        raise refuse(problem)
    shapes, spans = {}, []
    for name, entry in table.items():
        shape, begin, end = _check_entry(entry, printable(name)[:80], path)
        shapes[name] = shape
        spans.append((begin, end))
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            word = "overlap" if begin < position else "leave a hole"
            raise refuse(f"has tensors that {word} at byte {position}")
        position = end
    if position != len(data) - 8 - length:
        present = len(data) - 8 - length
        problem = f"has {present} bytes of tensors, the header states {position}"
        raise refuse(f"{problem} (truncated, or with trailing bytes)")
    return shapes


def _check_entry(
    entry: object, name: str, path: Path
) -> tuple[tuple[int, ...], int, int]:
    """Return shape and byte span of one header entry, all checked."""

    def counts(value: object) -> list[int]:
        good = isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)
        if not good:
            raise ModelError(path, f"tensor {name!r} has {str(value)[:40]} for sizes")
        return list(value)  # type: ignore[call-overload]

    keys = {"dtype", "shape", "data_offsets"}
    if not isinstance(entry, dict) or set(entry) != keys:
        raise ModelError(path, f"tensor {name!r} does not have exactly {sorted(keys)}")
    dtype = entry["dtype"]
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        allowed = ", ".join(_ITEM_BYTES)
        problem = f"tensor {name!r} has the dtype {str(dtype)[:20]!r}"
        raise ModelError(path, problem, f"Allowed are {allowed}")
    shape, offsets = counts(entry["shape"]), counts(entry["data_offsets"])
    if len(offsets) != 2 or len(shape) > 8:
        raise ModelError(path, f"tensor {name!r} has shape {shape}, offsets {offsets}")
    needed = math.prod(shape) * _ITEM_BYTES[dtype]
    if offsets[1] - offsets[0] != needed:
        present = offsets[1] - offsets[0]
        problem = f"tensor {name!r} has {present} bytes, its shape needs {needed}"
        raise ModelError(path, problem)
    return tuple(shape), offsets[0], offsets[1]


def _check_names(
    found: Mapping[str, tuple[int, ...]], shapes: Shapes, path: Path
) -> None:
    missing, extra = sorted(set(shapes) - set(found)), sorted(set(found) - set(shapes))
    if missing or extra:
        examples = printable(", ".join((missing + extra)[:3]))[:200]
        problem = (
            f"lacks {len(missing)} tensors of the network and has {len(extra)} others"
        )
        raise ModelError(
            path, f"{problem} ({examples})", "The spec names another network"
        )
    for name, shape in found.items():
        if shape != tuple(shapes[name][0]):
            wanted = list(shapes[name][0])
            problem = f"tensor {name!r} has shape {list(shape)}, the network {wanted}"
            raise ModelError(path, problem, "The spec names other arguments")

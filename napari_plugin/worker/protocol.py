"""What the two processes say to each other: one line of JSON a message.

napari to worker (``do``): ``open`` a model, ``start`` a job with its blocks of shared
memory, predict an ``item``, ``finish`` or ``cancel`` the job. Worker to napari
(``event``): ``devices``, ``opened``, ``started``, ``progress``, ``item``, ``done``,
``failed``, ``cancelled``. Pixels never go this way.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import IO, Any, Literal

Message = dict[str, Any]
EngineName = Literal["auto", "torch", "openvino"]
DeviceName = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Options:
    """How a model runs, and what is wanted beside the mask.

    ``tile_size`` bounds the windows of a model that slides them over the image, see
    :func:`medseg.napari_plugin.worker.tiles.in_tiles_of`.
    """

    engine: EngineName = "auto"
    device: DeviceName = "auto"
    test_time_augmentation: bool = False
    probabilities: bool = False
    uncertainty: bool = False
    diameter: float | Literal["auto", "native"] = "auto"
    tile_size: int = 0


@dataclass(frozen=True)
class Devices:
    """What the worker's machine has: the CPU's engine, and the GPU's name if any."""

    cpu: str
    gpu: str = ""


def send(stream: IO[bytes], message: Message) -> None:
    """Write one message.

    Raises:
        OSError: If the other process is gone.
    """
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def receive(stream: IO[bytes]) -> Message | None:
    """Return the next message, None if the other process is gone."""
    line = stream.readline()
    # A process that is killed while it writes leaves half a line.
    return json.loads(line) if line.endswith(b"\n") else None

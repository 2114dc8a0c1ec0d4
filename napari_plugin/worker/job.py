"""A run of a model over one image or many, and what happens to it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.image import Image
from medseg.labels import LabelSet
from medseg.napari_plugin.worker.protocol import Options
from medseg.segmentation import Segmentation, stamped

if TYPE_CHECKING:
    from medseg.geometry import Geometry

State = Literal["waiting", "running", "done", "failed", "cancelled"]
Read = Callable[[int], NDArray[Any]]


@dataclass(frozen=True)
class Stack:
    """Images of one shape that are read when their turn comes.

    Args:
        count: How many.
        shape: Of each one, ``(C, [Z,] Y, X)``.
        dtype: Of each one.
        read: Returns the image of an index; called outside the GUI's thread.
        source: Name for messages.
        spacing: Of the axes ``([Z,] Y, X)``; default: all the same.
        number_on: Cells are numbered on from image to image, as in the slices of a
            volume; else they begin at 1 in each, as in the frames of a movie.
        movie: Cells have one size in all images, that of the first ones.
    """

    count: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Read
    source: str = "image"
    spacing: tuple[float, ...] | None = None
    number_on: bool = False
    movie: bool = False

    @classmethod
    def of(cls, image: Image, dims: int) -> Stack:
        """Return ``image`` whole, or its slices for a model of fewer axes.

        Raises:
            ConfigError: If the model needs more axes than the image has.
        """
        pixels, source = image.pixels, str(image.meta.get("source", "image"))
        extra = image.geometry.ndim - dims
        if extra < 0:
            problem = f"has {image.geometry.ndim} axes, the model needs {dims}"
            raise ConfigError(source, problem, "Choose another model")
        if not extra:
            return cls(
                1,
                pixels.shape,
                pixels.dtype,
                lambda index: pixels,
                source,
                image.geometry.spacing,
            )
        shape = (pixels.shape[0], *pixels.shape[2:])
        return cls(
            pixels.shape[1],
            shape,
            pixels.dtype,
            lambda index: pixels[:, index],
            source,
            image.geometry.spacing[extra:],
            number_on=True,
        )

    def preamble(self) -> str:
        """Return what the hash of an image begins with: dtype and shape of all.

        With it the hash of one-channel slices in order is that of their volume.
        """
        channels, *rest = self.shape
        return f"{self.dtype.str} {(channels, self.count, *rest)} "


@dataclass(frozen=True)
class Opened:
    """The model is ready; ``settings`` is all that decides a result but the image."""

    labels: LabelSet
    engine: str
    device: str
    count: int
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """How far the job is, from 0 to 1, and the seconds left if that is known."""

    share: float
    seconds_left: float | None


@dataclass(frozen=True, eq=False)
class Item:
    """The result of one image; the arrays are the receiver's own.

    ``mask`` is ``(L, [Z,] Y, X)`` for overlapping labels, else ``([Z,] Y, X)``.
    """

    index: int
    mask: NDArray[Any]
    probabilities: NDArray[np.float32] | None = None
    uncertainty: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Done:
    """All images are done; ``provenance`` as the predictor gives it."""

    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Failed:
    """The job ended early; ``crashed`` if the worker went with it."""

    message: str
    crashed: bool = False


@dataclass(frozen=True)
class Cancelled:
    """The job ended because that was asked for."""


Event = Opened | Progress | Item | Done | Failed | Cancelled
_END: dict[type, State] = {Done: "done", Failed: "failed", Cancelled: "cancelled"}


@dataclass(eq=False)
class Job:
    """Ask it what has happened with :meth:`poll`; end it with :meth:`cancel`.

    After :meth:`cancel` no further result arrives.
    """

    id: int
    image: Image | Stack
    model: str
    options: Options
    _stop: Callable[[Job], None]
    state: State = "waiting"
    _events: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue)
    _telling: threading.Lock = field(default_factory=threading.Lock)
    _began: float = 0.0
    _share: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether no event will follow those that are waiting to be polled."""
        return self.state in ("done", "failed", "cancelled")

    def poll(self) -> list[Event]:
        """Return what has happened since the last call; never waits."""
        events = []
        while True:
            try:
                events.append(self._events.get_nowait())
            except queue.Empty:
                return events

    def wait(self, timeout: float) -> list[Event]:
        """Return the events until the end of the job, at most ``timeout`` seconds.

        Raises:
            TimeoutError: If it is not finished by then.
        """
        events: list[Event] = []
        deadline = time.monotonic() + timeout
        while not (events and type(events[-1]) in _END):
            try:
                left = max(0.0, deadline - time.monotonic())
                events.append(self._events.get(timeout=left))
            except queue.Empty as error:
                raise TimeoutError(f"job {self.id} after {timeout:g} s") from error
        return events

    def cancel(self) -> None:
        """End the job now; the worker stops after the tile it is at."""
        self._stop(self)

    def tell(self, event: Event) -> None:
        """Add an event; the client's side of :meth:`poll`."""
        with self._telling:
            if self.finished:
                return
            self.state = _END.get(type(event), "running")
            if type(event) is Opened:
                self._began = time.monotonic()
            self._events.put(event)

    def tell_progress(self, share: float, timed: bool = True) -> None:
        """Add a `Progress` event.

        Args:
            share: From 0 to 1. What is begun again does not take it back.
            timed: Whether the time so far tells how much is left.
        """
        self._share = share = max(share, self._share)
        spent = time.monotonic() - self._began
        left = spent * (1 - share) / share if timed and share > 0 else None
        self.tell(Progress(share, left))


def assemble(events: list[Event], geometry: Geometry) -> Segmentation:
    """Return the segmentation that a finished job's events add up to.

    Args:
        events: All of them, as :meth:`Job.wait` returns them.
        geometry: Of the image.

    Raises:
        ConfigError: If the job did not get to its end; says what stopped it.
    """
    end = events[-1]
    opened = next((e for e in events if isinstance(e, Opened)), None)
    if not isinstance(end, Done) or opened is None:
        problem = end.message if isinstance(end, Failed) else "was cancelled"
        raise ConfigError("prediction", problem)
    items = [e for e in events if isinstance(e, Item)]

    def join(arrays: list[NDArray[Any]], lead: int) -> NDArray[Any]:
        whole = arrays[0].ndim == geometry.ndim + lead
        return arrays[0] if whole else np.stack(arrays, axis=lead)

    overlapping = opened.labels.kind == "overlapping"
    maps: dict[str, Any] = {}
    for name, lead in (("probabilities", 1), ("uncertainty", 0)):
        if getattr(items[0], name) is not None:
            maps[name] = join([getattr(item, name) for item in items], lead)
    mask = join([item.mask for item in items], int(overlapping))
    facts = end.provenance if len(items) == 1 else stamped(end.provenance, mask)
    return Segmentation(mask, opened.labels, geometry, facts, **maps)

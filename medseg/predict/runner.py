"""A prepared image through the network once, and the labels of what it said."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.engines.ladder import Rung
from medseg.errors import FileError
from medseg.image import Image
from medseg.predict.diameter import CellSize
from medseg.predict.ensemble import Ensemble
from medseg.predict.inputs import Array, Read, model_input, padded, scaled
from medseg.predict.masks import Mask, make_mask, mask_builder, relative_spacing
from medseg.predict.windows import blended_slabs, count_windows

Progress = Callable[[int, int], None]

# Up to this many numbers (512 MB) the probabilities of a windowed image or of a
# volume are kept until it is finished; of a larger one only the mask is made.
KEPT = 2**27


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image ready for the network.

    ``image`` is without its pixels (all read as 0, in no memory) where the network's
    input has all that is needed of them. ``inputs`` has one entry a model: the whole
    input ``(C, *size)``, or a function that reads windows of it. It is empty for a
    volume that a 2-D model goes through slice by slice. ``grid`` is the size that the
    network sees, before a Resize, of the image enlarged by ``scale``.
    """

    image: Image
    inputs: tuple[Array | Read, ...]
    grid: tuple[int, ...]
    input_hash: str
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class Inferred:
    """What the network said.

    ``values`` are probabilities ``(K, [Z,] y, x)`` on the network's grid or on the
    image's; ``mask`` is there where labels were made at once. ``scale`` is what the
    image was enlarged by, ``sizes`` are those of its cells, or of the cells of each
    slice. ``device`` and ``fallbacks`` are what it ran with.
    """

    values: Array | None = None
    mask: Mask | None = None
    scale: float = 1.0
    sizes: tuple[CellSize, ...] = ()
    device: str = ""
    fallbacks: tuple[str, ...] = ()


class Runner:
    """The models of a predictor, on their engines, without its settings.

    Args:
        ensemble: The models; the first one's decoding and grid are used.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        self.spec = ensemble.models[0].spec
        self.trained = self.spec.inference.diameter or 1.0

    def prepare(self, image: Image, scale: float, digest: str = "") -> Prepared:
        """Return the input of each model, and the grid that the network sees."""
        pixels = scaled(image.pixels, scale)
        inputs = tuple(model_input(m.spec, pixels) for m in self.ensemble.models)
        inference = self.spec.inference
        if inference.mode == "resize" and inference.diameter is None:
            image = _without_pixels(image)  # looked at once, at one scale
        return Prepared(image, inputs, tuple(pixels.shape[1:]), digest, scale)

    def run(
        self, prepared: Prepared, rung: Rung, progress: Progress | None
    ) -> Inferred:
        """Run the network once over a prepared image."""
        if self.spec.inference.mode == "resize":
            whole = [np.asarray(one)[None] for one in prepared.inputs]
            values = self.ensemble.mean(whole, rung.device)[0]
            if progress is not None:
                progress(1, 1)
            return Inferred(values)
        return self._windows(prepared, rung, progress)

    def mask(self, found: Inferred, image: Image) -> Mask:
        """Return the labels of what was found, on the image's grid."""
        if found.mask is not None:
            return found.mask
        assert found.values is not None  # there are values or a mask
        spacing = relative_spacing(image.geometry)
        size = image.spatial_shape
        return make_mask(found.values, size, self.spec, spacing, found.scale)

    def keeps(self, grid: Sequence[int]) -> bool:
        """Return whether the maps of an image are kept until it is finished."""
        return self.spec.output_channels * math.prod(grid) <= KEPT

    def _windows(
        self, prepared: Prepared, rung: Rung, progress: Progress | None
    ) -> Inferred:
        """Slide over the image; labels are made as soon as rows are finished."""
        size, scale = prepared.grid, prepared.scale
        if self.keeps(size):
            kept = np.empty((self.spec.output_channels, *size), np.float32)
            for rows, values in self._blended(prepared, rung, progress):
                kept[:, rows] = values
            return Inferred(kept, scale=scale)
        if scale != 1:
            problem = f"is too large to be scaled to {size}"
            raise FileError("image", problem, 'Use "native" for the diameter')
        spacing = relative_spacing(prepared.image.geometry)
        builder = mask_builder(self.spec, size, spacing)
        for _, values in self._blended(prepared, rung, progress):
            builder.add(values)
        return Inferred(mask=builder.result())

    def _blended(
        self, prepared: Prepared, rung: Rung, progress: Progress | None
    ) -> Iterator[tuple[slice, Array]]:
        """Yield maps ``(K, rows, ...)`` of the image, from top to bottom."""
        size, overlap = prepared.grid, self.spec.inference.overlap
        padding = [max(0, w - n) for n, w in zip(size, rung.size, strict=True)]
        readers: Sequence[Any] = prepared.inputs
        if any(padding):
            readers = [padded(read, size, padding) for read in readers]
        grid = [n + p for n, p in zip(size, padding, strict=True)]
        inside = [slice(p // 2, p // 2 + n) for n, p in zip(size, padding, strict=True)]
        ends = np.cumsum([m.spec.in_channels for m in self.ensemble.models])[:-1]
        done, total = 0, count_windows(grid, rung.size, overlap)

        def read_all(window: tuple[slice, ...]) -> Array:
            # The models' channels one after the other; run takes them apart again.
            return np.concatenate([read(window) for read in readers])

        def run(batch: Array) -> Array:
            nonlocal done
            maps = self.ensemble.mean(np.split(batch, ends, axis=1), rung.device)
            done += len(batch)
            if progress is not None:
                progress(done, total)
            return maps

        for start, values in blended_slabs(
            read_all, run, grid, rung.size, overlap=overlap, batch=rung.batch
        ):
            low = max(start, inside[0].start)
            high = min(start + values.shape[1], inside[0].stop)
            if low < high:
                part = (slice(None), slice(low - start, high - start), *inside[1:])
                rows = slice(low - inside[0].start, high - inside[0].start)
                yield rows, values[part]


def _without_pixels(image: Image) -> Image:
    """Return an image of the same shape, geometry and facts that holds no memory."""
    blank = np.broadcast_to(image.pixels.dtype.type(0), image.pixels.shape)
    return Image(blank, image.geometry, image.meta)

"""Image in, segmentation out: the one way through."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from medseg.engines import DeviceName, EngineName, Precision
from medseg.engines.ladder import Ladder, Rung
from medseg.errors import FileError, ImageWarning
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.labels import LabelSet
from medseg.model_io import Model
from medseg.model_spec import ModelSpec
from medseg.predict.decode import new_mask
from medseg.predict.diameter import (
    CellSize,
    Diameter,
    check_diameter,
    median_diameter,
    middle,
    settle,
    stated,
    stated_of,
    typical,
)
from medseg.predict.ensemble import Ensemble
from medseg.predict.inputs import Array, Read, model_input, padded, scaled
from medseg.predict.masks import (
    Mask,
    fine_rows,
    make_maps,
    make_mask,
    mask_builder,
    relative_spacing,
)
from medseg.predict.provenance import describe, pixel_hash, reported, source
from medseg.predict.windows import blended_slabs, count_windows
from medseg.segmentation import Segmentation

Progress = Callable[[int, int], None]


# Up to this many numbers (512 MB) the probabilities of a windowed image or of a
# volume are kept until it is finished; of a larger one only the mask is made.
KEPT = 2**27


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image ready for the network.

    ``inputs`` has one entry a model: the whole input ``(C, *size)``, or a function
    that reads windows of it. It is empty for a volume that a 2-D model goes through
    slice by slice. ``grid`` is the size that the network sees, before a Resize, of
    the image enlarged by ``scale``.
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


class Predictor:
    """Segments images with a model, or with the mean of several.

    The model loads and compiles once, here. :meth:`predict` is :meth:`prepare`,
    :meth:`infer` and :meth:`finish` in a row; a folder run calls the three in
    different threads, so that reading, inference and writing overlap.

    Args:
        model: One, or several with the same labels: their probabilities are averaged.
        engine: See :func:`medseg.engines.choose`.
        device: See :func:`medseg.engines.choose`.
        test_time_augmentation: Average over the flips that each model's spec names.
        threads: CPU threads of one inference; default: all physical cores.
        precision: See :func:`medseg.engines.make_engine`.
        streams: Inferences that may run at the same time.
        diameter: Of the cells in the images, in pixels: the network sees them scaled
            to the size that it learnt. ``"auto"`` finds it for each image (for each
            slice of a volume), see :mod:`medseg.predict.diameter`; ``"native"`` takes
            images as they are. A model that does not state a diameter sees them so
            anyway.

    Raises:
        ConfigError: If models disagree, an engine is not there, a model names no
            flips for the augmentation or no diameter to scale to, or the diameter is
            out of range.
    """

    def __init__(
        self,
        model: Model | Sequence[Model],
        *,
        engine: EngineName = "auto",
        device: DeviceName = "auto",
        test_time_augmentation: bool = False,
        threads: int | None = None,
        precision: Precision | None = None,
        streams: int = 1,
        diameter: Diameter = "auto",
    ) -> None:
        self.models = (model,) if isinstance(model, Model) else tuple(model)
        self.streams = streams
        self._ensemble = Ensemble(
            self.models,
            test_time_augmentation,
            engine=engine,
            device=device,
            threads=threads,
            precision=precision,
            streams=streams,
        )
        self._trained = self.spec.inference.diameter or 1.0
        self._size = check_diameter(diameter, self.spec)
        self._ladder = Ladder(self.spec.inference, self._ensemble.engine.device)
        self._settings = describe(self.models, self._ensemble.engine)
        self._settings["parameters"]["test_time_augmentation"] = test_time_augmentation
        if self.spec.inference.diameter is not None:
            self._settings["parameters"] |= stated(diameter, self._size)

    @property
    def spec(self) -> ModelSpec:
        """The spec of the first model, whose decoding and grid are used."""
        return self.models[0].spec

    @property
    def labels(self) -> LabelSet:
        """What the masks will mean."""
        return self.spec.labels

    @property
    def engine(self) -> str:
        """Name of the engine."""
        return self._ensemble.engine.name

    @property
    def device(self) -> str:
        """Device in use; the CPU once a GPU has run out of memory."""
        return self._ladder.rung.device

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """Settings gone down to for want of memory, in order."""
        return self._ladder.fallbacks

    @property
    def looks_for_size(self) -> bool:
        """Whether it finds the size of the cells in each image by itself."""
        return self._size is None

    def describe(self) -> Mapping[str, Any]:
        """Return everything that decides a result apart from the image.

        ``model`` and ``model_hash`` stand for all models of an ensemble.
        """
        return {**self._settings, "device": self.device}

    def cell_size(
        self, images: Iterable[Image], progress: Progress | None = None
    ) -> CellSize:
        """Return the size of the cells in images that are alike, as a movie's frames.

        That which was given, or where none was, what is found in them.

        Args:
            images: Read one at a time; the median counts.
            progress: As for :meth:`predict`, for each image.

        Raises:
            FileError: As for :meth:`predict`.
        """
        if self._size is not None:
            return self._size
        sizes: list[CellSize] = []
        for image in images:
            sizes += self.infer(self.prepare(image), progress).sizes
        return typical(sizes, self._trained)

    def sized(self, size: CellSize) -> Predictor:
        """Return this predictor, of the same engines, for cells of one size."""
        other = copy.copy(self)
        other._size = size
        parameters = self._settings["parameters"] | stated(size.diameter, size)
        other._settings = {**self._settings, "parameters": parameters}
        return other

    def predict(
        self,
        image: Image,
        *,
        probabilities: bool = False,
        uncertainty: bool = False,
        progress: Progress | None = None,
    ) -> Segmentation:
        """Return the segmentation of ``image`` on its own grid.

        Args:
            image: ``(C, Y, X)``, or ``(C, Z, Y, X)``; a 2-D model goes through a
                volume slice by slice.
            probabilities: Keep the map of each channel ``(K, [Z,] Y, X)``.
            uncertainty: Keep the entropy of the mean probability ``([Z,] Y, X)``.
            progress: Called with (done, total) after every batch of windows, or
                slice of a volume; what it raises ends the prediction. It begins again
                where the image is looked at again at another scale.

        Raises:
            FileError: If the image does not suit the model, memory does not suffice,
                or the network gives numbers that are not finite.
        """
        prepared = self.prepare(image)
        return self.finish(
            prepared,
            self.infer(prepared, progress),
            probabilities=probabilities,
            uncertainty=uncertainty,
        )

    def prepare(self, image: Image) -> Prepared:
        """Do what comes before the network; may run in any thread.

        Raises:
            FileError: If the image does not suit the model.
        """
        dims = self.spec.spatial_dims
        if image.geometry.ndim not in (dims, 3):
            problem = f"has {image.geometry.ndim} axes, the model needs {dims}"
            raise FileError(source(image), problem, "Choose another model")
        with reported(image):
            digest = pixel_hash(image.pixels)
            if image.geometry.ndim != dims:
                return Prepared(image, (), image.spatial_shape, digest)
            return self._scaled(image, self._scale, digest)

    def infer(self, prepared: Prepared, progress: Progress | None = None) -> Inferred:
        """Run the network. When a GPU runs out of memory, go down the ladder.

        Args:
            prepared: From :meth:`prepare`.
            progress: As for :meth:`predict`; a lower rung begins again.

        Raises:
            FileError: If memory does not suffice even at the bottom of the ladder, or
                the network gives numbers that are not finite.
        """
        with reported(prepared.image):
            while True:
                try:
                    found = self._infer(prepared, self._ladder.rung, progress)
                    return replace(found, device=self.device, fallbacks=self.fallbacks)
                except torch.OutOfMemoryError as error:
                    problem = f"needs more memory: {str(error).splitlines()[0]}"
                    down = self._ladder.step_down(error)
                if not down:
                    remedy = "Use a smaller image or another machine"
                    raise FileError(source(prepared.image), problem, remedy)
                # Outside the handler: its traceback keeps the tensors alive.
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()

    def finish(
        self,
        prepared: Prepared,
        inferred: Inferred,
        *,
        probabilities: bool = False,
        uncertainty: bool = False,
    ) -> Segmentation:
        """Turn what the network said into labels on the image's grid.

        May run in any thread. Arguments as for :meth:`predict`.

        Raises:
            FileError: If memory does not suffice.
        """
        image, mask, values = prepared.image, inferred.mask, inferred.values
        maps: dict[str, Array] = {}
        with reported(image):
            if mask is None:
                assert values is not None  # infer makes one or the other
                mask = self._mask(values, image, inferred.scale)
            if probabilities or uncertainty:
                if values is None:
                    problem = f"{image.spatial_shape} is too large for probabilities"
                    raise FileError("image", problem, "Ask for the mask alone")
                maps = make_maps(
                    values,
                    image.spatial_shape,
                    self.spec,
                    probabilities=probabilities,
                    uncertainty=uncertainty,
                )
        provenance = {
            **self._settings,
            "device": inferred.device,
            "input_sha256": prepared.input_hash,
            "fallbacks": list(inferred.fallbacks),
        }
        if self.looks_for_size:
            found = stated_of(inferred.sizes)
            provenance["parameters"] = self._settings["parameters"] | found
        return Segmentation(mask, self.labels, image.geometry, provenance, **maps)

    def _infer(
        self, prepared: Prepared, rung: Rung, progress: Progress | None
    ) -> Inferred:
        if not prepared.inputs:
            return self._slices(prepared, rung, progress)
        if self.looks_for_size:
            return self._look(prepared, rung, progress)
        return self._run(prepared, rung, progress)

    def _look(
        self, prepared: Prepared, rung: Rung, progress: Progress | None
    ) -> Inferred:
        """Find the size of the cells, and with it the cells."""
        image, last = prepared.image, Inferred(scale=0.0)
        spacing, shape = relative_spacing(image.geometry), image.spatial_shape

        def look(scale: float) -> float:
            nonlocal last
            last = Inferred(scale=0.0)  # its memory goes first
            part = middle(shape, scale)
            whole = all(p.stop - p.start == n for p, n in zip(part, shape, strict=True))
            one = image if whole else _cut(image, part)
            ready = prepared if whole and scale == 1 else self._scaled(one, scale)
            found = self._run(ready, rung, progress)
            mask = found.mask
            if mask is None:
                assert found.values is not None  # there are values or a mask
                mask = self._mask(found.values, one, scale)
            if whole:
                last = replace(found, mask=mask)
            return median_diameter(mask, spacing)

        size = self._fitting(settle(look, self._trained), image)
        scale = size.scale(self._trained)
        if last.scale != scale:
            ready = prepared if scale == 1 else self._scaled(image, scale)
            last = self._run(ready, rung, progress)
        return replace(last, sizes=(size,))

    def _fitting(self, size: CellSize, image: Image) -> CellSize:
        """Leave an image alone that memory does not let be scaled; say so."""
        scale = size.scale(self._trained)
        grid = [max(1, round(n * scale)) for n in image.spatial_shape]
        if scale == 1 or self._kept(grid):
            return size
        problem = (
            f"{source(image)} is too large to be scaled to its cells of "
            f"{size.diameter:.0f} pixels; it is segmented as it is"
        )
        warnings.warn(problem, ImageWarning, stacklevel=2)
        return CellSize(self._trained, "too large")

    def _kept(self, grid: Sequence[int]) -> bool:
        """Whether the maps of an image are kept until it is finished."""
        return self.spec.output_channels * math.prod(grid) <= KEPT

    def _run(
        self, prepared: Prepared, rung: Rung, progress: Progress | None
    ) -> Inferred:
        """Run the network once over a prepared image."""
        if self.spec.inference.mode == "resize":
            whole = [np.asarray(one)[None] for one in prepared.inputs]
            values = self._ensemble.mean(whole, rung.device)[0]
            if progress is not None:
                progress(1, 1)
            return Inferred(values)
        return self._windows(prepared, rung, progress)

    def _slices(
        self, prepared: Prepared, rung: Rung, progress: Progress | None
    ) -> Inferred:
        """Go through a volume along its first axis with a 2-D model.

        Cells are numbered on from slice to slice; nothing links them.
        """
        image, size = prepared.image, prepared.image.spatial_shape
        mask, stack, cells = new_mask(self.labels, size), [], 0
        keep, sizes = self._kept(size), tuple[CellSize, ...]()
        for z in range(size[0]):
            plane = Image(image.pixels[:, z], _plane(image.geometry), image.meta)
            found = self._infer(self._scaled(plane, self._scale), rung, None)
            labels, sizes = found.mask, sizes + found.sizes
            if labels is None and found.values is not None:
                labels = self._mask(found.values, plane, found.scale)
            if found.values is not None and keep:
                stack.append(_on_grid(found, size[1:]))
            assert labels is not None  # there are values or a mask
            if self.labels.kind == "instances":
                labels = np.where(labels > 0, labels + cells, 0)
                cells = max(cells, int(labels.max(initial=0)))
            rows = mask[:, z] if self.labels.kind == "overlapping" else mask[z]
            rows[...] = labels
            if progress is not None:
                progress(z + 1, size[0])
        values = np.stack(stack, axis=1) if stack else None
        return Inferred(values, mask, sizes=sizes)

    def _windows(
        self, prepared: Prepared, rung: Rung, progress: Progress | None
    ) -> Inferred:
        """Slide over the image; labels are made as soon as rows are finished."""
        size, scale = prepared.grid, prepared.scale
        if self._kept(size):
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
        ends = np.cumsum([m.spec.in_channels for m in self.models])[:-1]
        done, total = 0, count_windows(grid, rung.size, overlap)

        def read_all(window: tuple[slice, ...]) -> Array:
            # The models' channels one after the other; run takes them apart again.
            return np.concatenate([read(window) for read in readers])

        def run(batch: Array) -> Array:
            nonlocal done
            maps = self._ensemble.mean(np.split(batch, ends, axis=1), rung.device)
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

    @property
    def _scale(self) -> float:
        """What images are enlarged by; 1 as long as their size is to be found."""
        return 1.0 if self._size is None else self._size.scale(self._trained)

    def _scaled(self, image: Image, scale: float, digest: str = "") -> Prepared:
        """Return the input of each model, and the grid that the network sees."""
        pixels = scaled(image.pixels, scale)
        inputs = tuple(model_input(m.spec, pixels) for m in self.models)
        return Prepared(image, inputs, tuple(pixels.shape[1:]), digest, scale)

    def _mask(self, values: Array, image: Image, scale: float) -> Mask:
        spacing = relative_spacing(image.geometry)
        return make_mask(values, image.spatial_shape, self.spec, spacing, scale)


def _plane(geometry: Geometry) -> Geometry:
    """Return the geometry of one slice of a volume, as far as a model asks."""
    return Geometry.upright(geometry.spacing[1:], geometry.unit)


def _cut(image: Image, part: tuple[slice, ...]) -> Image:
    """Return a part of an image, as far as a model asks."""
    geometry = Geometry.upright(image.geometry.spacing, image.geometry.unit)
    return Image(image.pixels[(slice(None), *part)], geometry, image.meta)


def _on_grid(found: Inferred, size: Sequence[int]) -> Array:
    """Return the maps of a slice; if it was scaled, on the grid of all slices."""
    assert found.values is not None  # asked before
    if found.scale == 1:
        return found.values
    return fine_rows(found.values, size, slice(0, size[0]))

"""Image in, segmentation out: the one way through."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medseg import __version__
from medseg.engines import DeviceName, Engine, EngineName, Precision
from medseg.engines.ladder import Ladder, Rung
from medseg.errors import ConfigError, FileError
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.labels import LabelSet
from medseg.model_io import Model
from medseg.model_spec import ModelSpec
from medseg.predict.decode import (
    clean_mask,
    clean_probabilities,
    decode,
    decode_resampled,
    entropy,
    new_mask,
    resample,
    slabs,
)
from medseg.predict.ensemble import Ensemble
from medseg.predict.windows import blended_slabs
from medseg.segmentation import Segmentation
from medseg.transforms import sample, to_channels

Array = NDArray[np.float32]
Mask = NDArray[np.unsignedinteger]
Read = Callable[[tuple[slice, ...]], Array]


# Up to this many numbers (512 MB) the probabilities of a windowed image or of a
# volume are kept until it is finished; of a larger one only the mask is made.
KEPT = 2**27


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image ready for the network.

    ``inputs`` has one entry a model: the whole input ``(C, *size)``, or a function
    that reads windows of it. It is empty for a volume that a 2-D model goes through
    slice by slice.
    """

    image: Image
    inputs: tuple[Array | Read, ...]
    input_hash: str


@dataclass(frozen=True, eq=False)
class Inferred:
    """What the network said.

    ``values`` are probabilities ``(K, [Z,] y, x)`` on the network's grid or on the
    image's; ``mask`` is there where labels were made at once. ``device`` and
    ``fallbacks`` are what it ran with.
    """

    values: Array | None = None
    mask: Mask | None = None
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

    Raises:
        ConfigError: If models disagree, an engine is not there, or a model names no
            flips for the augmentation.
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
        self._ladder = Ladder(self.spec.inference, self._ensemble.engine.device)
        self._settings = _describe(self.models, self._ensemble.engine)
        self._settings["parameters"]["test_time_augmentation"] = test_time_augmentation

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

    def describe(self) -> Mapping[str, Any]:
        """Return everything that decides a result apart from the image.

        ``model`` and ``model_hash`` stand for all models of an ensemble.
        """
        return {**self._settings, "device": self.device}

    def predict(
        self, image: Image, *, probabilities: bool = False, uncertainty: bool = False
    ) -> Segmentation:
        """Return the segmentation of ``image`` on its own grid.

        Args:
            image: ``(C, Y, X)``, or ``(C, Z, Y, X)``; a 2-D model goes through a
                volume slice by slice.
            probabilities: Keep the map of each channel ``(K, [Z,] Y, X)``.
            uncertainty: Keep the entropy of the mean probability ``([Z,] Y, X)``.

        Raises:
            FileError: If the image does not suit the model, memory does not suffice,
                or the network gives numbers that are not finite.
        """
        prepared = self.prepare(image)
        return self.finish(
            prepared,
            self.infer(prepared),
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
            raise FileError(_source(image), problem, "Choose another model")
        inputs: tuple[Array | Read, ...] = ()
        with _reported(image):
            if image.geometry.ndim == dims:
                inputs = tuple(self._input(m.spec, image.pixels) for m in self.models)
            digest = _hash(image.pixels)
        return Prepared(image, inputs, digest)

    def infer(self, prepared: Prepared) -> Inferred:
        """Run the network. When a GPU runs out of memory, go down the ladder.

        Raises:
            FileError: If memory does not suffice even at the bottom of the ladder, or
                the network gives numbers that are not finite.
        """
        with _reported(prepared.image):
            while True:
                try:
                    found = self._infer(prepared, self._ladder.rung)
                    return replace(found, device=self.device, fallbacks=self.fallbacks)
                except torch.OutOfMemoryError as error:
                    problem = f"needs more memory: {str(error).splitlines()[0]}"
                    down = self._ladder.step_down(error)
                if not down:
                    remedy = "Use a smaller image or another machine"
                    raise FileError(_source(prepared.image), problem, remedy)
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
        with _reported(image):
            if mask is None:
                assert values is not None  # infer makes one or the other
                mask = self._mask(values, image.spatial_shape)
            if probabilities or uncertainty:
                if values is None:
                    problem = f"{image.spatial_shape} is too large for probabilities"
                    raise FileError("image", problem, "Ask for the mask alone")
                maps = self._maps(
                    values, image.spatial_shape, probabilities, uncertainty
                )
        provenance = {
            **self._settings,
            "device": inferred.device,
            "input_sha256": prepared.input_hash,
            "fallbacks": list(inferred.fallbacks),
        }
        return Segmentation(mask, self.labels, image.geometry, provenance, **maps)

    def _input(self, spec: ModelSpec, pixels: NDArray[Any]) -> Array | Read:
        """Return the whole input of one model, or the reader of its windows."""
        preprocessing = spec.build_preprocessing()
        if spec.inference.mode == "resize":
            return preprocessing(to_channels(pixels, spec.channels)).numpy()
        if preprocessing.pointwise:
            measured = to_channels(sample(pixels), spec.channels)
            apply = preprocessing.fit(measured)

            def read(window: tuple[slice, ...]) -> Array:
                part = pixels[(slice(None), *window)]
                return apply(to_channels(part, spec.channels)).numpy()

            return read
        whole = preprocessing(to_channels(pixels, spec.channels)).numpy()
        return lambda window: whole[(slice(None), *window)]

    def _infer(self, prepared: Prepared, rung: Rung) -> Inferred:
        if not prepared.inputs:
            return self._slices(prepared, rung)
        if self.spec.inference.mode == "resize":
            whole = [np.asarray(one)[None] for one in prepared.inputs]
            return Inferred(values=self._ensemble.mean(whole, rung.device)[0])
        return self._windows(prepared, rung)

    def _slices(self, prepared: Prepared, rung: Rung) -> Inferred:
        """Go through a volume along its first axis with a 2-D model."""
        pixels, size = prepared.image.pixels, prepared.image.spatial_shape
        mask, stack = new_mask(self.labels, size), []
        keep = self.labels.output_channels * int(np.prod(size)) <= KEPT
        for z in range(size[0]):
            plane = Image(pixels[:, z], Geometry.pixels(2), prepared.image.meta)
            inputs = tuple(self._input(m.spec, plane.pixels) for m in self.models)
            found = self._infer(Prepared(plane, inputs, ""), rung)
            if found.values is not None:
                labels = self._mask(found.values, size[1:])
                stack += [found.values] if keep else []
            else:
                assert found.mask is not None  # one or the other is there
                labels = found.mask
            self._rows(mask, slice(z, z + 1))[...] = np.expand_dims(labels, -3)
        return Inferred(np.stack(stack, axis=1) if stack else None, mask)

    def _windows(self, prepared: Prepared, rung: Rung) -> Inferred:
        """Slide over the image; labels are made as soon as rows are finished."""
        size, channels = prepared.image.spatial_shape, self.labels.output_channels
        keep = channels * int(np.prod(size)) <= KEPT
        kept = np.empty((channels, *size), np.float32) if keep else None
        mask = None if keep else new_mask(self.labels, size)
        for rows, values in self._blended(prepared, rung):
            if kept is not None:
                kept[:, rows] = values
            if mask is not None:
                part = decode(values, self.labels, self.spec.decoding)
                self._rows(mask, rows)[...] = part
        if mask is not None:
            clean_mask(mask, self.labels, self.spec.decoding.steps)
        return Inferred(kept, mask)

    def _blended(self, prepared: Prepared, rung: Rung) -> Iterator[tuple[slice, Array]]:
        """Yield probabilities ``(K, rows, ...)`` of the image, from top to bottom."""
        size = prepared.image.spatial_shape
        padding = [max(0, w - n) for n, w in zip(size, rung.size, strict=True)]
        readers: Sequence[Any] = prepared.inputs
        if any(padding):
            readers = [_padded(read, size, padding) for read in readers]
        grid = [n + p for n, p in zip(size, padding, strict=True)]
        inside = [slice(p // 2, p // 2 + n) for n, p in zip(size, padding, strict=True)]
        ends = np.cumsum([m.spec.in_channels for m in self.models])[:-1]

        def read_all(window: tuple[slice, ...]) -> Array:
            # The models' channels one after the other; run takes them apart again.
            return np.concatenate([read(window) for read in readers])

        def run(batch: Array) -> Array:
            return self._ensemble.mean(np.split(batch, ends, axis=1), rung.device)

        for start, values in blended_slabs(
            read_all,
            run,
            grid,
            rung.size,
            overlap=self.spec.inference.overlap,
            batch=rung.batch,
        ):
            low = max(start, inside[0].start)
            high = min(start + values.shape[1], inside[0].stop)
            if low < high:
                part = (slice(None), slice(low - start, high - start), *inside[1:])
                rows = slice(low - inside[0].start, high - inside[0].start)
                yield rows, values[part]

    def _rows(self, mask: Mask, rows: slice) -> Mask:
        """Return a view of some rows (slices of a volume) of a mask."""
        return mask[:, rows] if self.labels.kind == "overlapping" else mask[rows]

    def _mask(self, values: Array, size: Sequence[int]) -> Mask:
        """Return the mask on a grid of ``size``, cleaned on both grids."""
        decoding = self.spec.decoding
        if values.shape[1:] == tuple(size):
            mask = decode(values, self.labels, decoding)
            clean_mask(mask, self.labels, decoding.steps)
            return mask
        clean = clean_probabilities(values, self.labels, decoding)
        mask = decode_resampled(clean, size, self.labels, decoding)
        clean_mask(mask, self.labels, decoding.steps, again=True)
        return mask

    def _maps(
        self, values: Array, size: Sequence[int], probabilities: bool, uncertainty: bool
    ) -> dict[str, Array]:
        """Return the maps asked for on the image's grid, made slab by slab."""
        maps: dict[str, Array] = {}
        if probabilities:
            maps["probabilities"] = np.empty((len(values), *size), np.float32)
        if uncertainty:
            maps["uncertainty"] = np.empty(tuple(size), np.float32)
        exclusive = self.labels.kind == "exclusive"
        for rows in slabs(size, len(values)):
            window = [rows, *(slice(0, n) for n in size[1:])]
            fine = np.stack([resample(one, size, window) for one in values])
            if probabilities:
                maps["probabilities"][:, rows] = fine
            if uncertainty:
                maps["uncertainty"][rows] = entropy(fine, exclusive)
        return maps


def _describe(models: Sequence[Model], engine: Engine) -> dict[str, Any]:
    """Return what decides a result apart from the image."""
    inference, decoding = models[0].spec.inference, models[0].spec.decoding
    hashes = [m.sha256 for m in models]
    several = hashlib.sha256("".join(hashes).encode()).hexdigest()
    return {
        "model": " + ".join(m.spec.name for m in models),
        "model_hash": hashes[0] if len(models) == 1 else several,
        "models": [
            {
                "name": m.spec.name,
                "version": m.spec.version,
                "weights_sha256": m.sha256,
            }
            for m in models
        ],
        "versions": {
            "medseg": __version__,
            "torch": torch.__version__,
            "monai": version("monai"),
            **_engine_version(engine),
        },
        "engine": engine.name,
        "device": engine.device,
        "precision": engine.precision,
        "parameters": {
            "mode": inference.mode,
            "size": list(inference.size),
            "overlap": inference.overlap,
            "batch": inference.batch,
            "decoding": decoding.name,
            "thresholds": list(decoding.thresholds),
        },
    }


def _engine_version(engine: Engine) -> dict[str, str]:
    """Return the version of the engine in use; others need not be installed."""
    return {"openvino": version("openvino")} if engine.name == "openvino" else {}


def _padded(read: Read, size: Sequence[int], padding: Sequence[int]) -> Read:
    """Return a reader of the image widened by its own edge to the window's size."""
    whole = read(tuple(slice(0, n) for n in size))
    sides = [(0, 0), *((p // 2, p - p // 2) for p in padding)]
    wide = np.pad(whole, sides, mode="edge")
    return lambda window: wide[(slice(None), *window)]


def _source(image: Image) -> str:
    return str(image.meta.get("source", "image"))


def _hash(pixels: NDArray[Any]) -> str:
    """Return the sha256 of dtype, shape and pixels."""
    digest = hashlib.sha256(f"{pixels.dtype.str} {pixels.shape} ".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


@contextmanager
def _reported(image: Image) -> Iterator[None]:
    """Report what goes wrong with an image as an error of its file."""
    try:
        yield
    except (ConfigError, FileError) as error:
        raise FileError(_source(image), error.problem, error.remedy) from error
    except MemoryError as error:
        remedy = "Use a smaller image or a machine with more memory"
        problem = f"needs more memory than there is ({error})"
        raise FileError(_source(image), problem, remedy) from error

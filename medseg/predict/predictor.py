"""Image in, segmentation out: the one way through."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from medseg.channels import check_channels
from medseg.engines import DeviceName, EngineName, Precision
from medseg.engines.ladder import Ladder, Rung
from medseg.errors import FileError
from medseg.image import Image
from medseg.labels import LabelSet
from medseg.model_io import Model
from medseg.model_spec import ModelSpec
from medseg.predict.diameter import (
    CellSize,
    Diameter,
    check_diameter,
    stated,
    stated_of,
    typical,
)
from medseg.predict.ensemble import Ensemble
from medseg.predict.inputs import Array
from medseg.predict.masks import make_maps
from medseg.predict.provenance import describe, pixel_hash, reported, source
from medseg.predict.runner import Inferred, Prepared, Progress, Runner
from medseg.predict.sizing import run_sized
from medseg.predict.slices import check_slices, run_slices
from medseg.segmentation import Segmentation, stamped


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
        self._runner = Runner(self._ensemble)
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
        return typical(sizes, self._runner.trained)

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
            FileError: If the image does not suit the model, or is a volume whose
                slices are single lines.
        """
        dims = self.spec.spatial_dims
        if image.geometry.ndim not in (dims, 3):
            problem = f"has {image.geometry.ndim} axes, the model needs {dims}"
            raise FileError(source(image), problem, "Choose another model")
        with reported(image):
            for model in self.models:
                check_channels(image, model.spec.channels)
            digest = pixel_hash(image.pixels)
            if image.geometry.ndim != dims:
                check_slices(image.spatial_shape)
                return Prepared(image, (), image.spatial_shape, digest)
            return self._prepared(image, digest)

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
        image, values = prepared.image, inferred.values
        maps: dict[str, Array] = {}
        with reported(image):
            mask = self._runner.mask(inferred, image)
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
        stamp = stamped(provenance, mask)
        return Segmentation(mask, self.labels, image.geometry, stamp, **maps)

    def _infer(
        self, prepared: Prepared, rung: Rung, progress: Progress | None
    ) -> Inferred:
        if not prepared.inputs:

            def infer(plane: Image) -> Inferred:
                return self._infer(self._prepared(plane), rung, None)

            return run_slices(self._runner, prepared.image, infer, progress)
        if self.looks_for_size:
            return run_sized(self._runner, prepared, rung, progress)
        return self._runner.run(prepared, rung, progress)

    def _prepared(self, image: Image, digest: str = "") -> Prepared:
        """Return an image as it is seen first: as it is if its scale is looked for."""
        size = self._size
        scale = 1.0 if size is None else size.scale(self._runner.trained)
        return self._runner.prepare(image, scale, digest)

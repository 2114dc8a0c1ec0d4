"""The worker's job at hand: images in shared memory, and their results beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.image import Image
from medseg.segmentation import MASK_HASH

if TYPE_CHECKING:
    from medseg.geometry import Geometry
    from medseg.napari_plugin.worker.protocol import Options
    from medseg.napari_plugin.worker.shared import Block
    from medseg.predict import Predictor

Report = Callable[[int, int], None]


class Task:
    """The job at hand: a predictor and the memory for images and results."""

    def __init__(
        self,
        predictor: Predictor,
        options: Options,
        blocks: list[Block],
        digest: Any,
        geometry: Geometry,
        number_on: bool,
        look: int,
        source: str,
    ) -> None:
        self._predictor, self._options = predictor, options
        self._blocks, self._digest, self._source = blocks, digest, source
        self._geometry, self._number_on = geometry, number_on
        self._provenance: dict[str, Any] = {}
        self._sizes: list[tuple[float, str]] = []
        self._look, self._waiting = look, list[tuple[int, int]]()
        self._count = self._cells = 0

    def take(self, index: int, slot: int, report: Report) -> list[tuple[int, int]]:
        """Return index and slot of the images that can be segmented now.

        The first frames of a movie wait for each other: the cells of all frames have
        the size that is found in these, as in ``medseg track``.
        """
        self._waiting.append((index, slot))
        if len(self._waiting) < self._look:
            return []
        if self._look:
            images = (self._image(place) for _, place in self._waiting)
            size = self._predictor.cell_size(images, report)
            self._predictor, self._look = self._predictor.sized(size), 0
        ready, self._waiting = self._waiting, []
        return ready

    def _image(self, slot: int) -> Image:
        pixels = self._blocks[slot].arrays["pixels"]
        return Image(pixels, self._geometry, {"source": self._source})

    def run(self, slot: int, report: Report) -> None:
        """Segment the image in a block and put the results beside it."""
        report(0, 1)
        arrays, image = self._blocks[slot].arrays, self._image(slot)
        found = self._predictor.predict(
            image,
            probabilities=self._options.probabilities,
            uncertainty=self._options.uncertainty,
            progress=report,
        )
        arrays["mask"][...] = found.mask
        if self._number_on:  # as the predictor does in a volume
            mask = arrays["mask"]
            mask[mask > 0] += self._cells
            self._cells = max(self._cells, int(mask.max(initial=0)))
        for name in ("probabilities", "uncertainty"):
            if name in arrays:
                arrays[name][...] = getattr(found, name)
        self._digest.update(np.ascontiguousarray(image.pixels).data)
        self._provenance = dict(found.provenance)
        if self._predictor.looks_for_size:
            facts = found.provenance["parameters"]
            self._sizes.append((facts["diameter"], facts["diameter_from"]))
        self._count += 1

    def provenance(self) -> dict[str, Any]:
        """Return what the predictor says, with the hash of all that went in.

        That of the mask is in it only where one image was all.
        """
        if self._count == 1:
            return self._provenance
        facts = {**self._provenance, "input_sha256": self._digest.hexdigest()}
        facts.pop(MASK_HASH, None)  # of the last slice
        if self._sizes:  # a list of the slices, as the predictor has for a volume
            diameters, origins = (
                list(values) for values in zip(*self._sizes, strict=True)
            )
            sizes = {"diameter": diameters, "diameter_from": origins}
            facts["parameters"] = {**facts["parameters"], **sizes}
        return facts

    def close(self) -> None:
        """Give the shared memory back."""
        for block in self._blocks:
            block.close()

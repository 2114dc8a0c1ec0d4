"""Sample data: drawn offline, with truth that lies on it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.layers import Layer

from medseg.labels import chest_labels
from medseg.napari_plugin import _samples
from medseg.napari_plugin.layers import (
    LayerData,
    facts_of,
    geometry_of,
)
from medseg.napari_plugin.layers_to_mask import segmentation_from_layers


def of(kind: str, layers: list[LayerData]) -> list[Layer]:
    return [Layer.create(*x) for x in layers if x[2] == kind]


def test_the_film_has_five_structures() -> None:
    layers = _samples.film()
    (image,), truth = of("image", layers), of("labels", layers)
    assert not any(x.visible for x in truth)
    seg = segmentation_from_layers(truth)
    assert seg.labels == chest_labels()
    assert seg.mask.shape[1:] == image.data.shape
    assert all(seg.structure(n).any() for n in seg.labels.names)
    assert geometry_of(image).unit == "px"


def test_the_volume_has_thick_slices() -> None:
    layers = _samples.volume()
    (image,), (truth,) = of("image", layers), of("labels", layers)
    assert geometry_of(image) == geometry_of(truth)
    assert geometry_of(image).spacing == (3.0, 1.0, 1.0)
    dark = [image.data[truth.data == v].mean() for v in (1, 2, 3)]
    assert max(dark[:2]) < 1000 < 2000 < dark[2]


def test_the_movie_has_masks_and_divisions() -> None:
    layers = _samples.movie()
    (image,), (masks,) = of("image", layers), of("labels", layers)
    (tracks,) = of("tracks", layers)
    assert image.data.shape == masks.data.shape
    assert facts_of(masks)["labels"].kind == "instances"
    track, frame, y, x = tracks.data[0]
    cell = masks.data[int(frame)] == int(track)
    np.testing.assert_allclose(np.argwhere(cell).mean(axis=0), (y, x))
    assert any(len([c for c, p in tracks.graph.items() if p == q]) == 2
               for q in tracks.graph.values())  # fmt: skip


@pytest.mark.parametrize("name", ["film", "volume", "movie"])
def test_samples_are_the_same_every_time(name: str) -> None:
    draw = getattr(_samples, name)
    for one, two in zip(draw(), draw(), strict=True):
        np.testing.assert_array_equal(one[0], two[0])

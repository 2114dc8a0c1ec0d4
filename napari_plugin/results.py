"""Layers that a run of a model fills, slice by slice. No Qt, no torch.

What a person has drawn is never overwritten without a word: a run makes new layers,
unless the slices that it fills are empty, or replacing was asked for, which is one
undo step a slice.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.labels import Label, LabelSet
from medseg.napari_plugin.history import apply_mask
from medseg.napari_plugin.layers import (
    GREY,
    KEY,
    PLACE,
    colours,
    facts,
    facts_of,
    geometry_if_known,
    structure_layer_name,
)
from medseg.napari_plugin.origin import file_of
from medseg.napari_plugin.scope import Index, Planes, position
from medseg.napari_plugin.unsaved import keeper_of
from medseg.napari_plugin.worker.job import Item

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

Role = Literal["mask", "probability", "uncertainty"]
_COLOURMAPS = {"probability": "viridis", "uncertainty": "inferno"}


@dataclass(frozen=True)
class Target:
    """What one layer shows.

    ``channel`` is that of the item's array, None where it has no channels.
    """

    role: Role
    label: Label | None
    channel: int | None

    def part(self, item: Item) -> NDArray[Any]:
        """Return this layer's share of a result, ``([Z,] Y, X)``."""
        name = {"probability": "probabilities"}.get(self.role, self.role)
        found: NDArray[Any] = getattr(item, name)
        return found if self.channel is None else found[self.channel]


def targets(
    labels: LabelSet, probabilities: bool, uncertainty: bool, cell_map: int = 1
) -> list[Target]:
    """Return what there is to show, masks first.

    Overlapping structures get a layer each, other labels share one. Probabilities
    get a layer for each structure, none for the background.
    """
    overlapping = labels.kind == "overlapping"
    every = list(enumerate(labels))
    found = [Target("mask", label, k) for k, label in every] if overlapping else []
    found = found or [Target("mask", None, None)]
    if uncertainty:
        found.append(Target("uncertainty", None, None))
    if probabilities:
        shift = labels.output_channels - len(labels)
        shift = cell_map if labels.kind == "instances" else shift
        found += [Target("probability", label, k + shift) for k, label in every]
    return found


def import_for_layers() -> None:
    """Import what napari imports with its first labels layer; for a thread.

    It is most of half a second (pandas, scikit-image), which the window would
    otherwise stand still for when the first mask arrives.
    """
    from napari.layers import Labels

    Labels(np.zeros((1, 1), np.uint8), colormap={None: GREY})


class Results:
    """The layers of one run.

    Args:
        viewer: Gets the layers.
        image: What the model saw.
        planes: Which parts of it.
        labels: What the model's masks mean.
        model: Name of the model.
        probabilities: Whether they are shown.
        uncertainty: Whether it is shown.
        cell_map: For instances: which map says where cells are.
        replace: Write over what earlier runs and the person have drawn, undoably.

    Attributes:
        arrived: Whether there is a result.
        kept: Slices that were left alone because somebody had drawn there.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        image: Image,
        planes: Planes,
        labels: LabelSet,
        model: str,
        *,
        probabilities: bool = False,
        uncertainty: bool = False,
        replace: bool = False,
        cell_map: int = 1,
    ) -> None:
        self._viewer, self._image, self._planes = viewer, image, planes
        self._labels, self._model = labels, model
        self._targets = targets(labels, probabilities, uncertainty, cell_map)
        self._layers: dict[Target, Layer] = {}
        self._group = uuid.uuid4().hex
        self._reused = self._find(replace)
        self._prepared: list[Layer] = []
        self.arrived = False
        self.kept = 0

    @property
    def layers(self) -> list[Layer]:
        """The layers so far, masks first."""
        return list(self._layers.values())

    @property
    def masks(self) -> list[Layer]:
        """Those that are masks and still in the viewer."""
        masks = [x for t, x in self._layers.items() if t.role == "mask"]
        return [layer for layer in masks if layer in self._viewer.layers]

    def prepare(self) -> Iterator[None]:
        """Make the layers that a stack's slices will fill, one at each step.

        For the time before the model runs: napari takes a tenth of a second for a
        layer, and nothing may stand still after that. The layers of a single image
        are made of its result, when the model is done.
        """
        if len(self._planes.indices) == 1:
            return
        for target in self._targets:
            if target not in self._layers:
                mask = target.role == "mask"
                dtype = self._labels.dtype if mask else np.dtype(np.float32)
                self._layers[target] = self._make(target, np.zeros(self._shape, dtype))
                self._prepared.append(self._layers[target])
                yield

    def add(self, item: Item) -> Iterator[None]:
        """Show a result; each step changes one layer, so that a GUI can draw between.

        Slices of a new layer on which somebody has drawn meanwhile are left alone and
        counted in ``kept``.
        """
        self.arrived = True
        index = self._planes.indices[item.index]
        for target in self._targets:
            self._put(target, index, target.part(item))
            yield

    def finish(self, provenance: Mapping[str, Any]) -> Iterator[None]:
        """Note how the masks came about, in a layer's metadata at each step.

        Where nothing has arrived, layers that were prepared are taken away again,
        unless a person has drawn on them.

        Args:
            provenance: The predictor's; of a run that ended early its settings.
        """
        if not self.arrived:
            self._withdraw()
            return
        for layer in self.layers:
            if layer not in self._viewer.layers:
                continue
            layer.refresh(data_displayed=False, highlight=False, extent=False)
            own = {**facts_of(layer), "provenance": dict(provenance)}
            layer.metadata = {**layer.metadata, KEY: own}
            if own["role"] == "mask":
                keeper_of(self._viewer).look(layer)
            else:
                layer.events.data(value=layer.data)
            yield

    def _withdraw(self) -> None:
        for layer in self._prepared:
            if layer in self._viewer.layers and not np.any(layer.data):
                self._viewer.layers.remove(layer)
        if self._image in self._viewer.layers:
            self._viewer.layers.selection.active = self._image

    def _find(self, replace: bool) -> bool:
        """Take the layers of an earlier run if they may be written to."""
        found = {t: self._earlier(t) for t in self._targets}
        masks = [layer for t, layer in found.items() if t.role == "mask"]
        usable = all(layer is not None and layer.editable for layer in masks)
        if usable and (replace or not any(self._drawn(layer) for layer in masks)):
            self._layers = {t: x for t, x in found.items() if x is not None}
            return True
        return False

    def _earlier(self, target: Target) -> Layer | None:
        wanted = {**self._facts(target), "source": self._source}
        for layer in reversed(self._viewer.layers):
            own = facts_of(layer)
            if not own or tuple(layer.data.shape) != self._shape:
                continue
            if all(own.get(key) == value for key, value in wanted.items()):
                return layer
        return None

    def _drawn(self, layer: Any) -> bool:
        return any(np.any(layer.data[index]) for index in self._planes.indices)

    @property
    def _source(self) -> str | None:
        """The image's file: names of images come again, as of one patient's scans."""
        return file_of(self._image) or None

    @property
    def _shape(self) -> tuple[int, ...]:
        return self._planes.shape

    def _put(self, target: Target, index: Index, part: NDArray[Any]) -> None:
        layer = self._layers.get(target)
        if layer is None:
            data = part
            if not (self._planes.whole and len(self._planes.indices) == 1):
                data = np.zeros(self._shape, part.dtype)
                data[index] = part
            self._layers[target] = self._make(target, data)
            return
        if layer not in self._viewer.layers:  # the person does not want it
            return
        if target.role == "mask" and self._reused:
            free = (slice(None),) * part.ndim
            apply_mask(layer, part, within=(*index, *free))
        elif target.role == "mask" and np.any(layer.data[index]):
            self.kept += 1
        else:
            layer.data[index] = part
            if target.role == "mask":
                keeper_of(self._viewer).wrote(layer, index)
            if self._shown(index):
                self._redraw(layer)

    def _redraw(self, layer: Layer) -> None:
        """Draw the canvas alone.

        The picture in the layer list can wait for the end, and its rows stay as they
        are: painting them again would be half of the work.
        """
        with self._viewer.layers.events.blocker():
            layer.refresh(thumbnail=False, highlight=False, extent=False)

    def _shown(self, index: Index) -> bool:
        """Return whether a part of the image can be seen now."""
        n = len(self._shape)
        shown = {
            axis - self._viewer.dims.ndim + n for axis in self._viewer.dims.displayed
        }
        at = position(self._image, self._viewer)
        return all(axis in shown or at[axis] == i for axis, i in enumerate(index))

    def _make(self, target: Target, data: NDArray[Any]) -> Layer:
        common: dict[str, Any] = {key: getattr(self._image, key) for key in PLACE}
        common["metadata"] = {KEY: {**self._metadata(target), **self._facts(target)}}
        structure = target.label.name if target.label else None
        if target.role == "mask":
            if self._labels.kind != "instances":
                common["colormap"] = colours(self._labels, structure=structure)
            name = structure or self._mask_name()
            common["name"] = structure_layer_name(name, self._image.name)
            return self._viewer.add_labels(data, **common)
        name = " ".join(filter(None, (structure, target.role)))
        return self._viewer.add_image(
            data,
            name=structure_layer_name(name, self._image.name),
            colormap=_COLOURMAPS[target.role],
            contrast_limits=(0, 1),
            blending="additive",
            visible=False,
            **common,
        )

    def _metadata(self, target: Target) -> dict[str, Any]:
        known = facts_of(self._image)
        mask = target.role == "mask"
        return facts(
            geometry_if_known(self._image),
            labels=self._labels if mask else None,
            structure=target.label.name if mask and target.label else None,
            group=self._group if mask else None,
            source=self._source,
            meta=None if mask else known.get("meta"),
            frames=known.get("frames"),
        )[KEY]

    def _facts(self, target: Target) -> dict[str, Any]:
        return {
            "image": self._image.name,
            "role": target.role,
            "model": self._model,
            "of": target.label.name if target.label else "",
        }

    def _mask_name(self) -> str:
        one = self._labels.kind == "instances" or len(self._labels) == 1
        return self._labels.labels[0].name if one else "mask"

"""The mask that napari layers show: what :mod:`medseg.napari_plugin.layers` undoes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.geometry import Geometry
from medseg.labels import Label, LabelSet
from medseg.napari_plugin.layers import GREY, facts_of, geometry_of, parts
from medseg.segmentation import Segmentation

if TYPE_CHECKING:
    from napari.layers import Layer


def segmentation_from_layers(layers: Sequence[Layer | Sequence[Any]]) -> Segmentation:
    """Return the mask that labels layers show.

    One layer gives what it holds; values painted without a name are named
    ``label_<value>``. Several layers give overlapping structures in the order of
    their label set; one that is not of the set is named as its layer.

    Args:
        layers: Labels layers on one grid.

    Raises:
        ConfigError: If there is none, they are of different size or place, one
            structure is there twice, or a layer of several has several labels.
    """
    if not layers:
        raise ConfigError("layers", "there is no labels layer", "Select one")
    for layer in layers:
        _check_labels(layer)
    if len(layers) == 1 and facts_of(layers[0]).get("structure") is None:
        return _whole(layers[0])
    return _joined(layers)


def _check_labels(layer: Layer | Sequence[Any]) -> None:
    data, meta = parts(layer)
    name = str(meta.get("name", "layer"))
    if isinstance(data, list) or np.dtype(data.dtype).kind not in "biu":
        raise ConfigError(name, "is no labels layer", "Convert it to labels")
    if data.dtype.kind == "i" and data.size and int(data.min()) < 0:
        raise ConfigError(name, f"label {int(data.min())} is negative", "Relabel it")


def _whole(layer: Layer | Sequence[Any]) -> Segmentation:
    data, _ = parts(layer)
    known, mask = facts_of(layer), np.asarray(data)
    labels: LabelSet | None = known.get("labels")
    if labels is None or labels.kind == "overlapping":
        labels = LabelSet((), "exclusive")
    if labels.kind == "exclusive":
        labels = _with_unnamed(mask, labels)
    provenance = known.get("provenance") or {}
    return Segmentation(mask, labels, _geometry_in_file(layer), provenance)


def _with_unnamed(mask: NDArray[Any], labels: LabelSet) -> LabelSet:
    """Return ``labels`` and a name for every other value that was painted."""
    missing = sorted(_values(mask) - {0, *(x.value for x in labels)})
    taken = set(labels.names)
    more = []
    for value in missing or ([1] if not len(labels) else []):
        name = f"label_{value}"
        while name in taken:
            name += "_"
        more.append(Label(value, name, GREY))
    return LabelSet((*labels.labels, *more), "exclusive") if more else labels


def _values(mask: NDArray[Any]) -> set[int]:
    """Return the values that occur, slice by slice: to sort a whole movie is slow."""
    found: set[int] = set()
    for plane in mask.reshape(-1, *mask.shape[-2:]):
        if int(plane.max(initial=0)) <= plane.size:
            present = np.bincount(plane.ravel().astype(np.intp, copy=False)) > 0
            found |= set(np.flatnonzero(present).tolist())
        else:
            found |= set(np.unique(plane).tolist())
    return found


def _joined(layers: Sequence[Layer | Sequence[Any]]) -> Segmentation:
    first = next((x for x in layers if facts_of(x).get("structure")), layers[0])
    geometry, shape = _geometry_in_file(first), parts(first)[0].shape
    known = facts_of(first)
    whole: LabelSet = known.get("labels") or LabelSet((), "overlapping")
    found: dict[str, NDArray[Any]] = {}
    for layer in layers:
        data, meta = parts(layer)
        own = facts_of(layer)
        name = str(own.get("structure") or meta.get("name", "layer"))
        if name in found:
            raise ConfigError(
                "layers", f"{name!r} is there twice", "Select or keep one of them"
            )
        if data.shape != shape or not _geometry_in_file(layer).matches(geometry, 1e-3):
            raise ConfigError(
                "layers",
                f"{name!r} ({' x '.join(map(str, data.shape))}) is not on the grid of "
                f"the others ({' x '.join(map(str, shape))})",
                "Save it by itself",
            )
        mask = np.asarray(data)
        if own.get("structure") is None and int(mask.max(initial=0)) > 1:
            raise ConfigError(
                "layers", f"{name!r} holds several labels", "Save it by itself"
            )
        found[name] = mask > 0
    labels = _ordered(found, whole)
    mask = np.stack([found[x.name] for x in labels]).view(np.uint8)
    return Segmentation(mask, labels, geometry, known.get("provenance") or {})


def _ordered(names: Mapping[str, object], whole: LabelSet) -> LabelSet:
    """Return the labels of ``names``: those of ``whole`` first, new ones after."""
    kept = [x for x in whole if x.name in names]
    value = max((x.value for x in whole), default=0)
    strange = [n for n in names if n not in whole.names]
    added = [Label(value + i, n, GREY) for i, n in enumerate(strange, 1)]
    return LabelSet((*kept, *added), "overlapping")


def _geometry_in_file(layer: Layer | Sequence[Any]) -> Geometry:
    """Return the geometry of all axes: a movie of planes is kept as a stack."""
    geometry = geometry_of(layer)
    if facts_of(layer).get("frames") is None:
        return geometry
    if geometry.ndim == 3:
        raise ConfigError(
            str(parts(layer)[1].get("name", "layer")),
            "a movie of volumes does not fit into one file",
            "Save it as a tracking result: give the name of a folder",
        )
    return Geometry.upright((1.0, *geometry.spacing), unit=geometry.unit)

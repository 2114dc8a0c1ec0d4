"""Masks by track number: shown by a layer of their own, or written into the masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from medseg.lineage import TrackGraph
from medseg.napari_plugin.history import Block
from medseg.napari_plugin.layers import KEY, PLACE, facts_of
from medseg.napari_plugin.mask_frames import MaskFrames

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

_AT_ONCE = 1 << 18  # voxels; what is written in one turn of the event loop


class NumberedView:
    """Masks with track numbers for values, worked out when a frame is shown.

    It follows both the masks and the lineage, and needs no memory. A cell that is in
    no track has the value 0.
    """

    def __init__(self, masks: MaskFrames, graph: TrackGraph) -> None:
        self._tables: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        self.follow(masks, graph)

    def follow(self, masks: MaskFrames, graph: TrackGraph) -> None:
        """Show another lineage, of the masks as they are now."""
        self._masks = masks
        ids = graph.track_ids()
        order = np.lexsort((graph.label, graph.frame))
        frames, starts = np.unique(graph.frame[order], return_index=True)
        parts = np.split(order, starts[1:]) if len(order) else []
        self._tables = {
            int(f): (graph.label[rows], ids[rows])
            for f, rows in zip(frames.tolist(), parts, strict=True)
        }

    def frame(self, index: int, part: Any = ...) -> NDArray[np.int32]:
        """Return one frame ``([Z,] Y, X)``, or a part of it."""
        mask = np.asarray(self._masks.data[index][part])
        labels, ids = self._tables.get(self._masks.first + index, (_NONE, _NONE))
        top = int(max(mask.max(initial=0), labels.max(initial=0)))
        if top < 4 * mask.size:
            table = np.zeros(top + 1, np.int32)
            table[labels] = ids
            return table[mask]
        values, inverse = np.unique(mask, return_inverse=True)
        of = dict(zip(labels.tolist(), ids.tolist(), strict=True))
        short = np.array([of.get(v, 0) for v in values.tolist()], np.int32)
        return short[inverse].reshape(mask.shape)

    def lazy(self) -> Any:
        """Return a dask array ``(T, [Z,] Y, X)`` that asks for frames one by one."""
        import dask.array as da

        def block(block_info: Any) -> NDArray[np.int32]:
            return self.frame(block_info[None]["chunk-location"][0])[None]

        shape = self._masks.shape
        chunks = ((1,) * len(self._masks), *((n,) for n in shape))
        meta = np.empty((0,) * (len(shape) + 1), np.int32)
        return da.map_blocks(block, chunks=chunks, dtype=np.int32, meta=meta)


_NONE = np.zeros(0, np.int64)


def add_view(viewer: ViewerModel, layer: Labels, view: NumberedView) -> Labels:
    """Add a layer that shows masks by track number; the masks stay as they are."""
    known = dict(facts_of(layer))
    made = viewer.add_labels(
        view.lazy(),
        name=f"{layer.name} by track",
        metadata={KEY: {**known, "path": None, "role": "view"}},
        **{key: getattr(layer, key) for key in PLACE},
        opacity=layer.opacity,
        cache=False,  # a frame changes with the lineage
    )
    made.editable = False
    return cast("Labels", made)


def numbered_blocks(masks: MaskFrames, view: NumberedView) -> Iterator[Block]:
    """Yield all masks by track number, in blocks small enough to write at once."""
    height, *rest = masks.shape
    rows = max(1, _AT_ONCE // max(1, int(np.prod(rest))))
    for index in range(len(masks)):
        for low in range(0, height, rows):
            part = slice(low, min(low + rows, height))
            box = (slice(index, index + 1), part, *(slice(0, n) for n in rest))
            yield Block(box, view.frame(index, part)[None])

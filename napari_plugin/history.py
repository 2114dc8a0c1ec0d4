"""Change a napari Labels layer so that one Ctrl-Z takes the whole change back.

Never assign ``layer.data``: napari keeps the old undo stack, and the next Ctrl-Z
then writes voxels of the old mask into the new one. Everything here goes through
``Labels.data_setitem`` inside ``Labels.block_history``, which are public, emit the
``paint`` event that autosave listens to, and give one undo step however many
voxels, slices or blocks change (napari 0.6 to 0.9).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from medseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from napari.layers import Labels
    from numpy.typing import NDArray

Index = tuple["int | slice", ...]


class Edit(Protocol):
    """A block of a mask and its new values, as ``medseg.refine`` returns it."""

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where the block lies, one slice an axis."""

    @property
    def before(self) -> NDArray[Any] | None:
        """The values that the edit was made for; None: write all of ``after``."""

    @property
    def after(self) -> NDArray[Any]:
        """The new values, of the block's shape."""


def apply_edits(
    layer: Labels, edits: Iterable[Edit], within: Index | None = None
) -> int:
    """Write ``edits`` into ``layer`` as exactly one undo step.

    Args:
        layer: A Labels layer; its data changes in place.
        edits: Blocks on the grid of the layer, or of the part ``within`` it.
            Later blocks win where blocks meet.
        within: Where that part lies: one integer or full slice for each axis of
            the layer, for example ``(7, slice(None), slice(None))`` for slice 7.

    Returns:
        The number of voxels that changed; with 0 no undo step is made.

    Raises:
        ConfigError: If the layer cannot be edited, a block does not fit, or a
            value does not fit the layer's integer type.
    """
    _check_writable(layer)
    # Everything that can fail comes first: a failure inside block_history would
    # leave half a step behind, which napari then adds to the next stroke.
    writes = [w for edit in edits if (w := _write_of(layer, edit, within)) is not None]
    if not writes:
        return 0
    # napari keeps the slice of a hidden layer as it was, and fails to paint on it.
    layer.visible = True
    with layer.block_history():
        for indices, values in writes:
            layer.data_setitem(indices, values, refresh=False)
    layer.refresh()
    return sum(len(values) for _, values in writes)


def apply_mask(layer: Labels, mask: NDArray[Any], within: Index | None = None) -> int:
    """Make the layer (or the part ``within`` it) equal to ``mask``, as one undo step.

    Only voxels that differ are written and remembered.

    Returns:
        The number of voxels that changed.

    Raises:
        ConfigError: As `apply_edits`.
    """
    whole = tuple(slice(0, n) for n in mask.shape)
    return apply_edits(layer, [Block(whole, mask)], within)


def apply_in_turns(layer: Labels, edits: Iterable[Edit]) -> Generator[None]:
    """Write ``edits`` into ``layer``, one at each step, as one undo step in all.

    Between the steps the window lives. What a person paints meanwhile is part of
    the undo step. If the iterator is closed, the step ends with what was written.

    Raises:
        ConfigError: As `apply_edits`.
    """
    _check_writable(layer)
    layer.visible = True
    # The brush is put away; locking the layer would forget all undo steps.
    layer.mode = "pan_zoom"
    try:
        with layer.block_history():
            for edit in edits:
                write = _write_of(layer, edit, None)
                if write is not None:
                    layer.data_setitem(*write, refresh=False)
                try:
                    yield
                except GeneratorExit:
                    return  # not raised further, so that the step is kept
    finally:
        layer.refresh()


@dataclass(frozen=True, eq=False)
class Block:
    """New values of a box of a mask, whatever was there.

    Args:
        slices: The box.
        after: The values.
    """

    slices: tuple[slice, ...]
    after: NDArray[Any]
    before: None = None


def is_read_as_shown(layer: Labels) -> bool:
    """Return whether a mask stays in its files: single voxels cannot be written."""
    return type(layer.data).__module__.startswith("dask.")


def _check_writable(layer: Labels) -> None:
    if not layer.editable or not isinstance(layer.data.shape, tuple):
        raise ConfigError(f"layer {layer.name}", "is not editable", "Unlock it")
    if is_read_as_shown(layer):
        problem = "is read from its files as it is shown, as it is large"
        remedy = "Paint it with napari's own tools, or open fewer frames"
        raise ConfigError(f"layer {layer.name}", problem, remedy)


def _write_of(
    layer: Labels, edit: Edit, within: Index | None
) -> tuple[tuple[NDArray[Any], ...], NDArray[Any]] | None:
    """Return the indices and values of the voxels that ``edit`` changes, if any."""
    box = _box(layer, edit, within)
    now = np.asarray(layer.data[box])
    after = np.asarray(edit.after)
    if after.size != now.size:
        raise ConfigError(
            f"layer {layer.name}",
            f"an edit of shape {after.shape} does not fit {now.shape}",
        )
    after = after.reshape(now.shape)
    changed = after != now
    if edit.before is not None:
        # What a person painted while a slow method worked stays.
        changed &= after != np.asarray(edit.before).reshape(now.shape)
    if not changed.any():
        return None
    values = after[changed]
    _check_values(layer, values)
    indices = tuple(
        _small(np.add(axis, part.start), size)
        for axis, part, size in zip(
            np.nonzero(changed), box, layer.data.shape, strict=True
        )
    )
    return indices, values.astype(layer.data.dtype)


def _box(layer: Labels, edit: Edit, within: Index | None) -> tuple[slice, ...]:
    """Return the edit's place on the layer as one slice with bounds an axis."""
    shape = tuple(layer.data.shape)
    within = (slice(None),) * len(shape) if within is None else within
    inner = iter(edit.slices)
    box = []
    free = sum(isinstance(w, slice) for w in within)
    if len(within) != len(shape) or free != len(edit.slices):
        raise ConfigError(
            f"layer {layer.name}",
            f"has {len(shape)} axes; the edit has {len(edit.slices)} axes "
            f"in a part with {free} free of {len(within)}",
        )
    for where, size in zip(within, shape, strict=True):
        if isinstance(where, slice):
            start, stop, step = next(inner).indices(size)
        else:
            start, stop, step = where, where + 1, 1
        if step != 1 or not 0 <= start <= stop <= size:
            raise ConfigError(
                f"layer {layer.name}", f"an edit at {where} lies outside {shape}"
            )
        box.append(slice(start, stop))
    return tuple(box)


def _check_values(layer: Labels, values: NDArray[Any]) -> None:
    limits = np.iinfo(layer.data.dtype)
    low, high = int(values.min()), int(values.max())
    if low < limits.min or high > limits.max:
        raise ConfigError(
            f"layer {layer.name}",
            f"holds {layer.data.dtype}, label {high if high > limits.max else low} "
            "does not fit",
            "Convert the layer to a larger integer type",
        )


def _small(indices: NDArray[np.intp], size: int) -> NDArray[Any]:
    # napari keeps these for up to 100 steps: two bytes an axis instead of eight.
    return indices.astype(np.min_scalar_type(max(size - 1, 256)))

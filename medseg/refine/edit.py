"""One change of a mask, small enough to keep and exact enough to take back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError

Array = NDArray[Any]
Slices = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class Edit:
    """The values in a box of an array before and after.

    Args:
        slices: The box, a slice with start and stop for each axis.
        before: The values that were there.
        after: The values that are there now.

    Raises:
        ConfigError: If the three differ in shape.
    """

    slices: Slices
    before: Array
    after: Array

    def __post_init__(self) -> None:
        shape = tuple(s.stop - s.start for s in self.slices)
        if not shape == self.before.shape == self.after.shape:
            raise ConfigError(
                "edit",
                f"a box of {shape} with {self.before.shape} values before and "
                f"{self.after.shape} after",
            )

    @property
    def empty(self) -> bool:
        """Whether nothing changes."""
        return not self.before.size

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Where in the box something changes."""
        return np.asarray(self.before != self.after)

    @property
    def indices(self) -> tuple[NDArray[np.intp], ...]:
        """Index arrays of the changed pixels, as napari's ``data_setitem`` takes."""
        found = np.nonzero(self.changed)
        return tuple(i + s.start for i, s in zip(found, self.slices, strict=True))

    @property
    def values(self) -> Array:
        """New values of the changed pixels, in the order of `indices`."""
        return self.after[self.changed]

    @property
    def nbytes(self) -> int:
        """Bytes that keeping it takes."""
        return int(self.before.nbytes + self.after.nbytes)

    def inverse(self) -> Edit:
        """Return the edit that takes this one back."""
        return Edit(self.slices, self.after, self.before)

    def at(self, axis: int, index: int) -> Edit:
        """Return the edit in an array with one more ``axis``, there at ``index``."""
        slices = list(self.slices)
        slices.insert(axis, slice(index, index + 1))
        return Edit(
            tuple(slices),
            np.expand_dims(self.before, axis),
            np.expand_dims(self.after, axis),
        )


def edit_between(before: Array, after: Array, offset: Sequence[int] = ()) -> Edit:
    """Return the smallest edit that turns one block into the other.

    Args:
        before: Values now.
        after: Values wanted, of the same shape and type.
        offset: Index of the block's first pixel in the whole array, default 0.

    Raises:
        ConfigError: If the shapes differ.
    """
    if before.shape != after.shape:
        raise ConfigError("edit", f"shape {before.shape} would become {after.shape}")
    offset = offset or (0,) * before.ndim
    inner = _changed_box(before != after)
    slices = tuple(
        slice(s.start + o, s.stop + o) for s, o in zip(inner, offset, strict=True)
    )
    return Edit(slices, before[inner].copy(), after[inner].astype(before.dtype))


def _changed_box(changed: NDArray[np.bool_]) -> Slices:
    found = []
    for axis in range(changed.ndim):
        others = tuple(a for a in range(changed.ndim) if a != axis)
        hits = np.flatnonzero(changed.any(axis=others))
        found.append(slice(int(hits[0]), int(hits[-1]) + 1) if hits.size else None)
    return tuple(slice(0, 0) if s is None else s for s in found)


def apply_edit(array: Array, edit: Edit) -> None:
    """Write the edit into ``array``, in place: a copy of a volume would be slow.

    Raises:
        ConfigError: If the array does not hold what the edit found: something else
            has changed it since.
    """
    if array.ndim != len(edit.slices):
        raise ConfigError(
            "edit", f"is for {len(edit.slices)} axes, the mask has {array.ndim}"
        )
    block = array[edit.slices]
    if block.shape != edit.before.shape or (block != edit.before).any():
        raise ConfigError(
            "edit",
            f"the mask has changed since in {_text(edit.slices)}",
            "Undo the later changes first",
        )
    array[edit.slices] = edit.after


def revert_edit(array: Array, edit: Edit) -> None:
    """Take the edit back, in place.

    Raises:
        ConfigError: If the array does not hold what the edit left.
    """
    apply_edit(array, edit.inverse())


def _text(slices: Slices) -> str:
    return "[" + ", ".join(f"{s.start}:{s.stop}" for s in slices) + "]"

"""The steps of a session: there, back, and there again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medseg.refine.edit import Array, Edit, Slices, edit_between
from medseg.refine.prompts import Prompt


@dataclass(frozen=True, eq=False)
class Step:
    """One change.

    Args:
        edit: Of the mask.
        target: Number of the label that it is about.
        prompt: That it answers; None for a tool.
    """

    edit: Edit
    target: int
    prompt: Prompt | None = None


class Steps:
    """What was done and what was taken back.

    Attributes:
        done: Oldest first.
        undone: The next to be done again last.
    """

    def __init__(self) -> None:
        self.done: list[Step] = []
        self.undone: list[Step] = []

    @property
    def nbytes(self) -> int:
        """Bytes of all edits."""
        return sum(s.edit.nbytes for s in self.done + self.undone)

    def prompts(self, target: int) -> tuple[Prompt, ...]:
        """Return the prompts in effect for a label, oldest first."""
        steps = [s for s in self.done if s.target == target]
        return tuple(s.prompt for s in steps if s.prompt is not None)

    def add(self, step: Step) -> None:
        """Note a step; what was taken back is forgotten."""
        self.done.append(step)
        self.undone.clear()

    def whole_way_back(self, mask: Array) -> Edit:
        """Return the edit that takes all steps back at once; it may be empty."""
        edits = [s.edit for s in self.done if not s.edit.empty]
        if not edits:
            nothing = mask[(slice(0, 0),) * mask.ndim]
            return edit_between(nothing, nothing)
        box = _union([e.slices for e in edits])
        now = mask[box]
        block, corner = now.copy(), [s.start for s in box]
        for edit in reversed(edits):
            block[_shift(edit.slices, corner)] = edit.before
        return edit_between(now, block, corner)


def _union(boxes: Sequence[Slices]) -> Slices:
    return tuple(
        slice(min(s.start for s in sides), max(s.stop for s in sides))
        for sides in zip(*boxes, strict=True)
    )


def _shift(box: Slices, corner: Sequence[int]) -> Slices:
    return tuple(
        slice(s.start - c, s.stop - c) for s, c in zip(box, corner, strict=True)
    )

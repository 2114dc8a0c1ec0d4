"""One single error of a tracking result, and where to look for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ErrorKind = Literal[
    "split", "missed", "extra", "edge_extra", "edge_missed", "edge_changed"
]
COLUMNS = (
    "sequence",
    "kind",
    "frame",
    "label",
    "mask",
    "z",
    "y",
    "x",
    "from_frame",
    "from_label",
    "meaning",
)
MEANING: dict[ErrorKind, str] = {
    "split": "one result cell covers several; split it",
    "missed": "a cell without a result; draw it",
    "extra": "a result cell without a cell; delete it",
    "edge_extra": "a link that is none; cut it",
    "edge_missed": "a link is missing; make it",
    "edge_changed": "a link within a track for a division, or the reverse",
}


@dataclass(frozen=True)
class CtcError:
    """An error of a result.

    Args:
        kind: What a person has to do about it, see `MEANING`.
        frame: Where to look; of a link its later frame.
        label: Of the cell in that frame: its value in the reference mask for
            ``missed`` and ``edge_missed``, in the result mask for all others.
        position: Centroid of that cell, ``([z,] y, x)`` array index coordinates.
        from_frame: Of a link the earlier frame.
        from_label: Of a link the cell there.
    """

    kind: ErrorKind
    frame: int
    label: int
    position: tuple[float, ...]
    from_frame: int | None = None
    from_label: int | None = None

    @property
    def in_truth(self) -> bool:
        """Whether the labels are those of the reference masks."""
        return self.kind in ("missed", "edge_missed")

    def official(self) -> str:
        """Return the line of the challenge's own log."""
        word = "GT_label" if self.in_truth else "Label"
        node = f"T={self.frame} {word}={self.label}"
        if self.from_frame is None:
            return node
        return f"[T={self.from_frame} {word}={self.from_label}] -> [{node}]"

    def to_row(self, sequence: str = "") -> dict[str, str | float | None]:
        """Return the values of `COLUMNS`; None where a column does not apply."""
        y, x = self.position[-2:]
        return {
            "sequence": sequence,
            "kind": self.kind,
            "frame": self.frame,
            "label": self.label,
            "mask": "truth" if self.in_truth else "result",
            "z": round(self.position[0], 1) if len(self.position) == 3 else None,
            "y": round(y, 1),
            "x": round(x, 1),
            "from_frame": self.from_frame,
            "from_label": self.from_label,
            "meaning": MEANING[self.kind],
        }

"""Cells through time: the rows of a track table, and the lineage as a graph."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrackRow:
    """One line ``L B E P`` of a Cell Tracking Challenge track table.

    Args:
        label: Number of the track in the masks, from 1.
        begin: First frame of the track.
        end: Last frame, included.
        parent: Label of the track that it divided from; 0 for none.
    """

    label: int
    begin: int
    end: int
    parent: int = 0

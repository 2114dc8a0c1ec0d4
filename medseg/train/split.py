"""Which cases of the data sets are for training, and which are held back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from medseg.datasets.case import Case
from medseg.datasets.ctc import split_by_time
from medseg.errors import ConfigError
from medseg.train.config_tables import DataConfig, LabelsConfig

HELD_BACK = 5
"""Where a set states no split, every fifth group is for validation."""


@dataclass(frozen=True)
class Split:
    """Cases to train on, and cases held back, by data set."""

    train: tuple[Case, ...]
    held: Mapping[str, tuple[Case, ...]]
    counts: Mapping[str, int]
    """Training cases by data set, repeats not counted."""

    @property
    def held_cases(self) -> list[Case]:
        """All cases held back."""
        return [case for cases in self.held.values() for case in cases]


def find_cases(data: Sequence[DataConfig], labels: LabelsConfig) -> Split:
    """Find the cases of all data sets and divide them.

    Args:
        data: The sets.
        labels: What is to be learnt.

    Raises:
        ConfigError: If nothing is left for training.
        FileError: If a folder does not have the layout of its set.
    """
    train: list[Case] = []
    held: dict[str, tuple[Case, ...]] = {}
    counts: dict[str, int] = {}
    cases = _told_apart(data, [_cases(entry, labels) for entry in data])
    patients = {
        case.group
        for entry, found in zip(data, cases, strict=True)
        if entry.set == "own" and entry.part == "split"
        for case in found
    }
    for entry, found in zip(data, cases, strict=True):
        # A challenge folder holds one set of many: its name says which.
        name = Path(entry.folder).name if entry.set == "ctc" else entry.set
        groups = patients if entry.set == "own" else ()
        part_train, part_held = divide(
            found, entry.part, entry.split, entry.share, groups
        )
        train += part_train * entry.repeat
        if part_train:
            counts[name] = counts.get(name, 0) + len(part_train)
        if part_held:
            held[name] = (*held.get(name, ()), *part_held)
    if not train:
        raise ConfigError(
            "data", "has no case for training", "Add a set with part = 'split'"
        )
    return Split(tuple(train), held, counts)


def _cases(entry: DataConfig, labels: LabelsConfig) -> list[Case]:
    find = import_module(f"medseg.datasets.{entry.set}").cases
    options: dict[str, Any] = {}
    if entry.set == "ctc":
        options = {"truth": entry.truth}
    elif entry.set == "own":
        options = {"names": labels.names, "cells": labels.kind == "instances"}
    cases: list[Case] = find(Path(entry.folder), **options)
    if not entry.spacing:
        return cases
    return [replace(case, spacing=entry.spacing, grid=None) for case in cases]


def _told_apart(
    data: Sequence[DataConfig], cases: Sequence[list[Case]]
) -> list[list[Case]]:
    """Return the cases with the number of their table in front of what two may share.

    Of several tables of own images: files of one name are other films, while folders
    of one name are one patient.
    """
    tables = [place for place, entry in enumerate(data) if entry.set == "own"]
    if len(tables) < 2:
        return list(cases)
    result = list(cases)
    for number, place in enumerate(tables, start=1):
        result[place] = [_numbered(case, number) for case in cases[place]]
    return result


def _numbered(case: Case, number: int) -> Case:
    name = f"{number}/{case.id}"
    alone = case.group == case.id
    return replace(case, id=name, group=name if alone else case.group)


def divide(
    cases: Sequence[Case],
    part: str,
    split: str = "group",
    share: float = 2 / 3,
    groups: Collection[str] = (),
) -> tuple[list[Case], list[Case]]:
    """Split cases into training and validation.

    Args:
        cases: Of one set.
        part: ``"train"`` or ``"val"``: all of them. ``"split"``: both.
        split: ``"group"``: no group is cut; where the set states no split, every
            fifth group is held back. ``"time"``: the last frames of every group.
        share: Of the time that is for training, from the first frame to the last.
        groups: Of which every fifth is held back; by default those of ``cases``.
    """
    if part == "train":
        return list(cases), []
    if part == "val":
        return [], list(cases)
    if split == "time":
        return divide(split_by_time(cases, share), part)
    every = sorted({*groups} or {c.group for c in cases})
    held_groups = set(every[HELD_BACK - 1 :: HELD_BACK])
    held = [
        c.split == "val" if c.split is not None else c.group in held_groups
        for c in cases
    ]
    return (
        [c for c, h in zip(cases, held, strict=True) if not h],
        [c for c, h in zip(cases, held, strict=True) if h],
    )

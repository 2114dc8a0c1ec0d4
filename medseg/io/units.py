"""Units of length as files name them."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

MM = MappingProxyType({
    "mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "millimetre": 1.0,
    "cm": 10.0, "centimeter": 10.0, "m": 1000.0, "meter": 1000.0,
    "inch": 25.4, "in": 25.4,
    "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "\\u00b5m": 1e-3, "micron": 1e-3,
    "microns": 1e-3, "micrometer": 1e-3, "micrometers": 1e-3, "micrometre": 1e-3,
    "nm": 1e-6, "nanometer": 1e-6,
})  # fmt: skip
"""Millimetres of each unit, by its name in small letters."""


def factor_to_mm(words: Iterable[str], notes: list[str]) -> float | None:
    """Return what takes lengths in these units, one an axis, to mm.

    None, and a note, where a unit is unknown or the axes differ. An axis without one,
    or with the ``?`` of ITK, is in mm.
    """
    named = [w.strip().lower() for w in words]
    factors = {MM.get(w) for w in named if w not in ("", "?", "???", "none")} or {1.0}
    factor = factors.pop()
    if factors or factor is None:
        shown = ", ".join(dict.fromkeys(named))[:60]
        notes.append(f"lengths in {shown!r}: read without voxel size")
        return None
    if factor != 1:
        notes.append(f"coordinates are converted to mm (times {factor:g})")
    return factor

"""What the text in a TIFF says about axes and voxel size."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.geometry import Geometry
from medseg.io.block import KEYWORD, Block, parse_block
from medseg.io.units import MM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from tifffile import TiffPage

    from medseg.io.source import Source

# Dots per inch of screens and printers, written by programs that know of no spacing.
_PAPER_DPI = (
    *(1, 72, 90, 96, 100, 120, 144, 150, 180, 200, 220, 240, 300, 350, 360, 400, 480),
    *(600, 720, 1200, 2400, 4800),
)


@dataclass(frozen=True)
class Layout:
    """How pages become an array.

    Args:
        axes: Letter and size of each leading axis, slowest first, of ``C Z T``.
        geometry: Of the spatial axes.
        notes: What was read by a stated rule.
        block: Our own description.
    """

    axes: tuple[tuple[str, int], ...]
    geometry: Geometry
    notes: tuple[str, ...] = ()
    block: Block | None = None

    def _sizes(self, letter: str) -> list[int]:
        return [n for a, n in self.axes if a == letter]

    @property
    def channels(self) -> int:
        """Length of the channel axis, 1 without one."""
        return math.prod(self._sizes("C"))

    @property
    def depth(self) -> tuple[int, ...]:
        """``(Z,)``, or ``()`` for a plane."""
        return tuple(self._sizes("Z"))

    def arrange(self, stack: NDArray[Any]) -> NDArray[Any]:
        """Return pages ``(P, S, Y, X)`` as ``(C, [Z,] S, Y, X)``."""
        letters = [a for a, _ in self.axes]
        split = stack.reshape(*(n for _, n in self.axes), *stack.shape[1:])
        if "C" not in letters:
            return split[None]
        return np.moveaxis(split, letters.index("C"), 0)


def describe(shape: tuple[int, ...], axes: str, block: Block) -> str:
    """Return the image description: tifffile's axes, and our block."""
    fields = {"shape": list(shape), "axes": axes, KEYWORD: block.fields()}
    return json.dumps(fields, separators=(", ", ": "), ensure_ascii=True)


def read_layout(
    source: Source, page: TiffPage, count: int, flat: bool = False
) -> Layout:
    """Return the layout of ``count`` pages like ``page``.

    Args:
        source: The file.
        page: The first page.
        count: How many there are.
        flat: Whether the geometry wanted is that of a page by itself.

    Raises:
        FileError: If the text promises other pages, or is an attack.
    """
    text = page.description or ""
    if len(text) > source.limits.max_header:
        raise source.fail(f"an image description of {len(text)} characters")
    if "<!ENTITY" in text or "<!DOCTYPE" in text:
        raise source.fail("its OME text defines entities, an expansion attack")
    if text.startswith("{"):
        return _shaped(source, page, text, count, flat)
    if text.startswith("ImageJ="):
        return _imagej(source, page, text, count, flat)
    if "<OME" in text[:4096]:
        return _ome(source, page, text, count, flat)
    return _pages(page, count, flat)


def _pages(page: TiffPage, count: int, flat: bool) -> Layout:
    """Return the layout of pages of which nothing is said."""
    axes = (("Z", count),) if count > 1 else ()
    return Layout(axes, _resolution(page, _ndim(axes, flat)))


def _ndim(axes: Sequence[tuple[str, int]], flat: bool) -> int:
    return 2 if flat else 2 + any(a == "Z" for a, _ in axes)


def _shaped(
    source: Source, page: TiffPage, text: str, count: int, flat: bool
) -> Layout:
    try:
        fields = json.loads(text)
        shape = [int(n) for n in fields["shape"]]
        letters = str(fields.get("axes", ""))
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return _pages(page, count, flat)
    plane = math.prod((page.imagelength, page.imagewidth, page.samplesperpixel))
    promised = math.prod(shape)
    if promised != plane * count:
        raise source.damaged(
            f"its metadata promise {promised} pixels (shape {shape}), {plane * count} "
            f"are present in {count} pages"
        )
    block = None
    if KEYWORD in fields:
        block = parse_block(source.path, json.dumps(fields[KEYWORD]))
    # Axes of length 1 hold nothing, but for a volume of one slice of our own.
    volume = block is not None and block.geometry.ndim == 3
    leading = [
        (a, n)
        for a, n in zip(letters, shape, strict=False)
        if a not in "YXS" and (n > 1 or (a == "Z" and volume))
    ]
    if math.prod(n for _, n in leading) != count:
        leading = [("Z", count)] if count > 1 else []
    axes, notes = _planes(source, leading)
    geometry = _resolution(page, _ndim(axes, flat))
    if block and flat:
        geometry = block.geometry.plane()
    elif block and block.geometry.ndim == geometry.ndim:
        geometry = block.geometry
    return Layout(axes, geometry, notes, block)


def _imagej(
    source: Source, page: TiffPage, text: str, count: int, flat: bool
) -> Layout:
    fields = dict(re.findall(r"^(\w+)=(.*)$", text, re.M))
    sizes = {k: _integer(fields.get(k)) for k in ("channels", "slices", "frames")}
    promised = _integer(fields.get("images"))
    if promised != count and "images" in fields:
        raise source.damaged(
            f"its ImageJ metadata promise {promised} pages, {count} are present"
        )
    leading = [("T", sizes["frames"]), ("Z", sizes["slices"]), ("C", sizes["channels"])]
    leading = [(a, n) for a, n in leading if n > 1]
    if math.prod(n for _, n in leading) != count:
        leading = [("Z", count)] if count > 1 else []
    axes, notes = _planes(source, leading)
    ndim = _ndim(axes, flat)
    factor = MM.get(fields.get("unit", "").strip().lower())
    resolution = _per_unit(page)
    if factor is None or resolution is None:
        return Layout(axes, _resolution(page, ndim), notes)
    spacing = tuple(factor / r for r in resolution)
    if ndim == 3:
        try:
            depth = abs(float(fields["spacing"])) * factor
        except (KeyError, ValueError):
            depth = 0.0
        if not 0 < depth < math.inf:
            return Layout(axes, Geometry.pixels(3), notes)
        spacing = (depth, *spacing)
    return Layout(axes, Geometry.upright(spacing), notes)


def _ome(source: Source, page: TiffPage, text: str, count: int, flat: bool) -> Layout:
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", text)
    fields = dict(re.findall(r'(\w+)="([^"]*)"', pixels.group() if pixels else ""))
    _check_ome_files(source, text)
    order = fields.get("DimensionOrder", "XYZCT")[:1:-1]
    leading = [(a, _integer(fields.get(f"Size{a}"))) for a in order if a in "ZCT"]
    if page.samplesperpixel > 1:
        leading = [(a, n) for a, n in leading if a != "C"]
    leading = [(a, n) for a, n in leading if n > 1]
    promised = math.prod(n for _, n in leading)
    if promised != count:
        raise source.damaged(
            f"its OME metadata promise {promised} pages, {count} are present"
        )
    axes, notes = _planes(source, leading)
    letters = "ZYX"[-_ndim(axes, flat) :]
    spacing = []
    for a in letters:
        unit = fields.get(f"PhysicalSize{a}Unit", "µm").lower()
        try:
            value = float(fields.get(f"PhysicalSize{a}", "")) * MM[unit]
        except (ValueError, KeyError):
            value = 0.0
        spacing.append(value)
    if all(0 < s < math.inf for s in spacing):
        return Layout(axes, Geometry.upright(tuple(spacing)), notes)
    return Layout(axes, Geometry.pixels(len(letters)), notes)


def _check_ome_files(source: Source, text: str) -> None:
    names = set(re.findall(r'FileName="([^"]*)"', text))
    outside = [n for n in names if "/" in n or "\\" in n or ".." in n]
    if outside:
        raise source.fail("its OME text names a file outside its folder; not opened")
    if len(names) > 1:
        raise source.fail(
            f"its OME text spreads the image over {len(names)} files; not opened",
            "Save the image as one file",
        )


def _planes(
    source: Source, leading: list[tuple[str, int]]
) -> tuple[tuple[tuple[str, int], ...], tuple[str, ...]]:
    """Return the leading axes with time as z, and what was decided."""
    letters = [a for a, _ in leading]
    others = [a for a in letters if a not in "CZ"]
    if not others:
        return tuple(leading), ()
    if len(others) > 1 or "Z" in letters:
        sizes = " x ".join(f"{a} {n}" for a, n in leading)
        raise source.fail(f"has more than 3 axes ({sizes})", "Save one file per frame")
    axes = tuple(("Z" if a in others else a, n) for a, n in leading)
    if others == ["T"]:
        return axes, (
            f"a movie of {dict(leading)['T']} frames is read as a stack in z",
        )
    return axes, ()


def _integer(text: str | None) -> int:
    return int(text) if text and text.strip().isdigit() and len(text) < 10 else 1


def _per_unit(page: TiffPage) -> tuple[float, float] | None:
    """Return pixels per unit along y and x."""
    values = []
    for name in ("YResolution", "XResolution"):
        tag = page.tags.get(name)
        if tag is None or not isinstance(tag.value, tuple) or len(tag.value) != 2:
            return None
        top, bottom = tag.value
        values.append(top / bottom if bottom else 0.0)
    return (values[0], values[1]) if min(values) > 0 else None


def _resolution(page: TiffPage, ndim: int) -> Geometry:
    """Return mm from the resolution tags of a plane; px where they mean nothing."""
    tag = page.tags.get("ResolutionUnit")
    unit = {2: 25.4, 3: 10.0}.get(int(tag.value)) if tag is not None else None
    resolution = _per_unit(page)
    if ndim != 2 or unit is None or resolution is None:
        return Geometry.pixels(ndim)
    if any(round(r * 25.4 / unit, 1) in _PAPER_DPI for r in resolution):
        return Geometry.pixels(ndim)
    return Geometry.upright(tuple(unit / r for r in resolution))

"""Pictures of a mask over its image: outlines in each structure's colour.

Everything here returns ``(height, width, 3)`` uint8 arrays; `encode` turns one
into the bytes of a file. Pixels are drawn square, whatever their spacing.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageColor, ImageDraw, ImageFont
from scipy import ndimage

from medseg.errors import ConfigError
from medseg.image import Image
from medseg.labels import Label, LabelSet
from medseg.segmentation import Segmentation

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Point = tuple[float, float]

MAX_SIDE = 1024
_PERCENTILES = (0.5, 99.5)
_PAPER = (18, 18, 18)
_INK = (235, 235, 235)
_LINE = "#7ee081"
# Objects of an instance mask, told apart from their neighbours by number.
_OBJECTS = (
    "#4c9be8", "#f2b134", "#e0524d", "#7ee081", "#c77dff", "#39c5bb", "#ff8fab",
)  # fmt: skip


def window(pixels: NDArray[np.generic]) -> Picture:
    """Map the 0.5 to 99.5 percentile of finite pixels to 0..255.

    Args:
        pixels: ``(Y, X)``, any real dtype. A constant image becomes black.
    """
    values = np.asarray(pixels, np.float32)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, _PERCENTILES) if finite.size else (0, 0)
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    scaled = (np.nan_to_num(values, nan=low) - low) * (255 / (high - low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def overlay(
    image: Image,
    seg: Segmentation,
    *,
    width: int = 2,
    max_side: int = MAX_SIDE,
    legend: bool = True,
    lines: Sequence[tuple[Point, Point]] = (),
    note: str = "",
) -> Picture:
    """Draw the outlines of a mask over its image.

    Args:
        image: One channel, or three taken as RGB. Of a volume the slice with the
            largest mask is drawn.
        seg: On the image's grid.
        width: Thickness of the outlines, in pixels of the picture.
        max_side: A larger picture is made smaller; a smaller one stays.
        legend: Whether names and colours stand below the picture.
        lines: Ends ``(y, x)`` in array index coordinates, those of a measurement.
        note: What the lines measure, for the legend.

    Raises:
        ConfigError: If the shapes differ, or ``width`` or ``max_side`` is below 1.
    """
    _check(image, [seg], width, max_side)
    where = _slice(seg)
    picture, size = _background(image, where, max_side)
    for colour, mask in _coloured(seg, where):
        picture[outline(_resized(mask, size), width)] = ImageColor.getrgb(colour)
    picture = _with_lines(picture, lines, size[0] / image.spatial_shape[-2])
    if not legend:
        return picture
    return _with_legend(picture, _legend(seg.labels) + [(_LINE, note)] * bool(note))


def side_by_side(
    image: Image,
    truth: Segmentation,
    pred: Segmentation,
    *,
    width: int = 2,
    max_side: int = MAX_SIDE,
) -> Picture:
    """Draw truth (left) and prediction (right) over the same slice of an image.

    Raises:
        ConfigError: As `overlay`.
    """
    _check(image, [truth, pred], width, max_side)
    where = _slice(truth)
    panels = []
    for title, seg in (("truth", truth), ("prediction", pred)):
        picture, size = _background(image, where, max_side)
        for colour, mask in _coloured(seg, where):
            picture[outline(_resized(mask, size), width)] = ImageColor.getrgb(colour)
        panels.append(_with_title(picture, title))
    gap = np.full((len(panels[0]), 4, 3), _PAPER, np.uint8)
    joined = np.concatenate([panels[0], gap, panels[1]], axis=1)
    extra = [x for x in pred.labels if x.name not in truth.labels.names]
    entries = _legend(truth.labels) + [(x.colour, _readable(x)) for x in extra]
    return _with_legend(joined, entries)


def thumbnail(image: Image, seg: Segmentation | None = None, side: int = 512) -> bytes:
    """Return a JPEG of at most ``side`` pixels, with outlines and without legend.

    Raises:
        ConfigError: As `overlay`.
    """
    if seg is None:
        _check(image, [], 1, side)
        where = () if len(image.spatial_shape) == 2 else (image.spatial_shape[0] // 2,)
        return encode(_background(image, where, side)[0], "jpeg")
    return encode(overlay(image, seg, max_side=side, legend=False), "jpeg")


def encode(picture: Picture, kind: Literal["png", "jpeg"] = "png") -> bytes:
    """Return the bytes of a PNG or JPEG file; JPEG with quality 80."""
    if kind not in ("png", "jpeg"):
        raise ConfigError("picture", f"kind is {kind!r}", "Use png or jpeg")
    stream = io.BytesIO()
    options = {"quality": 80, "optimize": True} if kind == "jpeg" else {}
    PillowImage.fromarray(picture).save(stream, kind.upper(), **options)
    return stream.getvalue()


def outline(mask: Mask, width: int = 2) -> Mask:
    """Return the inner border of a mask ``(Y, X)``, ``width`` pixels thick."""
    return mask & ~ndimage.binary_erosion(mask, iterations=width)


def _check(image: Image, segs: Sequence[Segmentation], width: int, side: int) -> None:
    for name, value in (("width", width), ("max_side", side)):
        if value < 1:
            raise ConfigError(name, f"is {value}", "Use at least 1")
    for seg in segs:
        if seg.spatial_shape != image.spatial_shape:
            raise ConfigError(
                "overlay",
                f"the mask has shape {seg.spatial_shape}, "
                f"the image {image.spatial_shape}",
                "Draw a mask over its own image",
            )


def _slice(seg: Segmentation) -> tuple[int, ...]:
    """Return the index of the slice with the largest mask; () in a film."""
    if seg.geometry.ndim == 2:
        return ()
    on = np.asarray(seg.mask > 0)
    if seg.labels.kind == "overlapping":
        on = np.logical_or.reduce(on, axis=0)
    return (int(np.count_nonzero(on, axis=(1, 2)).argmax()),)


def _background(
    image: Image, where: tuple[int, ...], max_side: int
) -> tuple[Picture, tuple[int, int]]:
    """Return the windowed slice as a picture of its final size, and that size."""
    index: tuple[slice | int, ...] = (slice(None), *where)
    pixels = image.pixels[index]
    height, width = pixels.shape[1:]
    scale = min(1.0, max_side / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    step = max(1, int(1 / (2 * scale)))
    # Thinned first where it is far too large: a thumbnail of a 20,000 x 20,000
    # image needs no float copy of all its pixels.
    channels = [
        window(c[::step, ::step]) for c in pixels[: 3 if len(pixels) == 3 else 1]
    ]
    grey = PillowImage.fromarray(np.stack((channels * 3)[:3], axis=-1))
    shown = grey.resize(size[::-1], PillowImage.Resampling.BILINEAR)
    return np.array(shown), size


def _coloured(seg: Segmentation, where: tuple[int, ...]) -> list[tuple[str, Mask]]:
    """Return colour and mask ``(Y, X)`` of each structure, or group of objects."""
    if seg.labels.kind != "instances":
        return [(x.colour, seg.structure(x.name)[where]) for x in seg.labels]
    numbers = seg.mask[where]
    groups = np.where(numbers > 0, numbers % len(_OBJECTS), -1)
    return [(colour, groups == i) for i, colour in enumerate(_OBJECTS)]


def _resized(mask: Mask, size: tuple[int, int]) -> Mask:
    """Return a mask at ``size``, by its nearest pixels."""
    rows, columns = (
        ((np.arange(n) + 0.5) * old / n).astype(int)
        for n, old in zip(size, mask.shape, strict=True)
    )
    return mask[np.ix_(rows, columns)]


def _with_lines(
    picture: Picture, lines: Sequence[tuple[Point, Point]], scale: float
) -> Picture:
    """Draw lines with a tick at each end."""
    canvas = PillowImage.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    for start, end in lines:
        # From whole numbers at pixel centres to whole numbers at pixel corners.
        y0, x0, y1, x1 = ((v + 0.5) * scale for v in (*start, *end))
        pen.line([(x0, y0), (x1, y1)], fill=_LINE, width=1)
        for x, y in ((x0, y0), (x1, y1)):
            pen.line([(x, y - 6), (x, y + 6)], fill=_LINE, width=1)
    return np.array(canvas)


def _readable(label: Label) -> str:
    return label.name.replace("_", " ")


def _legend(labels: LabelSet) -> list[tuple[str, str]]:
    if labels.kind == "instances":
        return []
    return [(x.colour, _readable(x)) for x in labels]


def _with_legend(picture: Picture, entries: list[tuple[str, str]]) -> Picture:
    """Add a strip below with a coloured square and a name for each entry."""
    if not entries:
        return picture
    font = ImageFont.load_default(size=14)
    x, y, places = 8, 5, []
    for colour, text in entries:
        needed = 18 + int(font.getlength(text)) + 16
        if x > 8 and x + needed > picture.shape[1]:
            x, y = 8, y + 20
        places.append((x, y, colour, text))
        x += needed
    strip = PillowImage.new("RGB", (picture.shape[1], y + 22), _PAPER)
    pen = ImageDraw.Draw(strip)
    for x, y, colour, text in places:
        pen.rectangle([x, y + 2, x + 11, y + 13], fill=colour)
        pen.text((x + 18, y), text, fill=_INK, font=font)
    return np.concatenate([picture, np.array(strip)])


def _with_title(picture: Picture, title: str) -> Picture:
    strip = PillowImage.new("RGB", (picture.shape[1], 22), _PAPER)
    font = ImageFont.load_default(size=14)
    ImageDraw.Draw(strip).text((8, 3), title, fill=_INK, font=font)
    return np.concatenate([np.array(strip), picture])

"""One picture of a public data set: where it lies and what is drawn on it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from medseg.datasets.instances import InstanceTruth
from medseg.datasets.pixels import part_lungs, read_mask
from medseg.errors import ConfigError, FileError, ImageWarning
from medseg.io.mask_folder import MaskFiles, read_masks
from medseg.labels import LabelSet

RIGHT_LUNG, LEFT_LUNG, HEART = "right_lung", "left_lung", "heart"
RIGHT_CLAVICLE, LEFT_CLAVICLE = "right_clavicle", "left_clavicle"
LUNGS = (RIGHT_LUNG, LEFT_LUNG)
STRUCTURES = (RIGHT_LUNG, LEFT_LUNG, HEART, RIGHT_CLAVICLE, LEFT_CLAVICLE)


@dataclass(frozen=True)
class Case:
    """One film, or one frame or slice with cells, with its truth.

    Args:
        id: Unique within its set.
        image: The film or frame.
        truth: Structure name to binary mask file. Two lungs that share one file
            are parted by `medseg.datasets.pixels.part_lungs`.
        annotated: Structures that the set draws. One that is missing here is
            unknown, not absent.
        group: Patient or sequence; splits never cut a group, except by time.
        split: ``"train"`` or ``"val"`` where the set states one.
        threshold: A mask pixel is on where its value is greater.
        spacing: ``([z,] y, x)`` of the film in mm, where the set states it and the file
            does not.
        grid: Shape of the film to which ``spacing`` belongs; None: whatever it is.
        cut: Structure to another one whose pixels are taken out of it, where some
            films of a set draw one through the other.
        masks: Files that hold several structures each, or one, as `find_masks` found
            them; they are read in place of those of ``truth``, which names them.
        labels: What the values of ``masks`` mean where the files do not say.
        instances: Where its cells are drawn; `read_instances` reads them.
        frame: Number in its movie or stack.
        slice: Which page or z of ``image``, None for the whole of it.

    Raises:
        ConfigError: If ``truth`` holds a structure that is not ``annotated``.
    """

    id: str
    image: Path
    truth: Mapping[str, Path]
    annotated: tuple[str, ...]
    group: str
    split: str | None = None
    threshold: int = 0
    spacing: tuple[float, ...] | None = None
    grid: tuple[int, ...] | None = None
    cut: Mapping[str, str] = field(default_factory=dict)
    masks: MaskFiles | None = None
    labels: LabelSet | None = None
    instances: InstanceTruth | None = None
    frame: int | None = None
    slice: int | None = None

    def __post_init__(self) -> None:
        extra = sorted(set(self.truth) - set(self.annotated))
        if extra:
            raise ConfigError(
                f"case {self.id}",
                f"has masks of {', '.join(extra)}, which its set does not draw",
                f"The set draws {', '.join(self.annotated) or 'nothing'}",
            )
        object.__setattr__(self, "truth", MappingProxyType(dict(self.truth)))
        object.__setattr__(self, "cut", MappingProxyType(dict(self.cut)))

    @property
    def missing(self) -> tuple[str, ...]:
        """Structures that the set draws and for which this film has no mask."""
        return tuple(name for name in self.annotated if name not in self.truth)


def read_truth(
    case: Case, names: Sequence[str] = STRUCTURES
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Read the masks of ``names``.

    Returns:
        Masks ``(K, Y, X)`` of 0 and 1 on the grid of the mask files (that of SCR is
        half the film's), and ``(K,)`` telling which of them are annotated. The mask
        of one that is not is 0 and means nothing.

    Raises:
        FileError: If a mask cannot be read, or two masks differ in shape.
        ConfigError: If the case has a mask for none of ``names``.
    """
    drawn = [name for name in names if name in case.truth]
    if not drawn:
        raise ConfigError(
            f"case {case.id}",
            f"has no mask for {', '.join(names)}",
            f"It has {', '.join(case.truth) or 'none'}",
        )
    read = _read_all(case, drawn)
    shapes = {mask.shape for mask in read.values() if mask is not None}
    if len(shapes) > 1:
        raise FileError(case.truth[drawn[0]], f"masks differ in shape: {shapes}")
    if not shapes:
        raise FileError(case.truth[drawn[0]], "holds no two lungs that lie apart")
    masks = np.zeros((len(names), *shapes.pop()), np.uint8)
    for k, name in enumerate(names):
        if read.get(name) is not None:
            masks[k] = read[name]
    annotated = np.array([read.get(name) is not None for name in names])
    _check_sides(case, dict(zip(names, masks, strict=True)), annotated)
    return masks, annotated


def _read_all(
    case: Case, names: Sequence[str]
) -> Mapping[str, NDArray[np.bool_] | None]:
    if case.masks is None:
        return {name: _read(case, name) for name in names}
    found = read_masks(case.masks, case.labels).as_film()
    return {name: found.structure(name) for name in names}


def _read(case: Case, name: str) -> NDArray[np.bool_] | None:
    mask = read_mask(case.truth[name], case.threshold, case.slice)
    if name in LUNGS and case.truth.get(LUNGS[0]) == case.truth.get(LUNGS[1]):
        lungs = part_lungs(mask)
        if lungs is None:
            warnings.warn(
                f"{case.truth[name]}: the lungs are joined, so {name} counts as "
                "not annotated",
                ImageWarning,
                stacklevel=3,
            )
            return None
        mask = lungs[LUNGS.index(name)]
    other = case.cut.get(name)
    if other is not None and other in case.truth:
        mask = mask & ~read_mask(case.truth[other], case.threshold, case.slice)
    return mask


def _check_sides(
    case: Case, masks: Mapping[str, NDArray[np.uint8]], annotated: NDArray[np.bool_]
) -> None:
    if not all(name in masks and masks[name].any() for name in LUNGS):
        return
    centre = {n: np.nonzero(masks[n].any(0))[0].mean() for n in LUNGS}
    if centre[RIGHT_LUNG] > centre[LEFT_LUNG]:
        warnings.warn(
            f"case {case.id}: the right lung lies on the right of the picture "
            f"(column {centre[RIGHT_LUNG]:.0f} against {centre[LEFT_LUNG]:.0f}); "
            "the film is mirrored or the masks are swapped",
            ImageWarning,
            stacklevel=3,
        )

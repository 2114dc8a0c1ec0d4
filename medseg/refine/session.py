"""Mending a mask step by step, each step exact to take back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.labels import LabelSet
from medseg.refine.answer import Scene, answer
from medseg.refine.edit import Array, Edit, apply_edit
from medseg.refine.methods import METHODS, Method, MethodName
from medseg.refine.plane import Plane, plane_of
from medseg.refine.prompts import Prompt
from medseg.refine.steps import Step, Steps
from medseg.refine.target import Target


class RefineSession:
    """A mask, an image, prompts, and the way back.

    A positive prompt only adds to the target label, a negative one only takes away,
    and only what hangs together with the prompt; everything else stays as it is.

    Args:
        method: How prompts are answered: a name of
            `medseg.refine.methods.METHODS`, or a method with options of its own.
        protect_other_labels: Pixels of other labels are never overwritten.
        volume: Answer prompts in 3-D; by default within their slice.
        plane_axis: Array axis across which the slices of a volume lie.
        radius: Largest half-thickness of an error that a click stands for, in the
            smallest spacing; default a twelfth of the shorter side. It is also the
            size assumed where the mask is empty.
        writes: Write edits into the mask. False: the mask is shared with the caller,
            who applies each edit (a napari layer does so, for its own history).

    Raises:
        ConfigError: If there is no such method, or the radius is not positive.
    """

    def __init__(
        self,
        *,
        method: MethodName | Method = "model_guided",
        protect_other_labels: bool = True,
        volume: bool = False,
        plane_axis: int = 0,
        radius: float | None = None,
        writes: bool = True,
    ) -> None:
        if radius is not None and not (np.isfinite(radius) and radius > 0):
            raise ConfigError("radius", f"is {radius}", "Use a positive length")
        self.method = _method(method)
        self.protect_other_labels = protect_other_labels
        self.volume, self.plane_axis = volume, plane_axis
        self.radius, self.writes = radius, writes
        self._image: Array | None = None
        self._spacing: tuple[float, ...] = ()
        self._mask: Array | None = None
        self._target: Target | None = None
        self._probability: Array | None = None
        self._steps = Steps()

    def set_image(
        self, pixels: NDArray[Any], spacing: Sequence[float] | None = None
    ) -> None:
        """Take an image ``([Z,] Y, X)`` and forget the mask.

        Only windows of it are read, so it may be a lazy array.

        Args:
            pixels: Of one channel.
            spacing: Distance between neighbours along each axis; default equal.

        Raises:
            ConfigError: If the image has not 2 or 3 axes, the plane's axis is not
                among them, or the spacing does not fit.
        """
        ndim = len(pixels.shape)
        if ndim not in (2, 3):
            raise ConfigError("image", f"has shape {pixels.shape}", "Give ([Z,] Y, X)")
        if not 0 <= self.plane_axis < ndim:
            raise ConfigError("plane_axis", f"{self.plane_axis} of {ndim} axes")
        steps = np.array((1.0,) * ndim if spacing is None else spacing, float)
        if steps.shape != (ndim,) or not (np.isfinite(steps) & (steps > 0)).all():
            raise ConfigError(
                "spacing", f"is {spacing} for {ndim} axes", "Give positive lengths"
            )
        self._image, self._spacing = pixels, tuple((steps / steps.min()).tolist())
        self._mask = self._target = None
        self._steps = Steps()

    def set_mask(
        self,
        mask: NDArray[Any],
        labels: LabelSet,
        target: int,
        *,
        probability: NDArray[Any] | None = None,
    ) -> None:
        """Take the mask to mend: a model's, one from a file, or an empty one.

        Args:
            mask: As in `medseg.Segmentation`: ``([Z,] Y, X)`` of values, or one
                channel a label for overlapping labels. Copied where the session
                writes, shared where it does not.
            labels: What the mask means.
            target: Value of the label to mend; for instances the number of one.
            probability: Of the target ``([Z,] Y, X)``, in [0, 1]; checked where a
                prompt reads it.

        Raises:
            ConfigError: If there is no image yet, or something does not fit it.
        """
        if self._image is None:
            raise ConfigError("session", "has no image", "Call set_image first")
        wanted = tuple(self._image.shape)
        if labels.kind == "overlapping":
            wanted = (len(labels), *wanted)
        if mask.shape != wanted or mask.dtype.kind not in "biu":
            raise ConfigError(
                "mask",
                f"{mask.dtype} of shape {mask.shape}",
                f"Needed are integers of shape {wanted}",
            )
        self._take_target(Target(labels, target), mask, probability)
        self._mask = mask.copy() if self.writes else mask
        self._steps = Steps()

    def set_target(self, target: int, probability: NDArray[Any] | None = None) -> None:
        """Go on with another label; the history stays.

        Raises:
            ConfigError: If there is no mask yet, no such label, or the probability
                has another shape than the image.
        """
        chosen = Target(self._aim.labels, target)
        self._take_target(chosen, self.mask, probability)

    def _take_target(
        self, target: Target, mask: Array, probability: NDArray[Any] | None
    ) -> None:
        target.check(mask)
        if probability is not None and probability.shape != self._shape:
            raise ConfigError(
                "probability",
                f"has shape {probability.shape}",
                f"The image has {self._shape}",
            )
        self._target, self._probability = target, probability

    @property
    def mask(self) -> Array:
        """The mask as it is now; look, but change it through the verbs only.

        Raises:
            ConfigError: If there is none yet.
        """
        if self._mask is None:
            raise ConfigError("session", "has no mask", "Call set_mask first")
        return self._mask

    @property
    def target(self) -> int:
        """Value (of instances the number) of the label that prompts are about."""
        return self._aim.number

    @property
    def value(self) -> int:
        """Value of the target in `target_map`: 1 for overlapping labels."""
        return self._aim.value

    @property
    def target_map(self) -> Array:
        """The label map ``([Z,] Y, X)`` with the target, for the tools; not copied."""
        return self._aim.map_of(self.mask)

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Prompts in effect for the target, oldest first."""
        return self._steps.prompts(self.target)

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self._steps.done)

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to do again."""
        return bool(self._steps.undone)

    @property
    def nbytes(self) -> int:
        """Bytes of the history."""
        return self._steps.nbytes

    def add(self, prompt: Prompt) -> Edit:
        """Answer a prompt and return what changed; an edit may be empty.

        Raises:
            ConfigError: If there is no mask, the prompt has other axes than it or
                lies outside, or the method needs a probability and has none, or one
                that is not in [0, 1].
        """
        shape = self.target_map.shape
        pixels = prompt.pixels(shape)
        if not pixels[0].size:
            raise ConfigError(
                "prompt", f"lies outside of {shape}", "Mark pixels of the image"
            )
        if self.method.needs_probability and self._probability is None:
            raise ConfigError(
                "method",
                "needs the probability of the target",
                "Run a model, or choose graph_cut, random_walker, grow or paint",
            )
        plane = plane_of(pixels, len(shape), volume=self.volume, axis=self.plane_axis)
        scene = self._scene(plane, prompt.positive)
        found = answer(scene, prompt, plane.drop(pixels), self.method)
        edit = self._aim.lift(plane.lift(found))
        return self._do(Step(edit, self.target, prompt))

    def apply(self, edit: Edit) -> Edit:
        """Add the edit of a tool, or of a brush outside, as one step.

        An edit of `target_map` is put into its channel of overlapping labels.

        Raises:
            ConfigError: If the mask does not hold what the edit found.
        """
        if len(edit.slices) != self.mask.ndim:
            edit = self._aim.lift(edit)
        return self._do(Step(edit, self.target))

    def undo(self) -> Edit | None:
        """Take the last step back; return the edit that does so, None without one."""
        steps = self._steps
        if not steps.done:
            return None
        back = steps.done[-1].edit.inverse()
        self._write(back)
        steps.undone.append(steps.done.pop())
        return back

    def redo(self) -> Edit | None:
        """Do the last step taken back again, with the same result."""
        steps = self._steps
        if not steps.undone:
            return None
        again = steps.undone[-1].edit
        self._write(again)
        steps.done.append(steps.undone.pop())
        return again

    def reset(self) -> Edit:
        """Give the mask back as it was set or last accepted; forget all steps."""
        back = self._steps.whole_way_back(self.mask)
        self._write(back)
        self._steps = Steps()
        return back

    def accept(self) -> Array:
        """Make the mask as it is the one that `reset` returns to; return a copy."""
        self._steps = Steps()
        return self.mask.copy()

    @property
    def _shape(self) -> tuple[int, ...]:
        assert self._image is not None  # there is no mask without one
        return tuple(self._image.shape)

    @property
    def _aim(self) -> Target:
        if self._target is None:
            raise ConfigError("session", "has no mask", "Call set_mask first")
        return self._target

    def _write(self, edit: Edit) -> None:
        if self.writes:
            apply_edit(self.mask, edit)

    def _do(self, step: Step) -> Edit:
        self._write(step.edit)
        self._steps.add(step)
        return step.edit

    def _scene(self, plane: Plane, positive: bool) -> Scene:
        assert self._image is not None  # there is no mask without one
        contrary = [p for p in self.prompts if p.positive != positive]
        p = self._probability
        return Scene(
            labels=plane.of(self.target_map),
            value=self.value,
            image=plane.of(self._image),
            probability=None if p is None else plane.of(p),
            against=[plane.drop(q.pixels(self._shape)) for q in contrary],
            spacing=plane.without(self._spacing),
            radius=self.radius,
            protect=self.protect_other_labels,
        )


def _method(method: MethodName | Method) -> Method:
    if not isinstance(method, str):
        return method
    if method not in METHODS:
        raise ConfigError(
            "method", f"no method {method!r}", f"Choose from {', '.join(METHODS)}"
        )
    return METHODS[method]()

"""Mend a mask with a few clicks and tools, every step one undo."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from napari.qt.threading import create_worker
from napari.utils.notifications import show_info
from qtpy.QtWidgets import QWidget

from medseg.errors import MedsegError
from medseg.napari_plugin._settings import settings
from medseg.napari_plugin.layers import facts_of
from medseg.napari_plugin.mender import Mender, Tool
from medseg.napari_plugin.unsaved import image_of, unwrap
from medseg.napari_plugin.widgets.close_guard import protect
from medseg.napari_plugin.widgets.prompt_input import PromptInput, PromptKind
from medseg.napari_plugin.widgets.recovery_banner import RecoveryBanner
from medseg.napari_plugin.widgets.refine_form import RefineForm, is_probability
from medseg.napari_plugin.widgets.saving import save_mask_of
from medseg.napari_plugin.widgets.shortcuts import Shortcut, Shortcuts
from medseg.refine.edit import Edit
from medseg.refine.prompts import Position, Prompt

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

_SLOW_S = 0.1  # what took longer runs in a thread the next time
_LARGE = 1 << 22  # voxels; tools on more of them run in a thread


class RefineWidget(QWidget):
    """Choose a mask and mend it.

    Args:
        viewer: Holds the mask and its image.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = unwrap(viewer)
        self.mender = Mender(self._viewer)
        self.form = RefineForm(self, self._viewer)
        self.banner = RecoveryBanner(self._viewer, self)
        self.input = PromptInput(self._viewer, self.mender, self._prompted, self._drawn)
        self._slow: set[tuple[Any, ...]] = set()
        self._waiting: deque[Prompt] = deque()
        self._busy = False
        self._connect()
        self.shortcuts = Shortcuts(self._viewer, self._keys())
        self.form.keys.setText(_table(self.shortcuts))
        self.form.protect.setChecked(settings().protect_labels)
        self._mask_changed()

    def _connect(self) -> None:
        form = self.form
        form.mask.currentIndexChanged.connect(self._mask_changed)
        form.image.currentIndexChanged.connect(self._images_changed)
        form.probability.currentIndexChanged.connect(self._images_changed)
        form.new_mask.clicked.connect(self.new_mask)
        form.save.clicked.connect(self.save)
        for kind, button in form.kinds.items():
            button.clicked.connect(lambda _=False, k=kind: self.use(k))
        form.add.clicked.connect(lambda: self._set_sign(False))
        form.take.clicked.connect(lambda: self._set_sign(True))
        form.label.chosen.connect(self._choose_map)
        form.method.currentIndexChanged.connect(self._options_changed)
        form.width.valueChanged.connect(self._options_changed)
        form.protect.toggled.connect(self._options_changed)
        form.volume.toggled.connect(self._options_changed)
        form.undo.clicked.connect(self.undo)
        form.redo.clicked.connect(self.redo)
        form.reset.clicked.connect(self.reset)
        form.accept.clicked.connect(self.accept)
        form.tools.wanted.connect(self.run_tool)
        form.tools.path_wanted.connect(self._path_wanted)
        holder = self.__dict__
        self.destroyed.connect(lambda: _end(holder))

    def _keys(self) -> list[Shortcut]:
        return [
            Shortcut("Q", "prompts off", lambda: self.use("off")),
            Shortcut("W", "point", lambda: self.use("point")),
            Shortcut("G", "box", lambda: self.use("box")),
            Shortcut("H", "scribble", lambda: self.use("scribble")),
            Shortcut("J", "lasso", lambda: self.use("lasso")),
            Shortcut(
                "N", "add / remove", lambda: self._set_sign(not self.input.negative)
            ),
            Shortcut("U", "undo", self.undo),
            Shortcut("Shift+U", "redo", self.redo),
            Shortcut("K", "accept", self.accept),
        ]

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Guard the window against closing with unsaved masks."""
        super().showEvent(event)
        protect(self._viewer, self)
        self.banner.look()

    @property
    def busy(self) -> bool:
        """Whether an answer is being worked out in a thread."""
        return self._busy

    # What is chosen

    @property
    def layer(self) -> Labels | None:
        """The mask that is mended."""
        return self.mender.layer

    def _mask_changed(self, index: int = 0) -> None:
        layer = cast("Labels | None", self.form.mask.layer)
        self.form.label.follow(layer)
        if layer is not None:
            image = image_of(self._viewer, layer)
            if image is not None:
                self.form.image.choose(image)
        self._choose_map()
        self._images_changed()
        self._explain_protection(layer)
        stack = layer is not None and layer.ndim > 2
        movie = layer is not None and bool(facts_of(layer).get("frames"))
        self.form.volume.setEnabled(stack and not movie)
        self.form.tools.buttons["Fill between slices"].setEnabled(stack)
        if not self.form.volume.isEnabled():
            self.form.volume.setChecked(False)

    def _choose_map(self, event: Any = None) -> None:
        """Take the model's map of the structure that is edited, if there is one."""
        form = self.form
        layer = form.mask.layer
        name = form.label.name if layer is not None else ""
        maps = [x for x in self._viewer.layers if is_probability(x)]
        fits = [x for x in maps if _fitting(layer, x) is not None]
        own = [x for x in fits if name and _structure(x) == name]
        if own and form.probability.layer is not own[-1]:
            form.probability.choose(own[-1])
        if own and self.mender.probability is None:
            form.method.setCurrentIndex(form.method.findData("model_guided"))

    def _explain_protection(self, layer: Labels | None) -> None:
        structure = layer is not None and facts_of(layer).get("structure")
        self.form.protect.setToolTip(
            "This structure has a layer of its own and may overlap the others:\n"
            "there are no other labels in the layer to protect"
            if structure
            else "Pixels of other labels of this layer are never overwritten"
        )

    def _images_changed(self, index: int = 0) -> None:
        form = self.form
        layer = form.mask.layer
        image = _fitting(layer, form.image.layer)
        probability = _fitting(layer, form.probability.layer)
        self.mender.choose(layer, image, probability)
        if layer is None:
            form.say("Open a mask, segment, or press New")
        elif image is None:
            form.say("No image of the mask's shape: methods see the mask alone")
        else:
            form.say("")
            low, high = image.contrast_limits
            form.tools.set_range(float(low), float(high))
        units = (
            str(getattr(layer, "units", ("pixel",))[-1]) if layer is not None else ""
        )
        form.tools.unit.setText("mm" if units in ("mm", "millimeter") else "px")
        self._options_changed()

    def _options_changed(self, value: Any = None) -> None:
        form = self.form
        self.mender.method = form.method.currentData()
        self.mender.protect = form.protect.isChecked()
        self.mender.volume = form.volume.isChecked()
        self.input.width = form.width.value()

    def use(self, kind: PromptKind) -> None:
        """Make the next clicks prompts of this kind."""
        self.form.kinds[kind].setChecked(True)
        self.form.tools.release()
        self.input.kind = kind
        if kind != "off":
            self._take_mouse()

    def _path_wanted(self, on: bool) -> None:
        self.input.path_for_tool = on
        if on:
            self._take_mouse()

    def _take_mouse(self) -> None:
        """Select the mask, without napari's brush: clicks are ours, keys the mask's."""
        if self.layer is not None:
            self._viewer.layers.selection.active = self.layer
            self.layer.mode = "pan_zoom"

    def _set_sign(self, negative: bool) -> None:
        self.input.negative = negative
        (self.form.take if negative else self.form.add).setChecked(True)

    # What is done

    def _prompted(self, prompt: Prompt) -> None:
        self._waiting.append(prompt)
        self._answer_next()

    def _answer_next(self) -> None:
        if self._busy or not self._waiting:
            return
        prompt = self._waiting.popleft()
        key = (self.mender.method, self.mender.volume, id(self.layer), type(prompt))
        if key in self._slow:
            work = lambda: self.mender.ask(prompt)  # noqa: E731
            self._in_thread(work, lambda edit: self._taken(edit, prompt))
            return
        begin = time.perf_counter()
        edit = self._try(lambda: self.mender.ask(prompt))
        if time.perf_counter() - begin > _SLOW_S:
            self._slow.add(key)
        if edit is not None:
            self._taken(edit, prompt)
        self._answer_next()

    def _taken(self, edit: Edit, prompt: Prompt) -> None:
        count = self._try(lambda: self.mender.take(edit, prompt))
        if count is not None:
            self._tell(count)

    def run_tool(self, tool: Tool, name: str) -> None:
        """Run a tool on the mask; on a large volume in a thread."""
        layer = self.layer
        large = layer is not None and self.mender.volume and layer.data.size > _LARGE
        if name == "Fill between slices" and layer is not None:
            self.form.volume.setChecked(self.form.volume.isEnabled())
        if large and not self._busy:
            self._in_thread(
                lambda: self.mender.try_tool(tool),
                lambda found: self._tell(self.mender.put(*found), name),
            )
            return
        count = self._try(lambda: self.mender.use_tool(tool))
        if count is not None:
            self._tell(count, name)

    def _drawn(self, path: list[Position], positive: bool) -> None:
        tool, name = self.form.tools.path_tool(path, self.form.width.value(), positive)
        volume, self.mender.volume = self.mender.volume, False
        self.run_tool(tool, name)
        self.mender.volume = volume

    def undo(self) -> None:
        """Take the last step back."""
        self._try(self.mender.undo)

    def redo(self) -> None:
        """Do the last step taken back again."""
        self._try(self.mender.redo)

    def reset(self) -> None:
        """Take back all prompts since the last accept."""
        count = self._try(self.mender.reset)
        if count is not None:
            self._tell(count, "Reset")

    def accept(self) -> None:
        """Keep the mask and clear the prompts."""
        self.mender.accept()

    def new_mask(self) -> None:
        """Add an empty mask for the image and choose it."""
        from medseg.napari_plugin._commands import new_mask

        image = self.form.image.layer
        if image is not None:
            self._viewer.layers.selection.active = image
        before = set(self._viewer.layers)
        self._try(lambda: new_mask(self._viewer))
        for layer in set(self._viewer.layers) - before:
            self.form.mask.choose(layer)

    def save(self) -> None:
        """Save the mask and say where it is."""
        layer = self.layer
        if layer is not None:
            path = self._try(lambda: save_mask_of(self._viewer, layer))
            if path:
                self.form.say(f"Saved and checked: {path}")
                show_info(f"Saved and checked: {path}")

    # Help

    def _try(self, action: Callable[[], Any]) -> Any:
        """Return what the action returns; say what is wrong if it fails."""
        try:
            return action()
        except MedsegError as error:
            self.form.say(str(error), bad=True)
            return None

    def _tell(self, count: int, name: str = "") -> None:
        what = f"{name}: " if name else ""
        text = f"{count} pixels changed" if count else "nothing changed"
        self.form.say(f"{what}{text}")

    def _in_thread(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self._busy = True
        self.form.say("Working ...")

        # In a pair: an exception that a worker returns is raised again there.
        def guarded() -> tuple[Any, MedsegError | None]:
            try:
                return work(), None
            except MedsegError as error:
                return None, error

        def finished(outcome: tuple[Any, MedsegError | None]) -> None:
            self._busy = False
            found, error = outcome
            if error is not None:
                self.form.say(str(error), bad=True)
            else:
                then(found)
            self._answer_next()

        worker = create_worker(guarded, _start_thread=False)
        worker.returned.connect(finished)
        worker.start()


def _fitting(layer: Any, image: Any) -> Any:
    """Return the image if it has the mask's shape, else None."""
    if layer is None or image is None:
        return None
    shape = tuple(image.data.shape)
    return image if shape[: image.ndim] == tuple(layer.data.shape) else None


def _structure(probability: Any) -> str:
    """Return the structure that a layer of probabilities is about."""
    return str(facts_of(probability).get("of") or "")


def _table(shortcuts: Shortcuts) -> str:
    rows = "".join(
        f"<tr><td><b>{s.key}</b>&nbsp;&nbsp;</td><td>{s.text}</td></tr>"
        for s in shortcuts.bound
    )
    own = (
        "<tr><td><b>Shift</b>&nbsp;&nbsp;</td><td>the other sign for one prompt</td></tr>"
        "<tr><td><b>Ctrl-Z</b>&nbsp;&nbsp;</td><td>undo (napari)</td></tr>"
    )
    return f"<table>{rows}{own}</table>"


def _end(state: dict[str, Any]) -> None:
    """Give back mouse and keys when the widget is gone."""
    state["shortcuts"].restore()
    state["input"].close()
    state["mender"].close()

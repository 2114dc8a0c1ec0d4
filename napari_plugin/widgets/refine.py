"""Mend a mask with a few clicks and tools, every step one undo."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info
from qtpy.QtWidgets import QWidget

from medseg.napari_plugin._settings import settings
from medseg.napari_plugin._writer import saved_text
from medseg.napari_plugin.mender import Mender
from medseg.napari_plugin.unsaved import unwrap
from medseg.napari_plugin.widgets.close_guard import protect
from medseg.napari_plugin.widgets.docks import share_place
from medseg.napari_plugin.widgets.prompt_input import PromptInput, PromptKind
from medseg.napari_plugin.widgets.recovery_banner import RecoveryBanner
from medseg.napari_plugin.widgets.refine_choices import RefineChoices
from medseg.napari_plugin.widgets.refine_form import RefineForm
from medseg.napari_plugin.widgets.refine_work import RefineWork
from medseg.napari_plugin.widgets.saving import save_mask_of
from medseg.napari_plugin.widgets.shortcuts import Shortcut, Shortcuts

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Labels


class RefineWidget(QWidget):
    """Choose a mask and mend it.

    Args:
        viewer: Holds the mask and its image.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = unwrap(viewer)
        self.mender = Mender(self._viewer)
        self.form = RefineForm(self, self._viewer)
        self.message = self.form.message
        self.banner = RecoveryBanner(self._viewer, self)
        self.work = RefineWork(self.form, self.mender)
        self.input = PromptInput(
            self._viewer,
            self.mender,
            self.work.ask,
            self.work.draw,
            lambda text: self.message.say(text, bad=True),
        )
        self.choices = RefineChoices(self._viewer, self.form, self.mender)
        self._connect()
        self.shortcuts = Shortcuts(self._viewer, self._keys())
        self.form.keys.setText(
            self.shortcuts.as_table(
                ("Shift", "the other sign for one prompt"), ("Ctrl-Z", "undo (napari)")
            )
        )
        self.form.protect.setChecked(settings().protect_labels)
        self.choices.mask_changed()

    def _connect(self) -> None:
        form = self.form
        form.save.clicked.connect(self.save)
        for kind, button in form.kinds.items():
            button.clicked.connect(lambda _=False, k=kind: self.use(k))
        form.add.clicked.connect(lambda: self._set_sign(False))
        form.take.clicked.connect(lambda: self._set_sign(True))
        for changed in (
            form.method.currentIndexChanged,
            form.width.valueChanged,
            form.protect.toggled,
            form.volume.toggled,
        ):
            changed.connect(lambda _: self._options_changed())
        form.undo.clicked.connect(self.undo)
        form.redo.clicked.connect(self.redo)
        form.reset.clicked.connect(self.reset)
        form.accept.clicked.connect(self.accept)
        form.tools.wanted.connect(self.work.run_tool)
        self.choices.changed.connect(self._options_changed)
        form.tools.path_wanted.connect(self._path_wanted)
        # What was said is no longer so after an undo, nor a prompt's button pressed
        # while napari's brush has the mouse.
        self.mender.changed.connect(lambda: self.message.say(""))
        self.mender.brushed.connect(lambda: self.use("off"))
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
        share_place(self)
        protect(self._viewer, self)
        self.banner.look()
        self.shortcuts.bind()
        self.input.draw()

    def hideEvent(self, event: Any) -> None:  # noqa: N802
        """Give mouse and keys back: napari only hides a dock that is closed."""
        super().hideEvent(event)
        if not event.spontaneous():  # else the window is minimised
            self.use("off")
            self.input.hide()
            self.shortcuts.restore()

    @property
    def busy(self) -> bool:
        """Whether an answer is being worked out in a thread."""
        return self.work.busy

    @property
    def layer(self) -> Labels | None:
        """The mask that is mended."""
        return self.mender.layer

    def _options_changed(self) -> None:
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
            self.input.get_ready()

    def _set_sign(self, negative: bool) -> None:
        self.input.negative = negative
        (self.form.take if negative else self.form.add).setChecked(True)

    def undo(self) -> None:
        """Take the last step back."""
        self._step(self.mender.undo)

    def redo(self) -> None:
        """Do the last step taken back again."""
        self._step(self.mender.redo)

    def _step(self, step: Callable[[], None]) -> None:
        self.message.say("")
        self.work.between(step)

    def reset(self) -> None:
        """Take back all prompts since the last accept."""
        self.work.tell(self.work.between(self.mender.reset), "Reset")

    def accept(self) -> None:
        """Keep the mask and clear the prompts."""
        self.mender.accept()

    def save(self) -> None:
        """Save the mask and say where it is."""
        layer = self.layer
        if layer is not None:
            path = self.message.attempt(lambda: save_mask_of(self._viewer, layer))
            if path:
                self.message.say(f"Saved and checked: {path}")
                show_info(saved_text(path))


def _end(state: dict[str, Any]) -> None:
    """Give back mouse and keys when the widget is gone."""
    state["work"].close()
    state["form"].label.let_go()
    state["shortcuts"].restore()
    state["input"].close()
    state["mender"].close()

"""Prompts and tools of the Refine widget, in a thread where they take long."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from medseg.errors import MedsegError
from medseg.napari_plugin.history import Index
from medseg.napari_plugin.mender import Mender, Tool
from medseg.napari_plugin.widgets.background import in_thread
from medseg.napari_plugin.widgets.refine_form import RefineForm
from medseg.refine.edit import Edit
from medseg.refine.prompts import Position, Prompt

if TYPE_CHECKING:
    from napari.layers import Labels

T = TypeVar("T")
_SLOW_S = 0.1  # what took longer runs in a thread the next time
_LARGE = 1 << 22  # voxels; tools on more of them run in a thread


class RefineWork:
    """Answers prompts in their order, one at a time.

    Args:
        form: Says what happened.
        mender: Does it.

    Attributes:
        busy: Whether an answer is being worked out in a thread.
    """

    def __init__(self, form: RefineForm, mender: Mender) -> None:
        self._form, self._mender = form, mender
        self._slow: set[tuple[Any, ...]] = set()
        self._waiting: deque[Prompt] = deque()
        self.busy = self._over = False

    def close(self) -> None:
        """Forget what is at work: the widget is gone."""
        self._over = True
        self._waiting.clear()

    def ask(self, prompt: Prompt) -> None:
        """Answer a prompt, after those that wait already."""
        self._waiting.append(prompt)
        self._answer_next()

    def _answer_next(self) -> None:
        if self.busy or not self._waiting:
            return
        prompt, mender = self._waiting.popleft(), self._mender
        attempt = self._form.message.attempt
        session = attempt(mender.prepare)
        if session is None:
            self._answer_next()
            return
        key = (mender.method, mender.volume, id(mender.layer), type(prompt))
        if key in self._slow:
            self._in_thread(
                lambda: session.add(prompt), lambda edit: self._taken(edit, prompt)
            )
            return
        begin = time.perf_counter()
        edit = attempt(lambda: session.add(prompt))
        if time.perf_counter() - begin > _SLOW_S:
            self._slow.add(key)
        if edit is not None:
            self._taken(edit, prompt)
        self._answer_next()

    def _taken(self, edit: Edit, prompt: Prompt) -> None:
        self.tell(self._form.message.attempt(lambda: self._mender.take(edit, prompt)))

    def run_tool(self, tool: Tool, name: str, volume: bool | None = None) -> None:
        """Run a tool on the mask; on a large volume in a thread.

        Args:
            tool: What to run.
            name: For the message.
            volume: Whether on the volume; by default what is chosen.
        """
        if self._wait():
            return
        attempt, mender = self._form.message.attempt, self._mender
        if name == "Fill between slices":
            volume = True
        prepared = attempt(lambda: mender.prepare_tool(volume))
        if prepared is None:
            return
        work, within = prepared
        layer = mender.layer
        if work.labels.size > _LARGE:
            self._in_thread(
                lambda: tool(work), lambda edit: self._put(layer, (edit, within), name)
            )
        else:
            self.tell(attempt(lambda: mender.put(tool(work), within)), name)

    def _put(self, layer: Labels | None, found: tuple[Edit, Index], name: str) -> None:
        if self._mender.layer is not layer:
            self._form.message.say(f"{name}: another mask is chosen now", bad=True)
            return
        put = self._mender.put
        self.tell(self._form.message.attempt(lambda: put(*found)), name)

    def draw(self, path: list[Position], positive: bool) -> None:
        """Run the tool that waits for a path."""
        tool, name = self._form.tools.path_tool(
            path, self._form.width.value(), positive
        )
        self.run_tool(tool, name, volume=False)

    def between(self, step: Callable[[], T]) -> T | None:
        """Take a step that changes the mask, unless a thread works on it."""
        return None if self._wait() else self._form.message.attempt(step)

    def _wait(self) -> bool:
        if self.busy:
            self._form.message.say("Wait for what is at work", bad=True)
        return self.busy

    def tell(self, count: int | None, name: str = "") -> None:
        """Say how much has changed; None: something was wrong, and said."""
        if count is None:
            return
        what = f"{name}: " if name else ""
        text = f"{count} pixels changed" if count else "nothing changed"
        self._form.message.say(f"{what}{text}")

    def _in_thread(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        self.busy = True
        self._form.message.say("Working ...")

        def ended(found: T) -> None:
            if self._over:
                return
            self.busy = False
            then(found)
            self._answer_next()

        def failed(error: MedsegError) -> None:
            if self._over:
                return
            self.busy = False
            self._form.message.say(str(error), bad=True)
            self._answer_next()

        in_thread(work, ended, failed)

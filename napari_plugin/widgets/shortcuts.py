"""Bind keys while a widget is open, and give them back when it closes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.napari_plugin.unsaved import unwrap

if TYPE_CHECKING:
    from napari.components import ViewerModel

# Letters that no mode of napari's own layers uses, with any layer selected.
FREE_KEYS = ("G", "H", "J", "K", "N", "Q", "U", "W")


@dataclass(frozen=True)
class Shortcut:
    """A key of the viewer and what it does, in a few words for the list."""

    key: str
    text: str
    action: Callable[[], Any]


class Shortcuts:
    """Bind shortcuts on one viewer; `restore` puts back what was there.

    A key that something else has bound on this viewer is left to it. They are bound
    from the beginning, and again by `bind`.

    Attributes:
        bound: The shortcuts that are in effect.
    """

    def __init__(self, viewer: ViewerModel, shortcuts: Iterable[Shortcut]) -> None:
        self._viewer = unwrap(viewer)
        self._shortcuts = tuple(shortcuts)
        self.bound: list[Shortcut] = []
        self._ours: dict[str, Any] = {}
        self.bind()

    def bind(self) -> None:
        """Bind what is not bound."""
        for shortcut in self._shortcuts:
            if shortcut.key in self._taken():
                continue
            self._viewer.bind_key(shortcut.key, _ignore_viewer(shortcut.action))
            self.bound.append(shortcut)
            self._ours[shortcut.key] = self._taken()[shortcut.key]

    def restore(self) -> None:
        """Unbind what is still ours."""
        for key, function in self._ours.items():
            if self._taken().get(key) is function:
                self._viewer.bind_key(key, None)
        self._ours.clear()
        self.bound.clear()

    def as_table(self, *more: tuple[str, str]) -> str:
        """Return the list for the widget, a row a key, then ``more``."""
        keys = [*((s.key, s.text) for s in self.bound), *more]
        lines = (
            f"<tr><td><b>{key}</b>&nbsp;&nbsp;</td><td>{text}</td></tr>"
            for key, text in keys
        )
        return f"<table>{''.join(lines)}</table>"

    def _taken(self) -> dict[str, Any]:
        return {str(key): value for key, value in self._viewer.keymap.items()}


def _ignore_viewer(action: Callable[[], Any]) -> Callable[[Any], None]:
    def press(viewer: Any) -> None:
        action()

    return press

"""What the user has set in napari's preferences, or the defaults."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, cast


@dataclass(frozen=True)
class Settings:
    """The plugin's settings; the manifest declares the same names and defaults.

    Args:
        device: Where models run.
        tile_size: Largest side in pixels of the windows of a model that slides them
            over an image; 0: the model's own.
        autosave_seconds: Between two saves of what has changed; 0: never.
        protect_labels: Whether tools leave other labels alone.
        model_folder: Where the user's own model folders lie; empty for none.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    tile_size: int = 0
    autosave_seconds: int = 10
    protect_labels: bool = True
    model_folder: str = ""


def settings() -> Settings:
    """Return the settings of now.

    Before napari 0.9 plugins have no place in the preferences: there the defaults
    hold, and the widgets' own controls.
    """
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return Settings()
    try:
        stored = get_plugin_settings("medseg").general
    except KeyError:  # the plugin is not registered in this napari
        return Settings()
    values = {f.name: getattr(stored, f.name) for f in fields(Settings)}
    return Settings(**cast("dict[str, str]", values))  # type: ignore[arg-type]

"""Where there is no window system, tests of windows are left out, and it is said."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.platform == "linux" and not any(
    os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


def _why_no_window() -> str:
    """Return what keeps Qt from being imported; empty if nothing does."""
    try:
        import qtpy.QtTest
        import qtpy.QtWidgets  # noqa: F401
    except ImportError as error:  # not installed, or a library of the system is missing
        return str(error).splitlines()[0]
    return ""


NO_WINDOW = _why_no_window()
# setup.cfg keeps pytest-qt from loading by itself: without Qt it stops every test.
pytest_plugins = [] if NO_WINDOW else ["pytestqt.plugin"]


@pytest.fixture(autouse=True)
def _state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any) -> None:
    """Keep what the plugin saves by itself out of the user's folder."""
    if "MEDSEG_STATE" not in os.environ:
        monkeypatch.setenv("MEDSEG_STATE", str(tmp_path_factory.mktemp("state")))


def pytest_report_header() -> str:
    """Say which tests do not run."""
    return f"tests of windows are left out: {NO_WINDOW}" if NO_WINDOW else ""


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out files that import Qt where it cannot be imported."""
    if not NO_WINDOW or not collection_path.name.startswith("test_napari_"):
        return None
    text = collection_path.read_text(encoding="utf-8")
    windows = ("qtpy", "napari_plugin.widgets", "mark.gui", "make_napari_viewer")
    return True if any(word in text for word in windows) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip windows where Qt draws off the screen: napari's canvas wants OpenGL."""
    if os.environ.get("QT_QPA_PLATFORM") not in ("offscreen", "minimal"):
        return
    skip = pytest.mark.skip(
        reason="needs a display with OpenGL: try xvfb-run -a pytest"
    )
    for item in items:
        if item.get_closest_marker("gui") is not None:
            item.add_marker(skip)

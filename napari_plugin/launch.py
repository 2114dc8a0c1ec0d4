"""Open a napari window with the plugin and some files: ``python -m ... PATH...``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from medseg.errors import ExitCode, MedsegError

if TYPE_CHECKING:
    from napari.viewer import Viewer

WIDGET = "Segment"
_SETTLED_MS = 500  # by then the widget has taken its part of the window


def open_paths(viewer: Viewer, paths: Sequence[str]) -> list[str]:
    """Open each path by the plugin; return one line for each that was refused."""
    problems = []
    for path in paths:
        try:
            viewer.open(path, plugin="medseg")
        except MedsegError as error:
            problems.append(str(error))
        except ValueError:  # npe2: no reader of ours takes it
            problems.append(f"{path}: neither an image nor a folder that medseg reads.")
    return problems


def main(paths: Sequence[str]) -> None:
    """Show a window with the segment widget and ``paths``; return when it closes."""
    import napari
    from napari.utils.notifications import show_error
    from qtpy.QtCore import QTimer

    viewer = napari.Viewer(title="medseg")
    problems = open_paths(viewer, paths)
    viewer.window.add_plugin_dock_widget("medseg", WIDGET)
    QTimer.singleShot(_SETTLED_MS, viewer.reset_view)
    for line in problems:
        print(line, file=sys.stderr)
        show_error(line)
    napari.run()


def start(paths: Sequence[str]) -> int:
    """Show the window; return the exit code of the process."""
    try:
        main(paths)
    except KeyboardInterrupt:  # napari has closed in order, and kept what is unsaved
        return ExitCode.CANCELLED
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(start(sys.argv[1:]))

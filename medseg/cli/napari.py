"""``medseg napari``: a window with the plugin in it."""

from __future__ import annotations

import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from medseg.errors import ConfigError, FileError

LAUNCH = "medseg.napari_plugin.launch"


def napari(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Images, masks, series, movies."),
    ] = None,
) -> None:
    """Open napari with the plugin, and files in it.

    Takes images and masks, folders with a DICOM series, with a movie or with a
    tracking result.
    """
    for path in paths or ():
        if not path.exists():
            raise FileError(path, "there is no such file", "Check the path")
    if find_spec("napari") is None or find_spec("qtpy") is None:
        raise ConfigError("napari", "is not installed", "pip install 'medseg[gui]'")
    # A process of its own: Qt wants the main thread, and the rooms below the plugin
    # do not import it.
    command = [sys.executable, "-P", "-m", LAUNCH, *(str(p) for p in paths or ())]
    code = _run(command)
    if code:
        raise typer.Exit(code)


def _run(command: list[str]) -> int:
    """Run a program to its end; Ctrl-C is for it alone, to keep what is unsaved."""
    with subprocess.Popen(command) as process:
        # Set after the start: what is ignored now, the program would ignore too.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return process.wait()
        finally:
            signal.signal(signal.SIGINT, before)

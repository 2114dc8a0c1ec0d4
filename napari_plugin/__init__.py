"""The napari plugin."""

from __future__ import annotations

if __name__ != "medseg.napari_plugin":
    raise ImportError(
        "this folder is medseg.napari_plugin; install medseg and import it by that name"
    )

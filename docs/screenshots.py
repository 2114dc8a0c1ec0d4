"""Draw the pictures of the pages: each widget in a real window, on drawn data.

    xvfb-run -a -s "-screen 0 1280x800x24" python docs/screenshots.py [NAME ...]

writes ``docs/images/napari-NAME.png``. One function a widget; it gets a viewer and
returns when the picture may be taken.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from medseg.datasets.synthetic import chest_film
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.napari_plugin.layers import image_layers
from medseg.napari_plugin.unsaved import keeper_of

IMAGES = Path(__file__).parent / "images"
SIZE = (1280, 800)


def settle(seconds: float = 1.0) -> None:
    """Let the window draw itself."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.005)


def wait_while(condition: Callable[[], bool], seconds: float = 900) -> None:
    """Let the window live until ``condition`` no longer holds."""
    end = time.monotonic() + seconds
    while condition():
        if time.monotonic() > end:
            raise TimeoutError(f"nothing after {seconds:g} s")
        settle(0.05)


def add_film(viewer: napari.Viewer, seed: int = 1) -> None:
    """Open a drawn chest film of 0.7 mm pixels."""
    film = chest_film(np.random.default_rng(seed), 512)
    geometry = Geometry.upright((0.7, 0.7))
    for data, keywords, _ in image_layers(Image(film.image[None], geometry), "film"):
        viewer.add_image(data, **keywords)


def ellipsoids(shape: tuple[int, int, int] = (40, 128, 128)) -> Image:
    """Return a CT-like volume of a body with two lungs, 3 x 1 x 1 mm."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    body = (x / 0.9) ** 2 + (y / 0.7) ** 2 < 1
    lungs = ((abs(x) - 0.4) / 0.3) ** 2 + (y / 0.45) ** 2 + ((z - 0.1) / 0.8) ** 2 < 1
    spine = (x / 0.12) ** 2 + ((y - 0.55) / 0.12) ** 2 < 1
    values = np.where(body, 40.0, -1000.0)
    values[lungs] = -800
    values[spine & body] = 600
    noise = np.random.default_rng(0).normal(0, 15, shape)
    pixels = (values + noise).astype(np.int16)[None]
    return Image(pixels, Geometry.upright((3.0, 1.0, 1.0)), {"modality": "CT"})


def segment(viewer: napari.Viewer) -> None:
    """A film and what the model finds on it."""
    from medseg.napari_plugin.widgets.segment import SegmentWidget

    add_film(viewer)
    widget = SegmentWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Segment")
    settle()
    widget.run()
    wait_while(lambda: widget.running)


def view(viewer: napari.Viewer) -> None:
    """A volume, seen from the front."""
    from medseg.napari_plugin.layers import facts
    from medseg.napari_plugin.widgets.view import ViewWidget

    image = ellipsoids()
    for data, keywords, _ in image_layers(image, "volume"):
        layer = viewer.add_image(data, **keywords)
    doubt = np.random.default_rng(1).random(image.spatial_shape, np.float32) / 20
    doubt[12, 40:80, 30:60] += 0.7
    own = facts(image.geometry)
    own["medseg"]["role"] = "uncertainty"
    place = {"scale": layer.scale, "affine": layer.affine, "units": layer.units}
    viewer.add_image(
        doubt, name="uncertainty (volume)", visible=False, metadata=own, **place
    )
    widget = ViewWidget(viewer)
    viewer.window.add_dock_widget(widget, name="View slices")
    settle()
    widget.image.choose(layer)
    widget.presets[0].click()
    widget.worst.click()
    settle()
    widget.look_along(1)


def refine(viewer: napari.Viewer) -> None:
    """A lung with a piece missing, and the prompts that mend it."""
    from medseg.labels import LabelSet, chest_labels
    from medseg.napari_plugin.layers import segmentation_layers
    from medseg.napari_plugin.widgets.refine import RefineWidget
    from medseg.refine.prompts import Point, Scribble
    from medseg.segmentation import Segmentation

    add_film(viewer)
    film = chest_film(np.random.default_rng(1), 512)
    labels = LabelSet(chest_labels().labels[:3])
    mask = np.zeros(film.image.shape, np.uint8)
    for label, drawn in zip(labels, film.masks, strict=False):
        mask[(drawn > 0) & (mask == 0)] = label.value
    rows, columns = np.nonzero(mask == 1)
    low = (mask == 1) & (np.arange(512)[:, None] > np.percentile(rows, 70))
    mask[low] = 0
    seg = Segmentation(mask, labels, Geometry.upright((0.7, 0.7)))
    for data, keywords, _ in segmentation_layers(seg, "film mask"):
        layer = viewer.add_labels(data, **keywords)
    layer.opacity = 0.5
    widget = RefineWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Refine")
    settle()
    widget.use("point")
    y, x = (float(np.median(axis)) for axis in np.nonzero(low))
    widget.work.ask(Point((y, x)))
    side = float(np.percentile(columns, 20))
    widget.work.ask(Scribble(((y - 20, side), (y + 10, side + 6)), width=5))
    wait_while(lambda: widget.busy)
    widget.form.list_keys.setChecked(True)


def track(viewer: napari.Viewer) -> None:
    """A movie that was linked, and the first place to look at."""
    from medseg.napari_plugin._samples import movie
    from medseg.napari_plugin.widgets.track import TrackWidget

    (pixels, image, _), (masks, keywords, _), _ = movie()
    viewer.add_image(pixels, **image)
    masks = masks.copy()
    masks[9][masks[9] == 4] = 0  # a cell that the model missed
    keywords = {**keywords, "visible": True, "name": "cells mask"}
    layer = viewer.add_labels(masks, **keywords)
    layer.opacity = 0.5
    widget = TrackWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Track")
    settle()
    widget.linking.link.click()
    wait_while(lambda: widget.runs.running)
    widget.tabs.setCurrentIndex(2)
    widget.checking.step(1)


def measure(viewer: napari.Viewer) -> None:
    """The tracks of a movie as a table, one of them chosen."""
    from medseg.napari_plugin._samples import movie
    from medseg.napari_plugin.widgets.measure import MeasureWidget

    (pixels, image, _), (masks, keywords, _), (points, own, _) = movie()
    viewer.add_image(pixels, **image)
    layer = viewer.add_labels(masks, **{**keywords, "visible": True})
    layer.opacity = 0.5
    viewer.add_tracks(points, **own)
    widget = MeasureWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Measure")
    settle()
    widget.cells.with_tracks.setChecked(True)
    widget.cells.interval.setValue(300)
    widget.measure()
    wait_while(lambda: widget.running)
    widget.cells.table.selectRow(40)


def ratio(viewer: napari.Viewer) -> None:
    """The cardiothoracic ratio of a film, a line moved by hand."""
    from medseg.labels import LabelSet, chest_labels
    from medseg.napari_plugin.layers import segmentation_layers
    from medseg.napari_plugin.widgets.measure import MeasureWidget
    from medseg.segmentation import Segmentation

    add_film(viewer)
    film = chest_film(np.random.default_rng(1), 512)
    labels = LabelSet(chest_labels().labels[:3], "overlapping")
    mask = np.stack([m > 0 for m, _ in zip(film.masks, labels, strict=False)])
    seg = Segmentation(mask.astype(np.uint8), labels, Geometry.upright((0.7, 0.7)))
    for data, keywords, _ in segmentation_layers(seg, "film mask"):
        viewer.add_labels(data, **keywords).opacity = 0.3
    widget = MeasureWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Measure")
    settle()
    lines = widget.film.lines.layer
    heart, thorax = (np.array(x) for x in lines.data)
    heart[1, 1] += 12
    lines.data = [heart, thorax]


PICTURES: dict[str, Callable[[napari.Viewer], None]] = {
    "measure": measure,
    "ratio": ratio,
    "refine": refine,
    "segment": segment,
    "track": track,
    "view": view,
}


def draw(name: str, path: Path) -> None:
    """Open a viewer, fill it and save its picture."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZE)
    settle()
    PICTURES[name](viewer)
    settle(1.5)
    viewer.screenshot(str(path), canvas_only=False, flash=False)
    keeper_of(viewer).stop(keep=False)  # nobody is there to be asked about the masks
    viewer.close()


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    # Away from the masks that a real session may have left to be restored.
    with TemporaryDirectory() as folder:
        os.environ["MEDSEG_STATE"] = folder
        for wanted in sys.argv[1:] or PICTURES:
            draw(wanted, IMAGES / f"napari-{wanted}.png")

"""Run a model on the image that is open, and watch the masks arrive."""

from __future__ import annotations

from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, cast

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QWidget

from medseg.errors import ConfigError, ModelError
from medseg.napari_plugin._settings import settings
from medseg.napari_plugin.layers import facts_of
from medseg.napari_plugin.models import ModelInfo, find_models, read_model
from medseg.napari_plugin.results import Results, import_for_layers
from medseg.napari_plugin.scope import (
    Scope,
    leading_axes,
    position,
    select,
    shape_of,
)
from medseg.napari_plugin.unsaved import unwrap
from medseg.napari_plugin.widgets.close_guard import protect
from medseg.napari_plugin.widgets.docks import share_place
from medseg.napari_plugin.widgets.layer_combo import follow
from medseg.napari_plugin.widgets.recovery_banner import RecoveryBanner
from medseg.napari_plugin.widgets.segment_form import SegmentForm
from medseg.napari_plugin.widgets.segment_run import Order, SegmentRun
from medseg.napari_plugin.worker.client import WorkerClient, shared_client
from medseg.napari_plugin.worker.protocol import Options

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer

_DEVICES_MS = 300
_IN_GREY = (
    "The image is in colour and was seen in grey: is it what the model was trained on?"
)


class SegmentWidget(QWidget):
    """Choose an image, a model and what to run it on.

    Args:
        viewer: Holds the images and gets the masks.
        client: Runs the models; default: the one of this napari.
    """

    def __init__(
        self, viewer: napari.viewer.Viewer, client: WorkerClient | None = None
    ) -> None:
        super().__init__()
        self._viewer = unwrap(viewer)
        self._client = client or shared_client()
        self._models: list[ModelInfo] = []
        self._warmed = False
        self.form = SegmentForm(self, self._viewer, _is_picture)
        self.banner = RecoveryBanner(self._viewer, self)
        self.work = SegmentRun(
            self, self.form, self._client, lambda: self._enable(), self._activate
        )
        self._looking = QTimer(self, interval=_DEVICES_MS)
        self._looking.timeout.connect(self._look_for_devices)
        self._connect()
        self._load_models()
        self.form.set_device(settings().device)
        self._look_for_devices()
        self._image_changed()

    def _connect(self) -> None:
        form = self.form
        form.run.clicked.connect(self.run)
        form.cancel.clicked.connect(self.cancel)
        form.browse.clicked.connect(self._browse)
        form.image.currentIndexChanged.connect(self._image_changed)
        form.model.currentIndexChanged.connect(self._model_changed)
        form.scope.currentIndexChanged.connect(self._scope_changed)
        follow(self, self._viewer.dims.events, ("current_step",), self._scope_changed)
        selected = self._viewer.layers.selection.events
        follow(
            self, selected, ("active",), lambda event: form.image.choose(event.value)
        )

    # What is chosen

    @property
    def image(self) -> Image | None:
        """The chosen layer."""
        return cast("Image | None", self.form.image.layer)

    @property
    def model(self) -> ModelInfo | None:
        """The chosen model."""
        index = self.form.model.currentIndex()
        return self._models[index] if 0 <= index < len(self._models) else None

    @property
    def running(self) -> bool:
        """Whether a run is being prepared, goes on, or shows its last results."""
        return self.work.going

    def _options(self) -> Options:
        form = self.form
        return Options(
            engine=form.engine.currentData(),
            device=form.device.currentData(),
            test_time_augmentation=form.mirrors.isChecked()
            and form.mirrors.isEnabled(),
            probabilities=form.probabilities.isChecked(),
            uncertainty=form.uncertainty.isChecked(),
            diameter=form.cell_diameter,
            tile_size=settings().tile_size,
        )

    def _load_models(self) -> None:
        folder = settings().model_folder
        try:
            self._models = list(find_models(Path(folder) if folder else None))
        except ModelError as error:
            self.form.say(str(error), bad=True)
        self.form.set_models(self._models)
        self._model_changed()

    def add_model(self, folder: Path) -> None:
        """Offer the model in ``folder`` and choose it; says so if there is none."""
        try:
            model = read_model(folder)
        except ModelError as error:
            self.form.say(str(error), bad=True)
            return
        self._models.append(model)
        self.form.set_models(self._models, len(self._models) - 1)
        self._model_changed()
        self.form.say("")

    def _browse(self) -> None:
        start = settings().model_folder
        title = "Folder of a model (it holds model.json)"
        folder = QFileDialog.getExistingDirectory(self, title, start)
        if folder:
            self.add_model(Path(folder))

    # What follows from a choice

    def _model_changed(self, index: int = 0) -> None:
        model = self.model
        self.form.describe_model(model)
        if self._warmed and model is not None and not self.running:
            self._client.warm(model.source, self._options())
        self._image_changed()

    def _image_changed(self, index: int = 0) -> None:
        slices = 0
        if self.image is not None and self.model is not None:
            try:
                lead = leading_axes(self.image, self.model.dims)
            except ConfigError as error:
                self.form.say(str(error), bad=True)
            else:
                slices = shape_of(self.image)[0] if lead else 0
                if not self.running:
                    self.form.say("")
        self.form.set_slices(slices)
        self._scope_changed()

    def _scope_changed(self, event: Any = None) -> None:
        where = ""
        if self.image is not None and self.form.scope.currentData() == "slice":
            at = position(self.image, self._viewer)
            lead = len(at) - (self.model.dims if self.model else 2)
            where = ", ".join(str(i) for i in at[: max(0, lead)])
        self.form.show_scope(where)
        self._enable()

    def _enable(self) -> None:
        image, model = self.image, self.model
        fits = (
            image is not None
            and model is not None
            and len(shape_of(image)) >= model.dims
        )
        self.form.run.setEnabled(fits and not self.running)
        self.form.cancel.setEnabled(self.running)

    def _look_for_devices(self) -> None:
        found = self._client.devices
        if found is not None:
            self.form.set_devices(found)
            self._looking.stop()

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Load model and libraries in the background as soon as the widget is seen."""
        super().showEvent(event)
        share_place(self)
        protect(self._viewer, self)
        self.banner.look()
        if not self._warmed:
            self._warmed = True
            self._looking.start()
            Thread(target=import_for_layers, daemon=True).start()
            QTimer.singleShot(0, self._model_changed)

    # A run

    def run(self) -> None:
        """Start the model on what is chosen."""
        image, model = self.image, self.model
        if image is None or model is None or self.running:
            return
        try:
            planes = select(
                image,
                model.dims,
                cast("Scope", self.form.scope.currentData()),
                at=position(image, self._viewer),
                span=self.form.span,
            )
        except ConfigError as error:
            self.form.say(str(error), bad=True)
            return
        options = self._options()
        results = Results(
            self._viewer,
            image,
            planes,
            model.labels,
            model.name,
            probabilities=options.probabilities,
            uncertainty=options.uncertainty,
            cell_map=model.cell_map,
            replace=self.form.existing.currentData() == "replace",
        )
        remark = _IN_GREY if image.rgb and not model.colour else ""
        self.work.begin(Order(planes.stack, model.source, options, remark), results)

    def cancel(self) -> None:
        """End the run now; the slices that have been shown stay."""
        self.work.cancel()

    def _activate(self, layer: Layer) -> None:
        self._viewer.layers.selection.active = layer


def _is_picture(layer: Layer) -> bool:
    from napari.layers import Image

    role = facts_of(layer).get("role", "")
    return isinstance(layer, Image) and role not in ("probability", "uncertainty")

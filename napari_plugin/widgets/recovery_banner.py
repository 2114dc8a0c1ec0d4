"""Offer the masks of a napari that ended without saving."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QFrame,
    QLabel,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from medseg.errors import MedsegError
from medseg.napari_plugin.recovery import Found, discard, find_lost, restore
from medseg.napari_plugin.unsaved import keeper_of, unwrap
from medseg.napari_plugin.widgets.controls import row

if TYPE_CHECKING:
    from napari.components import ViewerModel


class RecoveryBanner(QFrame):
    """Shows on top of ``widget`` how many masks can be given back; hidden while there are none."""

    def __init__(self, viewer: ViewerModel, widget: QWidget) -> None:
        super().__init__(widget)  # shown without a parent it would be a window
        self._viewer = unwrap(viewer)
        self.found: tuple[Found, ...] = ()
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.restore_button = QPushButton("Restore")
        self.restore_button.setToolTip("Put these masks back into the viewer, unsaved")
        self.discard_button = QPushButton("Discard")
        self.discard_button.setToolTip("Delete these masks for good")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addWidget(self.text)
        layout.addWidget(row(self.restore_button, self.discard_button))
        self.restore_button.clicked.connect(self.restore_all)
        self.discard_button.clicked.connect(self.discard_all)
        around = widget.layout()
        assert isinstance(around, QVBoxLayout)
        around.insertWidget(0, self)
        self.look()

    def look(self) -> None:
        """Look for journals of processes that are gone, and of removed masks."""
        self.found = (*find_lost(), *keeper_of(self._viewer).removed)
        titles = [found.title for found in self.found]
        more = f"\nand {len(titles) - 4} more" if len(titles) > 4 else ""
        self.text.setText("Unsaved masks were kept:\n" + "\n".join(titles[:4]) + more)
        self.setVisible(bool(self.found))

    def restore_all(self) -> None:
        """Give all masks back; one that cannot be stays on the list, with the reason."""
        from napari.utils.notifications import show_info, show_warning

        keeper = keeper_of(self._viewer)
        for found in self.found:
            if not found.path.exists():  # another widget's banner was quicker
                continue
            try:
                layer, remark = restore(self._viewer, found)
                keeper.look(layer)
                while not keeper.save():  # safe again before the old journal goes
                    pass
            except MedsegError as error:
                show_warning(str(error))
                continue
            discard(found)
            show_info(f"{layer.name} is back{': ' + remark if remark else ''}")
        self.look()

    def discard_all(self) -> None:
        """Delete the masks after asking."""
        if self.isVisible() and not self._sure():
            return
        for found in self.found:
            discard(found)
        self.look()

    def _sure(self) -> bool:
        button = QMessageBox.StandardButton
        question = f"Delete {len(self.found)} unsaved masks for good?"
        answer = QMessageBox.question(
            self, "Unsaved masks", question, button.Discard | button.Cancel
        )
        return answer == button.Discard

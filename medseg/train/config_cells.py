"""What a training configuration says of cells: how they become targets and back."""

from __future__ import annotations

from dataclasses import dataclass, field

from medseg.errors import ConfigError
from medseg.instances import InstanceRule


@dataclass(frozen=True)
class CellsConfig:
    """The table ``[cells]``, for labels of the kind ``instances``."""

    rule: InstanceRule = field(default_factory=lambda: InstanceRule("watershed"))
    """How the network's maps become cells; its ``method`` decides the targets."""
    border_weight: float = 0.0
    """The w0 of the U-Net's weight map: 10 in the paper, 0 weighs all pixels alike."""
    border_sigma: float = 5.0
    """Width of that map, and of the border map of ``watershed``, in pixels."""
    crops: int = 4
    """Crops of the stage's size drawn from every image in an epoch."""
    centred: float = 0.7
    """Share of the crops that lie around a cell drawn by lot."""
    diameter: float = 0.0
    """Of the cells that the network learns, in pixels; stated in the model, and what
    images of sets with ``rescale`` are scaled to. 0: not stated."""
    elastic: float = 10.0
    """Largest displacement, in pixels, of the corners of a coarse random grid."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("border_weight", 0, 1000),
            ("border_sigma", 0.1, 100),
            ("crops", 1, 1000),
            ("centred", 0, 1),
            ("elastic", 0, 100),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                remedy = f"Use a value from {low} to {high}"
                raise ConfigError(f"cells.{name}", f"is {value}", remedy)
        if not (self.diameter == 0 or 1 <= self.diameter <= 4096):
            remedy = "Use 1 to 4096 pixels, or 0 to leave it open"
            raise ConfigError("cells.diameter", f"is {self.diameter}", remedy)

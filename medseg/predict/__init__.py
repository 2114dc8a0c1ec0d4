"""Image in, segmentation out."""

from __future__ import annotations

from medseg.predict.diameter import CellSize, Diameter
from medseg.predict.predictor import Predictor
from medseg.predict.runner import Inferred, Prepared

__all__ = ["CellSize", "Diameter", "Inferred", "Predictor", "Prepared"]

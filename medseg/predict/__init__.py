"""Image in, segmentation out."""

from __future__ import annotations

from medseg.predict.diameter import CellSize, Diameter
from medseg.predict.predictor import Inferred, Predictor, Prepared

__all__ = ["CellSize", "Diameter", "Inferred", "Predictor", "Prepared"]

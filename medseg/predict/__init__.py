"""Image in, segmentation out."""

from __future__ import annotations

from medseg.predict.predictor import Inferred, Predictor, Prepared

__all__ = ["Inferred", "Predictor", "Prepared"]

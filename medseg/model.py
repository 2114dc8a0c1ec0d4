"""Models: load, save, list, verify, pack and convert them."""

from __future__ import annotations

from medseg.model_files import model_folder, shipped_models
from medseg.model_io import Model, load_model, load_spec, save_model
from medseg.model_spec import ModelSpec
from medseg.model_tools import (
    convert,
    list_models,
    pack_model,
    show_model,
    unpack_model,
    verify_model,
)

__all__ = [
    "Model",
    "ModelSpec",
    "convert",
    "list_models",
    "load_model",
    "load_spec",
    "model_folder",
    "pack_model",
    "save_model",
    "shipped_models",
    "show_model",
    "unpack_model",
    "verify_model",
]

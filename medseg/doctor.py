"""Whether this machine is ready: versions, devices, folders, shipped models."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from medseg.errors import MedsegError

PACKAGES = (
    "torch", "monai", "openvino", "numpy", "scipy", "scikit-image", "pydicom",
    "nibabel", "SimpleITK", "tifffile", "imagecodecs", "Pillow", "safetensors",
)  # fmt: skip
OPTIONAL = ("distributed", "napari")
_LOW_DISK = 200 << 20
_OLDEST = (3, 11)


@dataclass(frozen=True)
class Check:
    """One line of the table."""

    name: str
    ok: bool
    detail: str


def examine() -> list[Check]:
    """Return every check; the models are loaded, which takes a few seconds."""
    return [
        check_python(),
        *map(check_package, PACKAGES),
        *(check_package(name, optional=True) for name in OPTIONAL),
        check_processor(),
        check_gpu(),
        *check_engines(),
        check_temporary_folder(Path(tempfile.gettempdir())),
        *check_models(),
    ]


def check_python() -> Check:
    """Return the check of the interpreter's version."""
    text = f"{platform.python_version()} on {platform.platform()}"
    return Check("python", sys.version_info[:2] >= _OLDEST, text)


def check_package(name: str, optional: bool = False) -> Check:
    """Return the check that a package is installed, and its version."""
    try:
        return Check(name, True, metadata.version(name))
    except metadata.PackageNotFoundError:
        if optional:
            return Check(name, True, "not installed (optional)")
        return Check(name, False, f"not installed. Run: pip install {name}")


def check_processor() -> Check:
    """Return how many processors and threads there are."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    threads = torch.get_num_threads()
    return Check(
        "processor", True, f"{cores or os.cpu_count()} cores, torch uses {threads}"
    )


def check_gpu() -> Check:
    """Return the GPU's name and memory; none is no fault."""
    import torch

    if not torch.cuda.is_available():
        return Check("gpu", True, "none found, the processor is used")
    facts = torch.cuda.get_device_properties(0)
    text = f"{facts.name}, {facts.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}"
    return Check("gpu", True, text)


def check_engines() -> Iterator[Check]:
    """Yield whether each engine can be used."""
    yield Check("engine", True, "torch")
    from medseg.engines.openvino import openvino_core

    try:
        devices = ", ".join(openvino_core().available_devices)
    except (ImportError, RuntimeError) as error:
        yield Check("engine", False, f"openvino does not start: {error}")
    else:
        yield Check("engine", bool(devices), f"openvino on {devices or 'nothing'}")


def check_temporary_folder(folder: Path) -> Check:
    """Return whether ``folder`` can be written to and has room."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"medseg")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check("temporary", False, f"{folder}: {error.strerror}")
    return Check("temporary", free > _LOW_DISK, f"{folder}, {free / 1e9:.1f} GB free")


def check_models() -> Iterator[Check]:
    """Yield whether each shipped model passes every check of the loader."""
    from medseg.model import shipped_models, verify_model

    names = shipped_models()
    for name in names:
        try:
            verify_model(name)
        except MedsegError as error:
            yield Check("model", False, str(error))
        else:
            yield Check("model", True, f"{name} verified")
    if not names:
        yield Check("model", False, "no shipped model found. Install medseg again")

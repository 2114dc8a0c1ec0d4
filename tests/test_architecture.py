"""Which way the imports go, how heavy they are, and what may not be written."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "medseg": ROOT / "medseg",
    "medseg.datasets": ROOT / "datasets",
    "medseg.napari_plugin": ROOT / "napari_plugin",
}

# A room imports only from rooms of a lower number; equal numbers only from
# themselves, unless an exception below says otherwise.
RANK = {
    "errors": 0,
    "geometry": 1,
    "image": 1,
    "labels": 1,
    "lineage": 1,
    "segmentation": 1,
    "io": 2,
    "attention": 2,
    "channels": 2,
    "depth": 2,
    "postprocess": 2,
    "regions": 2,
    "overlay": 2,
    "instances": 3,
    "panoptic": 3,
    "partition": 3,
    "stitching": 3,
    "metrics": 3,
    "track": 3,
    "measure": 3,
    "datasets": 3,
    "schema": 3,
    "partition_baselines": 4,
    "networks": 4,
    "losses": 4,
    "border_weights": 4,
    "transforms": 4,
    "model": 5,
    "model_files": 5,
    "model_io": 5,
    "model_parts": 5,
    "model_spec": 5,
    "model_tools": 5,
    "weights": 5,
    "engines": 6,
    "predict": 7,
    "train": 8,
    "batch": 8,
    "refine": 8,
    "shape_prior": 8,
    "doctor": 9,
    "demo": 9,
    "cli": 10,
    "napari_plugin": 11,
}
SAME_RANK = {1, 5}
VALUES = {"errors", "geometry", "image", "labels", "lineage", "segmentation"}
LIGHT = VALUES | {
    "io",
    "attention",
    "channels",
    "depth",
    "instances",
    "panoptic",
    "partition",
    "partition_baselines",
    "stitching",
    "postprocess",
    "regions",
    "overlay",
    "metrics",
    "measure",
    "track",
    "datasets",
    "model_files",
}
HEAVY = {"torch", "monai", "torchvision", "openvino", "lightning_fabric"}
QT = {"qtpy", "napari", "magicgui", "PySide6", "PyQt6"}
BANNED_CALLS = {"eval", "exec"}
BANNED_MODULES = {"pickle", "cPickle", "dill", "joblib"}


def modules() -> list[tuple[str, Path]]:
    found = []
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join([package, *parts]).removesuffix(".__init__")
            found.append((name, path))
    return found


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else "medseg"


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{a.name}" for a in node.names}
    return names


MODULES = [m for m in modules() if m[0] != "medseg"]


@pytest.mark.parametrize(("name", "path"), MODULES, ids=[m[0] for m in MODULES])
def test_imports_go_one_way(name: str, path: Path) -> None:
    own = room(name)
    assert own in RANK, f"{name}: give the room {own!r} a rank"
    for target in imports(path):
        if not target.startswith("medseg.") or room(target) not in RANK:
            continue
        other = room(target)
        same = other == own or (RANK[own] == RANK[other] and RANK[own] in SAME_RANK)
        assert same or RANK[other] < RANK[own], f"{name} imports {target}"


@pytest.mark.parametrize(("name", "path"), MODULES, ids=[m[0] for m in MODULES])
def test_heavy_libraries_stay_in_their_rooms(name: str, path: Path) -> None:
    tops = {target.split(".")[0] for target in imports(path)}
    own = room(name)
    if own in LIGHT:
        assert not tops & HEAVY
    if own != "napari_plugin":
        assert not tops & QT
    if own in VALUES:
        third = tops - set(sys.stdlib_module_names) - {"medseg"}
        assert third <= {"numpy"}


@pytest.mark.parametrize(("name", "path"), MODULES, ids=[m[0] for m in MODULES])
def test_nothing_that_runs_foreign_code(name: str, path: Path) -> None:
    tops = {target.split(".")[0] for target in imports(path)}
    assert not tops & BANNED_MODULES
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            words = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert called not in BANNED_CALLS, f"{name}:{node.lineno}"
            assert called != "yaml.load", f"{name}:{node.lineno}"
            assert "allow_pickle" not in words, f"{name}:{node.lineno}"
            assert words.get("shell") != "True", f"{name}:{node.lineno}"
            if called == "torch.load":
                assert words.get("weights_only") == "True", f"{name}:{node.lineno}"


def test_importing_medseg_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'monai', 'numpy'}"
    code = f"import medseg, sys; print(sorted(set(sys.modules) & {heavy}))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"

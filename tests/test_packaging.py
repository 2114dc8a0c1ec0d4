"""What is declared is what is there, and the wheel holds it."""

from __future__ import annotations

import configparser
import importlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def declared() -> set[str]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return set(config["options"]["packages"].split())


def on_disk() -> set[str]:
    folders = {
        "medseg": "medseg",
        "medseg.datasets": "datasets",
        "medseg.napari_plugin": "napari_plugin",
    }
    found = set()
    for package, folder in folders.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join([package, *parts]))
    return found


def test_declared_packages_are_the_folders_on_disk() -> None:
    assert declared() == on_disk()


@pytest.mark.parametrize("folder", ["datasets", "napari_plugin"])
def test_the_mapped_folders_refuse_their_short_name(folder: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {folder}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1
    assert f"this folder is medseg.{folder}" in run.stderr


@pytest.mark.parametrize("name", ["datasets", "napari_plugin"])
def test_the_mapped_folders_import_by_their_long_name(name: str) -> None:
    assert importlib.import_module(f"medseg.{name}").__name__ == f"medseg.{name}"


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_runs(tmp_path: Path) -> None:
    run = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "-q",
        "-w",
        tmp_path,
        ROOT,
    ]
    subprocess.run(run, check=True, capture_output=True, text=True)
    wheel = next(tmp_path.glob("medseg-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"medseg"}
    assert "medseg/datasets/__init__.py" in names
    weights = [n for n in names if n.endswith("weights.safetensors")]
    shipped = sorted(p.name for p in (ROOT / "medseg/models").glob("*/model.json"))
    assert len(weights) == len(shipped)
    # Run from the unpacked wheel, not from the checkout: -P keeps the working
    # directory off the path, and an unrelated one proves it.
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "import medseg, medseg.datasets\n"
        "from medseg.cli import main\n"
        "sys.argv = ['medseg', 'models', 'list']\n"
        "print(medseg.__file__)\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout

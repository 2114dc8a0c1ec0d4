"""The manifest says what is there, and napari starts as fast as before."""

from __future__ import annotations

import fnmatch
import importlib
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("npe2")
pytest.importorskip("napari")

from npe2 import PluginManifest

from medseg.io import IMAGE_SUFFIXES
from medseg.napari_plugin._reader import SUFFIXES
from medseg.napari_plugin._settings import Settings, settings

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = ROOT / "napari_plugin" / "napari.yaml"
PLUGIN = PluginManifest.from_file(MANIFEST)
COMMANDS = {c.id: c for c in PLUGIN.contributions.commands}
WIDGETS = [w.command for w in PLUGIN.contributions.widgets]


def test_the_installed_manifest_is_ours() -> None:
    found = PluginManifest.from_distribution("medseg")
    assert found.name == "medseg"
    assert {c.id for c in found.contributions.commands} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_there(command: str) -> None:
    module, name = COMMANDS[command].python_name.split(":")
    if command in WIDGETS:
        pytest.importorskip("qtpy.QtWidgets", exc_type=ImportError)
    assert callable(getattr(importlib.import_module(module), name))


def test_every_command_named_elsewhere_is_declared() -> None:
    parts = PLUGIN.contributions
    named = [x.command for x in (*parts.readers, *parts.writers, *parts.sample_data)]
    named += WIDGETS + [x.command for items in parts.menus.values() for x in items]
    assert set(named) <= set(COMMANDS)
    assert set(COMMANDS) == set(named)  # a command without a place is forgotten
    assert all(c.startswith("medseg.") for c in COMMANDS)


def test_all_files_that_we_read_are_claimed_and_no_others() -> None:
    assert set(SUFFIXES) == set(IMAGE_SUFFIXES)
    patterns = PLUGIN.contributions.readers[0].filename_patterns
    for suffix in IMAGE_SUFFIXES:
        assert any(fnmatch.fnmatch(f"a{suffix}", p) for p in patterns), suffix
    for name in ("a.py", "a.csv", "a.zarr", "a", "a.json"):
        assert not any(fnmatch.fnmatch(name, p) for p in patterns), name


def test_menus_are_those_that_napari_lets_plugins_fill() -> None:
    allowed = {
        *(f"napari/layers/{x}" for x in (
            "visualize", "annotate", "segment", "track", "measure")),
        "napari/file/new_layer",
        "napari/file/io_utilities",
    }  # fmt: skip
    assert set(PLUGIN.contributions.menus) <= allowed


def test_defaults_of_manifest_and_code_agree() -> None:
    import yaml

    declared = yaml.safe_load(MANIFEST.read_text())["contributions"]["configurations"]
    properties = declared["general"]["properties"]
    assert {k: v["default"] for k, v in properties.items()} == asdict(Settings())


def test_settings_are_read_from_napari(monkeypatch: pytest.MonkeyPatch) -> None:
    import napari.settings

    stored = SimpleNamespace(general=SimpleNamespace(**asdict(Settings(device="cpu"))))
    monkeypatch.setattr(
        napari.settings, "get_plugin_settings", lambda name: stored, raising=False
    )
    assert settings() == Settings(device="cpu")


def test_settings_are_the_defaults_where_napari_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import napari.settings

    def unknown(name: str) -> Any:
        raise KeyError(name)

    monkeypatch.setattr(napari.settings, "get_plugin_settings", unknown, raising=False)
    assert settings() == Settings()
    monkeypatch.delattr(napari.settings, "get_plugin_settings")
    assert settings() == Settings()


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_napari_starts_without_the_weight_of_medseg() -> None:
    """What napari does on its start: import the package, read the manifest."""
    loaded = modules_after(
        "import medseg.napari_plugin\n"
        "from medseg.napari_plugin._reader import get_reader, get_folder_reader\n"
        "assert get_reader('no.txt') is None\n"
        "assert get_folder_reader('.') is None\n"
    )
    heavy = {"torch", "monai", "openvino", "numpy", "napari", "scipy", "SimpleITK"}
    found = sorted(loaded & (heavy | {"medseg.io.read"}))
    assert found == []


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_brings_torch_into_napari(command: str) -> None:
    module, _ = COMMANDS[command].python_name.split(":")
    if command in WIDGETS:
        pytest.importorskip("qtpy.QtWidgets", exc_type=ImportError)
    assert not modules_after(f"import {module}") & {"torch", "monai", "openvino"}

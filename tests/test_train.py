from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import re
import shutil
import tempfile
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from model_builders import tiny_network, tiny_spec
from PIL import Image as PillowImage
from safetensors.torch import save_file

from medseg.datasets.case import STRUCTURES, Case
from medseg.errors import ConfigError, DiskError, FileError, ImageWarning, LockedError
from medseg.io.lock import hold
from medseg.model import load_model, load_spec, model_folder, save_model
from medseg.model_spec import Network
from medseg.networks import NETWORKS, build
from medseg.predict import Predictor
from medseg.train import run
from medseg.train.augment import (
    RandBordersd,
    RandDevicesd,
    RandInvertd,
    RandShadingd,
    RandTextd,
    augment,
    build_augmentation,
)
from medseg.train.config import TrainConfig, load_config, parse_config
from medseg.train.config_tables import AugmentConfig
from medseg.train.curves import clock, time_left, write_logs
from medseg.train.data import (
    EpochSampler,
    Sample,
    SampleDataset,
    load_sample,
    load_samples,
)
from medseg.train.loop import EpochLog, fit, learning_rate, running_average
from medseg.train.run import train
from medseg.train.score import read_case
from medseg.train.spec import build_network, check_sizes, make_spec
from medseg.train.split import Split, divide, find_cases

CONFIG = """
name = "tiny"
output = "run"
seed = 3
workers = 0
accelerator = "cpu"
validate_every = 1
average = 0.5

[labels]
names = ["right_lung", "left_lung"]

[network]
name = "unet"
arguments = {{ widths = [4, 8, 8], norm = "batch" }}

[[data]]
set = "jsrt"
folder = "films"

[[stage]]
size = [32, 32]
epochs = {epochs}
batch = 2
learning_rate = 1e-2
"""


def write_films(folder: Path, n: int = 6, size: int = 32) -> None:
    """Films with two bright discs, the first always on the left, as JSRT lays out."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    (folder / "images").mkdir(parents=True)
    for name in STRUCTURES:
        (folder / "masks" / name).mkdir(parents=True)
    for k in range(n):
        masks = np.zeros((len(STRUCTURES), size, size), bool)
        for side in range(2):
            cy, cx = rng.uniform(12, 20), rng.uniform(7, 9) + 16 * side
            masks[side] = (y - cy) ** 2 + (x - cx) ** 2 < 36
        film = 60 + 120 * masks.any(axis=0) + rng.normal(0, 5, (size, size))
        save = PillowImage.fromarray(film.astype(np.uint8)).save
        save(folder / "images" / f"film{k}.png")
        for name, mask in zip(STRUCTURES, masks, strict=True):
            picture = PillowImage.fromarray((mask * 255).astype(np.uint8))
            picture.save(folder / "masks" / name / f"film{k}.png")


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    write_films(tmp_path / "films")
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(epochs=4))
    return path


def found(config: TrainConfig) -> Split:
    return find_cases(config.data, config.labels)


def changed(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


class TestConfig:
    def test_values_and_defaults(self, config_file: Path) -> None:
        config = load_config(config_file)
        assert config.stage[0].size == (32, 32)
        assert config.labels.names == ("right_lung", "left_lung")
        assert config.data[0].folder == str(config_file.parent / "films")
        assert config.epochs == 4

    @pytest.mark.parametrize(
        ("old", "new", "field", "words"),
        [
            ('name = "tiny"', 'name = ""', "name", "empty"),
            ('name = "tiny"\n', "", "name", "missing"),
            ("seed = 3", "sed = 3", "sed", "Did you mean seed"),
            ("seed = 3", "sonography = 3", "sonography", "unknown key"),
            ("seed = 3", 'seed = "3"', "seed", "an integer"),
            ("seed = 3", "seed = true", "seed", "an integer"),
            ("seed = 3", "seed = -1", "seed", "-1"),
            ("seed = 3", "seed = 4294967296", "seed", "2^32 - 1"),
            ("average = 0.5", "average = 1.0", "average", "0 to 1"),
            ("[4, 8, 8]", "[4, 8], out_channels = 7", "arguments", "out_channels"),
            ("[4, 8, 8]", "[4, 8], in_channels = 3", "arguments", "in_channels"),
            ("workers = 0", "workers = -1", "workers", "-1"),
            ("workers = 0", "devices = 0", "devices", "0"),
            ("validate_every = 1", "validate_every = 0", "validate_every", "0"),
            ('accelerator = "cpu"', 'accelerator = "tpu"', "accelerator", "auto, cpu"),
            ('["right_lung", "left_lung"]', "[]", "labels.names", "empty"),
            ('["right_lung", "left_lung"]', '"lung"', "labels.names", "list"),
            ('names = ["r', 'kind = "instances"\nnames = ["r', "labels.names", "2"),
            ('folder = "films"', 'folder = "films"\nshare = 1.0', "share", "1.0"),
            ('folder = "films"', 'folder = "films"\nrescale = true', "diameter", "0"),
            ("[labels]", "[cells]\ncrops = 0\n[labels]", "cells.crops", "0"),
            ("[labels]", "[cells]\ndiameter = 0.5\n[labels]", "cells.diameter", "0.5"),
            ('names = ["r', 'colours = ["#fff"]\nnames = ["r', "labels.colours", "1"),
            ("[labels]", "keep_largest = ['heart']\n[labels]", "keep_largest", "heart"),
            ('set = "jsrt"', 'set = "jsr"', "data[0].set", "jsrt"),
            ('folder = "films"', 'folder = "gone"', "data[0].folder", "gone"),
            ('folder = "films"', 'folder = "films"\nrepeat = 0', "data.repeat", "0"),
            (
                'name = "unet"',
                'name = "unet"\npretrained = "no.st"',
                "network.pretrained",
                "no.st",
            ),
            (
                'name = "unet"',
                'name = "unet"\nstart = "gone"',
                "network.start",
                "Shipped: cells-dic, chest-xray",
            ),
            ("epochs = 4", "epochs = 0", "stage.epochs", "0"),
            ("batch = 2", "batch = 0", "stage.batch", "0"),
            ("[32, 32]", "[8, 32]", "stage.size", "8"),
            ("[32, 32]", "[32]", "stage.size", "height and width"),
            ("seed = 3", "weight_decay = -1.0", "weight_decay", "-1.0"),
            ("seed = 3", "patience = -1", "patience", "-1"),
            ('{ widths = [4, 8, 8], norm = "batch" }', "3", "network.arguments", "3"),
            (
                "[[stage]]",
                "[loss]\nclass_weights=[1.0]\n[[stage]]",
                "loss.class_weights",
                "1 entries for 2",
            ),
            (
                "[[stage]]",
                "[loss]\nclass_weights=[1.0, -1.0]\n[[stage]]",
                "loss.class_weights",
                "-1.0",
            ),
            ("[[stage]]", "[loss]\ndice = inf\n[[stage]]", "loss", "inf"),
            ("1e-2", "2.0", "stage.learning_rate", "2.0"),
            ("1e-2", "1e-2\naugmentation = 2", "stage.augmentation", "2"),
            ("1e-2", "1e-2\ngas = 2", "stage.gas", "2"),
            ("[[stage]]", "[loss]\ndice = -1\n[[stage]]", "loss", "-1"),
            (
                "[[stage]]",
                "[loss]\ndice=0\ncross_entropy=0\n[[stage]]",
                "loss",
                "no term",
            ),
            (
                "[[stage]]",
                "[augmentation]\nblur=2\n[[stage]]",
                "augmentation.blur",
                "2",
            ),
            ("[labels]", "[labels", "config.toml", "no TOML"),
        ],
    )
    def test_a_bad_value_names_its_field(
        self, config_file: Path, old: str, new: str, field: str, words: str
    ) -> None:
        with pytest.raises(ConfigError) as caught:
            load_config(changed(config_file, old, new))
        assert field in caught.value.subject
        assert words in str(caught.value)

    def test_gas_needs_a_lung(self, config_file: Path) -> None:
        path = changed(config_file, "batch = 2", "batch = 2\ngas = 0.1")
        assert load_config(path).lungs == (0, 1)
        path = changed(path, '["right_lung", "left_lung"]', '["heart"]')
        with pytest.raises(
            ConfigError, match=r"stage\.gas: is 0\.1 and no lung is lea"
        ):
            load_config(path)
        cells = '["left_lung"]\nkind = "instances"'
        with pytest.raises(ConfigError, match=r"stage\.gas: .* no lung is learnt"):
            load_config(changed(path, '["heart"]', cells))

    def test_elastic_fields_of_cells_are_stated_with_the_cells(
        self, config_file: Path
    ) -> None:
        bent = "[augmentation]\nelastic = 0.03\n[[stage]]"
        path = changed(config_file, "[[stage]]", bent)
        assert load_config(path).augmentation.scaled(0.5).elastic == 0.015
        cells = '["left_lung"]\nkind = "instances"'
        path = changed(path, '["right_lung", "left_lung"]', cells)
        with pytest.raises(
            ConfigError, match=r"augmentation\.elastic: is 0\.03 .*cells"
        ):
            load_config(path)

    @pytest.mark.parametrize(
        ("old", "new", "field"),
        [
            ('name = "tiny"', 'name = "tiny (2)"', "name"),
            ('["right_lung", "left_lung"]', '["right_lung", "a/b"]', "labels.name"),
            ("[labels]", '[labels]\ncolours = ["red", "blue"]', "labels.colour"),
            ("[4, 8, 8]", "[4, 5000]", "network.arguments.widths"),
        ],
    )
    def test_what_no_model_may_say_stops_the_run_at_its_start(
        self, config_file: Path, old: str, new: str, field: str
    ) -> None:
        with pytest.raises(ConfigError, match=re.escape(field)):
            train(changed(config_file, old, new))
        assert not (config_file.parent / "run").exists()

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            # More than any machine has, where it has any.
            ('"cpu"', '"cuda"\ndevices = 1000', "accelerator: is cuda, with devices ="),
            ("seed = 3", 'precision = "16-mixed"', "precision: is 16-mixed, .* CPU"),
            (
                'name = "unet"\narguments = { widths = [4, 8, 8], norm = "batch" }',
                'name = "unet_2015"\narguments = { widths = [4, 8] }',
                r"turn \[32, 32\] into \[16, 16\].*mirror = true",
            ),
        ],
    )
    def test_what_cannot_run_here_stops_the_run_at_its_start(
        self, config_file: Path, old: str, new: str, words: str
    ) -> None:
        with pytest.raises(ConfigError, match=words):
            train(changed(config_file, old, new))
        assert not (config_file.parent / "run").exists()

    @pytest.mark.parametrize(("norm", "batch"), [("instance", 2), ("batch", 1)])
    def test_a_single_value_has_no_statistics(
        self, config_file: Path, norm: str, batch: int
    ) -> None:
        path = changed(config_file, "[32, 32]", "[16, 16]")
        changed(path, "[4, 8, 8]", "[4, 8, 8, 8, 8]")  # 16 pixels become 1
        changed(path, 'norm = "batch"', f'norm = "{norm}"')
        changed(path, "batch = 2", f"batch = {batch}")
        words = r"stage\.size: is \[16, 16\], too small for unet in batches of "
        with pytest.raises(ConfigError, match=f"{words}{batch}"):
            check_sizes(load_config(path), 5)

    @pytest.mark.parametrize("name", NETWORKS)
    def test_every_network_keeps_the_size_of_a_stage(
        self, config_file: Path, name: str
    ) -> None:
        arguments = "mirror = true" if name == "unet_2015" else ""
        path = changed(config_file, 'widths = [4, 8, 8], norm = "batch"', arguments)
        changed(path, "[32, 32]", "[48, 64]")
        check_sizes(load_config(changed(path, '"unet"', f'"{name}"')), 5)

    def test_empty_data_and_stage(self, tmp_path: Path) -> None:
        path = tmp_path / "c.toml"
        head = 'name = "a"\noutput = "o"\n'
        for tables, field in [
            ("data = []\nstage = []\n", "data"),
            ("stage = []\n", "stage"),
        ]:
            data = '[[data]]\nset = "jsrt"\nfolder = "."\n' if field == "stage" else ""
            path.write_text(head + tables + '[labels]\nnames = ["x"]\n' + data)
            with pytest.raises(ConfigError, match=f"{field}: is empty"):
                load_config(path)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be read"):
            load_config(tmp_path / "none.toml")

    def test_the_shipped_configurations_parse(self) -> None:
        folder = Path(__file__).parents[1] / "docs" / "configs"
        for path in sorted(folder.glob("*.toml")):
            table = tomllib.loads(path.read_text())
            for entry in table["data"]:
                entry["folder"] = str(folder)
            # Weights that the user gets, and a run that comes before.
            for name in ("pretrained", "start", "keep"):
                table["network"].pop(name, None)
            assert parse_config(table, path.parent).name == path.stem


def test_a_network_starts_from_vgg16_weights(config_file: Path) -> None:
    path = changed(config_file, 'name = "unet"', 'name = "segnet"\npretrained = "v.st"')
    path = changed(path, 'widths = [4, 8, 8], norm = "batch"', "width = 0.0625")
    donor = build("segnet", {"in_channels": 3, "width": 0.0625, "norm": "none"})
    convs = [m for m in donor.encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    places = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    tensors = {}
    for place, conv in zip(places, convs, strict=True):
        tensors[f"features.{place}.weight"] = conv.weight.detach().contiguous()
        tensors[f"features.{place}.bias"] = conv.bias.detach().contiguous()
    save_file(tensors, path.parent / "v.st")
    config = load_config(path)
    network = build_network(config)
    first = next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d))
    grey = convs[0].weight.sum(dim=1, keepdim=True)
    torch.testing.assert_close(first.weight, grey)
    digest = hashlib.sha256((path.parent / "v.st").read_bytes()).hexdigest()
    spec = make_spec(config, Split((), {}, {"jsrt": 1}), 1)
    assert spec.training.facts["encoder starts from"] == f"v.st, SHA-256 {digest}"


class TestStart:
    def test_a_run_goes_on_from_a_model_and_says_so(self, config_file: Path) -> None:
        changed(config_file, "epochs = 4", "epochs = 1\ngas = 0.5")
        first = load_model(train(config_file))
        changed(config_file, 'output = "run"', 'output = "again"')
        changed(config_file, 'name = "unet"', 'name = "unet"\nstart = "run/model"')
        # So low a rate that rounding to float16 hides what it does.
        changed(config_file, "1e-2", "1e-12")
        second = load_model(train(config_file))
        given = first.network.state_dict()
        for name, parameter in second.network.named_parameters():
            torch.testing.assert_close(parameter, given[name], rtol=0, atol=1e-6)
        past = second.spec.training.facts["starts from"]
        assert past["model"] == f"tiny 1, SHA-256 {first.sha256}"
        assert past["last layer"] == "right_lung, left_lung taken over"
        assert past["stages"] == first.spec.training.facts["stages"]
        assert past["stages"].endswith("0.01, gas drawn into 50% of the films")
        card = (second.folder / "README.md").read_text()
        assert f"SHA-256 {first.sha256}" in card

    def test_a_share_of_the_start_is_kept(self, config_file: Path) -> None:
        changed(config_file, "epochs = 4", "epochs = 1")
        first = load_model(train(config_file))
        models = {}
        for run_, keep in (("none", 0.0), ("half", 0.5)):
            path = config_file.with_name(f"{run_}.toml")
            text = config_file.read_text().replace(
                'output = "run"', f'output = "{run_}"'
            )
            start = f'name = "unet"\nstart = "run/model"\nkeep = {keep}'
            path.write_text(text.replace('name = "unet"', start))
            models[run_] = load_model(train(path))
        given, learnt, kept = (
            m.network.state_dict() for m in (first, models["none"], models["half"])
        )
        assert any(not torch.equal(given[k], learnt[k]) for k in given)
        for name, tensor in kept.items():
            if tensor.is_floating_point():
                middle = (given[name] + learnt[name]) / 2
                # Weights are stored in float16.
                torch.testing.assert_close(tensor, middle, rtol=2e-3, atol=1e-6)
        facts = models["half"].spec.training.facts
        assert facts["weights"].startswith("50% those that it starts from")

    def test_another_share_is_kept_of_a_run_that_has_ended(
        self, config_file: Path
    ) -> None:
        changed(config_file, "epochs = 4", "epochs = 1")
        train(config_file)
        path = changed(config_file, 'output = "run"', 'output = "again"')
        changed(path, 'name = "unet"', 'name = "unet"\nstart = "run/model"')
        learnt = load_model(train(path)).network.state_dict()
        changed(path, 'start = "run/model"', 'start = "run/model"\nkeep = 0.25')
        lines: list[str] = []
        kept = load_model(train(path, resume=True, say=lines.append))
        assert not any(line.startswith("epoch") for line in lines)
        taken = "going on from tiny 1; last layer: right_lung, left_lung taken over"
        assert taken in lines
        assert any(
            not torch.equal(v, learnt[k]) for k, v in kept.network.state_dict().items()
        )

    def test_a_run_is_not_resumed_from_another_model_of_the_same_name(
        self, config_file: Path
    ) -> None:
        changed(config_file, "epochs = 4", "epochs = 1")
        folder = train(config_file)
        text = config_file.read_text().replace('output = "run"', 'output = "again"')
        path = config_file.with_name("again.toml")
        path.write_text(
            text.replace('name = "unet"', 'name = "unet"\nstart = "run/model"')
        )
        train(path)
        folder.rename(folder.with_name("moved"))
        changed(path, "run/model", "run/moved")
        train(path, resume=True)  # the weights are what they were
        model = load_model(folder.with_name("moved"))
        with torch.no_grad():
            next(model.network.parameters()).add_(1)
        save_model(model.folder, model.spec, model.network)
        with pytest.raises(ConfigError, match="network: differs from the run that"):
            train(path, resume=True)

    def test_many_generations_fit_into_a_spec(self, config_file: Path) -> None:
        changed(config_file, "epochs = 4", "epochs = 1")
        first = load_model(train(config_file))
        text, digests = config_file.read_text(), [first.sha256]
        for k, last in enumerate(("run", "g0", "g1", "g2", "g3")):
            path = config_file.with_name(f"{k}.toml")
            start = f'name = "unet"\nstart = "{last}/model"'
            path.write_text(
                text.replace('output = "run"', f'output = "g{k}"').replace(
                    'name = "unet"', start
                )
            )
            model = load_model(train(path))
            digests.append(model.sha256)
        past = model.spec.training.facts["starts from"]
        assert all(d in past["model"] + past["before"] for d in digests[:-1])
        assert past["before"].count("SHA-256") == 4

    def test_the_licence_of_the_start_binds(self, config_file: Path) -> None:
        start = 'name = "unet"\nstart = "chest-xray"'
        config = load_config(changed(config_file, 'name = "unet"', start))
        licence = load_spec(model_folder("chest-xray")).licence
        split = Split((), {}, {"jsrt": 1})
        assert make_spec(config, split, 1).licence == licence
        stated = dataclasses.replace(config, licence="mine")
        assert make_spec(stated, split, 1).licence == "mine"

    def test_a_shipped_model_is_found_by_its_name(self, config_file: Path) -> None:
        path = changed(config_file, 'name = "unet"', 'name = "x"\nstart = "cells-dic"')
        assert load_config(path).network.start == "cells-dic"

    def test_a_model_that_does_not_fit_stops_the_run_before_it_writes(
        self, config_file: Path
    ) -> None:
        path = changed(
            config_file, 'name = "unet"', 'name = "unet"\nstart = "chest-xray"'
        )
        with pytest.raises(ConfigError, match=r"network\.start: .* efficient_unet"):
            train(path)
        assert not (path.parent / "run").exists()


class TestData:
    def cases(self, n: int, split: str | None = None) -> list[Case]:
        path = Path("x.png")
        return [
            Case(str(k), path, {}, STRUCTURES, group=f"p{k // 2:02d}", split=split)
            for k in range(n)
        ]

    def test_a_group_is_never_cut(self) -> None:
        train, held = divide(self.cases(40), "split")
        assert not {c.group for c in train} & {c.group for c in held}
        assert len(held) == 8
        assert len(train) == 32

    def test_a_stated_split_is_kept(self) -> None:
        train, held = divide(self.cases(4, "val"), "split")
        assert (len(train), len(held)) == (0, 4)

    def test_whole_parts(self) -> None:
        assert len(divide(self.cases(4), "train")[0]) == 4
        assert len(divide(self.cases(4), "val")[1]) == 4

    def test_nothing_to_train_on(self, config_file: Path) -> None:
        path = changed(
            config_file, 'folder = "films"', 'folder = "films"\npart = "val"'
        )
        with pytest.raises(ConfigError, match="no case for training"):
            found(load_config(path))

    def test_counts_by_set(self, config_file: Path) -> None:
        split = found(load_config(config_file))
        assert split.counts == {"jsrt": 5}
        assert [c.id for c in split.held_cases] == ["film4"]

    def test_truth_keeps_its_area_when_it_shrinks(self, config_file: Path) -> None:
        case = found(load_config(config_file)).train[0]
        names = ("right_lung", "left_lung", "sternum")
        full = load_sample(case, names, (32, 32))
        half = load_sample(case, names, (16, 16))
        area = full.truth.astype(float).sum() / 255
        assert half.truth.astype(float).sum() / 255 * 4 == pytest.approx(area, rel=0.01)
        assert full.annotated.tolist() == [True, True, False]
        assert (full.image.min(), full.image.max()) == (0, 1)

    def test_masks_are_alike_the_film_but_for_scale(self, tmp_path: Path) -> None:
        def save(name: str, shape: tuple[int, int]) -> Path:
            pixels = np.zeros(shape, np.uint8)
            pixels[2:9, 3:8] = 200
            PillowImage.fromarray(pixels).save(tmp_path / name)
            return tmp_path / name

        film, names = save("film.png", (40, 24)), ("heart",)
        for shape in ((40, 24), (20, 12), (80, 48), (13, 8)):
            case = Case("a", film, {"heart": save("mask.png", shape)}, names, "a")
            assert read_case(case, names)[1].mask.shape == (1, 40, 24)
            assert load_sample(case, names, (16, 16)).truth.any()
        for shape in ((24, 40), (40, 12), (24, 24)):
            case = Case("a", film, {"heart": save("mask.png", shape)}, names, "a")
            for read in (read_case, partial(load_sample, size=(16, 16))):
                with pytest.raises(FileError, match=r"mask\.png: is a mask of .* film"):
                    read(case, names)

    def test_pages_of_one_file_are_different_films(self, tmp_path: Path) -> None:
        path = tmp_path / "stack.tif"
        pages = [PillowImage.fromarray(np.eye(16, k=k, dtype=np.uint8)) for k in (0, 5)]
        pages[0].save(path, save_all=True, append_images=pages[1:])
        cases = [
            Case(f"{k}", path, {"cell": path}, ("cell",), "a", slice=k) for k in (0, 1)
        ]
        flat = tmp_path / "flat.png"
        pages[0].save(flat)
        whole = Case("a", path, {"cell": flat}, ("cell",), "a")
        with pytest.raises(FileError, match=r"is a volume of \(2, 16, 16\)"):
            read_case(whole, ("cell",))
        first, second, again = load_samples([*cases, cases[0]], ("cell",), (16, 16))
        assert np.array_equal(first.truth[0], np.eye(16) * 255)
        assert np.array_equal(second.truth[0], np.eye(16, k=5) * 255)
        assert again is first

    def test_epoch_order_is_a_permutation_that_the_seed_decides(self) -> None:
        sampler = EpochSampler(9, seed=1)
        first = list(sampler)
        assert first == list(EpochSampler(9, seed=1))
        assert sorted(i for _, i in first) == list(range(9))
        sampler.epoch = 1
        assert [i for _, i in sampler] != [i for _, i in first]

    def test_the_same_index_gives_the_same_film(self) -> None:
        sample = phantom_sample()
        chain = build_augmentation(AugmentConfig(), (32, 32))
        data = SampleDataset([sample, sample], chain, seed=1)
        first, again = data[0, 0], data[0, 0]
        for a, b in zip(first, again, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
        assert not torch.equal(first[0], data[1, 0][0])
        assert not torch.equal(first[0], data[0, 1][0])

    def test_films_are_normalised(self) -> None:
        image, _, _ = SampleDataset([phantom_sample()], None, 0)[0, 0]
        assert image.mean().item() == pytest.approx(0, abs=1e-3)
        assert image.std(correction=0).item() == pytest.approx(1, abs=1e-3)


def phantom_sample() -> Sample:
    image = np.linspace(0, 1, 32 * 32, dtype=np.float16).reshape(1, 32, 32)
    truth = np.zeros((2, 32, 32), np.uint8)
    truth[0, 8:24, 4:12] = 255
    return Sample(image, truth, np.array([True, False]))


OFF = {item.name: 0.0 for item in dataclasses.fields(AugmentConfig)}


class TestAugmentation:
    def test_scaled_is_linear(self) -> None:
        half = AugmentConfig(rotate=10.0, invert=0.2).scaled(0.5)
        assert (half.rotate, half.invert) == (5.0, 0.1)
        assert AugmentConfig().scaled(0) == AugmentConfig(**OFF)

    def test_all_off_is_the_identity(self) -> None:
        sample = phantom_sample()
        image = torch.from_numpy(sample.image.astype(np.float32))
        truth = torch.from_numpy(sample.truth.astype(np.float32))
        chain = build_augmentation(AugmentConfig(**OFF), (32, 32))
        after, mask = augment(chain, image, truth, 1)
        torch.testing.assert_close(after, image, atol=1e-5, rtol=0)
        torch.testing.assert_close(mask, truth, atol=1e-3, rtol=0)

    def test_truth_moves_with_the_image(self) -> None:
        disc = torch.zeros(1, 32, 32)
        disc[0, 12:20, 12:20] = 1
        chain = build_augmentation(
            AugmentConfig(**{**OFF, "rotate": 45.0, "translate": 0.2}), (32, 32)
        )
        image, truth = augment(chain, disc, disc.clone(), 5)
        torch.testing.assert_close(image, truth)
        assert not torch.equal(truth, disc)

    def test_truth_follows_an_elastic_field(self) -> None:
        disc = torch.zeros(1, 64, 64)
        disc[0, 20:44, 20:44] = 1
        chain = build_augmentation(AugmentConfig(**{**OFF, "elastic": 0.05}), (64, 64))
        image, truth = augment(chain, disc, disc.clone(), 5)
        torch.testing.assert_close(image, truth)
        assert 10 < (truth - disc).abs().sum() < 0.5 * disc.sum()

    @pytest.mark.parametrize(
        ("change", "least", "most"),
        [
            # A plane stays one under an affine map, not under an elastic one; no point
            # moves by more than 0.02 * 128 pixels in y, nor in x.
            ({"rotate": 20.0, "scale": 0.2, "shear": 0.1}, 0.0, 1e-3),
            ({"elastic": 1e-6}, 0.0, 1e-3),
            ({"elastic": 0.02}, 1.0, 2 * 2.56),
            ({"elastic": 0.02, "rotate": 20.0, "shear": 0.1}, 1.0, 3 * 2.56),
        ],
    )
    def test_only_elastic_fields_bend(
        self, change: dict[str, float], least: float, most: float
    ) -> None:
        y, x = torch.meshgrid(*[torch.arange(128.0)] * 2, indexing="ij")
        chain = build_augmentation(AugmentConfig(**{**OFF, **change}), (128, 128))
        plane = torch.stack([torch.ones_like(y), y, x], -1)[40:88, 40:88].reshape(-1, 3)
        for seed in range(4):
            _, moved = augment(chain, x[None] * 0, torch.stack([y, x]), seed)
            inner = moved[:, 40:88, 40:88].reshape(2, -1).T
            fit = plane @ torch.linalg.lstsq(plane, inner).solution
            assert least <= (inner - fit).abs().max() <= most

    def test_elastic_fields_stay_within_their_range_and_leave_the_edges(self) -> None:
        y, x = torch.meshgrid(*[torch.arange(128.0)] * 2, indexing="ij")
        still = torch.stack([y, x])
        chain = build_augmentation(
            AugmentConfig(**{**OFF, "elastic": 0.02}), (128, 128)
        )
        for seed in range(4):
            _, moved = augment(chain, x[None] * 0, still, seed)
            way = (moved - still).abs()
            inner = way[:, 8:-8, 8:-8]
            assert 1.5 < inner.max() <= 0.02 * 127 + 1e-3
            frame = torch.cat([way[:, [2, -3]], way[:, :, [2, -3]].mT], 1)
            assert frame[:, :, 2:-2].max() < 0.2 * inner.max()

    @pytest.mark.parametrize(
        "kind", [RandInvertd, RandShadingd, RandBordersd, RandTextd, RandDevicesd]
    )
    def test_paint_stays_in_range_and_can_be_off(self, kind: Any) -> None:
        pixels = torch.full((1, 40, 40), 0.4)
        always, never = kind("image", 1.0), kind("image", 0.0)
        always.set_random_state(seed=2)
        painted = always({"image": pixels.clone()})["image"]
        assert not torch.equal(painted, pixels)
        assert painted.min() >= 0
        assert painted.max() <= 1
        torch.testing.assert_close(never({"image": pixels})["image"], pixels)

    def test_two_negatives_are_a_positive(self) -> None:
        negative = RandInvertd("image", 1.0)
        image = torch.rand(1, 8, 8)
        twice = negative(negative({"image": image}))["image"]
        torch.testing.assert_close(twice, image)


class StoppedError(Exception):
    pass


def standing_still(config_file: Path) -> Path:
    """A run with patience whose network has no running statistics that would move."""
    changed(config_file, 'norm = "batch"', 'norm = "instance"')
    return changed(config_file, "average = 0.5", "patience = 1")


class TestLoop:
    def test_rate_rises_then_falls(self) -> None:
        rates = [learning_rate(1.0, done) for done in np.linspace(0, 1, 101)]
        peak = int(np.argmax(rates))
        assert 1 <= peak <= 5
        assert rates[peak] == pytest.approx(1, abs=0.01)
        assert all(
            a >= b for a, b in zip(rates[peak:], rates[peak + 1 :], strict=False)
        )
        assert rates[-1] == pytest.approx(0.01)

    def test_resumed_equals_uninterrupted(self, config_file: Path) -> None:
        path = changed(config_file, 'norm = "batch"', 'norm = "batch", dropout = 0.3')
        config = load_config(path)
        split = found(config)
        train, held = list(split.train), split.held_cases
        folder = config_file.parent
        whole, logs = fit(config, train, held, folder / "whole.ckpt")

        def stop(log: EpochLog, total: int) -> None:
            # The checkpoint of this epoch is not written: epoch 3 is lost.
            if log.epoch == 2:
                raise StoppedError

        with pytest.raises(StoppedError):
            fit(config, train, held, folder / "cut.ckpt", stop)
        again, more = fit(config, train, held, folder / "cut.ckpt")
        assert [x.loss for x in more] == [x.loss for x in logs]
        for a, b in zip(whole.parameters(), again.parameters(), strict=True):
            assert torch.equal(a, b)

    def test_a_short_run_is_not_averaged_away(self, config_file: Path) -> None:
        changed(config_file, "average = 0.5\n", "")
        changed(config_file, "validate_every = 1", "validate_every = 15")
        changed(config_file, "epochs = 4", "epochs = 15\naugmentation = 0")
        config = load_config(changed(config_file, "1e-2", "2e-2"))
        assert config.average == 0.995
        split = found(config)
        file = config_file.parent / "run.ckpt"
        _, logs = fit(config, list(split.train), split.held_cases, file)
        assert logs[-1].mean_score > 0.5

    @pytest.mark.parametrize("decay", [0.0, 0.5, 0.995])
    def test_the_average_forgets_where_it_began_and_is_as_slow_as_asked(
        self, decay: float
    ) -> None:
        update, average = running_average(decay), [torch.ones(1)]
        for n in range(1, 21):
            update(average, [torch.zeros(1)], torch.tensor(n))
        assert average[0].item() < 1e-3
        late = [torch.ones(1)]
        update(late, [torch.zeros(1)], torch.tensor(10_000))
        assert late[0].item() == pytest.approx(decay)

    def test_a_damaged_checkpoint_is_named(self, config_file: Path) -> None:
        config, file = load_config(config_file), config_file.parent / "run.ckpt"
        split = found(config)
        for data in (b"", b"junk", b"PK\x03\x04 cut in the middle"):
            file.write_bytes(data)
            with pytest.raises(FileError, match=r"run\.ckpt: is damaged: .*delete it"):
                fit(config, list(split.train), [], file)
            assert file.read_bytes() == data

    def test_the_scale_of_half_precision_goes_on(self, config_file: Path) -> None:
        config = load_config(changed(config_file, "epochs = 4", "epochs = 2"))
        split = found(config)
        file = config_file.parent / "run.ckpt"

        def fabric() -> tuple[Fabric, torch.amp.GradScaler]:
            scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)
            plugin = MixedPrecision("16-mixed", "cpu", scaler)
            return Fabric(accelerator="cpu", plugins=[plugin]), scaler

        def stop(log: EpochLog, total: int) -> None:
            if log.epoch == 1:
                raise StoppedError

        first, scaler = fabric()
        with pytest.raises(StoppedError):
            fit(config, list(split.train), [], file, stop, first)
        # Two steps an epoch: once in four steps the scale has doubled.
        assert scaler.get_scale() == 16
        again, scaler = fabric()
        fit(config, list(split.train), [], file, fabric=again)
        assert scaler.get_scale() == 16

    def test_a_checkpoint_needs_no_room_in_the_temporary_folder(
        self, config_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*args: object, **words: object) -> None:
            raise OSError(28, "No space left on device")

        config, file = load_config(config_file), config_file.parent / "run.ckpt"
        split = found(config)
        monkeypatch.setattr(tempfile, "mkstemp", full)
        fit(config, list(split.train), split.held_cases, file)
        before = file.read_bytes()
        again = dataclasses.replace(config, seed=9)
        file.rename(file.with_name("kept"))
        monkeypatch.setattr("medseg.io.atomic.os.replace", full)
        with pytest.raises(
            DiskError, match=r"run\.ckpt: not written, the disk is full"
        ):
            fit(again, list(split.train), split.held_cases, file)
        assert file.with_name("kept").read_bytes() == before
        assert not file.exists()
        assert not list(file.parent.glob(".*.part"))

    def test_a_run_has_its_folder_alone(self, config_file: Path) -> None:
        output = Path(load_config(config_file).output)
        output.mkdir(parents=True, exist_ok=True)
        with hold(output), pytest.raises(LockedError, match="another run holds"):
            train(config_file)
        assert not list(output.iterdir())

    def test_what_is_frozen_stays_bit_by_bit(self, config_file: Path) -> None:
        path = changed(config_file, "epochs = 4", "epochs = 1")
        second = '[[stage]]\nsize = [32, 32]\nepochs = 1\nfrozen = ["encoder"]\n'
        path.write_text(path.read_text() + second)
        config, file = load_config(path), path.parent / "run.ckpt"
        split = found(config)

        def network() -> dict[str, torch.Tensor]:
            return torch.load(file, weights_only=True)["network"]

        kept: list[dict[str, torch.Tensor]] = []

        def look(log: EpochLog, total: int) -> None:
            if log.epoch == 1:  # before its checkpoint is written
                kept.append(network())

        fit(config, list(split.train), split.held_cases, file, look)
        before, after = kept[0], network()
        same = {name for name in before if torch.equal(before[name], after[name])}
        frozen = {name for name in before if name.startswith("encoder.")}
        assert any("running_mean" in name for name in frozen)
        assert same == frozen

    def test_a_part_that_is_not_there_cannot_be_frozen(self, config_file: Path) -> None:
        changed(config_file, "batch = 2", 'batch = 2\nfrozen = ["encodre"]')
        with pytest.raises(ConfigError, match="no part 'encodre'.*encoder, dropout"):
            train(config_file)

    def test_it_learns_the_discs(self, config_file: Path) -> None:
        path = changed(config_file, "epochs = 4", "epochs = 40")
        off = "\n".join(f"{name} = 0" for name in OFF)
        path = changed(path, "[[stage]]", f"[augmentation]\n{off}\n[[stage]]")
        config = load_config(path)
        split = found(config)
        _, logs = fit(
            config, list(split.train), split.held_cases, path.parent / "learn.ckpt"
        )
        assert logs[-1].loss < 0.7 * logs[0].loss
        assert logs[-1].mean_score > 0.6

    def test_patience_stops_a_stage_that_stands_still(self, config_file: Path) -> None:
        path = standing_still(config_file)
        path = changed(path, "1e-2", "1e-9")
        config = load_config(path)
        split = found(config)
        _, logs = fit(
            config, list(split.train), split.held_cases, path.parent / "still.ckpt"
        )
        assert len(logs) == 2

    def test_a_resume_after_an_early_stop_goes_on_behind_it(
        self, config_file: Path
    ) -> None:
        path = standing_still(config_file)
        text = path.read_text().replace("1e-2", "1e-9")
        stage = text[text.index("[[stage]]") :].replace("epochs = 4", "epochs = 3")
        path.write_text(text + stage)
        config = load_config(path)
        split = found(config)
        train, held = list(split.train), split.held_cases

        def stop(log: EpochLog, total: int) -> None:
            if log.epoch == 5:
                raise StoppedError

        checkpoint = path.parent / "early.ckpt"
        with pytest.raises(StoppedError):
            fit(config, train, held, checkpoint, stop)
        _, logs = fit(config, train, held, checkpoint)
        # Of the first stage two of four epochs ran; the second starts at its own.
        seen = [(x.stage, x.epoch) for x in logs]
        assert seen[:4] == [(0, 0), (0, 1), (1, 4), (1, 5)]
        assert len(set(seen)) == len(seen)

    def test_a_loss_that_is_no_number_stops_the_run(
        self, config_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: Any) -> torch.Tensor:
            return torch.tensor(float("nan"), requires_grad=True)

        monkeypatch.setattr("medseg.losses.MaskedDiceCELoss.forward", broken)
        config = load_config(config_file)
        split = found(config)
        with pytest.raises(ConfigError, match="loss is nan in epoch 1, step 1"):
            fit(config, list(split.train), [], config_file.parent / "nan.ckpt")


class TestCurves:
    logs = (
        EpochLog(0, 0, 1.5, 1e-3, 10.0),
        EpochLog(1, 0, 1.0, 1e-3, 10.0, {"heart": 0.5, "lung": 0.9}),
    )

    def test_the_table_has_a_line_an_epoch(self, tmp_path: Path) -> None:
        write_logs(self.logs, tmp_path)
        rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
        assert [row["loss"] for row in rows] == ["1.500000", "1.000000"]
        assert [row["score_heart"] for row in rows] == ["", "0.500000"]
        with PillowImage.open(tmp_path / "curves.png") as picture:
            assert picture.format == "PNG"
        assert len(list((tmp_path / "tensorboard").glob("events.*"))) == 1

    def test_time_left_counts_pixels(self) -> None:
        # Two of four epochs done at 10 s; then 3 epochs of four times the pixels.
        assert time_left(self.logs, [(4, 100), (3, 400)]) == pytest.approx(20 + 120)
        assert np.isnan(time_left([], [(4, 100)]))

    def test_time_left_of_a_resumed_run(self) -> None:
        stages = [(4, 100), (3, 400)]
        assert time_left(self.logs[1:], stages) == time_left(self.logs, stages)

    def test_mean_score_of_an_epoch(self) -> None:
        assert self.logs[1].mean_score == pytest.approx(0.7)
        assert np.isnan(self.logs[0].mean_score)

    @pytest.mark.parametrize(
        ("seconds", "text"), [(90, "2 min"), (3900, "1 h 05 min"), (np.nan, "unknown")]
    )
    def test_clock(self, seconds: float, text: str) -> None:
        assert clock(seconds) == text


class TestRun:
    def test_from_configuration_to_model(self, config_file: Path) -> None:
        lines: list[str] = []
        folder = train(config_file, say=lines.append)
        model = load_model(folder)
        assert model.spec.labels.names == ("right_lung", "left_lung")
        assert set(model.spec.scores["jsrt"]) == {"right_lung", "left_lung", "lungs"}
        card = (folder / "README.md").read_text()
        assert "right lung" in card
        assert "### jsrt" in card
        assert lines[0] == "5 cases to train on, 1 held back"
        record = json.loads((folder.parent / "config.json").read_text())
        assert record["seed"] == 3

        with pytest.raises(ConfigError, match="--resume"):
            train(config_file)
        changed(config_file, "seed = 3", "seed = 4")
        with pytest.raises(ConfigError, match="seed: differs"):
            train(config_file, resume=True)

    @pytest.mark.parametrize(
        ("agreements", "held", "precision", "layers"),
        [
            ([0.9999], 1, "bfloat16", 0),
            ([0.9998, 0.99989, 1.0], 1, "bfloat16", 6),
            ([0.9998, 0.9998, 0.9998], 1, "float32", 0),
            ([], 0, "float32", 0),
        ],
    )
    def test_bfloat16_needs_labels_that_stay(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        agreements: list[float],
        held: int,
        precision: str,
        layers: int,
    ) -> None:
        spec = save_model(tmp_path / "tiny", tiny_spec(), tiny_network())
        tried: list[Any] = []

        def agreement(exact: Predictor, fast: Predictor, cases: list[Case]) -> float:
            assert exact.describe()["precision"] == "float32"
            tried.append(fast.spec.inference.exact_layers)
            return agreements[len(tried) - 1]

        monkeypatch.setattr(run, "has_bfloat16", lambda: True)
        monkeypatch.setattr(run, "label_agreement", agreement)
        film = Case("a", Path("a.png"), {}, (), "a")
        split = Split((), {"films": (film,) * held}, {})
        found = run.allow_bfloat16(spec, tmp_path / "tiny", split).inference
        assert (found.precision, found.exact_layers) == (precision, layers)
        assert tried == [0, 3, 6][: len(agreements)]

    def test_films_of_another_part_are_not_learnt_by_a_resumed_run(
        self, config_file: Path
    ) -> None:
        config, output = load_config(config_file), config_file.parent / "run"
        output.mkdir()
        split = found(config)
        run.claim(config, split, output, resume=False)
        (output / run.CHECKPOINT).touch()
        run.claim(config, split, output, resume=True)
        films = config_file.parent / "films"
        for image in films.rglob("film0.png"):
            shutil.copy(image, image.with_name("extra.png"))
        more = found(config)
        # Every fifth by name is held back: film4 is not any more.
        with pytest.raises(
            ConfigError, match=r"data: the films differ .* 3 are .*extra"
        ):
            run.claim(config, more, output, resume=True)
        record = output / run.CONFIG
        table = json.loads(record.read_text())
        del table[run.CASES]  # as runs of older versions
        record.write_text(json.dumps(table))
        run.claim(config, more, output, resume=True)
        with pytest.raises(ConfigError, match="data: the films differ"):
            run.claim(config, split, output, resume=True)

    @pytest.mark.parametrize("text", [None, "", "{junk", "[]", "7", '{"data": 7}'])
    def test_a_damaged_record_is_named(
        self, config_file: Path, text: str | None
    ) -> None:
        config, output = load_config(config_file), config_file.parent / "run"
        output.mkdir()
        (output / run.CHECKPOINT).touch()
        if text is not None:
            (output / run.CONFIG).write_text(text)
        with pytest.raises(
            FileError, match=r"config\.json: is not the record of a run"
        ):
            run.claim(config, found(config), output, resume=True)

    def test_a_stopped_run_says_how_it_goes_on(
        self, config_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def cancel(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(run, "fit", cancel)
        lines: list[str] = []
        with pytest.raises(KeyboardInterrupt):
            train(config_file, say=lines.append)
        assert "--resume" in lines[-1]

    def test_bfloat16_after_more_layers_than_there_are_is_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        arguments = {"in_channels": 1, "out_channels": 2}
        network = build("pixel_classifier", arguments)
        spec = dataclasses.replace(
            tiny_spec(), network=Network("pixel_classifier", arguments)
        )
        spec = save_model(tmp_path / "tiny", spec, network)
        monkeypatch.setattr(run, "has_bfloat16", lambda: True)
        monkeypatch.setattr("medseg.engines.has_bfloat16", lambda: True)
        monkeypatch.setattr(run, "label_agreement", lambda *_: 0.0)
        film = Case("a", Path("a.png"), {}, (), "a")
        split = Split((), {"films": (film,)}, {})
        assert run.allow_bfloat16(spec, tmp_path / "tiny", split) == spec

    def test_a_structure_without_masks_is_refused(self, config_file: Path) -> None:
        films = config_file.parent / "films"
        shutil.rmtree(films / "masks" / "heart")
        changed(config_file, '"left_lung"]', '"heart"]')
        words = f"labels.names: heart is drawn in no training case of {films}"
        with (
            pytest.warns(ImageWarning, match="masks missing: heart of 6"),
            pytest.raises(ConfigError, match=re.escape(words)),
        ):
            train(config_file)
        assert not (config_file.parent / "run").exists()

    def test_a_structure_that_nobody_drew_is_refused(self, config_file: Path) -> None:
        changed(config_file, '"left_lung"]', '"left_lnug"]')
        with pytest.raises(ConfigError, match="left_lnug is drawn in no training"):
            train(config_file)

    def test_an_output_that_cannot_be_made(self, config_file: Path) -> None:
        changed(config_file, 'output = "run"', 'output = "config.toml/run"')
        with pytest.raises(DiskError, match="cannot be made"):
            train(config_file)

    def test_a_bad_network_fails_before_anything_loads(self, config_file: Path) -> None:
        changed(config_file, 'name = "unet"', 'name = "resnet"')
        with pytest.raises(ConfigError, match="no network 'resnet'"):
            train(config_file)
        assert not (config_file.parent / "run").exists()

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from model_builders import cells, exclusive, tiny_spec

from medseg.errors import ConfigError
from medseg.instances import InstanceRule
from medseg.labels import Label, LabelSet
from medseg.model import Model
from medseg.model_spec import Decoding, Network
from medseg.networks import build
from medseg.train.config import TrainConfig
from medseg.train.config_cells import CellsConfig
from medseg.train.config_tables import (
    DataConfig,
    LabelsConfig,
    NetworkConfig,
    StageConfig,
)
from medseg.train.start import describe_start, keep_share, start_from

SMALL: dict[str, dict[str, Any]] = {
    "unet": {"widths": [2, 4]},
    # Four entries a label, before a pixel shuffle.
    "efficient_unet": {"variant": "lite0", "widths": [4, 4, 4, 4]},
    # Transposed convolutions from labels to labels.
    "fcn": {"width": 0.0625},
    "segnet": {"width": 0.0625},
}


def donor(
    name: str,
    labels: list[str],
    kind: Any = "overlapping",
    arguments: dict[str, Any] | None = None,
) -> Model:
    """A model with random weights that draws ``labels``."""
    torch.manual_seed(1)
    channels = len(labels) + (kind == "exclusive")
    given = arguments or SMALL[name]
    arguments = {**given, "in_channels": 1, "out_channels": channels}
    numbered = tuple(Label(k, n, "#4c9be8") for k, n in enumerate(labels, start=1))
    spec = tiny_spec(
        network=Network(name, arguments),
        labels=LabelSet(numbered, kind),
        decoding=Decoding("argmax" if kind == "exclusive" else "threshold"),
    )
    return Model(spec, build(name, arguments).eval(), Path("donor"))


def config(
    name: str,
    labels: list[str],
    kind: Any = "overlapping",
    arguments: dict[str, Any] | None = None,
) -> TrainConfig:
    return TrainConfig(
        name="new",
        output="out",
        labels=LabelsConfig(tuple(labels), kind),
        data=(DataConfig("jsrt", "films"),),
        stage=(StageConfig((32, 32), 1),),
        network=NetworkConfig(name, arguments or SMALL[name]),
    )


def fresh(table: TrainConfig) -> torch.nn.Module:
    torch.manual_seed(2)
    arguments = {
        **table.network.arguments,
        "in_channels": 1,
        "out_channels": table.channels,
    }
    return build(table.network.name, arguments).eval()


@pytest.mark.parametrize("name", SMALL)
class TestLabels:
    def test_the_same_labels_take_every_weight_over(self, name: str) -> None:
        model, table = donor(name, ["a", "b", "c"]), config(name, ["a", "b", "c"])
        network = fresh(table)
        start_from(network, model, table)
        given = model.network.state_dict()
        assert network.state_dict().keys() == given.keys()
        for key, tensor in network.state_dict().items():
            torch.testing.assert_close(tensor, given[key], rtol=0, atol=0)

    def test_labels_in_another_order_are_found_by_name(self, name: str) -> None:
        model, table = donor(name, ["a", "b", "c"]), config(name, ["c", "a", "b"])
        network = fresh(table)
        start_from(network, model, table)
        image = torch.randn(1, 1, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(
                network(image), model.network(image)[:, [2, 0, 1]]
            )

    def test_fewer_labels_draw_what_they_drew(self, name: str) -> None:
        model, table = donor(name, ["a", "b", "c"]), config(name, ["b"])
        network = fresh(table)
        start_from(network, model, table)
        image = torch.randn(1, 1, 64, 64)
        with torch.no_grad():
            found, all_three = network(image), model.network(image)
        if name == "fcn":  # its labels mix in the transposed convolutions
            assert found.shape == all_three[:, 1:2].shape
        else:
            torch.testing.assert_close(found, all_three[:, 1:2])

    def test_the_last_layer_of_a_new_label_stays_as_it_is(self, name: str) -> None:
        model, table = donor(name, ["a", "b"]), config(name, ["x", "b"])
        network, before = fresh(table), fresh(table).state_dict()
        start_from(network, model, table)
        after, given = network.state_dict(), model.network.state_dict()
        heads = [k for k in after if not torch.equal(after[k], given[k])]
        assert heads
        for key in heads:
            half = len(after[key]) // 2
            last = after[key].ndim > 1 and after[key].shape[:2] == (2, 2)
            x, b = ((0, 0), (1, 1)) if last else (slice(half), slice(half, None))
            torch.testing.assert_close(after[key][x], before[key][x], rtol=0, atol=0)
            torch.testing.assert_close(after[key][b], given[key][b], rtol=0, atol=0)


def test_the_background_counts_as_a_label() -> None:
    model = donor("unet", ["a", "b"], "exclusive")
    table = config("unet", ["b", "x"], "exclusive")
    network = fresh(table)
    start_from(network, model, table)
    image = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        found, known = network(image), model.network(image)
    torch.testing.assert_close(found[:, :2], known[:, [0, 2]])
    assert not torch.allclose(found[:, 2], known[:, 1])


def test_maps_of_cells_are_taken_over_whatever_the_cells_are_called() -> None:
    spec = tiny_spec(**cells())
    model = Model(
        spec, build("unet", spec.network.arguments).eval(), Path("cells-of-mine")
    )
    table = dataclasses.replace(
        config("unet", ["nucleus"], "instances"),
        cells=CellsConfig(rule=InstanceRule("components")),
    )
    network = fresh(table)
    start_from(network, model, table)
    image = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(image), model.network(image))


def test_what_is_taken_over_is_said() -> None:
    spec = donor("unet", ["a", "b"]).spec
    said = {
        ("a", "b"): "a, b taken over",
        ("b", "x"): "b taken over; x afresh",
        ("x",): "x afresh",
    }
    for names, words in said.items():
        assert describe_start(spec, config("unet", list(names))) == words


class TestKeep:
    @pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
    def test_weights_and_statistics_are_means(self, share: float) -> None:
        model, table = donor("unet", ["a"]), config("unet", ["a"])
        network, learnt = fresh(table), fresh(table).state_dict()
        keep_share(network, model, share)
        given = model.network.state_dict()
        for name, mean in network.state_dict().items():
            wanted = learnt[name]
            if mean.is_floating_point():
                wanted = (1 - share) * learnt[name] + share * given[name]
            torch.testing.assert_close(mean, wanted)

    def test_what_is_the_same_stays_the_same(self) -> None:
        model, table = donor("unet", ["a"]), config("unet", ["a"])
        network = fresh(table)
        start_from(network, model, table)
        keep_share(network, model, 0.3)
        given = model.network.state_dict()
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(tensor, given[name], rtol=0, atol=0)


class TestRefusals:
    @pytest.mark.parametrize("share", [-0.1, 1.0])
    def test_a_share_out_of_range(self, share: float) -> None:
        with pytest.raises(ConfigError, match=rf"network\.keep: is {share}"):
            NetworkConfig("unet", {}, start="a", keep=share)

    def test_a_share_of_nothing(self) -> None:
        with pytest.raises(ConfigError, match=r"keep: is 0\.2 and there is no .*start"):
            NetworkConfig("unet", {}, keep=0.2)

    @pytest.mark.parametrize("labels", [["b", "a"], ["a"]])
    def test_a_share_of_other_labels(self, labels: list[str]) -> None:
        table = config("unet", labels)
        kept = dataclasses.replace(table.network, start="donor", keep=0.2)
        table = dataclasses.replace(table, network=kept)
        with pytest.raises(
            ConfigError, match=r"network\.keep: is 0\.2 and donor draws a, b, this run "
        ):
            start_from(fresh(table), donor("unet", ["a", "b"]), table)

    def test_another_network(self) -> None:
        table = config("segnet", ["a"])
        with pytest.raises(
            ConfigError, match=r"network\.start: donor has the network unet, this run s"
        ):
            start_from(fresh(table), donor("unet", ["a"]), table)

    def test_another_kind_of_labels(self) -> None:
        table = config("unet", ["a"])
        spec = tiny_spec(**exclusive())
        model = Model(spec, build("unet", spec.network.arguments), Path("m"))
        with pytest.raises(
            ConfigError, match=r"m has labels of kind exclusive, this run overlapping"
        ):
            start_from(fresh(table), model, table)

    @pytest.mark.parametrize(
        "changed", [{"widths": [2, 6]}, {"widths": [2, 4, 4]}, {"norm": "instance"}]
    )
    def test_other_arguments(self, changed: dict[str, Any]) -> None:
        table = config("unet", ["a"])
        arguments = {**table.network.arguments, **changed}
        other = dataclasses.replace(table, network=NetworkConfig("unet", arguments))
        with pytest.raises(
            ConfigError, match=r"start: donor has network\.arguments .*, this run "
        ):
            start_from(fresh(other), donor("unet", ["a"]), other)

    def test_a_model_of_colours(self) -> None:
        table = config("unet", ["a"])
        arguments = {**SMALL["unet"], "in_channels": 3, "out_channels": 1}
        spec = dataclasses.replace(
            donor("unet", ["a"]).spec,
            network=Network("unet", arguments),
            channels="rgb",
        )
        model = Model(spec, build("unet", arguments), Path("colours"))
        with pytest.raises(
            ConfigError, match=r"colours has \[2, 3, .* as .*network \[2, 1, .*grey"
        ):
            start_from(fresh(table), model, table)

    def test_labels_that_are_fed_back_beside_the_image(self) -> None:
        arguments = {"widths": [2, 2], "kernels": [3, 3], "passes": 2}
        table = config("scene_labelling", ["a", "b"], arguments=arguments)
        same = donor("scene_labelling", ["a", "b"], arguments=arguments)
        network = fresh(table)
        start_from(network, same, table)
        given = same.network.state_dict()
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(tensor, given[name], rtol=0, atol=0)
        other = donor("scene_labelling", ["b", "a"], arguments=arguments)
        with pytest.raises(ConfigError, match=r"network\.start: has 3 entries .* 2 la"):
            start_from(fresh(table), other, table)

    def test_dropout_may_differ(self) -> None:
        table, model = config("unet", ["a"]), donor("unet", ["a"])
        arguments = {**table.network.arguments, "dropout": 0.5}
        wet = dataclasses.replace(table, network=NetworkConfig("unet", arguments))
        network = fresh(wet)
        start_from(network, model, wet)
        image = torch.randn(1, 1, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(network(image), model.network(image))

    def test_a_share_of_other_maps_of_cells(self) -> None:
        spec = tiny_spec(**cells())
        model = Model(spec, build("unet", spec.network.arguments), Path("cells"))
        table = config("unet", ["cell"], "instances")
        kept = dataclasses.replace(table.network, start="cells", keep=0.5)
        table = dataclasses.replace(table, network=kept)
        with pytest.raises(
            ConfigError, match=r"keep: is 0\.5 and cells draws background, cell, this"
        ):
            start_from(fresh(table), model, table)

    def test_a_model_and_weights_of_an_encoder(self) -> None:
        with pytest.raises(ConfigError, match=r"network\.start: is a and .* is b"):
            NetworkConfig("fcn", {}, pretrained="b", start="a")

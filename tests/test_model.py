"""Models: what is saved is loaded, and everything else is refused."""

from __future__ import annotations

import copy
import gzip
import hashlib
import io
import json
import os
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_builders import (
    ARGUMENTS,
    LUNGS,
    exclusive,
    safetensors_bytes,
    tiny_network,
    tiny_spec,
    window_spec,
)
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from medseg import model_files, model_io, model_tools, weights
from medseg.errors import ConfigError, DiskError, ModelError
from medseg.labels import Label, LabelSet
from medseg.model import (
    Model,
    ModelSpec,
    convert,
    list_models,
    load_model,
    model_folder,
    pack_model,
    save_model,
    shipped_models,
    show_model,
    unpack_model,
    verify_model,
)
from medseg.model_spec import (
    Cleaning,
    Decoding,
    Flip,
    Inference,
    Network,
    SelfTest,
    Training,
    WeightsFile,
)
from medseg.networks import NETWORKS, build
from medseg.schema import strict_json
from medseg.transforms import Step

SPEC, WEIGHTS = "model.json", "weights.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(folder, tiny_spec(), tiny_network())
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of the saved model, to be damaged."""
    target = tmp_path / "tiny"
    target.mkdir()
    for name in (SPEC, WEIGHTS):
        (target / name).write_bytes((saved / name).read_bytes())
    return target


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    table = json.loads((folder / SPEC).read_text())
    change(table)
    (folder / SPEC).write_text(json.dumps(table))


def put_weights(folder: Path, data: bytes) -> None:
    """Replace the weights, and their hash in the spec: only the content is wrong."""
    (folder / WEIGHTS).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    edit(folder, lambda t: t["weights"].update(sha256=digest))


# Save and load


def test_what_is_saved_is_loaded(saved: Path) -> None:
    network = tiny_network()
    model = load_model(saved)
    image = torch.randn(1, 1, 16, 16)
    assert not model.network.training
    assert all(p.dtype == torch.float32 for p in model.network.parameters())
    assert not any(p.requires_grad for p in model.network.parameters())
    with torch.inference_mode():
        assert torch.equal(model.network(image), network(image))
    digest = hashlib.sha256((saved / WEIGHTS).read_bytes()).hexdigest()
    assert model.sha256 == digest
    assert load_model(str(saved), sha256=digest.upper()).sha256 == digest


def test_loading_does_not_touch_the_random_state(saved: Path) -> None:
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    load_model(saved)
    assert torch.equal(torch.rand(3), wanted)


def test_saving_twice_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    save_model(tmp_path, tiny_spec(), tiny_network())
    for name in (SPEC, WEIGHTS):
        assert (tmp_path / name).read_bytes() == (saved / name).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == [SPEC, WEIGHTS]


def test_saving_leaves_a_network_in_training_as_it_is(tmp_path: Path) -> None:
    network = tiny_network().train()
    before = copy.deepcopy(network.state_dict())
    save_model(tmp_path, tiny_spec(), network)
    assert network.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_float16_halves_the_file(saved: Path, tmp_path: Path) -> None:
    save_model(tmp_path, tiny_spec(), tiny_network(), dtype="float16")
    model = load_model(tmp_path)
    small, large = ((f / WEIGHTS).read_bytes() for f in (tmp_path, saved))
    floats = sum(t.numel() for t in model.network.state_dict().values() if t.ndim)
    assert abs(len(large) - len(small) - 2 * floats) < 64  # headers differ a little
    for name, tensor in tiny_network().state_dict().items():
        found = model.network.state_dict()[name]
        assert found.dtype == tensor.dtype
        torch.testing.assert_close(found, tensor, rtol=1e-3, atol=1e-3)


def test_save_refuses_another_network_and_numbers_that_are_not_finite(
    tmp_path: Path,
) -> None:
    other = build("unet", {**ARGUMENTS, "widths": [2, 6]})
    with pytest.raises(ModelError, match="has shape"):
        save_model(tmp_path, tiny_spec(), other)
    network = tiny_network()
    with torch.no_grad():
        next(network.parameters())[0, 0, 0, 0] = 1e6
    with pytest.raises(ModelError, match="1 values that are not finite"):
        save_model(tmp_path, tiny_spec(), network, dtype="float16")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(Exception, match="disk is full"):
        save_model(folder, tiny_spec(), tiny_network(seed=1))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_can_be_built_without_memory(name: str) -> None:
    with torch.device("meta"):
        network = build(name, {"in_channels": 1, "out_channels": 2})
    kept = set(network.state_dict())
    # load_state_dict fills parameters and persistent buffers, nothing else.
    assert {n for n, _ in network.named_buffers()} <= kept


# The spec


def full_spec() -> ModelSpec:
    return tiny_spec(
        version="1.2",
        description="Two lungs.",
        decoding=Decoding(
            "threshold",
            (0.4, 0.6),
            (
                Cleaning("keep_largest", ("left_lung",), n=2),
                Cleaning("remove_small", ("right_lung",), min_size=5),
            ),
        ),
        flips=(Flip((1,), (("right_lung", "left_lung"),)),),
        training=Training(("jsrt",), 10, {"epochs": 3, "held back": {"jsrt": 2}}),
        scores={"jsrt": {"heart": {"dice": 0.5, "n": 3}}},
        licence="CC0",
        citation="Nobody 2026",
        weights=WeightsFile("weights.safetensors", "0" * 64),
        self_test=SelfTest((16, 16), 1, "0*256"),
    )


def test_a_spec_survives_json() -> None:
    for spec in (tiny_spec(), full_spec(), tiny_spec(**exclusive())):
        text = spec.to_json()
        again = ModelSpec.from_json(text)
        assert again.to_json() == text
        assert again.labels == spec.labels
        assert again.decoding == spec.decoding
        assert again.flips == spec.flips


def nested(depth: int) -> dict[str, Any]:
    return {"a": nested(depth - 1)} if depth else {}


BAD_SPECS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "unknown key": (lambda t: t.update(licens="x"), "Did you mean licence"),
    "far key": (lambda t: t.update(zzz=1), "zzz is an unknown key. Choose from"),
    "expression key": (lambda t: t.update(_target_="os.system"), "unknown key"),
    "dollar key": (lambda t: t["network"].update({"$import": "os"}), "unknown key"),
    "missing key": (lambda t: t.pop("labels"), "labels is missing"),
    "no weights": (lambda t: t.pop("weights"), "weights is missing"),
    "no self-test": (lambda t: t.pop("self_test"), "self_test is missing"),
    "future": (lambda t: t.update(format=2), "newer than this program knows"),
    "past": (lambda t: t.update(format=0), "format is 0"),
    "name": (lambda t: t.update(name="../x"), "name is"),
    "wrong type": (lambda t: t.update(name=3), "name is '3'. Give text"),
    "wrong list": (lambda t: t.update(labels=[]), "Give a table"),
    "not a list": (lambda t: t.update(preprocessing={}), "Give a list"),
    "bool": (lambda t: t["inference"].update(batch=True), "Give an integer"),
    "long text": (lambda t: t.update(description="x" * 9000), "9000 characters"),
    "choice": (lambda t: t["inference"].update(mode="magic"), "resize"),
    "network": (lambda t: t["network"].update(name="unett"), "Did you mean unet"),
    "argument": (
        lambda t: t["network"]["arguments"].update(width=[2]),
        "Did you mean widths",
    ),
    "argument type": (
        lambda t: t["network"]["arguments"].update(widths="2"),
        "Give a list",
    ),
    "argument range": (
        lambda t: t["network"]["arguments"].update(widths=[2, 10**9]),
        "1 to 4096",
    ),
    "argument choice": (
        lambda t: t["network"]["arguments"].update(norm="os"),
        "batch",
    ),
    "argument length": (
        lambda t: t["network"]["arguments"].update(widths=[2] * 17),
        "1 to 16",
    ),
    "huge network": (
        lambda t: t["network"]["arguments"].update(widths=[4096] * 16),
        "describes a network of",
    ),
    "zero width": (lambda t: t["network"]["arguments"].update(widths=[2, 0]), "1 to"),
    "one level": (lambda t: t["network"]["arguments"].update(widths=[2]), "level"),
    "no patch": (
        lambda t: t["network"]["arguments"].update(patch=0),
        "1 to 4096",
    ),
    "channels": (
        lambda t: t["network"]["arguments"].update(out_channels=3),
        "2 overlapping labels need 2",
    ),
    "input channels": (lambda t: t.update(channels="rgb"), "gives 3"),
    "dimensions": (lambda t: t["inference"].update(size=[8, 8, 8]), "the network 2"),
    "a million classes": (
        lambda t: t["labels"].update(
            labels=[{"value": 1, "name": "a", "colour": "#000000"}] * 100
            + [{"value": 1, "name": "b", "colour": "#000000"}]
        ),
        "repeats",
    ),
    "label path": (lambda t: t["labels"]["labels"][0].update(name="../a"), "name"),
    "label colour": (
        lambda t: t["labels"]["labels"][0].update(colour="red;x"),
        "#rrggbb",
    ),
    "label value": (lambda t: t["labels"]["labels"][0].update(value=2**31), "2\\^31"),
    "label kind": (lambda t: t["labels"].update(kind="odd"), "exclusive"),
    "sizes": (
        lambda t: t["inference"].update(size=[8, 8]),
        r"Resize steps \[\[16, 16\]\]",
    ),
    "size": (lambda t: t["inference"].update(size=[0, 8]), "1 to 4096"),
    "overlap": (lambda t: t["inference"].update(overlap=0.95), "0 to 0.9"),
    "batch": (lambda t: t["inference"].update(batch=0), "1 to 256"),
    "layers": (lambda t: t["inference"].update(exact_layers=17), "0 to 16"),
    "step": (lambda t: t["preprocessing"][0].update(name="LoadImage"), "no step"),
    "decoding": (lambda t: t["decoding"].update(name="argmax"), "Use threshold"),
    "threshold": (lambda t: t["decoding"].update(thresholds=[1.0]), "between 0 and 1"),
    "thresholds": (
        lambda t: t["decoding"].update(thresholds=[0.1] * 3),
        "3 values for 2",
    ),
    "cleaning": (
        lambda t: t["decoding"].update(
            steps=[{"name": "fill_holes", "structures": ["left_lungs"]}]
        ),
        "Did you mean left_lung",
    ),
    "pieces": (
        lambda t: t["decoding"].update(
            steps=[{"name": "keep_largest", "structures": [], "n": 0}]
        ),
        "1 or more",
    ),
    "small": (
        lambda t: t["decoding"].update(
            steps=[{"name": "remove_small", "structures": [], "min_size": -1}]
        ),
        "0 or more",
    ),
    "flip axis": (lambda t: t.update(flips=[{"axes": [2]}]), "axes from 0 to 1"),
    "flip pair": (
        lambda t: t.update(flips=[{"axes": [1], "swap": [["left_lung"]]}]),
        "pairs",
    ),
    "flip name": (
        lambda t: t.update(flips=[{"axes": [1], "swap": [["left_lung", "x"]]}]),
        "no structure 'x'",
    ),
    "scores": (lambda t: t.update(scores={"a": "good"}), "finite number"),
    "facts": (lambda t: t["training"].update(facts={"a": [1]}), "finite number"),
    "weights path": (
        lambda t: t["weights"].update(file="../w.safetensors"),
        "names a file outside its folder; not opened",
    ),
    "absolute path": (
        lambda t: t["weights"].update(file="/etc/passwd"),
        "names a file outside its folder; not opened",
    ),
    "hash": (lambda t: t["weights"].update(sha256="0" * 63), "64 hexadecimal"),
    "wrong hash": (lambda t: t["weights"].update(sha256="0" * 64), "expected 0000"),
    "deep": (lambda t: t.update(scores=nested(8)), "levels deep"),
    "self-test size": (lambda t: t["self_test"].update(size=[16]), "self_test has"),
    "self-test huge": (lambda t: t["self_test"].update(size=[1024, 1024]), "no map"),
    "self-test large": (lambda t: t["self_test"].update(size=[1024, 1025]), "has size"),
    "self-test map": (lambda t: t["self_test"].update(map="x"), "no map"),
    "self-test short": (lambda t: t["self_test"].update(map="0*3"), "3 pixels"),
    "self-test wrong": (lambda t: t["self_test"].update(map="7*256"), "agrees in 0.00"),
}


@pytest.mark.parametrize("case", BAD_SPECS)
def test_a_spec_that_is_refused(case: str, folder: Path) -> None:
    change, message = BAD_SPECS[case]
    edit(folder, change)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON"),
        (b"[]", "Give a table"),
        (b'{"name": NaN}', "holds NaN"),
        (b'{"name": -Infinity}', "holds -Infinity"),
        (b'{"name": 1e999}', "not finite"),
        (b'{"name": "a", "name": "b"}', "duplicate key 'name'"),
        (b'{"name": ' + b"9" * 5000 + b"}", "5000 digits"),
        (b'{"name": 9007199254740992}', "2\\^53"),
        (b'{"name": "\xff"}', "not UTF-8 at byte"),
        ('{"name": 1}'.encode("utf-16"), "not UTF-8"),
        (b"[" * 60000, "60000 levels deep"),
        (b" " * 70000, "at most 65536"),
        (b"\x80\x04K\x01.", "pickle"),
    ],
)
def test_json_that_is_refused(text: bytes, message: str, folder: Path) -> None:
    (folder / SPEC).write_bytes(text)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_json_that_is_too_long() -> None:
    with pytest.raises(ModelError, match="has 3 bytes of JSON, at most 2"):
        strict_json(b"[1]", "x", limit=2, depth=1)


def test_an_argument_that_may_be_absent() -> None:
    assert Network("deeplab", {"rates": None}).argument("rates") is None
    assert Network("deeplab", {"rates": [1, 2]}).argument("rates") == [1, 2]
    with pytest.raises(ConfigError, match="Give a list of 1 to 16"):
        Network("deeplab", {"rates": 3})


def test_the_map_of_a_large_self_test_is_thinned(tmp_path: Path) -> None:
    size = (80, 80)
    spec = tiny_spec(
        preprocessing=(Step("Resize", {"spatial_size": list(size)}),),
        inference=Inference("resize", size),
    )
    written = save_model(tmp_path, spec, tiny_network(), self_test_size=size)
    assert written.self_test is not None
    assert (written.self_test.size, written.self_test.stride) == (size, 2)
    load_model(tmp_path)


def test_a_restless_map_is_thinned_until_a_spec_can_hold_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of one pixel take four characters each."""
    spec, network = tiny_spec(), tiny_network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(1))
    whole = save_model(tmp_path, spec, network).self_test
    assert whole is not None
    monkeypatch.setattr(model_io, "MAX_TEXT", len(whole.map) // 2)
    thin = save_model(tmp_path, spec, network).self_test
    assert thin is not None
    assert len(thin.map) <= len(whole.map) // 2
    assert thin.stride > whole.stride
    load_model(tmp_path)


def test_a_volume_model(tmp_path: Path) -> None:
    spec = window_spec((16, 16, 16))
    torch.manual_seed(0)
    save_model(tmp_path, spec, build("unet", spec.network.arguments))
    test = load_model(tmp_path).spec.self_test
    assert test is not None
    assert (test.size, test.stride) == ((16, 16, 16), 1)


def test_brackets_in_text_are_no_depth() -> None:
    text = json.dumps({"a": '[[[[[["\\[[[['}).encode()
    assert strict_json(text, "x", limit=100, depth=1) == {"a": '[[[[[["\\[[[['}


def test_specs_that_cannot_be_made() -> None:
    with pytest.raises(ConfigError, match="0 structures"):
        tiny_spec(labels=LabelSet((), "overlapping"))
    many = tuple(Label(i, f"n{i}", "#000000") for i in range(1, 1002))
    with pytest.raises(ConfigError, match="1001 structures"):
        tiny_spec(labels=LabelSet(many, "overlapping"))
    with pytest.raises(ConfigError, match="Use instances"):
        tiny_spec(
            labels=LabelSet(LUNGS[:1], "instances"),
            network=Network("unet", {**ARGUMENTS, "out_channels": 1}),
        )
    with pytest.raises(ConfigError, match=r"scores\.dice"):
        tiny_spec(scores={"dice": float("nan")})


# The folder and its files


def test_names(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Shipped:"):
        load_model("no-such-model")
    with pytest.raises(ModelError, match="a model is a folder"):
        load_model(saved / SPEC)
    with pytest.raises(ModelError, match=r"model\.json: is missing"):
        load_model(tmp_path)
    assert model_folder(saved) == saved


def test_shipped_names_come_first(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "shipped_models", lambda: {"tiny": saved})
    monkeypatch.setattr(model_tools, "shipped_models", lambda: {"tiny": saved})
    assert load_model("tiny").folder == saved
    assert list_models() == ["tiny 1: right_lung, left_lung."]
    with pytest.raises(ModelError, match="Shipped: tiny"):
        load_model("tini")


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_every_shipped_model_passes_its_checks(name: str) -> None:
    assert load_model(name).spec.name == name


def test_links_out_of_the_folder_and_odd_files(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.safetensors"
    (folder / WEIGHTS).rename(outside)
    with pytest.raises(ModelError, match="is missing"):
        load_model(folder)
    (folder / WEIGHTS).symlink_to(outside)
    with pytest.raises(ModelError, match="names a file outside its folder"):
        load_model(folder)
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    with pytest.raises(ModelError, match="regular file"):
        load_model(folder)
    (folder / WEIGHTS).rmdir()
    (folder / WEIGHTS).symlink_to(WEIGHTS)
    with pytest.raises(ModelError, match="cannot be opened|is missing"):
        load_model(folder)


def test_a_link_inside_the_folder_is_fine(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "real.safetensors")
    (folder / WEIGHTS).symlink_to("real.safetensors")
    load_model(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_block(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)
    with pytest.raises(ModelError, match="regular file"):
        load_model(folder)


def test_a_pin_proves_the_origin(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"you asked for 0000"):
        load_model(folder, sha256="0" * 64)
    put_weights(folder, save_tensors(tiny_network(seed=1).state_dict()))
    with pytest.raises(ModelError, match="self-test agrees"):
        load_model(folder)


def test_a_file_too_large_is_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (folder / WEIGHTS).open("r+b") as stream:
        stream.truncate(10 * 2**20)
    with pytest.raises(ModelError, match="10485760 bytes, at most"):
        load_model(folder)
    monkeypatch.setattr(weights, "MAX_WEIGHTS_BYTES", 100)
    with pytest.raises(ModelError, match="at most 100"):
        load_model(folder)


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.canary),)


def hostile_pickle(canary: Path, protocol: int = 4) -> bytes:
    import pickle

    return pickle.dumps(Payload(canary), protocol)


def hostile_checkpoint(canary: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": Payload(canary)}, buffer)
    return buffer.getvalue()


def legacy_checkpoint(canary: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": Payload(canary)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def hostile_array(canary: Path) -> bytes:
    buffer = io.BytesIO()
    array = np.array([Payload(canary)], dtype=object)
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def in_tar(canary: Path) -> bytes:
    buffer, data = io.BytesIO(), hostile_pickle(canary)
    with tarfile.open(fileobj=buffer, mode="w") as pack:
        entry = tarfile.TarInfo("../data.pkl")
        entry.size = len(data)
        pack.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def in_zip(canary: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as pack:
        pack.writestr("data.pkl", hostile_pickle(canary))
    return buffer.getvalue()


DISGUISES: dict[str, Callable[[Path], bytes]] = {
    "pickle 0": lambda c: hostile_pickle(c, 0),
    "pickle 2": lambda c: hostile_pickle(c, 2),
    "pickle 5": lambda c: hostile_pickle(c, 5),
    "torch zip": hostile_checkpoint,
    "torch legacy": legacy_checkpoint,
    "npy": hostile_array,
    "tar": in_tar,
    "gzip": lambda c: gzip.compress(hostile_pickle(c)),
    "zip": in_zip,
    "length then pickle": lambda c: b"\x10" + bytes(7) + hostile_pickle(c),
}


@pytest.mark.parametrize("case", DISGUISES)
@pytest.mark.parametrize("name", [WEIGHTS, SPEC])
def test_pickles_in_disguise_never_run(
    case: str, name: str, folder: Path, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    data = DISGUISES[case](canary)
    if name == WEIGHTS:
        put_weights(folder, data)
    else:
        (folder / name).write_bytes(data)
    with pytest.raises(ModelError):
        load_model(folder)
    plain = tmp_path / "model.safetensors"
    plain.write_bytes(data)
    with pytest.raises(ModelError):
        load_model(plain)
    assert not canary.exists()


def test_the_message_names_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(hostile_checkpoint(tmp_path / "canary"))
    with pytest.raises(ModelError, match="medseg models convert"):
        load_model(tmp_path / "net.pt")


# The header of the weights


def entry(shape: list[Any], begin: Any, end: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


F4 = bytes(4)
HEADERS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "truncated: 0 bytes"),
    "length past the end": (b"\xff" + bytes(7) + b"{}", "255 bytes in a file of 10"),
    "length 2^63": (bytes(7) + b"\x80{}", "9223372036854775808"),
    "not JSON": (safetensors_bytes(b"{nonsense", b""), "not JSON"),
    "not UTF-8": (safetensors_bytes(b'{"\xff": 1}', b""), "not UTF-8"),
    "no table": (safetensors_bytes(b"[]", b""), "no table"),
    "overlap": (
        safetensors_bytes({"a": entry([1], 0, 4), "b": entry([1], 2, 6)}, bytes(6)),
        "overlap at byte 4",
    ),
    "hole": (
        safetensors_bytes({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12)),
        "leave a hole at byte 4",
    ),
    "trailing": (safetensors_bytes({"a": entry([1], 0, 4)}, bytes(9)), "trailing"),
    "cut": (safetensors_bytes({"a": entry([2], 0, 8)}, F4), "has 4 bytes of tensors"),
    "dtype": (safetensors_bytes({"a": entry([1], 0, 4, "F64")}, F4), "'F64'"),
    "dtype list": (safetensors_bytes({"a": entry([1], 0, 4, [])}, F4), "dtype"),
    "bytes": (safetensors_bytes({"a": entry([3], 0, 4)}, F4), "its shape needs 12"),
    "overflow": (
        safetensors_bytes({"a": entry([2**40, 2**40], 0, 4)}, F4),
        "its shape needs",
    ),
    "negative": (safetensors_bytes({"a": entry([-1], 0, 4)}, F4), "for sizes"),
    "offset text": (safetensors_bytes({"a": entry([1], "0", 4)}, F4), "for sizes"),
    "extra key": (
        safetensors_bytes({"a": {**entry([1], 0, 4), "code": 1}}, F4),
        "exactly",
    ),
    "long shape": (safetensors_bytes({"a": entry([1] * 9, 0, 4)}, F4), "has shape"),
    "duplicate": (
        safetensors_bytes(
            b'{"a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
            b'"a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            F4,
        ),
        "duplicate key",
    ),
    "many": (
        safetensors_bytes({str(i): entry([0], 0, 0) for i in range(10001)}, b""),
        "10001 tensors",
    ),
    "long header": (safetensors_bytes(b" " * (2**20 + 1), b""), "is truncated"),
    "deep": (safetensors_bytes(b"[" * 1000, b""), "1000 levels deep"),
    "other names": (safetensors_bytes({"a\x1b": entry([1], 0, 4)}, F4), "lacks"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_is_refused(case: str, folder: Path) -> None:
    data, message = HEADERS[case]
    put_weights(folder, data)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(folder)
    assert str(caught.value).isprintable()


def test_tensors_that_are_refused(folder: Path) -> None:
    tensors = load_tensors((folder / WEIGHTS).read_bytes())
    name = next(k for k, v in tensors.items() if v.ndim == 4)
    for wrong, message in (
        (tensors[name].flatten(), "has shape"),
        (torch.full_like(tensors[name], torch.nan), "values that are not finite"),
        (tensors[name].long(), "expected torch.float32"),
    ):
        put_weights(folder, save_tensors({**tensors, name: wrong}))
        with pytest.raises(ModelError, match=message):
            load_model(folder)


@pytest.mark.parametrize("length", [0x80, 0x0280, 0x0480, 0x4B50])
def test_a_header_whose_length_looks_like_a_pickle(length: int, tmp_path: Path) -> None:
    head = length.to_bytes(8, "little") + b'{"a": 1}'
    model_files.refuse_code(head, tmp_path)


def test_a_network_that_refuses_the_self_test(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("wrong size")

    monkeypatch.setattr(model_io, "_self_test_map", refuse)
    with pytest.raises(ModelError, match="refuses the self-test"):
        load_model(folder)


def test_arguments_that_make_no_network(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("the kernel does not fit")

    monkeypatch.setattr(model_io, "build", refuse)
    with pytest.raises(ModelError, match="do not make a network"):
        load_model(folder)


def test_loading_opens_no_socket(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    load_model(saved)


# The tools


def test_show_and_verify(saved: Path) -> None:
    text = show_model(saved)
    assert "name: tiny" in text
    assert "  - value 1, name right_lung, colour #4c9be8" in text
    assert "self_test" not in text
    assert "all checks passed" in verify_model(saved)
    assert "hash you gave" in verify_model(saved, sha256=load_model(saved).sha256)


def test_a_pack_of_weights_of_another_name_unpacks(
    folder: Path, tmp_path: Path
) -> None:
    (folder / WEIGHTS).rename(folder / "second.safetensors")
    text = (folder / SPEC).read_text()
    (folder / SPEC).write_text(text.replace(WEIGHTS, "second.safetensors"))
    unpacked = unpack_model(pack_model(folder, tmp_path / "a.medseg"), tmp_path / "new")
    assert load_model(unpacked).sha256 == load_model(folder).sha256


def test_pack_and_unpack(folder: Path, tmp_path: Path) -> None:
    (folder / "README.md").write_text("A card.")
    one, two = (pack_model(folder, tmp_path / n) for n in ("a.medseg", "b.medseg"))
    assert one.read_bytes() == two.read_bytes()
    unpacked = unpack_model(one, tmp_path / "new")
    for name in (SPEC, WEIGHTS, "README.md"):
        assert (unpacked / name).read_bytes() == (folder / name).read_bytes()
    with pytest.raises(ModelError, match="is not empty"):
        unpack_model(one, unpacked)
    with pytest.raises(ModelError, match="zip archive"):
        load_model(one)
    with pytest.raises(ModelError, match="none: no such file. Check the path"):
        unpack_model(tmp_path / "none", tmp_path / "other")


def test_a_refused_model_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    archive = pack_model(folder, tmp_path / "a.medseg")
    with zipfile.ZipFile(archive) as pack:
        spec = pack.read(SPEC)
    with zipfile.ZipFile(archive, "w") as pack:
        pack.writestr(zipfile.ZipInfo(SPEC), spec)
    (tmp_path / "b").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for name in ("b", "c"):
        with pytest.raises(ModelError, match=r"a\.medseg/weights"):
            unpack_model(archive, tmp_path / name)
        assert sorted(tmp_path.rglob("*")) == before


def test_a_model_unpacks_into_an_empty_folder_but_not_onto_a_file(
    folder: Path, tmp_path: Path
) -> None:
    archive = pack_model(folder, tmp_path / "a.medseg")
    (tmp_path / "empty").mkdir()
    assert load_model(unpack_model(archive, tmp_path / "empty"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="file: is a file. Name a new folder"):
        unpack_model(archive, tmp_path / "file")
    with pytest.raises(DiskError, match="file is a file, not a folder"):
        unpack_model(archive, tmp_path / "file" / "new")
    assert not list(tmp_path.glob(".unpack-*"))


def hostile_zip(name: str, *, mode: int = 0, method: int = 0, twice: int = 1) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as pack:
        warnings.simplefilter("ignore")  # a duplicate name
        for _ in range(twice):
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, method
            pack.writestr(info, b"x" * 100)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (hostile_zip("../model.json"), r"holds '\.\./model\.json'"),
        (hostile_zip("/etc/passwd"), "holds"),
        (hostile_zip("a/model.json"), "holds"),
        (hostile_zip("model.json", mode=0o120777), "no regular file"),
        (hostile_zip("model.json", method=8), "is compressed"),
        (hostile_zip("model.json", twice=2), "once each"),
        (b"not a zip", "no packed model"),
        (hostile_zip("README.md"), "unfolds to more than 50"),
    ],
)
def test_packs_that_are_refused(
    data: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(model_tools._MEMBERS, "README.md", 50)
    (tmp_path / "pack").write_bytes(data)
    with pytest.raises(ModelError, match=message):
        unpack_model(tmp_path / "pack", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("wrap", [None, "state_dict", "model"])
def test_convert_gives_the_same_model(
    wrap: str | None, saved: Path, tmp_path: Path
) -> None:
    tensors = {f"module.{k}": v for k, v in tiny_network().state_dict().items()}
    torch.save({wrap: tensors, "epoch": 3} if wrap else tensors, tmp_path / "net.pt")
    (tmp_path / "spec.json").write_text(tiny_spec().to_json())
    folder = convert(tmp_path / "net.pt", tmp_path / "spec.json", tmp_path / "new")
    for name in (SPEC, WEIGHTS):
        assert (folder / name).read_bytes() == (saved / name).read_bytes()


def test_convert_never_runs_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(tiny_spec().to_json())
    canary = tmp_path / "canary"
    for data in (
        hostile_checkpoint(canary),
        legacy_checkpoint(canary),
        hostile_pickle(canary),
        b"",
        b"junk",
    ):
        (tmp_path / "net.pt").write_bytes(data)
        with pytest.raises(ModelError, match="tensors only"):
            convert(tmp_path / "net.pt", tmp_path / "spec.json", tmp_path / "new")
    assert not canary.exists()
    assert not (tmp_path / "new").exists()


def test_convert_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"spec\.json: no such file\. Write it like"):
        convert(tmp_path / "net.pt", tmp_path / "spec.json", tmp_path / "new")
    (tmp_path / "spec.json").write_text(tiny_spec().to_json())

    def refused(message: str) -> None:
        with pytest.raises(ModelError, match=message):
            convert(tmp_path / "net.pt", tmp_path / "spec.json", tmp_path / "new")

    refused(r"net\.pt: no such file")
    for content in ([1], {}, {"a": 1}):
        torch.save(content, tmp_path / "net.pt")
        refused("no state dictionary")
    torch.save({"a": torch.zeros(1)}, tmp_path / "net.pt")
    refused("does not fit the network")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cu130")
    refused("2.9.1")


def test_a_model_is_a_value(saved: Path) -> None:
    model = load_model(saved)
    assert Model(replace(model.spec, weights=None), model.network, saved).sha256 == ""
    with pytest.raises(AttributeError):
        model.spec = tiny_spec()  # type: ignore[misc]
    assert model.spec.inference == Inference("resize", (16, 16))

"""A name to a network: with which weights, and what the caller is told."""

import hashlib
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support import distributions, specimen
from support.hub_server import HubServer
from torch import Tensor, nn

import zoo
from zoo import registry
from zoo.errors import (
    DataError,
    FileFormatError,
    MissingExtraError,
    SpecError,
    TensorMismatchError,
    UnknownNameError,
    UnpinnedError,
    WeightsError,
    ZooError,
)
from zoo.loading import safetensors_file
from zoo.loading.create import info_of


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return zoo.create("resnet20").state_dict()


@pytest.fixture(scope="module")
def file(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of resnet20, as zoo.train leaves them."""
    path = tmp_path_factory.mktemp("weights") / "resnet20.safetensors"
    safetensors_file.write(state, path, {"model": "resnet20", "classes": "cifar10", "class_names": [*"abcdefghij"]})
    return path


def differing(module: nn.Module, state: dict[str, Tensor]) -> set[str]:
    return {
        key
        for key, tensor in module.state_dict().items()
        if tensor.shape != state[key].shape or not torch.equal(tensor, state[key])
    }


def test_a_name_alone_gives_a_newly_initialised_network() -> None:
    first, second = zoo.create("resnet20"), zoo.create("resnet20")
    assert first.training
    assert not torch.equal(first.get_parameter("fc.weight"), second.get_parameter("fc.weight"))
    assert info_of(first).weights is None


def test_a_file_gives_its_tensors_and_what_it_says_of_itself(file: Path, state: dict[str, Tensor]) -> None:
    module = zoo.create("resnet20", weights=file)
    assert differing(module, state) == set()
    info = info_of(module)
    assert (info.name, info.file, info.classes, info.class_names) == (str(file), file, "cifar10", tuple("abcdefghij"))


def test_a_file_may_be_named_by_a_string(file: Path, state: dict[str, Tensor]) -> None:
    assert differing(zoo.create("resnet20", weights=str(file)), state) == set()


def test_a_tag_and_pretrained_give_the_embedded_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "written.safetensors"
    specimen.install(tmp_path / "first", monkeypatch)
    sha256 = safetensors_file.write(zoo.create("net").state_dict(), weights, {})
    entry = f'[net.own]\nhub = "embedded:PACKAGE"\nfile = "net.safetensors"\nsha256 = "{sha256}"\n[net.remote]'
    specimen.install(
        tmp_path / "second",
        monkeypatch,
        ("[net.remote]", entry),
        ('name="specimen"', 'name="trained"'),
        name="trained",
        more={"net.safetensors": weights.read_bytes()},
    )
    for module in (zoo.create("trained/net.own"), zoo.create("trained/net", pretrained=True)):
        assert differing(module, safetensors_file.read(weights)) == set()
        assert info_of(module).name == "net.own"


def test_pretrained_may_be_a_tag() -> None:
    assert info_of(zoo.create("resnet20", pretrained="fmnist")).name == "resnet20.fmnist"
    assert info_of(zoo.create("resnet20.fmnist", pretrained="fmnist")).name == "resnet20.fmnist"


@pytest.mark.parametrize("name", ["resnet20", "resnet20.c10"])
def test_a_tag_that_the_model_does_not_have_is_an_error_with_those_it_has(name: str) -> None:
    with pytest.raises(ZooError) as caught:
        zoo.create(name, pretrained="nonsense")
    assert "nonsense" in caught.value.message
    assert "resnet20.c10" in str(caught.value)


def test_two_different_tags_contradict_each_other() -> None:
    with pytest.raises(WeightsError, match=r"resnet20\.c10 and pretrained='fmnist' both name weights"):
        zoo.create("resnet20.c10", pretrained="fmnist")


@pytest.mark.parametrize("value", [None, 1, 0, "", ["c10"], Path("c10")])
def test_pretrained_is_nothing_but_a_truth_value_or_a_tag(value: Any) -> None:
    with pytest.raises(ZooError, match="resnet20"):
        zoo.create("resnet20", pretrained=value)


def test_another_number_of_classes_changes_the_head_alone_and_is_told(
    file: Path, state: dict[str, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="zoo"):
        module = zoo.create("resnet20", weights=file, num_classes=7)
    assert differing(module, state) == {"fc.weight", "fc.bias"}
    assert module.get_parameter("fc.weight").shape == (7, 64)
    assert module.get_parameter("fc.weight").std() > 0  # initialised, although the rest was not
    (record,) = caplog.records
    assert record.name == "zoo"
    assert record.getMessage() == f"{file}: fc newly initialised for 7 classes, had 10"
    assert info_of(module).classes == ""


def test_as_many_classes_as_the_file_has_change_nothing_and_say_nothing(
    file: Path, state: dict[str, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    assert differing(zoo.create("resnet20", weights=file, num_classes=10), state) == set()
    assert caplog.records == []


def test_a_file_of_another_number_of_classes_keeps_its_head(tmp_path: Path) -> None:
    state = zoo.create("resnet20", num_classes=37).state_dict()
    safetensors_file.write(state, tmp_path / "pets.safetensors", {})
    module = zoo.create("resnet20", weights=tmp_path / "pets.safetensors")
    assert differing(module, state) == set()


def test_no_classes_leave_the_features(file: Path) -> None:
    assert zoo.create("resnet20", weights=file, num_classes=0)(torch.zeros(2, 3, 32, 32)).shape == (2, 64)


@pytest.mark.parametrize("in_chans", [1, 2, 4, 7])
def test_other_input_channels_adapt_the_stem_alone_as_timm_does_and_are_told(
    in_chans: int, file: Path, state: dict[str, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    manipulate = pytest.importorskip("timm.models._manipulate", reason="needs timm")
    module = zoo.create("resnet20", weights=file, in_chans=in_chans)
    assert differing(module, state) == {"conv1.weight"}
    expected = manipulate.adapt_input_conv(in_chans, state["conv1.weight"])
    torch.testing.assert_close(module.get_parameter("conv1.weight").detach(), expected, rtol=0, atol=0)
    assert f"conv1.weight adapted from 3 to {in_chans} input channels" in caplog.text


def test_preprocessing_follows_the_input_channels(file: Path) -> None:
    before = info_of(zoo.create("resnet20", weights=file)).preprocess
    image = zoo.preprocess(zoo.create("resnet20", weights=file, in_chans=1))(Image.new("L", (32, 32), 128))
    assert image.shape == (1, 32, 32)
    expected = (128 / 255 - sum(before.mean) / 3) / (sum(before.std) / 3)
    torch.testing.assert_close(image, torch.full_like(image, expected))


@pytest.mark.parametrize("num_classes", [None, 10, 1000])
def test_an_unrelated_checkpoint_is_refused_whatever_num_classes_says(num_classes: int | None, tmp_path: Path) -> None:
    other = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 10)).state_dict()
    safetensors_file.write(other, tmp_path / "other.safetensors", {})
    with pytest.raises(TensorMismatchError, match=r"missing     conv1\.weight") as caught:
        zoo.create("resnet20", weights=tmp_path / "other.safetensors", num_classes=num_classes)
    assert "unexpected  2.bias (10,)" in str(caught.value)


def test_a_sibling_without_description_is_refused_by_its_tensors(file: Path, tmp_path: Path) -> None:
    safetensors_file.write(safetensors_file.read(file), tmp_path / "nameless.safetensors", {})
    with pytest.raises(TensorMismatchError, match=r"missing     layer1\.3\.conv1\.weight"):
        zoo.create("resnet32", weights=tmp_path / "nameless.safetensors")


def test_weights_of_another_model_are_refused_by_name(file: Path) -> None:
    with pytest.raises(WeightsError, match="has weights of resnet20, not of plain20") as caught:
        zoo.create("plain20", weights=file)
    assert "resnet20" in caught.value.hint


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_pickles_are_refused_with_how_to_convert_them(is_zip: bool, state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "resnet20.safetensors", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(FileFormatError, match="Zoo does not load them") as caught:
        zoo.create("resnet20", weights=tmp_path / "resnet20.safetensors")
    assert "zoo convert" in caught.value.hint


@pytest.mark.parametrize(
    "about",
    [
        {"preprocess": {"input_size": [3, 32, 32], "mean": [0.5]}},
        {"preprocess": "none"},
        {"args": [1]},
        {"args": {"depth": "twenty"}},
        {"args": {"no_such_argument": 1}},
        {"class_names": 3},
        {"model": 5},
    ],
    ids=str,
)
def test_a_file_that_describes_itself_wrongly_is_refused(
    about: dict[str, object], state: dict[str, Tensor], tmp_path: Path
) -> None:
    safetensors_file.write(state, tmp_path / "odd.safetensors", about)
    with pytest.raises(zoo.ZooError):
        zoo.create("resnet20", weights=tmp_path / "odd.safetensors")


def test_a_training_step_works_and_leaves_the_file_as_it_was(file: Path) -> None:
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    module = zoo.create("resnet20", weights=file)
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in module.parameters())
    kept = {name: parameter.clone() for name, parameter in module.named_parameters()}
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(torch.randn(4, 3, 32, 32)).logsumexp(1).mean().backward()
    optimizer.step()
    assert all(not torch.equal(parameter, kept[name]) for name, parameter in module.named_parameters())
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before


def test_two_networks_of_one_file_are_independent(file: Path, state: dict[str, Tensor]) -> None:
    first, second = (zoo.create("resnet20", weights=file) for _ in range(2))
    with torch.no_grad():
        first.get_parameter("fc.weight").zero_()
    assert differing(second, state) == set()


def test_half_precision_files_give_single_precision_networks_unless_asked_otherwise(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    safetensors_file.write(half, tmp_path / "half.safetensors", {})
    module = zoo.create("resnet20", weights=tmp_path / "half.safetensors")
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    module = zoo.create("resnet20", weights=tmp_path / "half.safetensors", dtype=torch.bfloat16, device="cpu")
    assert {parameter.dtype for parameter in module.parameters()} == {torch.bfloat16}


def test_arguments_go_to_the_family() -> None:
    assert "layer2.0.downsample.0.weight" in zoo.create("resnet20", shortcut="B").state_dict()
    assert "layer2.0.downsample.0.weight" not in zoo.create("resnet20").state_dict()


def test_two_sources_of_weights_are_an_error(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specimen.install(tmp_path, monkeypatch)
    with pytest.raises(WeightsError, match=r"net\.remote and weights='.*' both name weights"):
        zoo.create("net.remote", weights=file)
    with pytest.raises(WeightsError, match=r"pretrained=True and weights='.*' both name weights"):
        zoo.create("resnet20", pretrained=True, weights=file)


def test_pretrained_without_weights_lists_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specimen.install(tmp_path, monkeypatch, ("    models=(", "    models=(Model('bare', build='PACKAGE.model:build'),"))
    with pytest.raises(WeightsError, match="bare has no weights") as caught:
        zoo.create("bare", pretrained=True)
    assert "net.remote" in caught.value.hint


def test_strict_pretrained_with_unpinned_weights_alone_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specimen.install(tmp_path, monkeypatch)
    monkeypatch.setenv("ZOO_STRICT", "1")
    with pytest.raises(UnpinnedError, match=r"net\.remote is not pinned: its manifest has no sha256") as caught:
        zoo.create("net", pretrained=True)
    assert "zoo manifest pin specimen/net.remote" in caught.value.hint


def test_an_unknown_name_or_tag_suggests_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specimen.install(tmp_path, monkeypatch)
    with pytest.raises(UnknownNameError, match="resnet20"):
        zoo.create("resnet2o")
    with pytest.raises(UnknownNameError, match=r"net\.remote"):
        zoo.create("net.remot")


@pytest.mark.parametrize("sizes", [{"in_chans": 0}, {"in_chans": -1}, {"num_classes": -1}], ids=str)
@pytest.mark.parametrize("is_loaded", [False, True])
def test_impossible_sizes_are_refused(sizes: dict[str, int], is_loaded: bool, file: Path) -> None:
    with pytest.raises(SpecError, match="is invalid: expected"):
        zoo.create("resnet20", weights=file if is_loaded else None, **sizes)


def test_a_module_of_other_origin_has_no_preprocessing() -> None:
    with pytest.raises(WeightsError, match=r"was not created by zoo\.create"):
        zoo.preprocess(nn.Linear(1, 1))


@pytest.mark.slow
def test_creating_imports_neither_torchvision_nor_timm(file: Path) -> None:
    code = (
        "import sys, zoo\n"
        f"zoo.create('resnet20', weights={str(file)!r})\n"
        "print(sorted({'torchvision', 'timm', 'sklearn', 'pyarrow', 'pandas', 'rich'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_type_alone_has_its_effect(dtype: torch.dtype, file: Path) -> None:
    for module in (zoo.create("resnet20", dtype=dtype), zoo.create("resnet20", weights=file, dtype=dtype)):
        assert {parameter.dtype for parameter in module.parameters()} == {dtype}


def test_a_device_alone_has_its_effect() -> None:
    module = zoo.create("resnet20", device="meta")
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


def test_a_network_on_meta_is_not_initialised_first(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "normal_", lambda tensor, *_, **__: drawn.append(tensor) or tensor)
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda tensor, *_, **__: drawn.append(tensor) or tensor)
    zoo.create("resnet20", device="meta")
    assert not drawn
    zoo.create("resnet20", device="cpu")
    assert drawn


@pytest.mark.parametrize(
    ("raised", "expected", "said"),
    [
        ("zoo.DataError('of the hook', hint='its own')", DataError, "of the hook\nits own"),
        ("KeyError('of the hook')", TensorMismatchError, "does not fit"),
    ],
)
def test_what_a_translate_hook_says_itself_is_what_is_told(
    raised: str, expected: type[ZooError], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other error of its may come of tensors that are none of its own: then those do not fit."""
    more = {"translation.py": f"import zoo\ndef translate(tensors, module):\n    raise {raised}\n".encode()}
    change = ('build="PACKAGE.model:build",', 'build="PACKAGE.model:build", translate="PACKAGE.translation:translate",')
    specimen.install(tmp_path / "site", monkeypatch, change, more=more)
    safetensors_file.write({"other": torch.zeros(1)}, tmp_path / "net.safetensors", {})
    with pytest.raises(ZooError) as caught:
        zoo.create("net", weights=tmp_path / "net.safetensors")
    assert type(caught.value) is expected
    assert said in str(caught.value)


UNPINNED = """
[resnet110.own]
repo = "alice/net"
file = "model.safetensors"
pinned = false
"""


@pytest.mark.parametrize("name", ["resnet110.own", "resnet110"])
def test_unpinned_weights_are_created_in_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "manifest.toml").write_text(UNPINNED)
    monkeypatch.setenv("ZOO_HUB", str(tmp_path))
    registry.clear()
    content = safetensors_file.write(zoo.create("resnet110").state_dict(), tmp_path / "alice/net/model.safetensors", {})
    file = zoo.create(name, pretrained=True).zoo_info.file
    assert hashlib.sha256(file.read_bytes()).hexdigest() == content


def test_what_is_not_installed_is_told_before_anything_is_fetched(
    hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_server.commit("alice/net", {"model.safetensors": b"x"})
    sha256 = hashlib.sha256(b"x").hexdigest()
    entry = f'[pet_net.own]\nrepo = "alice/net"\nfile = "model.safetensors"\nsha256 = "{sha256}"\n'
    (tmp_path / "manifest.toml").write_text(entry)
    monkeypatch.setenv("ZOO_HUB", str(tmp_path))
    text = distributions.plugin("pet", "pet_net").replace("build=", 'requires=(Requirement("absent", "a"),), build=')
    site = distributions.install(tmp_path / "site", "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": text})
    monkeypatch.syspath_prepend(site)
    registry.clear()
    with pytest.raises(MissingExtraError, match="pet_net needs absent, which is not installed"):
        zoo.create("pet_net.own")
    assert hub_server.requests == []

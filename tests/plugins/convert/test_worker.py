"""Files of other formats through ``zoo.create``; the oracles are torchvision and the published networks."""

import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support import distributions
from support.command import printed
from support.foreign import NAME, calls_here, has_state, offer, save_state
from support.reference import cifar10_test_images, public_weights

import zoo
from zoo import registry
from zoo.errors import FileFormatError, StorageError, TensorMismatchError, WeightsError
from zoo.hub import cache, converted


@pytest.fixture(autouse=True)
def _own_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_HUB", "")


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were converted, in this process."""
    return calls_here(monkeypatch)


# ---- the same outputs ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_checkpoint_of_torchvision_computes_what_torchvision_computes(tmp_path: Path) -> None:
    """In a process of its own, like every conversion."""
    torchvision = pytest.importorskip("torchvision", reason="the oracle is torchvision")
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    offer(tmp_path / "hub", tmp_path / "resnet18.pth", "resnet18.x")
    ours = zoo.create("resnet18.x").eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs(images))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "builder", "size", "options"),
    [
        ("alexnet_owt", "alexnet", 224, {}),
        ("vgg11_bn", "vgg11_bn", 224, {}),
        ("densenet121", "densenet121", 224, {}),
        ("googlenet_tv", "googlenet", 224, {"aux_logits": True, "init_weights": False}),
        ("inception_v3", "inception_v3", 299, {"aux_logits": True, "init_weights": False}),
    ],
)
def test_every_family_reads_torchvisions_checkpoints(
    model: str, builder: str, size: int, options: dict[str, Any], tmp_path: Path, conversions: list[str]
) -> None:
    torchvision = pytest.importorskip("torchvision", reason="the oracle is torchvision")
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, builder)(weights=None, **options).eval()
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    [published] = [one for one in registry.current().find(model).row.weights[model] if one.file.endswith(".pth")]
    fields = {"num_classes": published.num_classes, "classes": '"imagenet-1k"'}
    if isinstance(published.key_map, str):  # alexnet_owt has two ways to read these tensors
        fields["key_map"] = f'"{published.key_map}"'
    offer(tmp_path / "hub", tmp_path / "net.pth", f"{model}.x", **fields)
    ours = zoo.create(f"{model}.x").eval()
    images = torch.randn(1, 3, size, size)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.first(2)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".th", ".bin", ".ckpt", ".pth.tar"])
def test_every_name_of_torchs_files_is_read(suffix: str, tmp_path: Path, conversions: list[str]) -> None:
    state = save_state(tmp_path / f"net{suffix}")
    offer(tmp_path / "hub", tmp_path / f"net{suffix}")
    assert has_state(zoo.create(NAME), state)


@pytest.mark.slow
def test_a_published_checkpoint_is_as_accurate_as_its_authors_say(tmp_path: Path, conversions: list[str]) -> None:
    """Its key map states arguments and preprocessing; of the first 500 images 91.7% would be 459."""
    file = public_weights("akamaster/resnet20-12fca82f.th")
    offer(tmp_path / "hub", file, "resnet20.aka", key_map='"akamaster"')
    model = zoo.create("resnet20.aka").eval()
    info = model.zoo_info
    assert info.weights.args == {"shortcut": "A", "zero_channels": "split"}
    assert info.preprocess.mean == (0.485, 0.456, 0.406)
    images, labels = cifar10_test_images(500)
    mean, std = (torch.tensor(values)[:, None, None] for values in (info.preprocess.mean, info.preprocess.std))
    with torch.inference_mode():
        right = (model((images - mean) / std).argmax(1) == labels).sum().item()
    assert right > 440
    again = zoo.create("resnet20.aka")
    assert (again.zoo_info.weights, again.zoo_info.preprocess) == (info.weights, info.preprocess)
    assert len(conversions) == 1


def test_what_the_manifest_states_precedes_the_key_map(tmp_path: Path, conversions: list[str]) -> None:
    save_state(tmp_path / "net.pth")
    fields = {"key_map": '"akamaster"', "args": '{ zero_channels = "end" }'}
    fields["preprocess"] = "{ input_size = [3, 32, 32], mean = [0.1, 0.1, 0.1], std = [1.0, 1.0, 1.0] }"
    offer(tmp_path / "hub", tmp_path / "net.pth", "resnet20.x", **fields)
    info = zoo.create("resnet20.x").zoo_info
    assert info.args["zero_channels"] == "end"
    assert info.preprocess.mean == (0.1, 0.1, 0.1)


def test_safetensors_with_other_keys_are_converted_if_the_entry_names_a_key_map(
    tmp_path: Path, conversions: list[str]
) -> None:
    from zoo.loading import safetensors_file

    state = dict(zoo.create("resnet20").state_dict())
    renamed = {key.replace("fc.", "linear."): tensor for key, tensor in state.items()}
    safetensors_file.write(renamed, tmp_path / "net.safetensors", {})
    offer(tmp_path / "hub", tmp_path / "net.safetensors", "resnet20.x", key_map='"akamaster"')
    assert has_state(zoo.create("resnet20.x"), state)
    assert conversions == ["net.safetensors"]


def test_a_file_without_a_head_computes_features_if_its_entry_says_so(tmp_path: Path, conversions: list[str]) -> None:
    state = save_state(tmp_path / "net.pth")
    torch.save({key: tensor for key, tensor in state.items() if not key.startswith("fc.")}, tmp_path / "net.pth")
    offer(tmp_path / "hub", tmp_path / "net.pth", num_classes=0)
    assert zoo.create(NAME).num_classes == 0
    assert zoo.create(NAME, num_classes=7).num_classes == 7


def test_predictions_are_made_with_such_weights(tmp_path: Path, conversions: list[str]) -> None:
    save_state(tmp_path / "net.pth")
    offer(tmp_path / "hub", tmp_path / "net.pth", classes='"cifar10"', num_classes=10)
    picture = Path(__file__).parents[3] / "examples" / "digit.png"
    answer = printed("predict", NAME, picture, "--json")
    assert "airplane" in answer


# ---- no code, no network --------------------------------------------------------------------------------------------


class _Touch:
    """Unpickles by creating a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.file,)


def test_a_checkpoint_that_runs_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    file, proof = tmp_path / "hostile.pth", tmp_path / "proof"
    torch.save({"state_dict": _Touch(proof)}, file)
    offer(tmp_path / "hub", file)
    with pytest.raises(FileFormatError, match=r"resnet20\.foreign: hostile\.pth: .*without running code"):
        zoo.create(NAME)
    assert not proof.exists()
    assert not [*(cache.root() / "converted").iterdir()]


CONNECTS = """
import socket, sys
from torch import nn

def build(num_classes, in_chans):
    socket.create_connection(("127.0.0.1", PORT)).close()
    return nn.Sequential(nn.Flatten(), nn.Linear(4 * in_chans, num_classes))
"""


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that nobody asks; the test fails if somebody has connected."""
    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)
    yield server.getsockname()[1]
    with pytest.raises(BlockingIOError):
        server.accept()
    server.close()


def test_what_runs_during_a_conversion_cannot_connect(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = CONNECTS.replace("PORT", str(port))
    files = {"chatty.py": distributions.plugin("chatty", "chatty_net"), "chatty_model.py": model}
    monkeypatch.syspath_prepend(str(distributions.install(tmp_path, "zoo-chatty", {"chatty": "chatty:plugin"}, files)))
    torch.save({"1.weight": torch.ones(1000, 12), "1.bias": torch.zeros(1000)}, tmp_path / "net.pth")
    offer(tmp_path / "hub", tmp_path / "net.pth", "chatty_net.x")
    with pytest.raises(WeightsError, match="this process has no network"):
        zoo.create("chatty_net.x")


# ---- errors --------------------------------------------------------------------------------------------------------


def test_tensors_that_do_not_fit_are_listed(tmp_path: Path, conversions: list[str]) -> None:
    state = save_state(tmp_path / "net.pth")
    state["extra"] = state.pop("conv1.weight")
    torch.save(state, tmp_path / "net.pth")
    offer(tmp_path / "hub", tmp_path / "net.pth")
    with pytest.raises(TensorMismatchError, match=f"{NAME}: ") as caught:
        zoo.create(NAME)
    assert "missing     conv1.weight" in caught.value.message
    assert "unexpected  extra" in caught.value.message
    assert "key_map" in caught.value.hint
    assert str(cache.root()) not in caught.value.message


def test_tensors_that_fit_two_networks_need_a_key_map(tmp_path: Path, conversions: list[str]) -> None:
    save_state(tmp_path / "net.pth")
    offer(tmp_path / "hub", tmp_path / "net.pth", "resnet20.x")
    with pytest.raises(WeightsError, match="2 ways that compute different functions") as caught:
        zoo.create("resnet20.x")
    assert "in a manifest, with key_map" in caught.value.hint


@pytest.mark.parametrize("key_map", ["akamastr", "--", "a b"])
def test_an_unknown_key_map_gets_a_suggestion(key_map: str, tmp_path: Path, conversions: list[str]) -> None:
    save_state(tmp_path / "net.pth")
    offer(tmp_path / "hub", tmp_path / "net.pth", "resnet20.x", key_map=f'"{key_map}"')
    with pytest.raises(zoo.UnknownNameError, match=f"resnet20.x: Unknown key map {key_map!r}") as caught:
        zoo.create("resnet20.x")
    assert "akamaster" in caught.value.hint


@pytest.mark.parametrize("suffix", [".pth", ".h5", ".onnx", ".keras", ".npz"])
def test_a_file_of_no_known_format_is_refused(suffix: str, tmp_path: Path, conversions: list[str]) -> None:
    (tmp_path / f"net{suffix}").write_bytes(b"nonsense" * 100)
    offer(tmp_path / "hub", tmp_path / f"net{suffix}")
    with pytest.raises(FileFormatError, match=rf"{NAME}: net\{suffix}: "):
        zoo.create(NAME)


def test_a_conversion_that_does_not_fit_on_the_disk_is_explained_and_leaves_nothing(
    tmp_path: Path, conversions: list[str]
) -> None:
    save_state(tmp_path / "net.pth")
    offer(tmp_path / "hub", tmp_path / "net.pth")
    zoo.fetch(NAME)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match="cannot be written: File too large") as caught:
            zoo.create(NAME)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "bytes" in caught.value.hint
    assert not [*(cache.root() / "converted").iterdir()]


def test_a_conversion_that_takes_too_long_is_stopped_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_state(tmp_path / "net.pth")
    offer(tmp_path / "hub", tmp_path / "net.pth")
    monkeypatch.setattr(converted, "TIMEOUT", 0.05)
    with pytest.raises(WeightsError, match=r"conversion of net\.pth took more than 0\.05 s and was stopped") as caught:
        zoo.create(NAME)
    assert "zoo convert " in caught.value.hint


@pytest.mark.slow
def test_a_plugin_that_only_this_process_knows_is_named(tmp_path: Path) -> None:
    mine = zoo.Plugin("mine", api=1, models=(zoo.Model("my_net", build=f"{__name__}:build"),))
    torch.save({"1.weight": torch.ones(1000, 12), "1.bias": torch.zeros(1000)}, tmp_path / "net.pth")
    with zoo.register(mine):
        offer(tmp_path / "hub", tmp_path / "net.pth", "my_net.x")
        with pytest.raises(WeightsError, match=r"my_net\.x: its file is converted in a process of its own") as caught:
            zoo.create("my_net.x")
    assert "install it as a distribution" in caught.value.hint


def build(*, num_classes: int, in_chans: int) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4 * in_chans, num_classes))

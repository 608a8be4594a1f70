"""torch's checkpoints as people write them, and as an attacker would."""

import argparse
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from support import distributions
from torch import Tensor, nn

import zoo
from zoo.errors import FileFormatError, UnknownNameError
from zoo_convert import convert, formats


class Other(nn.Module):
    """A network that no allow-list knows."""


@pytest.fixture
def state() -> dict[str, Tensor]:
    return {"fc.weight": torch.ones(2, 3), "fc.bias": torch.zeros(2)}


def saved(content: object, file: Path) -> Path:
    torch.save(content, file)
    return file


def averaged(module: nn.Module) -> dict[str, Any]:
    return torch.optim.swa_utils.AveragedModel(module).state_dict()


@pytest.mark.parametrize(
    "wrapper", ["state_dict", "model_state_dict", "model", "net", "state_dict_ema", "model_ema", "ema", "module"]
)
def test_a_state_under_any_usual_name_is_found(wrapper: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    file = saved({"epoch": 3, "optimizer": {"lr": 0.1, "state": {}}, wrapper: state}, tmp_path / "a.pth")
    assert formats.read(file).tensors.keys() == state.keys()


def test_wrappers_lie_within_wrappers(state: dict[str, Tensor], tmp_path: Path) -> None:
    file = saved({"model": {"state_dict": state}}, tmp_path / "a.pth")
    assert formats.read(file).tensors.keys() == state.keys()


def test_averaged_weights_go_before_the_last_ones_and_the_others_can_be_named(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    """As timm does, which scores its averaged weights."""
    other = {key: tensor + 5 for key, tensor in state.items()}
    file = saved({"state_dict": state, "state_dict_ema": other}, tmp_path / "a.pth")
    content = formats.read(file)
    assert torch.equal(content.tensors["fc.bias"], other["fc.bias"])
    assert "state_dict_ema" in " ".join(content.unwrapped)
    assert "also found: state_dict" in " ".join(content.unwrapped)
    assert torch.equal(formats.read(file, state="state_dict").tensors["fc.bias"], state["fc.bias"])
    with pytest.raises(UnknownNameError, match="state_dict_ema"):
        formats.read(file, state="state_dict_emma")


@pytest.mark.first(1)
@pytest.mark.parametrize("prefix", ["module.", "model.", "module._orig_mod."])
def test_what_a_wrapper_puts_before_every_key_is_taken_off(prefix: str, tmp_path: Path) -> None:
    module = zoo.create("resnet20", num_classes=2)
    file = saved({f"{prefix}{key}": tensor for key, tensor in module.state_dict().items()}, tmp_path / "a.pth")
    report = convert(file, "resnet20", tmp_path / "out.safetensors", key_map="as-is")
    assert (f"{prefix}fc.bias", "fc.bias") in report.renamed
    assert torch.equal(zoo.create("resnet20", weights=report.file).fc.bias, module.fc.bias)


def test_an_averaged_model_of_torch_loads(tmp_path: Path) -> None:
    module = zoo.create("resnet20", num_classes=2)
    file = saved(averaged(module), tmp_path / "a.pth")
    report = convert(file, "resnet20", tmp_path / "out.safetensors", key_map="as-is")
    assert report.dropped == ["n_averaged"]
    assert torch.equal(zoo.create("resnet20", weights=report.file).fc.bias, module.fc.bias)


LINEAR = """
from torch import nn

class Net(nn.Module):
    def __init__(self, chans, classes):
        super().__init__()
        self.model = nn.Linear(chans, classes)

    def forward(self, x):
        return self.model(x.mean((2, 3)))

def build(*, num_classes, in_chans):
    return Net(in_chans, num_classes)
"""


def test_a_prefix_that_is_the_networks_own_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = distributions.plugin("own", "own_net").replace(':build"', ':build", head=("model",)')
    files = {"own.py": text, "own_model.py": LINEAR}
    distributions.bring(monkeypatch, tmp_path / "site", "zoo-own", {"own": "own:plugin"}, files)
    state = zoo.create("own_net", num_classes=4).state_dict()
    assert [*state] == ["model.weight", "model.bias"]
    report = convert(saved(state, tmp_path / "a.pth"), "own_net", tmp_path / "out.safetensors")
    assert (report.renamed, report.key_map) == ([], "as-is")


def test_the_arguments_that_timm_saves_beside_weights_are_no_obstacle(state: dict[str, Tensor], tmp_path: Path) -> None:
    file = saved({"state_dict": state, "args": argparse.Namespace(lr=0.1)}, tmp_path / "a.pth")
    assert formats.read(file).tensors.keys() == state.keys()


def test_the_error_names_the_type_that_would_need_code_and_a_way_and_not_torchs_advice(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError) as caught:
        formats.read(saved(Other(), tmp_path / "whole.pth"))
    assert f"{__name__}.Other" in str(caught.value)
    assert "state_dict()" in caught.value.hint
    assert "weights_only" not in str(caught.value)


def test_torchscript_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/constants.pkl", b"")
        archive.writestr("a/data.pkl", b"")
        archive.writestr("a/version", b"3\n")
    with pytest.raises(FileFormatError, match="TorchScript") as caught:
        formats.read(tmp_path / "a.pt")
    assert "torch.jit.load" in caught.value.hint
    assert "weights_only" not in str(caught.value)


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    """1 kB of file that would be 4 TB once it is made contiguous."""
    file = saved({"a": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "wide.pth")
    with pytest.raises(FileFormatError, match=r"4,000,000,000,000 bytes") as caught:
        formats.read(file)
    assert "ZOO_MAX_CHECKPOINT_BYTES" in caught.value.hint


def test_many_views_of_one_storage_are_refused(tmp_path: Path) -> None:
    row = torch.zeros(1_000_000)
    file = saved({f"a{i}": row.view(1000, 1000) for i in range(200)}, tmp_path / "views.pth")
    with pytest.raises(FileFormatError, match=r"bytes of tensors"):
        formats.read(file)


def test_an_archive_that_expands_is_refused_before_it_does(tmp_path: Path) -> None:
    plain = saved({"a": torch.zeros(20_000_000)}, tmp_path / "plain.pth")
    packed = tmp_path / "packed.pth"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert packed.stat().st_size < 1_000_000
    with pytest.raises(FileFormatError, match=r"states 80,\d{3},\d{3} bytes") as caught:
        formats.read(packed)
    assert "ZOO_MAX_CHECKPOINT_BYTES" in caught.value.hint


def test_the_bound_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = saved({"a": torch.zeros(1).expand(5000, 5000)}, tmp_path / "wide.pth")
    with pytest.raises(FileFormatError, match="100,000,000 bytes"):
        formats.read(file)
    monkeypatch.setenv("ZOO_MAX_CHECKPOINT_BYTES", "200000000")
    assert formats.read(file).tensors["a"].shape == (5000, 5000)


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")  # newer versions of torch say so
@pytest.mark.parametrize("kind", ["sparse", "meta"])
def test_a_tensor_without_ordinary_numbers_is_refused(kind: str, tmp_path: Path) -> None:
    tensor = {"sparse": lambda: torch.eye(3).to_sparse(), "meta": lambda: torch.empty(10**6, 10**6, device="meta")}[
        kind
    ]()
    with pytest.raises(FileFormatError, match=r"a is"):
        formats.read(saved({"a": tensor}, tmp_path / "a.pth"))

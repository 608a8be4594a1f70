"""Formats of files that plugins bring: weights that they convert, and files that they open as networks."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support import distributions
from support.foreign import offer, save_state

import zoo
from zoo import registry
from zoo.errors import AmbiguousNameError, FileFormatError, SpecError
from zoo.registry import extensions
from zoo.spec import Plugin

READS = """
from pathlib import Path

def read(file, found):
    import numpy, torch
    from msgspec.structs import replace
    if found.model.name != "resnet20":
        raise ValueError(found.model.name)
    with numpy.load(file) as arrays:
        tensors = {name: torch.from_numpy(arrays[name]) for name in arrays}
    return tensors, replace(found.weights, classes="cifar10", num_classes=10)

def open_file(file):
    import zoo
    return zoo.create(file.read_text())
"""
SHEET = {"converters": '{".npz": "sheet_formats:read"}', "openers": '{".toy": "sheet_formats:open_file"}'}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with a distribution that reads ``.npz`` and opens ``.toy``."""
    files = {"sheet.py": distributions.plugin("sheet", **SHEET), "sheet_formats.py": READS}
    distributions.install(tmp_path / "site", "zoo-sheet", {"sheet": "sheet:plugin"}, files)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("ZOO_HUB", "")
    registry.clear()
    return tmp_path / "site"


@pytest.fixture
def sheet(site: Path, tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """Weights of ``resnet20`` in that format, and their tensors."""
    state = save_state(tmp_path / "net.pth")
    np.savez(tmp_path / "net.npz", **{name: tensor.numpy() for name, tensor in state.items()})
    return tmp_path / "net.npz", state


def has(network: torch.nn.Module, state: dict[str, torch.Tensor]) -> bool:
    got = network.state_dict()
    return got.keys() == state.keys() and all(torch.equal(got[key], state[key]) for key in state)


def test_weights_in_a_format_of_a_third_party_are_loaded_by_file_and_by_name(
    sheet: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    file, state = sheet
    assert has(zoo.create("resnet20", weights=file), state)
    offer(tmp_path / "hub", file, "resnet20.sheet")
    network = zoo.create("resnet20.sheet")
    assert has(network, state)
    assert network.zoo_info.classes == "cifar10"


def test_what_the_function_raises_names_it(sheet: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    with pytest.raises(
        zoo.PluginError, match=r"resnet8\.net: sheet_formats:read failed for net\.npz: ValueError: resnet8"
    ):
        zoo.create("resnet8", weights=sheet[0])


def test_a_file_that_a_third_party_opens_is_a_network(site: Path, inside: Path) -> None:
    Path("mine.toy").write_text("resnet20.digits")
    assert zoo.evaluate("mine.toy", "digits").correct == 360
    with pytest.raises(SpecError, match=r"mine\.toy is a network with its weights"):
        zoo.evaluate("mine.toy", "digits", weights="other.safetensors")


def test_a_format_of_nobody_is_refused_with_those_that_can_be_read(site: Path, tmp_path: Path) -> None:
    (tmp_path / "net.zip").touch()
    with pytest.raises(FileFormatError, match=r"net\.zip: no plugin converts files with this ending") as caught:
        zoo.create("resnet20", weights=tmp_path / "net.zip")
    assert {".npz", ".pth", ".h5"} <= {*caught.value.hint.rstrip(".").replace(",", "").split()}


def test_a_plugin_that_is_disabled_reads_nothing(
    sheet: tuple[Path, dict[str, torch.Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_DISABLE_PLUGINS", "sheet,convert")
    registry.clear()
    with pytest.raises(FileFormatError, match="no plugin converts") as caught:
        zoo.create("resnet20", weights=sheet[0])
    assert "zoo plugins says which are disabled" in caught.value.hint


def test_a_format_that_third_parties_contest_is_refused(site: Path, tmp_path: Path) -> None:
    files = {"rival.py": distributions.plugin("rival", **SHEET)}
    distributions.install(site, "zoo-rival", {"rival": "rival:plugin"}, files)
    distributions.forget(site)
    with pytest.raises(AmbiguousNameError, match=r"files that end in \.npz: (sheet, rival|rival, sheet)"):
        extensions.converter_of("net.npz")


def test_formats_of_zoo_stay_its_own_and_the_longest_ending_counts(site: Path) -> None:
    text = distributions.plugin("rival", converters='{".pth": "absent:read", ".ema.pth": "absent:read"}')
    distributions.install(site, "zoo-rival", {"rival": "rival:plugin"}, {"rival.py": text})
    distributions.forget(site)
    assert extensions.converter_of("net.PTH").is_builtin
    assert extensions.converter_of("net.ema.pth").plugin == "rival"


def test_asking_for_a_format_imports_no_plugin(site: Path) -> None:
    assert extensions.opener_of("./mine.toy")
    assert "sheet_formats" not in sys.modules


@pytest.mark.parametrize("field", ["converters", "openers"])
def test_an_ending_begins_with_a_dot_and_names_a_function(field: str) -> None:
    with pytest.raises(SpecError, match=r"'npz' must end a file's name"):
        Plugin("mine", api=1, **{field: {"npz": "package:read"}})
    with pytest.raises(SpecError, match="'read' must have the form"):
        Plugin("mine", api=1, **{field: {".npz": "read"}})

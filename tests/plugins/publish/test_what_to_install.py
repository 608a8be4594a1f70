"""Whoever finds weights can read what to install for their model: in headers, records, entries, cards and exports."""

import json
from pathlib import Path

import pytest
from support import distributions
from support.command import printed

import zoo
from zoo import manifest
from zoo.loading import safetensors_file

MODEL = """
from torch import nn
from zoo.modules import PooledClassifier

class Net(PooledClassifier):
    def __init__(self, *, num_classes, in_chans):
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 4, 3, padding=1)
        self.num_features = 4
        self.reset_classifier(num_classes)

    def forward_features(self, x):
        return self.conv(x)

build = Net
"""


@pytest.fixture
def pet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    text = distributions.plugin("pet", "pet_net").replace(
        "build=",
        "preprocess=Preprocess(input_size=(1, 8, 8), crop_pct=1.0, mean=(0.0,), std=(1.0,)), num_classes=10, "
        'head=("fc",), stem=("conv",), build=',
    )
    files = {"pet.py": text.replace("import Model", "import Preprocess, Model"), "pet_model.py": MODEL}
    distributions.bring(monkeypatch, tmp_path / "site", "zoo-pet", {"pet": "pet:plugin"}, files)
    return "pet_net"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "distribution", "version"), [("pet_net", "zoo-pet", "1.0"), ("resnet8", "zoo-vision", zoo.__version__)]
)
def test_all_that_is_written_names_distribution_and_version(
    pet: str, tmp_path: Path, model: str, distribution: str, version: str
) -> None:
    digits = zoo.data.load("digits").subset(range(128), "train")
    expected = {"distribution": distribution, "distribution_version": version}
    zoo.train(model, digits, recipe="default", settings={"epochs": 1}, output=tmp_path / "run", device="cpu")
    header = safetensors_file.metadata(tmp_path / "run" / "model.safetensors")
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    words = ("--as", f"{model}.mine", "--to", tmp_path / "hub", "--license", "weights=MIT", "--allow-uncommitted")
    printed("publish", tmp_path / "run", *words)
    [file] = (tmp_path / "hub").rglob("weights.toml")
    [entry] = manifest.read(file)
    for written in (header, record, {key: getattr(entry, key) for key in expected}):
        assert {key: written[key] for key in expected} == expected
    assert (record["versions"].get("zoo-pet") == "1.0") is (model == pet)
    card = file.with_name("README.md").read_text()
    assert f"part of the distribution `{distribution}` {version}: `pip install '{distribution}>={version}'`" in card
    made = zoo.export(zoo.create(model, weights=tmp_path / "run" / "model.safetensors"), tmp_path / "net.pt2")
    assert (made.about.distribution, made.about.distribution_version) == (distribution, version)


def test_a_converted_file_names_a_third_partys_distribution(pet: str, tmp_path: Path) -> None:
    """Those of built-in models name it in their entry alone: their bytes are the same with every version of Zoo."""
    for model, has_header in ((pet, True), ("resnet8", False)):
        source = tmp_path / f"{model}.safetensors"
        safetensors_file.write(zoo.create(model).state_dict(), source, {})
        out = tmp_path / model / "out.safetensors"
        out.parent.mkdir()
        printed("convert", source, model, "-o", out)
        assert ("distribution_version" in safetensors_file.metadata(out)) is has_header
        [entry] = manifest.read(out.parent / "manifest.toml")
        assert entry.distribution == ("zoo-pet" if model == pet else "zoo-vision")
        assert entry.distribution_version

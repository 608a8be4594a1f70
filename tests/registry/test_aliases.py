"""Former names of models: found everywhere, listed nowhere twice, and never at the cost of another's name."""

import hashlib
import json
import logging
from pathlib import Path

import pytest
import torch
from support import distributions
from support.command import ask_warm as ask

import zoo
from zoo import registry
from zoo.errors import AmbiguousNameError, SpecError
from zoo.loading import safetensors_file
from zoo.spec import Model, Plugin
from zoo.trust import lock

CODE = """
from torch import nn

def build(*, num_classes, in_chans):
    return nn.Sequential(nn.Flatten(), nn.Linear(4 * in_chans, num_classes))
"""
MANIFEST = """
[old_pet.here]
hub = "{hub}"
file = "pet.safetensors"
sha256 = "{sha256}"
license = {{weights = "MIT", code = "MIT", data = "MIT"}}
"""


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``pet_net`` was ``old_pet``, and its manifest, a hub and a weights file still say so; returns that file."""
    file = tmp_path / "hub" / "pet.safetensors"
    file.parent.mkdir()
    tensors = {"1.weight": torch.ones(2, 12), "1.bias": torch.zeros(2)}
    safetensors_file.write(tensors, file, {"model": "old_pet", "num_classes": 2})
    text = distributions.plugin("pet", "pet_net", weights='("pet_files:manifest.toml",)').replace(
        "build=",
        'aliases=("old_pet", "resnet20"), deprecated="use other_net", num_classes=2, head=("1",), '
        "preprocess=Preprocess(input_size=(3, 2, 2), crop_pct=1.0), build=",
    )
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest = MANIFEST.format(hub=file.parent, sha256=sha256)
    files = {"pet.py": text.replace("import Model", "import Preprocess, Model"), "pet_model.py": CODE}
    files |= {"pet_files/__init__.py": "", "pet_files/manifest.toml": manifest}
    site = distributions.install(tmp_path / "site", "zoo-pet", {"pet": "pet:plugin"}, files)
    (file.parent / "manifest.toml").write_text(manifest.replace("old_pet.here", "old_pet.there"))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("ZOO_HUB", str(file.parent))
    registry.clear()
    return file


@pytest.mark.first(2)
@pytest.mark.parametrize("name", ["pet_net", "old_pet", "pet/pet_net", "pet/old_pet", "pet/resnet20"])
def test_every_name_means_the_row(pets: Path, name: str) -> None:
    assert zoo.create(name).zoo_info.model.name == "pet_net"
    assert zoo.info(name)["name"] == "pet_net"
    assert zoo.create(name, weights=pets)[1].weight.eq(1).all()


@pytest.mark.parametrize("tag", ["here", "there"])
def test_a_manifest_may_use_an_alias(pets: Path, tag: str) -> None:
    for arch in ("pet_net", "old_pet"):
        found = registry.current().find(f"{arch}.{tag}").weights
        assert found is not None
        assert found.name == f"pet_net.{tag}"
    assert registry.current().folder_of(found) == (str(pets.parent) if tag == "there" else "")


def test_a_model_is_listed_once_under_its_name(pets: Path) -> None:
    assert [name for name in zoo.list_models() if name.endswith(("pet", "pet_net"))] == ["pet_net"]
    assert zoo.list_models("*pet*", pretrained=True) == ["pet_net.here", "pet_net.there"]
    assert zoo.list_models("old_pet") == ["pet_net"]
    assert zoo.list_models("old_pet.*") == ["pet_net.here", "pet_net.there"]


def test_a_built_in_name_is_no_third_partys_alias(pets: Path) -> None:
    assert zoo.info("resnet20")["family"] == "resnet"
    assert "resnet20" in zoo.list_models()
    assert zoo.list_models("resnet20") == ["resnet20"]


def test_names_and_aliases_of_third_parties_are_contested_alike() -> None:
    def own(plugin: str, model: str, *aliases: str) -> Plugin:
        return Plugin(plugin, api=1, models=(Model(model, build="zoo:create", aliases=aliases),))

    with zoo.register(own("a", "one")), zoo.register(own("b", "two", "one")):
        with pytest.raises(AmbiguousNameError, match="Several plugins have a model 'one'") as raised:
            zoo.info("one")
        assert raised.value.hint == "Use a/one or b/one."
        assert zoo.info("b/one")["name"] == "two"
        assert {"a/one", "two"} <= set(zoo.list_models())


def test_within_a_plugin_a_name_has_one_meaning() -> None:
    first = Model("one", build="a:b", aliases=("two",))
    with pytest.raises(SpecError, match="duplicate models: two"):
        Plugin("p", api=1, models=(first, Model("two", build="a:b")))
    with pytest.raises(SpecError, match="alias 'Two'"):
        Model("one", build="a:b", aliases=("Two",))


def test_built_in_models_share_no_name() -> None:
    rows = [row for row in registry.current().plugins if row.is_builtin and row.plugin is not None]
    names = [name for row in rows for model in row.plugin.models for name in (model.name, *model.aliases)]
    assert len(names) == len(set(names))


def test_a_deprecated_model_says_what_to_use_instead_once(pets: Path, caplog: pytest.LogCaptureFixture) -> None:
    from zoo.loading import network

    network._warn_of_deprecation.cache_clear()  # another test may have been warned
    with caplog.at_level(logging.WARNING, logger="zoo"):
        for name in ("old_pet", "pet_net"):
            zoo.create(name)
    assert [record.getMessage() for record in caplog.records] == ["pet_net is deprecated: use other_net"]
    assert "pet_net  pet (from zoo-pet)  deprecated" in ask("list", "pet_net").stdout
    assert "pet_net is deprecated: use other_net." in ask("list", "old_pet.*").stderr
    [listed] = json.loads(ask("list", "pet_net", "--json").stdout)
    assert (listed["deprecated"], listed["aliases"]) == ("use other_net", ["old_pet", "resnet20"])
    about = ask("info", "old_pet").stdout
    assert "deprecated" in about
    assert "use other_net" in about
    assert "old_pet, resnet20" in about


def test_a_lock_holds_weights_that_it_knows_by_an_alias(pets: Path) -> None:
    found = registry.current().find("pet_net.here")
    assert found.weights is not None
    made = lock.make([(found, found.weights)])
    [held] = made.weights.values()
    locked = lock.Lock(version=1, weights={"pet/old_pet.here": held}, defaults={"pet/old_pet": "here"})
    assert lock.follow(locked, found, found.weights) == found.weights
    assert lock.default_of(locked, found) == found.weights

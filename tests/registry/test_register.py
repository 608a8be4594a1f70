"""Plugins that a notebook or a test adds to its own process."""

import sys
from pathlib import Path

import pytest
from support import specimen
from support.distributions import install
from support.distributions import plugin as text_of

import zoo
from zoo import registry
from zoo.errors import PluginError, UnknownNameError
from zoo.spec import API

NETWORK: dict[str, object] = {}
exec(specimen.MODEL, NETWORK)

MINE = zoo.Plugin(
    "mine", api=1, models=(zoo.Model("my_net", build="__main__:build", num_classes=5, head=("fc",), stem=("conv",)),)
)


def plugin_of(name: str, model: str, api: int = 1) -> zoo.Plugin:
    return zoo.Plugin(name, api=api, models=(zoo.Model(model, build="__main__:build"),))


def test_a_registered_plugins_models_are_listed_and_built_from_functions_of_main(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "build", NETWORK["build"], raising=False)
    with zoo.register(MINE):
        assert zoo.list_models("my_*") == zoo.list_models("*", family="mine") == ["my_net"]
        assert zoo.info("mine/my_net")["distribution"] == ""
        model = zoo.create("my_net", num_classes=3)
        assert (type(model).__name__, model.num_classes, model.zoo_info.name) == ("Net", 3, "my_net")
    assert zoo.list_models("my_*") == []
    with pytest.raises(UnknownNameError, match="my_net"):
        zoo.create("my_net")


def test_a_hook_that_main_does_not_define_is_an_error_that_names_it() -> None:
    with zoo.register(plugin_of("mine", "my_net")), pytest.raises(PluginError, match="'__main__:build'"):
        zoo.create("my_net")


def test_a_plugin_is_forgotten_when_the_block_fails() -> None:
    with pytest.raises(ZeroDivisionError), zoo.register(MINE):
        _ = 1 / 0
    assert zoo.list_models("my_*") == []


def test_without_a_block_a_plugin_stays_until_it_is_unregistered() -> None:
    zoo.register(MINE)
    try:
        registry.clear()
        assert zoo.list_models("my_*") == ["my_net"], "clear looks again at what is installed"
    finally:
        registry.unregister("mine")
    assert zoo.list_models("my_*") == []
    with pytest.raises(UnknownNameError, match="Unknown registered plugin 'mine'"):
        registry.unregister("mine")


def test_a_name_that_is_taken_is_refused(site: Path) -> None:
    with pytest.raises(PluginError, match=r"already a plugin 'resnet', from zoo-vision\.\nChoose another name"):
        zoo.register(plugin_of("resnet", "my_net"))
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": text_of("pet", "pet_net")})
    registry.clear()
    with pytest.raises(PluginError, match="already a plugin 'pet', from zoo-pet"):
        zoo.register(plugin_of("pet", "my_net"))
    with (
        zoo.register(MINE),
        pytest.raises(PluginError, match=r"from this process\.\nzoo\.registry\.unregister\('mine'\) removes it"),
    ):
        zoo.register(MINE)


def test_only_a_plugin_of_a_known_contract_is_registered() -> None:
    with pytest.raises(PluginError, match=r"Got a dict, expected a zoo\.Plugin"):
        zoo.register({"name": "mine"})  # type: ignore[arg-type]
    with pytest.raises(PluginError, match=f"plugin contract {API + 1}, this Zoo has {API}"):
        zoo.register(plugin_of("mine", "my_net", api=API + 1))


def test_embedded_weights_of_a_registered_plugin_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = specimen.install(tmp_path, monkeypatch)
    monkeypatch.setenv("ZOO_DISABLE_PLUGINS", "specimen")
    registry.clear()
    model = zoo.Model("net", build=f"{package}.model:build", num_classes=5, head=("fc",), stem=("conv",))
    with zoo.register(zoo.Plugin("mine", api=1, models=(model,), weights=(f"{package}:manifest.toml",))):
        assert zoo.list_models("net", pretrained=True) == ["net.remote"]

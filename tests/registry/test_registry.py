"""Plugins of third parties, good and bad, in the registry's own process."""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.distributions import HEAD, forget, install, plugin

import zoo
from zoo import registry
from zoo.errors import (
    AmbiguousNameError,
    ManifestError,
    MissingExtraError,
    PluginError,
    UnknownNameError,
    WeightsError,
)
from zoo.loading import resolve, safetensors_file
from zoo.registry import PluginRow, Registry
from zoo.spec import API

MANIFEST = """\
[{arch}.{tag}]
file = "model.safetensors"
sha256 = "{sha256}"
"""


def rows() -> dict[str, PluginRow]:
    return {row.name: row for row in registry.current().plugins}


def names(found: Registry) -> list[str]:
    return [entry.name for entry in found.models()]


@pytest.mark.first(5)
@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("import no_such_module", "broken", "importing bad:plugin raised ModuleNotFoundError: No module named"),
        ("import sys; sys.exit(3)", "broken", "importing bad:plugin raised SystemExit: 3"),
        ("def f(:", "broken", "importing bad:plugin raised SyntaxError"),
        ("other = 1", "broken", "importing bad:plugin raised AttributeError"),
        ("plugin = {'name': 'bad'}", "broken", "bad:plugin is a dict, not a zoo.spec.Plugin"),
        (plugin("other", "net"), "broken", "its entry point is named 'bad', the plugin 'other'"),
        (plugin("bad", "net", api="99"), "set aside", f"needs plugin contract 99, this Zoo has {API}: pip install -U"),
        (f"{HEAD}plugin = Plugin('bad', 1, (Model('Net', build='a:b'),))", "broken", "a name has lower case letters"),
        (f"{HEAD}plugin = Plugin('bad', 1, 5)", "broken", "SpecError: Plugin 'bad': models = 5"),
        ("raise BaseException('stop')", "broken", "raised BaseException: stop"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_a_row_with_the_reason(site: Path, text: str, status: str, reason: str) -> None:
    install(site, "zoo-bad", {"bad": "bad:plugin"}, {"bad.py": text})
    row = rows()["bad"]
    assert row.status == status
    assert reason in row.reason
    assert row.plugin is None
    assert "resnet20" in names(registry.current())
    with pytest.raises((PluginError, UnknownNameError)):
        registry.current().find("bad/net")


@pytest.mark.parametrize("name", ["9" * 5000, "²", "a b", "Bad", "resnet/x"])
def test_a_hostile_entry_point_name_harms_nothing(site: Path, name: str) -> None:
    install(site, "zoo-bad", {name: "bad:plugin"}, {"bad.py": plugin("bad", "net")})
    assert rows()[name].status == "broken"
    assert "resnet20" in names(registry.current())


def test_two_distributions_with_one_plugin_are_both_set_aside(site: Path) -> None:
    install(site, "zoo-one", {"twin": "twin_one:plugin"}, {"twin_one.py": plugin("twin", "one")})
    install(site, "zoo-two", {"twin": "twin_two:plugin"}, {"twin_two.py": plugin("twin", "two")})
    reasons = {row.distribution: (row.status, row.reason) for row in registry.current().plugins if row.name == "twin"}
    assert reasons == {
        "zoo-one": ("set aside", "zoo-two also has a plugin 'twin': uninstall one of them"),
        "zoo-two": ("set aside", "zoo-one also has a plugin 'twin': uninstall one of them"),
    }
    assert not {"one", "two"} & set(names(registry.current()))
    assert "twin_one" not in sys.modules


def test_no_third_party_takes_a_built_in_plugins_name(site: Path) -> None:
    install(site, "zoo-rival", {"resnet": "rival:plugin"}, {"rival.py": plugin("resnet", "resnet20")})
    found = {row.distribution: row.status for row in registry.current().plugins if row.name == "resnet"}
    assert found == {"zoo-vision": "ok", "zoo-rival": "set aside"}
    assert registry.current().find("resnet20").row.is_builtin


def test_a_built_in_models_short_name_stays_its_own(site: Path) -> None:
    install(site, "zoo-rival", {"rival": "rival:plugin"}, {"rival.py": plugin("rival", "resnet20")})
    found = registry.current()
    assert found.find("resnet20").row.name == "resnet"
    assert found.find("resnet/resnet20").row.name == "resnet"
    assert found.find("rival/resnet20").row.name == "rival"
    assert {"resnet20", "rival/resnet20"} <= set(names(found))


def test_third_parties_with_one_model_have_to_be_told_apart(site: Path) -> None:
    for name in ("beta", "alpha"):
        install(site, f"zoo-{name}", {name: f"{name}:plugin"}, {f"{name}.py": plugin(name, "shared", f"{name}_net")})
    found = registry.current()
    with pytest.raises(AmbiguousNameError, match="Use alpha/shared or beta/shared"):
        found.find("shared")
    assert found.find("beta/shared").row.name == "beta"
    listed = [name for name in names(found) if "shared" in name]
    assert listed == ["alpha/shared", "beta/shared"]


def test_the_order_of_installation_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [
        install(tmp_path / name, f"zoo-{name}", {name: f"order_{name}:plugin"}, {f"order_{name}.py": text})
        for name, text in {
            "aa": plugin("aa", "shared", "resnet20"),
            "bb": plugin("bb", "shared"),
            "cc": plugin("cc", "resnet20", "cc_net"),
        }.items()
    ]
    seen = set()
    for order in itertools.permutations(map(str, folders)):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "path", [*order, *sys.path])
            registry.clear()
            found = registry.current()
            seen.add((tuple(row.name for row in found.plugins), tuple(names(found)), found.find("resnet20").row.name))
    assert len(seen) == 1


@pytest.mark.first(7)
@pytest.mark.parametrize(
    ("ask", "hint"),
    [
        ("resnet21", "resnet2"),
        ("resnet/resnt20", "resnet/resnet20"),
        ("resnt/resnet20", "Did you mean resnet"),
        ("resnet18.tv_in1", "resnet18.tv_in1k"),
        ("zzzzz", "zoo list"),
        ("resnet18.zzzzz", "resnet18."),
        ("ResNet20", "Did you mean resnet20?"),
        ("resnet-20", "Did you mean resnet20?"),
        ("ResNet-18.TV_in1k", "Did you mean resnet18.tv_in1k?"),
        ("timm/ResNet-50", "Did you mean timm/resnet50?"),
        ("Resnet/ResNet20", "Did you mean resnet/resnet20?"),
        ("No Model", "lower case"),
    ],
)
def test_an_unknown_name_is_answered_with_what_there_is(ask: str, hint: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        registry.current().find(ask)
    assert hint in caught.value.hint
    assert ask.rpartition("/")[2] in caught.value.message or ask.partition("/")[0] in caught.value.message


@pytest.mark.parametrize(("text", "status"), [("raise RuntimeError('spoilt')", "broken"), ("", "disabled")])
def test_an_unknown_name_may_be_that_of_a_plugin_that_cannot_be_used(
    site: Path, monkeypatch: pytest.MonkeyPatch, text: str, status: str
) -> None:
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": text or plugin("pet", "pet_net")})
    if not text:
        monkeypatch.setenv("ZOO_DISABLE_PLUGINS", "pet")
    registry.clear()
    with pytest.raises(UnknownNameError) as caught:
        registry.current().find("pet_net")
    assert f"It may be part of a plugin that cannot be used: pet ({status}); zoo plugins says why." in caught.value.hint


def test_a_file_and_an_entry_say_which_distribution_has_their_model(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "net.safetensors"
    about = {"model": "pet_net", "distribution": "zoo-pet", "distribution_version": "1.2", "run": {}}
    safetensors_file.write({}, file, about)
    entry = MANIFEST.format(arch="pet_net", tag="c10", sha256="0" * 64)
    entry += 'distribution = "zoo-pet"\ndistribution_version = "1.2"\n'
    found = with_hub(tmp_path / "hub", entry, monkeypatch)
    for ask in (
        lambda: zoo.create("pet_net", weights=file),
        lambda: zoo.evaluate("pet_net", "digits", weights=file),
        lambda: zoo.reproduce(file, output=tmp_path / "again"),
        lambda: found.find("pet_net.c10"),
    ):
        with pytest.raises(UnknownNameError) as caught:
            ask()
        assert caught.value.hint == (
            "It is in the distribution zoo-pet, which is not installed. If you trust it: pip install 'zoo-pet>=1.2'"
        )


@pytest.mark.parametrize(
    ("about", "hint"),
    [
        ({"distribution": "zoo-pet", "distribution_version": "1.2+local"}, "pip install 'zoo-pet>=1.2'"),
        ({"distribution": "zoo-pet"}, "pip install 'zoo-pet'"),
        ({"distribution": "zoo-pet", "distribution_version": "1' && rm -rf ~"}, "pip install 'zoo-pet'"),
        ({"distribution": "zoo-pet; rm -rf ~"}, ""),
        ({"distribution": ["zoo-pet"]}, ""),
    ],
)
def test_what_a_file_says_to_install_is_a_name_and_a_version_or_nothing(
    site: Path, tmp_path: Path, about: dict[str, object], hint: str
) -> None:
    file = tmp_path / "net.safetensors"
    safetensors_file.write({}, file, {"model": "pet_net", **about})
    with pytest.raises(UnknownNameError) as caught:
        zoo.create("pet_net", weights=file)
    assert caught.value.hint.endswith(hint)
    assert ("pip install" in caught.value.hint) == bool(hint)


def test_a_distribution_that_is_installed_is_not_to_be_installed_again(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "net.safetensors"
    safetensors_file.write({}, file, {"model": "cat_net", "distribution": "zoo-pet", "distribution_version": "1.2"})
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": plugin("pet", "pet_net")})
    with pytest.raises(UnknownNameError) as caught:
        zoo.create("cat_net", weights=file)
    assert "It is in zoo-pet>=1.2, but not in the installed zoo-pet 1.0: pip install -U" in caught.value.hint
    monkeypatch.setenv("ZOO_DISABLE_PLUGINS", "pet")
    registry.clear()
    with pytest.raises(UnknownNameError) as caught:
        zoo.create("cat_net", weights=file)
    assert "It is in zoo-pet. Plugin 'pet' is disabled: listed in ZOO_DISABLE_PLUGINS" in caught.value.hint


def test_a_lock_knows_which_distribution_had_a_model(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = {"distribution": "zoo-pet", "version": "1.2", "sha256": "0" * 64, "size": 1}
    lines = [f"{key} = {value!r}".replace("'", '"') for key, value in locked.items()]
    (tmp_path / "zoo.lock").write_text("\n".join(["version = 1", '[weights."pet/tabby.c10"]', *lines, ""]))
    monkeypatch.setenv("ZOO_LOCK", str(tmp_path / "zoo.lock"))
    for name in ("tabby", "tabby.c10", "pet/tabby.c10"):
        with pytest.raises(UnknownNameError) as caught:
            zoo.create(name)
        assert caught.value.hint.endswith("If you trust it: pip install 'zoo-pet>=1.2'")
    (tmp_path / "zoo.lock").write_text("not a lock")
    with pytest.raises(UnknownNameError, match="Unknown model 'tabby'"):
        zoo.create("tabby")


def test_a_corrupt_manifest_breaks_its_plugin_alone_and_names_the_line(site: Path) -> None:
    install(
        site,
        "zoo-pet",
        {"pet": "pet:plugin"},
        {
            "pet/__init__.py": plugin("pet", "pet_net", weights='("pet:weights.toml",)'),
            "pet/weights.toml": '[pet_net.c10]\nfile = "model.safetensors"\nsha256 = "12"\n',
        },
    )
    found = registry.current()
    assert "resnet20" in names(found)
    row = rows()["pet"]
    assert row.status == "broken"
    assert "weights.toml:3: [pet_net.c10] sha256" in row.reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("['pet/other_net'.c10]\nfile = 'a'\npinned = false\n", "plugin 'pet' has no model 'other_net'"),
        ("[pet_net\n", "not TOML"),
        ("pet_net = 5\n", "expected a table"),
    ],
)
def test_a_manifest_that_does_not_fit_its_plugin_is_refused(site: Path, text: str, message: str) -> None:
    install(
        site,
        "zoo-pet",
        {"pet": "pet:plugin"},
        {"pet/__init__.py": plugin("pet", "pet_net", weights='("pet:weights.toml",)'), "pet/weights.toml": text},
    )
    with pytest.raises(ManifestError, match=message):
        registry.current().find("pet_net.c10")


def test_a_manifest_that_is_not_there_is_a_reason_too(site: Path) -> None:
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": plugin("pet", "net", weights='("hallo:w.toml",)')})
    registry.current().models()
    assert rows()["pet"].reason == "hallo:w.toml: there is no package 'hallo'"


@pytest.mark.parametrize(("value", "usable"), [("resnet, pet ", {"vgg"}), ("", {"resnet", "vgg", "pet"})])
def test_the_environment_chooses_among_plugins(
    site: Path, monkeypatch: pytest.MonkeyPatch, value: str, usable: set[str]
) -> None:
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": plugin("pet", "pet_net")})
    monkeypatch.setenv("ZOO_DISABLE_PLUGINS", value)
    registry.clear()
    found = {row.name: row for row in registry.current().plugins}
    mine = {"resnet", "vgg", "pet"}
    assert {name for name in mine if found[name].status == "ok"} == usable
    assert all("ZOO_DISABLE_PLUGINS" in found[name].reason for name in mine - usable)
    assert ("pet_net" in zoo.list_models("pet*")) == ("pet" in usable) == ("pet" in sys.modules)


@pytest.mark.parametrize("of", ["build=", "api="], ids=["the model's", "the plugin's"])
def test_a_model_whose_extra_is_missing_says_which_to_install(site: Path, of: str) -> None:
    text = plugin("pet", "pet_net").replace(of, f'requires=(Requirement("no_such_lib", "zoo-pet[all]"),), {of}')
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": text})
    with pytest.raises(MissingExtraError, match="needs no_such_lib, which is not installed") as caught:
        zoo.create("pet_net")
    assert caught.value.hint == "pip install 'zoo-pet[all]'"


def test_a_hook_that_cannot_be_imported_is_the_plugins_error(site: Path) -> None:
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": plugin("pet", "pet_net")})
    with pytest.raises(PluginError, match="Hook 'pet_model:build' cannot be imported"):
        zoo.create("pet_net")


def test_listing_imports_no_hook(site: Path) -> None:
    install(
        site,
        "zoo-pet",
        {"pet": "pet:plugin"},
        {"pet.py": plugin("pet", "pet_net"), "pet_model.py": "raise RuntimeError('imported')"},
    )
    assert "pet_net" in names(registry.current())
    assert zoo.info("pet_net")["family"] == "pet"


def with_hub(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Registry:
    folder.mkdir()
    (folder / "manifest.toml").write_text(text)
    monkeypatch.setenv("ZOO_HUB", str(folder))
    registry.clear()
    return registry.current()


def test_a_hubs_own_manifest_adds_names_and_changes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = registry.current().find("resnet18.tv_in1k").weights
    text = MANIFEST.format(arch="resnet18", tag="tv_in1k", sha256="0" * 64)
    text += MANIFEST.format(arch="resnet18", tag="mine", sha256="1" * 64)
    found = with_hub(tmp_path / "hub", text, monkeypatch)
    assert found.find("resnet18.tv_in1k").weights == known
    mine = found.find("resnet18.mine").weights
    assert mine is not None
    assert mine.sha256 == "1" * 64


def test_of_two_directory_hubs_the_first_says_what_a_tag_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, digit in (("trusted", "1"), ("other", "2"), ("copy", "1")):
        (tmp_path / name).mkdir()
        text = MANIFEST.format(arch="resnet20", tag="mine", sha256=digit * 64)
        (tmp_path / name / "manifest.toml").write_text(text)
    monkeypatch.setenv("ZOO_HUB", ",".join(str(tmp_path / name) for name in ("trusted", "other", "copy")))
    registry.clear()
    found = registry.current().find("resnet20.mine").weights
    assert found is not None
    assert found.sha256 == "1" * 64
    assert registry.current().folder_of(found) == str(tmp_path / "trusted")
    (listed,) = [entry for entry in registry.current().models() if entry.name == "resnet20"]
    assert [weights.tag for weights in listed.weights].count("mine") == 1
    (warning,) = caplog.messages
    assert (
        warning == f"{tmp_path / 'other'}: resnet20.mine is ignored, {tmp_path / 'trusted'} defines other bytes first"
    )


def test_a_directory_hub_below_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "manifest.toml").write_text(MANIFEST.format(arch="resnet20", tag="mine", sha256="1" * 64))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ZOO_HUB", "~/hub")
    registry.clear()
    assert registry.current().find("resnet20.mine").weights is not None


def test_a_hubs_own_manifest_never_comes_before_the_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pinned weights are a model's default: a hub must not become it."""
    before = [weights.name for weights in registry.current().find("resnet20").row.weights["resnet20"]]
    found = with_hub(tmp_path / "hub", MANIFEST.format(arch="resnet20", tag="a_first", sha256="1" * 64), monkeypatch)
    resnet20 = found.find("resnet20")
    assert [weights.name for weights in found.weights_of(resnet20.row, resnet20.model)] == [*before, "resnet20.a_first"]
    assert zoo.create("resnet20", pretrained=True).zoo_info.name == before[0]


def test_a_hubs_weights_are_for_the_model_that_owns_the_short_name(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "zoo-rival", {"rival": "rival:plugin"}, {"rival.py": plugin("rival", "resnet20")})
    found = with_hub(tmp_path / "hub", MANIFEST.format(arch="resnet20", tag="mine", sha256="1" * 64), monkeypatch)
    assert found.find("resnet20.mine").row.name == "resnet"
    with pytest.raises(UnknownNameError, match=r"resnet20\.mine"):
        found.find("rival/resnet20.mine")


def test_pretrained_without_weights_says_what_exists(site: Path) -> None:
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": plugin("pet", "pet_net")})
    with pytest.raises(WeightsError, match="pet_net has no weights"):
        zoo.create("pet_net", pretrained=True)


@pytest.mark.slow
def test_the_default_is_stated_or_the_first_that_needs_no_conversion_pinned_or_not(site: Path) -> None:
    def entry(tag: str, file: str, known: str = "pinned = false") -> str:
        return f'[pet_net.{tag}]\nfile = "{file}"\n{known}\n'

    unpinned = entry("a", "a-01234567.pth") + entry("b", "b.safetensors") + entry("c", "c.safetensors")
    pinned = entry("d", "d.safetensors", f'sha256 = "{"d" * 64}"')
    other_format = entry("e", "e-01234567.pth") + entry("f", "f.pth", f'sha256 = "{"f" * 64}"')
    mapped = entry("g", "g.safetensors", f'sha256 = "{"1" * 64}"\nkey_map = "other"')
    stated = entry("h", "h-01234567.pth", "pinned = false\ndefault = true")
    cases = (
        (unpinned + pinned, "b"),
        (other_format + unpinned, "b"),
        (mapped + unpinned, "b"),
        (other_format, "e"),
        (entry("a", "a-01234567.pth"), "a"),
        (unpinned + pinned + stated, "h"),
    )
    for text, expected in cases:
        files = {"pet/__init__.py": plugin("pet", "pet_net", weights='("pet:weights.toml",)'), "pet/weights.toml": text}
        install(site, "zoo-pet", {"pet": "pet:plugin"}, files)
        registry.clear()
        assert resolve.default_weights(registry.current().find("pet_net")).tag == expected


@pytest.mark.parametrize(
    ("filters", "claim"),
    [
        ({"family": "vgg"}, lambda found: found["family"] == "vgg"),
        ({"max_params": 300_000}, lambda found: found["params"] <= 300_000),
        ({"dataset": "imagenet-1k"}, lambda found: found["weights"][0]["classes"] == "imagenet-1k"),
        ({"license": "apache-2.0"}, lambda found: found["weights"][0]["license"]["weights"] == "Apache-2.0"),
        ({"pretrained": True}, lambda found: len(found["weights"]) == 1),
    ],
)
def test_filters_keep_what_they_say(filters: dict[str, object], claim: Callable[[dict[str, object]], bool]) -> None:
    every = zoo.list_models(pretrained=any(key in filters for key in ("dataset", "license", "pretrained")))
    kept = zoo.list_models(**filters)  # type: ignore[arg-type]
    assert kept == [name for name in every if claim(zoo.info(name))]
    assert kept


COLLECTION = """
from zoo.manifest import Weights
from zoo.spec import Model

def read():
    print("read")
    models = [Model(f"library/{name}", build="library_model:build") for name in ("other", "net", "resnet20")]
    return models, [Weights(file="f", arch="library/net", tag=tag, pinned=False) for tag in ("small", "large")]
"""


def _collection(site: Path, text: str = COLLECTION) -> None:
    files = {
        "library/__init__.py": plugin("library", collection='"library.all:read"', weights='("library:library.toml",)'),
        "library/all.py": text,
        "library/library.toml": "",
    }
    install(site, "third", {"library": "library:plugin"}, files)


def test_a_collection_is_reached_in_full_and_claims_no_short_name(site: Path) -> None:
    _collection(site)
    found = registry.current().find("library/net.large")
    assert (found.row.name, found.model.name, found.weights and found.weights.name) == (
        "library",
        "library/net",
        "library/net.large",
    )
    assert registry.current().find("resnet20").row.name == "resnet"
    with pytest.raises(UnknownNameError, match=r"Unknown model 'other'.\nDid you mean library/other\?"):
        registry.current().find("other")
    with pytest.raises(UnknownNameError, match=r"'library/nut'.\nDid you mean library/net or"):
        registry.current().find("library/nut")
    with pytest.raises(UnknownNameError, match=r"'library/net.medium'"):
        registry.current().find("library/net.medium")


def test_a_collection_is_listed_only_where_it_is_asked_for(site: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _collection(site)
    whole = ["library/net", "library/other", "library/resnet20"]
    assert zoo.list_models("library/*") == whole
    assert zoo.list_models("lib*/*") == whole
    assert zoo.list_models(family="library") == whole
    assert capfd.readouterr().out == ""  # a chatty hook does not spoil --json
    assert zoo.list_models("n*", family="library") == ["library/net"]
    assert zoo.list_models("library/*.l*") == ["library/net.large"]
    assert not [name for pattern in ("*", "lib*", "*net*") for name in zoo.list_models(pattern) if "/" in name]


def test_a_collection_is_read_once(site: Path) -> None:
    _collection(site, f"with open({str(site / 'reads')!r}, 'a') as reads: reads.write('x')\n" + COLLECTION)
    for _ in range(2):
        forget(site)
        assert "library/net" in zoo.list_models("library/*")
    assert (site / "reads").read_text() == "x"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import absent", "No module named 'absent'"),
        (COLLECTION.replace("library/{name}", "{name}"), "'other' does not begin with library/"),
        (
            COLLECTION.replace('arch="library/net"', 'arch="library/nut"'),
            "'library/nut.small' does not begin with library/",
        ),
        ("def read(): raise ZeroDivisionError('never')", "ZeroDivisionError: never"),
        ("raise SystemExit('read')", "SystemExit: read"),
    ],
)
def test_a_collection_that_cannot_be_read_is_a_row_with_the_reason(site: Path, text: str, reason: str) -> None:
    _collection(site, text)
    assert zoo.list_models("library/*") == []
    assert rows()["library"].status == "broken"
    assert reason in rows()["library"].reason
    assert "resnet20" in zoo.list_models()
    registry.clear()
    with pytest.raises(PluginError, match="library"):
        registry.current().find("library/net")


def test_a_manifest_pins_weights_of_a_collection(site: Path) -> None:
    _collection(site)
    (site / "library" / "library.toml").write_text(MANIFEST.format(arch='"library/net"', tag="large", sha256="a" * 64))
    default, other = registry.current().find("library/net").row.weights["library/net"]
    assert (default.name, default.pinned, other.name, other.pinned) == (
        "library/net.large",
        True,
        "library/net.small",
        False,
    )


def test_a_directory_hub_adds_weights_to_a_collections_model(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _collection(site)
    (tmp_path / "manifest.toml").write_text(MANIFEST.format(arch='"library/other"', tag="own", sha256="a" * 64))
    monkeypatch.setenv("ZOO_HUB", str(tmp_path))
    found = registry.current().find("library/other.own")
    assert found.weights is not None
    assert found.weights.hub == str(tmp_path)


def test_no_model_that_has_safetensors_weights_gets_others_by_default() -> None:
    held = registry.current()
    for listed in held.models():
        if any(weights.file.endswith(".safetensors") for weights in listed.weights):
            found = held.find(listed.name)
            assert resolve.default_weights(found).file.endswith(".safetensors"), listed.name

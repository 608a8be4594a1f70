"""Distributions with weights and key maps for models of others, and no code: the entry-point group ``zoo.weights``."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support import distributions
from support.command import ask
from support.signed import write_policy
from torch import Tensor, nn

import zoo
from zoo import registry, scaffold
from zoo.errors import AmbiguousNameError, PluginError, PolicyError, UnknownNameError, WeightsError
from zoo.testing import CheckError, checks_of
from zoo.trust import signing


def state_of(seed: int, model: str = "resnet20", **args: Any) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    state: dict[str, Tensor] = zoo.create(model, **args).state_dict()
    return state


def bring(site: Path, name: str, *entries: str, seed: int = 0, more: str = "", text: str = "") -> str:
    """Installs ``zoo-NAME``, whose manifest has ``entries`` for one file beside it; returns the file's sha256."""
    from safetensors.torch import save_file

    package = site / f"zoo_{name}"
    package.mkdir()
    save_file(state_of(seed), package / "net.safetensors")
    sha256 = hashlib.sha256((package / "net.safetensors").read_bytes()).hexdigest()
    fields = f'file = "net.safetensors"\nhub = "."\nsha256 = "{sha256}"\nnum_classes = 10\n'
    tables = "\n".join(f"[{entry}]\n{fields}" for entry in entries)
    files = {f"zoo_{name}/weights.toml": text or f"{tables}\n{more}"}
    distributions.install(site, f"zoo-{name}", {name: f"zoo_{name}:weights.toml"}, files, group="zoo.weights")
    registry.clear()
    return sha256


def equals(model: nn.Module, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


# ---- names ------------------------------------------------------------------------------------------------


def test_weights_of_anothers_model_are_used_by_name_and_are_what_the_file_holds(site: Path) -> None:
    bring(site, "acme", "resnet20.mine", seed=7)
    expected = load_file(site / "zoo_acme" / "net.safetensors")
    for name in ("resnet20.mine", "acme/resnet20.mine"):
        assert equals(zoo.create(name), expected)
    assert equals(zoo.create("resnet20", pretrained="mine"), expected)
    assert "resnet20.mine" in zoo.list_models("resnet20.*")
    assert "resnet20" in zoo.list_models("resnet*")
    assert not [name for name in zoo.list_models("*") if name.startswith("acme")]


def test_no_code_of_it_runs(site: Path) -> None:
    bring(site, "acme", "resnet20.mine")
    (site / "zoo_acme" / "__init__.py").write_text("raise SystemExit('imported')")
    registry.clear()
    zoo.create("resnet20.mine")
    assert "zoo_acme" not in sys.modules


def test_they_are_never_a_default(site: Path) -> None:
    before = zoo.create("resnet20", pretrained=True).state_dict()
    bring(site, "acme", "resnet20.aaa", "resnet32.only")
    assert equals(zoo.create("resnet20", pretrained=True), before)
    registry.clear()
    stated = {"resnet110.only"}
    assert not any(name in stated for name in zoo.list_models("resnet110", pretrained=True))
    bring(site, "bee", "resnet1202.only")
    with pytest.raises(WeightsError, match="resnet1202 has no weights of its own") as caught:
        zoo.create("resnet1202", pretrained=True)
    assert "bee/resnet1202.only" in caught.value.hint


def test_the_familys_own_weights_keep_their_name(site: Path) -> None:
    own = zoo.create("resnet20.digits").state_dict()
    bring(site, "acme", "resnet20.digits", seed=3)
    assert equals(zoo.create("resnet20.digits"), own)
    assert equals(zoo.create("acme/resnet20.digits"), load_file(site / "zoo_acme" / "net.safetensors"))
    assert "acme/resnet20.digits" in zoo.list_models("*.digits")


def test_what_two_distributions_bring_is_refused_with_both_and_reached_by_each(site: Path) -> None:
    bring(site, "acme", "resnet20.mine", seed=1)
    bring(site, "bee", "resnet20.mine", seed=2)
    with pytest.raises(AmbiguousNameError, match="zoo-acme and zoo-bee") as caught:
        zoo.create("resnet20.mine")
    assert "acme/resnet20.mine or bee/resnet20.mine" in caught.value.hint
    for name in ("acme", "bee"):
        expected = load_file(site / f"zoo_{name}" / "net.safetensors")
        assert equals(zoo.create(f"{name}/resnet20.mine"), expected)
    listed = zoo.list_models("*.mine")
    assert listed == ["acme/resnet20.mine", "bee/resnet20.mine"]


def test_a_model_that_several_plugins_have_is_named_in_full(site: Path) -> None:
    for name in ("first", "second"):
        files = {f"{name}.py": distributions.plugin(name, "pet_net")}
        distributions.install(site, f"zoo-{name}", {name: f"{name}:plugin"}, files)
    bring(site, "acme", "pet_net.vague", '"first/pet_net".exact')
    with pytest.raises(UnknownNameError, match="zoo-acme brings weights of 'pet_net', which several plugins have"):
        registry.current().find("acme/pet_net.vague")
    found = registry.current().find("first/pet_net.exact")
    assert (found.row.name, found.source.name) == ("first", "acme")
    assert registry.current().find("acme/pet_net.exact").row.name == "first"


def test_a_folder_of_the_users_comes_before_what_a_distribution_brings(
    site: Path, converted_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = zoo.create("resnet20.tiny").state_dict()
    bring(site, "acme", "resnet20.tiny", seed=5)
    assert equals(zoo.create("resnet20.tiny"), before)
    assert not equals(zoo.create("acme/resnet20.tiny"), before)


def test_a_plugin_with_models_brings_weights_for_others_too(site: Path) -> None:
    entry = f'[resnet20.mine]\nfile = "m.safetensors"\nhub = "./w"\nsha256 = "{"0" * 64}"\n'
    files = {
        "pet/__init__.py": distributions.plugin("pet", "pet_net", weights='("pet:weights.toml",)'),
        "pet/weights.toml": entry + entry.replace("resnet20", "pet_net"),
    }
    distributions.install(site, "zoo-pet", {"pet": "pet:plugin"}, files)
    registry.clear()
    find = registry.current().find
    assert (find("resnet20.mine").row.name, find("resnet20.mine").source.name) == ("resnet", "pet")
    assert (find("pet_net.mine").row.name, find("pet_net.mine").bringer) == ("pet", None)
    for name in ("resnet20.mine", "pet_net.mine"):
        weights = find(name).weights
        assert weights is not None
        assert (weights.hub, weights.path) == ("embedded:pet", "w/m.safetensors")


def test_a_manifest_may_name_a_model_by_another_name_of_it(site: Path, inside: Path) -> None:
    models = '(Model("new_net", build="pet_model:build", aliases=("old_net",)),)'
    files = {"pet.py": distributions.plugin("pet").replace("models=()", f"models={models}")}
    distributions.install(site, "zoo-pet", {"pet": "pet:plugin"}, files)
    bring(site, "acme", "old_net.mine")
    for name in ("old_net.mine", "new_net.mine", "acme/old_net.mine", "acme/new_net.mine"):
        assert registry.current().find(name).model.name == "new_net"
    assert ask("lock", "new_net.mine").exit_code == 0
    assert ask("lock", "--check").exit_code == 0


# ---- what is missing or broken ----------------------------------------------------------------------------


def test_a_model_that_is_not_installed_is_said_and_hurts_nothing(site: Path) -> None:
    bring(site, "acme", "resnet20.mine", "unheard_net.mine", more='distribution = "zoo-unheard"\n')
    zoo.create("resnet20.mine")
    for name in ("unheard_net.mine", "acme/unheard_net.mine", "unheard_net"):
        with pytest.raises(UnknownNameError, match="zoo-acme brings weights of the model 'unheard_net'") as caught:
            zoo.create(name)
        assert "pip install 'zoo-unheard'" in caught.value.hint
    shown = ask("plugins", "show", "acme")
    assert (shown.exit_code, "models that cannot be found: unheard_net" in shown.stdout) == (0, True)
    assert ask("list", "resnet20.*").exit_code == 0
    [failed] = [check for check in checks_of("acme") if "manifests" in check.name]
    with pytest.raises(CheckError, match="no model 'unheard_net'"):
        failed()


BROKEN = {
    "no TOML": ("[resnet20\n", "weights.toml: not TOML"),
    "a wrong field": ('[resnet20.mine]\nfile = "a"\npinned = 3\n', "weights.toml:3: [resnet20.mine] pinned"),
    "a key map with a wrong pattern": (
        '[key_maps.theirs]\nmodels = ["resnet20"]\ndrop = ["("]\n',
        "weights.toml:1: [key_maps.theirs]: KeyMap 'theirs': '(' is not a regular expression",
    ),
    "a key map of no model": ("[key_maps.theirs]\ndrop = []\n", "[key_maps.theirs]: models is missing"),
    "a key map with a wrong field": ('[key_maps.theirs]\nmodel = "resnet20"\n', "[key_maps.theirs]: unknown model"),
    "a place outside": (
        f'[resnet20.mine]\nfile = "a"\nhub = "./../.."\nsha256 = "{"0" * 64}"\n',
        "leaves the package 'zoo_acme'",
    ),
    "two entries of one name": (
        '[resnet20.mine]\nfile = "a"\npinned = false\n["resnet/resnet20".mine]\nfile = "a"\npinned = false\n',
        "two entries have the name acme/resnet20.mine",
    ),
}


@pytest.mark.parametrize(("text", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_manifest_that_does_not_parse_is_a_row_with_the_reason(site: Path, text: str, reason: str) -> None:
    bring(site, "acme", text=text)
    [row] = [row for row in registry.current().plugins if row.name == "acme"]
    assert (row.status, reason in row.reason) == ("broken", True), row.reason
    assert ask("plugins", "show", "acme").exit_code == 1
    zoo.create("resnet20")


def test_a_manifest_that_is_not_there_is_a_reason_too(site: Path) -> None:
    distributions.install(site, "zoo-acme", {"acme": "zoo_acme"}, {"zoo_acme/other": ""}, group="zoo.weights")
    registry.clear()
    [row] = [row for row in registry.current().plugins if row.name == "acme"]
    assert "manifest.toml: cannot be read" in row.reason


# ---- commands ---------------------------------------------------------------------------------------------


def test_lists_and_facts_say_which_distribution_brings_them(site: Path) -> None:
    bring(site, "acme", "resnet20.mine")
    lines = {line.split()[0]: line for line in ask("list", "resnet20.*").stdout.splitlines() if line}
    assert "zoo-acme" in lines["resnet20.mine"]
    assert "zoo-acme" not in lines["resnet20.digits"]
    assert "mine+ (from zoo-acme)" in ask("list", "resnet20").stdout
    rows = {row["name"]: row for row in json.loads(ask("list", "resnet20.*", "--json").stdout)}
    assert rows["resnet20.mine"]["distribution"] == "zoo-acme"
    assert rows["resnet20.digits"]["distribution"] == "zoo-vision"
    assert "acme, from zoo-acme 1.0" in ask("info", "resnet20.mine").stdout
    assert [one["brought_by"] for one in zoo.info("resnet20.mine")["weights"]] == ["zoo-acme"]
    counts = {row["name"]: row for row in json.loads(ask("plugins", "--json").stdout)}
    assert (counts["acme"]["models"], counts["acme"]["weights"]) == (0, 1)


def test_they_are_fetched_verified_evaluated_and_locked_as_their_distributions(site: Path, inside: Path) -> None:
    sha256 = bring(site, "acme", "resnet20.mine")
    fetched = json.loads(ask("fetch", "resnet20.mine", "--json").stdout)
    assert hashlib.sha256(Path(fetched[0]["file"]).read_bytes()).hexdigest() == sha256
    assert ask("verify", "resnet20.mine").exit_code == 0
    report = zoo.evaluate("resnet20.mine", "digits", "test")
    assert report.n == 360
    assert ask("lock", "resnet20.mine").exit_code == 0
    lock = (inside / "zoo.lock").read_text()
    assert '[weights."acme/resnet20.mine"]' in lock
    assert 'distribution = "zoo-acme"' in lock
    assert sha256 in lock
    assert ask("lock", "--check").exit_code == 0
    zoo.create("resnet20.mine")


def test_a_lock_refuses_other_bytes_of_a_later_version(site: Path, inside: Path) -> None:
    bring(site, "acme", "resnet20.mine", seed=1)
    assert ask("lock", "resnet20.mine").exit_code == 0
    shutil.rmtree(site / "zoo_acme")
    bring(site, "acme", "resnet20.mine", seed=2)
    refused = ask("fetch", "resnet20.mine")
    assert refused.exit_code == 1
    assert "acme/resnet20.mine differs from" in refused.stderr
    assert "zoo-acme==1.0" in refused.stderr


def test_a_policy_sees_their_distribution_and_the_signature_of_its_manifest(
    site: Path, inside: Path, key: Path
) -> None:
    bring(site, "acme", "resnet20.mine")
    write_policy(inside, key, names=('names = ["resnet20.*"]', 'names = ["acme/resnet20.*"]'))
    with pytest.raises(PolicyError, match=r"weights\.toml is not signed"):
        zoo.fetch("resnet20.mine")
    signing.sign(site / "zoo_acme" / "weights.toml", key)
    registry.clear()
    zoo.fetch("resnet20.mine")
    zoo.fetch("resnet20.digits")  # whose rule needs no signature
    write_policy(inside, key)
    with pytest.raises(PolicyError, match=r"no rule matches acme/resnet20\.mine from plugin:zoo-acme"):
        zoo.fetch("resnet20.mine")


def test_it_is_disabled_as_a_plugin(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(site, "acme", "resnet20.mine")
    monkeypatch.setenv("ZOO_DISABLE_PLUGINS", "acme")
    registry.clear()
    with pytest.raises(UnknownNameError):
        zoo.create("resnet20.mine")
    with pytest.raises(PluginError, match="disabled"):
        zoo.create("acme/resnet20.mine")


def test_it_is_in_the_index_until_a_file_changes(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(site, "acme", "resnet20.mine")
    assert "resnet20.mine" in distributions.run("list", "resnet20.*", site=site).stdout
    code = (
        "from zoo import manifest, registry;"
        "manifest.read = None;"  # an index is enough
        "print([weights.sha256 for weights in [registry.current().find('resnet20.mine').weights]])"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    file = site / "zoo_acme" / "weights.toml"
    file.write_text(file.read_text().replace("resnet20.mine", "resnet20.yours"))
    said = distributions.run("list", "resnet20.*", site=site).stdout
    assert "resnet20.yours" in said
    assert "resnet20.mine" not in said


# ---- checks -----------------------------------------------------------------------------------------------


def outcomes(name: str) -> dict[str, str]:
    registry.clear()
    return {one["check"]: one["status"] for one in json.loads(ask("plugins", "check", name, "--json").stdout)["checks"]}


def test_a_new_one_is_filled_by_publish_and_passes_its_checks(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pet"
    scaffold.write("pet", folder, kind="weights")
    distributions.install(site, "zoo-pet", {"pet": "zoo_pet:manifest.toml"}, {}, group="zoo.weights")
    (site / "zoo_pet").symlink_to(folder / "zoo_pet")
    registry.clear()
    source = zoo.fetch("resnet20.digits")
    manifest = folder / "zoo_pet" / "manifest.toml"
    words = ("--to", "embedded:zoo_pet/weights", "--manifest", manifest)
    assert ask("publish", source, "--as", "resnet20.mine", *words).exit_code == 0
    checks = outcomes("pet")
    assert {*checks.values()} == {"passed"}, checks
    assert "pet/resnet20.mine-fetched" in checks
    (folder / "zoo_pet" / "weights" / "resnet20.mine.safetensors").unlink()
    assert outcomes("pet")["pet/resnet20.mine-fetched"] == "failed"


def test_publish_writes_a_folder_relative_to_the_manifest_and_another_machine_finds_it(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(site, "acme", "resnet20.mine")
    source, package = zoo.fetch("resnet20.digits"), site / "zoo_acme"
    done = ask(
        *("publish", source, "--as", "resnet20.new", "--to", package / "files", "--manifest", package / "weights.toml")
    )
    assert done.exit_code == 0, done.output
    assert 'hub = "./files"' in (package / "weights.toml").read_text()
    assert str(tmp_path) not in (package / "weights.toml").read_text()
    assert "this machine" not in done.stderr
    other = tmp_path / "other"
    shutil.move(site, other)
    monkeypatch.syspath_prepend(other)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    registry.clear()
    assert equals(zoo.create("resnet20.new"), load_file(source))


def test_a_manifest_in_the_folder_itself_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = tmp_path / "hub"
    source = zoo.fetch("resnet20.digits")
    assert ask("publish", source, "--as", "resnet20.n", "--to", hub, "--manifest", hub / "manifest.toml").exit_code == 0
    assert 'hub = "."' in (hub / "manifest.toml").read_text()
    monkeypatch.setenv("ZOO_HUB", str(hub))
    registry.clear()
    assert equals(zoo.create("resnet20.n"), load_file(source))


def test_an_address_of_this_machine_is_said_by_publish_and_fails_the_check(site: Path, tmp_path: Path) -> None:
    bring(site, "acme", "resnet20.mine")
    source, manifest = zoo.fetch("resnet20.digits"), site / "zoo_acme" / "weights.toml"
    done = ask("publish", source, "--as", "resnet20.new", "--to", tmp_path / "hub", "--manifest", manifest)
    assert "is a folder of this machine" in done.stderr
    assert outcomes("acme")["plugin-manifests"] == "failed"
    plugin = {
        "pet/__init__.py": distributions.plugin("pet", "pet_net", weights='("pet:weights.toml",)'),
        "pet/weights.toml": '[pet_net.x]\nfile = "a.safetensors"\nhub = "~/weights"\npinned = false\n',
    }
    distributions.install(site, "zoo-pet", {"pet": "pet:plugin"}, plugin)
    registry.clear()
    [check] = [check for check in checks_of("pet") if check.name == "plugin-manifests"]
    with pytest.raises(CheckError, match=r"\[pet_net.x\] hub = '~/weights' is a folder of this machine"):
        check()


def test_a_public_address_is_asked_only_where_the_network_may_be_used(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(site, "acme", text='[resnet20.far]\nfile = "a.safetensors"\nhub = "http://127.0.0.1:9"\npinned = false\n')
    monkeypatch.setenv("ZOO_TIMEOUT", "1")
    assert outcomes("acme")["acme/resnet20.far-fetched"] == "failed"
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert outcomes("acme")["acme/resnet20.far-fetched"] == "inapplicable"


# ---- key maps ---------------------------------------------------------------------------------------------


class Block(nn.Module):
    """kuangliu's basic block, written again from its description: option B."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.shortcut(x)).relu()


class Net(nn.Module):
    """20 layers for 32 x 32 images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Block(16, 16, 1), Block(16, 16, 1), Block(16, 16, 1))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(x)).relu())))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[Path, Net]:
    torch.manual_seed(0)
    network = Net()
    for _ in range(2):  # other statistics than those of a new network
        network(torch.randn(8, 3, 32, 32))
    file = tmp_path / "theirs.pth"
    torch.save({"net": {f"module.{key}": value for key, value in network.state_dict().items()}, "epoch": 7}, file)
    return file, network.eval()


def has_their_logits(file: Path, network: Net) -> bool:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        got = zoo.create("resnet20", weights=file).eval()(images)
        return torch.allclose(got, network(images), atol=1e-5)


@pytest.mark.parametrize("words", [(), ("--from", "kuangliu")])
def test_the_commonest_lineage_of_cifar_resnets_gives_its_own_logits(
    checkpoint: tuple[Path, Net], tmp_path: Path, words: tuple[str, ...]
) -> None:
    file, network = checkpoint
    done = ask("convert", file, "resnet20", *words, "-o", tmp_path / "out.safetensors")
    assert done.exit_code == 0, done.output
    assert "key map 'kuangliu'" in done.stdout
    assert has_their_logits(tmp_path / "out.safetensors", network)


MAP = """
[key_maps.{name}]
models = ["resnet*"]
rename = [['^module\\.', ''], ['^stem\\.', 'conv1.'], ['\\.shortcut\\.', '.downsample.'], ['^linear\\.', 'fc.']]
args = {{ shortcut = "B" }}
classes = "cifar10"
"""


def renamed(file: Path, to: Path) -> Path:
    state = torch.load(file, weights_only=True)["net"]
    torch.save({key.removeprefix("module.").replace("conv1.", "stem.", key == "module.conv1.weight"): value
                for key, value in state.items()}, to)  # fmt: skip
    return to


@pytest.mark.slow
def test_a_distribution_brings_key_maps(site: Path, checkpoint: tuple[Path, Net], tmp_path: Path) -> None:
    file, network = renamed(checkpoint[0], tmp_path / "other.pth"), checkpoint[1]
    bring(site, "acme", "resnet20.mine", more=MAP.format(name="theirs"))
    for number, name in enumerate(("theirs", "acme/theirs")):
        out = tmp_path / f"{number}.safetensors"
        done = ask("convert", file, "resnet20", "--from", name, "-o", out)
        assert done.exit_code == 0, done.output
        assert has_their_logits(out, network)
    untold = ask("convert", file, "resnet20", "-o", tmp_path / "x.safetensors")
    assert untold.exit_code == 1
    assert "--from acme/theirs" in untold.stderr
    bring(site, "bee", "resnet20.b", more=MAP.format(name="theirs"))
    both = ask("convert", file, "resnet20", "--from", "theirs", "-o", tmp_path / "y.safetensors")
    assert "Use acme/theirs or bee/theirs." in both.stderr


def test_a_familys_own_key_map_keeps_its_name(site: Path, checkpoint: tuple[Path, Net], tmp_path: Path) -> None:
    bring(site, "acme", "resnet20.mine", more='[key_maps.kuangliu]\nmodels = ["resnet20"]\ndrop = ["."]\n')
    done = ask("convert", checkpoint[0], "resnet20", "--from", "kuangliu", "-o", tmp_path / "out.safetensors")
    assert done.exit_code == 0, done.output


def test_a_plugin_brings_key_maps_for_another_familys_models(
    site: Path, checkpoint: tuple[Path, Net], tmp_path: Path
) -> None:
    file = renamed(checkpoint[0], tmp_path / "other.pth")
    maps = (
        "(__import__('zoo').spec.KeyMap('theirs', models=('resnet20',), args={'shortcut': 'B'}, rename=("
        "(r'^stem\\.', 'conv1.'), (r'\\.shortcut\\.', '.downsample.'), (r'^linear\\.', 'fc.'))),)"
    )
    distributions.install(
        site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": distributions.plugin("pet", "pet_net", key_maps=maps)}
    )
    out = tmp_path / "out.safetensors"
    assert ask("convert", file, "resnet20", "--from", "theirs", "-o", out).exit_code == 0
    assert has_their_logits(out, checkpoint[1])


def test_weights_of_another_format_are_converted_by_the_key_map_beside_them(
    site: Path, checkpoint: tuple[Path, Net], tmp_path: Path
) -> None:
    package = site / "zoo_acme"
    bring(site, "acme", "resnet20.mine")
    file = renamed(checkpoint[0], package / "theirs.pth")
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    entry = f'[resnet20.raw]\nfile = "theirs.pth"\nhub = "."\nsha256 = "{sha256}"\nkey_map = "theirs"\n'
    (package / "weights.toml").write_text(entry + MAP.format(name="theirs"))
    registry.clear()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(zoo.create("resnet20.raw").eval()(images), checkpoint[1](images), atol=1e-5)
    assert {*outcomes("acme").values()} == {"passed"}


# ---- a real installation ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_wheel_of_one_is_tried_as_a_user_would_get_it(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pet"
    scaffold.write("pet", folder, kind="weights")
    file = folder / "zoo_pet" / "weights" / "net.safetensors"
    file.parent.mkdir()
    shutil.copy(zoo.fetch("resnet20.digits"), file)
    fields = (
        f'file = "net.safetensors"\nhub = "./weights"\nsha256 = "{hashlib.sha256(file.read_bytes()).hexdigest()}"\n'
    )
    known = zoo.info("resnet20.digits")["weights"][0]["preprocess"]
    preprocess = "".join(f"{key} = {json.dumps(known[key])}\n" for key in ("input_size", "mean", "std"))
    text = f"[resnet20.mine]\n{fields}num_classes = 10\n[resnet20.mine.preprocess]\n{preprocess}"
    (folder / "zoo_pet" / "manifest.toml").write_text(text)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel"], cwd=folder, check=True)
    [wheel] = (folder / "dist").glob("*.whl")
    done = ask("plugins", "check", wheel)
    assert done.exit_code == 0, done.output
    assert [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("ok")] == [
        ["installed", wheel.name],
        ["listed", "pet"],
        ["verified", "resnet20.mine"],
        ["predicted", "resnet20.mine"],
    ]

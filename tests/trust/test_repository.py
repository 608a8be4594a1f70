"""Weights of repositories: ``hf-hub:OWNER/NAME``, from a real server, pinned with what describes them."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.command import ask_warm as zoo_command
from support.hub_entries import flipped, quarantined
from support.hub_repositories import Gate
from support.hub_server import HubServer

import zoo
from zoo import registry
from zoo.errors import (
    AmbiguousNameError,
    HubError,
    IntegrityError,
    LockError,
    OfflineError,
    PluginError,
    PolicyError,
    UnknownNameError,
    UnpinnedError,
    WeightsError,
)
from zoo.loading import resolve, safetensors_file
from zoo.spec import Argument, Described, Model, Plugin, Preprocess
from zoo.training import pretrained
from zoo.trust import first_use, lock, repository
from zoo_publish import destination, release

REPO = "alice/digits"
NAME = f"hf-hub:{REPO}"
PREPROCESS = Preprocess(input_size=(1, 8, 8), crop_pct=1.0, mean=(0.5,), std=(0.5,))


def build(*, num_classes: int, in_chans: int, width: int = 8) -> Any:
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_chans, width), nn.Linear(width, num_classes))


def describe(config: dict[str, Any]) -> Described | None:
    """Returns a third party's form: ``{"net": "small_net", "classes": [...]}``."""
    if "net" not in config:
        return None
    names = tuple(config["classes"])
    return Described(config["net"], args=config.get("args", {}), num_classes=len(names), class_names=names)


def echo(config: dict[str, Any]) -> Any:
    return config


PLUGIN = Plugin(
    "small",
    api=1,
    models=(
        Model(
            "small_net",
            build=f"{__name__}:build",
            preprocess=PREPROCESS,
            num_classes=2,
            head=("2",),
            file_args={"width": Argument(least=1, most=64)},
        ),
    ),
    repositories=f"{__name__}:describe",
)

CONFIG = {"net": "small_net", "classes": ["cat", "dog"]}


@pytest.fixture(autouse=True)
def plugin() -> Any:
    with zoo.register(PLUGIN):
        yield


def weights(seed: int = 0, **args: Any) -> bytes:
    import tempfile

    import torch

    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.safetensors")
        safetensors_file.write(build(**{"num_classes": 2, "in_chans": 1, **args}).state_dict(), file, {})
        return file.read_bytes()


def publish(server: HubServer, config: Any = CONFIG, *, repo: str = REPO, **files: bytes) -> str:
    """Commits a repository in the third party's form; returns the commit."""
    content = config if isinstance(config, bytes) else json.dumps(config).encode()
    return server.commit(repo, {"config.json": content, "model.safetensors": weights(), **files})


def value_of(name: str = NAME) -> float:
    """Returns one number of the network, which tells one file from another."""
    return float(zoo.create(name).state_dict()["1.bias"][0])


# ---- First use, and later ----


def test_one_line_creates_the_network_and_pins_both_files(hub_server: HubServer) -> None:
    commit = publish(hub_server)
    network = zoo.create(NAME)
    assert network.zoo_info.name == NAME
    assert network.zoo_info.class_names == ("cat", "dog")
    assert network.zoo_info.preprocess == PREPROCESS
    held = first_use.pins()[NAME]
    files = hub_server.repos[REPO].commits[commit].files
    assert (held.revision, held.sha256) == (commit, files["model.safetensors"].sha256)
    assert held.repository is not None
    assert (held.repository.file, held.repository.description) == ("model.safetensors", "config.json")


def test_a_forgotten_name_is_pinned_to_the_present_commit(hub_server: HubServer) -> None:
    publish(hub_server)
    before = value_of()
    after = hub_server.commit(REPO, {"model.safetensors": weights(1)})
    first_use.forget([NAME])
    assert value_of() != before
    assert first_use.pins()[NAME].revision == after


def test_a_commit_a_branch_and_a_later_commit_are_names_of_their_own(hub_server: HubServer) -> None:
    first = publish(hub_server)
    second = hub_server.commit(REPO, {"model.safetensors": weights(1)}, branch="main")
    hub_server.repos[REPO].branches["v1.0"] = first
    values = [value_of(f"{NAME}@{revision}") for revision in (first, second, "v1.0")]
    assert values[0] == values[2] != values[1] == value_of()
    assert {name: held.revision for name, held in first_use.pins().items()} == {
        f"{NAME}@{first}": first,
        f"{NAME}@{second}": second,
        f"{NAME}@v1.0": first,
        NAME: second,
    }


def test_offline_works_from_the_cache_alone(hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(hub_server)
    before = value_of()
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    asked = len(hub_server.requests)
    assert value_of() == before
    assert zoo.fetch(NAME).suffix == ".safetensors"
    assert len(hub_server.requests) == asked
    with pytest.raises(OfflineError, match=r"hf-hub:bob/other is in no lock, .* network access is disabled"):
        zoo.create("hf-hub:bob/other")


def test_every_function_takes_the_name(hub_server: HubServer, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="digits need scikit-learn")
    publish(
        hub_server,
        {"net": "small_net", "classes": list("0123456789")},
        **{"model.safetensors": weights(num_classes=10)},
    )
    assert zoo.info(NAME)["weights"][0]["name"] == NAME
    assert zoo.fetch(NAME).exists()
    report = zoo.evaluate(NAME, "digits")
    assert (report.n, report.weights) == (360, NAME)
    image = zoo.data.load("digits", "test").image(0)
    assert zoo.predict(NAME, image)
    with pytest.raises(WeightsError, match=f"use --init {NAME}"):
        zoo.train(NAME, "digits", output=tmp_path)


@pytest.mark.parametrize("name", ["resnet20", "small_net", "resnet20.digits"])
def test_nothing_is_asked_for_other_names(name: str, hub_server: HubServer) -> None:
    resolve.find(name)
    assert hub_server.requests == []


# ---- One changed byte ----


def test_a_changed_byte_in_the_cache_is_set_aside_and_the_file_fetched_again(hub_server: HubServer) -> None:
    publish(hub_server)
    before = value_of()
    from zoo.hub import cache

    held = first_use.pins()[NAME]
    assert held.repository is not None
    for file in (f"{held.repository.sha256}.json", f"{held.sha256}.safetensors"):
        path = cache.root() / "files" / file
        path.write_bytes(flipped(path.read_bytes()))
        assert value_of() == before
    assert len(quarantined()) == 2


@pytest.mark.first(1)
@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_server_that_changes_a_byte_of_a_pinned_commit_is_refused(file: str, hub_server: HubServer) -> None:

    from zoo.hub import cache

    commit = publish(hub_server)
    value_of()
    files = hub_server.repos[REPO].commits[commit].files
    content = files[file].content or hub_server.stored(files[file].sha256).tobytes()
    files[file] = hub_server.keep(file, flipped(content))
    shutil.rmtree(cache.root())
    with pytest.raises(IntegrityError, match="has sha256") as caught:
        zoo.create(NAME)
    assert "pinned on first use" in str(caught.value)


def test_weights_of_another_source_are_pinned_with_the_descriptions_commit(
    hub_server: HubServer, tmp_path: Path
) -> None:
    commit = publish(hub_server)
    (tmp_path / "mirror" / REPO).mkdir(parents=True)
    (tmp_path / "mirror" / REPO / "model.safetensors").write_bytes(weights(1))
    zoo.fetch(NAME, source=str(tmp_path / "mirror"))
    held = first_use.pins()[NAME]
    assert (held.revision, held.source) == (commit, str(tmp_path / "mirror"))
    assert held.sha256 == hashlib.sha256(weights(1)).hexdigest()


# ---- Locks and policy ----


def test_the_project_locks_a_repository_and_follows_its_lock(
    hub_server: HubServer, inside: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit = publish(hub_server)
    before = value_of()
    assert zoo_command("lock", NAME).exit_code == 0
    held = lock.read(inside / "zoo.lock").weights[NAME]
    assert (held.revision, held.num_classes, held.preprocess) == (commit, 2, PREPROCESS)
    assert zoo_command("lock", "--check").exit_code == 0
    hub_server.commit(REPO, {"model.safetensors": weights(1)})
    monkeypatch.setenv("ZOO_CONFIG", str(tmp_path / "of-a-colleague"))
    assert value_of() == before
    assert first_use.pins() == {}


def test_locks_that_disagree_are_an_error(
    hub_server: HubServer, inside: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(hub_server)
    value_of()
    assert zoo_command("lock", NAME).exit_code == 0
    hub_server.commit(REPO, {"config.json": json.dumps({**CONFIG, "args": {"width": 8}}).encode()})
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("ZOO_CONFIG", str(tmp_path / "other"))
        elsewhere.chdir(tmp_path)
        value_of()
    monkeypatch.setenv("ZOO_CONFIG", str(tmp_path / "other"))
    with pytest.raises(LockError, match=r"repository locked .*config\.json"):
        zoo.create(NAME)


def test_the_projects_lock_decides_which_commit_is_described(
    hub_server: HubServer, inside: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = publish(hub_server)
    zoo.fetch(NAME)
    assert zoo_command("lock", NAME).exit_code == 0
    second = hub_server.commit(REPO, {"model.safetensors": weights(1)})
    monkeypatch.setenv("ZOO_CONFIG", str(tmp_path / "other"))
    with monkeypatch.context() as elsewhere:
        elsewhere.chdir(tmp_path)
        zoo.fetch(NAME)
        assert repository.find(NAME).description.revision == second
    assert repository.find(NAME).description.revision == first


def test_strict_refuses_what_no_lock_has_and_asks_nobody(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(hub_server)
    with monkeypatch.context() as strict:
        strict.setenv("ZOO_STRICT", "1")
        with pytest.raises(UnpinnedError, match="ZOO_STRICT=1 refuses first use"):
            zoo.create(NAME)
        assert hub_server.requests == []
    value_of()
    monkeypatch.setenv("ZOO_STRICT", "1")
    value_of()


@pytest.mark.first(2)
@pytest.mark.parametrize(
    ("rule", "is_accepted"),
    [
        ('hubs = ["hf-hub:alice/*"]\nunsigned = true', True),
        ('names = ["hf-hub:*"]\nunsigned = true', True),
        ('hubs = ["hf-hub:bob/*"]\nunsigned = true', False),
        ('hubs = ["plugin:*"]\nunsigned = true', False),
    ],
)
def test_a_policy_speaks_of_repositories(rule: str, is_accepted: bool, hub_server: HubServer, inside: Path) -> None:
    publish(hub_server)
    (inside / "zoo-policy.toml").write_text(f"version = 1\n[[rules]]\n{rule}\n")
    if is_accepted:
        value_of()
    else:
        with pytest.raises(PolicyError, match=f"no rule matches {NAME} from {NAME}"):
            zoo.create(NAME)


def test_a_publisher_cannot_have_signed_a_repository(hub_server: HubServer, inside: Path, key: Path) -> None:
    publish(hub_server)
    (inside / "zoo-policy.toml").write_text(
        f'version = 1\n[publishers.lab]\nkey = "{key.with_suffix(".pub")}"\n[[rules]]\npublishers = ["lab"]\n'
    )
    with pytest.raises(PolicyError, match="is rejected"):
        zoo.create(NAME)


@pytest.mark.parametrize(
    "text",
    [
        '[weights."hf-hub:a/b"]\ndistribution = ""\nversion = ""\nsha256 = "{sha}"\n',
        '[weights."hf-hub:a/b"]\ndistribution = ""\nversion = ""\nsha256 = "{sha}"\nrepository = {{ file = "m", '
        'description = "config.json", sha256 = "{sha}" }}\n',
    ],
    ids=["repository", "revision"],
)
def test_a_lock_without_the_description_or_the_commit_is_damaged(text: str, inside: Path) -> None:
    (inside / "zoo.lock").write_text("version = 1\n" + text.format(sha="a" * 64))
    with pytest.raises(LockError, match="expected a revision and a repository"):
        zoo.create("hf-hub:a/b")


# ---- Repositories as zoo publish writes them ----


def test_what_zoo_publishes_is_created_by_its_name(hub_server: HubServer, tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    about = {"model": "small_net", "classes": "pets", "class_names": ["cat", "dog"], "args": {"width": 5}}
    safetensors_file.write(build(num_classes=2, in_chans=1, width=5).state_dict(), file, about)
    place = destination.parse("hf://alice/pets", "small_net.mine")
    made = release.prepare(file, "small_net.mine", tmp_path, place, license={})
    hub_server.commit("alice/pets", {**made.files, "model.safetensors": made.weights.read_bytes()})
    network = zoo.create("hf-hub:alice/pets")
    assert network.zoo_info.args == {"width": 5}
    assert (network.zoo_info.classes, network.zoo_info.class_names) == ("pets", ("cat", "dog"))
    held = first_use.pins()["hf-hub:alice/pets"]
    assert held.repository is not None
    assert held.repository.description == "weights.toml"


def test_training_starts_from_a_repository(hub_server: HubServer) -> None:
    publish(hub_server)
    assert pretrained.architecture(NAME) == "small_net"
    source = pretrained.find_source(NAME, registry.current().find("small_net").model)
    assert source.record == {"weights": NAME, "sha256": first_use.pins()[NAME].sha256}


def test_bytes_other_than_those_that_weights_toml_states_are_refused(hub_server: HubServer) -> None:
    toml = '[small_net.mine]\nfile = "model.safetensors"\nrepo = "x/y"\nsha256 = "{}"\n'
    hub_server.commit(REPO, {"weights.toml": toml.format("a" * 64).encode(), "model.safetensors": weights()})
    with pytest.raises(IntegrityError):
        zoo.create(NAME)
    assert first_use.pins() == {}


@pytest.mark.first(3)
@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (b"", "does not describe one weights file"),
        (b"\xff", "does not describe one weights file"),
        (b"[a.b]\nfile = 1\n", "hf-hub:alice/digits: weights.toml"),
        (
            b'[lost_net.b]\nfile = "m.safetensors"\npinned = false\ndistribution = "zoo-lost"\n',
            "Unknown model 'lost_net'",
        ),
        (b'[small_net.b]\nfile = "../m"\npinned = false\n', "must stay inside the hub"),
    ],
)
def test_a_weights_toml_that_is_none_is_an_error(toml: bytes, message: str, hub_server: HubServer) -> None:
    hub_server.commit(REPO, {"weights.toml": toml, "model.safetensors": weights()})
    with pytest.raises(zoo.ZooError, match=message):
        zoo.create(NAME)


# ---- What cannot be used ----


@pytest.mark.first(4)
@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:",
        "hf-hub:digits",
        "hf-hub:a/b/c",
        "hf-hub:../b",
        "hf-hub:a/..",
        "hf-hub:a/b@",
        "hf-hub:a/b@../c",
        "hf-hub:a--b/c",
    ],
)
def test_a_name_that_is_no_repository_says_how_one_looks(name: str, hub_server: HubServer) -> None:
    with pytest.raises(UnknownNameError, match="does not name a repository") as caught:
        zoo.create(name)
    assert "hf-hub:OWNER/NAME" in str(caught.value)
    assert hub_server.requests == []


def test_repositories_that_are_not_there_or_private_say_what_to_do(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(hub_server)
    hub_server.commit(
        "alice/secret", {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": weights()}, private=True
    )
    with pytest.raises(HubError, match="has no repository alice/nothing, or denies access"):
        zoo.create("hf-hub:alice/nothing")
    with pytest.raises(HubError, match=r"has no revision v9 of alice/digits"):
        zoo.create(f"{NAME}@v9")
    with pytest.raises(HubError, match="Set HF_TOKEN if it is private"):
        zoo.create("hf-hub:alice/secret")
    monkeypatch.setenv("HF_TOKEN", "token-of-alice")
    zoo.create("hf-hub:alice/secret")


def test_a_gated_repository_says_whose_terms_to_accept_and_a_pinned_one_stays_usable(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(hub_server)
    value_of()
    hub_server.repos[REPO].gate = Gate()
    value_of()
    with pytest.raises(HubError, match=r"requires that you accept the terms of alice/digits at .*HF_TOKEN"):
        zoo.create(f"{NAME}@main")
    monkeypatch.setenv("HF_TOKEN", "token-of-bob")
    with pytest.raises(HubError, match="requires approval for alice/digits"):
        zoo.create(f"{NAME}@main")


@pytest.mark.first(2)
@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"model_type": "bert"}, WeightsError, "no plugin understands its config.json, which has model_type"),
        ({}, WeightsError, "which has nothing"),
        ([], WeightsError, "config.json cannot be read: Expected `object`"),
        (b"{", WeightsError, "config.json cannot be read"),
        (b"\xff\xfe", WeightsError, "config.json cannot be read"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, WeightsError, "config.json cannot be read"),
        (b'{"a": "' + b"x" * 9_000_000 + b'"}', WeightsError, "expected at most 8,388,608"),
        (
            {**CONFIG, "net": "smal_net"},
            UnknownNameError,
            r"is of smal_net, which plugin 'small' lacks\.\nDid you mean small_net",
        ),
        ({**CONFIG, "net": "../../etc"}, UnknownNameError, "which plugin 'small' lacks"),
        ({**CONFIG, "net": 5}, WeightsError, "Described: model = 5"),
        ({"net": "small_net"}, PluginError, "describe raised KeyError"),
        ({**CONFIG, "args": {"width": 10**6}}, WeightsError, "sets width = 1000000"),
        ({**CONFIG, "args": {"checkpoint_path": "/etc/passwd"}}, WeightsError, "sets checkpoint_path"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict | bytes) else None,
)
def test_a_description_that_cannot_be_used_is_an_error(
    config: Any, error: type[Exception], message: str, hub_server: HubServer
) -> None:
    publish(hub_server, config)
    with pytest.raises(error, match=message):
        zoo.create(NAME)


def test_a_repository_without_description_or_weights_says_so(hub_server: HubServer) -> None:
    hub_server.commit(REPO, {"model.safetensors": weights()})
    with pytest.raises(WeightsError, match=r"has neither weights\.toml nor config\.json"):
        zoo.create(NAME)
    hub_server.commit("alice/empty", {"config.json": json.dumps(CONFIG).encode()})
    with pytest.raises(WeightsError, match=r"has neither model\.safetensors nor pytorch_model\.bin"):
        zoo.create("hf-hub:alice/empty")


def test_two_plugins_that_claim_one_form_are_an_error(hub_server: HubServer) -> None:
    publish(hub_server)
    with (
        zoo.register(Plugin("rival", api=1, repositories=f"{__name__}:describe")),
        pytest.raises(AmbiguousNameError, match=r"several plugins claim its config\.json: rival, small"),
    ):
        zoo.create(NAME)


def test_a_hook_that_returns_something_else_is_named(hub_server: HubServer) -> None:
    publish(hub_server, {"other": 1})
    with (
        zoo.register(Plugin("odd", api=1, repositories=f"{__name__}:echo")),
        pytest.raises(PluginError, match=r"echo returned a dict, expected a zoo\.spec\.Described or None"),
    ):
        zoo.create(NAME)


def test_the_cache_knows_both_files(hub_server: HubServer) -> None:
    publish(hub_server)
    value_of()
    rows = json.loads(zoo_command("cache", "list", "--json").stdout)
    assert [row["weights"] for row in rows] == [[NAME], [NAME]]


def test_zoo_list_does_not_list_repositories(hub_server: HubServer) -> None:
    publish(hub_server)
    value_of()
    assert not [name for name in zoo.list_models("*", pretrained=True) if "hf-hub" in name]
    assert registry.current().find("small_net").weights is None
    assert f"zoo info {NAME} shows one" in zoo_command("list", NAME).stderr


def test_a_repository_is_the_weights_of_a_model_that_is_named(hub_server: HubServer) -> None:
    publish(hub_server)
    there = zoo.create(NAME)
    given = zoo.create("small_net", weights=NAME)
    assert all(map(torch_equal, given.state_dict().values(), there.state_dict().values()))
    assert given.zoo_info.class_names == ("cat", "dog")
    assert NAME in first_use.pins(), "pinned as by its own name"
    with pytest.raises(WeightsError, match=rf"{NAME} has weights of small_net, not of resnet20"):
        zoo.create("resnet20", weights=NAME)


def torch_equal(left: Any, right: Any) -> bool:
    import torch

    return torch.equal(left, right)

"""Repositories in timm's form, as timm writes them; the oracle is timm with the same server."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import foreign, seeded
from support.command import ask_warm, printed
from support.hub_server import HubServer
from torch import nn

import zoo
from zoo.errors import SpecError, TensorMismatchError, UnknownNameError, WeightsError
from zoo.registry import listing
from zoo.trust import first_use, repository
from zoo_timm import snapshot
from zoo_timm.repository import describe

timm = pytest.importorskip("timm", reason="needs zoo-vision[timm]")

TAKEN = snapshot.read()

QUICK = ("lcnet_050.ra2_in1k", "test_resnet.r160_in1k", "test_vit.r160_in1k", "tinynet_e.in1k")
SLOW = (
    *("convnext_atto.d2_in1k", "convnext_tiny.fb_in22k_ft_in1k", "densenet121.tv_in1k", "inception_v3.tv_in1k"),
    *("mobilenetv2_100.ra_in1k", "mobilenetv3_small_050.lamb_in1k", "resnet18.a1_in1k", "vgg11.tv_in1k"),
    *("convnextv2_atto.fcmae", "vit_tiny_patch16_224.augreg_in21k"),
)
EVERY = (*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW))


@pytest.fixture
def timms_hub(hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """The server, also for timm, whose client reads its environment only once."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub_server.url)
    template = f"{hub_server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache of timm"))
    return hub_server


def trained(name: str, **args: Any) -> nn.Module:
    """Builds timm's own network with seeded values in every tensor."""
    return seeded.fill(timm.create_model(name, pretrained=False, **args))


def publish(server: HubServer, repo: str, module: nn.Module, folder: Path, **config: Any) -> str:
    """Commits ``module`` as timm writes it; returns its name for both libraries."""
    from timm.models import save_for_hf

    save_for_hf(module, folder / repo, safe_serialization=True, model_config=config)
    server.commit(repo, {file.name: file.read_bytes() for file in (folder / repo).iterdir()})
    return f"hf-hub:{repo}"


def assert_as_timms(name: str, **args: Any) -> Any:
    """Checks that Zoo's network has timm's tensors, and its outputs bit for bit when they lie in the same memory."""
    ours, theirs = zoo.create(name, **args).eval(), timm.create_model(name, pretrained=True, **args).eval()
    state, expected = ours.state_dict(), theirs.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], tensor) for key, tensor in expected.items())
    theirs.load_state_dict(state, assign=True)
    preprocess = ours.zoo_info.preprocess
    config = timm.data.resolve_data_config({}, model=theirs, use_test_size=False)
    for field in ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode"):
        value = config[field]
        assert getattr(preprocess, field) == (tuple(value) if isinstance(value, list) else value), field
    images = torch.randn(2, *preprocess.input_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, got = theirs(images), ours(images)
    assert wanted.isfinite().all()
    assert torch.equal(got, wanted)
    return ours


@pytest.mark.first(2)
@pytest.mark.parametrize("name", EVERY)
def test_a_repository_gives_timms_network(name: str, timms_hub: HubServer, tmp_path: Path) -> None:
    ours = assert_as_timms(publish(timms_hub, f"timm/{name}", trained(name), tmp_path))
    arch, _, tag = name.partition(".")
    assert ours.zoo_info.model.name == f"timm/{arch}"
    assert ours.num_classes == TAKEN.models[arch].weights[tag].classes
    assert ours.zoo_info.classes == ("imagenet-1k" if tag.endswith("in1k") else "")


def test_another_head_channels_and_arguments_are_timms(timms_hub: HubServer, tmp_path: Path) -> None:
    """A network that somebody fine-tuned: other classes, an input of one channel, another pool, a larger image."""
    resnet = trained("test_resnet", num_classes=3, in_chans=1, global_pool="max")
    resnet.pretrained_cfg |= {"mean": (0.5,), "std": (0.5,)}
    labels = {"label_names": ["n1", "n2", "n3"], "label_descriptions": {"n1": "cat", "n2": "dog"}}
    ours = assert_as_timms(publish(timms_hub, "alice/mine", resnet, tmp_path, **labels))
    assert (ours.zoo_info.classes, ours.zoo_info.class_names) == ("", ("cat", "dog", "n3"))
    assert_as_timms(publish(timms_hub, "alice/vit", trained("test_vit", img_size=192), tmp_path))


def test_timms_older_form_is_read(timms_hub: HubServer, tmp_path: Path) -> None:
    """Without ``pretrained_cfg``: everything at the top."""
    name = publish(timms_hub, "alice/old", trained("test_resnet"), tmp_path)
    config = json.loads((tmp_path / "alice/old/config.json").read_text())
    older = {**config.pop("pretrained_cfg"), "architecture": "test_resnet", "num_classes": 1000}
    timms_hub.commit("alice/old", {"config.json": json.dumps(older).encode()})
    assert_as_timms(name)


def test_a_repository_with_a_pickle_alone_is_converted(
    timms_hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign.calls_here(monkeypatch)
    name = publish(timms_hub, "alice/pickle", trained("test_resnet"), tmp_path)
    head = timms_hub.repos["alice/pickle"].branches["main"]
    del timms_hub.repos["alice/pickle"].commits[head].files["model.safetensors"]
    torch.save(trained("test_resnet").state_dict(), tmp_path / "pytorch_model.bin")
    timms_hub.commit("alice/pickle", {"pytorch_model.bin": (tmp_path / "pytorch_model.bin").read_bytes()})
    assert_as_timms(name)
    pinned = first_use.pins()[name].repository
    assert pinned.file == "pytorch_model.bin"


def test_the_command_line_takes_a_repository(timms_hub: HubServer, tmp_path: Path) -> None:
    name = publish(timms_hub, "timm/test_resnet.r160_in1k", trained("test_resnet.r160_in1k"), tmp_path)
    image = str(repository.__file__).replace("trust/repository.py", "verify/probe.png")
    commands = (
        ("info", name),
        ("fetch", name),
        ("predict", name, image),
        ("lock", "--user"),
        ("cache", "list"),
        ("look", "filters", name, "-o", str(tmp_path / "filters.png")),
    )
    for words in commands:
        printed(*words)
    about = json.loads(ask_warm("info", name, "--json").stdout)
    assert about["name"] == "timm/test_resnet"
    assert about["weights"][0]["license"] == {"weights": "Apache-2.0"}


@pytest.mark.slow
def test_a_repository_is_verified_in_a_process_of_its_own(timms_hub: HubServer, tmp_path: Path) -> None:
    name = publish(timms_hub, "timm/test_resnet.r160_in1k", trained("test_resnet.r160_in1k"), tmp_path)
    zoo.fetch(name)
    done = printed("verify")
    assert name in done


def test_the_count_of_parameters_is_stated_only_if_it_is_known(timms_hub: HubServer, tmp_path: Path) -> None:
    name = publish(timms_hub, "alice/a", trained("test_resnet"), tmp_path)
    assert zoo.info(name)["weights"][0]["params"] == TAKEN.models["test_resnet"].params
    name = publish(timms_hub, "alice/b", trained("test_resnet", num_classes=3), tmp_path)
    assert zoo.info(name)["weights"][0]["params"] == 0


def test_tensors_that_do_not_fit_the_architecture_are_an_error(timms_hub: HubServer, tmp_path: Path) -> None:
    name = publish(timms_hub, "alice/wrong", trained("test_resnet"), tmp_path)
    config = json.loads((tmp_path / "alice/wrong/config.json").read_text()) | {"architecture": "test_vit"}
    timms_hub.commit("alice/wrong", {"config.json": json.dumps(config).encode()})
    with pytest.raises(TensorMismatchError, match="hf-hub:alice/wrong does not fit"):
        zoo.create(name)


def config_of(**changes: Any) -> dict[str, Any]:
    return {"architecture": "resnet18", "num_classes": 1000, "pretrained_cfg": {"tag": "a1_in1k"}} | changes


def test_configurations_of_others_are_left_to_others() -> None:
    assert describe({"model_type": "resnet", "architectures": ["ResNetForImageClassification"]}) is None
    assert describe({}) is None


@pytest.mark.parametrize(
    ("tag", "classes"),
    [
        ("a1_in1k", "imagenet-1k"),
        ("fb_in22k_ft_in1k", "imagenet-1k"),
        ("clip_laion2b_ft_in12k_in1k_320", "imagenet-1k"),
        ("in1k", "imagenet-1k"),
        ("fb_in22k", ""),
        ("fcmae", ""),
        ("in1kfoo", ""),
    ],
)
def test_classes_are_imagenets_only_if_the_tag_says_so(tag: str, classes: str) -> None:
    said = describe(config_of(pretrained_cfg={"tag": tag}))
    assert said.classes == classes
    other = describe(config_of(pretrained_cfg={"tag": tag}, num_classes=999))
    assert other.classes == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "../../etc/passwd"},
        {"architecture": "a" * 101},
        {"architecture": ["resnet18"]},
        {"architecture": "resnet18\n"},
        {"pretrained_cfg": []},
        {"pretrained_cfg": {"input_size": [3, 224]}},
        {"pretrained_cfg": {"input_size": "3"}},
        {"pretrained_cfg": {"mean": "0.5"}},
        {"pretrained_cfg": {"hf_hub_filename": "a b"}},
        {"model_args": [1]},
        {"label_names": {"cat": 1}},
        {"num_classes": "many"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_values_of_another_type_are_an_error(changes: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match="not as timm writes it"):
        describe(config_of(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"pretrained_cfg": {"input_size": [3, 10**9, 10**9]}},
        {"pretrained_cfg": {"input_size": [1, 8, 8]}},
        {"pretrained_cfg": {"crop_pct": -1}},
        {"pretrained_cfg": {"interpolation": "magic"}},
        {"num_classes": -1},
        {"num_classes": 10**9},
        {"label_names": ["cat"]},
        {"model_args": {"in_chans": "three"}},
        {"model_args": {"num_classes": 2.5}},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_impossible_values_are_an_error(changes: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        describe(config_of(**changes))


@pytest.mark.first(2)
@pytest.mark.parametrize(
    "args",
    [
        {"pretrained_cfg": {"file": "/etc/passwd"}},
        {"checkpoint_path": "/etc/passwd"},
        {"img_size": 10**6},
        {"depths": [1]},
    ],
    ids=lambda args: next(iter(args)),
)
def test_arguments_that_a_file_may_not_set_are_refused(
    args: dict[str, Any], timms_hub: HubServer, tmp_path: Path
) -> None:
    name = publish(timms_hub, "alice/args", trained("test_resnet"), tmp_path)
    config = json.loads((tmp_path / "alice/args/config.json").read_text())
    timms_hub.commit("alice/args", {"config.json": json.dumps({**config, "model_args": args}).encode()})
    with pytest.raises(WeightsError, match=f"sets {next(iter(args))} = .*, which weights files of timm/test_resnet"):
        zoo.create(name)


def test_an_architecture_that_nobody_has_suggests_the_nearest(timms_hub: HubServer) -> None:
    timms_hub.commit(
        "alice/a", {"config.json": json.dumps(config_of(architecture="resnet19")).encode(), "model.safetensors": b""}
    )
    with pytest.raises(
        UnknownNameError, match=r"is of timm/resnet19, which plugin 'timm' lacks\.\nDid you mean timm/resnet1"
    ):
        zoo.create("hf-hub:alice/a")
    assert listing.left_out("*", None) == ["timm", "torchvision"]

"""``import zoo.timm as timm``: the oracle is timm itself with the same files; nothing is asked on the network."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support import seeded
from support.hub_server import HubServer
from torch import nn

import zoo
from zoo import registry
from zoo.errors import HubError, IntegrityError, SpecError, UnknownNameError, WeightsError
from zoo.loading import network as loading_network
from zoo.loading import safetensors_file
from zoo.manifest import Weights

timm = pytest.importorskip("timm", reason="needs zoo-vision[timm]")
ours = importlib.import_module("zoo.timm")

SIZE = 160
IMAGES = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that ZOO_HUB names; the network is switched off."""
    monkeypatch.setenv("ZOO_HUB", str(tmp_path / "hub"))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    return tmp_path / "hub"


def default_of(arch: str) -> Weights:
    """Returns the entry of the weights that timm takes for ``pretrained=True``."""
    entry = registry.current().find(f"timm/{arch}.{timm.get_pretrained_cfg(arch).tag}").weights
    assert not entry.pinned  # the bytes below are not those that were pinned
    return entry


def publish(hub: Path, arch: str) -> tuple[Path, nn.Module]:
    """Puts seeded tensors where the hub has timm's default weights; returns the file and timm's network with them."""
    entry = default_of(arch)
    theirs = seeded.fill(timm.create_model(arch, num_classes=entry.num_classes))
    file = hub / entry.path
    file.parent.mkdir(parents=True, exist_ok=True)
    safetensors_file.write({key: tensor.clone() for key, tensor in theirs.state_dict().items()}, file, {})
    zoo.fetch(entry.name, source=str(hub))
    return file, theirs


def assert_alike(got: nn.Module, expected: nn.Module, *, except_for: str = "nothing") -> None:
    """Checks classes, tensors, configuration and outputs; a new head has other values and is left out."""
    assert type(got) is type(expected)
    state = got.state_dict()
    assert state.keys() == expected.state_dict().keys()
    for key, tensor in expected.state_dict().items():
        assert torch.equal(state[key], tensor) or key.startswith(except_for), key
    expected.load_state_dict(state, assign=True)  # where a tensor lies changes the rounding
    with torch.no_grad():
        outputs = [network.eval()(IMAGES[:, : _channels(network)]) for network in (got, expected)]
    torch.testing.assert_close(*outputs, rtol=0, atol=0)


def _channels(network: nn.Module) -> int:
    return next(tensor.shape[1] for tensor in network.parameters() if tensor.ndim == 4)


# ---- Names ----


@pytest.mark.parametrize(
    ("function", "args", "options"),
    [
        ("list_models", (), {}),
        ("list_models", ("*resne*t*",), {}),
        ("list_models", (), {"pretrained": True}),
        ("list_models", (["convnext_a*", "resnet1*"],), {}),
        ("list_models", ("resnet*",), {"exclude_filters": "*d"}),
        ("list_models", ("resnet*",), {"exclude_filters": ["*d", "*v2*"], "pretrained": True}),
        ("list_models", (), {"module": "vision_transformer"}),
        ("list_models", ("*tiny*", ["convnext", "swin_transformer"]), {}),
        ("list_models", ("resnet18",), {"include_tags": True}),
        ("list_models", ("resnet*",), {"name_matches_cfg": True}),
        ("list_models", ("nothing*",), {}),
        ("list_pretrained", ("resnet18*",), {}),
        ("list_pretrained", ("resnet*", ["*.a1_in1k"]), {}),
        ("list_modules", (), {}),
        ("is_model", ("resnet18",), {}),
        ("is_model", ("resnet5o",), {}),
        ("is_model_pretrained", ("resnet18.a1_in1k",), {}),
        ("get_pretrained_cfg", ("resnet18",), {}),
        ("get_pretrained_cfg_value", ("resnet18.tv_in1k", "crop_pct"), {}),
    ],
)
def test_what_timm_knows_is_answered_as_by_timm(function: str, args: Any, options: dict[str, Any]) -> None:
    assert getattr(ours, function)(*args, **options) == getattr(timm, function)(*args, **options)


def test_every_public_name_of_timm_is_there_and_its_modules_are_timms_own() -> None:
    names = [name for name in dir(timm) if not name.startswith("_")]
    assert {name for name in names if not hasattr(ours, name)} == set()
    assert {name for name in names if getattr(ours, name) is not getattr(timm, name)} == {"create_model"}
    for name in ("data", "layers", "loss", "models", "optim", "scheduler", "utils", "data.transforms_factory"):
        assert importlib.import_module(f"zoo.timm.{name}") is importlib.import_module(f"timm.{name}")
    with pytest.raises(AttributeError, match="no 'create_modle'"):
        _ = ours.create_modle


def test_a_registered_model_is_created_by_its_name() -> None:
    @ours.register_model
    def test_resnet_of_mine(pretrained: bool = False, **args: Any) -> Any:
        return timm.create_model("test_resnet", **args)

    try:
        assert ours.is_model("test_resnet_of_mine")
        assert ours.create_model("test_resnet_of_mine", num_classes=3).num_classes == 3
    finally:
        timm.models._registry._clear_model_entries("test_resnet_of_mine")
        del timm.models._registry._model_entrypoints["test_resnet_of_mine"]


def test_without_timm_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['timm'] = None\nimport zoo\ntry: zoo.timm\nexcept zoo.ZooError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "zoo.timm needs timm, which is not installed.",
        "pip install 'zoo-vision[timm]'",
    ]


# ---- Networks ----


@pytest.mark.parametrize(
    ("arch", "args"),
    [
        ("test_resnet", {}),
        ("test_resnet", {"in_chans": 1}),
        ("test_resnet", {"num_classes": 7}),
        ("test_resnet", {"num_classes": 0, "global_pool": ""}),
        ("test_resnet", {"global_pool": "catavgmax", "num_classes": 7}),
        ("test_resnet", {"features_only": True, "out_indices": (1, 3)}),
        ("test_vit", {"drop_path_rate": 0.1, "img_size": SIZE}),
        ("test_vit", {"features_only": True}),
    ],
)
def test_a_pretrained_network_is_timms_with_the_tensors_of_the_verified_file(
    arch: str, args: dict[str, Any], hub: Path
) -> None:
    file, _ = publish(hub, arch)
    expected = timm.create_model(arch, pretrained=True, pretrained_cfg_overlay={"file": str(file)}, **args)
    got = ours.create_model(arch, pretrained=True, **args)
    head = timm.get_pretrained_cfg(arch).classifier if args.get("num_classes") else "nothing"
    assert_alike(got, expected, except_for=head)
    config = {**expected.pretrained_cfg}
    del config["file"]  # of the overlay above
    assert {key: value for key, value in got.pretrained_cfg.items() if key in config} == config


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_resnet.r160_in1k", "timm/test_resnet", "timm/test_resnet.r160_in1k"]
)
def test_a_name_may_have_a_tag_and_timms_prefix(name: str, hub: Path) -> None:
    _, theirs = publish(hub, "test_resnet")
    assert_alike(ours.create_model(name, pretrained=True), theirs)


def test_a_created_network_serves_zoos_functions(hub: Path) -> None:
    publish(hub, "test_resnet")
    network = ours.create_model("test_resnet", pretrained=True, pretrained_cfg_overlay={"mean": (0.1, 0.2, 0.3)}).eval()
    assert network.zoo_info.name == "timm/test_resnet.r160_in1k"
    assert network.zoo_info.classes == "imagenet-1k"
    assert network.zoo_info.preprocess.mean == (0.1, 0.2, 0.3)
    assert loading_network.is_as_loaded(network)
    picture = Image.effect_noise((301, 257), 50).convert("RGB")
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=network))
    torch.testing.assert_close(zoo.preprocess(network)(picture), transform(picture))
    assert len(zoo.predict(network, picture)[0]) == 5
    assert ours.create_model("test_resnet", pretrained=True, num_classes=3).zoo_info.classes == ""


def test_other_bytes_than_those_of_the_first_use_are_refused(hub: Path, cache_dir: Path) -> None:
    file, _ = publish(hub, "test_resnet")
    for cached in cache_dir.rglob("*.safetensors"):
        cached.unlink()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(IntegrityError):
        ours.create_model("test_resnet", pretrained=True)


def test_what_is_in_no_hub_is_not_fetched_past_zoo(hub: Path) -> None:
    with pytest.raises(HubError):
        ours.create_model("test_convnext", pretrained=True)


def test_the_cache_may_be_another_folder(hub: Path, tmp_path: Path) -> None:
    publish(hub, "test_resnet")
    ours.create_model("test_resnet", pretrained=True, cache_dir=tmp_path / "mine")
    assert list((tmp_path / "mine").rglob("*.safetensors"))


def test_local_files_are_loaded_as_by_timm(tmp_path: Path) -> None:
    theirs = seeded.fill(timm.create_model("test_resnet", num_classes=4))
    timm.models.save_for_hf(theirs, tmp_path / "saved", safe_serialization=True)
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "last.pth.tar")
    assert_alike(ours.create_model(f"local-dir:{tmp_path}/saved", pretrained=True), theirs)
    assert_alike(ours.create_model("test_resnet", num_classes=4, checkpoint_path=tmp_path / "last.pth.tar"), theirs)
    overlay = {"file": str(tmp_path / "last.pth.tar"), "num_classes": 4}
    network = ours.create_model("test_resnet", pretrained=True, num_classes=4, pretrained_cfg_overlay=overlay)
    assert_alike(network, theirs)


def test_a_repository_gives_timms_network(hub_server: HubServer, tmp_path: Path) -> None:
    theirs = seeded.fill(timm.create_model("test_resnet", num_classes=3, in_chans=1))
    theirs.pretrained_cfg |= {"mean": (0.5,), "std": (0.5,)}
    timm.models.save_for_hf(theirs, tmp_path / "saved", safe_serialization=True)
    hub_server.commit("alice/mine", {file.name: file.read_bytes() for file in (tmp_path / "saved").iterdir()})
    for name in ("hf-hub:alice/mine", "hf_hub:alice/mine"):
        network = ours.create_model(name, pretrained=True)
        assert_alike(network, theirs)
        assert network.zoo_info.name == "hf-hub:alice/mine"
        assert network.pretrained_cfg["hf_hub_id"] == "alice/mine"
    assert ours.create_model("hf-hub:alice/mine", pretrained=True, num_classes=9).num_classes == 9
    overlay = {"hf_hub_id": "alice/mine", "num_classes": 3, "input_size": (1, SIZE, SIZE)}
    network = ours.create_model(
        "test_resnet", pretrained=True, num_classes=3, in_chans=1, pretrained_cfg_overlay=overlay
    )
    assert_alike(network, theirs)


@pytest.mark.parametrize(
    ("name", "args", "error", "said"),
    [
        ("resnet5o", {}, UnknownNameError, r"(?s)'resnet5o'.*Did you mean resnet50"),
        (5, {}, SpecError, "model_name = 5"),
        (
            "resnet18",
            {"pretrained_cfg_overlay": {"hf_hub_id": None, "url": "https://a.example/b.pth"}},
            WeightsError,
            r"(?s)https://a.example/b.pth.*pretrained_cfg_overlay=\{'file': FILE\}",
        ),
        ("resnet18", {"pretrained_cfg_overlay": {"hf_hub_id": "", "url": ""}}, WeightsError, "names none"),
    ],
)
def test_what_cannot_be_created_or_verified_is_named(name: Any, args: Any, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        ours.create_model(name, pretrained=True, **args)


# ---- The first pages of timm's documentation ----

SNIPPETS = {
    "load": "m = timm.create_model('mobilenetv3_small_050', pretrained=True); m.eval(); result = m(x).shape",
    "list": "result = timm.list_models(pretrained=True)",
    "pattern": "result = timm.list_models('*resne*t*')",
    "fine-tune": "result = timm.create_model('mobilenetv3_small_050', pretrained=True, num_classes=6)(x).shape",
    "features": "result = timm.create_model('mobilenetv3_small_050', pretrained=True).forward_features(x).shape",
    "transform": "result = str(timm.data.create_transform((3, 224, 224)))",
    "config": """
model = timm.create_model('mobilenetv3_small_050', pretrained=True).eval()
data_cfg = timm.data.resolve_data_config(model.pretrained_cfg)
transform = timm.data.create_transform(**data_cfg)
tensor = transform(image)
probabilities = torch.nn.functional.softmax(model(tensor.unsqueeze(0))[0], dim=0)
values, indices = torch.topk(probabilities, 5)
result = data_cfg, str(transform), tensor, indices.shape""",
    "model data config": """
model = timm.create_model('mobilenetv3_small_050', pretrained=True)
data_config = timm.data.resolve_model_data_config(model)
transforms = timm.data.create_transform(**data_config, is_training=False)
result = data_config, transforms(image)""",
    "unpooled": """
m = timm.create_model('mobilenetv3_small_050', pretrained=True, num_classes=0, global_pool='')
result = m(x).shape""",
    "removed later": """
m = timm.create_model('mobilenetv3_small_050', pretrained=True)
m.reset_classifier(0, '')
result = m(x).shape""",
    "pooled": """
m = timm.create_model('mobilenetv3_small_050', pretrained=True)
m.reset_classifier(0)
result = m(x).shape""",
    "pyramid": """
m = timm.create_model('mobilenetv3_small_050', features_only=True, pretrained=True)
result = m.feature_info.channels(), [o.shape for o in m(x)]""",
    "levels": """
m = timm.create_model('resnet10t', features_only=True, output_stride=8, out_indices=(2, 4), pretrained=True)
result = m.feature_info.channels(), m.feature_info.reduction(), [o.shape for o in m(x)]""",
    "intermediates": """
model = timm.create_model('test_vit', pretrained=True)
output, intermediates = model.forward_intermediates(image_of_160)
result = output.shape, [o.shape for o in intermediates]""",
    "pruned": """
model = timm.create_model('test_vit', pretrained=True)
indices = model.prune_intermediate_layers(indices=2, prune_head=True, prune_norm=True)
result = indices, len(model.blocks)""",
    "from": """
from timm.data import resolve_data_config
from timm.data.transforms_factory import create_transform
from timm.optim import create_optimizer_v2
model = timm.create_model('test_resnet', pretrained=True)
result = create_transform(**resolve_data_config({}, model=model))(image), type(create_optimizer_v2(model, 'adamw'))""",
}  # fmt: skip
"""Calls of the README and of the pages "quickstart" and "feature extraction", with networks small enough for a test."""


@pytest.mark.parametrize("snippet", SNIPPETS.values(), ids=SNIPPETS)
def test_a_snippet_of_timms_pages_gives_what_timm_gives(
    snippet: str, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        arch: publish(hub, arch)[0]
        for arch in ("mobilenetv3_small_050", "resnet10t", "test_resnet", "test_vit")
        if arch in snippet
    }

    class FromFiles:
        """timm itself, with the same files in place of its downloads."""

        def __getattr__(self, name: str) -> Any:
            return getattr(timm, name)

        def create_model(self, name: str, **args: Any) -> Any:
            return timm.create_model(name, pretrained_cfg_overlay={"file": str(files[name])}, **args)

    image = Image.effect_noise((301, 257), 50).convert("RGB")
    results = []
    for library in (ours, FromFiles()):
        names = {"timm": library, "torch": torch, "image": image, "x": torch.zeros(2, 3, 224, 224)}
        names["image_of_160"] = torch.zeros(1, 3, 160, 160)
        code = snippet.replace("from timm.", "from zoo.timm.") if library is ours else snippet
        with torch.no_grad():
            exec(code, names)
        results.append(names["result"])
    assert repr(results[0]) == repr(results[1])

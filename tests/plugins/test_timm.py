"""timm's models through Zoo's names, hubs and strict loading; the oracle is timm itself with the same weights."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from support import foreign, seeded
from support.distributions import run
from support.hub_server import HubServer
from torch import Tensor, nn

import zoo
from zoo import loading, names, registry
from zoo.cli.options import complete_name
from zoo.errors import (
    HubError,
    IntegrityError,
    MissingExtraError,
    TensorMismatchError,
    UnknownNameError,
    UnpinnedError,
    WeightsError,
    ZooError,
)
from zoo.loading import safetensors_file
from zoo.manifest import Weights
from zoo.registry import listing
from zoo.spec import Model
from zoo.testing import shapes, values
from zoo.testing.subject import Subject
from zoo_timm import snapshot

timm = pytest.importorskip("timm", reason="needs zoo-vision[timm]")

TAKEN = snapshot.read()

SAMPLE = (
    *("convnext_atto", "crossvit_tiny_240", "cs3darknet_focus_s", "dla46x_c", "edgenext_xx_small"),
    *("efficientvit_b0", "efficientvit_m0", "fastvit_t8", "lcnet_050", "levit_128s", "mnasnet_small"),
    *("mobilenetv3_small_050", "mobilevit_xxs", "pit_ti_224", "pvt_v2_b0", "regnetx_002", "repghostnet_050"),
    *("resnet10t", "starnet_s1", "test_byobnet", "test_efficientnet", "test_nfnet", "test_vit", "tinynet_e"),
    *("vit_tiny_patch16_224", "xcit_nano_12_p16_224"),
)
"""The smallest of as many of timm's modules as a test has time for, in no case chosen by chance."""

QUICK = (
    *("lcnet_050", "levit_128s", "mobilevit_xxs", "regnetx_002", "resnet10t", "test_vit", "tinynet_e"),
    *("xcit_nano_12_p16_224"),
)
"""Of these, convolutional networks, transformers and mixtures of both; the others are slow."""

needs_same_timm = pytest.mark.skipif(
    timm.__version__ != TAKEN.timm,
    reason=f"the snapshot is of timm {TAKEN.timm}, installed is {timm.__version__}: python -m zoo_timm.snapshot",
)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that ZOO_HUB names."""
    monkeypatch.setenv("ZOO_HUB", str(tmp_path))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    return tmp_path


def first_weights(arch: str) -> Weights:
    """Returns what timm takes for ``pretrained=True``."""
    tag = next(iter(TAKEN.models[arch].weights))
    return registry.current().find(f"timm/{arch}.{tag}").weights


def trained(name: str, **args: Any) -> nn.Module:
    """Builds timm's own network with seeded values in every tensor."""
    return seeded.fill(timm.create_model(name.removeprefix("timm/"), pretrained=False, **args))


def publish(hub: Path, entry: Weights, tensors: dict[str, Tensor]) -> Path:
    """Puts ``tensors`` where the hub has the file of ``entry``, as timm writes its files, and fetches it."""
    from safetensors.torch import save_file

    file = hub / entry.path
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, file, {"format": "pt"})
    if entry.pinned:  # the bytes are not those that were pinned: a pinned entry is given as a local file
        return file
    zoo.fetch(entry.name, source=str(hub))
    return file


def create(entry: Weights, file: Path, **args: Any) -> Any:
    if entry.pinned:
        return zoo.create(entry.arch, weights=file, **args)
    return zoo.create(entry.name, **args)


def timms(entry: Weights, file: Path, **args: Any) -> nn.Module:
    """Returns the network that timm loads from ``file``."""
    overlay = {"file": str(file), "custom_load": False}
    module: nn.Module = timm.create_model(
        entry.name.removeprefix("timm/"), pretrained=True, pretrained_cfg_overlay=overlay, **args
    )
    return module.eval()


def assert_same_state(ours: nn.Module, theirs: nn.Module, without: tuple[str, ...] = ()) -> None:
    expected = theirs.state_dict()
    state = ours.state_dict()
    assert state.keys() == expected.keys()
    for key, tensor in expected.items():
        if not key.startswith(tuple(f"{name}." for name in without)):
            assert torch.equal(state[key], tensor), key


# ---- The snapshot ----


@needs_same_timm
def test_the_snapshot_names_every_model_and_every_file_that_timm_names() -> None:
    assert list(TAKEN.models) == timm.list_models()
    inputs, without = snapshot.Inputs(), []
    for arch, about in TAKEN.models.items():
        files = snapshot.files_of(arch, inputs)
        without += [f"{arch}.{tag}" for tag, file in files.items() if file is None]
        assert list(about.weights) == [tag for tag, file in files.items() if file]
        for tag, stored in about.weights.items():
            theirs = files[tag]
            assert TAKEN.inputs[stored.input] == inputs.all[theirs.input]
            for field in ("classes", "license", "repo", "file", "url"):
                assert getattr(stored, field) == getattr(theirs, field), (arch, tag, field)
        default = timm.get_pretrained_cfg(arch)
        assert about.classes == default.num_classes
        assert about.head == snapshot._names(default.classifier)
        assert set(about.stem) <= set(snapshot._names(default.first_conv))
    assert list(TAKEN.without_file) == without


@needs_same_timm
@pytest.mark.parametrize(
    ("arch", "tag"),
    [
        ("convnext_base", "fb_in22k"),
        ("resnet18", "a3_in1k"),
        ("vit_small_patch16_384", "augreg_in21k_ft_in1k"),
        ("resnetv2_50x1_bit", "goog_in21k"),
        ("test_vit", "r160_in1k"),
    ],
)
def test_the_size_of_weights_is_that_of_timms_network_for_their_classes_and_input(arch: str, tag: str) -> None:
    found = registry.current().find(f"timm/{arch}.{tag}")
    with torch.device("meta"):
        module = timm.create_model(f"{arch}.{tag}", num_classes=found.weights.num_classes)
    counted = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    assert listing.params_of(found.model, found.weights) == counted


def test_every_name_is_one_of_the_grammar_and_finds_what_is_listed() -> None:
    current = registry.current()
    for line in zoo.list_models("timm/*") + zoo.list_models("timm/*", pretrained=True):
        name = names.parse(line)
        assert (str(name), name.plugin) == (line, "timm")
        entry = current.find(line)
        assert (entry.weights.name if entry.weights else entry.model.name) == line


def test_a_name_of_timm_and_a_short_name_are_different_models() -> None:
    found = registry.current()
    assert (found.find("resnet18").row.name, found.find("timm/resnet18").row.name) == ("resnet", "timm")
    assert not [name for name in zoo.list_models() if "/" in name]
    with pytest.raises(UnknownNameError, match=r"Did you mean timm/convnext_base\?"):
        found.find("convnext_base")


def test_asking_imports_neither_torch_nor_timm() -> None:
    code = (
        "import sys, zoo; zoo.list_models('timm/*'); zoo.list_models('timm/*', pretrained=True);"
        "zoo.info('timm/convnext_base.fb_in1k');"
        "print(sorted({'torch', 'numpy', 'timm', 'torchvision'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_listing_without_timms_name_leaves_the_snapshot_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "FILE", Path("nowhere"))
    monkeypatch.setattr(snapshot, "read", lambda: pytest.fail("it was read"))
    assert "resnet20" in zoo.list_models()
    assert zoo.list_models("resnet20*")
    assert registry.current().find("resnet20.c10").weights


def test_pins_repeat_what_the_families_manifests_pin() -> None:
    current = registry.current()
    pinned = [
        entry for entries in current.find("timm/resnet18").row.weights.values() for entry in entries if entry.pinned
    ]
    assert len(pinned) >= 9
    for entry in pinned:
        short = current.find(entry.name.removeprefix("timm/")).weights
        assert (entry.repo, entry.file, entry.revision) == (short.repo, short.file, short.revision)
        assert (entry.sha256, entry.size, entry.preprocess) == (short.sha256, short.size, short.preprocess)


# ---- Networks ----


@pytest.mark.first(1)
@needs_same_timm
@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=[] if arch in QUICK else [pytest.mark.slow]) for arch in SAMPLE]
)
def test_a_network_counts_computes_and_loads_as_timms(arch: str, hub: Path) -> None:
    entry = first_weights(arch)
    theirs = trained(entry.name)
    file = publish(hub, entry, theirs.state_dict())
    ours = create(entry, file).eval()
    assert sum(p.numel() for p in ours.parameters() if p.requires_grad) == TAKEN.models[arch].params
    assert_same_state(ours, theirs)
    images = torch.randn(2, *entry.preprocess.input_size, generator=torch.Generator().manual_seed(0))
    images[1] = 1 + 2 * images[1]
    with torch.no_grad():  # in float64: where a tensor lies in memory changes float32's rounding
        expected, got = theirs.double()(images.double()), ours.double()(images.double())
    assert expected.isfinite().all()
    assert (expected[0] - expected[1]).abs().max() > 1e-3 * expected.abs().max()
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10 * float(expected.abs().max()))
    assert zoo.loading.create.info_of(ours).model.name == f"timm/{arch}"


@pytest.mark.first(2)
@pytest.mark.parametrize(
    ("arch", "in_chans"),
    [
        ("test_resnet", 1),
        ("test_resnet", 2),
        ("test_resnet", 5),
        ("test_vit", 1),
        ("convnext_atto", 4),
        ("repvgg_a0", 1),
    ],
)
def test_other_channels_adapt_the_stem_as_timm_does(arch: str, in_chans: int, hub: Path) -> None:
    entry = first_weights(arch)
    file = publish(hub, entry, trained(entry.name).state_dict())
    assert_same_state(create(entry, file, in_chans=in_chans), timms(entry, file, in_chans=in_chans))


@pytest.mark.first(1)
@pytest.mark.parametrize("arch", ["deit_tiny_distilled_patch16_224", "test_efficientnet", "convnext_atto"])
def test_other_classes_give_a_new_head_and_leave_the_rest_as_timm_does(
    arch: str, hub: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry = first_weights(arch)
    file = publish(hub, entry, trained(entry.name).state_dict())
    ours = create(entry, file, num_classes=7)
    head = TAKEN.models[arch].head
    assert_same_state(ours, timms(entry, file, num_classes=7), without=head)
    assert f"{', '.join(head)} newly initialised for 7 classes" in caplog.text
    size = entry.preprocess.input_size if entry.preprocess else (3, 224, 224)
    assert ours.eval()(torch.zeros(1, *size)).shape == (1, 7)


@pytest.mark.slow
def test_a_stem_that_is_no_convolution_of_the_input_is_not_adapted(hub: Path) -> None:
    """TResNet's first convolution has 48 inputs, of four by four pixels of three channels."""
    assert TAKEN.models["tresnet_m"].stem == ()
    file = hub / "tresnet_m.safetensors"
    safetensors_file.write(timm.create_model("tresnet_m").state_dict(), file, {})
    assert zoo.create("timm/tresnet_m", weights=file).body.conv1.conv.in_channels == 48
    with pytest.raises(TensorMismatchError, match=r"body.conv1.conv.weight: expected \(64, 16, 3, 3\)"):
        zoo.create("timm/tresnet_m", weights=file, in_chans=1)


def test_a_network_without_classes_gives_features_and_says_so(hub: Path) -> None:
    name = "timm/convnextv2_atto.fcmae"
    entry = registry.current().find(name).weights
    assert entry.num_classes == 0
    theirs = trained(name)
    file = publish(hub, entry, theirs.state_dict())
    ours = create(entry, file).eval()
    assert_same_state(ours, theirs)
    assert ours(torch.zeros(1, 3, 224, 224)).shape == (1, 320)
    with pytest.raises(WeightsError, match="has no classes: the network only computes features"):
        zoo.evaluate(ours, "digits")
    assert zoo.create(name, num_classes=3).head.fc.out_features == 3
    assert zoo.create("timm/convnextv2_atto").head.fc.out_features == 1000


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit", "convnext_atto", "mobilevit_xxs"])
@pytest.mark.parametrize(
    "check",
    [
        shapes.row,
        shapes.parameters,
        shapes.num_classes,
        shapes.in_chans,
        shapes.reset_classifier,
        values.forward,
        values.skipped_initialisation,
        values.round_trip,
        values.gradients,
    ],
    ids=lambda check: check.__name__,
)
def test_conformance(arch: str, check: Any) -> None:
    """The kit's checks that do not ask for more than timm's interface promises, on a handful of models.

    All of them on 1,371 models would take hours and test timm; what the bridge adds is the same for each.
    """
    check(Subject("timm", registry.current().find(f"timm/{arch}").model))


# ---- Files that are not as the network's state is ----


def test_a_file_of_another_input_size_goes_through_timms_filter(hub: Path) -> None:
    """Position embeddings are interpolated: 14 x 14 places to 24 x 24."""
    entry = first_weights("vit_tiny_patch16_384")
    state = trained("vit_tiny_patch16_224").state_dict()
    assert state["pos_embed"].shape[1] == 1 + 14 * 14
    file = publish(hub, entry, state)
    ours = create(entry, file)
    assert ours.pos_embed.shape[1] == 1 + 24 * 24
    assert_same_state(ours, timms(entry, file))


@pytest.mark.slow
def test_a_file_with_older_names_goes_through_timms_filter(hub: Path) -> None:
    """CrossViT's authors write pos_embed.0 where timm has pos_embed_0; that filter takes no module."""
    entry = first_weights("crossvit_tiny_240")
    theirs = trained(entry.name)
    older = {
        key.replace("_", ".").replace(".embed", "_embed").replace(".token", "_token")
        if key.startswith(("pos_embed", "cls_token"))
        else key: tensor
        for key, tensor in theirs.state_dict().items()
    }
    assert {"pos_embed.0", "cls_token.1"} <= older.keys()
    file = publish(hub, entry, older)
    assert_same_state(create(entry, file), theirs)


def test_buffers_that_older_files_keep_are_dropped_by_timms_filter_alone(hub: Path) -> None:
    entry = first_weights("levit_128s")
    theirs = trained(entry.name)
    extra = {"stages.0.blocks.0.attn.attention_bias_idxs": torch.zeros(4, 4, dtype=torch.int64)}
    publish(hub, entry, {**theirs.state_dict(), **extra})
    assert_same_state(zoo.create(entry.name), theirs)


def test_what_timm_lets_a_file_have_too_much_is_left_out_and_told(hub: Path, caplog: pytest.LogCaptureFixture) -> None:
    """timm loads DLA's files with ``strict=False``, LCNet's it does not."""
    extra = {"auxiliary.weight": torch.zeros(2, 2)}
    lenient, strict = first_weights("dla46x_c"), first_weights("lcnet_050")
    theirs = trained(lenient.name)
    publish(hub, lenient, {**theirs.state_dict(), **extra})
    assert_same_state(zoo.create(lenient.name), theirs)
    assert "left out, as timm does: auxiliary.weight" in caplog.text
    publish(hub, strict, {**trained(strict.name).state_dict(), **extra})
    with pytest.raises(TensorMismatchError, match=r"unexpected  auxiliary\.weight"):
        zoo.create(strict.name)


def test_what_timm_lets_a_file_lack_is_an_error(hub: Path) -> None:
    entry = first_weights("dla46x_c")
    state = trained(entry.name).state_dict()
    del state["base_layer.0.weight"]
    publish(hub, entry, state)
    with pytest.raises(TensorMismatchError, match=r"missing     base_layer\.0\.weight"):
        zoo.create(entry.name)


@pytest.mark.slow
def test_torchvisions_inception_loads_without_its_auxiliary_classifier(hub: Path) -> None:
    theirs = timm.create_model("inception_v3", aux_logits=True)
    for name in ("timm/inception_v3.tv_in1k", "timm/inception_v3.tf_in1k"):
        entry = registry.current().find(name).weights
        publish(hub, entry, theirs.state_dict())
    ours = zoo.create("timm/inception_v3.tv_in1k").state_dict()
    assert all(torch.equal(tensor, theirs.state_dict()[key]) for key, tensor in ours.items())
    with pytest.raises(TensorMismatchError, match="unexpected  AuxLogits"):
        zoo.create("timm/inception_v3.tf_in1k")


def test_timm_loads_in_another_thread_while_its_filter_is_asked_for(hub: Path) -> None:
    """Whoever calls timm meanwhile must not get a network without its weights."""
    from zoo_timm import model as bridge

    entry = first_weights("test_resnet")
    theirs = trained(entry.name)
    file = publish(hub, entry, theirs.state_dict())
    loaded: list[nn.Module] = []
    noted: dict[str, Any] = {}
    with bridge.instead_of_loading(lambda _, **about: noted.update(about)):
        thread = threading.Thread(target=lambda: loaded.append(timms(entry, file)))
        thread.start()
        thread.join()
    assert noted == {}
    assert_same_state(loaded[0], theirs)


def test_a_file_of_another_network_is_an_error_even_where_the_filter_breaks(hub: Path) -> None:
    entry = first_weights("test_vit")
    publish(hub, entry, {"pos_embed": torch.zeros(3), "blocks": torch.zeros(1)})
    with pytest.raises(TensorMismatchError, match="unexpected  blocks"):
        zoo.create(entry.name)


def test_a_pickle_that_timm_names_is_converted(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign.calls_here(monkeypatch)
    theirs = trained("test_vit")
    torch.save(theirs.state_dict(), hub / "old.pth")
    foreign.offer(
        hub, hub / "old.pth", '"timm/test_vit".own', known="", args='{ tag = "r160_in1k" }', key_map='"as-is"'
    )
    assert_same_state(zoo.create("timm/test_vit.own"), theirs)


def test_a_pickle_becomes_weights_of_timms_network(hub: Path) -> None:
    from zoo.convert import convert

    theirs = trained("test_resnet")
    torch.save({"state_dict": theirs.state_dict()}, hub / "old.pth")
    report = convert(hub / "old.pth", "timm/test_resnet.own", hub / "test_resnet.own.safetensors")
    assert (report.model, report.weights) == ("timm/test_resnet", "timm/test_resnet.own")
    registry.clear()
    assert_same_state(zoo.create("timm/test_resnet.own"), theirs)


# ---- Names in files, fetching, the command line ----


def test_weights_of_timms_resnet18_are_not_taken_for_zoos(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    module, info = loading.build(registry.current().find("timm/resnet18").model)
    safetensors_file.write(module.state_dict(), file, {"model": info.model.name})
    zoo.create("timm/resnet18", weights=file)
    with pytest.raises(WeightsError, match="has weights of timm/resnet18, not of resnet18"):
        zoo.create("resnet18", weights=file)


@pytest.mark.parametrize(
    "args",
    [{"model_name": "hf-hub:alice/tiny"}, {"checkpoint_path": "other.pth"}, {"pretrained_cfg": {"hf_hub_id": "a/b"}}],
    ids=lambda args: next(iter(args)),
)
def test_a_file_does_not_choose_another_network_and_nobody_is_asked(
    args: dict[str, Any], tmp_path: Path, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    template = f"{hub_server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_TOKEN", "token-of-alice")
    file = tmp_path / "mine.safetensors"
    safetensors_file.write(
        timm.create_model("test_resnet").state_dict(), file, {"model": "timm/test_resnet", "args": args}
    )
    with pytest.raises(ZooError, match=next(iter(args))):
        zoo.create("timm/test_resnet", weights=file)
    assert hub_server.requests == []


@pytest.mark.slow
def test_a_network_of_timm_is_trained_and_its_file_says_whose_it_is(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="digits need scikit-learn")
    zoo.train("timm/test_resnet", "digits", recipe="default", settings={"epochs": 1}, output=tmp_path)
    file = tmp_path / "model.safetensors"
    about = safetensors_file.metadata(file)
    assert about["model"] == about["run"]["model"] == "timm/test_resnet"
    report = zoo.evaluate("timm/test_resnet", "digits", weights=file)
    assert (report.model, report.n) == ("timm/test_resnet", 360)


def test_weights_are_pinned_on_first_use_or_refused(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = first_weights("test_resnet")
    with monkeypatch.context() as strict:
        strict.setenv("ZOO_STRICT", "1")
        with pytest.raises(UnpinnedError, match=r"timm/test_resnet\.r160_in1k is not pinned"):
            zoo.create(entry.name)
        with pytest.raises(UnpinnedError, match="ZOO_STRICT=1 refuses first use"):
            zoo.create("timm/test_resnet", pretrained=True)
    publish(hub, entry, trained(entry.name).state_dict())
    zoo.create(entry.name)
    pinned = registry.current().find("timm/resnet18.a1_in1k").weights
    publish(hub, pinned, {"fc.weight": torch.zeros(1)})
    with pytest.raises(IntegrityError, match=r"resnet18\.a1_in1k"):
        zoo.create(pinned.name)


def test_a_hub_without_safetensors_is_told_by_the_files_name(hub: Path) -> None:
    with pytest.raises(HubError, match=r"timm/test_vit\.r160_in1k/model\.safetensors"):
        zoo.fetch("timm/test_vit")


def test_without_timm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "timm" else find(name))
    assert "timm/resnet18" in zoo.list_models("timm/*")
    with pytest.raises(MissingExtraError, match=r"pip install 'zoo-vision\[timm\]'"):
        zoo.create("timm/resnet18")


@pytest.mark.slow
def test_the_list_says_what_it_left_out_to_people_alone() -> None:
    done = run("list", "resnet2*")
    assert "timm/" not in done.stdout
    assert "zoo list 'timm/resnet2*'" in done.stderr
    done = run("list", "resnet2*", "--json")
    assert done.stderr == ""
    assert not [row for row in json.loads(done.stdout) if "/" in row["name"]]
    done = run("list", "timm/convnext_b*", "--json")
    (row,) = json.loads(done.stdout)
    assert (row["name"], row["family"], row["params"]) == ("timm/convnext_base", "timm", 88_591_464)


def test_a_shell_completes_timms_names_once_its_slash_is_typed() -> None:
    def complete(text: str) -> list[str]:
        return complete_name(None, None, text)

    assert complete("tim") == ["timm/"]
    assert complete("timm/convnext_bas") == ["timm/convnext_base"]
    assert "timm/convnext_base.fb_in1k" in complete("timm/convnext_base.fb")
    assert not [name for name in complete("res") if "/" in name]


# ---- The loader's own promise ----


def net(*, num_classes: int, in_chans: int) -> nn.Module:
    return nn.Linear(in_chans, num_classes)


def give_back(tensors: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    return module.state_dict()


def test_a_translation_cannot_pass_off_what_the_module_has_as_the_files(tmp_path: Path) -> None:
    model = Model("net", build=f"{__name__}:net", translate=f"{__name__}:give_back")
    file = tmp_path / "net.safetensors"
    safetensors_file.write({"weight": torch.zeros(1000, 3)}, file, {})
    with pytest.raises(TensorMismatchError, match="missing     bias"):
        loading.build_from(file, model)


def test_what_a_name_means_is_what_it_means_in_timm() -> None:
    """Also of Zoo's own families, for every name that both have."""
    held = registry.current()
    compared = 0
    for name in [*listing.list_models(), *listing.list_models("timm/*")]:
        match, arch = held.find(name), name.removeprefix("timm/")
        config = timm.get_pretrained_cfg(arch) if timm.is_model(arch) else None
        if config and config.tag in {weights.tag for weights in held.own_weights_of(match.row, match.model)}:
            default = held.default_of(match.row, match.model)
            assert default is not None
            assert default.tag == config.tag, name
            compared += 1
    assert compared > 1000

"""torchvision's networks through Zoo's names and strict loading; the oracle is torchvision with the same weights."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support import foreign, seeded
from torch import Tensor, nn

import zoo
from zoo import registry
from zoo.data.preprocess import Transform
from zoo.errors import MissingExtraError, SpecError
from zoo.loading import safetensors_file
from zoo.manifest import Weights
from zoo.registry import listing
from zoo.testing import shapes, values
from zoo.testing.subject import Subject
from zoo.verify import probe
from zoo_torchvision import collection, snapshot

torchvision = pytest.importorskip("torchvision", reason="needs zoo-vision[torchvision]")
models = torchvision.models

TAKEN = snapshot.read()

QUICK = ("mnasnet0_5", "mobilenet_v3_small", "regnet_y_400mf", "shufflenet_v2_x0_5", "squeezenet1_1")
SLOW = (
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t"),
    *("mobilenet_v2", "resnet18", "swin_t", "vgg11", "vit_b_16"),
)
EVERY_KIND = (*QUICK, *(pytest.param(arch, marks=pytest.mark.slow) for arch in SLOW))
"""The smallest network of each of torchvision's modules."""

needs_same_torchvision = pytest.mark.skipif(
    torchvision.__version__.partition("+")[0] != TAKEN.torchvision,
    reason=f"the snapshot is of torchvision {TAKEN.torchvision}, installed is {torchvision.__version__}: "
    "python -m zoo_torchvision.snapshot",
)


def entry_of(name: str) -> Weights:
    return registry.current().find(f"torchvision/{name}").weights


def trained(arch: str, **args: Any) -> nn.Module:
    """Builds torchvision's own network with seeded values in every tensor."""
    return seeded.fill(models.get_model(arch, weights=None, **args))


def write(module: nn.Module, file: Path, about: dict[str, Any] | None = None) -> Path:
    safetensors_file.write(module.state_dict(), file, about or {})
    return file


def images(size: int) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def assert_same_outputs(ours: nn.Module, theirs: nn.Module, size: int) -> None:
    """Compares bit for bit: both networks get the same tensors in memory, since its alignment changes float32's
    rounding."""
    expected = theirs.state_dict()
    state = ours.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], tensor) for key, tensor in expected.items())
    theirs.load_state_dict(state, assign=True)
    with torch.no_grad():
        wanted, got = theirs.eval()(images(size)), ours.eval()(images(size))
    assert wanted.isfinite().all()
    assert not torch.equal(wanted[0], wanted[1])
    assert torch.equal(got, wanted)


# ---- The snapshot ----


@needs_same_torchvision
@pytest.mark.may_skip  # of another release
def test_the_snapshot_has_every_classification_network_and_every_file_of_torchvision() -> None:
    assert list(TAKEN.models) == models.list_models(module=models)
    without = []
    for arch, about in TAKEN.models.items():
        stored = dict(about.weights)
        for entry in models.get_model_weights(arch):
            name = entry.name.lower()
            if entry.meta["categories"] is None:
                without.append(f"{arch}.{name}")
                continue
            file = stored.pop(name)
            accuracy = entry.meta["_metrics"]["ImageNet-1K"]
            assert (file.url, file.top1, file.top5) == (entry.url, accuracy["acc@1"], accuracy["acc@5"])
            assert file.license == entry.meta.get("license", "")
            assert len(entry.meta["categories"]) == 1000
        assert stored == {}
        assert next(iter(about.weights)) == models.get_model_weights(arch).DEFAULT.name.lower()
    assert list(TAKEN.without_head) == without == ["vgg16.imagenet1k_features"]


@needs_same_torchvision
@pytest.mark.may_skip  # of another release
def test_parameters_are_those_that_torchvision_states() -> None:
    """It counts the auxiliary classifiers of Inception v3, which neither it nor Zoo keeps."""
    for arch in TAKEN.models:
        for entry in models.get_model_weights(arch):
            if entry.meta["categories"] is None:
                continue
            entry_here = registry.current().find(f"torchvision/{arch}.{entry.name.lower()}")
            counted = listing.params_of(entry_here.model, entry_here.weights)
            assert counted == entry.meta["num_params"] - (3_326_696 if arch == "inception_v3" else 0), entry


@needs_same_torchvision
@pytest.mark.may_skip  # of another release
def test_images_are_prepared_as_by_torchvision_bit_for_bit() -> None:
    kinds = {
        repr(file.preprocess): (arch, tag)
        for arch, about in TAKEN.models.items()
        for tag, file in about.weights.items()
    }
    assert len(kinds) > 20
    photograph = Image.open(probe.__file__.replace(".py", ".png")).convert("RGB")
    for arch, tag in kinds.values():
        theirs = models.get_model_weights(arch)[tag.upper()].transforms()
        for picture in (photograph, photograph.crop((0, 0, 131, 300))):
            ours = Transform(TAKEN.models[arch].weights[tag].preprocess)(picture)
            assert torch.equal(ours, theirs(picture)), f"{arch}.{tag}"


def test_the_files_of_published_digests_are_pinned_and_otherwise_as_in_the_snapshot() -> None:
    row = registry.current().find("torchvision/resnet18").row
    pinned = [entry for entries in row.weights.values() for entry in entries if entry.pinned]
    assert len(pinned) == 20
    for entry in pinned:
        assert entry.sha256.startswith(collection.hash_in(entry.file))
        about = TAKEN.models[entry.arch.rpartition("/")[2]].weights[entry.tag]
        arch = entry.arch.removeprefix("torchvision/")
        assert entry == collection.weights_of(TAKEN.torchvision, arch, entry.tag, about, entry.sha256, entry.size)


def test_a_file_that_is_not_pinned_states_the_beginning_of_its_sha256() -> None:
    rows = registry.current().find("torchvision/resnet18").row.weights.values()
    unpinned = [entry for entries in rows for entry in entries if not entry.pinned]
    assert len(unpinned) == 94
    assert all(len(entry.sha256_prefix) >= 8 for entry in unpinned)
    assert {entry.hub for entry in unpinned} == {"https://download.pytorch.org/models"}


def test_default_weights_are_torchvisions_default_where_the_digest_is_known() -> None:
    assert zoo.info("torchvision/resnet50")["weights"][0]["tag"] == "imagenet1k_v2"
    assert zoo.info("torchvision/convnext_tiny.imagenet1k_v1")["weights"][0]["scores"]["imagenet-1k/validation"] == {
        "n": 50000,
        "source": f"torchvision {TAKEN.torchvision}, ConvNeXt_Tiny_Weights.IMAGENET1K_V1",
        "top1": 82.52,
        "top5": 96.146,
    }


def test_weights_of_swag_have_their_own_licence() -> None:
    assert entry_of("vit_h_14.imagenet1k_swag_e2e_v1").license.weights == "CC-BY-NC-4.0"
    assert entry_of("vit_b_16.imagenet1k_v1").license.weights == "unknown"


def test_listing_imports_neither_torch_nor_torchvision() -> None:
    code = (
        "import sys, zoo; zoo.list_models('torchvision/*'); zoo.list_models('torchvision/*', pretrained=True);"
        "zoo.info('torchvision/convnext_base.imagenet1k_v1');"
        "print(sorted({'torch', 'numpy', 'timm', 'torchvision'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_torchvision_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torchvision" else find(name))
    assert "torchvision/resnet18" in zoo.list_models("torchvision/*")
    with pytest.raises(MissingExtraError, match=r"pip install 'zoo-vision\[torchvision\]'"):
        zoo.create("torchvision/resnet18")


# ---- Networks ----


@pytest.mark.first(2)
@pytest.mark.parametrize("arch", EVERY_KIND)
def test_a_network_loads_torchvisions_tensors_and_computes_its_outputs(arch: str, tmp_path: Path) -> None:
    args = {"aux_logits": False, "init_weights": False} if arch in ("googlenet", "inception_v3") else {}
    theirs = trained(arch, **args)
    ours = zoo.create(f"torchvision/{arch}", weights=write(theirs, tmp_path / "model.safetensors"))
    assert_same_outputs(ours, theirs, 224 if arch in ("maxvit_t", "vit_b_16") else 96)


@pytest.mark.parametrize(
    ("arch", "aux"), [("googlenet", 6_379_984), pytest.param("inception_v3", 3_326_696, marks=pytest.mark.slow)]
)
def test_auxiliary_classifiers_are_left_out_and_the_input_is_transformed(arch: str, aux: int, tmp_path: Path) -> None:
    """As torchvision does for weights: its file has them, its network is rid of them."""
    theirs: Any = trained(arch, aux_logits=True, init_weights=False, transform_input=True)
    entry = entry_of(f"{arch}.imagenet1k_v1")
    file = write(theirs, tmp_path / "model.safetensors", {"args": dict(entry.args)})
    ours = zoo.create(entry.arch, weights=file)
    surplus = sum(p.numel() for p in theirs.parameters()) - sum(p.numel() for p in ours.parameters())
    assert surplus == aux
    theirs.aux_logits = False
    theirs.aux1 = theirs.aux2 = theirs.AuxLogits = None
    assert_same_outputs(ours, theirs, 96)
    assert isinstance(ours.train()(images(96)), Tensor)


@pytest.mark.slow
@pytest.mark.first(1)
@pytest.mark.parametrize("arch", ["mnasnet0_5", "googlenet"])
def test_a_pickle_as_torchvision_publishes_it_is_converted_once_and_created(
    arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_HUB", "")
    converted = foreign.calls_here(monkeypatch)
    is_old = arch == "googlenet"
    theirs: Any = trained(
        arch, **({"aux_logits": True, "init_weights": False, "transform_input": True} if is_old else {})
    )
    torch.save(theirs.state_dict(), tmp_path / f"{arch}.pth")
    args = "{ transform_input = true }" if is_old else "{}"
    foreign.offer(tmp_path / "hub", tmp_path / f"{arch}.pth", f'"torchvision/{arch}".own', args=args)
    ours = [zoo.create(f"torchvision/{arch}.own") for _ in range(2)]
    assert len(converted) == 1
    theirs.aux_logits, theirs.aux1, theirs.aux2 = False, None, None
    assert_same_outputs(ours[1], theirs, 96)


def test_densenets_old_names_are_read(tmp_path: Path) -> None:
    """Its files are of 2017: ``norm.1.weight``, and no count of batches."""
    theirs = trained("densenet121")
    tensors = [item for item in theirs.state_dict().items() if not item[0].endswith("num_batches_tracked")]
    old = {re.sub(r"(denselayer\d+\.[a-z]+)(\d)", r"\1.\2", key): tensor for key, tensor in tensors}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    safetensors_file.write(old, tmp_path / "model.safetensors", {})
    ours = zoo.create("torchvision/densenet121", weights=tmp_path / "model.safetensors")
    assert_same_outputs(ours, theirs, 64)


@pytest.mark.slow
def test_a_vision_transformer_is_built_for_the_image_size_of_its_weights(tmp_path: Path) -> None:
    entry = entry_of("vit_b_16.imagenet1k_swag_e2e_v1")
    theirs = trained("vit_b_16", image_size=384)
    file = write(theirs, tmp_path / "model.safetensors", {"args": dict(entry.args)})
    ours = zoo.create(entry.arch, weights=file).state_dict()
    assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.state_dict().items())
    assert entry.preprocess.input_size == (3, 384, 384)


def test_other_classes_and_channels_adapt_head_and_stem(tmp_path: Path) -> None:
    theirs = trained("squeezenet1_1")
    file = write(theirs, tmp_path / "model.safetensors")
    ours = zoo.create("torchvision/squeezenet1_1", weights=file, num_classes=7, in_chans=1).eval()
    before, after = theirs.state_dict(), ours.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"classifier.1.weight", "classifier.1.bias", "features.0.weight"}
    torch.testing.assert_close(after["features.0.weight"], before["features.0.weight"].sum(dim=1, keepdim=True))
    assert ours(torch.zeros(1, 1, 64, 64)).shape == (1, 7)


def test_inputs_of_another_number_of_channels_are_not_transformed() -> None:
    with pytest.raises(SpecError, match="googlenet with transform_input takes 3 channels, not 1"):
        zoo.create("torchvision/googlenet", in_chans=1, transform_input=True)


@pytest.mark.first(12)
@pytest.mark.parametrize("arch", EVERY_KIND)
@pytest.mark.parametrize(
    "check",
    [
        shapes.row,
        shapes.interface,
        shapes.parameters,
        shapes.num_classes,
        shapes.in_chans,
        shapes.reset_classifier,
        shapes.features,
        values.forward,
        values.determinism,
        values.skipped_initialisation,
        values.round_trip,
        values.gradients,
        values.copies,
    ],
    ids=lambda check: check.__name__,
)
def test_conformance(arch: str, check: Any) -> None:
    if arch == "vit_b_16" and check is shapes.interface:
        pytest.skip("its features are tokens, B N C, as timm's are")
    check(Subject("torchvision", registry.current().find(f"torchvision/{arch}").model))

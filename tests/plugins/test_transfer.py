"""From one data set to another: weights to start from, what learns and how fast, features, other classifiers."""

import hashlib
import json
import logging
import math
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support import specimen
from support.command import ask_warm as ask
from torch import Tensor, nn

import zoo
from zoo.data import ImageSet
from zoo.errors import DataError, RecipeError, SpecError, TrainingError, UnknownNameError, WeightsError, ZooError
from zoo.loading import safetensors_file
from zoo.training import Recipe, optimization
from zoo.training.optimization import by_layer, freeze
from zoo.training.run import Silent
from zoo_transfer import classifiers, extraction
from zoo_transfer.classifiers import classify
from zoo_transfer.extraction import Features, Origin

KINDS = ("a", "b", "c", "d")
PLAIN = {"epochs": 1, "lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "schedule": "constant"}
PLAIN |= {"precision": "float32", "input_size": 8, "batch_size": 32}
"""The simplest training there is: steps of gradient descent."""


def images(count: int = 64, *, channels: int = 3, name: str = "rows", is_resident: bool = True) -> ImageSet:
    """Returns noise with a bright row that tells the class of four."""
    labels = torch.arange(count) % 4
    pixels = torch.randint(100, (count, channels, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels[torch.arange(count), :, 2 * labels] += 150
    if is_resident:
        return ImageSet(name, "train", KINDS, labels, pixels)
    read = lambda index: Image.fromarray(pixels[index].permute(1, 2, 0).numpy())  # noqa: E731
    return ImageSet(name, "train", KINDS, labels, read=read, channels=3)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of resnet20's weights that knows ten classes of colour images of its own."""
    file = tmp_path_factory.mktemp("start") / "start.safetensors"
    torch.manual_seed(7)
    model = zoo.create("resnet20")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # not the state of a new network
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
    safetensors_file.write(model.state_dict(), file, {"model": "resnet20", "classes": "cifar10"})
    return file


def train(output: Path, start: Path | str | None, data: ImageSet | None = None, **options: Any) -> nn.Module:
    settings = PLAIN | options.pop("settings", {})
    options.setdefault("display", Silent())
    return zoo.train(
        options.pop("name", "resnet20"), data or images(), init=start, recipe="default", settings=settings,
        output=output, device="cpu", **options,
    )  # fmt: skip


def lies_in(name: str, parts: tuple[str, ...]) -> bool:
    return any(name.startswith(f"{part}.") for part in parts)


# ---- trained weights to start from --------------------------------------------------------------------


def test_only_the_head_is_new_and_it_is_said(tmp_path: Path, start: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = train(tmp_path / "run", start, settings={"lr": 0.0})
    before = safetensors_file.read(start)
    differing = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert differing == {"fc.weight", "fc.bias"}
    assert model.get_parameter("fc.weight").shape == (4, 64)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        f"{start}: fc newly initialised for the 4 classes of rows"
    ]


def test_a_head_for_as_many_other_classes_is_new_too_and_one_for_the_same_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = train(tmp_path / "rows", None)
    weights = tmp_path / "rows" / "model.safetensors"
    same = train(tmp_path / "same", weights, settings={"lr": 0.0})
    assert torch.equal(same.get_parameter("fc.weight"), mine.get_parameter("fc.weight"))
    assert not caplog.records
    columns = ImageSet("columns", "train", ("e", "f", "g", "h"), images().labels, images().pixels)
    other = train(tmp_path / "other", weights, columns, settings={"lr": 0.0})
    assert not torch.equal(other.get_parameter("fc.weight"), mine.get_parameter("fc.weight"))
    assert "fc newly initialised for the 4 classes of columns" in caplog.text


EVERY_HEAD = (
    *("airbench94", "alexnet_small", "densenet_bc_40_12", "dtp_mlp", "fractalnet20_narrow", "gcn4_3x3"),
    *("googlenet_small", "hmax", "orn8_align", "resnet20", "ror3_56", "scatter_linear", "stn_cnn_mnist", "vgg11"),
)
"""Networks whose heads differ."""


@pytest.mark.parametrize("name", EVERY_HEAD)
def test_a_new_head_has_the_type_and_lies_on_the_device_of_its_network(name: str) -> None:
    with torch.device("meta"):
        network: Any = zoo.create(name)
    network.to(device="meta", dtype=torch.float64).reset_classifier(7)
    for parameter in network.get_classifier().parameters():
        assert (parameter.device.type, parameter.dtype) == ("meta", torch.float64)


def test_the_new_head_follows_the_recipes_seed(tmp_path: Path, start: Path) -> None:
    first, again, other = (
        train(tmp_path / str(number), start, settings={"lr": 0.0, "seed": seed}).get_parameter("fc.weight")
        for number, seed in enumerate((1, 1, 2))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_for_grey_images_the_stem_is_summed_and_the_weights_own_normalisation_averaged(
    tmp_path: Path, start: Path
) -> None:
    model = train(tmp_path / "run", start, images(channels=1), settings={"lr": 0.0})
    expected = safetensors_file.read(start)["conv1.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(model.get_parameter("conv1.weight"), expected)
    about = safetensors_file.metadata(tmp_path / "run" / "model.safetensors")
    assert about["preprocess"]["mean"] == [pytest.approx((0.4914 + 0.4822 + 0.4465) / 3)]


def test_the_record_names_the_weights_with_their_sha256(tmp_path: Path, start: Path) -> None:
    model = train(tmp_path / "run", start)
    expected = {"weights": str(start), "sha256": hashlib.sha256(start.read_bytes()).hexdigest()}
    about = safetensors_file.metadata(tmp_path / "run" / "model.safetensors")
    assert about["run"]["init"] == expected
    assert json.loads((tmp_path / "run" / "config.json").read_text())["init"] == expected
    assert about["origin"].endswith("from start.safetensors")
    assert model.zoo_info.weights is None  # what it holds now is not what they name
    assert model.zoo_info.name == "resnet20"


def test_a_run_that_starts_from_weights_resumes_bit_by_bit_and_from_no_others(tmp_path: Path, start: Path) -> None:
    settings = {"epochs": 3, "layer_decay": 0.5, "freeze": ["layer1"], "momentum": 0.9}
    whole = train(tmp_path / "whole", start, settings=settings).state_dict()
    train(tmp_path / "run", start, settings=settings, stop_after=1)
    model = zoo.create("resnet20")
    other = tmp_path / "other.safetensors"
    safetensors_file.write(model.state_dict(), other, {"model": "resnet20"})
    with pytest.raises(TrainingError, match=r"init\.sha256"):
        train(tmp_path / "run", other, settings=settings, resume=True)
    moved = shutil.copy(start, tmp_path / "moved.safetensors")
    resumed = train(tmp_path / "run", Path(moved), settings=settings, resume=True).state_dict()
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


def test_weights_that_whiten_keep_their_whitening_or_get_another(tmp_path: Path) -> None:
    first = train(tmp_path / "first", None, settings={"normalize": "zca"})
    weights = tmp_path / "first" / "model.safetensors"
    kept = train(tmp_path / "kept", weights, settings={"lr": 0.0})
    assert torch.equal(kept.get_buffer("whitening.matrix"), first.get_buffer("whitening.matrix"))
    other = images(name="other").subset(torch.arange(40), "train")
    fitted = train(tmp_path / "fitted", weights, other, settings={"normalize": "zca"})
    assert not torch.equal(fitted.get_buffer("whitening.matrix"), first.get_buffer("whitening.matrix"))
    with pytest.raises(RecipeError, match=r"whitening for images \(3, 8, 8\)(?s:.)*normalize=zca"):
        train(tmp_path / "refused", weights, settings={"normalize": "standardize"})


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    torch.save({}, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


@pytest.mark.parametrize(
    ("init", "settings", "kind", "message"),
    [
        ("nowhere.safetensors", {}, WeightsError, "nowhere.safetensors: cannot be read"),
        ("plain20.c10", {}, WeightsError, "weights of plain20, not of resnet20.\nzoo train plain20 --init plain20.c10"),
        ("OTHER", {}, WeightsError, "has weights of resnet32, not of resnet20"),
        ("UNFIT", {}, WeightsError, "does not fit ResNet"),
        ("PICKLE", {}, WeightsError, "this is a pickle"),
        ("resnet20.c1", {}, UnknownNameError, "Did you mean resnet20.c10"),
        ("START", {"freeze": ["layer_1"]}, RecipeError, "does not match any part of this ResNet.\nDid you mean layer1"),
        ("START", {"freeze": ["xyz"]}, RecipeError, "Available: backbone, conv1, bn1"),
        ("START", {"freeze": ["*"]}, RecipeError, "freezes all parameters"),
        ("START", {"freeze": ["backbone", "fc"]}, RecipeError, "freezes all parameters"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    tmp_path: Path, start: Path, pickled: Path, init: str, settings: dict[str, Any], kind: type[ZooError], message: str
) -> None:
    other, unfit = tmp_path / "other.safetensors", tmp_path / "unfit.safetensors"
    safetensors_file.write(safetensors_file.read(start), other, {"model": "resnet32"})
    safetensors_file.write({"x": torch.zeros(2)}, unfit, {})
    init = {"START": start, "OTHER": other, "UNFIT": unfit, "PICKLE": pickled}.get(init, init)
    with pytest.raises(kind) as caught:
        train(tmp_path / "run", init, settings=settings)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_name_of_weights_is_not_silently_trained_from_scratch(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"--init resnet20\.digits"):
        train(tmp_path / "run", None, name="resnet20.digits")


# ---- which parameters learn ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "parts"),
    [
        (["conv1", "bn1", "layer1"], ("conv1", "bn1", "layer1")),
        (["layer[12]"], ("layer1", "layer2")),
        (["backbone"], ("conv1", "bn1", "layer1", "layer2", "layer3")),
    ],
)
@pytest.mark.parametrize("more", [{}, {"ema": 0.5, "lookahead": {"every": 1}, "weight_decay": 0.1}])
def test_frozen_parts_stay_bit_by_bit_and_all_others_move(
    tmp_path: Path, start: Path, patterns: list[str], parts: tuple[str, ...], more: dict[str, Any]
) -> None:
    state = train(tmp_path / "run", start, settings={"freeze": patterns, **more}).state_dict()
    held = safetensors_file.read(start)
    unmoved = {name for name in state if state[name].shape == held[name].shape and torch.equal(state[name], held[name])}
    assert unmoved == {name for name in state if lies_in(name, parts)}


def test_a_single_parameter_can_be_frozen(start: Path) -> None:
    model = zoo.create("resnet20", weights=start)
    assert freeze(model, ("layer1.0.conv1.weight",)) == []
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen == ["layer1.0.conv1.weight"]


def test_parameters_that_no_submodule_owns_belong_to_the_backbone() -> None:
    model = zoo.create("resnet20")
    model.register_parameter("token", nn.Parameter(torch.zeros(3)))
    freeze(model, ("backbone",))
    assert [name for name, value in model.named_parameters() if value.requires_grad] == ["fc.weight", "fc.bias"]


def test_head_and_stages_of_a_foreign_module_are_unknown() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    for act in (lambda: freeze(model, ("backbone",)), lambda: by_layer(model, Recipe(layer_decay=0.5))):
        with pytest.raises(RecipeError, match=r"not created by Zoo(?s:.)*parameter_groups"):
            act()
    assert len(freeze(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), ("0",))) == 1


def test_a_linear_probe_reaches_the_optimum_of_softmax_regression_on_the_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same convex objective, solved by scikit-learn: mean cross-entropy + decay / 2 |weights|^2."""
    linear_model = pytest.importorskip("sklearn.linear_model", reason="needs zoo-vision[data]")
    specimen.install(tmp_path / "site", monkeypatch)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # for each of 60 checkpoints, it takes the time
    torch.manual_seed(0)
    file, data, decay = tmp_path / "net.safetensors", images(), 0.05
    safetensors_file.write(zoo.create("net").state_dict(), file, {"model": "net"})
    settings = {"epochs": 60, "lr": 1.0, "momentum": 0.7, "batch_size": 64, "weight_decay": decay}
    settings |= {"freeze": ["backbone"], "decay_norm_and_bias": False}
    probe = train(tmp_path / "run", file, data, name="net", settings=settings)

    extracted = zoo.features(probe, data)
    oracle = linear_model.LogisticRegression(C=1 / (decay * len(data)), tol=1e-10, max_iter=10_000)
    oracle.fit(extracted.features.double().numpy(), extracted.labels.numpy())
    weight, bias = probe.get_parameter("fc.weight").detach(), probe.get_parameter("fc.bias").detach()
    torch.testing.assert_close(weight, torch.from_numpy(oracle.coef_).float(), atol=2e-3, rtol=2e-3)
    expected = torch.from_numpy(oracle.intercept_).float()
    torch.testing.assert_close(bias - bias.mean(), expected - expected.mean(), atol=2e-3, rtol=2e-3)


# ---- and how fast ---------------------------------------------------------------------------------------

DEPTHS = {"fc": 0, "layer3": 1, "layer2": 2, "layer1": 3, "bn1": 4, "conv1": 4}
"""Stages below the head of the parts of a residual network for CIFAR-10."""


def test_each_parameter_has_its_stages_share_of_the_rate_at_every_update() -> None:
    model = zoo.create("resnet20")
    recipe = Recipe(epochs=4, lr=0.4, warmup_epochs=1, warmup_lr=0.1, min_lr=0.02, layer_decay=0.5)
    optimizer = optimization.create_optimizer(model, recipe, by_layer(model, recipe))
    rates = optimization.Schedule(optimizer, recipe, updates_per_epoch=5)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for update in range(20):
        cosine = 0.02 + 0.38 * (1 + math.cos(math.pi * (update - 5) / 15)) / 2
        expected = 0.1 + 0.06 * update if update < 5 else cosine
        assert rates.set(update) == pytest.approx(expected)  # what the log shows: the head's
        by_name = {names[id(value)]: group["lr"] for group in optimizer.param_groups for value in group["params"]}
        assert by_name.keys() == set(names.values())
        for name, rate in by_name.items():
            assert rate == pytest.approx(expected * 0.5 ** DEPTHS[name.partition(".")[0]]), name


def test_a_step_of_gradient_descent_is_scaled_by_stage(tmp_path: Path, start: Path) -> None:
    settings = {"batch_size": 64, "lr": 0.5}
    even = dict(train(tmp_path / "even", start, settings=settings).named_parameters())
    decayed = dict(train(tmp_path / "decayed", start, settings={**settings, "layer_decay": 0.25}).named_parameters())
    begun = safetensors_file.read(start)
    for name in [name for name in begun if name in even and not name.startswith("fc.")]:
        scale = 0.25 ** DEPTHS[name.partition(".")[0]]
        torch.testing.assert_close(
            decayed[name] - begun[name], scale * (even[name] - begun[name]), rtol=1e-3, atol=1e-6, msg=name
        )
        assert not torch.equal(even[name], begun[name])
    assert torch.equal(decayed["fc.weight"], even["fc.weight"])


def test_rates_and_decays_are_timms() -> None:
    """timm groups the same network by stage where its matcher is asked to be coarse."""
    timm = pytest.importorskip("timm", reason="needs zoo-vision[train]")
    from timm.optim._param_groups import param_groups_layer_decay

    theirs = timm.create_model("resnet18")
    matcher = theirs.group_matcher
    theirs.group_matcher = lambda coarse: matcher(coarse=True)
    theirs.no_weight_decay = lambda: {"layer1.0.conv1.weight"}
    ours = zoo.create("resnet18")
    ours.no_weight_decay = theirs.no_weight_decay
    recipe = Recipe(weight_decay=0.05, decay_norm_and_bias=False, layer_decay=0.7)
    got = table(ours, by_layer(ours, recipe))
    groups = param_groups_layer_decay(theirs, 0.05, theirs.no_weight_decay(), layer_decay=0.7)
    expected = table(theirs, groups)
    assert got == {name: pytest.approx(values) for name, values in expected.items()}


def table(model: nn.Module, groups: list[dict[str, Any]] | None) -> dict[str, tuple[float, float]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}


def test_in_a_flat_network_a_convolution_goes_with_the_pool_that_ends_its_stage() -> None:
    """VGG-11 (table 1, column A): stages of 1, 1, 2, 2, 2 convolutions, two hidden layers, the head."""
    with torch.device("meta"):
        model = zoo.create("vgg11")
    scaled = table(model, by_layer(model, Recipe(layer_decay=0.5)))
    scales = [math.log2(1 / scaled[name][0]) for name in scaled if name.endswith(".weight")]
    assert sorted(scales) == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6]
    assert scaled["features.0.weight"][0] == 1 / 64
    assert scaled["head.fc.weight"][0] == 1


def test_what_is_frozen_has_no_group_and_changes_no_other_rate() -> None:
    model, recipe = zoo.create("resnet20"), Recipe(layer_decay=0.5)
    before = table(model, by_layer(model, recipe))
    freeze(model, ("layer2", "fc"))
    after = table(model, by_layer(model, recipe))
    assert after == {name: value for name, value in before.items() if not lies_in(name, ("layer2", "fc"))}


def test_layer_decay_needs_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specimen.install(tmp_path, monkeypatch, ('stages=("act",),', ""))
    with pytest.raises(RecipeError, match="net declares no stages"):
        by_layer(zoo.create("net"), Recipe(layer_decay=0.5))


# ---- features -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "normalize"), [("resnet20", "model"), ("plain20", "model"), ("resnet20", "zca")])
def test_the_head_makes_of_the_features_what_the_network_says(tmp_path: Path, name: str, normalize: str) -> None:
    model = train(tmp_path / "run", None, name=name, settings={"normalize": normalize})
    data = images()
    extracted = zoo.features(model, data, batch_size=24)
    transform = zoo.data.Transform(model.zoo_info.preprocess)
    model.eval()
    with torch.no_grad():
        logits = model(transform.batch(data.pixels))
        torch.testing.assert_close(model.fc(extracted.features), logits, rtol=1e-4, atol=1e-5)
    assert extracted.features.shape == (64, 64)
    assert extracted.features.dtype == torch.float32
    assert torch.equal(extracted.labels, data.labels)


def test_features_say_where_they_come_from_and_survive_their_file(tmp_path: Path, start: Path) -> None:
    data = images()
    extracted = zoo.features("resnet20", data, weights=start)
    sha256 = extracted.write(tmp_path / "f.safetensors")
    assert sha256 == hashlib.sha256((tmp_path / "f.safetensors").read_bytes()).hexdigest()
    stored = extraction.read(tmp_path / "f.safetensors")
    assert torch.equal(stored.features, extracted.features)
    assert torch.equal(stored.labels, extracted.labels)
    assert stored.origin == extracted.origin
    origin = stored.origin
    assert (origin.model, origin.weights, origin.data, origin.split) == ("resnet20", str(start), "rows", "train")
    assert (origin.classes, origin.fingerprint) == (KINDS, data.fingerprint)
    assert zoo.features("resnet20", data, weights=start).write(tmp_path / "again.safetensors") == sha256


def test_images_read_one_by_one_have_the_same_features(start: Path) -> None:
    model = zoo.create("resnet20", weights=start)
    resident, read = (zoo.features(model, images(is_resident=flag)) for flag in (True, False))
    assert torch.equal(resident.features, read.features)
    assert resident.origin == read.origin


def test_a_networks_modes_and_the_gradients_of_others_are_untouched(start: Path) -> None:
    model = zoo.create("resnet20", weights=start)
    model.get_submodule("layer1").eval()
    modes = [module.training for module in model.modules()]
    extracted = zoo.features(model, images())
    assert [module.training for module in model.modules()] == modes
    head = nn.Linear(64, 4)
    head(extracted.features).sum().backward()  # features are ordinary tensors
    assert head.weight.grad is not None


def test_a_layers_features_are_its_map_averaged(start: Path) -> None:
    model = zoo.create("resnet20", weights=start)
    maps: list[Tensor] = []
    handle = model.get_submodule("layer2").register_forward_hook(lambda module, inputs, output: maps.append(output))
    extracted = zoo.features(model, images(), layer="layer2", batch_size=64)
    handle.remove()
    torch.testing.assert_close(extracted.features, maps[0].mean((2, 3)))
    last, head = zoo.features(model, images(), layer="layer3"), zoo.features(model, images())
    torch.testing.assert_close(last.features, head.features)  # this network's head averages the last map
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(UnknownNameError, match="Did you mean layer2"):
        zoo.features(model, images(), layer="layer22")


def test_features_that_are_no_numbers_are_refused(start: Path) -> None:
    model = zoo.create("resnet20", weights=start)
    nn.init.constant_(model.get_parameter("conv1.weight"), math.nan)
    with pytest.raises(WeightsError, match="contain NaN or infinity"):
        zoo.features(model, images())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "labels"),
        ({"features": torch.zeros(3, 2, 1)}, "features of shape"),
        ({"labels": torch.zeros(4, dtype=torch.int64)}, "labels of shape"),
        ({"features": torch.zeros(3, 2, dtype=torch.float64)}, "expected float32"),
        ({"labels": torch.tensor([0, 1, 4])}, "row 2 has label 4, expected 0 to 3"),
        ({"origin": {"model": "resnet20"}}, "zoo features NAME"),
    ],
)
def test_other_files_are_no_features(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    whole: dict[str, Any] = {"features": torch.zeros(3, 2), "labels": torch.zeros(3, dtype=torch.int64)}
    about = changes.pop("origin", None) or {**ORIGIN}
    tensors = {key: value for key, value in {**whole, **changes}.items() if value is not None}
    safetensors_file.write(tensors, tmp_path / "f.safetensors", about)
    with pytest.raises(DataError) as caught:
        extraction.read(tmp_path / "f.safetensors")
    assert message in str(caught.value)


# ---- other classifiers on top -----------------------------------------------------------------------------

ORIGIN: dict[str, Any] = {
    "model": "net", "weights": "net.tag", "network": "sha256:0", "layer": "", "data": "rows", "split": "train",
    "fingerprint": "sha256:1", "classes": KINDS, "versions": {},
}  # fmt: skip


def points(values: Tensor, labels: Tensor, **origin: Any) -> Features:
    return Features(values.float(), labels, Origin(**(ORIGIN | origin)))


def corners(count: int, *, split: str, seed: int) -> Features:
    """Returns exclusive or: class 0 about (1, 1) and (-1, -1), class 1 about (1, -1) and (-1, 1)."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(2, (count, 2), generator=generator)
    values = 2 * signs - 1 + 0.1 * torch.randn(count, 2, generator=generator)
    return points(values, signs[:, 0] ^ signs[:, 1], split=split, fingerprint=f"sha256:{split}")


@pytest.mark.parametrize("name", ["knn", "rbf_svm", "tree"])
def test_neighbours_kernels_and_trees_tell_exclusive_or(name: str) -> None:
    assert classify(corners(200, split="train", seed=0), corners(100, split="test", seed=1), name).top1 == 100


@pytest.mark.parametrize("name", ["linear_svm", "logistic"])
def test_linear_classifiers_tell_halves_but_not_exclusive_or(name: str) -> None:
    train, test = corners(200, split="train", seed=0), corners(100, split="test", seed=1)
    assert classify(train, test, name).top1 < 80
    halves = [points(part.features, (part.features[:, 0] > 0).long()) for part in (train, test)]
    assert classify(halves[0], halves[1], name).top1 == 100


def test_the_nearest_neighbour_is_the_one_at_least_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    train, test = (torch.randn(count, 3, generator=generator) for count in (80, 60))
    answers, truth = (torch.randint(4, (count,), generator=generator) for count in (80, 60))
    expected = int((answers[torch.cdist(test, train).argmin(1)] == truth).sum())
    outcome = classify(points(train, answers), points(test, truth, split="test"), "knn", {"n_neighbors": "1"})
    assert (outcome.correct, outcome.n) == (expected, 60)
    assert 0 < expected < 60


def test_settings_reach_the_classifier() -> None:
    """All neighbours, or a stump's one question, leave what they must."""
    labels = torch.tensor([0] * 6 + [1] * 4)
    train = points(torch.arange(10)[:, None], labels)
    test = points(torch.arange(10)[:, None], labels, split="test")
    assert classify(train, test, "knn", {"n_neighbors": 10}).correct == 6
    four = points(torch.arange(4)[:, None], torch.arange(4))
    assert classify(four, four, "tree").correct == 4
    assert classify(four, four, "tree", {"max_depth": "1"}).correct == 2
    assert classify(four, four, "tree", {"max_depth": "null"}).settings["max_depth"] is None


def test_the_interval_is_wilsons() -> None:
    """Its ends p lie where the measured share is 1.96 standard deviations of p away."""
    train, test = corners(200, split="train", seed=0), corners(100, split="test", seed=1)
    outcome = classify(train, test, "linear_svm")
    for end in outcome.interval:
        p = end / 100
        assert abs(outcome.correct / 100 - p) == pytest.approx(1.959964 * math.sqrt(p * (1 - p) / 100), rel=1e-5)


def test_without_test_features_a_fifth_is_held_out_from_fitting() -> None:
    """Labels of pure noise: who had fitted the scored images would know them."""
    generator = torch.Generator().manual_seed(0)
    noise = points(torch.randn(1000, 2, generator=generator), torch.randint(4, (1000,), generator=generator))
    outcome = classify(noise, None, "knn", {"n_neighbors": 1})
    assert (outcome.n_train, outcome.n) == (800, 200)
    assert outcome.top1 < 50
    assert "held out" in outcome.test
    assert classify(noise, noise, "knn", {"n_neighbors": 1}).top1 == 100


def test_testing_on_the_training_images_is_said(caplog: pytest.LogCaptureFixture) -> None:
    train = corners(40, split="train", seed=0)
    classify(train, train, "tree")
    assert "test images are the training images" in caplog.text


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("knm", {}, "Did you mean knn"),
        ("forest", {}, "Available: linear_svm, rbf_svm, logistic, knn, tree"),
        ("knn", {"n_neighbours": "5"}, "Did you mean n_neighbors"),
        ("linear_svm", {"gamma": "5"}, "Available: C, max_iter, standardize"),
        ("knn", {"n_neighbors": "0"}, "n_neighbors"),
        ("knn", {"metric": "hamming"}, "metric"),
        ("linear_svm", {"C": "nan"}, "C"),
        ("linear_svm", {"C": "-1"}, "C"),
        ("linear_svm", {"C": "much"}, "C"),
        ("tree", {"max_depth": "2.5"}, "max_depth"),
    ],
)
def test_a_wrong_classifier_or_setting_is_refused(name: str, settings: dict[str, str], message: str) -> None:
    with pytest.raises(ZooError) as caught:
        classifiers.configure(name, settings)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_what_cannot_be_fitted_says_why() -> None:
    few = points(torch.randn(4, 2), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(RecipeError, match="knn cannot be fitted to 4 images"):
        classify(few, few, "knn")
    with pytest.raises(RecipeError, match="linear_svm cannot be fitted"):
        classify(points(torch.randn(4, 2), torch.zeros(4, dtype=torch.int64)), few, "linear_svm")


def test_a_fit_that_did_not_converge_is_said(caplog: pytest.LogCaptureFixture) -> None:
    train, test = corners(200, split="train", seed=0), corners(100, split="test", seed=1)
    classify(train, test, "logistic", {"max_iter": 1, "C": 100})
    assert "logistic has not converged within max_iter = 1" in caplog.text


@pytest.mark.parametrize(
    "other", [{"network": "sha256:other"}, {"layer": "layer1"}, {"classes": ("e", "f", "g", "h")}, {"dimensions": 3}]
)
def test_features_that_do_not_belong_together_are_refused(other: dict[str, Any]) -> None:
    train = points(torch.randn(8, 2), torch.arange(8) % 4)
    test = points(torch.randn(8, other.pop("dimensions", 2)), torch.arange(8) % 4, split="test", **other)
    with pytest.raises(DataError, match=r"do not match(?s:.)*training  net\.tag(?s:.)*zoo features"):
        classify(train, test)


# ---- the command line -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures: dark ones, bright ones."""
    folder = tmp_path_factory.mktemp("data") / "shades"
    for split, count in (("train", 20), ("test", 6)):
        for kind, shade in (("bright", 200), ("dark", 20)):
            (folder / split / kind).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (8, 8), (shade + i, shade, shade)).save(folder / split / kind / f"{i}.png")
    return folder


def test_features_then_a_classifier_from_the_command_line(tmp_path: Path, start: Path, shades: Path) -> None:
    files = {split: tmp_path / f"{split}.safetensors" for split in ("train", "test")}
    for split, file in files.items():
        answer = ask("features", "resnet20", "--weights", start, "--data", shades, "--split", split, "-o", file)
        assert answer.exit_code == 0, answer.output
        assert answer.stdout == f"{file}\n"
    for name in classifiers.CLASSIFIERS:
        answer = ask("classify", *files.values(), "--classifier", name, "--json")
        assert answer.exit_code == 0, answer.output
        outcome = json.loads(answer.stdout)
        assert (outcome["top1"], outcome["n"], outcome["n_train"]) == (100, 12, 40)
    answer = ask("classify", *files.values(), "--classifier", "knn", "--set", "n_neighbors=3")
    assert "12 of 12" in answer.stdout
    assert "n_neighbors=3" in answer.stdout
    assert ask("classify", files["train"]).exit_code == 0
    answer = ask("classify", *files.values(), "--set", "max_itr=3")
    assert (answer.exit_code, "Did you mean max_iter?" in answer.stderr) == (2, True)
    answer = ask("classify", start, files["test"])
    assert (answer.exit_code, "is not a features file" in answer.stderr) == (1, True)


@pytest.mark.parametrize("name", ["logistic", "linear_svm"])
@pytest.mark.parametrize("count", [2, 10])
def test_a_fitted_classifier_is_the_head_of_a_network(name: str, count: int, tmp_path: Path) -> None:
    """Its outputs are those of scikit-learn's pipeline on the features, which knows no network."""
    digits = {split: zoo.data.load("digits", split) for split in ("train", "test")}
    chosen = {split: images.subset(torch.where(images.labels < count)[0], split) for split, images in digits.items()}
    parts = [extraction.features("resnet20.digits_robust", images) for images in chosen.values()]
    outcome = classify(*parts, name, output=tmp_path / "head")
    network = zoo.create(str(tmp_path / "head")).eval()
    transform = zoo.preprocess(network)
    images = torch.stack([transform(chosen["test"].image(i)) for i in range(len(chosen["test"]))])
    with torch.inference_mode():
        logits = network(images)[:, :count]
    oracle = classifiers.fit(name, classifiers.configure(name), parts[0].features, parts[0].labels)
    assert logits.argmax(1).tolist() == oracle.predict(parts[1].features.numpy()).tolist()
    if name == "logistic":
        expected = torch.from_numpy(oracle.predict_proba(parts[1].features.numpy())).float()
        torch.testing.assert_close(logits.softmax(1), expected, rtol=1e-3, atol=1e-4)
    assert zoo.evaluate(network, chosen["test"]).correct == outcome.correct
    assert "fitted by zoo classify to resnet20.digits_robust" in zoo.info(str(tmp_path / "head"))["file"]["origin"]


def test_only_a_linear_classifier_of_the_heads_input_is_a_head(tmp_path: Path, start: Path) -> None:
    train = corners(20, split="train", seed=0)
    with pytest.raises(SpecError, match="knn is not linear"):
        classify(train, train, "knn", output=tmp_path / "head")
    with pytest.raises(DataError, match="is not the network that computed"):
        classify(*(points(torch.randn(20, 64), torch.arange(20) % 2, weights="resnet20.digits"),) * 2, output=tmp_path)
    with pytest.raises(DataError, match="not the input of the head"):
        classify(*(points(torch.randn(20, 64), torch.arange(20) % 2, layer="layer1"),) * 2, output=tmp_path)
    assert not (tmp_path / "head").exists()


QUICK = ("--recipe", "default", "--set", "input_size=8", "--set", "epochs=2", "--set", "batch_size=20")


def test_the_weights_name_the_architecture_and_a_pause_says_how_to_go_on(
    tmp_path: Path, start: Path, shades: Path
) -> None:
    words = ["train", "--init", start, "--data", shades, "--freeze", "backbone", "--freeze", "bn1", *QUICK]
    answer = ask(*words, "-o", tmp_path / "run", "--stop-after", 1)
    assert answer.exit_code == 0, answer.output
    command = shlex.split(answer.stderr.strip().splitlines()[-1])
    answer = ask(*command[1:])
    assert answer.exit_code == 0, answer.output
    assert f"zoo evaluate {tmp_path / 'run'} --data {shades}" in answer.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["init"]["weights"], config["recipe"]["freeze"]) == (str(start), ["backbone", "bn1"])


def test_without_a_model_or_weights_that_name_it_there_is_nothing_to_train(tmp_path: Path, shades: Path) -> None:
    answer = ask("train", "--data", shades, "-o", tmp_path / "run")
    assert (answer.exit_code, "MODEL" in answer.stderr) == (2, True)
    nameless = tmp_path / "nameless.safetensors"
    safetensors_file.write({"x": torch.zeros(1)}, nameless, {})
    answer = ask("train", "--init", nameless, "--data", shades, "-o", tmp_path / "run")
    assert (answer.exit_code, "zoo train MODEL --init" in answer.stderr) == (1, True)
    answer = ask("train", "resnet20", "--freeze", "a", "--set", "freeze=b", "--data", shades, "-o", tmp_path / "run")
    assert answer.exit_code == 2
    assert not (tmp_path / "run").exists()


def test_features_of_an_untrained_network_are_those_of_seed_0(tmp_path: Path) -> None:
    file = tmp_path / "test.safetensors"
    done = ask("features", "resnet20", "--untrained", "--data", "digits", "--split", "test", "-o", file)
    assert done.exit_code == 0, done.stderr
    torch.manual_seed(0)
    expected = zoo.features(zoo.create("resnet20"), "digits", "test")
    assert torch.equal(extraction.read(file).features, expected.features)
    refused = ask("features", "resnet20.digits", "--untrained", "--data", "digits", "-o", file)
    assert refused.exit_code == 2
    assert "without weights" in refused.stderr

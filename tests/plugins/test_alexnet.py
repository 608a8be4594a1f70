"""The alexnet family against the papers' tables, torchvision, pytorchcv and closed forms."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from PIL import Image
from support import reference
from support.reference import assert_same_function, macs_of, params_of, photographs, randomise
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import training
from zoo.data import ImageSet, Transform
from zoo.errors import SpecError
from zoo.loading import safetensors_file
from zoo.spec import Preprocess
from zoo.testing import Check, conformance
from zoo.training import Recipe, Run, TrainingData
from zoo.training.run import Silent
from zoo_alexnet import plugin
from zoo_alexnet.model import AlexNet
from zoo_alexnet.training import renormalize, renormalizing, train

MODELS = {model.name: model for model in plugin.models}


@conformance("alexnet")
def test_conformance(check: Check) -> None:
    check()


def on_meta(name: str, **args: Any) -> Any:
    return reference.on_meta(MODELS[name], **args)


outline = cache(on_meta)
"""As ``on_meta``, built once: for counting alone."""


# ---- Published parameter counts, multiply-adds and sizes of maps ----


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("alexnet", 60_965_224, 724_406_816),
        ("alexnet_owt", 61_100_840, 714_188_480),
        ("zfnet", 62_357_608, 1_168_032_896),
        ("zfnet_b", 107_627_624, 2_476_704_896),
    ],
)
def test_each_network_has_the_published_size(name: str, params: int, macs: int) -> None:
    assert params_of(outline(name)) == MODELS[name].params == params
    assert macs_of(outline(name), MODELS[name].preprocess.input_size) == MODELS[name].macs == macs


def test_the_small_form_has_the_size_of_the_closed_form() -> None:
    network = outline("alexnet_small")
    filters = [3 * 25 * 48, 48 * 25 * 128, 128 * 9 * 192, 192 * 9 * 192, 192 * 9 * 128]
    hidden = [128 * 3 * 3 * 512, 512 * 512, 512 * 10]
    biases = 48 + 128 + 192 + 192 + 128 + 512 + 512 + 10
    macs = sum(count * side**2 for count, side in zip(filters, (32, 15, 7, 7, 7), strict=True)) + sum(hidden)
    assert params_of(network) == MODELS["alexnet_small"].params == sum(filters + hidden) + biases
    assert macs_of(network, (3, 32, 32)) == MODELS["alexnet_small"].macs == macs


def sides(network: AlexNet, size: int) -> list[int]:
    """Returns how wide the maps are after each convolution and pool, from an image of ``size`` pixels."""
    widths, x = [], torch.empty(1, 3, size, size, device="meta")
    for module in network.features:
        x = module(x)
        if isinstance(module, nn.Conv2d | nn.MaxPool2d):
            widths.append(x.shape[-1])
    return widths


def test_55_maps_need_227_pixels_and_not_the_224_of_the_paper() -> None:
    assert MODELS["alexnet"].preprocess.input_size == (3, 227, 227)
    assert sides(outline("alexnet"), 227) == [55, 27, 27, 13, 13, 13, 13, 6]
    assert sides(outline("alexnet"), 224)[0] == 54
    assert sides(outline("alexnet_owt"), 224) == [55, 27, 27, 13, 13, 13, 13, 6]  # its first layer is padded


def test_images_are_resized_to_256_before_227_are_cut_out() -> None:
    size = Transform(MODELS["alexnet"].preprocess)._resized(400, 512)
    assert size == (256, 327)


def test_zfnets_maps_need_a_padding_of_1_and_pools_that_round_up() -> None:
    network = on_meta("zfnet")
    assert sides(network, 224) == [110, 55, 26, 13, 13, 13, 13, 6]
    for module in network.features:
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = False
    assert sides(network, 224)[1] == 54
    network.features[0].padding = (3, 3)
    assert sides(network, 224)[0] == 112


# ---- The same function as the reference implementations, with the same weights, on real images ----


@pytest.fixture(scope="module")
def hidden() -> list[Tensor]:
    """The fully connected layers' weights, a quarter of a gigabyte, drawn once for all networks that share them."""
    classifier = on_meta("alexnet").classifier
    randomise(classifier)
    return list(classifier.state_dict().values())


def with_weights(name: str, hidden: list[Tensor], **args: Any) -> AlexNet:
    network = on_meta(name, **args)
    randomise(network.features)
    network.classifier.load_state_dict(dict(zip(network.classifier.state_dict(), hidden, strict=True)), assign=True)
    return network


def in_255(count: int, size: int) -> Tensor:
    """Photographs in about [-128, 128], where response normalisation matters."""
    return photographs(count, size).contiguous() * 128


def test_logits_equal_torchvisions(hidden: list[Tensor]) -> None:
    ours = with_weights("alexnet_owt", hidden)
    with torch.device("meta"):
        theirs = torchvision.models.alexnet()
    assert list(theirs.state_dict()) == list(ours.state_dict())
    assert [type(module) for module in theirs.classifier] == [type(module) for module in ours.classifier]
    theirs.load_state_dict(ours.state_dict(), assign=True)
    assert_same_function(ours, theirs, photographs(2, 224))
    assert_same_function(ours, theirs, photographs(2, 160))  # maps of 4 x 4, stretched to 6 x 6


@pytest.mark.parametrize(
    ("name", "args", "reference", "size"),
    [
        ("alexnet", {"groups": 1}, "alexnet", 227),
        ("alexnet_owt", {}, "alexnetb", 224),
        ("zfnet", {"pool_first": False}, "zfnet", 224),
    ],
)
def test_logits_equal_pytorchcvs_joined_and_normalised_first(
    name: str, args: dict[str, Any], reference: str, size: int, hidden: list[Tensor]
) -> None:
    from pytorchcv.model_provider import get_model

    ours = with_weights(name, hidden, **args)
    with torch.device("meta"):
        theirs = get_model(reference)
    theirs.load_state_dict(
        dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)), assign=True
    )  # layer by layer, under other names
    assert_same_function(ours, theirs, in_255(2, size))


def test_the_wider_zfnets_features_equal_pytorchcvs_normalised_first() -> None:
    from pytorchcv.model_provider import get_model

    with torch.device("meta"):
        ours, theirs = on_meta("zfnet_b", pool_first=False).features, get_model("zfnetb").features
    randomise(ours)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)), assign=True)
    assert_same_function(ours, theirs, in_255(2, 224))


def test_two_groups_are_two_towers_that_meet_in_the_third_convolution_and_the_hidden_layers(
    hidden: list[Tensor],
) -> None:
    network = with_weights("alexnet", hidden).eval()
    weights = [(module.weight, module.bias) for module in network.features if isinstance(module, nn.Conv2d)]
    images = in_255(2, 227)

    def normalise_and_pool(x: Tensor) -> Tensor:
        return F.max_pool2d(F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=2.0), 3, stride=2)

    with torch.no_grad():
        first = F.relu(F.conv2d(images, *weights[0], stride=4))
        joined = normalise_and_pool(first)
        towers = [
            F.relu(F.conv2d(x, weight, bias, padding=2))
            for x, weight, bias in zip(joined.chunk(2, 1), *(part.chunk(2) for part in weights[1]), strict=True)
        ]
        joined = F.relu(F.conv2d(normalise_and_pool(torch.cat(towers, 1)), *weights[2], padding=1))
        towers = list(joined.chunk(2, 1))
        for layer in (3, 4):
            halves = zip(towers, *(part.chunk(2) for part in weights[layer]), strict=True)
            towers = [F.relu(F.conv2d(x, weight, bias, padding=1)) for x, weight, bias in halves]
        maps = F.max_pool2d(torch.cat(towers, 1), 3, stride=2)
        expected = network.classifier(maps.flatten(1))
        got = network(images)
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


# ---- What people get wrong ----


@pytest.mark.parametrize(
    ("name", "args", "order"),
    [
        ("alexnet", {}, ["ReLU", "ResponseNorm", "MaxPool2d"]),
        ("alexnet", {"pool_first": True}, ["ReLU", "MaxPool2d", "ResponseNorm"]),
        ("zfnet", {}, ["ReLU", "MaxPool2d", "ResponseNorm"]),
    ],
)
def test_alexnet_normalises_before_pooling_and_zfnet_and_caffenet_after(
    name: str, args: dict[str, Any], order: list[str]
) -> None:
    kinds = [type(module).__name__ for module in on_meta(name, **args).features]
    assert kinds[:8] == ["Conv2d", *order, "Conv2d", *order]
    assert kinds.count("ResponseNorm") == 2


def kinds_of(network: AlexNet) -> list[str]:
    return [type(module).__name__ for module in network.features if not isinstance(module, nn.ReLU)]


def test_separate_pools_share_no_value_and_strided_convolutions_take_their_place() -> None:
    separate, strided = (on_meta("alexnet_small", pooling=pooling) for pooling in ("separate", "strided"))
    pools = [module for module in separate.features if isinstance(module, nn.MaxPool2d)]
    assert [(pool.kernel_size, pool.stride) for pool in pools] == [(2, 2)] * 3
    assert kinds_of(strided) == ["Conv2d"] * 5
    assert [module.stride for module in strided.features if isinstance(module, nn.Conv2d)] == [
        (2, 2), (2, 2), (1, 1), (1, 1), (2, 2)
    ]  # fmt: skip
    for network in (separate, strided):
        assert params_of(network) == MODELS["alexnet_small"].params
        assert network.forward_features(torch.zeros(1, 3, 32, 32, device="meta")).shape == (1, 128, 4, 4)
        assert network.feature_info.reduction()[-1] == 32 / 4


def test_response_normalisation_can_be_added_and_left_out() -> None:
    with_lrn = ["Conv2d", "ResponseNorm", "MaxPool2d"] * 2 + ["Conv2d", "Conv2d", "Conv2d", "MaxPool2d"]
    without = [kind for kind in with_lrn if kind != "ResponseNorm"]
    assert kinds_of(on_meta("alexnet_small", lrn=True)) == kinds_of(on_meta("alexnet")) == with_lrn
    assert kinds_of(on_meta("alexnet", lrn=False)) == kinds_of(on_meta("alexnet_small")) == without


@pytest.mark.parametrize(("name", "dropped"), [("alexnet", [2, 5]), ("zfnet", [2, 5]), ("alexnet_owt", [0, 3])])
def test_dropout_follows_the_hidden_layers_and_precedes_them_in_torchvisions(name: str, dropped: list[int]) -> None:
    classifier = outline(name).classifier
    assert [index for index, module in enumerate(classifier) if isinstance(module, nn.Dropout)] == dropped
    assert all(classifier[index].p == 0.5 for index in dropped)


@pytest.mark.slow
def test_2012_begins_with_small_weights_and_biases_of_one_where_the_paper_has_them() -> None:
    network = AlexNet(design="2012", num_classes=10)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert [layer.bias.unique().tolist() for layer in layers] == [[0], [1], [0], [1], [1], [1], [1], [0]]
    for layer in layers:
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert layer.weight.mean().item() == pytest.approx(0, abs=2e-4)


@pytest.mark.slow
def test_zfnet_begins_with_small_weights_and_biases_of_zero() -> None:
    network = AlexNet(design="zfnet", num_classes=10)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.weight.std().item() == pytest.approx(0.01, rel=0.02)
            assert layer.bias.abs().max() == 0


@pytest.mark.slow
def test_the_one_tower_network_begins_as_torch_draws_unless_asked_for_the_authors_file() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours = AlexNet(**MODELS["alexnet_owt"].args, num_classes=10)
        torch.manual_seed(0)
        theirs = torchvision.models.alexnet(num_classes=10)
    first, last = "features.0.weight", "classifier.6.weight"
    assert torch.equal(ours.get_parameter(first), theirs.get_parameter(first))
    assert ours.get_parameter(last).std().item() == pytest.approx(theirs.get_parameter(last).std().item(), rel=0.02)
    network = AlexNet(design="owt", num_classes=10)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    stds = [0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01]
    assert [layer.weight.std().item() for layer in layers] == pytest.approx(stds, rel=0.02)
    assert [layer.bias.unique().item() for layer in layers] == [0, 1, 0, 1, 1, 1, 1, -7]


@pytest.mark.parametrize("name", ["alexnet", "zfnet", "zfnet_b"])
def test_pixels_stay_in_255_less_their_mean(name: str) -> None:
    transform = Transform(MODELS[name].preprocess)
    black, white = (transform(Image.new("RGB", (300, 300), (value,) * 3)) for value in (0, 255))
    torch.testing.assert_close(white - black, torch.full_like(white, 255))
    assert -128 < black.min() < -100
    assert 128 < white.max() < 155


# ---- Filters renormalised ----

SMALL = Preprocess(input_size=(3, 16, 16), crop_pct=1.0, mean=(0.5,) * 3, std=(0.25,) * 3)
RECIPE = Recipe(epochs=4, batch_size=16, lr=0.05, schedule="constant", precision="float32", channels_last=True)
RADIUS = 0.05
"""Below what torch draws for the first layer, 0.067, and above the others."""


def noise() -> ImageSet:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (32, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return ImageSet("noise", "train", ("a", "b"), torch.arange(32) % 2, pixels)


def trained(
    directory: Path, recipe: Recipe = RECIPE, *, radius: float = RADIUS, **options: Any
) -> tuple[AlexNet, dict[str, Tensor]]:
    """Returns a small network trained on noise with the family's hook, and what it was before."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AlexNet(design="small", init="torch", num_classes=2, filter_radius=radius)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    run = Run(directory, **{"display": Silent(), **options})
    train(network, TrainingData(noise()), recipe, run, preprocess=SMALL, device="cpu")
    return network, before


def root_mean_squares(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        key: value.double().square().mean(dim=(1, 2, 3)).sqrt() for key, value in tensors.items() if value.ndim == 4
    }


def test_an_update_ends_with_filters_beyond_the_radius_scaled_back_to_it_and_nothing_else_changed(
    tmp_path: Path,
) -> None:
    recipe = Recipe(epochs=1, batch_size=32, lr=0.05, schedule="constant", precision="float32")
    plain, before = trained(tmp_path / "plain", recipe, radius=0.0)
    renormalised, _ = trained(tmp_path / "renormalised", recipe)
    first = "features.0.weight"
    rms = root_mean_squares(plain.state_dict())[first].float()
    assert rms.min() > RADIUS  # all of its filters
    expected = plain.state_dict()[first] * (RADIUS / rms)[:, None, None, None]
    torch.testing.assert_close(renormalised.state_dict()[first], expected, rtol=1e-6, atol=0)
    for key, value in plain.state_dict().items():
        assert not torch.equal(value, before[key]), key
        assert key == first or torch.equal(renormalised.state_dict()[key], value), key


def test_no_checkpoint_holds_a_filter_beyond_the_radius_not_even_within_an_epoch(tmp_path: Path) -> None:
    class Crash(Silent):
        def step(self, epoch: int, step: int, loss: float, lr: float) -> None:
            if (epoch, step) == (2, 2):
                raise KeyboardInterrupt

    recipe = Recipe(epochs=2, batch_size=8, lr=0.1, schedule="constant")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, recipe, checkpoint_every=1, display=Crash())
    checkpoint = safetensors_file.read(tmp_path / "checkpoint.safetensors")
    filters = {key: value for key, value in checkpoint.items() if key.startswith("model.") and value.ndim == 4}
    assert len(filters) == 5
    for key, rms in root_mean_squares(filters).items():
        assert rms.max() <= RADIUS * (1 + 1e-6), key
    assert root_mean_squares(filters)["model.features.0.weight"].min() > 0.99 * RADIUS


def test_after_training_other_optimisers_are_as_they_were(tmp_path: Path) -> None:
    network, _ = trained(tmp_path, Recipe(epochs=1, batch_size=32, lr=0.01))
    other = AlexNet(design="small", init="torch", num_classes=2)
    with renormalizing(network, RADIUS):
        step(other)
    step(network)
    for left_alone in (network, other):
        assert root_mean_squares(left_alone.state_dict())["features.0.weight"].max() > 2 * RADIUS


def step(network: AlexNet) -> None:
    """Makes an update that doubles the weights and more."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    for parameter in network.parameters():
        parameter.grad = -3 * parameter.detach()
    optimizer.step()


def test_frozen_filters_stay_as_they_are(tmp_path: Path) -> None:
    network, before = trained(tmp_path, Recipe(epochs=1, batch_size=32, lr=0.01, freeze=("features.0",)))
    assert torch.equal(network.state_dict()["features.0.weight"], before["features.0.weight"])
    assert root_mean_squares(before)["features.0.weight"].max() > RADIUS


def test_renormalising_keeps_a_filters_direction_and_the_layout_in_memory() -> None:
    weight = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    weight[:3] *= 0.01
    changed = weight.clone(memory_format=torch.channels_last)
    renormalize(changed, 0.1)
    assert changed.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(changed[:3], weight[:3])
    assert changed[3:].square().mean(dim=(1, 2, 3)).sqrt().tolist() == pytest.approx([0.1] * 3, rel=1e-6)
    cosines = F.cosine_similarity(changed.flatten(1), weight.flatten(1))
    assert cosines.tolist() == pytest.approx([1] * 6, abs=1e-6)


def test_zfnets_rows_renormalise_to_a_tenth_and_alexnets_do_not() -> None:
    radii = {name: outline(name).filter_radius for name in MODELS}
    assert radii == {"alexnet": 0, "alexnet_owt": 0, "alexnet_small": 0, "zfnet": 0.1, "zfnet_b": 0.1}
    assert {model.train for model in plugin.models} == {"zoo_alexnet.training:train"}


# ---- Recipes ----


def test_the_papers_recipes_state_their_optimisers() -> None:
    recipe = training.choose(plugin, "alexnet", "imagenet-1k")
    assert (recipe.batch_size, recipe.lr, recipe.momentum, recipe.nesterov) == (128, 0.01, 0.9, False)
    assert (recipe.epochs, recipe.weight_decay, len(recipe.decay_epochs)) == (90, 5e-4, 3)
    assert recipe.augment.pca_color == 0.1  # section 4.1
    recipe = training.choose(plugin, "zfnet_b", "imagenet-1k")
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.weight_decay) == (70, 128, 0.01, 0.0)
    assert training.choose(plugin, "alexnet_owt", "imagenet-1k").batch_size == 8 * 32
    assert training.choose(plugin, "alexnet_small", "cifar10").name == "fast_c10"


# ---- The interface ----


@pytest.mark.parametrize(
    ("args", "got"),
    [
        ({"design": "2013"}, "design = '2013'"),
        ({"design": "2012", "groups": 3}, "groups = 3"),
        ({"design": "2012", "pooling": "none"}, "pooling = 'none'"),
        ({"design": "small", "init": "he"}, "init = 'he'"),
        ({"design": "zfnet", "filter_radius": -0.1}, "filter_radius = -0.1"),
        ({"design": "zfnet", "filter_radius": float("nan")}, "filter_radius = nan"),
    ],
)
def test_an_argument_outside_the_papers_is_refused_by_name(args: dict[str, Any], got: str) -> None:
    with pytest.raises(SpecError, match=got):
        AlexNet(**args)

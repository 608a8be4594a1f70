"""The speedrun family against the published sizes, units and views."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.reference import macs_of, params_of
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from zoo import training
from zoo.data import ImageSet
from zoo.data.augmentation import Augmentation
from zoo.evaluation import evaluate
from zoo.testing import Check, conformance
from zoo.training import Recipe, Run, TrainingData, optimization
from zoo.training.run import Silent
from zoo_speedrun import plugin
from zoo_speedrun.model import Airbench
from zoo_speedrun.training import first_images, parameter_groups, set_whitening, train, whitening_filters
from zoo_speedrun.views import Views
from zoo_speedrun.views import evaluate as evaluate_views

MODELS = {model.name: model for model in plugin.models}
NARROW = {"widths": [8, 16, 16], "depth": 2}


@conformance("speedrun")
def test_conformance(check: Check) -> None:
    check()


@pytest.mark.parametrize(
    ("name", "elements", "macs"),
    [
        ("airbench94", 1_972_792, 118_147_360),
        ("airbench95", 4_606_520, 301_560_864),
        ("airbench96", 9_918_776, 451_967_264),
    ],
)
def test_each_network_has_the_published_size(name: str, elements: int, macs: int) -> None:
    with torch.device("meta"):
        network = Airbench(**MODELS[name].args)
    assert params_of(network) == elements
    assert MODELS[name].params == elements  # with its frozen scales and filters, as timm counts
    assert macs_of(network, (3, 32, 32)) == MODELS[name].macs == macs


@pytest.mark.parametrize("depth", [2, 3])
def test_the_network_is_what_the_script_computes(depth: int) -> None:
    torch.manual_seed(0)
    network = Airbench(widths=[8, 16, 16], depth=depth).eval()
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.add_(0.1 * torch.rand_like(value))
    state, images = network.state_dict(), torch.randn(4, 3, 32, 32)

    def convolve(x: Tensor, key: str) -> Tensor:
        return F.conv2d(x, state[f"{key}.weight"], padding=1)

    def normalise(x: Tensor, key: str) -> Tensor:
        mean, variance, bias = (state[f"{key}.{name}"] for name in ("running_mean", "running_var", "bias"))
        scaled = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-12).sqrt()
        return scaled * state[f"{key}.weight"][:, None, None] + bias[:, None, None]

    x = F.gelu(F.conv2d(images, state["whiten.weight"], state["whiten.bias"]))
    sides = [x.shape[-1]]
    for group in ("group1", "group2", "group3"):
        x = before = F.gelu(normalise(F.max_pool2d(convolve(x, f"{group}.conv1"), 2), f"{group}.norm1"))
        x = F.gelu(normalise(convolve(x, f"{group}.conv2"), f"{group}.norm2"))
        if depth == 3:
            x = F.gelu(normalise(convolve(x, f"{group}.conv3"), f"{group}.norm3") + before)
        sides.append(x.shape[-1])
    assert sides == [31, 15, 7, 3]
    logits = F.max_pool2d(x, 3).flatten(1) @ state["fc.weight"].T / 9
    with torch.no_grad():
        torch.testing.assert_close(network(images), logits, rtol=1e-4, atol=1e-5)


def test_convolutions_begin_as_the_identity_on_their_first_filters() -> None:
    network, x = Airbench(**NARROW), torch.randn(2, 24, 15, 15)
    torch.testing.assert_close(network.group1.conv2(x[:, :8])[:, :8], x[:, :8])
    torch.testing.assert_close(network.group2.conv1(x[:, :8])[:, :8], x[:, :8])
    assert not torch.equal(network.group2.conv1(x[:, :8])[:, 8:16], x[:, :8])


def test_whitened_patches_have_unit_variance_and_no_covariance() -> None:
    generator = torch.Generator().manual_seed(0)
    smooth = F.avg_pool2d(torch.randn(200, 3, 20, 20, generator=generator), 5, stride=1)  # neighbours alike
    filters = whitening_filters(smooth, eps=0.0)
    outputs = F.conv2d(smooth, filters[:12]).permute(0, 2, 3, 1).reshape(-1, 12).double()
    torch.testing.assert_close(
        outputs.T @ outputs / len(outputs), torch.eye(12, dtype=torch.float64), atol=2e-3, rtol=0
    )
    assert torch.equal(filters[12:], -filters[:12])
    patches = F.unfold(smooth, 2).transpose(1, 2).reshape(-1, 12)
    leading = torch.from_numpy(np.linalg.svd(patches.numpy(), full_matrices=False)[2][0])
    assert abs(float(F.cosine_similarity(filters[0].flatten(), leading, dim=0))) == pytest.approx(1, abs=1e-4)


def test_grey_images_have_fewer_components_than_filters() -> None:
    network = Airbench(**NARROW, in_chans=1)
    begun, images = network.whiten.weight.clone(), torch.randn(50, 1, 8, 8)
    set_whitening(network, images)
    assert torch.equal(network.whiten.weight[:8], whitening_filters(images))
    assert torch.equal(network.whiten.weight[8:], begun[8:])


def noise(count: int = 64) -> ImageSet:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return ImageSet("noise", "train", ("a", "b"), torch.arange(count) % 2, pixels)


def test_the_first_layer_is_fitted_and_kept_and_its_bias_learns_for_three_epochs(tmp_path: Path) -> None:
    network, images = Airbench(**NARROW, num_classes=2), noise()
    recipe = Recipe(epochs=5, batch_size=32, lr=0.1, augment=Augmentation(flip="alternate"))
    biases = []

    class Watch(Silent):
        def finish_epoch(self, row: dict[str, object]) -> None:
            biases.append(network.whiten.bias.detach().clone())

    preprocess = MODELS["airbench94"].preprocess
    train(network, TrainingData(images), recipe, Run(tmp_path, display=Watch()), preprocess=preprocess, device="cpu")
    assert torch.equal(network.whiten.weight, whitening_filters(first_images(images, 5000, preprocess)))
    moved = [not torch.equal(before, after) for before, after in zip([torch.zeros(24), *biases], biases, strict=False)]
    assert moved == [True, True, True, False, False]


def test_biases_of_normalisation_learn_64_times_as_fast_and_decay_no_faster() -> None:
    network, recipe = Airbench(**NARROW), Recipe(lr=0.5, weight_decay=1e-3)
    optimizer = optimization.create_optimizer(network, recipe, parameter_groups(network, recipe))
    optimization.Schedule(optimizer, recipe, 10).set(0)
    names = {value: name for name, value in network.named_parameters()}
    rates = {
        names[value]: (g["lr"], g["lr"] * g["weight_decay"]) for g in optimizer.param_groups for value in g["params"]
    }
    assert len(rates) == 6 + 1 + 6 + 1  # convolutions, first bias, normalisation's biases, fc
    for name, (rate, decay) in rates.items():
        assert decay == pytest.approx(0.5 * 1e-3)
        assert rate == pytest.approx(32.0 if ".norm" in name else 0.5), name
    assert not {"whiten.weight", "group1.norm1.weight"} & rates.keys()


@pytest.mark.parametrize(
    ("name", "rate", "decay", "rise", "start", "end"),
    [
        ("airbench94", 11.5, 0.0153, 0.23, 0.2, 0.07),
        ("airbench95", 10.0, 0.0153, 0.23, 0.2, 0.07),
        ("airbench96", 9.0, 0.012, 0.1, 0.0, 0.0),
    ],
)
def test_the_recipe_is_the_scripts_in_units_of_a_mean_loss(
    name: str, rate: float, decay: float, rise: float, start: float, end: float
) -> None:
    recipe = training.choose(plugin, MODELS[name], "cifar10")
    examples = 1024 * (1 + 1 / (1 - 0.85))  # the scripts' unit
    # On the sum over a batch: w -= (rate / examples) * (gradient + decay / rate * w), as its optimiser has it.
    assert recipe.lr / recipe.batch_size == pytest.approx(rate / examples)
    assert recipe.lr * recipe.weight_decay == pytest.approx(decay * 1024 / examples, rel=1e-6)
    steps = 48 * recipe.epochs
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    rates = optimization.Schedule(optimizer, recipe, 48)
    got = [rates.set(update) / recipe.lr for update in range(steps)]
    expected = np.interp(np.arange(steps), [0, rise * steps, steps], [start, 1, end])
    assert np.abs(np.array(got) - expected).max() < 1 / (rise * steps)  # the peak lies on a whole update here


class Sum(nn.Module):
    """Tells views apart: a logit is a weighted sum of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(2, 3, 8, 8, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("bchw,kchw->bk", images, self.weight)


def test_six_views_are_weighed_as_in_the_script() -> None:
    network, images = Sum(), torch.randn(3, 3, 8, 8)
    padded = F.pad(images, (1,) * 4, "reflect")
    views = [images, padded[:, :, 0:8, 0:8], padded[:, :, 2:10, 2:10]]
    expected = sum(
        weight / 2 * (network(view) + network(view.flip(3)))
        for weight, view in zip((0.5, 0.25, 0.25), views, strict=True)
    )
    torch.testing.assert_close(Views(network)(images), expected)


def test_scoring_names_the_network_and_leaves_it_as_it_was() -> None:
    network, images = zoo.create("airbench94", num_classes=2), noise(8)
    network.train()
    preprocess = MODELS["airbench94"].preprocess
    report = zoo.evaluate(network, images)
    assert (report.model, report.n) == ("airbench94", 8)
    logits = evaluate_views(network, images, preprocess=preprocess)
    assert report.loss == pytest.approx(float(F.cross_entropy(logits, images.labels)))
    assert network.training
    assert report.loss != evaluate(network, images, preprocess=preprocess).loss  # one view is another answer

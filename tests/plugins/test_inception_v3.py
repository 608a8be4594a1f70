"""Inception v3 against torchvision, timm, the papers' numbers and closed forms."""

from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
import torchvision
from support import reference
from support.reference import assert_same_function, macs_of, params_of, photographs, randomise
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import registry, training
from zoo.errors import RecipeError
from zoo.training import Recipe, optimization
from zoo_inception import plugin
from zoo_inception.inception_v3 import InceptionV3
from zoo_inception.training import auxiliary_heads, criterion, rmsprop_groups, train

ROW = next(model for model in plugin.models if model.name == "inception_v3")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def on_meta(**args: Any) -> InceptionV3:
    with torch.device("meta"):
        return InceptionV3(**args)


outline = cache(on_meta)
"""As ``on_meta``, built once: for counting alone."""


def theirs_on_meta(**args: Any) -> nn.Module:
    with torch.device("meta"):
        return torchvision.models.inception_v3(init_weights=False, **args)


@pytest.fixture(scope="module")
def pair() -> tuple[InceptionV3, nn.Module]:
    """Ours and torchvision's with the same random weights and no dropout, the auxiliary classifier included."""
    ours, theirs = on_meta(aux=True, drop_rate=0.0), theirs_on_meta(dropout=0.0)
    randomise(ours)
    theirs.load_state_dict(ours.state_dict(), assign=True)
    return ours, theirs


@pytest.fixture(scope="module")
def fresh() -> InceptionV3:
    """A newly initialised network with the auxiliary classifier."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return InceptionV3(aux=True, num_classes=3)


# ---- Size ----


def test_the_network_has_the_published_size() -> None:
    network = outline()
    assert params_of(network) == ROW.params == 23_834_568
    assert macs_of(network, ROW.preprocess.input_size) == ROW.macs == 5_713_216_096


def test_the_auxiliary_classifier_adds_3_326_696_parameters_and_nothing_to_evaluation() -> None:
    network = outline(aux=True)
    assert params_of(network) == 27_161_264
    assert params_of(network.AuxLogits) == 3_326_696
    assert macs_of(network, (3, 299, 299)) == 5_713_216_096


def test_keys_are_timms_566_and_with_the_auxiliary_classifier_torchvisions_580() -> None:
    with torch.device("meta"):
        timms = timm.create_model("inception_v3")
    assert list(outline().state_dict()) == list(timms.state_dict())
    assert list(outline(aux=True).state_dict()) == list(theirs_on_meta().state_dict())
    assert (len(outline().state_dict()), len(outline(aux=True).state_dict())) == (566, 580)


# ---- The same function, with the same weights, on real images ----


def test_logits_equal_torchvisions(pair: tuple[InceptionV3, nn.Module]) -> None:
    assert_same_function(*pair, photographs(2, 139))


@pytest.mark.slow
def test_logits_and_stages_equal_timms(pair: tuple[InceptionV3, nn.Module]) -> None:
    with torch.device("meta"):
        theirs = timm.create_model("inception_v3", aux_logits=False)
    theirs.load_state_dict({k: v for k, v in pair[0].state_dict().items() if "Aux" not in k}, assign=True)
    images = photographs(2, 139)
    assert_same_function(pair[0], theirs, images)
    assert pair[0].feature_info == theirs.feature_info
    reference.assert_same_stages(pair[0], theirs, images)


# ---- What people get wrong ----


def test_it_expects_299_and_values_in_minus_1_to_1_which_torchvision_makes_of_imagenets_standardised_ones(
    pair: tuple[InceptionV3, nn.Module],
) -> None:
    """torchvision's transforms standardise by ImageNet's statistics; ``transform_input`` of its network undoes that."""
    assert ROW.preprocess.input_size == (3, 299, 299)
    assert ROW.preprocess.mean == ROW.preprocess.std == (0.5, 0.5, 0.5)
    ours, theirs = pair
    pixels = photographs(2, 107) / 2 + 0.5  # in [0, 1]
    standardised = torchvision.transforms.functional.normalize(pixels, IMAGENET_MEAN, IMAGENET_STD)
    theirs.transform_input = True
    try:
        with torch.no_grad():
            expected = theirs.eval()(standardised)
    finally:
        theirs.transform_input = False
    with torch.no_grad():
        got, wrong = ours.eval()(pixels * 2 - 1), ours(standardised)
    scale = expected.abs().max()
    assert (got - expected).abs().max() <= 1e-4 * scale
    assert (wrong - expected).abs().max() > 1e-2 * scale


def test_average_pools_of_tensorflow_and_keras_leave_the_padding_out() -> None:
    pools = [module for module in on_meta(count_include_pad=False).modules() if isinstance(module, nn.AvgPool2d)]
    assert len(pools) == 9
    for pool in pools:
        torch.testing.assert_close(pool(torch.ones(1, 1, 5, 5)), torch.ones(1, 1, 5, 5))


@pytest.mark.slow
def test_the_filters_begin_cut_off_at_two_standard_deviations(fresh: InceptionV3) -> None:
    """torchvision's bounds of -2 and 2 are twenty of them, and cut off nothing."""
    kept = 0.87963  # standard deviation of N(0, 1) within [-2, 2]
    for name, std in {"Mixed_6c.branch1x1.conv": 0.1, "AuxLogits.conv1.conv": 0.01, "AuxLogits.fc": 0.001}.items():
        weight = fresh.get_submodule(name).weight
        assert weight.abs().max() <= 2 * std
        assert weight.std().item() == pytest.approx(kept * std, rel=0.03)
        assert fresh.fc.bias.abs().max() == 0


# ---- The auxiliary classifier ----


def test_in_training_the_output_is_torchvisions_pair_and_in_evaluation_the_logits_alone(
    pair: tuple[InceptionV3, nn.Module],
) -> None:
    images = photographs(2, 299)
    outputs = []
    for network in pair:
        network.train()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()  # a variance over two values magnifies rounding
        with torch.no_grad():
            outputs.append(network(images))
        network.eval()
    ours, theirs = outputs
    assert isinstance(ours, tuple)
    for got, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert (ours[0] - ours[1]).abs().max() > 0.1 * ours[0].abs().max()
    with torch.no_grad():
        assert isinstance(pair[0](images[:1]), Tensor)


@pytest.mark.slow
def test_the_auxiliary_classifier_takes_smaller_images_too_and_teaches_what_lies_below_it(fresh: InceptionV3) -> None:
    logits, auxiliary = fresh.train()(photographs(2, 75))
    assert logits.shape == auxiliary.shape == (2, 3)
    auxiliary.square().sum().backward()
    assert fresh.AuxLogits.conv1.conv.weight.grad.abs().max() > 0
    assert fresh.Mixed_6e.branch1x1.conv.weight.grad.abs().max() > 0
    assert fresh.Mixed_7a.branch3x3_1.conv.weight.grad is None


def test_another_number_of_classes_changes_both_classifiers() -> None:
    network = on_meta(aux=True)
    network.reset_classifier(7)
    assert (network.fc.weight.shape, network.AuxLogits.fc.weight.shape) == ((7, 2048), (7, 768))
    network.reset_classifier(0)
    assert isinstance(network.get_classifier(), nn.Identity)


def test_the_hook_gives_the_auxiliary_classifier_for_the_time_of_training_and_keeps_one_that_was_there() -> None:
    network = on_meta()
    with auxiliary_heads(network):
        assert network.state_dict().keys() == outline(aux=True).state_dict().keys()
    assert network.state_dict().keys() == outline().state_dict().keys()
    network = on_meta(aux=True)
    kept = network.AuxLogits
    with auxiliary_heads(network):
        assert network.AuxLogits is kept
    assert network.AuxLogits is kept
    with auxiliary_heads(nn.Linear(1, 1)):
        pass  # a network without any


def test_the_loss_counts_the_auxiliary_classifier_0_4_and_smooths_both_labels() -> None:
    """Szegedy et al. 2015, section 7: the label's share is 1 - 0.1, and 0.1 is spread over all classes."""
    generator = torch.Generator().manual_seed(0)
    logits, auxiliary = torch.randn(2, 5, 10, generator=generator)
    labels = torch.tensor([3, 1, 4, 1, 5])

    def smoothed(values: Tensor) -> Tensor:
        wanted = 0.9 * F.one_hot(labels, 10) + 0.1 / 10
        return -(wanted * values.log_softmax(dim=1)).sum(dim=1).mean()

    loss = criterion(InceptionV3.aux_weight, 0.1)
    torch.testing.assert_close(loss((logits, auxiliary), labels), smoothed(logits) + 0.4 * smoothed(auxiliary))
    torch.testing.assert_close(loss(logits, labels), smoothed(logits))


# ---- Public weights ----


@cache
def entries() -> dict[str, Any]:
    row = next(row for row in registry.current().plugins if row.name == "inception")
    return {entry.name: entry for entry in row.weights["inception_v3"]}


@pytest.mark.parametrize("tag", ["gluon_in1k", "tf_adv_in1k", "tf_in1k", "tv_in1k"])
def test_each_lineages_input_is_prepared_as_timm_does_and_gluons_alone_by_imagenets_statistics(tag: str) -> None:
    expected = timm.get_pretrained_cfg(f"inception_v3.{tag}")
    preprocess = entries()[f"inception_v3.{tag}"].preprocess
    for field in ("input_size", "crop_pct", "interpolation", "mean", "std"):
        assert getattr(preprocess, field) == getattr(expected, field), field
    assert (preprocess.mean == IMAGENET_MEAN) == (tag == "gluon_in1k")


def test_torchvisions_weights_are_prepared_as_torchvision_does() -> None:
    transforms = torchvision.models.Inception_V3_Weights.IMAGENET1K_V1.transforms()
    preprocess = entries()["inception_v3.tv_pth_in1k"].preprocess
    assert preprocess.input_size[1:] == tuple(transforms.crop_size) * 2
    assert int(299 / preprocess.crop_pct) == transforms.resize_size[0] == 342
    assert preprocess.interpolation == transforms.interpolation.value


def test_timms_copy_of_torchvisions_weights_has_the_auxiliary_classifier_and_the_others_do_not() -> None:
    """27,161,264 parameters, published with that file's sha256; timm itself throws the surplus away."""
    sizes = {name: params_of(on_meta(**entry.args)) for name, entry in entries().items()}
    assert sizes.pop("inception_v3.tv_in1k") == 27_161_264
    assert set(sizes.values()) == {23_834_568}


# ---- Recipe and RMSProp ----


def test_the_papers_recipe_is_section_8s() -> None:
    recipe = training.choose(plugin, "inception_v3", "imagenet-1k")
    assert recipe.name == "paper_in1k_v3"
    assert (recipe.epochs, recipe.batch_size, recipe.clip_grad, recipe.label_smoothing) == (100, 32, 2.0, 0.1)
    optimizer = optimization.create_optimizer(nn.Linear(2, 2), recipe)
    assert optimizer.param_groups[0]["alpha"] == 0.9
    rates = optimization.Schedule(optimizer, recipe, updates_per_epoch=5)
    assert [rates.set(update) for update in (0, 9, 10, 20)] == pytest.approx([0.045, 0.045, 0.0423, 0.039762])


def test_rmsprop_has_epsilon_1_under_the_root_so_that_a_small_gradient_makes_a_small_step() -> None:
    """TensorFlow's: the mean square begins at 1; with epsilon 1e-10 the step would be 1.4 times as long."""
    layer = nn.Linear(3, 2)
    recipe = Recipe(optimizer="rmsproptf", lr=0.045, momentum=0.9, weight_decay=0.0)
    before = layer.weight.detach().clone()
    gradients = torch.tensor([[0.5, -1.0, 2.0], [0.1, 0.0, -3.0]])
    optimizer = optimization.create_optimizer(layer, recipe, rmsprop_groups(layer, recipe))
    square, step, expected = torch.ones(2, 3), torch.zeros(2, 3), before
    for _ in range(3):
        layer.weight.grad, layer.bias.grad = gradients.clone(), torch.zeros(2)
        optimizer.step()
        square = 0.9 * square + 0.1 * gradients**2
        step = 0.9 * step + 0.045 * gradients / (square + 1).sqrt()
        expected = expected - step
        torch.testing.assert_close(layer.weight.detach(), expected)


@pytest.mark.parametrize("decays", [True, False])
def test_rmsprops_groups_hold_all_that_learns_once_and_spare_norms_and_biases_where_asked(decays: bool) -> None:
    network = on_meta()
    network.Conv2d_1a_3x3.requires_grad_(False)
    groups = rmsprop_groups(network, Recipe(weight_decay=4e-5, decay_norm_and_bias=decays))
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters() if parameter.requires_grad)
    spared = {parameter.ndim for group in groups if not group["weight_decay"] for parameter in group["params"]}
    assert spared == (set() if decays else {1})
    assert {group["eps"] for group in groups} == {1.0}


def test_layer_decay_with_rmsprop_is_refused() -> None:
    nothing: Any = SimpleNamespace()
    with pytest.raises(RecipeError, match="layer_decay"):
        train(nn.Linear(1, 1), nothing, Recipe(optimizer="rmsproptf", layer_decay=0.5), nothing, preprocess=nothing)

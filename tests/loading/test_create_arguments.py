"""The arguments of ``zoo.create`` that every family shares, and what every network has because of them."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import timm.data
import torch
from PIL import Image
from support.foreign import calls_here
from support.reference import randomise
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

import zoo
from zoo.errors import SpecError, TensorMismatchError, UnknownNameError, WeightsError
from zoo.loading import safetensors_file, skip_init


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


# ---- global_pool, drop_rate, drop_path_rate --------------------------------------------------------------------


@pytest.mark.parametrize(("pool", "reduced"), [("avg", "mean"), ("max", "amax")])
@pytest.mark.parametrize("name", ["resnet20", "airbench94"])
def test_a_global_pool_stands_in_front_of_the_classifier_of_the_weights(name: str, pool: str, reduced: str) -> None:
    tag = {"resnet20": "digits", "airbench94": "c10"}[name]
    network, usual = zoo.create(f"{name}.{tag}", global_pool=pool).eval(), zoo.create(f"{name}.{tag}")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), usual.parameters(), strict=True))
    images = noise(2, *network.zoo_info.preprocess.input_size)
    with torch.no_grad():
        maps = network.forward_features(images)
        pooled = network.forward_head(maps, pre_logits=True)
    torch.testing.assert_close(pooled, getattr(maps, reduced)(dim=(2, 3)))
    assert network.pool == pool


def test_without_pool_and_classes_the_maps_come_out() -> None:
    network = zoo.create("resnet20.digits", num_classes=0, global_pool="").eval()
    images = noise(2, 1, 8, 8)
    assert torch.equal(network(images), network.forward_features(images))


def test_dropout_acts_in_training_alone() -> None:
    network, images = zoo.create("resnet20", drop_rate=0.5), noise(4, 3, 32, 32)
    maps = network.forward_features(images)
    dropped = network.forward_head(maps, pre_logits=True)
    share = float((dropped == 0).float().mean())
    assert 0.3 < share < 0.7
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 2 * network.eval().forward_head(maps, pre_logits=True)[kept])


def test_stochastic_depth_equals_timms_draw_by_draw() -> None:
    with skip_init():
        ours = zoo.create("resnet18", drop_path_rate=0.5)
        theirs = timm.create_model("resnet18", drop_path_rate=0.5)
    randomise(theirs)
    ours.load_state_dict(theirs.state_dict())
    outputs = []
    for network in (ours, theirs):
        torch.manual_seed(1)
        outputs.append(network.train()(noise(4, 3, 64, 64)))
    assert torch.equal(*outputs)
    assert not torch.allclose(outputs[0], ours.eval()(noise(4, 3, 64, 64)))


@pytest.mark.parametrize(
    ("name", "argument", "value", "known"),
    [
        ("vgg11", "drop_path_rate", 0.1, "drop_rate"),
        ("densenet121", "output_stride", 8, "growth_rate"),
        ("hmax", "global_pool", "max", "prototypes"),
        ("hmax", "drop_rate", 0.1, "prototypes"),
        ("timm/vgg11", "drop_path_rate", 0.1, "drop_rate"),
        ("torchvision/alexnet", "drop_rate", 0.1, "dropout"),
    ],
)
def test_an_argument_that_a_model_does_not_have_is_an_error_with_those_it_has(
    name: str, argument: str, value: Any, known: str
) -> None:
    with pytest.raises(UnknownNameError, match=f"{name} has no argument '{argument}'") as caught:
        zoo.create(name, **{argument: value})
    assert known in caught.value.hint.partition("Arguments: ")[2].rstrip(".").split(", ")


@pytest.mark.parametrize("changed", [{"drop_rate": 1.5}, {"drop_path_rate": -0.1}, {"global_pool": "median"}], ids=str)
def test_an_impossible_value_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=f"{next(iter(changed))} = .* (must be |is not one of)"):
        zoo.create("resnet20", **changed)


def test_stochastic_depth_of_the_other_family_is_its_survival() -> None:
    given = zoo.create("wrn28_10", drop_path_rate=0.25, width=1)
    assert str(given) == str(zoo.create("wrn28_10", survival=0.75, width=1))
    with pytest.raises(SpecError, match="expected one of them"):
        zoo.create("wrn28_10", drop_path_rate=0.25, survival=0.75, width=1)


# ---- output_stride ---------------------------------------------------------------------------------------------


@pytest.mark.first(2)
@pytest.mark.parametrize(("name", "stride"), [("resnet18", 8), ("resnet50", 16), ("resnet50", 8)])
def test_a_smaller_output_stride_equals_timms_with_the_same_weights(name: str, stride: int) -> None:
    with skip_init():
        theirs = timm.create_model(name, output_stride=stride, num_classes=7).eval()
        ours = zoo.create(name, output_stride=stride, num_classes=7).eval()
    randomise(theirs)
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        maps = ours.forward_features(noise(1, 3, 96, 96))
        assert maps.shape[2:] == (96 // stride, 96 // stride)
        assert torch.equal(maps, theirs.forward_features(noise(1, 3, 96, 96)))
    assert ours.feature_info == theirs.feature_info


def test_an_output_stride_leaves_the_state_as_it_is() -> None:
    with torch.device("meta"):
        usual, dilated = (zoo.create("resnet50", **how).state_dict() for how in ({}, {"output_stride": 8}))
    assert {k: v.shape for k, v in usual.items()} == {k: v.shape for k, v in dilated.items()}


# ---- features_only ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("out_indices", [None, (1, -1), 2], ids=str)
def test_features_of_weights_are_the_networks_intermediates(out_indices: Any) -> None:
    whole, images = zoo.create("resnet20.digits").eval(), noise(2, 1, 8, 8)
    network = zoo.create("resnet20.digits", features_only=True, out_indices=out_indices).eval()
    assert network.zoo_info.name == "resnet20.digits"
    with torch.no_grad():
        expected = whole.forward_intermediates(images, out_indices, intermediates_only=True)
        got = network(images)
    assert [torch.equal(a, b) for a, b in zip(got, expected, strict=True)] == [True] * len(expected)
    assert [maps.shape[1] for maps in got] == network.feature_info.channels()
    assert not any(key.startswith("body.fc") for key in network.state_dict())


@pytest.mark.first(1)
@pytest.mark.parametrize("arch", ["resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_features_of_timms_networks_are_timms(arch: str) -> None:
    torch.manual_seed(0)
    ours = zoo.create(f"timm/{arch}", features_only=True, out_indices=(1, 3)).eval()
    theirs = timm.create_model(arch, features_only=True, out_indices=(1, 3)).eval()
    theirs.load_state_dict(ours.state_dict())
    assert type(ours) is type(theirs)
    images = noise(1, 3, 224, 224)
    with torch.inference_mode():
        assert all(torch.equal(a, b) for a, b in zip(ours(images), theirs(images), strict=True))


def test_arguments_without_effect_are_refused() -> None:
    with pytest.raises(SpecError, match="chooses feature maps"):
        zoo.create("resnet20", out_indices=(1,))
    with pytest.raises(SpecError, match="num_classes = 5 has no effect"):
        zoo.create("resnet20", features_only=True, num_classes=5)
    with pytest.raises(SpecError, match="expected stages of 4"):
        zoo.create("resnet20", features_only=True, out_indices=(4,))


# ---- weights ---------------------------------------------------------------------------------------------------


def test_a_file_of_another_format_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = calls_here(monkeypatch)
    state = zoo.create("airbench94").state_dict()
    torch.save(state, tmp_path / "mine.pth")
    for _ in range(2):
        network = zoo.create("airbench94", weights=tmp_path / "mine.pth")
        assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())
    assert done == ["mine.pth"]
    torch.save({"other": torch.ones(2)}, tmp_path / "mine.pth")
    with pytest.raises(TensorMismatchError, match=r"mine\.pth"):
        zoo.create("airbench94", weights=tmp_path / "mine.pth")


def test_a_missing_file_of_another_format_is_named() -> None:
    with pytest.raises(WeightsError, match=r"nothing\.h5: cannot be read: No such file"):
        zoo.create("airbench94", weights="nothing.h5")


def test_a_file_may_have_the_shared_arguments(tmp_path: Path) -> None:
    about = {"model": "resnet20", "args": {"drop_rate": 0.25, "global_pool": "max", "drop_path_rate": 0.1}}
    safetensors_file.write(zoo.create("resnet20").state_dict(), tmp_path / "some.safetensors", about)
    network = zoo.create("resnet20", weights=tmp_path / "some.safetensors")
    assert (network.drop_rate, network.pool) == (0.25, "max")
    assert zoo.create("resnet20", weights=tmp_path / "some.safetensors", drop_rate=0.5).drop_rate == 0.5


# ---- what every network has ------------------------------------------------------------------------------------


@pytest.mark.first(4)
@pytest.mark.parametrize(
    "name",
    ["resnet20.c10", "vgg16", "inception_v3", "timm/resnet18", "timm/vit_tiny_patch16_224", "torchvision/alexnet"],
)
def test_timm_resolves_the_transform_of_zoo(name: str) -> None:
    with torch.device("meta"):
        network = zoo.create(name.partition(".")[0])
    if "." in name:
        network = zoo.create(name)
    picture = Image.fromarray(torch.randint(256, (301, 403, 3), dtype=torch.uint8).numpy())
    theirs = timm.data.create_transform(**timm.data.resolve_data_config(model=network), is_training=False)
    assert torch.equal(theirs(picture), zoo.preprocess(network)(picture))


def test_the_configuration_has_what_is_known_of_the_weights() -> None:
    config = zoo.create("resnet20.c10").pretrained_cfg
    expected = {
        "architecture": "resnet20",
        "tag": "c10",
        "num_classes": 10,
        "first_conv": "conv1",
        "classifier": "fc",
        "license": "Apache-2.0",
        "input_size": (3, 32, 32),
    }
    assert {key: config[key] for key in expected} == expected
    assert zoo.create("resnet20.c10").default_cfg == config


@pytest.mark.first(3)
@pytest.mark.parametrize("name", ["resnet20", "densenet121", "timm/resnet18", "hmax", "neocognitron_1980"])
def test_networks_survive_deepcopy_and_pickle(name: str) -> None:
    with skip_init():
        network = zoo.create(name)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert other.zoo_info.name == name
        assert other.state_dict().keys() == network.state_dict().keys()


@pytest.mark.first(4)
@pytest.mark.parametrize("coarse", [True, False])
@pytest.mark.parametrize("name", ["resnet20", "vgg11", "densenet121", "inception_v3", "torchvision/resnet18"])
def test_timm_groups_the_parameters_from_the_stem_to_the_head(name: str, coarse: bool) -> None:
    with torch.device("meta"):
        network = zoo.create(name)
    groups = group_parameters(network, network.group_matcher(coarse=coarse), reverse=True)
    assert groups.keys() == {key for key, _ in network.named_parameters()}
    (stem,), (head,) = network.zoo_info.model.stem, network.zoo_info.model.head
    assert groups[f"{stem}.weight"] == 0
    assert groups[f"{head}.weight"] == max(groups.values())
    assert len(set(groups.values())) >= (4 if coarse else 5)


def test_groups_are_blocks_or_stages() -> None:
    network = zoo.create("resnet20")
    fine, coarse = (group_parameters(network, network.group_matcher(coarse=c), reverse=True) for c in (False, True))
    assert [coarse[f"layer{n}.0.conv1.weight"] for n in (1, 2, 3)] == [1, 2, 3]
    assert [fine[f"layer{n}.{b}.conv1.weight"] for n in (1, 2) for b in (0, 1, 2)] == [1, 2, 3, 4, 5, 6]
    rates = {group["lr_scale"] for group in param_groups_layer_decay(network, layer_decay=0.5)}
    assert rates == {0.5**n for n in range(11)}


def test_checkpointed_blocks_give_the_same_gradients_and_statistics_from_fewer_tensors() -> None:
    network = zoo.create("resnet20", drop_path_rate=0.5, drop_rate=0.3)
    state, found = copy.deepcopy(network.state_dict()), []
    for is_checkpointed in (False, True):
        network.load_state_dict(state)
        network.set_grad_checkpointing(is_checkpointed)
        network.zero_grad()
        kept = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        torch.manual_seed(3)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(noise(4, 3, 32, 32)).square().sum().backward()
        found.append((kept, [p.grad.clone() for p in network.parameters()], copy.deepcopy(network.state_dict())))
    (usual, gradients, statistics), (fewer, others, after) = found
    assert fewer < usual / 2
    assert all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))
    assert all(torch.equal(statistics[key], after[key]) for key in statistics)
    network.set_grad_checkpointing(False)
    assert not any("forward" in vars(module) for module in network.modules())


def test_a_network_of_single_layers_says_that_it_has_no_blocks() -> None:
    with torch.device("meta"):
        network = zoo.create("vgg11")
    with pytest.raises(SpecError, match="VGG has no blocks"):
        network.set_grad_checkpointing()
    network.set_grad_checkpointing(False)


def test_a_checkpointed_network_can_be_copied() -> None:
    network = zoo.create("resnet20")
    network.set_grad_checkpointing()
    other = pickle.loads(pickle.dumps(network))
    copied = copy.deepcopy(network)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.zero_()
    for module in (other, copied):
        assert float(module.train()(noise(2, 3, 32, 32)).detach().abs().sum()) > 0


def test_features_only_networks_keep_the_hook_to_themselves() -> None:
    network: nn.Module = zoo.create("resnet20", features_only=True)
    again = copy.deepcopy(network)
    assert network(noise(1, 3, 32, 32))[0].shape == again(noise(1, 3, 32, 32))[0].shape

"""Deconvnets against the operations that the paper draws, and against captum where captum sees the ReLUs."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from support.seeded import noise
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
import zoo_look as look
from zoo import data
from zoo.errors import DataError, UnknownNameError, WeightsError
from zoo_look.attribution import METHODS, gradient
from zoo_look.network import Deconvolution, Guided, Rectifiers, downward

pytest.importorskip("captum", reason="needs zoo-vision[look]")
pytest.importorskip("matplotlib", reason="needs zoo-vision[look]")


def eight_digits() -> data.ImageSet:
    return data.load("digits", "train").subset(range(40), "few")


def traces(model: nn.Module) -> list[Any]:
    """Returns all that looking could leave on a network."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    parts = [
        (name, part.training, *(len(getattr(part, kind)) for kind in kinds)) for name, part in model.named_modules()
    ]
    tensors = [(name, tensor.clone()) for name, tensor in model.state_dict().items()]
    flags = [(name, p.requires_grad, p.grad) for name, p in model.named_parameters()]
    modes = [torch.is_grad_enabled(), torch._C._len_torch_function_stack()]
    return [parts, [(n, t.double().sum().item()) for n, t in tensors], flags, modes]


def of_logits(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Returns the deconvnet of target logits, for a seed of 1."""
    with Rectifiers(Deconvolution):
        return gradient(model, images, targets)


def by_captum(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    import warnings

    from captum.attr import Deconvolution as Captum

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it announces its hooks
        return Captum(model).attribute(images, target=targets).detach()


def expect_close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


def test_a_trained_network_equals_unpooling_rectifying_and_flipped_filters_by_hand() -> None:
    model = zoo.create("gcn4_3x3.mnist").eval()
    image = noise(1, 1, 28, 28)
    blocks: list[Any] = [model.get_submodule(f"block{number}") for number in (1, 2, 3)]
    with torch.no_grad():
        x, switches, sizes = image, [], []
        for block in blocks:
            x = block.act(block.bn(block.conv(x)))
            sizes.append(x.shape)
            x, indices = F.max_pool2d(x, 2, return_indices=True)
            switches.append(indices)
        for channel in (0, 37, int(x[0].amax((1, 2)).argmax())):
            place = divmod(int(x[0, channel].argmax()), x.shape[3])
            down = torch.zeros_like(x)
            down[0, channel, *place] = x[0, channel, *place]
            for block, indices, size in list(zip(blocks, switches, sizes, strict=True))[::-1]:
                down = F.relu(F.max_unpool2d(down, indices, 2, output_size=size[2:]))
                down = down * (block.bn.weight / (block.bn.running_var + block.bn.eps).sqrt())[:, None, None]
                filters = block.conv.filters()
                down = F.conv_transpose2d(down, filters, padding=block.conv.padding)
            result = look.project(model, image, "block3", channel)
            assert result.position == place
            assert result.activation == pytest.approx(float(x[0, channel, *place]), rel=1e-5)
            if result.activation > 0:
                expect_close(result.projection[None], down, 1e-6)


@pytest.mark.parametrize("name", ["alexnet_small.c10", "resnet20.c10", "googlenet_small.c10", "vgg16_bn_small"])
def test_module_relus_give_what_captum_gives(name: str) -> None:
    torch.manual_seed(0)
    model = zoo.create(name).eval()
    images, targets = noise(2, 3, 32, 32), torch.tensor([3, 5])
    expect_close(of_logits(model, images, targets), by_captum(model, images, targets))


FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "Tensor.relu": lambda x: x.relu(),
    "Tensor.relu_": lambda x: x.relu_(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_": lambda x: x.clamp_(min=0),
    "clamp_min": lambda x: torch.clamp_min(x, 0.0),
    "a module in place": nn.ReLU(inplace=True),
}


class Twin(nn.Module):
    """Two convolutions and a linear layer, each followed by ``relu``: one module or function, called three times."""

    def __init__(self, relus: list[Any]) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3), nn.Linear(8 * 16, 5)
        self.head = nn.Linear(5, 4)
        self.relus = nn.ModuleList(relus) if isinstance(relus[0], nn.Module) else relus

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.relus
        x = F.max_pool2d(first(self.conv1(x)), 2)
        return self.head(third(self.fc(second(self.conv2(x)).flatten(1))))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_relu_counts_however_often_one_is_used(form: str) -> None:
    """Against captum on the same weights with a module for each place."""
    images, targets = noise(2, 3, 14, 14), torch.tensor([1, 2])
    modules = Twin([nn.ReLU(), nn.ReLU(), nn.ReLU()]).eval()
    with torch.no_grad():
        assert modules(images).abs().max() > 0
    twin = Twin([FORMS[form]] * 3).eval()
    expect_close(of_logits(twin, images, targets), by_captum(modules, images, targets))
    plain = gradient(twin, images, targets)
    assert not torch.allclose(plain, by_captum(modules, images, targets), rtol=1e-2)


CAPPED: dict[str, Callable[[Tensor], Tensor]] = {
    "nn.ReLU6": nn.ReLU6(),
    "nn.ReLU6 in place": nn.ReLU6(inplace=True),
    "F.relu6": F.relu6,
    "F.hardtanh": lambda x: F.hardtanh(x, 0.0, 6.0),
    "clamp": lambda x: x.clamp(0, 6),
}


@pytest.mark.parametrize("form", CAPPED)
def test_a_relu6_is_a_relu_that_closes_at_six(form: str) -> None:
    """By hand: a deconvnet rectifies what comes down; guided backpropagation also where the unit was closed."""
    values = torch.tensor([-1.0, 3.0, 3.0, 8.0], requires_grad=True)
    above = torch.tensor([1.0, 2.0, -2.0, 4.0])
    expected: dict[type[torch.autograd.Function], list[float]] = {
        Deconvolution: [1.0, 2.0, 0.0, 4.0],
        Guided: [0.0, 2.0, 0.0, 0.0],
    }
    for rule, down in expected.items():
        with Rectifiers(rule) as seen:
            output = CAPPED[form](values * 1)
            (gradient,) = torch.autograd.grad(output, values, above)
        assert output.tolist() == [0.0, 3.0, 3.0, 6.0]
        assert gradient.tolist() == down
        assert (seen.relus, dict(seen.others)) == (1, {})


def test_a_hardtanh_below_zero_is_no_relu() -> None:
    with Rectifiers(Deconvolution) as seen:
        F.hardtanh(torch.ones(2))
    assert (seen.relus, dict(seen.others)) == (0, {"Hardtanh": 1})


def test_a_relu_in_place_on_a_part_of_a_tensor_counts() -> None:
    class Halves(nn.Module):
        def __init__(self, is_view: bool) -> None:
            super().__init__()
            torch.manual_seed(3)
            self.conv, self.head, self.is_view = nn.Conv2d(3, 6, 3), nn.Linear(6, 4), is_view

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            if self.is_view:
                x[:, :3].relu_()
            else:
                x = torch.cat([torch.relu(x[:, :3]), x[:, 3:]], dim=1)
            return self.head(x.square().mean((2, 3)))

    images, targets = noise(2, 3, 14, 14), torch.tensor([1, 2])
    expect_close(of_logits(Halves(True), images, targets), of_logits(Halves(False), images, targets))


def test_a_network_without_relu_is_refused_with_what_it_has_instead() -> None:
    with pytest.raises(WeightsError, match="no ReLU, but GELU"):
        look.project("airbench94.c10", noise(3, 32, 32))


def test_other_activations_beside_relus_are_told(caplog: pytest.LogCaptureFixture) -> None:
    model = zoo.create("resnet20.digits")
    model.act1 = nn.Hardswish()
    look.project(model, noise(1, 8, 8), "layer1")
    assert "Hardswish uses its gradient" in caplog.text
    caplog.clear()
    look.project("resnet20.digits", noise(1, 8, 8), "layer1")
    assert not caplog.text


@pytest.mark.parametrize("name", ["alexnet_small.c10", "googlenet_small.c10", "densenet_bc_40_12.c10"])
def test_the_forward_pass_is_the_same_to_the_bit(name: str) -> None:
    model, images = zoo.create(name).eval(), noise(2, 3, 32, 32)
    with torch.no_grad():
        plain = model(images)
        with Rectifiers(Deconvolution) as seen:
            assert torch.equal(model(images), plain)
    assert seen.relus > 5


def test_overlapping_pools_send_all_of_a_signal_down() -> None:
    """Which unpooling by indices does not: where two windows chose one place, it keeps one of both."""
    model: Any = zoo.create("alexnet_small.c10").eval()
    with torch.no_grad():
        maps = model.features[:2](noise(1, 3, 32, 32))
    leaf = maps.clone().requires_grad_()
    pooled, indices = F.max_pool2d(leaf, 3, 2, return_indices=True)
    seed = torch.rand(pooled.shape, generator=torch.Generator().manual_seed(0))
    with Rectifiers(Deconvolution):
        signal = downward(model.features[2](leaf), leaf, seed, "features.2")
    assert float(signal.sum()) == pytest.approx(float(seed.sum()), rel=1e-5)
    assert float(F.max_unpool2d(seed, indices, 3, 2, output_size=maps.shape[2:]).sum()) < 0.9 * float(seed.sum())


def test_a_projection_stays_within_what_the_unit_sees() -> None:
    result = look.deconv("resnet20.digits", "layer1.0", eight_digits(), count=3, units=4)
    for unit in range(4):
        for rank in range(3):
            top, left, bottom, right = result.boxes[unit, rank].tolist()
            outside = result.projections[unit, rank].clone()
            outside[:, top:bottom, left:right] = 0
            assert (outside == 0).all()
            assert result.projections[unit, rank].abs().max() > 0


def test_the_strongest_images_are_those_of_a_search_by_hand() -> None:
    model, images = zoo.create("resnet20.digits").eval(), eight_digits()
    result = look.patches(model, "layer1", images, channels=[2, 5], count=4, batch_size=7)
    outputs: list[Tensor] = []
    handle = model.get_submodule("layer1").register_forward_hook(lambda m, i, o: outputs.append(o))
    with torch.no_grad():
        model(torch.stack([zoo.preprocess(model)(images.image(i)) for i in range(len(images))]))
    handle.remove()
    peaks = outputs[0].flatten(2).amax(2)[:, [2, 5]].T
    expected = peaks.sort(dim=1, descending=True, stable=True)
    torch.testing.assert_close(result.activations, expected.values[:, :4])
    assert torch.equal(result.images, expected.indices[:, :4])
    rows, columns = result.positions.unbind(-1)
    again = outputs[0][result.images, torch.tensor([[2], [5]]), rows, columns]
    torch.testing.assert_close(result.activations, again)


def test_of_an_oblong_image_the_strongest_unit_of_the_strongest_channel_is_projected() -> None:
    model = zoo.create("resnet20.c10").eval()
    image = noise(1, 3, 32, 56, seed=3)
    with torch.no_grad():
        maps = model.layer2(model.layer1(model.act1(model.bn1(model.conv1(image)))))[0]
    channel, row, column = (int(index) for index in torch.unravel_index(maps.argmax(), maps.shape))
    assert maps.shape[1] != maps.shape[2]
    assert row > 0  # or rows and columns of the wrong length give the same place
    result = look.project(model, image, "layer2")
    assert (result.channel, result.position) == (channel, (row, column))
    assert result.activation == pytest.approx(float(maps.max()), rel=1e-5)
    top, left, bottom, right = result.box
    assert bottom <= 32 < right <= 56 or right <= 56
    outside = result.projection.clone()
    outside[:, top:bottom, left:right] = 0
    assert (outside == 0).all()
    assert result.projection.abs().max() > 0


def test_projections_are_the_same_in_one_batch_and_in_several() -> None:
    asked = {"channels": [2, 5], "count": 3}
    whole = look.deconv("resnet20.digits", "layer1", eight_digits(), **asked)
    parts = look.deconv("resnet20.digits", "layer1", eight_digits(), batch_size=4, **asked)
    assert len(whole.positions.flatten(0, 1).unique(dim=0)) > 1
    assert torch.equal(parts.positions, whole.positions)
    torch.testing.assert_close(parts.projections, whole.projections)


@pytest.mark.parametrize(("name", "is_told"), [("resnet20.digits", True), ("googlenet_small.c10", False)])
def test_a_network_without_max_pools_is_told_to_give_specks(
    name: str, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = zoo.create(name).eval()
    look.project(model, noise(*model.zoo_info.preprocess.input_size), "layer2" if "resnet" in name else "inception3b")
    assert ("no max pool" in caplog.text) == is_told


def test_looking_leaves_nothing_behind_even_when_it_is_interrupted() -> None:
    model = zoo.create("resnet20.digits").train()
    model.get_submodule("layer1").eval()
    next(model.parameters()).requires_grad_(False)
    before = traces(model)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    asked: list[Callable[[], Any]] = [
        lambda: look.deconv(model, "layer1", eight_digits(), count=2, units=2),
        lambda: look.deconv(model, "layer1", eight_digits(), progress=interrupt),
        lambda: look.patches(model, "layer1", eight_digits(), progress=interrupt),
        lambda: look.maximize(model, "layer1", [0, 1], steps=2),
        lambda: look.maximize(model, "layer1", 0, steps=2, progress=interrupt),
        lambda: look.receptive_field(model, "layer2"),
        lambda: look.attribute(model, noise(1, 8, 8), "occlusion", progress=interrupt),
        *(lambda method=method: look.attribute(model, noise(1, 8, 8), method) for method in METHODS),
        lambda: look.project(model, noise(1, 8, 8), "absent"),
        lambda: look.project(model, noise(3, 8, 8), "layer1"),
    ]
    for ask in asked:
        with suppress(KeyboardInterrupt, UnknownNameError, RuntimeError):
            ask()
        assert traces(model) == before


def test_a_projection_is_right_inside_inference_mode() -> None:
    model = zoo.create("resnet20.digits")
    outside = look.project(model, noise(1, 8, 8), "layer1", 3)
    with torch.inference_mode():
        inside = look.project(model, noise(1, 8, 8), "layer1", 3)
    torch.testing.assert_close(inside.projection, outside.projection)


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (lambda: look.project("resnet20.digits", noise(1, 8, 8), "layer11"), UnknownNameError, "Did you mean layer1"),
        (lambda: look.project("resnet20.digits", noise(1, 8, 8), "layer1", 99), UnknownNameError, "no channel 99"),
        (lambda: look.project("resnet20.digits", noise(1, 8, 8), "layer1", 1, (8, 0)), UnknownNameError, "no unit"),
        (lambda: look.project("resnet20.digits", noise(1, 8, 8) / 0, "layer1"), DataError, "finite"),
    ],
)
def test_wrong_questions_are_answered_with_what_there_is(ask: Callable[[], Any], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        ask()

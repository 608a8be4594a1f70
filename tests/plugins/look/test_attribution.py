"""Attribution against closed forms and captum."""

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.command import ask_warm
from support.seeded import noise
from torch import Tensor, nn

import zoo
import zoo_look as look
from zoo.errors import MissingExtraError, SpecError, UnknownNameError, WeightsError
from zoo_look import attribution
from zoo_look.attribution import METHODS

captum = pytest.importorskip("captum.attr", reason="needs zoo-vision[look]")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return zoo.create("resnet20.c10").eval()


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # captum announces its hooks
        yield


def expect_close(found: Tensor, expected: Tensor) -> None:
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-5 * float(expected.abs().max()))


PEERS: dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    "gradient": lambda m, x, t: captum.Saliency(m).attribute(x, t, abs=False),
    "input_x_gradient": lambda m, x, t: captum.InputXGradient(m).attribute(x, t),
    "guided_backprop": lambda m, x, t: captum.GuidedBackprop(m).attribute(x, t),
    "grad_cam": lambda m, x, t: captum.LayerGradCam(m, m.get_submodule("layer3")).attribute(
        x, t, relu_attributions=True
    )[:, 0],
    "guided_grad_cam": lambda m, x, t: captum.GuidedGradCam(m, m.get_submodule("layer3")).attribute(
        x, t, interpolate_mode="bilinear"
    ),
    "occlusion": lambda m, x, t: captum.Occlusion(m).attribute(
        x, (3, 8, 8), strides=(3, 4, 4), target=t, perturbations_per_eval=16
    )[:, 0],
}


@pytest.mark.parametrize("method", PEERS)
def test_a_method_gives_what_captum_gives(method: str, model: nn.Module) -> None:
    images, targets = noise(2, 3, 32, 32), torch.tensor([3, 5])
    found = look.attribute(model, images, method, [3, 5], window=8, stride=4)
    expect_close(found.scores, PEERS[method](model, images, targets))


class Linear(nn.Module):
    default_layers = ()

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(3 * 12 * 12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


def test_occlusion_covers_every_pixel_when_windows_do_not_divide_the_image() -> None:
    linear, images = Linear(), noise(1, 3, 12, 12)
    for window, stride in ((5, 3), (7, 7), (12, 12), (1, 1)):
        scores = attribution.occlusion(linear, images, torch.tensor([2]), window=window, stride=stride)
        assert scores.isfinite().all()
    shares = (linear.fc.weight[2].view(3, 12, 12) * images[0]).sum(0)
    expect_close(attribution.occlusion(linear, images, torch.tensor([2]), window=1, stride=1)[0], shares)


def test_integrated_gradients_add_up_to_the_logit_s_rise_above_the_mean_image(model: nn.Module) -> None:
    """Sundararajan, Taly and Yan 2017, proposition 1."""
    image = 0.5 * noise(1, 3, 32, 32)
    found = look.attribute(model, image, "integrated_gradients", 3, samples=200)
    with torch.no_grad():
        rise = float((model(image) - model(torch.zeros_like(image)))[0, 3])
    assert float(found.scores.sum()) == pytest.approx(rise, rel=0.03)


def test_noise_of_smooth_grad_comes_from_the_seed_alone(model: nn.Module) -> None:
    image = noise(1, 3, 32, 32)
    state = torch.random.get_rng_state()
    first, same, other = (
        look.attribute(model, image, "smooth_grad", 3, samples=4, seed=seed).scores for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_results_say_what_published_checks_found() -> None:
    """Adebayo et al. 2018, abstract: gradients and Grad-CAM pass, guided backpropagation and guided Grad-CAM fail."""
    for method in ("gradient", "grad_cam"):
        assert METHODS[method].startswith("passes")
    for method in ("guided_backprop", "guided_grad_cam"):
        assert METHODS[method].startswith("fails")
    result = look.attribute("resnet20.digits", noise(1, 8, 8), "guided_backprop")
    assert "fails" in str(result.facts())
    assert result.figure()._suptitle.get_text().endswith(result.verdict)


def test_guided_backpropagation_hardly_notices_a_random_head_and_grad_cam_does() -> None:
    """The published check itself, on weights of our own."""
    trained, randomised = zoo.create("resnet20.c10").eval(), zoo.create("resnet20.c10").eval()
    torch.manual_seed(0)
    nn.init.normal_(randomised.get_submodule("fc").weight, std=0.3)
    images = noise(8, 3, 32, 32)

    def likeness(method: str) -> float:
        maps = [look.attribute(m, images, method, 3).heat().flatten(1) for m in (trained, randomised)]
        ranks = [values.argsort(1).argsort(1).double() for values in maps]
        return float(torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*ranks, strict=True)]).mean())

    assert likeness("guided_backprop") > likeness("grad_cam") + 0.3


def test_a_batch_is_looked_at_as_its_images_alone(model: nn.Module) -> None:
    images = noise(2, 3, 32, 32)
    for method in ("grad_cam", "guided_grad_cam", "occlusion"):
        together = look.attribute(model, images, method, window=16)
        for index in range(2):
            alone = look.attribute(model, images[index], method, window=16)
            assert alone.targets == together.targets[index : index + 1]
            torch.testing.assert_close(alone.scores[0], together.scores[index], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (lambda image: look.attribute("resnet20.digits", image, "gradcam"), UnknownNameError, "Did you mean grad_cam"),
        (lambda image: look.attribute("resnet20.digits", image, target=10), UnknownNameError, "0 to 9"),
        (lambda image: look.attribute("resnet20.digits", image, target=[1, 2]), SpecError, "2 targets for 1"),
        (lambda image: look.attribute("resnet20.digits", image, layer="fc"), WeightsError, "not output maps"),
        (lambda image: look.attribute("resnet20.digits", image, "occlusion", window=9), SpecError, "window = 9"),
    ],
)
def test_wrong_questions_are_answered_with_what_there_is(ask: Callable[[Tensor], Any], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        ask(noise(1, 8, 8))


def test_networks_lacking_what_a_method_needs_are_refused() -> None:
    with pytest.raises(WeightsError, match="no ReLU"):
        look.attribute("airbench94.c10", noise(3, 32, 32), "guided_backprop")
    with pytest.raises(WeightsError, match="outputs maps"):
        look.attribute("dtp_mlp.mnist", noise(1, 28, 28), "grad_cam")


def test_grad_cam_finds_the_last_stage_of_a_network_of_timm() -> None:
    """ResNet-26's is layer4 (Selvaraju et al. 2017: the last convolutional layer); a ViT has tokens, no maps."""
    pytest.importorskip("timm")
    shown = look.attribute(zoo.create("timm/resnet26").eval(), noise(3, 64, 64), "grad_cam")
    assert shown.caption.endswith("grad_cam at layer4")
    same = look.attribute(zoo.create("timm/resnet26").eval(), noise(3, 64, 64), "grad_cam", layer="layer4")
    assert same.scores.shape == shown.scores.shape == (1, 2, 2)
    for name in ("timm/vit_tiny_patch16_224", "timm/swin_tiny_patch4_window7_224"):
        with pytest.raises(WeightsError, match="outputs maps B C H W") as caught:
            look.attribute(zoo.create(name).eval(), noise(3, 224, 224), "grad_cam")
        assert "--layer" in caught.value.hint


def test_without_matplotlib_a_figure_is_refused_before_the_work_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    monkeypatch.setattr("zoo_look.attribution.attribute", None)
    refused = ask_warm("look", "attribute", "resnet20.digits", "--index", 1, "-o", tmp_path / "cam.png")
    assert refused.exit_code == 1
    assert "pip install 'zoo-vision[look]'" in refused.stderr


def test_without_captum_its_methods_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "captum", None)
    with pytest.raises(MissingExtraError, match="zoo-vision\\[look\\]"):
        look.attribute("resnet20.digits", noise(1, 8, 8), "integrated_gradients")
    look.attribute("resnet20.digits", noise(1, 8, 8), "grad_cam")


def test_one_bright_pixel_does_not_blacken_a_map_of_gradients() -> None:
    found = look.attribute("resnet20.digits", noise(1, 8, 8), "gradient")
    scores = torch.linspace(0, 1, 64 * 64).reshape(1, 1, 64, 64).clone()
    scores[0, 0, 0, 0] = 1000.0
    brightest = dataclasses.replace(found, scores=scores).figure().axes[1].get_images()[0].norm.vmax
    assert brightest is not None
    assert brightest < 1.01

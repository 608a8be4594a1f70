"""Training on attacked images: what it gives on real images, what its loss is, and that it resumes bit by bit."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from support import small_training
from torch import Tensor, nn
from torch.nn import functional as F

import zoo_attack as attack
from zoo.cli import cli
from zoo.data import load
from zoo.errors import RecipeError
from zoo.spec import Preprocess
from zoo.training import Recipe, Run, TrainingData, train
from zoo.training.choice import resolve
from zoo.training.engine import MicroBatches
from zoo.training.inputs import Portion
from zoo.training.recipe import Adversary
from zoo.training.run import Silent

ATTACKED = {**small_training.RECIPE_FIELDS, "ema": 0.0, "epochs": 3}


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1, stride=2),
        nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "adversary", [Adversary("fgsm", 0.1), pytest.param(Adversary("pgd", 0.1, steps=3), marks=pytest.mark.slow)]
)
def test_a_few_epochs_on_digits_raise_robust_accuracy(tmp_path: Path, adversary: Adversary) -> None:
    """Against the same budget of plain training; attacked afterwards by PGD of more steps, on test images."""
    pytest.importorskip("sklearn", reason="needs zoo-vision[data]")
    learnt, held = load("digits", "train"), load("digits", "test")
    preprocess = Preprocess(input_size=(1, 8, 8), crop_pct=1.0, mean=(0.3,), std=(0.38,))
    assert held.pixels is not None
    images = attack.PixelTransform(preprocess).batch(held.pixels)
    robust, clean = {}, {}
    for name, trained_against in {"plain": None, "adversarial": adversary}.items():
        model = small()
        recipe = Recipe(epochs=6, batch_size=64, lr=0.1, warmup_epochs=1, adversarial=trained_against)
        run = Run(tmp_path / name, display=Silent())
        train(model, TrainingData(learnt), recipe, run, preprocess=preprocess, device="cpu")
        pixel_model = attack.PixelModel(model, preprocess.mean, preprocess.std).eval()
        attacked = attack.pgd(pixel_model, images, held.labels, adversary.epsilon, steps=10)
        with torch.no_grad():
            clean[name], robust[name] = (
                float((pixel_model(part).argmax(1) == held.labels).float().mean()) for part in (images, attacked)
            )
    assert min(clean.values()) > 0.9, clean
    assert robust["adversarial"] > robust["plain"] + 0.15, robust


@pytest.mark.first(1)
@pytest.mark.parametrize(
    "adversary", [Adversary("fgsm", 0.1), Adversary("pgd", 0.1, 2), Adversary("pgd_l2", 0.5, 2, clean=0.3)]
)
def test_ctrl_c_in_mid_epoch_then_resume_equals_an_unbroken_run(tmp_path: Path, adversary: Adversary) -> None:
    """With batch statistics, dropout, tied weights and augmentation."""
    recipe = Recipe(**{**ATTACKED, "adversarial": adversary})
    expected = small_training.run(tmp_path / "whole", recipe)
    again = small_training.run(tmp_path / "again", recipe)
    small_training.assert_same(again, expected)
    stop = small_training.StopAt(2, 3, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        small_training.run(tmp_path / "broken", recipe, display=stop)
    small_training.assert_same(small_training.run(tmp_path / "broken", recipe, resume=True), expected)
    plain = small_training.run(tmp_path / "plain", Recipe(**ATTACKED))
    assert any(not torch.equal(plain[key], expected[key]) for key in plain)


class Linear(nn.Module):
    """Whose attacks and losses are known: two classes, no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        margin = (x * self.weight).flatten(1).sum(1)
        return torch.stack([margin, -margin], dim=1)


@pytest.mark.parametrize(("clean", "count"), [(0.3, 2), (0.0, 1)])
def test_the_loss_is_the_weighted_sum_over_images_and_attacked_images(clean: float, count: int) -> None:
    """Goodfellow et al. 2014, equation 5: of a linear network, in closed form."""
    model, std, mean, epsilon = Linear(), 0.25, 0.5, 0.05
    pixels = 0.3 + 0.4 * torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    images, labels = (pixels - mean) / std, torch.arange(6) % 2
    recipe = Recipe(accumulate=2, adversarial=Adversary("fgsm", epsilon, clean=clean), precision="float32")
    preprocess = Preprocess(input_size=(1, 4, 4), mean=(mean,), std=(std,))
    parts = MicroBatches(model, recipe, preprocess, Portion(6, 1, range(6)))
    micro_batches = list(parts.of(images, labels, 0))
    assert len(micro_batches) == 2 * count
    assert [micro_batch.is_last for micro_batch in micro_batches] == [False] * (2 * count - 1) + [True]
    assert sum(micro_batch.weight for micro_batch in micro_batches) == pytest.approx(1)
    got = sum(
        micro_batch.weight * F.cross_entropy(model(micro_batch.images), micro_batch.labels)
        for micro_batch in micro_batches
    )
    # The signed margin falls by epsilon / std times the weights' L1 norm, in each of two logits.
    margin = (images * model.weight).flatten(1).sum(1) * (1 - 2 * labels)
    worst = margin - epsilon / std * model.weight.abs().sum()
    expected = clean * F.softplus(-2 * margin).mean() + (1 - clean) * F.softplus(-2 * worst).mean()
    torch.testing.assert_close(got, expected)


def test_attacks_leave_the_training_network_in_its_mode_without_gradients() -> None:
    model = small().train()
    model[1].eval()
    recipe = Recipe(adversarial=Adversary("pgd", 0.1, 2))
    preprocess = Preprocess(input_size=(1, 8, 8), mean=(0.3,), std=(0.4,))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    for _ in MicroBatches(model, recipe, preprocess, Portion(4, 1, range(4))).of(images, labels, 0):
        pass
    assert [part.training for part in model] == [True, False, *[True] * 6]
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_defaults_are_those_of_the_papers() -> None:
    assert Adversary("fgsm").clean_share == 0.5
    assert Adversary("pgd").clean_share == 0
    recipe = resolve("r", {}, {"adversarial.attack": "fgsm", "adversarial.epsilon": "0.1"})
    assert recipe.adversarial == Adversary("fgsm", 0.1)
    assert Recipe().adversarial is None


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("adversarial.attack", "cw", "adversarial.attack"),
        ("adversarial.epsilon", "-1", "adversarial.epsilon"),
        ("adversarial.clean", "1.0", "adversarial.clean"),
        ("adversarial.steps", "0", "adversarial.steps"),
        ("adversarial.epsilom", "1", "Did you mean adversarial.epsilon"),
    ],
)
def test_what_no_adversary_can_be_is_refused(key: str, value: str, message: str) -> None:
    with pytest.raises(RecipeError) as raised:
        resolve("r", {}, {key: value})
    assert message in str(raised.value)


def test_adversarial_training_from_the_command_line(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs zoo-vision[data]")
    words = ["train", "resnet20", "--data", "digits", "--adversarial", "fgsm", "-o", str(tmp_path / "run"), "--json"]
    for setting in ("epochs=1", "batch_size=512", "adversarial.epsilon=0.1", "warmup_epochs=0"):
        words += ["--set", setting]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["recipe"]["adversarial"]["attack"] == "fgsm"
    assert config["recipe"]["adversarial"]["epsilon"] == 0.1

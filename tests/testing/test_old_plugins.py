"""Two plugins as third parties wrote them for contract 1 still run, and the kit tells their authors what is new."""

import json
from pathlib import Path

import pytest
from support import distributions
from support.command import ask_warm as ask

import zoo
from zoo import registry

# ``examples/zoo_hello`` as it was for contract 1, with an evaluate hook that returns a report, as FractalNet's did.
GREET = {
    "zoo_greet/__init__.py": '''
"""A family of one small network. This module is all that listing reads: it imports no torch."""

from zoo.spec import Model, Plugin, Preprocess

plugin = Plugin(
    name="greet",
    api=1,
    models=(
        Model(
            "greet_net",
            build="zoo_greet.model:greet_net",
            preprocess=Preprocess(input_size=(1, 8, 8), crop_pct=1.0, mean=(0.305,), std=(0.376,)),
            params=5_178,
            macs=83_264,
            num_classes=10,
            head=("fc",),
            stem=("conv1",),
            stages=("conv1", "conv2"),
            evaluate="zoo_greet.model:evaluate",
            note="two convolutions for 8 x 8 digits",
        ),
    ),
    recipes="zoo_greet:recipes.toml",
)
''',
    "zoo_greet/model.py": '''
"""Two convolutions, a global average and a linear layer."""

import zoo.evaluation
from torch import Tensor, nn


class GreetNet(nn.Module):
    """For small images: features at full and at half size."""

    def __init__(self, *, num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, 16, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.act = nn.ReLU()
        self.num_features = 32
        self.feature_info = [
            {"num_chs": 16, "reduction": 1, "module": "conv1"},
            {"num_chs": 32, "reduction": 2, "module": "conv2"},
        ]
        self.default_layers = ("conv1", "conv2")
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Replaces ``fc``; 0 classes leave it out."""
        self.num_classes = num_classes
        self.fc: nn.Module = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        """Images B C H W to B 32 H/2 W/2."""
        x = self.act(self.bn1(self.conv1(x)))
        return self.act(self.bn2(self.conv2(x)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features to logits B num_classes, or to B 32 where ``pre_logits``."""
        x = x.mean(dim=(2, 3))  # B 32 h w -> B 32
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def greet_net(*, num_classes: int = 10, in_chans: int = 1) -> GreetNet:
    """The hook that the plugin's row names."""
    return GreetNet(num_classes=num_classes, in_chans=in_chans)


def evaluate(model, data, *, preprocess, **options):
    """Scores the network as Zoo does, and says more about it."""
    report = zoo.evaluation.evaluate(model, data, preprocess=preprocess, **options)
    fields = {field: getattr(report, field) for field in type(report).__struct_fields__}
    return type(report)(**fields | {"model": f"{report.model}, greeted"})
''',
    "zoo_greet/recipes.toml": """
[digits]
models = ["greet_net"]
data = ["digits"]
epochs = 60
batch_size = 64
lr = 0.1
weight_decay = 5e-4
precision = "float32"
augment = { pad_crop = 1 }
""",
}

# A family that is fitted in closed form, with hooks of its own; its evaluate hook returns logits.
RIDGE = {
    "zoo_ridge.py": """
from zoo.spec import Model, Plugin, Preprocess

plugin = Plugin(
    name="ridge",
    api=1,
    models=(
        Model(
            "ridge_net",
            build="zoo_ridge_net:build",
            preprocess=Preprocess(input_size=(1, 8, 8), crop_pct=1.0, mean=(0.0,), std=(1.0,)),
            params=650,
            num_classes=10,
            head=("fc",),
            train="zoo_ridge_net:train",
            evaluate="zoo_ridge_net:evaluate",
        ),
    ),
)
""",
    "zoo_ridge_net.py": """
import torch
import zoo.data
import zoo.evaluation
from torch import nn


class Ridge(nn.Module):
    def __init__(self, num_classes, in_chans):
        super().__init__()
        self.num_classes = num_classes
        self.fc = nn.Linear(64 * in_chans, num_classes)

    def forward(self, x):
        return self.fc(x.flatten(1))


def build(*, num_classes, in_chans):
    return Ridge(num_classes, in_chans)


@torch.no_grad()
def train(model, data, recipe, run, *, preprocess, device=None):
    transform = zoo.data.Transform(preprocess)
    pairs = list(zoo.evaluation.batches(data.train, transform, 100))
    features = torch.cat([images.flatten(1) for images, _ in pairs]).double()
    targets = nn.functional.one_hot(torch.cat([labels for _, labels in pairs]), model.num_classes).double()
    mean = features.mean(0)
    gram = (features - mean).T @ (features - mean) + torch.eye(features.shape[1])
    weight = torch.linalg.solve(gram, (features - mean).T @ targets).T
    model.fc.weight.copy_(weight)
    model.fc.bias.copy_(targets.mean(0) - weight @ mean)
    return model


def evaluate(model, data, *, preprocess, batch_size=256):
    return zoo.evaluation.logits(model, data, preprocess=preprocess, batch_size=batch_size)
""",
}


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = distributions.install(folder / "site", "zoo-greet", {"greet": "zoo_greet:plugin"}, GREET)
    distributions.install(site, "zoo-ridge", {"ridge": "zoo_ridge:plugin"}, RIDGE)
    monkeypatch.syspath_prepend(str(site))
    registry.clear()


@pytest.mark.parametrize(
    ("model", "settings", "least", "stated_by"),
    [("greet_net", {"epochs": 8}, 80, "zoo_greet.model:evaluate"), ("ridge_net", {}, 85, "")],
)
def test_it_is_listed_created_trained_and_scored(
    model: str, settings: dict[str, int], least: float, stated_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    assert zoo.list_models(model) == [model]
    assert zoo.create(model).num_classes == 10
    recipe = "digits" if model == "greet_net" else "default"
    trained = zoo.train(model, "digits", recipe=recipe, settings=settings, output=tmp_path / "run", device="cpu")
    report = zoo.evaluate(trained, "digits")
    assert report.top1 > least
    assert report.stated_by == stated_by
    assert zoo.evaluate(model, "digits", weights=tmp_path / "run" / "model.safetensors").correct == report.correct


def test_what_later_contracts_ask_for_is_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)
    shown = ask("plugins", "check", "greet")
    assert shown.exit_code == 0, shown.output
    assert "advice  greet_net-methods" in shown.stdout
    assert "New in contract 2. Fix: derive the network from zoo.modules.ImageClassifier" in shown.stdout
    found = json.loads(ask("plugins", "check", "greet", "--json").stdout)
    assert found["failed"] == 0
    advice = {check["check"] for check in found["checks"] if check["status"] == "advice"}
    assert {"greet_net-methods", "greet_net-groups", "greet_net-answers"} <= advice


def test_the_same_plugin_for_the_latest_contract_must_do_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(GREET, "zoo_greet/__init__.py", GREET["zoo_greet/__init__.py"].replace("api=1", "api=2"))
    install(tmp_path, monkeypatch)
    shown = ask("plugins", "check", "greet")
    assert shown.exit_code == 1
    assert "FAILED  greet_net-methods" in shown.stdout
    assert "FAILED  greet_net-answers" in shown.stdout

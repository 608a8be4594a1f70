"""A small third-party plugin, written to a folder and put on the path, with any line of it changed."""

import importlib
import itertools
from pathlib import Path

import pytest

from zoo import registry

SPEC = """
from zoo.spec import DatasetSpec, Model, Plugin, Preprocess, Requirement

plugin = Plugin(
    name="specimen",
    api=2,
    models=(
        Model(
            "net",
            build="PACKAGE.model:build",
            preprocess=Preprocess(input_size=(3, 8, 8), crop_pct=1.0),
            params=4 * 3 * 9 + 8 + 4 * 5 + 5,
            macs=4 * 3 * 9 * 64 + 4 * 5,
            num_classes=5,
            head=("fc",),
            stem=("conv",),
            stages=("act",),
        ),
    ),
    weights=("PACKAGE:manifest.toml",),
    recipes="PACKAGE:recipes.toml",
    datasets=(DatasetSpec("shapes", "PACKAGE.model:load"),),
)
"""

MODEL = """
import torch
from torch import nn
from torch.nn import functional as F
from zoo.modules import ImageClassifier as Base


class Net(nn.Module):
    classifier_name, head_names = "fc", ()
    forward_intermediates = Base.forward_intermediates
    get_classifier = Base.get_classifier
    set_grad_checkpointing = Base.set_grad_checkpointing
    group_matcher = Base.group_matcher
    no_weight_decay = Base.no_weight_decay

    def __init__(self, num_classes, in_chans):
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU()
        self.num_features = 4
        self.feature_info = [{"num_chs": 4, "reduction": 1, "module": "act"}]
        self.default_layers = ("act",)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes):
        self.num_classes = num_classes
        self.fc = nn.Linear(4, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x):
        return self.act(self.norm(self.conv(x)))

    def forward_head(self, x, pre_logits=False):
        x = x.mean((2, 3))
        return x if pre_logits else self.fc(x)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


def build(*, num_classes=5, in_chans=3):
    return Net(num_classes, in_chans)


def load(root, split):
    pass
"""

RECIPES = """
[plain]
models = ["net"]
data = ["shapes"]
epochs = 1
"""

MANIFEST = """
[net.remote]
repo = "somebody/net"
file = "model.safetensors"
pinned = false
num_classes = 7
params = 151
"""

_numbers = itertools.count()


def install(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *changes: tuple[str, str],
    name: str = "specimen",
    more: dict[str, bytes] | None = None,
) -> str:
    """Installs the plugin with the first place of each ``old`` turned to ``new``; returns its package's name.

    ``more`` are further files of the package.
    """
    package = f"specimen_{next(_numbers)}"  # a module is imported once: each plugin is its own package
    texts = {"__init__.py": SPEC, "model.py": MODEL, "recipes.toml": RECIPES, "manifest.toml": MANIFEST}
    for old, new in changes:
        file = next((file for file, text in texts.items() if old in text), None)
        assert file is not None, f"nothing to change: {old!r}"
        texts[file] = texts[file].replace(old, new, 1)
    (folder / package).mkdir(parents=True)
    for file, text in texts.items():
        (folder / package / file).write_text(text.replace("PACKAGE", package))
    for file, content in (more or {}).items():
        (folder / package / file).write_bytes(content)
    about = folder / f"{package}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[zoo.plugins]\n{name} = {package}:plugin\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("ZOO_OFFLINE", "1")  # its manifest names a repository that nobody has
    importlib.invalidate_caches()
    registry.clear()
    return package

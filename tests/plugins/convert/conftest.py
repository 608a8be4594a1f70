"""A family that the tests of conversion share."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support import distributions
from support.sandboxed import _sandboxed  # noqa: F401  # for all tests here

NET = """
from torch import nn

def build(*, num_classes, in_chans):
    net = nn.Sequential()
    conv = nn.Conv2d(in_chans, 6, 3, padding=1, bias=False)
    for name, part in (("conv", conv), ("norm", nn.BatchNorm2d(6)), ("act", nn.ReLU()), ("flat", nn.Flatten())):
        net.add_module(name, part)
    net.add_module("fc", nn.Linear(6 * 64, num_classes))
    return net
"""


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Installs a family of ``conv, norm, act, flat, fc`` with a key map; gives the network's name."""

    def install(key_map: str) -> str:
        text = distributions.plugin("small", "small_net", key_maps=f"({key_map},)")
        more = 'head=("fc",), stem=("conv",), num_classes=5, preprocess=Preprocess(input_size=(3, 8, 8))'
        text = text.replace('"small_model:build"', f'"small_model:build", {more}')
        files = {"small.py": text.replace("import Model", "import KeyMap, Preprocess, Model"), "small_model.py": NET}
        distributions.bring(monkeypatch, tmp_path / "site", "zoo-small", {"small": "small:plugin"}, files)
        return "small_net"

    return install

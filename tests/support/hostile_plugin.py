"""An installed plugin of a third party whose texts try to become markup."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import distributions

from zoo import registry

HOSTILE = "\"><script>document.title='owned'</script><img src=x onerror=alert(1)>\u202e"

TOML = json.dumps(HOSTILE)

MANIFEST = f"""
[pet_net.main]
file = "a b<c>.safetensors"
repo = "owner/name"
sha256 = "{"ab" * 32}"
origin = {TOML}
license = {{ code = {TOML}, weights = {TOML}, data = {TOML} }}
classes = {TOML}
papers = ["https://example.org/'\\"><script>document.title='owned'</script>"]

[pet_net.main.scores.{TOML}]
top1 = 50.0
n = 100
correct = 50
source = {TOML}
command = {TOML}
fingerprint = {TOML}
"""

PLUGIN = f"""
from zoo.spec import Model, Paper, Plugin, Preprocess

TEXT = {HOSTILE!r}
plugin = Plugin(
    name="pet",
    api=1,
    models=(
        Model(
            "pet_net", build="pet.model:build", paper=Paper(TEXT, TEXT, 2020, "javascript:document.title='owned'"),
            preprocess=Preprocess(input_size=(3, 8, 8)), num_classes=5, params=17, note=TEXT, stages=(TEXT,),
        ),
        Model("pet_fails", build="pet.model:fail", note=TEXT),
    ),
    weights=("pet:weights.toml",),
)
"""

MODEL = f"""
from torch import nn

TEXT = {HOSTILE!r}

def build(num_classes, in_chans):
    kind = type(TEXT, (nn.Flatten,), {{}})
    return nn.Sequential(kind(), nn.Linear(192, num_classes))

def fail(num_classes, in_chans):
    raise RuntimeError(TEXT)
"""


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """Installs the plugin ``pet``, within it, of ``zoo-pet``: a model with weights, and one that fails."""
    files = {"pet/__init__.py": PLUGIN, "pet/model.py": MODEL, "pet/weights.toml": MANIFEST}
    distributions.install(folder, "zoo-pet", {"pet": "pet:plugin"}, files)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        registry.clear()
        yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "pet"]:
        del sys.modules[name]
    registry.clear()

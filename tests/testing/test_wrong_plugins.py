"""Plugins with one fault each: the kit finds every fault, and its message names model and field.

Each is ``examples/zoo_hello`` with a change that an author could make and that no row of test_checks makes.
"""

import importlib
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from support import distributions

from zoo import registry
from zoo.testing import checks_of, outcome

EXAMPLE = Path(__file__).parents[2] / "examples" / "zoo_hello" / "zoo_hello"
NET, WEIGHTS = "hello_net", "hello_net.digits"
ROW, MODEL, MANIFEST, RECIPES = "__init__.py", "model.py", "manifest.toml", "recipes.toml"
FORWARD = "out: Tensor = self.act(self.bn2(self.conv2(x)))"
CLASS = '''"""A network for small images, with features at full and half resolution."""
'''
NOTE = 'note="two convolutions'


class Fault(NamedTuple):
    """A change of a file's text, and words of the message that finds it: the model or plugin, and the field."""

    file: str
    old: str
    new: str
    of: str
    field: str


FAULTS = {
    # the row
    "no parameters": Fault(ROW, "            params=5_178,\n", "", NET, "params"),
    "classes that are not the network's": Fault(
        MODEL, "self.reset_classifier(num_classes)", "self.reset_classifier(5)", NET, "num_classes"
    ),
    "in_chans ignored": Fault(MODEL, "in_chans=in_chans", "in_chans=1", NET, "in_chans"),
    "a stem that is another layer": Fault(ROW, 'stem=("conv1",)', 'stem=("conv2",)', NET, "stem"),
    "a build hook in no module": Fault(ROW, "zoo_hello.model:hello_net", "zoo_hello.net:hello", NET, "build"),
    "a build hook that is a string": Fault(ROW, "model:hello_net", "model:__doc__", NET, "build"),
    "a hook without a colon": Fault(ROW, "model:hello_net", "model.hello_net", NET, "build"),
    "an evaluate hook that is not there": Fault(ROW, NOTE, f'evaluate="zoo_hello:score", {NOTE}', NET, "evaluate"),
    "arguments for files that build does not have": Fault(
        ROW, NOTE, f'file_args={{"width": Argument(least=1)}}, {NOTE}', NET, "file_args"
    ),
    "arguments for files of the wrong type": Fault(ROW, NOTE, f'file_args={{"width": 3}}, {NOTE}', NET, "file_args"),
    "an argument that build does not have": Fault(ROW, NOTE, f'args={{"width": 3}}, {NOTE}', NET, "args"),
    "a field that is misspelt": Fault(ROW, "stages=(", "stage=(", NET, "stage"),
    "a standard deviation of 0": Fault(ROW, "std=(0.376,)", "std=(0.0,)", NET, "std"),
    "means of another number of channels": Fault(ROW, "mean=(0.305,)", "mean=(0.3, 0.3, 0.3)", NET, "means"),
    "an input too small": Fault(ROW, "input_size=(1, 8, 8)", "input_size=(1, 8)", NET, "input_size"),
    # the network
    "a build hook that returns nothing": Fault(MODEL, "return HelloNet(", "HelloNet(", NET, "build"),
    "a network without timm's interface": Fault(
        MODEL,
        "(PooledClassifier):",
        "(nn.Module):\n    note_stage = print\n    reset_classifier = print",
        NET,
        "num_classes",
    ),
    "a layer that takes no part": Fault(
        MODEL, "self.act = nn.ReLU()", "self.act = nn.ReLU(); self.more = nn.Linear(1, 1)", NET, "params"
    ),
    "a shape that does not fit": Fault(MODEL, "nn.BatchNorm2d(32)", "nn.BatchNorm2d(31)", NET, "forward"),
    # weights and recipes
    "weights of no model": Fault(MANIFEST, "[hello_net.digits", "[other_net.digits", "other_net", "weights"),
    "another size": Fault(MANIFEST, "size = 23920", "size = 23921", WEIGHTS, "size"),
    "weights that are not in the package": Fault(MANIFEST, 'file = "hello_net', 'file = "helo_net', WEIGHTS, "file"),
    "weights of other classes": Fault(MANIFEST, "\nnum_classes = 10", "\nnum_classes = 11", WEIGHTS, "num_classes"),
    "a manifest that is not there": Fault(ROW, "zoo_hello:manifest.toml", "zoo_hello:weights.toml", "hello", "weights"),
    "recipes that are not there": Fault(ROW, "zoo_hello:recipes.toml", "zoo_hello:recipe.toml", "hello", "recipes"),
    "a recipe's value of the wrong type": Fault(RECIPES, "batch_size = 64", 'batch_size = "64"', "hello", "batch_size"),
    # the plugin
    "another name than its entry point's": Fault(ROW, 'name="hello"', 'name="hallo"', "hallo", "entry point"),
    "two models of one name": Fault(
        ROW, "models=(", 'models=(\n        Model("hello_net", build="a:b"),', NET, "models"
    ),
    "a collection that is none": Fault(
        ROW, "    models=(", '    collection="zoo_hello.model:hello_net",\n    models=() and (', "hello", "collection"
    ),
}


def install(site: Path, fault: Fault) -> None:
    distributions.install(site, "zoo-hello", {"hello": "zoo_hello:plugin"}, {})
    shutil.copytree(EXAMPLE, site / "zoo_hello", ignore=shutil.ignore_patterns("__pycache__"))
    file = site / "zoo_hello" / fault.file
    text = file.read_text(encoding="utf-8")
    assert fault.old in text, "nothing to change"
    text = text.replace(fault.old, fault.new)
    text = text.replace("import Model,", "import Argument, DatasetSpec, Model,").replace(
        "from torch", "import torch\nfrom torch"
    )
    file.write_text(text, encoding="utf-8")
    importlib.invalidate_caches()
    registry.clear()


@pytest.mark.first(2)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_found_and_its_message_names_model_and_field(fault: Fault, site: Path) -> None:
    install(site, fault)
    checks = [check for check in checks_of("hello") if not check.is_slow]
    row = next(row for row in registry.current().plugins if row.name == "hello")
    reasons = []
    for found in outcome.run(checks, row):
        if found.status == "failed":
            reasons.append(found.reason)
            if all(re.search(rf"\b{re.escape(word)}\b", found.reason) for word in (fault.of, fault.field)):
                return
    pytest.fail("\n".join(reasons) or "no check fails")


def test_without_a_fault_no_check_fails(site: Path) -> None:
    install(site, Fault(ROW, "plugin", "plugin", "", ""))
    checks = [check for check in checks_of("hello") if not check.is_slow]
    assert [check.name for check in checks if check.name == "hello_net.digits-weights"]
    assert [one.reason for one in outcome.run(checks, None) if one.status in ("failed", "skipped")] == []

"""Fields that only one family's recipes have: the table ``hook_args``, of the type that its plugin names."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import distributions

import zoo
from zoo import registry, training
from zoo.cli import cli
from zoo.errors import PluginError, RecipeError
from zoo.loading import safetensors_file
from zoo.testing import CheckError, checks_of

MODEL = """
from torch import nn
from pet_fields import PetFields

def build(*, num_classes, in_chans):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_chans, num_classes))

def train(model, data, recipe, run, *, preprocess, device):
    own = recipe.read_hook_args(PetFields)
    nn.init.constant_(model[1].weight, own.noise)
    nn.init.constant_(model[1].bias, own.rounds)
    return model
"""
FIELDS = """
from typing import Annotated, Literal
import msgspec

class PetFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    noise: Annotated[float, msgspec.Meta(ge=0)] = 0.5
    rounds: int = 2
    rule: Literal["hebb", "oja"] = "hebb"

class Other:
    pass
"""
RECIPES = """
[loud]
models = ["pet_*"]
data = ["digits"]
epochs = 1
[loud.hook_args]
noise = 0.25
"""


def ask(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], prog_name="zoo")


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *, kind: str = "PetFields", recipes: str = RECIPES) -> None:
    text = distributions.plugin(
        "pet", "pet_net", recipes='"pet_files:recipes.toml"', hook_args=f'"pet_fields:{kind}"' if kind else '""'
    ).replace(
        "build=",
        'train="pet_model:train", fitted=True, num_classes=10, '
        "preprocess=Preprocess(input_size=(1, 8, 8), crop_pct=1.0, mean=(0.0,), std=(1.0,)), build=",
    )
    files = {"pet.py": text.replace("import Model", "import Preprocess, Model"), "pet_model.py": MODEL}
    files |= {"pet_fields.py": FIELDS, "pet_files/__init__.py": "", "pet_files/recipes.toml": recipes}
    monkeypatch.syspath_prepend(str(distributions.install(folder / "site", "zoo-pet", {"pet": "pet:plugin"}, files)))
    registry.clear()


def test_the_hook_gets_the_recipes_value_the_callers_and_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    done = ask("train", "pet_net", "--data", "digits", "--set", "hook_args.rounds=7", "-o", tmp_path / "run")
    assert done.exit_code == 0, done.stderr
    file = tmp_path / "run" / "model.safetensors"
    tensors = safetensors_file.read(file)
    assert (tensors["1.weight"].unique().tolist(), tensors["1.bias"].unique().tolist()) == ([0.25], [7.0])
    assert safetensors_file.metadata(file)["run"]["recipe"]["hook_args"] == {"noise": 0.25, "rounds": 7}
    assert zoo.reproduce(tmp_path / "run", output=tmp_path / "again").outcome == "file"


@pytest.mark.first(3)
@pytest.mark.parametrize(
    ("given", "said", "hint"),
    [
        ("hook_args.noize=1", "Recipe 'loud' has no field 'hook_args.noize'.", "Did you mean hook_args.noise?"),
        ("hook_args.x=1", "no field 'hook_args.x'.", "hook_args.noise, hook_args.rounds, hook_args.rule"),
        ("hook_args.noise=high", "Recipe 'loud': hook_args.noise: Expected `float`, got `str`.", ""),
        ("hook_args.noise=-1.0", "Recipe 'loud': hook_args.noise: Expected `float` >= 0.0.", ""),
        ("hook_args.rule=heb", "Recipe 'loud': hook_args.rule: Invalid enum value 'heb'.", ""),
        ("hook_args=3", "Recipe 'loud': hook_args: Expected `object`, got `int`.", ""),
        ("noise=1", "Recipe 'loud' has no field 'noise'.", "Did you mean hook_args.noise?"),
    ],
)
def test_a_wrong_field_or_value_is_an_error_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, said: str, hint: str
) -> None:
    install(tmp_path, monkeypatch)
    done = ask("train", "pet_net", "--data", "digits", "--set", given, "-o", tmp_path / "run")
    assert done.exit_code == 2
    assert said in done.stderr
    assert hint in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_field_of_the_recipes_file_is_checked_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, recipes=RECIPES.replace("noise", "nois"))
    with pytest.raises(RecipeError, match=r"Recipe 'loud' has no field 'hook_args\.nois'"):
        zoo.train("pet_net", "digits", output=tmp_path / "run")
    [check] = [check for check in checks_of("pet") if check.name == "plugin-recipes"]
    with pytest.raises(CheckError, match=r"hook_args\.nois"):
        check()


def test_recipes_are_listed_with_these_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)
    assert re.search(r"^loud\* .*noise=0.25, rounds=2, rule=hebb$", ask("recipes", "pet_net").stdout, re.MULTILINE)
    [row] = json.loads(ask("recipes", "pet_net", "--json").stdout)
    assert row["hook_args"] == {"noise": 0.25, "rounds": 2, "rule": "hebb"}


def test_a_family_that_names_no_type_has_no_such_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = registry.current().find("resnet20").plugin
    with pytest.raises(RecipeError, match=r"no field 'hook_args.noise'") as raised:
        training.choose(plugin, "resnet20", "digits", settings={"hook_args.noise": 1})
    assert raised.value.hint == "Its family has no fields of its own (Plugin.hook_args)."
    install(tmp_path, monkeypatch, kind="")
    with pytest.raises(RecipeError, match=r"no field 'hook_args.noise'"):
        zoo.train("pet_net", "digits", output=tmp_path / "run")


@pytest.mark.parametrize(("kind", "said"), [("Other", "expected a msgspec.Struct"), ("Absent", "cannot be imported")])
def test_a_type_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, said: str) -> None:
    install(tmp_path, monkeypatch, kind=kind)
    with pytest.raises(PluginError, match=rf"pet_fields:{kind}.*{said}"):
        zoo.train("pet_net", "digits", output=tmp_path / "run")


def test_the_type_must_not_bring_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)
    [check] = [check for check in checks_of("pet") if check.name == "plugin-torch_free_import"]
    check()
    module = tmp_path / "site" / "pet_fields.py"
    module.write_text("import torch\n" + module.read_text())
    with pytest.raises(AssertionError, match="importing pet, pet_fields imports torch"):
        check()

"""Recipes: strict data, chosen by model and data set, with fields that only one family has."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import distributions
from support.command import ask

import zoo
from zoo import registry, training
from zoo.errors import PluginError, RecipeError, UnknownNameError, ZooError
from zoo.loading import safetensors_file
from zoo.spec import Plugin
from zoo.testing import CheckError, checks_of
from zoo.training import optimization
from zoo.training.choice import choose, resolve
from zoo.training.recipe import Recipe


def shipped(family: str) -> Plugin:
    return Plugin(name=family, api=1, models=(), recipes=f"zoo_{family}:recipes.toml")


@pytest.mark.parametrize(
    ("model", "data", "name"),
    [
        ("resnet20", "cifar10", "fast_c10"),
        ("plain20", "cifar10", "fast_c10"),
        ("resnet110", "cifar10", "paper_c10_110"),
        ("preact_resnet164", "cifar10", "paper_c10_110"),
        ("resnet20", "fashion_mnist", "fast_fmnist"),
        ("resnet20", "digits", "digits"),
        ("resnet50", "imagenet-1k", "paper_in1k"),
    ],
)
def test_the_first_recipe_that_names_model_and_data_is_the_default(model: str, data: str, name: str) -> None:
    assert choose(shipped("resnet"), model, data).name == name


def test_a_recipe_may_be_asked_for_by_name() -> None:
    assert choose(shipped("resnet"), "resnet20", "cifar10", "paper_c10").epochs == 164
    assert choose(shipped("resnet"), "resnet20", "elsewhere", "default") == Recipe(name="default")


def test_without_a_recipe_for_the_data_the_error_lists_those_there_are() -> None:
    with pytest.raises(RecipeError, match=r"(?s)'elsewhere'.*default, fast_c10, paper_c10"):
        choose(shipped("resnet"), "resnet20", "elsewhere")
    with pytest.raises(RecipeError, match="default"):
        choose(Plugin(name="bare", api=1, models=()), "resnet20", "cifar10")


def test_an_unknown_recipe_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean fast_c10"):
        choose(shipped("resnet"), "resnet20", "cifar10", "fast_c1")


def test_the_paper_recipe_states_section_4_2_of_he_et_al() -> None:
    paper = choose(shipped("resnet"), "resnet20", "cifar10", "paper_c10")
    assert (paper.batch_size, paper.lr, paper.momentum, paper.weight_decay) == (128, 0.1, 0.9, 1e-4)
    assert not paper.nesterov
    assert paper.decay_norm_and_bias
    assert (paper.augment.pad_crop, paper.augment.flip) == (4, True)
    rate = learning_rates(paper, updates_per_epoch=390)
    assert [rate(update) for update in (0, 31_998)] == pytest.approx([0.1, 0.1])
    assert [rate(update) for update in (32_000, 47_999)] == pytest.approx([0.01, 0.01])
    assert rate(48_002) == pytest.approx(0.001)
    assert paper.epochs * 390 == pytest.approx(64_000, rel=0.001)


def test_settings_change_fields_and_nested_fields() -> None:
    settings = {
        "lr": "0.05",
        "optimizer": "adamw",
        "nesterov": "false",
        "decay_epochs": "[1, 2.5]",
        "augment.flip": "true",
        "augment.affine.degrees": "15",
    }
    changed = resolve("x", {"augment": {"pad_crop": 4}, "lr": 1.0}, settings)
    assert (changed.lr, changed.optimizer, changed.nesterov, changed.decay_epochs) == (0.05, "adamw", False, (1, 2.5))
    assert (changed.augment.pad_crop, changed.augment.flip) == (4, True)
    assert changed.augment.affine is not None
    assert changed.augment.affine.degrees == 15


def test_fewer_epochs_than_the_warm_up_takes_shorten_it_and_say_so(caplog: pytest.LogCaptureFixture) -> None:
    changed = resolve("mine", {"epochs": 60, "warmup_epochs": 2}, {"epochs": "1"})
    assert (changed.epochs, changed.warmup_epochs) == (1, 0.5)
    assert "mine: warmup_epochs = 2 reduced to 0.5 for epochs = 1" in caplog.text
    assert resolve("mine", {"epochs": 60, "warmup_epochs": 2}, {"epochs": "3"}).warmup_epochs == 2
    with pytest.raises(RecipeError, match=r"warmup_epochs = 2\.0 must be fewer than epochs = 1"):
        resolve("mine", {}, {"epochs": 1, "warmup_epochs": 2})


def test_settings_leave_the_table_as_it_was() -> None:
    table: dict[str, Any] = {"augment": {"pad_crop": 4}}
    resolve("x", table, {"augment.pad_crop": "2"})
    assert table == {"augment": {"pad_crop": 4}}


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("epoch", "epochs"),
        ("weight_deca", "weight_decay"),
        ("augment.flp", "augment.flip"),
        ("augment.affine.degree", "augment.affine.degrees"),
    ],
)
def test_an_unknown_field_gets_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(RecipeError, match=rf"no field '{key}'(?s:.)*({nearest})"):
        resolve("x", {}, {key: "1"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", "ten"),
        ("epochs", "0"),
        ("epochs", "1.5"),
        ("epochs", "true"),
        ("lr", "nan"),
        ("lr", "inf"),
        ("lr", "-0.1"),
        ("momentum", "1.0"),
        ("nesterov", "1"),
        ("precision", "float16"),
        ("schedule", "cosin"),
        ("schedule", "multistep"),
        ("schedule", "step"),
        ("warmup_epochs", "30"),
        ("accumulate", "129"),
        ("decay_epochs", "[3, 1]"),
        ("augment.pad_crop", "-1"),
        ("augment.flip", "2"),
        ("augment", "4"),
        ("lr.x", "4"),
    ],
)
def test_a_wrong_value_is_refused(key: str, value: str) -> None:
    with pytest.raises(RecipeError, match=key.rpartition(".")[2] if key != "accumulate" else "micro-batches"):
        resolve("x", {}, {key: value})


@given(st.dictionaries(st.text(max_size=20) | st.sampled_from(Recipe.__struct_fields__), st.text(max_size=20)))
def test_any_settings_give_a_recipe_or_a_recipe_error(settings: dict[str, str]) -> None:
    with contextlib.suppress(RecipeError):
        assert isinstance(resolve("x", {}, settings), Recipe)


def learning_rates(recipe: Recipe, updates_per_epoch: int) -> Any:
    optimizer = optimization.create_optimizer(torch.nn.Linear(2, 2), recipe)
    return optimization.Schedule(optimizer, recipe, updates_per_epoch).set


def test_an_unknown_optimiser_gets_the_nearest() -> None:
    with pytest.raises(ZooError, match=r"Did you mean.*adamw"):
        optimization.create_optimizer(torch.nn.Linear(2, 2), Recipe(optimizer="adamww"))


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


def test_recipes_of_deep_arrays_are_an_error_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from zoo.training import choice

    (tmp_path / "recipes.toml").write_text("x = " + "[" * 100_000 + "]" * 100_000)
    monkeypatch.setattr(choice, "resource", lambda _: tmp_path / "recipes.toml")
    plugin: Any = SimpleNamespace(name="p", recipes="recipes.toml")
    with pytest.raises(RecipeError, match="too deeply nested"):
        choice.read(plugin)

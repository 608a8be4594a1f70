"""Recipes: strict data, chosen by model and data set, carried out by timm's factories."""

import contextlib
from importlib import import_module
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import RecipeError, UnknownNameError, ZooError
from zoo.spec import Plugin
from zoo.training import choice as recipes
from zoo.training import optimization
from zoo.training.choice import choose, resolve
from zoo.training.recipe import Recipe

FAMILIES = ("resnet", "vgg")


def shipped(family: str) -> Plugin:
    return Plugin(name=family, api=1, models=(), recipes=f"zoo_{family}:recipes.toml")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_points_to_its_recipes(family: str) -> None:
    assert import_module(f"zoo_{family}").plugin.recipes == shipped(family).recipes


@pytest.mark.parametrize("family", FAMILIES)
def test_every_shipped_recipe_is_valid_and_has_a_note(family: str) -> None:
    tables = recipes.read(shipped(family))
    assert {"fast_c10", "paper_in1k"} <= tables.keys()
    for name, table in tables.items():
        assert resolve(name, table).note.strip()
        assert isinstance(table["models"], list)
        assert isinstance(table["data"], list)


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
    return optimization.create_schedule(optimizer, recipe, updates_per_epoch).set


def test_an_unknown_optimiser_gets_the_nearest() -> None:
    with pytest.raises(ZooError, match=r"Did you mean.*adamw"):
        optimization.create_optimizer(torch.nn.Linear(2, 2), Recipe(optimizer="adamww"))

"""Lists recipes with their scores and costs. Does not import torch."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from zoo import registry
from zoo.data.classes import training_images
from zoo.spec import Model, Plugin
from zoo.training import choice as recipes
from zoo.training.recipe import Expectation, Recipe


class Row(msgspec.Struct, frozen=True):
    """A recipe for a model and a data set, with its score if known; ``own`` are the family's own fields.

    ``model`` and ``data`` are patterns if there is no score for a particular model and data set. ``is_fitted`` says
    that its models are fitted, without gradients. ``pflop`` is 10^15 operations of a training by gradients: three times
    those of a forward pass, two per multiply-add, at the recipe's input size; None if unknown.
    """

    family: str
    recipe: str
    model: str
    data: str
    is_default: bool
    is_fitted: bool
    settings: Recipe
    own: dict[str, Any]
    expected: Expectation | None = None
    pflop: float | None = None


def rows(plugin: Plugin, model: Model | None = None) -> list[Row]:
    """The recipes of ``plugin``, or those for ``model``; raises :class:`RecipeError`."""
    tables, own = recipes.read(plugin), recipes.own_fields(plugin)
    known = {model.name for model in plugin.models}
    found: list[Row] = []
    for name, table in tables.items():
        recipe, given = recipes.resolve(name, table, own=own), recipes.expectations(name, table)
        meant = [one for one in (model and [model]) or plugin.models if recipes.suits(table, one.name)]
        if model is None:
            places = _known(table, given)
        elif not table.get("models") or recipes.suits(table, model.name):
            places = _for_model(table, [row for row in given if row.model == model.name], model.name)
        else:
            continue
        for arch, data, expected in places:
            found.append(
                Row(
                    family=plugin.name,
                    recipe=name,
                    model=arch,
                    data=data,
                    is_default=arch in known and recipes.default(tables, arch, data) == name,
                    is_fitted=bool(meant) and all(one.fitted for one in meant),
                    settings=recipe,
                    own=msgspec.to_builtins(recipe.read_hook_args(own)),
                    expected=expected,
                    pflop=_pflop(plugin, arch, data, recipe),
                )
            )
    return found


def _known(table: Mapping[str, Any], given: list[Expectation]) -> Iterator[tuple[str, str, Expectation | None]]:
    """The models and data sets of the expected scores; if there are none, the patterns of the table."""
    for expected in given:
        yield expected.model, expected.data, expected
    if not given:
        yield ", ".join(table.get("models", ())), ", ".join(table.get("data", ())), None


def _for_model(
    table: Mapping[str, Any], given: list[Expectation], model: str
) -> Iterator[tuple[str, str, Expectation | None]]:
    """The data sets of the table for ``model``, with the expected scores."""
    for expected in given:
        yield model, expected.data, expected
    others = [data for data in table.get("data", ()) if all(data != expected.data for expected in given)]
    for data in others if others or given else [""]:
        yield model, data, None


def _pflop(plugin: Plugin, arch: str, data: str, recipe: Recipe) -> float | None:
    model = next((model for model in plugin.models if model.name == arch), None)
    images = training_images(data) - recipe.validation
    if model is None or model.fitted or not model.macs or images <= 0:
        return None
    _, height, width = model.preprocess.input_size
    macs = model.macs * (recipe.input_size**2 / (height * width) if recipe.input_size else 1)
    if recipe.progressive is not None:
        macs *= recipe.progressive.share_of_pixels(recipe.input_size or height, recipe.epochs)
    batch = min(recipe.batch_size, images)
    return 3 * 2 * macs * (images // batch * batch) * recipe.epochs / 1e15


def plugins_with_recipes() -> list[Plugin]:
    """Every usable plugin that has recipes, in the registry's order."""
    return [row.plugin for row in registry.current().plugins if row.plugin is not None and row.plugin.recipes]
